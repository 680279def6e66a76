"""Data: folders of images and masks, synthetic pictures, augmentation, batches, a check of files.

Importing this imports neither Keras nor TensorFlow; `NumpyBatches`, `tf_batches` and `make_batches`
come with Keras when they are first used.
"""

import importlib

from keras_seg.data.augment import Augment
from keras_seg.data.check import Problem, Report, check_data
from keras_seg.data.dataset import Sample, SegmentationDataset
from keras_seg.data.datasets import (
    detect_layout,
    find_layout,
    list_datasets,
    list_splits,
    open_dataset,
)
from keras_seg.data.labels import LabelTable
from keras_seg.data.read import list_images, read_image, read_instances, read_mask, write_mask
from keras_seg.data.readers.camvid import camvid
from keras_seg.data.readers.folder import folder
from keras_seg.data.readers.instances import instances
from keras_seg.data.readers.isbi import isbi
from keras_seg.data.readers.voc import voc
from keras_seg.data.shards import prepare
from keras_seg.data.synthetic import Drawn, shapes, write_layout, write_shapes
from keras_seg.data.weight_maps import EdgeWeights, edge_weights, separate_touching

_WITH_KERAS = ("NumpyBatches", "make_batches", "steps_per_epoch", "tf_batches")

__all__ = [
    "Augment",
    "Drawn",
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
    "find_layout",
    "folder",
    "instances",
    "isbi",
    "list_datasets",
    "list_images",
    "list_splits",
    "make_batches",
    "open_dataset",
    "prepare",
    "read_image",
    "read_instances",
    "read_mask",
    "separate_touching",
    "shapes",
    "steps_per_epoch",
    "tf_batches",
    "voc",
    "write_layout",
    "write_mask",
    "write_shapes",
]


def __getattr__(name):
    if name in _WITH_KERAS:
        return getattr(importlib.import_module("keras_seg.data.batches"), name)
    raise AttributeError(f"module 'keras_seg.data' has no attribute {name!r}")
