"""The page of export/web in headless Chromium, against `Predictor` on the same files.

Needs Node.js 20 with npm's registry, and Chromium (CHROMIUM=path if it is not on the PATH).
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import zipfile

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from PIL import Image

from keras_seg import utils
from keras_seg.data import LabelTable, read_image, shapes
from keras_seg.export import export
from keras_seg.export.arguments import OUTPUTS
from keras_seg.inference import Predictor, overlay
from keras_seg.layers import conv_bn_relu, preprocess, resize_logits
from keras_seg.models import UNet

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
SIZE = (48, 64)
TABLE = LabelTable(
    ("ground", "circle", "square", "triangle"),
    np.array([(10, 20, 30), (200, 40, 0), (0, 180, 90), (90, 60, 250)]),
)
# Of the files' own size, larger with other proportions, smaller, and large enough that the filter
# widens in one direction only.
PICTURES = {"same": SIZE, "larger": (131, 97), "smaller": (33, 41), "wide": (40, 200)}
# The page computes in the same order but not in the same precision as NumPy.
AGREEMENT = 0.999


def program(name, variable):
    found = os.environ.get(variable) or shutil.which(name)
    assert found, f"{name} is needed: install it, or set {variable} to its path."
    return found


def built(root):
    """A copy of export/web below `root`, with its packages."""
    leave_out = shutil.ignore_patterns("node_modules", "dist", "package-lock.json")
    shutil.copytree(ROOT / "export" / "web", root / "export" / "web", ignore=leave_out)
    shutil.copy(ROOT / "LICENSE", root)
    npm = program("npm", "NPM")
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    for command in (install, [npm, "run", "build"]):
        done = subprocess.run(
            command, cwd=root / "export" / "web", capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return root / "export" / "web"


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    return built(tmp_path_factory.mktemp("web"))


class Page:
    """The page with an export's folder behind it, or none."""

    def __init__(self, web):
        self._web = web

    def use(self, folder, *steps):
        """What each of the steps (see drive_web.mjs) gave.

        Fails if the page threw an error or asked any other machine for anything.
        """
        node = program("node", "NODE")
        command = [node, "serve.js", *([str(folder or ""), "0"])]
        with subprocess.Popen(command, cwd=self._web, stdout=subprocess.PIPE, text=True) as server:
            try:
                url = server.stdout.readline().strip()
                assert url.startswith("http://127.0.0.1:"), url
                given = {
                    "web": str(self._web),
                    "chromium": program("chromium", "CHROMIUM"),
                    "url": url,
                    "steps": [["goto"], *steps],
                }
                driver = [node, str(ROOT / "tests" / "export" / "drive_web.mjs")]
                done = subprocess.run(
                    driver,
                    input=json.dumps(given, default=str),
                    capture_output=True,
                    text=True,
                    timeout=600,
                )
            finally:
                server.kill()
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["errors"] == []
        asked = [r for r in found["requests"] if not r.startswith(("blob:", "data:"))]
        assert any("/assets/worker" in request for request in asked)
        assert [request for request in asked if not request.startswith(url)] == []
        return found["results"][1:]


@pytest.fixture(scope="module")
def page(web):
    return Page(web)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """{name: PNG file}."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed, (name, size) in enumerate(PICTURES.items()):
        Image.fromarray(shapes(1, size=size, seed=90 + seed)[0].image).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in PICTURES}


def small_network():
    image = keras.Input((None, None, 3), name="image")
    x = preprocess(image, "imagenet")
    for i, (strides, rate) in enumerate([(2, 1), (2, 1), (1, 2)]):
        x = conv_bn_relu(x, 16, strides=strides, dilation_rate=rate, name=f"conv{i}")
    x = layers.Conv2D(TABLE.num_classes, 1, name="logits_low")(x)
    return keras.Model(image, resize_logits(x, image), name="small")


def trained(model, epochs):
    """A few steps on shapes, so that all classes appear and labels are no ties."""
    data = shapes(48, size=SIZE, seed=5)
    images = np.stack([sample.image for sample in data]).astype("float32")
    labels = np.stack([sample.label for sample in data])
    # Most pixels are ground: weighted down, or a network this young would see nothing else.
    weights = np.where(labels == 0, 0.1, 1.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, jit_compile=False)
    model.fit(images, labels, sample_weight=weights, batch_size=8, epochs=epochs, verbose=0)
    return model


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """{output: folder of an export}."""
    keras.utils.set_random_seed(1)
    model, folder = trained(small_network(), 8), tmp_path_factory.mktemp("exports")
    images = [sample.image for sample in shapes(16, size=SIZE, seed=6)]
    for output in OUTPUTS:
        export(
            model,
            folder / output,
            formats=("tflite", "onnx"),
            quantize=("int8",),
            size=SIZE,
            calibration=images,
            table=TABLE,
            output=output,
            progress=False,
        )
    return {output: folder / output for output in OUTPUTS}


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    """Folder of an export of a slim U-Net."""
    keras.utils.set_random_seed(1)  # with 2 a picture was all ground, by windows of the file's size
    model = trained(UNet(TABLE.num_classes, filters=8, depth=3), 80)
    folder = tmp_path_factory.mktemp("unet") / "files"
    export(
        model,
        folder,
        formats=("tflite", "onnx"),
        quantize=(),
        size=SIZE,
        table=TABLE,
        progress=False,
    )
    return folder


def read_ids(path):
    """The class ids of a label map that the page wrote."""
    picture = np.array(Image.open(path).convert("RGB"))
    assert (picture == picture[..., :1]).all()
    return picture[..., 0]


def compare(page, folder, names, pictures, tmp_path, place="cpu"):
    """Label pictures on the page with files of an export, and with `Predictor`."""
    steps, cases = [("select", "#place", place)], []
    for name in names:
        steps += [("select", "#files", name)]
        for key, picture in pictures.items():
            path = tmp_path / f"{name}_{key}.png"
            steps += [("picture", picture), ("labels", path)]
            cases += [(name, picture, path)]
    page.use(folder, *steps)
    for name, picture, path in cases:
        expected, found = Predictor(folder / name).predict_file(picture), read_ids(path)
        assert len(np.unique(expected)) > 1, "one class everywhere: equal labels would say nothing"
        assert found.shape == expected.shape
        equal = (found == expected).mean()
        case = f"{folder.name}, {name}, {place}, {picture.stem} {expected.shape}"
        print(f"{case}: {equal:.4%} equal labels")
        assert equal >= AGREEMENT, case


# --- the labels are those of Predictor ---


@pytest.mark.parametrize("output", OUTPUTS)
def test_labels_are_those_of_predictor(page, exports, pictures, tmp_path, output):
    compare(page, exports[output], ["model.onnx", "model.tflite"], pictures, tmp_path)


def test_int8(page, exports, pictures, tmp_path):
    compare(page, exports["logits"], ["model_int8.tflite"], pictures, tmp_path)


def test_webgpu(page, exports, pictures, tmp_path):
    """On Chromium's own software GPU: it shows that the labels are right, not how fast they are."""
    folder, names = exports["logits"], ["model.onnx", "model.tflite"]
    steps = [("picture", pictures["same"]), ("select", "#place", "gpu")]
    for name in names:
        steps += [("select", "#files", name), ("read",)]
    states = [result for result in page.use(folder, *steps) if result]
    assert [state["device"] for state in states] == ["onnxruntime-web, GPU", "LiteRT.js, GPU"]
    compare(page, folder, names, pictures, tmp_path, place="gpu")


def test_a_real_network(page, unet, pictures, tmp_path):
    compare(page, unet, ["model.onnx", "model.tflite"], pictures, tmp_path)


def onnx_network(path, size, element, channels=3):
    """A convolution to as many classes as TABLE has: NHWC pixels -> logits."""
    rng = np.random.default_rng(3)
    kernel = rng.normal(0, 1, (TABLE.num_classes, channels, 5, 5)).astype("float32")
    kernel -= kernel.mean(axis=(1, 2, 3), keepdims=True)
    make, of = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        make("Cast", ["image"], ["pixels"], to=onnx.TensorProto.FLOAT),
        make("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        make("Conv", ["planes", "kernel"], ["scores"], pads=[2, 2, 2, 2]),
        make("Transpose", ["scores"], ["logits"], perm=[0, 2, 3, 1]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "convolution",
        [of("image", element, [1, *size, channels])],
        [of("logits", onnx.TensorProto.FLOAT, [1, *size, TABLE.num_classes])],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


@pytest.mark.parametrize("size", [("H", "W"), SIZE], ids=["any", "fixed"])
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("element", ["UINT8", "FLOAT"])
def test_other_inputs(page, pictures, tmp_path, size, channels, element):
    path = tmp_path / "model.onnx"
    onnx_network(path, size, getattr(onnx.TensorProto, element), channels)
    paths = {key: tmp_path / f"{key}.png" for key in pictures}
    steps = [("model", path)]
    for key, picture in pictures.items():
        steps += [("picture", picture), ("labels", paths[key])]
    *_, state = page.use(None, *steps, ("read",))
    shown = "any size" if size == ("H", "W") else "48 × 64"
    kind = "uint8" if element == "UINT8" else "float32"
    color = "RGB" if channels == 3 else "grey"
    assert f"{shown}, {color}, {kind} in, logits out" in state["model"]
    for key, picture in pictures.items():
        expected = Predictor(path).predict_file(picture)
        equal = (read_ids(paths[key]) == expected).mean()
        print(f"{element}, {channels} channels, {shown}, {key}: {equal:.4%} equal labels")
        assert equal >= AGREEMENT, key


def tflite_network(path, calibration=None):
    """Pixels -> labels; uint8 pixels if there are pictures to calibrate on."""
    image = keras.Input((*SIZE, 3), batch_size=1)
    x = layers.Conv2D(8, 5, padding="same", activation="relu")(image)
    model = keras.Model(image, layers.Conv2D(TABLE.num_classes, 1)(x))

    @tf.function(input_signature=[tf.TensorSpec((1, *SIZE, 3), tf.float32, name="image")])
    def labels(image):
        logits = model(image, training=False)
        return {"labels": tf.argmax(logits, axis=-1, output_type=tf.int32)}

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [labels.get_concrete_function()], labels
    )
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.representative_dataset = lambda: ([picture] for picture in calibration)
    path.write_bytes(converter.convert())


def test_pixels_of_a_quantised_input(page, pictures, tmp_path):
    """Calibrated on dark pictures: the numbers that stand for 0..200 are not 0..200."""
    dark = [sample.image[None] * np.float32(200 / 255) for sample in shapes(16, size=SIZE, seed=6)]
    folder = tmp_path / "files"
    folder.mkdir()
    tflite_network(folder / "model.tflite", dark)
    utils.write_json(
        folder / "manifest.json",
        {"keras_seg_manifest": 1, "classes": TABLE.to_json(), "files": {}},
    )
    given = Interpreter(str(folder / "model.tflite")).get_input_details()[0]
    assert given["dtype"] == np.uint8 and given["quantization"][0] < 0.9
    path = tmp_path / "labels.png"
    model_files = ("model", folder / "model.tflite", folder / "manifest.json")
    page.use(None, model_files, ("picture", pictures["larger"]), ("labels", path))
    expected = Predictor(folder / "model.tflite").predict_file(pictures["larger"])
    equal = (read_ids(path) == expected).mean()
    print(f"quantised input: {equal:.4%} equal labels")
    assert equal >= AGREEMENT


# --- what the page shows and saves ---


def test_legend_overlay_and_time(page, exports, pictures, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    first, pointed, state, *_ = [
        result
        for result in page.use(
            exports["logits"],
            ("read",),
            ("picture", pictures["larger"]),
            ("point", 20, 100),
            ("overlay", paths[0]),
            ("labels", paths[3]),
            ("read",),
            ("opacity", 30),
            ("overlay", paths[1]),
            ("click", "input.shown[value='0']"),
            ("overlay", paths[2]),
            ("click", "#repeat"),
            ("wait", 1000),
            ("read",),
        )
        if result is not None
    ]
    image = read_image(pictures["larger"])
    labels = read_ids(paths[3])  # those of `Predictor`, as the tests above show
    assert pointed == f"{TABLE.names[labels[100, 20]]} at 20, 100"

    assert first["files"] == ["model.onnx", "model.tflite", "model_int8.tflite"]
    assert first["model"].startswith("model.onnx, ") and not first["labelled"]
    assert state["labelled"] and state["error"] is None
    entries = {entry["id"]: entry for entry in state["classes"]}
    assert sorted(entries) == list(range(TABLE.num_classes))
    shares = np.bincount(labels.ravel(), minlength=TABLE.num_classes) / labels.size
    for index, entry in entries.items():
        assert entry["name"] == TABLE.names[index]
        assert entry["color"] == "rgb({}, {}, {})".format(*TABLE.colors[index])
        small = 0 < shares[index] < 0.001
        expected = "< 0.1 %" if small else f"{100 * shares[index]:.1f} %"
        assert entry["share"] == expected
    order = [entry["id"] for entry in state["classes"]]
    assert order[0] == shares.argmax()

    # The overlay is `keras_seg.inference.overlay`, pixel for pixel.
    for path, alpha in ((paths[0], 0.5), (paths[1], 0.3)):
        found = np.array(Image.open(path).convert("RGB"))
        np.testing.assert_array_equal(found, overlay(image, labels, TABLE, alpha))
    found = np.array(Image.open(paths[2]).convert("RGB"))
    np.testing.assert_array_equal(found[labels == 0], image[labels == 0])
    rest = labels != 0
    np.testing.assert_array_equal(found[rest], overlay(image, labels, TABLE, 0.3)[rest])

    pattern = r"[\d.]+ ms for the network, [\d.]+ ms with resizing and labels \(first run\)"
    assert re.fullmatch(pattern, state["time"])
    assert "onnxruntime-web, CPU" in state["device"]


def test_the_camera_and_the_sample(page, exports):
    results = page.use(
        exports["labels"],
        ("click", "#camera"),
        ("wait", 1500),
        ("read",),
        ("click", "#camera"),
        ("read",),
        ("click", "#sample"),
        ("read",),
    )
    running, stopped, sample = [result for result in results if result]
    assert running["camera"] == "true" and running["labelled"] and running["error"] is None
    assert stopped["camera"] == "false"
    assert sample["labelled"] and sample["error"] is None


def test_files_are_dropped(page, exports, pictures, tmp_path):
    """The page starts empty; a picture may come before the model."""
    folder = exports["logits"]
    path = tmp_path / "labels.png"
    results = page.use(
        None,
        ("drop", pictures["same"]),
        ("read",),
        ("drop", folder / "model.onnx", folder / "manifest.json"),
        ("labels", path),
        ("read",),
        ("resize", 390, 844),
        ("read",),
    )
    before, after, phone = [result for result in results if result]
    assert before["error"] == "Open a model to label the picture." and not before["labelled"]
    assert {entry["name"] for entry in after["classes"]} == set(TABLE.names)
    assert not after["wider"] and not phone["wider"], "the page scrolls sideways"
    expected = Predictor(folder / "model.onnx").predict_file(pictures["same"])
    assert (read_ids(path) == expected).mean() >= AGREEMENT


def pack(path, target):
    """Copy a model file with a manifest packed in it, as keras_seg.export does."""
    content = path.read_bytes()
    network = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = {"keras_seg_manifest": 1, "classes": TABLE.to_json(), "content": network}
    target.write_bytes(content)
    if path.suffix == ".onnx":
        properties = onnx.ModelProto()
        properties.metadata_props.add(key="another", value="property")
        properties.metadata_props.add(key="keras_seg_manifest", value=json.dumps(manifest))
        with open(target, "ab") as file:
            file.write(properties.SerializeToString())
        keys = [entry.key for entry in onnx.load(str(target)).metadata_props]
        assert keys == ["another", "keras_seg_manifest"]
    else:
        with zipfile.ZipFile(target, "a") as archive:
            archive.writestr("labels.txt", "\n".join(TABLE.names))
            archive.writestr("manifest.json", json.dumps(manifest))


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite"])
def test_a_manifest_in_the_file(page, pictures, tmp_path, name):
    plain, packed = tmp_path / f"plain_{name}", tmp_path / name
    if name == "model.onnx":
        onnx_network(plain, SIZE, onnx.TensorProto.FLOAT)
    else:
        tflite_network(plain)
    pack(plain, packed)
    changed = tmp_path / f"changed_{name}"
    content = bytearray(packed.read_bytes())
    content[len(content) // 3] ^= 1
    changed.write_bytes(content)
    steps = [("picture", pictures["same"]), ("model", packed), ("read",), ("model", changed)]
    good, bad = [result for result in page.use(None, *steps, ("read",)) if result]
    assert good["error"] is None
    assert {entry["name"] for entry in good["classes"]} == set(TABLE.names)
    assert f"changed_{name} cannot be loaded: " in bad["error"]
    assert "SHA-256 differs" in bad["error"] and not bad["labelled"]


# --- what it refuses ---


def test_wrong_files(page, exports, pictures, tmp_path):
    good = exports["logits"]
    content = bytearray((good / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "tampered").mkdir()
    (tmp_path / "tampered" / "model.onnx").write_bytes(content)
    onnx_cut, tflite_cut = tmp_path / "cut.onnx", tmp_path / "cut.tflite"
    onnx_cut.write_bytes((good / "model.onnx").read_bytes()[:5000])
    tflite_cut.write_bytes((good / "model.tflite").read_bytes()[:5000])
    text = tmp_path / "notes.png"
    text.write_text("no picture")
    other = tmp_path / "manifest.json"
    other.write_text('{"name": "an application"}')
    five = tmp_path / "five" / "manifest.json"
    five.parent.mkdir()
    table = LabelTable(("a", "b", "c", "d", "e"))
    utils.write_json(five, {"keras_seg_manifest": 1, "classes": table.to_json(), "files": {}})
    onnx_network(tmp_path / "plain.onnx", SIZE, onnx.TensorProto.FLOAT)
    cases = [
        (("picture", text), r"notes\.png is not a picture that this browser can read"),
        (
            ("model", tmp_path / "tampered" / "model.onnx", good / "manifest.json"),
            r"model\.onnx cannot be loaded: .*SHA-256 differs",
        ),
        (("model", onnx_cut), r"cut\.onnx cannot be loaded: "),
        (("model", tflite_cut), r"cut\.tflite cannot be loaded: "),
        (("model", text), r"notes\.png is no model: choose an \.onnx or a \.tflite file"),
        (("model", good / "model.onnx", other), r"manifest\.json is no manifest of keras_seg"),
        (("model", tmp_path / "plain.onnx", five), r"returns 4 classes, but its manifest names 5"),
    ]
    steps = [("picture", pictures["same"])]
    for step, _ in cases:
        steps += [step, ("read",)]
    # and it goes on working
    steps += [("model", good / "model.tflite", good / "manifest.json"), ("read",)]
    *states, last = [result for result in page.use(good, *steps) if result]
    for state, (step, message) in zip(states, cases, strict=True):
        assert re.search(message, state["error"] or ""), (step, state["error"])
    assert last["error"] is None and last["labelled"]


def test_serving_a_folder_without_an_export(web, tmp_path):
    command = [program("node", "NODE"), "serve.js", str(tmp_path), "0"]
    done = subprocess.run(command, cwd=web, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"{tmp_path} holds no manifest.json" in done.stderr
