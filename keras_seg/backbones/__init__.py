"""Trunks of segmentation networks: an image tensor -> a dict of features "c1".."c5"."""

from keras_seg.backbones.resnet import resnet

__all__ = ["resnet"]
