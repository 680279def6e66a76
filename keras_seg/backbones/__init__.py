"""Trunks of segmentation networks: an image tensor -> a dict of features "c1".."c5"."""

from keras_seg.backbones.adapters import from_pyramid
from keras_seg.backbones.alexnet import alexnet
from keras_seg.backbones.build import backbone_preprocessing, build_features, list_backbones
from keras_seg.backbones.drn import drn
from keras_seg.backbones.from_keras import from_keras
from keras_seg.backbones.googlenet import googlenet
from keras_seg.backbones.mobilenet_v3 import mobilenet_v3
from keras_seg.backbones.resnet import resnet
from keras_seg.backbones.vgg import vgg16
from keras_seg.backbones.vgg_atrous import atrous_vgg16
from keras_seg.backbones.vit import vit
from keras_seg.backbones.wide_resnet import wide_resnet

__all__ = [
    "alexnet",
    "atrous_vgg16",
    "backbone_preprocessing",
    "build_features",
    "drn",
    "from_keras",
    "from_pyramid",
    "googlenet",
    "list_backbones",
    "mobilenet_v3",
    "resnet",
    "vgg16",
    "vit",
    "wide_resnet",
]
