"""Multi-Human Parsing: Li et al. arXiv:1705.07206 (v1); Zhao et al. ACM MM 2018 (v2)."""

import numpy as np

from keras_seg.data import labels, read
from keras_seg.data.dataset import ImageReader, SegmentationDataset
from keras_seg.data.readers.common import (
    choose_split,
    contents,
    existing_folder,
    find_classes,
    read_list,
    report,
    save_jpeg,
    save_png,
    title,
)
from keras_seg.data.readers.layout import Layout

_V1_TRAIN = 3000  # of the lines of train_list.txt; the other 1,000 validate


def mhp(root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None, white=None):
    """MHP v1 and v2: pictures of several people, one file of parts for each person.

    v1: images/0001.jpg, annotations/0001_02_01.png (picture, number of people, person),
    train_list.txt and test_list.txt; the first 3,000 of train_list.txt are "train", the others
    "val". v2: train/images/, train/parsing_annos/ and so on. `root` may be the folder above
    (LV-MHP-v1, LV-MHP-v2).

    Files of three channels hold the parts in the first. Where people overlap, the lower number is
    in front. The extra "instances" numbers the people 1... A mirrored picture must swap left and
    right: `labels.MHP_V1_FLIP_PAIRS`, `labels.MHP_V2_FLIP_PAIRS`. Arguments and errors: see
    `open_dataset`.
    """
    given = existing_folder(root)
    version, root = _find(given)
    if version is None:
        raise ValueError(
            f"{given}: neither MHP v1 (images/, annotations/, train_list.txt) nor v2 (train/images/"
            f", train/parsing_annos/). It holds: {contents(given)}."
        )
    split = choose_split(given, split, _mhp_splits(given))
    default = labels.MHP_V1 if version == 1 else labels.MHP_V2
    table, _, _ = find_classes(given, None, classes, ignore_label, default)
    if version == 1:
        images, annotations = root / "images", root / "annotations"
        names = [line.rpartition("/")[2].rpartition(".")[0] or line for line in _v1(root, split)]
    else:
        images, annotations = root / split / "images", root / split / "parsing_annos"
        names = sorted(path.stem for path in images.glob("*.jpg"))
    people, errors = {}, []
    for path in sorted(annotations.glob("*_*.png")):
        people.setdefault(path.stem.split("_")[0], []).append(path)
    kept = []
    for name in names:
        path = images / f"{name}.jpg"
        if not path.is_file():
            errors.append((path, "is missing, though the list has it"))
        elif name not in people:
            errors.append((path, f"has no file {name}_*.png in {annotations}"))
        else:
            kept.append(name)
    if version == 2:
        strays = sorted(people.keys() - set(names))
        errors += [(people[name][0], f"has no image {name}.jpg in {images}") for name in strays]
    if not kept and not errors:
        raise ValueError(f"0 samples in {images}.")
    report(given, errors, problems)
    return SegmentationDataset(
        _People(
            [images / f"{name}.jpg" for name in kept],
            [people[name] for name in kept],
            ImageReader(channels, white),
            table,
        ),
        table,
        kept,
        channels=channels,
        layout="mhp",
        split=split,
        description=f"{title(root, split)}: MHP v{version} layout",
    ).noted(_lacking({name: people[name] for name in kept}))


def _lacking(people):
    """A note if there are fewer or more files of a picture than their names say, else None."""
    said = {name: paths[0].stem.split("_")[1] for name, paths in people.items()}
    strange = [name for name, paths in people.items() if said[name] != f"{len(paths):02d}"]
    if not strange:
        return None
    name = strange[0]
    return (
        f"{len(strange)} pictures have another number of people than the names of their files say: "
        f"{people[name][0]} is one of {len(people[name])} files"
    )


class _People:
    """Source of a data set with one file of parts for each person of a picture."""

    extras = ("instances",)

    def __init__(self, image_paths, people, read_image, table):
        self.image_paths, self.people, self.read_image = image_paths, people, read_image
        self.mask_paths = [paths[0] for paths in people]
        self.table = table

    def image(self, index):
        return self.read_image(self.image_paths[index])

    def label(self, index):
        return self._draw(index)[0]

    def extra(self, index, name):
        return self._draw(index)[1]

    def both(self, index):
        return self.image(index), self.label(index)

    def _draw(self, index):
        """(parts uint8 (H, W), people int32 (H, W)), the first file in front."""
        parts = people = None
        for number, path in reversed([*enumerate(self.people[index], start=1)]):
            ids = read.read_values(path)
            ids = ids if ids.ndim == 2 else ids[..., 0]
            high = self.table.num_classes - 1
            if ids.max() > high and (ids[ids > high] != self.table.ignore_label).any():
                raise ValueError(f"{path}: parts up to {ids.max()}; expected 0..{high}.")
            if parts is None:
                parts, people = np.zeros(ids.shape, "uint8"), np.zeros(ids.shape, "int32")
            if ids.shape != parts.shape:
                raise ValueError(
                    f"{path} is {ids.shape[0]}x{ids.shape[1]} (HxW), other people of the picture "
                    f"{parts.shape[0]}x{parts.shape[1]}."
                )
            mask = ids > 0
            parts[mask] = ids[mask]
            people[mask] = number
        return parts, people


def _find(root):
    """(1 or 2, Path), or (None, None)."""
    for place in (root, root / "LV-MHP-v1", root / "LV-MHP-v2"):
        if (place / "annotations").is_dir() and (place / "train_list.txt").is_file():
            return 1, place
        if any((place / split / "parsing_annos").is_dir() for split in ("train", "val")):
            return 2, place
    return None, None


def _mhp_splits(root):
    version, place = _find(root)
    if version == 2:
        return [s for s in ("train", "val", "test") if (place / s / "parsing_annos").is_dir()]
    if version is None:
        return []
    more = len(read_list(place / "train_list.txt")) > _V1_TRAIN
    test = (place / "test_list.txt").is_file()
    return ["train", *(["val"] if more else []), *(["test"] if test else [])]


def _v1(root, split):
    lines = read_list(root / ("test_list.txt" if split == "test" else "train_list.txt"))
    return {"train": lines[:_V1_TRAIN], "val": lines[_V1_TRAIN:], "test": lines}[split]


def _write(root, split, samples):
    """Version 2; the objects of a sample are its people."""
    for number, sample in enumerate(samples, start=1):
        save_jpeg(root / split / "images" / f"{number}.jpg", sample.image)
        people = np.unique(sample.instances[sample.label > 0])
        for person, instance in enumerate(people, start=1):
            ids = np.where(sample.instances == instance, sample.label, 0).astype("uint8")
            path = root / split / "parsing_annos" / f"{number}_{len(people):02d}_{person:02d}.png"
            save_png(path, np.repeat(ids[..., None], 3, axis=2))


LAYOUT = Layout(
    name="mhp",
    read=mhp,
    detect=lambda root: _find(root)[0] is not None,
    splits=_mhp_splits,
    write=_write,
    title="MHP v1 or v2",
    ignores=False,
    table=labels.MHP_V2,
    contents="instances",
    published={"train": (3000, 15403, 15408), "val": (1000, 5000), "test": (980, 5000)},
    licence="non-commercial research",
    source="lv-mhp.github.io",
)
