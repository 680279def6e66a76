"""Losses between integer labels (N, H, W) and logits (N, H, W, K), equal on 1 and N replicas."""

from keras_seg.losses.base import SegmentationLoss, WeightedSum
from keras_seg.losses.combine import CrossEntropyDice, CrossEntropyLogIoU
from keras_seg.losses.cross_entropy import CrossEntropy, PixelLoss, class_weights
from keras_seg.losses.lovasz import LovaszSoftmax
from keras_seg.losses.overlap import Dice, IoU, OverlapLoss, Tversky
from keras_seg.losses.semantic_encoding import SemanticEncoding

__all__ = [
    "CrossEntropy",
    "CrossEntropyDice",
    "CrossEntropyLogIoU",
    "Dice",
    "IoU",
    "LovaszSoftmax",
    "OverlapLoss",
    "PixelLoss",
    "SegmentationLoss",
    "SemanticEncoding",
    "Tversky",
    "WeightedSum",
    "class_weights",
]
