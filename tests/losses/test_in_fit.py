"""The losses inside of Keras: what `fit` passes on, and what a saved model brings back."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seg.losses import (
    CrossEntropy,
    CrossEntropyLogIoU,
    Dice,
    Lovasz,
    LovaszHinge,
    SemanticEncoding,
)
from keras_seg.metrics import (
    ConfusionMatrix,
    DiceScore,
    MeanIoU,
    MultiLabelScores,
    PerImageMeanIoU,
    confusion_matrix,
    multilabel_confusion_matrix,
    multilabel_scores,
    scores,
    scores_per_image,
)


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


@pytest.mark.parametrize("floatx", ["float16", "float64"])
@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (Lovasz(), (4, 4, 4, 5)),
        (Lovasz(over="image"), (4, 4, 4, 5)),
        (LovaszHinge(mode="multilabel"), (4, 4, 4, 5)),
        (SemanticEncoding(), (4, 5)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_width_of_keras_floats_changes_nothing(loss, shape, floatx, data):
    """With `set_floatx`, Keras gives whole numbers another width too."""
    logits = np.random.default_rng(1).normal(size=shape).astype("float32")
    labels = data[1]
    if isinstance(loss, LovaszHinge):
        labels = (labels[..., None] == np.arange(5)).astype("uint8")
    expected = float(loss(labels, logits))
    keras.config.set_floatx(floatx)
    assert float(loss(labels, logits)) == expected


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


def one_layer(outputs, activation, loss, metrics):
    layer = keras.layers.Conv2D(outputs, 1, activation=activation)
    model = keras.Sequential([keras.Input((4, 4, 3)), layer])
    model.compile("sgd", loss, metrics=metrics)
    return model


@pytest.mark.parametrize(
    ("activation", "loss", "threshold"),
    [(None, CrossEntropy(mode="binary"), 0.0), ("sigmoid", "mse", 0.5)],
)
def test_metrics_of_one_output(activation, loss, threshold, data):
    """Logits and probabilities of two classes: `fit` and `evaluate` show NumPy's scores."""
    images, labels = data[0], (data[1] > 1).astype("uint8")
    options = {"threshold": threshold, "classes": [1]}
    metrics = [MeanIoU(2, **options), DiceScore(2, **options), PerImageMeanIoU(2, **options)]
    model = one_layer(1, activation, loss, metrics)
    assert "mean_iou" in model.fit(images, labels, verbose=0).history
    found = model.evaluate(images, labels, verbose=0, return_dict=True)
    predicted = (model.predict(images, verbose=0)[..., 0] > threshold).astype("uint8")
    each = [confusion_matrix(*pair, 2) for pair in zip(labels, predicted, strict=True)]
    total = scores(sum(each))
    assert found["mean_iou"] == pytest.approx(total["iou"][1], rel=1e-6)
    assert found["dice"] == pytest.approx(total["f1"][1], rel=1e-6)
    expected = scores_per_image(each, classes=[1])["mean_iou"]
    assert found["per_image_mean_iou"] == pytest.approx(expected, rel=1e-6)


def test_metrics_of_labels_that_overlap(data):
    images = data[0]
    labels = np.random.default_rng(1).choice([0, 1, 255], (4, 4, 4, 3)).astype("uint8")
    metric = MultiLabelScores(3, threshold=0.0)
    model = one_layer(3, None, CrossEntropy(mode="multilabel"), [metric])
    model.fit(images, labels, verbose=0)
    found = model.evaluate(images, labels, verbose=0, return_dict=True)
    predicted = (model.predict(images, verbose=0) > 0).astype("uint8")
    expected = multilabel_scores(multilabel_confusion_matrix(labels, predicted))
    for name in ("mean_iou", "mean_f1", "mean_precision", "mean_recall"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)
