"""What is known of each network: its paper and its figures, as `keras-seg models` prints them.

Paper and year stand in the docstring of the network's file. The figures were computed with
`python benchmarks/model_table.py`, which wrote `table.csv` beside this file.
"""

import csv
import dataclasses
import inspect
import pathlib
import re

# Kinds of exported file that the table knows of.
FILES = ("saved_model", "tflite", "int8", "onnx")

TABLE = pathlib.Path(__file__).with_name("table.csv")


@dataclasses.dataclass(frozen=True)
class Card:
    """One network with the default options of its builder.

    Attributes:
        name: of the builder.
        paper: title.
        year: of publication.
        classes: channels of the logits that the figures are for.
        parameters: trainable ones.
        output_stride: pixels of the image to one of the last map before the final resize.
        smallest: rows and columns of the smallest square image that works.
        size: rows and columns of the image that `gmac` is for.
        gmac: 1e9 multiply-accumulates of convolutions and matrix products for one such image.
        dynamic: whether height and width may be None.
        files: kinds of file that the export was proved for, on a slim form of the network.
    """

    name: str
    paper: str
    year: int
    classes: int
    parameters: int
    output_stride: int
    smallest: int
    size: int
    gmac: float
    dynamic: bool
    files: tuple


def citation(builder):
    """(title, year) of the paper, from the docstring of the builder's file.

    Raises:
        ValueError: if the docstring holds no quoted title with a year behind it.
    """
    text = " ".join(inspect.getmodule(builder).__doc__.split())
    found = re.search(r'"([^"]+?)[.,]?"[^"]*?\b((?:19|20)\d\d)\b', text)
    if not found:
        raise ValueError(f'The file of {builder.__name__} cites no paper as "Title", place year.')
    return found[1], int(found[2])


def read_table(builders):
    """[Card] in the order of the alphabet, of the builders that the table holds."""
    known = {builder.__name__: builder for builder in builders}
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [_card(known[row["name"]], row) for row in rows if row["name"] in known]


def _card(builder, row):
    paper, year = citation(builder)
    return Card(
        name=row["name"],
        paper=paper,
        year=year,
        classes=int(row["classes"]),
        parameters=int(row["parameters"]),
        output_stride=int(row["output_stride"]),
        smallest=int(row["smallest"]),
        size=int(row["size"]),
        gmac=float(row["gmac"]),
        dynamic=row["dynamic"] == "yes",
        files=tuple(row["files"].split()),
    )


def format_table(cards):
    """The cards as aligned text, one network a line."""
    lines = [
        ("model", "year", "parameters", "stride", "smallest", "GMAC", "at", "any size", "files")
        + ("paper",)
    ]
    for card in cards:
        files = "all" if set(card.files) == set(FILES) else " ".join(card.files)
        lines.append(
            (
                card.name,
                str(card.year),
                f"{card.parameters:,}",
                str(card.output_stride),
                str(card.smallest),
                f"{card.gmac:.1f}",
                str(card.size),
                "yes" if card.dynamic else "no",
                files,
                card.paper,
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    numbers = range(2, 7)  # columns that are aligned at the right
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
