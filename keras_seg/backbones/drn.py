"""Dilated residual networks: trunks that never leave stride 8.

Yu, Koltun, Funkhouser. "Dilated Residual Networks", CVPR 2017, arXiv 1705.09914; DRN-D, which the
paper does not have, as in the authors' fyu/drn.

    level   operations (B, C; D)                             stride   dilation   channels
    0       conv7x7                                          1        1            16
    1       a basic block; a conv3x3                         1        1            16
    2       a basic block; a conv3x3                         2        1            32
    3       residual blocks                                  4        1            64 (or 256)
    4       residual blocks                                  8        1           128 (or 512)
    5       residual blocks                                  8        2           256 (or 1024)
    6       residual blocks                                  8        4           512 (or 2048)
    7       a basic block (C: no skip); conv3x3              8        2           512
    8       the same                                         8        1           512

The wider ones are those of bottlenecks. DRN-A is a ResNet (7x7 stem, max-pool) with dilation 2 and
4 in its last two stages. B takes the pool away, whose spikes the dilated convolutions turn into
grids, and appends levels 7 and 8; C takes away the skip of these two, which carries the grids past
them.
"""

from keras import layers

from keras_seg.backbones.resnet import conv_bn, residual_block, resnet
from keras_seg.utils import is_count, unknown_name

# Depth of DRN-A's ResNet.
DEPTHS = {"A-18": 18, "A-34": 34, "A-50": 50}

# DRN-B, C, D: blocks of levels 3 to 6, whether they are basic ones, and how many convolutions
# levels 7 and 8 have.
LEVELS = {
    "B-26": ((2, 2, 2, 2), True, 2),
    "C-26": ((2, 2, 2, 2), True, 2),
    "C-42": ((3, 4, 6, 3), True, 2),
    "C-58": ((3, 4, 6, 3), False, 2),
    "D-22": ((2, 2, 2, 2), True, 1),
    "D-24": ((2, 2, 2, 2), True, 2),
    "D-38": ((3, 4, 6, 3), True, 1),
    "D-40": ((3, 4, 6, 3), True, 2),
    "D-54": ((3, 4, 6, 3), False, 1),
    "D-56": ((3, 4, 6, 3), False, 2),
    "D-105": ((3, 4, 23, 3), False, 1),
    "D-107": ((3, 4, 23, 3), False, 2),
}
VARIANTS = (*DEPTHS, *LEVELS)


def drn(
    image,
    variant="C-26",
    *,
    first_block_dilation="code",
    filters=64,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    prefix="",
):
    """Apply a dilated residual network without its classifier. All padding is symmetric.

    Args:
        image: tensor (N, H, W, C), normalised.
        variant: one of `VARIANTS`: the family and the depth, such as "C-26".
        first_block_dilation: DRN-A only, dilation of the first block of the last two stages:
            "code" (1 and 1: fyu/drn, to whose weights it belongs) or "paper" (1 and 2).
        filters: channels of the 3x3 convolutions in the first stage of residual blocks (level 3;
            DRN-A: stage 2), a multiple of 4. The other levels are multiples of it, or a half and
            a quarter.
        bn_momentum, bn_epsilon: of every batch normalisation (Keras' momentum).
        prefix: put before every layer's name.

    Returns:
        dict "c1".."c5" of strides 2, 4, 8, 8, 8: levels 2, 3, 4, 5 and 8. Layers are
        `level0_conv1`, `level0_bn1`, `level3_block1_conv1`, `level3_block1_shortcut_conv`,
        `level3_block1_out`, ...; DRN-A has all as in `resnet`.

    Raises:
        ValueError: for a value not listed above.
    """
    if variant not in VARIANTS:
        raise unknown_name("variant of DRN", variant, VARIANTS)
    dilations = {"code": "none", "paper": "half"}
    if first_block_dilation not in dilations:
        raise unknown_name("first_block_dilation", first_block_dilation, dilations)
    if not is_count(filters) or filters % 4:
        raise ValueError(f"filters must be a multiple of 4, got {filters!r}.")
    normalisation = {"bn_momentum": bn_momentum, "bn_epsilon": bn_epsilon}
    if variant in DEPTHS:
        return resnet(
            image,
            DEPTHS[variant],
            output_stride=8,
            first_block_dilation=dilations[first_block_dilation],
            filters=filters,
            prefix=prefix,
            **normalisation,
        )
    if first_block_dilation != "code":
        raise ValueError(
            f"first_block_dilation={first_block_dilation!r} is a matter of DRN-A only; "
            f"DRN-{variant} has one dilation in all blocks of a level."
        )
    blocks, basic, last_convolutions = LEVELS[variant]
    family = variant[0]

    def convolutions(x, level, channels, kernel_size=3, count=1, strides=1, dilation_rate=1):
        name = f"{prefix}level{level}"
        for i in range(1, count + 1):
            x = conv_bn(
                x,
                channels,
                kernel_size,
                name,
                i,
                strides=strides,
                dilation_rate=dilation_rate,
                **normalisation,
            )
            x = layers.ReLU(name=f"{name}_relu{i}")(x)
        return x

    def residual_blocks(x, level, width, count, basic, strides=1, dilation_rate=1, residual=True):
        for i in range(1, count + 1):
            x = residual_block(
                x,
                width,
                f"{prefix}level{level}_block{i}",
                basic=basic,
                strides=strides if i == 1 else 1,
                dilation_rate=dilation_rate,
                residual=residual,
                **normalisation,
            )
        return x

    x = convolutions(image, 0, filters // 4, kernel_size=7)
    features = {}
    for level, width, strides in ((1, filters // 4, 1), (2, filters // 2, 2)):
        if family == "D":
            x = convolutions(x, level, width, strides=strides)
        else:
            x = residual_blocks(x, level, width, 1, True, strides)
    features["c1"] = x
    strides_and_dilations = ((2, 1), (2, 1), (1, 2), (1, 4))
    for i, (count, (strides, rate)) in enumerate(zip(blocks, strides_and_dilations, strict=True)):
        x = residual_blocks(x, 3 + i, filters * 2**i, count, basic, strides, rate)
        features[f"c{2 + i}"] = x
    for level, rate in ((7, 2), (8, 1)):
        if family == "D":
            x = convolutions(x, level, 8 * filters, count=last_convolutions, dilation_rate=rate)
        else:
            x = residual_blocks(
                x, level, 8 * filters, 1, True, dilation_rate=rate, residual=family == "B"
            )
    features["c5"] = x
    return features
