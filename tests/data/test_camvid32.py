"""CamVid's 32 labels in colours, its merges into 11 classes, its splits; lists of SegNet's copy."""

import numpy as np
import pytest

from keras_seg import data
from keras_seg.data.labels import CAMVID, CAMVID32, CAMVID_SWIFTNET
from keras_seg.data.readers.camvid32 import published_split

# Colours of the owner's label_colors.txt: Void, Sky, Wall, LaneMkgsDriv, RoadShoulder, Truck_Bus,
# Animal, TrafficLight.
COLORS = [(0, 0, 0), (128, 128, 128), (64, 192, 0), (128, 0, 192), (128, 128, 192)]
COLORS += [(192, 128, 192), (64, 128, 64), (0, 64, 64)]


@pytest.fixture
def original(tmp_path, save):
    """original(names): frames with one row of all `COLORS`."""

    def write(names, colors=COLORS):
        for name in names:
            save(tmp_path / "701_StillsRaw_full" / f"{name}.png", np.zeros((1, len(colors), 3)))
            save(tmp_path / "LabeledApproved_full" / f"{name}_L.png", [colors])
        return tmp_path

    return write


@pytest.mark.parametrize(
    "merge, table, expected",
    [
        ("segnet", CAMVID, ["Sky", "Building", "Road", "Pavement", "Car", "Pedestrian", None]),
        ("swiftnet", CAMVID_SWIFTNET, ["Sky", None, "Road", "Road", "Car", None, None]),
        (
            None,
            CAMVID32,
            ["Sky", "Wall", "LaneMkgsDriv", "RoadShoulder", "Truck_Bus", "Animal", "TrafficLight"],
        ),
    ],
)
def test_merges(original, merge, table, expected):
    root = original(["0006R0_f00930"])
    dataset = data.open_dataset(root, merge=merge)
    assert dataset.layout == "camvid32" and dataset.table is table
    label = dataset[0].label.ravel().tolist()
    assert label[0] == 255  # Void
    if merge == "segnet":
        expected[-1] = "SignSymbol"
    names = [None if i == 255 else table.names[i] for i in label[1:]]
    assert names == expected


def test_tables():
    assert CAMVID32.num_classes == 31 and len(np.unique(CAMVID32.colors, axis=0)) == 31
    assert CAMVID32.ignore_color == (0, 0, 0)
    assert CAMVID_SWIFTNET.names[:4] == ("Building", "Tree", "Sky", "Car")
    assert CAMVID_SWIFTNET.colors[[0, 8]].tolist() == [[128, 0, 0], [192, 192, 128]]


def test_published_rule(original):
    # First and last frames of SegNet's lists in each sequence.
    train = ["0001TP_006690", "0001TP_008520", "0006R0_f03930", "0016E5_00390", "0016E5_08640"]
    val = ["0016E5_07959", "0016E5_08159"]
    test = ["0001TP_008550", "0001TP_010380", "Seq05VD_f00000", "Seq05VD_f05100"]
    root = original([*train, *val, *test])
    assert data.list_splits(root) == ["train", "val", "test"]
    for split, names in (("train", train), ("val", val), ("test", test)):
        assert data.open_dataset(root, split).names == names
        assert {published_split(name) for name in names} == {split}
    for split, names in (("train", [train[1]]), ("val", [test[0], val[0]])):
        (root / f"{split}.txt").write_text("\n".join(f"701/{name}.png" for name in names))
    assert data.list_splits(root) == ["train", "val"]
    assert data.open_dataset(root, "val").names == [test[0], val[0]]
    (root / "val.txt").write_text("0016E5_00001.png\n")
    with pytest.raises(ValueError, match="val.txt: lists 0016E5_00001, which is missing"):
        data.open_dataset(root, "val")


def test_folders_by_split(tmp_path, save):
    for split in ("train", "val"):
        save(tmp_path / split / "a.png", np.zeros((1, 1, 3)))
        save(tmp_path / f"{split}_labels" / "a_L.png", [[(64, 64, 0)]])
    dataset = data.open_dataset(tmp_path, "val")
    assert dataset.layout == "camvid32" and dataset.names == ["a"]
    assert dataset[0].label.tolist() == [[9]]


def test_colours_in_segnets_folders(tmp_path, save):
    """The names are those of SegNet's copy, whose masks hold ids."""
    for name in "ab":
        save(tmp_path / "test" / f"{name}.png", np.zeros((1, 2, 3)))
        save(tmp_path / "testannot" / f"{name}.png", [[(64, 128, 64), (0, 0, 0)]])  # Animal, Void
    (tmp_path / "test.txt").write_text("/SegNet/CamVid/test/b.png /SegNet/CamVid/testannot/b.png")
    dataset = data.open_dataset(tmp_path)
    assert dataset.layout == "camvid32" and dataset.names == ["b"]
    assert dataset[0].label.tolist() == [[9, 255]]  # with Pedestrian


def test_bad_input(original, tmp_path):
    root = original(["0006R0_f00930"], [(1, 2, 3)])
    with pytest.raises(ValueError, match=r"0006R0_f00930_L.png: 1 colour .* \(1, 2, 3\) on 1"):
        data.camvid32(root)[0]
    with pytest.raises(ValueError, match="Unknown merge 'segnets'. Did you mean 'segnet'"):
        data.camvid32(root, merge="segnets")
    with pytest.raises(ValueError, match="0 samples in split test, by the published rule"):
        data.camvid32(root, "test")
    (root / "LabeledApproved_full" / "0006R0_f00960_L.png").write_bytes(b"")
    with pytest.raises(ValueError, match="0006R0_f00960_L.png: has no image of the same name"):
        data.camvid32(root)
    with pytest.raises(ValueError, match="expected 701_StillsRaw_full/"):
        data.camvid32(root / "LabeledApproved_full")


def test_lists_of_segnets_copy(tmp_path, save):
    for name in ("a", "b", "c"):
        save(tmp_path / "train" / f"{name}.png", np.zeros((1, 1, 3)))
        save(tmp_path / "trainannot" / f"{name}.png", [[3]])
    (tmp_path / "train.txt").write_text(
        "/SegNet/CamVid/train/c.png /SegNet/CamVid/trainannot/c.png\n/SegNet/CamVid/train/a.png\n"
    )
    dataset = data.open_dataset(tmp_path)
    assert dataset.layout == "camvid" and dataset.names == ["c", "a"]
    (tmp_path / "trainannot" / "a.png").unlink()
    problems = []
    assert data.camvid(tmp_path, problems=problems).names == ["c"]
    assert [path.name for path, _ in problems] == ["train.txt", "a.png"]
