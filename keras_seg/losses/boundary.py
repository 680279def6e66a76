"""A loss that weighs each pixel by its distance from the true boundary."""

import keras
from keras import ops

from keras_seg.losses.base import replica_sum, safe_divide
from keras_seg.losses.overlap import ClassLoss, weighted_mean

FAR = 1e9  # squared distance to a class that is absent


def squared_distances(masks):
    """Squared distance in pixels to the nearest pixel of each mask, FAR or more for empty masks.

    Exact: along the columns, then the nearest of all columns for each pixel of a row.

    Args:
        masks: 0 or 1, float32 or float64 (N, H, W, K).

    Returns:
        (N, H, W, K), of the same dtype.
    """
    far = ops.transpose((1.0 - masks) * 1.1 * FAR**0.5, (1, 0, 3, 2))  # (H, N, K, W)

    def step(distance, row):
        distance = ops.minimum(distance + 1.0, row)
        return distance, distance

    _, columns = ops.scan(step, far[0], far)
    _, columns = ops.scan(step, columns[-1], columns, reverse=True)

    place = ops.cast(ops.arange(ops.shape(far)[-1]), far.dtype)
    across = ops.square(ops.expand_dims(place, 0) - ops.expand_dims(place, 1))  # (W, W)

    def nearest(row):
        return ops.min(ops.expand_dims(ops.square(row), -2) + across, axis=-1)

    return ops.transpose(ops.map(nearest, columns), (1, 0, 3, 2))


def signed_distances(truth, valid, *, exclusive):
    """How far each pixel lies outside of a mask, in pixels; negative inside.

    Outside it is the distance to the nearest pixel of the mask; inside, 1 less than that to the
    nearest pixel that is not of the mask, so that the mask's outermost pixels have 0. Pixels that
    do not count are neither. 0 everywhere where a mask is empty or fills the image.

    Args:
        truth: true masks, 0 where a pixel does not count, float (N, H, W, K).
        valid: 1 for the pixels that count, (N, H, W, 1) or (N, H, W, K).
        exclusive: whether each pixel that counts is in exactly one mask.

    Returns:
        (N, H, W, K).
    """
    other = valid * (1.0 - truth)
    if exclusive:  # what is not of a mask is of another one
        to_mask = squared_distances(truth)
        to_other = ops.min(to_mask + FAR * truth, axis=-1, keepdims=True)
    else:
        squares = squared_distances(ops.concatenate([truth, other], axis=-1))
        to_mask, to_other = ops.split(squares, 2, axis=-1)
    known = ops.logical_and(to_mask < FAR, to_other < FAR)
    signed = ops.sqrt(to_mask) * other - (ops.sqrt(to_other) - 1.0) * truth
    return ops.where(known, signed, 0.0)


@keras.saving.register_keras_serializable("keras_seg")
class Boundary(ClassLoss):
    """Mean over pixels and classes of q_c times the signed distance from the true boundary of c.

    Kervadec, Bouchtiba, Desrosiers, Granger, Dolz, Ben Ayed. "Boundary loss for highly unbalanced
    segmentation", MIDL 2019, with the distance maps of the authors' code (`signed_distances`): a
    pixel far outside of the class costs much, one deep inside earns much, so that the loss of a
    good prediction is negative. Distances are in pixels, of each image by itself; a class that is
    absent from an image or fills it costs nothing there.

    On its own it can end in an empty prediction. The paper adds it to a loss of regions, its weight
    growing as training goes on: `GeneralizedDice() + 0.01 * Boundary()`.

    The maps are made from the labels in each step, which takes some `width` operations for each
    pixel and class: for few classes or on a GPU little beside the network.

    Args and errors: `ClassLoss`. The paper counts the foreground classes alone: `classes=[1, ...]`.
    """

    def __init__(self, ignore_label=255, *, name="boundary", **options):
        super().__init__(ignore_label, name=name, **options)

    def call(self, y_true, y_pred):
        p, q, valid, illegal = self.masks(y_true, y_pred)
        distances = signed_distances(p, valid, exclusive=self.mode == "multiclass")
        values = ops.sum(q * distances, axis=(1, 2))  # (N, K)
        true = ops.sum(p, axis=(1, 2))
        pixels = ops.broadcast_to(ops.sum(valid, axis=(1, 2)), ops.shape(true))
        samples = ops.sum(ops.ones_like(true[:, 0]))
        known = self.known_images(valid, true)
        counts = replica_sum(ops.stack([samples, ops.sum(known), illegal]))
        samples, images, illegal = ops.unstack(counts, 3)
        if self.over == "batch":
            true, pixels = ops.unstack(
                replica_sum(ops.stack([ops.sum(true, axis=0), ops.sum(pixels, axis=0)])), 2
            )
        values = safe_divide(values, pixels)
        loss = weighted_mean(values, self.weights_of_classes(true))
        if self.over == "image":
            loss = safe_divide(loss * known, images)
        # Keras divides by the samples of all replicas and sums.
        return ops.where(illegal > 0, float("nan"), loss * samples)
