"""Total variation, on labelled and unlabelled images."""

import keras
import numpy as np
import pytest

from keras_seg.losses import CrossEntropy, TotalVariation


def gradient(loss, labels, logits):
    import tensorflow as tf

    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits)
    return float(value), tape.gradient(value, logits).numpy()


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({}, 1.098290),
        ({"normalize": False}, 6.589739),
        ({"normalize": False, "squared": True}, 2.846494),
        ({"normalize": False, "reduction": "sum"}, 6.464850 + 6.714627),
    ],
)
def test_value(options, value, labels, logits):
    loss = TotalVariation(**options)
    assert float(loss(labels, logits)) == pytest.approx(value, abs=3e-6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()


@pytest.mark.parametrize(
    ("first_class", "value"),
    [([[0, 1], [0, 1]], 4), ([[1, 1], [1, 1]], 0), ([[1, 0.5, 0]], 2)],
)
def test_by_hand(first_class, value):
    q = np.array(first_class, "float64")[None]
    logits = np.log(np.maximum(np.stack([q, 1 - q], axis=-1), 1e-30))
    loss = TotalVariation(normalize=False, dtype="float64")
    assert float(loss(np.zeros(q.shape, "uint8"), logits)) == pytest.approx(value, abs=1e-9)


def test_ignored_pixels_take_part(labels, logits):
    value, slope = gradient(TotalVariation(normalize=False), labels, logits)
    expected = [0.425263, -0.107636, -0.292585, -0.025042]
    np.testing.assert_allclose(slope[0, 1, 1], expected, atol=2e-6)
    unlabelled = np.full_like(labels, 255)
    again = gradient(TotalVariation(normalize=False), unlabelled, logits)
    assert again[0] == value
    np.testing.assert_array_equal(again[1], slope)


def test_beside_cross_entropy_on_unlabelled_images(labels, logits):
    """The second image has no labels: it counts for the variation alone."""
    labels[1] = 255
    loss = CrossEntropy() + 0.1 * TotalVariation()
    nll = (0.440190 + 1.040157 + 0.279678 + 0.111443 + 1.097311) / 5
    value, slope = gradient(loss, labels, logits)
    assert value == pytest.approx(nll + 0.1 * 1.098290, abs=2e-6)
    assert np.all(np.any(slope[1] != 0, axis=-1))


def test_sigmoids(labels, logits):
    q = 1 / (1 + np.exp(-logits.astype("float64")))
    size = np.abs(np.diff(q, axis=1)).sum() + np.abs(np.diff(q, axis=2)).sum()
    ids = np.zeros(logits.shape, "uint8")
    loss = TotalVariation(mode="multilabel")
    assert float(loss(ids, logits)) == pytest.approx(size / 12, abs=1e-6)


def test_wrong_labels(labels, logits):
    with pytest.raises(ValueError, match="integer"):
        TotalVariation()(labels.astype("float32"), logits)
    with pytest.raises(ValueError, match="ids"):
        TotalVariation()(labels + 2, logits)
