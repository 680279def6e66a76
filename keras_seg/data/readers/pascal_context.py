"""PASCAL Context: Mottaghi et al. "The Role of Context for Object Detection ...", CVPR 2014."""

import numpy as np

from keras_seg.data import labels, read
from keras_seg.data.dataset import Files, ImageReader, SegmentationDataset
from keras_seg.data.readers.common import (
    MappedReader,
    check_class_count,
    choose_split,
    contents,
    existing_folder,
    find_classes,
    find_listed,
    read_list,
    report,
    save_jpeg,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.data.readers.matlab import read_mat, save_mat
from keras_seg.utils import unknown_name, writable_folder

_TABLES = {"59": labels.PASCAL_CONTEXT_59, "60": labels.PASCAL_CONTEXT_60}
_MATS, _PNGS = "trainval", "SegmentationClassContext"
_LISTS = ("ImageSets/SegmentationContext", "ImageSets/Main")


def pascal_context(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    white=None,
    protocol="60",
):
    """PASCAL Context: VOC2010's JPEGImages/ with the owner's trainval/NAME.mat in the same folder.

    `root` is VOC2010 or a folder above it. The lists are ImageSets/SegmentationContext/ or else
    VOC2010's own ImageSets/Main/. Instead of the .mat files (which need scipy, the extra "eval"),
    SegmentationClassContext/NAME.png may hold ids 0..59, as other libraries convert them; that
    order, by ids on disk, is the one of `labels.PASCAL_CONTEXT_60` (lists with aeroplane, bicycle,
    bird first are in another order).

    Args:
        root, split, channels, ignore_label, problems: see `open_dataset`.
        classes: a table of as many classes as the protocol has.
        white: see `read_image`.
        protocol: "60", background and 59 classes; "59", the same with background ignored. All 459
            labels do not fit in a label map of 8 bits: the extra "raw", int32 (H, W) 0..459, has
            them where there are .mat files; names: `labels.PASCAL_CONTEXT_NAMES[raw - 1]`.

    Raises:
        ValueError: see `open_dataset`; for an unknown protocol.
    """
    given = existing_folder(root)
    protocol = str(protocol)
    if protocol == "459":
        raise ValueError(
            f"{given}: 459 labels do not fit in a label map (0..255). Open it with protocol='60' "
            "and read the extra 'raw'."
        )
    if protocol not in _TABLES:
        raise unknown_name("protocol", protocol, list(_TABLES))
    root = _place(given)
    if root is None:
        raise ValueError(
            f"{given}: no JPEGImages/ with {_MATS}/NAME.mat or {_PNGS}/ here or in "
            f"VOCdevkit/VOC2010/. It holds: {contents(given)}."
        )
    split = choose_split(given, split, _splits(root))
    table, _, _ = find_classes(given, None, classes, ignore_label, _TABLES[protocol])
    check_class_count(given, table, int(protocol), f"protocol {protocol}")
    converted = (root / _PNGS).is_dir()
    folder, suffix = (root / _PNGS, ".png") if converted else (root / _MATS, ".mat")
    errors = []
    names, images, masks = find_listed(
        read_list(_list(root, split)),
        lambda name: root / "JPEGImages" / f"{name}.jpg",
        lambda name: folder / f"{name}{suffix}",
        f"{split}.txt",
        errors,
    )
    report(given, errors, problems)
    ids = {i: i for i in range(60)} if converted else labels.PASCAL_CONTEXT_RAW_IDS
    if protocol == "59":
        ids = {raw: index - 1 if index else table.ignore_label for raw, index in ids.items()}
    read_label = MappedReader(read.read_mask if converted else _read_label_map, table, ids)
    extras = None if converted else {"raw": (masks, _read_label_map)}
    return SegmentationDataset(
        Files(images, masks, ImageReader(channels, white), read_label, extras),
        table,
        names,
        channels=channels,
        layout="pascal_context",
        split=split,
        description=f"{title(given, split)}: PASCAL Context, {protocol} classes, *{suffix}",
    )


def _read_label_map(path):
    return read_mat(path, "LabelMap")


def _place(root):
    for place in (root, root / "VOC2010", root / "VOCdevkit" / "VOC2010"):
        if (place / "JPEGImages").is_dir() and (
            (place / _PNGS).is_dir() or next((place / _MATS).glob("*.mat"), None)
        ):
            return place
    return None


def _list(root, split):
    files = [root / folder / f"{split}.txt" for folder in _LISTS]
    return next((file for file in files if file.is_file()), files[0])


def _splits(root):
    return [split for split in ("train", "val") if _list(root, split).is_file()]


def _write(root, split, samples):
    root = writable_folder(root / "VOCdevkit" / "VOC2010")
    raw_ids = np.zeros(256, "uint16")
    raw_ids[list(labels.PASCAL_CONTEXT_RAW_IDS.values())] = list(labels.PASCAL_CONTEXT_RAW_IDS)
    raw_ids[0] = 0
    for sample in samples:
        save_jpeg(root / "JPEGImages" / f"{sample.name}.jpg", sample.image)
        save_mat(root / _MATS / f"{sample.name}.mat", LabelMap=raw_ids[sample.label])
    lists = writable_folder(root / "ImageSets" / "Main")
    (lists / f"{split}.txt").write_text("".join(f"{s.name}\n" for s in samples), "utf-8")


LAYOUT = Layout(
    name="pascal_context",
    read=pascal_context,
    detect=lambda root: _place(root) is not None,
    splits=lambda root: _splits(_place(root) or root),
    write=_write,
    title="PASCAL Context",
    table=labels.PASCAL_CONTEXT_60,
    ignores=False,
    contents="raw",
    published={"train": 4998, "val": 5105},
    licence="research; photos under Flickr's terms",
    source="cs.stanford.edu/~roozbeh/pascal-context",
)
