"""ResNet trunks as segmentation papers use them: dilated, 7x7 or three-3x3 stem.

He, Zhang, Ren, Sun. "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385.
Dilation: Yu, Koltun, Funkhouser, CVPR 2017 (1705.09914); multi-grid: DeepLab v3 (1706.05587).

What the references do differently is an argument here:

=====================  =====  =========  ====================  =========
                       stem   stride_in  first_block_dilation  stem_pool
=====================  =====  =========  ====================  =========
torchvision            7x7    3x3        half                  floor
hszhao/semseg          deep   3x3        full                  floor
PyTorch-Encoding       deep   3x3        half                  floor
Caffe, DeepLab v2      7x7    1x1        full                  ceil
=====================  =====  =========  ====================  =========

Parameters without batch-normalisation statistics, depth 50: 23,508,032 (7x7), 23,631,808 (deep).
"""

from keras import layers

from keras_seg.layers import batch_norm, conv
from keras_seg.utils import check_counts, counts, unknown_name

# Depth -> blocks in stages 2 to 5. 269 is not released; its counts are those of ResNeSt-269.
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    269: (3, 30, 48, 8),
}
BASIC_DEPTHS = (18, 34)


def resnet(
    image,
    depth=50,
    *,
    block=None,
    stem="7x7",
    stem_pool="floor",
    output_stride=32,
    multi_grid=(1, 1, 1),
    stride_in="3x3",
    first_block_dilation="full",
    filters=64,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    prefix="",
):
    """Apply a ResNet without its classifier. All padding is symmetric, as in PyTorch and Caffe.

    Args:
        image: tensor (N, H, W, C), normalised.
        depth: 18, 34 (basic blocks), 50, 101, 152, 200, 269 (bottlenecks), or the number of blocks
            in each of the four stages, such as (2, 2, 2, 2).
        block: "basic" (3x3, 3x3) or "bottleneck" (1x1, 3x3, 1x1 with 4 times the channels).
            By default what belongs to the depth; bottleneck when `depth` lists the blocks.
        stem: "7x7" (one convolution, `filters` channels) or "deep" (three 3x3, the last with
            2 * `filters` channels).
        stem_pool: how the pool after the stem rounds an even H: "floor" (PyTorch) to H / 2, "ceil"
            (Caffe) to H / 2 + 1. Of an odd H both make (H + 1) / 2.
        output_stride: 8, 16 or 32. Strides beyond it become dilation: 2 in stage 4 and 4 in
            stage 5 at 8, 2 in stage 5 at 16.
        multi_grid: factors on the dilation of the blocks of stage 5, one a block, or all 1.
        stride_in: which convolution of a bottleneck has the stride: "3x3" or "1x1" (the first).
            In a basic block it is the first one in any case.
        first_block_dilation: dilation of the first block of a stage whose stride was removed:
            "full" as in the other blocks, "half": still that of the stage before, or "none". With
            stride_in="3x3", "half" computes what the undilated network computes, at more positions
            (Yu and Koltun's transformation); with "1x1", "full" does.
        filters: channels of the stem and of the first stage's 3x3 convolutions.
        bn_momentum, bn_epsilon: of every batch normalisation (Keras' momentum).
        prefix: put before every layer's name.

    Returns:
        dict "c1".."c5" of nominal strides 2, 4, 8, 16, 32 (not beyond `output_stride`): the stem
        before its pool, then the stages. Each stride halves H to floor((H - 1) / 2) + 1.
        Channels at filters=64: 64 (deep: 128), then 256, 512, 1024, 2048 (basic: 64, 128, 256,
        512). Layers are `stem_conv1`, `stem_bn1`, `stage2_block1_conv1`, `stage2_block1_bn1`,
        `stage2_block1_shortcut_conv`, `stage2_block1_shortcut_bn`, `stage2_block1_out`, ...

    Raises:
        ValueError: for a value not listed above.
    """
    blocks, basic = _blocks(depth, block)
    if stem not in ("7x7", "deep"):
        raise unknown_name("stem", stem, ("7x7", "deep"))
    if stem_pool not in ("floor", "ceil"):
        raise unknown_name("stem_pool", stem_pool, ("floor", "ceil"))
    if stride_in not in ("3x3", "1x1"):
        raise unknown_name("stride_in", stride_in, ("3x3", "1x1"))
    if first_block_dilation not in ("full", "half", "none"):
        raise unknown_name("first_block_dilation", first_block_dilation, ("full", "half", "none"))
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride!r}.")
    check_counts(filters=filters)
    grid = _grid(multi_grid, blocks[-1])

    normalisation = {"bn_momentum": bn_momentum, "bn_epsilon": bn_epsilon}
    block_options = {"basic": basic, "stride_in": stride_in, **normalisation}

    def stem_conv(x, channels, kernel_size, index, strides):
        name = f"{prefix}stem"
        x = conv_bn(x, channels, kernel_size, name, index, strides=strides, **normalisation)
        return layers.ReLU(name=f"{name}_relu{index}")(x)

    x = image
    if stem == "7x7":
        x = stem_conv(x, filters, 7, 1, 2)
    else:
        for i, (channels, strides) in enumerate([(filters, 2), (filters, 1), (2 * filters, 1)]):
            x = stem_conv(x, channels, 3, i + 1, strides)
    features = {"c1": x}
    # Zeros are as good as minus infinity here: they follow a ReLU. With two behind, the pool has
    # one window more on an even size, and the same windows on an odd one.
    padding = 1 if stem_pool == "floor" else ((1, 2), (1, 2))
    x = layers.ZeroPadding2D(padding, name=f"{prefix}stem_pool_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name=f"{prefix}stem_pool")(x)

    stride, dilation = 4, 1
    for stage, count in enumerate(blocks, start=2):
        strides = 1 if stage == 2 else 2
        previous = dilation
        if stride * strides > output_stride:
            dilation, strides = dilation * strides, 1
        stride *= strides
        first = {"full": dilation, "half": previous, "none": 1}[first_block_dilation]
        for i in range(count):
            rate = first if i == 0 else dilation
            if stage == 5:
                rate *= grid[i]
            x = residual_block(
                x,
                filters * 2 ** (stage - 2),
                f"{prefix}stage{stage}_block{i + 1}",
                strides=strides if i == 0 else 1,
                dilation_rate=rate,
                **block_options,
            )
        features[f"c{stage}"] = x
    return features


def residual_block(
    x,
    width,
    name,
    *,
    basic,
    strides=1,
    dilation_rate=1,
    stride_in="3x3",
    residual=True,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
):
    """One block of a ResNet. ReLU follows every convolution but the last, and the sum.

    The shortcut is a 1x1 convolution with batch normalisation where size or channels change.

    Args:
        x: map (N, H, W, C).
        width: channels of the 3x3 convolutions; a bottleneck returns 4 times as many.
        name: before the layers' names: `{name}_conv1`, `{name}_bn1`, ..., `{name}_out`.
        basic: 3x3, 3x3, both dilated; otherwise 1x1, 3x3, 1x1, the 3x3 dilated.
        strides, dilation_rate: of the block.
        stride_in: as in `resnet`.
        residual: False leaves the shortcut and the sum out.
        bn_momentum, bn_epsilon: of every batch normalisation.
    """
    normalisation = {"bn_momentum": bn_momentum, "bn_epsilon": bn_epsilon}
    if basic:
        convolutions = [(width, 3, strides, dilation_rate), (width, 3, 1, dilation_rate)]
    else:
        first, second = (strides, 1) if stride_in == "1x1" else (1, strides)
        convolutions = [
            (width, 1, first, 1),
            (width, 3, second, dilation_rate),
            (4 * width, 1, 1, 1),
        ]
    y = x
    for i, (channels, kernel_size, stride, rate) in enumerate(convolutions, start=1):
        y = conv_bn(
            y, channels, kernel_size, name, i, strides=stride, dilation_rate=rate, **normalisation
        )
        if i < len(convolutions):
            y = layers.ReLU(name=f"{name}_relu{i}")(y)
    if residual:
        if strides > 1 or x.shape[-1] != channels:
            x = conv_bn(x, channels, 1, f"{name}_shortcut", strides=strides, **normalisation)
        y = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_out")(y)


def conv_bn(
    x,
    channels,
    kernel_size,
    name,
    index="",
    *,
    strides=1,
    dilation_rate=1,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
):
    """`{name}_conv{index}` without bias, symmetrically padded, and `{name}_bn{index}`."""
    x = conv(
        x,
        channels,
        kernel_size,
        strides=strides,
        dilation_rate=dilation_rate,
        name=f"{name}_conv{index}",
    )
    return batch_norm(f"{name}_bn{index}", bn_momentum, bn_epsilon)(x)


def _blocks(depth, block):
    """The blocks of each stage, and whether they are basic ones."""
    if block not in (None, "basic", "bottleneck"):
        raise unknown_name("block", block, ("basic", "bottleneck"))
    if not isinstance(depth, list | tuple):
        if depth not in BLOCKS:
            raise ValueError(
                f"depth must be one of {sorted(BLOCKS)}, or the number of blocks in each of the "
                f"four stages, got {depth!r}."
            )
        basic = depth in BASIC_DEPTHS if block is None else block == "basic"
        return BLOCKS[depth], basic
    return counts("depth", depth, 4), block == "basic"


def _grid(multi_grid, count):
    """One factor for each of the `count` blocks of stage 5."""
    grid = counts("multi_grid", multi_grid)
    if set(grid) == {1}:
        return (1,) * count
    if len(grid) != count:
        raise ValueError(
            f"multi_grid must have {count} factors, one a block of stage 5, got {multi_grid!r}."
        )
    return grid
