"""Scores pinned by cityscapesScripts, scikit-learn, the official ADE20K code and by hand."""

import math

import keras
import numpy as np
import pytest

from keras_seg.losses import CrossEntropy
from keras_seg.metrics import (
    F1,
    ConfusionMatrix,
    FrequencyWeightedIoU,
    MeanAccuracy,
    MeanIoU,
    PixelAccuracy,
    Precision,
    Recall,
    confusion_matrix,
    scores,
)

# Class 3 is never true but predicted once, class 4 neither.
LABELS = np.array(
    [[[0, 0, 1, 1], [0, 0, 1, 255], [2, 2, 1, 1]], [[1, 1, 1, 1], [1, 2, 2, 2], [0, 0, 0, 255]]],
    "uint8",
)
PREDICTED = np.array(
    [[[0, 0, 1, 1], [0, 1, 1, 1], [2, 0, 1, 3]], [[1, 1, 1, 2], [1, 2, 2, 2], [0, 1, 0, 0]]],
    "uint8",
)
MATRIX = [[5, 2, 0, 0, 0], [0, 8, 1, 1, 0], [1, 0, 4, 0, 0], [0] * 5, [0] * 5]
NAN = math.nan


def test_confusion_matrix():
    matrix = confusion_matrix(LABELS, PREDICTED, 5)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == MATRIX
    signed = np.where(LABELS == 255, -1, LABELS.astype("int32"))
    assert confusion_matrix(signed, PREDICTED, 5, ignore_label=-1).tolist() == MATRIX
    assert sum(
        confusion_matrix(t, p, 5) for t, p in zip(LABELS, PREDICTED, strict=True)
    ).tolist() == (MATRIX)


def test_scores():
    result = scores(confusion_matrix(LABELS, PREDICTED, 5))
    expected = {
        "pixel_accuracy": 0.772727,
        "mean_accuracy": 0.771429,
        "mean_recall": 0.771429,
        "mean_precision": 0.608333,
        "mean_f1": 0.592308,
        "mean_iou": 0.489583,
        "frequency_weighted_iou": 0.653409,
        "micro_iou": 0.629630,
        "kappa": 0.652997,
        "matthews": 0.655181,
        "pixels": 22,
        "iou": [0.625, 0.666667, 0.666667, 0, NAN],
        "accuracy": [0.714286, 0.8, 0.8, NAN, NAN],
        "recall": [0.714286, 0.8, 0.8, NAN, NAN],
        "precision": [0.833333, 0.8, 0.8, 0, NAN],
        "f1": [0.769231, 0.8, 0.8, 0, NAN],
    }
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
    ade20k = (result["pixel_accuracy"] + result["mean_iou"]) / 2
    assert ade20k == pytest.approx(0.631155, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"absent": "zero"}, 0.391667),
        ({"absent": "one"}, 0.591667),
        ({"absent": "truth_only"}, 0.652778),
        ({"classes": range(1, 5)}, 0.444444),
        ({"classes": [1]}, 0.666667),
    ],
)
def test_mean_iou_options(options, value):
    assert scores(np.array(MATRIX), **options)["mean_iou"] == pytest.approx(value, abs=1e-6)
    metric = MeanIoU(5, **options)
    assert float(metric(LABELS, PREDICTED)) == pytest.approx(value, abs=1e-6)


def test_scores_of_single_images():
    first, second = (
        scores(confusion_matrix(t, p, 5)) for t, p in zip(LABELS, PREDICTED, strict=True)
    )
    assert first["iou"] == pytest.approx([0.6, 2 / 3, 0.5, 0, NAN], nan_ok=True)
    assert second["iou"] == pytest.approx([2 / 3, 2 / 3, 0.75, NAN, NAN], nan_ok=True)
    assert (first["mean_iou"] + second["mean_iou"]) / 2 == pytest.approx(0.568056, abs=1e-6)
    assert first["pixel_accuracy"] == pytest.approx(0.727273, abs=1e-6)
    assert second["pixel_accuracy"] == pytest.approx(0.818182, abs=1e-6)


def test_scores_without_pixels_are_nan():
    empty = np.zeros((3, 3), "int64")
    for absent in ("skip", "zero", "one", "truth_only"):
        result = scores(empty, absent)
        assert result.pop("pixels") == 0
        assert all(np.isnan(value).all() for value in result.values())


def test_scores_of_one_perfect_class():
    result = scores(np.diag([7, 0]))
    assert result["mean_iou"] == result["pixel_accuracy"] == result["mean_f1"] == 1
    assert math.isnan(result["kappa"])  # chance agrees fully too


def test_scores_hold_their_identities():
    matrix = np.random.default_rng(0).integers(0, 50, (6, 6))
    result = scores(matrix)
    iou = np.array(result["iou"])
    assert np.all(iou <= np.minimum(result["precision"], result["recall"]))
    np.testing.assert_allclose(result["f1"], 2 * iou / (1 + iou))
    share = matrix.sum(1) / matrix.sum()
    assert share @ np.array(result["recall"]) == pytest.approx(result["pixel_accuracy"])
    order = np.array([3, 1, 5, 0, 4, 2])
    assert scores(matrix[order][:, order])["mean_iou"] == pytest.approx(result["mean_iou"])


@pytest.mark.parametrize(
    ("labels", "predicted", "match"),
    [
        ([[0, 5]], [[0, 1]], "1 pixels of the labels .* 5"),
        ([[0, -1]], [[0, 1]], "labels .* -1"),
        ([[0, 1]], [[0, 9]], "predictions .* 9"),
        ([[0.0, 1.0]], [[0, 1]], "integer"),
        ([[0, 1]], [[0, 1, 1]], "differ in shape"),
    ],
)
def test_confusion_matrix_errors(labels, predicted, match):
    with pytest.raises(ValueError, match=match):
        confusion_matrix(np.array(labels), np.array(predicted), 5)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((np.ones((2, 3), int),), "K, K"),
        ((np.ones((2, 2)),), "integers"),
        ((-np.ones((2, 2), int),), ">= 0"),
        ((np.ones((2, 2), int), "skipped"), "'skip'"),
        ((np.ones((2, 2), int), "skip", [2]), "0 to 1"),
        ((np.ones((2, 2), int), "skip", []), "0 to 1"),
    ],
)
def test_scores_errors(arguments, match):
    with pytest.raises(ValueError, match=match):
        scores(*arguments)


METRICS = [
    (PixelAccuracy, "pixel_accuracy"),
    (MeanAccuracy, "mean_accuracy"),
    (MeanIoU, "mean_iou"),
    (FrequencyWeightedIoU, "frequency_weighted_iou"),
    (Precision, "mean_precision"),
    (Recall, "mean_recall"),
    (F1, "mean_f1"),
]


@pytest.mark.parametrize(("cls", "name"), METRICS)
class TestEveryMetric:
    def test_value(self, cls, name):
        value = scores(np.array(MATRIX))[name]
        assert float(cls(5)(LABELS, PREDICTED)) == pytest.approx(value, rel=1e-6)

    def test_absent_and_classes(self, cls, name):
        if cls in (PixelAccuracy, FrequencyWeightedIoU):
            with pytest.raises(TypeError):
                cls(5, absent="zero")
            return
        for absent in ("skip", "zero", "one", "truth_only"):
            for classes in (None, [0, 2, 4], [3]):
                value = scores(np.array(MATRIX), absent, classes)[name]
                metric = cls(5, absent=absent, classes=classes)
                result = float(metric(LABELS, PREDICTED))
                assert result == pytest.approx(value, rel=1e-6, nan_ok=True)

    def test_without_pixels_is_nan(self, cls, name):
        metric = cls(5)
        assert math.isnan(metric.result())
        assert math.isnan(metric(np.full_like(LABELS, 255), PREDICTED))

    def test_config_round_trip(self, cls, name):
        metric = cls(5, 7, name="mine")
        config = keras.saving.serialize_keras_object(metric)
        again = keras.saving.deserialize_keras_object(config)
        assert keras.saving.serialize_keras_object(again) == config
        assert (again.num_classes, again.ignore_label, again.name) == (5, 7, "mine")


def logits_of(ids, dtype="float32"):
    return np.eye(5, dtype=dtype)[ids]


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_logits(dtype):
    metric = ConfusionMatrix(5)
    metric.update_state(LABELS, logits_of(PREDICTED, dtype))
    assert metric.counts()["matrix"].tolist() == MATRIX


def test_one_pixel_at_a_time():
    metric = ConfusionMatrix(5)
    for label, predicted in zip(LABELS.ravel(), PREDICTED.ravel(), strict=True):
        metric.update_state(label.reshape(1, 1, 1), predicted.reshape(1, 1, 1, 1))
    counts = metric.counts()
    assert counts["matrix"].tolist() == MATRIX
    assert counts["ignored"] == 2
    assert counts["illegal"] == 0
    np.testing.assert_equal(metric.scores(), scores(np.array(MATRIX)))
    metric.reset_state()
    assert metric.counts()["matrix"].sum() == metric.counts()["ignored"] == 0


def test_confusion_matrix_metric_gives_four_scores():
    result = ConfusionMatrix(5)(LABELS[..., None], PREDICTED)
    assert {name: float(value) for name, value in result.items()} == pytest.approx(
        {
            "pixel_accuracy": 0.772727,
            "mean_accuracy": 0.771429,
            "mean_iou": 0.489583,
            "frequency_weighted_iou": 0.653409,
        },
        abs=1e-6,
    )


def test_other_ignore_labels():
    for ignore, dtype in ((-1, "int32"), (255, "uint8"), ([255, 4], "int64"), (2**40, "int64")):
        one = ignore[0] if isinstance(ignore, list) else ignore
        labels = np.where(LABELS == 255, np.int64(one), LABELS).astype(dtype)
        metric = ConfusionMatrix(5, ignore)
        metric.update_state(labels, PREDICTED)
        assert metric.counts()["matrix"].tolist() == MATRIX
    metric = ConfusionMatrix(5, [255, 0])  # a class may be ignored
    metric.update_state(LABELS, PREDICTED)
    assert metric.counts()["matrix"].sum() == 15
    assert metric.counts()["ignored"] == 9


@pytest.mark.parametrize("bad", [5, -1, 254, 2**32 + 1])
def test_illegal_label(bad):
    """Raises where it can, turns the result into NaN where it cannot, and is counted."""
    import tensorflow as tf

    labels = LABELS.astype("int64")
    labels[1, 2, 1] = bad
    metric = MeanIoU(5)
    with pytest.raises(ValueError, match=f"labels .* {bad}.*0 .. 4 or the ignore label 255"):
        metric.update_state(labels, PREDICTED)
    for jit in (False, True):
        metric.reset_state()
        tf.function(metric.update_state, jit_compile=jit)(
            tf.constant(labels), tf.constant(PREDICTED)
        )
        assert math.isnan(metric.result())
        counts = metric.counts()
        assert (counts["illegal"], counts["ignored"], counts["matrix"].sum()) == (1, 2, 21)
        with pytest.raises(ValueError, match="1 pixels"):
            metric.scores()
    metric.reset_state()
    assert float(metric(LABELS, PREDICTED)) == pytest.approx(0.489583, abs=1e-6)


def test_illegal_prediction():
    import tensorflow as tf

    predicted = PREDICTED.copy()
    predicted[0, 0, 0] = 17
    predicted[0, 1, 3] = 18  # an ignored pixel: no matter
    metric = PixelAccuracy(5)
    with pytest.raises(ValueError, match="1 pixels of the predictions .* 17"):
        metric.update_state(LABELS, predicted)
    tf.function(metric.update_state)(tf.constant(LABELS), tf.constant(predicted))
    assert metric.counts()["illegal"] == 1
    assert math.isnan(metric.result())


def test_counts_beyond_float32():
    """2**24 + 1 is the first integer that float32 does not have."""
    metric = PixelAccuracy(2)
    million = np.zeros((1, 1024, 1024), "uint8")
    for _ in range(16):
        metric.update_state(million, million)
    metric.update_state(million[:, :1, :1], million[:, :1, :1])
    assert metric.counts()["matrix"].tolist() == [[2**24 + 1, 0], [0, 0]]


def test_counts_beyond_int32():
    """A digit that is full carries over: 2**31 pixels overflow where there is no int64."""
    metric = PixelAccuracy(2)
    digits = np.zeros((2, 6), "int64")
    digits[:, 0] = 2**30 - 1, 1  # one pixel short of 2**31
    metric.variables[0].assign(digits)
    metric.update_state(np.array([[[0, 0, 0, 1]]]), np.array([[[0, 0, 0, 0]]]))
    assert metric.counts()["matrix"].tolist() == [[2**31 + 2, 0], [1, 0]]
    assert float(metric.result()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("labels", "predicted", "match"),
    [
        (LABELS.astype("float32"), PREDICTED, "labels must be integer"),
        (LABELS, PREDICTED.astype("float32"), "logits"),
        (LABELS, logits_of(PREDICTED)[..., :4], "logits"),
        (LABELS, PREDICTED[:, :2], "predictions are 2 x 4 pixels but labels 3 x 4"),
        (LABELS, logits_of(PREDICTED)[:, :2], "2 x 4 pixels but labels 3 x 4"),
        (LABELS, logits_of(PREDICTED, "int32"), "predictions must have the shape"),
        (logits_of(PREDICTED, "int32"), PREDICTED, "argmax"),
    ],
)
def test_bad_input(labels, predicted, match):
    with pytest.raises(ValueError, match=match):
        MeanIoU(5).update_state(labels, predicted)


def test_bad_options():
    with pytest.raises(ValueError, match="sample weights"):
        MeanIoU(5).update_state(LABELS, PREDICTED, sample_weight=[1, 2])
    for options in (
        {"num_classes": 1},
        {"absent": "drop"},
        {"classes": [5]},
        {"ignore_label": "v"},
    ):
        with pytest.raises(ValueError):
            MeanIoU(**{"num_classes": 5, **options})


def test_in_fit():
    """`evaluate` scores what NumPy does; float16 models; labels of the type that files have."""
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(5, 1)])
    metric = ConfusionMatrix(5)
    tree = MeanIoU(5, classes=[1], name="iou_tree")
    model.compile(loss=CrossEntropy(), metrics=[metric, tree, F1(5, absent="zero")])
    rng = np.random.default_rng(0)
    images = rng.normal(size=(6, 4, 4, 3)).astype("float32")
    labels = rng.choice([0, 1, 2, 3, 4, 255], (6, 4, 4)).astype("uint8")
    logs = model.evaluate(images, labels, batch_size=4, verbose=0, return_dict=True)
    predicted = model.predict(images, verbose=0).argmax(-1)
    matrix = confusion_matrix(labels, predicted, 5)
    assert metric.counts()["matrix"].tolist() == matrix.tolist()
    expected = scores(matrix)
    for name in ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou"):
        assert logs[name] == pytest.approx(expected[name], rel=1e-6)
    assert logs["iou_tree"] == pytest.approx(expected["iou"][1], rel=1e-6)
    assert logs["f1"] == pytest.approx(scores(matrix, "zero")["mean_f1"], rel=1e-6)
