"""Losses between integer labels (N, H, W) and logits (N, H, W, K), equal on 1 and N replicas."""

from keras_seg.losses.adversarial import L1, Adversarial, soften_truth
from keras_seg.losses.base import SegmentationLoss, WeightedSum
from keras_seg.losses.boundary import Boundary
from keras_seg.losses.combine import CrossEntropyDice, CrossEntropyLogIoU
from keras_seg.losses.cross_entropy import CrossEntropy, PixelLoss, class_weights
from keras_seg.losses.lovasz import LovaszHinge, LovaszSoftmax
from keras_seg.losses.overlap import (
    Dice,
    FocalTversky,
    GeneralizedDice,
    IoU,
    OverlapLoss,
    Tversky,
)
from keras_seg.losses.semantic_encoding import SemanticEncoding
from keras_seg.losses.structural import TotalVariation

__all__ = [
    "L1",
    "Adversarial",
    "Boundary",
    "CrossEntropy",
    "CrossEntropyDice",
    "CrossEntropyLogIoU",
    "Dice",
    "FocalTversky",
    "GeneralizedDice",
    "IoU",
    "LovaszHinge",
    "LovaszSoftmax",
    "OverlapLoss",
    "PixelLoss",
    "SegmentationLoss",
    "SemanticEncoding",
    "TotalVariation",
    "Tversky",
    "WeightedSum",
    "class_weights",
    "soften_truth",
]
