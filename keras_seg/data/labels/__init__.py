"""Class tables: names, colours and the ignored id of a data set; known ones in `tables.py`."""

from keras_seg.data.labels.ade20k import ADE20K, ADE20K_RAW_IDS
from keras_seg.data.labels.camvid32 import CAMVID32, CAMVID_MERGES, CAMVID_SWIFTNET
from keras_seg.data.labels.coco import (
    COCO_STUFF,
    COCO_STUFF_IDS,
    COCO_THING_IDS,
    COCO_THINGS,
    COCO_VOC_IDS,
)
from keras_seg.data.labels.pascal_context import (
    PASCAL_CONTEXT_59,
    PASCAL_CONTEXT_60,
    PASCAL_CONTEXT_NAMES,
    PASCAL_CONTEXT_RAW_IDS,
)
from keras_seg.data.labels.table import LabelTable, read_classes, voc_colors
from keras_seg.data.labels.tables import (
    CAMVID,
    CITYSCAPES,
    CITYSCAPES_TRAIN_IDS,
    MEMBRANE,
    NUCLEI,
    ROAD,
    SHAPES,
    VOC,
)

__all__ = [
    "ADE20K",
    "ADE20K_RAW_IDS",
    "CAMVID",
    "CAMVID32",
    "CAMVID_MERGES",
    "CAMVID_SWIFTNET",
    "CITYSCAPES",
    "CITYSCAPES_TRAIN_IDS",
    "COCO_STUFF",
    "COCO_STUFF_IDS",
    "COCO_THINGS",
    "COCO_THING_IDS",
    "COCO_VOC_IDS",
    "LabelTable",
    "MEMBRANE",
    "NUCLEI",
    "PASCAL_CONTEXT_59",
    "PASCAL_CONTEXT_60",
    "PASCAL_CONTEXT_NAMES",
    "PASCAL_CONTEXT_RAW_IDS",
    "ROAD",
    "SHAPES",
    "VOC",
    "read_classes",
    "voc_colors",
]
