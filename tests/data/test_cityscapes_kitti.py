"""Cityscapes and the sets that share its ids."""

import json
import shutil

import numpy as np
import pytest

from keras_seg import data
from keras_seg.data.labels import CITYSCAPES, CITYSCAPES_TRAIN_IDS

NAME = "aachen_000000_000019"


@pytest.fixture
def city(tmp_path, save, png):
    """city(split, ids, kind=..., name=..., **{ending: more maps}): writes a picture with labels."""

    def write(split, kind="gtFine", name=NAME, **maps):
        city = name.partition("_")[0]
        shape = np.shape(next(iter(maps.values())))
        save(tmp_path / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png", np.zeros((*shape, 3)))
        folder = tmp_path / kind / split / city
        folder.mkdir(parents=True, exist_ok=True)
        for ending, ids in maps.items():
            depth = 16 if ending == "instanceIds" else 8
            png(folder / f"{name}_{kind}_{ending}.png", ids, depth)
        return tmp_path

    return write


def test_cityscapes_names_that_differ_in_case_only(city):
    root = city("train", labelIds=[[7]])
    for path in (root / "leftImg8bit/train/aachen", root / "gtFine/train/aachen"):
        (path.with_name("Aachen")).mkdir()
        for file in path.iterdir():
            (path.with_name("Aachen") / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="labelIds.png: has the same name as .* but for case"):
        data.cityscapes(root)


def test_label_ids_become_train_ids():
    # Of cityscapesScripts' labels.py, in the order of the label ids 0..33.
    void = 255
    expected = [void] * 7 + [0, 1, void, void, 2, 3, 4, void, void, void, 5, void, 6, 7, 8, 9, 10]
    expected += [11, 12, 13, 14, 15, void, void, 16, 17, 18]
    assert [CITYSCAPES_TRAIN_IDS[i] for i in range(34)] == expected
    assert CITYSCAPES.num_classes == 19 and CITYSCAPES.names[18] == "bicycle"
    assert CITYSCAPES.colors[[0, 13]].tolist() == [[128, 64, 128], [0, 0, 142]]


def test_cityscapes(city):
    ids = np.arange(35).reshape(5, 7) % 34
    objects = np.where(ids == 26, 26001, ids)
    root = city("train", labelIds=ids, instanceIds=objects)
    city("train", name="bremen_000001_000019", labelIds=np.full((5, 7), 7))
    dataset = data.open_dataset(root)
    assert dataset.layout == "cityscapes" and dataset.table is CITYSCAPES
    assert dataset.names == [f"aachen/{NAME}", "bremen/bremen_000001_000019"]
    expected = np.vectorize(CITYSCAPES_TRAIN_IDS.get)(ids)
    np.testing.assert_array_equal(dataset[0].label, expected)
    assert (dataset[1].label == 0).all()
    assert dataset.extras == ()  # the second picture has no map of instances
    city("train", name="bremen_000001_000019", labelIds=ids, instanceIds=objects)
    instances = data.open_dataset(root).read_extra(0, "instances")
    assert instances.dtype == np.int32 and np.unique(instances).tolist() == [0, 26001]
    raw = data.cityscapes(root, classes=34)[0].label
    np.testing.assert_array_equal(raw, ids)
    own = {"names": ["rest", "road"], "mask_values": {str(i): int(i == 7) for i in range(2, 34)}}
    (root / "classes.json").write_text(json.dumps(own))  # 0 and 1 stay as they are
    expected = np.where(ids < 2, ids, ids == 7)
    np.testing.assert_array_equal(data.cityscapes(root)[0].label, expected)


def test_cityscapes_ids_of_another_kind_are_refused(city):
    root = city("train", labelIds=[[7, 40]])
    with pytest.raises(ValueError, match="labelIds.png: ids 40 are none of the data set"):
        data.cityscapes(root)[0]


def test_cityscapes_falls_back_to_other_files(city):
    root = city("train", labelTrainIds=[[0, 18, 255]])
    assert data.cityscapes(root)[0].label.tolist() == [[0, 18, 255]]
    city("val", instanceIds=[[7, 26001, 3]])
    dataset = data.cityscapes(root, "val")
    assert dataset[0].label.tolist() == [[0, 13, 255]]
    assert dataset.read_extra(0, "instances").tolist() == [[0, 26001, 0]]


def test_cityscapes_coarse_and_test(city):
    root = city("train", labelIds=[[7]])
    city("train", kind="gtCoarse", labelIds=[[8]])
    for name in ("troisdorf_000000_000073", "troisdorf_000000_000074"):
        city("train_extra", kind="gtCoarse", name=name, labelIds=[[11]])
    city("test", labelIds=[[3]])
    assert data.list_splits(root) == ["train", "test", "train_extra"]
    assert data.cityscapes(root)[0].label.tolist() == [[0]]
    assert data.cityscapes(root, coarse=True)[0].label.tolist() == [[1]]
    extra = data.open_dataset(root, "train_extra")
    assert extra.names == ["troisdorf/troisdorf_000000_000074"]
    assert extra[0].label.tolist() == [[2]]
    test = data.open_dataset(root, "test")
    assert test[0].image.shape == (1, 1, 3) and test[0].label.tolist() == [[255]]


def test_cityscapes_missing_partners(city):
    root = city("train", labelIds=[[7]])
    city("train", name="bremen_000001_000019", labelIds=[[7]])
    (root / f"gtFine/train/aachen/{NAME}_gtFine_labelIds.png").unlink()
    (root / "leftImg8bit/train/bremen/bremen_000001_000019_leftImg8bit.png").unlink()
    with pytest.raises(ValueError, match="No image in .* has a mask of the same name"):
        data.cityscapes(root)
    city("train", name="ulm_000001_000019", labelIds=[[7]])
    problems = []
    assert len(data.cityscapes(root, problems=problems)) == 1
    assert [(path.name, message.partition(" of")[0]) for path, message in problems] == [
        ("bremen_000001_000019_gtFine_labelIds.png", "has no image"),
        (f"{NAME}_leftImg8bit.png", "has no mask"),
    ]
    with pytest.raises(ValueError, match="expected leftImg8bit/ and gtCoarse/"):
        data.cityscapes(root, coarse=True)


def test_splits_are_those_with_labels_of_the_kind(city):
    """As published: coarse labels of train and val, none of test."""
    for split in ("train", "val", "test"):
        root = city(split, labelIds=[[7]])
    for split in ("train", "val"):
        city(split, kind="gtCoarse", labelIds=[[7]])
    assert data.list_splits(root) == ["train", "val", "test"]
    assert data.list_splits(root, coarse=True) == ["train", "val"]
    report = data.check_data(root, coarse=True, progress=False)
    assert report.ok and report.splits == {"train": 1, "val": 1}
    shutil.rmtree(root / "gtFine")
    with pytest.raises(
        ValueError, match="expected leftImg8bit/ and gtFine/.*coarse=True reads gtC"
    ):
        data.open_dataset(root)


def test_kitti_semantic(tmp_path, save, png):
    place = tmp_path / "data_semantics" / "training"
    ids = np.array([[7, 26, 26, 3, 11]])
    objects = ids * 256 + [[0, 1, 2, 0, 0]]
    for folder in ("semantic", "instance"):
        (place / folder).mkdir(parents=True)
    for name in ("000000_10", "000001_10"):
        save(place / "image_2" / f"{name}.png", np.zeros((1, 5, 3)))
        png(place / "semantic" / f"{name}.png", ids, 8)
        png(place / "instance" / f"{name}.png", objects, 16)
    dataset = data.open_dataset(tmp_path)
    assert dataset.layout == "kitti_semantic" and dataset.table is CITYSCAPES and len(dataset) == 2
    assert dataset[0].label.tolist() == [[0, 13, 13, 255, 2]]
    assert dataset.read_extra(1, "instances").tolist() == [[0, 26 * 256 + 1, 26 * 256 + 2, 0, 0]]
    assert any("was published with 200" in note for note in dataset.notes)
    (place / "instance" / "000001_10.png").unlink()
    assert data.kitti_semantic(tmp_path).extras == ()
    png(place / "semantic" / "000000_10.png", [[34, 0, 0, 0, 0]], 8)
    with pytest.raises(ValueError, match="000000_10.png: ids 34 are none of the data set"):
        dataset[0]
    (place / "semantic" / "000000_10.png").unlink()
    with pytest.raises(ValueError, match="image_2/000000_10.png: has no mask of the same name"):
        data.kitti_semantic(tmp_path)
    with pytest.raises(ValueError, match="no split 'test'"):
        data.kitti_semantic(tmp_path, "test")


def test_kitti_road(tmp_path, save):
    place = tmp_path / "training"
    pixels = [[(255, 0, 255), (255, 0, 0), (0, 0, 0)]]
    lane = [[(255, 0, 0), (255, 0, 255), (0, 0, 0)]]
    for kind in ("um", "umm", "uu"):
        save(place / "image_2" / f"{kind}_000000.png", np.zeros((1, 3, 3)))
        save(place / "gt_image_2" / f"{kind}_road_000000.png", pixels)
    save(place / "gt_image_2" / "um_lane_000000.png", lane)
    dataset = data.open_dataset(tmp_path)
    assert dataset.layout == "kitti_road" and dataset.table.names == ("other", "road")
    assert dataset.names == ["um_000000", "umm_000000", "uu_000000"]
    assert dataset[1].label.tolist() == [[1, 0, 255]]
    of_lane = data.kitti_road(tmp_path, task="lane")
    assert of_lane.names == ["um_000000"] and of_lane[0].label.tolist() == [[0, 1, 255]]
    assert data.kitti_road(tmp_path, kinds=("uu", "um")).names == ["um_000000", "uu_000000"]
    # Any other colour than magenta and red counts as black does.
    save(place / "gt_image_2" / "uu_road_000000.png", [[(255, 0, 255), (0, 0, 255), (255, 0, 1)]])
    assert dataset[2].label.tolist() == [[1, 255, 255]]
    save(place / "gt_image_2" / "uu_road_000000.png", [[7, 7, 7]])
    with pytest.raises(ValueError, match="uu_road_000000.png: KITTI road's labels are RGB"):
        dataset[2]
    (place / "gt_image_2" / "uu_road_000000.png").unlink()
    with pytest.raises(ValueError, match="uu_000000.png: has no mask of the same name"):
        data.kitti_road(tmp_path)
    with pytest.raises(ValueError, match="Unknown task 'lanes'. Did you mean 'lane'"):
        data.kitti_road(tmp_path, task="lanes")
    with pytest.raises(ValueError, match="KITTI road has 2 classes, but 3 were given"):
        data.kitti_road(tmp_path, classes=3)
    with pytest.raises(ValueError, match="no training/ with image_2/ and gt_image_2/"):
        data.kitti_road(place / "image_2")
