"""NYU Depth v2 and SIFT Flow: MATLAB files, depth, HHA, two label spaces."""

import pickle

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from keras_seg import data
from keras_seg.data.labels import GEOMETRY, NYUD, SIFT_FLOW

SCENES = "spatial_envelope_256x256_static_8outdoorcategories"


@pytest.fixture
def fcn(tmp_path, save):
    """One picture of 1 x 3 pixels in FCN's form."""
    save(tmp_path / "data/images/img_5001.png", np.full((1, 3, 3), 9))
    save(tmp_path / "data/hha/img_5001.png", [[[1, 2, 3]] * 3])
    (tmp_path / "data/depth").mkdir()
    depth = np.array([[0, 2500, 12000]], "uint16")
    Image.fromarray(depth).save(tmp_path / "data/depth/img_5001.png")
    (tmp_path / "segmentation").mkdir()
    ids = np.array([[0, 1, 40]], "uint8")
    savemat(tmp_path / "segmentation/img_5001.mat", {"segmentation": ids})
    (tmp_path / "train.txt").write_text("5001\n")
    (tmp_path / "test.txt").write_text("5001\n")
    return tmp_path


def test_nyud_of_fcn(fcn):
    dataset = data.open_dataset(fcn)
    assert dataset.layout == "nyud" and dataset.table is NYUD and dataset.names == ["img_5001"]
    assert dataset[0].label.tolist() == [[255, 0, 39]]
    assert (dataset.table.names[0], dataset.table.names[39]) == ("wall", "otherprop")
    assert dataset.extras == ("depth", "hha")
    np.testing.assert_allclose(dataset.read_extra(0, "depth"), [[0, 2.5, 12]])
    assert dataset.read_extra(0, "hha").tolist() == [[[1, 2, 3]] * 3]
    both = data.open_dataset(fcn, inputs="rgb+hha")
    assert both.channels == 6 and both[0].image[0, 0].tolist() == [9, 9, 9, 1, 2, 3]
    depth = data.open_dataset(fcn, inputs="depth")
    assert depth.channels == 1 and depth[0].image.ravel().tolist() == [0, 64, 255]
    assert data.open_dataset(fcn, inputs="depth", far=2.5)[0].image.ravel().tolist() == [
        0,
        255,
        255,
    ]
    assert data.list_splits(fcn) == ["train", "test"]


def test_nyud_of_fcn_faults(fcn):
    with pytest.raises(ValueError, match='inputs must be of rgb, depth, hha, joined by "\\+"'):
        data.open_dataset(fcn, inputs="rgb+normals")
    savemat(fcn / "segmentation/img_5001.mat", {"segmentation": np.array([[0, 1, 41]])})
    with pytest.raises(ValueError, match=r"img_5001.mat: ids 41 are outside .* expected 1..40"):
        data.open_dataset(fcn)[0]
    savemat(fcn / "segmentation/img_5001.mat", {"other": np.zeros((1, 3))})
    with pytest.raises(ValueError, match=r"img_5001.mat: has no segmentation"):
        data.open_dataset(fcn)[0]
    (fcn / "data/depth/img_5001.png").unlink()
    with pytest.raises(ValueError, match=r"depth/img_5001.png: is missing, though train.txt"):
        data.open_dataset(fcn)
    (fcn / "data/depth").rmdir()
    with pytest.raises(ValueError, match="has no depth"):
        data.open_dataset(fcn, inputs="depth")


@pytest.fixture
def archive(tmp_path):
    """The owners' file, of 3 pictures of 2 x 4 pixels; MATLAB's arrays come turned around."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 2, 4, 3), "uint8")  # (N, H, W, C)
    depths = rng.uniform(1, 9, (3, 2, 4))
    raw = rng.integers(0, 895, (3, 2, 4)).astype("uint16")
    raw[0, 0, :2] = 0, 894
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = images.transpose(0, 3, 2, 1)
        file["depths"] = depths.transpose(0, 2, 1)
        file["labels"] = raw.transpose(0, 2, 1)
    return tmp_path, images, depths, raw


def test_nyud_of_the_owners(archive):
    root, images, depths, raw = archive
    with pytest.raises(ValueError, match="894 raw classes.*mapping='classMapping40.mat'"):
        data.open_dataset(root)
    mapping = np.arange(894) % 40 + 1
    savemat(root / "classMapping40.mat", {"mapClass": mapping[None]})
    dataset = data.open_dataset(root)
    assert dataset.layout == "nyud" and len(dataset) == 3 and data.list_splits(root) == []
    for index, sample in enumerate(dataset):
        np.testing.assert_array_equal(sample.image, images[index])
        expected = np.where(raw[index] == 0, 255, (raw[index].astype(int) - 1) % 40)
        np.testing.assert_array_equal(sample.label, expected)
        np.testing.assert_allclose(dataset.read_extra(index, "depth"), depths[index], rtol=1e-6)
        np.testing.assert_array_equal(dataset.read_extra(index, "raw"), raw[index])
    copy = pickle.loads(pickle.dumps(dataset))  # for workers: the open file stays behind
    np.testing.assert_array_equal(copy[2].image, images[2])
    savemat(root / "splits.mat", {"trainNdxs": [[1], [3]], "testNdxs": [[2]]})
    assert data.open_dataset(root).names == ["0001", "0003"]
    test = data.open_dataset(root, "test", mapping=mapping.tolist(), inputs="rgb+depth")
    np.testing.assert_array_equal(test[0].image[..., :3], images[1])
    np.testing.assert_array_equal(test[0].image[..., 3], np.rint(depths[1] * 25.5))
    with pytest.raises(ValueError, match="has no hha"):
        data.open_dataset(root, inputs="hha")
    with pytest.raises(ValueError, match="mapping: must have 894 numbers 0..40, got 3"):
        data.open_dataset(root, mapping=[1, 2, 3])
    (root / "nyu_depth_v2_labeled.mat").unlink()  # h5py would find the open file by its inode
    (root / "nyu_depth_v2_labeled.mat").write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match="labeled.mat: missing, damaged, or not HDF5"):
        data.open_dataset(root)


def test_nyud_single_files(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (3, 2, 4), "uint8")
    with h5py.File(tmp_path / "1.h5", "w") as file:
        file["rgb"], file["depth"] = rgb, np.full((2, 4), 3.0)
    dataset = data.open_dataset(tmp_path)
    assert dataset.layout == "nyud" and any("no labels" in note for note in dataset.notes)
    np.testing.assert_array_equal(dataset[0].image, rgb.transpose(1, 2, 0))
    assert (dataset[0].label == 255).all() and (dataset.read_extra(0, "depth") == 3).all()


@pytest.fixture
def scenes(tmp_path, save):
    """Pictures a, b and c; c has no annotation."""
    for name in ("a", "b", "c"):
        save(tmp_path / "Images" / SCENES / f"{name}.jpg", np.zeros((1, 4, 3)))
    for kind, ids in (("SemanticLabels", [[0, 1, 33, 2]]), ("GeoLabels", [[-1, 1, 2, 3]])):
        (tmp_path / kind / SCENES).mkdir(parents=True)
        for name in ("a", "b"):
            savemat(tmp_path / kind / SCENES / f"{name}.mat", {"S": np.array(ids, "int16")})
    (tmp_path / "train.txt").write_text("a\nc\n")
    (tmp_path / "test.txt").write_text("b\n")
    return tmp_path


def test_sift_flow(scenes):
    dataset = data.open_dataset(scenes)
    assert dataset.layout == "sift_flow" and dataset.table is SIFT_FLOW
    assert dataset.names == ["a"]
    assert "1 pictures without annotation were left out" in dataset.notes
    assert dataset[0].label.tolist() == [[255, 0, 32, 1]]
    assert (SIFT_FLOW.names[0], SIFT_FLOW.names[32]) == ("awning", "window")
    assert dataset.read_extra(0, "geometry").tolist() == [[255, 0, 1, 2]]
    assert dataset.extra_tables["geometry"] is GEOMETRY
    assert data.list_splits(scenes) == ["train", "test"]


def test_sift_flow_with_its_own_list(scenes):
    for name in ("train", "test"):
        (scenes / f"{name}.txt").unlink()
    (scenes / "TestSet1.txt").write_text(f"{SCENES}\\b.jpg\n")
    assert data.open_dataset(scenes).names == ["a"]
    assert data.open_dataset(scenes, "test").names == ["b"]


def test_sift_flow_faults(scenes):
    path = scenes / "SemanticLabels" / SCENES / "a.mat"
    savemat(path, {"S": np.array([[34, 0, 0, 0]])})
    with pytest.raises(ValueError, match=r"a.mat: ids 34 are outside .* expected 1..33"):
        data.open_dataset(scenes)[0]
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"a.mat: damaged"):
        data.open_dataset(scenes)[0]
    (scenes / "Images" / SCENES / "a.jpg").unlink()
    with pytest.raises(ValueError, match=r"a.jpg: is missing, though train.txt lists it"):
        data.open_dataset(scenes)


def test_both_label_maps_of_sift_flow_as_labels(scenes):
    dataset = data.open_dataset(scenes)
    stacked = dataset.stacked("geometry")
    assert stacked[0].label.tolist() == [[[255, 255], [0, 0], [32, 1], [1, 2]]]
    assert stacked.label_channels == (2,) and dataset.label_channels == ()
    assert stacked.relabelled("geometry").label_channels == ()
    with pytest.raises(ValueError, match="are .H, W, 2. already"):
        stacked.stacked("geometry")
    with pytest.raises(ValueError, match="Stacked label maps are not written"):
        data.prepare(stacked, scenes / "shards", progress=False)
    geometry = dataset.relabelled("geometry")
    assert geometry.table is GEOMETRY and geometry[0].label.tolist() == [[255, 0, 1, 2]]
    for method in (dataset.stacked, dataset.relabelled):
        with pytest.raises(ValueError, match="depth.*geometry"):
            method("depth")
