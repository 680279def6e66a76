"""Our scores beside scikit-learn's on random label maps."""

import numpy as np
import pytest

from keras_seg.metrics import confusion_matrix, scores


@pytest.fixture
def sklearn():
    from sklearn import metrics

    return metrics


def random_maps(seed):
    """Labels (with 255), predictions and K: classes that are rare, absent or never predicted."""
    rng = np.random.default_rng(seed)
    num_classes = int(rng.integers(2, 30))
    share = rng.dirichlet(np.full(num_classes, 0.2))
    shape = tuple(rng.integers(3, 60, 2))
    labels = rng.choice(num_classes, shape, p=share)
    predicted = np.where(rng.random(shape) < 0.6, labels, rng.choice(num_classes, shape))
    labels[rng.random(shape) < 0.1] = 255
    return labels.astype("uint8"), predicted, num_classes


@pytest.mark.parametrize("seed", range(12))
def test_same_as_scikit_learn(seed, sklearn):
    labels, predicted, num_classes = random_maps(seed)
    counted = labels != 255
    truth, guess = labels[counted], predicted[counted]
    classes = list(range(num_classes))

    matrix = confusion_matrix(labels, predicted, num_classes)
    np.testing.assert_array_equal(matrix, sklearn.confusion_matrix(truth, guess, labels=classes))
    ours, zero = scores(matrix), scores(matrix, "zero")

    def same(name, value, found=ours):
        assert np.nan_to_num(found[name]) == pytest.approx(value, rel=1e-12, abs=1e-15), name

    def jaccard(**options):
        return sklearn.jaccard_score(truth, guess, zero_division=0, **options)

    same("pixel_accuracy", sklearn.accuracy_score(truth, guess))
    same("iou", jaccard(average=None, labels=classes))
    same("mean_iou", jaccard(average="macro"))
    same("mean_iou", jaccard(average="macro", labels=classes), zero)
    same("micro_iou", jaccard(average="micro"))
    same("frequency_weighted_iou", jaccard(average="weighted"))
    each = sklearn.precision_recall_fscore_support(
        truth, guess, labels=classes, average=None, zero_division=0
    )
    for name, values in zip(("precision", "recall", "f1"), each[:3], strict=True):
        same(name, values)
        same(f"mean_{name}", values.mean(), zero)
    same("mean_accuracy", each[1][each[3] > 0].mean())
    same("kappa", sklearn.cohen_kappa_score(truth, guess))
    same("matthews", sklearn.matthews_corrcoef(truth, guess))


@pytest.mark.parametrize("seed", range(4))
def test_missed_pixels(seed, sklearn):
    """A pixel predicted as no class is, to scikit-learn, one of a class that is never true."""
    labels, predicted, num_classes = random_maps(seed)
    rng = np.random.default_rng(seed)
    predicted[rng.random(labels.shape) < 0.2] = num_classes
    counted = labels != 255
    truth, guess = labels[counted], predicted[counted]
    matrix = confusion_matrix(labels, predicted, num_classes, void_predictions="miss")
    ours, classes = scores(matrix, "zero"), range(num_classes)
    options = {"labels": list(classes), "zero_division": 0}
    assert ours["mean_iou"] == pytest.approx(
        sklearn.jaccard_score(truth, guess, average="macro", **options)
    )
    assert ours["mean_f1"] == pytest.approx(
        sklearn.f1_score(truth, guess, average="macro", **options)
    )
    assert ours["pixel_accuracy"] == pytest.approx(sklearn.accuracy_score(truth, guess))
    assert ours["kappa"] == pytest.approx(sklearn.cohen_kappa_score(truth, guess))
    assert ours["matthews"] == pytest.approx(sklearn.matthews_corrcoef(truth, guess))
