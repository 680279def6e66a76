"""Trunks of segmentation networks: an image tensor -> a dict of features "c1".."c5"."""

from keras_seg.backbones.resnet import resnet
from keras_seg.backbones.trunk import trunk
from keras_seg.backbones.vgg import vgg16

__all__ = ["resnet", "trunk", "vgg16"]
