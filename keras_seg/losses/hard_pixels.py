"""Cross entropy of the hardest pixels alone."""

import abc
import numbers

import keras
from keras import ops

from keras_seg.losses.base import replica_sum
from keras_seg.losses.cross_entropy import PixelLoss

HALF = 2**16  # a float32 as an integer is two digits to this base


def select_largest(values, valid, k):
    """Which of the pixels of all replicas have the k largest values, exactly and without sorting.

    Floats >= 0 have the order of their bits. One count of the upper halves of the bits, added up
    over the replicas, tells which upper half the k-th largest value has; one of the lower halves
    among those, the rest. So replicas agree on one threshold and exchange 2 x 2**16 numbers.

    Args:
        values: >= 0, of any shape; compared as float32.
        valid: 1 for pixels that count, else 0, of the same shape.
        k: scalar tensor, at least 1 (more than there are selects all).

    Returns:
        masks 0 or 1 of the pixels above the k-th largest value and of those equal to it, and the
        numbers (), over all replicas, of both.
    """
    # abs: -0.0 has another sign bit. An axis of known size: Keras' view fails on unknown ones.
    column = ops.reshape(ops.abs(ops.cast(ops.stop_gradient(values), "float32")), (-1, 1))
    bits = ops.reshape(ops.view(column, "int32"), ops.shape(values))
    digits = bits // HALF, bits % HALF
    candidates, above = valid, ops.zeros_like(valid)
    above_count = ops.cast(0.0, valid.dtype)
    for digit in digits:
        counts = ops.segment_sum(
            ops.reshape(candidates, (-1,)), ops.reshape(digit, (-1,)), num_segments=HALF
        )
        counts = replica_sum(counts)
        from_here = above_count + ops.flip(ops.cumsum(ops.flip(counts)))  # falls with the digit
        last = ops.sum(counts)
        threshold = ops.sum(ops.cast(from_here >= ops.minimum(k, above_count + last), "int32")) - 1
        equal_count = ops.take(counts, threshold)
        above_count = ops.take(from_here, threshold) - equal_count
        above = above + candidates * ops.cast(digit > threshold, valid.dtype)
        candidates = candidates * ops.cast(ops.equal(digit, threshold), valid.dtype)
    return above, candidates, above_count, equal_count


class HardPixelLoss(PixelLoss, abc.ABC):
    """Base of the mean cross entropy over chosen pixels: a subclass's `count` chooses them.

    They are chosen from all images of the batch on all replicas, so the loss is the same on one
    replica and on several. No gradient flows through the choice. Errors: as `PixelLoss` says, and
    ValueError for over="image".
    """

    def __init__(self, ignore_label=255, class_weights=None, *, over="batch", **options):
        if over != "batch":
            raise ValueError(
                f'Hard pixels are chosen from the whole batch: over must be "batch", got {over!r}.'
            )
        super().__init__(ignore_label, class_weights, **options)

    def errors(self, logits, ids):
        return self.nll(logits, ids)


@keras.saving.register_keras_serializable("keras_seg")
class OHEM(HardPixelLoss):
    """Mean cross entropy of the pixels whose class has a probability below `thresh`.

    Online hard example mining by threshold, as in OCNet, HRNet and mmsegmentation: where fewer
    pixels than `min_kept` an image are below it, that many of the hardest (over the whole batch,
    with those equal to the last of them; all, if there are fewer). mmsegmentation leaves out the
    easiest pixel of a batch of fewer pixels than `min_kept`.

    Args:
        thresh: probability from 0 to 1.
        min_kept: pixels an image, on average over the batch, at least 1.

    Other arguments, the divisor (a sum over the pixels kept) and errors: `HardPixelLoss`.
    """

    def __init__(self, thresh=0.7, min_kept=100000, *, ignore_label=255, name="ohem", **options):
        super().__init__(ignore_label, name=name, **options)
        if not 0 <= thresh <= 1:
            raise ValueError(f"thresh must be a probability from 0 to 1, got {thresh}.")
        if not min_kept >= 1:
            raise ValueError(f"min_kept must be at least 1 pixel an image, got {min_kept}.")
        self.thresh = float(thresh)
        self.min_kept = int(min_kept)

    def count(self, errors, valid):
        images = replica_sum(ops.cast(ops.shape(valid)[0], self.dtype))
        above, equal, _, _ = select_largest(errors, valid, self.min_kept * images)
        below = valid * ops.cast(ops.exp(-errors) < self.thresh, self.dtype)
        return ops.maximum(below, above + equal)

    def get_config(self):
        return {**super().get_config(), "thresh": self.thresh, "min_kept": self.min_kept}


@keras.saving.register_keras_serializable("keras_seg")
class TopKCrossEntropy(HardPixelLoss):
    """Mean of the k largest cross entropies of the batch.

    Wu, Shen, van den Hengel. "Bridging Category-level and Instance-level Semantic Image
    Segmentation", 2016, section 3.4. Of pixels equal to the k-th largest, each counts in part.

    Args:
        k: an integer >= 1, the number of pixels of the batch on all replicas (all, if fewer count);
            or a share of the pixels that count, a float above 0 and up to 1, rounded down but
            at least one pixel.

    Other arguments, the divisor (a sum over the pixels chosen) and errors: `HardPixelLoss`.
    """

    def __init__(self, k=0.1, *, ignore_label=255, name="top_k_cross_entropy", **options):
        super().__init__(ignore_label, name=name, **options)
        whole = isinstance(k, numbers.Integral) and not isinstance(k, bool)
        if not (whole and k >= 1 or isinstance(k, float) and 0 < k <= 1):
            raise ValueError(
                "k must be a number of pixels, an integer of at least 1, or a share of them, a "
                f"float above 0 and up to 1, got {k!r}."
            )
        self.k = int(k) if whole else float(k)

    def count(self, errors, valid):
        total = replica_sum(ops.sum(valid))
        k = ops.cast(self.k, self.dtype)
        if isinstance(self.k, float):
            k = ops.maximum(ops.floor(self.k * total), 1.0)
        above, equal, above_count, equal_count = select_largest(errors, valid, k)
        wanted = ops.minimum(k, total) - above_count
        return above + equal * wanted / ops.maximum(equal_count, 1.0)

    def get_config(self):
        return {**super().get_config(), "k": self.k}
