"""Score a network on labelled images: the same code for a Keras model and for exported files."""

import dataclasses
import math

from keras_seg.inference.progress import Progress
from keras_seg.metrics import confusion_matrix, scores


def evaluate(predictor, dataset, *, absent="skip", progress=True, **options):
    """Compare predicted label maps with a data set's, at the labels' own resolution.

    Args:
        predictor: `Predictor`.
        dataset: `keras_seg.data.SegmentationDataset`, or any sequence of its `Sample`s with a
            `table`.
        absent: what `keras_seg.metrics.scores` does with classes that are not there.
        progress: show a progress bar on standard error.
        **options: how to predict, see `Predictor`.

    Returns:
        dict that `json` can write: all of `keras_seg.metrics.scores` (numbers that do not exist are
        None), "confusion_matrix" (rows: truth, columns: prediction), "classes" (names), "images"
        (their count), "model" (name and kind of file) and "options".

    Raises:
        ValueError: if model and data set differ in the number of classes, the data set is empty, an
            image has no label, or (with its name) a sample cannot be predicted or scored.
    """
    table = dataset.table
    if predictor.num_classes != table.num_classes:
        raise ValueError(
            f"{predictor.runner.name} predicts {predictor.num_classes} classes, but the data set "
            f"has {table.num_classes} ({', '.join(table.names)}). Use the data it was trained for."
        )
    if len(dataset) == 0:
        raise ValueError("The data set to evaluate on holds 0 images.")
    total = 0
    bar = Progress(len(dataset), "evaluate", show=progress)
    for index in range(len(dataset)):
        sample = dataset[index]
        matrix = _matrix_of(predictor, sample, table, options)
        total = total + matrix
        bar.step(sample.name)
    result = {name: plain(value) for name, value in scores(total, absent=absent).items()}
    return {
        **result,
        "confusion_matrix": total.tolist(),
        "classes": list(table.names),
        "images": len(dataset),
        "model": {"name": predictor.runner.name, "kind": predictor.runner.kind},
        "options": {name: plain(value) for name, value in options.items()},
    }


def _matrix_of(predictor, sample, table, options):
    if sample.label is None:
        raise ValueError(f"{sample.name} has no label; evaluate() needs a label for every image.")
    try:
        labels = predictor.predict(sample.image, **options)
        return confusion_matrix(sample.label, labels, table.num_classes, table.ignore_label)
    except ValueError as error:
        raise ValueError(f"{sample.name}: {error}") from error


def format_scores(result):
    """The table that `keras-seg evaluate` prints: a row for each class, then the means.

    Args:
        result: what `evaluate` returned, or read back from its JSON.
    """
    matrix = result["confusion_matrix"]
    pixels = [sum(row) for row in matrix]
    width = max(len("class"), *(len(name) for name in result["classes"]))
    columns = ("iou", "precision", "recall", "f1")
    lines = [f"{'class':{width}}" + "".join(f"{c:>11}" for c in columns) + f"{'pixels':>14}"]
    for index, name in enumerate(result["classes"]):
        cells = "".join(_cell(result[column][index]) for column in columns)
        lines.append(f"{name:{width}}{cells}{pixels[index]:>14}")
    lines.append("")
    means = ("mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")
    lines += [f"{name.replace('_', ' '):24}{_cell(result[name])}" for name in means]
    model = result["model"]
    lines.append(f"{model['name']} ({model['kind']}), {result['images']} images")
    return "\n".join(lines)


def _cell(value):
    return f"{'-':>11}" if value is None else f"{value:>11.4f}"


def plain(value):
    """`value` in what JSON has; a number that does not exist (NaN) is None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
