"""DeepLab v2: atrous spatial pyramid pooling and multi-scale inputs, on ResNet or VGG16.

Chen, Papandreou, Kokkinos, Murphy, Yuille. "DeepLab: Semantic Image Segmentation with Deep
Convolutional Nets, Atrous Convolution, and Fully Connected CRFs", TPAMI 2018.
https://arxiv.org/abs/1606.00915; layers as in the authors' Caffe networks and their port
kazuto1011/deeplab-pytorch.

    part      ResNet-101, 321x321 image                                     channels   size
    stem      conv7x7/2, max-pool 3x3/2 that rounds up                            64   161, 81
    stage2    3 bottlenecks                                                      256   81
    stage3    4 bottlenecks, stride on the first 1x1                             512   41
    stage4    23 bottlenecks, dilation 2                                        1024   41
    stage5    3 bottlenecks, dilation 4                                         2048   41
    aspp      for each rate conv3x3, dilated, with bias; their sum                 K   41
    logits    resize by 8, corners aligned                                         K   321

    VGG16     DeepLab v1's trunk with 3x3 pools (see deeplab_v1.py)              512   41
    branch    for each rate fc6 conv3x3, dilated, ReLU, dropout, fc7 conv1x1,
              ReLU, dropout, fc8 conv1x1; the sum of fc8                     1024, K   41

    head        rates
    aspp-l      6, 12, 18, 24
    aspp-s      2, 4, 8, 12
    largefov    12 (on VGG16 after pool5 averaged over 3x3: the network of DeepLab v1)

    parameters, 21 classes
    resnet101, aspp            44,048,532
    vgg16, aspp-l or aspp-s    37,877,652
    vgg16, largefov            20,505,429

Multi-scale inputs ("MSC"): the same network sees the image at 1, 0.75 and 0.5; the scores of the
smaller ones are resized to those of the first, and each class takes the largest of the three. The
paper trains it with four losses of weight 1 (one for each scale and one for the maximum), batch
normalisation frozen (`layer.trainable = False`), and 10 times the learning rate for the last layers
("aspp", "fc8").

Faithful: strides, dilation, the pool that rounds up, branches and their sum, initialisation of the
last layers, corner alignment. On VGG16, images are padded with the mean pixel, below and on the
right, to the next size 8 k + 1, as the authors' data layer does, and the logits are cut to the
image again. With `align_corners=False` no image is padded and resizes have half-pixel centres.
Where we differ: the authors' file of ASPP on VGG16 was not found, its branches begin at pool5 as in
public ports; with a ResNet no image is padded, as in the port, so that scores of stride 8 are
those of kazuto1011/deeplab-pytorch at every size (`align_corners=False` gives its logits and
multi-scale inputs too); the authors pad to 513 there as well. The single-scale outputs have the
size of the image, so that all four losses read the same labels; the authors shrink the labels to
each output. Off the grid 8 k + 1 a smaller scale (0.75 of 321 is 241) has scores between two grids,
as there.

Weights: `keras_seg.weights.load(model, file, layout="deeplab")` reads the authors' `.caffemodel`
files, layout "kazuto1011" the port's.
"""

import keras
from keras import layers

from keras_seg.backbones import atrous_vgg16, backbone_preprocessing, build_features
from keras_seg.layers import (
    CropLike,
    PadToStep,
    Resize,
    ResizeBy,
    aspp_sum,
    image_input,
    large_fov,
    preprocess,
    resize_logits,
    score_conv,
)
from keras_seg.utils import unknown_name
from keras_seg.weights import load_own

HEADS = {"aspp-l": (6, 12, 18, 24), "aspp-s": (2, 4, 8, 12), "largefov": (12,)}


def DeepLabV2(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="resnet101",
    head="aspp-l",
    scales=(),
    aux=False,
    filters=64,
    fc_channels=1024,
    dropout=0.5,
    align_corners=True,
    preprocessing=None,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="deeplab_v2",
):
    """Build DeepLab v2 as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works; the paper's are 8 k + 1 (321
            and 513).
        backbone: "resnet101", another depth, "vgg16" (each in the authors' form), or whatever else
            `keras_seg.backbones.build_features` takes.
        head: "aspp-l", "aspp-s" or "largefov" (see the top of this file).
        scales: further sizes of the image for multi-scale inputs: (0.75, 0.5) in the paper.
        aux: with `scales`: add the outputs of the single scales, "scale_100", "scale_75",
            "scale_50", for a loss each.
        filters: width of the trunk's first stage.
        fc_channels, dropout: channels of fc6 and fc7, and the rate after each; "vgg16" only.
        align_corners: resize convention of logits and scales; the authors' is True, that of the
            port False.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
            Default: "caffe" for the trunks of the paper, for others what they were trained with
            (`keras_seg.backbones.backbone_preprocessing`).
        bn_momentum, bn_epsilon: of every batch normalisation; trunks other than ResNet, DRN and
            wide ResNet keep their own.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes); with `aux` to a dict of such logits, "logits" the fused ones.

    Raises:
        ValueError: for an unknown backbone or head, scales that are no further sizes, `aux` without
            any, or a wrong number of classes.
    """
    if head not in HEADS:
        raise unknown_name("head", head, HEADS)
    _check_scales(scales, aux)
    rates = HEADS[head]

    def vgg_scores(x):
        features = atrous_vgg16(x, filters=filters)
        x = features["pool5a" if head == "largefov" else "pool5"]
        x = layers.Identity(name="features")(x)
        branches = []
        for i, rate in enumerate(rates, start=1):
            suffix = f"_{i}" if len(rates) > 1 else ""
            y = large_fov(x, fc_channels, 3, rate, dropout=dropout, suffix=suffix)
            branches.append(score_conv(y, num_classes, name=f"fc8{suffix}"))
        return layers.Add(name="aspp")(branches) if len(branches) > 1 else branches[0]

    def scores_of(x):
        """Scores of stride 8."""
        if backbone == "vgg16":
            return vgg_scores(x)
        own = {"stride_in": "1x1", "stem_pool": "ceil", "filters": filters}
        norm = {"bn_momentum": bn_momentum, "bn_epsilon": bn_epsilon}
        features = build_features(backbone, x, output_stride=8, **own, **norm)
        return aspp_sum(layers.Identity(name="features")(features["c5"]), num_classes, rates)

    image = image_input(input_shape, num_classes, filters=filters, fc_channels=fc_channels)
    if preprocessing is None:
        preprocessing = backbone_preprocessing(backbone, image.shape[-1], default="caffe")
    padded = preprocess(image, preprocessing)
    pads = align_corners and backbone == "vgg16"
    if pads:
        padded = PadToStep(8, 1, name="pad")(padded)

    x = scores_of(padded)
    scores = {100: x}
    if scales:
        network = keras.Model(padded, x)
        fused = [x]
        for scale in scales:
            percent = round(100 * scale)
            smaller = ResizeBy(scale, align_corners, name=f"image_{percent}")(padded)
            y = scores[percent] = network.call(smaller)  # the same layers once more
            fused.append(Resize(align_corners=align_corners, name=f"scores_{percent}")(y, x))
        x = layers.Maximum(name="scores")(fused)
    x = layers.Identity(name="logits_low")(x)

    def at_size_of_image(x, name):
        if not pads:
            return resize_logits(x, image, align_corners=align_corners, name=name)
        x = resize_logits(x, padded, align_corners=True, name=f"{name}_padded")
        return CropLike(dtype="float32", name=name)(x, image)

    outputs = at_size_of_image(x, "logits")
    if aux:
        singles = {f"scale_{n}": at_size_of_image(y, f"scale_{n}") for n, y in scores.items()}
        outputs = {"logits": outputs, **singles}
    model = keras.Model(image, outputs, name=name)
    if weights is not None:
        load_own(model, weights)
    return model


def _check_scales(scales, aux):
    given = scales if isinstance(scales, list | tuple) else (None,)  # None is no number
    numbers = [s for s in given if isinstance(s, int | float) and s > 0]
    percents = [100, *(round(100 * s) for s in numbers)]
    if len(numbers) < len(given) or len(set(percents)) < len(percents) or 0 in percents:
        raise ValueError(
            "scales must be different fractions of the image's size besides 1, such as "
            f"(0.75, 0.5), got {scales!r}."
        )
    if aux and not scales:
        raise ValueError(
            "aux=True adds the outputs of the single scales: name them, scales=(0.75, 0.5)."
        )
