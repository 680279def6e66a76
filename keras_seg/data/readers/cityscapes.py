"""Cityscapes: Cordts et al. "The Cityscapes Dataset for Semantic Urban ...", CVPR 2016."""

import numpy as np

from keras_seg.data import labels, read
from keras_seg.data.dataset import Files, ImageReader, SegmentationDataset
from keras_seg.data.readers.common import (
    MappedReader,
    choose_split,
    contents,
    existing_folder,
    find_classes,
    given_ids,
    instance_files,
    pair_by_ending,
    report,
    save_png,
    title,
)
from keras_seg.data.readers.layout import Layout

_SPLITS = ("train", "val", "test", "train_extra")
_IMAGE = "_leftImg8bit.png"
_BROKEN = "troisdorf/troisdorf_000000_000073"


def cityscapes(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    white=None,
    coarse=False,
):
    """Cityscapes: leftImg8bit/SPLIT/CITY/ with gtFine/SPLIT/CITY/, or gtCoarse/ with `coarse`.

    Label ids (NAME_gtFine_labelIds.png) become the 19 train ids of `labels.CITYSCAPES`, the other
    ids `ignore_label`; with other `classes` they stay as they are. Without those files,
    NAME_gtFine_labelTrainIds.png is read as it is, or else the ids are taken from
    NAME_gtFine_instanceIds.png. Names are CITY/CITY_000000_000019. Extra "instances", if the files
    of instance ids are there: one id an object, regions that are no single objects 0.

    The labels of split "test" are withheld: its files ignore every pixel. Split "train_extra" has
    coarse labels only, and its picture troisdorf_000000_000073, which is black, is left out.

    Args:
        root, split, classes, channels, ignore_label, problems: see `open_dataset`.
        white: see `read_image`.
        coarse: the coarse labels of train and val.

    Raises:
        ValueError: see `open_dataset`.
    """
    given = existing_folder(root)
    image_root = _image_root(given)
    kind = "gtCoarse" if coarse or split == "train_extra" else "gtFine"
    if image_root is None or not (given / kind).is_dir():
        other = kind == "gtFine" and (given / "gtCoarse").is_dir()
        raise ValueError(
            f"{given}: expected leftImg8bit/ and {kind}/. It holds: {contents(given)}."
            + " coarse=True reads gtCoarse/." * other
        )
    split = choose_split(given, split, _splits_of(image_root, given / kind))
    table, _, values = find_classes(given, None, classes, ignore_label, labels.CITYSCAPES)
    errors = []
    folder = given / kind / split
    ending = _label_ending(folder, kind)
    names, images, masks = pair_by_ending(image_root / split, _IMAGE, folder, ending, errors)
    report(given, errors, problems)
    keep = [i for i, name in enumerate(names) if name != _BROKEN]
    names, images, masks = ([rows[i] for i in keep] for rows in (names, images, masks))
    ids = given_ids(values)
    if table is labels.CITYSCAPES and not ending.endswith("_labelTrainIds.png"):
        ids = labels.CITYSCAPES_TRAIN_IDS
    raw = read_label_ids if ending.endswith("_instanceIds.png") else read.read_instances
    objects = [p.with_name(p.name.removesuffix(ending) + f"_{kind}_instanceIds.png") for p in masks]
    extras, note = instance_files(objects, read_objects)
    return SegmentationDataset(
        Files(
            images,
            masks,
            ImageReader(channels, white),
            MappedReader(raw, table, ids),
            extras,
        ),
        table,
        names,
        channels=channels,
        layout="cityscapes",
        split=split,
        description=f"{title(given, split)}: Cityscapes, {kind}, *{ending}",
    ).noted(note)


def read_label_ids(path):
    """The label ids in a map of instance ids: thousands, or the value itself below 1000."""
    ids = read.read_instances(path)
    return np.where(ids < 1000, ids, ids // 1000)


def read_objects(path):
    """The objects in a map of instance ids, int32 (H, W): values from 1000, all else 0."""
    ids = read.read_instances(path)
    return np.where(ids < 1000, 0, ids)


def _label_ending(folder, kind):
    """The ending of the best label files in `folder`; that of the usual ones if there are none."""
    endings = [f"_{kind}_{name}.png" for name in ("labelIds", "labelTrainIds", "instanceIds")]
    return next((e for e in endings if next(folder.rglob(f"*{e}"), None)), endings[0])


def _image_root(root):
    places = (root / "leftImg8bit", root / "imgsFine" / "leftImg8bit")
    return next((place for place in places if place.is_dir()), None)


def _splits_of(images, label_root):
    return [n for n in _SPLITS if (images / n).is_dir() and (label_root / n).is_dir()]


def _splits(root, coarse=False):
    """Those with fine labels, and train_extra if it is there; or all with coarse ones."""
    images = _image_root(root)
    if images is None:
        return []
    if coarse:
        return _splits_of(images, root / "gtCoarse")
    fine, coarse = (_splits_of(images, root / kind) for kind in ("gtFine", "gtCoarse"))
    return fine + [split for split in coarse if split == "train_extra"]


def _is_cityscapes(root):
    kinds = ("gtFine", "gtCoarse")
    return _image_root(root) is not None and any((root / kind).is_dir() for kind in kinds)


def label_ids(label):
    """Label ids as on disk of a map of train ids; ignored pixels are "out of roi", 3."""
    back = np.full(256, 3, "uint8")
    for label_id, train_id in labels.CITYSCAPES_TRAIN_IDS.items():
        if train_id != 255:
            back[train_id] = label_id
    return back[label]


def _write(root, split, samples):
    for number, sample in enumerate(samples):
        place = f"{split}/madeup/madeup_{number:06d}_000019"
        ids = label_ids(sample.label)
        single = (sample.instances > 0) & (sample.label != 255)
        instance_ids = np.where(single, ids * np.int32(1000) + sample.instances, ids)
        save_png(root / "leftImg8bit" / f"{place}{_IMAGE}", sample.image)
        save_png(root / "gtFine" / f"{place}_gtFine_labelIds.png", ids)
        save_png(root / "gtFine" / f"{place}_gtFine_instanceIds.png", instance_ids.astype("uint16"))


LAYOUT = Layout(
    name="cityscapes",
    read=cityscapes,
    detect=_is_cityscapes,
    splits=_splits,
    write=_write,
    title="Cityscapes",
    table=labels.CITYSCAPES,
    contents="instances",
    published={"train": 2975, "val": 500, "test": 1525, "train_extra": (19997, 19998, 20000)},
    licence="non-commercial research, registration",
    source="cityscapes-dataset.com",
    tfds="cityscapes/semantic_segmentation, manual download; label ids, not train ids",
)
