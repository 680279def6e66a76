"""Shards: what goes in comes out bit by bit, TensorFlow agrees, and nothing damaged is believed."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_seg import data
from keras_seg.data import records
from keras_seg.data.labels import LabelTable


def _prepare(source, folder, **options):
    return data.prepare(source, folder, progress=False, **options)


def _same(one, other):
    assert one.names == other.names and one.table == other.table
    assert one.extras == other.extras and one.multilabel == other.multilabel
    assert one.extra_tables == other.extra_tables and one.notes == other.notes
    for index, (a, b) in enumerate(zip(one, other, strict=True)):
        for x, y in ((a.image, b.image), (a.label, b.label)):
            assert x.dtype == y.dtype and np.array_equal(x, y)
        assert np.array_equal(other.read_image(index), a.image)
        assert np.array_equal(other.read_label(index), a.label)
        for name in one.extras:
            x, y = one.read_extra(index, name), other.read_extra(index, name)
            assert x.dtype == y.dtype and np.array_equal(x, y)


class Source:
    """Arrays in memory."""

    image_paths = mask_paths = None

    def __init__(self, images, labels, **extras):
        self.images, self.labels, self.arrays = images, labels, extras
        self.extras = tuple(extras)

    def image(self, index):
        return self.images[index]

    def label(self, index):
        return self.labels[index]

    def both(self, index):
        return self.images[index], self.labels[index]

    def extra(self, index, name):
        return self.arrays[name][index]


def _arrays(shape, count=3, dtype="uint8", high=256):
    rng = np.random.default_rng(0)
    return [rng.integers(0, high, shape).astype(dtype) for _ in range(count)]


# CRC-32C


@pytest.mark.parametrize(
    ("message", "value"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc32c_of_rfc_3720(message, value):
    assert records.crc32c(message) == value


@pytest.mark.parametrize("length", [255, 256, 5685, 5686, 11_000, 45_480, 45_488, 46_001, 400_007])
def test_crc32c_of_any_length(length):
    """Against the definition, one byte after the other: short, folded once, folded twice."""
    rng = np.random.default_rng(length)
    message = rng.integers(0, 256, length, np.uint8).tobytes()
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    expected = 0xFFFFFFFF
    for byte in message:
        expected = (expected >> 8) ^ table[(expected ^ byte) & 255]
    assert records.crc32c(message) == expected ^ 0xFFFFFFFF


# Round trips


@pytest.mark.parametrize("layout", [layout.name for layout in data.list_datasets()])
def test_round_trip_of_layouts(layout, tmp_path):
    root = data.write_layout(layout, tmp_path / "set", {"train": 5}, size=(40, 52))
    dataset = data.open_dataset(root, "train")
    out = _prepare(dataset, tmp_path / "shards", shards=2)
    assert data.detect_layout(out) == "shards"
    back = data.open_dataset(out)
    _same(dataset, back)
    assert len(list(out.glob("*.tfrecord"))) == 2
    assert data.check_data(out, progress=False).ok


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_round_trip_of_channels(channels, tmp_path):
    dataset = data.shapes(3, size=(20, 30), channels=channels, border=1)
    back = data.open_dataset(_prepare(dataset, tmp_path / "s"), channels=channels)
    _same(dataset, back)


def test_other_channels_are_converted_as_those_of_a_file(tmp_path, save):
    image = _arrays((6, 5, 3), 1)[0]
    dataset = data.SegmentationDataset(
        Source([image], _arrays((6, 5), 1, high=2)), LabelTable(["a", "b"]), ["x"]
    )
    out = _prepare(dataset, tmp_path / "s")
    path = save(tmp_path / "x.png", image)
    grey = data.open_dataset(out, channels=1)[0].image
    assert np.array_equal(grey, data.read_image(path, 1))
    with pytest.raises(ValueError, match="4 channels were asked for, but its images have 3"):
        data.open_dataset(out, channels=4)


def test_round_trip_of_everything_a_source_may_have(tmp_path):
    depth = [a.astype("float32") / 7 for a in _arrays((6, 5))]
    dataset = data.SegmentationDataset(
        Source(
            _arrays((6, 5, 3)),
            _arrays((6, 5, 3), high=2),
            instances=_arrays((6, 5), dtype="int32", high=2**24),
            few=_arrays((6, 5), dtype="int32", high=60000),
            depth=depth,
            hha=_arrays((6, 5, 3)),
            parts=_arrays((6, 5), high=3),
        ),
        LabelTable(["a", "b", "c"], [(1, 2, 3), (4, 5, 6), (7, 8, 9)], ignore_label=9, name="abc"),
        ["ä/1", "ä/2", "b"],
        extra_tables={"parts": LabelTable(["p", "q", "r"])},
        multilabel=True,
        notes=["three samples only"],
        layout="own",
    )
    _same(dataset, data.open_dataset(_prepare(dataset, tmp_path / "s")))


@pytest.mark.parametrize(
    ("shape", "dtype", "high"), [((6, 5, 8), "uint8", 256), ((6, 5, 3), "uint16", 65536)]
)
def test_bands_that_no_png_holds(shape, dtype, high, tmp_path):
    dataset = data.SegmentationDataset(
        Source(_arrays(shape, dtype=dtype, high=high), _arrays((6, 5), high=2)),
        LabelTable(["a", "b"]),
        ["x", "y", "z"],
        channels=shape[2],
    )
    out = _prepare(dataset, tmp_path / "s")
    _same(dataset, data.open_dataset(out, channels=shape[2]))


def test_original_files_are_kept_where_they_are_the_image(make_folder, tmp_path):
    """An upright RGB JPEG or PNG goes in as it is; one that has to be turned does not."""
    root = make_folder()
    images = root / "images"
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = Image.fromarray(_arrays((6, 8, 3), 1)[0])
    for name, options in (("a", {}), ("b", {"exif": exif})):
        (images / f"{name}.png").unlink()
        turned = pixels if options else pixels.transpose(Image.Transpose.ROTATE_90)
        turned.save(images / f"{name}.jpg", **options)
    dataset = data.open_dataset(root)
    out = _prepare(dataset, tmp_path / "s", shards=1)
    _same(dataset, data.open_dataset(out))
    parsed = [records.parse_example(r) for r in records.read_records(next(out.glob("*.tfrecord")))]
    formats = [p["image/format"] for p in parsed]
    assert formats == [[b"jpeg"], [b"png"], [b"png"]]
    assert parsed[0]["image"] == [(images / "a.jpg").read_bytes()]
    assert parsed[2]["image"] == [(images / "c.png").read_bytes()]


def test_splits_and_sizes_of_files(tmp_path):
    root = data.write_layout("camvid", tmp_path / "set", {"train": 7, "val": 3}, size=(16, 16))
    splits = {name: data.open_dataset(root, name) for name in ("train", "val")}
    out = _prepare(splits, tmp_path / "s", max_bytes=2500)
    assert data.list_splits(out) == ["train", "val"]
    files = sorted(out.glob("train-*.tfrecord"))
    assert len(files) > 1 and all(f.stat().st_size <= 2500 for f in files)
    for name, dataset in splits.items():
        _same(dataset, data.open_dataset(out, name))
    one = _prepare(splits["val"], tmp_path / "t", shards=100)
    assert len(list(one.glob("*.tfrecord"))) == 3
    _prepare(splits["train"], one)  # a second split joins the first
    _same(splits["train"], data.open_dataset(one, "train"))
    _same(splits["val"], data.open_dataset(one, "val"))


# Going on


class Failing(Source):
    def both(self, index):
        if index == 5:
            raise ValueError("file five is damaged")
        return super().both(index)


def test_an_interrupted_run_goes_on(tmp_path):
    def make(kind):
        source = kind(_arrays((6, 5, 3), 6), _arrays((6, 5), 6, high=2))
        return data.SegmentationDataset(source, LabelTable(["a", "b"]), list("uvwxyz"))

    out = tmp_path / "s"
    with pytest.raises(ValueError, match="file five is damaged"):
        _prepare(make(Failing), out, shards=3)
    with pytest.raises(ValueError, match="names 4 of 6 samples: run keras-seg prepare again"):
        data.open_dataset(out)
    assert sorted(p.name for p in out.iterdir()) == [
        "data-00000.tfrecord",
        "data-00001.tfrecord",
        "shards.json",
    ]
    damaged = bytearray((out / "data-00001.tfrecord").read_bytes())
    damaged[30] ^= 1
    (out / "data-00001.tfrecord").write_bytes(damaged)
    (out / ".partial-killed").mkdir()
    times = {p: p.stat().st_mtime_ns for p in out.glob("*.tfrecord")}
    _prepare(make(Source), out, shards=3)
    changed = [p.name for p, time in times.items() if p.stat().st_mtime_ns != time]
    assert changed == ["data-00001.tfrecord"] and not (out / ".partial-killed").exists()
    _same(make(Source), data.open_dataset(out))
    _prepare(make(Source), out, shards=1)
    assert [p.name for p in out.glob("*.tfrecord")] == ["data-00000.tfrecord"]
    _same(make(Source), data.open_dataset(out))


def test_a_file_that_changed_is_written_again(make_folder, tmp_path, save):
    root = make_folder()
    out = _prepare(data.open_dataset(root), tmp_path / "s", shards=3)
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("*.tfrecord")}
    save(root / "masks" / "b.png", 2 - np.arange(48).reshape(8, 6) % 3)
    _prepare(data.open_dataset(root), out, shards=3)
    after = {p.name: p.stat().st_mtime_ns for p in out.glob("*.tfrecord")}
    assert [n for n in before if before[n] != after[n]] == ["data-00001.tfrecord"]
    _same(data.open_dataset(root), data.open_dataset(out))
    other = data.open_dataset(root, classes=3, mask_values={1: 2, 2: 1})
    _same(other, data.open_dataset(_prepare(other, out, shards=3)))


def test_what_cannot_be_written(tmp_path, make_folder):
    dataset = data.shapes(2, size=(16, 16))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"full holds something else: letter.txt"):
        _prepare(dataset, tmp_path / "full")
    out = _prepare(dataset, tmp_path / "s")
    other = data.open_dataset(make_folder())
    with pytest.raises(ValueError, match=r"shards of another data set .* differ in layout, table"):
        _prepare(other, out)
    _same(other, data.open_dataset(_prepare(other, out, overwrite=True)))
    with pytest.raises(ValueError, match="not both"):
        _prepare(dataset, tmp_path / "n", shards=2, max_bytes=1000)
    with pytest.raises(ValueError, match="shards must be a whole number"):
        _prepare(dataset, tmp_path / "n", shards=0)
    with pytest.raises(ValueError, match="0 samples in split val"):
        _prepare({"train": dataset, "val": dataset.subset([])}, tmp_path / "n")
    with pytest.raises(ValueError, match="'train' and 'val' are not of one data set.*channels"):
        grey = data.shapes(2, size=(16, 16), channels=1)
        _prepare({"train": dataset, "val": grey}, tmp_path / "n")
    assert not (tmp_path / "n").exists()


# TensorFlow's reader and writer


def test_tensorflow_reads_our_records(tmp_path):
    import tensorflow as tf

    root = data.write_layout("voc", tmp_path / "set", {"train": 3}, size=(40, 52))
    dataset = data.open_dataset(root)
    out = _prepare(dataset, tmp_path / "s", shards=1)
    form = {key: tf.io.FixedLenFeature([], tf.string) for key in ("name", "image", "label")}
    form["image/shape"] = tf.io.FixedLenFeature([3], tf.int64)
    read = tf.data.TFRecordDataset([str(path) for path in out.glob("*.tfrecord")])
    parsed = [tf.io.parse_single_example(record, form) for record in read]
    assert [p["name"].numpy().decode() for p in parsed] == dataset.names
    for p, sample in zip(parsed, dataset, strict=True):
        image = tf.io.decode_jpeg(p["image"], dct_method="INTEGER_ACCURATE")
        assert p["image/shape"].numpy().tolist() == list(sample.image.shape)
        # Two versions of libjpeg may round an upsampled colour differently.
        assert np.abs(image.numpy().astype(int) - sample.image).max() <= 3
        np.testing.assert_array_equal(tf.io.decode_png(p["label"])[..., 0], sample.label)


def test_tensorflow_reads_every_kind_of_feature():
    import tensorflow as tf

    features = {"a": b"bytes", "b": [0, 1, 127, 128, -1, 2**63 - 1, -(2**63)], "": b""}
    example = tf.train.Example.FromString(records.encode_example(features))
    assert example.features.feature["a"].bytes_list.value == [b"bytes"]
    assert list(example.features.feature["b"].int64_list.value) == features["b"]
    assert example.features.feature[""].bytes_list.value == [b""]


def test_we_read_tensorflows_records(tmp_path):
    import tensorflow as tf

    path = tmp_path / "tf.tfrecord"
    written = []
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, length in enumerate([0, 1, 300, 70000]):
            content = np.random.default_rng(length).integers(0, 256, length, np.uint8).tobytes()
            example = tf.train.Example()
            example.features.feature["data"].bytes_list.value.append(content)
            example.features.feature["many"].bytes_list.value.extend([b"x", b"yy"])
            example.features.feature["number"].int64_list.value.extend([number, -number])
            example.features.feature["part"].float_list.value.append(number / 2)
            writer.write(example.SerializeToString())
            written.append(
                {
                    "data": [content],
                    "many": [b"x", b"yy"],
                    "number": [number, -number],
                    "part": [number / 2],
                }
            )
    assert [records.parse_example(record) for record in records.read_records(path)] == written


# Damage


@pytest.fixture
def small(tmp_path):
    """Three samples in one shard: (folder, the shard)."""
    out = _prepare(data.shapes(3, size=(16, 16)), tmp_path / "s", shards=1)
    return out, out / "data-00000.tfrecord"


def _offsets(folder):
    return json.loads((folder / "shards.json").read_text())["splits"][0]["shards"][0]["offsets"]


def test_every_flipped_bit_is_found_and_named(small):
    folder, shard = small
    content = shard.read_bytes()
    offsets = _offsets(folder)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 200):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        shard.write_bytes(damaged)
        number = int(np.searchsorted(offsets, place, "right")) - 1
        with pytest.raises(
            ValueError, match=rf"data-00000.tfrecord: record {number} .*(damaged|cut)"
        ):
            data.open_dataset(folder)[number]
        with pytest.raises(ValueError, match=rf"data-00000.tfrecord: record {number} "):
            list(records.read_records(shard))
    report = data.check_data(folder, progress=False)
    assert [p.file for p in report.errors] == [f"shapes_0000{number}"]
    assert f"record {number}" in report.errors[0].message and report.read == 2


def test_cut_and_missing_shards(small):
    folder, shard = small
    content, offsets = shard.read_bytes(), _offsets(folder)
    shard.write_bytes(content[: offsets[1] + 9])
    with pytest.raises(
        ValueError, match=r"tfrecord: has \d+ of \d+ bytes, from record 1 \(shapes_"
    ):
        data.open_dataset(folder)
    with pytest.raises(ValueError, match="record 1 is cut off"):
        list(records.read_records(shard))
    shard.unlink()
    report = data.check_data(folder, progress=False)
    assert not report.ok and "is missing" in str(report)
    with pytest.raises(ValueError, match="cannot be read"):
        list(records.read_records(shard))


def test_records_of_other_shards_are_not_taken(small):
    folder, _ = small
    index = json.loads((folder / "shards.json").read_text())
    index["splits"][0]["shards"][0]["names"][1] = "other"
    (folder / "shards.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"record 1 \(other\): the record is of .*shapes_00001"):
        data.open_dataset(folder)[1]


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 2},
        {"splits": None},
        {"channels": "3"},
        {"splits": [{"name": "train"}]},
    ],
)
def test_an_index_that_is_none(small, change):
    folder, _ = small
    path = folder / "shards.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=r"shards.json"):
        data.open_dataset(folder)


def test_an_index_cannot_name_files_elsewhere(small):
    folder, _ = small
    index = json.loads((folder / "shards.json").read_text())
    index["splits"][0]["shards"][0]["file"] = "../letter.txt"
    (folder / "shards.json").write_text(json.dumps(index))
    (folder.parent / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="shards.json is damaged"):
        data.prepare(data.shapes(3, size=(16, 16)), folder, overwrite=True, progress=False)
    assert (folder.parent / "letter.txt").exists()


def test_mutated_indices_raise_only_our_error(small):
    folder, _ = small
    path = folder / "shards.json"
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        changed = bytearray(content)
        for place in rng.integers(0, len(content), 2):
            changed[place] = int(rng.integers(32, 127))
        path.write_bytes(changed)
        try:
            for sample in data.open_dataset(folder):
                assert sample.image.shape == (16, 16, 3)
        except ValueError:
            refused += 1
    assert refused > 100


def test_mutated_shards_raise_only_our_error(small):
    folder, shard = small
    content = shard.read_bytes()
    rng = np.random.default_rng(1)
    for number in range(200):
        changed = bytearray(content)
        for place in rng.integers(0, len(content), 4):
            changed[place] = int(rng.integers(256))
        shard.write_bytes(changed[: int(rng.integers(len(content)))] if number % 4 else changed)
        for read in (
            lambda: list(data.open_dataset(folder)),
            lambda: [*records.read_records(shard)],
        ):
            with pytest.raises(ValueError, match="data-00000.tfrecord"):
                read()


def test_mutated_messages_raise_only_our_error(small):
    """What a checksum would not have let through."""
    message = next(records.read_records(small[1]))[:300]
    message = records.encode_example({"name": b"x", "shape": [1, -2, 300], "image": message})
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        changed = bytearray(message)
        for place in rng.integers(0, 60, 2):
            changed[place] = int(rng.integers(256))
        try:
            assert isinstance(records.parse_example(bytes(changed)), dict)
        except ValueError:
            refused += 1
    assert refused > 500


def test_shards_are_read_without_keras_and_tensorflow(small):
    code = (
        "import sys; from keras_seg import data;"
        f"samples = list(data.open_dataset({str(small[0])!r}));"
        "heavy = {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules);"
        "sys.exit(f'{len(samples)} samples, imported {heavy}' if heavy or len(samples) != 3 else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["camvid", "isbi_membrane", "dsb2018", "voc_person_subset"])
def test_round_trip_of_real_data(name, tmp_path):
    dataset = data.open_dataset(pathlib.Path(os.environ["KERAS_SEG_SHARED"]) / "data" / name)
    dataset = dataset.subset(range(0, len(dataset), 5))
    back = data.open_dataset(_prepare(dataset, tmp_path / "s", max_bytes=2**21))
    _same(dataset, back)
    assert data.check_data(back, progress=False).ok
