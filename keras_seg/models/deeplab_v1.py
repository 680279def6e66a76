"""DeepLab v1: VGG16 with holes, large field of view, multi-scale features.

Chen, Papandreou, Kokkinos, Murphy, Yuille. "Semantic Image Segmentation with Deep Convolutional
Nets and Fully Connected CRFs", ICLR 2015. https://arxiv.org/abs/1412.7062; layers as in the
authors' Caffe networks (DeepLab, DeepLab-LargeFOV, DeepLab-MSc, DeepLab-MSc-LargeFOV).

    layer                                     channels   LargeFOV, 321   base, 306   stride
    conv1_1, conv1_2                                64   321             306         1
    pool1, conv2_1, conv2_2                        128   161             154         2
    pool2, conv3_1..3                              256   81              78          4
    pool3, conv4_1..3                              512   41              40          8
    pool4 (stride 1)                               512   41              39          8
    conv5_1..3, dilation 2, pool5 (stride 1)       512   41              39          8
    pool5a, 3x3 average (LargeFOV only)            512   41
    fc6, fc7 (ReLU, dropout 0.5), fc8        see below   41              39          8
    resize by 8, corners aligned                     K   321             305         1

    variant     fc6                              pools 1 to 3          sizes
    largefov    3x3, dilation 12, 1024 channels  3x3, padding 1        8 k + 1
    base        4x4, dilation 4, 4096 channels   2x2, padding 1        8 k + 2
    4x4         4x4, dilation 8, 4096 channels   2x2, padding 1        8 k + 2
    7x7         7x7, dilation 4, 4096 channels   2x2, padding 1        8 k + 2

    parameters, 21 classes           with multiscale
    largefov           20,505,429         21,711,550
    base               65,140,565         66,346,686
    4x4                65,140,565
    7x7               134,346,581

"MSc" (section 4.3, `multiscale=True`): the image and each of pool1..pool4 get a classifier of their
own, conv3x3 and conv1x1 to 128 channels with ReLU and dropout, conv1x1 to the classes, and all six
score maps are summed. Every pool has 3x3 windows then. The authors train these classifiers alone,
the rest frozen, on scores of stride 8; they test with each classifier at every position of its map.
Both are here, with the same weights: `fusion_stride`. Every eighth pixel has the same logits.

Faithful: pools, dilation, padding and alignment; the average pool, which the paper does not
mention; initialisation of the new layers. The 2x2 pools of the other variants shift their maps, so
that score i lies over pixel 8 i + 1, and the logits of the first row and column are those of the
second. Images are padded with the mean pixel, below and on the right, to the next size that fits,
as the authors' data layer does, and the logits are cut to the image again.
Where we differ: the authors compare scores of stride 8 with every eighth label; here the loss sees
every pixel, unless the network is trained through `keras_seg.training.with_outputs` with
`losses.CrossEntropy(label_stride=8)` (base, 4x4 and 7x7: `label_offset=1`), as
recipes/deeplab_v1_voc.py does. MSc on "4x4" and "7x7" is ours.

Weights: `keras_seg.weights.load(model, file, layout="deeplab")` reads the authors' `.caffemodel`
files.
"""

import functools

import keras
from keras import layers

from keras_seg.backbones import atrous_vgg16
from keras_seg.layers import (
    CropLike,
    PadToStep,
    RepeatEdge,
    conv,
    image_input,
    large_fov,
    preprocess,
    resize_logits,
    score_conv,
)
from keras_seg.utils import unknown_name
from keras_seg.weights import load_own

# fc6's kernel, dilation and channels.
VARIANTS = {
    "largefov": (3, 12, 1024),
    "base": (4, 4, 4096),
    "4x4": (4, 8, 4096),
    "7x7": (7, 4, 4096),
}


def DeepLabV1(
    num_classes,
    input_shape=(None, None, 3),
    *,
    variant="largefov",
    multiscale=False,
    fusion_stride=1,
    filters=64,
    fc_channels=None,
    dropout=0.5,
    preprocessing="caffe",
    weights=None,
    name="deeplab_v1",
):
    """Build DeepLab v1 as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works; those at the top of this file
            need no padding.
        variant: "largefov", "base", "4x4" or "7x7".
        multiscale: classifiers on the image and the first four pools too (MSc).
        fusion_stride: with `multiscale`, where the score maps are summed: 1 (the authors' test
            network) or 8 (their training network, cheaper).
        filters: channels of the trunk's first convolutions; MSc's have twice as many.
        fc_channels: channels of fc6 and fc7; default: those of the variant.
        dropout: rate after fc6, fc7 and MSc's convolutions.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes).

    Raises:
        ValueError: for an unknown variant, another fusion stride, or a wrong number of classes.
    """
    if variant not in VARIANTS:
        raise unknown_name("variant of DeepLabV1", variant, VARIANTS)
    if fusion_stride not in (1, 8):
        raise ValueError(f"fusion_stride must be 1 or 8, got {fusion_stride!r}.")
    kernel_size, dilation_rate, own_channels = VARIANTS[variant]
    fc_channels = own_channels if fc_channels is None else fc_channels
    shifted = variant != "largefov" and not multiscale

    image = image_input(input_shape, num_classes, filters=filters, fc_channels=fc_channels)
    x = preprocess(image, preprocessing)
    padded = PadToStep(8, 2 if shifted else 1, name="pad")(x)
    features = atrous_vgg16(padded, pools="2x2-padded" if shifted else "3x3", filters=filters)

    x = features["pool5a" if variant == "largefov" else "pool5"]
    x = large_fov(x, fc_channels, kernel_size, dilation_rate, dropout=dropout)
    x = layers.Identity(name="features")(x)
    x = score_conv(x, num_classes, name="fc8")

    def side_scores(x, stride, name):
        """MSc's classifier on a map of `stride`, as scores of `fusion_stride` or of `stride`."""
        strides = max(fusion_stride // stride, 1)
        for layer, size, step in ((f"{name}_conv", 3, strides), (f"{name}_fc", 1, 1)):
            deviation = 0.005 if layer == "pool4_fc" else 0.001
            normal = functools.partial(keras.initializers.RandomNormal, stddev=deviation)
            x = conv(
                x,
                2 * filters,
                size,
                strides=step,
                use_bias=True,
                initializer=normal,
                name=layer,
            )
            x = layers.ReLU(name=f"{layer}_relu")(x)
            if dropout:
                x = layers.Dropout(dropout, name=f"{layer}_dropout")(x)
        return score_conv(x, num_classes, name=f"{name}_ms")

    def enlarge(x, reference, name):
        return resize_logits(x, reference, align_corners=True, name=name)

    if multiscale:
        maps = {"data": (padded, 1)}
        maps |= {f"pool{i}": (features[f"pool{i}"], min(2**i, 8)) for i in (1, 2, 3, 4)}
        scores = {name: side_scores(y, stride, name) for name, (y, stride) in maps.items()}
        scores["fc8"] = x
        if fusion_stride == 1:
            scores = {name: enlarge(y, padded, f"{name}_interp") for name, y in scores.items()}
        x = layers.Add(dtype="float32", name="fusion")(list(scores.values()))
    x = layers.Identity(dtype="float32", name="logits_low")(x)
    if shifted:
        inner = layers.Cropping2D(((1, 0), (1, 0)), name="pad_inner")(padded)
        x = RepeatEdge(dtype="float32", name="upscore_edge")(enlarge(x, inner, "upscore"))
    elif not (multiscale and fusion_stride == 1):
        x = enlarge(x, padded, "upscore")
    logits = CropLike(dtype="float32", name="logits")(x, image)

    model = keras.Model(image, logits, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
