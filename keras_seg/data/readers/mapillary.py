"""Mapillary Vistas: Neuhold et al. "The Mapillary Vistas Dataset ...", ICCV 2017."""

import functools

import numpy as np

from keras_seg.data import labels, read
from keras_seg.data.dataset import Files, ImageReader, SegmentationDataset
from keras_seg.data.labels import LabelTable
from keras_seg.data.readers.common import (
    SPLITS,
    MappedReader,
    choose_split,
    contents,
    existing_folder,
    find_classes,
    given_ids,
    instance_files,
    pair,
    report,
    save_jpeg,
    save_png,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.utils import read_json, unknown_name, write_json

# Folder below a split, and the configuration beside the splits.
_VERSIONS = {
    "v1.2": ("v1.2", "config_v1.2.json"),
    "v2.0": ("v2.0", "config_v2.0.json"),
    "v1.1": ("", "config.json"),
}


def mapillary(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    white=None,
    version=None,
):
    """Mapillary Vistas: training/ with images/, v1.2/labels/ and v1.2/instances/ (or v2.0/).

    Names, colours, and which labels count are those of config_v1.2.json (config_v2.0.json) beside
    the splits; labels with `"evaluate": false` become `ignore_label` (of 66 in v1.2, 65 count).
    With other `classes`, ids stay as they are. Version 1.1 has no folder v1.1/ and its
    configuration is config.json. Extra "instances", if its files are there: one id an object, 0 for
    labels without objects.

    Args:
        root, split, classes, channels, ignore_label, problems: see `open_dataset`.
        white: see `read_image`.
        version: "v1.2", "v2.0" or "v1.1"; None: the first of these that is there.

    Raises:
        ValueError: see `open_dataset`; if the configuration is missing or damaged.
    """
    root = existing_folder(root)
    if version not in (None, *_VERSIONS):
        raise unknown_name("version", version, list(_VERSIONS))
    found = _versions(root)
    if version is None and found:
        version = found[0]
    if version not in found:
        raise ValueError(
            f"{root}: expected training/images/ and training/{version or 'v1.2'}/labels/. "
            f"It holds: {contents(root)}."
        )
    below, config = _VERSIONS[version]
    split = choose_split(root, split, _splits(root, version))
    own, ids, things = _read_config(root / config)
    table, _, values = find_classes(root, None, classes, ignore_label, own)
    folder = root / split / below
    errors = []
    names, images, masks = pair(root / split / "images", folder / "labels", "", errors)
    report(root, errors, problems)
    objects = [folder / "instances" / path.name for path in masks]
    read_objects = functools.partial(_read_objects, things=things)
    extras, note = instance_files(objects, read_objects)
    return SegmentationDataset(
        Files(
            images,
            masks,
            ImageReader(channels, white),
            MappedReader(read.read_mask, table, ids if table is own else given_ids(values)),
            extras,
        ),
        table,
        names,
        channels=channels,
        layout="mapillary",
        split=split,
        description=f"{title(root, split)}: Mapillary Vistas {version}",
    ).noted(note)


def _read_config(path):
    """(table, {id on disk: id}, ids on disk of the labels with objects) of a configuration."""
    value = read_json(path)
    try:
        counted = [n for n, item in enumerate(value["labels"]) if item["evaluate"]]
        names = [value["labels"][n]["readable"] for n in counted]
        if len(set(names)) < len(names):
            names = [value["labels"][n]["name"] for n in counted]
        colors = [value["labels"][n]["color"] for n in counted]
        things = [n for n, item in enumerate(value["labels"]) if item["instances"]]
        count = len(value["labels"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a configuration of Mapillary's: {error!r}.") from error
    table = LabelTable(names, colors, name="Mapillary Vistas", ignore_color=(0, 0, 0))
    ids = dict.fromkeys(range(count), table.ignore_label)
    return table, ids | {raw: index for index, raw in enumerate(counted)}, things


def _read_objects(path, things):
    """Values are 256 times the label and the number of the object, from 0; here they start at 1."""
    values = read.read_instances(path)
    return np.where(np.isin(values // 256, things), values + 1, 0).astype("int32")


def _versions(root):
    return [
        version
        for version, (_, config) in _VERSIONS.items()
        if (root / config).is_file() and _splits(root, version)
    ]


def _splits(root, version=None):
    version = version or (_versions(root) or ["v1.2"])[0]
    if version not in _VERSIONS:
        return []
    names = [name for names in SPLITS.values() for name in names]
    folders = [(name, root / name / _VERSIONS[version][0] / "labels") for name in names]
    return [n for n, folder in folders if folder.is_dir() and (root / n / "images").is_dir()]


def _write(root, split, samples):
    folder = root / {"train": "training", "val": "validation"}.get(split, split)
    for sample in samples:
        ids = np.where(sample.label == 255, len(labels.SHAPES.names), sample.label)
        save_jpeg(folder / "images" / f"{sample.name}.jpg", sample.image)
        save_png(folder / "v1.2" / "labels" / f"{sample.name}.png", ids.astype("uint8"))
        values = (ids * np.int32(256) + sample.instances).astype("uint16")
        save_png(folder / "v1.2" / "instances" / f"{sample.name}.png", values)
    rows = zip(labels.SHAPES.names, labels.SHAPES.colors.tolist(), strict=True)
    entries = [
        {
            "name": f"object--{name}",
            "readable": name,
            "color": color,
            "instances": name != "background",
            "evaluate": True,
        }
        for name, color in rows
    ]
    unlabeled = {"name": "void--unlabeled", "readable": "Unlabeled", "color": [0, 0, 0]}
    entries.append({**unlabeled, "instances": False, "evaluate": False})
    write_json(root / "config_v1.2.json", {"labels": entries, "version": "1.1"})


LAYOUT = Layout(
    name="mapillary",
    read=mapillary,
    detect=lambda root: bool(_versions(root)),
    splits=_splits,
    write=_write,
    title="Mapillary Vistas",
    contents="instances",
    published={"train": 18000, "val": 2000},
    licence="CC BY-NC-SA 4.0 or research licence, registration",
    source="mapillary.com/dataset/vistas",
)
