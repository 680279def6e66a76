"""ONNX files for any number of images and any size: what they need beyond a fixed graph."""

import contextlib

import numpy as np

from keras_seg.export import parity
from keras_seg.export.bounds import DEFAULT_BOUNDS, TIMES_ROUNDING

# The axes that may stay open, and the names of their dimensions in the file.
DYNAMIC = ("batch", "size")
# Pixels to add to the height and width, for sizes that divide in no way, and for those that must.
_STEPS = ((5, 11), (23, 2), (7, 7), (8, 24), (16, 8), (16, 16), (32, 64), (64, 32))
_FLOATS = (1, 10, 11)  # ONNX's numbers of float32, float16 and float64


def open_shape(shape, dynamic):
    """(N, H, W, C) with None where `dynamic`, some of `DYNAMIC`, leaves the number open."""
    batch, height, width, channels = shape
    if "batch" in dynamic:
        batch = None
    if "size" in dynamic:
        height = width = None
    return (batch, height, width, channels)


@contextlib.contextmanager
def plain_convolutions():
    """Trace convolutions of stride 1 as one operator with its padding written out.

    TensorFlow takes a dilated convolution apart, into blocks and back. The converters put it
    together again only where the size is known.
    """
    import tensorflow as tf

    convolution, depthwise = tf.nn.convolution, tf.nn.depthwise_conv2d

    def pads(kernel, strides, padding, dilations):
        """Zeros to add on (N, H, W, C), or None where TensorFlow's own way is as good."""
        if (padding, dilations) == ("VALID", (1, 1)) or (padding == "SAME" and strides != (1, 1)):
            return None
        lost = [0, 0]
        if padding == "SAME":
            lost = [(n - 1) * d for n, d in zip(kernel.shape[:2], dilations, strict=True)]
        return [(0, 0), *((n // 2, n - n // 2) for n in lost), (0, 0)]

    def convolve(input, filters, strides=None, padding="VALID", data_format=None, dilations=None):
        steps, rates = _pair(strides), _pair(dilations)
        zeros = None
        if data_format in (None, "NHWC") and len(input.shape) == 4:
            zeros = pads(filters, steps, padding, rates)
        if zeros is None:
            return convolution(input, filters, strides, padding, data_format, dilations)
        # tf2onnx makes one operator of the two, and would lose paddings of the convolution's own.
        if np.any(zeros):
            input = tf.pad(input, zeros)
        return tf.raw_ops.Conv2D(
            input=input,
            filter=filters,
            strides=[1, *steps, 1],
            padding="VALID",
            dilations=[1, *rates, 1],
        )

    def convolve_depthwise(
        input, filter, strides, padding, data_format=None, dilations=None, name=None
    ):
        steps, rates = _pair(strides), _pair(dilations)
        zeros = pads(filter, steps, padding, rates) if data_format in (None, "NHWC") else None
        if zeros is None:
            return depthwise(input, filter, strides, padding, data_format, dilations, name)
        return tf.raw_ops.DepthwiseConv2dNative(
            input=input,
            filter=filter,
            strides=[1, *steps, 1],
            padding="EXPLICIT",
            explicit_paddings=np.ravel(zeros).tolist(),
            dilations=[1, *rates, 1],
        )

    tf.nn.convolution, tf.nn.depthwise_conv2d = convolve, convolve_depthwise
    try:
        yield
    finally:
        tf.nn.convolution, tf.nn.depthwise_conv2d = convolution, depthwise


def _pair(value):
    """(y, x) of strides or dilations: None, a number, two, or four with those of N and C."""
    values = np.ravel(1 if value is None else value).tolist()
    if len(values) == 4:
        values = values[1:3]
    return tuple(values * 2 if len(values) == 1 else values)


def rounding_down():
    """What tf2onnx shall do with `//` and `%` of whole numbers: round down, as Python does.

    It divides towards zero, which is wrong for the negative numbers of -(-n // 8) and -n % 8.
    """

    def remainder(context, node, name, arguments):
        if context.get_dtype(node.input[0]) in _FLOATS:
            tf2onnx_math.FloorMod.version_7(context, node)
        else:
            node.type = "Mod"

    def quotient(context, node, name, arguments):
        if context.get_dtype(node.input[0]) in _FLOATS:
            tf2onnx_math.FloorDiv.version_6(context, node)
            return
        x, y = node.input
        rest = context.make_node("Mod", [x, y])
        whole = context.make_node("Sub", [x, rest.output[0]])
        node.type = "Div"
        context.replace_input(node, x, whole.output[0], 0)

    from tf2onnx.onnx_opset import math as tf2onnx_math

    return {"FloorMod": (remainder, []), "FloorDiv": (quotient, [])}


def resize_open_batch(proto, node, inferred):
    """Give a Resize of an open number of images its size: their number, then constants.

    False for a Resize whose input has an unknown height or width.
    """
    import onnx

    shape = next(
        (
            info.type.tensor_type.shape.dim
            for info in inferred.graph.value_info
            if info.name == node.input[0]
        ),
        (),
    )
    known = [dim.dim_value for dim in shape][1:]
    if len(known) != 3 or not all(known):
        return False
    (factors,) = (
        onnx.numpy_helper.to_array(tensor)
        for tensor in proto.graph.initializer
        if tensor.name == node.input[2]
    )
    size = np.rint(np.multiply(known, factors[1:], dtype="float64")).astype("int64")
    name = f"{node.output[0]}/size"
    proto.graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(size, f"{name}_constant"),
            onnx.numpy_helper.from_array(np.array([0], "int64"), f"{name}_first"),
            onnx.numpy_helper.from_array(np.array([1], "int64"), f"{name}_end"),
        ]
    )
    made = [
        onnx.helper.make_node("Shape", [node.input[0]], [f"{name}_shape"]),
        onnx.helper.make_node(
            "Slice", [f"{name}_shape", f"{name}_first", f"{name}_end"], [f"{name}_batch"]
        ),
        onnx.helper.make_node("Concat", [f"{name}_batch", f"{name}_constant"], [name], axis=0),
    ]
    place = list(proto.graph.node).index(node)
    for offset, new in enumerate(made):
        proto.graph.node.insert(place + offset, new)
    node = proto.graph.node[place + len(made)]
    del node.input[1:]
    node.input.extend(["", "", name])
    return True


def name_dimensions(proto, dynamic):
    """Call the open dimensions of the input `batch`, `height` and `width`, and of the outputs too.

    An output's height and width get names of their own where they are not the image's.
    """
    names = {0: "batch"} if "batch" in dynamic else {}
    if "size" in dynamic:
        names |= {1: "height", 2: "width"}
    for tensor in [*proto.graph.input, *proto.graph.output]:
        given = tensor.name == "image"
        for axis, name in names.items():
            dim = tensor.type.tensor_type.shape.dim[axis]
            dim.Clear()
            dim.dim_param = name if given or axis == 0 else f"{tensor.name}_{name}"


def refused(graph, dynamic, reason):
    """The ValueError, for the caller to raise, for a model that cannot be so open, and why."""
    return ValueError(
        f"The model {graph.model.name!r} cannot be an ONNX file with dynamic={tuple(dynamic)!r}: "
        f"{reason.rstrip('.')}. Leave that out of `dynamic`; one file for each size is also faster."
    )


def check(path, graph, dynamic, reference):
    """Run a file with open dimensions at two other shapes and compare it with the Keras model.

    Args:
        path: the `.onnx` file.
        graph: the `StaticGraph`.
        dynamic: of `DYNAMIC`.
        reference: function of images (N, H, W, C) to {name: array} of what the file shall return.

    Returns:
        a list of {"shape": of the images, "difference": largest, relative to the standard deviation
        of the Keras model's output; None for labels}.

    Raises:
        ValueError: if the file fails, or computes something else, or the model takes no other size.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options)
    found = []
    for images, expected in _other_shapes(graph, dynamic, reference):
        shape = list(images.shape)
        where = " x ".join(map(str, shape))
        try:
            results = session.run(list(graph.outputs), {"image": images})
        except Exception as error:  # onnxruntime's errors share no base class
            reason = f"it fails for images {where}: {str(error).splitlines()[0]}"
            raise refused(graph, dynamic, reason) from error
        difference = None
        for name, result in zip(graph.outputs, results, strict=True):
            wanted = expected[name]
            if result.shape != wanted.shape:
                reason = f"{name} of images {where} is {result.shape}, not {wanted.shape}"
                raise refused(graph, dynamic, reason)
            bound = 1 - DEFAULT_BOUNDS.agreement if name == "labels" else DEFAULT_BOUNDS.difference
            largest = _difference(name, result, wanted)
            if not largest <= bound:
                own = max(
                    _difference(name, reference(rounded)[name], wanted)
                    for rounded in parity.roundings(images)
                )
                bound = max(bound, TIMES_ROUNDING * own)
            if not largest <= bound:
                reason = f"{name} of images {where} is not what the Keras model gives"
                raise refused(graph, dynamic, reason)
            if name != "labels":
                difference = largest if difference is None else max(largest, difference)
        found.append({"shape": shape, "difference": difference})
    return found


def _difference(name, result, wanted):
    """The share of other labels, the largest difference of a confidence, or of logits relative to
    their standard deviation."""
    if name == "labels":
        return float((result != wanted).mean())
    spread = 1 if name == "confidence" else max(float(wanted.std()), 1e-12)
    return float(np.abs(result - wanted).max()) / spread


def _other_shapes(graph, dynamic, reference):
    """Two pairs (images, what the Keras model gives for them), of other shapes than the graph's."""
    from keras_seg.export.pictures import made_up

    _, height, width, channels = graph.input_shape
    steps = _STEPS if "size" in dynamic else ((0, 0), (0, 0))
    count = 0
    reason = ""
    for down, across in steps:
        batch = 2 + count if "batch" in dynamic else 1
        images = made_up(batch, (height + down, width + across), channels)
        images = np.stack(images)[:, : height + down, : width + across].astype("float32")
        try:
            expected = reference(images)
        except ValueError as error:  # the network does not take this size
            reason = str(error)
            continue
        yield images, expected
        count += 1
        if count == 2:
            return
    raise refused(graph, dynamic, f"it takes hardly any other size ({reason})")
