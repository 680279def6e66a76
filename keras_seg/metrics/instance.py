"""Scores of instances: COCO's average precision of scored masks, and the score of instance maps."""

import contextlib
import io
import math

import numpy as np

COCO_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())


# --- Maps of instances ---


def instance_counts(labels, predictions, thresholds=COCO_THRESHOLDS):
    """Count the instances of a picture that are found, wrong and missed, by IoU threshold.

    A predicted instance is right when its IoU with a true one is above the threshold. From 0.5 on
    that can be only one, so no order and no scores are needed.

    Args:
        labels, predictions: integers (H, W): 0 is background, any other id one instance.
        thresholds: of the IoU, each from 0.5 to below 1.

    Returns:
        int64 (number of thresholds, 3): true positives, false positives, false negatives.

    Raises:
        ValueError: no integers, negative ids, different shapes, or thresholds out of range.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    for what, ids in (("labels", labels), ("predictions", predictions)):
        if not np.issubdtype(ids.dtype, np.integer) or (ids < 0).any():
            raise ValueError(f"{what} must be integer ids of instances >= 0, got {ids.dtype}.")
    if labels.ndim != 2 or labels.shape != predictions.shape:
        raise ValueError(
            "labels and predictions must have one shape (H, W), got "
            f"{labels.shape} and {predictions.shape}."
        )
    thresholds = np.asarray(thresholds, "float64")
    if not ((thresholds >= 0.5) & (thresholds < 1)).all():
        raise ValueError(f"IoU thresholds must be at least 0.5 and below 1, got {thresholds}.")
    # One more pixel of background, so that background is always the first row and column.
    truth, predicted = (
        np.unique(np.append(ids, 0), return_inverse=True)[1] for ids in (labels, predictions)
    )
    shape = truth.max() + 1, predicted.max() + 1
    shared = np.bincount(truth * shape[1] + predicted, minlength=math.prod(shape)).reshape(shape)
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0) - shared
    iou = (shared / union)[1:, 1:]
    hits = (iou[..., None] > thresholds).sum(axis=(0, 1))
    return np.stack([hits, iou.shape[1] - hits, iou.shape[0] - hits], axis=1)


def instance_scores(counts):
    """The score of the Data Science Bowl 2018: mean of TP / (TP + FP + FN).

    Args:
        counts: list of what `instance_counts` gave for each picture.

    Returns:
        Dict: "score", the mean over the thresholds, then over the pictures; "by_threshold", list of
        the means over the pictures; "true_positives", "false_positives", "false_negatives", lists
        of sums over the pictures, by threshold. A picture without any instance, true or
        predicted, has no score and is left out; NaN when all are.

    Raises:
        ValueError: for counts of another shape.
    """
    counts = np.asarray(counts)
    if counts.ndim != 3 or counts.shape[2] != 3:
        raise ValueError(
            f"counts are those of `instance_counts`, N times (T, 3), got {counts.shape}."
        )
    known = counts[counts.sum(axis=(1, 2)) > 0]
    sums = counts.sum(axis=0)
    by_threshold = np.full(len(sums), math.nan)
    if len(known):
        by_threshold = (known[..., 0] / known.sum(axis=2)).mean(axis=0)
    return {
        "score": float(by_threshold.mean()),
        "by_threshold": by_threshold.tolist(),
        "true_positives": sums[:, 0].tolist(),
        "false_positives": sums[:, 1].tolist(),
        "false_negatives": sums[:, 2].tolist(),
    }


# --- COCO ---


def coco_ap(truths, detections, num_classes, *, thresholds=COCO_THRESHOLDS):
    """COCO's average precision and recall of masks, computed by pycocotools.

    In each picture, class by class and at each IoU threshold, detections choose in the order of
    their scores (the 100 best) the best true mask that is still free; every further detection of a
    mask is wrong. The precision, made to fall with the recall, is read at 101 recalls. See
    https://cocodataset.org/#detection-eval.

    Args:
        truths: for each picture a dict of "masks", bool (n, H, W), "classes", n ids below
            `num_classes`, and optionally "crowd", n booleans: masks of groups, which are not
            searched for and in which detections are not wrong.
        detections: for each picture a dict of "masks", "classes" and "scores", n floats.
        num_classes: K.
        thresholds: of the IoU. `np.arange(1, 10) / 10` gives AP^r_vol of Hariharan et al. 2014 but
            for COCO's matching and interpolation.

    Returns:
        Dict of floats: "ap", over all thresholds and classes with true masks; "ap50", "ap75";
        "ap_small", "ap_medium", "ap_large" of masks with an area below 32 x 32, below 96 x 96, and
        of larger ones; "ar1", "ar10", "ar100", the recall with so many detections a picture;
        "ar_small", "ar_medium", "ar_large"; of lists of K floats "ap_of_class", "ap50_of_class",
        "ap75_of_class"; and "ap_of_class_by_threshold", K lists of one float each threshold. NaN
        where there is no true mask or the threshold is not among `thresholds` (pycocotools: -1).

    Raises:
        ValueError: without pycocotools, for lists of different lengths, arrays that do not fit each
            other, or classes out of range.
    """
    try:
        from pycocotools import mask as rle
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ValueError(
            "coco_ap needs the package pycocotools: pip install 'keras-seg[coco]'."
        ) from error
    truths, detections = list(truths), list(detections)
    if len(truths) != len(detections):
        raise ValueError(
            f"Give the detections of every picture: {len(truths)} truths, {len(detections)} "
            "detections."
        )
    sets = {"truths": truths, "detections": detections}
    found = {name: _annotations(name, parts, num_classes, rle) for name, parts in sets.items()}
    images = []
    for number, (truth, detection) in enumerate(zip(truths, detections, strict=True)):
        size, other = np.shape(truth["masks"])[1:], np.shape(detection["masks"])[1:]
        if size != other:
            raise ValueError(f"Picture {number}: true masks are {size}, detected ones {other}.")
        images.append({"id": number, "height": size[0], "width": size[1]})
    with contextlib.redirect_stdout(io.StringIO()):
        made = []
        for annotations in found.values():
            coco = COCO()
            coco.dataset = {
                "images": images,
                "categories": [{"id": c} for c in range(num_classes)],
                "annotations": annotations,
            }
            coco.createIndex()
            made.append(coco)
        run = COCOeval(*made, "segm")
        run.params.iouThrs = np.asarray(thresholds, "float64")
        run.evaluate()
        run.accumulate()
    return _read_coco(run.eval["precision"], run.eval["recall"], run.params.iouThrs)


def _annotations(name, pictures, num_classes, rle):
    """pycocotools' list of the masks in all pictures; ids start at 1, 0 is "no match" there."""
    annotations = []
    for number, picture in enumerate(pictures):
        masks, classes = np.asarray(picture["masks"]), np.asarray(picture["classes"])
        extra = "scores" if name == "detections" else "crowd"
        if extra == "scores" and "scores" not in picture:
            raise ValueError(f"detections[{number}] has no scores: AP orders by them.")
        values = np.asarray(picture.get(extra, np.zeros(len(masks))))
        if masks.ndim != 3 or not len(masks) == len(classes) == len(values):
            raise ValueError(
                f"{name}[{number}]: masks are (n, H, W), classes and {extra} n values, got "
                f"{masks.shape}, {classes.shape} and {values.shape}."
            )
        for mask, c, value in zip(masks, classes.tolist(), values.tolist(), strict=True):
            if c not in range(num_classes):
                raise ValueError(f"{name}[{number}]: classes are 0 .. {num_classes - 1}, got {c}.")
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(c),
                    "segmentation": rle.encode(np.asfortranarray(mask != 0).astype("uint8", "F")),
                    "area": int(np.count_nonzero(mask)),
                    "iscrowd": int(extra == "crowd" and bool(value)),
                    "score": float(value),
                }
            )
    return annotations


def _read_coco(precision, recall, thresholds):
    """The result from pycocotools' tables, precision (T, R, K, 4 areas, 3 detection limits)."""

    def mean(values):
        values = values[values > -1]
        return float(values.mean()) if values.size else math.nan

    def at(threshold):
        return precision[np.isclose(thresholds, threshold)]

    classes = range(precision.shape[2])
    sizes = ("small", "medium", "large")
    return {
        "ap": mean(precision[..., 0, 2]),
        "ap50": mean(at(0.5)[..., 0, 2]),
        "ap75": mean(at(0.75)[..., 0, 2]),
        **{f"ap_{size}": mean(precision[..., i, 2]) for i, size in enumerate(sizes, 1)},
        **{f"ar{n}": mean(recall[..., 0, i]) for i, n in enumerate((1, 10, 100))},
        **{f"ar_{size}": mean(recall[..., i, 2]) for i, size in enumerate(sizes, 1)},
        "ap_of_class": [mean(precision[:, :, c, 0, 2]) for c in classes],
        "ap50_of_class": [mean(at(0.5)[:, :, c, 0, 2]) for c in classes],
        "ap75_of_class": [mean(at(0.75)[:, :, c, 0, 2]) for c in classes],
        "ap_of_class_by_threshold": [
            [mean(values[:, c, 0, 2]) for values in precision] for c in classes
        ],
    }
