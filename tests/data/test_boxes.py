import numpy as np
import pytest

from keras_seg import data
from keras_seg.data import LabelTable, Sample, SegmentationDataset


class OnePicture:
    """Two objects: class 2 at rows 1-2, columns 1-3, one pixel of it ignored; class 1 at (4, 5)."""

    image_paths = mask_paths = None
    extras = ("instances",)

    def __init__(self):
        self._label = np.zeros((6, 8), "uint8")
        self._label[1:3, 1:4] = 2
        self._label[1, 1] = 255
        self._label[4, 5] = 1
        self._instances = np.zeros((6, 8), "int32")
        self._instances[1:3, 1:4] = 7
        self._instances[4, 5] = 3
        self._instances[5, 0] = 9  # of an object that has no label

    def image(self, index):
        return np.arange(6 * 8 * 3, dtype="uint8").reshape(6, 8, 3)

    def label(self, index):
        return self._label

    def both(self, index):
        return self.image(index), self._label

    def extra(self, index, name):
        return self._instances


@pytest.fixture
def pictures():
    return SegmentationDataset(OnePicture(), LabelTable.default(3), ["a"])


def test_objects_have_tight_boxes_and_their_class(pictures):
    boxes, classes = data.object_boxes(pictures, 0)
    assert boxes.tolist() == [[4, 5, 5, 6], [1, 1, 3, 4]]
    assert classes.tolist() == [1, 2]


def test_overlap_of_boxes():
    found = data.box_iou([[0, 0, 2, 2], [5, 5, 6, 6]], [[0, 0, 2, 2], [0, 1, 2, 3]])
    np.testing.assert_allclose(found, [[1, 2 / 6], [0, 0]])


def test_a_box_is_a_picture_with_the_labels_of_one_class(pictures):
    cut = data.cut_boxes(pictures, [0, 0], [[0, 0, 6, 8], [0, 0, 6, 8]], (6, 8), classes=[2, 1])
    label = pictures[0].label
    assert isinstance(cut[0], Sample) and len(cut) == 2
    np.testing.assert_array_equal(cut[0].image, pictures[0].image)
    np.testing.assert_array_equal(cut[0].label, np.where(label == 1, 0, label))
    np.testing.assert_array_equal(cut[1].label, np.where(label == 2, 0, label))


def test_a_box_beyond_the_picture_is_padded_and_resized(pictures):
    (sample,) = data.cut_boxes(pictures, [0], [[-1, -2, 4, 3]], (10, 10))
    assert sample.image.shape == (10, 10, 3) and sample.label.shape == (10, 10)
    assert np.all(sample.label[:2] == 255) and np.all(sample.label[:, :4] == 255)
    # Each pixel of the box is 2 x 2 now: row 2, column 2 of the picture lies at row 3, column 4.
    assert np.all(sample.label[6:8, 8:10] == 2)
    assert np.all(sample.image[0, 0] == (124, 116, 104))


def test_boxes_that_do_not_fit(pictures):
    with pytest.raises(ValueError, match="one length"):
        data.cut_boxes(pictures, [0, 0], [[0, 0, 1, 1]], (4, 4))
    with pytest.raises(ValueError, match="no pixel"):
        data.cut_boxes(pictures, [0], [[2, 2, 2, 3]], (4, 4))
