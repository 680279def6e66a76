"""Data: folders of images and masks, synthetic pictures, augmentation, batches, a check of files.

Importing this imports neither Keras nor TensorFlow; `NumpyBatches`, `tf_batches`, `make_batches`
and `DeviceAugment` come with Keras when they are first used.
"""

import importlib

from keras_seg.data.augment import Augment
from keras_seg.data.check import Problem, Report, check_data
from keras_seg.data.datasets import (
    Sample,
    SegmentationDataset,
    camvid,
    detect_layout,
    folder,
    instances,
    isbi,
    list_splits,
    open_dataset,
    voc,
)
from keras_seg.data.labels import LabelTable
from keras_seg.data.mixing import CopyPaste, CutMix
from keras_seg.data.read import list_images, read_image, read_instances, read_mask, write_mask
from keras_seg.data.synthetic import shapes, write_shapes
from keras_seg.data.weight_maps import EdgeWeights, edge_weights, separate_touching

_WITH_KERAS = {
    "DeviceAugment": "device_augment",
    "NumpyBatches": "batches",
    "make_batches": "batches",
    "steps_per_epoch": "batches",
    "tf_batches": "batches",
}

__all__ = [
    "Augment",
    "CopyPaste",
    "CutMix",
    "DeviceAugment",
    "EdgeWeights",
    "LabelTable",
    "NumpyBatches",
    "Problem",
    "Report",
    "Sample",
    "SegmentationDataset",
    "camvid",
    "check_data",
    "detect_layout",
    "edge_weights",
    "folder",
    "instances",
    "isbi",
    "list_images",
    "list_splits",
    "make_batches",
    "open_dataset",
    "read_image",
    "read_instances",
    "read_mask",
    "separate_touching",
    "shapes",
    "steps_per_epoch",
    "tf_batches",
    "voc",
    "write_mask",
    "write_shapes",
]


def __getattr__(name):
    if name in _WITH_KERAS:
        module = importlib.import_module(f"keras_seg.data.{_WITH_KERAS[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'keras_seg.data' has no attribute {name!r}")
