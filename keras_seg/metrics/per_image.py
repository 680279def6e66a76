"""Scores of every image on its own, averaged over the images: in NumPy and as Keras metrics."""

import keras
import numpy as np
from keras import ops

from keras_seg.metrics.confusion import PixelMetric, integer_state, scores, sort_pixels


def scores_per_image(matrices, absent="skip", classes=None):
    """Scores of every image on its own, then their means over the images.

    An image without any pixel that counts is left out, and so is an image from the mean of a
    score that it does not have (the IoU of a class that is not there).

    Args:
        matrices: one confusion matrix an image, of one shape; any iterable.
        absent, classes: as in `scores`.

    Returns:
        The dict of `scores`, with "pixels" their sum, and "images", the number that counted. So
        "mean_iou" is the mean over the images of each one's mean IoU, "mean_f1" that of Dice.

    Raises:
        ValueError: as `scores`; matrices of different shapes.
    """
    found, shapes = [], set()
    for matrix in matrices:  # one at a time: those of 150 classes take up room
        shapes.add(np.shape(matrix))
        found.append(scores(matrix, absent, classes))
    if len(shapes) != 1:
        raise ValueError(f"Give one confusion matrix an image, of one shape; got {sorted(shapes)}.")
    counted = [result for result in found if result["pixels"]] or found[:1]

    def mean(values):
        values = np.array(values, "float64")
        there = ~np.isnan(values)
        total, count = np.where(there, values, 0.0).sum(axis=0), there.sum(axis=0)
        return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)

    means = {name: mean([result[name] for result in counted]).tolist() for name in counted[0]}
    pixels = sum(result["pixels"] for result in found)
    return {**means, "pixels": pixels, "images": len(counted) if pixels else 0}


# A score is counted in steps of 2**-24, as float32 has them, and the sum kept as two digits to the
# base 2**12: it is exact, whatever the number, order and batches of the images. A batch may hold
# up to 2**18 images.
SCALE, DIGIT = 2**24, 2**12


class PerImageMetric(PixelMetric):
    """Mean over the images of each image's own mean over its classes.

    Input and arguments: `PixelMetric`. An image without any pixel that counts is left out. The
    value does not depend on how the images are put into batches and spread over replicas. Within a
    batch all images have one size; smaller ones are padded with ignored labels, which changes
    nothing.
    """

    def __init__(self, num_classes, ignore_label=255, *, name=None, **options):
        super().__init__(num_classes, ignore_label, name=name, **options)
        # Two digits of the sum, the number of images that count, and of those with illegal pixels.
        self._state = self.add_variable(
            shape=(4,), initializer="zeros", dtype=integer_state(), aggregation="sum", name="sums"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        cells = self._cells(*sort_pixels(self, y_true, y_pred, sample_weight))
        count, size = ops.shape(cells)[0], self.num_classes * self._columns + 2
        cells = cells + size * ops.reshape(ops.arange(count, dtype="int32"), (-1, 1, 1))
        cells = ops.reshape(cells, (-1,))
        counts = ops.segment_sum(ops.ones_like(cells), cells, num_segments=count * size)
        counts = ops.cast(ops.reshape(counts, (-1, size)), "float32")
        matrices = ops.reshape(counts[:, :-2], (-1, self.num_classes, self._columns))

        total, classes = self._mean(self.score, *self._sums(matrices))
        illegal = counts[:, -1] > 0
        there = ops.logical_and(classes > 0, ops.logical_not(illegal))
        values = ops.where(there, total / ops.maximum(classes, 1.0), 0.0)
        steps = ops.cast(ops.round(values * SCALE), "int32")
        sums = (
            ops.sum(steps % DIGIT),
            ops.sum(steps // DIGIT),
            ops.sum(ops.cast(there, "int32")),
            ops.sum(ops.cast(illegal, "int32")),
        )
        low, high, images, bad = (ops.cast(x, self._state.dtype) for x in sums)
        carry = (self._state[0] + low) // DIGIT
        self._state.assign_add(ops.stack([low - carry * DIGIT, high + carry, images, bad]))

    def result(self):
        low, high, images, bad = ops.unstack(ops.cast(self._state, "float32"), 4)
        return self._finish((high * DIGIT + low) / SCALE, images, bad)


@keras.saving.register_keras_serializable("keras_seg")
class PerImageMeanIoU(PerImageMetric):
    """Mean over the images of their own mean IoU. Input and arguments: `PerImageMetric`."""

    score = "iou"

    def __init__(self, num_classes, ignore_label=255, *, name="per_image_mean_iou", **options):
        super().__init__(num_classes, ignore_label, name=name, **options)


@keras.saving.register_keras_serializable("keras_seg")
class PerImageDiceScore(PerImageMetric):
    """Mean over the images of their own mean F1 (Dice). Input and arguments: `PerImageMetric`."""

    score = "f1"

    def __init__(self, num_classes, ignore_label=255, *, name="per_image_dice", **options):
        super().__init__(num_classes, ignore_label, name=name, **options)
