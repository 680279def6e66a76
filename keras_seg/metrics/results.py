"""Results of several processes put together."""

import numpy as np

from keras_seg.metrics.confusion import scores
from keras_seg.utils import plain, read_json


def merge_results(results, absent="skip", classes=None):
    """Scores of a data set that several processes have scored a part each.

    The counts are added before anything is divided: the result is that of one process that saw
    all images. What does not follow from the confusion matrix (boundary F1, average precision) is
    left out.

    Args:
        results: dicts as `keras_seg.inference.evaluate` returns, or paths of the JSON files that
            `keras-seg evaluate --json` writes; of each only "confusion_matrix" is needed.
        absent, classes: as in `scores`.

    Returns:
        dict that `json` can write (undefined is None): all of `scores`, "confusion_matrix",
        "images" (the sum), and "classes", "model" and "options" as the results have them.

    Raises:
        ValueError: no results, one without a confusion matrix, or results of different classes,
            models or options.
    """
    results = [r if isinstance(r, dict) else read_json(r) for r in results]
    if not results or not all("confusion_matrix" in result for result in results):
        raise ValueError(
            'Give one or more results of an evaluation, each with its "confusion_matrix".'
        )
    first = results[0]
    for key in ("classes", "model", "options"):
        for result in results:
            if result.get(key) != first.get(key):
                raise ValueError(
                    f"Results of different {key} do not add up: {first.get(key)} and "
                    f"{result.get(key)}."
                )
    matrices = [np.array(result["confusion_matrix"]) for result in results]
    shapes = {matrix.shape for matrix in matrices}
    if len(shapes) > 1:
        raise ValueError(f"Confusion matrices of different shapes: {sorted(shapes)}.")
    total = np.sum(matrices, axis=0)
    merged = {**scores(total, absent, classes), "confusion_matrix": total}
    if all("images" in result for result in results):
        merged["images"] = sum(result["images"] for result in results)
    return plain(merged | {k: first[k] for k in ("classes", "model", "options") if k in first})
