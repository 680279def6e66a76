"""Losses of two networks against each other: a generator or segmentor, and its adversary.

With the adversary's score a(x, y) for the image x and a label map (or image) y, and the prediction
g(x), the adversary D and the generator G minimise

    pix2pix     D: l(1, a(x, y)) + l(0, a(x, g(x)))        (the paper halves it)
                G: l(1, a(x, g(x))) + 100 L1(y, g(x))
    Luc et al.  D: l(1, a(x, y)) + l(0, a(x, g(x)))
                G: CrossEntropy(y, g(x)) + lambda l(1, a(x, g(x)))

in turn, with g(x) fixed in D's step and a in G's. l is `Adversarial()`.

Isola, Zhu, Zhou, Efros. "Image-to-Image Translation with Conditional Adversarial Networks", CVPR
2017. Luc, Couprie, Chintala, Verbeek. "Semantic Segmentation using Adversarial Networks", 2016.
"""

import keras
from keras import ops

from keras_seg.layers.labels import check_legal, sort_labels, standardize_ignore_label
from keras_seg.losses.base import SegmentationLoss, replica_sum, safe_divide
from keras_seg.utils import unknown_name

FORMS = ("bce", "least_squares")


@keras.saving.register_keras_serializable("keras_seg")
class Adversarial(keras.losses.Loss):
    """l(t, s): how far the scores s of an adversary are from the target t, 1 real and 0 generated.

        "bce"            -t log sigmoid(s) - (1 - t) log(1 - sigmoid(s))
        "least_squares"  (s - t)^2

    the mean over the scores of an image, then over images. The generator's loss is l(1, s) of its
    own results, which is -log sigmoid(s) and not log(1 - sigmoid(s)), whose gradient dies while the
    adversary wins. Least squares: Mao et al., "Least Squares Generative Adversarial Networks", ICCV
    2017, where both losses are halved.

    `loss(targets, scores)` takes scores (N, h, w, 1) or (N, 1), logits in both forms, or (N, 2) as
    `LargeFOVAdversary` returns them (the second minus the first is the score); and targets of one
    number, or anything that broadcasts to the scores: 0.9 for real ones smooths that side alone.

    Args:
        form: "bce" or "least_squares".
        name, reduction, dtype: as in Keras. float16 scores are cast to float32 first.

    Raises:
        ValueError: for an unknown form, and on call for scores of another shape.
    """

    def __init__(
        self, form="bce", *, name="adversarial", reduction="sum_over_batch_size", dtype=None
    ):
        wide = dtype is not None and keras.dtype_policies.get(dtype).compute_dtype == "float64"
        super().__init__(name, reduction, dtype="float64" if wide else "float32")
        if form not in FORMS:
            raise unknown_name("form", form, FORMS)
        self.form = form

    def call(self, y_true, y_pred):
        scores = ops.cast(y_pred, self.dtype)
        targets = ops.cast(y_true, self.dtype)
        shape = tuple(scores.shape)
        if len(shape) == 2 and shape[-1] == 2:
            scores = scores[:, 1:] - scores[:, :1]
        elif len(shape) not in (2, 4) or shape[-1] != 1:
            raise ValueError(
                f"{self.name} takes scores of shape (N, h, w, 1), (N, 1) or (N, 2), got {shape}."
            )
        if self.form == "bce":
            losses = ops.softplus(scores) - targets * scores
        else:
            losses = ops.square(scores - targets)
        return ops.mean(losses, axis=tuple(range(1, len(losses.shape))))  # (N,)

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype, "form": self.form}


@keras.saving.register_keras_serializable("keras_seg")
class L1(SegmentationLoss):
    """Mean over the pixels that count and the classes of |p - q|: pix2pix' L1 for label maps.

    p is the one-hot truth and q the softmax (or sigmoid, see `mode`) of the logits. pix2pix weighs
    it by 100. For images as results take `keras.losses.MeanAbsoluteError`.

    Args:
        ignore_label, mode, name, reduction, dtype: as in `SegmentationLoss`.

    Raises:
        ValueError: as `SegmentationLoss` says.
    """

    def __init__(
        self,
        ignore_label=255,
        *,
        mode="multiclass",
        name="l1",
        reduction="sum_over_batch_size",
        dtype=None,
    ):
        super().__init__(ignore_label, mode=mode, name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        p, q, valid, illegal = self.masks(y_true, y_pred)
        errors = ops.sum(ops.sum(ops.abs(p - q), axis=(2, 3)), axis=1)  # (N,)
        total = ops.sum(ops.broadcast_to(valid, ops.shape(p)))
        samples = ops.sum(ops.ones_like(errors))
        total, samples, illegal = ops.unstack(replica_sum(ops.stack([total, samples, illegal])), 3)
        return ops.where(illegal > 0, float("nan"), safe_divide(errors * samples, total))

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


def soften_truth(labels, probabilities, *, ignore_label=255, tau=0.9):
    """The truth for an adversary, softened towards the prediction ("scaling" of Luc et al.).

    One-hot maps are easy to tell from probabilities. Here the true class gets t = max(tau, its
    probability), and the others share 1 - t in proportion to theirs. Ignored pixels get the
    probabilities themselves and so tell the adversary nothing. No gradient flows through it.

    Args:
        labels: integers (N, H, W) or (N, H, W, 1).
        probabilities: softmax of the segmentor (N, H, W, K), float.
        ignore_label: id, list of ids or None.
        tau: number in [0, 1], the least mass of the true class.

    Returns:
        (N, H, W, K), each pixel of the sum 1; in a graph, NaN where a label is neither a class nor
        ignored.

    Raises:
        ValueError: tau out of range, labels that are no integers or have another rank, and in
            eager mode ids that are neither a class nor ignored.
    """
    if not 0 <= tau <= 1:
        raise ValueError(f"tau must be between 0 and 1, got {tau}.")
    q = ops.stop_gradient(ops.convert_to_tensor(probabilities))
    ignored = standardize_ignore_label(ignore_label)
    ids, valid, illegal = sort_labels(labels, q.shape[-1], ignored)
    check_legal(labels, illegal, q.shape[-1], ignore_label)
    truth = ops.one_hot(ids, q.shape[-1], dtype=q.dtype)
    own = ops.clip(ops.sum(truth * q, axis=-1, keepdims=True), 0.0, 1.0 - 1e-6)
    mass = ops.maximum(own, tau)
    soft = ops.where(truth > 0, mass, q * (1.0 - mass) / (1.0 - own))
    soft = ops.where(ops.expand_dims(valid, -1), soft, q)
    return ops.where(ops.expand_dims(illegal, -1), float("nan"), soft)
