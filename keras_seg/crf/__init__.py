"""Conditional random fields: labels that follow the edges of the image."""

from keras_seg.crf.dense import (
    PRESETS,
    DenseCRF,
    bilateral_kernel,
    dense_crf,
    find_crf,
)
from keras_seg.crf.lattice import PermutohedralLattice
from keras_seg.crf.mean_field import MeanField

__all__ = [
    "PRESETS",
    "DenseCRF",
    "MeanField",
    "PermutohedralLattice",
    "bilateral_kernel",
    "dense_crf",
    "find_crf",
]
