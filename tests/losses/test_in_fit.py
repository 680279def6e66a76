"""The losses inside of Keras: what `fit` passes on, and what a saved model brings back."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seg.losses import CrossEntropy, CrossEntropyLogIoU, Dice
from keras_seg.metrics import ConfusionMatrix, MeanIoU


def small_model(loss):
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(5, 1)])
    model.compile("sgd", loss, metrics=[ConfusionMatrix(5), MeanIoU(5, absent="zero")])
    return model


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 4, 4, 3)).astype("float32")
    return images, rng.choice([0, 1, 2, 3, 4, 255], (4, 4, 4)).astype("uint8")


@pytest.mark.parametrize("loss", [2 * CrossEntropy() + Dice(), CrossEntropyLogIoU(over="image")])
def test_saved_model_brings_back_loss_and_metrics(loss, data, tmp_path):
    model = small_model(loss)
    model.fit(*data, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    before = model.evaluate(*data, verbose=0, return_dict=True)
    after = again.evaluate(*data, verbose=0, return_dict=True)
    assert after == before
    assert after["loss"] == pytest.approx(float(loss(data[1], model.predict(data[0], verbose=0))))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy, data):
    keras.config.set_dtype_policy(policy)
    model = small_model(CrossEntropy() + Dice())
    logs = model.evaluate(*data, verbose=0, return_dict=True)
    logits = model.predict(data[0], verbose=0).astype("float32")
    expected = float((CrossEntropy() + Dice())(data[1], logits))
    assert logs["loss"] == pytest.approx(expected, rel=1e-6)
    before = model.get_weights()
    model.fit(*data, verbose=0)
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))


def test_illegal_label_shows_and_spares_the_weights(data):
    images, labels = data
    labels[0, 0, 0] = 77
    model = small_model(CrossEntropy() + Dice())
    before = model.get_weights()
    history = model.fit(images, labels, verbose=0).history
    assert np.isnan(history["loss"][0])
    assert np.isnan(history["mean_iou"][0])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("eagerly", [False, True])
def test_fit_hands_on_pixel_weights(eagerly, data):
    """A pixel of weight 0 changes nothing, one of weight 2 counts twice."""
    images, labels = data
    weights = np.random.default_rng(1).choice([0, 1, 2], labels.shape).astype("float32")
    model = small_model(CrossEntropy())
    model.compile("sgd", CrossEntropy(), run_eagerly=eagerly)
    logits = model.predict(images, verbose=0)
    expected = float(CrossEntropy()(labels, logits, weights))
    assert expected != pytest.approx(float(CrossEntropy()(labels, logits)), rel=1e-3)
    for given in ((images, labels, weights), (images, labels, weights[..., None])):
        again = keras.models.clone_model(model)
        again.set_weights(model.get_weights())
        again.compile("sgd", CrossEntropy(), run_eagerly=eagerly)
        assert again.train_on_batch(*given) == pytest.approx(expected, rel=1e-6)
        again.set_weights(model.get_weights())
        pipeline = tf.data.Dataset.from_tensor_slices(given).batch(4)
        history = again.fit(pipeline, shuffle=False, verbose=0).history
        assert history["loss"][0] == pytest.approx(expected, rel=1e-6)


def test_illegal_label_is_named_when_run_eagerly(data):
    images, labels = data
    labels[0, 0, 0] = 77
    model = small_model(Dice())
    model.compile("sgd", Dice(), run_eagerly=True)
    with pytest.raises(ValueError, match=": 77. Expected 0 .. 4"):
        model.fit(images, labels, verbose=0)


def test_float_labels_and_pixel_weights_are_refused(data):
    images, labels = data
    with pytest.raises(ValueError, match="integer"):
        small_model(Dice()).fit(images, labels.astype("float32"), verbose=0)
    with pytest.raises(ValueError, match="one sample weight an image"):
        small_model(Dice()).fit(images, labels, sample_weight=np.ones(labels.shape), verbose=0)
