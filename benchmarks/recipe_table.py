"""The table of recipes in recipes/README.md, from the docstrings of the recipes.

    python benchmarks/recipe_table.py

Rewrites what stands between the two marks; everything else in the file is left alone. The docstring
is where a recipe says its command and its published and measured scores; this only collects it.
"""

import ast
import pathlib
import re

FOLDER = pathlib.Path(__file__).parents[1] / "recipes"
START, END = "<!-- recipes: made by benchmarks/recipe_table.py -->", "<!-- end of recipes -->"
SECTIONS = ("Published:", "Measured:", "Where we differ:")


def read(path):
    """{"title", "command", "Published:", "Measured:"} of a recipe.

    Raises:
        ValueError: naming the file, if its docstring lacks one of them.
    """
    text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    commands = re.findall(r"^    (python (?:.*\\\n)*.*)", text, re.MULTILINE)
    found = {
        "title": text.splitlines()[0].rstrip("."),
        "command": [" ".join(c.replace("\\\n", " ").split()) for c in commands],
        **{section: _section(text, section) for section in SECTIONS[:2]},
    }
    missing = [name for name, value in found.items() if not value]
    if missing:
        raise ValueError(f"{path}: the docstring has no {', no '.join(missing)}.")
    return found


def _section(text, start):
    """What follows `start` at the beginning of a line, to the next section or empty line."""
    lines = text.splitlines()
    begin = next((i for i, line in enumerate(lines) if line.startswith(start)), None)
    if begin is None:
        return ""
    end = begin + 1
    while end < len(lines) and lines[end] and not lines[end].startswith(SECTIONS):
        end += 1
    return " ".join(lines[begin:end]).removeprefix(start).strip()


def table():
    """The table in Markdown: a row a recipe, by name of its file."""
    rows = ["| recipe | command | published | measured |", "|---|---|---|---|"]
    for path in sorted(FOLDER.glob("*.py")):
        found = read(path)
        commands = "<br>".join(f"`{command}`" for command in found["command"])
        cells = (found["title"], commands, found["Published:"], found["Measured:"])
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def with_table(text):
    """`text` of recipes/README.md with the table of today between the marks."""
    before, rest = text.split(START)
    return f"{before}{START}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    README = FOLDER / "README.md"
    README.write_text(with_table(README.read_text("utf-8")), "utf-8")
