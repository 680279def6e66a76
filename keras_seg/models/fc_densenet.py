"""FC-DenseNet, "the one hundred layers tiramisu".

Jegou, Drozdzal, Vazquez, Romero, Bengio. "The One Hundred Layers Tiramisu: Fully Convolutional
DenseNets for Semantic Segmentation", CVPR Workshops 2017. https://arxiv.org/abs/1611.09326

    layer        BN, ReLU, conv3x3 to k maps, dropout 0.2                                  (table 1)
    dense block  each layer sees the block's input and the maps of all layers before it
    down         BN, ReLU, conv1x1 to as many maps, dropout 0.2, max-pool 2x2
    up           transposed conv3x3, stride 2, of the new maps of the block before; no BN, no ReLU

    FC-DenseNet103, k = 16                      layers   maps (of the stack)   stride
    first_conv    conv3x3                               48                    1
    down1..5      dense block, skip, down      4 5 7 10 12   112 192 304 464 656   1..16
    bottleneck    dense block                  15       896                   32
    up1..5        up, concat [up, skip], block 12 10 7 5 4   1088 816 576 384 256  16..1
    logits        conv1x1 to num_classes

    parameters    11 classes   12 classes   statistics of BN    k    layers
    FCDenseNet56   1,376,795    1,376,988             21,168   12    4 in every block
    FCDenseNet67   3,463,243    3,463,532             39,680   16    5 in every block
    FCDenseNet103  9,322,091    9,322,348            103,072   16    as above

Faithful: order of operations and concatenation, biases in every convolution, element-wise dropout,
transposed convolution whose last row and column are cut to the skip's size, He-uniform
initialisation, BN epsilon 1e-4 (Lasagne's default, which the authors used unchanged).
Table 2 of the paper prints 880, 1072, 800 and 368 maps where the network, and the authors' later
correction, has 896, 1088, 816 and 384.

Where we differ: at test time batch normalisation uses its moving statistics; the authors' published
scores were computed with the statistics of each test image. The network ends with logits, without
the softmax. "unit" preprocessing (pixels / 255) is our reading of their data loader.
"""

import keras
from keras import layers

from keras_seg.layers import CropLike, batch_norm, check_size, image_input, preprocess
from keras_seg.utils import counts
from keras_seg.weights import load_own


def FCDenseNet(
    num_classes,
    input_shape=(None, None, 3),
    *,
    growth_rate=16,
    layers_per_block=(4, 5, 7, 10, 12),
    bottleneck_layers=15,
    filters=48,
    dropout=0.2,
    preprocessing="unit",
    bn_momentum=0.9,
    bn_epsilon=1e-4,
    weights=None,
    name="fc_densenet",
):
    """Build an FC-DenseNet as a functional model; the defaults are those of FC-DenseNet103.

    Args:
        num_classes: channels of the output; the void label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size of at least 2**len(layers_per_block)
            (32) works: odd maps are pooled rounding down, and cropped on the way up.
        growth_rate: maps that each layer adds.
        layers_per_block: layers of the dense blocks on the way down; the way up mirrors them.
        bottleneck_layers: layers of the block between.
        filters: maps of the first convolution.
        dropout: rate after every convolution of the blocks and of the transitions down.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
        bn_momentum, bn_epsilon: of every batch normalisation.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes).

    Raises:
        ValueError: for a size that is too small (also when the model is called), a wrong number of
            classes, or a block without layers.
    """
    layers_per_block = counts("layers_per_block", layers_per_block)

    def convolution(x, channels, kernel_size, name):
        return layers.Conv2D(
            channels, kernel_size, padding="same", kernel_initializer="he_uniform", name=name
        )(x)

    def bn_relu_conv(x, channels, kernel_size, name):
        """BN, ReLU, convolution, dropout: the unit of blocks and transitions down."""
        x = batch_norm(f"{name}_bn", bn_momentum, bn_epsilon)(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
        x = convolution(x, channels, kernel_size, f"{name}_conv")
        return layers.Dropout(dropout, name=f"{name}_dropout")(x) if dropout else x

    def dense_block(x, count, name):
        """(x and all new maps, the new maps): C + count * k and count * k channels."""
        new = []
        for i in range(1, count + 1):
            new.append(bn_relu_conv(x, growth_rate, 3, f"{name}_layer{i}"))
            x = layers.Concatenate(name=f"{name}_concat{i}")([x, new[-1]])
        return x, new

    image = image_input(
        input_shape,
        num_classes,
        filters=filters,
        growth_rate=growth_rate,
        bottleneck_layers=bottleneck_layers,
    )
    x = preprocess(check_size(image, least=2 ** len(layers_per_block)), preprocessing)
    x = convolution(x, filters, 3, "first_conv")

    skips = []
    for i, count in enumerate(layers_per_block, 1):
        x, _ = dense_block(x, count, f"down{i}")
        skips.append(x)
        x = bn_relu_conv(x, x.shape[-1], 1, f"down{i}_transition")
        x = layers.MaxPooling2D(2, name=f"down{i}_pool")(x)

    _, new = dense_block(x, bottleneck_layers, "bottleneck")

    block = "bottleneck"
    for i, (count, skip) in enumerate(zip(layers_per_block[::-1], skips[::-1], strict=True), 1):
        x = layers.Concatenate(name=f"{block}_new")(new) if len(new) > 1 else new[0]
        block = f"up{i}"
        x = layers.Conv2DTranspose(
            x.shape[-1],
            3,
            strides=2,
            kernel_initializer="he_uniform",
            name=f"{block}_transition_conv",
        )(x)
        x = CropLike(name=f"{block}_crop")(x, skip)
        x = layers.Concatenate(name=f"{block}_concat")([x, skip])
        x, new = dense_block(x, count, block)

    logits = layers.Conv2D(
        num_classes, 1, kernel_initializer="he_uniform", dtype="float32", name="logits"
    )(x)
    model = keras.Model(image, logits, name=name)
    if weights is not None:
        load_own(model, weights)
    return model


def FCDenseNet56(
    num_classes,
    input_shape=(None, None, 3),
    *,
    growth_rate=12,
    filters=48,
    dropout=0.2,
    preprocessing="unit",
    bn_momentum=0.9,
    bn_epsilon=1e-4,
    weights=None,
    name="fc_densenet56",
):
    """FC-DenseNet56: growth 12, 4 layers in each of the 11 blocks.

    Arguments, result and errors are those of `FCDenseNet`, whose blocks are fixed here.
    """
    return FCDenseNet(
        num_classes,
        input_shape,
        growth_rate=growth_rate,
        layers_per_block=(4, 4, 4, 4, 4),
        bottleneck_layers=4,
        filters=filters,
        dropout=dropout,
        preprocessing=preprocessing,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
        weights=weights,
        name=name,
    )


def FCDenseNet67(
    num_classes,
    input_shape=(None, None, 3),
    *,
    growth_rate=16,
    filters=48,
    dropout=0.2,
    preprocessing="unit",
    bn_momentum=0.9,
    bn_epsilon=1e-4,
    weights=None,
    name="fc_densenet67",
):
    """FC-DenseNet67: growth 16, 5 layers in each of the 11 blocks.

    Arguments, result and errors are those of `FCDenseNet`, whose blocks are fixed here.
    """
    return FCDenseNet(
        num_classes,
        input_shape,
        growth_rate=growth_rate,
        layers_per_block=(5, 5, 5, 5, 5),
        bottleneck_layers=5,
        filters=filters,
        dropout=dropout,
        preprocessing=preprocessing,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
        weights=weights,
        name=name,
    )


def FCDenseNet103(
    num_classes,
    input_shape=(None, None, 3),
    *,
    growth_rate=16,
    filters=48,
    dropout=0.2,
    preprocessing="unit",
    bn_momentum=0.9,
    bn_epsilon=1e-4,
    weights=None,
    name="fc_densenet103",
):
    """FC-DenseNet103: growth 16, blocks of 4, 5, 7, 10, 12, 15, and back.

    Arguments, result and errors are those of `FCDenseNet`, whose blocks are fixed here.
    """
    return FCDenseNet(
        num_classes,
        input_shape,
        growth_rate=growth_rate,
        layers_per_block=(4, 5, 7, 10, 12),
        bottleneck_layers=15,
        filters=filters,
        dropout=dropout,
        preprocessing=preprocessing,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
        weights=weights,
        name=name,
    )
