"""Boxes of pictures as pictures of their own: what DeconvNet is trained on."""

import numpy as np

from keras_seg.data.augment import pad_color, pad_to, resize_image, resize_label
from keras_seg.data.dataset import SegmentationDataset


def object_boxes(dataset, index):
    """The tight boxes of the objects of a picture, and the class of each.

    Args:
        dataset: `SegmentationDataset` with the extra "instances".
        index: of the picture.

    Returns:
        int (n, 4), top, left, bottom, right, the last two beyond the last pixel; and int (n,), the
        class that most labelled pixels of the object have. Objects without any are left out.

    Raises:
        ValueError: if the data set has no instances.
    """
    instances = dataset.read_extra(index, "instances")
    label = dataset.read_label(index)
    boxes, classes = [], []
    for number in np.unique(instances[instances > 0]):
        mask = instances == number
        ids = label[mask & (label != dataset.table.ignore_label) & (label > 0)]
        if ids.size == 0:
            continue
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        boxes.append((rows[0], columns[0], rows[-1] + 1, columns[-1] + 1))
        classes.append(np.bincount(ids).argmax())
    return np.array(boxes, int).reshape(-1, 4), np.array(classes, int)


def box_iou(boxes, others):
    """Intersection over union of boxes (n, 4) with others (m, 4): float (n, m)."""
    boxes, others = np.asarray(boxes)[:, None], np.asarray(others)[None]
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(
        boxes[..., :2], others[..., :2]
    )
    common = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(b[..., 2:] - b[..., :2], axis=-1) for b in (boxes, others)]
    return common / np.maximum(areas[0] + areas[1] - common, 1)


def cut_boxes(dataset, indices, boxes, size, classes=None):
    """Boxes of a data set's pictures, each resized to `size`, as a data set.

    Images are resized bilinearly, with the support widened when they shrink; labels take the
    nearest pixel. Beyond the picture is `pad_color` and the ignored label.

    Args:
        dataset: `SegmentationDataset`.
        indices: (n,), the picture of each box.
        boxes: (n, 4), top, left, bottom, right.
        size: (H, W).
        classes: None, or (n,): labels of other classes than this one become 0, the background.

    Returns:
        `SegmentationDataset` of n samples.

    Raises:
        ValueError: if the arrays differ in length, or a box has no pixel.
    """
    indices, boxes = np.asarray(indices, "int32"), np.asarray(boxes, "int32").reshape(-1, 4)
    classes = None if classes is None else np.asarray(classes, "int32")
    lengths = {len(array) for array in (indices, boxes, classes) if array is not None}
    if len(lengths) > 1:
        raise ValueError(f"indices, boxes and classes must be of one length, got {lengths}.")
    if np.any(boxes[:, 2:] <= boxes[:, :2]):
        raise ValueError("A box has no pixel; boxes are (top, left, bottom, right).")
    return SegmentationDataset(
        _Boxes(dataset, indices, boxes, tuple(size), classes),
        dataset.table,
        [f"{dataset.names[i]}_{number}" for number, i in enumerate(indices)],
        channels=dataset.channels,
        layout=dataset.layout,
        split=dataset.split_name,
        description=f"{len(boxes)} boxes of {dataset.description}",
    )


class _Boxes:
    """Source of a data set (see `SegmentationDataset`)."""

    image_paths = mask_paths = None
    extras = ()

    def __init__(self, dataset, indices, boxes, size, classes):
        self.dataset, self.indices, self.boxes = dataset, indices, boxes
        self.size, self.classes = size, classes

    def image(self, index):
        image = self.dataset.read_image(self.indices[index])
        cut = _cut(image, self.boxes[index], pad_color(image.shape[2]))
        return resize_image(cut, self.size)

    def label(self, index):
        ignore = self.dataset.table.ignore_label
        label = self.dataset.read_label(self.indices[index])
        label = _cut(label, self.boxes[index], ignore)
        if self.classes is not None:
            kept = (label == self.classes[index]) | (label == ignore)
            label = np.where(kept, label, 0).astype(label.dtype)
        return resize_label(label, self.size)

    def both(self, index):
        return self.image(index), self.label(index)


def _cut(array, box, fill):
    """The box of (H, W, ...), `fill` where it lies outside."""
    top, left, bottom, right = (int(n) for n in box)
    inside = array[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    return pad_to(inside, (bottom - top, right - left), fill, (max(-top, 0), max(-left, 0)))
