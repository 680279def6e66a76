"""DRIVE retinal vessels: Staal et al. IEEE Transactions on Medical Imaging, 2004."""

import re

import numpy as np
from PIL import Image

from keras_seg.data import labels, read
from keras_seg.data.dataset import Files, ImageReader, SegmentationDataset
from keras_seg.data.readers.common import (
    choose_split,
    existing_folder,
    find_classes,
    report,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.utils import writable_folder

_SPLITS = ("training", "test")


def drive(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    white=None,
    field_of_view=True,
):
    """DRIVE: training/images/21_training.tif, 1st_manual/21_manual1.gif, mask/21_training_mask.gif.

    Files belong together by their number; PNG and TIFF will do for every one of them. Vessels are
    white in the files and class 1; outside of the field of view (black in mask/) pixels are
    ignored. Arguments and errors: see `open_dataset`.

    Args:
        field_of_view: whether to read mask/; without it all pixels count.
    """
    root = existing_folder(root)
    split = choose_split(root, split, _drive_splits(root))
    place = root / split
    table, _, _ = find_classes(root, split, classes, ignore_label, labels.VESSELS)
    kinds = ("images", "1st_manual", "mask")[: 3 if field_of_view else 2]
    errors = []
    found = {kind: _by_number(place / kind, errors) for kind in kinds}
    numbers = sorted(set.intersection(*map(set, found.values())))
    for kind in kinds:
        for number in sorted(found[kind].keys() - set(numbers)):
            lacking = " and ".join(k for k in kinds if number not in found[k])
            advice = "; field_of_view=False reads without" if "mask" in lacking else ""
            path = found[kind][number]
            errors.append((path, f"has no partner of the number {number} in {lacking}{advice}"))
    if not numbers and not errors:
        raise ValueError(f"0 samples in {place}/images.")
    report(root, errors, problems)
    images, manual, *views = [[found[kind][number] for number in numbers] for kind in kinds]
    return SegmentationDataset(
        _Vessels(images, manual, ImageReader(channels, white), views, table.ignore_label),
        table,
        [path.stem for path in images],
        channels=channels,
        layout="drive",
        split=split,
        description=f"{title(root, split)}: DRIVE layout, first observer"
        + (", outside of the field of view ignored" if field_of_view else ""),
    )


class _Vessels(Files):
    """Source of a data set with black and white masks, and with others of what counts."""

    def __init__(self, image_paths, mask_paths, read_image, views, ignore_label):
        super().__init__(image_paths, mask_paths, read_image, _read_white)
        self.views = views[0] if views else None
        self.ignore_label = ignore_label

    def label(self, index):
        label = super().label(index).astype("uint8")
        if self.views is None:
            return label
        view = _read_white(self.views[index])
        if view.shape != label.shape:
            raise ValueError(
                f"{self.views[index]} is {view.shape[0]}x{view.shape[1]} (HxW), but "
                f"{self.mask_paths[index]} is {label.shape[0]}x{label.shape[1]}."
            )
        return np.where(view, label, np.uint8(self.ignore_label))


def _read_white(path):
    """Where a black and white file is white: bool (H, W). White is 255 or 1."""
    values = read.read_values(path, gif=True, expand=True)
    values = values if values.ndim == 2 else values[..., 0]
    found = np.unique(values).tolist()
    if len(found) > 2 or (found[0] and len(found) > 1) or found[-1] not in (0, 1, 255):
        raise ValueError(
            f"{path}: expected a black and white mask (0 and 255), found the values "
            f"{', '.join(map(str, found[:8]))}."
        )
    return values > 0


def _by_number(place, errors):
    """{number that the name starts with: Path}."""
    files = {}
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        number = re.match(r"\d+", path.name)
        if path.suffix.lower() not in read.IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if number is None or number.group() in files:
            errors.append((path, "must start with a number of its own, as 21_training.tif does"))
        else:
            files[number.group()] = path
    return files


def _drive_splits(root):
    found = [root / name for name in _SPLITS]
    return [p.name for p in found if (p / "images").is_dir() and (p / "1st_manual").is_dir()]


def _write(root, split, samples):
    split = {"train": "training"}.get(split, "test")
    for number, sample in enumerate(samples, start=21):
        place, name = root / split, f"{number}_{split}"
        for folder in ("images", "1st_manual", "mask"):
            writable_folder(place / folder)
        Image.fromarray(sample.image).save(place / "images" / f"{name}.tif")
        vessel = np.where(sample.label == 1, np.uint8(255), np.uint8(0))
        Image.fromarray(vessel).save(place / "1st_manual" / f"{number}_manual1.gif")
        view = np.where(sample.label == 255, np.uint8(0), np.uint8(255))
        Image.fromarray(view).save(place / "mask" / f"{name}_mask.gif")


LAYOUT = Layout(
    name="drive",
    read=drive,
    detect=lambda root: bool(_drive_splits(root)),
    splits=_drive_splits,
    write=_write,
    title="DRIVE",
    table=labels.VESSELS,
    published={"train": 20, "test": 20},
    licence="research, with a citation",
    source="drive.grand-challenge.org",
)
