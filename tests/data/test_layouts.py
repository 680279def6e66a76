"""Every layout: a made-up tree of it is recognised, read, and holds what was written."""

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
