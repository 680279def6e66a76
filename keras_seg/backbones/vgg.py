"""VGG16 without its fully connected layers.

Simonyan, Zisserman. "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015, arXiv 1409.1556, table 1, configuration D. 14,714,688 parameters.
"""

from keras import layers

from keras_seg.utils import check_counts

# Convolutions of each block, and their channels as multiples of the first block's.
CONVOLUTIONS = (2, 2, 3, 3, 3)
WIDTHS = (1, 2, 4, 8, 8)


def vgg16(image, *, filters=64, first_padding=1, bn=None, prefix=""):
    """Apply VGG16's convolutions and pools.

    Convolutions have a bias. Pools round up, as Caffe's do: each halves H to ceil(H / 2).

    Args:
        image: tensor (N, H, W, C), normalised.
        filters: channels of the first block; the last two have 8 times as many.
        first_padding: zeros around the image, for the first convolution: 1 keeps the size,
            FCN's 100 makes every map larger by 99 pixels on each side of the image.
        bn: None, as in the paper, or a function from a name ("bn1_1") to the batch normalisation
            between a convolution and its ReLU.
        prefix: put before every layer's name.

    Returns:
        dict of features. "c1".."c5" are, as in every trunk, the last maps of strides 2 to 32:
        conv2_2, conv3_3, conv4_3, conv5_3 (after the ReLU, before the pool) and pool5, with 128,
        256, 512, 512, 512 channels. All are there by the papers' names too: "conv1_2" (stride 1),
        "conv2_2", "conv3_3", "conv4_3", "conv5_3", and "pool1".."pool5" of strides 2 to 32.
        Layers: `conv1_1`, `relu1_1`, ..., `conv5_3`, `relu5_3`, `pool5`.

    Raises:
        ValueError: if filters or first_padding is not a whole number of at least 1.
    """
    check_counts(filters=filters, first_padding=first_padding)
    features = {}
    x = image
    if first_padding > 1:
        x = layers.ZeroPadding2D(first_padding - 1, name=f"{prefix}conv1_1_pad")(x)
    for block, (count, width) in enumerate(zip(CONVOLUTIONS, WIDTHS, strict=True), start=1):
        for i in range(1, count + 1):
            x = layers.Conv2D(
                filters * width,
                3,
                padding="same",
                kernel_initializer="he_normal",
                name=f"{prefix}conv{block}_{i}",
            )(x)
            if bn is not None:
                x = bn(f"{prefix}bn{block}_{i}")(x)
            x = layers.ReLU(name=f"{prefix}relu{block}_{i}")(x)
        features[f"conv{block}_{count}"] = x
        x = layers.MaxPooling2D(2, padding="same", name=f"{prefix}pool{block}")(x)
        features[f"pool{block}"] = x
    last = ("conv2_2", "conv3_3", "conv4_3", "conv5_3", "pool5")
    taps = {f"c{i}": features[name] for i, name in enumerate(last, start=1)}
    return {**taps, **features}
