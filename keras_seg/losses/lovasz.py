"""The Lovasz extension of the Jaccard loss: a convex surrogate of 1 - IoU of the decisions."""

import abc

import keras
from keras import ops

from keras_seg.losses.base import replica_sum, safe_divide
from keras_seg.losses.overlap import ClassLoss, weighted_mean

BINS = 2**16
ALMOST_NONE = 1e-9  # pixels of a class that has none: gives its one largest error the weight 1


def jaccard_weights(counts):
    """How much the Jaccard loss rises with one more wrong pixel, by bin of its error.

    With the wrong pixels being those of larger error, f of the class and b of others, the loss is
    J = 1 - (G - f) / (G + b), G the pixels of the class. A further pixel of the class adds
    1 / (G + b), another one (G - f) / ((G + b) (G + b + 1)). The pixels of one bin share what the
    loss rises by from the first of them to the last: the mean of "own class first" and "own last".

    Args:
        counts: (..., 2, B), pixels of other classes and of the class, the largest errors first.

    Returns:
        Weights of the same shape; their sum over the pixels of a class is 1.
    """
    after = ops.cumsum(counts, axis=-1)
    before = after - counts
    total = ops.maximum(after[..., 1:, -1:], ALMOST_NONE)  # (..., 1, 1)
    false = total + before[..., :1, :], total + after[..., :1, :]
    missed = 0.5 * (before[..., 1:, :] + after[..., 1:, :])
    others = (total - missed) / (false[0] * false[1])
    own = 0.5 * (1.0 / false[0] + 1.0 / false[1])
    return ops.concatenate([others, own], axis=-2)


class LovaszLoss(ClassLoss, abc.ABC):
    """Base: a subclass's `errors` gives the error of each pixel and class.

    The loss of a class is the sum over its pixels, sorted by error, of error times the rise of
    1 - IoU when the pixel joins the wrong ones.

    The errors are not sorted but counted in bins: several times as fast, and the counts of several
    replicas add up, so that `over="batch"` is the loss of the whole batch on any number of them.
    Where no bin holds pixels of different errors, the loss and the gradient are those of sorting;
    elsewhere pixels of one bin share their gradient, and the loss is off by less than the width of
    a bin.

    Args:
        ignore_label, classes, over, class_weights, mode: as in `ClassLoss`. A class of a list, or
            of "all", that is absent costs its largest error.
        bins: number of bins > 0. Memory: 8 bytes a bin and class (and image, `over="image"`).
        name, reduction, dtype: as in `SegmentationLoss`.

    Raises:
        ValueError: for options out of range, and on call as `SegmentationLoss` says.
    """

    def __init__(self, ignore_label=255, *, bins=BINS, **options):
        super().__init__(ignore_label, **options)
        if not bins >= 1:
            raise ValueError(f"bins must be at least 1, got {bins}.")
        self.bins = int(bins)

    @abc.abstractmethod
    def errors(self, y_true, y_pred):
        """Compare labels and logits.

        Returns:
            errors >= 0, 0 where a pixel does not count; the same on a scale from 0 to 1, by which
            they fall into bins; true masks; all (N, H, W, K). Then as `masks`: which pixels count,
            and the number of illegal ones.
        """

    def call(self, y_true, y_pred):
        errors, scaled, truth, valid, illegal = self.errors(y_true, y_pred)
        num_classes = errors.shape[-1]

        # Bins of (image or 1, class, other or own, error), the largest errors first.
        images = ops.shape(errors)[0]
        bins = ops.cast(ops.stop_gradient(scaled) * self.bins, "int32")
        bins = self.bins - 1 - ops.clip(bins, 0, self.bins - 1)
        classes = ops.arange(num_classes, dtype="int32")
        bins = bins + self.bins * (ops.cast(truth, "int32") + 2 * classes)
        groups = 1
        if self.over == "image":
            groups = images
            offsets = 2 * num_classes * self.bins * ops.arange(images, dtype="int32")
            bins = bins + ops.reshape(offsets, (-1, 1, 1, 1))
        # As integers: float32 stops counting at 2**24 pixels.
        counted = ops.broadcast_to(ops.cast(valid, "int32"), ops.shape(errors))
        counts = ops.segment_sum(
            ops.reshape(counted, (-1,)),
            ops.reshape(bins, (-1,)),
            num_segments=groups * 2 * num_classes * self.bins,
        )
        counts = ops.reshape(ops.cast(counts, self.dtype), (groups, num_classes, 2, self.bins))
        if self.over == "batch":
            counts = replica_sum(counts)
        rise = ops.stop_gradient(ops.take(ops.reshape(jaccard_weights(counts), (-1,)), bins))
        # One axis after the other: a float32 sum of so many in one go loses the fifth digit.
        values = ops.sum(ops.sum(errors * rise, axis=2), axis=1)  # (N, K)

        true = ops.sum(counts[..., 1, :], axis=-1)  # (groups, K)
        values = weighted_mean(values, self.weights_of_classes(true))  # (N,)
        known = ops.sum(self.known_images(valid, true))
        samples = ops.cast(images, self.dtype)
        samples, known, illegal = ops.unstack(replica_sum(ops.stack([samples, known, illegal])), 3)
        if self.over == "image":
            values = safe_divide(values, known)
        # Keras divides by the samples of all replicas and sums.
        return ops.where(illegal > 0, float("nan"), values * samples)

    def get_config(self):
        return {**super().get_config(), "bins": self.bins}


@keras.saving.register_keras_serializable("keras_seg")
class Lovasz(LovaszLoss):
    """Mean over classes of the Lovasz extension of 1 - IoU at the errors |p - softmax(logits)|.

    Berman, Rannen Triki, Blaschko. "The Lovasz-Softmax Loss", CVPR 2018. The bins have the width
    1 / bins, 1.5e-5; over many pixels the loss differs from that of sorting by less than float32
    resolves. Arguments and errors: `LovaszLoss`. The modes "binary" and "multilabel" have
    sigmoid(logits) in the place of softmax(logits).
    """

    def __init__(self, ignore_label=255, *, name="lovasz", **options):
        super().__init__(ignore_label, name=name, **options)

    def errors(self, y_true, y_pred):
        p, q, valid, illegal = self.masks(y_true, y_pred)
        errors = ops.abs(p - q)
        return errors, errors, p, valid, illegal


@keras.saving.register_keras_serializable("keras_seg")
class LovaszHinge(LovaszLoss):
    """The Lovasz extension of 1 - IoU at the hinge errors max(0, 1 - z s), z the logit, s = +-1.

    Berman, Blaschko. "Optimization of the Jaccard index for image segmentation with the Lovasz
    hinge", 2017. For mode="binary" and, as the mean over labels, "multilabel". As in the authors'
    code every class counts: without a pixel of the foreground the loss is the largest error.

    An error e falls into a bin by e / (1 + e), so that a bin is (1 + e)^2 / bins wide.

    Args:
        mode: "binary" or "multilabel".
        classes: as in `ClassLoss`, by default "all".

    Other arguments and errors: `LovaszLoss`; ValueError also for mode="multiclass".
    """

    def __init__(
        self, ignore_label=255, *, mode="binary", classes="all", name="lovasz_hinge", **options
    ):
        if mode == "multiclass":
            raise ValueError(
                'LovaszHinge has the modes "binary" and "multilabel"; for classes that exclude '
                "each other take Lovasz."
            )
        super().__init__(ignore_label, mode=mode, classes=classes, name=name, **options)

    def errors(self, y_true, y_pred):
        logits, ids, valid, illegal = self.prepare(y_true, y_pred)
        truth = ops.cast(ids, self.dtype)
        errors = ops.relu(1.0 - logits * (2.0 * truth - 1.0)) * valid
        return errors, errors / (1.0 + errors), truth, valid, illegal
