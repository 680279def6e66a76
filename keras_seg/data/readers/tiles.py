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
from keras_seg.utils import is_count, writable_folder

_UNCOMPRESSED, _CHUNKY = 1, 1
# TIFF tags
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSETS = 256, 257, 258, 259, 273
_SAMPLES, _COUNTS, _PLANES = 277, 279, 284


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
    stride = window if stride is None else stride
    if window is not None and not (is_count(window) and is_count(stride)):
        raise ValueError(f"window and stride must be at least 1, got {window!r} and {stride!r}.")
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
        for top in _starts(height, window, stride):
            for left in _starts(width, window, stride):
                bottom = height if window is None else min(height, top + window)
                right = width if window is None else min(width, left + window)
                area = "" if window is None else f"_{left}_{top}_{right}_{bottom}"
                names.append(f"{tile}{area}")
                windows.append((tile, (top, left, bottom, right)))
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
        f"{layout}, {bands}, " + (f"windows of {window} every {stride}" if window else "whole"),
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
        sizes = [_size(path) for path in (self.image_paths[index], self.mask_paths[index])]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"{self.image_paths[index]} is {sizes[0][0]}x{sizes[0][1]} (HxW), but its label "
                f"{self.mask_paths[index]} is {sizes[1][0]}x{sizes[1][1]}."
            )
        return self.image(index), self.label(index)

    def __getstate__(self):
        return {**vars(self), "_decoded": {}}

    def _read(self, kind, path, area):
        top, left, bottom, right = area
        mapped = _map_file(path)
        if mapped is None:
            known, mapped = self._decoded.get(kind, (None, None))
            if known != path:
                mapped = read.read_values(path)
                self._decoded[kind] = (path, mapped)
        return np.array(mapped[top:bottom, left:right])


def _map_file(path):
    """The pixels of an uncompressed 8-bit TIFF as a memory map (H, W, C), else None."""
    try:
        with Image.open(path) as image:
            tags = getattr(image, "tag_v2", {})
            offsets, counts = tags.get(_OFFSETS, ()), tags.get(_COUNTS, ())
            bands = tags.get(_SAMPLES, 1)
            shape = (tags.get(_HEIGHT), tags.get(_WIDTH), bands)
            plain = (
                tags.get(_COMPRESSION) == _UNCOMPRESSED
                and tags.get(_PLANES, _CHUNKY) == _CHUNKY
                and set(tags.get(_BITS, ())) == {8}
                and bands >= 3
            )
    except OSError:
        return None  # whoever decodes it says what is wrong
    ends = [offset + count for offset, count in zip(offsets, counts, strict=False)]
    if not plain or list(offsets[1:]) != ends[:-1] or sum(counts) != np.prod(shape):
        return None
    if path.stat().st_size < ends[-1]:
        raise ValueError(f"{path}: damaged: it ends before its last row.")
    return np.memmap(path, "uint8", "r", int(offsets[0]), tuple(int(n) for n in shape))


def _size(path):
    """(H, W) of an image file, from its header."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too large: {error}.") from error
    except OSError as error:
        raise ValueError(f"{path}: damaged, or not an image ({error}).") from error


def _starts(length, window, stride):
    """Where windows begin: every `stride`, the last one so that it ends at the border."""
    if window is None or length <= window:
        return [0]
    return [*range(0, length - window, stride), length - window]


def find_tiles(root, folders, pattern):
    """{tile: Path} of the first of the folders (or `root` itself) with files of this pattern."""
    for place in (*(root / name for name in folders), root):
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
