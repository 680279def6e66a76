"""Dilated convolutions: the front end and the context networks Dilation7, Dilation8, Dilation10.

Yu, Koltun. "Multi-Scale Context Aggregation by Dilated Convolutions", ICLR 2016.
https://arxiv.org/abs/1511.07122; layers as in the released fyu/dilation.

    front end: VGG16 without its last two pools          channels   900x900 tile   sees
    conv1_1, conv1_2, pool1                                    64   448            6
    conv2_1, conv2_2, pool2                                   128   222            16
    conv3_1..3, pool3                                         256   108            44
    conv4_1..3                                                512   102            92
    conv5_1..3   dilation 2                                   512   90             188
    fc6          conv7x7, dilation 4, dropout                4096   66             380 pixels
    fc7          conv1x1, dropout                            4096   66
    final        conv1x1                                        K   66

    context module, on the scores      dilations of its 3x3 convolutions      sees, in pixels
    Dilation7  (KITTI)                 1 1 2 4 8 1                            652
    Dilation8  (VOC, CamVid)           1 1 2 4 8 16 1                         908
    Dilation10 (Cityscapes)            1 1 2 4 8 16 32 64 1                   2,444
    then a conv1x1; ReLU after each but that

    trainable parameters
    DilatedFrontEnd, 21 classes                          134,346,581
    Dilation8, 21 classes                                141,149,720
    Dilation8, 21 classes, context="basic"               134,374,973
    Dilation8, 11 classes, context="basic" (CamVid)      134,313,443
    Dilation7, 11 classes (KITTI)                        134,312,343
    Dilation10, 19 classes                               134,368,179

Every convolution has a bias and none is normalised.

Faithful: no padding in the trunk, the image is mirrored by 186 pixels instead; both context
modules and their start at the identity; scores drawn from N(0, 0.001); the mean pixel of each data
set. Maps are enlarged by 8 as in the release: by bilinear interpolation that puts score i at pixel
8 i, in Dilation10 by a bilinear transposed convolution.

Where we differ: the release works on tiles and mirrors the last ones, here the image may have any
size and is mirrored until it fills whole cells of 8. It enlarges probabilities, except in
Dilation10; here all enlarge logits. The 4,864 fixed weights of Dilation10's transposed convolution
are not stored: a resize gives the same numbers. `padding="same"` is ours: zeros around every
convolution, less work (a 500x500 image: a third) and less exact near the border. With
`padding="valid"` the margin is part of the input, as in the deployed networks.
"""

import keras
from keras import layers

from keras_seg.backbones.vgg import CONVOLUTIONS, WIDTHS
from keras_seg.layers import (
    CropLike,
    ReflectMargin,
    Resize,
    check_size,
    context_module,
    image_input,
    preprocess,
)
from keras_seg.layers.context import FORMS
from keras_seg.utils import unknown_name
from keras_seg.weights import load_own

PADDINGS = ("reflect", "same", "valid")
MARGIN = 186  # of the input, beyond the pixels that the scores belong to
STRIDE = 8


def DilatedFrontEnd(
    num_classes,
    input_shape=(None, None, 3),
    *,
    padding="reflect",
    filters=64,
    fc_channels=4096,
    dropout=0.5,
    preprocessing="bgr-voc",
    weights=None,
    name="dilated_front_end",
):
    """Build the front end as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works, but with padding="valid" only
            372 + 8 n.
        padding: "reflect" (the authors': mirror the image, no padding behind), "same" (zeros
            around every convolution) or "valid" (the image brings its margin of 186 pixels).
        filters: channels of the first block; the others are multiples of it.
        fc_channels: channels of fc6 and fc7.
        dropout: rate after fc6 and fc7.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes); (N, H - 372, W - 372, num_classes) for padding="valid".

    Raises:
        ValueError: for an unknown padding, a wrong number of classes, or a size that
            padding="valid" cannot take, also when the model is called.
    """
    options = (padding, filters, fc_channels, dropout, preprocessing)
    return _dilated(num_classes, input_shape, options, None, weights, name)


def Dilation8(
    num_classes,
    input_shape=(None, None, 3),
    *,
    context="large",
    padding="reflect",
    filters=64,
    fc_channels=4096,
    dropout=0.5,
    preprocessing="bgr-voc",
    weights=None,
    name="dilation8",
):
    """Build the front end with a context module of 8 layers.

    Result and errors are those of `DilatedFrontEnd`, and a ValueError for an unknown context.

    Args:
        context: "large" (the network released for VOC) or "basic" (that for CamVid, to be used with
            preprocessing="bgr-camvid"), see `keras_seg.layers.context_module`.
        others: as of `DilatedFrontEnd`.
    """
    if context not in FORMS:
        raise unknown_name("context", context, FORMS)

    def module(scores):
        return context_module(scores, context, name="ct" if context == "large" else "ctx")

    options = (padding, filters, fc_channels, dropout, preprocessing)
    return _dilated(num_classes, input_shape, options, module, weights, name)


def Dilation7(
    num_classes,
    input_shape=(None, None, 3),
    *,
    padding="reflect",
    filters=64,
    fc_channels=4096,
    dropout=0.5,
    preprocessing="bgr-kitti",
    weights=None,
    name="dilation7",
):
    """Build the network for KITTI: with the basic context module, but without dilation 16.

    Arguments, result and errors are those of `DilatedFrontEnd`.
    """

    def module(scores):
        return context_module(scores, dilations=(1, 1, 2, 4, 8, 1))

    options = (padding, filters, fc_channels, dropout, preprocessing)
    return _dilated(num_classes, input_shape, options, module, weights, name)


def Dilation10(
    num_classes,
    input_shape=(None, None, 3),
    *,
    padding="reflect",
    filters=64,
    fc_channels=4096,
    dropout=0.5,
    preprocessing="bgr-cityscapes",
    weights=None,
    name="dilation10",
):
    """Build the network for Cityscapes: with the basic context module, and dilations 32 and 64.

    Arguments, result and errors are those of `DilatedFrontEnd`.
    """

    def module(scores):
        return context_module(scores, dilations=(1, 1, 2, 4, 8, 16, 32, 64, 1))

    options = (padding, filters, fc_channels, dropout, preprocessing)
    return _dilated(num_classes, input_shape, options, module, weights, name, transposed=True)


def _dilated(num_classes, input_shape, options, module, weights, name, transposed=False):
    """Front end, `module` from scores to scores, enlargement (`transposed`: as in Dilation10)."""
    padding, filters, fc_channels, dropout, preprocessing = options
    if padding not in PADDINGS:
        raise unknown_name("padding", padding, PADDINGS)
    inner = "same" if padding == "same" else "valid"

    def convolution(x, width, kernel_size, dilation, name):
        x = layers.Conv2D(
            width,
            kernel_size,
            padding=inner,
            dilation_rate=dilation,
            kernel_initializer="he_normal",
            name=name,
        )(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    image = x = image_input(input_shape, num_classes, filters=filters, fc_channels=fc_channels)
    if padding == "valid":
        x = check_size(x, 2 * MARGIN + STRIDE, STRIDE)
    x = preprocess(x, preprocessing)
    if padding == "reflect":
        x = ReflectMargin(MARGIN, STRIDE, name="margin")(x)

    for block, (count, width) in enumerate(zip(CONVOLUTIONS, WIDTHS, strict=True), start=1):
        for i in range(1, count + 1):
            x = convolution(x, filters * width, 3, 2 if block == 5 else 1, f"conv{block}_{i}")
        if block <= 3:
            x = layers.MaxPooling2D(2, padding=inner, name=f"pool{block}")(x)
    for fc, kernel_size, dilation in (("fc6", 7, 4), ("fc7", 1, 1)):
        x = convolution(x, fc_channels, kernel_size, dilation, fc)
        if dropout:
            x = layers.Dropout(dropout, name=f"{fc}_dropout")(x)
    x = layers.Identity(name="features")(x)
    x = layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
        name="final",
    )(x)
    if module is not None:
        x = module(x)
    x = layers.Identity(name="logits_low")(x)

    # With a zero around, half-pixel interpolation is the bilinear transposed convolution of kernel
    # 16, and the enlarged zeros are cut off.
    if transposed:
        x = layers.ZeroPadding2D(1, name="upsample_pad")(x)
    x = Resize(scale=STRIDE, half_pixel=transposed, dtype="float32", name="upsample")(x)
    border = STRIDE if transposed else 0
    if padding == "valid":
        logits = layers.Cropping2D(border, dtype="float32", name="logits")(x)
    else:
        logits = CropLike(border, dtype="float32", name="logits")(x, image)
    model = keras.Model(image, logits, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
