"""DAVIS 2017 and 2016: Pont-Tuset et al. arXiv:1704.00675; Perazzi et al. CVPR 2016."""

import numpy as np

from keras_seg.data import labels, read
from keras_seg.data.dataset import Files, ImageReader, SegmentationDataset
from keras_seg.data.read import write_mask
from keras_seg.data.readers.common import (
    check_class_count,
    choose_split,
    contents,
    existing_folder,
    find_classes,
    read_list,
    report,
    save_jpeg,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.data.readers.lists import existing, write_list
from keras_seg.utils import writable_folder

_YEARS = ("2017", "2016")
_VOID = 255


def davis(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    white=None,
    resolution=None,
    year=None,
):
    """DAVIS: JPEGImages/480p/SEQUENCE/00000.jpg, Annotations/ alike, lists ImageSets/2017/*.txt.

    `root` is the folder DAVIS or the one above. Also the package of 2016 alone, whose lists are in
    ImageSets/480p/ and whose masks hold 0 and 255 (there the object, not void).

    Objects have no classes: the label is background (0) or foreground (1), and the extra
    "instances" holds the objects' ids (1.., the same object in all frames of a sequence); 255 is
    ignored. Names are SEQUENCE/FRAME, so that `name.split("/")[0]` is the sequence. Of test
    sequences, where only first frames are annotated, only those are samples. Arguments and errors:
    see `open_dataset`.

    Args:
        resolution: "480p" or "Full-Resolution"; None: the first that is there.
        year: of the lists, "2017" or "2016" (one object a sequence); None: the first that is there.
    """
    given = existing_folder(root)
    root = _davis_root(given)
    if root is None:
        raise ValueError(
            f"{given}: no JPEGImages/480p/ (or Full-Resolution/) with Annotations/ here or in "
            f"DAVIS/. It holds: {contents(given)}."
        )
    resolution = _choose("resolution", resolution, _resolutions(root), root)
    year = _choose("year", year, _years(root), root)
    split = choose_split(root, split, _lists(root, year))
    table, _, _ = find_classes(root, None, classes, ignore_label, labels.DAVIS)
    check_class_count(root, table, 2, "DAVIS (background and foreground)")
    images, masks = root / "JPEGImages" / resolution, root / "Annotations" / resolution
    errors, frames, unlabelled = [], [], 0
    list_file = _list_folder(root, year) / f"{split}.txt"
    # The package of 2016 lists "/JPEGImages/480p/bear/00000.jpg /Annotations/...", a line a frame.
    sequences = [line.split("/")[-2] if "/" in line else line for line in read_list(list_file)]
    for sequence in dict.fromkeys(sequences):
        found = {p.stem for place in (images, masks) for p in (place / sequence).glob("[0-9]*")}
        if not found:
            errors.append((images / sequence, f"holds no frames, though {list_file.name} lists it"))
        if split.startswith("test"):
            labelled = {path.stem for path in (masks / sequence).glob("[0-9]*.png")}
            unlabelled += len(found - labelled)
            found = labelled
        frames += [f"{sequence}/{frame}" for frame in sorted(found)]
    names, image_files, mask_files = existing(
        frames,
        [lambda name: images / f"{name}.jpg", lambda name: masks / f"{name}.png"],
        errors,
        source=None,
    )
    if not names and not errors:
        raise ValueError(f"0 samples: {list_file} lists none with annotations.")
    report(root, errors, problems)
    return SegmentationDataset(
        _Objects(
            image_files,
            mask_files,
            ImageReader(channels, white),
            table.ignore_label,
            has_void=list_file.parent.name in _YEARS,
        ),
        table,
        names,
        channels=channels,
        layout="davis",
        split=split,
        description=f"{title(root, split)}: DAVIS {year}, {resolution}",
    ).noted(f"{unlabelled} frames without annotation were left out" if unlabelled else None)


class _Objects(Files):
    """Source of a data set whose masks number objects; 255 is void or, without it, object 1."""

    def __init__(self, image_paths, mask_paths, read_image, ignore_label, has_void):
        super().__init__(image_paths, mask_paths, read_image, read.read_mask)
        self.extras = ("instances",)
        self.ignore_label, self.has_void = ignore_label, has_void

    def extra(self, index, name):
        ids = self.read_label(self.mask_paths[index]).astype("int32")
        return np.where(ids == _VOID, 0 if self.has_void else 1, ids)

    def label(self, index):
        ids = self.read_label(self.mask_paths[index])
        void = self.ignore_label if self.has_void else 1
        return np.where(ids == _VOID, void, ids > 0).astype("uint8")


def _davis_root(root):
    return next((place for place in (root, root / "DAVIS") if _resolutions(place)), None)


def _resolutions(root):
    names = ("480p", "Full-Resolution", "1080p")
    kinds = ("JPEGImages", "Annotations")
    return [name for name in names if all((root / kind / name).is_dir() for kind in kinds)]


def _years(root):
    return [year for year in _YEARS if _list_folder(root, year)]


def _list_folder(root, year):
    """Where the lists of a year are, None if nowhere; 480p/ and 1080p/ are the package of 2016."""
    names = (year, "480p", "1080p") if year == "2016" else (year,)
    places = [root / "ImageSets" / name for name in names]
    return next((place for place in places if any(place.glob("*.txt"))), None)


def _lists(root, year):
    names = sorted(path.stem for path in _list_folder(root, year).glob("*.txt"))
    return sorted(names, key=lambda name: name != "train")


def _splits(root, year=None):
    place = _davis_root(root)
    years = _years(place) if place else []
    years = years if year is None else [name for name in years if name == str(year)]
    return _lists(place, years[0]) if years else []


def _choose(what, value, found, root):
    if not found:
        raise ValueError(f"{root}: no lists in ImageSets/{' or ImageSets/'.join(_YEARS)}.")
    if value is not None and str(value) not in found:
        raise ValueError(f"{root} has no {what} {value!r}. Found: {', '.join(found)}.")
    return found[0] if value is None else str(value)


def _write(root, split, samples):
    """Every sample is a sequence of one frame."""
    for sample in samples:
        save_jpeg(root / "JPEGImages" / "480p" / sample.name / "00000.jpg", sample.image)
        ids = np.where(sample.label == 255, _VOID, sample.instances)
        place = writable_folder(root / "Annotations" / "480p" / sample.name)
        write_mask(place / "00000.png", ids, labels.VOC)
    write_list(root / "ImageSets" / "2017" / f"{split}.txt", [s.name for s in samples])


LAYOUT = Layout(
    name="davis",
    read=davis,
    detect=lambda root: _davis_root(root) is not None,
    splits=_splits,
    write=_write,
    title="DAVIS 2017 or 2016",
    table=labels.DAVIS,
    contents="instances",
    published={"train": (4219, 4209, 2079), "val": (2023, 1999, 1376)},
    licence="research, with a citation",
    source="davischallenge.org",
    tfds="davis/480p and davis/full_resolution",
)
