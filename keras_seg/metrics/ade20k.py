"""The score of the ADE20K scene parsing challenge (SceneParse150).

Zhou, Zhao, Puig, Fidler, Barriuso, Torralba. "Scene Parsing through ADE20K Dataset", CVPR 2017.

The mean of pixel accuracy and mean IoU over 150 classes, from counts over the whole data set. Two
things differ from other data sets: in the files 0 is unlabeled and the classes are 1 to 150, and
the official code counts a class that is nowhere as IoU 0. On the whole validation set every class
occurs and the second makes no difference.
"""

import keras
import numpy as np

from keras_seg.metrics.confusion import ConfusionMatrix, confusion_matrix, scores


def ade20k_confusion_matrix(labels, predictions, num_classes=150):
    """Count pixels by the ids of the official files: 0 is unlabeled, 1 to K are the classes.

    Args:
        labels: integers of any shape, 0 .. K. Pixels labelled 0 do not count.
        predictions: integers of the same shape. Where the label counts, an id outside of 1 .. K
            (0 as a rule) is a missed pixel, as in the official code.
        num_classes: K.

    Returns:
        int64 (K, K + 1) as of `confusion_matrix(..., void_predictions="miss")`, class 1 first.

    Raises:
        ValueError: no integers, different shapes, or labels outside of 0 .. K.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if all(np.issubdtype(ids.dtype, np.integer) for ids in (labels, predictions)):
        labels, predictions = (ids.astype("int64") - 1 for ids in (labels, predictions))
    return confusion_matrix(labels, predictions, num_classes, -1, void_predictions="miss")


def ade20k_score(matrix, absent="zero"):
    """(pixel accuracy + mean IoU) / 2 of a confusion matrix.

    Args:
        matrix: integers (K, K) or (K, K + 1), summed over all images.
        absent: "zero" as the official code, or another; see `keras_seg.metrics.confusion`.

    Returns:
        float; NaN without any pixel.
    """
    result = scores(matrix, absent)
    return (result["pixel_accuracy"] + result["mean_iou"]) / 2


@keras.saving.register_keras_serializable("keras_seg")
class ADE20KScore(ConfusionMatrix):
    """(pixel accuracy + mean IoU) / 2, for labels that are trained on: 0 .. K - 1 and ignored.

    Labels as the files have them come to that by `labels - 1` in uint8: unlabeled, 0, becomes 255.
    Input and arguments: `ConfusionMatrix`, but for `num_classes=150` and `absent="zero"`.
    """

    def __init__(
        self, num_classes=150, ignore_label=255, *, absent="zero", name="ade20k_score", **options
    ):
        super().__init__(num_classes, ignore_label, absent=absent, name=name, **options)

    def result(self):
        return (self._pixel_accuracy() + self._mean_score("iou")) / 2
