"""The CRF behind the predictor, and the search for its parameters."""

import dataclasses
import json

import numpy as np
import pytest

from keras_seg.crf import DenseCRF, dense_crf
from keras_seg.data import LabelTable, Sample
from keras_seg.inference import Predictor, evaluate, format_search, predict_folder, tune_crf

CRF = DenseCRF(w1=4, theta_alpha=10, theta_beta=20, theta_gamma=2, iterations=3)


def halves(seed, size=(18, 26)):
    """(image, label): a dark and a bright half; only the image is clear."""
    rng = np.random.default_rng(seed)
    label = np.zeros(size, "uint8")
    label[:, 9 + seed :] = 1
    image = np.where(label == 1, 200, 60)[..., None] + rng.normal(0, 3, (*size, 3))
    return image.round().astype("uint8"), label


def noisy(images):
    """Logits that know the halves a little, with noise that depends on the picture alone."""
    noise = np.random.default_rng(int(images.sum()) % 1000).normal(0, 1.2, images.shape[:3])
    score = (images.mean(axis=-1) - 130) / 70 + noise
    return np.stack([-score, score], axis=-1).astype("float32")


@pytest.fixture
def predictor(fake_runner):
    return Predictor(fake_runner(noisy, classes=2))


class Halves(list):
    table = LabelTable.default(2)


@pytest.fixture
def dataset():
    return Halves(Sample(*halves(seed), f"half {seed}") for seed in range(4))


def test_the_crf_sees_probabilities_at_the_images_size(predictor):
    image, label = halves(0)
    p = predictor.probabilities(image)
    expected = dense_crf(p, image, CRF)
    got = predictor.probabilities(image, crf=CRF)
    np.testing.assert_array_equal(got, expected)
    labels = predictor.predict(image, crf=CRF)
    np.testing.assert_array_equal(labels, expected.argmax(-1))
    assert (p.argmax(-1) == label).mean() < 0.85 and (labels == label).mean() > 0.98
    named = predictor.predict(image, crf="deeplab")
    np.testing.assert_array_equal(named, dense_crf(p, image, "deeplab").argmax(-1))


def test_averages_come_first(predictor):
    image, _ = halves(1)
    for options in ({"flip": True}, {"scales": (1, 2)}, {"flip": True, "average": "logits"}):
        p = predictor.probabilities(image, **options)
        got = predictor.probabilities(image, crf=CRF, **options)
        np.testing.assert_array_equal(got, CRF(p, image))


def test_every_file(files):
    image = np.random.default_rng(3).integers(0, 256, (20, 30, 3)).astype("uint8")
    expected = Predictor(files["model.keras"]).predict(image, crf="pydensecrf")
    for name in ("saved_model", "model.tflite", "model.onnx"):
        got = Predictor(files[name]).predict(image, crf="pydensecrf")
        assert (got == expected).mean() > 0.99
    with pytest.raises(ValueError, match="returns labels, but a CRF refines probabilities"):
        Predictor(files["labels.tflite"], table=LabelTable.default(5)).predict(image, crf="deeplab")


def test_grey(fake_runner):
    image, label = halves(2)
    predictor = Predictor(fake_runner(noisy, classes=2, channels=1))
    assert (predictor.predict(image[..., 0], crf=CRF) == label).mean() > 0.98


def test_unknown_names_stop_before_the_first_image(predictor, tmp_path):
    from PIL import Image

    Image.fromarray(halves(0)[0]).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="Unknown CRF 'deplab'. Did you mean 'deeplab'"):
        predict_folder(predictor, tmp_path / "a.png", tmp_path / "out", crf="deplab")
    assert not (tmp_path / "out").exists()


def test_evaluate_says_which_crf(predictor, dataset):
    result = evaluate(predictor, dataset, crf=CRF, progress=False)
    assert json.loads(json.dumps(result["options"]))["crf"] == dataclasses.asdict(CRF)
    assert result["mean_iou"] > evaluate(predictor, dataset, progress=False)["mean_iou"] + 0.1


GRID = {"w1": (0, 4), "theta_alpha": (2, 10), "theta_beta": 20.0, "crf": CRF, "progress": False}


def test_search_finds_what_evaluate_scores(predictor, dataset):
    result = tune_crf(predictor, dataset, rounds=1, **GRID)
    assert result["images"] == 4 and len(result["settings"]) == 4
    for setting in result["settings"]:
        values = {name: setting[name] for name in ("w1", "theta_alpha", "theta_beta")}
        crf = dataclasses.replace(CRF, **values)
        scored = evaluate(predictor, dataset, crf=crf, progress=False)
        assert setting["mean_iou"] == scored["mean_iou"]
    ious = [setting["mean_iou"] for setting in result["settings"]]
    assert ious == sorted(ious, reverse=True) and result["mean_iou"] == ious[0] > ious[-1]
    assert result["best"]["w1"] == 4 and result["best"]["theta_gamma"] == 2
    plain = evaluate(predictor, dataset, progress=False)["mean_iou"]
    assert result["mean_iou_without"] == plain
    printed = format_search(result)
    assert f"{plain:.4f}" in printed and "4 settings on 4 images" in printed


def test_further_rounds_halve_the_steps_around_the_best(predictor, dataset):
    first = tune_crf(predictor, dataset, rounds=1, images=2, **GRID)["best"]
    result = tune_crf(predictor, dataset, rounds=2, images=2, **GRID)
    assert result["images"] == 2
    tried = {(s["w1"], s["theta_alpha"]) for s in result["settings"]}
    around = {
        (w1, alpha)
        for w1 in (first["w1"] - 2, first["w1"], first["w1"] + 2)
        for alpha in (first["theta_alpha"] - 4, first["theta_alpha"], first["theta_alpha"] + 4)
        if w1 > 0 and alpha > 0
    }
    assert tried == {(0, 2), (0, 10), (4, 2), (4, 10)} | around


def test_an_interrupted_search_goes_on(predictor, dataset, tmp_path):
    file = tmp_path / "search.json"
    expected = tune_crf(predictor, dataset, rounds=2, **GRID)
    broken = Halves([*dataset[:3], Sample(dataset[3].image, None, "half 3")])
    with pytest.raises(ValueError, match="half 3: has no label"):
        tune_crf(predictor, broken, rounds=2, file=file, **GRID)
    predictor.runner.seen.clear()
    assert tune_crf(predictor, dataset, rounds=2, file=file, **GRID) == expected
    assert len(predictor.runner.seen) == 1 + 4  # the image that was missing; the second round
    predictor.runner.seen.clear()
    assert tune_crf(predictor, dataset, rounds=2, file=file, **GRID) == expected
    assert not predictor.runner.seen
    with pytest.raises(ValueError, match="search.json is not of this search: other options"):
        tune_crf(predictor, dataset, rounds=2, file=file, flip=True, **GRID)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"theta_alpha": (0, 3)}, "theta_alpha must be a number above 0, got 0"),
        ({"w1": ()}, "w1 needs at least one value"),
        ({"rounds": 0}, "rounds must be a whole number of at least 1, got 0"),
        ({"crf": "none"}, "Unknown CRF 'none'"),
        ({"mode": "slice"}, "Unknown mode 'slice'"),
    ],
)
def test_search_refuses(predictor, dataset, options, message):
    with pytest.raises(ValueError, match=message):
        tune_crf(predictor, dataset, **options)
    assert not predictor.runner.seen
