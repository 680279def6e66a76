"""Class tables: names, colours and the ignored id of a data set; known ones in `tables.py`."""

from keras_seg.data.labels.table import LabelTable, read_classes, voc_colors
from keras_seg.data.labels.tables import CAMVID, MEMBRANE, NUCLEI, SHAPES, VOC

__all__ = [
    "CAMVID",
    "MEMBRANE",
    "NUCLEI",
    "SHAPES",
    "VOC",
    "LabelTable",
    "read_classes",
    "voc_colors",
]
