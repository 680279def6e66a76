"""Losses of the predicted map alone, without labels."""

import keras
from keras import ops

from keras_seg.losses.base import SegmentationLoss, replica_sum


@keras.saving.register_keras_serializable("keras_seg")
class TotalVariation(SegmentationLoss):
    """Sum over classes of |q - q of the neighbour below| + |q - q of the neighbour on the right|.

    Javanmardi, Sajjadi, Liu, Tasdizen. "Unsupervised Total Variation Loss for Semi-supervised Deep
    Learning of Semantic Segmentation", 2016. q are the probabilities; the last row and column have
    no such neighbour. It pulls predictions together where nothing is labelled: every pixel counts,
    the ignored ones too, so that images without any label, all of them ignored, take part as well:

        CrossEntropy() + 0.1 * TotalVariation()

    The loss is the mean over the images of the sum divided by height x width, at most 4 (the
    constant map has 0, hence the weight must be small, or grow as training goes on). Labels are
    checked and otherwise unused.

    Args:
        ignore_label: ids that are no mistake in the labels.
        mode: as in `SegmentationLoss`.
        squared: squares in the place of absolute values.
        normalize: False leaves out the division by height x width.
        name, reduction, dtype: as in `SegmentationLoss`.

    Raises:
        ValueError: as `SegmentationLoss` says.
    """

    def __init__(
        self,
        ignore_label=255,
        *,
        mode="multiclass",
        squared=False,
        normalize=True,
        name="total_variation",
        reduction="sum_over_batch_size",
        dtype=None,
    ):
        super().__init__(ignore_label, mode=mode, name=name, reduction=reduction, dtype=dtype)
        self.squared = bool(squared)
        self.normalize = bool(normalize)

    def call(self, y_true, y_pred):
        _, _, _, illegal = self.prepare(y_true, y_pred)
        logits = ops.cast(y_pred, self.dtype)
        q = ops.softmax(logits) if self.mode == "multiclass" else ops.sigmoid(logits)
        size = ops.square if self.squared else ops.abs
        # Row by row first: XLA's float32 sum of a whole map in one go loses the fourth digit.
        down = ops.sum(size(q[:, 1:] - q[:, :-1]), axis=(2, 3))
        right = ops.sum(size(q[:, :, 1:] - q[:, :, :-1]), axis=(2, 3))
        loss = ops.sum(down, axis=1) + ops.sum(right, axis=1)  # (N,)
        if self.normalize:
            shape = ops.shape(q)
            loss = loss / ops.cast(shape[1] * shape[2], self.dtype)
        return ops.where(replica_sum(illegal) > 0, float("nan"), loss)

    def get_config(self):
        return {
            **super().get_config(),
            "mode": self.mode,
            "squared": self.squared,
            "normalize": self.normalize,
        }
