"""KITTI semantics: Alhaija et al. "Augmented Reality Meets Computer Vision", IJCV 2018."""

import numpy as np

from keras_seg.data import labels, read
from keras_seg.data.dataset import Files, ImageReader, SegmentationDataset
from keras_seg.data.readers.cityscapes import label_ids
from keras_seg.data.readers.common import (
    MappedReader,
    choose_split,
    contents,
    existing_folder,
    find_classes,
    given_ids,
    instance_files,
    pair,
    report,
    save_png,
    title,
)
from keras_seg.data.readers.layout import Layout


def kitti_semantic(
    root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None, white=None
):
    """KITTI semantics: training/ with image_2/, semantic/ (Cityscapes' label ids), instance/.

    Label ids become the 19 train ids of `labels.CITYSCAPES`, the other ids `ignore_label`; with
    other `classes` they stay as they are. instance/ has 16 bits, the label id in the high byte and
    the number of the object in the low one; without semantic/, label ids are taken from it. Extra
    "instances", if its files are there: one id an object, 0 where there is none. There is one
    split, "train"; the labels of testing/ are withheld. `root` may be the folder above
    data_semantics. Arguments and errors: see `open_dataset`.
    """
    given = existing_folder(root)
    root = _place(given)
    if root is None:
        raise ValueError(
            f"{given}: no training/ with image_2/ and semantic/ or instance/ here or in "
            f"data_semantics/. It holds: {contents(given)}."
        )
    choose_split(given, split, ["training"])
    table, _, values = find_classes(given, None, classes, ignore_label, labels.CITYSCAPES)
    kind = "semantic" if (root / "semantic").is_dir() else "instance"
    errors = []
    names, images, masks = pair(root / "image_2", root / kind, "", errors)
    report(given, errors, problems)
    ids = labels.CITYSCAPES_TRAIN_IDS if table is labels.CITYSCAPES else given_ids(values)
    objects = [root / "instance" / path.name for path in masks]
    extras, note = instance_files(objects, _read_objects)
    read_raw = read.read_instances if kind == "semantic" else _read_label_ids
    return SegmentationDataset(
        Files(
            images,
            masks,
            ImageReader(channels, white),
            MappedReader(read_raw, table, ids),
            extras,
        ),
        table,
        names,
        channels=channels,
        layout="kitti_semantic",
        split="train",
        description=f"{title(given, 'train')}: KITTI semantics, label ids of {kind}/",
    ).noted(note)


def _read_label_ids(path):
    return read.read_instances(path) >> 8


def _read_objects(path):
    ids = read.read_instances(path)
    return np.where(ids & 255, ids, 0)


def _place(root):
    for place in (root / "training", root / "data_semantics" / "training"):
        if (place / "image_2").is_dir() and any(
            (place / kind).is_dir() for kind in ("semantic", "instance")
        ):
            return place
    return None


def _write(root, split, samples):
    """One split, "train"; files are numbered."""
    for number, sample in enumerate(samples):
        name = f"{number:06d}_10.png"
        ids = label_ids(sample.label)
        objects = np.where(sample.label == 255, 0, sample.instances)
        save_png(root / "training" / "image_2" / name, sample.image)
        save_png(root / "training" / "semantic" / name, ids)
        both = ids.astype("uint16") * 256 + objects.astype("uint16")
        save_png(root / "training" / "instance" / name, both)


LAYOUT = Layout(
    name="kitti_semantic",
    read=kitti_semantic,
    detect=lambda root: _place(root) is not None,
    splits=lambda root: [],
    write=_write,
    title="KITTI semantics 2015",
    table=labels.CITYSCAPES,
    contents="instances",
    published={"train": 200},
    licence="CC BY-NC-SA 3.0, registration",
    source="cvlibs.net/datasets/kitti/eval_semseg.php",
    tfds="kitti has object boxes only",
)
