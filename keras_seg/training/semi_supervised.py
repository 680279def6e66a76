"""Semi-supervised training: a term of the loss that needs no labels and grows as training goes on.

    train_data = data.with_unlabelled(data.sparse_labels(labelled, 10), unlabelled)
    loss = losses.CrossEntropy() + training.WarmUp(0.05 * losses.TotalVariation())
    training.train(build_model, train_data, val_data, loss=loss, ...)

Javanmardi, Sajjadi, Liu, Tasdizen. "Unsupervised Total Variation Loss for Semi-supervised Deep
Learning of Semantic Segmentation", 2016. https://arxiv.org/abs/1605.01368
"""

import keras
from keras import ops

from keras_seg.losses import SegmentationLoss, WeightedSum


@keras.saving.register_keras_serializable("keras_seg")
class WarmUp(SegmentationLoss):
    """A loss times a factor that rises from 0 to 1, linearly, over the first steps of `train`.

    A map of one class everywhere is a minimum of the total variation, and easy to fall into while
    nothing is learnt yet. The factor follows from the updates that the optimizer has made, so a run
    that goes on has the same one. Outside of `train`, and in a file that is opened again, it is 1.

    Args:
        loss: of this package, such as `0.05 * TotalVariation()`.
        share: of all steps, above 0 and up to 1, in which it rises.

    Raises:
        ValueError: for another kind of loss, or a share out of range.
    """

    def __init__(self, loss, share=0.2, *, name="warm_up", dtype=None):
        if not isinstance(loss, SegmentationLoss):
            raise ValueError(f"WarmUp takes a loss of keras_seg.losses, got {loss!r}.")
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {share}.")
        super().__init__(None, name=name, reduction=loss.reduction, dtype=dtype)
        self.loss = loss
        self.share = float(share)
        self._factor = None

    def follow(self, optimizer, steps):
        """Take the factor from `optimizer`, which is given the gradients of `steps` batches in all.

        Raises:
            ValueError: on JAX and torch.
        """
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "WarmUp needs the TensorFlow backend: elsewhere a loss does not know the step. "
                f"Without it, a constant weight, everything runs on {keras.backend.backend()} too."
            )
        # Of several batches that make one update, `iterations` counts the updates.
        batches = getattr(optimizer, "inner_optimizer", optimizer).gradient_accumulation_steps or 1
        rising = self.share * steps / batches
        # A function: Keras would save an optimizer that is an attribute with the loss.
        self._factor = lambda: ops.minimum(ops.cast(optimizer.iterations, self.dtype) / rising, 1.0)

    def check_pixel_weight(self, shape):
        self.loss.check_pixel_weight(shape)

    def call(self, y_true, y_pred, *pixel_weight):
        values = ops.cast(self.loss.call(y_true, y_pred, *pixel_weight), self.dtype)
        return values if self._factor is None else self._factor() * values

    def get_config(self):
        return {
            "name": self.name,
            "dtype": self.dtype,
            "loss": keras.saving.serialize_keras_object(self.loss),
            "share": self.share,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})


def all_terms(loss):
    """The losses that a loss consists of: the terms of sums, and what a `WarmUp` holds."""
    if isinstance(loss, WeightedSum):
        return [part for term, _ in loss.terms() for part in all_terms(term)]
    return [loss, *all_terms(loss.loss)] if isinstance(loss, WarmUp) else [loss]


def follow(loss, optimizer, steps):
    """Let every `WarmUp` in `loss` (one, a sum, or a dict of these) follow the optimizer."""
    for part in loss.values() if isinstance(loss, dict) else [loss]:
        for term in all_terms(part):
            if isinstance(term, WarmUp):
                term.follow(optimizer, steps)
