"""LIP and MHP: parts, left and right, several people in one picture."""

import numpy as np
import pytest

from keras_seg import data
from keras_seg.data.labels import (
    LIP,
    LIP_FLIP_PAIRS,
    MHP_V1,
    MHP_V1_FLIP_PAIRS,
    MHP_V2,
    MHP_V2_FLIP_PAIRS,
)


def test_tables():
    assert (LIP.num_classes, MHP_V1.num_classes, MHP_V2.num_classes) == (20, 19, 59)
    assert LIP_FLIP_PAIRS == ((14, 15), (16, 17), (18, 19))
    assert MHP_V1_FLIP_PAIRS == ((9, 10), (12, 13), (14, 15))
    assert len(MHP_V2_FLIP_PAIRS) == 8
    for left, right in MHP_V2_FLIP_PAIRS:
        assert MHP_V2.names[left].replace("left", "right") == MHP_V2.names[right]
    colors = {tuple(color) for color in LIP.colors.tolist()}
    assert len(colors) == 20 and tuple(LIP.colors[14]) == (51, 170, 221)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("TrainVal_images", "TrainVal_parsing_annotations"),
        (".", "."),
        ("TrainVal_images", "TrainVal_parsing_annotations/TrainVal_parsing_annotations"),
    ],
)
def test_lip(tmp_path, save, images, masks):
    ids = np.arange(20, dtype="uint8").reshape(4, 5)
    for split in ("train", "val"):
        save(tmp_path / images / f"{split}_images" / "1_2.jpg", np.zeros((4, 5, 3)))
        save(tmp_path / masks / f"{split}_segmentations" / "1_2.png", ids)
    dataset = data.open_dataset(tmp_path)
    assert dataset.layout == "lip" and dataset.table is LIP and dataset.names == ["1_2"]
    assert dataset[0].label.tolist() == ids.tolist()
    assert data.list_splits(tmp_path) == ["train", "val"]
    save(tmp_path / masks / "train_segmentations" / "3_4.png", ids)
    with pytest.raises(ValueError, match=r"3_4.png: has no image of the same name"):
        data.open_dataset(tmp_path)
    save(tmp_path / masks / "val_segmentations" / "1_2.png", ids + 1)
    with pytest.raises(ValueError, match=r"1_2.png: ids 20 are outside the table"):
        data.open_dataset(tmp_path, "val")[0]


def test_mhp_v1(tmp_path, save):
    """Where people overlap the first is in front; train_list.txt holds train and val."""
    save(tmp_path / "images" / "0001.jpg", np.zeros((1, 4, 3)))
    save(tmp_path / "annotations" / "0001_02_01.png", [[2, 2, 0, 0]])
    save(tmp_path / "annotations" / "0001_02_02.png", [[0, 11, 18, 0]])
    (tmp_path / "train_list.txt").write_text("0001.jpg\n")
    (tmp_path / "test_list.txt").write_text("0001.jpg\n")
    dataset = data.open_dataset(tmp_path)
    assert dataset.layout == "mhp" and dataset.table is MHP_V1
    assert dataset[0].label.tolist() == [[2, 2, 18, 0]]
    assert dataset.read_extra(0, "instances").tolist() == [[1, 1, 2, 0]]
    assert data.list_splits(tmp_path) == ["train", "test"]
    lines = "".join(f"{n:04d}.jpg\n" for n in range(1, 4001))
    (tmp_path / "train_list.txt").write_text(lines)
    problems = []
    assert data.open_dataset(tmp_path, "train", problems=problems).names == ["0001"]
    assert len(problems) == 2999
    problems = []
    data.mhp(tmp_path, "val", problems=problems)
    assert len(problems) == 1000


def test_mhp_v2(tmp_path, save):
    root = tmp_path / "LV-MHP-v2"
    save(root / "train" / "images" / "7.jpg", np.zeros((1, 3, 3)))
    ids = np.array([[4, 58, 0]])
    parts = np.stack([ids, 0 * ids, 0 * ids], axis=2)  # three channels, parts in the first
    save(root / "train" / "parsing_annos" / "7_01_01.png", parts)
    for place in (tmp_path, root):
        dataset = data.open_dataset(place)
        assert dataset.layout == "mhp" and dataset.table is MHP_V2
        assert dataset[0].label.tolist() == [[4, 58, 0]]
    assert not any("number of people" in note for note in dataset.notes)
    save(root / "train" / "parsing_annos" / "7_01_02.png", parts + 1)
    assert any("7_01_01.png is one of 2 files" in note for note in data.open_dataset(root).notes)
    with pytest.raises(ValueError, match=r"7_01_02.png: parts up to 59; expected 0..58"):
        data.open_dataset(root)[0]
    save(root / "train" / "parsing_annos" / "8_01_01.png", parts)
    save(root / "train" / "images" / "9.jpg", np.zeros((1, 3, 3)))
    problems = []
    data.open_dataset(root, problems=problems)
    assert [path.name for path, _ in problems] == ["9.jpg", "8_01_01.png"]
