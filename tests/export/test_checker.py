"""`check` and the scripts of export/, on files that are right and on files that are not."""

import dataclasses
import pathlib
import runpy
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from keras_seg.cli import main
from keras_seg.export import Bounds, check, export
from keras_seg.utils import read_json

ROOT = pathlib.Path(__file__).parents[2]
SIZE = (8, 12)
NAMES = ("saved_model", "model.tflite", "model.onnx")


def network(seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input((None, None, 3), name="image")
    return keras.Model(image, layers.Conv2D(3, 3, padding="same", name="logits_low")(image))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with `model.keras`, another model, the export `files`, images and masks."""
    root = tmp_path_factory.mktemp("check")
    network().save(root / "model.keras")
    network(1).save(root / "other.keras")
    options = dict(size=SIZE, quantize=(), progress=False)
    export(root / "model.keras", root / "files", **options)
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir()
        for index in range(3):
            shape = SIZE if folder == "masks" else (*SIZE, 3)
            pixels = rng.integers(0, 3 if folder == "masks" else 256, shape, "uint8")
            Image.fromarray(pixels).save(root / folder / f"{index}.png")
    return root


def run_script(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / "export" / name), run_name="__main__")
    return caught.value.code


def test_an_export_is_as_it_was(exported):
    report = check(exported / "files")
    text = str(report)
    assert report.ok and report.rows == [] and "FAIL" not in text
    assert [line.split(":")[0] for line in report.lines] == list(NAMES)
    assert text.count("as it was exported") == 3
    assert text.count("runs and returns logits 1 x 8 x 12 x 3") == 3
    assert "operators for target cpu (CONV_2D 1)" in text


def test_against_the_model(exported):
    report = check(exported / "files", against=exported / "model.keras")
    assert report.ok and [row["file"] for row in report.rows] == ["keras", *NAMES]
    assert all(row["verdict"] == "ok" for row in report.rows[1:])
    assert "note" not in str(report)
    wrong = check(exported / "files" / "model.onnx", against=exported / "other.keras")
    assert not wrong.ok and "FAIL: model.onnx: the largest difference" in str(wrong)
    assert "note: model.onnx was made from another file" in str(wrong)
    loose = check(exported / "files" / "model.onnx", against=network(1), bounds=None)
    assert loose.ok and loose.rows[1]["verdict"] is None


def test_changed_and_missing_files(exported, tmp_path):
    folder = tmp_path / "files"
    shutil.copytree(exported / "files", folder)
    (folder / "model.onnx").unlink()
    content = bytearray((folder / "model.tflite").read_bytes())
    content[100] ^= 1
    (folder / "model.tflite").write_bytes(content)
    report = check(folder)
    assert not report.ok and len(report.problems) == 2
    assert "model.onnx is listed in" in report.problems[0]
    assert "model.tflite is not the file that was exported" in report.problems[1]
    assert report.lines[0].startswith("saved_model: as it was exported")


def test_operators_that_a_target_lacks(exported, tmp_path):
    image = keras.Input((*SIZE, 3), name="image")
    net = keras.Model(image, layers.Conv2D(3, 1)(image))
    options = dict(quantize=(), progress=False, output="labels")
    export(net, tmp_path / "files", formats="tflite", **options)
    assert check(tmp_path / "files").ok
    report = check(tmp_path / "files", target="gpu-delegate")
    assert "ARG_MAX" in str(report) and not report.ok


def test_a_float_file_is_not_held_to_eight_bits(exported):
    report = check(exported / "files" / "model.tflite", target="nnapi-int8")
    assert report.ok and "float32, which nnapi-int8 does not run: held to cpu" in str(report)
    assert "for target cpu (CONV_2D 1)" in str(report)


def test_bad_arguments(exported):
    for options, message in (
        (dict(target="npu"), "Unknown target 'npu'"),
        (dict(images=exported / "images"), "give the Keras model as against"),
        (dict(against=exported / "files" / "model.onnx"), "against must be a Keras model"),
        (dict(against=exported / "none.keras"), "There is no model at"),
    ):
        with pytest.raises(ValueError, match=message):
            check(exported / "files", **options)
    with pytest.raises(ValueError, match="There is no model at"):
        check(exported / "none.tflite")


def test_the_command_takes_every_argument(exported, tmp_path, capsys):
    masks = ("--images", str(exported / "images"), "--labels", str(exported / "masks"))
    command = ["export", str(exported / "model.keras"), "--output", str(tmp_path / "files"), *masks]
    formats = ["--size", "8", "12", "--formats", "tflite", "onnx", "--quantize", "float16"]
    returns = ["--output-kind", "labels", "--confidence", "--dynamic", "batch", "--target", "cpu"]
    words = ["--bounds", "tie=0.02", "difference=2e-3", "--data-name", "Roads", "--licence", "CC0"]
    assert main([*command, *formats, *returns, *words]) == 0
    assert "mean IoU" in capsys.readouterr().out
    found = read_json(tmp_path / "files" / "manifest.json")
    assert [*found["files"]] == ["model.tflite", "model_float16.tflite", "model.onnx"]
    assert found["output"]["name"] == "labels" and found["confidence"]["name"] == "confidence"
    assert found["files"]["model.onnx"]["dynamic"] == ["batch"] and found["target"] == "cpu"
    assert found["data"] == {"name": "Roads", "licence": "CC0"}
    bounds = Bounds(tie=0.02, difference=2e-3)
    assert found["parity"]["bounds"] == dataclasses.asdict(bounds)
    assert found["classes"]["names"][0] == "background"
    (tmp_path / "names.txt").write_text("road\nsky\ntree\n")
    again = [*command, "--size", "8", "12", "--formats", "tflite", "--quantize"]
    assert main([*again, "--classes", str(tmp_path / "names.txt")]) == 0
    named = read_json(tmp_path / "files" / "manifest.json")
    assert named["classes"]["names"] == ["road", "sky", "tree"]
    assert found["parity"]["images"] == 3 and found["parity"]["rows"][0]["mean_iou"] is not None


def test_the_script(exported, monkeypatch, capsys):
    pictures = ("--images", exported / "images", "--labels", exported / "masks")
    against = ("--against", exported / "model.keras", *pictures)
    assert run_script(monkeypatch, "check.py", exported / "files", *against) == 0
    printed = capsys.readouterr().out
    assert "mean IoU" in printed and "as it was exported" in printed
    wrong = ("--against", exported / "other.keras")
    assert run_script(monkeypatch, "check.py", exported / "files", *wrong) == 1
    assert "FAIL: model.tflite" in capsys.readouterr().out
    for arguments, message in (
        (wrong + ("--bounds", "agrement=1"), "Did you mean 'agreement'"),
        (("--against", exported / "model.keras", "--labels", exported / "masks"), "without images"),
        (pictures, "give the Keras model as against"),
        (
            ("--against", exported / "model.keras")
            + ("--images", exported / "masks", "--labels", exported / "images"),
            "RGB",
        ),
    ):
        assert run_script(monkeypatch, "check.py", exported / "files", *arguments) == 2
        assert message in capsys.readouterr().err
    (exported / "masks" / "1.png").rename(exported / "masks" / "b.png")
    assert run_script(monkeypatch, "check.py", exported / "files", *against) == 2
    assert "has no mask for 1.png" in capsys.readouterr().err


def test_the_script_prints_what_it_found_alone(exported):
    command = [sys.executable, ROOT / "export/check.py", exported / "files" / "model.tflite"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0 and found.stdout.startswith("model.tflite: as it was exported")
    assert found.stderr == ""


def test_wide_bounds_of_a_check(exported):
    bounds = Bounds(difference=None, mean_difference=None, agreement=0)
    assert check(exported / "files" / "model.onnx", against=network(1), bounds=bounds).ok
