"""The proof: each file loaded again in its own runtime and compared with the Keras model."""

import numpy as np

from keras_seg.inference import load_runner
from keras_seg.metrics import confusion_matrix, scores


def compare(reference, files, pictures, *, num_classes, ignore_label, tie):
    """Run the Keras model and every file on the same images.

    Args:
        reference: the Keras model that the files were made from, in float32.
        files: {name: (path, precision)}; either model may be all that `load_runner` takes.
        pictures: `Pictures`.
        num_classes: K.
        ignore_label: the label that is not counted.
        tie: a pixel is away from ties if the Keras model's two largest logits differ by more than
            this many standard deviations of the picture's logits.

    Returns:
        One dict a row, the Keras model first:
        file, precision;
        difference, mean_difference: largest and mean absolute difference of the logits divided by
            the standard deviation of the Keras model's logits; None for a file of labels;
        agreement: share of pixels with the same label;
        clear_agreement: the same among pixels away from ties, None where there are none;
        clear: the share of pixels away from ties;
        mean_iou, mean_iou_change, iou (a list, by class): against the labels, None where no pixel
            has any.
    """
    reference = load_runner(reference)
    runners = {name: load_runner(path) for name, (path, _) in files.items()}
    tallies = {name: _Tally(num_classes, ignore_label) for name in ["keras", *files]}
    spread = _Spread()
    for index in range(len(pictures)):
        image, label = pictures[index]
        expected = reference.run(image)
        spread.add(expected)
        clear = _away_from_ties(expected, tie)
        tallies["keras"].add(expected, expected, clear, label)
        for name, runner in runners.items():
            tallies[name].add(runner.run(image), expected, clear, label)

    deviation = spread.deviation()
    keras_iou = tallies["keras"].scores()["mean_iou"]
    rows = [{"file": "keras", "precision": "float32", **tallies["keras"].row(deviation, keras_iou)}]
    rows[0] |= dict.fromkeys(_COMPARED)
    for name, (_, precision) in files.items():
        row = {"file": name, "precision": precision}
        rows.append(row | tallies[name].row(deviation, keras_iou))
    return rows


# What says nothing of the Keras model itself.
_COMPARED = ("difference", "mean_difference", "agreement", "clear_agreement", "mean_iou_change")


def _away_from_ties(logits, tie):
    """Where (N, h, w) the two largest of (N, h, w, K) logits differ by more than `tie` says."""
    if logits.shape[-1] == 1:
        return np.ones(logits.shape[:-1], bool)
    second, first = np.moveaxis(np.partition(logits, -2, axis=-1)[..., -2:], -1, 0)
    return first - second > tie * logits.std(dtype="float64")


class _Tally:
    """What is added up for one file, image by image."""

    def __init__(self, num_classes, ignore_label):
        self._num_classes, self._ignore_label = num_classes, ignore_label
        self._largest, self._sum, self._values = 0.0, 0.0, 0
        self._equal, self._pixels, self._clear_equal, self._clear = 0, 0, 0, 0
        self._matrix = None

    def add(self, output, expected, clear, label):
        labels = output
        if output.dtype.kind == "f":
            # A NaN stays: max(NaN, x) of NumPy is NaN, and NaN passes no bound.
            difference = np.abs(output - expected)
            self._largest = np.maximum(self._largest, difference.max())
            self._sum += difference.sum(dtype="float64")
            self._values += difference.size
            labels = output.argmax(-1)
        equal = labels == expected.argmax(-1)
        self._equal += int(equal.sum())
        self._pixels += equal.size
        self._clear_equal += int(equal[clear].sum())
        self._clear += int(clear.sum())
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
        logits = self._values > 0
        return {
            "difference": float(self._largest / deviation) if logits else None,
            "mean_difference": float(self._sum / self._values / deviation) if logits else None,
            "agreement": self._equal / self._pixels,
            "clear_agreement": self._clear_equal / self._clear if self._clear else None,
            "clear": self._clear / self._pixels,
            "mean_iou": found["mean_iou"],
            "mean_iou_change": None if keras_iou is None else found["mean_iou"] - keras_iou,
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
    columns = (
        ("max diff", "difference", ".1e"),
        ("mean diff", "mean_difference", ".1e"),
        ("same label", "agreement", ".3%"),
        ("not ties", "clear_agreement", ".3%"),
        ("mean IoU", "mean_iou", ".4f"),
        ("change", "mean_iou_change", "+.4f"),
    )
    lines = [f"{'file':<21}{'MB':>8}" + "".join(f"{title:>11}" for title, *_ in columns)]
    for row in rows:
        megabytes = f"{sizes[row['file']] / 1e6:.2f}" if row["file"] in sizes else ""
        values = "".join(f"{_number(row[name], form):>11}" for _, name, form in columns)
        lines.append(f"{row['file']:<21}{megabytes:>8}{values}  {row['verdict'] or ''}".rstrip())
    return "\n".join(lines)


def _number(value, form):
    return "" if value is None else format(value, form)
