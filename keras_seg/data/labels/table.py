"""LabelTable: what the ids of a label map mean and how they are drawn."""

import pathlib
import re

import numpy as np

from keras_seg.utils import read_json


class LabelTable:
    """Names and colours of the classes 0..K-1, and the id of pixels that do not count.

    Args:
        names: K different class names, in the order of their ids.
        colors: (K, 3) RGB values 0..255. None: the VOC colour map (`voc_colors`).
        ignore_label: id, 0..255 and none of the K, of pixels that neither train nor score.
        name: of the table, for messages.
        ignore_color: RGB colour of ignored pixels.

    Attributes: the arguments (`names` as a tuple, `colors` as a uint8 array), and `num_classes`.

    Raises:
        ValueError: if the arguments do not make a table.
    """

    def __init__(self, names, colors=None, ignore_label=255, name="", ignore_color=(224, 224, 192)):
        self.names = tuple(str(n) for n in names)
        self.ignore_label = int(ignore_label)
        self.name = name
        count = len(self.names)
        if count == 0:
            raise ValueError("A class table needs at least one name.")
        doubled = sorted({n for n in self.names if self.names.count(n) > 1})
        if doubled:
            raise ValueError(f"Class names must differ; more than once: {', '.join(doubled)}.")
        if not 0 <= self.ignore_label <= 255 or self.ignore_label < count or count > 255:
            raise ValueError(
                f"ignore_label must be in 0..255 and none of the {count} class ids, and at most "
                f"255 classes fit in a label map; got ignore_label={ignore_label}."
            )
        self.colors = voc_colors(count) if colors is None else _as_colors(colors, (count, 3))
        self.ignore_color = tuple(int(c) for c in _as_colors(ignore_color, (3,)))

    @classmethod
    def default(cls, num_classes, ignore_label=255):
        """Classes without names: background, class 1, ... in VOC's colours."""
        if isinstance(num_classes, bool) or not isinstance(num_classes, int | np.integer):
            raise ValueError(f"The number of classes must be an integer, got {num_classes!r}.")
        if not 1 <= num_classes <= 255:
            raise ValueError(f"The number of classes must be in 1..255, got {num_classes}.")
        names = ["background", *(f"class {i}" for i in range(1, num_classes))]
        return cls(names, ignore_label=ignore_label)

    @property
    def num_classes(self):
        """K, the ignored id not counted."""
        return len(self.names)

    def palette(self):
        """(256, 3) uint8: the colour of each id; black where there is no class."""
        palette = np.zeros((256, 3), "uint8")
        palette[: self.num_classes] = self.colors
        palette[self.ignore_label] = self.ignore_color
        return palette

    def color_ids(self):
        """{(R, G, B): id} for colour-coded masks, the colour of ignored pixels included.

        A class keeps its colour where `ignore_color` is the same.

        Raises:
            ValueError: if two classes share a colour (then colours do not say the class).
        """
        ids = {self.ignore_color: self.ignore_label}
        for index, color in enumerate(map(tuple, self.colors.tolist())):
            other = ids.get(color, self.ignore_label)
            if other != self.ignore_label:
                raise ValueError(
                    f"{self.names[other]!r} and {self.names[index]!r} both have the colour "
                    f"{color}: colour-coded masks cannot be read with this table."
                )
            ids[color] = index
        return ids

    def to_json(self):
        """A dict of plain values that `from_json` reads."""
        return {
            "name": self.name,
            "names": list(self.names),
            "colors": self.colors.tolist(),
            "ignore_label": self.ignore_label,
            "ignore_color": list(self.ignore_color),
        }

    @classmethod
    def from_json(cls, value):
        """The table of a dict made by `to_json`; only "names" must be there.

        Raises:
            ValueError: if `value` is no such dict.
        """
        if not isinstance(value, dict) or not isinstance(value.get("names"), list):
            raise ValueError(f'Expected a class table {{"names": [...], ...}}, got {value!r:.80}.')
        known = ("names", "colors", "ignore_label", "name", "ignore_color")
        return cls(**{key: value[key] for key in known if value.get(key) is not None})

    def __eq__(self, other):
        return isinstance(other, LabelTable) and self.to_json() == other.to_json()

    __hash__ = None

    def __repr__(self):
        label = f"{self.name}: " if self.name else ""
        return f"<LabelTable {label}{self.num_classes} classes: {', '.join(self.names)}>"


def voc_colors(count):
    """(count, 3) uint8: PASCAL VOC's colour map (VOCdevkit, VOClabelcolormap).

    Bit 0, 1 and 2 of the id go to the highest bit of red, green and blue, the next three bits to
    the second highest, and so on.
    """
    ids = np.arange(count)
    colors = np.zeros((count, 3), "uint8")
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype("uint8")
    return colors


def read_classes(path, ignore_label=255):
    """Read a class table from a `.txt` or `.json` file.

    Text: one class a line, its name, optionally followed by its colour (`road 128 64 128`); empty
    lines and lines that start with `#` are skipped; a line named `ignore` is no class and gives the
    colour of ignored pixels in colour-coded masks. JSON: a list of names, or a table as
    `LabelTable.to_json` makes it, in which `"mask_values": {"255": 1}` may say that masks hold
    another value for a class.

    Returns:
        (table, has_colors, mask_values): `has_colors` says whether the file gave the colours;
        `mask_values` is a dict {value in the mask: id}, empty without such an entry.

    Raises:
        ValueError: if the file cannot be read or makes no table.
    """
    path = pathlib.Path(path)
    read = {".json": _read_json_classes, ".txt": _read_text_classes}.get(path.suffix.lower())
    if read is None:
        raise ValueError(f"{path}: a class table is a .txt or .json file.")
    value, mask_values = read(path)
    try:
        table = LabelTable.from_json({"ignore_label": ignore_label, **value})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return table, value.get("colors") is not None, mask_values


def _read_json_classes(path):
    value = read_json(path)
    if isinstance(value, list):
        return {"names": value}, {}
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a list of names or a table, got {value!r:.80}.")
    raw = value.get("mask_values") or {}
    try:
        return value, {int(key): int(item) for key, item in raw.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path}: "mask_values" must map ids to ids, as {{"255": 1}}; got {raw!r:.80}.'
        ) from error


def _read_text_classes(path):
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Cannot read the class table {path}: {error}.") from error
    names, colors, value = [], [], {}
    for line in (line.strip() for line in lines):
        if not line or line.startswith("#"):
            continue
        name, *color = re.fullmatch(r"(.+?)(?:[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\d+))?", line).groups()
        color = None if color[0] is None else [int(c) for c in color]
        if name.lower() == "ignore" and color:
            value["ignore_color"] = color
            continue
        names.append(name)
        colors.append(color)
    bare = [name for name, color in zip(names, colors, strict=True) if color is None]
    if bare and len(bare) < len(names):
        raise ValueError(f"{path}: give every class a colour or none; without: {', '.join(bare)}.")
    if names and not bare:
        value["colors"] = colors
    return {"names": names, **value}, {}


def _as_colors(colors, shape):
    array = np.asarray(colors)
    if array.shape != shape or array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
        raise ValueError(f"Colours must be integers 0..255 of shape {shape}, got {colors!r:.80}.")
    return array.astype("uint8")
