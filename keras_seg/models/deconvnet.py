"""DeconvNet: VGG16 and its mirror image, from one vector back to every pixel.

Noh, Hong, Han. "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015.
https://arxiv.org/abs/1505.04366; layers as in the authors' HyeonwooNoh/DeconvNet.

    encoder    operations                    224x224   decoder      operations              224x224
    block1     conv3x3 64 twice, pool           112    fc6-deconv   deconv7x7 512                7
    block2     conv3x3 128 twice, pool           56    5            unpool, deconv3x3 512,      14
    block3     conv3x3 256 3 times, pool         28                 512, 512
    block4     conv3x3 512 3 times, pool         14    4            unpool, 512, 512, 256       28
    block5     conv3x3 512 3 times, pool          7    3            unpool, 256, 256, 128       56
    fc6        conv7x7 4096, no padding           1    2            unpool, 128, 64            112
    fc7        conv1x1 4096                       1    1            unpool, 64, 64             224
    logits     conv1x1 to num_classes

Every layer but the last is followed by batch normalisation and ReLU and has a bias as well. A
"deconv" is a transposed convolution of stride 1. 251,805,653 trainable parameters for 21 classes,
102.8 million each in fc6 and in fc6-deconv.

Faithful: the exact places of the maxima, of equal ones the first (`layers.MaxUnpooling2D`); no
dropout; decoder drawn from N(0, 0.01), shifts of 0.001.

Where we differ: the network was trained on crops of 224x224 around one object, for which fc6 sees
all and fc7 is one vector; here any image of at least 193 pixels works, and fc6 slides over a larger
one. This is the network alone. The paper's figures need 50 object proposals an image, each run by
itself, and the pixel-wise maximum of their scores. Caffe's normalisation has no moving averages:
the authors average the statistics of 500 batches before the test, here they are Keras' moving
averages.
"""

import keras
from keras import layers

from keras_seg.backbones import vgg16
from keras_seg.backbones.vgg import CONVOLUTIONS, WIDTHS
from keras_seg.layers import (
    BatchNormalization,
    MaxUnpooling2D,
    check_size,
    image_input,
    preprocess,
)
from keras_seg.weights import load_own

SMALLEST = 193  # the five pools leave the 7 rows that fc6 needs


def DeconvNet(
    num_classes,
    input_shape=(None, None, 3),
    *,
    filters=64,
    fc_channels=4096,
    preprocessing="caffe",
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="deconvnet",
):
    """Build DeconvNet as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size of at least 193 works; the paper's is
            224 (see the top of this file).
        filters: channels of the first block; the others are multiples of it.
        fc_channels: channels of fc6 and fc7; SegNet's paper compares with 1024.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
        bn_momentum, bn_epsilon: of every batch normalisation. On the 1x1 maps of fc6 and fc7 the
            statistics are those of the batch alone; the authors' has 64 images.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes).

    Raises:
        ValueError: for a wrong number of classes, or too small an image, also when the model is
            called.
    """

    def bn(name):
        shift = keras.initializers.Constant(0.001)
        return BatchNormalization(bn_momentum, bn_epsilon, beta_initializer=shift, name=name)

    def normalised(x, name):
        return layers.ReLU(name=f"{name}_relu")(bn(f"{name}_bn")(x))

    def fully_connected(x, kernel_size, name):
        x = layers.Conv2D(fc_channels, kernel_size, kernel_initializer="he_normal", name=name)(x)
        return normalised(x, name)

    def deconvolution(x, width, name, kernel_size=3, padding="same"):
        x = layers.Conv2DTranspose(
            width, kernel_size, padding=padding, kernel_initializer=narrow(), name=name
        )(x)
        return normalised(x, name)

    image = image_input(input_shape, num_classes, filters=filters, fc_channels=fc_channels)
    x = preprocess(check_size(image, SMALLEST), preprocessing)
    features = vgg16(x, filters=filters, bn=bn)
    x = fully_connected(features["pool5"], 7, "fc6")
    x = fully_connected(x, 1, "fc7")

    x = deconvolution(x, filters * WIDTHS[4], "fc6_deconv", 7, "valid")
    for block in range(5, 0, -1):
        count, width = CONVOLUTIONS[block - 1], filters * WIDTHS[block - 1]
        x = MaxUnpooling2D(name=f"unpool{block}")(x, features[f"conv{block}_{count}"])
        for i in range(1, count + 1):
            if i == count and block > 1:  # the last one has the width of the block above
                width = filters * WIDTHS[block - 2]
            x = deconvolution(x, width, f"deconv{block}_{i}")

    x = layers.Identity(name="features")(x)
    logits = layers.Conv2D(
        num_classes, 1, kernel_initializer=narrow(), dtype="float32", name="logits"
    )(x)
    model = keras.Model(image, logits, name=name)
    if weights is not None:
        load_own(model, weights)
    return model


def narrow():
    """N(0, 0.01), of everything behind fc7."""
    return keras.initializers.RandomNormal(stddev=0.01)
