"""FCN on a dilated residual network, as torchvision has it.

Long, Shelhamer, Darrell. "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015
(https://arxiv.org/abs/1411.4038), on the residual networks of He et al. (CVPR 2016) with strides
turned into dilation (Yu, Koltun, Funkhouser, CVPR 2017). The network has no paper of its own; the
reference is torchvision, `models/segmentation/fcn.py` and `models/resnet.py`.

    part      operations                                                    channels   stride
    stem      conv7x7/2, max-pool 3x3/2                                           64   4
    stage2    bottlenecks                                                        256   4
    stage3    bottlenecks, stride on the 3x3                                     512   8
    stage4    bottlenecks, dilation 1 in the first block, 2 in the others       1024   8
    stage5    bottlenecks, dilation 2 in the first block, 4 in the others       2048   8
    head      conv3x3, dropout 0.1                                               512   8
    logits    conv1x1 to num_classes, resize                                       K   1
    aux       on stage4, training only: conv3x3, dropout 0.1, conv1x1, resize  256, K  8, 1

    parameters (21 classes)   with aux         without
    resnet50                35,322,218      32,957,013
    resnet101               54,314,346      51,949,141

Every convolution but the last of a head has no bias, and batch normalisation and ReLU after it.

Faithful: all of the above; resizes with half-pixel centres; initialisation of trunk and heads.
Where we differ: other trunks and output strides may be named; a head is as wide as a quarter of
the features that it reads, which is torchvision's rule.
"""

import keras
from keras import layers

from keras_seg.backbones import backbone_preprocessing, build_features
from keras_seg.layers import fcn_head, image_input, preprocess
from keras_seg.weights import load_own


def FCNResNet(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="resnet50",
    output_stride=8,
    stem="7x7",
    filters=64,
    aux=False,
    dropout=0.1,
    align_corners=False,
    preprocessing=None,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="fcn_resnet",
):
    """Build torchvision's `fcn_resnet50` or `fcn_resnet101` as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works.
        backbone: "resnet50", "resnet101", ..., "keras:MobileNetV2" and the like, or a
            `keras.Model` or function from image to features with "c5" (and "c4" for `aux`); see
            `keras_seg.backbones.build_features`.
        output_stride: of the trunk: 8 (torchvision), 16 or 32.
        stem: of a residual trunk: "7x7" or "deep".
        filters: width of the trunk's first stage.
        aux: add the output "aux" from the last but one stage, for a second loss (weight 0.5).
        dropout: rate before the last convolution of each head.
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
        ValueError: for an unknown backbone or output stride, or a wrong number of classes.
    """
    image = image_input(input_shape, num_classes, filters=filters)
    if preprocessing is None:
        preprocessing = backbone_preprocessing(backbone, image.shape[-1])
    features = build_features(
        backbone,
        preprocess(image, preprocessing),
        needs=("c4", "c5") if aux else ("c5",),
        output_stride=output_stride,
        stem=stem,
        first_block_dilation="half",
        filters=filters,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
    )
    head = {
        "dropout": dropout,
        "align_corners": align_corners,
        "momentum": bn_momentum,
        "epsilon": bn_epsilon,
    }
    x = layers.Identity(name="features")(features["c5"])
    outputs = fcn_head(x, image, num_classes, x.shape[-1] // 4, **head)
    if aux:
        x = features["c4"]
        aux = fcn_head(x, image, num_classes, x.shape[-1] // 4, name="aux", **head)
        outputs = {"logits": outputs, "aux": aux}
    model = keras.Model(image, outputs, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
