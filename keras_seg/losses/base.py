"""What every pixel loss shares: which pixels count, sums over replicas, adding and scaling."""

import math
import numbers

import keras
from keras import ops

from keras_seg.layers.labels import check_same_size, sort_labels, standardize_ignore_label


def replica_sum(x):
    """Sum of `x` over the replicas of `tf.distribute`, differentiable; `x` itself elsewhere.

    JAX and torch need nothing: under `keras.distribution` JAX sees the whole batch.
    """
    if keras.backend.backend() != "tensorflow":
        return x
    import tensorflow as tf

    context = tf.distribute.get_replica_context()  # None outside of a replica's own code
    if context is None or context.num_replicas_in_sync == 1:
        return x
    return context.all_reduce(tf.distribute.ReduceOp.SUM, x)


def safe_divide(x, y):
    """x / y, and 0 with zero gradient where y is 0."""
    empty = ops.equal(y, 0)
    return ops.where(empty, 0.0, x / ops.where(empty, 1.0, y))


class _Given(keras.losses.Loss):
    """Reduces losses that are computed already, the way Keras does under any strategy."""

    def call(self, y_true, y_pred):
        return y_pred


class SegmentationLoss(keras.losses.Loss):
    """Base of the losses between integer labels and logits.

    `loss(labels, logits)` takes labels of an integer type, (N, H, W) or (N, H, W, 1), and logits
    (N, H, W, K), K >= 2. A subclass's `call` returns one value a sample, (N,), because Keras
    divides by the number of replicas only when it reduces a tensor; the values are such that
    their mean over all samples of all replicas is the loss of the whole batch. `fit` therefore
    computes the same loss and the same gradient on one replica and on several, however the
    ignored pixels are spread.

    The arithmetic is float32 (float64 with `dtype="float64"`) whatever the precision policy.
    Where no pixel counts, the loss is 0 and so is the gradient. An id that is neither a class
    nor ignored makes the loss NaN and the gradient zero, in eager mode, in graphs and under XLA
    alike: the fault shows in the log at once and does not reach the weights.

    `a + b` and `2.0 * a` are losses too. The only sample weights that make sense are one a
    sample; pixels are weighted by classes or left out by label.

    Raises (all on call): ValueError when labels are floats, when ranks, sizes or the number of
    classes do not fit, and for sample weights a pixel.
    """

    # `numpy.float64(0.1) * loss` must reach `__rmul__`, not make an array of objects.
    __array_ufunc__ = None

    def __init__(self, ignore_label=255, *, name=None, reduction="sum_over_batch_size", dtype=None):
        wide = dtype is not None and keras.dtype_policies.get(dtype).compute_dtype == "float64"
        super().__init__(name, reduction, dtype="float64" if wide else "float32")
        self.ignore_label = ignore_label
        self._ignored_ids = standardize_ignore_label(ignore_label)

    def __call__(self, y_true, y_pred, sample_weight=None):
        # Keras' own would turn the labels into floats first.
        values = self.call(y_true, y_pred)
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight)
            shape = tuple(sample_weight.shape)
            if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
                raise ValueError(
                    f"{self.name} takes one sample weight an image, shape (N,), got {shape}. "
                    "Weigh classes with class_weights=[...] of the loss (not class_weight of "
                    "fit) and leave pixels out with the ignore label."
                )
        reduce = _Given(self.name, self.reduction, dtype=self.dtype)
        return reduce(values, values, sample_weight)

    def prepare(self, labels, logits):
        """Check and sort the input.

        Returns:
            logits in the loss's dtype (N, H, W, K), 0 where a pixel does not count, so that not
            even an inf or NaN there leaves a trace; ids int32 (N, H, W); the mask of pixels that
            count (N, H, W) and the number of illegal ones (), both in the loss's dtype.
        """
        logits = ops.cast(ops.convert_to_tensor(logits), self.dtype)
        shape = tuple(logits.shape)
        if len(shape) != 4 or shape[-1] is None or shape[-1] < 2:
            raise ValueError(
                f"{self.name} takes logits of shape (N, H, W, K) with K >= 2 classes, got "
                f"{shape}. For two classes give the model two outputs."
            )
        ids, valid, illegal = sort_labels(labels, shape[-1], self._ignored_ids)
        check_same_size(ids, logits)
        logits = ops.where(ops.expand_dims(valid, -1), logits, 0.0)
        return (
            logits,
            ids,
            ops.cast(valid, self.dtype),
            ops.sum(ops.cast(illegal, self.dtype)),
        )

    def class_weight_tensor(self, class_weights, num_classes):
        """`class_weights` as a tensor (K,), or ones."""
        if class_weights is None:
            return ops.ones((num_classes,), dtype=self.dtype)
        if len(class_weights) != num_classes:
            raise ValueError(
                f"{self.name} has {len(class_weights)} class weights for {num_classes} classes: "
                "give one for each output of the model."
            )
        return ops.convert_to_tensor(class_weights, dtype=self.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "dtype": self.dtype,
            "ignore_label": self.ignore_label,
        }

    def __add__(self, other):
        if not isinstance(other, SegmentationLoss):
            return NotImplemented
        return WeightedSum([self, other])

    def __radd__(self, other):
        # The builtin `sum` starts with 0.
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __mul__(self, factor):
        if not isinstance(factor, numbers.Real):
            return NotImplemented
        return WeightedSum([self], [factor])

    __rmul__ = __mul__


def standardize_class_weights(class_weights):
    """A list of floats, or None. Raises ValueError for negative or non-finite weights."""
    if class_weights is None:
        return None
    weights = [float(w) for w in class_weights]
    if not all(math.isfinite(w) and w >= 0 for w in weights):
        raise ValueError(f"class_weights must be finite and >= 0, got {weights}.")
    return weights


@keras.saving.register_keras_serializable("keras_seg")
class WeightedSum(SegmentationLoss):
    """sum_i weights[i] * losses[i]: what `a + b` and `2.0 * a` make.

    Args:
        losses: losses of this package, sums among them; each keeps its own `ignore_label`.
        weights: one finite number a loss; default ones.

    Raises:
        ValueError: no losses, another number of weights, or losses of different `reduction`.
    """

    def __init__(self, losses, weights=None, *, name="weighted_sum", dtype=None):
        losses = list(losses)
        weights = [1.0] * len(losses) if weights is None else [float(w) for w in weights]
        if not losses or len(losses) != len(weights):
            raise ValueError(
                f"WeightedSum needs losses and one weight each, got {len(losses)} losses and "
                f"{len(weights)} weights."
            )
        if not all(math.isfinite(w) for w in weights):
            raise ValueError(f"Weights of losses must be finite, got {weights}.")
        reductions = {loss.reduction for loss in losses}
        if len(reductions) > 1:
            raise ValueError(
                f"Losses to add must have one reduction, got {sorted(map(str, reductions))}."
            )
        super().__init__(None, name=name, reduction=reductions.pop(), dtype=dtype)
        self.losses, self.weights = [], []
        for loss, weight in zip(losses, weights, strict=True):
            parts = loss.terms() if isinstance(loss, WeightedSum) else [(loss, 1.0)]
            self.losses += [part for part, _ in parts]
            self.weights += [weight * inner for _, inner in parts]

    def terms(self):
        """[(loss, weight), ...], without nested sums."""
        return list(zip(self.losses, self.weights, strict=True))

    def call(self, y_true, y_pred):
        return sum(
            weight * ops.cast(loss.call(y_true, y_pred), self.dtype)
            for loss, weight in self.terms()
        )

    def get_config(self):
        return {
            "name": self.name,
            "dtype": self.dtype,
            "losses": [keras.saving.serialize_keras_object(loss) for loss in self.losses],
            "weights": self.weights,
        }

    @classmethod
    def from_config(cls, config):
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})
