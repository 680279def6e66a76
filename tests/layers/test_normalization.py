"""Batch normalisation in training: values, moving statistics and gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seg.layers import BatchNormalization, batch_norm

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


def test_channels_far_from_zero_keep_their_digits():
    x = batch(offset=3000.0)
    y, _, variance = expected(x, 1.0, 0.0)
    layer = batch_norm("bn")
    np.testing.assert_allclose(layer(x, training=True), y, atol=2e-3)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-4)


def test_the_gradients_are_those_of_keras_own_layer():
    x, weights = tf.constant(batch()), tf.constant(batch() ** 2)

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
