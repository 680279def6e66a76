"""TFRecord shards: a data set in few large files, for fast and checked reading.

A folder of shards holds SPLIT-00000.tfrecord, SPLIT-00001.tfrecord, ... and `shards.json`, which
says what is in them: the table of classes, channels, where the data come from and under which
licence, and of each shard its size, SHA-256, and the names, sizes (H, W) and offsets of its
records. A record is a tf.train.Example, so that any reader of TFRecords can use it:

    name                  the sample's name, UTF-8
    image, label          the encoded array
    .../format            "jpeg", "png" or "raw" (the values, little-endian, row by row)
    .../shape             as integers: image (H, W, C), label (H, W), or (H, W, K) for multilabel
    .../dtype             of the array, such as "uint8"; a PNG holds it in 8 or 16 bits a channel
    extra/NAME, extra/NAME/format, ...   what else belongs to the sample

Images are the original file where it decodes to just the image, else PNG, or raw where PNG cannot
hold them. The reader of the layout is `keras_seg.data.readers.shards`.
"""

import hashlib
import io
import pathlib
import shutil
import urllib.parse

import numpy as np
from PIL import Image

from keras_seg.data import records
from keras_seg.data.datasets import find_layout
from keras_seg.data.progress import Progress
from keras_seg.data.read import orientation
from keras_seg.data.readers.shards import FORMAT, INDEX, VERSION, decode_array, read_index
from keras_seg.utils import atomic_path, check_counts, sha256, writable_folder, write_json

_DEFAULT_BYTES = 128 * 2**20
# Of a data set: what must be the same for all its splits, and for a folder that is gone on with.
_IDENTITY = ("layout", "table", "channels", "multilabel", "extras", "extra_tables")


def prepare(data, folder, *, shards=None, max_bytes=None, overwrite=False, progress=True):
    """Write a data set as TFRecord shards, which `open_dataset(folder)` reads.

    What was interrupted goes on: a shard is not written again if its checksum fits, the names,
    sizes and times of the image and mask files that it was made of are the same, and its first
    sample is. Where more than that may have changed, `overwrite=True` writes all again. Splits that
    the folder has and `data` has not stay.

    Args:
        data: `SegmentationDataset`, or {name of the split: `SegmentationDataset`}.
        folder: an empty folder, one made here if needed, or one with shards of this data set.
        shards: number of files of each split; a split has no more files than samples.
        max_bytes: instead: a file is closed before it grows beyond this; without both 128 MiB.
        overwrite: delete the shards that `folder` holds, whatever they are of.
        progress: draw a bar on stderr.

    Returns:
        Path of `folder`.

    Raises:
        ValueError: if the splits do not fit together, `folder` cannot be written or holds something
            else, or a sample cannot be read: then with its file, and the shards before it stay.
    """
    if shards is not None and max_bytes is not None:
        raise ValueError("Give shards= or max_bytes=, not both.")
    check_counts(shards=1 if shards is None else shards)
    check_counts(max_bytes=max_bytes or _DEFAULT_BYTES)
    splits = data if isinstance(data, dict) else {data.split_name: data}
    index = _describe(splits)
    folder = writable_folder(folder)
    old = _existing(folder, index, overwrite)
    index["splits"] = [split for split in old["splits"] if split["name"] not in splits]
    bar = Progress(sum(map(len, splits.values())), "writing", show=progress)
    for name, dataset in splits.items():
        before = next((s["shards"] for s in old["splits"] if s["name"] == name), [])
        split = {
            "name": name,
            "description": dataset.description,
            "notes": list(dataset.notes),
            "count": len(dataset),
            "shards": [],
        }
        index["splits"].append(split)
        writer = _Writer(folder, name, dataset, before, bar)
        write_json(folder / INDEX, index)
        while len(writer.entries) < _number_of_shards(shards, writer):
            stop = None
            if shards is not None:
                stop = (len(writer.entries) + 1) * len(dataset) // min(shards, len(dataset))
            writer.next_shard(stop, max_bytes or _DEFAULT_BYTES)
            split["shards"] = writer.entries
            write_json(folder / INDEX, index)
        for entry in before:
            if entry["file"] not in {new["file"] for new in writer.entries}:
                (folder / entry["file"]).unlink(missing_ok=True)
    return folder


def _number_of_shards(shards, writer):
    """How many there will be; by bytes, it shows only on the way: one more until all is written."""
    if shards is not None:
        return min(shards, len(writer.names))
    return len(writer.entries) + (writer.done < len(writer.names))


def _describe(splits):
    """The index without its shards."""
    if not splits or not all(map(len, splits.values())):
        empty = next((str(name) for name, dataset in splits.items() if not len(dataset)), "")
        raise ValueError(f"0 samples in split {empty}: nothing to write." if empty else "No split.")
    described = {}
    for name, dataset in splits.items():
        if dataset.label_channels and not dataset.multilabel:
            raise ValueError(
                f"Stacked label maps are not written: {dataset!r}. Write the data set as it was "
                "before stacked(...), which shards of it have too."
            )
        first = {extra: dataset.read_extra(0, extra).dtype.name for extra in dataset.extras}
        described[name] = {
            "layout": dataset.layout,
            "table": dataset.table.to_json(),
            "channels": dataset.channels,
            "multilabel": dataset.multilabel,
            "extras": first,
            "extra_tables": {k: table.to_json() for k, table in dataset.extra_tables.items()},
        }
    (one, expected), *others = described.items()
    for name, found in others:
        different = [key for key in _IDENTITY if found[key] != expected[key]]
        if different:
            raise ValueError(
                f"Splits {one!r} and {name!r} are not of one data set; they differ in "
                f"{', '.join(different)}. Write them to folders of their own."
            )
    return {"format": FORMAT, "version": VERSION, **_origin(expected["layout"]), **expected}


def _origin(layout):
    try:
        known = find_layout(layout)
    except ValueError:  # a data set of one's own
        return {"title": layout, "source": "", "licence": ""}
    return {"title": known.title, "source": known.source, "licence": known.licence}


def _existing(folder, index, overwrite):
    """The index that the folder has; swept of what a stopped run left."""
    for left in folder.glob(".partial-*"):
        shutil.rmtree(left)
    none = {"splits": []}
    if not (folder / INDEX).is_file():
        strange = sorted(path.name for path in folder.iterdir())
        if strange:
            raise ValueError(
                f"{folder} holds something else: {', '.join(strange[:5])}. Give an empty folder."
            )
        return none
    old = read_index(folder)
    if overwrite:
        for entry in (entry for split in old["splits"] for entry in split["shards"]):
            (folder / entry["file"]).unlink(missing_ok=True)
        return none
    different = [key for key in _IDENTITY if old[key] != index[key]]
    if different:
        raise ValueError(
            f"{folder} holds shards of another data set ({old['title'] or old['layout']}); they "
            f"differ in {', '.join(different)}. Give another folder, or overwrite it."
        )
    return old


class _Writer:
    """Writes the shards of one split in order; `entries` are those that are whole."""

    def __init__(self, folder, split, dataset, before, bar):
        self.folder, self.dataset, self.before, self.bar = folder, dataset, before, bar
        self.prefix = urllib.parse.quote(split or "data", safe="")
        self.names = dataset.names
        self.files = [dataset.image_paths, dataset.mask_paths]
        self.entries, self.done = [], 0

    def next_shard(self, stop, max_bytes):
        """Samples up to `stop`, or up to `max_bytes` where that is None."""
        number = len(self.entries)
        entry = self.before[number] if number < len(self.before) else None
        # Where bytes decide, a shard begun anew must end where it ended before.
        limit = None if stop is not None else max_bytes
        if entry is None or not self._is_whole(entry, stop, limit):
            file = self.folder / f"{self.prefix}-{number:05d}.tfrecord"
            entry = self._write(file, stop, limit)
        else:
            for _ in entry["names"]:
                self.bar.step()
        self.entries.append(entry)
        self.done += len(entry["names"])

    def _is_whole(self, entry, stop, limit):
        count = len(entry["names"])
        file = self.folder / entry["file"]
        return (
            entry["max_bytes"] == limit
            and (stop is None or self.done + count == stop)
            and entry["names"] == self.names[self.done : self.done + count]
            and entry["made_of"] == self._made_of(self.done, self.done + count)
            and file.is_file()
            and file.stat().st_size == entry["bytes"]
            and sha256(file) == entry["sha256"]
        )

    def _made_of(self, start, stop):
        """A digest of names, sizes and times of the files of these samples, and of the first."""
        digest = hashlib.sha256()
        for array in self.dataset[start][:2]:  # it shows most changes of how files are read
            digest.update(np.ascontiguousarray(array))
        for place in range(start, stop):
            digest.update(f"{self.names[place]}\0".encode())
            for paths in self.files:
                if paths is not None:
                    facts = pathlib.Path(paths[place]).stat()
                    digest.update(f"{facts.st_size} {facts.st_mtime_ns}\0".encode())
        return digest.hexdigest()

    def _write(self, path, stop, limit):
        """Write one file; its entry of the index."""
        digest, offsets, sizes, place = hashlib.sha256(), [], [], 0
        end = len(self.names) if stop is None else stop
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            for index in range(self.done, end):
                record, size = self._record(index)
                if limit is not None and offsets and place + len(record) > limit:
                    break
                file.write(record)
                digest.update(record)
                offsets.append(place)
                sizes.append(size)
                place += len(record)
                self.bar.step()
        stop = self.done + len(offsets)
        return {
            "file": path.name,
            "bytes": place,
            "sha256": digest.hexdigest(),
            "max_bytes": limit,
            "made_of": self._made_of(self.done, stop),
            "names": self.names[self.done : stop],
            "sizes": sizes,
            "offsets": offsets,
        }

    def _record(self, index):
        """(bytes of the framed record, [H, W]) of a sample."""
        image, label, name = self.dataset[index]
        features = {"name": name.encode()}
        original = _original(self.files[0][index], image) if self.files[0] is not None else None
        _add_array(features, "image", image, original)
        _add_array(features, "label", label)
        for extra in self.dataset.extras:
            _add_array(features, f"extra/{extra}", self.dataset.read_extra(index, extra))
        return records.frame(records.encode_example(features)), [*image.shape[:2]]


def _add_array(features, key, array, encoded=None):
    kind, data = encoded or _encode(array)
    features[key] = data
    features[f"{key}/format"] = kind.encode()
    features[f"{key}/shape"] = [*array.shape]
    features[f"{key}/dtype"] = array.dtype.name.encode()


def _encode(array):
    """("png" or "raw", the bytes) of an array."""
    pixels = _as_pixels(array)
    if pixels is None:
        little = array.dtype.newbyteorder("<")
        return "raw", np.ascontiguousarray(array, little).tobytes()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return "png", file.getvalue()


def _as_pixels(array):
    """The array as a PNG can hold it, uint8 or uint16; None where it cannot."""
    if array.dtype.kind not in "iu" or not array.size:
        return None
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim == 3:
        return array if array.shape[2] in (3, 4) and array.dtype == np.uint8 else None
    if array.ndim != 2 or array.min() < 0 or array.max() > 65535:
        return None
    return array.astype("uint8" if array.max() < 256 else "uint16")


def _original(path, image):
    """("jpeg" or "png", the bytes) of the image's file if any decoder gives just `image` from it.

    That is so for 8 bits in as many channels as the image has, upright: no palette, no turn.
    """
    data = pathlib.Path(path).read_bytes()
    kind = {b"\xff\xd8\xff": "jpeg", b"\x89PN": "png"}.get(data[:3])
    sixteen_bit = kind == "png" and data[24] != 8
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(image.shape[2])
    if kind is None or sixteen_bit or orientation(path) != 1:
        return None
    with Image.open(io.BytesIO(data)) as file:
        if file.mode != mode or "transparency" in file.info:
            return None
    decoded = decode_array(kind, data, image.shape, image.dtype)
    return (kind, data) if np.array_equal(decoded, image) else None
