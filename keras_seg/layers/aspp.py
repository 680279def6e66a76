"""The heads of DeepLab v1 and v2: dilated "fully connected" layers, and the sum of several."""

import keras
from keras import layers


def score_conv(x, num_classes, kernel_size=1, *, dilation_rate=1, name):
    """A convolution to the classes, drawn from N(0, 0.01) with bias 0 as DeepLab's last layers."""
    return layers.Conv2D(
        num_classes,
        kernel_size,
        padding="same",
        dilation_rate=dilation_rate,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        name=name,
    )(x)


def aspp_sum(x, num_classes, rates=(6, 12, 18, 24), *, name="aspp"):
    """Atrous spatial pyramid pooling of DeepLab v2 on ResNet (Chen et al. 2018, section 3.2).

    One 3x3 convolution straight to the classes for each dilation rate, with bias, and their sum:
    (N, H, W, C) -> (N, H, W, num_classes). Layers: `{name}_conv1`, ... in the order of `rates`,
    and `{name}` for the sum of several.
    """
    branches = [
        score_conv(x, num_classes, 3, dilation_rate=rate, name=f"{name}_conv{i}")
        for i, rate in enumerate(rates, start=1)
    ]
    return layers.Add(name=name)(branches) if len(branches) > 1 else branches[0]


def large_fov(x, filters=1024, kernel_size=3, dilation_rate=12, *, dropout=0.5, suffix=""):
    """VGG16's fc6 and fc7 as DeepLab has them: (N, H, W, C) -> (N, H, W, filters).

    fc6 looks at a `kernel_size` window with `dilation_rate`, fc7 at one position; each is followed
    by ReLU and dropout of single units (Chen et al. 2015, section 3.2). Layers: `fc6`, `fc6_relu`,
    `fc6_dropout`, `fc7`, ..., each with `suffix` after "fc6" or "fc7".
    """
    for name, size, rate in (("fc6", kernel_size, dilation_rate), ("fc7", 1, 1)):
        name = name + suffix
        x = layers.Conv2D(
            filters,
            size,
            padding="same",
            dilation_rate=rate,
            kernel_initializer="he_normal",
            name=name,
        )(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
    return x
