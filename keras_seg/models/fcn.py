"""FCN-32s, FCN-16s and FCN-8s on VGG16.

Long, Shelhamer, Darrell. "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015.
https://arxiv.org/abs/1411.4038; layers, padding and crops as in the released networks
(shelhamer/fcn.berkeleyvision.org, voc-fcn32s, voc-fcn16s, voc-fcn8s).

    layer                                    channels   500x500 image   stride
    conv1_1 (100 zeros around), conv1_2            64   698             1
    pool1, conv2_1, conv2_2                       128   349             2
    pool2, conv3_1..3                             256   175             4
    pool3, conv4_1..3                             512    88             8
    pool4, conv5_1..3                             512    44             16
    pool5                                         512    22             32
    fc6   conv7x7 without padding, ReLU, dropout 4096    16
    fc7   conv1x1, ReLU, dropout                 4096    16
    score_fr   conv1x1                              K    16

    FCN32s   x32 -> 544, cut from 19 to the size of the image
    FCN16s   x2 -> 34, + score_pool4 cut from 5; x16 -> 560, cut from 27
    FCN8s    x2 -> 34, + score_pool4 cut from 5; x2 -> 70, + score_pool3 cut from 9;
             x8 -> 568, cut from 31

    parameters, 21 classes        all   without the fixed kernels
    FCN32s                136,152,917                 134,346,581
    FCN16s                134,815,994                 134,357,354
    FCN8s                 134,489,759                 134,362,751

Faithful: the padding of 100 ("legacy"), which makes every crop a constant and any image large
enough for fc6; poolings that round up; score layers that start at zero (section 4.3); transposed
convolutions with the fixed bilinear kernel; dropout 0.5 of single units.

Where we differ: the paper lets the intermediate up-samplings learn; here, as in the authors'
release, all are fixed. `legacy_padding=False` is ours: padding 1 in conv1_1 and 3 in fc6, and crops
by half a stride. Scores lie over the same pixel centres as before, but the trunk does not compute a
frame of 100 zeros (a 96x128 image: an eighth of the work) and sees the border of the image nearer.
`upsampling="resize"` computes the same numbers by padding, a bilinear resize and a crop, without
the dense kernels (7 MB for 21 classes) and with operators that every mobile runtime has.
"""

import keras
from keras import layers

from keras_seg.backbones import vgg16
from keras_seg.layers import CropLike, Resize, bilinear_upsampling, image_input, preprocess
from keras_seg.utils import unknown_name
from keras_seg.weights import load_own

BACKBONES = {"vgg16": vgg16}


def FCN32s(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="vgg16",
    filters=64,
    fc_channels=4096,
    legacy_padding=True,
    upsampling="deconv",
    dropout=0.5,
    preprocessing="caffe",
    weights=None,
    name="fcn32s",
):
    """Build FCN-32s as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works.
        backbone: "vgg16".
        filters: channels of the trunk's first convolutions; the others are multiples of it.
        fc_channels: channels of fc6 and fc7.
        legacy_padding: the released networks' padding of 100 and crops; False pads by 1 only
            (see the top of this file).
        upsampling: "deconv" (transposed convolutions with frozen bilinear kernels) or "resize"
            (the same numbers without kernels).
        dropout: rate after fc6 and fc7.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes). They start at 0 for every class.

    Raises:
        ValueError: for an unknown backbone or upsampling, or a wrong number of classes.
    """
    options = (backbone, filters, fc_channels, legacy_padding, upsampling, dropout, preprocessing)
    return _fcn(num_classes, input_shape, 32, options, weights, name)


def FCN16s(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="vgg16",
    filters=64,
    fc_channels=4096,
    legacy_padding=True,
    upsampling="deconv",
    dropout=0.5,
    preprocessing="caffe",
    weights=None,
    name="fcn16s",
):
    """FCN-16s: the scores of stride 32, twice as large, plus those of pool4. See `FCN32s`."""
    options = (backbone, filters, fc_channels, legacy_padding, upsampling, dropout, preprocessing)
    return _fcn(num_classes, input_shape, 16, options, weights, name)


def FCN8s(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="vgg16",
    filters=64,
    fc_channels=4096,
    legacy_padding=True,
    upsampling="deconv",
    dropout=0.5,
    preprocessing="caffe",
    weights=None,
    name="fcn8s",
):
    """FCN-8s: the scores of FCN-16s, twice as large, plus those of pool3. See `FCN32s`."""
    options = (backbone, filters, fc_channels, legacy_padding, upsampling, dropout, preprocessing)
    return _fcn(num_classes, input_shape, 8, options, weights, name)


def _fcn(num_classes, input_shape, stride, options, weights, name):
    """The network whose finest scores have `stride`."""
    backbone, filters, fc_channels, legacy, upsampling, dropout, preprocessing = options
    if backbone not in BACKBONES:
        raise unknown_name("backbone of FCN", backbone, BACKBONES)
    if upsampling not in ("deconv", "resize"):
        raise unknown_name("upsampling", upsampling, ("deconv", "resize"))

    def fully_connected(x, kernel_size, padding, name):
        x = layers.Conv2D(
            fc_channels,
            kernel_size,
            padding=padding,
            kernel_initializer="he_normal",
            name=name,
        )(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
        return layers.Dropout(dropout, name=f"{name}_dropout")(x) if dropout else x

    def score(x, name):
        """Zero scores: random ones gave no gain, and a skip then starts as the coarser net."""
        return layers.Conv2D(num_classes, 1, kernel_initializer="zeros", name=name)(x)

    def enlarge(x, factor, name):
        """Bilinear by `factor`, fading to zero around: h -> (h - 1) * factor + 2 * factor rows."""
        if upsampling == "deconv":
            return bilinear_upsampling(x, 2 * factor, factor, name=name)
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        x = Resize(scale=factor, name=name)(x)
        return layers.Cropping2D(factor // 2, name=f"{name}_border")(x)

    def add_skip(x, pool, legacy_offset, name):
        """Scores of `pool` added to the enlarged x, each cut to where they lie over each other."""
        skip = score(pool, f"score_{name}")
        if legacy:
            skip = CropLike(legacy_offset, name=f"score_{name}_crop")(skip, x)
        else:
            x = CropLike(1, name=f"{name}_crop")(x, skip)  # half the stride of x2
        return layers.Add(name=f"fuse_{name}")([x, skip])

    image = image_input(input_shape, num_classes)
    x = preprocess(image, preprocessing)
    features = BACKBONES[backbone](x, filters=filters, first_padding=100 if legacy else 1)

    x = fully_connected(features["pool5"], 7, "valid" if legacy else "same", "fc6")
    x = fully_connected(x, 1, "valid", "fc7")
    x = layers.Identity(name="features")(x)
    x = score(x, "score_fr")
    if stride <= 16:
        x = add_skip(enlarge(x, 2, "upscore2"), features["pool4"], 5, "pool4")
    if stride == 8:
        x = add_skip(enlarge(x, 2, "upscore_pool4"), features["pool3"], 9, "pool3")
    x = layers.Identity(name="logits_low")(x)
    x = enlarge(x, stride, "upscore" if stride == 32 else f"upscore{stride}")
    offset = {32: 19, 16: 27, 8: 31}[stride] if legacy else stride // 2
    logits = CropLike(offset, dtype="float32", name="logits")(x, image)

    model = keras.Model(image, logits, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
