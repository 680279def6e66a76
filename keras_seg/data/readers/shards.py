"""Folders that `prepare` wrote: TFRecord shards with an index, read by random access."""

import io
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_seg.data import labels, records
from keras_seg.data.dataset import SegmentationDataset
from keras_seg.data.labels import LabelTable
from keras_seg.data.readers.common import (
    SPLITS,
    choose_split,
    existing_folder,
    find_classes,
    report,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.utils import read_json

FORMAT, VERSION, INDEX = "keras_seg shards", 1, "shards.json"


def shards(root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None):
    """TFRecord shards with their index shards.json, as `keras-seg prepare` writes them.

    Samples are read by random access, without TensorFlow, and every checksum is looked at.
    `classes` gives the classes other names, not another number. Channels are converted as those of
    a file. Arguments and errors: see `open_dataset`.
    """
    root = existing_folder(root)
    index = read_index(root)
    parts = {part["name"]: part for part in index["splits"]}
    part = parts[choose_split(root, split, list(parts))]
    written = LabelTable.from_json(index["table"])
    table, _, _ = find_classes(root, None, classes, ignore_label, written)
    if table.num_classes != written.num_classes:
        raise ValueError(
            f"{root} was written with {written.num_classes} classes, but {table.num_classes} were "
            "given. Write it again from the original data."
        )
    if channels not in (1, 3, index["channels"]) or index["channels"] not in (1, 3, 4, channels):
        raise ValueError(
            f"{root}: {channels} channels were asked for, but its images have "
            f"{index['channels']}. Say channels={index['channels']}, or write it again from the "
            f"original data with channels={channels}."
        )
    places, errors = _places(root, part)
    report(root, errors, problems)
    extra_tables = {name: LabelTable.from_json(t) for name, t in index["extra_tables"].items()}
    return SegmentationDataset(
        _Shards(places, tuple(index["extras"]), channels),
        table,
        [place.name for place in places],
        channels=channels,
        layout="shards",
        split=part["name"],
        description=f"{root}: {len(part['shards'])} shards of {part['description']}",
        extra_tables=extra_tables,
        multilabel=index["multilabel"],
        notes=part["notes"],
    )


_SHARD = {
    "file": str,
    "bytes": int,
    "sha256": str,
    "max_bytes": int | None,
    "made_of": str,
    "names": [str],
    "sizes": [[int]],
    "offsets": [int],
}
_INDEX = {
    "layout": str,
    "title": str,
    "source": str,
    "licence": str,
    "table": dict,
    "channels": int,
    "multilabel": bool,
    "extras": dict,
    "extra_tables": dict,
    "splits": [
        {
            "name": str | None,
            "description": str,
            "notes": [str],
            "count": int,
            "shards": [_SHARD],
        }
    ],
}


def read_index(root):
    """The content of `root`/shards.json.

    Raises:
        ValueError: if it is missing, damaged, or of another version.
    """
    path = root / INDEX
    index = read_json(path)
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(f"{path} is no index of shards written by keras-seg prepare.")
    if index.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {index.get('version')!r}; this keras_seg reads {VERSION}. Write "
            "the shards again."
        )
    entries = [s for p in index["splits"] for s in p["shards"]] if _fits(index, _INDEX) else [None]
    if not all(map(_is_sound, entries)):
        raise ValueError(f"{path} is damaged. Write the shards again: keras-seg prepare.")
    return index


def _fits(value, form):
    """Whether a value of a JSON file has this form: a type, [form], or {key: form}."""
    if isinstance(form, dict):
        return isinstance(value, dict) and all(_fits(value.get(k), f) for k, f in form.items())
    if isinstance(form, list):
        return isinstance(value, list) and all(_fits(item, form[0]) for item in value)
    return isinstance(value, form)


def _is_sound(entry):
    """Whether the parts of a shard's entry go together; its file lies in the folder itself."""
    if entry is None or pathlib.PurePath(entry["file"]).name != entry["file"]:
        return False
    ends = [*entry["offsets"], entry["bytes"]]
    rising = all(a < b for a, b in zip(ends, ends[1:], strict=False))
    count = len(entry["names"])
    return ends[0] == 0 and rising and count == len(entry["offsets"]) == len(entry["sizes"])


class _Place(NamedTuple):
    """Where the record of a sample is: bytes start..stop of a file, and its number there."""

    file: pathlib.Path
    number: int
    start: int
    stop: int
    name: str


def _places(root, part):
    """(places of the samples in files of the right size, what is wrong with the other files)."""
    places, errors = [], []
    for entry in part["shards"]:
        file = root / entry["file"]
        ends = [*entry["offsets"][1:], entry["bytes"]]
        inside = zip(entry["offsets"], ends, entry["names"], strict=True)
        mine = [_Place(file, i, *values) for i, values in enumerate(inside)]
        size = file.stat().st_size if file.is_file() else None
        if size is None:
            errors.append((file, "is missing. Run keras-seg prepare again, which writes it anew"))
        elif size != entry["bytes"]:
            cut = next((p for p in mine if p.stop > size), None)
            lost = f", from record {cut.number} ({cut.name}) on" if cut else ""
            text = f"has {size} of {entry['bytes']} bytes{lost}. Run keras-seg prepare again"
            errors.append((file, text))
        else:
            places += mine
    written = sum(len(entry["names"]) for entry in part["shards"])
    if written != part["count"]:
        text = f"names {written} of {part['count']} samples: run keras-seg prepare again, to finish"
        errors.append((root / INDEX, text))
    return places, errors


class _Shards:
    """Source of a data set (see `SegmentationDataset`) that reads records."""

    image_paths = mask_paths = None

    def __init__(self, places, extras, channels):
        self.places, self.extras, self.channels = places, extras, channels

    def image(self, index):
        return self._image(index, self._features(index))

    def label(self, index):
        return self._array(index, self._features(index), "label")

    def both(self, index):
        features = self._features(index)
        return self._image(index, features), self._array(index, features, "label")

    def extra(self, index, name):
        return self._array(index, self._features(index), f"extra/{name}")

    def _features(self, index):
        place = self.places[index]
        title = f"{place.file}: record {place.number} ({place.name})"
        try:
            with open(place.file, "rb") as file:
                file.seek(place.start)
                record = file.read(place.stop - place.start)
        except OSError as error:
            raise ValueError(f"{title}: cannot be read: {error.strerror or error}.") from error
        try:
            features = records.parse_example(records.unframe(record, title))
        except ValueError as error:
            text = str(error)
            raise ValueError(text if text.startswith(title) else f"{title}: {text}.") from error
        if features.get("name") != [place.name.encode()]:
            raise ValueError(
                f"{title}: the record is of {features.get('name')}. {INDEX} is of other shards: "
                "run keras-seg prepare again."
            )
        return features

    def _image(self, index, features):
        image = self._array(index, features, "image")
        return image if image.shape[2] == self.channels else _convert(image, self.channels)

    def _array(self, index, features, key):
        try:
            (data,), (kind,), (dtype,) = (
                features[name] for name in (key, f"{key}/format", f"{key}/dtype")
            )
            return decode_array(kind.decode(), data, features[f"{key}/shape"], dtype.decode())
        except (KeyError, TypeError, ValueError) as error:
            place = self.places[index]
            raise ValueError(
                f"{place.file}: record {place.number} ({place.name}): no sound {key!r}: {error}."
            ) from error


def decode_array(kind, data, shape, dtype):
    """The array that `prepare` stored as `data` of `kind` "jpeg", "png" or "raw".

    Raises:
        ValueError: if it does not decode to an array of `shape`.
    """
    if kind == "raw":
        array = np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape)
    else:
        try:
            with Image.open(io.BytesIO(data), formats=[kind.upper()]) as image:
                array = np.array(image)
        except Exception as error:  # damage shows as a dozen types of error
            raise ValueError(f"damaged {kind} ({error})") from error
        array = array[..., None] if array.ndim < len(shape) else array
    if list(array.shape) != list(shape):
        raise ValueError(f"shape {array.shape} instead of {tuple(shape)}")
    return array.astype(dtype, copy=kind == "raw")


def _convert(image, channels):
    """uint8 (H, W, 1, 3 or 4) with `channels`, 1 or 3, as `read_image` converts them."""
    mode = {1: "L", 3: "RGB"}[channels]
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    array = np.array(picture.convert(mode))
    return array[..., None] if channels == 1 else array


def _splits(root):
    names = [part["name"] for part in read_index(root)["splits"] if part["name"]]
    return sorted(names, key=lambda name: name not in SPLITS["train"])


def _write(root, split, samples):
    from keras_seg.data.shards import prepare  # which needs this module

    dataset = SegmentationDataset(
        _Drawn(samples), labels.SHAPES, [sample.name for sample in samples], split=split
    )
    prepare(dataset, root, shards=1, progress=False)


class _Drawn:
    """Source of a data set of made-up samples."""

    image_paths = mask_paths = None

    def __init__(self, samples):
        self.samples = samples

    def image(self, index):
        return self.samples[index].image

    def label(self, index):
        return self.samples[index].label

    def both(self, index):
        return self.samples[index][:2]


LAYOUT = Layout(
    name="shards",
    read=shards,
    detect=lambda root: (root / INDEX).is_file(),
    splits=_splits,
    write=_write,
    title="your own: TFRecord shards of keras-seg prepare",
)
