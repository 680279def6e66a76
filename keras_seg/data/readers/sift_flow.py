"""SIFT Flow: Liu, Yuen, Torralba. "Nonparametric Scene Parsing", CVPR 2009; ECCV 2010 geometry."""

import re

import numpy as np

from keras_seg.data import labels
from keras_seg.data.dataset import Files, ImageReader, SegmentationDataset
from keras_seg.data.readers.common import (
    choose_split,
    existing_folder,
    find_classes,
    read_list,
    report,
    save_jpeg,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.data.readers.lists import existing, write_list
from keras_seg.data.readers.matlab import FromOneReader, save_mat

_SCENES = "spatial_envelope_256x256_static_8outdoorcategories"
_LISTS = ("train", "trainval", "val", "test")
_OWN_LIST = "TestSet1.txt"  # of the data set itself: the test pictures


def sift_flow(
    root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None, white=None
):
    """SIFT Flow: Images/, SemanticLabels/ and GeoLabels/ with one folder of scenes in each.

    Two label spaces: 33 classes (labels of the samples) and 3 kinds of surface (the extra
    "geometry", uint8 (H, W), with its own table in `extra_tables`). On disk both start at 1; 0, and
    -1 of the geometry, are ignored. Splits come from train.txt, trainval.txt and test.txt, names
    without suffix (as FCN's authors have them), or from the data set's own TestSet1.txt; pictures
    without annotation are left out, and `notes` says how many. Cow, desert and moon are absent
    from test: they count in no mean there. Needs SciPy (extra "eval"). Arguments and errors: see
    `open_dataset`.
    """
    root = existing_folder(root)
    found = _sift_splits(root)
    if split is None and "train" not in found and "trainval" in found:
        split = "trainval"
    split = choose_split(root, split, found)
    table, _, _ = find_classes(root, None, classes, ignore_label, labels.SIFT_FLOW)
    geometry = labels.GEOMETRY
    names, source = _names(root, split)
    label_folders = [root / kind / _SCENES for kind in ("SemanticLabels", "GeoLabels")]
    annotated = [
        name for name in names if all((place / f"{name}.mat").is_file() for place in label_folders)
    ]
    errors = []
    kept, images = existing(
        annotated, [lambda name: root / "Images" / _SCENES / f"{name}.jpg"], errors, source
    )
    if not kept and not errors:
        raise ValueError(f"0 samples: none of {source} has an annotation in {label_folders[0]}.")
    report(root, errors, problems)
    semantic, surfaces = ([place / f"{name}.mat" for name in kept] for place in label_folders)
    return SegmentationDataset(
        Files(
            images,
            semantic,
            ImageReader(channels, white),
            FromOneReader("S", table),
            {"geometry": (surfaces, FromOneReader("S", geometry))},
        ),
        table,
        kept,
        channels=channels,
        layout="sift_flow",
        split=split,
        description=f"{title(root, split)}: SIFT Flow layout, {source}",
        extra_tables={"geometry": geometry},
    ).noted(
        f"{len(names) - len(annotated)} pictures without annotation were left out"
        if len(names) > len(annotated)
        else None
    )


def _sift_splits(root):
    found = [name for name in _LISTS if (root / f"{name}.txt").is_file()]
    return found or (["train", "test"] if (root / _OWN_LIST).is_file() else [])


def _names(root, split):
    """(names, what lists them)."""
    if (root / f"{split}.txt").is_file():
        return [_stem(line) for line in read_list(root / f"{split}.txt")], f"{split}.txt"
    test = [_stem(line) for line in read_list(root / _OWN_LIST)]
    if split == "test":
        return test, _OWN_LIST
    every = sorted(path.stem for path in (root / "Images" / _SCENES).glob("*.jpg"))
    return [name for name in every if name not in set(test)], f"what {_OWN_LIST} leaves"


def _stem(line):
    return re.sub(r"\.(jpg|mat|png)$", "", re.split(r"[\\/]", line)[-1])


def _write(root, split, samples):
    """Geometry follows from the class here: it only has to be a second map."""
    for sample in samples:
        save_jpeg(root / "Images" / _SCENES / f"{sample.name}.jpg", sample.image)
        void = sample.label == 255
        label = np.where(void, 0, sample.label + 1).astype("uint8")
        surface = np.where(void, -1, sample.label.astype("int16") % 3 + 1)
        save_mat(root / "SemanticLabels" / _SCENES / f"{sample.name}.mat", S=label)
        save_mat(root / "GeoLabels" / _SCENES / f"{sample.name}.mat", S=surface)
    write_list(root / f"{split}.txt", [sample.name for sample in samples])


LAYOUT = Layout(
    name="sift_flow",
    read=sift_flow,
    detect=lambda root: all((root / k / _SCENES).is_dir() for k in ("Images", "SemanticLabels")),
    splits=_sift_splits,
    write=_write,
    title="SIFT Flow",
    table=labels.SIFT_FLOW,
    contents="geometry: a second label map of 3 classes",
    published={"train": (2486, 2488), "trainval": (2486, 2488), "test": 200},
    licence="research, with a citation",
    source="cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip",
)
