"""DeepLab v3+: DeepLab v3 with a decoder.

Chen, Zhu, Papandreou, Schroff, Adam. "Encoder-Decoder with Atrous Separable Convolution for
Semantic Image Segmentation", ECCV 2018. https://arxiv.org/abs/1802.02611

    part       operations                                              channels   stride
    trunk      as in DeepLab v3, output stride 16 (or 8)                   2048   16
    aspp       conv1x1, conv3x3 of dilation 6, 12, 18, image pooling    5 x 256   16
    project    conv1x1, dropout                                             256   16
    up         resize to the low-level map                                  256   4
    low_level  stage2 of the trunk, conv1x1                                  48   4
    decoder    concat [up, low_level], two conv3x3                     304, 256   4
    logits     conv1x1 to num_classes, resize                                 K   1

    parameters (21 classes)   ordinary   separable=True
    resnet50                40,352,181       26,696,133
    resnet101               59,344,309       45,688,261

Every convolution but the last has no bias, and batch normalisation and ReLU after it. The same
weights run at every output stride.

Faithful: widths, dilations and multi-grid of the trunk, the decoder of table 2 (48 channels, two
3x3 of 256, from the end of stage2), atrous separable convolutions in pyramid and decoder as an
option (section 3.1: with normalisation and ReLU after both halves, as in the authors' code);
momentum 0.9997. The paper's ResNet-101 figures are with ordinary convolutions.
Where we differ: as in DeepLab v3 (see `deeplab_v3.py`) any size works, resizes have half-pixel
centres unless `align_corners=True`, and the first 1x1 of a stage strides. There is no modified
aligned Xception; an Xception of `keras.applications` may be named as trunk.
"""

import keras
from keras import layers

from keras_seg.backbones import backbone_preprocessing, build_features
from keras_seg.layers import (
    Resize,
    aspp_v3,
    conv_bn_relu,
    image_input,
    preprocess,
    resize_logits,
    separable_conv_bn_relu,
)
from keras_seg.models.deeplab_v3 import aspp_rates, logits_initializer, paper_multi_grid
from keras_seg.utils import check_counts
from keras_seg.weights import load_own


def DeepLabV3Plus(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="resnet50",
    output_stride=16,
    rates=None,
    multi_grid=None,
    separable=False,
    stem="7x7",
    stem_pool="ceil",
    stride_in="1x1",
    filters=64,
    low_level_filters=None,
    dropout=0.1,
    align_corners=False,
    preprocessing=None,
    bn_momentum=0.9997,
    bn_epsilon=1e-5,
    weights=None,
    name="deeplab_v3_plus",
):
    """Build DeepLab v3+ as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works; the paper's are 16k + 1.
        backbone: "resnet50", "resnet101", ..., "keras:MobileNetV2" and the like, or a
            `keras.Model` or function from image to features with "c2" (the low-level map) and
            "c5"; see `keras_seg.backbones.build_features`.
        output_stride: of the trunk: 16, 8 or 32. It changes no weight.
        rates: dilations of the pyramid. Default (6, 12, 18) at output stride 16, in proportion at
            another one.
        multi_grid: factors on the dilation of the blocks of stage 5 of a residual trunk, one a
            block, or all 1. Default as in `DeepLabV3(form="paper")`.
        separable: depthwise separable 3x3 convolutions in pyramid and decoder.
        stem, stem_pool, stride_in: of a residual trunk, see `DeepLabV3`.
        filters: width of the trunk's first stage. Pyramid and decoder have 4 times as many.
        low_level_filters: channels of the reduced low-level map. Default 48 for `filters=64`, in
            proportion for another.
        dropout: rate behind the pyramid.
        align_corners: convention of both resizes.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
            Default: what the trunk was trained with where that is known
            (`keras_seg.backbones.backbone_preprocessing`), otherwise "imagenet".
        bn_momentum, bn_epsilon: of every batch normalisation; trunks other than ResNet, DRN and
            wide ResNet keep their own.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes). Layer `logits_low` has them at stride 4.

    Raises:
        ValueError: for an unknown backbone or output stride, rates or factors that are no positive
            whole numbers, or a wrong number of classes.
    """
    normalisation = {"momentum": bn_momentum, "epsilon": bn_epsilon}
    convolution = separable_conv_bn_relu if separable else conv_bn_relu

    image = image_input(input_shape, num_classes, filters=filters)
    if low_level_filters is None:
        low_level_filters = max(1, 3 * filters // 4)
    check_counts(low_level_filters=low_level_filters)
    if multi_grid is None:
        multi_grid = paper_multi_grid(backbone)
    if preprocessing is None:
        preprocessing = backbone_preprocessing(backbone, image.shape[-1])
    features = build_features(
        backbone,
        preprocess(image, preprocessing),
        needs=("c2", "c5"),
        output_stride=output_stride,
        multi_grid=multi_grid,
        stem=stem,
        stem_pool=stem_pool,
        stride_in=stride_in,
        filters=filters,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
    )
    x = layers.Identity(name="features")(features["c5"])
    x = aspp_v3(
        x,
        aspp_rates(rates, output_stride),
        4 * filters,
        convolution=convolution,
        dropout=dropout,
        **normalisation,
    )
    low = conv_bn_relu(features["c2"], low_level_filters, 1, name="low_level", **normalisation)
    x = Resize(align_corners=align_corners, name="decoder_resize")(x, low)
    x = layers.Concatenate(name="decoder_concat")([x, low])
    for i in (1, 2):
        x = convolution(x, 4 * filters, 3, name=f"decoder{i}", **normalisation)
    x = layers.Conv2D(num_classes, 1, kernel_initializer=logits_initializer(), name="logits_low")(x)
    logits = resize_logits(x, image, align_corners=align_corners)
    model = keras.Model(image, logits, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
