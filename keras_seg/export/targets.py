"""Where a `.tflite` file shall run, and a check from the file itself that it can, as a whole.

A delegate takes what it knows and leaves the rest to the CPU, with a copy between them each time:
one foreign operator in the middle can cost more than the accelerator gains. TensorFlow's own
analyzer finds every file compatible, so the rules are written down here:

- `cpu`: the builtin operators of LiteRT. The pair SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND, with
  which a converter takes a dilated convolution apart, is refused: it is slow, and no accelerator
  has it.
- `gpu-delegate`: TensorFlow's tensorflow/lite/tools/versioning/gpu_compatibility.cc (2.21), by
  which the delegate itself decides: operators, and for some of them types, shapes and options.
- `nnapi-int8`: what Android's NNAPI 1.3 (Android 11) computes on signed 8-bit tensors, of the
  operators that TensorFlow's nnapi_delegate.cc translates, with the conditions it states. (That
  delegate is deprecated since Android 15 and translates TRANSPOSE_CONV in version 1 only; vendors'
  own NPU delegates were made after the same list.)
"""

from typing import NamedTuple

import numpy as np

from keras_seg.export.origin import layer_names, layer_of

TARGETS = ("cpu", "gpu-delegate", "nnapi-int8")

_UNFOLDED = frozenset({"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"})
GPU_DELEGATE = frozenset(
    """ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CAST CEIL CONCATENATION CONV_2D COS DENSIFY
    DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD
    FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG
    LOGICAL_AND LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD
    PADV2 POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_N1_TO_1 RESHAPE
    RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SIGN SIN SLICE SOFTMAX
    SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE
    TRANSPOSE TRANSPOSE_CONV""".split()
)
NNAPI_INT8 = frozenset(
    """ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D CAST CONCATENATION CONV_2D DEPTHWISE_CONV_2D
    DEPTH_TO_SPACE DEQUANTIZE EQUAL EXPAND_DIMS FULLY_CONNECTED GATHER GREATER GREATER_EQUAL
    HARD_SWISH L2_NORMALIZATION LESS LESS_EQUAL LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL
    NOT_EQUAL PAD PADV2 PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE
    RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SELECT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE
    STRIDED_SLICE SUB TANH TILE TRANSPOSE TRANSPOSE_CONV""".split()
)
# Precisions whose activations are integers.
INTEGERS = ("int8", "uint8", "int16x8")
_COMPARISONS = ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")
_MOST_NAMED = 6
_WITH_BIAS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_NO_STEP = 1e-30  # of zeros it is the smallest float32 number or less


class Tensor(NamedTuple):
    """A tensor of a `.tflite` file."""

    name: str
    dtype: str  # of the schema: "FLOAT32", "INT8", ...
    shape: tuple
    constant: bool
    step: float | None = None  # of an integer tensor that stands for real numbers


class Operation(NamedTuple):
    """An operator of a `.tflite` file, as it stands there."""

    name: str  # of the schema: "CONV_2D", ...; of a custom operator: "CUSTOM Flex..."
    inputs: tuple  # of `Tensor`; optional ones that are left out are not in it
    outputs: tuple
    options: object  # the schema's, or None


def read(path):
    """(inputs, operations) of a `.tflite` file: its input tensors and a list of `Operation`."""
    from tensorflow.lite.python import schema_py_generated as schema

    operators = _names(schema.BuiltinOperator)
    types = _names(schema.TensorType)
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    found = []
    inputs = ()
    for number, graph in enumerate(model.subgraphs):
        tensors = [_tensor(tensor, types, model) for tensor in graph.tensors]
        if number == 0:
            inputs = tuple(tensors[index] for index in graph.inputs)
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            name = operators[max(code.builtinCode, code.deprecatedBuiltinCode)]
            if code.customCode:
                name = f"CUSTOM {code.customCode.decode()}"
            given, returned = (
                tuple(tensors[index] for index in indices if index >= 0)
                for indices in (operator.inputs, operator.outputs)
            )
            found.append(Operation(name, given, returned, operator.builtinOptions))
    return inputs, found


def problems(path, target):
    """A list of (`Operation`, why `target` cannot run it); None stands for the file's input."""
    rule = {"cpu": _cpu, "gpu-delegate": _gpu, "nnapi-int8": _nnapi}[target]
    inputs, operations = read(path)
    found = []
    for tensor in inputs if target == "gpu-delegate" else ():
        if tensor.dtype != "FLOAT32" or tensor.shape[0] != 1:
            shape = list(tensor.shape)
            reason = f"the input is {tensor.dtype.lower()} {shape}, not one image of float32"
            found.append((None, reason))
    reasons = ((operation, rule(operation) or _not_computed(operation)) for operation in operations)
    return found + [pair for pair in reasons if pair[1]]


def applied(target, precision):
    """The target that a file of this precision is held to: "nnapi-int8" is for 8-bit files."""
    return "cpu" if target == "nnapi-int8" and precision not in ("int8", "uint8") else target


def check(path, target, precision, model=None):
    """Raise ValueError, with operators and layers, for a file that `target` cannot run as a whole.

    Args:
        path: the `.tflite` file.
        target: one of `TARGETS`.
        precision: of the file, see `applied`.
        model: the Keras model that it was made from, for the names of its layers, where it is
            at hand.
    """
    target = applied(target, precision)
    layers = set() if model is None else layer_names(model)
    found = []
    for operation, reason in problems(path, target):
        where = "" if operation is None else f"{operation.name} of {_layer(operation, layers)}: "
        found.append(f"{where}{reason}")
    if not found:
        return
    found = list(dict.fromkeys(found))  # a layer may have the same operator many times
    listed = found[:_MOST_NAMED]
    more = f"; and {len(found) - len(listed)} more" if len(found) > len(listed) else ""
    of_model = f" of the model {model.name!r}" if model is not None else ""
    raise ValueError(
        f"{path.name}{of_model} cannot run on the target {target!r} as a whole: "
        f"{'; '.join(listed)}{more}. Replace these layers, or choose another target "
        f"({', '.join(TARGETS)}) or output."
    )


def loose_comparisons(path, model=None):
    """Operators of a `.tflite` file, each in words with its layer, by which LiteRT finds different
    values equal: comparisons in 8 bits with a step below 1/256 (measured with LiteRT 2.3).

    Max-unpooling compares each value with the maximum.
    """
    layers = set() if model is None else layer_names(model)
    found = [
        f"{operation.name} of {_layer(operation, layers)}"
        for operation in read(path)[1]
        if min(_compared_steps(operation), default=1) < 1 / 256
    ]
    return list(dict.fromkeys(found))


def _compared_steps(operation):
    """The steps of what an operator compares in 8 bits, [] of any other operator."""
    if operation.name not in _COMPARISONS or operation.inputs[0].dtype not in ("INT8", "UINT8"):
        return []
    return [tensor.step for tensor in operation.inputs if tensor.step is not None]


def _not_computed(operation):
    return _overflow(operation) or _zeros_alone(operation) or _unlike(operation)


def _unlike(operation):
    """A constant that is compared in float, and computed with in 16 bits elsewhere, is there once:
    the file cannot be loaded."""
    types = " with ".join(sorted({tensor.dtype.lower() for tensor in operation.inputs}))
    if operation.name not in _COMPARISONS or "with" not in types:
        return None
    return (
        f"it compares {types}, because its constant is computed with elsewhere; compare with "
        "another number, or leave out 'int16x8'"
    )


def _zeros_alone(operation):
    """In 16 bits the bias behind them, which is counted in their step, overflows."""
    read = operation.inputs[0] if operation.inputs else None
    if operation.name not in _WITH_BIAS or read.dtype != "INT16" or (read.step or 1) > _NO_STEP:
        return None
    return (
        f"what it reads is zeros alone on the calibration images ({read.name.split(';')[0]}), of "
        "which 16 bits have no step; give other images, take the dead layer out, or leave out "
        "'int16x8'"
    )


def _overflow(operation):
    """LiteRT brings both sides to a common step by a factor that must be below one, in fixed point:
    from a step of 1 on its kernel is wrong, or ends the process (LiteRT 2.3, on x86 and ARM)."""
    if max(_compared_steps(operation), default=0) < 1:
        return None
    return (
        "it compares in 8 bits values that reach beyond 255, which LiteRT gets wrong; normalise "
        "the layer before it"
    )


def _cpu(operation):
    if operation.name.startswith(("CUSTOM", "STABLEHLO", "DELEGATE")):
        return "no builtin operator of LiteRT"
    if operation.name in _UNFOLDED:
        return "a dilated convolution that was taken apart"
    return None


def _gpu(operation):
    name, given, returned, options = operation
    if name not in GPU_DELEGATE:
        return "the GPU delegate does not have it"
    for tensor in (*given, *returned):
        if tensor.dtype in ("INT16", "INT64", "FLOAT64"):
            return f"the GPU delegate has no {tensor.dtype.lower()}"
    rules = {
        "ADD": _gpu_broadcast,
        "MUL": _gpu_broadcast,
        "CAST": _gpu_cast,
        "DEPTHWISE_CONV_2D": _gpu_depthwise,
        "GATHER": _gpu_gather,
        "SELECT": _gpu_select,
        "SELECT_V2": _gpu_select,
    }
    if name in rules:
        return rules[name](operation)
    if name == "FULLY_CONNECTED" and given[0].constant:
        return "its input is a constant"
    if name in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"):
        if not given[1].constant or given[1].dtype != "INT32":
            return "its axes are no constant int32"
    if name in ("PAD", "PADV2", "MIRROR_PAD") and given[1].shape not in ((4, 2), (3, 2)):
        return f"its paddings have the shape {list(given[1].shape)}, not 4x2"
    if name in ("SLICE", "STRIDED_SLICE") and len(given[0].shape) not in (3, 4):
        return f"its input has {len(given[0].shape)} dimensions, not 3 or 4"
    if name == "STRIDED_SLICE":
        if options.ellipsisMask or options.newAxisMask or options.shrinkAxisMask:
            return "it adds or removes axes"
    if name == "SOFTMAX" and options.beta != 1:
        return "its beta is not 1"
    if name == "RESIZE_BILINEAR" and options.alignCorners and options.halfPixelCenters:
        return "it has align_corners and half_pixel_centers"
    return None


def _gpu_broadcast(operation):
    first, second = (tensor.shape for tensor in operation.inputs)
    if len(first) > 1 and len(second) > 1 and len(first) != len(second):
        pairs = zip(reversed(first), reversed(second), strict=False)
        if any(a != b and 1 not in (a, b) for a, b in pairs):
            return f"shapes {list(first)} and {list(second)} do not broadcast"
    elif operation.name == "MUL" and len(first) == len(second):
        smaller = np.less(first, second).any(), np.less(second, first).any()
        if all(smaller):
            return f"of the shapes {list(first)} and {list(second)} neither covers the other"
    return None


def _gpu_cast(operation):
    (source,), (result,) = operation.inputs, operation.outputs
    types = {source.dtype, result.dtype}
    if types <= {"FLOAT32", "INT32"} or types in ({"BOOL", "FLOAT32"}, {"BOOL", "FLOAT16"}):
        return None
    return f"from {source.dtype.lower()} to {result.dtype.lower()}"


def _gpu_depthwise(operation):
    if operation.options.depthMultiplier != 1 and operation.inputs[0].shape[-1] != 1:
        return "it makes several maps of each of several channels"
    return None


def _gpu_gather(operation):
    data, index = operation.inputs[:2]
    if data.dtype == "INT32" or index.dtype != "INT32" or len(index.shape) != 1:
        return "its indices are no row of int32"
    return None


def _gpu_select(operation):
    shape = operation.outputs[0].shape
    for tensor in operation.inputs[1:]:
        if tensor.dtype not in ("FLOAT16", "FLOAT32", "INT8", "UINT8"):
            return f"it selects of {tensor.dtype.lower()}"
        if tensor.shape not in ((), (1,), shape):
            return f"it selects of shape {list(tensor.shape)} for {list(shape)}"
    return None


def _nnapi(operation):
    name, given, returned, options = operation
    if name not in NNAPI_INT8:
        return "NNAPI has no 8-bit form of it"
    for tensor in (*given, *returned):
        # The float tensors that remain are the file's own input and output.
        allowed = {"INT8", "UINT8", "INT32", "BOOL"}
        if name in ("QUANTIZE", "DEQUANTIZE"):
            allowed = allowed | {"FLOAT32"}
        if tensor.dtype not in allowed:
            return f"it computes in {tensor.dtype.lower()}"
    if name in ("CONV_2D", "FULLY_CONNECTED") and len(given) < 3:
        return "it has no bias"
    if name == "FULLY_CONNECTED" and options.keepNumDims:
        return "it keeps the number of dimensions"
    if name == "AVERAGE_POOL_2D" and options.filterHeight * options.filterWidth > 256:
        return "its window has more than 256 pixels"
    if given and len(given[0].shape) > 4:
        return "its input has more than 4 dimensions"
    return None


def _layer(operation, layers):
    tensors = list(operation.outputs)
    if any("/" in tensor.name for tensor in tensors):
        tensors += operation.inputs
    else:  # what ends the network: only by its kernel it is known to be a layer's own
        tensors += [tensor for tensor in operation.inputs if tensor.constant]
    found = layer_of((tensor.name for tensor in tensors), layers)
    return f"the layer {found!r}" if found else f"the tensor {operation.outputs[0].name!r}"


def _tensor(tensor, types, model):
    # The signature has -1 for what is open, the shape a number to begin with.
    shape = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    shape = () if shape is None else tuple(int(n) for n in shape)
    data = model.buffers[tensor.buffer].data
    constant = data is not None and len(data) > 0
    steps = None if tensor.quantization is None else tensor.quantization.scale
    step = float(steps[0]) if steps is not None and len(steps) == 1 else None
    return Tensor(tensor.name.decode(), types[tensor.type], shape, constant, step)


def _names(enumeration):
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
