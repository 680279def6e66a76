"""Which classes an image holds, as a loss beside that of the pixels."""

import keras
from keras import ops

from keras_seg.losses.base import SegmentationLoss, replica_sum, safe_divide


@keras.saving.register_keras_serializable("keras_seg")
class SemanticEncoding(SegmentationLoss):
    """Binary cross entropy between logits (N, K) and whether each class has a pixel in the image.

    The SE-loss of Zhang et al., "Context Encoding for Semantic Segmentation", CVPR 2018, section
    3.2, for the output "se" of `keras_seg.models.EncNet`: the mean over classes and images, of
    which EncNet adds 0.2. `loss(labels, logits)` takes the labels of the pixels, (N, H, W) or
    (N, H, W, 1), as every other loss here. Images in which no pixel counts are left out of the
    mean: nothing is known of what they show.

    Args:
        ignore_label: id, list of ids or None; such pixels are of no class.
        name, reduction, dtype: as in `SegmentationLoss`.

    Raises:
        ValueError: on call, for float labels, or logits that are not (N, K).
    """

    def __init__(
        self,
        ignore_label=255,
        *,
        name="semantic_encoding",
        reduction="sum_over_batch_size",
        dtype=None,
    ):
        super().__init__(ignore_label, name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        logits = ops.cast(ops.convert_to_tensor(y_pred), self.dtype)
        shape = tuple(logits.shape)
        if len(shape) != 2 or shape[-1] is None:
            raise ValueError(
                f"{self.name} takes logits of shape (N, K), one for each class of an image, got "
                f"{shape}. For logits of every pixel use CrossEntropy."
            )
        classes = shape[-1]
        ids, valid, illegal = self.sort_labels(y_true, classes)
        valid = ops.cast(valid, self.dtype)
        # One bin for each class of each image: a one-hot map would be K times the labels.
        images = ops.shape(logits)[0]
        bins = ids + classes * ops.reshape(ops.arange(images, dtype="int32"), (-1, 1, 1))
        pixels = ops.segment_sum(
            ops.reshape(valid, (-1,)), ops.reshape(bins, (-1,)), num_segments=images * classes
        )
        present = ops.cast(ops.reshape(pixels, (-1, classes)) > 0, self.dtype)
        # -log sigmoid(z) where the class is present, -log sigmoid(-z) where it is not.
        loss = ops.mean(ops.softplus(logits) - logits * present, axis=-1)  # (N,)
        known = ops.cast(ops.sum(valid, axis=(1, 2)) > 0, self.dtype)
        samples, total, illegal = ops.unstack(
            replica_sum(
                ops.stack(
                    [
                        ops.sum(ops.ones_like(known)),
                        ops.sum(known),
                        illegal,
                    ]
                )
            ),
            3,
        )
        # Keras divides by the samples of all replicas and sums; what is left is sum / total.
        return ops.where(illegal > 0, float("nan"), safe_divide(loss * known * samples, total))
