"""The sigmoid forms of the overlap losses, generalised Dice and focal Tversky, beside NumPy."""

import numpy as np
import pytest

from keras_seg.losses import (
    L1,
    Boundary,
    CrossEntropy,
    CrossEntropyDice,
    CrossEntropyLogIoU,
    Dice,
    FocalTversky,
    GeneralizedDice,
    IoU,
    Lovasz,
    LovaszHinge,
    TotalVariation,
    Tversky,
)

LABELS = np.array([[[0, 1, 1], [1, 0, 255]], [[0, 0, 0], [1, 0, 1]]])
LOGITS = np.random.default_rng(3).normal(size=(2, 2, 3, 1)).astype("float32") * 2
COUNTS = LABELS != 255
P = (LABELS == 1).astype("float64")
Q = COUNTS / (1 + np.exp(-LOGITS[..., 0].astype("float64")))
INNER, T, S = (P * Q).sum(), P.sum(), Q.sum()  # intersection, true, predicted


@pytest.mark.parametrize(
    ("loss", "score"),
    [
        (IoU, INNER / (S + T - INNER)),
        (Dice, 2 * INNER / (S + T)),
        (GeneralizedDice, 2 * INNER / (S + T)),
        (Tversky, INNER / (INNER + 0.3 * (S - INNER) + 0.7 * (T - INNER))),
    ],
)
def test_binary(loss, score):
    assert float(loss(mode="binary")(LABELS, LOGITS)) == pytest.approx(1 - score, abs=1e-6)
    assert float(loss(mode="binary", log="log_mean")(LABELS, LOGITS)) == pytest.approx(
        -np.log(score), abs=1e-6
    )


def test_binary_combinations():
    entropy = -np.log(np.where(P, Q, 1 - Q))[COUNTS].mean()
    value = float(CrossEntropyDice(mode="binary")(LABELS, LOGITS))
    assert value == pytest.approx(0.1 * entropy + 0.9 * (1 - 2 * INNER / (S + T)), abs=1e-6)
    value = float(CrossEntropyLogIoU(mode="binary")(LABELS, LOGITS))
    assert value == pytest.approx(entropy - np.log(INNER / (S + T - INNER)), abs=1e-6)


def test_binary_of_squares_and_powers():
    vnet = 2 * INNER / ((Q**2).sum() + T)
    value = float(Dice(squared=True, mode="binary")(LABELS, LOGITS))
    assert value == pytest.approx(1 - vnet, abs=1e-6)
    # Abraham and Khan's code: smooth 1, 0.7 on false negatives, exponent 0.75.
    index = (INNER + 1) / (INNER + 0.7 * (T - INNER) + 0.3 * (S - INNER) + 1)
    value = float(FocalTversky(smooth=1, mode="binary")(LABELS, LOGITS))
    assert value == pytest.approx((1 - index) ** 0.75, abs=1e-6)


OVERLAPS = [IoU, Dice, GeneralizedDice, Tversky, FocalTversky, Lovasz, Boundary]


@pytest.mark.parametrize("over", ["batch", "image"])
@pytest.mark.parametrize("loss", OVERLAPS)
def test_binary_is_the_foreground_of_two_classes(loss, over):
    """sigmoid(z) is the softmax of (0, z)."""
    two = np.concatenate([np.zeros_like(LOGITS), LOGITS], axis=-1)
    expected = float(loss(classes=[1], over=over)(LABELS, two))
    found = float(loss(mode="binary", over=over)(LABELS, LOGITS))
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("loss", [*OVERLAPS, LovaszHinge])
def test_multilabel_is_the_mean_over_labels(loss):
    """Each label with its own ignored pixels."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 255], (2, 4, 5, 3), p=[0.6, 0.3, 0.1])
    logits = rng.normal(size=labels.shape).astype("float32")
    each = [float(loss(mode="binary")(labels[..., c], logits[..., c : c + 1])) for c in range(3)]
    if loss is GeneralizedDice:  # one score of all labels
        p, q = labels == 1, (labels != 255) / (1 + np.exp(-logits))
        w = 1 / p.sum((0, 1, 2)) ** 2.0
        inner, sizes = (w * (p * q).sum((0, 1, 2))).sum(), (w * (p + q).sum((0, 1, 2))).sum()
        each = [1 - 2 * inner / sizes]
    assert float(loss(mode="multilabel")(labels, logits)) == pytest.approx(np.mean(each), abs=1e-6)


def test_binary_without_foreground():
    """ "present" leaves no class; "all" counts every false positive."""
    empty = np.where(LABELS == 1, 0, LABELS)
    assert float(Dice(mode="binary")(empty, LOGITS)) == 0
    assert float(Dice(mode="binary", classes="all", smooth=1)(empty, LOGITS)) > 0.5
    # An image without foreground does not dilute the mean of the others.
    both = np.concatenate([LABELS[:1], empty[:1]])
    value = float(IoU(mode="binary", over="image")(both, LOGITS))
    alone = float(IoU(mode="binary")(LABELS[:1], LOGITS[:1]))
    assert value == pytest.approx(alone, rel=1e-6)


def test_generalized_dice_of_large_images():
    """Millions of pixels: 1 / P^2 leaves float32's comfortable range."""
    labels = np.zeros((1, 2400, 2400), "uint8")
    labels[0, :, 1200:] = 1
    logits = np.zeros((1, 2400, 2400, 2), "float32")
    assert float(GeneralizedDice()(labels, logits)) == pytest.approx(0.5, abs=1e-4)


def test_focal_tversky_of_other_powers(labels, logits):
    index = np.array([0.609396, 0.554843, 0.530694])
    assert float(FocalTversky(gamma=1)(labels, logits)) == pytest.approx(0.435022, abs=2e-6)
    assert float(FocalTversky(gamma=0.5)(labels, logits)) == pytest.approx(
        np.mean((1 - index) ** 2), abs=2e-6
    )
    with pytest.raises(ValueError, match="gamma"):
        FocalTversky(gamma=0)
    with pytest.raises(ValueError, match="log"):
        FocalTversky(log="mean_log")


EVERY = [
    *(loss() for loss in (*OVERLAPS, TotalVariation, L1, CrossEntropy)),
    *(loss(classes="all", over="image") for loss in OVERLAPS),
    CrossEntropyLogIoU(log="sum_log", classes="all"),
]
BINARY = [loss(mode="binary", over=over) for loss in OVERLAPS for over in ("batch", "image")]


@pytest.mark.parametrize("seed", range(6))
def test_random_maps_give_finite_values_and_gradients(seed):
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    size = (rng.integers(1, 4), *rng.integers(1, 7, 2))
    labels = rng.integers(0, rng.integers(1, 6), size)
    labels[rng.random(size) < rng.choice([0, 0.3, 0.95])] = 255
    logits = rng.normal(size=(*size, 5)) * rng.choice([1e-3, 1, 1e4])
    cases = [(loss, labels, tf.constant(logits, "float32")) for loss in EVERY]
    masks = np.where(labels == 255, 255, labels > 0)
    one = tf.constant(logits[..., :1], "float32")
    cases += [(loss, masks, one) for loss in [*BINARY, LovaszHinge(), LovaszHinge(over="image")]]
    for loss, ids, z in cases:
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = loss(ids, z)
        slope = tape.gradient(value, z)
        assert np.isfinite(value), loss.get_config()
        assert np.all(np.isfinite(slope)), loss.get_config()
