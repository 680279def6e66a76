"""The ADE20K score, pinned by the official code on the fixture of test_confusion.py."""

import math

import keras
import numpy as np
import pytest
from maps import LABELS, MATRIX, PREDICTED

from keras_seg.metrics import ADE20KScore, ade20k_confusion_matrix, ade20k_score


@pytest.mark.parametrize(("absent", "value"), [("zero", 0.582197), ("skip", 0.631155)])
def test_score(absent, value):
    assert ade20k_score(np.array(MATRIX), absent) == pytest.approx(value, abs=1e-6)
    metric = ADE20KScore(5, absent=absent)
    assert float(metric(LABELS, PREDICTED)) == pytest.approx(value, abs=1e-6)


def test_ids_of_the_files():
    """0 is unlabeled, classes start at 1; a pixel predicted as 0 is missed."""
    files = np.where(LABELS == 255, 0, LABELS + 1)
    matrix = ade20k_confusion_matrix(files, PREDICTED + 1, 5)
    assert matrix.tolist() == [[*row, 0] for row in MATRIX]
    assert ade20k_score(matrix) == pytest.approx(0.582197, abs=1e-6)
    np.testing.assert_array_equal(files.astype("uint8") - np.uint8(1), LABELS)

    predicted = PREDICTED + 1
    predicted[0, 0, 0] = 0  # was right
    found = ade20k_confusion_matrix(files, predicted, 5)
    assert found[0].tolist() == [4, 2, 0, 0, 0, 1]
    # By hand: the union of class 0 is still 8, so that its IoU goes from 5/8 to 4/8.
    assert ade20k_score(found) == pytest.approx(0.582197 - (1 / 22 + 1 / 40) / 2, abs=1e-6)


def test_official_code():
    """What it computes, in the words of its paper: sums over the data set, then means over 150."""
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 151, (2, 4, 30, 20))
    predicted = np.where(rng.random(labels.shape) < 0.5, labels, predicted)
    intersection, union = np.zeros(150), np.zeros(150)
    for truth, guess in zip(labels, np.where(labels == 0, 0, predicted), strict=True):
        for c in range(1, 151):
            intersection[c - 1] += ((truth == c) & (guess == c)).sum()
            union[c - 1] += ((truth == c) | (guess == c)).sum()
    accuracy = ((labels == predicted) & (labels > 0)).sum() / (labels > 0).sum()
    expected = (accuracy + (intersection / np.maximum(union, 1e-10)).mean()) / 2
    assert ade20k_score(ade20k_confusion_matrix(labels, predicted)) == pytest.approx(expected)


def test_bad_input():
    with pytest.raises(ValueError, match="integer"):
        ade20k_confusion_matrix(np.ones((2, 2)), np.ones((2, 2), int))
    with pytest.raises(ValueError, match="labels"):
        ade20k_confusion_matrix(np.full((2, 2), 151), np.ones((2, 2), int))
    assert math.isnan(ade20k_score(np.zeros((3, 3), int)))
    assert math.isnan(ADE20KScore().result())


def test_config():
    metric = ADE20KScore(7, -1, absent="skip")
    config = keras.saving.serialize_keras_object(metric)
    again = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(again) == config
    assert ADE20KScore().num_classes == 150
