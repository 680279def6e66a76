"""The command line, from a folder of images to scored files, and what it says to bad input."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from keras_seg import data
from keras_seg.cli import main

SIZE = (64, 64)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A data set in two splits."""
    root = tmp_path_factory.mktemp("photos")
    data.write_shapes(root / "train", 8, size=SIZE, seed=0)
    data.write_shapes(root / "val", 4, size=SIZE, seed=1)
    return root


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """The folder of a short training run on it."""
    folder = tmp_path_factory.mktemp("runs") / "photos"
    arguments = ["--epochs", "2", "--batch-size", "4", "--crop", "64", "64", "--set", "filters=4"]
    status = main(
        ["train", "--model", "UNet", "--data", str(photos), "--folder", str(folder), *arguments]
    )
    assert status == 0
    return folder


@pytest.mark.parametrize(
    "command", [[], ["train"], ["predict"], ["evaluate"], ["export"], ["check-data"], ["models"]]
)
def test_help_shows_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "examples:\n  keras-seg" in capsys.readouterr().out


def test_models_lists_every_builder(capsys):
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert "UNet" in printed and "resnet50" in printed


def test_training_leaves_a_whole_run(run):
    names = {path.name for path in run.iterdir()}
    assert {"best.keras", "last.keras", "manifest.json", "history.csv", "previews"} <= names
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["classes"]["names"] == ["background", "circle", "square", "triangle"]


def test_predict_writes_labels_and_overlays(run, photos, tmp_path, capsys):
    images = photos / "val" / "images"
    assert main(["predict", str(run), str(images), "--output", str(tmp_path / "out")]) == 0
    labels = sorted((tmp_path / "out").rglob("*.png"))
    assert len(labels) == 2 * len(list(images.iterdir()))
    assert Image.open(labels[0]).size == SIZE[::-1]


def test_evaluate_prints_and_writes_scores(run, photos, tmp_path, capsys):
    scores = tmp_path / "scores.json"
    arguments = ["evaluate", str(run), "--data", str(photos), "--split", "val", "--flip"]
    assert main([*arguments, "--json", str(scores)]) == 0
    assert "triangle" in capsys.readouterr().out
    written = json.loads(scores.read_text())
    matrix = np.array(written["confusion_matrix"])
    assert matrix.sum() == 4 * SIZE[0] * SIZE[1]
    assert 0 <= written["mean_iou"] <= 1


def test_export_and_evaluate_a_file(run, photos, tmp_path, capsys):
    out = tmp_path / "files"
    arguments = ["export", str(run), "--data", str(photos), "--output", str(out)]
    quick = ["--formats", "tflite", "--quantize", "int8"]
    assert main([*arguments, "--size", "64", "64", *quick]) == 0
    assert "model_int8.tflite" in capsys.readouterr().out
    file = str(out / "model_int8.tflite")
    assert main(["evaluate", file, "--data", str(photos), "--split", "val"]) == 0


def test_check_data_fails_on_a_bad_file(photos, tmp_path, capsys):
    assert main(["check-data", str(photos)]) == 0
    assert main(["check-data", str(tmp_path / "missing")]) == 1
    assert "missing" in capsys.readouterr().out
    bad = tmp_path / "bad"
    data.write_shapes(bad, 3, size=SIZE)
    next((bad / "images").iterdir()).write_bytes(b"not an image")
    assert main(["check-data", str(bad)]) == 1


def test_black_and_white_masks_need_one_option(tmp_path, capsys):
    root = tmp_path / "cells"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for i in range(3):
        white = np.zeros(SIZE, "uint8")
        white[10 * i : 10 * i + 20, 5:30] = 255
        Image.fromarray(white).save(root / "masks" / f"{i}.png")
        Image.fromarray(np.stack([white] * 3, -1)).save(root / "images" / f"{i}.png")
    assert main(["check-data", str(root)]) != 0
    capsys.readouterr()
    assert main(["check-data", str(root), "--mask-values", "0=0", "255=1"]) == 0
    assert "class 1" in capsys.readouterr().out
    assert main(["check-data", str(root), "--mask-values", "white"]) == 2
    assert "VALUE=ID" in capsys.readouterr().err


def file_in_the_way(tmp_path):
    path = pathlib.Path(tmp_path, "file")
    path.write_text("")
    return path / "run"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "Unet"], "Did you mean 'UNet'"),
        (["--model", "PSPNet", "--set", "backbone=resnet51"], "Did you mean 'resnet5"),
        (["--model", "UNet", "--set", "filter=3"], "Did you mean 'filters'"),
        (["--model", "UNet", "--set", "filters"], "NAME=VALUE"),
    ],
)
def test_bad_training_arguments_say_what_is_right(arguments, message, photos, tmp_path, capsys):
    folder = ["--data", str(photos), "--folder", str(tmp_path / "run")]
    assert main(["train", *folder, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.keras"))


def test_a_folder_that_cannot_be_written_stops_before_the_first_step(photos, tmp_path, capsys):
    folder = str(file_in_the_way(tmp_path))
    assert main(["train", "--model", "UNet", "--data", str(photos), "--folder", folder]) == 2
    assert "Cannot write" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "missing.keras", "--data", "{photos}"], "missing.keras"),
        (["predict", "{run}", "missing.png", "--output", "{out}"], "missing.png"),
        (["export", "{run}", "--data", "{photos}", "--output", "{out}"], "size=(H, W)"),
    ],
)
def test_bad_paths_are_named(arguments, message, run, photos, tmp_path, capsys):
    places = {"{run}": str(run), "{photos}": str(photos), "{out}": str(tmp_path / "out")}
    assert main([places.get(argument, argument) for argument in arguments]) == 2
    assert message in capsys.readouterr().err
