"""export/cpp: compiled here, run on exported files, and compared with `Predictor`.

Slow tests, because they need CMake and a C++ compiler; those of onnxruntime also need its headers,
whose folder the environment variable ONNXRUNTIME_INCLUDE names (libonnxruntime-dev of Debian 13;
its 1.21 serves later libraries, and on Debian 12 unpacked with `dpkg -x`). They fail where one of
these is missing.
"""

import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess

import keras
import numpy as np
import onnx
import pytest
from keras import layers
from onnx import TensorProto, helper
from PIL import Image

from keras_seg.data import LabelTable
from keras_seg.export import export
from keras_seg.inference import Predictor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Statistics for quantized inputs"),
]

SOURCE = pathlib.Path(__file__).parents[2] / "export" / "cpp"
SIZE = (48, 64)
NAMES = ("void", "é 道 😀", 'the "sky"', "a\\b/\t", "tree")
TABLE = LabelTable(NAMES, np.arange(15, dtype="uint8").reshape(5, 3) * 17)


def build(folder, *options):
    """The folder of the programs that CMake builds with `options`."""
    for command in (["cmake", "-S", SOURCE, "-B", folder, *options], ["cmake", "--build", folder]):
        made = subprocess.run(command, capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr
    assert "warning" not in made.stdout + made.stderr
    return folder


def package(name):
    return pathlib.Path(importlib.util.find_spec(name).origin).parent


@pytest.fixture(scope="module")
def litert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("litert")
    root = package("ai_edge_litert")
    return build(folder, f"-DLITERT_ROOT={root}") / "segment_litert"


@pytest.fixture(scope="module")
def onnxruntime(tmp_path_factory):
    assert "ONNXRUNTIME_INCLUDE" in os.environ, "set it to the folder of onnxruntime_cxx_api.h"
    folder = tmp_path_factory.mktemp("onnxruntime")
    root = package("onnxruntime") / "capi"
    include = os.environ["ONNXRUNTIME_INCLUDE"]
    options = (f"-DONNXRUNTIME_ROOT={root}", f"-DONNXRUNTIME_INCLUDE={include}")
    return build(folder, *options) / "segment_onnx"


def network(channels=3):
    image = keras.Input((None, None, channels), name="image")
    x = layers.Rescaling(1 / 127.5, -1)(image)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", dilation_rate=2)(x)
    return keras.Model(image, layers.Conv2D(5, 1)(x), name="tiny")


def picture(size, channels=3, seed=0):
    """Smooth colours with noise, (H, W, C)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, channels)).astype("uint8")
    parts = [Image.fromarray(c).resize(size[::-1], 2) for c in np.moveaxis(coarse, 2, 0)]
    noise = rng.normal(0, 10, (*size, channels))
    return np.clip(np.stack(parts, -1) + noise, 0, 255).astype("uint8")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder of exports: logits/ and labels/, with full-integer files, grey/, confidence/."""
    keras.utils.set_random_seed(0)
    root = tmp_path_factory.mktemp("files")
    calibration = [picture(SIZE, seed=seed) for seed in range(8)]
    options = dict(size=SIZE, table=TABLE, progress=False, formats=("tflite", "onnx"))
    net = network()
    for output in ("logits", "labels"):
        folder = root / output
        quantized = dict(quantize=("float16", "int8"), calibration=calibration)
        export(net, folder, output=output, **quantized, **options)
        full_integer(net, folder / "model_uint8.tflite", output, calibration)
    grey = [image[..., :1] for image in calibration]
    export(network(1), root / "grey", images=grey, quantize=(), **options)
    (root / "confidence").mkdir()
    manifest = json.loads((root / "logits" / "manifest.json").read_text())
    del manifest["files"]  # of another model.tflite
    (root / "confidence" / "manifest.json").write_text(json.dumps(manifest))
    with_confidence(root / "confidence" / "model.tflite")
    return root


def full_integer(net, path, output, calibration):
    """uint8 pixels in; uint8 labels, or int8 codes of logits, out."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, *SIZE, 3), tf.float32, "image")])
    def run(image):
        logits = net(image, training=False)
        labels = tf.cast(tf.argmax(logits, -1, output_type=tf.int32), tf.uint8)
        return {output: labels if output == "labels" else logits}

    concrete = run.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], run)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: (
        [image[None].astype("float32")] for image in calibration
    )
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.uint8 if output == "labels" else tf.int8
    path.write_bytes(converter.convert())


def with_confidence(path):
    """A file of two outputs, which the converter puts in the order of their names."""
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 5)).astype("float32")
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec((1, *SIZE, 3), tf.float32, "image")])
    def run(image):
        logits = tf.nn.conv2d(image / 127.5 - 1, kernel, 1, "SAME")
        return {"confidence": tf.reduce_max(tf.nn.softmax(logits), -1), "logits": logits}

    tf.saved_model.save(module, path.with_name("saved_model"), signatures=run)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(path.with_name("saved_model")))
    path.write_bytes(converter.convert())


def run(program, model, image, folder, *options):
    """(label map, mask, what was printed) of an image (H, W, C)."""
    name = "image.ppm" if image.shape[2] == 3 else "image.pgm"
    Image.fromarray(image.squeeze()).save(folder / name)
    command = [program, model, folder / name, folder / "mask.ppm", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    mask, label = (Image.open(folder / f"mask.{kind}") for kind in ("ppm", "pgm"))
    assert (mask.mode, label.mode) == ("RGB", "L")
    return np.asarray(label), np.asarray(mask), done.stdout


def check(program, model, image, folder, *options):
    label, mask, printed = run(program, model, image, folder, *options)
    predictor = Predictor(model)
    average = {} if predictor.runner.outputs_labels else {"average": "logits"}
    expected = predictor.predict(image, sampling="half_pixel", **average)
    if model.stem == "model_int8" and average:
        # Two interpolated sums of int8 logits can be equal but for their last bit.
        scores = predictor.probabilities(image, sampling="half_pixel", **average)
        given = np.take_along_axis(scores, label[..., None].astype("int64"), -1)[..., 0]
        np.testing.assert_allclose(given, scores.max(-1), rtol=1e-6)
        assert (label != expected).mean() < 1e-3
    else:
        np.testing.assert_array_equal(label, expected)
    assert len(np.unique(expected)) >= 3
    np.testing.assert_array_equal(mask, TABLE.colors[label])
    ms = r"\d+\.\d ms"
    assert re.match(rf"load {ms}, first run {ms}, run {ms} at {SIZE[0]} x {SIZE[1]}\n", printed)
    for k in np.unique(label):
        assert f"{100 * (label == k).mean():6.2f} %  {NAMES[k]}\n" in printed
    return label


FILES = ("model", "model_float16", "model_int8", "model_uint8")
SIZES = (SIZE, (97, 40), (20, 131))


@pytest.mark.parametrize("output", ["logits", "labels"])
@pytest.mark.parametrize("name", FILES)
def test_litert_gives_the_labels_of_predictor(litert, files, tmp_path, name, output):
    for size in SIZES:
        image = picture(size, seed=20)
        check(litert, files / output / f"{name}.tflite", image, tmp_path, "--threads", "2")


@pytest.mark.parametrize("output", ["logits", "labels"])
def test_onnxruntime_gives_the_labels_of_predictor(onnxruntime, files, tmp_path, output):
    for size in SIZES:
        image = picture(size, seed=20)
        check(onnxruntime, files / output / "model.onnx", image, tmp_path, "--threads", "2")


def test_grey_pictures_in_litert(litert, files, tmp_path):
    check(litert, files / "grey" / "model.tflite", picture((50, 60), 1), tmp_path)


def test_grey_pictures_in_onnxruntime(onnxruntime, files, tmp_path):
    check(onnxruntime, files / "grey" / "model.onnx", picture((50, 60), 1), tmp_path)


def test_the_confidence_is_not_taken_for_labels(litert, files, tmp_path):
    check(litert, files / "confidence" / "model.tflite", picture(SIZE), tmp_path)


def test_an_onnx_file_of_open_size_gets_the_picture_as_it_is(onnxruntime, files, tmp_path):
    """This one returns the picture's three channels: the label is the strongest colour."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["logits"])],
        "open",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [None, None, None, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, None, None, 3])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "open.onnx")
    classes = {"classes": LabelTable(("r", "g", "b"), TABLE.colors[:3]).to_json()}
    (tmp_path / "manifest.json").write_text(json.dumps(classes))
    image = picture((37, 51))
    label, _, printed = run(onnxruntime, tmp_path / "open.onnx", image, tmp_path)
    np.testing.assert_array_equal(label, image.argmax(-1))
    assert "at 37 x 51" in printed


# --- bad input ---


def fails(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    return done.returncode, done.stderr.splitlines()[-1] if done.stderr else ""


@pytest.fixture
def folder(files, tmp_path):
    """A good model with its manifest and a good picture, to spoil."""
    for name in ("model.tflite", "model.onnx", "manifest.json"):
        shutil.copy(files / "logits" / name, tmp_path)
    Image.fromarray(picture(SIZE)).save(tmp_path / "in.ppm")
    return tmp_path


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def grey(folder):
    Image.fromarray(picture(SIZE)[..., 0]).save(folder / "in.ppm")


def fewer_classes(folder):
    classes = {"classes": LabelTable.default(4).to_json()}
    (folder / "manifest.json").write_text(json.dumps(classes))


BAD = [
    (lambda folder: (folder / "in.ppm").unlink(), "Cannot read .*in.ppm"),
    (
        lambda folder: (folder / "manifest.json").unlink(),
        "Cannot read .*manifest.json, which names",
    ),
    (write("in.ppm", b"\x89PNG\r\n"), "in.ppm is no binary PPM .* or PGM"),
    (write("in.ppm", b"P6\n4 0\n255\n"), "in.ppm does not start with its width, height and 255"),
    (write("in.ppm", b"P6 4 4 65535\n"), "in.ppm does not start with its width, height and 255"),
    (cut("in.ppm"), "in.ppm ends before its last pixel"),
    (grey, r"takes pictures of 3 channels, .*in.ppm has 1"),
    (write("manifest.json", b'{"classes": {"names": ["a", '), "manifest.json is damaged: no valid"),
    (write("manifest.json", b'{"classes": {"names": ["\\x"]}}'), "damaged: no valid JSON at byte"),
    (write("manifest.json", b"{}"), "manifest.json does not have 1 to 255 classes"),
    (fewer_classes, "scores 5 classes, manifest.json names 4"),
]


@pytest.mark.parametrize("spoil,message", BAD, ids=lambda v: v[:40] if type(v) is str else "")
def test_bad_input_in_litert(litert, folder, spoil, message):
    spoil(folder)
    code, line = fails(litert, folder / "model.tflite", folder / "in.ppm", folder / "out.ppm")
    assert code == 1
    assert re.search(message, line)
    assert not (folder / "out.ppm").exists() and not (folder / "out.pgm").exists()


def test_bad_models_in_litert(litert, folder):
    for content in (b"", b"no model at all", (folder / "model.onnx").read_bytes()):
        (folder / "model.tflite").write_bytes(content)
        code, line = fails(litert, folder / "model.tflite", folder / "in.ppm", folder / "out.ppm")
        assert code == 1 and re.search("LiteRT cannot read .*model.tflite", line)
    code, line = fails(litert, folder / "none.tflite", folder / "in.ppm", folder / "out.ppm")
    assert code == 1 and re.search("LiteRT cannot read .*none.tflite", line)


def test_bad_models_in_onnxruntime(onnxruntime, folder):
    for content in (b"", b"no model at all", (folder / "model.tflite").read_bytes()):
        (folder / "model.onnx").write_bytes(content)
        code, line = fails(
            onnxruntime, folder / "model.onnx", folder / "in.ppm", folder / "out.ppm"
        )
        assert code == 1 and "model.onnx" in line
    code, line = fails(onnxruntime, folder / "none.onnx", folder / "in.ppm", folder / "out.ppm")
    assert code == 1 and "none.onnx" in line


def test_bad_command_lines(litert, folder):
    good = (folder / "model.tflite", folder / "in.ppm", folder / "out.ppm")
    bad = [(), good[:2], (*good, "more"), (*good, "--threads", "0"), (*good, "--threads")]
    for arguments in (*bad, (*good[:2], folder / "out.png")):
        code, line = fails(litert, *arguments)
        assert code == 2
        assert re.search(r"usage: .* MODEL IMAGE.ppm OUT.ppm \[--threads N\]", line)
    code, line = fails(litert, *good[:2], folder / "none" / "out.ppm")
    assert code == 1 and re.search("Cannot write .*none/out.pgm", line)
