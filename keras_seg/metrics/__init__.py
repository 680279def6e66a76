"""Metrics: Keras metrics for `fit`, and NumPy functions for everything."""

from keras_seg.metrics.ade20k import ADE20KScore, ade20k_confusion_matrix, ade20k_score
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
from keras_seg.metrics.cityscapes import CityscapesScores, format_cityscapes, train_ids_to_label_ids
from keras_seg.metrics.confusion import (
    F1,
    ConfusionMatrix,
    DiceScore,
    FrequencyWeightedIoU,
    MeanAccuracy,
    MeanIoU,
    PixelAccuracy,
    Precision,
    Recall,
    confusion_matrix,
    scores,
)
from keras_seg.metrics.curves import precision_recall, probability_histogram
from keras_seg.metrics.instance import coco_ap, instance_counts, instance_scores
from keras_seg.metrics.multilabel import (
    MultiLabelScores,
    multilabel_confusion_matrix,
    multilabel_scores,
)
from keras_seg.metrics.per_image import PerImageDiceScore, PerImageMeanIoU, scores_per_image
from keras_seg.metrics.results import merge_results

__all__ = [
    "ADE20KScore",
    "BoundaryF1",
    "CityscapesScores",
    "ConfusionMatrix",
    "DiceScore",
    "F1",
    "FrequencyWeightedIoU",
    "MeanAccuracy",
    "MeanIoU",
    "MultiLabelScores",
    "PerImageDiceScore",
    "PerImageMeanIoU",
    "PixelAccuracy",
    "Precision",
    "Recall",
    "TrimapIoU",
    "ade20k_confusion_matrix",
    "ade20k_score",
    "boundary_counts",
    "boundary_scores",
    "coco_ap",
    "confusion_matrix",
    "davis_f",
    "davis_j",
    "davis_scores",
    "format_cityscapes",
    "instance_counts",
    "instance_scores",
    "merge_results",
    "multilabel_confusion_matrix",
    "multilabel_scores",
    "precision_recall",
    "probability_histogram",
    "scores",
    "scores_per_image",
    "train_ids_to_label_ids",
    "trimap_matrices",
]
