"""ADE20K as a whole, labels in colours: Zhou et al. IJCV 2019 (releases of 2017 and 2020)."""

import functools

import numpy as np
from PIL import Image

from keras_seg.data import labels, read
from keras_seg.data.dataset import Files, ImageReader, SegmentationDataset
from keras_seg.data.readers.common import (
    choose_split,
    contents,
    existing_folder,
    find_classes,
    pair_by_ending,
    report,
    save_jpeg,
    save_png,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.utils import read_json


def ade20k_full(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    white=None,
):
    """The full ADE20K: training/ and validation/ with NAME.jpg and NAME_seg.png, in subfolders.

    The folders are in `root`, images/ or images/ADE/ below it. In NAME_seg.png, red // 10 * 256 +
    green is the index of the object's class in the whole vocabulary, 0 nothing. The vocabulary has
    more classes than a label map holds; two ways to choose:

    - `classes=None`: the 150 classes of SceneParse150 (`labels.ADE20K`), told by their indices in
      the vocabulary, as the benchmark was made; all else is `ignore_label`.
    - `classes` as names or a table: an object belongs to the class that is one of its names in
      NAME.json (2020) or NAME_atr.txt (2017), such as "car" of "car, auto, automobile"; objects
      without one are `ignore_label`.

    Extras: "raw", int32 (H, W), the index in the vocabulary; "instances", one id an object (blue).
    Other arguments and errors: see `open_dataset`.
    """
    given = existing_folder(root)
    root = _place(given)
    if root is None:
        raise ValueError(
            f"{given}: no training/ or validation/ with NAME_seg.png here, in images/ or in "
            f"images/ADE/. It holds: {contents(given)}."
        )
    split = choose_split(root, split, _splits(root))
    errors = []
    names, images, masks = pair_by_ending(root / split, ".jpg", root / split, "_seg.png", errors)
    report(root, errors, problems)
    table, _, _ = find_classes(given, split, classes, ignore_label, labels.ADE20K)
    if table is labels.ADE20K:
        read_label = functools.partial(_by_index, table=table)
    else:
        read_label = functools.partial(_by_name, table=table)
    return SegmentationDataset(
        Files(
            images,
            masks,
            ImageReader(channels, white),
            read_label,
            {"raw": (masks, _read_raw), "instances": (masks, _read_objects)},
        ),
        table,
        names,
        channels=channels,
        layout="ade20k_full",
        split=split,
        description=f"{title(root, split)}: ADE20K's colours, {table.num_classes} classes",
    )


def _by_index(path, table):
    raw = _read_raw(path)
    lookup = np.full(max(labels.ADE20K_RAW_IDS) + 2, table.ignore_label, "uint8")
    lookup[list(labels.ADE20K_RAW_IDS)] = list(labels.ADE20K_RAW_IDS.values())
    return lookup[np.minimum(raw, len(lookup) - 1)]


def _by_name(path, table):
    ids = {name.lower(): index for index, name in enumerate(table.names)}
    description = path.with_name(path.name.removesuffix("_seg.png") + ".json")
    if description.is_file():
        keys, named = _read_raw(path), _names_2020(description)
    else:
        keys = _read_objects(path)
        named = _names_2017(path.with_name(path.name.removesuffix("_seg.png") + "_atr.txt"))
    label = np.full(keys.shape, table.ignore_label, "uint8")
    for key, names in named.items():
        index = next((ids[name] for name in names if name in ids), None)
        if index is not None:
            label[keys == key] = index
    return label


def _names_2020(path):
    """{index in the vocabulary: names} of the objects that a NAME.json lists."""
    try:
        objects = read_json(path)["annotation"]["object"]
        return {int(item["name_ndx"]): _synonyms(item["name"]) for item in objects}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not ADE20K's list of objects: no {error}.") from error


def _names_2017(path):
    """{number of the object: names} of the objects, not their parts, in a NAME_atr.txt."""
    named = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as ADE20K's list of objects: {error}.") from error
    for line in filter(str.strip, lines):
        fields = [field.strip() for field in line.split("#")]
        if len(fields) < 5 or not (fields[0].isdigit() and fields[1].isdigit()):
            raise ValueError(f"{path}: not a line of ADE20K's list of objects: {line!r:.60}.")
        if fields[1] == "0":  # the level: objects 0, their parts 1, parts of those 2
            named[int(fields[0])] = [*_synonyms(fields[3]), *_synonyms(fields[4])]
    return named


def _synonyms(text):
    return [name.strip().lower() for name in text.split(",")]


def _read_raw(path):
    colors = _read_colors(path)
    return colors[..., 0] // 10 * 256 + colors[..., 1]


def _read_objects(path):
    """Objects numbered 1.. by the order of their blue values, which are spread over 0..255."""
    colors = _read_colors(path)
    values, numbers = np.unique(colors[..., 2], return_inverse=True)
    first = 0 if values[0] == 0 else 1
    return (numbers.reshape(colors.shape[:2]) + first).astype("int32")


def _read_colors(path):
    try:
        with Image.open(path) as image:
            lossless, mode = image.format == "PNG", image.mode
    except OSError:
        lossless, mode = True, "RGB"  # read_image says what is wrong with it
    if not lossless or mode != "RGB":
        raise ValueError(f"{path}: ADE20K's labels are RGB in a PNG file, not mode {mode}.")
    return read.read_image(path).astype("int32")


def _place(root):
    for place in (root, root / "images", root / "images" / "ADE"):
        if any(next((place / s).rglob("*_seg.png"), None) for s in _splits(place)):
            return place
    return None


def _splits(place):
    return [name for name in ("training", "validation") if (place / name).is_dir()]


def _write(root, split, samples):
    raw_ids = {index: raw for raw, index in labels.ADE20K_RAW_IDS.items()}
    raw_ids[255] = 0
    folder = {"train": "training", "val": "validation"}.get(split, split)
    for number, sample in enumerate(samples, 1):
        place = root / "images" / "ADE" / folder / "urban" / "street"
        name = f"ADE_{split}_{number:08d}"
        raw = np.vectorize(raw_ids.get)(sample.label)
        seg = np.stack([raw // 256 * 10, raw % 256, sample.instances], axis=-1).astype("uint8")
        save_jpeg(place / f"{name}.jpg", sample.image)
        save_png(place / f"{name}_seg.png", seg)


LAYOUT = Layout(
    name="ade20k_full",
    read=ade20k_full,
    detect=lambda root: _place(root) is not None,
    splits=lambda root: _splits(_place(root) or root),
    write=_write,
    title="ADE20K, all objects (2017, 2020)",
    table=labels.ADE20K,
    contents="instances, raw",
    published={"train": (20210, 25574), "val": 2000},
    licence="research and education; photos' terms not stated",
    source="ade20k.csail.mit.edu",
)
