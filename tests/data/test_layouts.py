"""Every layout: a made-up tree of it is recognised, read, and holds what was written."""

import pickle

import numpy as np
import pytest

from keras_seg import data

LAYOUTS = data.list_datasets()
each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)


@each_layout
def test_a_made_up_tree_is_read(layout, tmp_path):
    root = data.write_layout(layout.name, tmp_path / "set", {"train": 2})
    assert data.detect_layout(root) == layout.name
    dataset = data.open_dataset(root, "train")
    assert len(dataset) == 2 and dataset.layout == layout.name
    classes = dataset.table.num_classes
    drawn = data.shapes(2, border=int(layout.ignores))
    for sample, (picture, label, _) in zip(dataset, drawn, strict=True):
        assert sample.image.shape == (96, 96, dataset.channels)
        first = sample.image[..., 0].astype(int)  # grey layouts keep this channel
        assert np.abs(first - picture[..., 0]).mean() < 8  # a JPEG differs a little
        expected = np.where(label == 255, 255, np.minimum(label, classes - 1))
        if dataset.multilabel:
            expected = expected[..., None] == np.arange(classes)
        np.testing.assert_array_equal(sample.label, expected)


@each_layout
def test_a_made_up_tree_has_no_errors(layout, tmp_path):
    root = data.write_layout(layout.name, tmp_path / "set")
    report = data.check_data(root, progress=False)
    assert report.ok, report
    assert sum(report.splits.values()) == report.read > 0


@each_layout
def test_a_data_set_can_be_sent_to_a_worker(layout, tmp_path):
    root = data.write_layout(layout.name, tmp_path / "set", {"train": 1})
    dataset = data.open_dataset(root)
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.names == dataset.names and copy.extras == dataset.extras
    np.testing.assert_array_equal(copy[0].label, dataset[0].label)
    for name in dataset.extras:
        extra = copy.read_extra(0, name)
        assert extra.shape[:2] == dataset[0].label.shape[:2]
        np.testing.assert_array_equal(extra, dataset.read_extra(0, name))


@each_layout
def test_wrong_roots_and_splits_are_named(layout, tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        data.open_dataset(tmp_path / "missing", layout=layout.name)
    with pytest.raises(ValueError, match="empty"):
        (tmp_path / "empty").mkdir()
        data.open_dataset(tmp_path / "empty", layout=layout.name)
    root = data.write_layout(layout.name, tmp_path / "set", {"train": 1})
    with pytest.raises(ValueError, match="no split 'tests'|no splits, so no 'tests'"):
        data.open_dataset(root, "tests")


def test_a_data_set_one_folder_below_is_named(tmp_path):
    root = data.write_layout("camvid", tmp_path / "up" / "CamVid", {"train": 1})
    with pytest.raises(ValueError) as error:
        data.open_dataset(tmp_path / "up")
    assert f"Its folder {root} is one of layout 'camvid'." in str(error.value)


with_instances = pytest.mark.parametrize(
    "layout",
    [layout for layout in LAYOUTS if "instances" in layout.contents],
    ids=lambda layout: layout.name,
)


@with_instances
def test_instances_are_the_objects_that_were_drawn(layout, tmp_path):
    root = data.write_layout(layout.name, tmp_path / "set", {"train": 3})
    dataset = data.open_dataset(root, "train")
    drawn = data.shapes(3, border=int(layout.ignores))
    for index in range(3):
        instances = dataset.read_extra(index, "instances")
        expected = drawn.read_extra(index, "instances")
        assert instances.dtype == np.int32
        inside = drawn[index].label < 4  # the ignored line belongs to none or to one
        pairs = {*zip(instances[inside].tolist(), expected[inside].tolist(), strict=True)}
        assert len(pairs) == len({b for _, b in pairs})  # no object is cut in two
        assert {pair for pair in pairs if 0 in pair} == {(0, 0)}
