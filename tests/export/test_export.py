"""Exported files against the Keras model, each read here without keras_seg."""

import dataclasses
import importlib
import json
import pathlib
import re
import runpy
import sys
import types
import weakref

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image

from keras_seg import utils
from keras_seg.data import LabelTable
from keras_seg.export import Bounds, export, parity
from keras_seg.export import onnx as onnx_file
from keras_seg.export.graph import StaticGraph
from keras_seg.export.pictures import Pictures
from keras_seg.inference import load_runner
from keras_seg.layers import (
    Resize,
    bilinear_upsampling,
    conv_bn_relu,
    preprocess,
    pyramid_pooling,
    resize_logits,
)
from keras_seg.models import inference_model

ROOT = pathlib.Path(__file__).parents[2]
SIZE = (65, 49)
NAMES = ("saved_model", "model.tflite", "model_float16.tflite", "model_int8.tflite", "model.onnx")
TABLE = LabelTable(("red", "green", "blue"), np.eye(3, dtype="uint8") * 200)
CONVOLUTIONS = 1 + 2 + 3 + 1 + 1  # what `network` has


def network(input_shape=(None, None, 3)):
    """A small network with what is hard to convert: dilation, odd pools, both kinds of resize,
    transposed convolution, batch normalisation, dropout, an auxiliary output."""
    image = keras.Input(input_shape, name="image")
    x = preprocess(image, "imagenet")
    x = conv_bn_relu(x, 8, strides=2, name="stem")
    for rate in (2, 4):
        x = conv_bn_relu(x, 8, dilation_rate=rate, name=f"dilated{rate}")
    aux = layers.Conv2D(3, 1, name="aux_conv")(x)
    x = pyramid_pooling(x, (1, 2, 3), 4)
    x = Resize(size=(21, 17), name="half_pixel")(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="middle")(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Conv2DTranspose(8, 4, strides=2, padding="same", use_bias=False, name="up")(x)
    x = layers.BatchNormalization(name="up_bn")(x)
    x = layers.Conv2D(3, 1, name="low")(x)
    x = bilinear_upsampling(x, 3, 2, name="bilinear")
    logits = resize_logits(x, image, align_corners=True)
    return keras.Model(image, {"logits": logits, "aux": aux}, name="net")


def pictures(count, size=SIZE, seed=0):
    """Noisy blocks of colour, and which channel is the strongest in each."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (count, 5, 5)).repeat(32, 1).repeat(32, 2)[:, : size[0], : size[1]]
    images = 60 + 120 * np.eye(3)[labels] + rng.normal(0, 15, (*labels.shape, 3))
    return np.clip(images, 0, 255).astype("uint8"), labels.astype("uint8")


@pytest.fixture(scope="module")
def model():
    """`network`, trained for a few steps, so that its labels are no ties."""
    keras.utils.set_random_seed(0)
    net = network()
    images, labels = pictures(64)
    student = keras.Model(net.input, net.output["logits"])
    student.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    student.fit(images.astype("float32"), labels, batch_size=16, epochs=15, verbose=0)
    return net


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """(report, images) of an export of every format."""
    folder = tmp_path_factory.mktemp("export") / "files"
    images, labels = pictures(6, seed=2)
    report = export(
        model,
        folder,
        size=SIZE,
        calibration=pictures(32, seed=1)[0],
        images=images,
        labels=list(labels),
        table=TABLE,
        progress=False,
    )
    return report, images.astype("float32"), labels


def run_file(path, image):
    """The output of one image, through the runtime's own interface."""
    if path.suffix == ".onnx":
        return onnxruntime.InferenceSession(str(path)).run(["logits"], {"image": image})[0]
    if path.suffix == ".tflite":
        interpreter = tf.lite.Interpreter(str(path))
        interpreter.allocate_tensors()
        (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
        assert given["dtype"] == np.float32
        interpreter.set_tensor(given["index"], image)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    return signature(image=tf.constant(image))["logits"].numpy()


# --- the files ---


@pytest.mark.parametrize("name", NAMES)
def test_the_file_computes_what_the_model_computes(exported, model, name):
    report, images, labels = exported
    expected = model(images, training=False)["logits"].numpy()
    found = np.concatenate([run_file(report.folder / name, image[None]) for image in images])
    assert found.shape == (6, *SIZE, 3)
    difference = np.abs(found - expected).max() / expected.std()
    agreement = (found.argmax(-1) == expected.argmax(-1)).mean()
    if name in ("saved_model", "model.tflite", "model.onnx"):
        assert difference < 1e-4
    if name == "model_int8.tflite":
        assert (found.argmax(-1) == labels).mean() > (expected.argmax(-1) == labels).mean() - 0.01
    else:
        assert agreement >= 0.999

    # and the report says the same
    row = next(row for row in report.rows if row["file"] == name)
    assert row["difference"] == pytest.approx(difference, rel=0.05, abs=1e-6)
    assert row["agreement"] == pytest.approx(agreement, abs=1e-4)
    assert row["verdict"] == "ok"


def test_the_model_learnt_its_task(exported):
    """Otherwise the agreement above would say nothing about int8."""
    report, *_ = exported
    assert report.rows[0]["mean_iou"] > 0.8
    assert report.ok


def test_mean_iou_is_that_of_the_labels(exported, model):
    report, images, labels = exported
    predicted = model(images, training=False)["logits"].numpy().argmax(-1)
    each = [
        ((predicted == k) & (labels == k)).sum() / ((predicted == k) | (labels == k)).sum()
        for k in range(3)
    ]
    assert report.rows[0]["iou"] == pytest.approx(each)
    assert report.rows[0]["mean_iou"] == pytest.approx(np.mean(each))
    int8 = next(row for row in report.rows if row["file"] == "model_int8.tflite")
    assert int8["mean_iou_change"] == pytest.approx(int8["mean_iou"] - np.mean(each))


@pytest.mark.parametrize("kept_bytes", [1, 2**29])
def test_one_file_at_a_time_is_open_while_they_are_compared_and_timed(
    exported, model, monkeypatch, kept_bytes
):
    """Also with as many pictures at a time as fit, here one: the figures are those of all."""
    report, images, labels = exported
    opened = weakref.WeakSet()

    def load(path):
        runner = load_runner(path)
        if runner.kind != "keras":
            assert not opened
            opened.add(runner)
        return runner

    monkeypatch.setattr(parity, "_KEPT_BYTES", kept_bytes)
    monkeypatch.setattr(parity, "load_runner", load)
    graph = StaticGraph(inference_model(model), SIZE, 3, "logits")
    rows = parity.compare(
        graph,
        {name: (report.folder / name, "") for name in NAMES},
        Pictures(images, SIZE, 3, "images", list(labels)),
        num_classes=3,
        ignore_label=TABLE.ignore_label,
        tie=Bounds().tie,
    )
    timing = importlib.import_module("keras_seg.export.benchmark")
    monkeypatch.setattr(timing, "load_runner", load)
    paths = {name: report.folder / name for name in NAMES}
    timing.measure_export(graph, paths, images[:1], runs=1, memory=False)
    assert not opened
    for found, row in zip(rows, report.rows, strict=True):
        for name in ("agreement", "clear_agreement", "mean_iou", "mean_iou_change", "iou"):
            assert found[name] == pytest.approx(row[name], abs=1e-9), (row["file"], name)


def test_tflite_holds_folded_builtin_operators(exported):
    operators = exported[0].manifest["operators"]
    for name in ("model.tflite", "model_float16.tflite", "model_int8.tflite"):
        found = operators[name]
        # The transposed convolutions are plain ones and DEPTH_TO_SPACE. For int8 the preprocessing
        # is a convolution too, and the strided one over the image is over places of 2 x 2.
        assert found["CONV_2D"] == CONVOLUTIONS + 2
        assert found["DEPTH_TO_SPACE"] == 2 and "TRANSPOSE_CONV" not in found
        assert found.get("SPACE_TO_DEPTH", 0) == (name == "model_int8.tflite")
        assert found["RESIZE_BILINEAR"] == 5
        foreign = ("FLEX", "Flex", "CUSTOM", "SPACE_TO_BATCH", "VAR_")
        assert not [n for n in found if n.startswith(foreign)]
        # Normalisations are inside the convolutions: what is left is the preprocessing, and the
        # offset of the one behind the transposed convolution.
        assert found.get("MUL", 0) <= 2 and found.get("ADD", 0) <= 2
    assert operators["model_int8.tflite"]["QUANTIZE"] == 1
    assert operators["model_int8.tflite"]["DEQUANTIZE"] == 1


def test_onnx_is_valid_named_and_tidy(exported):
    report, *_ = exported
    proto = onnx.load(str(report.folder / "model.onnx"))
    onnx.checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version == 17
    (image,), (logits,) = proto.graph.input, proto.graph.output
    assert (image.name, logits.name) == ("image", "logits")
    assert [d.dim_value for d in image.type.tensor_type.shape.dim] == [1, *SIZE, 3]
    assert [d.dim_value for d in logits.type.tensor_type.shape.dim] == [1, *SIZE, 3]
    found = report.manifest["operators"]["model.onnx"]
    assert found["Conv"] == CONVOLUTIONS and found["ConvTranspose"] == 2
    assert "Shape" not in found and "BatchNormalization" not in found
    assert "Mul" not in found and found["Add"] == 1  # the mean of the preprocessing
    for node in proto.graph.node:
        if node.op_type == "Resize":
            assert len(node.input) == 4 and not node.input[2] and node.input[3]


def test_quantised_files_are_smaller(exported):
    files = exported[0].manifest["files"]
    assert files["model_int8.tflite"]["bytes"] < files["model.tflite"]["bytes"]
    assert files["model_float16.tflite"]["bytes"] < files["model.tflite"]["bytes"]


def test_the_manifest_says_everything(exported):
    report, *_ = exported
    found = json.loads((report.folder / "manifest.json").read_text("utf-8"))
    assert found == report.manifest
    assert found["keras_seg_manifest"] == 1 and found["kind"] == "export"
    assert LabelTable.from_json(found["classes"]).names == ("red", "green", "blue")
    expected = {"height": 65, "width": 49, "channels": 3, "range": [0, 255], "order": "RGB"}
    assert found["input"] | expected == found["input"]
    expected = {"name": "logits", "dtype": "float32", "shape": [1, *SIZE, 3]}
    assert (
        found["output"] | expected == found["output"]
        and "(1, h, w, K)" in found["output"]["meaning"]
    )
    assert tuple(found["files"]) == NAMES
    assert {p.name for p in report.folder.iterdir()} == {*NAMES, "manifest.json"}
    for name, entry in found["files"].items():
        assert entry["sha256"] == utils.sha256(report.folder / name)
    onnx_bytes = (report.folder / "model.onnx").stat().st_size
    assert found["files"]["model.onnx"]["bytes"] == onnx_bytes
    assert found["versions"]["tensorflow"] == tf.__version__
    assert found["versions"]["onnxruntime"] == onnxruntime.__version__
    assert found["parity"]["ok"] is True and found["parity"]["images"] == 6
    assert found["parity"]["bounds"] == json.loads(json.dumps(dataclasses.asdict(Bounds())))
    assert [row["file"] for row in found["parity"]["rows"]] == ["keras", *NAMES]
    assert str(ROOT) not in json.dumps(found) and str(report.folder) not in json.dumps(found)


def test_the_table_has_a_line_for_each_file(exported):
    text = str(exported[0])
    for name in ("keras", *NAMES):
        assert re.search(rf"^{re.escape(name)} ", text, re.MULTILINE)
    assert "FAIL" not in text


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("sizes", [((6, 3), (10, 59)), ((7, 6), (25, 59)), ((59, 2), (473, 9))])
def test_onnx_resize_keeps_every_row(tmp_path, sizes, align_corners):
    """Float factors lose one: 59 -> 473 gave 472 rows, 6 -> 10 failed the full check."""
    before, after = sizes
    image = keras.Input((*before, 2), name="image")
    x = Resize(size=after, align_corners=align_corners)(image)
    x = Resize(size=before, align_corners=align_corners)(layers.Conv2D(2, 1)(x))
    x = Resize(size=after, align_corners=align_corners)(layers.Conv2D(2, 1)(x))
    net = keras.Model(image, x)
    onnx_file.write(StaticGraph(net, before, 2, "logits"), tmp_path / "resize.onnx")
    values = np.random.default_rng(0).uniform(0, 255, (1, *before, 2)).astype("float32")
    expected = net(values, training=False).numpy()
    found = run_file(tmp_path / "resize.onnx", values)
    assert found.shape == (1, *after, 2)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5


def test_grouped_convolution_and_exact_gelu(tmp_path):
    """What ConvNeXt is made of. tf2onnx leaves both as operators that exist nowhere."""
    image = keras.Input((12, 10, 8), name="image")
    x = keras.layers.Conv2D(8, 7, padding="same", groups=8)(image)
    x = keras.layers.Activation("gelu")(x)
    x = keras.layers.Conv2D(12, 3, padding="same", groups=4)(x)
    x = keras.ops.gelu(x, approximate=False)
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(x))
    report = export(
        model, tmp_path / "out", formats=("tflite", "onnx"), quantize=(), progress=False
    )
    assert report.ok, str(report)


class Shading(layers.Layer):
    """Adds a plane that is no weight, of more values than TensorFlow makes a constant of."""

    def __init__(self):
        super().__init__()
        self.plane = keras.ops.convert_to_tensor(np.random.default_rng(5).normal(size=(12, 16, 1)))
        self.plane = keras.ops.cast(self.plane, "float32")

    def call(self, inputs):
        return inputs + self.plane


def test_tensors_that_a_layer_holds_and_that_are_no_weights(tmp_path):
    """As Keras' Normalization its mean. tf2onnx took them for inputs of the file."""
    image = keras.Input((12, 16, 3), name="image")
    x = layers.Normalization(mean=[100.0, 110.0, 120.0], variance=[50.0, 60.0, 70.0])(image)
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(Shading()(x))
    model = keras.Model(image, layers.Conv2D(3, 1)(x))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 12, 16, 3)).astype("float32")
    report = export(
        model,
        tmp_path / "out",
        formats=("saved_model", "tflite", "onnx"),
        quantize=("int8", "qdq"),
        calibration=pixels,
        images=pixels,
        progress=False,
    )
    assert report.ok, str(report)
    inputs = onnxruntime.InferenceSession(tmp_path / "out/model.onnx").get_inputs()
    assert [found.name for found in inputs] == ["image"]
    expected = model(pixels[:1]).numpy()
    found = run_file(tmp_path / "out/model.onnx", pixels[:1])
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_onnx_merging_respects_shared_and_grouped_kernels(tmp_path):
    """One convolution used twice, followed by different normalisations; a depthwise one."""
    image = keras.Input((12, 10, 4), name="image")
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    a = layers.BatchNormalization(name="a")(shared(image))
    b = layers.BatchNormalization(name="b")(shared(a))
    c = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(b)
    c = layers.BatchNormalization(name="c")(c)
    both = layers.Conv2D(4, 1, name="read_twice")(c)
    out = layers.Add()([layers.BatchNormalization(name="d")(both), both])
    net = keras.Model(image, out)
    rng = np.random.default_rng(0)
    for variable in net.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    onnx_file.write(StaticGraph(net, (12, 10), 4, "logits"), tmp_path / "shared.onnx")
    values = rng.uniform(0, 255, (1, 12, 10, 4)).astype("float32")
    expected = net(values, training=False).numpy()
    found = run_file(tmp_path / "shared.onnx", values)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5


# --- variants ---


def test_labels_as_output(model, tmp_path):
    images, labels = pictures(3, seed=3)
    report = export(
        model,
        tmp_path / "files",
        size=SIZE,
        calibration=images,
        images=images,
        labels=labels,
        output="labels",
        progress=False,
    )
    assert report.ok, str(report)
    expected = {"name": "labels", "dtype": "int32", "shape": [1, *SIZE]}
    assert report.manifest["output"] | expected == report.manifest["output"]
    image = images[:1].astype("float32")
    expected = model(image, training=False)["logits"].numpy().argmax(-1)
    session = onnxruntime.InferenceSession(str(tmp_path / "files" / "model.onnx"))
    (found,) = session.run(["labels"], {"image": image})
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)
    for name in ("model.tflite", "model_int8.tflite"):
        assert report.manifest["operators"][name]["ARG_MAX"] == 1
        found = run_file(tmp_path / "files" / name, image)
        assert found.dtype == np.int32
        assert (found == expected).mean() > 0.99
    assert "ARG_MAX run on the CPU" in str(report)
    assert all(row["difference"] is None for row in report.rows)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision_models_export_in_float32(model, tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    half = network()
    half.set_weights(model.get_weights())
    image = pictures(1, seed=4)[0].astype("float32")
    before = half(image, training=False)["logits"].numpy()

    report = export(
        half,
        tmp_path / "files",
        formats=("tflite", "onnx"),
        size=SIZE,
        quantize=(),
        images=image,
        progress=False,
    )
    assert report.ok, str(report)
    assert report.manifest["model"]["precision"] == policy
    assert report.rows[1]["file"] == "keras, as trained" and report.rows[1]["verdict"] is None
    # Both files are the float32 network with these weights; float16 weights are rounded ones.
    keras.config.set_dtype_policy("float32")
    exact = network()
    exact.set_weights([w.astype("float32") for w in half.get_weights()])
    expected = exact(image, training=False)["logits"].numpy()
    for name in ("model.tflite", "model.onnx"):
        found = run_file(tmp_path / "files" / name, image)
        assert np.abs(found - expected).max() / expected.std() < 1e-4
    # The model itself is as it was.
    assert half.get_layer("stem_conv").compute_dtype in ("float16", "bfloat16")
    np.testing.assert_array_equal(half(image, training=False)["logits"].numpy(), before)


def test_a_run_folder_brings_its_size_and_classes(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    network((32, 40, 3)).save(run / "best.keras")
    content = {"keras_seg_manifest": 1, "kind": "run", "classes": TABLE.to_json()}
    utils.write_json(run / "manifest.json", content)
    report = export(run, tmp_path / "deep" / "er", formats="saved_model", progress=False)
    assert report.ok and report.folder == tmp_path / "deep" / "er"
    assert report.manifest["input"]["height"] == 32 and report.manifest["input"]["width"] == 40
    assert report.manifest["classes"] == json.loads(json.dumps(TABLE.to_json()))
    assert report.manifest["model"]["file"] == "best.keras"
    assert report.manifest["model"]["sha256"] == utils.sha256(run / "best.keras")
    assert "made-up pictures" in str(report)


def test_grey_images_and_smaller_outputs(tmp_path):
    """One channel, and a network of valid convolutions whose map is smaller than its image."""
    image = keras.Input((None, None, 1), name="image")
    x = layers.Conv2D(4, 5, activation="relu")(preprocess(image, "unit"))
    net = keras.Model(image, layers.Conv2D(2, 3)(x))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 30), "uint8")
    labels = (pixels > 128).astype("uint8")
    report = export(
        net,
        tmp_path / "files",
        formats=("tflite",),
        quantize=(),
        size=(20, 30),
        images=pixels[..., None],
        labels=labels,
        progress=False,
    )
    assert report.ok
    assert report.manifest["input"]["order"] == "grey"
    assert report.manifest["output"]["shape"] == [1, 14, 24, 2]
    predicted = net(pixels[..., None].astype("float32")).numpy().argmax(-1)
    truth = labels[:, 3:17, 3:27]
    each = [((predicted == k) & (truth == k)).sum() for k in (0, 1)]
    either = [((predicted == k) | (truth == k)).sum() for k in (0, 1)]
    assert report.rows[0]["mean_iou"] == pytest.approx(np.mean(np.divide(each, either)))


def test_images_come_from_folders_too(model, tmp_path):
    images, _ = pictures(4, size=(98, 130))
    (tmp_path / "photos").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "photos" / f"{index}.png")
    report = export(
        model,
        tmp_path / "files",
        formats=("tflite",),
        quantize="int8",
        size=SIZE,
        calibration=tmp_path / "photos",
        progress=False,
    )
    assert report.manifest["parity"]["images"] == 4
    assert report.manifest["parity"]["source"] == "calibration images"


def test_pictures_keep_image_and_label_together():
    """Scaled in proportion, cut at the centre, labels never mixed."""
    label = np.zeros((40, 100), "uint8")
    label[:, 30:50], label[:, 50:] = 7, 3
    image = np.repeat(label[..., None] * 20, 3, -1)
    found, mask = Pictures([image], (20, 20), 3, "images", [label])[0]
    assert found.shape == (1, 20, 20, 3) and found.dtype == np.float32
    assert mask.shape == (20, 20) and set(np.unique(mask)) == {3, 7}
    np.testing.assert_array_equal(mask, np.repeat([[7] * 10 + [3] * 10], 20, 0))
    np.testing.assert_allclose(found[0, :, 1:9, 0], 140)
    np.testing.assert_allclose(found[0, :, 11:19, 0], 60)


# --- failures ---


def test_a_failure_leaves_nothing_behind(model, tmp_path, monkeypatch, capfd):
    def fail(graph, path, dynamic):
        path.write_bytes(b"half")
        print("what the converter had to say")
        raise RuntimeError("converter died")

    options = dict(size=SIZE, quantize=(), images=pictures(1)[0], progress=False)
    old = export(model, tmp_path / "old", formats="saved_model", **options)
    monkeypatch.setattr(onnx_file, "write", fail)
    for name in ("new", "old"):
        with pytest.raises(RuntimeError, match="converter died") as caught:
            export(model, tmp_path / name, **options)
        assert "what the converter had to say" in caught.value.__notes__[0]
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert {p.name for p in old.folder.iterdir()} == {"saved_model", "manifest.json"}
    assert utils.sha256(old.files[0]) == old.manifest["files"]["saved_model"]["sha256"]


def test_an_earlier_export_is_replaced_and_nothing_else(model, tmp_path):
    options = dict(size=SIZE, quantize=(), images=pictures(1)[0], progress=False)
    folder = tmp_path / "files"
    folder.mkdir()
    export(model, folder, formats="saved_model", **options)
    export(model, folder, formats="tflite", **options)
    assert {p.name for p in folder.iterdir()} == {"model.tflite", "manifest.json"}
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="also notes.txt, which would be lost"):
        export(model, folder, formats="tflite", **options)
    run = tmp_path / "run"
    run.mkdir()
    utils.write_json(run / "manifest.json", {"keras_seg_manifest": 1, "kind": "run"})
    with pytest.raises(ValueError, match="holds no earlier export"):
        export(model, run, formats="tflite", **options)


def test_folders_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file"):
        export(model, tmp_path / "file", size=SIZE, quantize=())
    with pytest.raises(ValueError, match="Cannot write in"):
        export(model, tmp_path / "file" / "below", size=SIZE, quantize=())


IMAGES = pictures(2)[0]
BAD = [
    (dict(formats=("tflit",)), "Unknown format 'tflit'. Did you mean 'tflite'"),
    (dict(formats=()), "formats is empty"),
    (dict(quantize=("int4",)), "Unknown quantization 'int4'. Did you mean 'int8'"),
    (dict(output="label"), "Unknown output 'label'. Did you mean 'labels'"),
    (dict(quantize=("int8",)), "int8 needs images .* calibration=.* quantize="),
    (dict(size=None), r"give size=\(H, W\)"),
    (dict(size=64), "size must be"),
    (dict(size=(64.5, 64)), "size must be two whole numbers"),
    (dict(size=(0, 64)), "size must be two whole numbers of at least 1"),
    (dict(labels=[IMAGES[0][..., 0]]), "labels were given without images"),
    (dict(images=IMAGES, labels=[IMAGES[0][..., 0]]), "images has 2 images and 1 labels"),
    (dict(images=[]), "images is empty"),
    (dict(images=IMAGES[0]), r"images must be an array \(N, H, W, C\)"),
    (dict(images=IMAGES[..., :1]), r"images\[0\] has the shape \(65, 49, 1\)"),
    (dict(images=IMAGES / 255.0), r"images\[0\] has values up to 0.8.*: it looks scaled"),
    (dict(images=IMAGES - 128.0), r"images\[0\] has values from .* plain pixels 0..255"),
    (dict(images=IMAGES + np.nan), r"images\[0\] has values from nan"),
    (dict(images="nowhere"), "images must be a folder of images, or a list"),
    (dict(images=IMAGES, labels=IMAGES[..., 0] * 1.0), "must be whole numbers, got float64"),
    (dict(images=IMAGES, labels=IMAGES[:, 1:, :, 0]), r"shape \(64, 49\), its image \(65, 49\)"),
    (dict(table=LabelTable.default(7)), "The table has 7 classes"),
]


@pytest.mark.parametrize("options,message", BAD, ids=lambda v: v[:30] if type(v) is str else "")
def test_bad_arguments(model, tmp_path, options, message):
    defaults = dict(formats=("tflite",), size=SIZE, quantize=(), progress=False)
    with pytest.raises(ValueError, match=message):
        export(model, tmp_path / "files", **{**defaults, **options})
    assert not (tmp_path / "files").exists()


def test_what_is_put_in_the_folder_during_an_export_is_not_lost(tmp_path):
    folder = tmp_path / "files"

    @keras.saving.register_keras_serializable("test_export")
    class Noting(layers.Layer):
        def call(self, x):
            folder.mkdir(exist_ok=True)
            (folder / "notes.txt").write_text("mine")
            return x

    image = keras.Input((None, None, 3))
    net = keras.Model(image, layers.Conv2D(2, 3, padding="same")(Noting()(image)))
    (folder / "notes.txt").unlink(missing_ok=True)  # of the symbolic call
    with pytest.raises(ValueError, match="is not empty and holds no earlier export"):
        export(net, folder, formats="saved_model", size=SIZE, benchmark=False, progress=False)
    assert [path.name for path in tmp_path.rglob("*")] == ["files", "notes.txt"]


def test_models_that_cannot_be_exported(model, tmp_path):
    options = dict(formats="saved_model", progress=False)
    with pytest.raises(ValueError, match=r"takes images of \(32, 40\) only, got size=\(64, 64\)"):
        export(network((32, 40, 3)), tmp_path / "files", size=(64, 64), **options)
    image = keras.Input((None, None, 3))
    small = keras.Model(image, layers.Conv2D(2, 9)(layers.MaxPooling2D(4)(image)), name="small")
    with pytest.raises(ValueError, match="The model 'small' cannot take images of 20 x 20"):
        export(small, tmp_path / "files", size=(20, 20), **options)
    with pytest.raises(ValueError, match="There is no model at"):
        export(tmp_path / "none.keras", tmp_path / "files", size=SIZE, **options)
    assert not list(tmp_path.iterdir())


def test_an_exported_file_is_no_source(exported, tmp_path):
    with pytest.raises(ValueError, match="is not a Keras model that returns logits"):
        export(exported[0].folder / "model.onnx", tmp_path / "files", size=SIZE, quantize=())


def test_other_backends_and_missing_packages(model, tmp_path, monkeypatch):
    find_spec = onnx_file.importlib.util.find_spec
    monkeypatch.setattr(
        onnx_file.importlib.util,
        "find_spec",
        lambda name, *more: None if name == "tf2onnx" else find_spec(name, *more),
    )
    with pytest.raises(ValueError, match=r"needs tf2onnx: pip install keras-seg\[export\]"):
        export(model, tmp_path / "files", size=SIZE, quantize=())
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="Keras runs on jax here"):
        export(model, tmp_path / "files", size=SIZE, quantize=(), formats="saved_model")


# --- what is printed, the scripts, the guide ---


def test_converters_are_silent(model, tmp_path, capfd):
    options = dict(size=SIZE, quantize=(), images=pictures(1)[0])
    capfd.readouterr()
    export(model, tmp_path / "a", progress=False, **options)
    assert capfd.readouterr() == ("", "")
    export(model, tmp_path / "b", progress=True, **options)
    out, err = capfd.readouterr()
    assert out == ""
    steps = [line.split()[1] for line in err.splitlines()]
    files = ["saved_model", "model.tflite", "model.onnx"]
    assert steps == ["graph", *files, "comparing", "measuring"]


def run_script(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / "export" / name), run_name="__main__")
    return caught.value.code


def test_the_scripts(model, tmp_path, monkeypatch, capsys):
    model.save(tmp_path / "model.keras")
    for name, file in (
        ("to_saved_model.py", "saved_model"),
        ("to_tflite.py", "model_float16.tflite"),
        ("to_onnx.py", "model.onnx"),
    ):
        assert run_script(monkeypatch, name, "--help") == 0
        assert f"python export/{name}" in capsys.readouterr().out
        output = tmp_path / file
        arguments = ("--output", output, "--size", *SIZE)
        assert run_script(monkeypatch, name, tmp_path / "model.keras", *arguments) == 0
        assert (output / file).exists()
        assert file in capsys.readouterr().out
        assert run_script(monkeypatch, name, tmp_path / "none", *arguments) == 2
        assert "There is no model at" in capsys.readouterr().err


def test_the_python_of_the_guide(exported, model, monkeypatch):
    """The lines of export/README.md give the labels of the model."""
    report, images, _ = exported
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError:
        module = types.ModuleType("ai_edge_litert.interpreter")
        module.Interpreter = tf.lite.Interpreter
        monkeypatch.setitem(sys.modules, "ai_edge_litert", types.ModuleType("ai_edge_litert"))
        monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    monkeypatch.chdir(report.folder)
    guide = (ROOT / "export" / "README.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert len(blocks) == 3
    expected = model(images[:1], training=False)["logits"].numpy()[0].argmax(-1)
    scope = {"image": images[0].astype("uint8"), "np": np}
    exec(blocks[0].replace("files/phone/", ""), scope)
    assert scope["label"].dtype == np.uint8
    assert (scope["label"] == expected).mean() > 0.99  # int8
    lines = blocks[1].splitlines()
    seen = []
    for number, line in enumerate(lines, 1):
        if line.startswith("logits ="):
            exec("\n".join(lines[:number]), scope)
            seen.append(np.asarray(scope["logits"])[0].argmax(-1))
    assert len(seen) == 3
    for found in seen:
        np.testing.assert_array_equal(found, expected)
    exec(blocks[2], scope)
    assert scope["names"] == ["red", "green", "blue"]
    assert scope["colors"] == TABLE.colors.tolist()


@pytest.mark.parametrize("size", range(190, 210))
def test_pictures_of_sizes_that_do_not_divide_evenly(size):
    """(size + 20) / size times size is a hair more than size + 20 in floating point for some."""
    picture = np.full((size + 20, size + 20, 1), 7, "uint8")
    found, _ = Pictures([picture], (size, size), 1, "images")[0]
    assert found.shape == (1, size, size, 1) and (found == 7).all()
