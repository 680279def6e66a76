"""PASCAL VOC with SBD: the splits that are made of both, whose masks they have, instances."""

import numpy as np
import pytest
from scipy import io

from keras_seg import data
from keras_seg.data.labels import VOC

IDS = np.array([[0, 1, 2], [15, 20, 255]])
SBD_IDS = np.array([[0, 7, 7], [7, 0, 0]])


@pytest.fixture
def sbd_tree(tmp_path, save):
    """train: a, b, shared_train; val: c, shared_val."""
    root = tmp_path / "benchmark_RELEASE" / "dataset"
    lists = {"train": ["a", "b", "shared_train"], "val": ["c", "shared_val"]}
    for split, names in lists.items():
        for name in names:
            save(root / "img" / f"{name}.jpg", np.zeros((2, 3, 3)))
            for kind, variable in (("cls", "GTcls"), ("inst", "GTinst")):
                (root / kind).mkdir(exist_ok=True)
                ids = SBD_IDS if kind == "cls" else (SBD_IDS > 0) * 3
                values = {variable: {"Segmentation": ids.astype("uint8"), "Categories": [7]}}
                io.savemat(root / kind / f"{name}.mat", values)
        (root / f"{split}.txt").write_text("\n".join(names))
    return tmp_path


@pytest.fixture
def voc_tree(tmp_path, png, save):
    """VOC2012 with train: shared_train, own_train; val: shared_val, own_val. SBD's photos too."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for folder in ("SegmentationClass", "SegmentationObject"):
        (root / folder).mkdir()
    for split in ("train", "val"):
        names = [f"shared_{split}", f"own_{split}"]
        (lists / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            png(root / "SegmentationClass" / f"{name}.png", IDS, 8, palette=VOC.palette())
            objects = np.array([[0, 1, 2], [3, 4, 255]])
            png(root / "SegmentationObject" / f"{name}.png", objects, 8, palette=VOC.palette())
    for name in ("shared_train", "shared_val", "own_train", "own_val", "a", "b", "c"):
        save(root / "JPEGImages" / f"{name}.jpg", np.zeros((2, 3, 3)))
    return root


def test_lists(voc_tree):
    lists = voc_tree / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_bytes(b"\xef\xbb\xbfown_train\r\n\r\n")  # as editors of Windows do
    assert data.open_dataset(voc_tree).names == ["own_train"]
    (lists / "train.txt").write_text("Own_train\n")
    with pytest.raises(ValueError, match="Own_train.png: is missing.*own_train.png differs in up"):
        data.open_dataset(voc_tree)
    for path in lists.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"VOC2012: no lists NAME.txt in ImageSets/Segm"):
        data.open_dataset(voc_tree)


def test_instances_of_some_pictures_only(voc_tree):
    assert data.open_dataset(voc_tree).extras == ("instances",)
    (voc_tree / "SegmentationObject" / "own_train.png").unlink()
    dataset = data.open_dataset(voc_tree)
    assert dataset.extras == () and len(dataset) == 2
    assert any("no instances: 1 of 2 files are missing, such as" in note for note in dataset.notes)
    (voc_tree / "SegmentationObject" / "shared_train.png").unlink()
    assert not any("instances" in note for note in data.open_dataset(voc_tree).notes)


def test_trainaug_is_both_sets_without_vocs_val(voc_tree, sbd_tree):
    dataset = data.voc(voc_tree, "trainaug", sbd=sbd_tree)
    assert dataset.names == ["a", "b", "c", "own_train", "shared_train"]
    by_name = {sample.name: sample.label.tolist() for sample in dataset}
    assert by_name["shared_train"] == by_name["own_train"] == IDS.tolist()  # the official ones
    assert by_name["a"] == by_name["c"] == SBD_IDS.tolist()
    assert dataset.read_extra(0, "instances").tolist() == [[0, 3, 3], [3, 0, 0]]
    assert dataset.read_extra(4, "instances").tolist() == [[0, 1, 2], [3, 4, 0]]


def test_trainaug_of_converted_masks(voc_tree, png):
    with pytest.raises(ValueError, match=r"no split 'trainaug'.*sbd=FOLDER"):
        data.voc(voc_tree, "trainaug")
    (voc_tree / "SegmentationClassAug").mkdir()
    for name in ("a", "shared_train", "shared_val"):
        png(voc_tree / "SegmentationClassAug" / f"{name}.png", SBD_IDS, 8)
    assert data.list_splits(voc_tree) == ["train", "trainaug", "val"]
    dataset = data.open_dataset(voc_tree, "trainaug")
    assert dataset.names == ["a", "own_train", "shared_train"]
    assert [sample.label.tolist() for sample in dataset] == [
        SBD_IDS.tolist(),
        IDS.tolist(),
        IDS.tolist(),
    ]
    assert "3 samples in split trainaug; PASCAL VOC 2012 was published with 10582" in dataset.notes
    (voc_tree / "ImageSets/Segmentation/trainaug.txt").write_text("own_train\na\n")
    assert data.open_dataset(voc_tree, "trainaug").names == ["own_train", "a"]
    (voc_tree / "ImageSets/Segmentation/trainaug.txt").write_text("own_train\nb\n")
    with pytest.raises(ValueError, match="SegmentationClassAug/b.png: is missing, though"):
        data.open_dataset(voc_tree, "trainaug")


def test_seg11valid_is_val_of_2011_without_sbds_train(voc_tree, sbd_tree):
    with pytest.raises(ValueError, match=r"no split 'seg11valid'.*VOC2011"):
        data.voc(voc_tree, "seg11valid", sbd=sbd_tree)
    older = voc_tree.with_name("VOC2011")
    voc_tree.rename(older)
    (older / "ImageSets/Segmentation/val.txt").write_text("own_val\na\nshared_val\n")
    dataset = data.voc(older, "seg11valid", sbd=sbd_tree / "benchmark_RELEASE")
    assert dataset.names == ["own_val", "shared_val"]
    (older / "ImageSets/Segmentation/seg11valid.txt").write_text("own_train\n")
    assert data.voc(older, "seg11valid").names == ["own_train"]


def test_instances_only_where_every_picture_has_them(voc_tree, save):
    dataset = data.voc(voc_tree)
    assert dataset.extras == ("instances",)
    instances = dataset.read_extra(0, "instances")
    assert instances.dtype == np.int32 and instances.tolist() == [[0, 1, 2], [3, 4, 0]]
    colors = np.zeros((2, 3, 3))
    colors[0, 1], colors[1, 2] = (128, 0, 0), (224, 224, 192)  # coloured, as some tools save them
    save(voc_tree / "SegmentationObject" / "shared_train.png", colors)
    assert dataset.read_extra(0, "instances").tolist() == [[0, 1, 0], [0, 0, 0]]
    (voc_tree / "SegmentationObject" / "own_train.png").unlink()
    assert data.voc(voc_tree).extras == ()


def test_sbd(sbd_tree, png):
    for root in (sbd_tree, sbd_tree / "benchmark_RELEASE", sbd_tree / "benchmark_RELEASE/dataset"):
        assert data.sbd(root).names == ["a", "b", "shared_train"]
    dataset = data.open_dataset(sbd_tree, "val")
    assert dataset.layout == "sbd" and dataset.table is VOC and dataset.names == ["c", "shared_val"]
    assert dataset[0].label.tolist() == SBD_IDS.tolist() and dataset[0].label.dtype == np.uint8
    assert dataset.read_extra(1, "instances").tolist() == [[0, 3, 3], [3, 0, 0]]
    folder = sbd_tree / "benchmark_RELEASE/dataset/cls"
    (folder / "c.mat").unlink()
    with pytest.raises(ValueError, match="cls/c.mat: is missing, though val.txt lists it"):
        data.sbd(sbd_tree, "val")
    png(folder / "c.png", [[0, 0, 0], [0, 20, 20]], 8, palette=VOC.palette())
    assert data.sbd(sbd_tree, "val")[0].label.tolist() == [[0, 0, 0], [0, 20, 20]]


def test_bad_mat_files_are_named(sbd_tree):
    dataset = data.sbd(sbd_tree)
    file = sbd_tree / "benchmark_RELEASE/dataset/cls/a.mat"
    io.savemat(file, {"GTcls": {"Segmentation": np.array([[21, 0, 0], [0, 0, 0]])}})
    with pytest.raises(ValueError, match="a.mat: ids 21 are outside the table: expected 0..20"):
        dataset[0]
    io.savemat(file, {"other": np.zeros((2, 3))})
    with pytest.raises(ValueError, match="a.mat: has no GTcls.Segmentation"):
        dataset[0]
    io.savemat(file, {"GTcls": {"Segmentation": np.full((2, 3), 0.5)}})
    with pytest.raises(ValueError, match="a.mat: GTcls.Segmentation holds float64"):
        dataset[0]
    file.write_bytes(file.read_bytes()[:150])
    with pytest.raises(ValueError, match="a.mat: damaged"):
        dataset[0]
    file.unlink()
    with pytest.raises(ValueError, match="a.mat: cannot be read"):
        dataset[0]
    file.write_bytes(b"")
    report = data.check_data(sbd_tree, progress=False)
    assert [problem.file for problem in report.errors] == [str(file)]


def test_mat_files_of_one_column_keep_their_shape(sbd_tree):
    file = sbd_tree / "benchmark_RELEASE/dataset/cls/a.mat"
    io.savemat(file, {"GTcls": {"Segmentation": np.array([[7], [0], [3]], "uint8")}})
    assert data.sbd(sbd_tree).read_label(0).tolist() == [[7], [0], [3]]


def test_mat_files_need_scipy(sbd_tree, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(ValueError, match=r"a.mat: .* pip install 'keras-seg\[eval\]'"):
        data.sbd(sbd_tree)[0]
