"""Every recipe runs from its first line to its last on made-up pictures."""

import ast
import importlib.util
import pathlib

import pytest

RECIPES = sorted((pathlib.Path(__file__).parents[1] / "recipes").glob("*.py"))
each_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


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


def test_nuclei_with_edge_weights(tmp_path):
    recipe = load(RECIPES[0].with_name("unet_nuclei.py"))
    recipe.main(["--smoke", "--edge-weights", "--folder", str(tmp_path / "run")])
    assert len(list((tmp_path / "run-smoke" / "weights").glob("*.npz"))) == 16
    assert (tmp_path / "run-smoke" / "metrics.json").exists()


@each_recipe
def test_the_docstring_tells_command_published_and_measured(path):
    text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert f"python recipes/{path.name} --data-dir" in text
    assert "Published:" in text and "Measured:" in text


def test_data_are_asked_for(capsys):
    with pytest.raises(SystemExit):
        load(RECIPES[0]).main([])
    assert "--data-dir is needed" in capsys.readouterr().err
