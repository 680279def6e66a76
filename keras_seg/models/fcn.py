"""FCN-32s, FCN-16s and FCN-8s on VGG16, AlexNet, GoogLeNet, and on any other trunk.

Long, Shelhamer, Darrell. "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015.
https://arxiv.org/abs/1411.4038 (PAMI 2016: 1605.06211); layers, padding and crops as in the
released networks (shelhamer/fcn.berkeleyvision.org: voc-fcn32s, 16s, 8s, 8s-atonce, fcn-alexnet,
siftflow-fcn*, nyud-fcn32s-color-hha).

    VGG16                                    channels   500x500 image   stride
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

    AlexNet                                  channels   500x500 image   stride
    conv1 (100 zeros around)                       96   173             4
    pool1, norm1, conv2                           256    86             8
    pool2, norm2, conv3, conv4, conv5             256    43             16
    pool5                                         256    21             32
    fc6   conv6x6 without padding, fc7           4096    16
    FCN32s   x32 -> 543, cut from 18;   16s: + score_pool2;   8s: + score_pool1

    GoogLeNet: the trunk to inception_5b (1024 channels, stride 32), dropout 0.4, score_fr
    FCN32s   x32, cut from 1;   16s: + score_inception_4e;   8s: + score_inception_3b

    parameters, 21 classes        all   without the fixed kernels   receptive field
    FCN32s                136,152,917                 134,346,581   404
    FCN16s                134,815,994                 134,357,354
    FCN8s                 134,489,759                 134,362,751
    FCN32s, AlexNet        58,704,590                  56,954,261   355
    FCN32s, GoogLeNet       7,745,406                   5,995,077   715
    FCNLateFusion: twice FCN32s, with one set of fixed kernels

Faithful: the padding of 100 ("legacy"), which makes every crop a constant and any image large
enough for fc6; poolings that round up; score layers that start at zero (section 4.3); transposed
convolutions with the fixed bilinear kernel; dropout of single units; 8s trained at once with pool4
scaled by 0.01 and pool3 by 0.0001; late fusion as the mean of two networks' scores.

Where we differ: the paper lets the intermediate up-samplings learn; here, as in the authors'
release, all are fixed. The 0.01 and 0.0001 are constants here, frozen weights there (768 more).
`legacy_padding=False` is ours: padding 1 in VGG's conv1_1 and 3 in fc6 (AlexNet: 5 and 3), and
crops of what is up-sampled. Scores lie over the same pixel centres as before, but the trunk does
not compute a frame of 100 zeros (a 96x128 image: an eighth of the work) and sees the border of the
image nearer. `upsampling="resize"` computes the same numbers by padding, a bilinear resize and a
crop, without the dense kernels (7 MB for 21 classes) and with operators that every mobile runtime
has. The release has AlexNet for 32s only and no GoogLeNet, whose padding is its own here, not 100;
the skips of both are ours. Where cells lie on whole pixels, as in both, kernels have odd sides (63
in the release's AlexNet): even ones would shift all by half a pixel. Late fusion with skips (in the
PAMI paper, not released) takes the mean of the skips' scores too.
Trunks other than these three have no fc6 and fc7: the score layers lie on c5, c4 and c3, and scores
are resized to each other's size.
"""

import re
from typing import NamedTuple

import keras
import numpy as np
from keras import layers, ops

from keras_seg.backbones import (
    alexnet,
    backbone_preprocessing,
    build_features,
    googlenet,
    list_backbones,
    vgg16,
)
from keras_seg.layers import (
    CheckSize,
    CropLike,
    Preprocess,
    Resize,
    ResizeBy,
    bilinear_upsampling,
    image_input,
    resize_logits,
)
from keras_seg.utils import is_count, unknown_name
from keras_seg.weights import load_own
from keras_seg.weights.checks import layers_with_weights, raise_misfits

# The trunks that the paper's authors put scores on, and the maps of stride 16 and 8 below them.
SKIPS = {
    "vgg16": ("pool4", "pool3"),
    "alexnet": ("pool2", "pool1"),
    "googlenet": ("inception_4e", "inception_3b"),
}
# Whether the padding of 100 is there -> the pixel (from the image's first, in rows and columns)
# over which the first cell of the score layer and of both skips lies.
FIRST_PIXEL = {
    "vgg16": {True: (12.5, -91.5, -95.5), False: (15.5, 7.5, 3.5)},
    "alexnet": {True: (13, -83, -91), False: (12, 12, 4)},
    "googlenet": {False: (30, 14, 6)},
}
AT_ONCE = (0.01, 0.0001)


def FCN32s(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="vgg16",
    filters=64,
    fc_channels=4096,
    legacy_padding=None,
    upsampling=None,
    dropout=None,
    other_classes=None,
    frozen_trunk=False,
    preprocessing=None,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="fcn32s",
):
    """Build FCN-32s as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works with the padding of 100;
            without it AlexNet needs 29 rows and columns, GoogLeNet 31, and another trunk what it
            needs itself. RGB-D by early fusion is C = 4.
        backbone: "vgg16", "alexnet" or "googlenet", the paper's networks; or another trunk, such
            as "resnet50" or "keras:MobileNetV2", see `keras_seg.backbones.build_features`.
        filters: width of the trunk: channels of the first convolution of VGG16 and GoogLeNet (64)
            and of a ResNet; the others are multiples of it. AlexNet's 96 are 1.5 times 64.
        fc_channels: channels of fc6 and fc7 (VGG16, AlexNet).
        legacy_padding: the released networks' padding of 100 and crops, the default for VGG16 and
            AlexNet; False pads as the trunk does (see the top of this file).
        upsampling: "deconv" (transposed convolutions with frozen bilinear kernels), the default of
            the three, or "resize" (the same numbers without kernels), the only one of the others.
        dropout: rate after fc6 and fc7, or before the score layer. Default 0.5, GoogLeNet 0.4.
        other_classes: further label spaces, {"geometric": 3} for SIFT Flow: each adds an output of
            that name with its own score layers, to be trained with a loss of its own.
        frozen_trunk: train the score layers only ("FCN-32s-fixed"). A trunk that was given as a
            model is frozen itself.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
            Default: "caffe" for the three, for others what the trunk was trained with
            (`keras_seg.backbones.backbone_preprocessing`).
        bn_momentum, bn_epsilon: of every batch normalisation of a ResNet, DRN or wide ResNet by
            name.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes); with `other_classes` to {"logits": ..., "geometric": ...}. They
        start at 0 for every class.

    Raises:
        ValueError: for an unknown backbone or upsampling, an option that the backbone does not
            have, or a wrong number of classes.
    """
    return _fcn(
        32,
        num_classes,
        input_shape,
        backbone=backbone,
        filters=filters,
        fc_channels=fc_channels,
        legacy_padding=legacy_padding,
        upsampling=upsampling,
        dropout=dropout,
        other_classes=other_classes,
        frozen_trunk=frozen_trunk,
        preprocessing=preprocessing,
        bn={"bn_momentum": bn_momentum, "bn_epsilon": bn_epsilon},
        weights=weights,
        name=name,
    )


def FCN16s(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="vgg16",
    filters=64,
    fc_channels=4096,
    legacy_padding=None,
    upsampling=None,
    dropout=None,
    at_once=False,
    other_classes=None,
    frozen_trunk=False,
    preprocessing=None,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="fcn16s",
):
    """FCN-16s: the scores of stride 32, twice as large, plus those of pool4 (stride 16).

    `transfer_fcn` starts it from an FCN-32s. Result and errors are those of `FCN32s`.

    Args:
        at_once: multiply pool4 by 0.01 before its score layer, so that the whole network can be
            trained in one go.
        others: as of `FCN32s`.
    """
    return _fcn(
        16,
        num_classes,
        input_shape,
        backbone=backbone,
        filters=filters,
        fc_channels=fc_channels,
        legacy_padding=legacy_padding,
        upsampling=upsampling,
        dropout=dropout,
        at_once=at_once,
        other_classes=other_classes,
        frozen_trunk=frozen_trunk,
        preprocessing=preprocessing,
        bn={"bn_momentum": bn_momentum, "bn_epsilon": bn_epsilon},
        weights=weights,
        name=name,
    )


def FCN8s(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="vgg16",
    filters=64,
    fc_channels=4096,
    legacy_padding=None,
    upsampling=None,
    dropout=None,
    at_once=False,
    other_classes=None,
    frozen_trunk=False,
    preprocessing=None,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="fcn8s",
):
    """FCN-8s: the scores of FCN-16s, twice as large, plus those of pool3 (stride 8).

    `transfer_fcn` starts it from an FCN-16s. Result and errors are those of `FCN32s`.

    Args:
        at_once: multiply pool4 by 0.01 and pool3 by 0.0001 before their score layers, so that the
            whole network can be trained in one go (voc-fcn8s-atonce).
        others: as of `FCN32s`.
    """
    return _fcn(
        8,
        num_classes,
        input_shape,
        backbone=backbone,
        filters=filters,
        fc_channels=fc_channels,
        legacy_padding=legacy_padding,
        upsampling=upsampling,
        dropout=dropout,
        at_once=at_once,
        other_classes=other_classes,
        frozen_trunk=frozen_trunk,
        preprocessing=preprocessing,
        bn={"bn_momentum": bn_momentum, "bn_epsilon": bn_epsilon},
        weights=weights,
        name=name,
    )


def FCNLateFusion(
    num_classes,
    input_shape=(None, None, 6),
    *,
    stride=32,
    two_inputs=False,
    backbone="vgg16",
    filters=64,
    fc_channels=4096,
    legacy_padding=None,
    upsampling=None,
    dropout=None,
    frozen_trunk=False,
    preprocessing=("nyud", "hha"),
    weights=None,
    name="fcn_late_fusion",
):
    """Two FCNs, one of the colours and one of the depth, and the mean of their scores.

    nyud-fcn32s-color-hha of the release: depth as three channels HHA (horizontal disparity, height
    above ground, angle with gravity; Gupta et al. 2014). Layers of the one are `rgb_conv1_1`, ...,
    `rgb_score_fr`, of the other `depth_conv1_1`, ...; the scores are joined in `score_fr`.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C) of colours and depth together: the first 3 channels are RGB, the
            others (3 for HHA, 1 for plain depth) go to the second network.
        stride: 32, or 16 or 8 for skips of both networks.
        two_inputs: False: one image of all channels, as `fit`, `Predictor` and exported files take
            it. True: a dict of two images, {"image": RGB, "depth": ...}, for a training loop that
            has them apart. Both forms have the same weights.
        preprocessing: a pair, for the colours and for the depth (`keras_seg.layers.Preprocess`).
            Default: the means of NYUDv2 as in the release, colours as BGR.
        backbone: "vgg16" (the release), "alexnet" or "googlenet".
        filters, fc_channels, legacy_padding, upsampling, dropout, frozen_trunk, weights: as in
            `FCN32s`.

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, or from such a dict, to float32
        logits (N, H, W, num_classes), which start at 0.

    Raises:
        ValueError: as `FCN32s`; for fewer than 4 channels, a stride other than these, or a
            preprocessing that is no pair.
    """
    if stride not in (32, 16, 8):
        raise ValueError(f"stride must be 32, 16 or 8, got {stride!r}.")
    if backbone not in SKIPS:
        raise unknown_name("backbone of FCNLateFusion", backbone, SKIPS)
    if not isinstance(preprocessing, list | tuple) or len(preprocessing) != 2:
        raise ValueError(
            "preprocessing must be a pair, one for the colours and one for the depth, such as "
            f"('nyud', 'hha'); got {preprocessing!r}."
        )
    image = image_input(input_shape, num_classes, filters=filters, fc_channels=fc_channels)
    height, width, channels = image.shape[1:]
    if channels < 4:
        raise ValueError(
            f"input_shape must have at least 4 channels, RGB and then the depth, got {channels}."
        )
    upsampling = _upsampling(upsampling, backbone)
    if two_inputs:
        image = image_input((height, width, 3), num_classes)
        depth = keras.Input((height, width, channels - 3), name="depth", dtype="float32")
        inputs = {"image": image, "depth": depth}
        parts = [image, depth]
    else:
        inputs = image
        parts = ops.split(image, [3], axis=-1)
    trunks = [
        _trunk(
            part,
            prefix,
            stride,
            backbone=backbone,
            filters=filters,
            fc_channels=fc_channels,
            legacy_padding=legacy_padding,
            dropout=dropout,
            preprocessing=mode,
        )
        for part, prefix, mode in zip(parts, ("rgb_", "depth_"), preprocessing, strict=True)
    ]
    logits = _scores(trunks, image, stride, num_classes, upsampling)
    return _model(inputs, logits, trunks, frozen_trunk, weights, name)


def _fcn(
    stride,
    num_classes,
    input_shape,
    *,
    backbone,
    filters,
    fc_channels,
    upsampling,
    at_once=False,
    other_classes,
    frozen_trunk,
    weights,
    name,
    **trunk_options,
):
    """The network whose finest scores have `stride`."""
    image = image_input(input_shape, num_classes, filters=filters, fc_channels=fc_channels)
    other_classes = {} if other_classes is None else other_classes
    if not isinstance(other_classes, dict):
        raise ValueError(
            f"other_classes must be a dict such as {{'geometric': 3}}, got {other_classes!r}."
        )
    for key, count in other_classes.items():
        if not isinstance(key, str) or not key.isidentifier() or key == "logits":
            raise ValueError(f"other_classes must have names such as 'geometric', got {key!r}.")
        if not is_count(count):
            raise ValueError(f"other_classes[{key!r}] must be a number of classes, got {count!r}.")
    upsampling = _upsampling(upsampling, backbone)
    trunk = _trunk(
        image,
        "",
        stride,
        backbone=backbone,
        filters=filters,
        fc_channels=fc_channels,
        **trunk_options,
    )
    if at_once:
        # About equal norms of the three maps (PAMI paper), so that no stage drowns the others.
        skips = [
            (key, layers.Rescaling(factor, name=f"scale_{key}")(x))
            for (key, x), factor in zip(trunk.skips, AT_ONCE, strict=False)
        ]
        trunk = trunk._replace(skips=skips)
    logits = _scores([trunk], image, stride, num_classes, upsampling)
    if other_classes:
        logits = {"logits": logits}
        for key, count in other_classes.items():
            logits[key] = _scores([trunk], image, stride, count, upsampling, key)
    return _model(image, logits, [trunk], frozen_trunk, weights, name)


class _Trunk(NamedTuple):
    """What score layers are put on."""

    prefix: str  # of the layers' names
    top: keras.KerasTensor  # stride 32
    skips: list  # of (name, map), of stride 16, then 8; as many as the network has
    first_pixel: tuple | None  # of top and skips, see FIRST_PIXEL; None where it is not known


def _trunk(
    image,
    prefix,
    stride,
    *,
    backbone,
    filters,
    fc_channels,
    legacy_padding,
    dropout,
    preprocessing,
    bn=None,
):
    """Everything below the score layers."""
    ours = isinstance(backbone, str) and backbone in SKIPS
    grids = FIRST_PIXEL[backbone] if ours else {False: None}
    if legacy_padding is None:
        legacy_padding = True in grids
    if not isinstance(legacy_padding, bool):
        raise ValueError(f"legacy_padding must be True, False or None, got {legacy_padding!r}.")
    if legacy_padding not in grids:
        raise ValueError(
            f"legacy_padding is for vgg16 and alexnet, which were released with it; {backbone!r} "
            "has its own padding."
        )
    skips = (SKIPS[backbone] if ours else ("c4", "c3"))[: {32: 0, 16: 1, 8: 2}[stride]]
    if dropout is None:
        dropout = 0.4 if backbone == "googlenet" else 0.5

    def convolution(x, kernel_size, padding, name):
        x = layers.Conv2D(
            fc_channels,
            kernel_size,
            padding=padding,
            kernel_initializer="he_normal",
            name=f"{prefix}{name}",
        )(x)
        return drop(layers.ReLU(name=f"{prefix}{name}_relu")(x), f"{name}_dropout")

    def drop(x, name):
        return layers.Dropout(dropout, name=f"{prefix}{name}")(x) if dropout else x

    if preprocessing is None:
        preprocessing = (
            "caffe" if ours else backbone_preprocessing(backbone, channels=image.shape[-1])
        )
    x = image
    if ours and not legacy_padding and backbone != "vgg16":
        least = 31 if backbone == "googlenet" else 29
        x = CheckSize(least, dtype="float32", name=f"{prefix}check_size")(x)
    x = Preprocess(preprocessing, dtype="float32", name=f"{prefix}preprocess")(x)

    if backbone == "vgg16":
        features = vgg16(
            x, filters=filters, first_padding=100 if legacy_padding else 1, prefix=prefix
        )
        x = convolution(features["pool5"], 7, "valid" if legacy_padding else "same", "fc6")
        x = convolution(x, 1, "valid", "fc7")
    elif backbone == "alexnet":
        features = alexnet(
            x, filters=filters, first_padding=100 if legacy_padding else 5, prefix=prefix
        )
        x = features["pool5"]
        if not legacy_padding:  # "same" would pad 2 before: the first rows would have no score
            x = layers.ZeroPadding2D(3, name=f"{prefix}fc6_pad")(x)
        x = convolution(x, 6, "valid", "fc6")
        x = convolution(x, 1, "valid", "fc7")
    elif backbone == "googlenet":
        features = googlenet(x, filters=filters, prefix=prefix)
        x = drop(features["c5"], "dropout")
    else:
        features = build_features(
            backbone, x, needs=("c5", *skips), filters=filters, prefix=prefix, **(bn or {})
        )
        x = drop(features["c5"], "dropout")
    x = layers.Identity(name=f"{prefix}features")(x)
    return _Trunk(prefix, x, [(key, features[key]) for key in skips], grids[legacy_padding])


def _upsampling(chosen, backbone):
    """ "deconv" or "resize": what was chosen, or the backbone's default."""
    ours = isinstance(backbone, str) and backbone in SKIPS
    if isinstance(backbone, str) and not ours and backbone not in list_backbones():
        raise unknown_name("backbone of FCN", backbone, list_backbones())
    if chosen is None:
        return "deconv" if ours else "resize"
    if chosen not in ("deconv", "resize"):
        raise unknown_name("upsampling", chosen, ("deconv", "resize"))
    if chosen == "deconv" and not ours:
        raise ValueError(
            f"upsampling='deconv' is for {', '.join(SKIPS)}, whose maps lie where its crops expect "
            "them; leave it out."
        )
    return chosen


def _scores(trunks, image, stride, num_classes, upsampling, output="logits"):
    """Logits of the image's size from the mean of the trunks' scores.

    Layers of an `output` other than "logits" have its name at their end.
    """
    suffix = "" if output == "logits" else f"_{output}"
    grid = trunks[0].first_pixel
    odd = grid is not None and all(first == int(first) for first in grid)

    def score(maps, key):
        """Zero scores: random ones gave no gain, and a skip then starts as the coarser net."""
        key = f"score_{key}{suffix}"
        each = [
            layers.Conv2D(num_classes, 1, kernel_initializer="zeros", name=trunk.prefix + key)(x)
            for trunk, x in zip(trunks, maps, strict=True)
        ]
        return each[0] if len(each) == 1 else layers.Average(name=key)(each)

    def enlarge(x, factor, name):
        """Bilinear by `factor`, fading to zero around: h -> (h - 1) * factor + kernel rows."""
        kernel = 2 * factor - odd
        if upsampling == "deconv":
            return bilinear_upsampling(x, kernel, factor, name=name)
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        kind = ResizeBy if odd else Resize
        x = kind(scale=factor, align_corners=bool(odd), name=name)(x)
        return layers.Cropping2D(1 if odd else factor // 2, name=f"{name}_border")(x)

    def after_enlarge(first, factor, step):
        """The first pixel of a map that was at `first`; `step` pixels lie between its cells now."""
        return first - (factor - (1 if odd else 0.5)) * step

    x = score([trunk.top for trunk in trunks], "fr")
    first = grid and grid[0]
    for level, (key, _) in enumerate(trunks[0].skips, start=1):
        skip = score([trunk.skips[level - 1][1] for trunk in trunks], key)
        name = ("upscore2" if level == 1 else f"upscore_{trunks[0].skips[0][0]}") + suffix
        if grid is None:
            x = Resize(name=name)(x, skip)
        else:
            x, step = enlarge(x, 2, name), 32 >> level
            first = after_enlarge(first, 2, step)
            # Cut both to where they lie over each other.
            offset = int((first - grid[level]) / step)
            if offset > 0:
                skip = CropLike(offset, name=f"score_{key}{suffix}_crop")(skip, x)
            else:
                x = CropLike(-offset, name=f"{key}{suffix}_crop")(x, skip)
                first = grid[level]
        x = layers.Add(name=f"fuse_{key}{suffix}")([x, skip])
    x = layers.Identity(name=f"{output}_low")(x)
    if grid is None:
        return resize_logits(x, image, name=output)
    x = enlarge(x, stride, ("upscore" if stride == 32 else f"upscore{stride}") + suffix)
    offset = int(-after_enlarge(first, stride, 1))
    return CropLike(offset, dtype="float32", name=output)(x, image)


def _model(inputs, logits, trunks, frozen_trunk, weights, name):
    """The finished network."""
    model = keras.Model(inputs, logits, name=name)
    if frozen_trunk:
        maps = [[trunk.top, *(x for _, x in trunk.skips)] for trunk in trunks]
        for layer in keras.Model(inputs, maps).layers:
            layer.trainable = False
    if weights is not None:
        load_own(model, weights)
    return model


def transfer_fcn(coarse, fine):
    """Start a finer FCN from a coarser one: 32s -> 16s -> 8s (section 4.2 of the paper).

    Weights are copied by the layers' names. The score layers that the coarser one does not have are
    set to zero, so that the finer one begins with the coarser one's scores; its bilinear kernels
    are its own.

    Args:
        coarse: a trained `FCN32s` or `FCN16s`.
        fine: an `FCN16s` or `FCN8s` of the same classes, trunk and widths.

    Returns:
        list of the names of the score layers that start at zero.

    Raises:
        ValueError: if a layer of one is missing in the other, or has another shape (the first ten
            names of each). `fine` is untouched then.
    """
    old, new = layers_with_weights(coarse), layers_with_weights(fine)
    fresh = [name for name in new if name not in old and re.search(r"(^|_)score_", name)]
    both = [name for name in new if name in old]
    shapes = {
        name: [[tuple(w.shape) for w in found[name].weights] for found in (old, new)]
        for name in both
    }
    raise_misfits(
        f"The weights of {coarse.name} do not fit {fine.name}. Build both with the same classes, "
        "backbone and widths. Nothing was changed.",
        {
            f"not in {coarse.name}": [
                name
                for name in new
                if name not in old and name not in fresh and not _is_bilinear(new[name])
            ],
            f"not in {fine.name}": [
                name for name in old if name not in new and not _is_bilinear(old[name])
            ],
            "of another shape": [
                f"{name} has {a}, here {b}" for name, (a, b) in shapes.items() if a != b
            ],
        },
    )
    for name in both:
        new[name].set_weights(old[name].get_weights())
    for name in fresh:
        new[name].set_weights([np.zeros(w.shape) for w in new[name].weights])
    return fresh


def _is_bilinear(layer):
    return isinstance(layer, layers.Conv2DTranspose) and not layer.trainable
