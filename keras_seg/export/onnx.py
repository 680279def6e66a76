"""ONNX, through tf2onnx and nothing else of it outside this file.

tf2onnx deep-copies its graph in every optimiser pass, so that constants cost 80 to 100 times their
size in memory. Here kernels enter the conversion as inputs and are put back as initialisers
afterwards; vectors (biases, statistics) stay constants, small as they are, so that the optimiser
can still merge them and move the transposes out of the network.
"""

import collections
import contextlib
import importlib.util
import math

import keras
import numpy as np

from keras_seg.export import onnx_tidy
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

# Bytes of weights in a file: those of a ProtoBuf message, less what the graph takes.
LARGEST = 2**31 - 2**24
# Values of what is computed of sizes.
MOST_SIZES = 64


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
    except OSError:  # of the disk
        raise
    except Exception as error:  # tf2onnx's errors share no base class
        raise refused(graph, dynamic, str(error)) from error


def _write(graph, path, dynamic):
    import onnx

    proto, kernels = _convert(graph, open_shape(graph.input_shape, dynamic))
    _erfc_to_erf(proto)
    _pads_to_output_padding(proto)
    _resize_to_sizes(proto)
    fold_shapes(proto)
    network = onnx_tidy.Network(proto, kernels)
    del kernels
    onnx_tidy.tidy(network)
    proto, weights = _without_weights(proto, network)
    del network
    _name_outputs(proto, graph)
    if dynamic:
        name_dimensions(proto, dynamic)
    _refuse_unknown_operators(proto, graph)
    check_whole(proto, f"The ONNX file of {graph.model.name!r}")
    size = sum(array.nbytes for array in weights.values())
    if size > LARGEST:
        raise ValueError(
            f"The weights of {graph.model.name!r} are {size / 1e9:.1f} GB, and an ONNX file holds "
            "at most 2 GB. Leave 'onnx' out of `formats`."
        )
    _put_weights(proto, weights)
    onnx.save(proto, str(path))


def check_whole(proto, what):
    """Raise ValueError if a ModelProto fails the full check of the `onnx` package."""
    import onnx

    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(f"{what} is not valid, so it was not written: {error}") from error


def operators(path):
    """{operator: how often} of an `.onnx` file."""
    import onnx

    names = (node.op_type for node in onnx.load(str(path), load_external_data=False).graph.node)
    return dict(sorted(collections.Counter(names).items()))


def _convert(graph, shape):
    """tf2onnx's ModelProto with the kernels as inputs, and {input name: kernel}."""
    import tensorflow as tf
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    network, signature, kernels = graph.with_kernels_as_inputs(lambda s: len(s) >= 2, shape)

    def call(*given):
        found = network(*given)
        return [found[name] for name in graph.outputs]

    # Keras wraps grouped convolutions in a function compiled by XLA, which tf2onnx cannot open.
    # "Eagerly" only means that functions inside of the traced one dissolve into it.
    eagerly = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    plain = plain_convolutions() if None in shape else contextlib.nullcontext()
    try:
        with plain:
            function = tf.function(call, input_signature=signature, autograph=False)
            # tf2onnx would take a tensor that a layer holds, as Normalization its mean, for an
            # input of the file.
            constant = convert_variables_to_constants_v2(
                function.get_concrete_function(), lower_control_flow=False, aggressive_inlining=True
            )
            inputs = [tensor.name for tensor in constant.inputs]
            proto, _ = tf2onnx.convert.from_graph_def(
                constant.graph.as_graph_def(),
                name=graph.model.name,
                input_names=inputs,
                output_names=[tensor.name for tensor in constant.outputs],
                tensors_to_rename={name: name.split(":")[0] for name in inputs},
                opset=OPSET,
                custom_op_handlers=rounding_down(),
            )
    finally:
        tf.config.run_functions_eagerly(eagerly)
    return proto, {name: keras.ops.convert_to_numpy(v) for name, v in kernels.items()}


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


def _pads_to_output_padding(proto):
    """A transposed kernel smaller than its stride reaches no pixel at the end of its output, which
    tf2onnx writes as negative pads, half of them at the beginning."""
    import onnx

    for node in proto.graph.node:
        pads = next((a.ints for a in node.attribute if a.name == "pads"), ())
        if node.op_type != "ConvTranspose" or min(pads, default=0) >= 0:
            continue
        more = [max(-before - after, 0) for before, after in zip(pads[:2], pads[2:], strict=True)]
        pads[:] = [0 if beyond else pad for pad, beyond in zip(pads, more * 2, strict=True)]
        node.attribute.append(onnx.helper.make_attribute("output_padding", more))


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


def fold_shapes(proto):
    """Put numbers in place of all that a ModelProto computes of sizes that are known.

    Round by round, because what is computed of a size may tell the next. What `onnx` itself infers
    ends at the Max of an Einsum, or the Div of a transposed convolution that is cropped.

    Args:
        proto: changed in place. Initialisers of more than `MOST_SIZES` values are not read.
    """
    import onnx

    graph = proto.graph
    opsets = {opset.domain: opset.version for opset in proto.opset_import}
    known = {t.name: t for t in graph.initializer if math.prod(t.dims) <= MOST_SIZES}
    nodes = None
    while nodes is None or len(graph.node) < len(nodes):
        nodes = list(graph.node)
        del graph.value_info[:]
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        for node in nodes:
            if node.op_type == "Shape":
                shape = _shape(inferred, node.input[0])
                found = [] if shape is None else [np.array(shape, "int64")]
            else:
                found = _computed(node, known, opsets)
            for name, value in zip(node.output, found, strict=False):
                known[name] = onnx.numpy_helper.from_array(value, name)
                graph.initializer.append(known[name])
            if found:
                graph.node.remove(node)


def _computed(node, known, opsets):
    """The arrays that a node returns where it reads small constants alone, else []."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    names = [name for name in node.input if name]
    if node.domain or not names or not all(name in known for name in names):
        return []
    values = [onnx.ValueInfoProto(name=name) for name in node.output]
    constants = [known[name] for name in dict.fromkeys(names)]
    graph = onnx.helper.make_graph([node], "sizes", [], values, constants)
    return ReferenceEvaluator(graph, opsets=opsets).run(None, {})


def _without_weights(proto, network):
    """The tidied graph as a ModelProto that takes what is large as inputs: all that the full check
    looks at, and nothing that is slow to copy."""
    import onnx

    nodes = []
    for node in network.ordered():
        made = onnx.helper.make_node(
            node.op, node.inputs, node.outputs, domain=node.domain or None, **node.attributes
        )
        nodes.append(made)
    used = {name for node in nodes for name in node.input} | set(network.outputs)
    weights, tensors = {}, []
    for name, array in network.values.items():
        if name in used and array.size > onnx_tidy.LARGE:
            weights[name] = array
        elif name in used:
            tensors.append(onnx.numpy_helper.from_array(array, name))
    inputs = [*network.inputs]
    inputs += [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in weights.items()
    ]
    outputs = list(proto.graph.output)
    graph = onnx.helper.make_graph(nodes, proto.graph.name, inputs, outputs, tensors)
    tidied = onnx.helper.make_model(
        graph,
        opset_imports=list(proto.opset_import),
        ir_version=proto.ir_version,
        producer_name="keras_seg",
    )
    return tidied, weights


def _put_weights(proto, weights):
    """Make the inputs that are weights initialisers. Empties `weights` on the way."""
    import onnx

    inputs = [info for info in proto.graph.input if info.name not in weights]
    inputs = [onnx.ValueInfoProto.FromString(info.SerializeToString()) for info in inputs]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    for name in list(weights):
        array = weights.pop(name)
        tensor = proto.graph.initializer.add()
        tensor.name = name
        tensor.dims.extend(array.shape)
        tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor.raw_data = array.tobytes()


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
        (node.op_type, node.name or node.output[0])
        for node in proto.graph.node
        if not onnx.defs.has(node.op_type, OPSET, node.domain)
    ]
    if unknown:
        raise ValueError(
            f"ONNX has no operator for {name_operators(unknown, graph.model)} of the model "
            f"{graph.model.name!r}. Replace the layer, or leave 'onnx' out of `formats`."
        )
