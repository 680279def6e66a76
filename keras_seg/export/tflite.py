"""TFLite (LiteRT): for Android, iOS and microcontrollers. float32, float16 weights, or int8."""

import collections
import re

from keras_seg.export import tflite_split

PRECISIONS = ("float32", "float16", "int8")

# Operators that the GPU delegate accepts (tensorflow/lite/tools/versioning/gpu_compatibility.cc);
# the converter's own analysis says "compatible" to everything.
GPU_DELEGATE = frozenset(
    """ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D CUMSUM DEPTHWISE_CONV_2D
    DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL
    HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL
    NEG NOT_EQUAL ONE_HOT PACK PAD POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6
    RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SLICE SOFTMAX
    SPACE_TO_DEPTH SPLIT SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE
    TRANSPOSE_CONV""".split()
)


def write(graph, path, precision="float32", calibration=None):
    """Write the `StaticGraph` as a `.tflite` file of builtin operators.

    Args:
        graph: a `StaticGraph`.
        path: the file.
        precision: "float32"; "float16" (weights only: half the size, computes in float32 where
            there is no float16); "int8" (weights and activations). The input is float32 pixels and
            the output float32 logits, or int32 labels, for each of them.
        calibration: for "int8", float32 images (1, H, W, C) from which the ranges are measured.

    Raises:
        ValueError: if the model uses operators that TFLite does not have.
    """
    import tensorflow as tf

    # The second argument keeps the variables alive. Given a tf.function there, the converter makes
    # them constants first: dilated convolutions and batch normalisation then fold into plain
    # convolutions, and int8 can be calibrated. Given the model, it would save a SavedModel and read
    # it back, and every weight would stay a variable.
    concrete, function = graph.concrete, graph.function
    if precision in ("float32", "float16"):  # sums of rounded parts would cost int8 accuracy
        concrete, function = tflite_split.split_long_sums(graph)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], function)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image] for image in calibration)
    try:
        content = converter.convert()
    except Exception as error:  # the converter's errors share no base class
        missing = sorted(set(re.findall(r"^\s*(tf\.\w+)", str(error), re.MULTILINE)))
        if not missing:
            raise
        raise ValueError(
            f"TFLite has no builtin operator for {', '.join(missing)} of the model "
            f"{graph.model.name!r}. Replace the layer that uses it, or leave 'tflite' out of "
            "`formats`."
        ) from error
    path.write_bytes(content)


def operators(path):
    """{operator: how often} of a `.tflite` file, before any delegate rewrites the graph."""
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        import tensorflow as tf

        Interpreter, OpResolverType = tf.lite.Interpreter, tf.lite.experimental.OpResolverType
    interpreter = Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    names = (op["op_name"] for op in interpreter._get_ops_details())
    return dict(sorted(collections.Counter(names).items()))
