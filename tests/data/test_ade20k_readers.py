"""ADE20K: the benchmark's 150 classes, and the full set's colours."""

import json

import numpy as np
import pytest

from keras_seg import data
from keras_seg.data.labels import ADE20K, ADE20K_RAW_IDS


def test_table():
    assert ADE20K.num_classes == 150
    assert [ADE20K.names[i] for i in (0, 1, 12, 89, 149)] == [
        "wall",
        "building",
        "person",
        "television",
        "flag",
    ]
    assert ADE20K.colors[[0, 12, 149]].tolist() == [[120, 120, 120], [150, 5, 61], [92, 0, 255]]
    assert len(np.unique(ADE20K.colors, axis=0)) == 149  # known of the owner's table
    assert len(ADE20K_RAW_IDS) == 153 and set(ADE20K_RAW_IDS.values()) == set(range(150))
    assert (ADE20K_RAW_IDS[2978], ADE20K_RAW_IDS[401], ADE20K_RAW_IDS[1831]) == (0, 20, 12)


def test_scene_parse_150(tmp_path, save):
    ids = np.append(np.arange(151), 0).reshape(8, 19)
    for split in ("training", "validation"):
        save(tmp_path / "images" / split / "ADE_x_00000001.jpg", np.zeros((8, 19, 3)))
        save(tmp_path / "annotations" / split / "ADE_x_00000001.png", ids)
    dataset = data.open_dataset(tmp_path)
    assert dataset.layout == "ade20k" and dataset.table is ADE20K and dataset.channels == 3
    assert data.list_splits(tmp_path) == ["training", "validation"]
    assert data.open_dataset(tmp_path, "val").split_name == "validation"
    expected = [255, *range(150), 255]
    assert dataset[0].label.ravel().tolist() == expected
    np.testing.assert_array_equal(data.ade20k(tmp_path, classes=151)[0].label, ids)
    assert any("was published with 20210" in note for note in dataset.notes)
    (tmp_path / "up" / "ADEChallengeData2016").mkdir(parents=True)
    for folder in ("images", "annotations"):
        (tmp_path / folder).rename(tmp_path / "up" / "ADEChallengeData2016" / folder)
    above = data.open_dataset(tmp_path / "up", "val")
    assert above.layout == "ade20k" and above[0].label.ravel().tolist() == expected
    assert data.list_splits(tmp_path / "up") == ["training", "validation"]
    for folder in ("images", "annotations"):
        (tmp_path / "up" / "ADEChallengeData2016" / folder).rename(tmp_path / folder)
    save(tmp_path / "annotations" / "training" / "ADE_x_00000001.png", np.full((8, 19), 151))
    with pytest.raises(ValueError, match="ADE_x_00000001.png: ids 151 are none of the data set"):
        dataset[0]


def test_a_folder_of_ones_own_is_not_ade20k(tmp_path, save):
    save(tmp_path / "images" / "train" / "a.jpg", np.zeros((1, 3, 3)))
    save(tmp_path / "annotations" / "train" / "a.png", [[0, 1, 2]])
    assert data.detect_layout(tmp_path) == "folder"
    (tmp_path / "sceneCategories.txt").write_text("")
    assert data.detect_layout(tmp_path) == "ade20k"


# wall 2978 = (110, 162), car 401 = (10, 145), person 1831 = (70, 39); 3 is none of the 150.
COLORS = np.array([[(110, 162, 0), (10, 145, 40), (70, 39, 90), (0, 3, 200), (0, 0, 0)]])


def test_full_set(tmp_path, save):
    folder = tmp_path / "images" / "ADE" / "training" / "urban" / "street"
    save(folder / "ADE_train_00000001.jpg", np.zeros((1, 5, 3)))
    file = save(folder / "ADE_train_00000001_seg.png", COLORS)
    save(folder / "ADE_train_00000001_parts_1.png", COLORS)  # of no concern
    save(folder / "ADE_train_00000001" / "instance_000_ADE_train_00000001.png", [[0, 1]])
    dataset = data.open_dataset(tmp_path)
    assert dataset.layout == "ade20k_full" and dataset.table is ADE20K
    assert dataset.names == ["urban/street/ADE_train_00000001"]
    assert dataset[0].label.tolist() == [[0, 20, 12, 255, 255]]
    assert dataset.read_extra(0, "raw").tolist() == [[2978, 401, 1831, 3, 0]]
    assert dataset.read_extra(0, "instances").tolist() == [[0, 1, 2, 3, 0]]
    save(file, COLORS[..., 0])
    with pytest.raises(ValueError, match="_seg.png: ADE20K's labels are RGB in a PNG file"):
        dataset[0]
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ValueError, match="_seg.png: "):
        dataset[0]
    file.unlink()
    with pytest.raises(ValueError, match="no training/ or validation/ with NAME_seg.png"):
        data.ade20k_full(tmp_path)


def test_full_set_by_names(tmp_path, save):
    save(tmp_path / "training" / "a.jpg", np.zeros((1, 5, 3)))
    save(tmp_path / "training" / "a_seg.png", COLORS)
    atr = tmp_path / "training" / "a_atr.txt"  # 2017; the second line is a part of an object
    atr.write_text(
        '001 # 0 # 0 # car, auto, automobile # car # ""\n'
        '001 # 1 # 0 # license plate # plate # ""\n'
        '002 # 0 # 1 # person, individual # person walking # "walkin"\n'
        '003 # 0 # 0 # dog # dog # ""\n'
    )
    dataset = data.ade20k_full(tmp_path, classes=["automobile", "license plate", "person"])
    assert dataset[0].label.tolist() == [[255, 0, 2, 255, 255]]
    atr.write_text("car\n")
    with pytest.raises(ValueError, match="a_atr.txt: not a line of ADE20K's list"):
        dataset[0]
    objects = [{"name": "car, auto", "name_ndx": 401}, {"name": "wall", "name_ndx": 2978}]
    text = json.dumps({"annotation": {"object": objects}})
    (tmp_path / "training" / "a.json").write_text(text)  # 2020
    assert data.ade20k_full(tmp_path, classes=["wall", "car"])[0].label.tolist() == [
        [0, 1, 255, 255, 255]
    ]
    (tmp_path / "training" / "a.json").write_text('{"annotation": []}')
    with pytest.raises(ValueError, match="a.json: not ADE20K's list of objects"):
        dataset[0]
