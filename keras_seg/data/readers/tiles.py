"""Tiles too large for a sample, read in windows: what Potsdam and Vaihingen share."""

import re

import numpy as np
from PIL import Image

from keras_seg.data import labels, read
from keras_seg.data.dataset import SegmentationDataset
from keras_seg.data.readers.common import (
    choose_split,
    contents,
    find_classes,
    report,
    title,
)
from keras_seg.data.readers.tiff import map_tiff
from keras_seg.utils import is_count, writable_folder


def open_tiles(
    layout,
    root,
    split,
    images,
    masks,
    cut,
    *,
    classes,
    channels,
    ignore_label,
    problems,
    window,
    stride,
    strange_colors,
    bands,
):
    """A data set of the windows of tiles.

    Args:
        layout, root, split, classes, channels, ignore_label, problems: see `open_dataset`.
        images, masks: {tile: Path}.
        cut: {split: list of its tiles}.
        window, stride, strange_colors, bands: see `potsdam`.
    """
    if strange_colors not in ("raise", "ignore"):
        raise ValueError(f'strange_colors must be "raise" or "ignore", got {strange_colors!r}.')
    if not images or not masks:
        missing = "images" if not images else "labels"
        raise ValueError(f"{root}: no {missing} of {layout} found. It holds: {contents(root)}.")
    split = choose_split(root, split, present(cut, images | masks))
    table, _, _ = find_classes(root, None, classes, ignore_label, labels.ISPRS)
    names, windows, errors = [], [], []
    for tile in (tile for tile in cut[split] if tile in images or tile in masks):
        if tile not in images or tile not in masks:
            path, lacking = (images[tile], "label") if tile in images else (masks[tile], "image")
            errors.append((path, f"has no {lacking} of the same tile"))
            continue
        try:
            height, width = _size(images[tile])
        except ValueError as error:
            errors.append((images[tile], str(error).removeprefix(f"{images[tile]}: ")))
            continue
        for suffix, area in cut_windows(height, width, window, stride):
            names.append(f"{tile}{suffix}")
            windows.append((tile, area))
    if not names and not errors:
        raise ValueError(f"0 samples: no tile of split {split} in {root}.")
    report(root, errors, problems)
    return SegmentationDataset(
        _Windows(images, masks, windows, channels, table, strange_colors),
        table,
        names,
        channels=channels,
        layout=layout,
        split=split,
        description=f"{title(root, split)}: {len({tile for tile, _ in windows})} tiles of "
        f"{layout}, {bands}, "
        + (f"windows of {window} every {stride or window}" if window else "whole"),
    )


class _Windows:
    """Source of a data set that reads windows of tiles."""

    def __init__(self, images, masks, windows, channels, table, strange_colors):
        self.images, self.masks, self.windows = images, masks, windows
        self.image_paths = [images[tile] for tile, _ in windows]
        self.mask_paths = [masks[tile] for tile, _ in windows]
        self.channels, self.table, self.strange_colors = channels, table, strange_colors
        self._decoded = {}  # "image" or "mask": (path, array), the last tile of each

    def image(self, index):
        pixels = self._read("image", self.image_paths[index], self.windows[index][1])
        bands = pixels.shape[2] if pixels.ndim == 3 else 1
        if self.channels == 1 and bands >= 3:
            return np.asarray(Image.fromarray(pixels[..., :3]).convert("L"))[..., None]
        if bands < self.channels or pixels.ndim != 3:
            raise ValueError(
                f"{self.image_paths[index]} has {bands} channel{'s' * (bands > 1)}, but "
                f"{self.channels} were asked for."
            )
        return np.ascontiguousarray(pixels[..., : self.channels])

    def label(self, index):
        path = self.mask_paths[index]
        self._check_sizes(self.image_paths[index], path)
        colors = self._read("mask", path, self.windows[index][1])
        if colors.ndim != 3 or colors.shape[2] < 3:
            raise ValueError(f"{path}: expected labels as RGB colours, got {colors.shape}.")
        colors = colors[..., :3]
        if self.strange_colors == "ignore":
            known = np.zeros(colors.shape[:2], bool)
            for color in self.table.color_ids():
                known |= (colors == color).all(axis=2)
            colors = np.where(known[..., None], colors, np.uint8(self.table.ignore_color))
        return read.ids_of_colors(path, colors, self.table).astype("uint8")

    def both(self, index):
        return self.image(index), self.label(index)

    def _check_sizes(self, *paths):
        """Of the whole files: windows of tiles that differ may be of one size."""
        image, label = (_size(path) for path in paths)
        if image != label:
            raise ValueError(
                f"{paths[0]} is {image[0]}x{image[1]} (HxW), but its label {paths[1]} is "
                f"{label[0]}x{label[1]}."
            )

    def __getstate__(self):
        return {**vars(self), "_decoded": {}}

    def _read(self, kind, path, area):
        top, left, bottom, right = area
        mapped = map_tiff(path)
        if mapped is None:
            known, mapped = self._decoded.get(kind, (None, None))
            if known != path:
                mapped = read.read_values(path)
                self._decoded[kind] = (path, mapped)
        return np.array(mapped[top:bottom, left:right])


def _size(path):
    """(H, W) of an image file, from its header."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too large: {error}.") from error
    except OSError as error:
        raise ValueError(f"{path}: damaged, or not an image ({error}).") from error


def cut_windows(height, width, window, stride=None):
    """Windows of a picture, row by row: list of (suffix for its name, its area).

    A suffix is "_left_top_right_bottom", an area (top, left, bottom, right).

    One begins every `stride` (None: `window`); the last of a row or column ends at the border.
    `window=None` is the whole picture, with "" for its name.
    """
    if window is None:
        return [("", (0, 0, height, width))]
    stride = window if stride is None else stride
    if not (is_count(window) and is_count(stride)):
        raise ValueError(f"window and stride must be at least 1, got {window!r} and {stride!r}.")
    found = []
    for top in _starts(height, window, stride):
        for left in _starts(width, window, stride):
            bottom, right = min(height, top + window), min(width, left + window)
            found.append((f"_{left}_{top}_{right}_{bottom}", (top, left, bottom, right)))
    return found


def _starts(length, window, stride):
    return [*range(0, length - window, stride), length - window] if length > window else [0]


def find_tiles(root, folders, pattern):
    """{tile: Path} of the first of the folders (or `root` itself) with files of this pattern.

    A folder may lie in another one of its name, as archives unpack that hold it.
    """
    places = [place for name in folders for place in (root / name, root / name / name)]
    for place in (*places, root):
        matches = {path: re.fullmatch(pattern, path.name) for path in sorted(place.glob("*.tif"))}
        found = {match.group(1): path for path, match in matches.items() if match}
        if found:
            return found
    return {}


def present(cut, tiles):
    """The names of the splits of which there is any tile."""
    return [name for name, wanted in cut.items() if set(wanted) & set(tiles)]


def write_tiles(samples, tiles, image_path, label_path):
    """Write samples as uncompressed TIFFs, labels in the colours of the classes, 255 in black."""
    colors = labels.ISPRS.palette()
    for tile, sample in zip(tiles, samples, strict=False):
        for path, array in ((image_path, sample.image), (label_path, colors[sample.label])):
            path = writable_folder(path.parent) / path.name.format(tile)
            Image.fromarray(array).save(path, "TIFF")
