"""Precision over recall of each class's probability at single pixels, from binned counts."""

import numpy as np

from keras_seg.metrics.confusion import check_pixels

# Pixels counted at once: few enough for the cache, many for NumPy.
CHUNK = 2**13


def probability_histogram(labels, probabilities, *, ignore_label=255, bins=1024):
    """Count the pixels that count by the probability of each class.

    Args:
        labels: integers of any shape: class ids, or `ignore_label`.
        probabilities: floats of the labels' shape and a last axis of K classes, 0..1.
        ignore_label: id, list of ids or None.
        bins: equal parts of 0..1, the last one with its end.

    Returns:
        int64 (2, K, bins): all pixels, and those of the class itself. Histograms of several images
        add up.

    Raises:
        ValueError: as `confusion_matrix`, or for probabilities outside 0..1.
    """
    probabilities = np.asarray(probabilities)
    num_classes = probabilities.shape[-1]
    labels, _, counted = check_pixels(
        labels, np.zeros(probabilities.shape[:-1], "uint8"), num_classes, ignore_label
    )
    labels, probabilities = labels[counted], probabilities[counted]
    # A softmax in float32 may end a rounding error above 1.
    if not ((probabilities >= 0) & (probabilities <= 1 + 1e-5)).all():
        raise ValueError(
            "probabilities must be within 0..1, got "
            f"{probabilities.min()}..{probabilities.max()}; logits need a softmax first."
        )
    histogram = np.zeros((2, num_classes * bins), "int64")
    for start in range(0, len(labels), CHUNK):
        ids, part = labels[start : start + CHUNK], probabilities[start : start + CHUNK]
        cells = np.minimum((part * bins).astype("int64"), bins - 1)
        cells += np.arange(num_classes) * bins
        own = cells[np.arange(len(ids)), ids]
        for total, chosen in zip(histogram, (cells.reshape(-1), own), strict=True):
            total += np.bincount(chosen, minlength=num_classes * bins)
    return histogram.reshape(2, num_classes, bins)


def precision_recall(histogram):
    """Precision and recall of each class at all thresholds of its probability, and their AP.

    At a threshold a pixel is predicted as the class when the class has at least that probability,
    whatever the others have. AP is the sum of (R_n - R_(n-1)) P_n over falling thresholds, without
    interpolation, as in scikit-learn; pixels within a bin count as equally probable.

    Args:
        histogram: of `probability_histogram`, summed over the images.

    Returns:
        Dict of "thresholds", floats (bins,) falling from just below 1 to 0; "precision" and
        "recall", (K, bins), NaN where nothing is predicted, and for classes without a pixel;
        "average_precision", K floats; "mean_average_precision", the mean of those that exist.
    """
    histogram = np.asarray(histogram)
    predicted, right = np.cumsum(histogram[..., ::-1], axis=-1).astype("float64")
    truth = right[:, -1:]
    with np.errstate(invalid="ignore"):
        precision, recall = right / predicted, right / truth
        precision = np.where(truth > 0, precision, np.nan)
        steps = np.diff(recall, axis=-1, prepend=0)
    ap = np.where(truth[:, 0] > 0, np.nansum(steps * precision, axis=-1), np.nan)
    bins = histogram.shape[-1]
    return {
        "thresholds": np.arange(bins - 1, -1, -1) / bins,
        "precision": precision,
        "recall": recall,
        "average_precision": ap,
        "mean_average_precision": float(np.mean(ap[truth[:, 0] > 0])) if truth.any() else np.nan,
    }
