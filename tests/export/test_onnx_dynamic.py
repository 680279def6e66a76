"""ONNX files of an open number of images and an open size."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers
from test_contract import ROWS, shake

from keras_seg.export import export, onnx_dynamic, parity
from keras_seg.export import onnx as onnx_file
from keras_seg.export.graph import StaticGraph
from keras_seg.inference import Predictor, load_runner
from keras_seg.layers import (
    PadToStep,
    Resize,
    conv_bn_relu,
    preprocess,
    pyramid_pooling,
    resize_logits,
)

SIZE = (32, 40)


def network(input_shape=(None, None, 3)):
    """What depends on the size: strides, dilation, pools of a grid, padding, resizes to another."""
    image = keras.Input(input_shape, name="image")
    x = PadToStep(8, 1, name="pad")(preprocess(image, "imagenet"))
    x = conv_bn_relu(x, 6, strides=2, name="stem")
    skip = x
    x = layers.MaxPooling2D(2, padding="same")(x)
    x = conv_bn_relu(x, 6, dilation_rate=2, name="dilated")
    x = layers.DepthwiseConv2D(3, padding="same", dilation_rate=2, name="depthwise")(x)
    x = pyramid_pooling(x, (1, 2, 3), 2)
    x = Resize(size=(7, 9), name="fixed")(x)
    x = layers.Conv2DTranspose(6, 4, strides=2, padding="same", name="up")(x)
    x = layers.Add()([Resize(name="like_skip")(x, skip), skip])
    x = layers.Conv2D(3, 1, name="logits_low")(x)
    return keras.Model(image, resize_logits(x, image, align_corners=True), name="net")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return network()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dynamic") / "out"
    return export(
        model,
        folder,
        formats="onnx",
        size=SIZE,
        quantize=(),
        dynamic=("batch", "size"),
        confidence=True,
        progress=False,
    )


@pytest.mark.parametrize("shape", [(1, 32, 40), (2, 37, 51), (3, 59, 23), (1, 64, 33)])
def test_any_number_of_images_of_any_size(exported, model, shape):
    image = np.random.default_rng(0).uniform(0, 255, (*shape, 3)).astype("float32")
    session = onnxruntime.InferenceSession(str(exported.files[0]))
    logits, confidence = session.run(["logits", "confidence"], {"image": image})
    wanted = np.asarray(model(image, training=False))
    assert logits.shape == wanted.shape
    assert np.abs(logits - wanted).max() / wanted.std() < 1e-4
    shares = np.exp(wanted - wanted.max(-1, keepdims=True))
    np.testing.assert_allclose(confidence, 1 / shares.sum(-1), atol=1e-5)


def test_the_file_names_its_open_dimensions_and_resizes_to_sizes(exported):
    proto = onnx.load(str(exported.files[0]))
    onnx.checker.check_model(proto, full_check=True)
    (image,) = proto.graph.input
    dims = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]
    assert dims == ["batch", "height", "width", 3]
    first = [o.type.tensor_type.shape.dim[0].dim_param for o in proto.graph.output]
    assert first == ["batch", "batch"]
    resizes = [node for node in proto.graph.node if node.op_type == "Resize"]
    # Three from the pyramid's grids, two within, one to the image.
    assert len(resizes) == 6 and all(len(n.input) == 4 and n.input[3] for n in resizes)
    found = [node.op_type for node in proto.graph.node]
    assert found.count("Conv") == 7 and found.count("ConvTranspose") == 1


def test_the_manifest_says_what_is_open_and_where_it_was_tried(exported):
    entry = exported.manifest["files"]["model.onnx"]
    assert entry["dynamic"] == ["batch", "size"]
    shapes = [tuple(tried["shape"]) for tried in entry["shapes"]]
    assert shapes == [(2, 37, 51, 3), (3, 55, 42, 3)]
    assert all(tried["difference"] < 1e-4 for tried in entry["shapes"])


def test_a_predictor_runs_it_at_the_pictures_own_size(exported, model):
    runner = load_runner(exported.files[0])
    assert runner.batch is None and runner.input_size is None
    image = np.random.default_rng(1).integers(0, 256, (45, 61, 3)).astype("uint8")
    for options in ({}, {"flip": True, "scales": (0.75, 1.0)}):
        found = Predictor(exported.files[0]).probabilities(image, **options)
        wanted = Predictor(model).probabilities(image, **options)
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_an_open_batch_alone(model, tmp_path):
    path = tmp_path / "model.onnx"
    onnx_file.write(StaticGraph(model, SIZE, 3, "labels"), path, ("batch",))
    onnx.checker.check_model(onnx.load(str(path)), full_check=True)
    session = onnxruntime.InferenceSession(str(path))
    assert session.get_inputs()[0].shape == ["batch", *SIZE, 3]
    image = np.random.default_rng(0).uniform(0, 255, (3, *SIZE, 3)).astype("float32")
    (labels,) = session.run(["labels"], {"image": image})
    logits = np.asarray(model(image, training=False))
    assert labels.shape == logits.shape[:3]
    assert (labels == logits.argmax(-1)).mean() > 0.999


def test_networks_that_cannot_be_open_say_why(tmp_path):
    options = dict(formats="onnx", quantize=(), progress=False)
    with pytest.raises(ValueError, match=r"built for the size \(32, 40\) only"):
        export(network((*SIZE, 3)), tmp_path / "out", dynamic="size", **options)

    image = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(4, 8, strides=8, name="patches")(image)
    x = FixedPositions(name="positions")(x)
    fixed = keras.Model(image, resize_logits(x, image), name="fixed")
    with pytest.raises(ValueError, match="'fixed' cannot be an ONNX file with dynamic=.'size',.: "):
        export(fixed, tmp_path / "out", size=SIZE, dynamic="size", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("difference", "right"), [(0.002, True), (0.01, False)])
def test_other_sizes_may_differ_by_what_rounding_does_to_the_network(
    exported, model, difference, right
):
    """A reference that moves by 0.001 deviations when pixels are rounded."""
    graph = StaticGraph(model, SIZE, 3, "logits", confidence=True)
    run = parity.run_all(graph, model)

    def reference(images):
        found = run(images)
        rounded = 0.001 * (images != images.round()).any()
        shift = (difference + rounded) * found["logits"].std()
        return {**found, "logits": found["logits"] + shift}

    if right:
        shapes = onnx_dynamic.check(exported.files[0], graph, ("size",), reference)
        assert [shape["difference"] for shape in shapes] == pytest.approx([difference] * 2, rel=0.1)
    else:
        with pytest.raises(ValueError, match="is not what the Keras model gives"):
            onnx_dynamic.check(exported.files[0], graph, ("size",), reference)


@keras.saving.register_keras_serializable("tests")
class FixedPositions(layers.Layer):
    """A weight for each place of a map of 4 x 5, as a vision transformer has it."""

    def build(self, input_shape):
        self.positions = self.add_weight(shape=(4, 5, input_shape[-1]), name="positions")

    def call(self, x):
        return x + self.positions


def test_a_file_that_is_wrong_at_another_size_is_refused(exported, model, tmp_path, monkeypatch):
    def write(graph, path, dynamic):
        proto = onnx.load(str(exported.files[0]))
        last = [node for node in proto.graph.node if node.op_type == "Resize"][-1]
        (mode,) = (a for a in last.attribute if a.name == "coordinate_transformation_mode")
        mode.s = b"half_pixel"
        onnx.save(proto, str(path))

    monkeypatch.setattr(onnx_file, "write", write)
    options = dict(formats="onnx", size=SIZE, quantize=(), confidence=True, progress=False)
    with pytest.raises(ValueError, match="logits of images 2 x 37 x 51 x 3 is not what the Keras"):
        export(model, tmp_path / "out", dynamic=("batch", "size"), **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dynamic": "hight"}, "Unknown dynamic dimension 'hight'.* Known: batch, size"),
        ({"dynamic": "batch", "formats": "tflite"}, "dynamic=.*is about the .onnx file"),
    ],
)
def test_bad_dimensions(model, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export(model, tmp_path / "out", size=SIZE, quantize=(), **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_every_network_of_the_package(tmp_path, row):
    """Compared with Keras at two other shapes by the export itself."""
    model = row.build()
    shake(model, row)
    report = export(
        model,
        tmp_path / "out",
        formats="onnx",
        size=row.sizes[1],
        quantize=(),
        images=row.picture(row.sizes[1]),
        dynamic=("batch", "size"),
        progress=False,
    )
    assert report.ok and len(report.manifest["files"]["model.onnx"]["shapes"]) == 2
