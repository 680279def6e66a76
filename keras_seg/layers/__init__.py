"""Layers that the networks share. Each serialises, and converts to TFLite and ONNX."""

from keras_seg.layers.aspp import aspp_sum, large_fov, score_conv
from keras_seg.layers.aspp_v3 import aspp_v3
from keras_seg.layers.attention import (
    GELU,
    SelfAttention,
    TokenEmbedding,
    TokenMap,
    normal_002,
)
from keras_seg.layers.context import IdentityKernel, context_module
from keras_seg.layers.convolution import GroupedConv2D
from keras_seg.layers.dense_evaluation import DilatedPooling2D, SharedConv2D
from keras_seg.layers.dropout import MonteCarloDropout
from keras_seg.layers.encoding import Encoding
from keras_seg.layers.heads import classify, fcn_head, inference_model, of_one_image, resize_logits
from keras_seg.layers.image import CheckSize, ReflectMargin, check_size, image_input
from keras_seg.layers.l2_normalization import L2Normalization
from keras_seg.layers.lcn import LocalContrastNormalization
from keras_seg.layers.lrn import LocalResponseNormalization
from keras_seg.layers.normalization import (
    BatchNormalization,
    BatchStatistics,
    batch_norm,
    batch_statistics,
    conv,
    conv_bn_relu,
    he_fan_in,
    he_fan_out,
    replace_batch_norm,
    separable_conv_bn_relu,
    uniform_fan_in,
)
from keras_seg.layers.pooling import AdaptiveAveragePooling2D, max_pool_ceil, pyramid_pooling
from keras_seg.layers.preprocessing import Preprocess, preprocess
from keras_seg.layers.resize import CropLike, PadLike, PadToStep, RepeatEdge, Resize, ResizeBy
from keras_seg.layers.unpooling import MaxUnpooling2D
from keras_seg.layers.upsampling import BilinearKernel, bilinear_upsampling

__all__ = [
    "AdaptiveAveragePooling2D",
    "BatchNormalization",
    "BilinearKernel",
    "CheckSize",
    "CropLike",
    "DilatedPooling2D",
    "Encoding",
    "GELU",
    "GroupedConv2D",
    "IdentityKernel",
    "L2Normalization",
    "LocalContrastNormalization",
    "LocalResponseNormalization",
    "MaxUnpooling2D",
    "MonteCarloDropout",
    "PadLike",
    "PadToStep",
    "Preprocess",
    "ReflectMargin",
    "RepeatEdge",
    "Resize",
    "ResizeBy",
    "SelfAttention",
    "SharedConv2D",
    "TokenEmbedding",
    "TokenMap",
    "aspp_sum",
    "aspp_v3",
    "BatchStatistics",
    "batch_norm",
    "batch_statistics",
    "bilinear_upsampling",
    "check_size",
    "classify",
    "context_module",
    "conv",
    "conv_bn_relu",
    "fcn_head",
    "he_fan_in",
    "he_fan_out",
    "image_input",
    "inference_model",
    "of_one_image",
    "large_fov",
    "max_pool_ceil",
    "normal_002",
    "preprocess",
    "pyramid_pooling",
    "replace_batch_norm",
    "resize_logits",
    "score_conv",
    "separable_conv_bn_relu",
    "uniform_fan_in",
]
