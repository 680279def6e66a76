"""Cityscapes scores, pinned by cityscapesScripts 2.3.0 (run again in test_cityscapes_judge.py)."""

import math

import numpy as np
import pytest

from keras_seg.metrics import (
    CityscapesScores,
    MeanIoU,
    format_cityscapes,
    scores,
    train_ids_to_label_ids,
)
from keras_seg.metrics.cityscapes import CLASSES, LABEL_IDS

LABELS = np.array(
    [
        [23] * 8,
        [1, 7, 7, 7, 7, 7, 7, 7],
        [7, 26, 26, 7, 24, 7, 7, 7],
        [7, 26, 26, 7, 24, 7, 7, 7],
        [7, 7, 7, 7, 24, 26, 26, 7],
        [7] * 7 + [26],
    ],
    "uint8",
)
INSTANCES = LABELS.astype("uint16")
INSTANCES[2:4, 1:3], INSTANCES[4, 5:7], INSTANCES[2:5, 4] = 26000, 26001, 24000  # (5, 7): a group
PREDICTED = LABELS.copy()
for place, label in {
    (0, 0): 11,
    (1, 0): 7,
    (1, 1): 24,
    (2, 1): 28,
    (2, 4): 25,
    (3, 2): 7,
    (4, 6): 25,
    (5, 0): 26,
    (5, 1): 9,
}.items():
    PREDICTED[place] = label

CLASS_IOU = {"road": 0.866667, "building": 0, "sky": 0.875, "person": 0.5, "rider": 0, "car": 0.5}
EXPECTED = {
    "class_iou": CLASS_IOU | {"bus": 0},
    "class_iiou": {"person": 0.666474, "rider": 0, "car": 0.499980, "bus": 0},
    "category_iou": {
        "flat": 0.866667,
        "construction": 0,
        "sky": 0.875,
        "human": 0.6,
        "vehicle": 0.625,
    },
    "category_iiou": {"human": 0.999423, "vehicle": 0.624976},
}
MEANS = {
    "mean_class_iou": 0.391667,
    "mean_class_iiou": 0.291614,
    "mean_category_iou": 0.593333,
    "mean_category_iiou": 0.812199,
}


@pytest.fixture
def found():
    found = CityscapesScores()
    found.update(LABELS, PREDICTED, INSTANCES)
    return found


def test_scores(found):
    result = found.result()
    for name, expected in EXPECTED.items():
        defined = {key: value for key, value in result[name].items() if not math.isnan(value)}
        assert defined == pytest.approx(expected, abs=1e-6), name
    assert {name: result[name] for name in MEANS} == pytest.approx(MEANS, abs=1e-6)
    lengths = [len(result[name]) for name in EXPECTED]
    assert lengths == [19, 8, 7, 2]
    assert result["images"] == 1


def test_perfect():
    found = CityscapesScores()
    found.update(LABELS, LABELS, INSTANCES)
    result = found.result()
    # The pixel of the group counts in no iTP, nor is it an error.
    assert [result[name] for name in MEANS] == [1, 1, 1, 1]


def test_class_iou_is_the_mean_iou_of_train_ids():
    """Where only the 19 classes are predicted; so `fit` watches it with MeanIoU(19)."""
    rng = np.random.default_rng(0)
    train_ids = rng.choice([*range(19), 255], (2, 9, 8)).astype("uint8")
    predicted = rng.integers(0, 19, (2, 9, 8))
    found = CityscapesScores()
    for label, prediction in zip(train_ids, predicted, strict=True):
        found.update(train_ids_to_label_ids(label), train_ids_to_label_ids(prediction))
    metric = MeanIoU(19)
    metric.update_state(train_ids, predicted)
    result = found.result()
    assert result["mean_class_iou"] == pytest.approx(metric.scores()["mean_iou"], rel=1e-12)
    assert list(result["class_iou"].values()) == pytest.approx(metric.scores()["iou"], nan_ok=True)
    assert result["class_iou"] == pytest.approx(
        dict(zip(CLASSES, scores(found.matrix[np.ix_(LABEL_IDS, LABEL_IDS)])["iou"], strict=True))
    )
    assert math.isnan(result["mean_class_iiou"])  # no instances were given


def test_merge(found):
    """Parts of the images, counted in several processes, give what one process does."""
    rng = np.random.default_rng(0)
    noise = rng.choice([7, 9, 24, 26, 29], LABELS.shape)
    parts = [CityscapesScores(), CityscapesScores()]
    parts[0].update(LABELS, PREDICTED, INSTANCES)
    parts[1].update(LABELS, noise, INSTANCES)
    found.update(LABELS, noise, INSTANCES)
    total = CityscapesScores()
    for part in parts:
        total.merge(part)
    np.testing.assert_array_equal(total.matrix, found.matrix)
    np.testing.assert_equal(total.result(), found.result())
    plain = CityscapesScores()
    plain.update(LABELS, noise)
    with pytest.raises(ValueError, match="instances"):
        total.merge(plain)


def test_nothing_is_nan():
    result = CityscapesScores().result()
    assert all(math.isnan(result[name]) for name in MEANS)
    assert result["images"] == 0


def test_train_ids():
    ids = train_ids_to_label_ids(np.arange(19))
    assert ids.tolist() == [*(7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23), *range(24, 29), 31, 32, 33]
    assert ids.dtype == np.uint8
    assert train_ids_to_label_ids(np.array([[255, 0]], "uint8")).tolist() == [[0, 7]]
    for bad, match in (([19], "not 19"), ([-1], "not -1"), ([0.5], "integers")):
        with pytest.raises(ValueError, match=match):
            train_ids_to_label_ids(np.array(bad))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            (LABELS, np.where(PREDICTED == 9, 34, PREDICTED), INSTANCES),
            "predictions of Cityscapes are 0 .. 33, not 34",
        ),
        ((np.where(LABELS == 1, -1, LABELS.astype(int)), PREDICTED, INSTANCES), "label ids.* -1"),
        ((LABELS, PREDICTED.astype(float), INSTANCES), "integers"),
        ((LABELS, PREDICTED[:3], INSTANCES), "one shape"),
        ((LABELS[None], PREDICTED[None], INSTANCES[None]), "one shape"),
        ((LABELS, PREDICTED, INSTANCES[:3]), "differ in shape"),
        ((LABELS, PREDICTED, INSTANCES.astype(float)), "integers"),
        ((LABELS, PREDICTED, INSTANCES[::-1]), "not of this image"),
        ((LABELS, PREDICTED), "all images or for none"),
    ],
)
def test_bad_input_changes_nothing(found, arguments, match):
    before = found.result()
    with pytest.raises(ValueError, match=match):
        found.update(*arguments)
    np.testing.assert_equal(found.result(), before)


def test_table(found):
    text = format_cityscapes(found.result())
    lines = [line.split() for line in text.splitlines()]
    assert ["road", "0.8667", "-"] in lines
    assert ["car", "0.5000", "0.5000"] in lines
    assert ["train", "-", "-"] in lines
    assert ["human", "0.6000", "0.9994"] in lines
    assert ["mean", "0.3917", "0.2916"] in lines
    assert ["mean", "0.5933", "0.8122"] in lines
    assert lines[-1] == ["1", "images"]
