"""Scores pinned by cityscapesScripts, scikit-learn, the official ADE20K code and by hand."""

import math

import keras
import numpy as np
import pytest
from maps import LABELS, MATRIX, PREDICTED

from keras_seg.losses import CrossEntropy
from keras_seg.metrics import (
    F1,
    ConfusionMatrix,
    DiceScore,
    FrequencyWeightedIoU,
    MeanAccuracy,
    MeanIoU,
    PixelAccuracy,
    Precision,
    Recall,
    confusion_matrix,
    scores,
)

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


@pytest.mark.parametrize("seed", range(5))
def test_scores_hold_their_identities(seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 12))
    matrix = rng.integers(0, 50, (classes, classes)) * rng.integers(0, 2, (classes, classes))
    matrix[0, 0] += 1
    result = scores(matrix)
    iou, f1, precision, recall = (
        np.nan_to_num(result[name]) for name in ("iou", "f1", "precision", "recall")
    )
    # Without true or without predicted pixels precision or recall do not exist; IoU is then 0.
    assert np.all(iou <= np.minimum(precision, recall))
    np.testing.assert_allclose(f1, 2 * iou / (1 + iou))
    share = matrix.sum(1) / matrix.sum()
    assert share @ recall == pytest.approx(result["pixel_accuracy"])
    assert share @ iou == pytest.approx(result["frequency_weighted_iou"])
    order = rng.permutation(classes)
    permuted = scores(matrix[order][:, order])
    for name, value in result.items():
        value = np.array(value)[order] if isinstance(value, list) else value
        np.testing.assert_allclose(permuted[name], value, rtol=1e-12, err_msg=name)


# The pixel (0, 0, 0) and the two of class 2 at (1, 1, 2) and (1, 1, 3) are predicted as no class.
OUTSIDE = PREDICTED.copy()
OUTSIDE[0, 0, 0], OUTSIDE[1, 1, 2:] = 255, 5
MISSES = [[4, 2, 0, 0, 0, 1], [0, 8, 1, 1, 0, 0], [1, 0, 2, 0, 0, 2], [0] * 6, [0] * 6]


@pytest.mark.parametrize(
    ("rule", "matrix", "ious"),
    [
        # By hand: T stays 7, 10, 5 with "miss"; the pixels are gone with "drop".
        ("miss", MISSES, [4 / 8, 8 / 12, 2 / 6, 0, NAN]),
        ("drop", np.array(MISSES)[:, :5].tolist(), [4 / 7, 8 / 12, 2 / 4, 0, NAN]),
    ],
)
def test_void_predictions(rule, matrix, ious):
    found = confusion_matrix(LABELS, OUTSIDE, 5, void_predictions=rule)
    assert found.tolist() == matrix
    result = scores(found)
    assert result["iou"] == pytest.approx(ious, nan_ok=True)
    assert result["pixels"] == (22 if rule == "miss" else 19)
    assert result["pixel_accuracy"] == pytest.approx(14 / result["pixels"])

    metric = ConfusionMatrix(5, void_predictions=rule)
    values = metric(LABELS, OUTSIDE)
    counts = metric.counts()
    assert counts["matrix"].tolist() == matrix
    assert counts["ignored"] == (2 if rule == "miss" else 5)
    assert counts["illegal"] == 0
    for name, value in values.items():
        assert float(value) == pytest.approx(result[name], rel=1e-6), name
    np.testing.assert_equal(metric.scores(), result)
    assert metric.get_config()["void_predictions"] == rule
    with pytest.raises(ValueError, match="labels .* 9"):  # labels are never dropped
        confusion_matrix(LABELS + 9, OUTSIDE, 5, void_predictions=rule)


def test_dropping_is_what_keras_does():
    theirs = keras.metrics.MeanIoU(5, ignore_class=255, sparse_y_pred=True)
    theirs.update_state(LABELS, OUTSIDE)
    ours = confusion_matrix(LABELS, OUTSIDE, 5, void_predictions="drop")
    np.testing.assert_array_equal(ours, theirs.total_cm)
    assert float(theirs.result()) == pytest.approx(scores(ours)["mean_iou"], rel=1e-6)


def test_a_prediction_under_void_does_not_matter():
    """Whatever is predicted where the label is void, the counts are the same."""
    for value in (0, 4, 5, 255):
        predicted = np.where(LABELS == 255, value, PREDICTED).astype("uint8")
        for rule in ("error", "miss", "drop"):
            found = confusion_matrix(LABELS, predicted, 5, void_predictions=rule)
            assert found[:, :5].tolist() == MATRIX
            metric = ConfusionMatrix(5, void_predictions=rule)
            metric.update_state(LABELS, predicted)
            assert metric.counts()["matrix"][:, :5].tolist() == MATRIX


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
        ((np.ones((2, 4), int),), "K, K"),
        ((np.ones((3, 2), int),), "K, K"),
        ((np.ones(4, int),), "K, K"),
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
    (DiceScore, "mean_f1"),
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

    def test_empty_batch(self, cls, name):
        metric = cls(5)
        metric.update_state(np.zeros((0, 4, 4), "uint8"), np.zeros((0, 4, 4, 5), "float32"))
        assert math.isnan(metric.result())

    def test_config_round_trip(self, cls, name):
        metric = cls(2, 7, void_predictions="miss", threshold=0.5, name="mine")
        config = keras.saving.serialize_keras_object(metric)
        again = keras.saving.deserialize_keras_object(config)
        assert keras.saving.serialize_keras_object(again) == config
        assert (again.num_classes, again.ignore_label, again.name) == (2, 7, "mine")
        assert (again.void_predictions, again.threshold) == ("miss", 0.5)


def logits_of(ids, dtype="float32"):
    return np.eye(5, dtype=dtype)[ids]


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_logits(dtype):
    metric = ConfusionMatrix(5)
    metric.update_state(LABELS, logits_of(PREDICTED, dtype))
    assert metric.counts()["matrix"].tolist() == MATRIX


def test_one_output_for_two_classes():
    """Logits and probabilities, each with its threshold; NumPy's counts of the same decision."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 7, 1)).astype("float32")
    logits[0, 0, 0] = 0  # just not class 1, as the argmax of the logits [0, 0]
    labels = rng.choice([0, 1, 255], (2, 5, 7)).astype("uint8")
    expected = confusion_matrix(labels, (logits[..., 0] > 0).astype("uint8"), 2)
    two = np.concatenate([np.zeros_like(logits), logits], -1)
    for outputs, threshold in (
        (logits, 0.0),
        (logits.astype("float16"), 0.0),
        (1 / (1 + np.exp(-logits)), 0.5),
        (two, None),
        (two, 0.0),
    ):
        metric = ConfusionMatrix(2, threshold=threshold)
        metric.update_state(labels, outputs)
        assert metric.counts()["matrix"].tolist() == expected.tolist()
    foreground = MeanIoU(2, threshold=0.0, classes=[1])
    assert float(foreground(labels, logits)) == pytest.approx(scores(expected)["iou"][1], rel=1e-6)

    with pytest.raises(ValueError, match="threshold=0.0 .logits. or threshold=0.5"):
        MeanIoU(2).update_state(labels, logits)
    with pytest.raises(ValueError, match="two classes apart, not 3"):
        MeanIoU(3, threshold=0.5)


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
    with pytest.raises(ValueError, match="'drop', 'error', 'miss'|drop, error, miss"):
        confusion_matrix(LABELS, PREDICTED, 5, void_predictions="skip")
    for options in (
        {"num_classes": 1},
        {"absent": "drop"},
        {"classes": [5]},
        {"ignore_label": "v"},
        {"void_predictions": "ignore"},
    ):
        with pytest.raises(ValueError):
            MeanIoU(**{"num_classes": 5, **options})


@pytest.mark.parametrize("classes", [3, "present", [1.7], []])
def test_classes_that_are_no_list_of_ids(classes):
    text = "classes must be None for all or a list of ids from 0 to 4, got"
    with pytest.raises(ValueError, match=text):
        MeanIoU(5, classes=classes)
    with pytest.raises(ValueError, match=text):
        scores(np.eye(5, dtype=int), classes=classes)


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
