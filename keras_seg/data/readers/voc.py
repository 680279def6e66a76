"""PASCAL VOC: Everingham et al. "The PASCAL Visual Object Classes Challenge", IJCV 2010."""

import functools

import numpy as np

from keras_seg.data import labels
from keras_seg.data.dataset import Files, ImageReader, MaskReader, SegmentationDataset
from keras_seg.data.read import checked_ids, read_mask, write_mask
from keras_seg.data.readers.common import (
    choose_split,
    contents,
    existing_folder,
    find_classes,
    find_listed,
    instance_files,
    read_list,
    report,
    save_jpeg,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.data.readers.sbd import find_sbd, sbd_file, sbd_names, segmentation
from keras_seg.utils import writable_folder

_LISTS = "ImageSets/Segmentation"
_COMPUTED = ("trainaug", "seg11valid")
# Ids and instances are drawn in the same 255 colours; 255 is the border.
_COLORS = {tuple(c): i for i, c in enumerate(labels.voc_colors(256).tolist())}


def voc(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    white=None,
    sbd=None,
):
    """PASCAL VOC: JPEGImages/, SegmentationClass/ and lists in ImageSets/Segmentation/.

    `root` is the year's folder (VOC2012) or one above it, then the latest year is read. Palette
    masks give their indices; RGB ones are read through the colours of the table. If every picture
    has its file in SegmentationObject/, the extra "instances" gives them (border and background 0).

    Two splits are made here where ImageSets/Segmentation/ has no list of their name:

    - "trainaug", 10,582 pictures: train of VOC and train and val of SBD, without val of VOC.
      Needs `sbd`, or SegmentationClassAug/NAME.png beside SegmentationClass/ (SBD's masks
      converted; then all of those that are not in val). Pictures of VOC's own train keep their
      official masks, the others have SBD's, which know no ignored border.
    - "seg11valid", 736 pictures on which FCN was validated: val of VOC2011 without train of SBD.
      Needs `sbd`, and VOC2011's val.txt, in `root` or in VOC2011/ beside it.

    Args:
        root, split, classes, channels, ignore_label, problems: see `open_dataset`.
        white: see `read_image`.
        sbd: folder of the Semantic Boundaries Dataset, see `sbd`.

    Raises:
        ValueError: see `open_dataset`; if a split cannot be made.
    """
    given = existing_folder(root)
    root = _voc_root(given)
    if root is None:
        raise ValueError(
            f"{given}: no JPEGImages/ and SegmentationClass/ here or in VOCdevkit/VOC*/. "
            f"It holds: {contents(given)}."
        )
    sbd = None if sbd is None else find_sbd(sbd)
    if split not in _COMPUTED:
        found = _voc_splits(root)
        if not found:
            raise ValueError(f"{root}: no lists NAME.txt in {_LISTS}/.")
        split = choose_split(root, split, found)
    table, colors, values = find_classes(root, None, classes, ignore_label, labels.VOC)
    wanted, source = _split_names(root, split, sbd)
    files = _VocFiles(root, sbd)
    errors = []
    names, images, masks = find_listed(wanted, files.image, files.mask, source, errors)
    report(root, errors, problems)
    objects = [files.instances(name) for name in names]
    extras, note = instance_files(objects, _read_instances)
    from_mask = MaskReader(table, colors, values)
    return SegmentationDataset(
        Files(
            images,
            masks,
            ImageReader(channels, white),
            functools.partial(_read_label, table=table, from_mask=from_mask),
            extras,
        ),
        table,
        names,
        channels=channels,
        layout="voc",
        split=split,
        description=f"{title(root, split)}: PASCAL VOC layout",
    ).noted(note)


class _VocFiles:
    """Where the files of a picture are."""

    def __init__(self, root, sbd):
        self.root, self.sbd = root, sbd
        self.own = {name for split in ("train", "val") for name in _listed(root, split)}

    def image(self, name):
        path = self.root / "JPEGImages" / f"{name}.jpg"
        other = self.sbd and self.sbd / "img" / f"{name}.jpg"
        return other if other and not path.is_file() and other.is_file() else path

    def mask(self, name):
        path = self.root / "SegmentationClass" / f"{name}.png"
        if name in self.own or path.is_file():
            return path
        converted = self.root / "SegmentationClassAug" / f"{name}.png"
        if self.sbd and not converted.is_file():
            return sbd_file(self.sbd, "cls", name)
        return converted if converted.parent.is_dir() else path

    def instances(self, name):
        path = self.root / "SegmentationObject" / f"{name}.png"
        if name in self.own or path.is_file() or not self.sbd:
            return path
        return sbd_file(self.sbd, "inst", name)


def _read_label(path, table, from_mask):
    return (
        checked_ids(path, segmentation(path), table) if path.suffix == ".mat" else from_mask(path)
    )


def _read_instances(path):
    if path.suffix == ".mat":
        return segmentation(path)
    ids = read_mask(path, color_table=_COLORS).astype("int32")
    return np.where(ids == 255, 0, ids).astype("int32")


def _split_names(root, split, sbd):
    """(names, where they come from) of a split."""
    file = root / _LISTS / f"{split}.txt"
    if file.is_file():
        return read_list(file), file.name
    if split == "seg11valid":
        return _seg11valid(root, sbd)
    val = set(_listed(root, "val"))
    if sbd:
        names = {*_listed(root, "train"), *sbd_names(sbd, "train"), *sbd_names(sbd, "val")}
        return sorted(names - val), "VOC train with SBD"
    converted = root / "SegmentationClassAug"
    if not converted.is_dir():
        raise ValueError(
            f"{root} has no split 'trainaug': no trainaug.txt in {_LISTS}/ and no "
            "SegmentationClassAug/. Say where SBD is: sbd=FOLDER."
        )
    names = {path.stem for path in converted.glob("*.png")} | {*_listed(root, "train")}
    return sorted(names - val), "SegmentationClassAug/"


def _seg11valid(root, sbd):
    older = next((p for p in (root, root.parent / "VOC2011") if p.name == "VOC2011"), None)
    file = older / _LISTS / "val.txt"
    if sbd is None or not file.is_file():
        raise ValueError(
            f"{root} has no split 'seg11valid': no seg11valid.txt in {_LISTS}/. It is val of "
            "VOC2011 without train of SBD: say where SBD is (sbd=FOLDER), and have "
            f"{file}."
        )
    taken = set(sbd_names(sbd, "train"))
    return [name for name in read_list(file) if name not in taken], "VOC2011 val without SBD train"


def _listed(root, split):
    file = root / _LISTS / f"{split}.txt"
    return read_list(file) if file.is_file() else []


def _voc_root(root):
    """The folder of a year, the latest if there are several."""
    below = [place for pattern in ("VOC20*", "VOCdevkit/VOC20*") for place in root.glob(pattern)]
    for place in (root, *sorted(below, reverse=True)):
        if (place / "JPEGImages").is_dir() and (place / "SegmentationClass").is_dir():
            return place
    return None


def _voc_splits(root):
    found = {path.stem for path in (root / _LISTS).glob("*.txt")}
    if (root / "SegmentationClassAug").is_dir():
        found.add("trainaug")
    return sorted(found, key=lambda name: (name != "train", name))


def _write(root, split, samples):
    for sample in samples:
        save_jpeg(root / "JPEGImages" / f"{sample.name}.jpg", sample.image)
        for folder, ids in (
            ("SegmentationClass", sample.label),
            ("SegmentationObject", np.where(sample.label == 255, 255, sample.instances)),
        ):
            write_mask(writable_folder(root / folder) / f"{sample.name}.png", ids, labels.VOC)
    lists = writable_folder(root / _LISTS)
    (lists / f"{split}.txt").write_text("".join(f"{s.name}\n" for s in samples), "utf-8")


LAYOUT = Layout(
    name="voc",
    read=voc,
    detect=lambda root: _voc_root(root) is not None,
    splits=lambda root: _voc_splits(_voc_root(root) or root),
    write=_write,
    title="PASCAL VOC 2012",
    table=labels.VOC,
    contents="instances",
    published={  # of 2012, 2011 and 2010
        "train": (1464, 1112, 964),
        "val": (1449, 1111, 964),
        "trainval": (2913, 2223, 1928),
        "trainaug": 10582,
        "seg11valid": 736,
    },
    licence="research; photos under Flickr's terms",
    source="host.robots.ox.ac.uk/pascal/VOC/voc2012",
    tfds="voc has boxes only, no masks",
)
