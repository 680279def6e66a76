"""What exported files say of themselves, read here without keras_seg, and changed files refused."""

import json
import shutil
import struct
import warnings
import zipfile

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers

from keras_seg import utils
from keras_seg.data import LabelTable
from keras_seg.export import export
from keras_seg.inference import Predictor, load_runner
from keras_seg.inference.manifest import checked_manifest, packed_manifest

SIZE = (6, 10)
NAMES = ("saved_model", "model.tflite", "model.onnx")
TABLE = LabelTable(("road", "sky", "tree"), [[128, 64, 128], [70, 130, 180], [107, 142, 35]])
# The public schemas, fields in their order: tensorflow/lite/schema/schema.fbs (Model, Metadata,
# Buffer) and tflite-support's metadata_schema.fbs. "*" is a list, "union" two fields.
SCHEMA = {
    "Model": "version:I operator_codes subgraphs description:s buffers:*Buffer metadata_buffer "
    "metadata:*Metadata",
    "Buffer": "data:bytes",
    "Metadata": "name:s buffer:I",
    "ModelMetadata": "name:s description:s version:s subgraph_metadata:*SubGraphMetadata author:s "
    "license:s associated_files:*AssociatedFile min_parser_version:s",
    "SubGraphMetadata": "name:s description:s inputs:*TensorMetadata outputs:*TensorMetadata",
    "TensorMetadata": "name:s description:s dimension_names content:Content "
    "process_units:*ProcessUnit stats:Stats associated_files:*AssociatedFile",
    "Content": "type:B properties:ImageProperties",
    "ImageProperties": "color_space:B default_size:ImageSize",
    "ImageSize": "width:I height:I",
    "ProcessUnit": "type:B options:NormalizationOptions",
    "NormalizationOptions": "mean:*f std:*f",
    "Stats": "max:*f min:*f",
    "AssociatedFile": "name:s description:s type:B",
}


def decode(data, table, position=None):
    """A table of a flatbuffer as a dict, by `SCHEMA`."""

    def number(form, at):
        return struct.unpack_from("<" + form, data, at)[0]

    def follow(at):
        return at + number("I", at)

    def text(at):
        return bytes(data[at + 4 : at + 4 + number("I", at)])

    def value(kind, at):
        if kind in ("I", "B", "f"):
            return number(kind, at)
        at = follow(at)
        if kind == "s":
            assert data[at + 4 + number("I", at)] == 0
            return text(at).decode()
        if kind == "bytes":
            return text(at)
        if kind.startswith("*"):
            items = range(at + 4, at + 4 + 4 * number("I", at), 4)
            return [value(kind[1:], item) for item in items]
        return decode(data, kind, at) if kind else None

    position = follow(0) if position is None else position
    layout = position - number("i", position)
    found = {}
    for index, field in enumerate(SCHEMA[table].split()):
        name, _, kind = field.partition(":")
        at = 4 + 2 * index
        offset = number("H", layout + at) if at < number("H", layout) else 0
        if offset:
            found[name] = value(kind, position + offset)
    return found


def tflite_metadata(path):
    """The model's metadata entries, and the decoded `ModelMetadata`."""
    model = decode(path.read_bytes(), "Model")
    entries = {entry["name"]: entry["buffer"] for entry in model["metadata"]}
    content = model["buffers"][entries["TFLITE_METADATA"]]["data"]
    assert content[4:8] == b"M001"  # the schema's file identifier
    return entries, decode(content, "ModelMetadata")


def network():
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3), name="image")
    return keras.Model(image, layers.Conv2D(3, 3, padding="same", name="logits_low")(image))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The report of an export of a run that says what it was trained on."""
    run = tmp_path_factory.mktemp("run")
    network().save(run / "best.keras")
    data = {"name": "Roads", "licence": "CC BY 4.0"}
    content = {"keras_seg_manifest": 1, "kind": "run", "classes": TABLE.to_json(), "data": data}
    utils.write_json(run / "manifest.json", content)
    return export(run, run / "files", size=SIZE, quantize=(), progress=False)


@pytest.fixture
def lone(exported, tmp_path):
    """A function that copies one of the files to a place without a manifest."""

    def copy(name):
        source = exported.folder / name
        copy_ = shutil.copytree if source.is_dir() else shutil.copy
        return tmp_path / copy_(source, tmp_path / name)

    return copy


def flip(path, position):
    """Change one bit of the byte at a position, counted from the end where negative."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_tflite_metadata_by_the_public_schema(exported):
    entries, found = tflite_metadata(exported.folder / "model.tflite")
    assert "min_runtime_version" in entries  # the converter's own entries stay
    assert found["name"] == exported.manifest["model"]["name"]
    assert found["license"] == "CC BY 4.0" and "Roads" in found["description"]
    (graph,) = found["subgraph_metadata"]
    (image,), (logits,) = graph["inputs"], graph["outputs"]
    assert image["name"] == "image" and logits["name"] == "logits"
    assert image["content"]["type"] == 2  # ImageProperties, in RGB
    assert image["content"]["properties"]["color_space"] == 1
    assert image["content"]["properties"]["default_size"] == {"width": 10, "height": 6}
    (unit,) = image["process_units"]
    assert unit == {"type": 1, "options": {"mean": [0.0], "std": [1.0]}}  # NormalizationOptions
    assert image["stats"] == {"max": [255.0], "min": [0.0]}
    (labels,) = logits["associated_files"]
    assert (labels["name"], labels["type"]) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS
    assert [file["name"] for file in found["associated_files"]] == ["manifest.json"]


def test_tflite_files_end_with_an_archive(exported):
    with zipfile.ZipFile(exported.folder / "model.tflite") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["labels.txt", "manifest.json"]
        assert all(item.compress_type == zipfile.ZIP_STORED for item in archive.infolist())
        assert archive.read("labels.txt") == b"road\nsky\ntree\n"
        packed = json.loads(archive.read("manifest.json"))
    for key in ("classes", "input", "output", "data", "model", "versions"):
        assert packed[key] == exported.manifest[key]
    assert packed["parity"]["bounds"] == exported.manifest["parity"]["bounds"]
    assert [row["file"] for row in packed["parity"]["rows"]] == ["keras", "model.tflite"]


def test_outputs_of_several_kinds(tmp_path):
    """Labels are values, not an axis; the confidence has no labels."""
    report = export(
        network(),
        tmp_path / "files",
        formats="tflite",
        size=SIZE,
        quantize=(),
        output="labels",
        confidence=True,
        table=TABLE,
        progress=False,
    )
    entries, found = tflite_metadata(report.folder / "model.tflite")
    labels, confidence = found["subgraph_metadata"][0]["outputs"]
    assert (labels["name"], confidence["name"]) == ("labels", "confidence")
    assert labels["associated_files"][0]["type"] == 3  # TENSOR_VALUE_LABELS
    assert "associated_files" not in confidence and "license" not in found
    assert report.manifest["data"] == {"name": None, "licence": None}
    assert "not stated in the files; give data_name=..., licence=..." in str(report)


def test_every_runtime_still_computes_the_same(exported):
    image = np.random.default_rng(0).uniform(0, 255, (1, *SIZE, 3)).astype("float32")
    expected = load_runner(exported.folder.parent).run(image)

    def run_tflite(Interpreter):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interpreter = Interpreter(str(exported.folder / "model.tflite"))
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    from ai_edge_litert.interpreter import Interpreter

    session = onnxruntime.InferenceSession(str(exported.folder / "model.onnx"))
    signature = tf.saved_model.load(str(exported.folder / "saved_model")).signatures
    for found in (
        run_tflite(Interpreter),
        run_tflite(tf.lite.Interpreter),
        session.run(["logits"], {"image": image})[0],
        signature["serving_default"](image=tf.constant(image))["logits"].numpy(),
    ):
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_onnx_metadata(exported):
    path = exported.folder / "model.onnx"
    proto = onnx.load(str(path))
    onnx.checker.check_model(proto, full_check=True)
    assert proto.producer_name == "keras_seg"
    assert proto.producer_version == exported.manifest["versions"]["keras_seg"]
    # as a runtime reads it
    found = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert json.loads(found["names"]) == ["road", "sky", "tree"]
    assert json.loads(found["colors"]) == TABLE.colors.tolist()
    assert json.loads(found["input"]) == exported.manifest["input"]
    assert json.loads(found["output"]) == exported.manifest["output"]
    assert json.loads(found["data"]) == {"name": "Roads", "licence": "CC BY 4.0"}
    assert json.loads(found["source_sha256"]) == utils.sha256(exported.folder.parent / "best.keras")


def test_saved_model_assets(exported):
    extra = exported.folder / "saved_model" / "assets.extra"
    assert (extra / "labels.txt").read_text() == "road\nsky\ntree\n"
    assert json.loads((extra / "manifest.json").read_text())["classes"] == TABLE.to_json()


@pytest.mark.parametrize("name", NAMES)
def test_a_lone_file_knows_its_classes(lone, name):
    predictor = Predictor(lone(name))
    assert predictor.table == TABLE
    assert predictor.runner.manifest["data"]["name"] == "Roads"


def test_files_of_other_tools_have_no_manifest(exported, tmp_path):
    """Nothing packed, or an archive of something else."""
    proto = onnx.load(str(exported.folder / "model.onnx"))
    del proto.metadata_props[:]
    onnx.save(proto, str(tmp_path / "plain.onnx"))
    assert Predictor(tmp_path / "plain.onnx").table == LabelTable.default(3)
    with zipfile.ZipFile(exported.folder / "model.tflite") as archive:
        start = min(item.header_offset for item in archive.infolist())
    plain = (exported.folder / "model.tflite").read_bytes()[:start]
    (tmp_path / "plain.tflite").write_bytes(plain)
    assert Predictor(tmp_path / "plain.tflite").table == LabelTable.default(3)
    with zipfile.ZipFile(tmp_path / "plain.tflite", "a") as archive:
        archive.writestr("labelmap.txt", "road")
    assert Predictor(tmp_path / "plain.tflite").table == LabelTable.default(3)
    (tmp_path / "rubbish.onnx").write_bytes(b"\xff" * 99)
    assert checked_manifest(tmp_path / "rubbish.onnx") == {}


def test_one_byte_anywhere_is_found(exported, tmp_path):
    """In each file of the folder: the first, the last, and others between them."""
    folder = tmp_path / "files"
    shutil.copytree(exported.folder, folder)
    rng, count = np.random.default_rng(0), 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.parent != folder):
        for position in {0, -1, *rng.integers(0, path.stat().st_size, 3).tolist()}:
            flip(path, position)
            with pytest.raises(ValueError, match="saved_model is not the file that was exported"):
                checked_manifest(folder / "saved_model")
            flip(path, position)
            count += 1
    for name in ("model.tflite", "model.onnx"):
        size = (folder / name).stat().st_size
        for position in {0, -1, *rng.integers(0, size, 30).tolist()}:
            flip(folder / name, position)
            with pytest.raises(ValueError, match=f"{name} is not the file that was exported"):
                checked_manifest(folder / name)
            flip(folder / name, position)
            count += 1
    assert count > 70
    for name in NAMES:
        assert checked_manifest(folder / name)["classes"] == TABLE.to_json()


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_file_is_not_loaded(exported, tmp_path, name):
    folder = tmp_path / "files"
    shutil.copytree(exported.folder, folder)
    path = folder / name
    expected = exported.manifest["files"][name]["sha256"]
    flip(path / "fingerprint.pb" if path.is_dir() else path, 8)
    found = utils.sha256(path)
    for load in (load_runner, Predictor):
        with pytest.raises(ValueError) as caught:
            load(path)
        text = str(caught.value)
        assert str(path) in text and found[:12] in text and expected[:12] in text
        assert "Export it again" in text and "manifest.json" in text


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_network_is_found_without_the_manifest(lone, name):
    """By the SHA-256 of the network that is packed in the file."""
    path = lone(name)
    changed = path / "saved_model.pb" if path.is_dir() else path
    flip(changed, 40)
    with pytest.raises(ValueError, match=f"{name} is not the file .* packed in {name} says"):
        Predictor(path)
    flip(changed, 40)
    Predictor(path)


def test_a_damaged_packed_manifest_is_found(lone):
    """The archive has a checksum of it."""
    path = lone("model.tflite")
    flip(path, path.read_bytes().rindex(b'"road"') + 2)
    with pytest.raises(ValueError, match="model.tflite was damaged or changed"):
        Predictor(path)


@pytest.mark.parametrize("name", NAMES)
def test_one_byte_of_what_is_packed_is_found(exported, lone, name):
    """The archive's own records too, and the bytes that no reader looks at."""
    path = lone(name)
    if path.is_dir():
        files = [(file, 0) for file in sorted((path / "assets.extra").iterdir())]
        assert len(files) == 3
    else:
        files = [(path, packed_manifest(path)["content"]["bytes"])]
    rng, count = np.random.default_rng(0), 0
    for file, start in files:
        end = file.stat().st_size
        ends = [*range(start, start + 40), *range(max(start, end - 200), end)]
        for position in {*ends, *rng.integers(start, end, 60).tolist()} & {*range(start, end)}:
            flip(file, position)
            with pytest.raises(ValueError, match=f"{name} (was damaged|is not the file)"):
                checked_manifest(path)
            flip(file, position)
            count += 1
    assert count > 200
    assert checked_manifest(path)["classes"] == TABLE.to_json()


def test_a_file_taken_out_of_the_manifest_is_loaded(exported, tmp_path):
    """As the message says: its own manifest then has to go too."""
    folder = tmp_path / "files"
    shutil.copytree(exported.folder, folder)
    proto = onnx.load(str(folder / "model.onnx"))
    del proto.metadata_props[:]
    onnx.save(proto, str(folder / "model.onnx"))
    with pytest.raises(ValueError, match="take its entry out of `files` in manifest.json"):
        Predictor(folder / "model.onnx")
    content = json.loads((folder / "manifest.json").read_text())
    del content["files"]["model.onnx"]
    utils.write_json(folder / "manifest.json", content)
    assert Predictor(folder / "model.onnx").table == TABLE
