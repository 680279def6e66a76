"""Pictures of label maps: overlays, palette PNGs, and sheets of examples with a legend."""

import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_seg.data import write_mask
from keras_seg.utils import atomic_path

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_GAP = 4
_LINE = 16
_SHEET_COLOR = (255, 255, 255)
_TEXT_COLOR = (0, 0, 0)


def overlay(image, label, table, alpha=0.5):
    """Blend the classes' colours into an image: round((1 - alpha) * image + alpha * colour).

    Halves are rounded to the even number, as `round` does. Pixels of the ignore label keep the
    image.

    Args:
        image: uint8 (H, W, C): 1 channel is drawn as grey, of more than 3 the first three are
            taken. (H, W) is grey too.
        label: integers (H, W), class ids or the ignore label.
        table: the classes' `LabelTable`.
        alpha: share of the colour, 0..1.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: for shapes that differ, ids outside the table, or alpha outside 0..1.
    """
    image = _as_rgb(image)
    label = _checked_label(label, table)
    if label.shape != image.shape[:2]:
        raise ValueError(
            f"The label map is {label.shape}, the image {image.shape[:2]}; both must have the same "
            "height and width."
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be within 0..1, got {alpha}.")
    # One row a class for each of the 256 pixel values: exact, and no float copy of the image.
    values = np.arange(256)[None, :, None] * (1 - alpha) + table.palette()[:, None] * alpha
    mixed = np.rint(values).astype("uint8")
    mixed[table.ignore_label] = np.arange(256)[:, None]
    return mixed[label[..., None], image, np.arange(3)]


def save_label(path, label, table):
    """Write a label map as a PNG with the classes' palette: its pixels are the ids themselves.

    The file is whole or not there.

    Args:
        path: ends in `.png`.
        label: integers (H, W), class ids or the ignore label.
        table: the classes' `LabelTable`.

    Raises:
        ValueError: for another suffix (JPEG would change the ids) or ids outside the table.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"A label map is written as .png, so that no id changes; got {path}.")
    write_mask(path, _checked_label(label, table), table)


def save_overlay(path, image, label, table, alpha=0.5):
    """Write `overlay(image, label, table, alpha)` as a picture, whole or not at all.

    Raises:
        ValueError: as `overlay`, and for a suffix that is not a picture's.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in _PICTURES:
        raise ValueError(f"{path} must end in one of {', '.join(_PICTURES)}.")
    picture = Image.fromarray(overlay(image, label, table, alpha))
    with atomic_path(path) as temporary:
        picture.save(temporary)


def contact_sheet(images, labels, predictions, table, *, side=256, alpha=0.5):
    """One picture of several examples: image, label and prediction side by side, legend below.

    Args:
        images: list of uint8 images (H, W, C), of any sizes.
        labels: list of label maps (H, W), or None where there are none.
        predictions: list of label maps (H, W).
        table: the classes' `LabelTable`; its names are the legend, without classes that appear
            nowhere on the sheet.
        side: longer side of each picture on the sheet, in pixels: larger ones are shrunk, small
            ones enlarged by a whole factor.
        alpha: as in `overlay`.

    Returns:
        `PIL.Image` in RGB.

    Raises:
        ValueError: for an empty list or lists of different lengths.
    """
    columns = [("image", images), ("label", labels), ("prediction", predictions)]
    columns = [(title, list(column)) for title, column in columns if column is not None]
    counts = {title: len(column) for title, column in columns}
    if len(set(counts.values())) > 1 or not len(images):
        raise ValueError(f"A sheet needs as many labels and predictions as images, got {counts}.")
    rows = []
    for example in zip(*(column for _, column in columns), strict=True):
        image = example[0]
        tiles = [_as_rgb(image)] + [overlay(image, label, table, alpha) for label in example[1:]]
        rows.append([_fitted(tile, side) for tile in tiles])
    width = max(tile.width for row in rows for tile in row)
    maps = [label for _, column in columns[1:] for label in column]
    legend = _legend(table, maps, len(columns) * (width + _GAP) - _GAP)
    heights = [row[0].height + _GAP for row in rows]
    sheet = Image.new(
        "RGB", (legend.width + 2 * _GAP, 2 * _GAP + _LINE + sum(heights) + legend.height), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for index, (title, _) in enumerate(columns):
        draw.text((_GAP + index * (width + _GAP), _GAP), title, _TEXT_COLOR, _font())
    y = _GAP + _LINE
    for row, height in zip(rows, heights, strict=True):
        for index, tile in enumerate(row):
            sheet.paste(tile, (_GAP + index * (width + _GAP), y))
        y += height
    sheet.paste(legend, (_GAP, y))
    return sheet


def _legend(table, maps, width):
    """Coloured squares with the names of the classes in `maps`, in lines of at most `width`."""
    present = np.unique(np.concatenate([np.unique(label) for label in maps]))
    entries = [
        (table.names[i], tuple(table.palette()[i].tolist()))
        for i in present[present < table.num_classes]
    ]
    font, places, x, y = _font(), [], 0, 0
    lengths = [_LINE + round(font.getlength(name)) + 2 * _GAP for name, _ in entries]
    width = max([width, *lengths])
    for (name, color), length in zip(entries, lengths, strict=True):
        if x and x + length > width:
            x, y = 0, y + _LINE
        places.append((x, y, name, color))
        x += length
    picture = Image.new("RGB", (width, y + _LINE), _SHEET_COLOR)
    draw = ImageDraw.Draw(picture)
    for x, y, name, color in places:
        draw.rectangle((x, y + 2, x + _LINE - 5, y + _LINE - 3), color, outline=_TEXT_COLOR)
        draw.text((x + _LINE, y + 1), name, _TEXT_COLOR, font)
    return picture


def _font():
    return ImageFont.load_default()


def _fitted(picture, side):
    """A picture shrunk to `side`, or enlarged by a whole factor (its pixels stay pixels)."""
    picture = Image.fromarray(picture)
    factor = side // max(picture.size)
    if factor > 1:
        return picture.resize(
            (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
        )
    picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    return picture


def _as_rgb(image):
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] == 0 or image.dtype != np.uint8:
        raise ValueError(
            f"An image to draw on is uint8 (H, W, C), got {image.dtype} {image.shape}."
        )
    if image.shape[2] < 3:
        return np.repeat(image[..., :1], 3, axis=2)
    return image[..., :3]


def _checked_label(label, table):
    label = np.asarray(label)
    if label.ndim != 2 or not np.issubdtype(label.dtype, np.integer):
        raise ValueError(f"A label map is integers (H, W), got {label.dtype} {label.shape}.")
    ids = np.unique(label)
    wrong = ids[((ids < 0) | (ids >= table.num_classes)) & (ids != table.ignore_label)]
    if wrong.size:
        raise ValueError(
            f"The label map has the ids {wrong.tolist()}; the table has 0..{table.num_classes - 1} "
            f"and the ignore label {table.ignore_label}."
        )
    return label
