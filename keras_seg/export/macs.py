"""Multiply-accumulates of one image, counted in a Keras model and in the files themselves.

Counted are convolutions (also depthwise and transposed) and matrix products, from the sizes of
their tensors: elements of the output times what is summed for each; of a transposed convolution,
elements of the input times what each is spread to. Padding counts like pixels, as the hooks that
papers count with have it. Resizing, pooling, normalisation and activations are not counted.

A file can need fewer than its model: what a converter computes beforehand is no longer in it.
"""

import importlib.util
import math
import pathlib

import keras

from keras_seg.export.onnx import fold_shapes
from keras_seg.inference import load_runner
from keras_seg.layers import inference_model

_CALLS = ("PartitionedCall", "StatefulPartitionedCall", "XlaCallModule")
_LOOPS = ("While", "StatelessWhile", "If", "StatelessIf")


def count_macs(model_or_path, size=None):
    """Multiply-accumulates that a model or a file computes for one image.

    Args:
        model_or_path: a `keras.Model`; a `.tflite` or `.onnx` file; a SavedModel folder, or a
            `.keras` file, which need TensorFlow.
        size: (H, W) of the image, for a model or an `.onnx` file that takes any.

    Returns:
        A whole number; None where it cannot be told: a loop, whose rounds the file does not say; a
        size that the file leaves open; an `.onnx` file without the package `onnx`.
    """
    if isinstance(model_or_path, keras.Model):
        return _of_model(model_or_path, size)
    path = pathlib.Path(model_or_path)
    if path.suffix == ".tflite":
        return _of_tflite(path)
    if path.suffix == ".onnx":
        return _of_onnx(path, size) if importlib.util.find_spec("onnx") else None
    if path.suffix == ".keras":
        return _of_model(load_runner(path).model, size)
    import tensorflow as tf

    signatures = tf.saved_model.load(str(path)).signatures
    name = "serving_default" if "serving_default" in signatures else next(iter(signatures))
    return of_graph(signatures[name].graph)


def of_graph(graph):
    """Multiply-accumulates of a TensorFlow graph, with what the functions that it calls compute."""
    total = 0
    for op in graph.get_operations():
        if op.type in _LOOPS:
            return None
        if op.type in _CALLS:
            found = of_graph(graph._get_function(op.get_attr("f").name).graph)
        else:
            found = _of_operation(op)
        if found is None:
            return None
        total += found
    return total


def _of_model(model, size):
    import tensorflow as tf

    model = inference_model(model)
    specs = []
    for tensor in model.inputs:
        fixed = tensor.shape[1:3]
        specs.append(tf.TensorSpec((1, *(fixed if None not in fixed else size), tensor.shape[3])))

    @tf.function(input_signature=specs, autograph=False)
    def run(*images):
        return model(list(images) if len(images) > 1 else images[0], training=False)

    return of_graph(run.get_concrete_function().graph)


def _of_operation(op):
    """Of one operator of TensorFlow; None if a size is unknown."""
    if op.type in ("Conv2D", "DepthwiseConv2dNative"):
        rows, columns, inputs, _ = op.inputs[1].shape
        shape = _uncut(op.outputs[0]).shape
        return _product(shape, rows, columns, inputs if op.type == "Conv2D" else 1)
    if op.type == "Conv2DBackpropInput":
        rows, columns, outputs, _ = op.inputs[1].shape
        return _product(op.inputs[2].shape, rows, columns, outputs)
    if op.type == "MatMul":
        inner = op.inputs[0].shape[0 if op.get_attr("transpose_a") else 1]
        return _product(op.outputs[0].shape, inner)
    if op.type in ("BatchMatMulV2", "BatchMatMul"):
        inner = op.inputs[0].shape[-2 if op.get_attr("adj_x") else -1]
        return _product(op.outputs[0].shape, inner)
    if op.type == "Einsum":
        sizes = _letters(op.get_attr("equation").decode(), [tensor.shape for tensor in op.inputs])
        return _product(sizes.values())
    return 0


def _uncut(tensor):
    """The whole map of a dilated convolution, which TensorFlow computes as a batch of pieces that
    are padded to equal size."""
    joined = [op for op in tensor.consumers() if op.type == "BatchToSpaceND"]
    return joined[0].outputs[0] if joined else tensor


def _of_tflite(path):
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        import tensorflow as tf

        Interpreter, OpResolverType = tf.lite.Interpreter, tf.lite.experimental.OpResolverType
    # Without delegates, which would take the place of the operators that the file holds.
    interpreter = Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    shapes = {
        tensor["index"]: tuple(int(n) if n > 0 else None for n in tensor["shape_signature"])
        or tuple(int(n) for n in tensor["shape"])
        for tensor in interpreter.get_tensor_details()
    }
    total = 0
    for op in interpreter._get_ops_details():
        name = op["op_name"]
        if name in ("WHILE", "IF"):
            return None
        if name not in _TFLITE:
            continue
        inputs = [shapes.get(int(index)) for index in op["inputs"]]
        found = _TFLITE[name](inputs, shapes[int(op["outputs"][0])])
        if found is None:
            return None
        total += found
    return total


# Kernels in TFLite are (out, rows, columns, in), of depthwise ones (1, rows, columns, out), of
# fully connected ones (out, in); the inputs of TRANSPOSE_CONV are (output size, kernel, image).
# BATCH_MATMUL may read its first matrix transposed: what is summed over is the side that is not
# among the rows of the output.
_TFLITE = {
    "CONV_2D": lambda inputs, output: _product(output, inputs[1][1:]),
    "DEPTHWISE_CONV_2D": lambda inputs, output: _product(output, inputs[1][1:3]),
    "TRANSPOSE_CONV": lambda inputs, output: _product(inputs[2], inputs[1][:3]),
    "FULLY_CONNECTED": lambda inputs, output: _product(output, inputs[1][1]),
    "BATCH_MATMUL": lambda inputs, output: _product(output[:-2], inputs[0][-2:], output[-1]),
}


def _of_onnx(path, size):
    import onnx

    proto = onnx.load(str(path), load_external_data=False)
    graph = proto.graph
    for tensor in graph.initializer:
        # Shapes need the sizes of the kernels, not their values, which would be copied twice.
        if math.prod(tensor.dims) > 1000:
            tensor.ClearField("raw_data")
    sides = graph.input[0].type.tensor_type.shape.dim
    if size is not None and not all(side.dim_value for side in sides):
        for side, value in zip(sides, (1, *size), strict=False):
            side.dim_value = value
        for output in graph.output:
            output.type.tensor_type.ClearField("shape")
        fold_shapes(proto)
    proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    graph = proto.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for info in [*graph.value_info, *graph.input, *graph.output]:
        sides = info.type.tensor_type.shape.dim
        shapes[info.name] = tuple(side.dim_value or None for side in sides)
    total = 0
    for node in graph.node:
        if node.op_type in ("Loop", "Scan", "If"):
            return None
        if node.op_type not in _ONNX:
            continue
        inputs = [shapes.get(name) for name in node.input]
        output = shapes.get(node.output[0])
        if output is None or inputs[0] is None or inputs[1] is None:
            return None
        found = _ONNX[node.op_type](inputs, output, node)
        if found is None:
            return None
        total += found
    return total


def _of_gemm(inputs, output, node):
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return _product(output, inputs[0][0 if transposed else 1])


def _of_einsum(inputs, output, node):
    equation = next(a.s.decode() for a in node.attribute if a.name == "equation")
    return _product(_letters(equation, inputs).values())


# Kernels in ONNX are (out, in of the group, rows, columns), of transposed convolutions
# (in, out of the group, rows, columns).
_ONNX = {
    "Conv": lambda inputs, output, node: _product(output, inputs[1][1:]),
    "ConvTranspose": lambda inputs, output, node: _product(inputs[0], inputs[1][1:]),
    "MatMul": lambda inputs, output, node: _product(output, inputs[0][-1]),
    "Gemm": _of_gemm,
    "Einsum": _of_einsum,
}


def _letters(equation, shapes):
    """The size of each letter of an Einstein sum."""
    sizes = {}
    for letters, shape in zip(equation.split("->")[0].split(","), shapes, strict=True):
        sizes.update(zip(letters.strip(), shape, strict=True))
    return sizes


def _product(*sizes):
    """The product of numbers and shapes, or None if one of them is unknown."""
    numbers = [n for item in sizes for n in (item if hasattr(item, "__iter__") else (item,))]
    return None if None in numbers else math.prod(numbers)
