"""Quantised files: what enters and leaves them, equalisation, and layers that stay in float."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers, ops

from keras_seg.backbones.dilation import DilatedMaxPooling2D
from keras_seg.export import export, logits_range, quantize, tflite
from keras_seg.export.equalize import equalise, folded
from keras_seg.export.graph import StaticGraph
from keras_seg.export.pictures import Pictures
from keras_seg.inference import Predictor, load_runner
from keras_seg.layers import (
    GroupedConv2D,
    LocalContrastNormalization,
    PadLike,
    Resize,
    conv_bn_relu,
    preprocess,
)

SIZE = (32, 40)
COLOURS = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])


def pictures(count, seed=0):
    """Noisy blocks in three colours (N, 32, 40, 3), and which colour each pixel has."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (count, 4, 5)).repeat(8, 1).repeat(8, 2)
    images = COLOURS[labels] + rng.normal(0, 12, (*labels.shape, 3))
    return np.clip(images, 0, 255).astype("uint8"), labels.astype("uint8")


IMAGES, LABELS = pictures(6)


def network(spread=1.0, activation="relu"):
    """A network that tells the colours apart, with the weights written down, not trained.

    The last channel of its first convolution is `spread` times the others, and the second one
    divides by as much: with ReLU the function is the same for every spread.
    """
    image = keras.Input((*SIZE, 3), name="image")
    first = layers.Conv2D(6, 3, padding="same", name="first")
    second = layers.Conv2D(6, 1, activation="relu", name="second")
    third = layers.Conv2D(6, 3, padding="same", activation="relu", name="third")
    last = layers.Conv2D(3, 1, name="last")
    x = layers.Activation(activation, name="active")(first(image))
    net = keras.Model(image, last(third(second(x))), name="colours")
    colour = np.eye(3) - 0.5 * (1 - np.eye(3))  # one colour less half of the two others
    both = np.concatenate([colour, np.eye(3)], axis=1) / 64  # (3, 6)
    factors = np.array([1, 1, 1, 1, 1, spread])
    smooth = np.full((3, 3, 1, 1), 1 / 9)
    first.set_weights([smooth * both * factors, np.zeros(6)])
    second.set_weights([(np.eye(6) / factors[:, None])[None, None], np.zeros(6)])
    third.set_weights([smooth * np.eye(6), np.zeros(6)])
    last.set_weights([np.concatenate([2 * np.eye(3), 0.5 * np.eye(3)])[None, None], np.zeros(3)])
    return net


def exported(model, folder, **options):
    defaults = dict(
        formats=("tflite",),
        quantize="int8",
        calibration=pictures(8, seed=1)[0],
        images=IMAGES,
        labels=list(LABELS),
        bounds=None,
        progress=False,
    )
    return export(model, folder, **{**defaults, **options})


def labels_of(path, images=IMAGES):
    found = load_runner(path).run(images.astype("float32"))
    return found if found.ndim == 3 else found.argmax(-1)


def interpreter(path):
    found = tf.lite.Interpreter(str(path))
    found.allocate_tensors()
    return found


# --- precisions ---

ALL = ("float16", "dynamic", "int8", "int16x8", "uint8", "qdq")
NAMES = tuple(f"model_{name}.tflite" for name in ALL[:-1]) + ("model_int8.onnx",)


@pytest.fixture(scope="module", params=["logits", "labels"])
def files(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files") / "files"
    report = exported(
        network(), folder, formats=("tflite", "onnx"), quantize=ALL, output=request.param
    )
    return report


def test_every_precision_finds_the_colours(files):
    assert files.rows[0]["mean_iou"] > 0.85  # the network does what it was written for
    expected = labels_of(files.folder / "model.tflite")
    for name in NAMES:
        assert (labels_of(files.folder / name) == expected).mean() >= 0.99
    assert {p.name for p in files.folder.iterdir()} == {
        *NAMES,
        "model.tflite",
        "model.onnx",
        "manifest.json",
    }


def test_uint8_takes_pixels_as_they_are_and_no_float_is_left(files):
    path = files.folder / "model_uint8.tflite"
    found = interpreter(path)
    (given,), (result,) = found.get_input_details(), found.get_output_details()
    assert given["dtype"] == np.uint8 and given["quantization"] == (1.0, 0)
    labels = files.manifest["output"]["name"] == "labels"
    assert result["dtype"] == (np.uint8 if labels else np.int8)
    assert result["shape"].tolist() == [1, *SIZE] + ([] if labels else [3])
    types = {tensor["dtype"] for tensor in found.get_tensor_details()}
    assert np.float32 not in types
    entry = files.manifest["files"]["model_uint8.tflite"]
    assert entry["input_dtype"] == "uint8"
    assert entry["output_dtype"] == np.dtype(result["dtype"]).name


def test_uint8_gives_every_label_of_int8(files):
    """Also on pictures far from those that it was calibrated on, and on every value 0..255."""
    rng = np.random.default_rng(3)
    images = np.concatenate([IMAGES, rng.integers(0, 256, (4, *SIZE, 3), "uint8")])
    one, other = (files.folder / f"model_{name}.tflite" for name in ("int8", "uint8"))
    np.testing.assert_array_equal(labels_of(one, images), labels_of(other, images))
    # and in the runtime itself
    found = interpreter(other)
    found.set_tensor(found.get_input_details()[0]["index"], images[:1])
    found.invoke()
    values = found.get_tensor(found.get_output_details()[0]["index"])
    values = values if values.ndim == 3 else values.argmax(-1)
    np.testing.assert_array_equal(values, labels_of(one, images[:1]))
    found = Predictor(other).predict(images[0])
    np.testing.assert_array_equal(found, labels_of(one, images[:1])[0])


def test_weights_and_activations_have_the_promised_types(files):
    kinds = {}
    for name in ("int8", "int16x8"):
        found = interpreter(files.folder / f"model_{name}.tflite")
        assert found.get_input_details()[0]["dtype"] == np.float32
        kinds[name] = {t["dtype"] for t in found.get_tensor_details() if len(t["shape"]) == 4}
    assert {np.int8, np.int16} <= kinds["int16x8"]
    assert np.int8 in kinds["int8"] and np.int16 not in kinds["int8"]


def test_dynamic_has_kernels_in_int8_and_needs_no_images(tmp_path):
    """The converter leaves kernels of fewer than 1024 numbers as they are."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(16, 3, activation="relu")(image)
    net = keras.Model(image, layers.Conv2D(16, 3)(x))
    report = exported(
        net, tmp_path / "files", quantize="dynamic", calibration=None, images=None, labels=None
    )
    found = interpreter(tmp_path / "files" / "model_dynamic.tflite")
    kernels = [t["dtype"] for t in found.get_tensor_details() if list(t["shape"]) == [16, 3, 3, 16]]
    assert kernels == [np.int8]
    assert report.rows[-1]["precision"] == "dynamic" and report.rows[-1]["difference"] < 0.2


def test_planes_of_one_value_are_not_in_the_qdq_file(tmp_path):
    """Those that a recurrent network starts with; onnxruntime's preparation computes them."""
    image = keras.Input((*SIZE, 3), name="image")
    x = ops.concatenate([image, *[ops.zeros_like(image)] * 4], axis=-1)
    model = random_weights(keras.Model(image, layers.Conv2D(3, 1)(x)))
    exported(model, tmp_path / "out", formats=("onnx",), quantize="qdq", labels=None)
    proto = onnx.load(str(tmp_path / "out" / "model_int8.onnx"))
    onnx.checker.check_model(proto, full_check=True)
    assert max(np.prod(tensor.dims) for tensor in proto.graph.initializer) < 100
    found = load_runner(tmp_path / "out" / "model_int8.onnx").run(IMAGES.astype("float32"))
    expected = np.asarray(model(IMAGES.astype("float32")))
    assert np.abs(found - expected).max() < 0.05 * expected.std()


def test_qdq_is_valid_onnx_and_computes_in_int8(files):
    path = files.folder / "model_int8.onnx"
    proto = onnx.load(str(path))
    onnx.checker.check_model(proto, full_check=True)
    assert {o.domain: o.version for o in proto.opset_import}[""] >= 17
    assert proto.ir_version <= 10  # what onnxruntime-web 1.17 and later reads
    scales = {t.name: t for t in proto.graph.initializer}
    kernels = [n for n in proto.graph.node if n.op_type == "DequantizeLinear"]
    kernels = [n for n in kernels if n.input[0] in scales and len(scales[n.input[0]].dims) == 4]
    assert len(kernels) == 4
    for node in kernels:
        assert scales[node.input[0]].data_type == onnx.TensorProto.INT8
        assert len(scales[node.input[1]].dims) == 1  # a step for each output channel
    # onnxruntime joins the pairs with the convolutions when it optimises.
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.parent.parent / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = [n.op_type for n in onnx.load(options.optimized_model_filepath).graph.node]
    assert found.count("QLinearConv") == 4


MEASURING = """
import pathlib, re, sys
import numpy as np
import onnx
from onnx import helper, numpy_helper
from keras_seg.export import onnx_quantize

kernel = numpy_helper.from_array(np.eye(32, dtype="float32")[:, :, None, None], "kernel")
nodes = []
for i in range(30):
    nodes.append(helper.make_node("Conv", [f"x{i}" if i else "image", "kernel"], [f"y{i}"]))
    nodes.append(helper.make_node("Relu", [f"y{i}"], [f"x{i + 1}"]))
shape = [1, 32, 256, 256]
ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in ("image", "x30")]
graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], [kernel])
opset = [helper.make_opsetid("", 17)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), sys.argv[1])

def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status)[1])

image = np.random.default_rng(0).uniform(0, 7, shape).astype("float32")
before = peak()
found = onnx_quantize.ranges(sys.argv[1], [image, image])
print(peak() - before, *sorted(found.keys()))
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_measuring_ranges_for_onnx_does_not_keep_every_tensor(tmp_path):
    """60 tensors of 8.4 MB each, 503 MB: a few at a time are enough."""
    command = [sys.executable, "-c", MEASURING, str(tmp_path / "chain.onnx")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    most, *names = done.stdout.split()
    assert {"image", "y0", "x1", "y29", "x30"} <= set(names)
    assert int(most) < 150e6, most


@pytest.mark.parametrize("name", ["int8", "int16x8", "uint8", "qdq"])
def test_ranges_are_measured_on_given_images_only(name, tmp_path):
    with pytest.raises(ValueError, match=f"{name} needs images to measure the ranges on"):
        exported(
            network(), tmp_path / "a", formats=("tflite", "onnx"), quantize=name, calibration=None
        )
    assert not list(tmp_path.iterdir())


def test_fallback_must_be_a_number(tmp_path):
    for value in ("yes", -1, 1.5):
        with pytest.raises(ValueError, match="fallback must be True, False or a number of layers"):
            exported(network(), tmp_path / "a", fallback=value)


# --- folding and equalisation ---


def random_weights(model, seed=0):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape = variable.shape
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(10 ** rng.uniform(-2, 2, shape))  # channels of very different range
        else:
            variable.assign(rng.normal(0, 0.3, shape))
    return model


def hard_network():
    """What the two steps must see through, and what they must leave alone."""
    image = keras.Input((24, 20, 3), name="image")
    x = preprocess(image, "caffe")  # swaps the channels
    x = conv_bn_relu(x, 8, name="stem")
    skip = x
    x = layers.MaxPooling2D(2)(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, use_bias=False)(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    x = GroupedConv2D(8, 3, padding="same", groups=4)(x)
    x = layers.BatchNormalization(center=False)(x)
    x = layers.LeakyReLU(0.1)(x)
    x = layers.Conv2DTranspose(6, 2, strides=2, use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Concatenate()([x, layers.Dropout(0.5)(skip)])
    x = layers.BatchNormalization(name="before")(x)  # before its convolution, as in DenseNet
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(layers.ReLU()(x))
    twice = layers.Conv2D(6, 1, name="twice")
    x = layers.Add()([twice(x), twice(layers.ReLU(6.0)(x))])
    x = layers.Conv2D(5, 3, activation="swish", padding="same")(x)
    x = PadLike()(layers.Cropping2D(1)(x), image)
    x = Resize(size=(30, 25))(layers.Conv2D(4, 1)(x))
    return random_weights(keras.Model(image, x))


def test_folding_and_equalisation_keep_the_function():
    model = hard_network()
    before = model.get_weights()
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (3, 24, 20, 3)).astype("float32")
    expected = model(images, training=False).numpy()
    copy = folded(model)
    assert not [x for x in copy.layers if isinstance(x, layers.BatchNormalization)]
    difference = np.abs(copy(images, training=False).numpy() - expected).max()
    assert difference < 1e-4 * expected.std()

    kernels = {x.name: x.get_weights()[0] for x in copy.layers if isinstance(x, layers.Conv2D)}
    assert equalise(copy, [image[None] for image in images]) >= 5
    changed = [
        name
        for name in kernels
        if not np.allclose(kernels[name], copy.get_layer(name).get_weights()[0])
    ]
    assert "stem_conv" in changed and "twice" not in changed
    difference = np.abs(copy(images, training=False).numpy() - expected).max()
    assert difference < 1e-4 * expected.std()
    for one, other in zip(before, model.get_weights(), strict=True):  # the model is as it was
        np.testing.assert_array_equal(one, other)


def test_a_nested_model_is_folded_too():
    image = keras.Input((16, 16, 3), name="image")
    inner = keras.Input((16, 16, 3))
    trunk = keras.Model(inner, conv_bn_relu(conv_bn_relu(inner, 4, name="a"), 4, name="b"))
    model = random_weights(keras.Model(image, layers.Conv2D(2, 1)(trunk(image))))
    copy = folded(model)
    values = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3)).astype("float32")
    expected = model(values, training=False).numpy()
    assert np.abs(copy(values, training=False).numpy() - expected).max() < 1e-4 * expected.std()
    names = [type(x).__name__ for x in copy._flatten_layers()]
    assert "BatchNormalization" not in names


def test_layers_without_a_configuration_and_sequential_models():
    class Shift(layers.Layer):
        def __init__(self, by):
            super().__init__()
            self.by = by

        def get_config(self):
            raise NotImplementedError

        def call(self, x):
            return x + self.by

    parts = [conv for i in range(2) for conv in (layers.Conv2D(4, 3), layers.ReLU(), Shift(i))]
    model = keras.Sequential([keras.Input((12, 10, 3)), *parts, layers.BatchNormalization()])
    random_weights(model)
    values = np.random.default_rng(0).uniform(0, 255, (1, 12, 10, 3)).astype("float32")
    expected = model(values, training=False).numpy()
    copy = folded(model)
    equalise(copy, [values])
    assert np.abs(copy(values, training=False).numpy() - expected).max() < 1e-4 * expected.std()


def test_equalisation_repairs_channels_of_very_different_range(tmp_path):
    """A tensor of activations has one step for all channels: where one is 1000 times another, the
    smaller is lost."""
    model = network(spread=1000.0)
    expected = labels_of_keras(model)
    np.testing.assert_array_equal(expected, labels_of_keras(network()))  # the same function
    graph = StaticGraph(model, SIZE, 3, "logits")
    plain = tmp_path / "plain.tflite"
    calibration = Pictures(pictures(8, seed=1)[0], SIZE, 3, "calibration")
    tflite.write(graph, plain, "int8", calibration.spread(8))
    assert (labels_of(plain) == expected).mean() < 0.9
    report = exported(model, tmp_path / "files", fallback=False)
    assert (labels_of(report.folder / "model_int8.tflite") == expected).mean() >= 0.99
    assert report.manifest["quantization"]["equalised_layers"] == 3


def labels_of_keras(model):
    return model(IMAGES.astype("float32"), training=False).numpy().argmax(-1)


def test_equalisation_keeps_a_layer_comparable_to_a_sum_beside_it(tmp_path):
    """As of PSPNet's pyramid and a U-Net's decoder beside the trunk's residual sums."""
    image = keras.Input((*SIZE, 3), name="image")
    total = layers.Add()([layers.Conv2D(6, 1)(image), layers.Conv2D(6, 3, padding="same")(image)])
    pyramid = layers.Conv2D(6, 3, padding="same", activation="relu")(total)
    x = layers.Concatenate()([layers.ReLU()(total), Resize(size=SIZE)(pyramid)])
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    net = random_weights(keras.Model(image, layers.Conv2D(3, 1)(x)))
    exported(net, tmp_path / "out", quantize=("int8", "int16x8", "qdq"), formats=("tflite", "onnx"))
    expected = np.asarray(net(IMAGES.astype("float32")))
    for name in ("model_int8.tflite", "model_int16x8.tflite", "model_int8.onnx"):
        error = load_runner(tmp_path / "out" / name).run(IMAGES.astype("float32")) - expected
        assert np.sqrt(np.mean(error**2)) < 0.025 * expected.std(), name


def errors(net, folder, images, **options):
    """{integer file: root mean square of its error, relative to the logits' deviation}."""
    options |= {"quantize": ("int8", "qdq"), "formats": ("tflite", "onnx"), "labels": None}
    exported(net, folder, images=images, **options)
    expected = np.asarray(net(images.astype("float32")))
    found = {}
    for name in ("model_int8.tflite", "model_int8.onnx"):
        error = load_runner(folder / name).run(images.astype("float32")) - expected
        found[name] = np.sqrt(np.mean(error**2)) / expected.std()
    return found


def test_equalisation_treats_the_branches_of_a_concatenation_alike(tmp_path):
    """As of an ASPP, whatever comes first."""
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = [layers.Conv2D(8, 3, padding="same", activation="relu")(x) for _ in range(5)]
    x = layers.Conv2D(8, 1, activation="relu")(layers.Concatenate()(x))
    net = random_weights(keras.Model(image, layers.Conv2D(3, 1)(x)))
    assert max(errors(net, tmp_path / "out", IMAGES).values()) < 0.02


def test_equalisation_leaves_the_scale_of_a_tensor(tmp_path):
    """Without training, the values of a ResNet-101 reach 1e8, which no kernel can take to 1."""
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(image)
    x = layers.Add()([x, layers.Conv2D(8, 3, padding="same", activation="relu")(x)])
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    net = random_weights(keras.Model(image, layers.Conv2D(3, 1)(x)))
    net.get_layer("first").kernel.assign(1e8 * net.get_layer("first").kernel)
    assert max(errors(net, tmp_path / "out", IMAGES).values()) < 0.05


def test_equalisation_leaves_room_where_a_channel_has_one_value_an_image(tmp_path):
    """Behind a global pooling the images that ranges are measured on say little of others: here how
    much less than 110 of each colour there is, and all colours together."""
    image = keras.Input((*SIZE, 3), name="image")
    pool = layers.GlobalAveragePooling2D(keepdims=True)(image)
    pooled = layers.Conv2D(4, 1, activation="relu", name="pooled")
    near = layers.Conv2D(3, 1, activation="relu", name="near")(image)
    x = layers.Concatenate()([near, layers.UpSampling2D(SIZE)(pooled(pool))])
    net = keras.Model(image, layers.Conv2D(6, 1, name="last")(x))
    pooled.set_weights(
        [np.hstack([-np.eye(3), np.ones((3, 1))])[None, None], np.array([110.0] * 3 + [0.0])]
    )
    net.get_layer("near").set_weights([np.eye(3)[None, None], np.zeros(3)])
    net.get_layer("last").set_weights([np.eye(7)[None, None, :, :6], np.zeros(6)])
    images = np.full_like(IMAGES[:3], COLOURS[:, None, None])
    assert max(errors(net, tmp_path / "out", images).values()) < 0.03


def test_equalisation_leaves_logits_before_an_enlargement_by_a_convolution(tmp_path):
    net = network()
    low = layers.Identity(name="logits_low")(net.output)
    enlarge = layers.Conv2DTranspose(3, 2, strides=2, name="logits")
    whole = keras.Model(net.input, enlarge(low), name="enlarging")
    enlarge.set_weights([np.ones((2, 2, 1, 1)) * np.diag([100.0, 1.0, 0.01]), np.zeros(3)])
    whole.get_layer("last").set_weights(
        [net.get_layer("last").get_weights()[0], np.array([8.0, 0.0, -8.0])]
    )
    out = tmp_path / "out"
    exported(
        whole,
        out,
        output="logits_lowres",
        quantize=("int8", "int16x8", "qdq"),
        labels=None,
        formats=("tflite", "onnx"),
    )
    expected = np.asarray(net(IMAGES.astype("float32")))
    for name in ("model_int8.tflite", "model_int16x8.tflite", "model_int8.onnx"):
        error = load_runner(out / name).run(IMAGES.astype("float32")) - expected
        assert np.abs(error).max() < 0.05 * expected.std(), name


def test_a_pool_whose_stride_was_removed_keeps_the_range(tmp_path):
    """Its border holds no very low number, whose range would leave one step to all others, and
    LiteRT has no kernel for that in 16 bits."""
    image = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="first")(image)
    x = DilatedMaxPooling2D((3, 3), strides=2, dilation=2, name="pool")(x)
    model = keras.Model(image, layers.Conv2D(3, 1, name="last")(x))
    options = dict(formats=("tflite", "onnx"), labels=None, dynamic="size", size=SIZE)
    report = exported(model, tmp_path / "files", quantize=("int8", "int16x8", "qdq"), **options)
    for row in report.rows[1:]:
        assert row["difference"] < (0.1 if "_int" in row["file"] else 1e-4), row


# --- the range of logits ---


def near_ties(count):
    """(network, images): red pixels have logits of 107, the others of at most 5, which decide
    between green and blue. Over all of that 255 steps are half a logit wide."""
    image = keras.Input((*SIZE, 3), name="image")
    last = layers.Conv2D(3, 1, name="last")
    copy = layers.Conv2D(3, 1, name="copy")
    net = keras.Model(image, last(copy(image)), name="ties")
    copy.set_weights([np.eye(3)[None, None], np.zeros(3)])
    last.set_weights([np.diag([0.5, 0.02, 0.02])[None, None], np.array([-20.0, 0.0, 0.0])])
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (count, *SIZE, 3), "uint8")
    images[..., 0] = 255 * (images[..., 0] > 200)
    return net, images


NEAR_TIES = dict(formats=("tflite", "onnx"), quantize=("int8", "uint8", "qdq"), labels=None)


@pytest.mark.parametrize("options", [{}, {"confidence": True}])
def test_labels_of_8_bits_are_those_of_float_near_ties(tmp_path, options):
    net, images = near_ties(4)
    expected = np.asarray(net(images.astype("float32"))).argmax(-1)
    options = {**NEAR_TIES, "calibration": images, "images": images, **options}
    report = exported(net, tmp_path / "out", output="labels", **options)
    low, high = report.manifest["quantization"]["logits_range"]
    assert -15 < low < 0 and 5 < high < 30
    for row in report.rows[1:]:
        if "int8" in row["file"]:
            path = report.folder / row["file"]
            found = load_runner(path).run(images.astype("float32"))
            assert (found == expected).mean() > 0.99, row["file"]
            # ties are no longer the first class's
            assert abs((found == 2).mean() - (expected == 2).mean()) < 0.005
    confidence = [row["confidence_difference"] for row in report.rows[1:]]
    assert confidence == [None] * 5 or max(confidence) < 0.05


def test_logits_of_8_bits_are_whole(tmp_path):
    """A file that returns logits returns the large ones too."""
    net, images = near_ties(4)
    options = {**NEAR_TIES, "calibration": images, "images": images}
    report = exported(net, tmp_path / "out", **options)
    assert "logits_range" not in report.manifest["quantization"]
    for name in ("model_int8.tflite", "model_int8.onnx"):
        logits = load_runner(report.folder / name).run(images.astype("float32"))
        assert logits.max() == pytest.approx(107.5, abs=1)
        assert (logits.argmax(-1) == 1).mean() > (logits.argmax(-1) == 2).mean() + 0.03


def test_the_range_of_logits_is_where_probabilities_change_least():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 5))
    logits[:400, 0] += 60  # without doubt, however far
    logits[400:800, 1] -= 60
    low, high = logits_range.best(logits)
    assert -30 < low < -4 and 4 < high < 30

    def change(limits):
        step = (limits[1] - limits[0]) / 255
        kept = np.clip(np.round(logits / step) * step, *limits)
        kept, exact = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (kept, logits))
        return np.abs(kept - exact).sum(-1).mean() / 2

    assert change((low, high)) < 0.5 * change((logits.min(), logits.max()))
    even = rng.uniform(-3, 3, (4000, 5))  # nothing to be gained
    assert logits_range.best(even) == (-np.inf, np.inf)
    assert logits_range.best(np.zeros((10, 2))) == (-np.inf, np.inf)


CONV, RESIZE = ("CONV_2D", ["x", "k"], ["low"]), ("RESIZE_BILINEAR", ["low", "size"], ["logits"])
ARGMAX, SOFTMAX = ("ARG_MAX", ["logits"], ["a"]), ("SOFTMAX", ["logits"], ["p"])
CASTS = [ARGMAX, ("CAST", ["a"], ["labels"])]
CONFIDENCE = [SOFTMAX, ("REDUCE_MAX", ["p"], ["c"])]


@pytest.mark.parametrize(
    "outputs,operators,expected",
    [
        ({"labels": "a"}, [CONV, RESIZE, ARGMAX], {"low", "logits"}),
        ({"labels": "labels"}, [CONV, RESIZE, *CASTS], {"low", "logits"}),
        (
            {"labels": "a", "confidence": "c"},
            [CONV, RESIZE, ARGMAX, *CONFIDENCE],
            {"low", "logits"},
        ),
        (
            {"probabilities": "out"},
            [("Conv", ["x"], ["y"]), ("Transpose", ["y"], ["z"]), ("Softmax", ["z"], ["out"])],
            {"y", "z"},
        ),
        # Someone else reads them, or their range is not free.
        ({"labels": "a"}, [CONV, RESIZE, ARGMAX, ("TANH", ["low"], ["other"])], set()),
        ({"labels": "a"}, [("TANH", ["x"], ["logits"]), ARGMAX], set()),
        ({"probabilities": "q"}, [CONV, RESIZE, SOFTMAX, ("SOFTMAX", ["p"], ["q"])], set()),
        ({"labels": "x"}, [], set()),
    ],
)
def test_tensors_of_the_logits_are_found_in_a_file(outputs, operators, expected):
    assert set(logits_range.tensors(outputs, operators)) == expected


# --- layers in float ---


@pytest.mark.parametrize("quantize", ["int8", "qdq"])
def test_the_last_layer_is_the_first_that_is_tried_in_float(tmp_path, quantize):
    net, images = near_ties(4)
    labels = list(np.asarray(net(images.astype("float32"))).argmax(-1).astype("uint8"))
    options = {**NEAR_TIES, "quantize": quantize, "labels": labels}
    report = exported(net, tmp_path / "out", calibration=images, images=images, **options)
    (entry,) = report.manifest["quantization"]["files"].values()
    assert entry["loss_int8"] > 0.01 and entry["within"]
    assert [layer["layer"] for layer in entry["float_layers"]] == ["last"]


@pytest.mark.parametrize(
    "name,quantize", [("model_int8.tflite", "int8"), ("model_int8.onnx", "qdq")]
)
def test_layers_that_cost_most_stay_in_float(tmp_path, name, quantize):
    """Swish does not commute with factors, so that equalisation cannot help."""
    model = network(spread=1000.0, activation="swish")
    options = dict(formats=("tflite", "onnx"), quantize=quantize)
    alone = exported(model, tmp_path / "alone", fallback=False, **options)
    row = next(row for row in alone.rows if row["file"] == name)
    assert row["mean_iou_change"] < -0.05
    assert alone.manifest["quantization"]["files"] == {}

    report = exported(model, tmp_path / "files", **options)  # on by itself: there are labels
    row = next(row for row in report.rows if row["file"] == name)
    assert row["mean_iou_change"] >= -0.005
    found = json.loads((tmp_path / "files" / "manifest.json").read_text())["quantization"]
    entry = found["files"][name]
    assert entry["within"] and entry["measure"] == "mean_iou" and entry["bound"] == 0.005
    assert entry["loss"] == pytest.approx(-row["mean_iou_change"], abs=1e-6)
    kept = [layer["layer"] for layer in entry["float_layers"]]
    assert "first" in kept  # its output is what int8 cannot hold
    assert all(layer["cost"] > 0 for layer in entry["float_layers"])
    assert f"{name}: int8 throughout loses" in str(report) and "first" in str(report)
    # the rest is in int8
    counts = report.manifest["operators"][name]
    assert counts["QUANTIZE" if name.endswith("tflite") else "QuantizeLinear"] >= 1


@pytest.mark.parametrize("quantize_to", ["int8", "qdq"])
def test_noise_is_measured_on_a_part_of_large_tensors(tmp_path, monkeypatch, quantize_to):
    """All tensors of two files at once are more than a machine of 16 GB has for some networks."""
    sizes, noise = [], quantize._noise

    def watched(value, exact, axis):
        sizes.append(value.size)
        return noise(value, exact, axis)

    monkeypatch.setattr(quantize, "_MOST_VALUES", 64)
    monkeypatch.setattr(quantize, "_noise", watched)
    model = network(spread=1000.0, activation="swish")
    options = dict(formats=("tflite", "onnx"), quantize=quantize_to)
    report = exported(model, tmp_path / "files", **options)
    assert 6 < max(sizes) < 4 * 64 < 6 * SIZE[0] * SIZE[1]
    (entry,) = report.manifest["quantization"]["files"].values()
    assert "first" in [layer["layer"] for layer in entry["float_layers"]] and entry["within"]


def test_without_labels_fallback_is_on_request_and_goes_by_the_labels_that_change(tmp_path):
    model = network(spread=1000.0, activation="swish")
    plain = exported(model, tmp_path / "plain", labels=None)
    assert plain.manifest["quantization"]["files"] == {}
    report = exported(model, tmp_path / "files", labels=None, fallback=2)
    entry = report.manifest["quantization"]["files"]["model_int8.tflite"]
    assert entry["measure"] == "labels"
    assert entry["loss"] < entry["loss_int8"]
    assert len(entry["float_layers"]) <= 2
    assert report.rows[-1]["clear_agreement"] == pytest.approx(1 - entry["loss"], abs=1e-6)


@pytest.mark.parametrize(
    "name,quantize", [("model_int8.tflite", "int8"), ("model_int8.onnx", "qdq")]
)
def test_a_layer_of_many_steps_stays_in_float_as_a_whole(tmp_path, name, quantize):
    """Local contrast, of one grey level but for a corner, whose squares alone int8 can hold."""
    image = keras.Input((*SIZE, 1), name="image")
    x = LocalContrastNormalization(name="contrast")(image)
    both = layers.Conv2D(2, 1, activation="relu", name="both")
    last = layers.Conv2D(2, 1, name="last")
    model = keras.Model(image, last(both(x)), name="brighter")
    both.set_weights([np.array([[[[1.0, -1.0]]]]), np.zeros(2)])
    last.set_weights([np.eye(2)[None, None], np.zeros(2)])
    amplitude = np.ones((*SIZE, 1))
    amplitude[:12, :12] = 100
    noise = np.random.default_rng(0).uniform(-1, 1, (4, *SIZE, 1))
    images = np.rint(128 + amplitude * noise).astype("uint8")

    report = exported(
        model,
        tmp_path / "files",
        formats=("tflite", "onnx"),
        quantize=quantize,
        calibration=images,
        images=images,
        labels=None,
        fallback=1,
    )
    entry = report.manifest["quantization"]["files"][name]
    assert entry["loss_int8"] > 0.05
    assert [layer["layer"] for layer in entry["float_layers"]] == ["contrast"]
    assert entry["loss"] < entry["loss_int8"] / 3  # the rest: logits that are 0 in 8 bits


def test_noise_of_channels_of_one_value_is_relative_to_it():
    """As of a global pooling: 0.1 of 2 and of 4, and a channel that varies by 1 around 8."""
    exact = np.array([2.0, 4.0]).reshape(1, 1, 1, 2)
    assert quantize._noise(exact + 0.1, exact, -1) == pytest.approx((0.05**2 + 0.025**2) / 2)
    varying = np.array([7.0, 9.0]).reshape(1, 2, 1, 1)
    assert quantize._noise(varying + 0.1, varying, -1) == pytest.approx(0.01)
    assert quantize._noise(np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2, 3)), -1) == 0
