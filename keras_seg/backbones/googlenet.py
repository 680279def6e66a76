"""GoogLeNet (Inception v1) up to its last inception module, without the auxiliary classifiers.

Szegedy et al. "Going Deeper with Convolutions", CVPR 2015, arXiv 1409.4842, table 1; order, padding
and pools that round up as in BVLC/caffe's bvlc_googlenet. No batch normalisation.
5,973,552 parameters.

    layer                                                    channels   stride
    conv1_7x7_s2                                                   64   2
    pool1_3x3_s2, pool1_norm1, conv2_3x3_reduce, conv2_3x3        192   4
    conv2_norm2, pool2_3x3_s2, inception_3a, inception_3b         480   8
    pool3_3x3_s2, inception_4a .. inception_4e                    832   16
    pool4_3x3_s2, inception_5a, inception_5b                     1024   32
"""

from keras import layers

from keras_seg.layers import LocalResponseNormalization, max_pool_ceil
from keras_seg.utils import check_counts

# module: channels of 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj (table 1 of the paper).
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(image, *, filters=64, prefix=""):
    """Apply GoogLeNet's convolutions, normalisations, pools and inception modules.

    The first convolution has ceil(H / 2) rows; each pool then takes H to floor(H / 2).

    Args:
        image: tensor (N, H, W, C), normalised; H and W of at least 31.
        filters: channels of the first convolution; all others are multiples of it, rounded down,
            at least 1. 64 is the paper's network.
        prefix: put before every layer's name.

    Returns:
        dict of features. "c1".."c5" are the last maps of strides 2 to 32: conv1, conv2 after its
        normalisation, inception_3b, 4e and 5b, with 64, 192, 480, 832, 1024 channels. Every module
        is there by its name too: "inception_3a", ..., "inception_5b".
        Layers have Caffe's names with "_" for "/": `conv1_7x7_s2`, `inception_3a_3x3_reduce`, ...

    Raises:
        ValueError: if filters is not a whole number of at least 1.
    """
    check_counts(filters=filters)

    def convolution(x, channels, kernel_size, name, strides=1):
        padding = "same"
        if strides > 1:  # Keras' "same" would pad less before than after.
            x = layers.ZeroPadding2D(kernel_size // 2, name=f"{prefix}{name}_pad")(x)
            padding = "valid"
        x = layers.Conv2D(
            max(1, channels * filters // 64),
            kernel_size,
            strides=strides,
            padding=padding,
            kernel_initializer="he_normal",
            name=f"{prefix}{name}",
        )(x)
        return layers.ReLU(name=f"{prefix}{name}_relu")(x)

    def pool(x, name):
        return max_pool_ceil(x, name=f"{prefix}{name}_3x3_s2")

    def normalise(x, name):
        return LocalResponseNormalization(name=f"{prefix}{name}")(x)

    def inception(x, module):
        """Four branches side by side: 1x1, 3x3, 5x5, and a pool with a 1x1."""
        name = f"inception_{module}"
        width_1, reduce_3, width_3, reduce_5, width_5, width_pool = MODULES[module]
        pooled = layers.MaxPooling2D(3, strides=1, padding="same", name=f"{prefix}{name}_pool")(x)
        y3 = convolution(x, reduce_3, 1, f"{name}_3x3_reduce")
        y5 = convolution(x, reduce_5, 1, f"{name}_5x5_reduce")
        branches = [
            convolution(x, width_1, 1, f"{name}_1x1"),
            convolution(y3, width_3, 3, f"{name}_3x3"),
            convolution(y5, width_5, 5, f"{name}_5x5"),
            convolution(pooled, width_pool, 1, f"{name}_pool_proj"),
        ]
        return layers.Concatenate(name=f"{prefix}{name}_output")(branches)

    features = {}
    x = features["c1"] = convolution(image, 64, 7, "conv1_7x7_s2", strides=2)
    x = normalise(pool(x, "pool1"), "pool1_norm1")
    x = convolution(x, 64, 1, "conv2_3x3_reduce")
    x = convolution(x, 192, 3, "conv2_3x3")
    x = features["c2"] = normalise(x, "conv2_norm2")
    x = pool(x, "pool2")
    for module in MODULES:
        x = features[f"inception_{module}"] = inception(x, module)
        if module in ("3b", "4e", "5b"):
            features[f"c{module[0]}"] = x
        if module in ("3b", "4e"):
            x = pool(x, f"pool{module[0]}")
    return features
