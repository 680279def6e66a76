"""ONNX, through tf2onnx and nothing else of it outside this file.

tf2onnx deep-copies its graph in every optimiser pass, so that constants cost 80 to 100 times their
size in memory. Here kernels enter the conversion as inputs and are put back as initialisers
afterwards; vectors (biases, statistics) stay constants, small as they are, so that the optimiser
can still merge them and move the transposes out of the network.
"""

import collections
import contextlib
import importlib.util

import keras
import numpy as np

from keras_seg.export.onnx_dynamic import (
    name_dimensions,
    open_shape,
    plain_convolutions,
    refused,
    resize_open_batch,
    rounding_down,
)
from keras_seg.export.origin import name_operators

OPSET = 17


def missing_packages():
    """Names of the packages that an ONNX export needs and that are not installed."""
    packages = ("tf2onnx", "onnx", "onnxruntime")
    return [name for name in packages if importlib.util.find_spec(name) is None]


def write(graph, path, dynamic=()):
    """Write the `StaticGraph` as an `.onnx` file: `image` (1, H, W, C) -> the graph's outputs.

    With `dynamic`, of "batch" and "size", the file takes any number of images, or of any height and
    width, at once; the dimensions are called `batch`, `height` and `width`.

    Raises:
        ValueError: if the model uses operators that ONNX does not have, the file fails the full
            check of the `onnx` package, or the model cannot be traced with an open size.
    """
    if not dynamic:
        _write(graph, path, ())
        return
    try:
        _write(graph, path, dynamic)
    except Exception as error:  # tf2onnx's errors share no base class
        raise refused(graph, dynamic, str(error)) from error


def _write(graph, path, dynamic):
    import onnx

    proto, kernels = _convert(graph, open_shape(graph.input_shape, dynamic))
    _erfc_to_erf(proto)
    _resize_to_sizes(proto)
    _shapes_to_initializers(proto)
    _inputs_to_initializers(proto, kernels)
    _fold_constants(proto)
    _merge_into_convolutions(proto)
    _name_outputs(proto, graph)
    if dynamic:
        name_dimensions(proto, dynamic)
    del proto.graph.value_info[:]
    _refuse_unknown_operators(proto, graph)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(
            f"The ONNX file of {graph.model.name!r} is not valid, so it was not written: {error}"
        ) from error
    onnx.save(proto, str(path))


def operators(path):
    """{operator: how often} of an `.onnx` file."""
    import onnx

    names = (node.op_type for node in onnx.load(str(path), load_external_data=False).graph.node)
    return dict(sorted(collections.Counter(names).items()))


def _convert(graph, shape):
    """tf2onnx's ModelProto with the kernels as inputs, and {input name: kernel}."""
    import tensorflow as tf
    import tf2onnx

    model = graph.network
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    split = len(model.trainable_variables)
    kernels = {f"kernel_{i}": i for i, v in enumerate(variables) if len(v.shape) >= 2}
    signature = [tf.TensorSpec(shape, tf.float32, name="image")]
    signature += [
        tf.TensorSpec(variables[i].shape, variables[i].dtype, name=name)
        for name, i in kernels.items()
    ]

    def call(image, *arrays):
        values = [variable.value for variable in variables]
        for index, array in zip(kernels.values(), arrays, strict=True):
            values[index] = array
        logits, _ = model.stateless_call(values[:split], values[split:], image, training=False)
        found = graph.head(logits)
        return [found[name] for name in graph.outputs]

    # Keras wraps grouped convolutions in a function compiled by XLA, which tf2onnx cannot open.
    # "Eagerly" only means that functions inside of the traced one dissolve into it.
    eagerly = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    plain = plain_convolutions() if None in shape else contextlib.nullcontext()
    try:
        with plain:
            proto, _ = tf2onnx.convert.from_function(
                tf.function(call, input_signature=signature, autograph=False),
                input_signature=signature,
                opset=OPSET,
                custom_op_handlers=rounding_down(),
            )
    finally:
        tf.config.run_functions_eagerly(eagerly)
    return proto, {name: keras.ops.convert_to_numpy(variables[i]) for name, i in kernels.items()}


def _erfc_to_erf(proto):
    """erfc(x) = 1 - erf(x): TensorFlow writes the exact GELU with the one, ONNX has the other."""
    import onnx

    nodes = []
    for node in proto.graph.node:
        if node.op_type != "Erfc":
            nodes.append(node)
            continue
        erf = f"{node.output[0]}/erf"
        nodes.append(onnx.helper.make_node("Erf", list(node.input), [erf]))
        nodes.append(onnx.helper.make_node("Sub", ["erfc_one", erf], list(node.output)))
    if len(nodes) > len(proto.graph.node):
        one = onnx.numpy_helper.from_array(np.float32(1), "erfc_one")
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
        proto.graph.initializer.append(one)


def _resize_to_sizes(proto):
    """Give every Resize its output size instead of float factors.

    Rounded down, a factor can lose a row: 59 -> 473 gave 472, and 6 -> 10 fails the full check.
    From first to last, because each corrected size changes what follows.
    """
    import onnx

    sizes = {}
    for node in proto.graph.node:
        if node.op_type != "Resize" or len(node.input) != 3:
            continue  # the others have sizes already
        del proto.graph.value_info[:]
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        shape = _shape(inferred, node.input[0])
        if shape is None and resize_open_batch(proto, node, inferred):
            continue
        if shape is None:
            raise ValueError(f"The ONNX graph does not tell the size of {node.input[0]}.")
        factors = _constant(inferred, node.input[2])
        size = np.rint(np.multiply(shape, factors, dtype="float64")).astype("int64")
        name = f"size_{'_'.join(map(str, size))}"
        if name not in sizes:
            sizes[name] = onnx.numpy_helper.from_array(size, name)
            proto.graph.initializer.append(sizes[name])
        del node.input[1:]
        node.input.extend(["", "", name])


def _shape(proto, name):
    """The shape of a tensor as a list of numbers, or None where it is not known."""
    for info in [*proto.graph.value_info, *proto.graph.input]:
        if info.name == name:
            shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
            return shape if all(shape) else None
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            return list(tensor.dims)
    return None


def _constant(proto, name):
    import onnx

    for tensor in proto.graph.initializer:
        if tensor.name == name:
            return onnx.numpy_helper.to_array(tensor)
    for node in proto.graph.node:
        if name in node.output and node.op_type == "Constant":
            return onnx.numpy_helper.to_array(node.attribute[0].t)
    raise ValueError(
        f"The ONNX graph computes the factors {name} of a Resize while it runs; a fixed image size "
        "should have made them constant."
    )


def _shapes_to_initializers(proto):
    """Replace every Shape node: the sizes are fixed, so what it would return is known."""
    import onnx

    del proto.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    for node in [node for node in proto.graph.node if node.op_type == "Shape"]:
        shape = _shape(inferred, node.input[0])
        if shape is not None:
            shape = np.array(shape, "int64")
            proto.graph.initializer.append(onnx.numpy_helper.from_array(shape, node.output[0]))
            proto.graph.node.remove(node)


def _inputs_to_initializers(proto, kernels):
    import onnx

    for info in [info for info in proto.graph.input if info.name in kernels]:
        proto.graph.input.remove(info)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(kernels[info.name], info.name))


def _fold_constants(proto):
    """Compute the nodes that depend on initialisers alone: the transposes of the kernels."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    values = {tensor.name: tensor for tensor in proto.graph.initializer}
    kept = []
    for node in proto.graph.node:
        names = [name for name in node.input if name]
        if not names or any(name not in values for name in names):
            kept.append(node)
            continue
        feeds = {name: onnx.numpy_helper.to_array(values[name]) for name in names}
        results = ReferenceEvaluator(node).run(None, feeds)
        for name, result in zip(node.output, results, strict=True):
            values[name] = onnx.numpy_helper.from_array(np.ascontiguousarray(result), name)
    _replace(proto, kept, values)


def _merge_into_convolutions(proto):
    """Merge a factor and an offset for each channel, as batch normalisation leaves them, into the
    kernel and the bias of the convolution before them."""
    import onnx

    values = {tensor.name: tensor for tensor in proto.graph.initializer}
    readers = collections.Counter(name for node in proto.graph.node for name in node.input)
    readers.update(output.name for output in proto.graph.output)
    makers, kept = {}, []
    for node in proto.graph.node:
        convolution, vector = _channel_operation(node, makers, values)
        if vector is None or readers[convolution.output[0]] != 1:
            kept.append(node)
            if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in values:
                makers[node.output[0]] = node
            continue
        kernel = onnx.numpy_helper.to_array(values[convolution.input[1]])
        bias = np.zeros(vector.shape, vector.dtype)
        if len(convolution.input) > 2:
            bias = onnx.numpy_helper.to_array(values[convolution.input[2]])
        if node.op_type == "Mul":
            # (out, in, h, w); transposed convolutions have (in, out, h, w).
            axis = 0 if convolution.op_type == "Conv" else 1
            kernel = kernel * np.expand_dims(vector, [i for i in range(kernel.ndim) if i != axis])
            bias = bias * vector
        else:
            bias = bias + vector
        # New names: another convolution may read the same kernel.
        names = [f"{node.output[0]}/kernel", f"{node.output[0]}/bias"]
        for name, value in zip(names, (kernel, bias), strict=True):
            values[name] = onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        del convolution.input[1:]
        convolution.input.extend(names)
        convolution.output[0] = node.output[0]
        makers[node.output[0]] = convolution
    _replace(proto, kept, values)


def _channel_operation(node, makers, values):
    """The convolution that `node` scales or shifts by channel and the vector, or (None, None)."""
    import onnx

    if node.op_type not in ("Mul", "Add"):
        return None, None
    for name, other in (node.input, reversed(node.input)):
        if name not in makers or other not in values:
            continue
        convolution = makers[name]
        group = next((a.i for a in convolution.attribute if a.name == "group"), 1)
        if convolution.op_type == "ConvTranspose" and group != 1:
            continue
        if len(convolution.input) > 2 and convolution.input[2] not in values:
            continue
        kernel = values[convolution.input[1]].dims
        channels = kernel[0] if convolution.op_type == "Conv" else kernel[1]
        if list(values[other].dims)[-3:] == [channels, 1, 1]:
            return convolution, onnx.numpy_helper.to_array(values[other]).reshape(channels)
    return None, None


def _replace(proto, nodes, values):
    """Set the graph's nodes, and those of the initialisers `values` that they read."""
    import onnx

    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    used = {name for node in nodes for name in node.input}
    used |= {output.name for output in proto.graph.output}
    tensors = [tensor for name, tensor in values.items() if name in used]
    tensors = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in tensors]
    del proto.graph.node[:], proto.graph.initializer[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(tensors)


def _name_outputs(proto, graph):
    """Call the outputs what they are, and give them their shapes."""
    import onnx

    for output, wanted in zip(proto.graph.output, graph.outputs, strict=True):
        for node in proto.graph.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == output.name:
                        names[index] = wanted
        kind = output.type.tensor_type.elem_type
        output.CopyFrom(
            onnx.helper.make_tensor_value_info(wanted, kind, list(graph.shapes[wanted]))
        )


def _refuse_unknown_operators(proto, graph):
    """tf2onnx reports success and writes a file with operators that exist nowhere."""
    import onnx

    unknown = [
        (node.op_type, node.name)
        for node in proto.graph.node
        if not onnx.defs.has(node.op_type, OPSET, node.domain)
    ]
    if unknown:
        raise ValueError(
            f"ONNX has no operator for {name_operators(unknown, graph.model)} of the model "
            f"{graph.model.name!r}. Replace the layer, or leave 'onnx' out of `formats`."
        )
