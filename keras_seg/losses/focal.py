"""Focal loss: cross entropy in which pixels that are right already count little."""

import math
import numbers

import keras
from keras import ops

from keras_seg.losses.base import standardize_class_weights
from keras_seg.losses.cross_entropy import PixelLoss

LEAST = 1e-12  # of 1 - q: the slope of a power below 1 is infinite at 0


@keras.saving.register_keras_serializable("keras_seg")
class Focal(PixelLoss):
    """Mean of alpha (1 - q)^gamma (-log q) over the pixels, q the probability of a pixel's label.

    Lin, Goyal, Girshick, He, Dollar. "Focal Loss for Dense Object Detection", ICCV 2017, section 3,
    with the softmax for classes that exclude each other. The paper's own form, of a sigmoid for
    each class, is mode="multilabel" (with one-hot labels what segmentation_models.pytorch calls
    FocalLoss("multiclass"), a different loss). With gamma 0 it is `CrossEntropy`.

    Args:
        gamma: number >= 0.
        alpha: None, or factors >= 0 of the classes, K of them. In the modes of a sigmoid a number
            from 0 to 1: the factor of labels 1, while labels 0 have 1 - alpha. Unlike
            `class_weights` it changes nothing in the divisor.

    Other arguments, the divisor (the number of pixels unless there are class weights) and errors:
    `PixelLoss`.
    """

    def __init__(self, gamma=2.0, alpha=None, *, ignore_label=255, name="focal", **options):
        super().__init__(ignore_label, name=name, **options)
        if not (gamma >= 0 and math.isfinite(gamma)):
            raise ValueError(f"gamma must be a number of at least 0, got {gamma}.")
        self.gamma = float(gamma)
        if alpha is None or self.mode == "multiclass":
            if isinstance(alpha, numbers.Real):
                raise ValueError(
                    f"alpha must be a list, one factor for each class, got {alpha}. One number is "
                    'for mode="binary" and mode="multilabel".'
                )
            self.alpha = standardize_class_weights(alpha, "alpha")
        else:
            if not (isinstance(alpha, numbers.Real) and 0 <= alpha <= 1):
                raise ValueError(
                    f'alpha must be a number from 0 to 1 with mode="{self.mode}", got {alpha}.'
                )
            self.alpha = float(alpha)

    def errors(self, logits, ids):
        errors = nll = self.nll(logits, ids)
        if self.gamma:
            miss = ops.maximum(-ops.expm1(-nll), LEAST)  # 1 - q
            errors = ops.power(miss, self.gamma) * nll
        if self.alpha is None:
            return errors
        alpha = self.alpha if self.mode == "multiclass" else [1 - self.alpha, self.alpha]
        classes = logits.shape[-1] if self.mode == "multiclass" else 2
        return ops.take(self.class_weight_tensor(alpha, classes), ids) * errors

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma, "alpha": self.alpha}
