"""Batch normalisation in training: values, moving statistics and gradients."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seg.layers import (
    BatchNormalization,
    batch_norm,
    batch_statistics,
    replace_batch_norm,
)

EPSILON, MOMENTUM = 1e-5, 0.9


def batch(shape=(3, 5, 4, 6), offset=0.0):
    return np.random.default_rng(0).normal(offset, 2.0, shape).astype("float32")


def expected(x, gamma, beta):
    """The formulas of Ioffe and Szegedy 2015, algorithm 1, in float64."""
    x = x.astype("float64")
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes)
    return gamma * (x - mean) / np.sqrt(variance + EPSILON) + beta, mean, variance


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (7, 6), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("switches", [{}, {"scale": False}, {"center": False}])
def test_a_training_step_is_that_of_the_paper(shape, switches):
    layer = BatchNormalization(MOMENTUM, EPSILON, **switches)
    layer.build(shape)
    gamma, beta = np.ones(6), np.zeros(6)
    if layer.scale:
        gamma = np.linspace(0.5, 2, 6)
        layer.gamma.assign(gamma)
    if layer.center:
        beta = np.linspace(-1, 1, 6)
        layer.beta.assign(beta)
    x = batch(shape)
    y, mean, variance = expected(x, gamma, beta)
    np.testing.assert_allclose(layer(x, training=True), y, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (60, 6)])
def test_channels_far_from_zero_keep_their_digits(shape):
    x = batch(shape, offset=3000.0)
    y, _, variance = expected(x, 1.0, 0.0)
    layer = batch_norm("bn")
    np.testing.assert_allclose(layer(x, training=True), y, atol=2e-3)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-4)


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (7, 6)])
def test_the_gradients_are_those_of_keras_own_layer(shape):
    x, weights = tf.constant(batch(shape)), tf.constant(batch(shape) ** 2)

    def gradients(layer):
        layer.build(x.shape)
        layer.gamma.assign(np.linspace(0.5, 2, 6))
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(weights * tf.tanh(layer(x, training=True)))
        return tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])

    ours = gradients(BatchNormalization(MOMENTUM, EPSILON))
    theirs = gradients(keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON))
    for mine, reference in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_counts_in_float32(policy):
    layer = BatchNormalization(MOMENTUM, EPSILON, dtype=policy)
    # 4,096 values of about 300 a channel: neither sums nor squares fit into float16.
    x = batch((1, 64, 64, 2), offset=300.0).astype(layer.compute_dtype)
    y, mean, variance = expected(np.asarray(x, "float32"), 1.0, 0.0)
    result = layer(x, training=True)
    assert result.dtype == layer.compute_dtype
    np.testing.assert_allclose(np.asarray(result, "float32"), y, atol=0.02)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-2)


def test_frozen_normalisations_do_not_look_at_the_batch():
    x = batch()
    for layer in (
        BatchNormalization(MOMENTUM, EPSILON, frozen_statistics=True),
        BatchNormalization(MOMENTUM, EPSILON, trainable=False),
    ):
        np.testing.assert_allclose(layer(x, training=True), x / np.sqrt(1 + EPSILON), rtol=1e-6)
        np.testing.assert_array_equal(layer.moving_mean, np.zeros(6))


def test_sizes_may_be_open_and_the_step_compiled():
    layer = batch_norm("bn")
    step = tf.function(
        lambda x: layer(x, training=True), input_signature=[tf.TensorSpec((None, None, None, 6))]
    )
    x = batch()
    np.testing.assert_allclose(step(x), expected(x, 1.0, 0.0)[0], atol=1e-5)


def nested():
    """Normalisation by Keras' layer in a model inside, and by ours behind it; dropout between."""
    trunk = keras.Sequential([keras.Input((None, None, 2)), keras.layers.BatchNormalization()])
    image = keras.Input((None, None, 2))
    x = keras.layers.Dropout(0.5)(trunk(image))
    return keras.Model(image, BatchNormalization(name="last")(x), name="nested")


def test_batch_statistics_are_those_of_what_is_given():
    images = np.random.default_rng(0).normal(7, 3, (2, 4, 6, 2)).astype("float32")
    model = nested()
    copy = batch_statistics(model)
    for image in images[:, None]:
        mean, variance = image.mean((0, 1, 2)), image.var((0, 1, 2))
        inner = (image - mean) / np.sqrt(variance + 1e-3)  # Keras' epsilon
        expected = inner / np.sqrt(inner.var((0, 1, 2)) + 1e-5)
        np.testing.assert_allclose(copy(image, training=False), expected, rtol=1e-3, atol=1e-4)
    for old, new in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_batch_statistics_far_from_zero_and_of_frozen_layers(offset, frozen):
    image = keras.Input((None, None, 6))
    model = keras.Model(image, batch_norm("bn")(image))
    model.trainable = not frozen
    x = batch(offset=offset)
    copy = batch_statistics(model)
    np.testing.assert_allclose(copy(x), expected(x, 1.0, 0.0)[0], atol=1e-5 + offset / 1.5e6)
    np.testing.assert_array_equal(copy.get_layer("bn").moving_mean, np.zeros(6))


ON_TORCH = """
import numpy as np
from keras_seg.layers import batch_norm

x = np.random.default_rng(0).normal(3000, 2, (3, 5, 4, 6)).astype("float32")
wide = x.astype("float64")
mean, variance = wide.mean((0, 1, 2)), wide.var((0, 1, 2))
layer = batch_norm("bn")
y = layer(x, training=True).detach().numpy()
np.testing.assert_allclose(y, (wide - mean) / np.sqrt(variance + 1e-5), atol=2e-3)
np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * mean, rtol=1e-5)
np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * variance, rtol=1e-4)
"""


@pytest.mark.slow
def test_channels_far_from_zero_keep_their_digits_on_torch():
    environment = os.environ | {"KERAS_BACKEND": "torch"}
    subprocess.run([sys.executable, "-c", ON_TORCH], env=environment, check=True)


def test_replace_batch_norm_reaches_models_inside_and_copies_weights():
    model = nested()
    model.layers[1].layers[0].moving_mean.assign([5.0, -2.0])
    seen = []

    def make(config):
        seen.append(config["name"])
        return BatchNormalization.from_config(config)

    copy = replace_batch_norm(model, make)
    assert len(seen) == 2 and "last" in seen
    image = np.random.default_rng(1).normal(size=(1, 3, 5, 2)).astype("float32")
    np.testing.assert_allclose(copy(image), model(image), rtol=1e-6, atol=1e-6)
    plain = keras.Model(model.input, keras.layers.ReLU()(model.input), name="plain")
    with pytest.raises(ValueError, match="plain has no batch normalisation"):
        replace_batch_norm(plain, make)
