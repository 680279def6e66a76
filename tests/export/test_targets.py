"""Files are refused where the device that they are for cannot run them as a whole."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from test_contract import ROWS, shake

from keras_seg.export import export, quantize, targets
from keras_seg.export import tflite as tflite_file
from keras_seg.export.graph import StaticGraph
from keras_seg.export.pictures import Pictures
from keras_seg.inference import load_runner
from keras_seg.layers import (
    LocalResponseNormalization,
    MaxUnpooling2D,
    conv_bn_relu,
    inference_model,
    preprocess,
    resize_logits,
)

SIZE = (16, 24)


def network(between=None):
    image = keras.Input((None, None, 3), name="image")
    x = conv_bn_relu(preprocess(image, "unit"), 8, strides=2, name="stem")
    x = conv_bn_relu(x, 8, dilation_rate=2, name="dilated")
    if between is not None:
        x = between(x)
    x = layers.Conv2D(3, 1, name="logits_low")(x)
    return keras.Model(image, resize_logits(x, image), name="net")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype("uint8")


def write(tmp_path, model, output="logits", precision="float32", **options):
    """The `.tflite` file of a model, without any check."""
    path = tmp_path / "model.tflite"
    graph = StaticGraph(model, SIZE, 3, output, **options)
    pixels = [np.random.default_rng(0).uniform(0, 255, (1, *SIZE, 3)).astype("float32")]
    tflite_file.write(graph, path, precision, pixels)
    return path


def test_the_file_is_read_operator_by_operator(tmp_path):
    inputs, operations = targets.read(write(tmp_path, network()))
    assert [(tensor.dtype, tensor.shape) for tensor in inputs] == [("FLOAT32", (1, *SIZE, 3))]
    names = [operation.name for operation in operations]
    assert names.count("CONV_2D") == 3 and names[-1] == "RESIZE_BILINEAR"
    convolution = operations[names.index("CONV_2D")]
    assert convolution.outputs[0].shape == (1, 8, 12, 8)
    assert [tensor.constant for tensor in convolution.inputs] == [False, True, True]


@pytest.mark.parametrize("target", targets.TARGETS)
def test_a_plain_network_runs_everywhere(tmp_path, images, target):
    report = export(
        network(),
        tmp_path / "out",
        formats="tflite",
        quantize="int8",
        size=SIZE,
        calibration=images,
        images=images,
        target=target,
        progress=False,
    )
    assert report.ok and report.manifest["target"] == target


def test_labels_for_a_phones_gpu_are_float_and_exact(tmp_path, images):
    model = network()
    report = export(
        model,
        tmp_path / "out",
        formats="tflite",
        size=SIZE,
        quantize=(),
        images=images,
        output="labels",
        confidence=True,
        target="gpu-delegate",
        progress=False,
    )
    assert report.ok
    assert report.manifest["output"]["dtype"] == "float32"
    operators = report.manifest["operators"]["model.tflite"]
    assert "ARG_MAX" not in operators and set(operators) <= targets.GPU_DELEGATE
    runner = load_runner(report.files[0])
    labels = runner.run(images)
    assert runner.outputs_labels and labels.dtype == np.int32
    logits = np.asarray(model(images.astype("float32"), training=False))
    np.testing.assert_array_equal(labels, logits.argmax(-1))


def lrn(x):
    return LocalResponseNormalization(name="norm")(x)


def new_axis(x):
    return keras.ops.squeeze(keras.ops.expand_dims(x, 1)[:, :, ::2, ::2], 1)


@keras.saving.register_keras_serializable("tests")
class Broadcast(layers.Layer):
    """(N, H, W, 1) times (W', 1, C) in one MUL: neither covers the other."""

    def call(self, x):
        return x[..., :1] * x[:, :1, :1, :]


@pytest.mark.parametrize(
    ("between", "target", "message"),
    [
        (lrn, "gpu-delegate", "LOCAL_RESPONSE_NORMALIZATION of the layer 'norm'.*does not have"),
        (lrn, "nnapi-int8", "LOCAL_RESPONSE_NORMALIZATION of the layer 'norm'.*no 8-bit form"),
        (
            layers.Activation("silu", name="act"),
            "cpu",
            None,
        ),
        (Broadcast(name="cast"), "gpu-delegate", "MUL of the layer 'cast'.*covers the other"),
        (
            layers.LeakyReLU(name="leaky"),
            "nnapi-int8",
            "LEAKY_RELU of the layer 'leaky'.*no 8-bit form",
        ),
    ],
    ids=["lrn-gpu", "lrn-nnapi", "silu", "broadcast", "leaky"],
)
def test_the_operator_and_its_layer_are_named(tmp_path, images, between, target, message):
    options = dict(
        formats="tflite",
        quantize="int8" if target == "nnapi-int8" else (),
        size=SIZE,
        calibration=images,
        images=images,
        target=target,
        progress=False,
    )
    model = network(between)
    if message is None:
        assert export(model, tmp_path / "out", **options).ok
        return
    with pytest.raises(ValueError, match=f"of the model 'net' cannot run on .*{message}"):
        export(model, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_a_dilated_convolution_that_was_taken_apart(tmp_path):
    """What a converter makes of it where the number of images is open."""
    model = network()
    function = tf.function(
        lambda image: model(image, training=False),
        input_signature=[tf.TensorSpec((None, *SIZE, 3), tf.float32)],
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], function
    )
    path = tmp_path / "model.tflite"
    path.write_bytes(converter.convert())
    with pytest.raises(ValueError, match="SPACE_TO_BATCH_ND of the layer 'dilated_conv'.*apart"):
        targets.check(path, "cpu", "float32", model)
    with pytest.raises(ValueError, match="the input is float32 .-1, 16, 24, 3., not one image"):
        targets.check(path, "gpu-delegate", "float32", model)


def test_arg_max_is_not_for_a_gpu(tmp_path):
    path = write(tmp_path, network(), "labels")
    with pytest.raises(ValueError, match="ARG_MAX of the tensor 'labels'.*does not have it"):
        targets.check(path, "gpu-delegate", "float32", network())
    targets.check(path, "cpu", "float32", network())


def test_custom_operators_are_not_for_the_cpu(tmp_path):
    """Bicubic interpolation needs TensorFlow's own kernels beside LiteRT."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(2, 1)(image)
    x = keras.ops.image.resize(x, (16, 16), interpolation="bicubic", data_format="channels_last")
    model = keras.Model(image, x)
    function = tf.function(
        lambda image: model(image), input_signature=[tf.TensorSpec((1, 8, 8, 3), tf.float32)]
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], function
    )
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    path = tmp_path / "model.tflite"
    path.write_bytes(converter.convert())
    with pytest.raises(ValueError, match="CUSTOM FlexResizeBicubic .*no builtin operator"):
        targets.check(path, "cpu", "float32", model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "gpu"}, "Unknown target 'gpu'.* Known: cpu, gpu-delegate, nnapi-int8"),
        ({"target": "gpu-delegate", "formats": "onnx"}, r"target='gpu-delegate' is about .tflite"),
        ({"target": "nnapi-int8", "quantize": ()}, "add 'int8' to `quantize`"),
        ({"target": "gpu-delegate", "output": "labels"}, "which int8 would round to other labels"),
    ],
)
def test_bad_targets(tmp_path, images, options, message):
    defaults = dict(formats="tflite", quantize="int8", size=SIZE, calibration=images)
    with pytest.raises(ValueError, match=message):
        export(network(), tmp_path / "out", progress=False, **{**defaults, **options})
    assert not list(tmp_path.iterdir())


# What networks of `keras_seg.models` need and a target lacks; all others run as a whole.
ABSENT = {
    "cpu": {},
    "gpu-delegate": {
        "alexnet": {"LOCAL_RESPONSE_NORMALIZATION"},
        "googlenet": {"LOCAL_RESPONSE_NORMALIZATION"},
        "SegNetBasic": {"LOCAL_RESPONSE_NORMALIZATION"},
        "ParseNet": {"L2_NORMALIZATION"},
        "SETR": {"MUL"},  # of layer normalisation: (1, T, 1) by (1, 1, C)
    },
    "nnapi-int8": {
        "CRFRNN": {"BATCH_MATMUL", "DIV", "EXP", "FULLY_CONNECTED", "SUM", "SQUARED_DIFFERENCE"},
        "DeconvNet": {"SELECT_V2"},
        "EncNet": {"BATCH_MATMUL", "FULLY_CONNECTED", "SQUARE", "SUM"},
        "alexnet": {"LOCAL_RESPONSE_NORMALIZATION"},
        "googlenet": {"LOCAL_RESPONSE_NORMALIZATION"},
        "FCNLateFusion": {"SPLIT_V"},
        "MultiscaleCNN": {"DIV", "SQRT", "SQUARED_DIFFERENCE"},
        "Pix2PixGenerator": {"LEAKY_RELU"},
        "PSPNet": {"FULLY_CONNECTED"},  # pools of a grid that does not divide the map
        "SETR": {"BATCH_MATMUL", "FULLY_CONNECTED", "GELU", "NEG", "RSQRT", "SQUARED_DIFFERENCE"},
        "SegNet-": {"SELECT_V2"},
        "SegNetBasic": {"LOCAL_RESPONSE_NORMALIZATION", "SELECT_V2"},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_every_network_of_the_package(tmp_path, row):
    model = inference_model(row.build())
    shake(model, row)
    graph = StaticGraph(model, row.sizes[1], row.channels, "logits")
    path = tmp_path / "model.tflite"
    pictures = Pictures(row.picture(row.sizes[1]), row.sizes[1], row.channels, "calibration")
    for target, absent in ABSENT.items():
        precision = "int8" if target == "nnapi-int8" else "float32"
        if target != "gpu-delegate":  # it has the same file as the CPU
            if precision == "int8":
                quantize.write(quantize.prepared(graph, pictures)[0], path, precision, pictures)
            else:
                tflite_file.write(graph, path, precision)
        found = {operation.name for operation, _ in targets.problems(path, target)}
        wanted = [names for name, names in absent.items() if name in row.id]
        assert found == (wanted[0] if wanted else set()), target


@pytest.mark.parametrize("most", [0.2, 2, 200, 255, 600])
def test_values_of_any_size_are_unpooled_in_8_bits(tmp_path, most):
    net, images = unpooling(most)
    report = export(net, tmp_path / "files", calibration=images, **INT8)
    assert not [note for note in report.warnings if "for equal" in note]
    found = load_runner(report.folder / "model_int8.tflite").run(images)
    expected = net(images.astype("float32"), training=False).numpy()
    assert ((found == 0) != (expected == 0)).mean() < 0.01


@pytest.mark.parametrize("most", [255, 600])
def test_comparisons_in_8_bits_that_overflow_are_refused(tmp_path, most):
    """At a step of 1 LiteRT ends the process, beyond it finds any two values equal."""
    with pytest.raises(ValueError, match="EQUAL of the .* it compares in 8 bits .* beyond 255"):
        export(comparing(most), tmp_path / "files", calibration=unpooling(most)[1], **INT8)


def test_comparisons_in_8_bits_of_small_values_are_said_to_be_loose(tmp_path):
    images = unpooling(0.2)[1]
    report = export(comparing(0.2), tmp_path / "files", calibration=images, **INT8)
    (note,) = [note for note in report.warnings if "for equal" in note]
    assert note.startswith("model_int8.tflite: EQUAL of ")
    report = export(comparing(20), tmp_path / "files", calibration=images, **INT8)
    assert not [note for note in report.warnings if "for equal" in note]


INT8 = dict(formats=("tflite",), quantize=("int8",), progress=False)


def comparing(most):
    image = keras.Input((16, 24, 4), name="image")
    x = layers.Rescaling(most / 255)(image)
    pooled = layers.MaxPooling2D(3, strides=1, padding="same")(x)
    return keras.Model(image, keras.ops.where(keras.ops.equal(x, pooled), x, keras.ops.zeros(())))


def unpooling(most):
    """A network that unpools values up to `most`, and images for it."""
    image = keras.Input((16, 24, 4), name="image")
    before = layers.Rescaling(most / 255, name="before")(image)
    pooled = layers.MaxPooling2D(2)(before)
    net = keras.Model(image, MaxUnpooling2D(name="unpool")(pooled, before))
    rng = np.random.default_rng(0)
    # Each window holds four neighbouring steps of the 256, in any order.
    base = rng.integers(0, 253, (2, 8, 12, 4)).repeat(2, 1).repeat(2, 2)
    base[:, :2, :2], base[:, -2:, -2:] = 0, 252
    order = rng.permuted(np.tile(np.arange(4), (2, 8, 12, 4, 1)), axis=-1)
    order = order.reshape(2, 8, 12, 4, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(base.shape)
    images = (base + order).astype("uint8")
    return net, images
