"""Readers on real pictures and on the layout fixtures of datumaro (a few artificial pixels each).

The folder with both is the environment variable KERAS_SEG_SHARED; without it these tests fail.
"""

import os
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from keras_seg import data
from keras_seg.data.labels import ADE20K, CAMVID, CAMVID32, CITYSCAPES, VOC

pytestmark = pytest.mark.slow


@pytest.fixture
def real():
    """The folder of the real sets."""
    return pathlib.Path(os.environ["KERAS_SEG_SHARED"]) / "data"


@pytest.fixture
def fixtures(real):
    return real / "layout_fixtures" / "datumaro"


def histogram(dataset):
    return sum(np.bincount(sample.label.ravel(), minlength=256) for sample in dataset)


def test_voc_person_subset(real):
    root = real / "voc_person_subset"
    dataset = data.open_dataset(root)
    assert dataset.layout == "voc" and dataset.table is VOC and len(dataset) == 94
    counts = histogram(dataset)
    # Of the palette indices themselves; the person class is in most pictures, hence the name.
    raw = [np.asarray(Image.open(path)) for path in dataset.mask_paths]
    expected = sum(np.bincount(ids.ravel(), minlength=256) for ids in raw)
    assert counts.tolist() == expected.tolist()
    assert set(np.flatnonzero(counts)) == {*range(21), 255}
    assert (counts[15], counts[255]) == (1967585, 1279285)
    palette = Image.open(dataset.mask_paths[0]).getpalette()
    assert np.reshape(palette, (-1, 3))[:21].tolist() == VOC.colors.tolist()
    assert "94 samples in split train" in dataset.notes[0]
    assert data.check_data(root, progress=False).ok


# Pixels of the classes 0..10 and of void: those of train as the folder's README.md has them.
CAMVID_TRAIN = "10682767 14750079 623349 20076880 2845085 6166762 743859 714595 3719877 405385"
CAMVID_TRAIN += " 184967 2503995"


def test_camvid(real):
    readme = (real / "README.md").read_text("utf-8")
    assert re.sub("; void", "", readme).count(CAMVID_TRAIN) == 1
    dataset = data.open_dataset(real / "camvid")
    assert dataset.layout == "camvid" and dataset.table is CAMVID and not dataset.notes
    assert len(dataset) == 367 and dataset[0].image.shape == (360, 480, 3)
    counts = histogram(dataset)
    assert [*counts[:11], counts[255]] == [int(n) for n in CAMVID_TRAIN.split()]
    assert counts.sum() == 367 * 360 * 480
    val = data.open_dataset(real / "camvid", "val")
    assert len(val) == 101 and set(np.flatnonzero(histogram(val))) == {*range(11), 255}
    from keras_seg.data.readers.camvid32 import published_split

    assert {published_split(name) for name in dataset.names} == {"train"}
    assert {published_split(name) for name in val.names} == {"val"}


def test_ade20k_sample(real):
    dataset = data.open_dataset(real / "ade20k_sample" / "sampleData")
    assert dataset.layout == "ade20k" and dataset.table is ADE20K and len(dataset) == 3
    first = np.asarray(Image.open(dataset.mask_paths[0]))
    assert np.unique(first).tolist() == [0, 1, 2, 3, 5, 7, 10, 18]
    assert np.unique(dataset[0].label).tolist() == [0, 1, 2, 4, 6, 9, 17, 255]
    np.testing.assert_array_equal(dataset[0].label, first - np.uint8(1))  # 0 wraps to 255
    rows = (real / "ade20k_sample" / "objectInfo150.csv").read_text("utf-8").splitlines()[1:]
    names = [row.split(",")[5].replace(";", " ") for row in rows]
    assert len(names) == 150
    assert all(full.startswith(name) for full, name in zip(names, ADE20K.names, strict=True))


def test_ade20k_raw_agrees_with_its_converted_form(real, tmp_path):
    source = real / "ade20k_sample" / "convertFromADE"
    raw = Image.open(source / "ADE_train_00000970_raw.png")
    (tmp_path / "training").mkdir()
    raw.save(tmp_path / "training" / "a_seg.png")
    raw.save(tmp_path / "training" / "a.jpg")
    dataset = data.open_dataset(tmp_path)
    assert dataset.layout == "ade20k_full" and dataset[0].label.shape == (768, 1024)
    converted = np.asarray(Image.open(source / "ADE_train_00000970_challenge.png"))
    resized = Image.fromarray(dataset[0].label).resize(converted.shape[::-1], Image.NEAREST)
    np.testing.assert_array_equal(np.asarray(resized), converted - np.uint8(1))
    rows = (source / "mapFromADE.txt").read_text("utf-8").split("\n")
    pairs = [tuple(map(int, row.split())) for row in rows if row.strip()]
    assert {(raw, index - 1) for index, raw in pairs} == set(data.labels.ADE20K_RAW_IDS.items())


@pytest.mark.parametrize("year", [2017, 2020])
def test_ade20k_full_fixture(fixtures, year):
    root = fixtures / f"ade20k{year}_dataset" / "dataset"
    assert data.detect_layout(root) == "ade20k_full"
    assert data.list_splits(root) == ["training", "validation"]
    names = ["person", "sky" if year == 2017 else "car"]
    train = data.open_dataset(root, classes=names)
    assert train.names == ["street/1"]
    if year == 2017:  # one row: nothing, object 1 (sky), object 2 twice (person)
        expected = [[255, 1, 0, 0]] * 3
        objects = [[0, 1, 2, 2]] * 3
        raw = [[0, 1, 0, 0]] * 3
    else:  # the colours (71, 39, 1) person and (15, 145, 2) car, in columns
        expected = [[255, 0, 1, 1, 1]] * 5
        objects = [[0, 1, 2, 2, 2]] * 5
        raw = [[0, 1831, 401, 401, 401]] * 5
        of_150 = np.unique(data.open_dataset(root)[0].label)
        assert of_150.tolist() == [ADE20K.names.index("person"), ADE20K.names.index("car"), 255]
    assert train[0].label.tolist() == expected
    assert train.read_extra(0, "instances").tolist() == objects
    assert train.read_extra(0, "raw").tolist() == raw
    assert len(data.open_dataset(root, "val")) == 1


def test_camvid_fixture(fixtures):
    root = fixtures / "camvid_dataset"  # SegNet's folders, and in them the 32 labels' colours
    sizes = {"train": 1, "val": 1, "test": 2}
    assert {s: len(data.camvid32(root, s, merge=None)) for s in sizes} == sizes
    first = data.camvid32(root, "test", merge=None)[0].label[0]
    names = [CAMVID32.names[i] for i in first]
    assert names == ["Animal", "Animal", "Road", "Sky", "Sky"]
    merged = data.camvid32(root, "test")[0].label[0]
    assert [CAMVID.names[i] for i in merged] == ["Pedestrian", "Pedestrian", "Road", "Sky", "Sky"]
    with pytest.raises(ValueError, match=r"0001TP_008550.png: .*\(64, 128, 64\) on 2 pixels"):
        data.camvid(root, "test")[0]


def test_cityscapes_fixture(fixtures):
    root = fixtures / "cityscapes_dataset" / "dataset"
    assert data.detect_layout(root) == "cityscapes"
    assert data.list_splits(root) == ["train", "val", "test"]
    train = data.open_dataset(root)
    assert train.names == ["defaultcity/defaultcity_000002_000045"] and train.table is CITYSCAPES
    assert train[0].label.tolist() == [[255, 255, 11, 255, 255]]
    test = data.open_dataset(root, "test")
    assert [sample.label.tolist() for sample in test] == [
        [[255, 255, 14, 14, 14]],
        [[16, 16, 3, 255, 255]],
    ]
    assert test.read_extra(0, "instances").tolist() == [[0, 0, 27001, 27002, 27002]]
    # The other fixture has train ids with 19 for ignored pixels, which cityscapesScripts never
    # writes for this task.
    with pytest.raises(ValueError, match="labelTrainIds.png: ids 19 are outside the table"):
        data.open_dataset(root.with_name("train_dataset"))[0]


def test_kitti_fixture(fixtures):
    root = fixtures / "kitti_dataset" / "kitti_segmentation"
    dataset = data.open_dataset(root)
    assert dataset.layout == "kitti_semantic" and dataset.names == ["000030_10", "000030_11"]
    assert [sample.label.tolist() for sample in dataset] == [
        [[255, 255, 14, 14, 14]],
        [[16, 16, 3, 255, 255]],
    ]
    assert dataset.read_extra(0, "instances").tolist() == [[0, 0, 6913, 6914, 6914]]


def test_coco_fixture(fixtures):
    root = fixtures / "coco_dataset" / "coco"
    assert data.detect_layout(root) == "coco" and data.list_splits(root) == ["train", "val"]
    val = data.open_dataset(root, "val")
    assert val.names == ["b"] and val.table.names == ("background", "a", "b", "c")
    expected = np.zeros((10, 5), "uint8")
    expected[:, :2] = 2  # a crowd in run lengths
    expected[:2, 0] = 1  # a polygon of two pixels
    np.testing.assert_array_equal(val.read_label(0), expected)
    np.testing.assert_array_equal(val.read_extra(0, "instances"), expected == 1)
    with pytest.raises(ValueError, match="instances_train.json: annotation 1: .*no segmentation"):
        data.open_dataset(root, "train")
    panoptic = data.open_dataset(root, "train", protocol="panoptic")
    assert panoptic.table.names == ("a", "b")
    ids = np.asarray(Image.open(root / "annotations/panoptic_train/a.png"))[..., 0]
    np.testing.assert_array_equal(panoptic.read_label(0), np.where(ids == 7, 0, 255))
    assert not panoptic.read_extra(0, "instances").any()  # the category is no thing


def test_mapillary_fixture(fixtures):
    folder = fixtures / "mapillary_vistas_dataset"
    older, newer = (data.open_dataset(folder / version) for version in ("v1.2", "v2.0"))
    assert older.table.names == ("Bird", "Curb", "Person") and older.names == ["1", "2"]
    assert older[0].label[0].tolist() == [0, 0, 1, 1, 0]
    assert older.extras == ()  # picture 2 has no map of instances
    val = data.open_dataset(folder / "v1.2", "val")
    assert val.read_extra(0, "instances")[0].tolist() == [1, 1, 257, 257, 513]
    assert newer.table.colors.tolist() == [[165, 42, 42], [128, 128, 128], [119, 11, 32]]
    assert newer[0].label[0].tolist() == [0, 1, 0, 1, 0]
    assert newer.read_extra(0, "instances")[0].tolist() == [1, 257, 2, 258, 3]


def test_voc_fixture(fixtures):
    root = fixtures / "voc_dataset" / "voc_dataset1"
    dataset = data.open_dataset(root)
    assert dataset.layout == "voc" and dataset.names == ["2007_000001"]
    assert dataset.read_label(0).tolist() == [[2] * 20] * 10  # (0, 128, 0) is a bicycle
    assert dataset.read_extra(0, "instances").tolist() == [[1] * 20] * 10
    with pytest.raises(ValueError, match="SegmentationClass/2007_000002.png: is missing"):
        data.open_dataset(root, "test")
