"""Score a network on labelled images: the same code for a Keras model and for exported files."""

import numpy as np

from keras_seg.data.progress import Progress
from keras_seg.inference.plots import require_matplotlib, save_plots
from keras_seg.metrics import (
    boundary_counts,
    boundary_scores,
    confusion_matrix,
    precision_recall,
    probability_histogram,
    scores,
    trimap_matrices,
)
from keras_seg.utils import plain, writable_folder


def evaluate(
    predictor,
    dataset,
    *,
    absent="skip",
    boundary=None,
    trimap=(),
    void_edges=True,
    average_precision=False,
    plots=None,
    progress=True,
    **options,
):
    """Compare predicted label maps with a data set's, at the labels' own resolution.

    Args:
        predictor: `Predictor`.
        dataset: `keras_seg.data.SegmentationDataset`, or any sequence of its `Sample`s with a
            `table`.
        absent: what `keras_seg.metrics.scores` does with classes that are not there.
        boundary: tolerance of the boundary F1, in pixels or below 1 as a share of the diagonal;
            None: without it. See `keras_seg.metrics.boundary_scores`.
        trimap: widths in pixels of bands along the true contours to score as well; see
            `keras_seg.metrics.trimap_matrices`.
        void_edges: whether contours run where ignored pixels begin, for these two.
        average_precision: also of each class, over its probability at single pixels; see
            `keras_seg.metrics.precision_recall`.
        plots: folder for pictures of the confusion matrix, the classes' IoU and, unless the file
            returns labels, precision over recall (with the average precision); made if needed.
        progress: show a progress bar on standard error.
        **options: how to predict, see `Predictor`.

    Returns:
        dict that `json` can write: all of `keras_seg.metrics.scores` (numbers that do not exist are
        None), "confusion_matrix" (rows: truth, columns: prediction), "classes" (names), "images"
        (their count), "model" (name and kind of file) and "options". Where asked for: "boundary",
        a dict of "tolerance", "void_edges" and `boundary_scores`; "trimap", a list of dicts of
        "width", "mean_iou", "pixel_accuracy", "iou" and "pixels"; "average_precision" (K numbers)
        and "mean_average_precision".

    Raises:
        ValueError: if model and data set differ in the number of classes, the data set is empty, an
            image has no label, or (with its name) a sample cannot be predicted or scored; before
            anything is predicted, for options out of range, for a folder of plots that cannot be
            written or without matplotlib, and for the average precision of a file that returns
            labels.
    """
    table = dataset.table
    if predictor.num_classes != table.num_classes:
        raise ValueError(
            f"{predictor.runner.name} predicts {predictor.num_classes} classes, but the data set "
            f"has {table.num_classes} ({', '.join(table.names)}). Use the data it was trained for."
        )
    if len(dataset) == 0:
        raise ValueError("The data set to evaluate on holds 0 images.")
    if plots is not None:
        require_matplotlib()
        writable_folder(plots)
    if average_precision and predictor.runner.outputs_labels:
        raise ValueError(
            f"{predictor.runner.name} returns labels; the average precision needs probabilities. "
            "Use the model itself, or a file exported with logits."
        )
    curves = average_precision or (plots is not None and not predictor.runner.outputs_labels)
    tally = _Tally(table, boundary, tuple(trimap), void_edges)
    bar = Progress(len(dataset), "evaluate", show=progress)
    for index in range(len(dataset)):
        sample = dataset[index]
        if sample.label is None:
            raise ValueError(
                f"{sample.name} has no label; evaluate() needs a label for every image."
            )
        try:
            if curves:
                probabilities = predictor.probabilities(sample.image, progress=False, **options)
                tally.add_probabilities(sample.label, probabilities)
                labels = probabilities.argmax(axis=-1)
            else:
                labels = predictor.predict(sample.image, progress=False, **options)
            tally.add(sample.label, labels)
        except ValueError as error:
            raise ValueError(f"{sample.name}: {error}") from error
        bar.step(sample.name)
    result = {
        **scores(tally.matrix, absent=absent),
        "confusion_matrix": tally.matrix,
        "classes": list(table.names),
        "images": len(dataset),
        "model": {"name": predictor.runner.name, "kind": predictor.runner.kind},
        "options": options,
        **tally.contour_scores(absent),
    }
    found = precision_recall(tally.histogram) if curves else None
    if curves:
        names = ("average_precision", "mean_average_precision")
        result |= {name: found[name] for name in names}
    result = plain(result)
    if plots is not None:
        save_plots(plots, result, found)
    return result


class _Tally:
    """Everything that is counted over the images."""

    def __init__(self, table, boundary, trimap, void_edges):
        self.table, self.boundary, self.trimap = table, boundary, trimap
        self.void_edges = void_edges
        self._clear()
        # A picture of nothing shows whether the options are right, before anything is predicted.
        self.add(np.full((1, 1), table.ignore_label), np.zeros((1, 1), "uint8"))
        self._clear()

    def _clear(self):
        self.matrix, self.bands, self.histogram, self.edges = 0, 0, 0, []

    def add(self, truth, labels):
        """Count a true and a predicted label map (H, W)."""
        classes, ignore_label = self.table.num_classes, self.table.ignore_label
        rule = {"ignore_label": ignore_label, "void_edges": self.void_edges}
        self.matrix = self.matrix + confusion_matrix(truth, labels, classes, ignore_label)
        if self.boundary is not None:
            self.edges.append(boundary_counts(truth, labels, classes, self.boundary, **rule))
        if self.trimap:
            self.bands = self.bands + trimap_matrices(truth, labels, classes, self.trimap, **rule)

    def add_probabilities(self, truth, probabilities):
        """Count probabilities (H, W, K) at the pixels of a true label map."""
        self.histogram = self.histogram + probability_histogram(
            truth, probabilities, ignore_label=self.table.ignore_label
        )

    def contour_scores(self, absent):
        """The entries "boundary" and "trimap" of the result, where they were asked for."""
        found = {}
        if self.boundary is not None:
            how = {"tolerance": self.boundary, "void_edges": self.void_edges}
            found["boundary"] = {**how, **boundary_scores(self.edges)}
        if self.trimap:
            names = ("mean_iou", "pixel_accuracy", "iou", "pixels")
            found["trimap"] = []
            for width, matrix in zip(self.trimap, self.bands, strict=True):
                band = scores(matrix, absent=absent)
                found["trimap"].append({"width": width, **{name: band[name] for name in names}})
        return found


def format_scores(result):
    """The table that `keras-seg evaluate` prints: a row for each class, then the means.

    Args:
        result: what `evaluate` returned, or read back from its JSON.
    """
    pixels = [sum(row) for row in result["confusion_matrix"]]
    width = max(len("class"), *(len(name) for name in result["classes"]))
    columns = {name: result[name] for name in ("iou", "precision", "recall", "f1")}
    means = ("mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")
    means = {name.replace("_", " "): result[name] for name in means}
    if "boundary" in result:
        found = result["boundary"]
        columns["edge f1"] = found["f1"]
        means[f"edge f1 ({_length(found['tolerance'])})"] = found["mean_f1"]
    for band in result.get("trimap", ()):
        means[f"mean iou, trimap {band['width']:g} px"] = band["mean_iou"]
    if "average_precision" in result:
        columns["ap"] = result["average_precision"]
        means["mean average precision"] = result["mean_average_precision"]
    lines = [f"{'class':{width}}" + "".join(f"{c:>11}" for c in columns) + f"{'pixels':>14}"]
    for index, name in enumerate(result["classes"]):
        cells = "".join(_cell(values[index]) for values in columns.values())
        lines.append(f"{name:{width}}{cells}{pixels[index]:>14}")
    lines.append("")
    lines += [f"{name:24}{_cell(value)}" for name, value in means.items()]
    model = result["model"]
    lines.append(f"{model['name']} ({model['kind']}), {result['images']} images")
    return "\n".join(lines)


def _length(tolerance):
    return f"{tolerance:g} px" if tolerance >= 1 else f"{tolerance:.2%} diag."


def _cell(value):
    return f"{'-':>11}" if value is None else f"{value:>11.4f}"
