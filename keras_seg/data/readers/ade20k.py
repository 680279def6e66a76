"""ADE20K as SceneParse150: Zhou et al. "Scene Parsing through ADE20K Dataset", CVPR 2017."""

import numpy as np

from keras_seg.data import labels, read
from keras_seg.data.dataset import Files, ImageReader, MaskReader, SegmentationDataset
from keras_seg.data.readers.common import (
    MappedReader,
    choose_split,
    existing_folder,
    find_classes,
    pair,
    report,
    save_jpeg,
    save_png,
    split_places,
    title,
)
from keras_seg.data.readers.layout import Layout

_OUTER, _IMAGES, _MASKS = "ADEChallengeData2016", ("images",), ("annotations",)


def ade20k(
    root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None, white=None
):
    """SceneParse150: images/ and annotations/, each with training/ and validation/.

    `root` is the folder of these, ADEChallengeData2016, or the one above.
    Masks hold 0 for everything else, which becomes `ignore_label`, and 1..150, which become the
    classes 0..149 of `labels.ADE20K`. With other `classes`, ids stay as they are. Both folders may
    also hold the files themselves. Arguments and errors: see `open_dataset`.
    """
    root = _place(existing_folder(root))
    places = split_places(root, _IMAGES, _MASKS)
    split = choose_split(root, split, list(places))
    table, colors, values = find_classes(root, split, classes, ignore_label, labels.ADE20K)
    errors = []
    names, images, masks = pair(*places[split], "", errors)
    report(root, errors, problems)
    read_label = MaskReader(table, colors, values)
    if table is labels.ADE20K:
        ids = {0: table.ignore_label, **{i + 1: i for i in range(table.num_classes)}}
        read_label = MappedReader(read.read_mask, table, ids)
    return SegmentationDataset(
        Files(images, masks, ImageReader(channels, white), read_label),
        table,
        names,
        channels=channels,
        layout="ade20k",
        split=split,
        description=f"{title(root, split)}: SceneParse150, 0 ignored, 1..150 as 0..149",
    )


def _place(root):
    """The folder of images/ and annotations/, `root` or the owner's below it."""
    below = root / _OUTER
    return below if below.is_dir() and not (root / _IMAGES[0]).is_dir() else root


def _splits(root):
    return [split for split in split_places(_place(root), _IMAGES, _MASKS) if split]


def _is_ade20k(root):
    """images/ with annotations/, and a class list of the owner's or his names of files."""
    root = _place(root)
    places = split_places(root, _IMAGES, _MASKS)
    if not places:
        return False
    if any((root / name).is_file() for name in ("objectInfo150.txt", "sceneCategories.txt")):
        return True
    return all(next(images.glob("ADE_*"), None) for images, _ in places.values())


def _write(root, split, samples):
    folder = {"train": "training", "val": "validation"}.get(split, split)
    for number, sample in enumerate(samples, 1):
        name = f"ADE_{split}_{number:08d}"
        ids = np.where(sample.label == 255, 0, sample.label + 1).astype("uint8")
        save_jpeg(root / "images" / folder / f"{name}.jpg", sample.image)
        save_png(root / "annotations" / folder / f"{name}.png", ids)


LAYOUT = Layout(
    name="ade20k",
    read=ade20k,
    detect=_is_ade20k,
    splits=_splits,
    write=_write,
    title="ADE20K, SceneParse150",
    table=labels.ADE20K,
    published={"train": 20210, "val": 2000},
    licence="research and education; toolkit BSD-3, photos' terms not stated",
    source="data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
    tfds="scene_parse150 gives instance maps of 100 things, not these 150 classes",
)
