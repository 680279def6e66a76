"""Few labelled pixels in each image, and images without labels."""

import numpy as np
import pytest
from PIL import Image

from keras_seg import data


def kept(dataset, index):
    label = dataset[index].label
    return label, label != dataset.table.ignore_label


def test_ten_pixels_one_of_each_class_first():
    whole = data.shapes(12, size=(24, 32))
    sparse = data.sparse_labels(whole, 10)
    assert sparse.names == whole.names
    for i in range(len(whole)):
        label, mask = kept(sparse, i)
        assert mask.sum() == 10
        np.testing.assert_array_equal(label[mask], whole[i].label[mask])
        assert set(label[mask]) == set(np.unique(whole[i].label)) - {255}
        np.testing.assert_array_equal(sparse[i].image, whole[i].image)
        np.testing.assert_array_equal(sparse.read_label(i), label)


def test_pixels_follow_from_seed_and_name():
    whole = data.shapes(4, size=(24, 32))
    sparse = data.sparse_labels(whole, 5)
    label = sparse[2].label
    np.testing.assert_array_equal(data.sparse_labels(whole, 5)[2].label, label)
    np.testing.assert_array_equal(sparse.subset([3, 2]).cached()[1].label, label)
    assert (data.sparse_labels(whole, 5, seed=1)[2].label != label).any()
    # Another picture with the same labels has other pixels.
    masks = [kept(sparse, i)[1] for i in range(4)]
    assert len({mask.tobytes() for mask in masks}) == 4


def test_pixels_are_uniform():
    """Of 4 x 4 pixels of one class, 4 each in 400 images: 100 +- 5 standard deviations of 8.7."""
    label = np.zeros((4, 4), "uint8")
    source = _Same(label)
    names = [str(i) for i in range(400)]
    whole = data.SegmentationDataset(source, data.LabelTable.default(2), names)
    sparse = data.sparse_labels(whole, 4)
    counts = sum((sparse[i].label == 0).astype(int) for i in range(400))
    assert counts.sum() == 1600
    assert np.abs(counts - 100).max() < 5 * 8.7


def test_fewer_labels_or_more_classes_than_pixels():
    label = np.full((4, 4), 255, "uint8")
    label[1, :3] = 0, 1, 2
    whole = data.SegmentationDataset(_Same(label), data.LabelTable.default(3), ["a", "b"])
    np.testing.assert_array_equal(data.sparse_labels(whole, 10)[0].label, label)
    few, mask = kept(data.sparse_labels(whole, 2), 1)
    assert mask.sum() == len(set(few[mask])) == 2


class _Same:
    """The same label map for every picture."""

    image_paths = mask_paths = None

    def __init__(self, label):
        self._label = label

    def image(self, index):
        return np.zeros((*self._label.shape, 3), "uint8")

    def label(self, index):
        return self._label

    def both(self, index):
        return self.image(index), self._label


def test_unlabelled_images_come_behind(tmp_path):
    labelled, others = data.shapes(3, size=(16, 16)), data.shapes(2, size=(16, 16), seed=5)
    files = []
    for i in range(2):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(others[i].image).save(files[-1])
    for unlabelled in (others, files):
        both = data.with_unlabelled(labelled, unlabelled)
        assert len(both) == 5
        np.testing.assert_array_equal(both[1].label, labelled[1].label)
        np.testing.assert_array_equal(both[1].image, labelled[1].image)
        np.testing.assert_array_equal(both[4].image, others[1].image)
        assert (both[4].label == 255).all() and (both.read_label(3) == 255).all()


def test_batches_of_both():
    sparse = data.sparse_labels(data.shapes(4, size=(16, 16)), 10)
    both = data.with_unlabelled(sparse, data.shapes(4, size=(16, 16), seed=5))
    batches = data.NumpyBatches(both, 4, augment=data.Augment(scale=(1.0, 1.0), flip=True))
    labels = np.concatenate([batches[i][1] for i in range(2)])
    assert sorted((label != 255).sum() for label in labels) == [0] * 4 + [10] * 4


def test_bad_input():
    shapes = data.shapes(2, size=(16, 16))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        data.sparse_labels(shapes, 0)
    with pytest.raises(ValueError, match="no unlabelled image"):
        data.with_unlabelled(shapes, [])
    with pytest.raises(ValueError, match="3 channels, the unlabelled 1"):
        data.with_unlabelled(shapes, data.shapes(2, size=(16, 16), channels=1))
