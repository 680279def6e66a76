"""DSTL satellite imagery (Kaggle, 2017): polygons of ten classes that overlap, up to 20 bands."""

import csv

import numpy as np
from PIL import Image

from keras_seg.data import labels
from keras_seg.data.dataset import SegmentationDataset
from keras_seg.data.readers.common import (
    check_class_count,
    choose_split,
    contents,
    existing_folder,
    find_classes,
    report,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.data.readers.polygons import fill_polygons, parse_wkt
from keras_seg.data.readers.tiff import map_tiff, write_tiff
from keras_seg.data.readers.tiles import cut_windows
from keras_seg.utils import writable_folder

_FILES = {3: ("RGB",), 8: ("M",), 16: ("M", "A"), 20: ("RGB", "P", "M", "A")}
_BANDS = {"RGB": 3, "P": 1, "M": 8, "A": 8}
_WHITE = {"RGB": 2047, "P": 2047, "M": 2047, "A": 16383}  # 11 bits, short-wave infrared 14
_POLYGONS, _GRID = "train_wkt_v4.csv", "grid_sizes.csv"


def dstl(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    white=None,
    percentiles=None,
    window=None,
    stride=None,
):
    """DSTL: three_band/ID.tif, sixteen_band/ID_{P,M,A}.tif, train_wkt_v4.csv, grid_sizes.csv.

    The 25 pictures with polygons, all "train". Classes do not exclude each other: labels are uint8
    (H, W, 10) of 0 and 1 (`multilabel`); a pixel belongs to a polygon if its centre does. Other
    bands than RGB are resized bilinearly to the size of RGB, and are not registered to it better
    than the data are (a few pixels off). Arguments and errors: see `open_dataset`.

    Args:
        channels: 3: RGB; 8: multispectral (M); 16: M and short-wave infrared (A); 20: RGB,
            panchromatic (P), M, A, in this order.
        white: the value that becomes 255; None: 2047 (11 bits), 16383 of A (14 bits).
        percentiles: (low, high): instead, every band of every picture is stretched so that these
            percentiles of it become 0 and 255.
        window, stride: see `potsdam`; None: whole pictures of about 3350 x 3390.
    """
    root = existing_folder(root)
    choose_split(root, split, ["train"])
    if channels not in _FILES:
        raise ValueError(f"channels of DSTL must be 3, 8, 16 or 20, got {channels!r}.")
    if percentiles is not None and not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ValueError(f"percentiles must be (low, high) in 0..100, got {percentiles!r}.")
    if white is not None and not white > 0:
        raise ValueError(f"white must be positive, got {white}.")
    if not _is_dstl(root):
        raise ValueError(f"{root}: no {_POLYGONS} with {_GRID}. It holds: {contents(root)}.")
    table, _, _ = find_classes(root, None, classes, ignore_label, labels.DSTL)
    check_class_count(root, table, 10, "DSTL")
    texts, grid = _read_polygons(root / _POLYGONS), _read_grid(root / _GRID)
    names, windows, errors = [], [], []
    for name in sorted(texts):
        missing = [
            path for path in _paths(root, name, ("RGB", *_FILES[channels])) if not path.is_file()
        ]
        errors += [(p, f"is missing, though {_POLYGONS} lists it") for p in dict.fromkeys(missing)]
        if name not in grid:
            errors.append((root / _GRID, f"has no row of {name}"))
        if missing or name not in grid:
            continue
        try:
            height, width, _ = _open_bands(root, name, "RGB").shape
        except ValueError as error:
            path = _paths(root, name, ("RGB",))[0]
            errors.append((path, str(error).removeprefix(f"{path}: ")))
            continue
        for suffix, area in cut_windows(height, width, window, stride):
            names.append(f"{name}{suffix}")
            windows.append((name, area))
    if not names and not errors:
        raise ValueError(f"0 samples: {root / _POLYGONS} lists none.")
    report(root, errors, problems)
    return SegmentationDataset(
        _Bands(root, windows, channels, (texts, grid), (white, percentiles)),
        table,
        names,
        channels=channels,
        layout="dstl",
        split="train",
        description=f"{title(root, None)}: DSTL, {', '.join(_FILES[channels])}, "
        + (f"windows of {window}" if window else "whole pictures"),
        multilabel=True,
    )


class _Bands:
    """Source of a data set (see `SegmentationDataset`) that keeps the last label map it drew."""

    def __init__(self, root, windows, channels, tables, scaling):
        self.root, self.windows, self.channels = root, windows, channels
        self.texts, self.grid = tables
        self.white, self.percentiles = scaling
        self.image_paths = [_paths(root, name, ("RGB",))[0] for name, _ in windows]
        self.mask_paths = [root / _POLYGONS] * len(windows)
        self._images, self._labels = (None, None), (None, None)  # (name, array), the last ones

    def image(self, index):
        name, (top, left, bottom, right) = self.windows[index]
        if self._images[0] != name:
            self._images = (name, self._read(name))
        return self._images[1][top:bottom, left:right].copy()

    def label(self, index):
        name, (top, left, bottom, right) = self.windows[index]
        if self._labels[0] != name:
            self._labels = (name, self._draw(name))
        return self._labels[1][top:bottom, left:right].copy()

    def both(self, index):
        return self.image(index), self.label(index)

    def __getstate__(self):
        return {**vars(self), "_images": (None, None), "_labels": (None, None)}

    def _read(self, name):
        height, width, _ = _open_bands(self.root, name, "RGB").shape
        bands = []
        for kind in _FILES[self.channels]:
            values = _open_bands(self.root, name, kind)
            for band in range(values.shape[2]):
                scaled = self._scale(np.array(values[..., band]), kind)
                picture = Image.fromarray(scaled)
                bands.append(picture.resize((width, height), Image.Resampling.BILINEAR))
        return np.stack([np.asarray(band) for band in bands], axis=2)

    def _scale(self, band, kind):
        """A band as uint8, through a table of all values that it may have."""
        low, high = 0, self.white or _WHITE[kind]
        if self.percentiles is not None:
            low, high = np.percentile(band, self.percentiles)
            high = max(high, low + 1)
        possible = np.arange(np.iinfo(band.dtype).max + 1, dtype="float32")
        scaled = np.clip((possible - low) * (255.0 / (high - low)), 0, 255)
        return np.rint(scaled).astype("uint8")[band]

    def _draw(self, name):
        height, width, _ = _open_bands(self.root, name, "RGB").shape
        label = np.zeros((height, width, 10), "uint8")
        x_max, y_min = self.grid[name]
        # The competition scales x by W * W / (W + 1), so that the largest is inside the picture.
        scale = [width * width / (width + 1) / x_max, height * height / (height + 1) / y_min]
        for class_type, text in self.texts[name].items():
            try:
                polygons = parse_wkt(text)
            except ValueError as error:
                place = f"{self.root / _POLYGONS}: {name}, class {class_type}"
                raise ValueError(f"{place}: {error}.") from error
            scaled = [[ring * scale for ring in polygon] for polygon in polygons]
            label[..., class_type - 1] = fill_polygons(scaled, (height, width))
        return label


def _open_bands(root, name, kind):
    """The values of one file, uint8 or uint16 (H, W, bands)."""
    path = _paths(root, name, (kind,))[0]
    values = map_tiff(path)
    if values is None:
        raise ValueError(
            f"{path}: damaged, or not an uncompressed TIFF of 8 or 16 bits, which the data set's "
            "files are. gdal_translate -co COMPRESS=NONE writes such."
        )
    if values.shape[2] != _BANDS[kind]:
        raise ValueError(f"{path}: {values.shape[2]} bands; {kind} files have {_BANDS[kind]}.")
    return values


def _paths(root, name, kinds):
    return [
        root / "three_band" / f"{name}.tif"
        if kind == "RGB"
        else root / "sixteen_band" / f"{name}_{kind}.tif"
        for kind in kinds
    ]


def _read_polygons(path):
    """{picture: {class 1..10: WKT}}. Its fields are larger than the csv module allows."""
    found = {}
    for number, line in enumerate(_lines(path)[1:], start=2):
        name, class_type, text = [*line.split(",", 2), "", ""][:3]
        if not class_type.isdigit() or not 1 <= int(class_type) <= 10:
            raise ValueError(
                f"{path}, line {number}: expected ImageId,ClassType,MultipolygonWKT with a class "
                f"1..10, got {line!r:.60}."
            )
        found.setdefault(name, {})[int(class_type)] = text.strip('"')
    return found


def _read_grid(path):
    """{picture: (Xmax, Ymin)}."""
    found = {}
    for number, row in enumerate(csv.reader(_lines(path)[1:]), start=2):
        try:
            name, x_max, y_min = row[0], float(row[1]), float(row[2])
        except (IndexError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: expected ImageId,Xmax,Ymin.") from error
        if not x_max > 0 > y_min:
            raise ValueError(f"{path}, line {number}: Xmax must be above 0 and Ymin below.")
        found[name] = (x_max, y_min)
    return found


def _lines(path):
    try:
        return [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Cannot read {path}: {error}.") from error


def _is_dstl(root):
    return (root / _POLYGONS).is_file() and (root / _GRID).is_file()


def _write(root, split, samples):
    """One split; every run of pixels of a row is a polygon. All bands come from the picture."""
    writable_folder(root)
    for path, head in (
        (root / _POLYGONS, "ImageId,ClassType,MultipolygonWKT\n"),
        (root / _GRID, ",Xmax,Ymin\n"),
    ):
        if not path.exists():
            path.write_text(head, "utf-8")
    x_max, y_min = 0.009, -0.009
    for sample in samples:
        height, width = sample.label.shape
        scale = x_max / (width * width / (width + 1)), y_min / (height * height / (height + 1))
        rows = []
        for class_type in range(1, 11):
            polygons = [
                f"(({', '.join(f'{x * scale[0]:.12f} {y * scale[1]:.12f}' for x, y in corners)}))"
                for corners in _runs(sample.label == class_type - 1)
            ]
            text = f"MULTIPOLYGON ({', '.join(polygons)})" if polygons else "MULTIPOLYGON EMPTY"
            rows.append(f'{sample.name},{class_type},"{text}"\n')
        with (root / _POLYGONS).open("a", encoding="utf-8") as file:
            file.writelines(rows)
        with (root / _GRID).open("a", encoding="utf-8") as file:
            file.write(f"{sample.name},{x_max},{y_min}\n")
        deep = np.rint(sample.image * (2047 / 255.0)).astype("uint16")
        eight = deep[::4, ::4, [0, 1, 2, 0, 1, 2, 0, 1]]
        for kind, bands in (("RGB", deep), ("P", deep[..., :1]), ("M", eight), ("A", 8 * eight)):
            write_tiff(_paths(root, sample.name, (kind,))[0], bands)


def _runs(mask):
    """The corners of a rectangle around every run of a row."""
    for y, row in enumerate(mask):
        ends = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        for left, right in ends.reshape(-1, 2):
            yield [(left, y), (right, y), (right, y + 1), (left, y + 1), (left, y)]


LAYOUT = Layout(
    name="dstl",
    read=dstl,
    detect=_is_dstl,
    splits=lambda root: [],
    write=_write,
    title="DSTL Satellite Imagery Feature Detection",
    ignores=False,
    table=labels.DSTL,
    contents="labels of classes that overlap; up to 20 bands",
    published={"train": 25},
    licence="Kaggle's rules of the competition",
    source="kaggle.com/c/dstl-satellite-imagery-feature-detection",
)
