"""Two known combinations. Any other one is written as `CrossEntropy() + 0.5 * Dice()`."""

from keras_seg.losses.base import WeightedSum
from keras_seg.losses.cross_entropy import CrossEntropy
from keras_seg.losses.overlap import Dice, IoU


def CrossEntropyLogIoU(
    ignore_label=255,
    class_weights=None,
    *,
    log="log_mean",
    mode="multiclass",
    name="cross_entropy_log_iou",
    **options,
):
    """Cross entropy - log of the soft IoU.

    Iglovikov, Mushinskiy, Osin. "Satellite Imagery Feature Detection using Deep Convolutional
    Neural Network: A Kaggle Competition", 2017. The paper has one class at a time; for several it
    leaves open whether the logarithm stands outside of the mean over classes (`log="log_mean"`)
    or inside ("mean_log", "sum_log"). Later code of the authors (TernausNet's robot-surgery form)
    is (1 - w) CE - w sum_c log IoU_c over all classes, w = 0.3: one that is absent adds some 34 to
    it. Close to it, without that fault:
    `0.7 * CrossEntropy() + 0.3 * IoU(log="sum_log")`.

    Args:
        ignore_label: as in `CrossEntropy`.
        class_weights: of the cross entropy alone.
        log: as in `OverlapLoss`.
        mode: of both terms, as in `SegmentationLoss`.
        name: name of the loss.
        **options: `classes`, `over` and `smooth` of the overlap term (`OverlapLoss`).

    Returns:
        A `WeightedSum`.
    """
    overlap = IoU(ignore_label, log=log, mode=mode, **options)
    return WeightedSum([CrossEntropy(ignore_label, class_weights, mode=mode), overlap], name=name)


def CrossEntropyDice(
    ignore_label=255,
    class_weights=None,
    *,
    mode="multiclass",
    name="cross_entropy_dice",
    **options,
):
    """0.1 cross entropy + 0.9 (1 - Dice), of the lopuhin/kaggle-dstl solution.

    Args:
        ignore_label: as in `CrossEntropy`.
        class_weights: of the cross entropy alone.
        mode: of both terms, as in `SegmentationLoss`.
        name: name of the loss.
        **options: `classes`, `over`, `smooth` and `squared` of the overlap term (`Dice`).

    Returns:
        A `WeightedSum`.
    """
    entropy = CrossEntropy(ignore_label, class_weights, mode=mode)
    overlap = Dice(ignore_label, mode=mode, **options)
    return WeightedSum([entropy, overlap], [0.1, 0.9], name=name)
