"""Pictures of scores: right numbers, names that can be read, and what to say without matplotlib."""

import builtins
import itertools

import numpy as np
import pytest
from PIL import Image

from keras_seg.data import LabelTable, Sample
from keras_seg.inference import Predictor, evaluate, plots, save_plots
from keras_seg.utils import read_json, write_json


class Samples(list):
    table = LabelTable(["sky", "road", "car"])


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 8, 9, 3)).astype("uint8")
    labels = np.where(rng.random((2, 8, 9)) < 0.7, images.argmax(-1), 255).astype("uint8")
    labels[labels == 2] = 1
    return Samples(
        Sample(i, t, f"{n}") for n, (i, t) in enumerate(zip(images, labels, strict=True))
    )


@pytest.fixture
def predictor(fake_runner):
    return Predictor(fake_runner(lambda images: images / 64), table=Samples.table)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_pictures_of_an_evaluation(predictor, data, tmp_path):
    result = evaluate(predictor, data, plots=tmp_path / "plots", progress=False)
    names = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert names == ["confusion_matrix.png", "iou.png", "precision_recall.png"]
    for name in names:
        with Image.open(tmp_path / "plots" / name) as picture:
            assert picture.format == "PNG" and min(picture.size) > 150
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    plain = evaluate(predictor, data, progress=False)
    assert result["confusion_matrix"] == plain["confusion_matrix"]
    # Also from the file of the scores, then without curves.
    write_json(tmp_path / "scores.json", plain)
    paths = save_plots(tmp_path, read_json(tmp_path / "scores.json"))
    assert [path.name for path in paths] == ["confusion_matrix.png", "iou.png"]


def test_a_file_of_labels_has_no_curve(fake_runner, data, tmp_path):
    runner = fake_runner(lambda images: images.argmax(-1), labels=True)
    evaluate(Predictor(runner, table=data.table), data, plots=tmp_path, progress=False)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["confusion_matrix.png", "iou.png"]


def test_confusion_matrix():
    matrix = np.array([[38_250, 1750, 0], [0, 0, 0], [1, 0, 2_999]])
    axes = plots._confusion_figure(matrix, ["a", "b", "c"]).axes[0]
    shown = ["95.6%\n38.2k", "4.4%\n1.75k", "", "", "", "", "<0.1%\n1", "", "100.0%\n3k"]
    assert texts(axes) == shown
    assert "grey: no true pixels" in axes.get_title()


def test_bars_are_sorted_and_classes_without_pixels_come_last():
    axes = plots._iou_figure([0.5, None, 0.75], 0.625, ["a", "b", "c"]).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["c", "a", "b"]
    assert texts(axes) == ["0.750", "0.500", "no pixels, true or predicted"]
    assert "mean 0.625" in axes.get_title()


@pytest.mark.parametrize("count", [2, 21, 150])
def test_names_do_not_overlap(count):
    names = [f"a class with number {i}" for i in range(count)]
    figure = plots._confusion_figure(np.eye(count, dtype=int), names)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for labels, low, high in (
        (axes.get_yticklabels()[::-1], "y0", "y1"),
        (axes.get_xticklabels(), "x0", "x1"),
    ):
        boxes = [label.get_window_extent() for label in labels]
        for one, next_one in itertools.pairwise(boxes):
            assert getattr(one, high) <= getattr(next_one, low)


@pytest.mark.parametrize("count", [3, 12])
def test_curves_of_few_and_of_many_classes(count):
    ap = np.full(count, 0.25)
    ap[1] = np.nan
    curves = {
        "recall": np.tile([0.5, 1.0], (count, 1)),
        "precision": np.tile([1.0, 0.5], (count, 1)),
        "average_precision": ap,
        "mean_average_precision": 0.25,
    }
    figure = plots._curves_figure(curves, [f"c{i}" for i in range(count)])
    lines = [line for axes in figure.axes for line in axes.lines]
    assert len(lines) == count - 1
    assert lines[0].get_xydata().tolist() == [[0, 1], [0.5, 1], [1, 0.5]]


def test_what_to_install_is_said_before_the_first_image(predictor, data, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"pip install 'keras-seg\[viz\]'"):
        evaluate(predictor, data, plots=tmp_path / "plots", progress=False)
    assert not predictor.runner.seen and not (tmp_path / "plots").exists()
