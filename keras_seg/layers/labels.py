"""Which pixels count: the one rule that every loss and every metric shares."""

import numbers

import keras
import numpy as np
from keras import ops


def standardize_ignore_label(ignore_label):
    """`ignore_label` as a tuple of ids: an integer gives one, None none, a list several.

    Raises ValueError for anything that is not made of integers.
    """
    if ignore_label is None:
        return ()
    ids = ignore_label if isinstance(ignore_label, list | tuple) else (ignore_label,)
    if not all(isinstance(i, numbers.Integral) and not isinstance(i, bool) for i in ids):
        raise ValueError(
            f"ignore_label must be an integer, a list of integers or None, got {ignore_label!r}."
        )
    return tuple(int(i) for i in ids)


def sort_labels(labels, num_classes, ignored_ids, *, channels=None, what="labels"):
    """Tell the pixels that count from those to ignore and from those that are mistakes.

    Args:
        labels: integers (N, H, W) or (N, H, W, 1), of any integer type. They are compared before
            any narrowing, so that 2**32 + 1 does not pass for class 1 (the JAX backend itself
            narrows 64-bit input to 32 bits before it arrives here).
        num_classes: classes are the ids 0 .. num_classes - 1 that are not ignored.
        ignored_ids: tuple from `standardize_ignore_label`.
        channels: None, or K for labels (N, H, W, K) that hold K ids for each pixel.
        what: how an error calls the array.

    Returns:
        ids: int32 (N, H, W[, K]), 0 wherever the pixel does not count: safe to index with.
        valid: bool (N, H, W[, K]), the pixels that count.
        illegal: bool (N, H, W[, K]), ids that are neither a class nor ignored.

    Raises:
        ValueError: labels are no integers or have another rank.
    """
    labels = ops.convert_to_tensor(labels)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if "int" not in dtype and not _is_build_under_strategy():
        raise ValueError(
            f"{what} must be integer class ids, got {dtype}. Keras augmentation layers return "
            "masks as floats: cast them back with astype('int32'), do not round probabilities."
        )
    shape = tuple(labels.shape)
    if channels is not None:
        if len(shape) != 4 or shape[-1] != channels:
            raise ValueError(
                f"{what} must have the shape (N, H, W, {channels}), 0 or 1 for each label of a "
                f"pixel, got {shape}."
            )
    elif len(shape) == 4 and shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    elif len(shape) != 3:
        raise ValueError(
            f"{what} must have the shape (N, H, W) or (N, H, W, 1), got {shape}. One-hot masks: "
            "take the argmax over the last axis."
        )
    labels = ops.cast(labels, "int64" if dtype in ("uint32", "int64", "uint64") else "int32")
    ignored = ops.zeros_like(labels, dtype="bool")
    for label in ignored_ids:
        ignored = ops.logical_or(ignored, ops.equal(labels, label))
    legal = ops.logical_and(labels >= 0, labels < num_classes)
    valid = ops.logical_and(legal, ops.logical_not(ignored))
    illegal = ops.logical_not(ops.logical_or(legal, ignored))
    return ops.cast(ops.where(valid, labels, 0), "int32"), valid, illegal


def check_legal(labels, illegal, num_classes, ignore_label, what="labels"):
    """Raise ValueError that names the ids of `labels` where `illegal`, a mask, is true.

    Does nothing while a function is traced: there are no values yet.
    """
    if _is_concrete(illegal) and ops.any(illegal):
        ids = ops.convert_to_numpy(labels).reshape(-1)
        ids = ids[ops.convert_to_numpy(illegal).reshape(-1)]
        raise illegal_ids(ids, num_classes, ignore_label, what)


def illegal_ids(ids, num_classes, ignore_label, what="labels"):
    """The ValueError for an array of ids that are neither a class nor ignored."""
    found = ", ".join(str(i) for i in np.unique(ids)[:8])
    ignored = "" if ignore_label is None else f" or the ignore label {ignore_label}"
    return ValueError(
        f"{ids.size} pixels of the {what} have ids that are no class: {found}. Expected 0 .. "
        f"{num_classes - 1}{ignored}: check the class table "
        "(`keras-seg check-data` names the files)."
    )


def _is_concrete(x):
    """Whether the values of `x` can be looked at now: false while a function is being traced."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.executing_eagerly()
    if backend == "jax":
        import jax

        return not isinstance(x, jax.core.Tracer)
    return backend != "torch" or x.device.type != "meta"


def _is_build_under_strategy():
    """Whether Keras is only tracing shapes, before the first step under a `tf.distribute` strategy.

    It does so with the mean over the replicas of a batch, in which labels are floats. Nothing else
    runs in a graph and in the strategy's scope but outside of its replicas.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return (
        not tf.executing_eagerly()
        and tf.distribute.has_strategy()
        and tf.distribute.in_cross_replica_context()
    )


def check_same_size(labels, predictions, what="logits"):
    """Raise ValueError when the known sizes of two (N, H, W, ...) tensors differ."""
    theirs, ours = tuple(predictions.shape[:3]), tuple(labels.shape[:3])
    differ = [None not in pair and pair[0] != pair[1] for pair in zip(theirs, ours, strict=True)]
    if differ[0]:
        raise ValueError(f"{what} are of {theirs[0]} images but labels of {ours[0]}.")
    theirs, ours = theirs[1:], ours[1:]
    if any(differ):
        raise ValueError(
            f"{what} are {theirs[0]} x {theirs[1]} pixels but labels {ours[0]} x {ours[1]}: "
            "resize the logits to the labels, never the labels."
        )
