"""Data: folders of images and masks, synthetic pictures, augmentation, batches, a check of files.

Importing this imports neither Keras nor TensorFlow; `NumpyBatches`, `tf_batches`, `make_batches`
and `DeviceAugment` come with Keras when they are first used.
"""

import importlib

from keras_seg.data.augment import Augment
from keras_seg.data.boxes import box_iou, cut_boxes, object_boxes
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
from keras_seg.data.mixing import CopyPaste, CutMix
from keras_seg.data.read import list_images, read_image, read_instances, read_mask, write_mask
from keras_seg.data.readers.ade20k import ade20k
from keras_seg.data.readers.ade20k_full import ade20k_full
from keras_seg.data.readers.camvid import camvid
from keras_seg.data.readers.camvid32 import camvid32
from keras_seg.data.readers.cell_tracking import cell_tracking
from keras_seg.data.readers.cityscapes import cityscapes
from keras_seg.data.readers.coco import coco
from keras_seg.data.readers.coco_json import coco_json
from keras_seg.data.readers.davis import davis
from keras_seg.data.readers.drive import drive
from keras_seg.data.readers.dsb2018 import dsb2018
from keras_seg.data.readers.dstl import dstl
from keras_seg.data.readers.facades import facades
from keras_seg.data.readers.folder import folder
from keras_seg.data.readers.instances import instances
from keras_seg.data.readers.isbi import isbi
from keras_seg.data.readers.kitti_road import kitti_road
from keras_seg.data.readers.kitti_semantic import kitti_semantic
from keras_seg.data.readers.lip import lip
from keras_seg.data.readers.mapillary import mapillary
from keras_seg.data.readers.mhp import mhp
from keras_seg.data.readers.nyud import nyud
from keras_seg.data.readers.pascal_context import pascal_context
from keras_seg.data.readers.potsdam import potsdam
from keras_seg.data.readers.sbd import sbd
from keras_seg.data.readers.sift_flow import sift_flow
from keras_seg.data.readers.vaihingen import vaihingen
from keras_seg.data.readers.voc import voc
from keras_seg.data.shards import prepare
from keras_seg.data.sparse import sparse_labels, with_unlabelled
from keras_seg.data.synthetic import Drawn, shapes, write_layout, write_shapes
from keras_seg.data.tfds import from_tfds
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
    "Drawn",
    "EdgeWeights",
    "LabelTable",
    "NumpyBatches",
    "Problem",
    "Report",
    "Sample",
    "SegmentationDataset",
    "ade20k",
    "ade20k_full",
    "box_iou",
    "camvid",
    "camvid32",
    "cell_tracking",
    "check_data",
    "cityscapes",
    "coco",
    "coco_json",
    "cut_boxes",
    "davis",
    "detect_layout",
    "drive",
    "dsb2018",
    "dstl",
    "edge_weights",
    "facades",
    "find_layout",
    "folder",
    "from_tfds",
    "instances",
    "isbi",
    "kitti_road",
    "kitti_semantic",
    "lip",
    "list_datasets",
    "list_images",
    "list_splits",
    "make_batches",
    "mapillary",
    "mhp",
    "nyud",
    "object_boxes",
    "open_dataset",
    "pascal_context",
    "potsdam",
    "prepare",
    "read_image",
    "read_instances",
    "read_mask",
    "sbd",
    "separate_touching",
    "shapes",
    "sift_flow",
    "sparse_labels",
    "steps_per_epoch",
    "tf_batches",
    "vaihingen",
    "voc",
    "with_unlabelled",
    "write_layout",
    "write_mask",
    "write_shapes",
]


def __getattr__(name):
    if name in _WITH_KERAS:
        module = importlib.import_module(f"keras_seg.data.{_WITH_KERAS[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'keras_seg.data' has no attribute {name!r}")
