"""SegNet and SegNet-Basic: decoders that up-sample by the places of the encoder's maxima.

Badrinarayanan, Kendall, Cipolla. "SegNet: A Deep Convolutional Encoder-Decoder Architecture for
Image Segmentation", TPAMI 2017. https://arxiv.org/abs/1511.00561; layers as in the authors'
alexgkendall/SegNet-Tutorial (segnet_train, segnet_basic_train). Bayesian SegNet: Kendall,
Badrinarayanan, Cipolla, BMVC 2017, https://arxiv.org/abs/1511.02680.

    SegNet   operations                                          channels   360x480 image
    block1   conv3x3 twice, pool 2x2                                   64   180x240
    block2   conv3x3 twice, pool                                      128    90x120
    block3   conv3x3 three times, pool                                256    45x60
    block4   conv3x3 three times, pool                                512    23x30
    block5   conv3x3 three times, pool                                512    12x15
    5_D      unpool to the size before pool5, conv5_3_D, 5_2_D, 5_1_D 512    23x30
    4_D      unpool, conv4_3_D, 4_2_D 512; 4_1_D                      256    45x60
    3_D      unpool, conv3_3_D, 3_2_D 256; 3_1_D                      128    90x120
    2_D      unpool, conv2_2_D 128; 2_1_D                              64   180x240
    1_D      unpool, conv1_2_D                                         64   360x480
    logits   conv3x3 (conv1_1_D), nothing after it                      K   360x480

    SegNet-Basic
    encoder  local response normalisation; 4 times conv7x7, pool       64    23x30
    decoder  4 times unpool, conv7x7 (no ReLU)                         64   360x480
    logits   conv1x1                                                    K   360x480

    trainable parameters       11 classes   12 classes   21 classes   37 classes
    SegNet                     29,449,355   29,449,932   29,455,125   29,464,357
      use_bias=False           29,441,419                29,447,189
    SegNetBasic                 1,416,587                 1,417,237
      use_bias=False            1,416,075

Every convolution but the last has a bias, and batch normalisation and ReLU after it.

Faithful: the exact places of the maxima, of equal ones the first (`layers.MaxUnpooling2D`);
poolings that round up; the last convolution of a decoder block reduces the channels; He
initialisation and shifts of 0.001; pixels 0..255 in the order BGR without a mean, as the released
networks take them; dropout of Bayesian SegNet after pool3 to pool5 (Basic: pool3, pool4) and after
the decoder blocks of the same levels.

Where we differ: Caffe's normalisation has no moving averages, so the authors compute the statistics
for the test in a pass of its own; here they are Keras' moving averages. The paper's text says that
SegNet-Basic has no biases after convolutions and that images are normalised by local contrast; the
released networks have biases, and Basic normalises by local response. `use_bias` and `input_norm`
give either.
"""

import keras
from keras import layers

from keras_seg.backbones.vgg import CONVOLUTIONS, WIDTHS
from keras_seg.layers import (
    BatchNormalization,
    LocalContrastNormalization,
    LocalResponseNormalization,
    MaxUnpooling2D,
    MonteCarloDropout,
    image_input,
    preprocess,
)
from keras_seg.utils import unknown_name
from keras_seg.weights import load_own

INPUT_NORMS = {"lrn": LocalResponseNormalization, "lcn": LocalContrastNormalization}


def SegNet(
    num_classes,
    input_shape=(None, None, 3),
    *,
    filters=64,
    use_bias=True,
    input_norm=None,
    dropout=0.0,
    monte_carlo=False,
    preprocessing="bgr",
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="segnet",
):
    """Build SegNet as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works.
        filters: channels of the first block; the others are multiples of it.
        use_bias: whether the convolutions before a batch normalisation have a bias.
        input_norm: of the preprocessed image: None, "lrn" (local response, the released Basic
            network) or "lcn" (local contrast, the paper).
        dropout: rate; 0.5 is Bayesian SegNet, 0 leaves the layers out.
        monte_carlo: dropout stays active outside training. Each call or `predict` is then one
            sample; the mean of the softmax of some 40 is the prediction, their variance its
            uncertainty. The weights of the network that was trained without it fit.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
        bn_momentum, bn_epsilon: of every batch normalisation.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes).

    Raises:
        ValueError: for an unknown input_norm, monte_carlo without dropout, or a wrong number of
            classes.
    """
    convolution, drop = _parts(3, use_bias, dropout, monte_carlo, bn_momentum, bn_epsilon)
    image = image_input(input_shape, num_classes, filters=filters)
    x = _normalised(image, preprocessing, input_norm)

    before_pool = {}
    for block in range(1, 6):
        for i in range(1, CONVOLUTIONS[block - 1] + 1):
            x = convolution(x, filters * WIDTHS[block - 1], f"{block}_{i}")
        before_pool[block] = x
        x = layers.MaxPooling2D(2, padding="same", name=f"pool{block}")(x)
        if block >= 3:
            x = drop(x, f"encdrop{block}")

    for block in range(5, 0, -1):
        x = MaxUnpooling2D(name=f"upsample{block}")(x, before_pool[block])
        for i in range(CONVOLUTIONS[block - 1], 1, -1):
            x = convolution(x, filters * WIDTHS[block - 1], f"{block}_{i}_D")
        if block > 1:  # conv1_1_D is the classifier
            x = convolution(x, filters * WIDTHS[block - 2], f"{block}_1_D")
        if block >= 3:
            x = drop(x, f"decdrop{block}")
    return _classified(image, x, num_classes, 3, weights, name)


def SegNetBasic(
    num_classes,
    input_shape=(None, None, 3),
    *,
    filters=64,
    use_bias=True,
    input_norm="lrn",
    dropout=0.0,
    monte_carlo=False,
    preprocessing="bgr",
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="segnet_basic",
):
    """Build SegNet-Basic: four 7x7 convolutions, and `filters` channels throughout.

    Arguments, result and errors are those of `SegNet`; `input_norm` is "lrn" by default.
    """
    convolution, drop = _parts(7, use_bias, dropout, monte_carlo, bn_momentum, bn_epsilon)
    image = image_input(input_shape, num_classes, filters=filters)
    x = _normalised(image, preprocessing, input_norm)

    before_pool = {}
    for block in range(1, 5):
        x = before_pool[block] = convolution(x, filters, f"{block}")
        x = layers.MaxPooling2D(2, padding="same", name=f"pool{block}")(x)
        if block >= 3:
            x = drop(x, f"encdrop{block}")

    for block in range(4, 0, -1):
        x = MaxUnpooling2D(name=f"upsample{block}")(x, before_pool[block])
        x = convolution(x, filters, f"_decode{block}", relu=False)
        if block >= 3:
            x = drop(x, f"decdrop{block}")
    return _classified(image, x, num_classes, 1, weights, name)


def _parts(kernel_size, use_bias, dropout, monte_carlo, bn_momentum, bn_epsilon):
    """What both networks are made of: the functions convolution(x, width, name) and drop(x, name).

    Layers are "conv" + name, "bn" + name and "relu" + name.
    """
    if monte_carlo and not dropout:
        raise ValueError("monte_carlo=True needs a dropout rate; Bayesian SegNet has dropout=0.5.")

    def convolution(x, width, name, relu=True):
        x = layers.Conv2D(
            width,
            kernel_size,
            padding="same",
            use_bias=use_bias,
            kernel_initializer="he_normal",
            name=f"conv{name}",
        )(x)
        x = BatchNormalization(
            bn_momentum,
            bn_epsilon,
            beta_initializer=keras.initializers.Constant(0.001),
            name=f"bn{name}",
        )(x)
        return layers.ReLU(name=f"relu{name}")(x) if relu else x

    def drop(x, name):
        kind = MonteCarloDropout if monte_carlo else layers.Dropout
        return kind(dropout, name=name)(x) if dropout else x

    return convolution, drop


def _normalised(image, preprocessing, input_norm):
    if input_norm is not None and input_norm not in INPUT_NORMS:
        raise unknown_name("input_norm", input_norm, INPUT_NORMS)
    x = preprocess(image, preprocessing)
    if input_norm is None:
        return x
    return INPUT_NORMS[input_norm](dtype="float32", name="input_norm")(x)


def _classified(image, x, num_classes, kernel_size, weights, name):
    x = layers.Identity(name="features")(x)
    logits = layers.Conv2D(
        num_classes,
        kernel_size,
        padding="same",
        kernel_initializer="he_normal",
        dtype="float32",
        name="logits",
    )(x)
    model = keras.Model(image, logits, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
