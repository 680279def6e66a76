"""Tables of the data sets that `open_dataset` reads, for people: `keras-seg datasets`."""

import inspect
import pathlib
import tempfile

from keras_seg.data.synthetic import write_layout

_COMMON = ("root", "split", "classes", "channels", "ignore_label", "problems")  # of all readers
_COLUMNS = ("name", "title", "classes", "splits", "licence", "source", "tfds")


def format_table(layouts, *, markdown=False):
    """The layouts as a table, one a line; `markdown` for a page of the documentation."""
    rows = [_COLUMNS, *(_row(layout) for layout in layouts)]
    if markdown:
        lines = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
        return "\n".join([lines[0], "|---" * len(_COLUMNS) + "|", *lines[1:]])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def format_layout(layout):
    """Everything that is known of one layout: facts, classes with colours, a tree of its files."""
    row = dict(zip(_COLUMNS, _row(layout), strict=True))
    lines = [f"{layout.name}: {layout.title}"]
    lines += [f"{key}: {row[key]}" for key in _COLUMNS[2:] if row[key]]
    if layout.contents:
        lines.append(f"beside image and label: {layout.contents}")
    own = [
        str(parameter)
        for name, parameter in inspect.signature(layout.read).parameters.items()
        if name not in _COMMON
    ]
    if own:
        lines.append(f"options (--read NAME=VALUE): {', '.join(own)}")
    lines += ["", _description(layout), "", "files, as keras_seg makes them up for tests:"]
    lines += _tree(layout)
    if layout.table is not None:
        lines += ["", *_classes(layout.table, layout.ignores)]
    return "\n".join(lines)


def _row(layout):
    classes = "as given" if layout.table is None else str(layout.table.num_classes)
    splits = ", ".join(
        f"{name} {' or '.join(map(str, sizes if isinstance(sizes, tuple) else (sizes,)))}"
        for name, sizes in layout.published.items()
    )
    return (layout.name, layout.title, classes, splits, layout.licence, layout.source, layout.tfds)


def _description(layout):
    """What the reader's docstring says of the data, without what it says of Python."""
    text = inspect.cleandoc(layout.read.__doc__).split("\n\nArgs:")[0]
    return text.replace("Arguments and errors: see `open_dataset`.", "").strip()


def _tree(layout):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder) / "data"
        write_layout(layout.name, root, {"train": 1, "val": 1}, size=(32, 32))
        files = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return [f"  {file.as_posix()}" for file in files]


def _classes(table, ignores):
    rows = [*zip(range(table.num_classes), table.names, table.colors.tolist(), strict=True)]
    if ignores:
        rows.append((table.ignore_label, "(ignored)", table.ignore_color))
    return ["classes:"] + [
        f"  {index:>3}  #{red:02x}{green:02x}{blue:02x}  {name}"
        for index, name, (red, green, blue) in rows
    ]
