"""A plain folder of images and one of masks."""

import numpy as np

from keras_seg.data import labels, read
from keras_seg.data.dataset import Files, ImageReader, MaskReader, SegmentationDataset
from keras_seg.data.labels import LabelTable
from keras_seg.data.read import write_mask
from keras_seg.data.readers.common import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    choose_split,
    existing_folder,
    find_classes,
    pair,
    report,
    save_png,
    split_places,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.utils import writable_folder

_MAX_SCANNED_GAP = 2  # of ids 0..K-1 found by scanning, at least 1 in 2 must occur


def folder(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    mask_values=None,
    color_table=None,
    mask_suffix="",
    white=None,
    problems=None,
):
    """A folder of images and a folder of masks, paired by name without suffix.

    The folders are called images/ and masks/ (or image, imgs, img; mask, labels, label,
    annotations), at the top, below train/, val/ and test/, or with train/, val/ and test/ below
    them (also training; valid, validation; testing). Subfolders are part of the name.

    Classes come from `classes`, else from classes.txt or classes.json in `root` or in its split
    (`labels.read_classes` says what they hold); else the ids of all masks are read, and the classes
    are called background, class 1, and so on.

    Args:
        root, split, classes, channels, ignore_label, problems: see `open_dataset`.
        mask_values: {value in the masks: id}, such as {0: 0, 255: 1}; see `read_mask`.
        color_table: for RGB masks, {(R, G, B): id} or a `LabelTable`; None: the colours of the
            classes, where they were given.
        mask_suffix: what mask names have and image names have not, such as "_mask".
        white: see `read_image`.

    Raises:
        ValueError: see `open_dataset`.
    """
    root = existing_folder(root)
    places = split_places(root, IMAGE_FOLDERS, MASK_FOLDERS)
    split = choose_split(root, split, list(places))
    errors = []
    names, images, masks = pair(*places[split], mask_suffix, errors)
    table, colors, given_values = find_classes(root, split, classes, ignore_label)
    mask_values = given_values if mask_values is None else mask_values
    color_table = colors if color_table is None else color_table
    source = "classes given"
    if table is None:
        every = [pair(*place, mask_suffix, [])[2] for place in places.values()]
        try:
            table = _scan(sum(every, []), color_table, mask_values, ignore_label, errors)
        except ValueError:
            if problems is not None:
                problems.extend(errors)
            raise
        source = "classes from the ids of the masks"
    report(root, errors, problems)
    return SegmentationDataset(
        Files(
            images, masks, ImageReader(channels, white), MaskReader(table, color_table, mask_values)
        ),
        table,
        names,
        channels=channels,
        layout="folder",
        split=split,
        description=f"{title(root, split)}: {places[split][0]} with {places[split][1]}, {source}",
    )


def _scan(masks, color_table, mask_values, ignore_label, errors):
    """The table of classes that the ids of all masks call for."""
    found = set()
    for path in masks:
        try:
            mask = read.read_mask(path, color_table=color_table, mask_values=mask_values)
        except ValueError as error:
            errors.append((path, str(error).removeprefix(f"{path}: ")))
            continue
        found.update(np.unique(mask).tolist())
    ids = sorted(found - {ignore_label})
    advice = "Name the classes (classes.txt, or classes=)"
    if not found:
        raise ValueError(
            f"None of {len(masks)} masks can be read, as {errors[-1][0]}: {errors[-1][1]}"
        )
    if found == {0, 255} or len(ids) < 2:
        raise ValueError(
            f"The masks hold only {_listed(found)}. {advice}; if {max(found)} is a class and not "
            f"ignored, read it as class 1: mask_values={{0: 0, {max(found)}: 1}} "
            f"(--mask-values 0=0 {max(found)}=1), or "
            f'"mask_values": {{"{max(found)}": 1}} in classes.json.'
        )
    if len(ids) * _MAX_SCANNED_GAP < ids[-1] + 1:
        raise ValueError(
            f"The masks hold {_listed(ids)}: too few of 0..{ids[-1]} to be ids in order. {advice}, "
            "or map the values to 0..K-1 with mask_values= (--mask-values)."
        )
    return LabelTable.default(ids[-1] + 1, ignore_label)


def _listed(ids):
    ids = sorted(ids)
    return "the ids " + ", ".join(map(str, ids[:12])) + (", ..." if len(ids) > 12 else "")


def _write(root, split, samples):
    for sample in samples:
        save_png(root / split / "images" / f"{sample.name}.png", sample.image)
        mask = writable_folder(root / split / "masks") / f"{sample.name}.png"
        write_mask(mask, sample.label, labels.SHAPES)


LAYOUT = Layout(
    name="folder",
    read=folder,
    detect=lambda root: bool(split_places(root, IMAGE_FOLDERS, MASK_FOLDERS)),
    splits=lambda root: [
        split for split in split_places(root, IMAGE_FOLDERS, MASK_FOLDERS) if split
    ],
    write=_write,
    title="your own: images/ and masks/",
)
