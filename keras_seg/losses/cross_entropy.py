"""Cross entropy of every pixel that counts, and class weights from a histogram of the labels."""

import abc

import keras
import numpy as np
from keras import ops

from keras_seg.layers.labels import check_same_size
from keras_seg.losses.base import (
    SegmentationLoss,
    replica_sum,
    safe_divide,
    standardize_class_weights,
)
from keras_seg.utils import unknown_name

DIVISORS = ("class_weights", "pixels", "weights")


class PixelLoss(SegmentationLoss, abc.ABC):
    """Base of weighted means over pixels: a subclass's `errors` gives the loss of each pixel.

    With e the error of a pixel, c the weight of its class and w its own weight (both 1 where none
    are given), and sums over the pixels that count, the loss is sum(w c e) divided by

        divide_by="class_weights"   sum(c), as PyTorch does; without class weights the number of
                                    pixels, so that w = 1 changes nothing (U-Net's energy, averaged)
        divide_by="pixels"          the number of pixels, as Caffe's SegNet does
        divide_by="weights"         sum(w c)

    Pixel weights w are sample weights of shape (N, H, W) or (N, H, W, 1): `loss(labels, logits, w)`
    or `fit` with batches (images, labels, w). A pixel whose weight must not count in the divisor
    either has the ignore label. With mode="multilabel", "pixel" reads "label of a pixel".

    Args:
        ignore_label: id, list of ids or None; such pixels are left out of the mean.
        class_weights: weights >= 0 (see the function `class_weights`), or None: K of them; with
            mode="binary" two, for the ids 0 and 1.
        mode: "multiclass", "binary" or "multilabel", as in `SegmentationLoss`.
        over: "batch", the mean over all pixels of the batch that count, on all replicas;
            "image", the mean over the images of their own means (images without any pixel that
            counts left out), so that an image with few labelled pixels weighs as much as another.
        divide_by: "class_weights", "pixels" or "weights", see above.
        name, reduction, dtype: as in `SegmentationLoss`.

    Raises:
        ValueError: for options out of range, and on call as `SegmentationLoss` says.
    """

    def __init__(
        self,
        ignore_label=255,
        class_weights=None,
        *,
        mode="multiclass",
        over="batch",
        divide_by="class_weights",
        name=None,
        reduction="sum_over_batch_size",
        dtype=None,
    ):
        super().__init__(ignore_label, mode=mode, name=name, reduction=reduction, dtype=dtype)
        if over not in ("batch", "image"):
            raise unknown_name("over", over, ["batch", "image"])
        if divide_by not in DIVISORS:
            raise unknown_name("divide_by", divide_by, DIVISORS)
        self.class_weights = standardize_class_weights(class_weights)
        self.over = over
        self.divide_by = divide_by

    @abc.abstractmethod
    def errors(self, logits, ids):
        """The loss of each pixel, of the shape of `ids`, from what `prepare` gives."""

    def nll(self, logits, ids):
        """-log of the probability of each label, of the shape of `ids`."""
        if self.mode == "multiclass":
            return ops.sparse_categorical_crossentropy(ids, logits, from_logits=True)
        return ops.softplus(ops.where(ids == 1, -logits, logits))

    def count(self, errors, valid):
        """How much each pixel counts, at most `valid`; sums over the replicas have their place."""
        return valid

    def check_pixel_weight(self, shape):
        if len(shape) != 3 and (len(shape) != 4 or shape[-1] != 1):
            raise ValueError(
                f"{self.name} takes sample weights of shape (N,), or (N, H, W) for one a pixel, "
                f"got {shape}."
            )

    def call(self, y_true, y_pred, pixel_weight=None):
        logits, ids, valid, illegal = self.prepare(y_true, y_pred)
        errors = self.errors(logits, ids)
        valid = self.count(errors, valid)
        weights = divisor = valid
        if self.class_weights is not None:
            weights = valid * self._weights_of(ids, logits.shape[-1])
            divisor = valid if self.divide_by == "pixels" else weights
        if pixel_weight is not None:
            weights = weights * self._shaped(pixel_weight, valid)
            divisor = weights if self.divide_by == "weights" else divisor
        axes = tuple(range(1, len(ids.shape)))
        error = ops.sum(errors * weights, axis=axes)  # (N,)
        divisor = ops.sum(divisor, axis=axes)
        if self.over == "image":
            error = safe_divide(error, divisor)
            divisor = ops.cast(divisor > 0, self.dtype)
        samples = ops.sum(ops.ones_like(divisor))
        total, samples, illegal = ops.unstack(
            replica_sum(ops.stack([ops.sum(divisor), samples, illegal])), 3
        )
        # Keras divides by the samples of all replicas and sums; what is left is sum / total.
        return ops.where(illegal > 0, float("nan"), safe_divide(error * samples, total))

    def _weights_of(self, ids, channels):
        """Class weights of the pixels: of the shape of `ids`, or (K,)."""
        if self.mode == "multilabel":
            return self.class_weight_tensor(self.class_weights, channels)
        classes = 2 if self.mode == "binary" else channels
        return ops.take(self.class_weight_tensor(self.class_weights, classes), ids)

    def _shaped(self, pixel_weight, valid):
        """Pixel weights that broadcast to the shape of `valid`, 0 where a pixel does not count."""
        weight = ops.cast(pixel_weight, self.dtype)
        check_same_size(valid, weight, "sample weights")
        if self.mode == "multiclass" and len(weight.shape) == 4:
            weight = ops.squeeze(weight, axis=-1)
        elif self.mode != "multiclass" and len(weight.shape) == 3:
            weight = ops.expand_dims(weight, -1)
        return ops.where(valid > 0, weight, 0.0)

    def get_config(self):
        return {
            **super().get_config(),
            "class_weights": self.class_weights,
            "mode": self.mode,
            "over": self.over,
            "divide_by": self.divide_by,
        }


@keras.saving.register_keras_serializable("keras_seg")
class CrossEntropy(PixelLoss):
    """Mean of -log q[label] over the pixels that count, q = softmax(logits).

    In the modes of a sigmoid, -log q of labels 1 and -log(1 - q) of labels 0; "binary" is the same
    as two classes with the logits 0 and z.

    Args:
        label_smoothing: s from 0 to below 1: the target of the true class is 1 - s + s / K and of
            every other s / K (Szegedy et al., "Rethinking the Inception Architecture", 2016); with
            a sigmoid 1 - s / 2 and s / 2. The weight of a pixel is that of its label all the same.
        label_stride: compare logits with every n-th label in height and width, for logits at 1/n
            of the image's size: labels[:, offset::n, offset::n] must have their size, or a row
            or column less, where a network pads the image and its last scores lie outside: these do
            not count. DeepLab v1 and the Dilation networks train so, n = 8. Pixel weights are
            thinned out alike.
        label_offset: row and column of the first label compared, below `label_stride`. 0, but 1
            for the 2x2 pools of `DeepLabV1(variant="base")`. Where a network of valid convolutions
            sees a margin around them (186 pixels in Dilation8), cut the labels to the middle first.

    Other arguments, the divisor and errors: `PixelLoss`.
    """

    def __init__(
        self,
        ignore_label=255,
        class_weights=None,
        *,
        label_smoothing=0.0,
        label_stride=1,
        label_offset=0,
        name="cross_entropy",
        **options,
    ):
        super().__init__(ignore_label, class_weights, name=name, **options)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be from 0 to below 1, got {label_smoothing}.")
        if not 0 <= label_offset < label_stride:
            raise ValueError(
                "label_stride must be at least 1 and label_offset from 0 to below it, got "
                f"{label_stride} and {label_offset}."
            )
        self.label_smoothing = float(label_smoothing)
        self.label_stride = int(label_stride)
        self.label_offset = int(label_offset)

    def call(self, y_true, y_pred, pixel_weight=None):
        if pixel_weight is not None:
            pixel_weight = self._thinned(pixel_weight)
        y_true = self._thinned(y_true)
        return super().call(y_true, self._inside(y_pred, y_true), pixel_weight)

    def _thinned(self, x):
        """Every `label_stride`-th row and column of (N, H, W, ...)."""
        x = ops.convert_to_tensor(x)
        every = slice(self.label_offset, None, self.label_stride)
        return x[:, every, every] if self.label_stride > 1 and len(x.shape) > 2 else x

    def _inside(self, logits, labels):
        """Logits without the last row and column where these are one more than the labels'."""
        if self.label_stride == 1 or len(logits.shape) != 4 or len(labels.shape) < 3:
            return logits
        # At most one: logits of another stride must fail, not be cut to fit.
        rows, columns = (
            ops.maximum(ops.shape(logits)[axis] - 1, ops.shape(labels)[axis]) for axis in (1, 2)
        )
        return logits[:, :rows, :columns]

    def errors(self, logits, ids):
        nll = self.nll(logits, ids)
        smoothing = self.label_smoothing
        if not smoothing:
            return nll
        # The mean of -log q over the classes, of which a sigmoid has the two log-odds 0 and z.
        if self.mode == "multiclass":
            mean = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)
        else:
            mean = ops.softplus(logits) - logits / 2
        return (1 - smoothing) * nll + smoothing * mean

    def get_config(self):
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "label_stride": self.label_stride,
            "label_offset": self.label_offset,
        }


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
