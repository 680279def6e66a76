"""Synthetic shapes: the same every time, all classes, and the same again from disk."""

import numpy as np
import pytest

from keras_seg import data


def test_picture_follows_from_seed_and_index():
    few, many = data.shapes(3, seed=4), data.shapes(30, seed=4)
    for i in range(3):
        assert np.array_equal(few[i].image, many[i].image)
        assert np.array_equal(few[i].label, many[i].label)
    assert not np.array_equal(few[0].image, data.shapes(1, seed=5)[0].image)
    assert not np.array_equal(few[0].image, few[1].image)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_form(channels):
    sample = data.shapes(2, size=(32, 48), channels=channels)[0]
    assert sample.image.shape == (32, 48, channels) and sample.image.dtype == np.uint8
    assert sample.label.shape == (32, 48) and sample.label.dtype == np.uint8
    assert sample.name == "shapes_00000"


def test_classes_are_balanced_and_need_more_than_colour():
    """Each shape covers a fair share, and no mean colour gives a class away."""
    dataset = data.shapes(150)
    assert dataset.table.names == ("background", "circle", "square", "triangle")
    labels = np.stack([sample.label for sample in dataset])
    images = np.stack([sample.image for sample in dataset]).astype(float)
    share = np.bincount(labels.ravel(), minlength=4) / labels.size
    assert share[0] > 0.5 and (share[1:] > 0.04).all() and share.sum() == 1
    means = np.array([images[labels == k].mean(0) for k in range(4)])
    assert np.ptp(means, axis=0).max() < 40


def test_ignored_outline():
    label, plain = data.shapes(1, border=2)[0].label, data.shapes(1)[0].label
    assert 0 < (label == 255).mean() < 0.25 and (plain != 255).all()
    assert (label[label != 255] == plain[label != 255]).all()


def test_written_data_set_reads_back(tmp_path):
    data.write_shapes(tmp_path / "train", 3, size=(24, 32), seed=7)
    data.write_shapes(tmp_path / "val", 2, size=(24, 32), seed=8)
    dataset, drawn = data.open_dataset(tmp_path, "train"), data.shapes(3, (24, 32), seed=7)
    assert dataset.table.names == drawn.table.names and dataset.names == drawn.names
    assert np.array_equal(dataset.table.colors, drawn.table.colors)
    for read, made in zip(dataset, drawn, strict=True):
        assert np.array_equal(read.image, made.image) and np.array_equal(read.label, made.label)
    assert data.check_data(tmp_path, progress=False).ok
    assert not list(tmp_path.rglob(".partial-*"))


@pytest.mark.parametrize(
    "arguments", [{"count": 0}, {"size": (8, 96)}, {"seed": -1}, {"channels": 2}, {"border": -1}]
)
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        data.shapes(**{"count": 1, **arguments})
