"""Losses between integer labels (N, H, W) and logits (N, H, W, K), equal on 1 and N replicas.

A network with auxiliary outputs (deep supervision) gets a loss for each, weighted by Keras; all
compare with the same labels:

    model.compile(
        loss={"logits": CrossEntropy(), "aux": CrossEntropy(), "se": SemanticEncoding()},
        loss_weights={"logits": 1.0, "aux": 0.4, "se": 0.2},
    )
    model.fit(images, {"logits": labels, "aux": labels, "se": labels})

`keras_seg.training.train` does so by itself, with its `aux_weight`.
"""

from keras_seg.losses.adversarial import L1, Adversarial, soften_truth
from keras_seg.losses.base import SegmentationLoss, WeightedSum
from keras_seg.losses.boundary import Boundary
from keras_seg.losses.combine import CrossEntropyDice, CrossEntropyLogIoU
from keras_seg.losses.cross_entropy import CrossEntropy, PixelLoss, class_weights
from keras_seg.losses.focal import Focal
from keras_seg.losses.hard_pixels import OHEM, TopKCrossEntropy
from keras_seg.losses.lovasz import Lovasz, LovaszHinge
from keras_seg.losses.overlap import Dice, FocalTversky, GeneralizedDice, IoU, OverlapLoss, Tversky
from keras_seg.losses.semantic_encoding import SemanticEncoding
from keras_seg.losses.structural import TotalVariation

__all__ = [
    "Adversarial",
    "Boundary",
    "CrossEntropy",
    "CrossEntropyDice",
    "CrossEntropyLogIoU",
    "Dice",
    "Focal",
    "FocalTversky",
    "GeneralizedDice",
    "IoU",
    "L1",
    "Lovasz",
    "LovaszHinge",
    "OHEM",
    "OverlapLoss",
    "PixelLoss",
    "SegmentationLoss",
    "SemanticEncoding",
    "TopKCrossEntropy",
    "TotalVariation",
    "Tversky",
    "WeightedSum",
    "class_weights",
    "soften_truth",
]
