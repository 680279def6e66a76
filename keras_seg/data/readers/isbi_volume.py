"""ISBI 2012 as published: one TIFF of 30 slices for the pictures and one for the labels."""

import numpy as np
from PIL import Image

from keras_seg.data.dataset import SegmentationDataset
from keras_seg.data.readers.common import title

_PICTURES, _LABELS = "train-volume.tif", "train-labels.tif"


def has_volumes(root):
    """Whether `root` holds both files."""
    return (root / _PICTURES).is_file() and (root / _LABELS).is_file()


def open_volumes(root, table, values, channels):
    """A data set with a sample a slice; arguments as in `isbi`.

    Raises:
        ValueError: if a file is damaged, or the two have different numbers of slices.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels of grey slices must be 1 or 3, got {channels!r}.")
    counts = [_count(root / name) for name in (_PICTURES, _LABELS)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"{root / _PICTURES} has {counts[0]} slices, but {root / _LABELS} has {counts[1]}."
        )
    return SegmentationDataset(
        _Volumes(root, counts[0], table, values, channels),
        table,
        [f"{number:02d}" for number in range(counts[0])],
        channels=channels,
        layout="isbi",
        split="train",
        description=f"{title(root, 'train')}: ISBI 2012 volumes, 255 read as class 1",
    )


class _Volumes:
    """Source of a data set (see `SegmentationDataset`); objects are connected parts of class 1."""

    extras = ("instances",)

    def __init__(self, root, count, table, values, channels):
        self.image_paths, self.mask_paths = [root / _PICTURES] * count, [root / _LABELS] * count
        self.table, self.values, self.channels = table, values, channels

    def image(self, index):
        page = _read_page(self.image_paths[index], index)
        return np.repeat(page[..., None], self.channels, axis=2)

    def label(self, index):
        page = _read_page(self.mask_paths[index], index)
        label = np.full(page.shape, -1, "int16")
        for value, new in self.values.items():
            label[page == value] = new
        if (label < 0).any():
            found = ", ".join(map(str, np.unique(page[label < 0])[:8]))
            raise ValueError(
                f"{self.mask_paths[index]}, slice {index}: holds {found}; expected "
                f"{' or '.join(map(str, self.values))}."
            )
        return label.astype("uint8")

    def extra(self, index, name):
        try:
            from scipy import ndimage
        except ImportError as error:
            raise ValueError(
                "Numbering the cells of ISBI slices needs SciPy: pip install 'keras-seg[eval]'."
            ) from error
        return ndimage.label(self.label(index) == 1)[0].astype("int32")

    def both(self, index):
        return self.image(index), self.label(index)


def _count(path):
    try:
        with Image.open(path) as image:
            return image.n_frames
    except Exception as error:  # damage shows as many types of error
        raise ValueError(f"{path}: damaged, or not a TIFF ({error}).") from error


def _read_page(path, number):
    """One slice, uint8 (H, W)."""
    try:
        with Image.open(path) as image:
            image.seek(number)
            page = np.array(image)
    except Exception as error:
        raise ValueError(f"{path}: slice {number} cannot be read ({error}).") from error
    if page.ndim != 2 or page.dtype.kind not in "bu" or page.dtype.itemsize > 1:
        raise ValueError(f"{path}: slice {number} is {page.dtype} {page.shape}, not 8-bit grey.")
    return page * np.uint8(255) if page.dtype == bool else page
