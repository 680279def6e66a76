"""Atrous spatial pyramid pooling of DeepLab v3 and v3+."""

from keras import layers

from keras_seg.layers.normalization import conv_bn_relu, he_fan_out
from keras_seg.layers.pooling import AdaptiveAveragePooling2D
from keras_seg.layers.resize import Resize


def aspp_v3(
    x,
    rates=(6, 12, 18),
    filters=256,
    *,
    convolution=conv_bn_relu,
    dropout=0.0,
    momentum=0.9,
    epsilon=1e-5,
    initializer=he_fan_out,
):
    """ASPP with image pooling (Chen et al. 2017, section 3.3): (N, H, W, C) -> (N, H, W, filters).

    Side by side on x: a 1x1 convolution, a 3x3 one of each rate, and the average of the whole map
    behind a 1x1 convolution, spread over the map again. Their maps one behind the other go through
    a 1x1 convolution, then dropout. Every convolution has no bias, and normalisation and ReLU.

    In training the image pooling normalises one number an image and channel: with one image in the
    whole batch it learns nothing.

    Args:
        x: features (N, H, W, C).
        rates: dilation of each 3x3 convolution.
        filters: channels of each branch and of the result.
        convolution: what a 3x3 convolution is: `conv_bn_relu` or `separable_conv_bn_relu`, or a
            function with their arguments.
        dropout: rate behind the last convolution, of single values.
        momentum, epsilon, initializer: as in `conv_bn_relu`.

    Layers: `aspp0_*` (1x1), `aspp1_*` and so on (the rates), `aspp_pool`, `aspp_pool_conv`, ...,
    `aspp_pool_resize`, `aspp` (all branches), `aspp_project_*`, `aspp_dropout`.
    """
    options = {"momentum": momentum, "epsilon": epsilon, "initializer": initializer}
    branches = [conv_bn_relu(x, filters, 1, name="aspp0", **options)]
    for i, rate in enumerate(rates, start=1):
        branches.append(convolution(x, filters, 3, dilation_rate=rate, name=f"aspp{i}", **options))
    pooled = AdaptiveAveragePooling2D(1, name="aspp_pool")(x)  # (N, 1, 1, C)
    pooled = conv_bn_relu(pooled, filters, 1, name="aspp_pool", **options)
    branches.append(Resize(name="aspp_pool_resize")(pooled, x))
    y = layers.Concatenate(name="aspp")(branches)
    y = conv_bn_relu(y, filters, 1, name="aspp_project", **options)
    return layers.Dropout(dropout, name="aspp_dropout")(y) if dropout else y
