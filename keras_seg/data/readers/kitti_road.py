"""KITTI road: Fritsch, Kuehnl, Geiger. "A New Performance Measure ...", ITSC 2013."""

import functools

import numpy as np

from keras_seg.data import labels, read
from keras_seg.data.dataset import Files, ImageReader, SegmentationDataset
from keras_seg.data.readers.common import (
    check_class_count,
    choose_split,
    contents,
    existing_folder,
    find_classes,
    match,
    report,
    save_png,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.utils import unknown_name

_KINDS = ("um", "umm", "uu")  # urban marked, marked with several lanes, unmarked
_TASKS = ("road", "lane")
_ROAD, _OTHER = (255, 0, 255), (255, 0, 0)


def kitti_road(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    white=None,
    task="road",
    kinds=_KINDS,
):
    """KITTI road: data_road/training/ with image_2/um_000000.png, gt_image_2/um_road_000000.png.

    Magenta is class 1, red class 0 and any other colour, in practice black, `ignore_label`. There
    is one split, "train"; the labels of testing/ are withheld. `root` is data_road or the folder
    above it.

    Args:
        root, split, channels, ignore_label, problems: see `open_dataset`.
        classes: a table of two classes in place of `labels.ROAD`.
        white: see `read_image`.
        task: "road", or "lane" for the lane that the car is in, which only "um" pictures have.
        kinds: of scenes: "um", "umm" and "uu".

    Raises:
        ValueError: see `open_dataset`; for an unknown task or kind.
    """
    given = existing_folder(root)
    if task not in _TASKS:
        raise unknown_name("task", task, _TASKS)
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    for kind in kinds:
        if kind not in _KINDS:
            raise unknown_name("kind", kind, _KINDS)
    root = _place(given)
    if root is None:
        raise ValueError(
            f"{given}: no training/ with image_2/ and gt_image_2/ here or in data_road/. "
            f"It holds: {contents(given)}."
        )
    choose_split(given, split, ["training"])
    table, _, _ = find_classes(given, None, classes, ignore_label, labels.ROAD)
    check_class_count(given, table, 2, "KITTI road")
    images, masks = {}, {}
    for kind in kinds if task == "road" else ("um",):
        for path in (root / "image_2").glob(f"{kind}_*.png"):
            images[path.stem] = path
        for path in (root / "gt_image_2").glob(f"{kind}_{task}_*.png"):
            masks[path.stem.replace(f"_{task}_", "_")] = path
    errors = []
    names, images, masks = match(images, masks, root / "image_2", root / "gt_image_2", errors)
    report(given, errors, problems)
    read_label = functools.partial(_read_label, ignored=table.ignore_label)
    return SegmentationDataset(
        Files(images, masks, ImageReader(channels, white), read_label),
        table,
        names,
        channels=channels,
        layout="kitti_road",
        split="train",
        description=f"{title(given, 'train')}: KITTI road, {task}",
    )


def _read_label(path, ignored):
    colors = read.read_values(path, expand=True)
    if colors.ndim != 3 or colors.shape[2] < 3:
        raise ValueError(f"{path}: KITTI road's labels are RGB colours, got {colors.shape}.")
    colors = colors[..., :3]
    label = np.full(colors.shape[:2], ignored, "uint8")
    label[(colors == _OTHER).all(axis=2)] = 0
    label[(colors == _ROAD).all(axis=2)] = 1
    return label


def _place(root):
    for place in (root / "training", root / "data_road" / "training"):
        if (place / "image_2").is_dir() and (place / "gt_image_2").is_dir():
            return place
    return None


def _write(root, split, samples):
    """One split, "train"; pictures are numbered, a third of each kind."""
    palette = np.zeros((256, 3), "uint8")
    palette[:2] = _OTHER, _ROAD
    for number, sample in enumerate(samples):
        kind, number = _KINDS[3 * number // len(samples)], f"{number:06d}"
        place = root / "data_road" / "training"
        save_png(place / "image_2" / f"{kind}_{number}.png", sample.image)
        save_png(place / "gt_image_2" / f"{kind}_road_{number}.png", palette[sample.label])


LAYOUT = Layout(
    name="kitti_road",
    read=kitti_road,
    detect=lambda root: _place(root) is not None,
    splits=lambda root: [],
    write=_write,
    title="KITTI road",
    table=labels.ROAD,
    published={"train": (289, 95)},
    licence="CC BY-NC-SA 3.0, registration",
    source="cvlibs.net/datasets/kitti/eval_road.php",
    tfds="kitti has object boxes only",
)
