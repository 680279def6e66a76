"""Readers on real data and on foreign fixtures; slow, KERAS_SEG_SHARED names their folder."""

import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from keras_seg import data

pytestmark = pytest.mark.slow


@pytest.fixture
def shared():
    assert "KERAS_SEG_SHARED" in os.environ, "set KERAS_SEG_SHARED to the folder that holds data/"
    return pathlib.Path(os.environ["KERAS_SEG_SHARED"]) / "data"


def _same_partition(first, second):
    """Whether two maps of instances cut a picture in the same way, whatever the numbers."""
    pairs = {*zip(first.ravel().tolist(), second.ravel().tolist(), strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_nyu_depth_v2_fixture(shared):
    """datumaro's two artificial files: 6x4 and 4x3, with depth and no labels."""
    dataset = data.open_dataset(shared / "layout_fixtures/datumaro/nyu_depth_v2_dataset")
    assert dataset.layout == "nyud" and dataset.names == ["1", "2"]
    assert [sample.image.shape for sample in dataset] == [(6, 4, 3), (4, 3, 3)]
    assert dataset.read_extra(0, "depth").shape == (6, 4)
    assert (dataset[0].label == 255).all()


def test_isbi_membrane(shared):
    dataset = data.open_dataset(shared / "isbi_membrane")
    assert dataset.layout == "isbi" and len(dataset) == 25
    for sample in dataset:
        assert sample.image.shape == (512, 512, 3)
        assert np.unique(sample.label).tolist() == [0, 1]


def test_isbi_volumes_of_the_same_slices(shared, tmp_path):
    slices = data.open_dataset(shared / "isbi_membrane", channels=1)
    for name, pages in (
        ("train-volume.tif", [s.image[..., 0] for s in slices]),
        ("train-labels.tif", [s.label * 255 for s in slices]),
    ):
        first, *rest = [Image.fromarray(page) for page in pages]
        first.save(tmp_path / name, save_all=True, append_images=rest)
    volumes = data.open_dataset(tmp_path, channels=1)
    assert volumes.layout == "isbi" and len(volumes) == 25
    for one, other in zip(slices, volumes, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.label, other.label)


def test_drive_retina(shared):
    dataset = data.open_dataset(shared / "drive_retina")
    assert dataset.layout == "drive" and len(dataset) == 20 and not dataset.notes
    every = data.drive(shared / "drive_retina", field_of_view=False)
    for (image, label, _), whole in zip(dataset, every, strict=True):
        assert image.shape == (584, 565, 3)
        assert np.unique(label).tolist() == [0, 1, 255]
        assert np.unique(whole.label).tolist() == [0, 1]
        vessels, inside = (label == 1).sum(), (label != 255).sum()
        assert 0.05 < vessels / inside < 0.2  # about an eighth of the field of view
        assert 0.6 < inside / label.size < 0.75
    assert data.check_data(shared / "drive_retina", progress=False).ok


def test_dsb2018(shared):
    dataset = data.open_dataset(shared / "dsb2018")
    assert dataset.layout == "instances" and len(dataset) == 562
    for index in range(0, 562, 10):
        label = dataset.read_label(index)
        assert set(np.unique(label)) <= {0, 1}


def test_dsb2018_original_layout(shared):
    """The ten agree with the maps that were made of them."""
    dataset = data.open_dataset(shared / "dsb2018_original_layout")
    assert dataset.layout == "dsb2018" and len(dataset) == 10
    maps = data.open_dataset(shared / "dsb2018")
    known = {data.read_image(path).tobytes(): i for i, path in enumerate(maps.image_paths)}
    for index, sample in enumerate(dataset):
        other = known[sample.image.tobytes()]
        ours, theirs = dataset.read_extra(index, "instances"), maps.read_extra(other, "instances")
        np.testing.assert_array_equal(ours > 0, theirs > 0)
        assert _same_partition(ours, theirs), sample.name


def test_coco_instance_fruit(shared):
    from pycocotools.coco import COCO

    root = shared / "coco_instance_fruit"
    dataset = data.open_dataset(root)
    assert dataset.layout == "coco_json" and len(dataset) == 18
    assert "165 annotations" in dataset.description
    assert dataset.table.names == ("background", "date", "fig", "hazelnut")
    coco = COCO(str(root / "trainval.json"))
    images = json.loads((root / "trainval.json").read_text())["images"]
    for index, (sample, image) in enumerate(zip(dataset, images, strict=True)):
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        masks = [coco.annToMask(a) for a in annotations]
        order = sorted(range(len(masks)), key=lambda i: -int(masks[i].sum()))
        expected = np.zeros(sample.label.shape, "uint8")
        for i in order:
            expected[masks[i] > 0] = annotations[i]["category_id"]
        np.testing.assert_array_equal(sample.label, expected)
        instances = dataset.read_extra(index, "instances")
        np.testing.assert_array_equal(instances > 0, sample.label > 0)
        assert instances.max() == len(annotations)
