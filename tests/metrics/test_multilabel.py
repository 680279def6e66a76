"""Scores of labels that do not exclude each other, beside scikit-learn's."""

import math

import keras
import numpy as np
import pytest

from keras_seg.metrics import MultiLabelScores, multilabel_confusion_matrix, multilabel_scores

NAMES = ("mean_iou", "mean_f1", "mean_precision", "mean_recall")


@pytest.fixture(params=range(3))
def maps(request):
    """Labels with ignored ones and logits, (3, 5, 4, 4); label 2 is never true."""
    rng = np.random.default_rng(request.param)
    labels = rng.integers(0, 2, (3, 5, 4, 4)).astype("uint8")
    labels[..., 2] = 0
    labels[rng.random(labels.shape) < 0.2] = 255
    return labels, rng.normal(size=labels.shape).astype("float32")


def test_same_as_scikit_learn(maps):
    from sklearn import metrics as sklearn

    labels, logits = maps
    predicted = (logits > 0).astype("uint8")
    matrices = multilabel_confusion_matrix(labels, predicted)
    found = multilabel_scores(matrices, "zero")
    for k in range(4):
        counted = labels[..., k] != 255
        truth, guess = labels[..., k][counted], predicted[..., k][counted]
        expected = sklearn.confusion_matrix(truth, guess, labels=[0, 1])
        np.testing.assert_array_equal(matrices[k], expected)
        assert found["iou"][k] == pytest.approx(sklearn.jaccard_score(truth, guess))
        assert found["f1"][k] == pytest.approx(sklearn.f1_score(truth, guess))
    whole = np.where(labels == 255, 0, labels).reshape(-1, 4), predicted.reshape(-1, 4)
    matrices = multilabel_confusion_matrix(*whole)
    np.testing.assert_array_equal(matrices, sklearn.multilabel_confusion_matrix(*whole))
    found, options = multilabel_scores(matrices, "zero"), {"average": "macro", "zero_division": 0}
    assert found["mean_iou"] == pytest.approx(sklearn.jaccard_score(*whole, **options))
    assert found["mean_precision"] == pytest.approx(sklearn.precision_score(*whole, **options))


@pytest.mark.parametrize("absent", ["skip", "zero", "one", "truth_only"])
def test_metric(maps, absent):
    labels, logits = maps
    expected = multilabel_scores(
        multilabel_confusion_matrix(labels, (logits > 0).astype(int)), absent, [0, 2, 3]
    )
    for outputs, threshold in (
        (logits, 0.0),
        (1 / (1 + np.exp(-logits)), 0.5),
        ((logits > 0).astype("int32"), 0.5),
    ):
        metric = MultiLabelScores(4, threshold=threshold, absent=absent, classes=[0, 2, 3])
        metric.update_state(labels[:1], outputs[:1])
        metric.update_state(labels[1:], outputs[1:])
        assert {k: float(v) for k, v in metric.result().items()} == pytest.approx(
            {name: expected[name] for name in NAMES}, rel=1e-6
        )
        np.testing.assert_equal(metric.scores(), expected)
        counts = metric.counts()
        assert counts["ignored"] == (labels == 255).sum()
        assert counts["matrix"].sum() == (labels != 255).sum()


def test_nothing_is_nan():
    metric = MultiLabelScores(2, threshold=0.0)
    for labels in (None, np.full((1, 2, 2, 2), 255)):
        if labels is not None:
            metric.update_state(labels, np.ones((1, 2, 2, 2), "float32"))
        assert all(math.isnan(value) for value in metric.result().values())
        assert math.isnan(metric.scores()["mean_iou"])
    metric.update_state(np.zeros((1, 2, 2, 2), int), np.zeros((1, 2, 2, 2), int))
    assert math.isnan(metric.result()["mean_iou"])  # no label there, none predicted
    metric.update_state(np.zeros((1, 2, 2, 2), int), np.ones((1, 2, 2, 2), int))
    assert float(metric.result()["mean_iou"]) == 0


def test_illegal():
    import tensorflow as tf

    labels, outputs = np.full((1, 2, 2, 2), 3), np.zeros((1, 2, 2, 2), "float32")
    metric = MultiLabelScores(2, threshold=0.0)
    with pytest.raises(ValueError, match="labels .* 3"):
        metric.update_state(labels, outputs)
    with pytest.raises(ValueError, match="predictions .* 3"):
        metric.update_state(labels * 0, labels)
    tf.function(metric.update_state)(tf.constant(labels), tf.constant(outputs))
    assert math.isnan(metric.result()["mean_iou"])
    with pytest.raises(ValueError, match="8 pixels.* 0 .. 1 or"):
        metric.scores()
    for bad in (
        (labels[..., 0], outputs),
        (labels * 0, outputs[..., :1]),
        (labels * 0, outputs[:, :1]),
        (labels.astype("float32"), outputs),
        (labels * 0, outputs, [1]),
    ):
        with pytest.raises(ValueError):
            metric.update_state(*bad)
    with pytest.raises(ValueError, match="K, 2, 2"):
        multilabel_scores(np.eye(2, dtype=int))


def test_config():
    metric = MultiLabelScores(3, -1, threshold=0.5, absent="one", classes=[1])
    config = keras.saving.serialize_keras_object(metric)
    again = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(again) == config
