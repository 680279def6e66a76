"""Losses from the overlap of a class's soft prediction with its true mask: IoU, Dice, Tversky.

With q = softmax(logits) (or sigmoid), p = one-hot labels, and sums over the pixels that count:
I = sum p q, Q = sum q (or sum q^2), P = sum p for each class.
"""

import abc
import numbers
from collections.abc import Iterable

import keras
from keras import ops

from keras_seg.losses.base import (
    SegmentationLoss,
    replica_sum,
    safe_divide,
    standardize_class_weights,
)
from keras_seg.utils import unknown_name

LOGARITHMS = ("log_mean", "mean_log", "sum_log")
EMPTY = 1e-6  # a millionth of a pixel: softmax never gives an exact 0
LOG_FLOOR = 1e-7  # log(0) of a class that is missed altogether would be infinite
POWER_FLOOR = 1e-6  # the slope of a root is infinite at a perfect score


class ClassLoss(SegmentationLoss):
    """Base of the losses that have one value a class: which classes, over what, with what weights.

    Args:
        ignore_label: id, list of ids or None; such pixels count nowhere.
        classes: "present", the classes with a pixel in the labels (of the batch, or of the image
            with `over="image"`); "all", all K; or a list of ids, these whether present or not.
        over: "batch", the classes of all images on all replicas taken together; "image", the mean
            over the images of each image's loss, images without a pixel or class that counts left
            out.
        class_weights: K weights >= 0 of the mean over classes, or None.
        mode: as in `SegmentationLoss`. "binary" has one class, the foreground: where it is absent,
            "present" leaves no class and the loss is 0.
        name, reduction, dtype: as in `SegmentationLoss`.

    Raises:
        ValueError: for options out of range, and on call as `SegmentationLoss` says.
    """

    def __init__(
        self,
        ignore_label=255,
        *,
        classes="present",
        over="batch",
        class_weights=None,
        mode="multiclass",
        name=None,
        reduction="sum_over_batch_size",
        dtype=None,
    ):
        super().__init__(ignore_label, mode=mode, name=name, reduction=reduction, dtype=dtype)
        if isinstance(classes, str):
            if classes not in ("present", "all"):
                raise unknown_name("classes", classes, ["present", "all"])
        else:
            ids = list(classes) if isinstance(classes, Iterable) else []
            if not ids or not all(isinstance(c, numbers.Integral) and c >= 0 for c in ids):
                raise ValueError(
                    f'classes must be "present", "all" or a list of class ids, got {classes!r}.'
                )
            classes = sorted({int(c) for c in ids})
        if over not in ("batch", "image"):
            raise unknown_name("over", over, ["batch", "image"])
        self.classes = classes
        self.over = over
        self.class_weights = standardize_class_weights(class_weights)

    def weights_of_classes(self, true):
        """Weights (..., K) of the mean over classes, from the pixels of each in the labels."""
        num_classes = true.shape[-1]
        weights = self.class_weight_tensor(self.class_weights, num_classes)
        if self.classes == "present":
            weights = weights * ops.cast(true > 0, self.dtype)
        elif self.classes != "all":
            weights = weights * self.listed(num_classes)
        return ops.broadcast_to(weights, ops.shape(true))

    def known_images(self, valid, true):
        """1 for the images with a pixel and a class that count, else 0, as a tensor (N,)."""
        pixels = ops.any(valid > 0, axis=(1, 2, 3))
        classes = ops.any(self.weights_of_classes(true) > 0, axis=-1)
        return ops.cast(ops.logical_and(pixels, classes), self.dtype)

    def listed(self, num_classes):
        """1 for the classes of the list, else 0, as a tensor (K,)."""
        if self.classes[-1] >= num_classes:
            raise ValueError(
                f"{self.name} counts classes {self.classes}, the model has only "
                f"0 .. {num_classes - 1}."
            )
        return ops.convert_to_tensor(
            [float(c in self.classes) for c in range(num_classes)], dtype=self.dtype
        )

    def get_config(self):
        return {
            **super().get_config(),
            "classes": self.classes,
            "over": self.over,
            "class_weights": self.class_weights,
            "mode": self.mode,
        }


def weighted_mean(x, weights):
    """Mean over the last axis, 0 where all weights are 0."""
    return safe_divide(ops.sum(x * weights, axis=-1), ops.sum(weights, axis=-1))


class OverlapLoss(ClassLoss, abc.ABC):
    """Base: a subclass's `ratio` gives the score of a class as numerator and denominator.

    A class without a pixel in the labels and less than 1e-6 of a pixel in the prediction scores 1.
    Keras' own `losses.Dice` and `losses.Tversky` are no substitute: by default they add up the
    classes too, where false positives and false negatives are the same number.

    Args:
        ignore_label: id, list of ids or None; such pixels count neither in p nor in q.
        classes, over, class_weights, mode: as in `ClassLoss`.
        absent: for a class of a list, or of "all", without a pixel in the labels: "score", by its
            formula, which is 0 without a gradient unless `smooth` is above 0; "one", a score of 1,
            so that it costs nothing, yet is in the mean (segmentation_models.pytorch).
        smooth: number >= 0, added to numerator and denominator of the fraction that the class's
            docstring shows (so `Dice(smooth=2)` equals `Tversky(0.5, 0.5, smooth=1)`).
        log: None, the loss is 1 - mean of the scores s_c; "log_mean", -log(mean s_c); "mean_log",
            -mean(log s_c); "sum_log", -sum(log s_c). Scores are at least 1e-7 under the logarithm.
        name, reduction, dtype: as in `SegmentationLoss`.

    Raises:
        ValueError: for options out of range, and on call as `SegmentationLoss` says.
    """

    squared = False

    def __init__(self, ignore_label=255, *, absent="score", smooth=0.0, log=None, **options):
        super().__init__(ignore_label, **options)
        if absent not in ("score", "one"):
            raise unknown_name("absent", absent, ["score", "one"])
        if log is not None and log not in LOGARITHMS:
            raise unknown_name("log", log, LOGARITHMS)
        if not smooth >= 0:
            raise ValueError(f"smooth must be at least 0, got {smooth}.")
        self.absent = absent
        self.smooth = float(smooth)
        self.log = log

    @abc.abstractmethod
    def ratio(self, intersection, predicted, true):
        """Numerator and denominator, without `smooth`, from I, Q and P of any one shape."""

    def call(self, y_true, y_pred):
        p, q, valid, illegal = self.masks(y_true, y_pred)
        terms = (p * q, ops.square(q) if self.squared else q, p)
        sums = ops.stack([ops.sum(x, axis=(1, 2)) for x in terms])  # (3, N, K)
        ones = ops.ones_like(sums[0, :, 0])  # (N,)
        if self.over == "batch":
            sums = ops.reshape(ops.sum(sums, axis=1), (-1,))
            sums = replica_sum(ops.append(sums, illegal))
            illegal = sums[-1]
            loss = self.from_sums(ops.reshape(sums[:-1], (3, p.shape[-1]))) * ones
        else:
            known = self.known_images(valid, sums[2])
            images, samples, illegal = ops.unstack(
                replica_sum(ops.stack([ops.sum(known), ops.sum(ones), illegal])), 3
            )
            loss = safe_divide(self.from_sums(sums) * known * samples, images)
        return ops.where(illegal > 0, float("nan"), loss)

    def from_sums(self, sums):
        """Loss (...,) from I, Q, P stacked to (3, ..., K)."""
        scores = self.scores(*self.ratio(*ops.unstack(sums, 3)))
        if self.absent == "one":
            scores = ops.where(sums[2] > 0, scores, 1.0)
        return self.mean_loss(scores, self.weights_of_classes(sums[2]))

    def scores(self, numerator, denominator):
        """Scores in 0..1 of classes, from `ratio`."""
        denominator = denominator + self.smooth
        empty = denominator < EMPTY
        return ops.where(empty, 1.0, (numerator + self.smooth) / ops.where(empty, 1.0, denominator))

    def mean_loss(self, scores, weights):
        """Loss (...,) from the scores and weights of the classes, (..., K)."""
        if self.log is None:
            return weighted_mean(self.cost(1.0 - scores), weights)
        if self.log == "log_mean":
            counted = ops.sum(weights, axis=-1) > 0
            mean = ops.where(counted, weighted_mean(scores, weights), 1.0)
            return -ops.log(ops.maximum(mean, LOG_FLOOR))
        logs = -ops.log(ops.maximum(scores, LOG_FLOOR))
        if self.log == "mean_log":
            return weighted_mean(logs, weights)
        return ops.sum(logs * weights, axis=-1)

    def cost(self, missing):
        """What a class adds to the mean, from 1 - its score."""
        return missing

    def get_config(self):
        return {
            **super().get_config(),
            "absent": self.absent,
            "smooth": self.smooth,
            "log": self.log,
        }


@keras.saving.register_keras_serializable("keras_seg")
class IoU(OverlapLoss):
    """1 - mean soft IoU: I / (Q + P - I) for each class.

    Rahman, Wang. "Optimizing Intersection-Over-Union in Deep Neural Networks for Image
    Segmentation", ISVC 2016. Arguments and errors: `OverlapLoss`.
    """

    def __init__(self, ignore_label=255, *, name="iou", **options):
        super().__init__(ignore_label, name=name, **options)

    def ratio(self, intersection, predicted, true):
        return intersection, predicted + true - intersection


@keras.saving.register_keras_serializable("keras_seg")
class Dice(OverlapLoss):
    """1 - mean soft Dice: 2 I / (Q + P) for each class.

    Drozdzal et al. "The Importance of Skip Connections in Biomedical Image Segmentation", 2016.
    `squared=True` puts squares in the denominator, Q = sum q^2: Milletari, Navab, Ahmadi. "V-Net",
    3DV 2016. Other arguments and errors: `OverlapLoss`.
    """

    def __init__(self, ignore_label=255, *, squared=False, name="dice", **options):
        super().__init__(ignore_label, name=name, **options)
        self.squared = bool(squared)

    def ratio(self, intersection, predicted, true):
        return 2.0 * intersection, predicted + true

    def get_config(self):
        return {**super().get_config(), "squared": self.squared}


@keras.saving.register_keras_serializable("keras_seg")
class GeneralizedDice(OverlapLoss):
    """1 - 2 sum_c w_c I_c / sum_c w_c (Q_c + P_c), w_c = 1 / P_c^2: small classes count as large.

    Sudre, Li, Vercauteren, Ourselin, Cardoso. "Generalised Dice Overlap as a Deep Learning Loss
    Function for Highly Unbalanced Segmentations", 2017. An absent class would have an infinite
    weight; here it has none, whatever `classes` and `absent` say. There is one score, so every
    `log` is -log of it. `smooth` is added to the sums with the w_c scaled to the sum 1, so that it
    is a number of pixels. Other arguments and errors: `OverlapLoss`.
    """

    def __init__(self, ignore_label=255, *, name="generalized_dice", **options):
        super().__init__(ignore_label, name=name, **options)

    def ratio(self, intersection, predicted, true):
        return 2.0 * intersection, predicted + true

    def from_sums(self, sums):
        weights = safe_divide(self.weights_of_classes(sums[2]), ops.square(sums[2]))
        weights = safe_divide(weights, ops.sum(weights, axis=-1, keepdims=True))
        pooled = [
            ops.sum(weights * x, axis=-1, keepdims=True) for x in self.ratio(*ops.unstack(sums, 3))
        ]
        return self.mean_loss(self.scores(*pooled), ops.ones_like(pooled[0]))


@keras.saving.register_keras_serializable("keras_seg")
class Tversky(OverlapLoss):
    """1 - mean Tversky index: I / (I + fp_weight (Q - I) + fn_weight (P - I)) for each class.

    Salehi, Erdogmus, Gholipour. "Tversky Loss Function for Image Segmentation Using 3D Fully
    Convolutional Deep Networks", 2017: fp_weight is its alpha and fn_weight its beta (Abraham and
    Khan's focal Tversky swaps the letters). 0.5 and 0.5 is `Dice`, 1 and 1 is `IoU`.

    Args:
        fp_weight, fn_weight: numbers >= 0, not both 0: the cost of false positives and negatives.

    Other arguments and errors: `OverlapLoss`.
    """

    def __init__(
        self, fp_weight=0.3, fn_weight=0.7, *, ignore_label=255, name="tversky", **options
    ):
        super().__init__(ignore_label, name=name, **options)
        if not (fp_weight >= 0 and fn_weight >= 0 and fp_weight + fn_weight > 0):
            raise ValueError(
                "fp_weight and fn_weight must be at least 0 and not both 0, got "
                f"{fp_weight} and {fn_weight}."
            )
        self.fp_weight = float(fp_weight)
        self.fn_weight = float(fn_weight)

    def ratio(self, intersection, predicted, true):
        false = self.fp_weight * (predicted - intersection) + self.fn_weight * (true - intersection)
        return intersection, intersection + false

    def get_config(self):
        return {**super().get_config(), "fp_weight": self.fp_weight, "fn_weight": self.fn_weight}


@keras.saving.register_keras_serializable("keras_seg")
class FocalTversky(Tversky):
    """Mean over classes of (1 - Tversky index)^(1 / gamma): classes near their best weigh more.

    Abraham, Khan. "A Novel Focal Tversky Loss Function with Improved Attention U-Net for Lesion
    Segmentation", ISBI 2019, with gamma = 4/3. Two traps: its alpha weighs the false negatives and
    its beta the false positives, as fn_weight=0.7 and fp_weight=0.3 here; and its authors' code
    calls the exponent itself gamma (0.75), over one index of a single class with smooth=1. The
    power is taken of each class, before the mean. Below 1e-6 it goes on as a straight line to 0,
    where a root would have an infinite slope.

    Args:
        fp_weight, fn_weight: as in `Tversky`.
        gamma: number > 0; 1 is `Tversky`.

    Other arguments and errors: `OverlapLoss`; ValueError also for `log`, which has no meaning here.
    """

    def __init__(
        self, fp_weight=0.3, fn_weight=0.7, *, gamma=4 / 3, name="focal_tversky", **options
    ):
        super().__init__(fp_weight, fn_weight, name=name, **options)
        if not 0 < gamma < float("inf"):
            raise ValueError(f"gamma must be above 0, got {gamma}.")
        if self.log is not None:
            raise ValueError(f"FocalTversky takes the power of a class, no log: got {self.log!r}.")
        self.gamma = float(gamma)

    def cost(self, missing):
        return missing * ops.power(ops.maximum(missing, POWER_FLOOR), 1.0 / self.gamma - 1.0)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}
