"""ResNet-38: a wide, shallow residual network with a head of two dilated convolutions.

Wu, Shen, van den Hengel. "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition",
arXiv 2016. https://arxiv.org/abs/1611.10080; details as in the authors' itijyou/ademxapp.

    level        blocks of BN, ReLU, convolution     channels              stride   dilation
    1            conv3x3 alone                       64                         1   1
    2            3 x (3x3, 3x3)                      128, 128                   2   1
    3            3 x (3x3, 3x3)                      256, 256                   4   1
    4            6 x (3x3, 3x3)                      512, 512                   8   1
    5            3 x (3x3, 3x3)                      512, 1024                  8   1 then 2, 2
    6            1 x (1x1, 3x3, 1x1), dropout 0.3    512, 1024, 2048            8   4
    7            1 x (1x1, 3x3, 1x1), dropout 0.5    1024, 2048, 4096           8   4
    end          BN, ReLU                            4096                       8
    segmenter    conv3x3, ReLU; conv3x3; resize      512, K                     8   12
    classifier   global average, fully connected     K                         32   none

    The three forms differ in what halves a map (see `keras_seg.backbones.wide_resnet`) and have the
    same weights. A, with pools only, is the first classifier; A1 and A2 are tuned from it, and the
    published segmenters are these.

    parameters             classes
    trunk                             105,070,912
    classifier                1000    109,167,912
    segmenter                   19    124,033,363
    segmenter                   21    124,042,581
    segmenter                  150    124,637,142

Faithful: forms, pre-activation with projections from the normalised input, dilation (the first
convolution of level 5 keeps 1), dropout of single units before the last convolution of levels 6 and
7, epsilon, head without normalisation, initialisation.
Where we differ: the authors train the head on labels thinned to stride 8 and resize probabilities
bicubically afterwards; here logits are resized to the image (bilinearly, half-pixel centres) and
the loss sees every pixel. They keep the BN statistics of ImageNet while the segmenter learns; here
BN learns as usual. The classifier has no dropout unless asked for.
"""

import keras
from keras import layers

from keras_seg.backbones import wide_resnet
from keras_seg.layers import classify, conv, he_fan_in, image_input, preprocess, resize_logits
from keras_seg.utils import unknown_name
from keras_seg.weights import load_own

TASKS = ("segmentation", "classification")


def ResNet38(
    num_classes,
    input_shape=(None, None, 3),
    *,
    form="A1",
    task="segmentation",
    blocks=(3, 3, 6, 3, 1, 1),
    output_stride=None,
    activation="relu",
    first_block_dilation="half",
    dropout=None,
    filters=64,
    align_corners=False,
    preprocessing="imagenet",
    bn_momentum=0.9,
    bn_epsilon=1.001e-5,
    weights=None,
    name="resnet38",
):
    """Build ResNet-38 as a functional model.

    For the trunks of mapillary/inplace_abn: `activation="leaky_relu"`,
    `first_block_dilation="full"`, `bn_epsilon=1e-5`.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works.
        form: "A", "A1" or "A2". "A" cannot be dilated: for segmentation it needs output_stride=32.
        task: "segmentation" or "classification".
        blocks: in each of levels 2 to 7.
        output_stride: of the trunk: 8, 16 or 32. Default 8 for segmentation, 32 for classification.
        activation: "relu", or "leaky_relu" with slope 0.01.
        first_block_dilation: "half" or "full", see `keras_seg.backbones.wide_resnet`.
        dropout: the two rates before the last convolution of levels 6 and 7. Default (0.3, 0.5)
            for segmentation, (0, 0) for classification.
        filters: channels of level 1; the head has 8 times as many.
        align_corners: resize convention of the logits.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
        bn_momentum, bn_epsilon: of every batch normalisation.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes); (N, num_classes) for classification.

    Raises:
        ValueError: for an unknown form, task, activation or dilation, an output stride that the
            form cannot have, or a wrong number of classes, blocks or rates.
    """
    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    segmenter = task == "segmentation"
    if output_stride is None:
        output_stride = 8 if segmenter else 32
    if dropout is None:
        dropout = (0.3, 0.5) if segmenter else (0.0, 0.0)

    image = image_input(input_shape, num_classes, filters=filters)
    features = wide_resnet(
        preprocess(image, preprocessing),
        form,
        blocks=blocks,
        output_stride=output_stride,
        activation=activation,
        first_block_dilation=first_block_dilation,
        dropout=dropout,
        filters=filters,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
    )
    x = layers.Identity(name="features")(features["c5"])
    if segmenter:
        head = {"dilation_rate": 12, "use_bias": True, "initializer": he_fan_in}
        x = conv(x, 8 * filters, **head, name="head_conv")
        x = layers.ReLU(name="head_relu")(x)
        x = conv(x, num_classes, **head, name="logits_low")
        logits = resize_logits(x, image, align_corners=align_corners)
    else:
        logits = classify(x, num_classes, he_fan_in())
    model = keras.Model(image, logits, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
