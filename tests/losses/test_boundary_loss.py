"""The boundary loss; its distance maps are those of SciPy."""

import keras
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from keras_seg.losses import Boundary
from keras_seg.losses.boundary import signed_distances


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def maps_of_scipy(labels, classes):
    """(N, H, W, K), with 0 for a class that is absent or alone."""
    maps = np.zeros((*labels.shape, classes))
    for i, image in enumerate(labels):
        for c in range(classes):
            own, other = image == c, (image != c) & (image != 255)
            if own.any() and other.any():
                inside = distance_transform_edt(~other) - 1
                maps[i, ..., c] = distance_transform_edt(~own) * other - inside * own
    return maps


def blobs(seed, shape=(3, 13, 18)):
    """Maps of large pieces with ignored pixels between; class 3 is only in some."""
    rng = np.random.default_rng(seed)
    small = rng.choice([0, 0, 1, 2, 3, 255], (shape[0], 4, 5), p=[0.3, 0.2, 0.2, 0.2, 0.02, 0.08])
    return small.repeat(4, 1).repeat(4, 2)[:, : shape[1], : shape[2]]


@pytest.mark.parametrize("seed", range(3))
def test_distances_of_scipy(seed):
    labels = blobs(seed)
    truth = keras.ops.convert_to_tensor((labels[..., None] == np.arange(4)).astype("float32"))
    valid = keras.ops.convert_to_tensor((labels != 255).astype("float32")[..., None])
    for exclusive in (True, False):
        found = signed_distances(truth, valid, exclusive=exclusive)
        np.testing.assert_allclose(found, maps_of_scipy(labels, 4), atol=1e-5)


def test_by_hand():
    """One row: distances 2, 1, 0, -1, -2 from the right piece, -1, 0, 1, 2, 3 from the left."""
    labels = np.array([[[0, 0, 1, 1, 1]]])
    q = np.array([0.1, 0.2, 0.6, 0.7, 0.9])
    logits = np.log(np.stack([1 - q, q], axis=-1))[None, None]
    right = (0.1 * 2 + 0.2 * 1 - 0.7 * 1 - 0.9 * 2) / 5
    left = (-0.9 + 0.4 * 1 + 0.3 * 2 + 0.1 * 3) / 5
    assert float(Boundary(classes=[1])(labels, logits)) == pytest.approx(right, abs=1e-6)
    assert float(Boundary()(labels, logits)) == pytest.approx((left + right) / 2, abs=1e-6)
    binary = Boundary(mode="binary")(labels, np.log(q / (1 - q))[None, None, :, None])
    assert float(binary) == pytest.approx(right, abs=1e-6)


@pytest.mark.parametrize("over", ["batch", "image"])
@pytest.mark.parametrize("classes", ["present", "all", [1, 3]])
def test_value(over, classes):
    labels = blobs(5)
    labels[2] = 255
    logits = np.random.default_rng(0).normal(size=(*labels.shape, 4))
    values = softmax(logits) * maps_of_scipy(labels, 4) * (labels != 255)[..., None]
    parts = [slice(None)] if over == "batch" else [[0], [1]]
    means = []
    for part in parts:
        ids = labels[part][labels[part] != 255]
        chosen = {"present": np.unique(ids), "all": range(4)}.get(str(classes), classes)
        means.append(np.mean([values[part][..., c].sum() / ids.size for c in chosen]))
    found = Boundary(over=over, classes=classes, dtype="float64")(labels, logits)
    assert float(found) == pytest.approx(np.mean(means), abs=1e-9)


@pytest.mark.parametrize("xla", [False, True])
def test_gradient_in_a_graph_of_unknown_size(xla):
    import tensorflow as tf

    labels = blobs(1)
    logits = np.random.default_rng(0).normal(size=(*labels.shape, 4)).astype("float32")

    def step(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = Boundary()(labels, logits)
        return value, tape.gradient(value, logits)

    if xla:
        step = tf.function(step, jit_compile=True)
    else:
        unknown = [tf.TensorSpec((None, None, None), "int64")]
        unknown.append(tf.TensorSpec((None, None, None, 4), "float32"))
        step = tf.function(step, input_signature=unknown)
    value, slope = step(tf.constant(labels), tf.constant(logits))
    q, present = softmax(logits.astype("float64")), np.unique(labels[labels != 255])
    weights = maps_of_scipy(labels, 4) * (labels != 255)[..., None] * np.isin(range(4), present)
    weights /= (labels != 255).sum() * len(present)
    assert float(value) == pytest.approx((q * weights).sum(), abs=1e-5)
    expected = q * (weights - (q * weights).sum(-1, keepdims=True))
    np.testing.assert_allclose(slope, expected, atol=1e-6)


def test_nothing_to_measure(labels, logits):
    for empty in (np.full_like(labels, 255), np.full_like(labels, 2)):
        assert float(Boundary()(empty, logits)) == 0


def test_config_round_trip():
    loss = Boundary(classes=[1], over="image", mode="multilabel", name="edges")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
