"""TFLite (LiteRT): for Android, iOS and microcontrollers, in float32 and in fewer bits."""

import collections
import re

import numpy as np

from keras_seg.export import logits_range, tflite_forms
from keras_seg.export.origin import name_operators
from keras_seg.export.pictures import of_full_range
from keras_seg.export.signature import add_signature
from keras_seg.export.tflite_rewrite import (
    bounds_compared_apart,
    choices_as_sums,
    far_bounds_as_sums,
    frozen,
    larger_as_sums,
    norms_bounded_below,
    squares_as_products,
    sums_as_means,
)
from keras_seg.export.tflite_split import split_long_sums

# The range of a tensor of zeros goes to the smallest float32 number.
_NOTHING = 1e-30

PRECISIONS = ("float32", "float16", "dynamic", "int8", "int16x8", "uint8")


def write(graph, path, precision="float32", calibration=None):
    """Write the `StaticGraph` as a `.tflite` file of builtin operators.

    Args:
        graph: a `StaticGraph`.
        path: the file.
        precision: what is rounded. But for "uint8", the input is float32 pixels and the output what
            the graph returns, float32 or int32.
            "float32": nothing. "float16": weights: half the size, computes in float32 where there
            is no float16. "dynamic": weights in int8; activations are rounded as they come, by the
            range of each picture. "int8": weights and activations, by measured ranges. "int16x8":
            weights in int8, activations in int16. "uint8": as "int8", and no float is left: takes
            uint8 pixels as they are (step 1, zero 0) and returns labels in uint8, and anything else
            in int8, with the step and the zero in the file.
        calibration: for "int8", "int16x8" and "uint8", float32 images (1, H, W, C) from which the
            ranges are measured.

    Raises:
        ValueError: if the model uses operators that TFLite does not have.
    """
    path.write_bytes(add_signature(_convert(graph, precision, calibration), graph.outputs))


def changes_for(precision):
    """What is done to the graph of a file of this precision, a `tflite_rewrite.Editor`."""
    if precision in ("float32", "float16"):  # sums of rounded parts would cost int8 accuracy
        return split_long_sums, tflite_forms.phases
    if precision == "dynamic":
        return (tflite_forms.phases,)
    right = norms_bounded_below, choices_as_sums
    if precision in ("int8", "uint8"):
        return *right, larger_as_sums, tflite_forms.phases, tflite_forms.eight_bits
    # No `phases`: DEPTH_TO_SPACE would compute in float.
    wide = far_bounds_as_sums, bounds_compared_apart
    return *right, *wide, squares_as_products, sums_as_means


def converter_of(graph, precision="float32", calibration=None, changes=None):
    """TensorFlow's converter, set up for `write`; `changes`, if not those of the precision."""
    import tensorflow as tf

    small = precision == "uint8" and graph.outputs[0] == "labels"  # of at most 255 classes
    editor = frozen(graph, _small_labels if small else None)
    for change in changes_for(precision) if changes is None else changes:
        editor.apply(change)
    converter = _converter(graph, *editor.whole(), eight_bits=precision in ("int8", "uint8"))
    builtins = tf.lite.OpsSet.TFLITE_BUILTINS
    converter.target_spec.supported_ops = [builtins]
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision in ("int8", "uint8"):
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if precision == "int16x8":
        wide = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [wide, builtins]  # the second: ARG_MAX has no int16
    if precision in ("int8", "uint8"):
        images = of_full_range(calibration)
        converter.representative_dataset = lambda: ([image] for image in images)
    if precision == "int16x8":
        converter.representative_dataset = lambda: ([image] for image in calibration)
    if precision == "uint8":
        converter.inference_input_type = tf.uint8
        if graph.outputs != ("labels",):
            converter.inference_output_type = tf.int8
    return converter


def _small_labels(found):
    import tensorflow as tf

    return {**found, "labels": tf.cast(found["labels"], tf.uint8)}


def _converter(graph, definition, image, outputs, eight_bits):
    """A `tf.lite.TFLiteConverter` of a GraphDef of constants, made from a `StaticGraph`."""
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    class Converter(tf.lite.TFLiteConverter):
        """Without what makes the variables of a function constants, and with a range of logits."""

        def _freeze_concrete_function(self):
            return definition, [image], outputs, None

        def _quantize(self, content, input_type, output_type, *rest):
            if not eight_bits:
                return super()._quantize(content, input_type, output_type, *rest)
            stop_there = self._experimental_calibrate_only
            self._experimental_calibrate_only = True
            measured = super()._quantize(content, input_type, output_type, *rest)
            self._experimental_calibrate_only = stop_there
            measured = _with_better_ranges(measured, graph.outputs, graph.logits_range)
            if stop_there:
                return measured
            types = {"input_data_type": input_type, "output_data_type": output_type}
            return mlir_quantize(measured, **types)

    converter = Converter([graph.concrete], graph.function)
    # TensorFlow's version and a hash: the manifest has both, and it takes two copies of the file.
    converter.exclude_conversion_metadata = True
    return converter


def _with_better_ranges(content, outputs, limits):
    """A file with measured ranges, before it is quantised, in which those of the logits are cut,
    and none is of zeros alone, as behind a layer whose every ReLU is dead: LiteRT refuses its step.

    Args:
        content: the file, bytes.
        outputs: names of its outputs, in any order.
        limits: (lowest, highest), see `keras_seg.export.logits_range`, or None.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    if limits is None and not _has_only_zeros(content):
        return content  # to read all of it takes its size several times
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        found = tensor.quantization
        if found is not None and found.max is not None and found.max[0] - found.min[0] < _NOTHING:
            found.max = [1.0]
    if limits is not None:
        _cut_logits(model, outputs, limits)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _has_only_zeros(content):
    from tensorflow.lite.python import schema_py_generated as schema

    graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    found = (graph.Tensors(i).Quantization() for i in range(graph.TensorsLength()))
    return any(q is not None and q.MaxLength() and q.Max(0) - q.Min(0) < _NOTHING for q in found)


def _cut_logits(model, outputs, limits):
    from tensorflow.lite.tools import flatbuffer_utils

    graph = model.subgraphs[0]
    operators = [
        (flatbuffer_utils.opcode_to_name(model, op.opcodeIndex), list(op.inputs), list(op.outputs))
        for op in graph.operators
    ]
    made = dict(zip(sorted(outputs), map(int, graph.outputs), strict=True))
    for index in logits_range.tensors(made, operators):
        found = graph.tensors[index].quantization
        low, high = logits_range.cut(found.min[0], found.max[0], limits)
        found.min, found.max = [low], [high]


def _convert(graph, precision, calibration):
    try:
        return converter_of(graph, precision, calibration).convert()
    except Exception as error:  # the converter's errors share no base class
        missing = set(re.findall(r"^\s*tf\.(\w+)", str(error), re.MULTILINE))
        if not missing:
            raise
        operators = [(kind, path) for kind, path in graph.operations() if kind in missing]
        # An operator that the converter made itself is in no layer's graph.
        operators += [(kind, None) for kind in missing - {kind for kind, _ in operators}]
        raise ValueError(
            f"TFLite has no builtin operator for {name_operators(operators, graph.model)} of the "
            f"model {graph.model.name!r}. Replace the layer, or leave 'tflite' out of "
            "`formats`."
        ) from error


def operators(path):
    """{operator: how often} of a `.tflite` file, before any delegate rewrites the graph."""
    names = (op["op_name"] for op in _interpreter(model_path=str(path))._get_ops_details())
    return dict(sorted(collections.Counter(names).items()))


def values(content, image, keep):
    """{tensor: value as float32} of all that a file computes for one image (1, H, W, C).

    image: or None, for the names alone; the values are None.
    keep: function of a tensor's array that returns what is wanted of it.
    """
    interpreter = _interpreter(model_content=content, experimental_preserve_all_tensors=True)
    if image is not None:
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        interpreter.invoke()
    found = {}
    for operation in interpreter._get_ops_details():
        for index in operation["outputs"]:
            detail = interpreter._get_tensor_details(index, 0)
            if image is None:
                found[detail["name"]] = None
                continue
            value = keep(interpreter.get_tensor(index)).astype("float32")
            scale, zero = detail["quantization"]
            found[detail["name"]] = (value - zero) * np.float32(scale) if scale else value
    return found


def _interpreter(**options):
    """An interpreter without delegates."""
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        import tensorflow as tf

        Interpreter, OpResolverType = tf.lite.Interpreter, tf.lite.experimental.OpResolverType
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(experimental_op_resolver_type=plain, **options)
