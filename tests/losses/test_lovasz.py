"""Lovasz losses against the sorted sums of the paper, written out in NumPy."""

import numpy as np
import pytest

from keras_seg.losses import LovaszSoftmax


def sorted_sum(errors, truth):
    """Algorithm 1 of Berman et al.: value, and gradient with respect to the errors."""
    order = np.argsort(-errors, kind="stable")
    truth = truth[order].astype("float64")
    total = truth.sum()
    jaccard = 1 - (total - truth.cumsum()) / (total + (1 - truth).cumsum())
    slope = np.empty(errors.shape)
    slope[order] = np.diff(jaccard, prepend=0)
    return errors @ slope, slope


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def expected(labels, logits):
    """Mean over the classes present of the batch."""
    counts = labels != 255
    truth, q = labels[counts], softmax(logits.astype("float64"))[counts]
    present = np.unique(truth)
    return np.mean([sorted_sum(np.abs((truth == c) - q[:, c]), truth == c)[0] for c in present])


@pytest.mark.parametrize(
    ("truth", "value", "slope"),
    [
        ([1, 0, 1, 1], 0.666667, [1 / 3, 1 / 3, 1 / 3, 0]),
        ([0, 0, 1, 1], 0.7, [0.5, 0.166667, 0.333333, 0]),
    ],
)
def test_vectors_of_the_specification(truth, value, slope):
    """Errors .7, .2, .9, .4 of one class: in NumPy, and as logits of two classes."""
    import tensorflow as tf

    errors, truth = np.array([0.7, 0.2, 0.9, 0.4]), np.array(truth)
    found, gradient = sorted_sum(errors, truth)
    assert found == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(gradient[[2, 0, 3, 1]], slope, atol=1e-6)

    q = np.where(truth == 1, 1 - errors, errors)
    logits = tf.constant(np.log(np.stack([1 - q, q], axis=-1))[None, None], "float64")
    loss = LovaszSoftmax(classes=[1], dtype="float64")
    with tf.GradientTape() as tape:
        tape.watch(logits)
        result = loss(truth[None, None], logits)
    assert float(result) == pytest.approx(value, abs=1e-6)
    # d error / d logit = -+ q (1 - q).
    steps = np.where(truth == 1, -1, 1) * q * (1 - q) * gradient
    np.testing.assert_allclose(tape.gradient(result, logits)[0, 0, :, 1], steps, atol=1e-9)


@pytest.mark.parametrize("spread", [0.001, 1.0, 8.0])
def test_many_pixels_in_a_bin(spread):
    """60000 pixels, from nearly equal predictions to nearly sure ones."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 0, 0, 0, 1, 2, 255], (2, 150, 200))
    logits = (spread * rng.normal(size=(2, 150, 200, 3))).astype("float32")
    logits[..., 0] += spread
    value = float(LovaszSoftmax()(labels, logits))
    assert value == pytest.approx(expected(labels, logits), abs=2e-6)


def test_few_bins():
    """The promised bound: off by less than the width of a bin."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, (1, 20, 20))
    logits = rng.normal(size=(1, 20, 20, 3)).astype("float32")
    value = float(LovaszSoftmax(bins=8)(labels, logits))
    assert 1e-6 < abs(value - expected(labels, logits)) < 1 / 8


def test_bins_of_no_use():
    with pytest.raises(ValueError, match="bins"):
        LovaszSoftmax(bins=0)
