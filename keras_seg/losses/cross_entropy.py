"""Cross entropy of every pixel that counts, and class weights from a histogram of the labels."""

import keras
import numpy as np
from keras import ops

from keras_seg.losses.base import (
    SegmentationLoss,
    replica_sum,
    safe_divide,
    standardize_class_weights,
)
from keras_seg.utils import unknown_name


@keras.saving.register_keras_serializable("keras_seg")
class CrossEntropy(SegmentationLoss):
    """Mean of -log softmax(logits)[label] over the pixels that count.

    With class weights the mean is weighted, sum(w_y ce) / sum(w_y), as in PyTorch; Caffe's SegNet
    divides by the number of pixels instead, which is this times the mean weight of the pixels.

    Args:
        ignore_label: id, list of ids or None; such pixels are left out of the mean.
        class_weights: K weights >= 0 (see `class_weights`), or None.
        over: "batch", the mean over all pixels of the batch that count, on all replicas;
            "image", the mean over the images of their own means (images without any pixel that
            counts left out), so that an image with few labelled pixels weighs as much as another.
        name, reduction, dtype: as in `SegmentationLoss`.

    Raises:
        ValueError: for options out of range, and on call as `SegmentationLoss` says.
    """

    def __init__(
        self,
        ignore_label=255,
        class_weights=None,
        *,
        over="batch",
        name="cross_entropy",
        reduction="sum_over_batch_size",
        dtype=None,
    ):
        super().__init__(ignore_label, name=name, reduction=reduction, dtype=dtype)
        if over not in ("batch", "image"):
            raise unknown_name("over", over, ["batch", "image"])
        self.class_weights = standardize_class_weights(class_weights)
        self.over = over

    def call(self, y_true, y_pred):
        logits, ids, weights, illegal = self.prepare(y_true, y_pred)
        nll = ops.sparse_categorical_crossentropy(ids, logits, from_logits=True)  # (N, H, W)
        if self.class_weights is not None:
            table = self.class_weight_tensor(self.class_weights, logits.shape[-1])
            weights = weights * ops.take(table, ids)
        nll = ops.sum(nll * weights, axis=(1, 2))  # (N,)
        weight = ops.sum(weights, axis=(1, 2))
        if self.over == "image":
            nll = safe_divide(nll, weight)
            weight = ops.cast(weight > 0, self.dtype)
        samples = ops.sum(ops.ones_like(weight))
        total, samples, illegal = ops.unstack(
            replica_sum(ops.stack([ops.sum(weight), samples, illegal])), 3
        )
        # Keras divides by the samples of all replicas and sums; what is left is sum / total.
        return ops.where(illegal > 0, float("nan"), safe_divide(nll * samples, total))

    def get_config(self):
        return {**super().get_config(), "class_weights": self.class_weights, "over": self.over}


SCHEMES = ("median_frequency", "inverse", "balanced", "inverse_mean", "enet")


def class_weights(histogram, scheme="median_frequency", *, image_pixels=None, k=1.02):
    """Weights of classes from the counts of their pixels in the training set.

    With n_c the pixels of class c and f_c = n_c / sum n (ignored pixels counted nowhere):

    - "median_frequency": median(f) / f_c. With `image_pixels`, f_c = n_c / image_pixels[c], the
      pixels of all images in which c occurs: Eigen and Fergus, "Predicting Depth, Surface Normals
      and Semantic Labels with a Common Multi-Scale Convolutional Architecture", ICCV 2015,
      section 4.4, which SegNet uses. Without, it is the frequency in the whole set.
    - "inverse": 1 / f_c. "balanced": 1 / (C f_c), C the number of classes that occur, as in
      scikit-learn. "inverse_mean": 1 / f_c scaled to mean 1 over the classes that occur.
    - "enet": 1 / ln(k + f_c): Paszke et al., "ENet", 2016, section 5.2. Bounded, so a class that
      never occurs gets 1 / ln(k), the largest weight (50.5 for k = 1.02).

    In all schemes but "enet" a class that never occurs gets 0 and is left out of the median.

    Args:
        histogram: K counts of pixels, the training ids in order.
        scheme: one of the names above.
        image_pixels: K counts, only for "median_frequency".
        k: constant > 1 of "enet".

    Returns:
        float64 (K,).

    Raises:
        ValueError: negative or non-finite counts, none at all, an unknown scheme, `image_pixels`
            with another scheme or smaller than the histogram, k <= 1.
    """
    counts = np.asarray(histogram, "float64")
    if counts.ndim != 1 or not np.all(np.isfinite(counts) & (counts >= 0)) or counts.sum() == 0:
        raise ValueError(f"histogram must be a list of pixel counts, not all 0, got {histogram}.")
    if scheme not in SCHEMES:
        raise unknown_name("scheme", scheme, SCHEMES)
    present = counts > 0
    frequency = counts / counts.sum()
    if image_pixels is not None:
        pixels = np.asarray(image_pixels, "float64")
        if scheme != "median_frequency":
            raise ValueError(f"image_pixels belong to 'median_frequency', not to {scheme!r}.")
        if pixels.shape != counts.shape or np.any(pixels < counts):
            raise ValueError(
                "image_pixels must hold, for each class, the pixels of all images with that "
                f"class: at least the class's own {counts.tolist()}, got {pixels.tolist()}."
            )
        frequency = counts / np.where(present, pixels, 1)
    if scheme == "enet":
        if k <= 1:
            raise ValueError(f"ENet's constant k must be above 1, got {k}.")
        return 1 / np.log(k + frequency)

    weights = np.where(present, 1 / np.where(present, frequency, 1), 0)
    if scheme == "median_frequency":
        return weights * np.median(frequency[present])
    if scheme == "balanced":
        return weights / present.sum()
    if scheme == "inverse_mean":
        return weights / weights[present].mean()
    return weights
