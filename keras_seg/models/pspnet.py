"""PSPNet: pyramid scene parsing network.

Zhao, Shi, Qi, Wang, Jia. "Pyramid Scene Parsing Network", CVPR 2017.
https://arxiv.org/abs/1612.01105; details as in the authors' hszhao/semseg.

    part      operations                                                    channels   stride
    stem      three conv3x3 (the first with stride 2), max-pool 3x3/2            128   4
    stage2    bottlenecks                                                        256   4
    stage3    bottlenecks, stride on the 3x3                                     512   8
    stage4    bottlenecks, dilation 2 in every block                            1024   8
    stage5    bottlenecks, dilation 4 in every block                            2048   8
    ppm       averages over 1, 4, 9, 36 bins, conv1x1 to 512 each, resized,
              behind the features themselves                                    4096   8
    head      conv3x3, dropout 0.1                                               512   8
    logits    conv1x1 to num_classes, resize                                       K   1
    aux       on stage4, training only: conv3x3, dropout 0.1, conv1x1, resize  256, K  8, 1

    blocks: 50: 3 4 6 3   101: 3 4 23 3   152: 3 8 36 3   269: 3 30 48 8
    parameters (150 classes)  with aux         without
    resnet50                49,180,908      46,782,550   (21 classes: 46,716,373)
    resnet101               68,173,036      65,774,678
    resnet152               83,816,684      81,418,326
    resnet269              125,697,260     123,298,902

Every convolution but the last of a head has no bias, and batch normalisation and ReLU after it.

Faithful: stem, dilation, bins that overlap where they do not divide the map (as PyTorch's), both
resizes with align_corners, dropout of whole maps, initialisation of trunk and heads.
Where we differ: the reference accepts only sizes 8k + 1, on whose grid the resize to the image is
exact; here any size works. ResNet-269 was never released: its block counts are those of
ResNeSt-269, which add up to the depth.
"""

import keras
from keras import layers

from keras_seg.backbones import backbone_preprocessing, build_features
from keras_seg.layers import (
    fcn_head,
    image_input,
    preprocess,
    pyramid_pooling,
    uniform_fan_in,
)
from keras_seg.weights import load_own


def PSPNet(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="resnet50",
    output_stride=8,
    bins=(1, 2, 3, 6),
    filters=64,
    aux=False,
    dropout=0.1,
    align_corners=True,
    preprocessing=None,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="pspnet",
):
    """Build PSPNet as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works; the paper's are 8k + 1 whose
            features divide by 6: 473 and 713 (see the top of this file).
        backbone: "resnet50", "resnet101", ..., "keras:MobileNetV2" and the like, or a
            `keras.Model` or function from image to features with "c5" (and "c4" for `aux`); see
            `keras_seg.backbones.build_features`.
        output_stride: of the trunk: 8 (the paper), 16 or 32.
        bins: sides of the pooling grids, in the order of their maps. () leaves the pyramid out:
            the dilated FCN that the paper compares with (semseg: `use_ppm=False`).
        filters: width of the trunk's first stage. The head has 8 times, the auxiliary head 4 times
            as many channels, and the pyramid adds as many as the trunk has.
        aux: add the output "aux" from the last but one stage, for a second loss (weight 0.4).
        dropout: rate before the last convolution of each head; drops whole maps.
        align_corners: resize convention of the pyramid and of the logits.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
            Default: what the trunk was trained with where that is known: "imagenet" for our own,
            that of each network for "keras:...", "none" for a model that scales pixels itself
            (`keras_seg.backbones.backbone_preprocessing`); otherwise "imagenet".
        bn_momentum, bn_epsilon: of every batch normalisation; trunks other than ResNet, DRN and
            wide ResNet keep their own.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes); with `aux` to {"logits": ..., "aux": ...}, both of that shape.

    Raises:
        ValueError: for an unknown backbone or output stride, or a wrong number of classes.
    """
    normalisation = {"momentum": bn_momentum, "epsilon": bn_epsilon}

    image = image_input(input_shape, num_classes, filters=filters)
    if preprocessing is None:
        preprocessing = backbone_preprocessing(backbone, image.shape[-1])
    x = preprocess(image, preprocessing)
    features = build_features(
        backbone,
        x,
        needs=("c4", "c5") if aux else ("c5",),
        output_stride=output_stride,
        stem="deep",
        filters=filters,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
    )

    head = {
        "dropout": dropout,
        "dropout_layer": layers.SpatialDropout2D,
        "align_corners": align_corners,
        **normalisation,
    }
    x = layers.Identity(name="features")(features["c5"])
    if bins:
        x = pyramid_pooling(
            x, bins, align_corners=align_corners, initializer=uniform_fan_in, **normalisation
        )
    outputs = fcn_head(x, image, num_classes, 8 * filters, **head)
    if aux:
        aux = fcn_head(features["c4"], image, num_classes, 4 * filters, name="aux", **head)
        outputs = {"logits": outputs, "aux": aux}
    model = keras.Model(image, outputs, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
