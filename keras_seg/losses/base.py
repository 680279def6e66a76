"""What every pixel loss shares: which pixels count, sums over replicas, adding and scaling."""

import math
import numbers

import keras
import numpy as np
from keras import ops

from keras_seg.layers.labels import (
    check_legal,
    check_same_size,
    sort_labels,
    standardize_ignore_label,
)
from keras_seg.utils import unknown_name

MODES = ("multiclass", "binary", "multilabel")


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

    `loss(labels, logits)` takes labels of an integer type and logits of one of three forms:

        mode            logits         labels                                        prediction
        "multiclass"    (N, H, W, K)   (N, H, W) or (N, H, W, 1), 0 .. K - 1         softmax
        "binary"        (N, H, W, 1)   (N, H, W) or (N, H, W, 1), 0 or 1             sigmoid
        "multilabel"    (N, H, W, K)   (N, H, W, K), 0 or 1 for each label           sigmoid

    each with the ignore label too; with "multilabel" it leaves out one label of one pixel. Masks
    of 0 and 255 must be divided by 255 first: 255 is the ignore label unless another is given.

    A subclass's `call` returns one value a sample, (N,), because Keras divides by the number of
    replicas only when it reduces a tensor; the values are such that their mean over all samples of
    all replicas is the loss of the whole batch. `fit` therefore computes the same loss and the same
    gradient on one replica and on several, however the ignored pixels are spread.

    The arithmetic is float32 (float64 with `dtype="float64"`) whatever the precision policy.
    Where no pixel counts, the loss is 0 and so is the gradient. An id that is neither a class
    nor ignored raises ValueError in eager mode, with the id. In graphs, under XLA and `jax.jit`,
    where values are not known when the code runs, it makes the loss NaN and the gradient zero: the
    fault shows in the log at once and does not reach the weights.

    `a + b` and `2.0 * a` are losses too. Sample weights are one a sample, (N,); where a loss says
    so, also one a pixel, (N, H, W). Otherwise pixels are weighted by classes or left out by label.

    Args:
        ignore_label: id, list of ids or None; such pixels do not count.
        mode: "multiclass", "binary" or "multilabel".
        name, reduction: as in Keras.
        dtype: "float64" computes in float64, all else in float32.

    Raises:
        ValueError: for an unknown mode; and on call when labels are floats or one-hot, when ranks,
            sizes or the number of classes do not fit, and for sample weights of another shape.
    """

    # `numpy.float64(0.1) * loss` must reach `__rmul__`, not make an array of objects.
    __array_ufunc__ = None

    def __init__(
        self,
        ignore_label=255,
        *,
        mode="multiclass",
        name=None,
        reduction="sum_over_batch_size",
        dtype=None,
    ):
        wide = dtype is not None and keras.dtype_policies.get(dtype).compute_dtype == "float64"
        super().__init__(name, reduction, dtype="float64" if wide else "float32")
        if mode not in MODES:
            raise unknown_name("mode", mode, MODES)
        self.ignore_label = ignore_label
        self.mode = mode
        self._ignored_ids = standardize_ignore_label(ignore_label)

    def __call__(self, y_true, y_pred, sample_weight=None):
        # Keras' own would turn the labels into floats first.
        pixel_weight = []
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight)
            shape = tuple(sample_weight.shape)
            if len(shape) > 2:
                self.check_pixel_weight(shape)
                pixel_weight, sample_weight = [sample_weight], None
            elif len(shape) == 2 and shape[1] != 1:
                raise ValueError(f"{self.name} takes sample weights of shape (N,), got {shape}.")
        values = self.call(y_true, y_pred, *pixel_weight)
        reduce = _Given(self.name, self.reduction, dtype=self.dtype)
        return reduce(values, values, sample_weight)

    def check_pixel_weight(self, shape):
        """Raise ValueError where `call` takes no third argument, or not one of this shape."""
        raise ValueError(
            f"{self.name} takes one sample weight an image, shape (N,), got {shape}. Weigh pixels "
            "with CrossEntropy, classes with class_weights=[...] of the loss (not class_weight of "
            "fit), and leave pixels out with the ignore label."
        )

    def prepare(self, labels, logits):
        """Check and sort the input.

        Returns:
            logits in the loss's dtype (N, H, W, K), 0 where a pixel does not count, so that not
            even an inf or NaN there leaves a trace; ids int32, the class (N, H, W), or 0 and 1
            (N, H, W, K) in the modes of a sigmoid; the mask of those that count, of the same
            shape, and the number of illegal ones (), both in the loss's dtype.
        """
        logits = ops.cast(ops.convert_to_tensor(logits), self.dtype)
        self._check_logits(tuple(logits.shape))
        channels = logits.shape[-1] if self.mode == "multilabel" else None
        classes = logits.shape[-1] if self.mode == "multiclass" else 2
        ids, valid, illegal = self.sort_labels(labels, classes, channels)
        check_same_size(ids, logits)
        if self.mode == "binary":
            ids, valid = ops.expand_dims(ids, -1), ops.expand_dims(valid, -1)
        counted = ops.expand_dims(valid, -1) if self.mode == "multiclass" else valid
        logits = ops.where(counted, logits, 0.0)
        return logits, ids, ops.cast(valid, self.dtype), illegal

    def _check_logits(self, shape):
        channels = shape[-1] if len(shape) == 4 else None
        if self.mode == "multiclass" and channels in (None, 1):
            raise ValueError(
                f"{self.name} takes logits of shape (N, H, W, K) with K >= 2 classes, got {shape}. "
                'For two classes pass mode="binary" or give the model two outputs.'
            )
        if self.mode == "binary" and channels != 1:
            raise ValueError(
                f'{self.name} with mode="binary" takes logits of shape (N, H, W, 1), got {shape}. '
                'For several outputs pass mode="multiclass" or mode="multilabel".'
            )
        if channels is None:
            raise ValueError(f"{self.name} takes logits of shape (N, H, W, K), got {shape}.")

    def sort_labels(self, labels, num_classes, channels=None):
        """`keras_seg.layers.labels.sort_labels`, with illegal ids counted and refused."""
        ids, valid, illegal = sort_labels(labels, num_classes, self._ignored_ids, channels=channels)
        check_legal(labels, illegal, num_classes, self.ignore_label)
        return ids, valid, ops.sum(ops.cast(illegal, self.dtype))

    def masks(self, labels, logits):
        """`prepare` for losses that compare masks of classes.

        Returns:
            true masks p and predicted ones q, (N, H, W, K), both 0 where a pixel does not count;
            the mask of those that count, (N, H, W, 1) or, with "multilabel", (N, H, W, K); the
            number of illegal ones ().
        """
        logits, ids, valid, illegal = self.prepare(labels, logits)
        if self.mode == "multiclass":
            valid = ops.expand_dims(valid, -1)
            p, q = ops.one_hot(ids, logits.shape[-1], dtype=self.dtype), ops.softmax(logits)
        else:
            p, q = ops.cast(ids, self.dtype), ops.sigmoid(logits)
        return p * valid, q * valid, valid, illegal

    def class_weight_tensor(self, class_weights, num_classes):
        """`class_weights` as a tensor (K,), or ones."""
        if class_weights is None:
            return ops.ones((num_classes,), dtype=self.dtype)
        if len(class_weights) != num_classes:
            raise ValueError(
                f"{self.name} has {len(class_weights)} class weights for {num_classes} classes: "
                "give one for each class."
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


def standardize_class_weights(class_weights, what="class_weights"):
    """A list of floats, or None. Raises ValueError for what is no list of finite numbers >= 0."""
    if class_weights is None:
        return None
    weights = np.asarray(class_weights)
    numeric = weights.ndim == 1 and weights.dtype.kind in "iuf"
    if not numeric or not np.all(np.isfinite(weights) & (weights >= 0)):
        # Of a dict the ids would be taken for the weights.
        raise ValueError(
            f"{what} must be a list of finite numbers >= 0, one for each class in their order, got "
            f"{class_weights!r}."
        )
    return [float(w) for w in weights]


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

    def check_pixel_weight(self, shape):
        for loss in self.losses:
            loss.check_pixel_weight(shape)

    def call(self, y_true, y_pred, *pixel_weight):
        return sum(
            weight * ops.cast(loss.call(y_true, y_pred, *pixel_weight), self.dtype)
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
