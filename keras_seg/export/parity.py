"""The proof: each file loaded again in its own runtime and compared with the Keras model."""

import keras
import numpy as np

from keras_seg.inference import load_runner
from keras_seg.inference.resize import resize
from keras_seg.metrics import confusion_matrix, scores

# What a float32 file must reach. A float16 file rounds its weights, so only its labels are held to
# a bound; int8 is judged by the mean IoU, which needs labels.
MAX_DIFFERENCE = 1e-3
MIN_AGREEMENT = 0.999
MAX_IOU_LOSS = 0.01


def compare(graph, files, pictures, *, num_classes, ignore_label, enlarge=None):
    """Run the Keras model and every file on the same images.

    Args:
        graph: the `StaticGraph` that the files were made from; its Keras network followed by its
            head is what they are compared with.
        files: {name: (path, precision)}; a path may also be a runner of a Keras model.
        pictures: `Pictures`.
        num_classes: K.
        ignore_label: the label that is not counted.
        enlarge: for logits at low resolution: "half_pixel" or "align_corners", how they are brought
            to the labels' size; None: the mean IoU is not computed.

    Returns:
        One dict a row, the Keras model first:
        file, precision;
        difference: largest absolute difference of the logits (or probabilities) divided by the
            standard deviation of the Keras model's; None for a file of labels;
        confidence_difference: largest absolute difference of the confidence, None without one;
        agreement: share of pixels with the same label;
        mean_iou, mean_iou_change, iou (a list, by class): against the labels, None where no pixel
            has any;
        verdict: "ok" or "FAIL" by the bounds of this module; "low" for an int8 file that loses more
            than a point of mean IoU; None where there is nothing to judge by (int8 without labels,
            a model in half precision).
    """
    reference = _runner(graph, graph.model)
    runners = {name: _runner(graph, path) for name, (path, _) in files.items()}
    tallies = {
        name: _Tally(graph, num_classes, ignore_label, enlarge) for name in ["keras", *files]
    }
    spread = _Spread()
    for index in range(len(pictures)):
        image, label = pictures[index]
        expected = reference(image)
        spread.add(expected[graph.output])
        tallies["keras"].add(expected, expected, label)
        for name, runner in runners.items():
            tallies[name].add(runner(image), expected, label)

    deviation = spread.deviation()
    keras_iou = tallies["keras"].scores()["mean_iou"]
    rows = [{"file": "keras", "precision": "float32", **tallies["keras"].row(deviation, keras_iou)}]
    rows[0] |= {"difference": None, "agreement": None, "mean_iou_change": None, "verdict": None}
    rows[0]["confidence_difference"] = None
    for name, (_, precision) in files.items():
        row = {"file": name, "precision": precision}
        row |= tallies[name].row(deviation, keras_iou)
        rows.append(row | {"verdict": _verdict(row)})
    return rows


def _runner(graph, model):
    """image -> {name: array}, of a file or of a Keras model followed by the graph's head."""
    runner = load_runner(model)
    if runner.kind != "keras":
        return runner.run_all
    network = load_runner(graph.part(runner.model))

    def run(image):
        found = graph.head(keras.ops.convert_to_tensor(network.run(image)))
        return {name: keras.ops.convert_to_numpy(tensor) for name, tensor in found.items()}

    return run


def _verdict(row):
    agree = row["agreement"] >= MIN_AGREEMENT
    if row["precision"] == "float32":
        differences = (row["difference"], row["confidence_difference"])
        close = all(value is None or value <= MAX_DIFFERENCE for value in differences)
        return "ok" if agree and close else "FAIL"
    if row["precision"] == "float16":
        return "ok" if agree else "FAIL"
    if row["precision"] == "int8" and row["mean_iou_change"] is not None:
        return "ok" if row["mean_iou_change"] >= -MAX_IOU_LOSS else "low"
    return None


class _Tally:
    """What is added up for one file, image by image."""

    def __init__(self, graph, num_classes, ignore_label, enlarge):
        self._output, self._enlarge = graph.output, enlarge
        self._num_classes, self._ignore_label = num_classes, ignore_label
        self._equal, self._pixels = 0, 0
        self._largest = {name: 0.0 for name in graph.outputs if name != "labels"}
        self._matrix = None

    def add(self, outputs, expected, label):
        for name in self._largest:
            # A NaN stays: max(NaN, x) of NumPy is NaN, and NaN passes no bound.
            difference = np.abs(outputs[name] - expected[name]).max()
            self._largest[name] = np.maximum(self._largest[name], difference)
        output = outputs[self._output]
        labels = self._labels(output)
        self._equal += int((labels == self._labels(expected[self._output])).sum())
        self._pixels += labels.size
        if self._output == "logits_lowres" and self._enlarge is None:
            return
        if label is not None:
            if self._output == "logits_lowres":
                labels = resize(output[0], label.shape, self._enlarge).argmax(-1)[None]
            label = _centre(label, labels.shape[1:])
            matrix = confusion_matrix(label, labels[0], self._num_classes, self._ignore_label)
            self._matrix = matrix if self._matrix is None else self._matrix + matrix

    def _labels(self, output):
        return output.astype("int32") if self._output == "labels" else output.argmax(-1)

    def scores(self):
        if self._matrix is None or not self._matrix.any():
            return {"mean_iou": None, "iou": None}
        found = scores(self._matrix)
        return {"mean_iou": found["mean_iou"], "iou": found["iou"]}

    def row(self, deviation, keras_iou):
        found = self.scores()
        change = None if keras_iou is None else found["mean_iou"] - keras_iou
        largest = self._largest.get(self._output)
        confidence = self._largest.get("confidence")
        return {
            "difference": None if largest is None else float(largest / deviation),
            "confidence_difference": None if confidence is None else float(confidence),
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
