"""Scores of labels that do not exclude each other: for each pixel K questions of yes or no.

Each label is scored by its own TP, FP and FN: IoU TP / (TP + FP + FN), precision TP / (TP + FP),
recall TP / (TP + FN), F1 (Dice) 2 TP / (2 TP + FP + FN). True negatives count for nothing.
"""

import keras
import numpy as np
from keras import ops

from keras_seg.layers.labels import (
    check_legal,
    check_same_size,
    sort_labels,
    standardize_ignore_label,
)
from keras_seg.metrics.confusion import (
    PixelMetric,
    check_pixels,
    included_classes,
    mean_score,
    scores,
)

SCORES = ("iou", "f1", "precision", "recall")


def multilabel_confusion_matrix(labels, predictions, ignore_label=255):
    """Count for each label the pixels that truly have it or not, and are predicted to or not.

    Args:
        labels: integers (..., K): 0, 1 or ignored.
        predictions: integers of the same shape, 0 or 1 wherever the label is not ignored.
        ignore_label: id, list of ids or None; such a label of a pixel does not count.

    Returns:
        int64 (K, 2, 2), of each label the confusion matrix of no (0) and yes (1), rows the truth.

    Raises:
        ValueError: no integers, different shapes, other values.
    """
    labels, predictions, counted = check_pixels(labels, predictions, 2, ignore_label)
    if labels.ndim == 0:
        raise ValueError("Give arrays (..., K) of K labels, not a single number.")
    size = labels.shape[-1]
    cells = 4 * np.arange(size) + 2 * labels.astype("int64") + predictions
    return np.bincount(cells[counted], minlength=4 * size).reshape(size, 2, 2)


def multilabel_scores(matrices, absent="skip", classes=None):
    """Scores of each label and their means.

    Args:
        matrices: integers (K, 2, 2) of `multilabel_confusion_matrix`, summed over all images.
        absent: what means do with an undefined score; see `keras_seg.metrics.confusion`.
        classes: the labels that means go over, None for all.

    Returns:
        Dict of lists of K floats, "iou", "f1", "precision" and "recall", NaN where undefined, and
        of their means "mean_iou" and so on.

    Raises:
        ValueError: other matrices, unknown `absent` or labels.
    """
    matrices = np.asarray(matrices)
    if matrices.ndim != 3 or matrices.shape[1:] != (2, 2):
        raise ValueError(f"Give confusion matrices (K, 2, 2), got {matrices.shape}.")
    included = included_classes(classes, len(matrices), absent)
    found = [scores(matrix) for matrix in matrices]
    truth, pixels = matrices[:, 1].sum(axis=-1), matrices.sum()
    result = {name: [of_label[name][1] for of_label in found] for name in SCORES}
    means = {
        f"mean_{name}": mean_score(np.array(values), truth, included, absent) if pixels else np.nan
        for name, values in result.items()
    }
    return {**means, **result}


@keras.saving.register_keras_serializable("keras_seg")
class MultiLabelScores(PixelMetric):
    """Mean IoU, F1, precision and recall of labels that do not exclude each other.

    `update_state(labels, predictions)` takes integer labels (N, H, W, K), 0, 1 or ignored, and
    logits or probabilities (N, H, W, K), or 0 and 1 as integers of that shape. Its result is the
    dict {"mean_iou", "mean_f1", "mean_precision", "mean_recall"}; `scores()` gives those of the
    single labels too. What is illegal, and NaN: see `PixelMetric`.

    Args:
        num_classes: K labels.
        ignore_label: id, list of ids or None; such a label of a pixel does not count.
        threshold: a label is predicted where the output is more: 0.0 for logits, 0.5 for
            probabilities.
        absent, classes, name, dtype: as in `PixelMetric`.

    Raises:
        ValueError: as `PixelMetric`.
    """

    def __init__(
        self,
        num_classes,
        ignore_label=255,
        *,
        threshold,
        absent="skip",
        classes=None,
        name="multi_label_scores",
        dtype=None,
    ):
        super().__init__(
            num_classes, ignore_label, absent=absent, classes=classes, name=name, dtype=dtype
        )
        self.threshold = float(threshold)
        self._add_counter(4 * self.num_classes)

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError(
                f"{self.name} counts pixels and takes no sample weights: leave labels out with "
                f"the ignore label {self.ignore_label}."
            )
        size, ignored = self.num_classes, standardize_ignore_label(self.ignore_label)
        ids, valid, illegal = sort_labels(y_true, 2, ignored, channels=size)
        check_legal(y_true, illegal, 2, self.ignore_label)
        y_pred = ops.convert_to_tensor(y_pred)
        if "int" in keras.backend.standardize_dtype(y_pred.dtype):
            predicted, known, _ = sort_labels(y_pred, 2, (), channels=size, what="predictions")
            wrong = ops.logical_and(valid, ops.logical_not(known))
            check_legal(y_pred, wrong, 2, None, "predictions")
            illegal = ops.logical_or(illegal, wrong)
        elif len(y_pred.shape) == 4 and y_pred.shape[-1] == size:
            predicted = ops.cast(y_pred > self.threshold, "int32")
        else:
            raise ValueError(
                f"{self.name} takes logits or probabilities (N, H, W, {size}), or 0 and 1 as "
                f"integers, got {tuple(y_pred.shape)}."
            )
        check_same_size(ids, predicted, "predictions")
        cells = 4 * ops.arange(size, dtype="int32") + 2 * ids + predicted
        cells = ops.where(valid, cells, 4 * size)
        self._add(ops.where(illegal, 4 * size + 1, cells))

    def counts(self):
        """{"matrix": int64 (K, 2, 2) array, "ignored": int, "illegal": int}."""
        counts = self._exact_counts()
        return {
            "matrix": counts[:-2].reshape(self.num_classes, 2, 2),
            "ignored": int(counts[-2]),
            "illegal": int(counts[-1]),
        }

    def scores(self):
        """`multilabel_scores` in float64. Raises ValueError when illegal pixels were seen."""
        counts = self.counts()
        self._check_no_illegal(counts["illegal"], 2)
        return multilabel_scores(counts["matrix"], self.absent, self.classes)

    def result(self):
        counts, illegal = self._float_counts()
        matrices = ops.reshape(counts, (self.num_classes, 2, 2))
        tp, truth = matrices[:, 1, 1], ops.sum(matrices[:, 1], axis=-1)
        sums = tp, truth, ops.sum(matrices[:, :, 1], axis=-1), ops.sum(matrices)
        return {f"mean_{s}": self._finish(*self._mean(s, *sums), illegal) for s in SCORES}

    def get_config(self):
        config = super().get_config()
        del config["void_predictions"]
        return config
