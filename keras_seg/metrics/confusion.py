"""Scores from one integer confusion matrix, in NumPy and as Keras metrics.

M[i, j] counts the pixels of true class i that were predicted as j. With TP the diagonal, T the
sums of the rows and P the sums of the columns of classes:

    pixel accuracy   sum TP / sum M          IoU        TP / (T + P - TP)
    recall, accuracy of a class   TP / T     precision  TP / P
    F1 (Dice)        2 TP / (T + P)          frequency-weighted IoU   sum (T / sum T) IoU

A score of a class whose denominator is 0 is undefined, and `absent` says what a mean does then:

    "skip"        leaves it out (mmsegmentation, Keras, Cityscapes); the default
    "zero"        counts it as 0 (the official ADE20K code)
    "one"         counts it as 1
    "truth_only"  leaves out every class without a true pixel, also one that is predicted

A pixel is void when its label is ignored, and is then left out whatever was predicted (PASCAL VOC,
Cityscapes, ADE20K, mmsegmentation; setting such predictions to the ignore label first, as semseg
does, comes to the same). `void_predictions` says what becomes of a pixel that counts but whose
predicted id is no class:

    "error"   is a mistake: ValueError, or NaN where nothing can be raised; the default
    "miss"    a missed pixel of its true class and a false one of none (Cityscapes, the official
              ADE20K code, mmsegmentation); counted in a column of its own, M is (K, K + 1)
    "drop"    leaves it out like a void one (keras.metrics.MeanIoU)

Pixels are summed over all images first and the scores computed once. Precision is float64 in NumPy
and float32 in the metrics' `result`; the counts are exact in both. Counts of several processes add
up: sum their matrices before `scores`, or give the results of `keras-seg evaluate` to
`merge_results`.
"""

import math
import numbers
from collections.abc import Iterable

import keras
import numpy as np
from keras import ops

from keras_seg.layers.labels import (
    check_legal,
    check_same_size,
    illegal_ids,
    sort_labels,
    standardize_ignore_label,
)
from keras_seg.utils import unknown_name

ABSENT = ("skip", "zero", "one", "truth_only")
VOID_PREDICTIONS = ("error", "miss", "drop")


# --- NumPy ---


def confusion_matrix(labels, predictions, num_classes, ignore_label=255, void_predictions="error"):
    """Count the pixels of true class i and predicted class j.

    Args:
        labels: integers of any shape: class ids, or `ignore_label`.
        predictions: integers of the same shape, class ids wherever the label is not ignored.
        num_classes: K.
        ignore_label: id, list of ids or None.
        void_predictions: "error", "miss" or "drop": what becomes of predicted ids that are no
            class; see the module.

    Returns:
        int64 (K, K), rows the truth; with "miss" (K, K + 1), the last column pixels predicted as
        no class. Matrices of several images add up.

    Raises:
        ValueError: no integers, different shapes, labels that are neither a class nor ignored, and
            with "error" such predictions.
    """
    labels, predictions, counted = check_pixels(
        labels, predictions, num_classes, ignore_label, void_predictions
    )
    labels, predictions = labels[counted], predictions[counted]
    columns = num_classes + (void_predictions == "miss")
    cells = labels.astype("int64") * columns + predictions.astype("int64")
    return np.bincount(cells, minlength=num_classes * columns).reshape(num_classes, columns)


def check_pixels(labels, predictions, num_classes, ignore_label, void_predictions="error"):
    """Arguments of `confusion_matrix` as arrays, and the mask of the pixels that count.

    With "miss" a predicted id that is no class is K, with "drop" its pixel does not count. Raises
    ValueError as `confusion_matrix` says.
    """
    _check_void_predictions(void_predictions)
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    for what, ids in (("labels", labels), ("predictions", predictions)):
        if not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"{what} must be integer class ids, got {ids.dtype}.")
    if labels.shape != predictions.shape:
        raise ValueError(
            f"labels {labels.shape} and predictions {predictions.shape} differ in shape: predict "
            "at the size of the label, do not resize the label."
        )
    counted = ~np.isin(labels, standardize_ignore_label(ignore_label))
    illegal = counted & ((labels < 0) | (labels >= num_classes))
    if illegal.any():
        raise illegal_ids(labels[illegal], num_classes, ignore_label)
    outside = counted & ((predictions < 0) | (predictions >= num_classes))
    if void_predictions == "miss":
        predictions = np.where(outside, num_classes, predictions)
    elif void_predictions == "drop":
        counted &= ~outside
    elif outside.any():
        raise illegal_ids(predictions[outside], num_classes, None, "predictions")
    return labels, predictions, counted


def scores(matrix, absent="skip", classes=None):
    """All scores of a confusion matrix.

    Args:
        matrix: integers (K, K), rows the truth, or (K, K + 1) of `void_predictions="miss"`.
        absent: what means do with an undefined score; see the module.
        classes: ids that the means go over, None for all. `range(1, K)` leaves the background
            out of the mean, not its pixels out of the others' errors. Pixel accuracy,
            frequency-weighted IoU, micro IoU, kappa and Matthews always cover all classes.

    Returns:
        Dict of floats: "pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou",
        "mean_precision", "mean_recall" (equal to "mean_accuracy"), "mean_f1", "micro_iou" (sum TP
        / sum of unions), "kappa" (Cohen), "matthews" (multi-class correlation); of an int,
        "pixels"; and of lists of K floats: "iou", "accuracy", "precision", "recall" (equal to
        "accuracy"), "f1". Undefined is NaN, everything is when there are no pixels.

    Raises:
        ValueError: no square matrix of counts, unknown `absent` or class ids.
    """
    matrix = np.asarray(matrix)
    fits = matrix.ndim == 2 and matrix.shape[1] - matrix.shape[0] in (0, 1)
    if not fits or not np.issubdtype(matrix.dtype, np.integer) or (matrix < 0).any():
        raise ValueError(
            "A confusion matrix is (K, K) or (K, K + 1) integers >= 0, got "
            f"{matrix.dtype} {matrix.shape}."
        )
    matrix, num_classes = matrix.astype("float64"), len(matrix)
    included = included_classes(classes, num_classes, absent)
    tp, truth, columns = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    predicted = columns[:num_classes]
    union = truth + predicted - tp
    pixels = truth.sum()

    def divide(a, b):
        return np.divide(a, b, out=np.full(np.shape(a), np.nan), where=np.asarray(b) > 0)

    def mean(values):
        return mean_score(values, truth, included, absent) if pixels else math.nan

    per_class = {
        "iou": divide(tp, union),
        "accuracy": divide(tp, truth),
        "precision": divide(tp, predicted),
        "recall": divide(tp, truth),
        "f1": divide(2 * tp, truth + predicted),
    }
    hit = divide(tp.sum(), pixels)
    chance = divide(truth @ predicted, pixels**2)
    spread = (pixels**2 - truth @ truth) * (pixels**2 - columns @ columns)
    return {
        "pixel_accuracy": float(hit),
        "mean_accuracy": mean(per_class["accuracy"]),
        "mean_iou": mean(per_class["iou"]),
        "frequency_weighted_iou": float(divide(np.nansum(truth * per_class["iou"]), pixels)),
        "mean_precision": mean(per_class["precision"]),
        "mean_recall": mean(per_class["recall"]),
        "mean_f1": mean(per_class["f1"]),
        "micro_iou": float(divide(tp.sum(), union.sum())),
        "kappa": float(divide(hit - chance, 1 - chance)),
        "matthews": float(divide(tp.sum() * pixels - truth @ predicted, math.sqrt(spread))),
        "pixels": int(pixels),
        **{name: values.tolist() for name, values in per_class.items()},
    }


def mean_score(values, truth, included, absent):
    """Mean of scores (K,), NaN where undefined, over a mask of classes, by the rule `absent`."""
    if absent in ("zero", "one"):
        values = np.where(np.isnan(values), float(absent == "one"), values)
    elif absent == "truth_only":
        values = np.where(truth > 0, values, np.nan)
    values = values[included & ~np.isnan(values)]
    return float(values.mean()) if values.size else math.nan


def _check_void_predictions(void_predictions):
    if void_predictions not in VOID_PREDICTIONS:
        raise unknown_name("void_predictions", void_predictions, VOID_PREDICTIONS)


def included_classes(classes, num_classes, absent):
    """Mask (K,) of the classes in means, after checking the options of a mean."""
    if absent not in ABSENT:
        raise unknown_name("absent", absent, ABSENT)
    if classes is None:
        return np.ones(num_classes, bool)
    ids = list(classes) if isinstance(classes, Iterable) else []
    known = all(isinstance(c, numbers.Integral) and 0 <= c < num_classes for c in ids)
    if not ids or not known:
        raise ValueError(
            f"classes must be None for all or a list of ids from 0 to {num_classes - 1}, got "
            f"{classes!r}."
        )
    return np.isin(np.arange(num_classes), ids)


# --- Keras ---

# JAX has no int64 unless asked for, and Cityscapes has 6e9 pixels: counts are kept as two digits
# to the base 2**30. A batch may hold up to 2**30 pixels.
DIGIT = 30


class PixelMetric(keras.metrics.Metric):
    """Base of the metrics that compare labels with predictions pixel by pixel.

    `update_state(labels, predictions)` takes integer labels (N, H, W) or (N, H, W, 1), and as
    predictions one of

        logits or probabilities, float (N, H, W, K): the class is the largest
        with `threshold`, float (N, H, W, 1) of a network with one output: class 1 where it is more
        predicted ids, integers (N, H, W[, 1])

    No pixel is lost: it is counted, ignored, or illegal (a label that is neither a class nor
    ignored, a predicted id that is no class). An illegal pixel raises ValueError in eager mode; in
    a graph, where that is not possible, it turns the result into NaN until `reset_state`. A result
    without any pixel is NaN too.

    Args:
        num_classes: K.
        ignore_label: id, list of ids or None.
        absent: "skip", "zero", "one" or "truth_only": what a mean does with a class whose score
            is undefined; see the module.
        classes: ids that means go over, None for all.
        void_predictions: "error", "miss" or "drop": what becomes of predicted ids that are no
            class; see the module.
        threshold: for two classes and one output; None, 0.0 (logits) or 0.5 (probabilities).
        name, dtype: as in Keras; dtype is that of the result.

    Raises:
        ValueError: for options out of range; on update also for floats as labels, shapes that do
            not fit, and sample weights (a confusion matrix counts pixels).
    """

    def __init__(
        self,
        num_classes,
        ignore_label=255,
        *,
        absent="skip",
        classes=None,
        void_predictions="error",
        threshold=None,
        name=None,
        dtype=None,
    ):
        super().__init__(dtype=dtype, name=name)
        self.num_classes = check_classes(num_classes, ignore_label)
        self.ignore_label = ignore_label
        self.absent = absent
        self._mask = included_classes(classes, self.num_classes, absent).astype("float32")
        self.classes = None if classes is None else np.flatnonzero(self._mask).tolist()
        _check_void_predictions(void_predictions)
        self.void_predictions = void_predictions
        self._columns = self.num_classes + (void_predictions == "miss")
        self.threshold = None if threshold is None else float(threshold)
        if threshold is not None and self.num_classes != 2:
            raise ValueError(f"A threshold tells two classes apart, not {num_classes}.")

    def _cells(self, ids, predicted, valid, illegal):
        """Where each pixel counts, from what `sort_pixels` gives.

        Returns:
            int32 (N, H, W): truth * columns + prediction in the flat confusion matrix, behind its
            last cell one for ignored pixels, and one more for illegal ones.
        """
        size = self.num_classes * self._columns
        cells = ops.where(valid, ids * self._columns + predicted, size)
        return ops.where(illegal, size + 1, cells)

    def _add_counter(self, cells):
        """Make the state: two digits of each of the cells, of ignored and of illegal pixels."""
        self._digits = self.add_variable(
            shape=(2, cells + 2),
            initializer="zeros",
            dtype=integer_state(),
            aggregation="sum",
            name="counts",
        )

    def _add(self, cells):
        """Count integers of any shape, the cells of pixels."""
        cells = ops.reshape(cells, (-1,))
        size = self._digits.shape[1]
        batch = ops.segment_sum(ops.ones_like(cells), cells, num_segments=size)
        batch = ops.cast(batch, self._digits.dtype)
        carry = (self._digits[0] + batch) // 2**DIGIT
        self._digits.assign_add(ops.stack([batch - carry * 2**DIGIT, carry]))

    def _exact_counts(self):
        """The counts as int64 array: cells, ignored, illegal."""
        low, high = (ops.convert_to_numpy(self._digits[i]).astype("int64") for i in (0, 1))
        return (high << DIGIT) + low

    def _float_counts(self):
        """The counts of the cells as float32, and the number of illegal pixels."""
        digits = ops.cast(self._digits, "float32")
        counts = digits[0] + digits[1] * 2.0**DIGIT
        return counts[:-2], counts[-1]

    def _check_no_illegal(self, illegal, num_classes):
        """Raise ValueError if there were any such pixels."""
        if illegal:
            raise ValueError(
                f"{illegal} pixels had ids that are no class: expected 0 .. {num_classes - 1} or "
                f"the ignore label {self.ignore_label} (`keras-seg check-data` names the files)."
            )

    def _sums(self, matrix):
        """TP, T and P (..., K) of matrices (..., K, columns)."""
        tp = ops.diagonal(matrix, axis1=-2, axis2=-1)
        predicted = ops.sum(matrix, axis=-2)[..., : self.num_classes]
        return tp, ops.sum(matrix, axis=-1), predicted

    def _mean(self, score, tp, truth, predicted, pixels=None):
        """Sum of a score over the classes of the mean, and their number; counts are (..., K).

        `pixels` (..., 1): how many count, the sum of `truth` unless given.
        """
        numerator, denominator = {
            "iou": (tp, truth + predicted - tp),
            "recall": (tp, truth),
            "precision": (tp, predicted),
            "f1": (2.0 * tp, truth + predicted),
        }[score]
        values = numerator / ops.maximum(denominator, 1.0)
        counted = ops.convert_to_tensor(self._mask)
        if self.absent == "one":
            values = ops.where(denominator > 0, values, 1.0)
        elif self.absent != "zero":
            counted = counted * ops.cast(denominator > 0, "float32")
        if self.absent == "truth_only":
            counted = counted * ops.cast(truth > 0, "float32")
        pixels = ops.sum(truth, axis=-1, keepdims=True) if pixels is None else pixels
        counted = counted * ops.cast(pixels > 0, "float32")  # no pixels: no score
        return ops.sum(values * counted, axis=-1), ops.sum(counted, axis=-1)

    def _finish(self, numerator, denominator, illegal):
        """The quotient, NaN when there is nothing to divide by or there were illegal pixels."""
        bad = ops.logical_or(denominator == 0, illegal > 0)
        value = numerator / ops.where(denominator == 0, 1.0, denominator)
        return ops.cast(ops.where(bad, float("nan"), value), self.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "ignore_label": self.ignore_label,
            "absent": self.absent,
            "classes": self.classes,
            "void_predictions": self.void_predictions,
            "threshold": self.threshold,
        }


def integer_state():
    """The type of a metric's counts."""
    return "int32" if keras.backend.backend() == "jax" else "int64"


@keras.saving.register_keras_serializable("keras_seg")
class ConfusionMatrix(PixelMetric):
    """Counts pixels by true and predicted class; the base of the scores below.

    Input and arguments: `PixelMetric`. Counts are exact whatever their size and add up over the
    replicas of `tf.distribute`; the value that `fit` shows after a batch is then a mean of the
    replicas' own, the one at the end of an epoch and of `evaluate` is exact.

    In `compile(metrics=[ConfusionMatrix(K)])`, or called alone, it gives the four usual scores
    for the price of one count: the dict {"pixel_accuracy", "mean_accuracy", "mean_iou",
    "frequency_weighted_iou"}. `scores()` gives all there are.
    """

    def __init__(self, num_classes, ignore_label=255, *, name="confusion_matrix", **options):
        super().__init__(num_classes, ignore_label, name=name, **options)
        self._add_counter(self.num_classes * self._columns)

    def update_state(self, y_true, y_pred, sample_weight=None):
        self._count(*sort_pixels(self, y_true, y_pred, sample_weight))

    def _count(self, ids, predicted, valid, illegal):
        """Add a batch: integers and masks (N, H, W), as `sort_pixels` gives them."""
        self._add(self._cells(ids, predicted, valid, illegal))

    def counts(self):
        """{"matrix": int64 array as of `confusion_matrix`, "ignored": int, "illegal": int}."""
        counts = self._exact_counts()
        return {
            "matrix": counts[:-2].reshape(self.num_classes, self._columns),
            "ignored": int(counts[-2]),
            "illegal": int(counts[-1]),
        }

    def scores(self):
        """All scores, those of single classes too, in float64: see the function `scores`.

        Raises ValueError when illegal pixels were seen.
        """
        counts = self.counts()
        self._check_no_illegal(counts["illegal"], self.num_classes)
        return scores(counts["matrix"], self.absent, self.classes)

    def result(self):
        return {
            "pixel_accuracy": self._pixel_accuracy(),
            "mean_accuracy": self._mean_score("recall"),
            "mean_iou": self._mean_score("iou"),
            "frequency_weighted_iou": self._frequency_weighted_iou(),
        }

    def _read(self):
        """(TP, T, P), (K,) each, and the number of illegal pixels, as floats."""
        counts, illegal = self._float_counts()
        return self._sums(ops.reshape(counts, (self.num_classes, self._columns))), illegal

    def _pixel_accuracy(self):
        (tp, truth, _), illegal = self._read()
        return self._finish(ops.sum(tp), ops.sum(truth), illegal)

    def _frequency_weighted_iou(self):
        (tp, truth, predicted), illegal = self._read()
        union = truth + predicted - tp
        weighted = ops.sum(truth * tp / ops.maximum(union, 1.0))
        return self._finish(weighted, ops.sum(truth), illegal)

    def _mean_score(self, score):
        sums, illegal = self._read()
        return self._finish(*self._mean(score, *sums), illegal)


def check_classes(num_classes, ignore_label):
    """`num_classes` as an int; ValueError when it or the ignore label is none."""
    if int(num_classes) < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}.")
    standardize_ignore_label(ignore_label)
    return int(num_classes)


def sort_pixels(metric, y_true, y_pred, sample_weight=None):
    """The labels and predictions of a batch, with the pixels that count told from the others.

    Args:
        metric: a `PixelMetric`, or another with `num_classes`, `ignore_label` and a name.
        y_true, y_pred, sample_weight: arguments of `PixelMetric.update_state`.

    Returns:
        ids: int32 (N, H, W), true classes; 0 where a pixel does not count.
        predicted: int32 (N, H, W), predicted classes; K for a miss.
        valid: bool (N, H, W), the pixels that count.
        illegal: bool (N, H, W), the pixels of which the true or the predicted id is a mistake.

    Raises:
        ValueError: as `PixelMetric` says; for illegal pixels only where their values are known.
    """
    if sample_weight is not None:
        raise ValueError(
            f"{metric.name} counts pixels and takes no sample weights: leave pixels out with "
            f"the ignore label {metric.ignore_label}, and list the metric under `metrics`, not "
            "`weighted_metrics`."
        )
    size, ignore_label = metric.num_classes, metric.ignore_label
    ids, valid, illegal = sort_labels(y_true, size, standardize_ignore_label(ignore_label))
    check_legal(y_true, illegal, size, ignore_label)
    y_pred = ops.convert_to_tensor(y_pred)
    if "int" not in keras.backend.standardize_dtype(y_pred.dtype):
        predicted = _decide(metric, y_pred)
        check_same_size(ids, predicted)
        return ids, predicted, valid, illegal
    predicted, known, _ = sort_labels(y_pred, size, (), what="predictions")
    check_same_size(ids, predicted, "predictions")
    rule = getattr(metric, "void_predictions", "error")
    if rule == "miss":
        predicted = ops.where(known, predicted, size)
    elif rule == "drop":
        valid = ops.logical_and(valid, known)
    else:
        wrong = ops.logical_and(valid, ops.logical_not(known))
        check_legal(y_pred, wrong, size, None, "predictions")
        illegal = ops.logical_or(illegal, wrong)
    return ids, predicted, valid, illegal


def _decide(metric, outputs):
    """Classes int32 (N, H, W) of a network's outputs."""
    shape, threshold = tuple(outputs.shape), getattr(metric, "threshold", None)
    if threshold is not None and len(shape) == 4 and shape[-1] == 1:
        return ops.cast(outputs[..., 0] > threshold, "int32")
    if len(shape) == 4 and shape[-1] == metric.num_classes:
        return ops.cast(ops.argmax(outputs, axis=-1), "int32")
    hint = ""
    if metric.num_classes == 2 and shape[-1:] == (1,):
        hint = " For one output give threshold=0.0 (logits) or threshold=0.5 (probabilities)."
    raise ValueError(
        f"{metric.name} takes logits (N, H, W, {metric.num_classes}) or integer ids (N, H, W), "
        f"got {keras.backend.standardize_dtype(outputs.dtype)} {shape}.{hint}"
    )


class _OverAllClasses(ConfusionMatrix):
    """Base of the scores that always cover all classes: they know no `absent` and no `classes`."""

    def __init__(
        self,
        num_classes,
        ignore_label=255,
        *,
        void_predictions="error",
        threshold=None,
        name=None,
        dtype=None,
    ):
        super().__init__(
            num_classes,
            ignore_label,
            void_predictions=void_predictions,
            threshold=threshold,
            name=name,
            dtype=dtype,
        )

    def get_config(self):
        config = super().get_config()
        return {k: v for k, v in config.items() if k not in ("absent", "classes")}


@keras.saving.register_keras_serializable("keras_seg")
class PixelAccuracy(_OverAllClasses):
    """Share of the pixels that are right.

    Arguments: `PixelMetric`, without `absent` and `classes`.
    """

    def __init__(self, num_classes, ignore_label=255, *, name="pixel_accuracy", **options):
        super().__init__(num_classes, ignore_label, name=name, **options)

    def result(self):
        return self._pixel_accuracy()


@keras.saving.register_keras_serializable("keras_seg")
class FrequencyWeightedIoU(_OverAllClasses):
    """Mean IoU weighted by the classes' true pixels. Arguments: as `PixelAccuracy`."""

    def __init__(self, num_classes, ignore_label=255, *, name="frequency_weighted_iou", **options):
        super().__init__(num_classes, ignore_label, name=name, **options)

    def result(self):
        return self._frequency_weighted_iou()


@keras.saving.register_keras_serializable("keras_seg")
class MeanAccuracy(ConfusionMatrix):
    """Mean over the classes of the share of their pixels that are found (mean recall).

    Arguments: `PixelMetric`.
    """

    def __init__(self, num_classes, ignore_label=255, *, name="mean_accuracy", **options):
        super().__init__(num_classes, ignore_label, name=name, **options)

    def result(self):
        return self._mean_score("recall")


@keras.saving.register_keras_serializable("keras_seg")
class MeanIoU(ConfusionMatrix):
    """Mean over the classes of TP / (T + P - TP), from the sums over all images.

    Arguments: `PixelMetric`. `classes=range(1, K)` leaves out the background;
    `MeanIoU(K, classes=[3], name="iou_road")` is the IoU of one class.
    """

    def __init__(self, num_classes, ignore_label=255, *, name="mean_iou", **options):
        super().__init__(num_classes, ignore_label, name=name, **options)

    def result(self):
        return self._mean_score("iou")


@keras.saving.register_keras_serializable("keras_seg")
class Precision(ConfusionMatrix):
    """Mean over the classes of TP / P. Arguments: `PixelMetric`."""

    def __init__(self, num_classes, ignore_label=255, *, name="precision", **options):
        super().__init__(num_classes, ignore_label, name=name, **options)

    def result(self):
        return self._mean_score("precision")


@keras.saving.register_keras_serializable("keras_seg")
class Recall(ConfusionMatrix):
    """Mean over the classes of TP / T, the same as `MeanAccuracy`. Arguments: `PixelMetric`."""

    def __init__(self, num_classes, ignore_label=255, *, name="recall", **options):
        super().__init__(num_classes, ignore_label, name=name, **options)

    def result(self):
        return self._mean_score("recall")


@keras.saving.register_keras_serializable("keras_seg")
class F1(ConfusionMatrix):
    """Mean over the classes of 2 TP / (T + P), also called Dice. Arguments: `PixelMetric`."""

    def __init__(self, num_classes, ignore_label=255, *, name="f1", **options):
        super().__init__(num_classes, ignore_label, name=name, **options)

    def result(self):
        return self._mean_score("f1")


@keras.saving.register_keras_serializable("keras_seg")
class DiceScore(F1):
    """`F1` by its other name."""

    def __init__(self, num_classes, ignore_label=255, *, name="dice", **options):
        super().__init__(num_classes, ignore_label, name=name, **options)
