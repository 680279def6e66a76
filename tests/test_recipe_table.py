"""recipes/README.md says what the docstrings of the recipes say."""

import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "recipes" / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def script():
    path = ROOT / "benchmarks" / "recipe_table.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_up_to_date(script):
    assert script.with_table(README) == README, "run: python benchmarks/recipe_table.py"


def test_a_row_holds_command_and_scores(script, tmp_path):
    path = tmp_path / "x.py"
    path.write_text(
        '"""A paper.\n\n    python recipes/x.py --data-dir d \\\n        --fast\n\nText.\n'
        'Published: 1\nand 2.\nWhere we differ: not.\nMeasured: 3.\n"""\n'
    )
    assert script.read(path) == {
        "title": "A paper",
        "command": ["python recipes/x.py --data-dir d --fast"],
        "Published:": "1 and 2.",
        "Measured:": "3.",
    }
    path.write_text('"""A paper.\n\n    python recipes/x.py\n\nPublished: 1\n"""\n')
    with pytest.raises(ValueError, match=r"x\.py: the docstring has no Measured:"):
        script.read(path)


def test_every_command_of_the_page_is_a_recipe():
    named = set(re.findall(r"recipes/(\w+\.py)", README))
    assert named == {path.name for path in (ROOT / "recipes").glob("*.py")}
