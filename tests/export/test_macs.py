"""Multiply-accumulates: against sums by hand, and hooks on the PyTorch networks."""

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from keras import layers, ops

from keras_seg import backbones, models
from keras_seg.export import count_macs, export
from keras_seg.export.macs import of_graph

# Elements of the output, times what is summed for each; of the transposed convolution elements of
# the input, times what each is spread to.
STRIDED = 5 * 7 * 4 * (3 * 3 * 3)  # a convolution of stride 2
TRANSPOSED = 5 * 7 * 6 * (4 * 4 * 2)
BY_HAND = (
    STRIDED
    + 5 * 7 * 4 * (3 * 3 * 4)  # dilated: 5 and 7 are no multiples of 3
    + 5 * 7 * 4 * (3 * 3)  # depthwise
    + 5 * 7 * 6 * (4 // 2)  # in two groups
    + 35 * 35 * 6 + 35 * 6 * 35  # two matrix products
    + 6 * 6  # fully connected
    + TRANSPOSED
)  # fmt: skip
# In TFLite a transposed convolution is one of 2 x 2 that makes the 2 x 2 pixels of a place at once,
# also around the border; in 8 bits a strided one is one of 2 x 2 over 2 x 2 pixels of 3 channels.
IN_TFLITE = BY_HAND - TRANSPOSED + 6 * 8 * (2 * 2 * 2) * (2 * 2 * 6)
IN_INT8 = IN_TFLITE - STRIDED + 5 * 7 * 4 * (2 * 2) * (2 * 2 * 3)


def network():
    """One of each that counts, and much that does not."""
    image = keras.Input((10, 14, 3), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same")(layers.Rescaling(1 / 255)(image))
    x = layers.Conv2D(4, 3, dilation_rate=3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Conv2D(6, 1, groups=2)(x)
    tokens = layers.Reshape((35, 6))(x)
    weights = ops.softmax(ops.matmul(tokens, ops.transpose(tokens, (0, 2, 1))))
    x = layers.Reshape((5, 7, 6))(ops.matmul(weights, tokens))
    gate = layers.Dense(6, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 6))(gate)])
    x = layers.Conv2DTranspose(2, 4, strides=2, padding="same", use_bias=False)(x)
    return keras.Model(image, x, name="net")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """{name: what `count_macs` takes} of the network in every kind."""
    folder = tmp_path_factory.mktemp("macs")
    net = network()
    net.save(folder / "net.keras")
    images = np.random.default_rng(0).uniform(0, 255, (2, 10, 14, 3)).astype("float32")
    report = export(net, folder / "files", calibration=images, quantize=("int8",), progress=False)
    files = {path.name: path for path in report.files}
    return {"model": net, "net.keras": folder / "net.keras", **files}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model", BY_HAND),
        ("net.keras", BY_HAND),
        ("saved_model", BY_HAND),
        ("model.tflite", IN_TFLITE),
        ("model_int8.tflite", IN_INT8),
        ("model.onnx", BY_HAND),
    ],
)
def test_every_kind_of_file_counts_as_by_hand(exported, name, expected):
    assert count_macs(exported[name]) == expected


def test_a_size_is_needed_where_any_will_do(tmp_path):
    image = keras.Input((None, None, 3), name="image")
    model = keras.Model(image, layers.Conv2D(2, 3, padding="same")(image))
    assert count_macs(model, (6, 9)) == 6 * 9 * 2 * 27

    values = onnx.helper.make_tensor_value_info
    weights = onnx.numpy_helper.from_array(np.zeros((2, 3, 3, 3), "float32"), "kernel")
    node = onnx.helper.make_node("Conv", ["image", "kernel"], ["logits"], pads=[1, 1, 1, 1])
    given = values("image", onnx.TensorProto.FLOAT, [1, 3, "rows", "columns"])
    result = values("logits", onnx.TensorProto.FLOAT, [1, 2, "rows", "columns"])
    graph = onnx.helper.make_graph([node], "net", [given], [result], [weights])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "any.onnx")
    assert count_macs(tmp_path / "any.onnx") is None


def test_an_open_onnx_file_counts_at_the_size_of_the_export(tmp_path):
    """The size behind a transposed convolution of "same" is computed in the file."""
    image = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same")(image)
    x = layers.Conv2DTranspose(5, 3, strides=2, padding="same")(x)
    model = keras.Model(image, layers.Conv2D(2, 1)(x))
    options = {"size": (16, 24), "dynamic": ("batch", "size"), "quantize": (), "progress": False}
    report = export(model, tmp_path / "files", formats=("onnx",), **options)
    by_hand = 8 * 12 * 4 * 27 + 8 * 12 * 5 * (9 * 4) + 16 * 24 * 2 * 5
    assert report.manifest["files"]["model.onnx"]["macs"] == by_hand
    assert count_macs(tmp_path / "files" / "model.onnx", (8, 12)) == by_hand / 4


def test_attention_in_an_onnx_file(tmp_path):
    image = keras.Input((4, 6, 5), name="image")
    tokens = layers.Reshape((24, 5))(image)
    tokens = layers.MultiHeadAttention(2, 3)(tokens, tokens)
    model = keras.Model(image, layers.Reshape((4, 6, 5))(tokens))
    report = export(model, tmp_path / "files", formats=("onnx",), quantize=(), progress=False)
    by_hand = 4 * 24 * 5 * (2 * 3) + 2 * 2 * 24 * 24 * 3
    assert count_macs(report.files[0]) == by_hand


def test_a_loop_is_not_counted_once():
    @tf.function(input_signature=[tf.TensorSpec((4, 4))], autograph=False)
    def power(x):
        return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y @ x), (0, x))[1]

    assert of_graph(power.get_concrete_function().graph) is None


def test_a_function_counts_as_often_as_it_is_called():
    @tf.function(autograph=False)
    def square(x):
        return x @ x

    @tf.function(input_signature=[tf.TensorSpec((4, 4))], autograph=False)
    def both(x):
        return square(x) + square(2 * x)

    assert of_graph(both.get_concrete_function().graph) == 2 * 4 * 4 * 4


# Billions, counted by hooks on the PyTorch networks (torchvision, segmentation_models_pytorch).
HOOKS = [
    ("SMPUnet", {}, 512, 32.0),
    ("SMPUnet", {}, 480, 28.1),
    ("FCNResNet", {}, 480, 121.6),
    ("SMPDeepLabV3", {"backbone": "resnet50"}, 512, 163.6),
    ("SMPPSPNet", {"backbone": "resnet50"}, 480, 10.6),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "size", "expected"), HOOKS)
def test_networks_count_as_those_of_the_packages(name, options, size, expected):
    model = getattr(models, name)(21, **options)
    assert round(count_macs(model, (size, size)) / 1e9, 1) == expected


@pytest.mark.slow
def test_pspnet_of_the_paper(tmp_path):
    """155.6 at 473, by hooks on the network with a 7x7 stem; in the files as well."""

    def trunk(image):
        return backbones.resnet(image, 50, output_stride=8)

    model = models.PSPNet(21, (473, 473, 3), backbone=trunk)
    assert round(count_macs(model) / 1e9, 1) == 155.6
    report = export(model, tmp_path / "files", quantize=(), progress=False)
    assert {round(count_macs(path) / 1e9, 1) for path in report.files} == {155.6}
