"""VGG16 with the pools and the dilation of DeepLab: five blocks, but only three strides of 2.

Chen, Papandreou, Kokkinos, Murphy, Yuille, ICLR 2015, arXiv 1412.7062, section 3.1; pools as in the
authors' released networks.
"""

from keras import layers

from keras_seg.backbones.vgg import CONVOLUTIONS, WIDTHS
from keras_seg.utils import check_counts, unknown_name

POOLS = ("3x3", "2x2", "2x2-padded")


def atrous_vgg16(image, *, pools="3x3", filters=64, prefix=""):
    """Apply VGG16's convolutions with stride 8 at the end; those of block 5 have dilation 2.

    Args:
        image: tensor (N, H, W, C), normalised.
        pools: windows of the first three pools, which halve the size. "3x3" with padding 1 keeps
            the corners of sizes 8 k + 1 (LargeFOV, MSc, DeepLab v2); "2x2-padded" with padding 1
            shifts each map by half a cell and fits sizes 8 k + 2 (DeepLab's base network); "2x2" is
            VGG's own (ParseNet). All round up. pool4 and pool5 have 3x3 windows and stride 1, but
            pool4 is 2x2 without padding in "2x2-padded", which loses a row.
        filters: channels of the first block; the last two have 8 times as many.
        prefix: put before every layer's name.

    Returns:
        dict of features "pool1".."pool5", of strides 2, 4, 8, 8, 8, and "pool5a": pool5 averaged
        over 3x3 windows, in which the zeros around the map count (as in Caffe). Layers: `conv1_1`,
        `relu1_1`, ..., `conv5_3`, `relu5_3`, `pool5`, `pool5a`.

    Raises:
        ValueError: for unknown pools, or if filters is not a whole number of at least 1.
    """
    check_counts(filters=filters)
    if pools not in POOLS:
        raise unknown_name("pools", pools, POOLS)

    def pool(x, block):
        name = f"{prefix}pool{block}"
        if block == 5 or (block == 4 and pools != "2x2-padded"):
            return layers.MaxPooling2D(3, strides=1, padding="same", name=name)(x)
        if block == 4:
            return layers.MaxPooling2D(2, strides=1, name=name)(x)
        if pools == "2x2":
            return layers.MaxPooling2D(2, padding="same", name=name)(x)
        # Zeros are as good as minus infinity here: they follow a ReLU. The second one behind lets
        # 3x3 windows round up, and is not read on odd sizes.
        padding = ((1, 2), (1, 2)) if pools == "3x3" else 1
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
        return layers.MaxPooling2D(3 if pools == "3x3" else 2, strides=2, name=name)(x)

    features = {}
    x = image
    for block, (count, width) in enumerate(zip(CONVOLUTIONS, WIDTHS, strict=True), start=1):
        for i in range(1, count + 1):
            x = layers.Conv2D(
                filters * width,
                3,
                padding="same",
                dilation_rate=2 if block == 5 else 1,
                kernel_initializer="he_normal",
                name=f"{prefix}conv{block}_{i}",
            )(x)
            x = layers.ReLU(name=f"{prefix}relu{block}_{i}")(x)
        x = features[f"pool{block}"] = pool(x, block)
    x = layers.ZeroPadding2D(1, name=f"{prefix}pool5a_pad")(x)
    features["pool5a"] = layers.AveragePooling2D(3, strides=1, name=f"{prefix}pool5a")(x)
    return features
