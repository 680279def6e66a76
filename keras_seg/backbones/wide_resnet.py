"""Wide ResNet-38 ("wider or deeper"), forms A, A1 and A2.

Wu, Shen, van den Hengel. "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition",
2016, arXiv 1611.10080; details as in the authors' ademxapp and in mapillary/inplace_abn.

    level   blocks                      channels                stride   at output stride 8
    1       conv3x3, no normalisation   64                           1   1
    2       3 x (3x3, 3x3)              128, 128                     2   2
    3       3 x (3x3, 3x3)              256, 256                     4   4
    4       6 x (3x3, 3x3)              512, 512                     8   8
    5       3 x (3x3, 3x3)              512, 1024                   16   8, dilation 1 then 2; 2, 2
    6       1 x (1x1, 3x3, 1x1)         512, 1024, 2048             32   8, dilation 4
    7       1 x (1x1, 3x3, 1x1)         1024, 2048, 4096            32   8, dilation 4
    end     BN, ReLU                    4096                        32   8

A unit is BN, ReLU, convolution (pre-activation). The first block of a level has a 1x1 convolution
as its shortcut, which takes the normalised input, the others carry the plain sum. What halves a map
is the form: a max-pool 3x3/2 in front of each of levels 2 to 6 (A), the first convolution of the
level and its shortcut (A1), pools for levels 2 and 3 and convolutions for 4 to 6 (A2).

105,070,912 parameters in each form.

What mapillary/inplace_abn does differently is an argument here: `activation="leaky_relu"`,
`first_block_dilation="full"`, `bn_epsilon=1e-5`.
"""

from keras import layers

from keras_seg.layers import batch_norm, conv, he_fan_in
from keras_seg.utils import check_counts, counts, unknown_name

# Levels that begin with a pool; the others of 2 to 6 begin with a strided convolution.
POOLED_LEVELS = {"A": (2, 3, 4, 5, 6), "A1": (), "A2": (2, 3)}

# (kernel size, channels as a multiple of level 1's) of a block's convolutions, levels 2 to 7.
CONVOLUTIONS = (
    ((3, 2), (3, 2)),
    ((3, 4), (3, 4)),
    ((3, 8), (3, 8)),
    ((3, 8), (3, 16)),
    ((1, 8), (3, 16), (1, 32)),
    ((1, 16), (3, 32), (1, 64)),
)
SLOPES = {"relu": 0.0, "leaky_relu": 0.01}


def wide_resnet(
    image,
    form="A1",
    *,
    blocks=(3, 3, 6, 3, 1, 1),
    output_stride=32,
    activation="relu",
    first_block_dilation="half",
    dropout=(0.0, 0.0),
    filters=64,
    bn_momentum=0.9,
    bn_epsilon=1.001e-5,
    prefix="",
):
    """Apply a wide ResNet without its classifier. All padding is symmetric.

    Args:
        image: tensor (N, H, W, C), normalised.
        form: "A", "A1" or "A2" (see the top of this file).
        blocks: in each of levels 2 to 7. inplace_abn has (1, 1, 1, 1, 1, 1) as its 16 layers and
            (1, 1, 1, 3, 1, 1) as its 20.
        output_stride: 8, 16 or 32. Strides beyond it become dilation; form "A" pools there and
            takes 32 only.
        activation: "relu", or "leaky_relu" with slope 0.01.
        first_block_dilation: dilation of the first convolution of a level whose stride was
            removed: "half", that of the level before (the authors'; computes what the undilated
            network computes, at more positions), or "full" as in the convolutions after it.
        dropout: rates of single units before the last convolution of levels 6 and 7.
        filters: channels of level 1; all others are multiples of it.
        bn_momentum, bn_epsilon: of every batch normalisation (Keras' momentum).
        prefix: put before every layer's name.

    Returns:
        dict "c1".."c5" of nominal strides 2, 4, 8, 16, 32 (not beyond `output_stride`): the sums at
        the end of levels 2 to 5, neither normalised nor rectified, and the end. Layers are
        `level1_conv`, `level2_block1_bn1`, `level2_block1_relu1`, `level2_block1_conv1`,
        `level2_block1_shortcut`, `level2_block1_add`, ..., `out_bn`, `out_relu`.

    Raises:
        ValueError: for a value not listed above.
    """
    if form not in POOLED_LEVELS:
        raise unknown_name("form of wide ResNet", form, POOLED_LEVELS)
    if activation not in SLOPES:
        raise unknown_name("activation", activation, SLOPES)
    if first_block_dilation not in ("full", "half"):
        raise unknown_name("first_block_dilation", first_block_dilation, ("full", "half"))
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride!r}.")
    if form == "A" and output_stride < 32:
        raise ValueError(
            f"form 'A' pools before levels 5 and 6, so that its output_stride is 32, not "
            f"{output_stride}. For dilation use form 'A1' or 'A2', which have the same weights."
        )
    check_counts(filters=filters)
    blocks = counts("blocks", blocks, 6)
    if not isinstance(dropout, list | tuple) or len(dropout) != 2:
        raise ValueError(
            f"dropout must be two rates, of levels 6 and 7, such as (0.3, 0.5), got {dropout!r}."
        )
    rates_of_dropout = dict(zip((6, 7), dropout, strict=True))

    def bn_relu(x, name, index=""):
        x = batch_norm(f"{prefix}{name}_bn{index}", bn_momentum, bn_epsilon)(x)
        slope = SLOPES[activation]
        return layers.ReLU(negative_slope=slope, name=f"{prefix}{name}_relu{index}")(x)

    def block(x, convolutions, name, strides, first_rate, rate, drop):
        y = activated = bn_relu(x, name, 1)
        for i, (kernel_size, channels) in enumerate(convolutions, start=1):
            if i > 1:
                y = bn_relu(y, name, i)
            if i == len(convolutions) and drop:
                y = layers.Dropout(drop, name=f"{prefix}{name}_dropout")(y)
            y = conv(
                y,
                channels,
                kernel_size,
                strides=strides if i == 1 else 1,
                dilation_rate=(first_rate if i == 1 else rate) if kernel_size > 1 else 1,
                initializer=he_fan_in,
                name=f"{prefix}{name}_conv{i}",
            )
        if x.shape[-1] != channels:
            x = conv(
                activated,
                channels,
                1,
                strides=strides,
                initializer=he_fan_in,
                name=f"{prefix}{name}_shortcut",
            )
        return layers.Add(name=f"{prefix}{name}_add")([x, y])

    def pool(x, name):
        """3x3/2 that pads with nothing: sums may be negative, so zeros would win."""
        x = layers.MaxPooling2D(3, strides=1, padding="same", name=f"{prefix}{name}_pool3x3")(x)
        return layers.MaxPooling2D(1, strides=2, name=f"{prefix}{name}_pool")(x)

    x = conv(image, filters, 3, initializer=he_fan_in, name=f"{prefix}level1_conv")
    features = {}
    stride, dilation = 1, 1
    for level, (count, widths) in enumerate(zip(blocks, CONVOLUTIONS, strict=True), start=2):
        strides = 2 if level <= 6 else 1
        previous = dilation
        if stride * strides > output_stride:
            dilation, strides = dilation * strides, 1
        stride *= strides
        if level in POOLED_LEVELS[form]:
            x, strides = pool(x, f"level{level}"), 1
        first = previous if first_block_dilation == "half" else dilation
        for i in range(1, count + 1):
            x = block(
                x,
                [(kernel_size, filters * width) for kernel_size, width in widths],
                f"level{level}_block{i}",
                strides if i == 1 else 1,
                first if i == 1 else dilation,
                dilation,
                rates_of_dropout.get(level, 0.0) if i == count else 0.0,
            )
        if level <= 5:
            features[f"c{level - 1}"] = x
    features["c5"] = bn_relu(x, "out")
    return features
