"""Kaggle's 2018 Data Science Bowl, nuclei: Caicedo et al. Nature Methods, 2019."""

import numpy as np

from keras_seg.data import labels, read
from keras_seg.data.dataset import ImageReader, SegmentationDataset
from keras_seg.data.readers.common import (
    check_class_count,
    choose_split,
    contents,
    existing_folder,
    find_classes,
    report,
    save_png,
    title,
)
from keras_seg.data.readers.instances import InstanceFiles
from keras_seg.data.readers.layout import Layout


def dsb2018(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    white=None,
    separate=False,
):
    """DSB 2018 as published: stage1_train/ID/images/ID.png and one mask a nucleus in ID/masks/.

    `root` holds stage1_train/ or is it. The label is background (0) or nucleus (1); the extra
    "instances" numbers the nuclei 1.. in the order of their files' names. Where two masks overlap,
    which the owners meant to avoid, the pixel belongs to the later file. Pictures are RGBA: their
    alpha is dropped. Arguments and errors: see `open_dataset`; `separate`: see `instances`.
    """
    given = existing_folder(root)
    root = _pictures(given)
    choose_split(given, split, ["train"])
    table, _, _ = find_classes(given, None, classes, ignore_label, labels.NUCLEI)
    check_class_count(given, table, 2, "DSB 2018 (background and nucleus)")
    names, images, masks, errors = [], [], [], []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        image = folder / "images" / f"{folder.name}.png"
        has_masks = any((folder / "masks").glob("*.png"))
        if not image.is_file():
            errors.append((image, f"is missing in {folder}"))
        if not has_masks:
            errors.append((folder / "masks", "holds no mask *.png"))
        if image.is_file() and has_masks:
            names.append(folder.name)
            images.append(image)
            masks.append(folder / "masks")
    if not names and not errors:
        raise ValueError(f"0 samples: {root} holds {contents(root)}; expected ID/images/ID.png.")
    report(root, errors, problems)
    return SegmentationDataset(
        InstanceFiles(images, masks, ImageReader(channels, white), separate, _read_masks),
        table,
        names,
        channels=channels,
        layout="dsb2018",
        split="train",
        description=f"{title(root, None)}: DSB 2018, one mask a nucleus",
    )


def _pictures(root):
    below = root / "stage1_train"
    return below if below.is_dir() else root


def _read_masks(folder):
    """All masks of a folder as one map of instances, int32 (H, W)."""
    instances = None
    for number, path in enumerate(sorted(folder.glob("*.png")), start=1):
        values = read.read_values(path)
        mask = (values if values.ndim == 2 else values[..., 0]) > 0
        if instances is None:
            instances = np.zeros(mask.shape, "int32")
        if mask.shape != instances.shape:
            raise ValueError(
                f"{path} is {mask.shape[0]}x{mask.shape[1]} (HxW), the masks before it are "
                f"{instances.shape[0]}x{instances.shape[1]}."
            )
        instances[mask] = number
    return instances


def _is_dsb(root):
    """stage1_train/, or that folder itself, with ID/images/ and ID/masks/."""
    place = _pictures(root)
    if place == root and root.name != "stage1_train":
        return False
    folders = (path for path in place.iterdir() if path.is_dir())
    return any((path / "images").is_dir() and (path / "masks").is_dir() for path in folders)


def _write(root, split, samples):
    """One split, "train"."""
    for sample in samples:
        place = root / "stage1_train" / sample.name
        opaque = np.full((*sample.image.shape[:2], 1), 255, "uint8")
        save_png(
            place / "images" / f"{sample.name}.png", np.concatenate([sample.image, opaque], axis=2)
        )
        for number in np.unique(sample.instances[sample.instances > 0]):
            mask = (sample.instances == number).astype("uint8") * 255
            save_png(place / "masks" / f"{sample.name}_{number:03d}.png", mask)


LAYOUT = Layout(
    name="dsb2018",
    read=dsb2018,
    detect=_is_dsb,
    splits=lambda root: [],
    write=_write,
    title="Data Science Bowl 2018, stage 1",
    ignores=False,
    table=labels.NUCLEI,
    contents="instances",
    published={"train": 670},
    licence="CC0",
    source="kaggle.com/c/data-science-bowl-2018 or bbbc.broadinstitute.org/BBBC038",
)
