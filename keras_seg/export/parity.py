"""The proof: each file loaded again in its own runtime and compared with the Keras model."""

import numpy as np

from keras_seg.inference import load_runner
from keras_seg.metrics import confusion_matrix, scores

# What a float32 file must reach. A float16 file rounds its weights, so only its labels are held to
# a bound; int8 is judged by the mean IoU, which needs labels.
MAX_DIFFERENCE = 1e-3
MIN_AGREEMENT = 0.999
MAX_IOU_LOSS = 0.01


def compare(reference, files, pictures, *, num_classes, ignore_label):
    """Run the Keras model and every file on the same images.

    Args:
        reference: the Keras model that the files were made from, in float32.
        files: {name: (path, precision)}; either model may be all that `load_runner` takes.
        pictures: `Pictures`.
        num_classes: K.
        ignore_label: the label that is not counted.

    Returns:
        One dict a row, the Keras model first:
        file, precision;
        difference: largest absolute difference of the logits divided by the standard deviation of
            the Keras model's logits; None for a file of labels;
        agreement: share of pixels with the same label;
        mean_iou, mean_iou_change, iou (a list, by class): against the labels, None where no pixel
            has any;
        verdict: "ok" or "FAIL" by the bounds of this module; "low" for an int8 file that loses more
            than a point of mean IoU; None where there is nothing to judge by (int8 without labels,
            a model in half precision).
    """
    reference = load_runner(reference)
    runners = {name: load_runner(path) for name, (path, _) in files.items()}
    tallies = {name: _Tally(num_classes, ignore_label) for name in ["keras", *files]}
    spread = _Spread()
    for index in range(len(pictures)):
        image, label = pictures[index]
        expected = reference.run(image)
        spread.add(expected)
        tallies["keras"].add(expected, expected, label)
        for name, runner in runners.items():
            tallies[name].add(runner.run(image), expected, label)

    deviation = spread.deviation()
    keras_iou = tallies["keras"].scores()["mean_iou"]
    rows = [{"file": "keras", "precision": "float32", **tallies["keras"].row(deviation, keras_iou)}]
    rows[0] |= {"difference": None, "agreement": None, "mean_iou_change": None, "verdict": None}
    for name, (_, precision) in files.items():
        row = {"file": name, "precision": precision}
        row |= tallies[name].row(deviation, keras_iou)
        rows.append(row | {"verdict": _verdict(row)})
    return rows


def _verdict(row):
    agree = row["agreement"] >= MIN_AGREEMENT
    if row["precision"] == "float32":
        close = row["difference"] is None or row["difference"] <= MAX_DIFFERENCE
        return "ok" if agree and close else "FAIL"
    if row["precision"] == "float16":
        return "ok" if agree else "FAIL"
    if row["precision"] == "int8" and row["mean_iou_change"] is not None:
        return "ok" if row["mean_iou_change"] >= -MAX_IOU_LOSS else "low"
    return None


class _Tally:
    """What is added up for one file, image by image."""

    def __init__(self, num_classes, ignore_label):
        self._num_classes, self._ignore_label = num_classes, ignore_label
        self._largest, self._equal, self._pixels = 0.0, 0, 0
        self._matrix = None

    def add(self, output, expected, label):
        labels = output
        if output.dtype.kind == "f":
            # A NaN stays: max(NaN, x) of NumPy is NaN, and NaN passes no bound.
            self._largest = np.maximum(self._largest, np.abs(output - expected).max())
            labels = output.argmax(-1)
        else:
            self._largest = None
        self._equal += int((labels == expected.argmax(-1)).sum())
        self._pixels += labels.size
        if label is not None:
            label = _centre(label, labels.shape[1:])
            matrix = confusion_matrix(label, labels[0], self._num_classes, self._ignore_label)
            self._matrix = matrix if self._matrix is None else self._matrix + matrix

    def scores(self):
        if self._matrix is None or not self._matrix.any():
            return {"mean_iou": None, "iou": None}
        found = scores(self._matrix)
        return {"mean_iou": found["mean_iou"], "iou": found["iou"]}

    def row(self, deviation, keras_iou):
        found = self.scores()
        change = None if keras_iou is None else found["mean_iou"] - keras_iou
        return {
            "difference": None if self._largest is None else float(self._largest / deviation),
            "agreement": self._equal / self._pixels,
            "mean_iou": found["mean_iou"],
            "mean_iou_change": change,
            "iou": found["iou"],
        }


class _Spread:
    """Standard deviation over many arrays, without keeping them."""

    def __init__(self):
        self._count, self._sum, self._squares = 0, 0.0, 0.0

    def add(self, values):
        values = values.astype("float64")
        self._count += values.size
        self._sum += values.sum()
        self._squares += (values**2).sum()

    def deviation(self):
        mean = self._sum / self._count
        return max(self._squares / self._count - mean**2, 1e-24) ** 0.5


def _centre(label, size):
    """The centre of a label map, for a network that returns a smaller map than its input."""
    top, left = ((n - m) // 2 for n, m in zip(label.shape, size, strict=True))
    return label[top : top + size[0], left : left + size[1]]


def table(rows, sizes):
    """The rows as text. `sizes`: {file: bytes}."""
    lines = [
        f"{'file':<24}{'MB':>8}{'max diff/std':>14}{'same label':>12}{'mean IoU':>10}{'change':>9}"
    ]
    for row in rows:
        megabytes = f"{sizes[row['file']] / 1e6:.2f}" if row["file"] in sizes else ""
        lines.append(
            f"{row['file']:<24}{megabytes:>8}"
            f"{_number(row['difference'], '.1e'):>14}"
            f"{_number(row['agreement'], '.3%'):>12}"
            f"{_number(row['mean_iou'], '.4f'):>10}"
            f"{_number(row['mean_iou_change'], '+.4f'):>9}"
            f"  {row['verdict'] or ''}".rstrip()
        )
    return "\n".join(lines)


def _number(value, form):
    return "" if value is None else format(value, form)
