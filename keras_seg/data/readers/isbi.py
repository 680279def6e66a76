"""ISBI 2012 electron microscopy: Arganda-Carreras et al. Frontiers in Neuroanatomy, 2015."""

import numpy as np

from keras_seg.data import labels, read
from keras_seg.data.dataset import Files, ImageReader, MaskReader, SegmentationDataset
from keras_seg.data.readers.common import (
    choose_split,
    existing_folder,
    find_classes,
    pair,
    report,
    save_png,
    title,
)
from keras_seg.data.readers.isbi_volume import has_volumes, number_cells, open_volumes
from keras_seg.data.readers.layout import Layout


def isbi(
    root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None, white=None
):
    """ISBI 2012: train/image/N.png with train/label/N.png, or train-volume.tif, train-labels.tif.

    Masks hold 0 on membranes (class 0) and 255 inside cells (class 1). There is one split, "train".
    The extra "instances" numbers the cells: pixels of class 1 that hang together by their sides.
    Arguments and errors: see `open_dataset`.
    """
    root = existing_folder(root)
    choose_split(root, split, ["train"])
    table, colors, values = find_classes(root, "train", classes, ignore_label, labels.MEMBRANE)
    if has_volumes(root):
        return open_volumes(root, table, values or {0: 0, 255: 1}, channels)
    errors = []
    names, images, masks = pair(root / "train/image", root / "train/label", "", errors)
    report(root, errors, problems)
    values = values or {0: 0, 255: 1}
    return SegmentationDataset(
        _Slices(images, masks, ImageReader(channels, white), MaskReader(table, colors, values)),
        table,
        names,
        channels=channels,
        layout="isbi",
        split="train",
        description=f"{title(root, 'train')}: ISBI 2012 layout, 255 read as class 1",
    )


class _Slices(Files):
    """Source of a data set whose objects are the connected parts of class 1."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.extras = ("instances",)

    def extra(self, index, name):
        return number_cells(self.label(index))


def _is_isbi(root):
    """train/image and train/label with numbers for names, and a first mask of 0 and 255 only."""
    image, label = root / "train" / "image", root / "train" / "label"
    if not image.is_dir() or not label.is_dir():
        return False
    masks = [path for path in sorted(label.iterdir()) if path.suffix.lower() == ".png"]
    if not masks or not all(path.stem.isdigit() for path in masks):
        return False
    try:
        return np.unique(read.read_mask(masks[0])).tolist() == [0, 255]
    except ValueError:
        return False


def _write(root, split, samples):
    """One split, "train"; files are numbered."""
    for number, sample in enumerate(samples):
        save_png(root / "train" / "image" / f"{number}.png", sample.image[..., 0])
        save_png(root / "train" / "label" / f"{number}.png", (sample.label * 255).astype("uint8"))


LAYOUT = Layout(
    name="isbi",
    read=isbi,
    detect=lambda root: has_volumes(root) or _is_isbi(root),
    splits=lambda root: [],
    write=_write,
    title="ISBI 2012 EM",
    ignores=False,
    table=labels.MEMBRANE,
    contents="instances",
    published={"train": 30},
    licence="research, with a citation",
    source="imagej.net/events/isbi-2012-segmentation-challenge",
)
