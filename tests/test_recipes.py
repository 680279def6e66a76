"""Every recipe runs from its first line to its last on made-up pictures."""

import ast
import functools
import importlib.util
import json
import pathlib

import keras
import numpy as np
import pytest
from PIL import Image

from keras_seg import training
from keras_seg.data import open_dataset
from keras_seg.recipe import membrane_scores, score_objects

RECIPES = sorted((pathlib.Path(__file__).parents[1] / "recipes").glob("*.py"))
each_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def siblings(monkeypatch):
    """As when it is started: recipes of one network find the one that they share code with."""
    monkeypatch.syspath_prepend(RECIPES[0].parent)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@each_recipe
def test_smoke(path, tmp_path):
    load(path).main(["--smoke", "--folder", str(tmp_path / "run")])
    written = {p.name for p in (tmp_path / "run-smoke").iterdir()}
    assert {"best.keras", "metrics.json", "history.csv"} <= written
    # The pictures are read from files in the layout of the recipe's data set.
    assert any((tmp_path / "run-smoke-data").iterdir())


def test_nuclei_with_edge_weights(tmp_path):
    recipe = load(RECIPES[0].with_name("unet_nuclei.py"))
    recipe.main(["--smoke", "--edge-weights", "--folder", str(tmp_path / "run")])
    assert len(list((tmp_path / "run-smoke" / "weights").glob("*.npz"))) == 16
    assert (tmp_path / "run-smoke" / "metrics.json").exists()


@each_recipe
def test_the_docstring_tells_command_hardware_published_and_measured(path):
    text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert f"python recipes/{path.name} --data-dir" in text
    assert all(f"\n{part}:" in text for part in ("Hardware", "Published", "Measured"))


def test_a_recipe_goes_on_in_the_stage_that_was_interrupted(tmp_path, monkeypatch):
    recipe = load(RECIPES[0].with_name("fcn_sift_flow.py"))
    command = ["--smoke", "--folder", str(tmp_path / "run")]
    first, second = tmp_path / "run-smoke-32s", tmp_path / "run-smoke"

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    @functools.wraps(training.train)
    def train_stopping(*arguments, folder, **options):
        more = [Stop()] if str(folder) == str(second) else []
        return training.train(*arguments, folder=folder, callbacks=more, **options)

    monkeypatch.setattr("keras_seg.training.stages.train", train_stopping)
    with pytest.raises(KeyboardInterrupt):
        recipe.main(command)
    done = (first / "last.keras").read_bytes()
    assert json.loads((second / "manifest.json").read_text())["state"] == "interrupted"
    monkeypatch.undo()
    monkeypatch.syspath_prepend(RECIPES[0].parent)
    recipe.main(command)
    assert (first / "last.keras").read_bytes() == done
    assert json.loads((second / "manifest.json").read_text())["state"] == "finished"
    assert (second / "test_scores.json").exists()


def test_fcn_32s_fixed_trains_the_score_layer_alone(tmp_path):
    recipe = load(RECIPES[0].with_name("fcn_voc.py"))
    recipe.main(["--smoke", "--fixed", "--folder", str(tmp_path / "run")])
    model = keras.saving.load_model(tmp_path / "run-smoke" / "best.keras")
    assert [v.path.split("/")[0] for v in model.trainable_variables] == ["score_fr"] * 2
    assert not (tmp_path / "run-smoke-32s").exists()


def test_what_a_later_stage_takes_is_checked_before_the_first(tmp_path, capsys):
    folder = tmp_path / "run"
    with pytest.raises(SystemExit):
        load(RECIPES[0].with_name("dilated_voc.py")).main(
            ["--smoke", "--context", "smal", "--folder", str(folder)]
        )
    assert "invalid choice: 'smal'" in capsys.readouterr().err
    with pytest.raises(ValueError, match="--proposals: there is no file forest.yml"):
        load(RECIPES[0].with_name("deconvnet_voc.py")).find_proposals("forest.yml")
    assert not list(tmp_path.iterdir())


def test_data_are_asked_for(capsys):
    with pytest.raises(SystemExit):
        load(RECIPES[0]).main([])
    assert "--data-dir is needed" in capsys.readouterr().err


def test_unet_on_isbi_with_all_it_can_do(tmp_path):
    recipe = load(RECIPES[0].with_name("unet_isbi.py"))
    given = ["--smoke", "--class-weights", "--edge-weights", "--tta", "--folder"]
    recipe.main([*given, str(tmp_path / "run")])
    folder = tmp_path / "run-smoke"
    assert len(list((folder / "weights").glob("*.npz"))) == 1
    found = json.loads((folder / "test_scores.json").read_text())
    assert list(found) == ["one view", "eight views"]
    assert len(found["eight views"]["pixel_error"]) == 10


def test_scores_of_the_membrane():
    """Two of four pixels are membrane; at 0.5 one of them is found and none too many."""
    found = membrane_scores([np.array([[0.9, 0.4], [0.2, 0.0]])], [np.array([[0, 0], [1, 1]])])
    errors, dices = (
        dict(zip(found["levels"], found[n], strict=True)) for n in ("pixel_error", "dice")
    )
    assert (errors[0.5], errors[0.3], errors[0.1]) == (0.25, 0, 0.25)
    assert (dices[0.5], dices[0.3]) == (pytest.approx(2 / 3), 1)


def test_nuclei_that_touch_are_one_object_for_the_score(tmp_path):
    """Two of three nuclei hang together: one is found of three, and one thing that is none."""
    ids = np.zeros((12, 16), "uint16")
    ids[2:6, 2:6], ids[6:10, 2:6], ids[3:8, 10:14] = 1, 2, 3
    for name, picture in (("images", (ids > 0) * np.uint8(255)), ("instances", ids)):
        (tmp_path / name).mkdir()
        Image.fromarray(picture).save(tmp_path / name / "a.png")
    image = keras.Input((None, None, 3))
    network = keras.Model(image, keras.layers.Conv2D(2, 1)(image))
    network.layers[-1].set_weights([np.full((1, 1, 3, 2), [0.0, 1.0]), np.array([100.0, 0.0])])
    dataset = open_dataset(tmp_path, layout="instances")
    scores = score_objects(network, dataset, tmp_path)
    assert scores["score"] == pytest.approx(1 / 4)  # TP / (TP + FP + FN) at every IoU
    assert json.loads((tmp_path / "object_scores.json").read_text()) == scores
