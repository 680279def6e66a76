"""AlexNet without its fully connected layers, in the order of Caffe's reference network.

Krizhevsky, Sutskever, Hinton. "ImageNet Classification with Deep Convolutional Neural Networks",
NIPS 2012; pools before the normalisations as in BVLC/caffe's bvlc_reference_caffenet, the trunk of
voc-fcn-alexnet and of R-CNN. 2,334,080 parameters.

    layer                                         channels   stride
    conv1   11x11, stride 4, ReLU                       96   4
    pool1   3x3/2, norm1                                96   8
    conv2   5x5 in 2 groups, ReLU                      256   8
    pool2   3x3/2, norm2                               256   16
    conv3   3x3, ReLU                                  384   16
    conv4   3x3 in 2 groups, ReLU                      384   16
    conv5   3x3 in 2 groups, ReLU                      256   16
    pool5   3x3/2                                      256   32
"""

from keras import layers

from keras_seg.layers import GroupedConv2D, LocalResponseNormalization, max_pool_ceil
from keras_seg.utils import check_counts, is_count


def alexnet(image, *, filters=64, first_padding=5, prefix=""):
    """Apply AlexNet's convolutions, normalisations and pools.

    Pools have no padding and round up, as Caffe's do: each takes H to floor(H / 2).

    Args:
        image: tensor (N, H, W, C), normalised.
        filters: a multiple of 4; the first convolution has 1.5 times, the others have 4, 6, 6 and
            4 times as many channels. 64 is the paper's network.
        first_padding: zeros around the image: with 5 the first convolution has ceil(H / 4) rows;
            Caffe's classifier has 0, FCN 100.
        prefix: put before every layer's name.

    Returns:
        dict of features. "c2".."c5" are the last maps of strides 4 to 32: conv1, conv2, conv5
        (after the ReLU) and pool5. All are there by Caffe's names too: "conv1", "pool1", "conv2",
        "pool2", "conv3", "conv4", "conv5", "pool5"; pools before their normalisation.
        Layers: `conv1`, `relu1`, `pool1`, `norm1`, ..., `pool5`.

    Raises:
        ValueError: if filters is not a multiple of 4, or first_padding a negative one.
    """
    if not is_count(filters) or filters % 4:
        raise ValueError(f"filters must be a multiple of 4, got {filters!r}.")
    check_counts(least=0, first_padding=first_padding)
    features = {}

    def convolution(x, index, channels, kernel_size, strides=1, groups=1):
        kind = layers.Conv2D if groups == 1 else GroupedConv2D
        x = kind(
            channels,
            kernel_size,
            strides=strides,
            padding="same" if strides == 1 else "valid",
            groups=groups,
            kernel_initializer="he_normal",
            name=f"{prefix}conv{index}",
        )(x)
        x = features[f"conv{index}"] = layers.ReLU(name=f"{prefix}relu{index}")(x)
        return x

    def pool(x, index):
        x = features[f"pool{index}"] = max_pool_ceil(x, name=f"{prefix}pool{index}")
        return x

    x = image
    if first_padding:
        x = layers.ZeroPadding2D(first_padding, name=f"{prefix}conv1_pad")(x)
    x = pool(convolution(x, 1, 3 * filters // 2, 11, strides=4), 1)
    x = LocalResponseNormalization(name=f"{prefix}norm1")(x)
    x = pool(convolution(x, 2, 4 * filters, 5, groups=2), 2)
    x = LocalResponseNormalization(name=f"{prefix}norm2")(x)
    x = convolution(x, 3, 6 * filters, 3)
    x = convolution(x, 4, 6 * filters, 3, groups=2)
    pool(convolution(x, 5, 4 * filters, 3, groups=2), 5)
    last = {"c2": "conv1", "c3": "conv2", "c4": "conv5", "c5": "pool5"}
    return {**{tap: features[name] for tap, name in last.items()}, **features}
