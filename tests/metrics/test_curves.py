"""Average precision of pixels against its definition and scikit-learn's own example."""

import math

import numpy as np
import pytest

from keras_seg.metrics import precision_recall, probability_histogram


def average_precision(truth, scores):
    """From the definition, threshold by threshold."""
    ap, before = 0, 0
    for threshold in np.unique(scores)[::-1]:
        predicted = scores >= threshold
        recall = (truth & predicted).sum() / truth.sum()
        ap += (recall - before) * (truth & predicted).sum() / predicted.sum()
        before = recall
    return ap


def test_the_example_of_scikit_learn():
    """`average_precision_score` of its documentation: 0.83."""
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    histogram = probability_histogram(np.array([0, 0, 1, 1]), np.stack([1 - scores, scores], -1))
    assert precision_recall(histogram)["average_precision"][1] == pytest.approx(5 / 6)


def test_average_precision_is_exact_where_bins_separate_the_probabilities():
    rng = np.random.default_rng(0)
    probabilities = rng.integers(0, 65, (6, 10, 3)) / 64
    labels = rng.choice([0, 1, 255], (6, 10))
    parts = [probability_histogram(t, p) for t, p in zip(labels, probabilities, strict=True)]
    found = precision_recall(sum(parts))
    valid = labels != 255
    expected = [average_precision(labels[valid] == c, probabilities[valid][:, c]) for c in (0, 1)]
    assert found["average_precision"][:2] == pytest.approx(expected)
    assert math.isnan(found["average_precision"][2])
    assert found["mean_average_precision"] == pytest.approx(np.mean(expected))
    assert (found["recall"][:2, -1] == 1).all()
    assert found["precision"][0, -1] == pytest.approx((labels == 0).sum() / valid.sum())
    at_half = np.flatnonzero(found["thresholds"] == 0.5)[0]
    chosen = valid & (probabilities[..., 1] >= 0.5)
    assert found["precision"][1, at_half] == pytest.approx((labels[chosen] == 1).mean())


def test_nothing_to_score():
    found = precision_recall(probability_histogram(np.full((2, 2), 255), np.ones((2, 2, 3))))
    assert math.isnan(found["mean_average_precision"])


def test_bad_probabilities():
    with pytest.raises(ValueError, match="within 0..1, got -1.0..2.0; logits need a softmax"):
        probability_histogram(np.array([0, 1]), np.array([[2.0, 0], [-1, 0]]))
    with pytest.raises(ValueError, match="within 0..1"):
        probability_histogram(np.array([0]), np.array([[math.nan, 0]]))
    with pytest.raises(ValueError, match="differ in shape"):
        probability_histogram(np.array([0]), np.zeros((2, 2)))
