"""The quantised files of an export: one network prepared for all of them, and layers kept in float.

Where int8 costs more than the bound, some layers stay in float. Which ones is measured:

1. The loss is measured with the end in float: the last layer with a kernel and what follows. The
   logits are then not rounded at all, and it is a small part of most networks.
2. If that does not hold the bound, the network is cut into eight stretches, and the loss is
   measured with each of them in float. If one holds the bound, it is halved as long as a half
   holds it.
3. If none does: one picture runs through the float file and the quantised one. The noise of a
   tensor is the mean square of the difference over the variance, channel by channel; less the noise
   of what the tensor is computed from, it is what its operator and the rounding behind it add. The
   layer with the tensor of most added noise is left in float, all its operators and what reads
   their tensors. With these in float the loss and the noise are measured again, and the next layer
   chosen, until the bound holds.
4. Each choice is put back in turn, and stays in int8 if the loss remains within the bound. What the
   others cost is how much greater the loss is with them in int8.
"""

import copy
import math
import pathlib
import tempfile
from typing import NamedTuple

import numpy as np

from keras_seg.export import logits_range, onnx_quantize, targets, tflite
from keras_seg.export.equalize import comparable, equalise, folded
from keras_seg.export.parity import away_from_ties, counted
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
_MEASURED = 16  # pictures for the loss of a file
_MOST_GROUPS = 8
_STRETCHES = 8
_MOST_VALUES = 2**18  # of a tensor, to measure noise
_KERNELS = frozenset(
    """CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED TRANSPOSE_CONV Conv ConvTranspose Gemm
    MatMul""".split()
)


def prepared(graph, calibration):
    """(a `StaticGraph` like `graph` whose network int8 holds better, number of layers equalised).

    See `keras_seg.export.equalize`; the function is the same. Its `logits_range` is that of
    `keras_seg.export.logits_range`.
    """
    # Not of the whole model: behind `logits_lowres` there may be a convolution, for which their
    # channels would be divided by factors of their own.
    model = folded(graph.network)
    count = equalise(model, calibration.spread(MOST_CALIBRATION))
    model = comparable(model, calibration.spread(MOST_CALIBRATION))
    found = copy.copy(graph)
    found.__dict__.pop("runner", None)  # that of the other network, if it has run
    found.model, found.network = model, found.part(model)
    found.function, found.concrete = found.trace(found.input_shape)
    found.logits_range = logits_range.measured(graph, calibration)
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
        measure: "mean_iou": by how much the mean IoU is lower, where the pictures have labels and
            the file does not return logits at low resolution; else "labels": the share of pixels
            away from ties with another label than the Keras network's.
    """

    def __init__(self, graph, pictures, *, num_classes, ignore_label, tie):
        self._num_classes, self._ignore_label = num_classes, ignore_label
        count = min(_MEASURED, len(pictures))
        self._cases, matrix = [], 0
        for i in range(count):
            image, label = pictures[i * len(pictures) // count]
            logits = graph.runner.run(image)
            if graph.output == "logits_lowres":
                label = None
            clear = away_from_ties(logits, tie)[0]
            self._cases.append((image, label, logits[0].argmax(-1), clear))
            matrix = matrix + self._matrix(label, logits[0])
        self._iou = _mean_iou(matrix)
        self.measure = "labels" if self._iou is None else "mean_iou"

    def __call__(self, path):
        """The loss of a file by the measure."""
        runner = load_runner(path)
        matrix, other, pixels = 0, 0, 0
        for image, label, expected, clear in self._cases:
            found = runner.run(image)[0]
            matrix = matrix + self._matrix(label, found)
            labels = found if found.ndim == 2 else found.argmax(-1)
            other += int(((labels != expected) & clear).sum())
            pixels += int(clear.sum())
        if self._iou is None:
            return other / max(pixels, 1)
        return float(self._iou - _mean_iou(matrix))

    def _matrix(self, label, found):
        if label is None:
            return 0
        pair = counted(found, label, self._num_classes)
        return confusion_matrix(*pair, self._num_classes, self._ignore_label)


def _mean_iou(matrix):
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
        most: how many layers may stay in float.

    Returns:
        dict for the manifest: measure, bound, loss (of the file as it is now), loss_int8 (with
        every layer in int8), within (whether the bound is held), float_layers: [{"layer",
        "operators", "cost"}], where the cost is by how much the loss is greater with that one
        in int8.
    """
    before = loss(path)
    found = {"measure": loss.measure, "bound": bound, "loss": before, "loss_int8": before}
    found |= {"within": bool(before <= bound), "float_layers": []}
    if found["within"] or most < 1:
        return found
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        files = {"int8": _TFLite, "qdq": _Onnx}[precision](graph, folder, calibration)
        trial, image = pathlib.Path(folder, path.name), next(iter(calibration.spread(1)))

        def names(groups):
            return frozenset().union(*(group.names for group in groups))

        def measured(groups):
            files.write(trial, names(groups))
            return loss(trial)

        files.write(trial)
        groups = files.groups()
        end = _end(groups)
        trials = [([], before)] + ([(end, measured(end))] if end else [])
        chosen, best = min(trials, key=lambda trial: trial[1])
        if best > bound:
            stretch, loss_there = _one_stretch(groups, measured, bound)
            if stretch:
                chosen, best = stretch, loss_there
        if best > bound:
            tried, least = chosen, best
            files.write(trial, names(tried))
            while least > bound and len(tried) < most:
                groups = sorted(files.groups(image), key=lambda group: -group.noise)
                grown = [[*tried, g] for g in groups if g.names - names(tried)]
                # With everything in float it would be no such file.
                grown = [more for more in grown if names(more) != names(groups)]
                if not grown:
                    break
                tried = grown[0]
                least = measured(tried)
                trials.append((tried, least))
            chosen, best = min(trials, key=lambda trial: trial[1])
        costs = {}
        for group in chosen[::-1]:
            rest = [g for g in chosen if g is not group]
            costs[group] = measured(rest)
            if costs[group] <= max(bound, best):
                chosen, best = rest, costs[group]
        if len(chosen) > most:
            chosen = sorted(chosen, key=costs.get, reverse=True)[:most]
            best = measured(chosen)
        if chosen:
            files.write(path, names(chosen))
    found |= {"loss": best, "within": bool(best <= bound)}
    found["float_layers"] = [
        {
            "layer": group.layer,
            "operators": list(group.operators),
            "cost": max(costs[group] - best, 0.0),
        }
        for group in chosen
    ]
    return found


def _end(groups):
    """The last group with a kernel and what follows; [] where that is the whole network."""
    with_kernel = [i for i, group in enumerate(groups) if _KERNELS & set(group.operators)]
    return groups[with_kernel[-1] :] if with_kernel and with_kernel[-1] > 0 else []


def _one_stretch(groups, measured, bound):
    """(groups, loss): a short stretch of the network that alone holds the bound, or ([], None)."""
    count = len(groups)
    if count < 2 * _STRETCHES:
        return [], None
    edges = [i * count // _STRETCHES for i in range(_STRETCHES + 1)]
    parts = [groups[edges[i] : edges[i + 1]] for i in range(_STRETCHES)]
    found, best = [], None
    while len(parts) > 1:
        losses = [measured(part) for part in parts]
        if min(losses) > bound:
            break
        best = min(losses)
        found = parts[losses.index(best)]
        half = len(found) // 2
        parts = [part for part in (found[:half], found[half:]) if part]
    return found, best


class _Group(NamedTuple):
    """The operators of a layer, all that read what they return, and what is said of them."""

    layer: str  # that the operators come from
    operators: tuple  # theirs, as the format calls them
    names: frozenset  # by which the quantiser knows them
    noise: float  # the most that one of them and the rounding behind it add; 0 if not measured


class _TFLite:
    """A TFLite file that is calibrated once and then quantised in many ways."""

    def __init__(self, graph, folder, calibration):
        import tensorflow as tf

        self._tools = tf.lite.experimental
        self._graph, self._content, self._float, self._exact = graph, None, None, {}
        self._plain = pathlib.Path(folder, "plain.tflite")  # without the names of the signature
        images = calibration.spread(MOST_CALIBRATION)
        self._debugger = self._tools.QuantizationDebugger(
            converter=tflite.converter_of(graph, "int8", images),
            debug_dataset=lambda: (),  # its own measurements are not used
        )

    def write(self, path, floats=frozenset()):
        names = sorted(floats)
        self._debugger.options = self._tools.QuantizationDebugOptions(denylisted_nodes=names)
        self._content = self._debugger.get_nondebug_quantized_model()
        path.write_bytes(tflite.add_signature(self._content, self._graph.outputs))

    def groups(self, image=None):
        """The groups of the file written last, in the order of computing; without an image, which
        takes the memory of all tensors at once, all have a noise of 0."""
        if self._float is None:
            converter = tflite.converter_of(self._graph, changes=tflite.changes_for("int8"))
            self._float = converter.convert()
        measured = image is not None
        if measured not in self._exact:
            self._exact[measured] = tflite.values(self._float, image, _thinned)
        exact = self._exact[measured]
        rounded = tflite.values(self._content, image, _thinned)
        self._plain.write_bytes(self._content)

        def name_of(name):
            """A tensor's name in the float file, which the quantiser goes by."""
            # Where the name is there twice, in int8 and in float, a digit is put behind the first.
            known = name in exact or name[:-1] not in exact
            return name if known or not name[-1].isdigit() else name[:-1]

        nodes = [
            _Node(
                (name_of(operation.outputs[0].name),),
                (operation.name,),
                [name_of(tensor.name) for tensor in operation.inputs if not tensor.constant],
                name_of(operation.outputs[0].name),
                tuple(tensor.name for tensor in operation.inputs if tensor.constant),
            )
            for operation in targets.read(self._plain)[1]
        ]
        rounded = {name_of(name): value for name, value in rounded.items()}
        return _groups(nodes, exact, rounded, _layers(self._graph), axis=-1)


class _Onnx:
    """An ONNX file that is calibrated once and then quantised in many ways."""

    def __init__(self, graph, folder, calibration):
        self._graph, self._written, self._exact = graph, None, {}
        self._float = pathlib.Path(folder) / "float.onnx"
        onnx_quantize.write_float(graph, self._float)
        images = calibration.spread(MOST_CALIBRATION)
        self._ranges = onnx_quantize.ranges(self._float, images)
        if graph.logits_range is not None:
            onnx_quantize.cut_logits(self._ranges, self._float, graph.outputs, graph.logits_range)

    def write(self, path, floats=frozenset()):
        onnx_quantize.quantize(self._float, path, self._ranges, floats)
        self._written = path

    def groups(self, image=None):
        """As of `_TFLite`."""
        nodes = [_Node(*node) for node in onnx_quantize.nodes(self._float)]
        names = [node.output for node in nodes]
        measured = image is not None
        if measured not in self._exact:
            self._exact[measured] = onnx_quantize.values(self._float, image, names, _thinned)
        rounded = onnx_quantize.values(self._written, image, names, _thinned)
        return _groups(nodes, self._exact[measured], rounded, _layers(self._graph), axis=1)


class _Node(NamedTuple):
    """An operator of a file, or several that are computed as one."""

    names: tuple  # by which the quantiser knows it
    operators: tuple
    inputs: list  # tensors that are no constants
    output: str  # the first tensor that it returns
    constants: tuple = ()  # names of tensors


def _groups(nodes, exact, rounded, layers, axis):
    """`_Group` of every layer whose outputs are in both files.

    Args:
        exact, rounded: {tensor: value, or None if noise is not asked for}.
        axis: that of the channels.
    """
    # Between two operators, one in float and one in int8, a file has the same tensor twice.
    same = {}
    for node in nodes:
        if _rounds(node) and node.output != node.inputs[0]:
            same[node.output] = same.get(node.inputs[0], node.inputs[0])
    noise = {}
    for name, value in rounded.items():
        name = same.get(name, name)
        if name in exact:
            found = 0.0 if value is None else _noise(value, exact[name], axis)
            noise[name] = max(found, noise.get(name, 0.0))
    nodes = [
        node._replace(inputs=[same.get(name, name) for name in node.inputs])
        for node in nodes
        if not _rounds(node)
    ]
    found = []
    for node in nodes:
        if node.output not in noise:
            continue
        before = max((noise.get(name, 0.0) for name in node.inputs), default=0.0)
        members = [node, *(other for other in nodes if node.output in other.inputs)]
        hints = [*node.names, node.output, *node.constants, *node.inputs]
        layer = targets.layer_of(hints, layers)
        names = frozenset(name for member in members for name in member.names)
        operators = tuple(name for member in members for name in member.operators)
        added = noise[node.output] - before
        found.append(_Group(layer or node.names[0], operators, names, added))
    return _by_layer(found)


def _by_layer(groups):
    """One group for each layer, at the place of its first operator.

    What a normalisation computes in several steps is of use in float as a whole only.
    """
    found = {}
    for group in groups:
        first = found.get(group.layer)
        if first is None:
            found[group.layer] = group
        else:
            found[group.layer] = _Group(
                group.layer,
                tuple(dict.fromkeys(first.operators + group.operators)),
                first.names | group.names,
                max(first.noise, group.noise),
            )
    return list(found.values())


def _thinned(value):
    """Every n-th place along the two longest axes of a large tensor. All tensors of FC-DenseNet56
    at 480 x 360, in float32 and of two files, took more than 14 GB."""
    longest = sorted(range(value.ndim), key=lambda axis: -value.shape[axis])[:2]
    step = max(math.isqrt(value.size // _MOST_VALUES), 1)
    return value[tuple(slice(None, None, step if i in longest else 1) for i in range(value.ndim))]


def _noise(value, exact, axis):
    """Mean square of the difference over the variance, at most 1, on average over the channels.

    Over all values at once, the channels with large values would hide what the others lose. A
    channel of one value everywhere, as behind a global pooling, has no variance: it loses what the
    difference is of that value.
    """
    axis = axis if value.ndim > 1 else 0
    rest = tuple(i for i in range(value.ndim) if i != axis % value.ndim)
    square, variance, energy = (
        (values**2).mean(rest)
        for values in (value - exact, exact - exact.mean(rest, keepdims=True), exact)
    )
    of = np.where(variance > 1e-9 * energy, variance, energy)
    return float(np.minimum(square / np.maximum(of, 1e-30), 1).mean())


def _rounds(node):
    return node.operators[0] in ("QUANTIZE", "DEQUANTIZE")


def _layers(graph):
    return {layer.name for layer in graph.model._flatten_layers(include_self=False)}
