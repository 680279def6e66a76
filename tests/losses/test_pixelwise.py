"""Losses of pixels on random label maps, in half precision, and for several outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seg.losses import OHEM, CrossEntropy, Focal, SemanticEncoding, TopKCrossEntropy
from keras_seg.losses.hard_pixels import select_largest

LOSSES = [
    CrossEntropy(label_smoothing=0.1, class_weights=[1, 0, 2, 3, 1]),
    CrossEntropy(over="image", divide_by="weights"),
    CrossEntropy(mode="multilabel", class_weights=[1, 0, 2, 3, 1]),
    Focal(0.5),
    Focal(alpha=0.25, mode="multilabel"),
    OHEM(0.7, 5),
    TopKCrossEntropy(0.2),
    TopKCrossEntropy(7, mode="multilabel"),
]
NAMES = [f"{i}-{loss.name}" for i, loss in enumerate(LOSSES)]


def label_maps(rng, shape):
    """Everything ignored, one pixel, one class, absent classes, all classes."""
    yield np.full(shape, 255)
    single = np.full(shape, 255)
    single[0, 1, 1] = rng.integers(5)
    yield single
    yield np.full(shape, rng.integers(5))
    yield rng.choice([0, 3, 255], shape)
    yield rng.choice([0, 1, 2, 3, 4, 255], shape)


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_random_labels_give_finite_values_and_gradients(loss, scale):
    rng = np.random.default_rng(0)
    sizes = (None, None, None)
    label_spec = tf.TensorSpec((*sizes, 5) if loss.mode == "multilabel" else sizes, "int32")

    @tf.function(input_signature=[label_spec, tf.TensorSpec((*sizes, 5), "float32")])
    def step(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    for labels in label_maps(rng, (3, 6, 5)):
        if loss.mode == "multilabel":
            labels = np.where(labels == 255, 255, labels // 3)
            labels = np.stack([rng.permuted(labels) for _ in range(5)], -1)
        logits = (scale * rng.normal(size=(3, 6, 5, 5))).astype("float32")
        value, slope = step(tf.constant(labels, "int32"), tf.constant(logits))
        assert np.isfinite(value) and value >= 0
        assert np.all(np.isfinite(slope))
        ignored = labels == 255
        assert np.all(slope.numpy()[ignored] == 0)
        if ignored.all():
            assert value == 0


@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropy(mode="multilabel", label_smoothing=0.1, class_weights=[2, 1], dtype="float64"),
        CrossEntropy(mode="binary", divide_by="weights", dtype="float64"),
        CrossEntropy(over="image", label_stride=2, label_offset=1, dtype="float64"),
        Focal(1.5, 0.25, mode="multilabel", dtype="float64"),
        OHEM(0.4, 3, mode="binary", dtype="float64"),
        TopKCrossEntropy(0.4, mode="multilabel", dtype="float64"),
    ],
)
def test_gradient_with_weights_of_pixels_against_finite_differences(loss):
    rng = np.random.default_rng(0)
    stride = getattr(loss, "label_stride", 1)
    channels = 1 if loss.mode == "binary" else 2
    labels = rng.choice([0, 1, 1, 255], (2, 3 * stride, 2 * stride, channels))
    labels = labels if loss.mode == "multilabel" else labels[..., 0]
    weights = rng.uniform(0.5, 5, labels.shape[:3])
    logits = rng.normal(size=(2, 3, 2, channels))
    variable = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = loss(labels, variable, weights)
    slope = tape.gradient(value, variable).numpy()
    assert np.any(slope)
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-6
        rise = loss(labels, logits + step, weights) - loss(labels, logits - step, weights)
        assert slope[index] == pytest.approx(float(rise) / 2e-6, abs=2e-9)


def test_half_precision_does_not_overflow():
    """Sums over 512 x 512 pixels, and logits near the largest float16."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 16, (1, 512, 512)).astype("uint8")
    for scale in (1, 15000):
        logits = keras.ops.cast(
            (scale * rng.normal(size=(1, 512, 512, 16))).clip(-6e4, 6e4), "float16"
        )
        for loss in (CrossEntropy(label_smoothing=0.1), Focal(), OHEM(), TopKCrossEntropy(1000)):
            value = float(loss(labels, logits))
            assert np.isfinite(value), loss.name
            assert value == float(loss(labels, keras.ops.cast(logits, "float32"))), loss.name


@pytest.mark.slow
@pytest.mark.parametrize("loss", [CrossEntropy(), Focal(), OHEM(), TopKCrossEntropy(0.1)])
def test_large_maps_in_half_precision(loss):
    """1024 x 1024 pixels of 150 classes; all logits equal, so that the value is known."""
    labels = np.arange(1024 * 1024).reshape(1, 1024, 1024) % 150
    logits = tf.fill((1, 1024, 1024, 150), tf.constant(3.0, "float16"))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits)
    factor = (1 - 1 / 150) ** 2 if isinstance(loss, Focal) else 1
    assert float(value) == pytest.approx(factor * np.log(150), rel=1e-5)
    assert np.all(np.isfinite(tape.gradient(value, logits)))


class TestSelection:
    @pytest.mark.parametrize("k", [1, 2, 499, 500, 501, 1999, 2000, 5000])
    def test_against_sorting(self, k):
        rng = np.random.default_rng(k)
        for values in (
            rng.exponential(size=2000),
            rng.integers(0, 6, 2000) / 4,
            1 + rng.integers(0, 5, 2000) * 2.0**-23,  # neighbours among the floats
            rng.choice([0.0, -0.0, 1e-40, 1e30], 2000),
        ):
            values = values.astype("float32")
            valid = (rng.uniform(size=2000) < 0.7).astype("float32")
            above, equal, above_count, equal_count = select_largest(values, valid, float(k))
            ordered = np.sort(values[valid > 0])[::-1]
            threshold = ordered[min(k, len(ordered)) - 1]
            np.testing.assert_array_equal(above, valid * (values > threshold))
            np.testing.assert_array_equal(equal, valid * (values == threshold))
            assert above_count == np.sum(above) and equal_count == np.sum(equal)

    def test_equal_pixels_share(self):
        """Two of four equal pixels are wanted: half a pixel of gradient for each."""
        labels, logits = np.zeros((1, 2, 2), "int32"), tf.zeros((1, 2, 2, 2))
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = TopKCrossEntropy(2)(labels, logits)
        assert float(value) == pytest.approx(np.log(2))
        np.testing.assert_allclose(
            tape.gradient(value, logits)[..., 1], 0.5 / 4 * np.ones((1, 2, 2))
        )

    def test_batch_counts_as_one(self):
        """min_kept is a mean over the images: the hard image gives the pixels of both."""
        rng = np.random.default_rng(0)
        labels = np.zeros((2, 4, 4), "int32")
        logits = rng.normal(size=(2, 4, 4, 2)).astype("float32")
        logits[0, ..., 0] += 10
        value = float(OHEM(0.0, 8)(labels, logits))
        assert value == pytest.approx(float(CrossEntropy()(labels[1:], logits[1:])), rel=1e-6)


class TestSeveralOutputs:
    """Auxiliary outputs: a loss for each in `compile`, weighted by Keras."""

    def test_auxiliary_logits(self, labels, logits):
        image = keras.Input((2, 3, 4))
        outputs = {
            "logits": keras.layers.Identity(name="logits")(image),
            "aux": keras.layers.Rescaling(0.5, name="aux")(image),
        }
        model = keras.Model(image, outputs)
        model.compile(
            loss={"logits": CrossEntropy(), "aux": CrossEntropy()},
            loss_weights={"logits": 1.0, "aux": 0.4},
        )
        targets = {"logits": labels, "aux": labels}
        found = model.evaluate(logits, targets, batch_size=2, verbose=0, return_dict=True)
        assert found["loss"] == pytest.approx(1.026429, abs=2e-6)
        assert found["aux_loss"] == pytest.approx(0.903390, abs=2e-6)

    def test_semantic_encoding(self, labels, logits):
        presence = np.array([[2, -1, 0.5, -3], [0, 1, -2, 1]], "float32")
        inputs = {
            "image": keras.Input((2, 3, 4), name="image"),
            "presence": keras.Input((4,), name="presence"),
        }
        outputs = {
            "logits": keras.layers.Identity(name="logits")(inputs["image"]),
            "se": keras.layers.Identity(name="se")(inputs["presence"]),
        }
        model = keras.Model(inputs, outputs)
        model.compile(
            loss={"logits": CrossEntropy(), "se": SemanticEncoding()},
            loss_weights={"logits": 1.0, "se": 0.2},
        )
        value = model.test_on_batch(
            {"image": logits, "presence": presence}, {"logits": labels, "se": labels}
        )
        assert value[0] == pytest.approx(0.775309, abs=2e-6)
