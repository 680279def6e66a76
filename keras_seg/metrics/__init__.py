"""Metrics from one exact confusion matrix: Keras metrics, and NumPy functions for everything."""

from keras_seg.metrics.confusion import (
    F1,
    ConfusionMatrix,
    FrequencyWeightedIoU,
    MeanAccuracy,
    MeanIoU,
    PixelAccuracy,
    Precision,
    Recall,
    confusion_matrix,
    scores,
)

__all__ = [
    "F1",
    "ConfusionMatrix",
    "FrequencyWeightedIoU",
    "MeanAccuracy",
    "MeanIoU",
    "PixelAccuracy",
    "Precision",
    "Recall",
    "confusion_matrix",
    "scores",
]
