"""NYU Depth v2: Silberman et al. ECCV 2012; 40 classes: Gupta, Arbelaez, Malik. CVPR 2013."""

import numpy as np

from keras_seg.data import labels, read
from keras_seg.data.dataset import SegmentationDataset
from keras_seg.data.readers.common import (
    choose_split,
    contents,
    existing_folder,
    find_classes,
    read_list,
    report,
    save_png,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.data.readers.lists import existing, write_list
from keras_seg.data.readers.matlab import FromOneReader, read_mat, save_mat

_CHANNELS = {"rgb": 3, "depth": 1, "hha": 3}
_LISTS = ("train", "val", "trainval", "test")
_ARCHIVE, _SPLIT_FILE, _MAPPING = "nyu_depth_v2_labeled.mat", "splits.mat", "classMapping40.mat"
_RAW_CLASSES = 894


def nyud(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    inputs="rgb",
    far=10.0,
    mapping=None,
):
    """NYU Depth v2 in one of three forms, told by what `root` holds.

    FCN's authors' files: data/images/img_5001.png, data/depth/ (16 bits, millimetres), data/hha/,
    segmentation/img_5001.mat (variable "segmentation", 0..40) and the lists train.txt, val.txt,
    trainval.txt, test.txt of numbers or names.

    The owners' nyu_depth_v2_labeled.mat (HDF5): 1,449 pictures; with splits.mat beside it "train"
    (795) and "test" (654). Its 894 raw classes become the 40 through `mapping`; they do not fit in
    a label map and are the extra "raw", int32 (H, W), 0 unlabelled.

    One NAME.h5 a picture with "rgb" and "depth", as depth estimation uses it: there are no labels,
    every pixel is ignored.

    Ids on disk start at 1; 0, unlabelled, is ignored. Extras where the form has them: "depth",
    float32 (H, W), metres, 0 where unknown; "hha", uint8 (H, W, 3). Needs SciPy (extra "eval").
    Arguments and errors: see `open_dataset`.

    Args:
        channels: of RGB alone, 1 or 3; other `inputs` have their own.
        inputs: what pictures consist of, joined by "+": "rgb", "depth", "hha", such as "rgb+hha".
        far: metres of depth that become 255 in a picture; 0 is unknown. Extras are in metres.
        mapping: classMapping40.mat (its variable mapClass), or 894 numbers 1..40; None: that file
            in `root`.
    """
    root = existing_folder(root)
    kinds = str(inputs).split("+")
    if len(set(kinds)) < len(kinds) or not set(kinds) <= _CHANNELS.keys():
        raise ValueError(
            f'inputs must be of {", ".join(_CHANNELS)}, joined by "+", got {inputs!r}.'
        )
    if kinds != ["rgb"]:
        channels = sum(_CHANNELS[kind] for kind in kinds)
    elif channels not in (1, 3):
        raise ValueError(f"channels of NYUDv2's RGB must be 1 or 3, got {channels!r}.")
    if not far > 0:
        raise ValueError(f"far must be positive, got {far}.")
    form = _form(root)
    if form is None:
        raise ValueError(
            f"{root}: no data/images/ with segmentation/, no {_ARCHIVE} and no *.h5. "
            f"It holds: {contents(root)}."
        )
    split = choose_split(root, split, _nyud_splits(root) or [None])
    table, _, _ = find_classes(root, None, classes, ignore_label, labels.NYUD)
    errors, notes = [], []
    if form == "files":
        reader, names = _open_files(root, split, kinds, table, errors)
    elif form == "archive":
        reader, names = _open_archive(root, split, mapping, table)
    else:
        reader, names = _open_singles(root, split, table)
        notes.append("these files have no labels: every pixel is ignored")
    lacking = [kind for kind in kinds if kind != "rgb" and kind not in reader.extras]
    if lacking:
        raise ValueError(
            f"{root} has no {lacking[0]}. data/{lacking[0]}/ is part of FCN's authors' files; it "
            f"has: {', '.join(('rgb', *reader.extras))}."
        )
    if not names and not errors:
        raise ValueError(f"0 samples in {title(root, split)}.")
    report(root, errors, problems)
    return SegmentationDataset(
        _Stacked(reader, kinds, channels, far),
        table,
        names,
        channels=channels,
        layout="nyud",
        split=split,
        description=f"{title(root, split)}: NYU Depth v2, {inputs}",
        notes=notes,
    )


class _Stacked:
    """Source of a data set whose pictures are several of a reader's kinds, one behind the other."""

    def __init__(self, reader, kinds, channels, far):
        self.reader, self.kinds, self.channels, self.far = reader, kinds, channels, far
        self.extras = reader.extras
        self.image_paths, self.mask_paths = reader.image_paths, reader.mask_paths

    def image(self, index):
        parts = []
        for kind in self.kinds:
            values = self.reader.read(index, kind)
            if kind == "depth":
                scaled = np.rint(np.clip(values * (255.0 / self.far), 0, 255))
                values = scaled.astype("uint8")[..., None]
            if kind == "rgb" and self.channels == 1:
                values = np.rint(values @ np.array([0.299, 0.587, 0.114])).astype("uint8")
                values = values[..., None]
            if parts and values.shape[:2] != parts[0].shape[:2]:
                raise ValueError(
                    f"{self.image_paths[index]}: its {kind} is {values.shape[0]}x"
                    f"{values.shape[1]} (HxW), the {self.kinds[0]} {parts[0].shape[0]}x"
                    f"{parts[0].shape[1]}."
                )
            parts.append(values)
        return np.concatenate(parts, axis=2)

    def label(self, index):
        return self.reader.label(index)

    def extra(self, index, name):
        return self.reader.read(index, name)

    def both(self, index):
        return self.image(index), self.label(index)


class _FilesReader:
    """FCN's authors' form; `places` is {kind: list of Path}."""

    def __init__(self, places, mask_paths, table):
        self.places, self.mask_paths = places, mask_paths
        self.read_label = FromOneReader("segmentation", table)
        self.image_paths = places["rgb"]
        self.extras = tuple(kind for kind in places if kind != "rgb")

    def read(self, index, kind):
        path = self.places[kind][index]
        if kind != "depth":
            return read.read_image(path, 3)
        values = read.read_values(path)
        if values.ndim != 2 or values.dtype.kind not in "iu" or values.dtype.itemsize < 2:
            raise ValueError(f"{path}: depth must be a grey file of 16 bits, in millimetres.")
        return values.astype("float32") / 1000

    def label(self, index):
        return self.read_label(self.mask_paths[index])


class _ArchiveReader:
    """The owners' form: `indices` into the arrays of one HDF5 file, which MATLAB turned around."""

    extras = ("depth", "raw")

    def __init__(self, path, indices, ids):
        self.path, self.indices, self.ids = path, indices, ids
        self.image_paths = self.mask_paths = [path] * len(indices)
        self._file = None

    def read(self, index, kind):
        key = {"rgb": "images", "depth": "depths", "raw": "labels"}[kind]
        if self._file is None:
            self._file = _open_h5(self.path)
        try:
            values = self._file[key][self.indices[index]]
        except (KeyError, OSError) as error:
            raise ValueError(f"{self.path}: damaged: {key} cannot be read ({error}).") from error
        if kind == "rgb":
            return np.ascontiguousarray(values.transpose(2, 1, 0))
        return np.ascontiguousarray(values.T.astype("float32" if kind == "depth" else "int32"))

    def label(self, index):
        raw = self.read(index, "raw")
        if raw.max() >= len(self.ids):
            raise ValueError(f"{self.path}: class {raw.max()} is not among {_RAW_CLASSES}.")
        return self.ids[raw]

    def __getstate__(self):
        return {**vars(self), "_file": None}


class _SinglesReader:
    """One HDF5 file a picture: rgb (3, H, W), depth (H, W) in metres, no labels."""

    extras = ("depth",)

    def __init__(self, paths, ignore_label):
        self.image_paths = self.mask_paths = paths
        self.ignore_label = ignore_label

    def read(self, index, kind):
        path = self.image_paths[index]
        with _open_h5(path) as file:
            if kind not in file:
                raise ValueError(f"{path}: no {kind!r}; it holds {', '.join(file)}.")
            values = file[kind][()]
        if values.ndim != (3 if kind == "rgb" else 2):
            raise ValueError(f"{path}: {kind} has the shape {values.shape}.")
        if kind == "depth":
            return values.astype("float32")
        return np.ascontiguousarray(np.clip(values, 0, 255).astype("uint8").transpose(1, 2, 0))

    def label(self, index):
        height, width = self.read(index, "depth").shape
        return np.full((height, width), self.ignore_label, "uint8")


def _open_files(root, split, kinds, table, errors):
    have = [kind for kind in ("depth", "hha") if (root / "data" / kind).is_dir()]
    folders = {"rgb": "images", "depth": "depth", "hha": "hha"}
    every = ["rgb", *have]
    places = [
        lambda name, folder=folders[kind]: root / "data" / folder / f"{name}.png" for kind in every
    ]
    lines = read_list(root / f"{split}.txt")
    names = [line if line.startswith("img_") else f"img_{line}" for line in lines]
    names, masks, *found = existing(
        names, [lambda name: root / "segmentation" / f"{name}.mat", *places], errors, f"{split}.txt"
    )
    return _FilesReader(dict(zip(every, found, strict=True)), masks, table), names


def _open_archive(root, split, mapping, table):
    path = root / _ARCHIVE
    with _open_h5(path) as file:
        if not {"images", "depths", "labels"} <= set(file):
            raise ValueError(f"{path}: no images, depths and labels; it holds {', '.join(file)}.")
        count = len(file["images"])
    indices = np.arange(count)
    if split is not None:
        key = {"train": "trainNdxs", "test": "testNdxs"}[split]
        indices = read_mat(root / _SPLIT_FILE, key).ravel().astype(int) - 1
        if len(indices) and not 0 <= indices.min() <= indices.max() < count:
            raise ValueError(f"{root / _SPLIT_FILE}: {key} is not in 1..{count}.")
    if mapping is None:
        mapping = root / _MAPPING
        if not mapping.is_file():
            raise ValueError(
                f"{path} has {_RAW_CLASSES} raw classes, more than a label map can hold. Give "
                f"mapping={_MAPPING!r}, Gupta's file, or {_RAW_CLASSES} numbers 1..40."
            )
    if isinstance(mapping, np.ndarray | list | tuple):
        source, values = "mapping", np.asarray(mapping)
    else:
        source, values = mapping, read_mat(mapping, "mapClass")
    values = values.ravel().astype(int)
    if len(values) != _RAW_CLASSES or values.min() < 0 or values.max() > table.num_classes:
        raise ValueError(
            f"{source}: must have {_RAW_CLASSES} numbers 0..{table.num_classes}, got "
            f"{len(values)} of {values.min()}..{values.max()}."
        )
    ids = np.where(values == 0, table.ignore_label, values - 1)
    ids = np.concatenate([[table.ignore_label], ids]).astype("uint8")
    return _ArchiveReader(path, indices.tolist(), ids), [f"{i + 1:04d}" for i in indices.tolist()]


def _open_singles(root, split, table):
    place = root / split if split else root
    paths = sorted(place.rglob("*.h5"))
    names = [path.relative_to(place).with_suffix("").as_posix() for path in paths]
    return _SinglesReader(paths, table.ignore_label), names


def _open_h5(path):
    import h5py  # which comes with Keras

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: missing, damaged, or not HDF5 ({error}).") from error


def _form(root):
    if (root / "data" / "images").is_dir() and (root / "segmentation").is_dir():
        return "files"
    if (root / _ARCHIVE).is_file():
        return "archive"
    return "singles" if _first_h5(root) is not None else None


def _first_h5(root):
    """A file of the third form: in `root`, or in train/ or val/, a folder a scene."""
    for pattern in ("*.h5", "train/*.h5", "train/*/*.h5", "val/*.h5", "val/*/*.h5"):
        first = next(root.glob(pattern), None)
        if first is not None:
            try:
                with _open_h5(first) as file:
                    return first if {"rgb", "depth"} <= set(file) else None
            except ValueError:
                return None
    return None


def _nyud_splits(root):
    form = _form(root)
    if form == "files":
        return [name for name in _LISTS if (root / f"{name}.txt").is_file()]
    if form == "archive":
        return ["train", "test"] if (root / _SPLIT_FILE).is_file() else []
    return [name for name in _LISTS if (root / name).is_dir()]


def _write(root, split, samples):
    """FCN's authors' form; depth and HHA are made of the picture."""
    names = [f"img_{split}_{number}" for number in range(len(samples))]
    for name, sample in zip(names, samples, strict=True):
        save_png(root / "data" / "images" / f"{name}.png", sample.image)
        depth = 500 + 30 * sample.image[..., 0].astype("uint16")
        save_png(root / "data" / "depth" / f"{name}.png", depth)
        save_png(root / "data" / "hha" / f"{name}.png", sample.image[..., ::-1])
        ids = np.where(sample.label == 255, 0, sample.label + 1).astype("uint8")
        save_mat(root / "segmentation" / f"{name}.mat", segmentation=ids)
    write_list(root / f"{split}.txt", names)


LAYOUT = Layout(
    name="nyud",
    read=nyud,
    detect=lambda root: _form(root) is not None,
    splits=_nyud_splits,
    write=_write,
    title="NYU Depth v2, 40 classes",
    table=labels.NYUD,
    contents="depth, hha",
    published={"train": (381, 795), "val": 414, "trainval": 795, "test": 654},
    licence="research, with a citation",
    source="cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html",
    tfds="nyu_depth_v2 has RGB and depth only, no labels",
)
