"""Scores of single images and their means, pinned by hand and against NumPy."""

import math

import keras
import numpy as np
import pytest
from maps import LABELS, PREDICTED

from keras_seg.metrics import (
    PerImageDiceScore,
    PerImageMeanIoU,
    confusion_matrix,
    scores_per_image,
)

NAN = math.nan


def matrices_of(labels, predicted, num_classes, **options):
    pairs = zip(labels, predicted, strict=True)
    return [confusion_matrix(t, p, num_classes, **options) for t, p in pairs]


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({}, 0.568056),
        ({"absent": "truth_only"}, 0.641667),
        ({"absent": "zero"}, (1.766667 + 2.083333) / 10),
        ({"absent": "one"}, (2.766667 + 4.083333) / 10),
        ({"classes": [3]}, 0),  # undefined in the second image
    ],
)
def test_mean_iou(options, value):
    found = scores_per_image(matrices_of(LABELS, PREDICTED, 5), **options)
    assert found["mean_iou"] == pytest.approx(value, abs=1e-6)
    assert float(PerImageMeanIoU(5, **options)(LABELS, PREDICTED)) == pytest.approx(value, abs=1e-6)


def test_all_scores():
    found = scores_per_image(matrix for matrix in matrices_of(LABELS, PREDICTED, 5))
    assert found["pixel_accuracy"] == pytest.approx((0.727273 + 0.818182) / 2, abs=1e-6)
    # The images have the IoU [.6, 2/3, .5, 0, -] and [2/3, 2/3, .75, -, -].
    assert found["iou"] == pytest.approx([0.633333, 0.666667, 0.625, 0, NAN], nan_ok=True, abs=1e-6)
    dice = [2 * iou / (1 + iou) for iou in (0.6, 2 / 3, 0.5, 0, 2 / 3, 2 / 3, 0.75)]
    dice = (sum(dice[:4]) / 4 + sum(dice[4:]) / 3) / 2
    assert found["mean_f1"] == pytest.approx(dice, abs=1e-6)
    assert float(PerImageDiceScore(5)(LABELS, PREDICTED)) == pytest.approx(dice, abs=1e-6)
    assert (found["pixels"], found["images"]) == (22, 2)


def random_images(seed, count=23, num_classes=4):
    """Label maps (some wholly ignored) and predictions, (count, 5, 6)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, (count, 5, 6)).astype("uint8")
    labels[rng.random(labels.shape) < 0.2] = 255
    labels[rng.random(count) < 0.2] = 255
    predicted = np.where(rng.random(labels.shape) < 0.5, labels, 0)
    return labels, np.where(predicted == 255, num_classes - 1, predicted)


@pytest.mark.parametrize(
    ("cls", "name"), [(PerImageMeanIoU, "mean_iou"), (PerImageDiceScore, "mean_f1")]
)
@pytest.mark.parametrize("absent", ["skip", "zero", "one", "truth_only"])
def test_batches_do_not_matter(cls, name, absent):
    labels, predicted = random_images(0)
    expected = scores_per_image(matrices_of(labels, predicted, 4), absent)
    assert 0 < expected["images"] < len(labels)
    metric, values = cls(4, absent=absent), []
    for size in (1, 4, 23):
        metric.reset_state()
        for start in range(0, len(labels), size):
            metric.update_state(labels[start : start + size], predicted[start : start + size])
        values.append(float(metric.result()))
    assert len(set(values)) == 1  # to the last bit
    assert values[0] == pytest.approx(expected[name], rel=1e-6)


@pytest.mark.parametrize("rule", ["miss", "drop"])
def test_void_predictions(rule):
    labels, predicted = random_images(2)
    predicted[::2, :2] = 200
    matrices = matrices_of(labels, predicted, 4, void_predictions=rule)
    expected = scores_per_image(matrices)["mean_iou"]
    metric = PerImageMeanIoU(4, void_predictions=rule)
    assert float(metric(labels, predicted)) == pytest.approx(expected, rel=1e-6)


def test_images_of_many_sizes_are_padded_with_ignored_labels():
    labels, predicted = random_images(1)
    pad = ((0, 0), (0, 3), (2, 0))
    padded = np.pad(labels, pad, constant_values=255), np.pad(predicted, pad)
    assert float(PerImageMeanIoU(4)(*padded)) == float(PerImageMeanIoU(4)(labels, predicted))


@pytest.mark.parametrize("cls", [PerImageMeanIoU, PerImageDiceScore])
def test_no_pixels_is_nan(cls):
    assert math.isnan(cls(3).result())
    assert math.isnan(cls(3)(np.full((2, 4, 4), 255), np.zeros((2, 4, 4), int)))
    assert math.isnan(cls(3)(np.zeros((0, 4, 4), int), np.zeros((0, 4, 4), int)))
    found = scores_per_image([np.zeros((3, 3), int)] * 2)
    assert (found["images"], found["pixels"]) == (0, 0)
    assert math.isnan(found["mean_iou"]) and np.isnan(found["iou"]).all()
    config = keras.saving.serialize_keras_object(cls(3, -1, absent="one", classes=[1]))
    again = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(again) == config


@pytest.mark.parametrize("jit", [False, True])
def test_in_a_graph(jit):
    import tensorflow as tf

    metric = PerImageMeanIoU(5)
    update = tf.function(metric.update_state, jit_compile=jit, reduce_retracing=True)
    logits = np.eye(5, dtype="float16")[PREDICTED]
    update(tf.constant(LABELS), tf.constant(logits))
    assert float(metric.result()) == pytest.approx(0.568056, abs=1e-6)
    update(tf.constant(LABELS[:1] + 20), tf.constant(logits[:1]))
    assert math.isnan(metric.result())
    metric.reset_state()
    update(tf.constant(LABELS[1:]), tf.constant(logits[1:]))
    assert float(metric.result()) == pytest.approx((4 / 3 + 0.75) / 3, abs=1e-6)


def test_errors():
    with pytest.raises(ValueError, match="labels .* 9"):
        PerImageMeanIoU(5).update_state(LABELS * 0 + 9, PREDICTED)
    with pytest.raises(ValueError, match="sample weights"):
        PerImageMeanIoU(5).update_state(LABELS, PREDICTED, [1, 2])
    for matrices in ([], [np.eye(2, dtype=int), np.eye(3, dtype=int)]):
        with pytest.raises(ValueError, match="one confusion matrix an image"):
            scores_per_image(matrices)
