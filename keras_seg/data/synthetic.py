"""Pictures made here, for the quickstart and the tests: circles, squares and triangles on noise."""

import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_seg.data.dataset import SegmentationDataset
from keras_seg.data.datasets import find_layout
from keras_seg.data.labels import SHAPES
from keras_seg.data.read import write_mask
from keras_seg.utils import atomic_path, writable_folder


def shapes(count, size=(96, 96), seed=0, channels=3, *, border=0):
    """A data set of `count` synthetic pictures: background, circle, square, triangle.

    Each picture shows one to four shapes of random colour, size, angle and place, later ones in
    front, on a textured background. Background and shapes draw their colours from the same
    distribution, so that only the outline tells the class. Picture i follows from (seed, i) alone,
    whatever `count` is.

    Args:
        count: number of pictures.
        size: (H, W), each at least 16.
        seed: of the pictures, not negative.
        channels: 1, 3 or 4.
        border: half the width, in pixels, of an ignored line (255) along the outlines; 0: none.

    Raises:
        ValueError: if an argument is out of its range.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}.")
    if len(size) != 2 or min(size) < 16:
        raise ValueError(f"size must be (H, W), each at least 16; got {size!r}.")
    if channels not in (1, 3, 4):
        raise ValueError(f"channels must be 1, 3 or 4, got {channels!r}.")
    if seed < 0 or border < 0:
        raise ValueError(f"seed and border must not be negative, got {seed} and {border}.")
    return SegmentationDataset(
        _Drawing(tuple(size), seed, channels, border),
        SHAPES,
        [f"shapes_{i:05d}" for i in range(count)],
        channels=channels,
        layout="shapes",
        description=f"synthetic shapes, {size[0]}x{size[1]}, seed {seed}",
    )


def write_shapes(root, count, size=(96, 96), seed=0, *, border=0):
    """Write `shapes(count, size, seed)` as a folder data set; returns its Path.

    `root` then holds images/NAME.png, masks/NAME.png (palette) and classes.txt.

    Raises:
        ValueError: as `shapes`, or if `root` cannot be written.
    """
    dataset = shapes(count, size, seed, border=border)
    root = pathlib.Path(root)
    images, masks = writable_folder(root / "images"), writable_folder(root / "masks")
    rows = zip(SHAPES.names, SHAPES.colors.tolist(), strict=True)
    with atomic_path(root / "classes.txt") as temporary:
        temporary.write_text("".join(f"{name} {r} {g} {b}\n" for name, (r, g, b) in rows), "utf-8")
    for sample in dataset:
        with atomic_path(images / f"{sample.name}.png") as temporary:
            Image.fromarray(sample.image).save(temporary, "PNG")
        write_mask(masks / f"{sample.name}.png", sample.label, SHAPES)
    return root


class Drawn(NamedTuple):
    """A made-up sample to be written: uint8 RGB (H, W, 3), uint8 ids, int32 instances, a name."""

    image: np.ndarray
    label: np.ndarray
    instances: np.ndarray
    name: str


def write_layout(name, root, counts=None, size=(96, 96), seed=0):
    """Write synthetic shapes as a data set in a published layout, such as "cityscapes".

    The shapes' ids 0..3 become the first four classes (shapes are one class where there are only
    two); a line along the outlines is ignored where the layout has ignored pixels.

    Args:
        name: of a layout, see `list_datasets`.
        root: folder to write into; made if needed.
        counts: {split: number of pictures}; None: 6 in "train" and 3 in "val".
        size: (H, W) of the pictures.
        seed: of the pictures.

    Returns:
        Path of `root`.

    Raises:
        ValueError: for an unknown layout, values out of range, or a root that cannot be written.
    """
    layout = find_layout(name)
    root = writable_folder(root)
    classes = SHAPES.num_classes if layout.table is None else layout.table.num_classes
    for number, (split, count) in enumerate((counts or {"train": 6, "val": 3}).items()):
        pictures = shapes(count, size, seed=seed * 100 + number, border=int(layout.ignores))
        samples = []
        for index, (image, label, _) in enumerate(pictures):
            ids = np.where(label == SHAPES.ignore_label, label, np.minimum(label, classes - 1))
            instances = pictures.read_extra(index, "instances")
            samples.append(Drawn(image, ids.astype("uint8"), instances, f"{split}_{index:04d}"))
        layout.write(root, split, samples)
    return root


class _Drawing:
    """Source of a data set (see `SegmentationDataset`) that draws its samples."""

    image_paths = mask_paths = None
    extras = ("instances",)

    def __init__(self, size, seed, channels, border):
        self.size, self.seed, self.channels, self.border = size, seed, channels, border

    def image(self, index):
        return self._draw(index)[0]

    def label(self, index):
        return self._draw(index)[1]

    def both(self, index):
        return self._draw(index)[:2]

    def extra(self, index, name):
        return self._draw(index)[2]

    def _draw(self, index):
        rng = np.random.default_rng([self.seed, index])
        label = np.zeros(self.size, "uint8")
        instances = np.zeros(self.size, "int32")
        edge = np.zeros(self.size, bool)
        image = _texture(rng, self.size)
        for number in range(1, rng.integers(1, 5) + 1):
            kind = int(rng.integers(1, 4))
            distance = _distance(rng, self.size, kind)
            inside = distance < 0
            fill = _texture(rng, self.size)
            contrast = fill[inside].mean(0) - image[inside].mean(0) if inside.any() else np.ones(3)
            if np.abs(contrast).max() < 40:  # else the outline could not be seen
                fill += 60 if image[inside].mean() < 128 else -60
            image = np.where(inside[..., None], fill, image)
            label[inside] = kind
            instances[inside] = number
            edge = (np.abs(distance) < self.border) | (edge & ~inside)
        label[edge] = SHAPES.ignore_label
        image += rng.normal(0, 8, image.shape)
        image = np.clip(image, 0, 255).astype("uint8")
        grey = np.rint(image @ np.array([0.299, 0.587, 0.114]))[..., None].astype("uint8")
        picture = {1: grey, 3: image, 4: np.concatenate([image, grey], axis=2)}[self.channels]
        return picture, label, instances


def _texture(rng, size):
    """A colour with slow and fast noise on it: float (H, W, 3)."""
    coarse = rng.normal(0, 30, (5, 5, 3)) + rng.uniform(30, 225, 3)
    slow = Image.fromarray(np.clip(coarse, 0, 255).astype("uint8"))
    slow = np.asarray(slow.resize(size[::-1], Image.Resampling.BICUBIC), "float64")
    return slow + rng.normal(0, rng.uniform(2, 14), (*size, 1))


def _distance(rng, size, kind):
    """Distance in pixels, negative inside, to a random circle (1), square (2) or triangle (3)."""
    radius = rng.uniform(0.1, 0.28) * min(size)
    center = [rng.uniform(0.5 * radius, side - 0.5 * radius) for side in size]
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.meshgrid(*(np.arange(side) + 0.5 for side in size), indexing="ij")
    y, x = y - center[0], x - center[1]
    if kind == 1:
        return np.hypot(y, x) - radius
    sides = 4 if kind == 2 else 3
    normals = angle + np.arange(sides) * 2 * np.pi / sides
    inner = radius * (0.89 if kind == 2 else 0.75)  # about the same area as the circle
    return np.max([x * np.cos(a) + y * np.sin(a) for a in normals], axis=0) - inner
