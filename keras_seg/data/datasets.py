"""Data sets on disk: which image belongs to which mask, and what the ids mean.

`open_dataset` recognises the layout; `folder`, `camvid`, `voc`, `isbi` and `instances` are its
readers. A data set reads a sample when it is asked for one.
"""

import copy
import inspect
import pathlib
from typing import NamedTuple

import numpy as np

from keras_seg.data import labels, read
from keras_seg.data.augment import resize_image, resize_label
from keras_seg.data.labels import LabelTable
from keras_seg.data.weight_maps import separate_touching
from keras_seg.utils import unknown_name

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations")
MAX_SCANNED_GAP = 2  # of ids 0..K-1 found by scanning, at least 1 in 2 must occur


class Sample(NamedTuple):
    """One picture with its labels: uint8 (H, W, C), uint8 ids (H, W), name without suffix."""

    image: np.ndarray
    label: np.ndarray
    name: str


class SegmentationDataset:
    """Pictures with label maps, read on demand: `len(dataset)`, `dataset[i]` -> `Sample`.

    Args:
        source: object with `image(i)` -> uint8 (H, W, C), `label(i)` -> uint8 (H, W), `both(i)`,
            and `image_paths`, `mask_paths`: lists of Path, or None where there are no files; for
            `weighted` also `instances(i)` -> int32 (H, W), 0 background, else one id an object.
        table: `LabelTable` of the ids.
        names: one name a sample of `source`.
        channels: C.
        layout: of the data on disk, such as "camvid".
        description: what was found where, for people.

    Attributes: `table`, `channels`, `layout`, `description`, `names`, `image_paths`, `mask_paths`,
    `has_weights` (whether samples have weights of pixels).
    """

    def __init__(self, source, table, names, *, channels=3, layout="", description=""):
        self.table = table
        self.channels = channels
        self.layout = layout
        self.description = description
        self._source = source
        self._all_names = tuple(names)
        self._indices = range(len(self._all_names))
        self._cache = None
        self._weights = None

    @property
    def has_weights(self):
        """Whether `weighted` made it."""
        return self._weights is not None

    @property
    def names(self):
        """Names of the samples: paths relative to the image folder, without suffix."""
        return [self._all_names[i] for i in self._indices]

    @property
    def image_paths(self):
        """Files of the images, or None where the data set has no files."""
        return self._select(self._source.image_paths)

    @property
    def mask_paths(self):
        """Files of the masks, or None where the data set has no files."""
        return self._select(self._source.mask_paths)

    def __len__(self):
        return len(self._indices)

    def __getitem__(self, index):
        """Sample `index`.

        Raises:
            ValueError: naming the file, if it cannot be read or image and mask differ in size.
        """
        place = self._indices[index]
        if self._cache is not None and place in self._cache:
            return self._cache[place]
        image, label = self._source.both(place)
        self._check_sizes(place, image, label)
        sample = Sample(image, label, self._all_names[place])
        if self._cache is not None:
            image.setflags(write=False)
            label.setflags(write=False)
            self._cache[place] = sample
        return sample

    def read_image(self, index):
        """The image of sample `index` alone."""
        return self._source.image(self._indices[index])

    def read_label(self, index):
        """The label map of sample `index` alone."""
        return self._source.label(self._indices[index])

    def read_weights(self, index):
        """The weights of the pixels of sample `index`, float32 (H, W), if `has_weights`."""
        place = self._indices[index]
        key = (place, "weights")
        if self._cache is not None and key in self._cache:
            return self._cache[key]
        weights = self._weights(self._source.instances(place)).astype("float32", copy=False)
        if self._cache is not None:
            weights.setflags(write=False)
            self._cache[key] = weights
        return weights

    def subset(self, indices):
        """The samples `indices` (integers, in this order) as a data set."""
        return self._with(_indices=[self._indices[int(i)] for i in indices])

    def split(self, fraction, seed=0):
        """Cut at random in two: (rest, held_out), `fraction` of the samples held out, at least one.

        Both keep the order. Frames of one video belong together: cut those by `subset`.

        Raises:
            ValueError: if `fraction` is not between 0 and 1, or there are fewer than 2 samples.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must be between 0 and 1, got {fraction}.")
        if len(self) < 2:
            raise ValueError(f"Cannot split {len(self)} sample in two: {self.description}.")
        count = min(max(1, round(fraction * len(self))), len(self) - 1)
        order = np.random.default_rng(seed).permutation(len(self))
        return self.subset(sorted(order[count:])), self.subset(sorted(order[:count]))

    def cached(self):
        """The same data set, keeping every sample that it has read in memory, decoded."""
        return self._with(_cache={})

    def weighted(self, weights):
        """The same data set with a weight for every pixel, for `read_weights` and for batches.

        Training on it hands the weights to the loss, which must be one that takes them, such as
        `CrossEntropy`. Augmentation moves them with the label. Evaluation knows no weights.

        Args:
            weights: function from instances, int32 (H, W), to float32 (H, W): `EdgeWeights()`.

        Raises:
            ValueError: if it is not known which pixels belong to one object; layout "instances"
                says it.
        """
        if not hasattr(self._source, "instances"):
            raise ValueError(
                f"{self!r} does not say which pixels belong to one object. Only maps of instances "
                'do: layout="instances".'
            )
        return self._with(_weights=weights, _cache=None if self._cache is None else {})

    def scaled(self, factor):
        """The same data set with both sides of every picture times `factor`, rounded.

        Images are resized bilinearly, with the support widened when they shrink; labels take the
        nearest pixel. For networks that are to see large photos at half their size, say.

        Raises:
            ValueError: if `factor` is not above 0.
        """
        if not factor > 0:
            raise ValueError(f"factor must be above 0, got {factor}.")
        return self._with(
            _source=_Scaled(self._source, factor),
            _cache=None,
            description=f"{self.description}, scaled by {factor:g}",
        )

    def __repr__(self):
        table = f"{self.table.num_classes} classes"
        return f"<SegmentationDataset {len(self)} samples, {table}; {self.description}>"

    def _with(self, **changes):
        dataset = copy.copy(self)
        vars(dataset).update(changes)
        return dataset

    def _select(self, paths):
        return None if paths is None else [paths[i] for i in self._indices]

    def _check_sizes(self, place, image, label):
        if image.shape[:2] == label.shape:
            return
        names = [self._all_names[place]] * 2
        turned = ""
        if self._source.image_paths is not None:
            names = [self._source.image_paths[place], self._source.mask_paths[place]]
            if image.shape[1::-1] == label.shape and read.orientation(names[0]) > 4:
                turned = (
                    " The photo carries an EXIF rotation, which was applied; the mask fits the "
                    "unturned photo: rotate the mask, or save the photo without the EXIF tag."
                )
        raise ValueError(
            f"{names[0]} is {image.shape[0]}x{image.shape[1]} (HxW), but its mask {names[1]} is "
            f"{label.shape[0]}x{label.shape[1]}. They must have the same size.{turned}"
        )


class _Files:
    """Source of a data set that reads files."""

    def __init__(self, image_paths, mask_paths, channels, white, read_label):
        self.image_paths, self.mask_paths = image_paths, mask_paths
        self.channels, self.white, self.read_label = channels, white, read_label

    def image(self, index):
        return read.read_image(self.image_paths[index], self.channels, white=self.white)

    def label(self, index):
        return self.read_label(self.mask_paths[index])

    def both(self, index):
        return self.image(index), self.label(index)


class _InstanceFiles(_Files):
    """Source of a data set whose masks are maps of instances."""

    def __init__(self, image_paths, mask_paths, channels, white, separate):
        super().__init__(image_paths, mask_paths, channels, white, read.read_instances)
        self.separate = separate

    def instances(self, index):
        instances = super().label(index)
        return separate_touching(instances) if self.separate else instances

    def label(self, index):
        return (self.instances(index) > 0).astype("uint8")


class _Scaled:
    """Source that resizes what another one reads."""

    def __init__(self, source, factor):
        self.source, self.factor = source, factor
        self.image_paths, self.mask_paths = source.image_paths, source.mask_paths
        if hasattr(source, "instances"):  # only then `weighted` can use them
            self.instances = self._instances

    def image(self, index):
        image = self.source.image(index)
        return resize_image(image, self._size(image))

    def label(self, index):
        label = self.source.label(index)
        return resize_label(label, self._size(label))

    def _instances(self, index):
        instances = self.source.instances(index)
        return resize_label(instances, self._size(instances))

    def both(self, index):
        image, label = self.source.both(index)
        return resize_image(image, self._size(image)), resize_label(label, self._size(label))

    def _size(self, array):
        return tuple(max(1, round(n * self.factor)) for n in array.shape[:2])


class _MaskReader:
    """`read_mask` with its arguments: a class and not a closure, so that workers can pickle it."""

    def __init__(self, table, color_table=None, mask_values=None):
        self.table, self.color_table, self.mask_values = table, color_table, mask_values

    def __call__(self, path):
        return read.read_mask(
            path, self.table, color_table=self.color_table, mask_values=self.mask_values
        )


def open_dataset(
    root,
    split=None,
    *,
    layout="auto",
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    **options,
):
    """Open a data set on disk.

    Args:
        root: its folder.
        split: "train", "val" or "test" (or the folder's own name for it). None: "train" where the
            data set has splits, else all of it. A data set without splits is all "train".
        layout: "folder", "camvid", "voc", "isbi" or "instances", see the functions of these names;
            "auto" looks which one it is, and `description` of the result says what it found.
        classes: `LabelTable`, list of names, number of classes, or path of a .txt or .json table;
            None: what the data set brings.
        channels: of the images, 1, 3 or 4.
        ignore_label: id of pixels that do not count; with a `LabelTable`, its own.
        problems: a list to which (file, message) of every file that is missing its partner or
            cannot be read is added, instead of stopping with an error.
        **options: what else the reader of the layout takes, such as `mask_values` of `folder`.

    Raises:
        ValueError: if `root` is no data set of that layout or has no such split, files do not pair
            up, or the classes cannot be found out.
    """
    root = _folder(root)
    layout = detect_layout(root) if layout == "auto" else layout
    if layout not in _LAYOUTS:
        raise unknown_name("layout", layout, ["auto", *_LAYOUTS])
    reader = _LAYOUTS[layout]
    strange = sorted(options.keys() - inspect.signature(reader).parameters.keys())
    if strange:
        raise ValueError(
            f"{root}: layout {layout!r} does not take {', '.join(strange)}. "
            'layout="folder" takes the most.'
        )
    return reader(
        root,
        split,
        classes=classes,
        channels=channels,
        ignore_label=ignore_label,
        problems=problems,
        **options,
    )


def detect_layout(root):
    """The name of the layout of the folder `root`, told by its subfolders.

    Raises:
        ValueError: if it looks like none, with what was looked for.
    """
    root = _folder(root)
    if _voc_root(root):
        return "voc"
    if _camvid_splits(root):
        return "camvid"
    if _is_isbi(root):
        return "isbi"
    if _places(root, IMAGE_FOLDERS, ("instances",)):
        return "instances"
    if _places(root, IMAGE_FOLDERS, MASK_FOLDERS):
        return "folder"
    raise ValueError(
        f"{root}: no data set found. Looked for images/ and masks/ (also {_either(IMAGE_FOLDERS)} "
        f"with {_either(MASK_FOLDERS)}; at the top, below train/, val/, test/, or with these "
        "below them), images/ and instances/, CamVid's train/ and trainannot/, VOC's JPEGImages/ "
        f"and SegmentationClass/. It holds: {_contents(root)}."
    )


def list_splits(root, layout="auto"):
    """The splits that a data set on disk has, "train" first; an empty list if it is not split."""
    root = _folder(root)
    layout = detect_layout(root) if layout == "auto" else layout
    if layout not in _LAYOUTS:
        raise unknown_name("layout", layout, ["auto", *_LAYOUTS])
    if layout == "voc":
        return _voc_splits(_voc_root(root) or root)
    if layout == "camvid":
        return _camvid_splits(root)
    if layout == "isbi":
        return []
    masks = ("instances",) if layout == "instances" else MASK_FOLDERS
    return [split for split in _places(root, IMAGE_FOLDERS, masks) if split]


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
    root = _folder(root)
    places = _places(root, IMAGE_FOLDERS, MASK_FOLDERS)
    split = _choose(root, split, list(places))
    errors = []
    names, images, masks = _pair(*places[split], mask_suffix, errors)
    table, colors, given_values = _classes(root, split, classes, ignore_label)
    mask_values = given_values if mask_values is None else mask_values
    color_table = colors if color_table is None else color_table
    source = "classes given"
    if table is None:
        every = [_pair(*place, mask_suffix, [])[2] for place in places.values()]
        try:
            table = _scan(sum(every, []), color_table, mask_values, ignore_label, errors)
        except ValueError:
            if problems is not None:
                problems.extend(errors)
            raise
        source = "classes from the ids of the masks"
    _report(root, errors, problems)
    return SegmentationDataset(
        _Files(images, masks, channels, white, _MaskReader(table, color_table, mask_values)),
        table,
        names,
        channels=channels,
        layout="folder",
        description=f"{_title(root, split)}: {places[split][0]} with {places[split][1]}, {source}",
    )


def camvid(
    root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None, white=None
):
    """CamVid as SegNet's authors laid it out: train/ trainannot/ val/ valannot/ test/ testannot/.

    Ids 0..10 are the 11 classes of `labels.CAMVID`, 11 is void and becomes `ignore_label`. With
    other `classes`, ids stay as they are. Arguments and errors: see `open_dataset`.
    """
    root = _folder(root)
    split = _choose(root, split, _camvid_splits(root))
    errors = []
    names, images, masks = _pair(root / split, root / f"{split}annot", "", errors)
    table, colors, values = _classes(root, split, classes, ignore_label, labels.CAMVID)
    if table is labels.CAMVID:
        values = {11: table.ignore_label}
    _report(root, errors, problems)
    return SegmentationDataset(
        _Files(images, masks, channels, white, _MaskReader(table, colors, values)),
        table,
        names,
        channels=channels,
        layout="camvid",
        description=f"{_title(root, split)}: CamVid layout, {split}/ with {split}annot/",
    )


def voc(root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None, white=None):
    """PASCAL VOC: JPEGImages/, SegmentationClass/ and lists in ImageSets/Segmentation/.

    `root` is the year's folder (VOC2012) or one above it. Palette masks give their indices; RGB
    ones are read through the colours of the table. Arguments and errors: see `open_dataset`.
    """
    given = _folder(root)
    root = _voc_root(given)
    if root is None:
        raise ValueError(
            f"{given}: no JPEGImages/ and SegmentationClass/ here or in VOCdevkit/VOC*/. "
            f"It holds: {_contents(given)}."
        )
    split = _choose(root, split, _voc_splits(root))
    table, colors, values = _classes(root, None, classes, ignore_label, labels.VOC)
    if not split:
        raise ValueError(f"{root}: no lists NAME.txt in ImageSets/Segmentation/.")
    file = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    names, images, masks, errors = [], [], [], []
    for name in file.read_text("utf-8").split():
        image = root / "JPEGImages" / f"{name}.jpg"
        mask = root / "SegmentationClass" / f"{name}.png"
        missing = [path for path in (image, mask) if not path.is_file()]
        errors += [(path, f"is missing, though {file.name} lists it") for path in missing]
        if not missing:
            names.append(name)
            images.append(image)
            masks.append(mask)
    if not names and not errors:
        raise ValueError(f"0 samples: {file} lists none.")
    _report(root, errors, problems)
    return SegmentationDataset(
        _Files(images, masks, channels, white, _MaskReader(table, colors, values)),
        table,
        names,
        channels=channels,
        layout="voc",
        description=f"{_title(root, split)}: PASCAL VOC layout",
    )


def isbi(
    root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None, white=None
):
    """ISBI 2012 as many small pictures: train/image/N.png with train/label/N.png.

    Masks hold 0 on membranes (class 0) and 255 inside cells (class 1). There is one split, "train".
    Arguments and errors: see `open_dataset`.
    """
    root = _folder(root)
    _choose(root, split, ["train"])
    table, colors, values = _classes(root, "train", classes, ignore_label, labels.MEMBRANE)
    errors = []
    names, images, masks = _pair(root / "train/image", root / "train/label", "", errors)
    _report(root, errors, problems)
    values = values or {0: 0, 255: 1}
    return SegmentationDataset(
        _Files(images, masks, channels, white, _MaskReader(table, colors, values)),
        table,
        names,
        channels=channels,
        layout="isbi",
        description=f"{_title(root, 'train')}: ISBI 2012 layout, 255 read as class 1",
    )


def instances(
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
    """images/ with instances/: maps with one id an object, read as background (0) and object (1).

    Ids may have 16 bits. Classes: two, `labels.NUCLEI` if nothing else is given. Folders as in
    `folder`; arguments and errors: see `open_dataset`. `separate=True` puts a line of background
    between objects that touch, for training (`separate_touching`); score on the maps as they are.
    """
    root = _folder(root)
    places = _places(root, IMAGE_FOLDERS, ("instances",))
    split = _choose(root, split, list(places))
    table, _, _ = _classes(root, split, classes, ignore_label, labels.NUCLEI)
    if table.num_classes != 2:
        raise ValueError(
            f"{root}: instances are read as 2 classes, background and object, but "
            f"{table.num_classes} classes were given."
        )
    errors = []
    names, images, masks = _pair(*places[split], "", errors)
    _report(root, errors, problems)
    return SegmentationDataset(
        _InstanceFiles(images, masks, channels, white, separate),
        table,
        names,
        channels=channels,
        layout="instances",
        description=f"{_title(root, split)}: {places[split][0]} with instances, ids > 0 as class 1",
    )


_LAYOUTS = {
    "folder": folder,
    "camvid": camvid,
    "voc": voc,
    "isbi": isbi,
    "instances": instances,
}


def _folder(root):
    root = pathlib.Path(root)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder.")
    return root


def _contents(root):
    names = sorted(p.name + "/" * p.is_dir() for p in root.iterdir())
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "nothing"


def _either(names):
    return ", ".join(names[:-1]) + " or " + names[-1]


def _title(root, split):
    return f"{root}, split {split}" if split else str(root)


def _choose(root, split, found):
    """Which of the splits `found` (names on disk; None stands for a data set without splits)."""
    if None in found:
        if split in (None, *SPLITS["train"]):
            return None
        raise ValueError(
            f"{root} has no splits, so no {split!r}: it is all one part. Cut it with "
            "dataset.split(0.2), or make folders train/ and val/."
        )
    wanted = split or ("train" if len(found) != 1 else found[0])
    for name in (wanted, *SPLITS.get(wanted, ())):
        if name in found:
            return name
    listed = ", ".join(found) or f"none; the folder holds {_contents(root)}"
    raise ValueError(f"{root} has no split {wanted!r}. Found: {listed}.")


def _places(root, image_names, mask_names):
    """{split or None: (image folder, mask folder)} below `root`."""

    def two(images, masks):
        image = next((images / n for n in image_names if (images / n).is_dir()), None)
        mask = next((masks / n for n in mask_names if (masks / n).is_dir()), None)
        return image and mask and (image, mask)

    found = {}
    top = two(root, root)
    for name in (name for names in SPLITS.values() for name in names):
        below = two(root / name, root / name)
        above = top and (top[0] / name, top[1] / name)
        if below:
            found[name] = below
        elif above and all(path.is_dir() for path in above):
            found[name] = above
    return found or ({None: top} if top else {})


def _pair(image_folder, mask_folder, mask_suffix, errors):
    """(names, image files, mask files) of all pairs; what does not pair goes to `errors`."""
    images = _by_name(image_folder, "", errors)
    masks = _by_name(mask_folder, mask_suffix, errors)
    names = sorted(images.keys() & masks.keys())
    if not names:
        raise ValueError(
            f"No image in {image_folder} ({len(images)} files, such as {next(iter(images), None)}) "
            f"has a mask of the same name in {mask_folder} ({len(masks)} files, such as "
            f"{next(iter(masks), None)}).{_suffix_advice(images, masks)}"
        )
    for mine, others, missing in ((images, masks, "mask"), (masks, images, "image")):
        place = mask_folder if missing == "mask" else image_folder
        folded = {name.casefold(): path.name for name, path in others.items()}
        for name in mine.keys() - others.keys():
            near = folded.get(name.casefold())
            hint = f"; {near} differs in upper and lower case" if near else ""
            errors.append((mine[name], f"has no {missing} of the same name in {place}{hint}"))
    return names, [images[n] for n in names], [masks[n] for n in names]


def _suffix_advice(images, masks):
    """What to say when every mask is called as an image, with the same ending behind it."""
    ends = {mask[len(image) :] for mask in masks for image in images if mask.startswith(image)}
    for end in ends:
        if all(mask.endswith(end) and mask[: -len(end)] in images for mask in masks):
            return f" Mask names end in {end!r}: give mask_suffix={end!r}."
    return ""


def _by_name(place, suffix, errors):
    """{path below `place` without its ending: Path}. Names that clash go to `errors`."""
    files, folded = {}, {}
    for path in read.list_images(place):
        name = path.relative_to(place).with_suffix("").as_posix()
        if suffix and not name.endswith(suffix):
            errors.append((path, f"does not end in mask_suffix={suffix!r}"))
            continue
        name = name[: len(name) - len(suffix)]
        other = folded.setdefault(name.casefold(), path)
        if other is not path:
            errors.append((path, f"has the same name as {other.name} but for suffix or case"))
            continue
        files[name] = path
    return files


def _report(root, errors, problems):
    """Hand `errors` over to the list `problems`, or stop with them."""
    errors.sort(key=lambda item: str(item[0]))
    if problems is not None:
        problems.extend(errors)
    elif errors:
        listed = "\n".join(f"  {path}: {message}" for path, message in errors[:8])
        more = f"\n  and {len(errors) - 8} more" * (len(errors) > 8)
        count = "1 file is" if len(errors) == 1 else f"{len(errors)} files are"
        raise ValueError(f"{root}: {count} not in order:\n{listed}{more}")


def _classes(root, split, classes, ignore_label, default=None):
    """(table or None, colour table or None, mask values) from an argument or the data set."""
    if classes is None:
        for place in (root, root / (split or "")):
            for name in ("classes.txt", "classes.json"):
                if (place / name).is_file():
                    return _classes(root, split, place / name, ignore_label)
        return default, default, {}
    if isinstance(classes, LabelTable):
        return classes, classes, {}
    if isinstance(classes, str | pathlib.Path):
        table, has_colors, mask_values = labels.read_classes(classes, ignore_label)
        return table, table if has_colors else None, mask_values
    if isinstance(classes, int | np.integer):
        return LabelTable.default(classes, ignore_label), None, {}
    return LabelTable(classes, ignore_label=ignore_label), None, {}


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
            f"ignored, read it as class 1: mask_values={{0: 0, {max(found)}: 1}}, or "
            f'"mask_values": {{"{max(found)}": 1}} in classes.json.'
        )
    if len(ids) * MAX_SCANNED_GAP < ids[-1] + 1:
        raise ValueError(
            f"The masks hold {_listed(ids)}: too few of 0..{ids[-1]} to be ids in order. {advice}, "
            "or map the values to 0..K-1 with mask_values=."
        )
    return LabelTable.default(ids[-1] + 1, ignore_label)


def _listed(ids):
    ids = sorted(ids)
    return "the ids " + ", ".join(map(str, ids[:12])) + (", ..." if len(ids) > 12 else "")


def _camvid_splits(root):
    names = [name for names in SPLITS.values() for name in names]
    return [n for n in names if (root / n).is_dir() and (root / f"{n}annot").is_dir()]


def _voc_root(root):
    for place in (root, *sorted(root.glob("VOC20*")), *sorted(root.glob("VOCdevkit/VOC20*"))):
        if (place / "JPEGImages").is_dir() and (place / "SegmentationClass").is_dir():
            return place
    return None


def _voc_splits(root):
    found = sorted(path.stem for path in (root / "ImageSets" / "Segmentation").glob("*.txt"))
    return sorted(found, key=lambda name: name != "train")


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
