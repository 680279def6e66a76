"""Metrics: Keras metrics for `fit`, and NumPy functions for everything."""

from keras_seg.metrics.boundary import (
    BoundaryF1,
    TrimapIoU,
    boundary_counts,
    boundary_scores,
    davis_f,
    davis_j,
    davis_scores,
    trimap_matrices,
)
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
from keras_seg.metrics.instance import coco_ap, instance_counts, instance_scores

__all__ = [
    "BoundaryF1",
    "ConfusionMatrix",
    "F1",
    "FrequencyWeightedIoU",
    "MeanAccuracy",
    "MeanIoU",
    "PixelAccuracy",
    "Precision",
    "Recall",
    "TrimapIoU",
    "boundary_counts",
    "boundary_scores",
    "coco_ap",
    "confusion_matrix",
    "davis_f",
    "davis_j",
    "davis_scores",
    "instance_counts",
    "instance_scores",
    "scores",
    "trimap_matrices",
]
