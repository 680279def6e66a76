"""MobileNetV3-Large with symmetric padding, as torchvision has it.

Howard et al. "Searching for MobileNetV3", ICCV 2019, arXiv 1905.02244, table 1. The reference is
torchvision, `models/mobilenetv3.py`; `keras.applications` pads otherwise at even sizes, so that the
weights of one do not compute the same in the other.

    part      kernel   expanded                  out   squeeze   activation   stride
    stem      3                                   16             h-swish      2
    block1    3        16                         16             ReLU         2
    2 3       3        64, 72                     24             ReLU         4 (c2)
    4 5 6     5        72, 120, 120               40   yes       ReLU         8 (c3)
    7 to 10   3        240, 200, 184, 184         80             h-swish      16
    11 12     3        480, 672                  112   yes       h-swish      16 (c4)
    13 to 15  5        672, 960, 960             160   yes       h-swish      32
    last      1                                  960             h-swish      32 (c5)

A block is conv1x1 to the expanded width, depthwise convolution, squeeze and excitation, conv1x1
without activation, and the sum with its input where size and channels agree. 2,971,952 parameters
without batch-normalisation statistics.
"""

from keras import layers

from keras_seg.layers import AdaptiveAveragePooling2D, batch_norm, conv, he_fan_out
from keras_seg.utils import check_counts

# Of each block: kernel size, expanded channels, channels, squeeze and excitation, activation,
# stride.
BLOCKS = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hard_swish", 2),
    (3, 200, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 480, 112, True, "hard_swish", 1),
    (3, 672, 112, True, "hard_swish", 1),
    (5, 672, 160, True, "hard_swish", 2),
    (5, 960, 160, True, "hard_swish", 1),
    (5, 960, 160, True, "hard_swish", 1),
)
STEM, LAST = 16, 960
# Blocks whose output is the last of its stride.
TAPS = {1: "c1", 3: "c2", 6: "c3", 12: "c4"}


def mobilenet_v3(image, *, output_stride=32, filters=64, prefix=""):
    """Apply MobileNetV3-Large without its classifier.

    Args:
        image: tensor (N, H, W, C), normalised.
        output_stride: 8, 16 or 32. A stride beyond it becomes dilation of the depthwise
            convolutions of its block and of all that follow.
        filters: 64 for the published widths; others are in proportion to it, in multiples of 8.
        prefix: put before every layer's name.

    Returns:
        dict "c1".."c5" of nominal strides 2, 4, 8, 16, 32 (not beyond `output_stride`), and
        "c3_first", the output of the first block of stride 8. Batch normalisation has torchvision's
        momentum (Keras' 0.99) and epsilon (0.001). Layers are `stem_conv`, `stem_bn`,
        `block2_expand_conv`, `block2_depthwise_conv`, `block4_squeeze_conv`,
        `block4_excite_conv`, `block2_project_conv`, `..._bn`, ..., `last_conv`, `last_bn`.

    Raises:
        ValueError: for another output stride, or `filters` below 1.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride!r}.")
    check_counts(filters=filters)

    def wide(channels):
        return _multiple_of_8(channels * filters / 64)

    def finish(x, name, activation):
        x = batch_norm(f"{prefix}{name}_bn", momentum=0.99, epsilon=0.001)(x)
        return layers.Activation(activation, name=f"{prefix}{name}_{activation}")(x)

    x = conv(image, wide(STEM), strides=2, name=f"{prefix}stem_conv")
    x = finish(x, "stem", "hard_swish")
    features = {}
    stride, dilation = 2, 1
    for number, row in enumerate(BLOCKS, start=1):
        kernel_size, expanded, channels, squeeze, activation, strides = row
        if stride * strides > output_stride:
            dilation, strides = dilation * strides, 1
        stride *= strides
        name = f"block{number}"
        y = x
        if wide(expanded) != x.shape[-1]:
            y = conv(y, wide(expanded), 1, name=f"{prefix}{name}_expand_conv")
            y = finish(y, f"{name}_expand", activation)
        y = _depthwise(y, kernel_size, strides, dilation, f"{prefix}{name}_depthwise_conv")
        y = finish(y, f"{name}_depthwise", activation)
        if squeeze:
            y = _squeeze_and_excite(y, f"{prefix}{name}")
        y = conv(y, wide(channels), 1, name=f"{prefix}{name}_project_conv")
        y = batch_norm(f"{prefix}{name}_project_bn", momentum=0.99, epsilon=0.001)(y)
        # By the table, not by `strides`: a block whose stride became dilation has no sum.
        if row[-1] == 1 and y.shape[-1] == x.shape[-1]:
            y = layers.Add(name=f"{prefix}{name}_add")([x, y])
        x = y
        if number == 4:
            features["c3_first"] = x
        if number in TAPS:
            features[TAPS[number]] = x
    x = conv(x, wide(LAST), 1, name=f"{prefix}last_conv")
    features["c5"] = finish(x, "last", "hard_swish")
    return features


def _depthwise(x, kernel_size, strides, dilation_rate, name):
    """A depthwise convolution with symmetric padding."""
    padding = "same"
    if strides > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    return layers.DepthwiseConv2D(
        kernel_size,
        strides=strides,
        padding=padding,
        dilation_rate=dilation_rate,
        use_bias=False,
        depthwise_initializer=he_fan_out(),
        name=name,
    )(x)


def _squeeze_and_excite(x, name):
    """x times a factor for each channel, which all of the map decides."""
    channels = x.shape[-1]
    y = AdaptiveAveragePooling2D(1, name=f"{name}_pool")(x)
    y = conv(y, _multiple_of_8(channels // 4), 1, use_bias=True, name=f"{name}_squeeze_conv")
    y = layers.ReLU(name=f"{name}_squeeze_relu")(y)
    y = conv(y, channels, 1, use_bias=True, name=f"{name}_excite_conv")
    y = layers.Activation("hard_sigmoid", name=f"{name}_excite_hard_sigmoid")(y)
    return layers.Multiply(name=f"{name}_scale")([x, y])


def _multiple_of_8(channels):
    """The nearest multiple of 8, at least 8, that is not more than a tenth below."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8
