"""Lovasz losses against the sorted sums of the paper, written out in NumPy."""

import numpy as np
import pytest

from keras_seg.losses import Lovasz, LovaszHinge


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
    loss = Lovasz(classes=[1], dtype="float64")
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
    value = float(Lovasz()(labels, logits))
    assert value == pytest.approx(expected(labels, logits), abs=2e-6)


def test_few_bins():
    """The promised bound: off by less than the width of a bin."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, (1, 20, 20))
    logits = rng.normal(size=(1, 20, 20, 3)).astype("float32")
    value = float(Lovasz(bins=8)(labels, logits))
    assert 1e-6 < abs(value - expected(labels, logits)) < 1 / 8


def test_bins_of_no_use():
    with pytest.raises(ValueError, match="bins"):
        Lovasz(bins=0)


def hinge(labels, logits):
    """Berman and Blaschko's loss of one set of pixels."""
    counts = labels != 255
    truth, z = labels[counts] == 1, logits[counts].astype("float64")
    return sorted_sum(np.maximum(1 - z * np.where(truth, 1, -1), 0), truth)[0]


@pytest.mark.parametrize("spread", [0.01, 1.0, 20.0])
def test_hinge(spread):
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 0, 0, 1, 255], (3, 60, 50))
    logits = (spread * rng.normal(size=(3, 60, 50, 1))).astype("float32")
    value = float(LovaszHinge()(labels, logits))
    assert value == pytest.approx(hinge(labels, logits[..., 0]), rel=1e-5)
    value = float(LovaszHinge(over="image")(labels, logits))
    each = [hinge(a, b) for a, b in zip(labels, logits[..., 0], strict=True)]
    assert value == pytest.approx(np.mean(each), rel=1e-5)


def test_hinge_without_foreground_is_the_largest_error():
    labels, logits = np.zeros((1, 1, 3), "uint8"), np.array([[[[-3.0], [0.5], [1.5]]]])
    assert float(LovaszHinge()(labels, logits)) == pytest.approx(2.5, abs=1e-6)
    assert float(LovaszHinge(classes="present")(labels, logits)) == 0


def test_hinge_beyond_the_margin_is_zero():
    labels = np.array([[[0, 1, 255]]])
    assert float(LovaszHinge()(labels, np.array([[[[-1.5], [2.0], [9.0]]]]))) == 0


def test_hinge_gradient():
    """Finite differences in float64."""
    import tensorflow as tf

    rng = np.random.default_rng(2)
    labels, logits = rng.integers(0, 2, (1, 3, 4)), rng.normal(size=(1, 3, 4, 1))
    loss = LovaszHinge(dtype="float64")
    z = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = loss(labels, z)
    slope = tape.gradient(value, z).numpy()
    for i in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[i] = 1e-6
        rise = float(loss(labels, logits + step)) - float(loss(labels, logits - step))
        assert slope[i] == pytest.approx(rise / 2e-6, abs=2e-9)


def test_hinge_takes_no_classes():
    with pytest.raises(ValueError, match="Lovasz"):
        LovaszHinge(mode="multiclass")
