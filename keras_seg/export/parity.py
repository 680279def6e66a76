"""The proof: each file loaded again in its own runtime and compared with the Keras model."""

import keras
import numpy as np

from keras_seg.inference import load_runner
from keras_seg.inference.resize import is_reduced, resize
from keras_seg.metrics import confusion_matrix, scores

# What says nothing of the Keras model itself.
_COMPARED = (
    "difference",
    "mean_difference",
    "confidence_difference",
    "agreement",
    "clear_agreement",
    "mean_iou_change",
)

_KEPT_BYTES = 2**29  # of the Keras network's outputs, while files are compared with them


def compare(graph, files, pictures, *, num_classes, ignore_label, tie, enlarge=None):
    """Run the Keras model and every file on the same images.

    Args:
        graph: the `StaticGraph` that the files were made from; its Keras network followed by its
            head is what they are compared with.
        files: {name: (path, precision)}; a path may also be a runner of a Keras model.
        pictures: `Pictures`.
        num_classes: K.
        ignore_label: the label that is not counted.
        tie: a pixel is away from ties if the Keras network's two largest logits differ by more than
            this many standard deviations of the picture's logits.
        enlarge: for logits at low resolution: "half_pixel" or "align_corners", how they are brought
            to the labels' size; None: the mean IoU is not computed.

    Returns:
        One dict a row, the Keras model first:
        file, precision;
        difference, mean_difference: largest and mean absolute difference of the logits (or
            probabilities) divided by the standard deviation of the Keras model's; None for a file
            of labels;
        confidence_difference: largest absolute difference of the confidence, None without one;
        agreement: share of pixels with the same label;
        clear_agreement: the same among pixels away from ties, None where there are none;
        clear: the share of pixels away from ties;
        mean_iou, mean_iou_change, iou (a list, by class): against the labels, None where no pixel
            has any;
        verdict: None, see `keras_seg.export.bounds.judge_all`.
    """
    tallies = {
        name: _Tally(graph, num_classes, ignore_label, enlarge) for name in ["keras", *files]
    }
    spread = _Spread()
    for cases in _in_parts(graph, pictures, tie):
        for _, label, expected, clear in cases:
            spread.add(expected[graph.output])
            tallies["keras"].add(expected, expected, clear, label)
        for name, (path, _) in files.items():
            _add_all(tallies[name], run_all(graph, path), cases)

    deviation = spread.deviation()
    keras_iou = tallies["keras"].scores()["mean_iou"]
    rows = [{"file": "keras", "precision": "float32", **tallies["keras"].row(deviation, keras_iou)}]
    rows[0] |= dict.fromkeys(_COMPARED)
    for name, (_, precision) in files.items():
        row = {"file": name, "precision": precision}
        rows.append(row | tallies[name].row(deviation, keras_iou))
    return rows


def _in_parts(graph, pictures, tie):
    """Lists of (image, label, what the Keras network followed by the graph's head returns, where it
    is away from ties), for as many pictures at a time as `_KEPT_BYTES` allow.

    So that one file at a time need be open: together, nine of FC-DenseNet56 at 512 x 512 held 8 GB.
    """
    cases, kept = [], 0
    for index in range(len(pictures)):
        image, label = pictures[index]
        logits = graph.runner.run(image)
        if not np.isfinite(logits).all():
            raise ValueError(
                f"The model {graph.model.name!r} returns logits that are not finite numbers for "
                f"the image {index} of those to compare on. Look for NaN in its weights."
            )
        expected = _head(graph, logits)
        cases.append((image, label, expected, away_from_ties(logits, tie)))
        kept += image.nbytes + sum(array.nbytes for array in expected.values())
        if kept >= _KEPT_BYTES:
            yield cases
            cases, kept = [], 0
    if cases:
        yield cases


def _add_all(tally, run, cases):
    for image, label, expected, clear in cases:
        tally.add(run(image), expected, clear, label)


def own_rounding(graph, pictures, tie):
    """How far the Keras network is from itself on images that are rounded otherwise.

    Most networks change by some 1e-6 of the logits' deviation. Unpooling puts a value elsewhere
    where the two largest of a window are nearly equal, and untrained weights may amplify anything.

    Args:
        graph, pictures, tie: as of `compare`.

    Returns:
        {"difference", "mean_difference", "agreement", "clear_agreement"}, as in the rows there: of
        each the worst of the `roundings`.
    """
    tallies, spread = [], _Spread()
    for index in range(len(pictures)):
        image, _ = pictures[index]
        logits = graph.runner.run(image)
        expected = _head(graph, logits)
        spread.add(expected[graph.output])
        clear = away_from_ties(logits, tie)
        for number, rounded in enumerate(roundings(image)):
            if index == 0:
                tallies.append(_Tally(graph, None, None, None))
            found = _head(graph, graph.runner.run(rounded))
            tallies[number].add(found, expected, clear, None)
    rows = [tally.row(spread.deviation(), None) for tally in tallies]
    worst = {"difference": max, "mean_difference": max, "agreement": min, "clear_agreement": min}
    return {
        name: None if rows[0][name] is None else of(row[name] for row in rows)
        for name, of in worst.items()
    }


def roundings(images):
    """Three times the float32 images, each with the next larger float32 number for half of the
    values, by chance.

    One is too few: by them DeconvNet, with random weights, moved by 3e-5, 2e-3 and 3e-4 deviations
    on average.
    """
    for seed in range(3):
        half = np.random.default_rng(seed).random(images.shape) < 0.5
        yield np.where(half, np.nextafter(images, np.float32(np.inf)), images)


def run_all(graph, model):
    """images -> {name: array}, of a file or of a Keras model followed by the graph's head."""
    runner = load_runner(model)
    if runner.kind != "keras":
        return runner.run_all
    network = load_runner(graph.part(runner.model))
    return lambda image: _head(graph, network.run(image))


def _head(graph, logits):
    found = graph.head(keras.ops.convert_to_tensor(logits))
    return {name: keras.ops.convert_to_numpy(tensor) for name, tensor in found.items()}


def away_from_ties(logits, tie):
    """Where (N, h, w) the two largest of (N, h, w, K) logits differ by more than `tie` says."""
    if logits.shape[-1] == 1:
        return np.ones(logits.shape[:-1], bool)
    second, first = np.moveaxis(np.partition(logits, -2, axis=-1)[..., -2:], -1, 0)
    return first - second > tie * logits.std(dtype="float64")


class _Tally:
    """What is added up for one file, image by image."""

    def __init__(self, graph, num_classes, ignore_label, enlarge):
        self._output, self._enlarge = graph.output, enlarge
        self._num_classes, self._ignore_label = num_classes, ignore_label
        self._equal, self._pixels, self._clear_equal, self._clear = 0, 0, 0, 0
        floats = [name for name in graph.outputs if name != "labels"]
        self._largest, self._sum = dict.fromkeys(floats, 0.0), dict.fromkeys(floats, 0.0)
        self._values = 0
        self._matrix = None

    def add(self, outputs, expected, clear, label):
        for name in self._largest:
            # A NaN stays: max(NaN, x) of NumPy is NaN, and NaN passes no bound.
            difference = np.abs(outputs[name] - expected[name])
            self._largest[name] = np.maximum(self._largest[name], difference.max())
            self._sum[name] += difference.sum(dtype="float64")
        output = outputs[self._output]
        labels = self._labels(output)
        equal = labels == self._labels(expected[self._output])
        self._values += output.size
        self._equal += int(equal.sum())
        self._pixels += equal.size
        self._clear_equal += int(equal[clear].sum())
        self._clear += int(clear.sum())
        if self._output == "logits_lowres" and self._enlarge is None:
            return
        if label is not None:
            pair = counted(output[0], label, self._num_classes, self._enlarge)
            matrix = confusion_matrix(*pair, self._num_classes, self._ignore_label)
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
        logits = self._output in self._largest
        confidence = self._largest.get("confidence")
        return {
            "difference": float(self._largest[self._output] / deviation) if logits else None,
            "mean_difference": (
                float(self._sum[self._output] / self._values / deviation) if logits else None
            ),
            "confidence_difference": None if confidence is None else float(confidence),
            "agreement": self._equal / self._pixels,
            "clear_agreement": self._clear_equal / self._clear if self._clear else None,
            "clear": self._clear / self._pixels,
            "mean_iou": found["mean_iou"],
            "mean_iou_change": None if keras_iou is None else found["mean_iou"] - keras_iou,
            "iou": found["iou"],
            "verdict": None,
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


def counted(found, label, num_classes, enlarge=None):
    """(label map, predicted labels) of one size, for the mean IoU.

    A map of the whole picture at less resolution is enlarged, as `Predictor` does; of the label map
    of a network whose valid convolutions cut the border off, the centre counts.

    Args:
        found: of one picture, scores (h, w, K) or labels (h, w).
        label: (H, W).
        num_classes: K.
        enlarge: how a smaller map is enlarged; None: at half-pixel centres.
    """
    if enlarge is not None or is_reduced(found.shape[:2], label.shape):
        if found.ndim == 2:
            found = np.eye(num_classes, dtype="float32")[found.astype("int32")]
        found = resize(found, label.shape, enlarge or "half_pixel")
    labels = (found if found.ndim == 2 else found.argmax(-1)).astype("int32")
    top, left = ((n - m) // 2 for n, m in zip(label.shape, labels.shape, strict=True))
    return label[top : top + labels.shape[0], left : left + labels.shape[1]], labels


def table(rows, sizes, ratios=None):
    """The rows as text. `sizes`: {file: bytes}; `ratios`: {file: its time over the Keras
    model's}."""
    columns = (
        ("max diff", "difference", ".1e"),
        ("mean diff", "mean_difference", ".1e"),
        ("same label", "agreement", ".3%"),
        ("not ties", "clear_agreement", ".3%"),
        ("mean IoU", "mean_iou", ".4f"),
        ("change", "mean_iou_change", "+.4f"),
    )
    lines = [f"{'file':<21}{'MB':>8}" + "".join(f"{title:>11}" for title, *_ in columns)]
    if ratios:
        lines[0] += f"{'time':>7}"
    for row in rows:
        megabytes = f"{sizes[row['file']] / 1e6:.2f}" if row["file"] in sizes else ""
        values = "".join(f"{_number(row[name], form):>11}" for _, name, form in columns)
        if ratios:
            values += f"{_number(ratios.get(row['file']), '.2f'):>7}"
        lines.append(f"{row['file']:<21}{megabytes:>8}{values}  {row['verdict'] or ''}".rstrip())
    return "\n".join(lines)


def _number(value, form):
    return "" if value is None else format(value, form)
