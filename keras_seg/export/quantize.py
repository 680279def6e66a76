"""The quantised files of an export: one network prepared for all of them, and layers kept in float.

Where int8 costs more than the bound, some layers stay in float. Which ones is measured:

1. One picture runs through the float file and the quantised one. Of every tensor, the noise (mean
   square of the difference over the variance) less that of what it is computed from is what its own
   operator adds. The operators that add most are tried.
2. A tensor is free of rounding only if what makes it and all that read it are in float. For each
   operator tried, a file with these in float tells how many labels return to the float network's.
3. Groups are left in float, the most useful first, until the loss is within the bound; then each is
   put back in turn, and stays in int8 if the loss remains within the bound. What a group costs is
   the loss with it in int8.
"""

import copy
import pathlib
import tempfile
from typing import NamedTuple

import numpy as np

from keras_seg.export import onnx_quantize, targets, tflite
from keras_seg.export.equalize import equalise, folded
from keras_seg.export.parity import away_from_ties, centre
from keras_seg.inference import load_runner
from keras_seg.metrics import confusion_matrix, scores

# name in `quantize`: format of its file.
FORMATS = {
    "float16": "tflite",
    "dynamic": "tflite",
    "int8": "tflite",
    "int16x8": "tflite",
    "uint8": "tflite",
    "qdq": "onnx",
}
CALIBRATED = ("int8", "int16x8", "uint8", "qdq")
WITH_FALLBACK = ("int8", "qdq")
# More calibration images change the measured ranges little and cost a run of the network each.
MOST_CALIBRATION = 200
_MEASURED = 16  # pictures for the ranges of single channels, and for the loss of a file
_TRIED = 12
_MOST_GROUPS = 8


def prepared(graph, calibration):
    """(a `StaticGraph` like `graph` whose network int8 holds better, number of layers equalised).

    See `keras_seg.export.equalize`; the function is the same.
    """
    model = folded(graph.model)
    count = equalise(model, calibration.spread(_MEASURED))
    found = copy.copy(graph)
    found.model, found.network = model, found.part(model)
    found.function, found.concrete = found.trace(found.input_shape)
    return found, count


def write(graph, path, precision, calibration):
    """Write the `StaticGraph` of `prepared` in a precision of `CALIBRATED`."""
    if precision == "qdq":
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            _Onnx(graph, folder, calibration).write(path)
    else:
        tflite.write(graph, path, precision, calibration.spread(MOST_CALIBRATION))


class Loss:
    """How much worse a file's labels are than those of the Keras network, on a few pictures.

    Args:
        graph: the export's `StaticGraph`.
        pictures: `Pictures`; at most 16 of them, evenly spread, are used.
        num_classes, ignore_label, tie: as in `parity.compare`.

    Attributes:
        measure: "mean_iou": by how much the mean IoU is lower, where the pictures have labels of
            the size of what the file returns; else "labels": the share of pixels away from ties
            with another label than the Keras network's.
    """

    def __init__(self, graph, pictures, *, num_classes, ignore_label, tie):
        self._num_classes, self._ignore_label = num_classes, ignore_label
        network = load_runner(graph.part(graph.model))
        count = min(_MEASURED, len(pictures))
        self._cases = []
        for i in range(count):
            image, label = pictures[i * len(pictures) // count]
            logits = network.run(image)
            if label is not None and graph.output != "logits_lowres":
                label = centre(label, logits.shape[1:3])
            else:
                label = None
            clear = away_from_ties(logits, tie)[0]
            self._cases.append((image, label, logits[0].argmax(-1), clear))
        self._iou = self._mean_iou([labels for *_, labels, _ in self._cases])
        self.measure = "labels" if self._iou is None else "mean_iou"

    def __call__(self, path):
        """(loss by the measure, share of pixels away from ties with another label) of a file."""
        runner = load_runner(path)
        found, other, clear_pixels = [], 0, 0
        for image, _, expected, clear in self._cases:
            labels = runner.run(image)[0]
            labels = labels if labels.ndim == 2 else labels.argmax(-1)
            found.append(labels)
            other += int(((labels != expected) & clear).sum())
            clear_pixels += int(clear.sum())
        share = other / max(clear_pixels, 1)
        return (share if self._iou is None else self._iou - self._mean_iou(found)), share

    def _mean_iou(self, predictions):
        matrix = 0
        for (_, label, *_), labels in zip(self._cases, predictions, strict=True):
            if label is not None:
                counted = (label, labels.astype("int32"), self._num_classes, self._ignore_label)
                matrix = matrix + confusion_matrix(*counted)
        return scores(matrix)["mean_iou"] if np.any(matrix) else None


def with_fallback(graph, path, precision, calibration, loss, bound, most=_MOST_GROUPS):
    """Leave layers of a written file in float until its loss is within the bound.

    Args:
        graph: the `StaticGraph` of `prepared`.
        path: the file that `write` wrote; replaced if layers stay in float.
        precision: "int8" or "qdq".
        calibration: `Pictures`.
        loss: `Loss`.
        bound: the greatest loss wanted.
        most: how many groups of neighbouring operators may stay in float.

    Returns:
        dict for the manifest: measure, bound, loss (of the file as it is now), loss_int8 (with
        every layer in int8), within (whether the bound is held), float_layers: [{"layer",
        "operators", "cost"}], where the cost is by how much the loss is greater with that one
        in int8.
    """
    before, unequal = loss(path)
    found = {"measure": loss.measure, "bound": bound, "loss": before, "loss_int8": before}
    found |= {"within": bool(before <= bound), "float_layers": []}
    if found["within"] or most < 1:
        return found
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        files = {"int8": _TFLite, "qdq": _Onnx}[precision](graph, folder, calibration)
        trial = pathlib.Path(folder, path.name)

        def measured(groups):
            files.write(trial, frozenset().union(*(group.names for group in groups)))
            return loss(trial)

        tried = files.groups(next(iter(calibration.spread(1))))[:_TRIED]
        gains = {group: unequal - measured([group])[1] for group in tried}
        useful = sorted((g for g in tried if gains[g] > 0), key=gains.get, reverse=True)
        best, chosen = before, []
        for count in range(1, min(most, len(useful)) + 1):
            now = measured(useful[:count])[0]
            if now < best:
                best, chosen = now, useful[:count]
            if now <= bound:
                break
        costs = {}
        for group in reversed(chosen):
            rest = [g for g in chosen if g is not group]
            costs[group] = measured(rest)[0]
            if costs[group] <= bound:
                chosen, best = rest, costs[group]
        if chosen:
            files.write(path, frozenset().union(*(group.names for group in chosen)))
    found |= {"loss": best, "within": bool(best <= bound)}
    found["float_layers"] = [
        {"layer": group.layer, "operators": list(group.operators), "cost": costs[group] - best}
        for group in chosen
    ]
    return found


class _Group(NamedTuple):
    """An operator, all that read what it returns, and what is said of them."""

    layer: str  # that the operator comes from
    operators: tuple  # theirs, as the format calls them
    names: frozenset  # by which the quantiser knows them


class _TFLite:
    """A TFLite file that is calibrated once and then quantised in many ways."""

    def __init__(self, graph, folder, calibration):
        import tensorflow as tf

        self._tools = tf.lite.experimental
        self._graph, self._folder = graph, pathlib.Path(folder)
        images = calibration.spread(MOST_CALIBRATION)
        self._debugger = self._tools.QuantizationDebugger(
            converter=tflite.converter_of(graph, "int8", images),
            debug_dataset=lambda: (),  # its own measurements are not used
        )

    def write(self, path, floats=frozenset()):
        path.write_bytes(tflite.add_signature(self._content(floats), self._graph.outputs))

    def _content(self, floats=frozenset()):
        names = sorted(floats)
        self._debugger.options = self._tools.QuantizationDebugOptions(denylisted_nodes=names)
        return self._debugger.get_nondebug_quantized_model()

    def groups(self, image):
        """Groups, the one whose first operator adds most noise first."""
        exact = tflite.converter_of(self._graph).convert()
        content = self._content()
        rounded = tflite.values(content, image)
        path = self._folder / "rounded.tflite"
        path.write_bytes(content)
        nodes = [
            (operation.outputs[0].name, operation.name, inputs, [operation.outputs[0].name])
            for operation in targets.read(path)[1]
            for inputs in [[t.name for t in operation.inputs if not t.constant]]
        ]
        return _groups(nodes, tflite.values(exact, image), rounded, _layers(self._graph))


class _Onnx:
    """An ONNX file that is quantised in many ways."""

    def __init__(self, graph, folder, calibration):
        self._graph, self._calibration = graph, calibration
        self._float = pathlib.Path(folder) / "float.onnx"
        onnx_quantize.write_float(graph, self._float)

    def write(self, path, floats=frozenset()):
        images = self._calibration.spread(MOST_CALIBRATION)
        onnx_quantize.quantize(self._float, path, images, floats)

    def groups(self, image):
        """Groups, the one whose first operator adds most noise first."""
        nodes = onnx_quantize.nodes(self._float)
        names = [name for *_, outputs in nodes for name in outputs]
        path = self._float.with_name("rounded.onnx")
        self.write(path)
        exact, rounded = (onnx_quantize.values(p, image, names) for p in (self._float, path))
        return _groups(nodes, exact, rounded, _layers(self._graph))


def _groups(nodes, exact, rounded, layers):
    """`_Group` for every node (name, operator, inputs, outputs) whose output is in both files.

    exact, rounded: {tensor: value}.
    """
    noise, added, readers = {}, {}, {}
    for node in nodes:
        name, operator, inputs, outputs = node
        for tensor in inputs:
            readers.setdefault(tensor, []).append(node)
        if outputs[0] in exact and outputs[0] in rounded and "QUANTIZE" not in operator:
            value = exact[outputs[0]]
            square = np.mean((rounded[outputs[0]] - value) ** 2)
            noise[outputs[0]] = square / max(value.var(), 1e-30)
            before = max((noise.get(tensor, 0.0) for tensor in inputs), default=0.0)
            added[name] = noise[outputs[0]] - before
    found = []
    for node in nodes:
        if node[0] not in added:
            continue
        members = [node, *(n for n in readers.get(node[3][0], []) if "QUANTIZE" not in n[1])]
        layer = targets.layer_of([node[0], *node[3], *node[2]], layers) or node[0]
        operators, names = zip(*((n[1], n[0]) for n in members), strict=True)
        found.append((added[node[0]], _Group(layer, operators, frozenset(names))))
    return [group for _, group in sorted(found, key=lambda pair: -pair[0])]


def _layers(graph):
    return {layer.name for layer in graph.model._flatten_layers(include_self=False)}
