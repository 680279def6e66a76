"""Scores of a model and of each file of it, and folders of predictions."""

import io
import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_seg.data import LabelTable, Sample, read_image, read_mask, shapes
from keras_seg.data.progress import Progress
from keras_seg.inference import Predictor, evaluate, format_scores, overlay, predict_folder
from keras_seg.metrics import (
    boundary_counts,
    boundary_scores,
    merge_results,
    scores,
    trimap_matrices,
)
from keras_seg.utils import read_json, write_json

TABLE = LabelTable(["sky", "road", "car"])


class Samples(list):
    """The least that `evaluate` needs of a data set."""

    table = TABLE


def sample(name, shown, label):
    """A one-line picture whose brightest channels are `shown`, with its true ids."""
    image = (np.eye(3)[[shown]] * 255).astype("uint8")
    return Sample(image, None if label is None else np.array([label], "uint8"), name)


@pytest.fixture
def predictor(fake_runner):
    """The class of a pixel is its brightest channel."""
    return Predictor(fake_runner(lambda images: images / 64), table=TABLE)


def test_scores_sum_over_images_of_any_size_and_leave_ignored_pixels_out(predictor):
    data = Samples([sample("a", [0, 1], [0, 0]), sample("b", [1, 0, 1], [1, 255, 1])])
    result = evaluate(predictor, data, progress=False)
    assert result["confusion_matrix"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert result["iou"] == [1 / 2, 2 / 3, None]  # no car, neither in truth nor in prediction
    assert result["mean_iou"] == pytest.approx(7 / 12)
    assert result["pixel_accuracy"] == 3 / 4
    assert result["classes"] == ["sky", "road", "car"]
    assert result["images"] == 2
    assert result["model"] == {"name": "fake", "kind": "keras"}
    zero = evaluate(predictor, data, absent="zero", progress=False)
    assert zero["mean_iou"] == pytest.approx(7 / 18)


def test_scores_survive_json(predictor, tmp_path):
    data = Samples([sample("a", [0, 1], [0, 0])])
    options = {"mode": "slide", "window": (4, 4), "scales": np.array([1.0, 2.0])}
    result = evaluate(predictor, data, progress=False, **options)
    assert result["options"] == {"mode": "slide", "window": [4, 4], "scales": [1.0, 2.0]}
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    write_json(tmp_path / "scores.json", result)
    assert format_scores(read_json(tmp_path / "scores.json")) == format_scores(result)


def test_parts_that_two_processes_score_add_up(predictor, tmp_path):
    data = [sample("a", [0, 1], [0, 0]), sample("b", [1, 0, 1], [1, 255, 1]), sample("c", [2], [1])]
    for name, part in (("0.json", data[:1]), ("1.json", data[1:])):
        write_json(tmp_path / name, evaluate(predictor, Samples(part), progress=False))
    whole = evaluate(predictor, Samples(data), progress=False)
    merged = merge_results([tmp_path / "0.json", tmp_path / "1.json"])
    assert merged == whole
    assert format_scores(merged) == format_scores(whole)


def test_the_table_of_scores(predictor):
    data = Samples([sample("a", [0, 1], [0, 0]), sample("b", [1, 0, 1], [1, 255, 1])])
    lines = format_scores(evaluate(predictor, data, progress=False)).splitlines()
    assert lines[0].split() == ["class", "iou", "precision", "recall", "f1", "pixels"]
    assert lines[1].split() == ["sky", "0.5000", "1.0000", "0.5000", "0.6667", "2"]
    assert lines[2].split() == ["road", "0.6667", "0.6667", "1.0000", "0.8000", "2"]
    assert lines[3].split() == ["car", "-", "-", "-", "-", "0"]
    assert lines[5].split() == ["mean", "iou", "0.5833"]
    assert lines[-1] == "fake (keras), 2 images"


def picture(name, seed):
    """A picture of 12 x 10 whose label is what the predictor sees, moved by a pixel; and void."""
    rng = np.random.default_rng(seed)
    shown = rng.integers(0, 3, (4, 5)).repeat(3, axis=0).repeat(2, axis=1)
    label = np.roll(shown, 1, axis=0).astype("uint8")
    label[:, 0] = 255
    return Sample((np.eye(3)[shown] * 255).astype("uint8"), label, name)


@pytest.mark.parametrize("void_edges", [True, False])
def test_scores_of_contours(predictor, void_edges):
    data = Samples([picture("a", 0), picture("b", 1)])
    rule = {"void_edges": void_edges}
    options = {"boundary": 1.5, "trimap": [1, 2], **rule}
    result = evaluate(predictor, data, **options, progress=False)
    maps = [(sample.label, sample.image.argmax(-1)) for sample in data]
    expected = boundary_scores([boundary_counts(*pair, 3, 1.5, **rule) for pair in maps])
    assert result["boundary"] == {"tolerance": 1.5, **rule, **expected}
    bands = sum(trimap_matrices(*pair, 3, [1, 2], **rule) for pair in maps)
    assert [band["width"] for band in result["trimap"]] == [1, 2]
    assert [band["mean_iou"] for band in result["trimap"]] == [scores(m)["mean_iou"] for m in bands]
    text = format_scores(result)
    assert f"edge f1 (1.5 px)             {expected['mean_f1']:.4f}" in text
    assert "mean iou, trimap 2 px" in text and text.split()[5:7] == ["edge", "f1"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_average_precision_of_pixels(predictor, fake_runner):
    """A sure pixel that is right and one that is wrong, as sure: precision 1/2 at recall 1."""
    data = Samples([sample("a", [0, 0], [0, 1])])
    result = evaluate(predictor, data, average_precision=True, progress=False)
    assert result["average_precision"] == [0.5, 0.5, None]
    assert result["mean_average_precision"] == 0.5
    assert "mean average precision       0.5000" in format_scores(result)
    runner = fake_runner(lambda images: images.argmax(-1), labels=True)
    with pytest.raises(ValueError, match="fake returns labels; the average precision needs"):
        evaluate(Predictor(runner, table=TABLE), data, average_precision=True, progress=False)
    assert not runner.seen


@pytest.mark.parametrize("wrong", [{"boundary": -1.0}, {"trimap": [0]}])
def test_wrong_options_are_named_before_the_first_image(predictor, wrong):
    with pytest.raises(ValueError, match="^(A tolerance|The width of a band)"):
        evaluate(predictor, Samples([sample("a", [0], [0])]), **wrong, progress=False)
    assert not predictor.runner.seen


def test_each_kind_of_file_gets_the_same_scores(files):
    class Shapes:
        table = LabelTable.default(5)
        data = shapes(3, size=(16, 24))

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return self.data[index]

    results = {
        name: evaluate(Predictor(files[name], table=Shapes.table), Shapes(), progress=False)
        for name in ("model.keras", "saved_model", "model.tflite", "model.onnx", "labels.tflite")
    }
    matrices = [result["confusion_matrix"] for result in results.values()]
    assert np.sum(matrices[0]) == 3 * 16 * 24
    assert all(matrix == matrices[0] for matrix in matrices)
    kinds = [result["model"]["kind"] for result in results.values()]
    assert kinds == ["keras", "saved_model", "tflite", "onnx", "tflite"]


def test_bad_data_is_refused_with_its_name(predictor, fake_runner):
    good = sample("good", [0, 1], [0, 1])

    def refused(samples, model=predictor):
        with pytest.raises(ValueError) as error:
            evaluate(model, Samples(samples), progress=False)
        return str(error.value)

    assert "holds 0 images" in refused([])
    assert "no_label has no label" in refused([good, sample("no_label", [0, 1], None)])
    assert "short: labels (1, 1)" in refused([good, sample("short", [0, 1], [0])])
    assert "strange: 1 pixels of the labels" in refused([good, sample("strange", [0, 1], [0, 7])])
    grey = Sample(np.zeros((2, 2, 1), "uint8"), np.zeros((2, 2), "uint8"), "grey")
    assert "grey: fake takes an image (H, W, 3)" in refused([good, grey])
    five = Predictor(fake_runner(lambda images: images, classes=5))
    message = refused([good], five)
    assert "fake predicts 5 classes" in message and "the data set has 3 (sky, road" in message


def test_progress_is_a_line_per_tenth_where_there_is_no_terminal():
    stream = io.StringIO()
    bar = Progress(40, "evaluate", stream=stream)
    for index in range(40):
        bar.step(f"image {index}")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert "] 40/40, " in lines[-1] and lines[-1].endswith("image 39")
    quiet = io.StringIO()
    Progress(1, "evaluate", show=False, stream=quiet).step()
    assert quiet.getvalue() == ""


def write(path, *shown):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = (np.eye(3)[[shown]] * 255).astype("uint8")
    Image.fromarray(image).save(path)
    return image


def test_a_folder_becomes_label_maps_and_overlays(predictor, tmp_path, capsys):
    first = write(tmp_path / "in" / "one.png", 0, 1, 2)
    write(tmp_path / "in" / "below" / "two.png", 2, 2)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    written = predict_folder(predictor, tmp_path / "in", tmp_path / "out")
    out = tmp_path / "out"
    assert written == [out / "below" / "two_label.png", out / "one_label.png"]
    assert {p.name for p in out.rglob("*.*")} == {
        "one_label.png",
        "one_overlay.png",
        "two_label.png",
        "two_overlay.png",
    }
    assert read_mask(out / "one_label.png", TABLE).tolist() == [[0, 1, 2]]
    np.testing.assert_array_equal(
        read_image(out / "one_overlay.png"), overlay(first, np.array([[0, 1, 2]]), TABLE)
    )
    captured = capsys.readouterr()
    assert captured.out == "" and "2/2" in captured.err


def test_one_image_and_a_list_of_images(predictor, tmp_path):
    write(tmp_path / "one.png", 0, 1)
    write(tmp_path / "two.png", 2)
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    assert predict_folder(predictor, one, tmp_path, progress=False) == [tmp_path / "one_label.png"]
    out = tmp_path / "out"
    written = predict_folder(predictor, [two, one], out, progress=False, flip=True)
    assert written == [out / "two_label.png", out / "one_label.png"]


def test_a_bad_image_does_not_stop_the_others(predictor, tmp_path):
    write(tmp_path / "in" / "good.png", 0, 1)
    (tmp_path / "in" / "bad.png").write_bytes(b"\x89PNG torn")
    with pytest.raises(ValueError, match="1 of 2 images failed(.|\n)*bad.png"):
        predict_folder(predictor, tmp_path / "in", tmp_path / "out", progress=False)
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["good_label.png", "good_overlay.png"]


def test_options_that_do_not_fit_are_refused_once_before_the_first_image(predictor, tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.png", 0, 1)
    with pytest.raises(ValueError, match="^window and stride belong"):
        predict_folder(predictor, tmp_path / "in", tmp_path / "out", mode="whole", stride=3)
    assert not (tmp_path / "out").exists()


def test_inputs_are_never_overwritten_and_nothing_is_begun(predictor, tmp_path):
    write(tmp_path / "in" / "a.png", 0, 1)
    write(tmp_path / "in" / "a_label.png", 1, 1)
    write(tmp_path / "in" / "a.jpg", 1, 1)
    folder, out = tmp_path / "in", tmp_path / "out"
    before = {path: path.read_bytes() for path in folder.iterdir()}

    def refused(inputs, target):
        with pytest.raises(ValueError) as error:
            predict_folder(predictor, inputs, target, progress=False)
        return str(error.value)

    assert "would overwrite the image" in refused(
        [folder / "a.png", folder / "a_label.png"], folder
    )
    assert "in the folder of the images" in refused(folder, folder)
    assert "in the folder of the images" in refused(folder, folder / "results")
    assert "would both become" in refused(folder, out)
    assert "There is no image at" in refused(folder / "absent.png", out)
    assert "list of images is empty" in refused([], out)
    (tmp_path / "empty").mkdir()
    assert "0 images in" in refused(tmp_path / "empty", out)
    assert "Cannot write in" in refused(folder / "a.png", folder / "a_label.png")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not out.exists()


def test_a_keras_model_from_end_to_end(tmp_path):
    data = shapes(2, size=(32, 40))
    image = keras.Input((None, None, 3))
    predictor = Predictor(keras.Model(image, keras.layers.Conv2D(4, 3, padding="same")(image)))
    result = evaluate(predictor, data, progress=False)
    assert np.sum(result["confusion_matrix"]) == result["pixels"] == 2 * 32 * 40
    assert result["classes"] == list(data.table.names)
