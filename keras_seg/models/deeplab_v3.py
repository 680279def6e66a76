"""DeepLab v3.

Chen, Papandreou, Schroff, Adam. "Rethinking Atrous Convolution for Semantic Image Segmentation",
2017. https://arxiv.org/abs/1706.05587

    part      operations                                       channels   stride, dilation at
                                                                          output stride 16    8
    stem      conv7x7/2, max-pool 3x3/2                              64   4                   4
    stage2    bottlenecks (the paper's block1)                      256   4                   4
    stage3    bottlenecks                                           512   8                   8
    stage4    bottlenecks                                          1024   16                  8, 2
    stage5    three bottlenecks, dilations (1, 2, 4) times           2048   16, 2              8, 4
    aspp      conv1x1, three conv3x3 of dilation 6, 12, 18       5 x 256   16                  8
              (12, 24, 36 at output stride 8), image pooling
    project   conv1x1, dropout                                      256   16                  8
    logits    conv1x1 to num_classes, resize                          K   1                   1

    parameters (21 classes)    form="paper"   form="torchvision"   with aux
    resnet50                     39,048,533           39,638,869   42,004,074
    resnet101                    58,040,661           58,630,997   60,996,202
    mobilenet-v3-large                                11,025,477           11,029,328

Every convolution but the last has no bias, and batch normalisation and ReLU after it. The same
weights run at every output stride: train at 16, test at 8 (section 4.1).

Two forms of the same graph:

* `form="paper"`, as above. The paper names no dropout; the authors' code has 0.1.
* `form="torchvision"`: output stride 8, no multi-grid, first block of a dilated stage with the
  dilation of the stage before, one more conv3x3 behind the projection, dropout 0.5, auxiliary FCN
  head on stage4, batch normalisation of momentum 0.9. On "mobilenet-v3-large" output stride 16 with
  the dilations of 8 (12, 24, 36), and the auxiliary head on the first block of stride 8.

Faithful: dilations, multi-grid, image pooling over the whole map, widths, momentum 0.9997 of the
paper's batch normalisation, initialisation of the last convolution.
Where we differ: the paper's images are 16k + 1 (513, 769) and all its resizes have align_corners;
here any size works and, as in the references that run today, resizes have half-pixel centres
(`align_corners=True` for the paper's). The authors' code strides in the last block of a stage, here
it is the first, as in every other residual network, and in its first 1x1, after a stem pool that
rounds up: the Caffe ResNet of DeepLab v2, as in kazuto1011/deeplab-pytorch. `stem="deep"`,
`stem_pool="floor"` and `stride_in="3x3"` are the authors' code in this. The choice has no weights
of its own: a file of one loads into the other, and computes something else. The cascaded variant
(block5 to block7, section 3.2) is not here.
"""

import keras
from keras import layers

from keras_seg.backbones import backbone_preprocessing, build_features
from keras_seg.backbones.resnet import BLOCKS
from keras_seg.layers import (
    aspp_v3,
    conv_bn_relu,
    fcn_head,
    he_fan_out,
    image_input,
    preprocess,
    resize_logits,
    uniform_fan_in,
)
from keras_seg.utils import counts, unknown_name
from keras_seg.weights import load_own

MOBILENET = "mobilenet-v3-large"
# Residual trunks whose stage 5 has not the three blocks that the paper has factors for.
OTHER_BLOCKS = tuple(f"resnet{depth}" for depth, blocks in BLOCKS.items() if blocks[-1] != 3)

# What a form says about the arguments that are not given.
FORMS = {
    "paper": {
        "output_stride": 16,
        "stem_pool": "ceil",
        "stride_in": "1x1",
        "dropout": 0.1,
        "bn_momentum": 0.9997,
    },
    "torchvision": {
        "output_stride": 8,
        "stem_pool": "floor",
        "stride_in": "3x3",
        "dropout": 0.5,
        "bn_momentum": 0.9,
    },
}


def DeepLabV3(
    num_classes,
    input_shape=(None, None, 3),
    *,
    form="paper",
    backbone="resnet50",
    output_stride=None,
    rates=None,
    multi_grid=None,
    stem="7x7",
    stem_pool=None,
    stride_in=None,
    filters=64,
    aux=False,
    dropout=None,
    align_corners=False,
    preprocessing=None,
    bn_momentum=None,
    bn_epsilon=1e-5,
    weights=None,
    name="deeplab_v3",
):
    """Build DeepLab v3 as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works; the paper's are 16k + 1.
        form: "paper" or "torchvision", see the top of this file. It decides output_stride,
            multi_grid, stem_pool, stride_in, dropout and bn_momentum where they are not given.
        backbone: "resnet50", "resnet101", ..., "mobilenet-v3-large", "keras:MobileNetV2" and the
            like, or a `keras.Model` or function from image to features with "c5" (and "c4" for
            `aux`); see `keras_seg.backbones.build_features`.
        output_stride: of the trunk: 8, 16 or 32. It changes no weight.
        rates: dilations of the pyramid. Default (6, 12, 18) at output stride 16, in proportion at
            another one; torchvision's MobileNetV3 has (12, 24, 36) at any.
        multi_grid: factors on the dilation of the blocks of stage 5 of a residual trunk, one a
            block, or all 1. Default (1, 2, 4) for the paper, all 1 for torchvision and for trunks
            of other than three such blocks ("resnet18", "resnet269").
        stem, stem_pool, stride_in: of a residual trunk, see `keras_seg.backbones.resnet`. Default
            of the last two: "ceil" and "1x1" for the paper (see the top of this file), "floor" and
            "3x3" for torchvision.
        filters: width of the trunk's first stage. The head has 4 times as many channels.
        aux: add the output "aux" from the last but one stage, through a quarter of its channels;
            `form="torchvision"` only.
        dropout: rate behind the pyramid, and in the auxiliary head 0.1 in any case.
        align_corners: resize convention of the logits.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
            Default: what the trunk was trained with where that is known
            (`keras_seg.backbones.backbone_preprocessing`), otherwise "imagenet".
        bn_momentum, bn_epsilon: of every batch normalisation; trunks other than ResNet, DRN and
            wide ResNet keep their own.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes); with `aux` to {"logits": ..., "aux": ...}, both of that shape.

    Raises:
        ValueError: for an unknown form, backbone or output stride, rates or factors that are no
            positive whole numbers, `aux` with `form="paper"`, or a wrong number of classes.
    """
    if form not in FORMS:
        raise unknown_name("form", form, FORMS)
    if aux and form == "paper":
        raise ValueError("form='paper' has no auxiliary head; use form='torchvision' for aux=True.")
    defaults = FORMS[form]
    mobilenet = form == "torchvision" and backbone == MOBILENET
    if mobilenet:
        output_stride = 16 if output_stride is None else output_stride
        rates = (12, 24, 36) if rates is None else rates
    output_stride = defaults["output_stride"] if output_stride is None else output_stride
    stem_pool = defaults["stem_pool"] if stem_pool is None else stem_pool
    stride_in = defaults["stride_in"] if stride_in is None else stride_in
    dropout = defaults["dropout"] if dropout is None else dropout
    bn_momentum = defaults["bn_momentum"] if bn_momentum is None else bn_momentum
    torchvision = form == "torchvision"
    if multi_grid is None:
        multi_grid = (1, 1, 1) if torchvision else paper_multi_grid(backbone)
    normalisation = {"momentum": bn_momentum, "epsilon": bn_epsilon}

    image = image_input(input_shape, num_classes, filters=filters)
    if preprocessing is None:
        preprocessing = backbone_preprocessing(backbone, image.shape[-1])
    aux_feature = "c3_first" if mobilenet else "c4"
    features = build_features(
        backbone,
        preprocess(image, preprocessing),
        needs=(aux_feature, "c5") if aux else ("c5",),
        output_stride=output_stride,
        multi_grid=multi_grid,
        stem=stem,
        stem_pool=stem_pool,
        stride_in=stride_in,
        first_block_dilation="half" if torchvision else "full",
        filters=filters,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
    )
    initializer = uniform_fan_in if torchvision else he_fan_out
    x = layers.Identity(name="features")(features["c5"])
    x = aspp_v3(
        x,
        aspp_rates(rates, output_stride),
        4 * filters,
        dropout=dropout,
        initializer=initializer,
        **normalisation,
    )
    if torchvision:
        x = conv_bn_relu(x, 4 * filters, initializer=initializer, name="head", **normalisation)
    x = layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=uniform_fan_in() if torchvision else logits_initializer(),
        name="logits_low",
    )(x)
    outputs = resize_logits(x, image, align_corners=align_corners)
    if aux:
        aux = fcn_head(
            features[aux_feature],
            image,
            num_classes,
            features[aux_feature].shape[-1] // 4,
            align_corners=align_corners,
            name="aux",
            **normalisation,
        )
        outputs = {"logits": outputs, "aux": aux}
    model = keras.Model(image, outputs, name=name)
    if weights is not None:
        load_own(model, weights)
    return model


def paper_multi_grid(backbone):
    """The paper's factors for the three blocks of stage 5; all 1 where there are not three."""
    return (1, 1, 1) if backbone in OTHER_BLOCKS else (1, 2, 4)


def aspp_rates(rates, output_stride):
    """`rates` if given, else (6, 12, 18) at output stride 16 and in proportion at another one.

    Raises:
        ValueError: unless they are whole numbers of at least 1.
    """
    if rates is None:
        return tuple(rate * 16 // output_stride for rate in (6, 12, 18))
    return counts("rates", rates)


def logits_initializer():
    """N(0, 0.01), truncated: the last convolution of the authors' code."""
    return keras.initializers.TruncatedNormal(stddev=0.01)
