"""Published weights: found by name, checked against their card, read by every builder."""

import json

import keras
import numpy as np
import pytest
from PIL import Image, ImageFilter

from keras_seg import inference, models, weights
from keras_seg.cli import main
from keras_seg.weights import published

CARD = {
    "model": "UNet",
    "num_classes": 2,
    "options": {"filters": 2, "depth": 2},
    "classes": {"names": ["background", "nucleus"]},
    "data": {"name": "made-up pictures", "licence": "CC0-1.0"},
    "use": "any",
    "trained": {"by": "none"},
    "scores": {"on": "nothing"},
}


def network(seed=0):
    keras.utils.set_random_seed(seed)
    return models.UNet(2, filters=2, depth=2)


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """A folder of assets with the weights "cells"."""
    monkeypatch.setattr(published, "ASSETS", tmp_path / "assets")
    weights.publish(network(1), tmp_path / "assets", "cells", **CARD)
    return tmp_path / "assets"


def test_every_weight_that_comes_along_loads_and_has_its_card():
    for name, card in weights.list_published().items():
        model = models.pretrained(name)
        assert model.count_params() == card.parameters
        assert len(card.classes["names"]) == card.num_classes
        assert card.data["name"] and card.data["licence"] and card.use and card.scores


@pytest.fixture(scope="module")
def cells():
    """(a picture as of a fluorescence microscope: dim discs with soft edges, where they are)."""
    y, x = np.mgrid[:160, :200]
    inside = np.zeros(y.shape, bool)
    for top, left, radius in ((30, 40, 12), (80, 60, 15), (120, 150, 10), (50, 140, 14)):
        inside |= (y - top) ** 2 + (x - left) ** 2 < radius**2
    sharp = Image.fromarray(np.where(inside, 60, 10).astype("uint8"))
    soft = np.asarray(sharp.filter(ImageFilter.GaussianBlur(1.5)), "float64")
    grey = soft + np.random.default_rng(0).normal(0, 2, y.shape)
    return np.repeat(grey.clip(0, 255).astype("uint8")[..., None], 3, -1), inside


@pytest.mark.parametrize("kind", ["weights", "tflite"])
def test_nuclei_are_found(cells, kind):
    card = weights.find_published("nuclei")
    network = models.UNet(2, filters=8, weights="nuclei")
    picture, inside = cells
    options = {}
    if kind == "tflite":
        network, options = card.tflite_path, {"mode": "slide"}
    found = inference.Predictor(network).predict(picture, **options) == 1
    assert (found & inside).sum() / (found | inside).sum() > 0.8


def test_nuclei_are_small_enough_for_a_package_and_free_for_every_use():
    card = weights.find_published("nuclei")
    assert card.folder == published.PACKAGE
    assert card.path.stat().st_size + card.tflite_path.stat().st_size < 4 * 2**20
    assert card.data["licence"] == "CC0-1.0"


def test_a_builder_takes_them_by_name(assets):
    model = models.UNet(2, filters=2, depth=2, weights="cells")
    for found, expected in zip(model.weights, network(1).weights, strict=True):
        assert found.dtype == "float32"
        np.testing.assert_array_equal(found, np.asarray(expected).astype("float16"))
    image = np.zeros((1, 16, 16, 3), "float32")
    np.testing.assert_array_equal(models.pretrained("cells")(image), model(image))
    by_path = models.UNet(2, filters=2, depth=2, weights=assets / "cells.weights.h5")
    np.testing.assert_array_equal(by_path(image), model(image))


def test_they_take_half_the_bytes(tmp_path):
    model = models.UNet(2, filters=16, depth=2)
    model.save_weights(tmp_path / "whole.weights.h5")
    half = weights.publish(model, tmp_path, "cells", **CARD).stat().st_size
    saved = (tmp_path / "whole.weights.h5").stat().st_size - half
    assert saved >= 1.9 * model.count_params()  # two bytes a number, but for HDF5's own


def test_another_network_is_told_which_one_it_is(assets):
    with pytest.raises(ValueError, match=r"UNet\(2, filters=2, depth=2, weights='cells'\)"):
        models.UNet(2, filters=4, depth=2, weights="cells")


def test_a_name_that_is_not_here(assets):
    with pytest.raises(ValueError, match="no published weights 'tumours' here: 'cells'"):
        models.UNet(2, weights="tumours")


def test_a_damaged_file_is_refused(assets):
    path = assets / "cells.weights.h5"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not the file that cells.json beside it describes"):
        models.pretrained("cells")
    path.unlink()
    with pytest.raises(ValueError, match="is missing"):
        models.pretrained("cells")


def test_what_float16_cannot_hold_is_not_published(tmp_path):
    model = network()
    model.get_layer("logits").bias.assign([1e6, 0])
    with pytest.raises(ValueError, match="above 65504"):
        weights.publish(model, tmp_path, "cells", **CARD)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="lower-case letters"):
        weights.publish(network(), tmp_path, "../cells", **CARD)


def test_predict_by_name(assets, tmp_path, capsys):
    picture = tmp_path / "picture.png"
    Image.fromarray(np.full((20, 24, 3), 90, "uint8")).save(picture)
    out = tmp_path / "out"
    assert main(["predict", "--weights", "cells", str(picture), "--output", str(out)]) == 0
    label = np.asarray(Image.open(next(out.glob("*.png"))))
    assert label.shape[:2] == (20, 24)
    assert main(["predict", str(picture), "--output", str(out)]) == 2
    assert "either a model or --weights" in capsys.readouterr().err
    with open(assets / "cells.json") as file:
        assert json.load(file)["data"]["licence"] == "CC0-1.0"
