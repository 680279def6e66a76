"""Networks of segmentation_models.pytorch (smp), so that its checkpoints run here.

Iakubovskii. "Segmentation Models PyTorch", 2019.
https://github.com/qubvel-org/segmentation_models.pytorch (version 0.6)

smp calls its networks after papers but builds others; these are smp's, with the weights' names of
layout "smp". A checkpoint of `smp.Unet("resnet34", classes=5)` runs in
`SMPUnet(5, backbone="resnet34")`, and so on. Encoders are residual networks with the 7x7 stem, and
for SMPUnet and SMPPSPNet VGG16 without normalisation.

    network           decoder                                                      logits at
    SMPUnet           5 blocks: nearest resize to the skip, concat [up, skip],      the image
                      two conv3x3; 256, 128, 64, 32, 16 channels; conv3x3
                      (behind VGG16 two conv3x3 512 before the first block)
    SMPPSPNet         stages 2 and 3 only (512 or 128 channels, no dilation);       stride 8
                      averages over 1, 4, 9, 36 bins, conv1x1 (without normalisation
                      for the one bin), behind them the features; conv1x1 512,
                      dropout 0.2, conv3x3
    SMPDeepLabV3      output stride 8, rates 12, 24, 36, one conv3x3 behind the     stride 8
                      projection, dropout 0.5
    SMPDeepLabV3Plus  output stride 16, rates 12, 24, 36, separable in pyramid and  stride 4
                      decoder (no normalisation between the halves), one more
                      behind the projection, one in the decoder

    parameters           SMPUnet   SMPPSPNet   SMPDeepLabV3   SMPDeepLabV3Plus
    (21 classes)
    resnet34          24,439,269   1,593,397     26,012,245         22,442,597
    resnet50          32,524,005   2,330,069     39,638,869         26,682,725
    resnet101         51,516,133   2,330,069     58,630,997         45,674,853

smp's PSPNet object also holds the two stages that it never uses; they are not here.

Faithful: everything above, the resizes (final ones with align_corners; nearest ones by
floor(o * in / out)), the order of each concatenation, initialisation.
Where we differ: logits always have the image's size, where smp refuses sizes that the output stride
does not divide (`SMPUnet` takes any size in both). VGG16's pools round up, smp's down: they are the
same for multiples of 32.
"""

import keras
from keras import layers

from keras_seg.backbones import backbone_preprocessing, build_features
from keras_seg.layers import (
    AdaptiveAveragePooling2D,
    Resize,
    aspp_v3,
    conv,
    conv_bn_relu,
    image_input,
    preprocess,
    resize_logits,
    separable_conv_bn_relu,
    uniform_fan_in,
)
from keras_seg.models.deeplab_v3 import aspp_rates
from keras_seg.utils import counts, is_count, unknown_name
from keras_seg.weights import load_own

BINS = (1, 2, 3, 6)


def SMPUnet(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="resnet34",
    encoder_depth=5,
    decoder_channels=(256, 128, 64, 32, 16),
    attention=None,
    interpolation="nearest",
    filters=64,
    preprocessing=None,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="smp_unet",
):
    """Build smp's Unet: any trunk with a U-Net decoder.

    Args:
        num_classes: channels of the output (smp: `classes`); the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works.
        backbone: the encoder: "resnet18", ..., "resnet152" or "vgg16" for smp's checkpoints, or any
            other trunk of `keras_seg.backbones.build_features`. A trunk without "c1" has no skip
            there.
        encoder_depth: stages of the encoder that are used, 1 to 5.
        decoder_channels: channels of each block, from the deepest; one a stage of the encoder.
        attention: None or "scse" (smp: `decoder_attention_type`).
        interpolation: "nearest" or "bilinear" (smp: `decoder_interpolation`).
        filters: width of the trunk's first stage.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
            Default: what the trunk was trained with where that is known
            (`keras_seg.backbones.backbone_preprocessing`), otherwise "imagenet".
        bn_momentum, bn_epsilon: of every batch normalisation; trunks other than ResNet, DRN and
            wide ResNet keep their own.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes).

    Raises:
        ValueError: for an unknown backbone, attention or interpolation, a depth outside 1..5,
            another number of decoder channels, one below 16 with "scse", or a wrong number of
            classes.
    """
    if attention not in (None, "scse"):
        raise unknown_name("attention", attention, ("scse",))
    if interpolation not in ("nearest", "bilinear"):
        raise unknown_name("interpolation", interpolation, ("nearest", "bilinear"))
    _check_depth(encoder_depth)
    decoder_channels = counts("decoder_channels", decoder_channels)
    if len(decoder_channels) != encoder_depth:
        raise ValueError(
            f"decoder_channels must have {encoder_depth} values, one a stage of the encoder "
            f"(encoder_depth={encoder_depth}), got {decoder_channels}."
        )
    normalisation = {"momentum": bn_momentum, "epsilon": bn_epsilon}
    image = image_input(input_shape, num_classes, filters=filters)
    last = f"c{encoder_depth}"
    features = _encoder(backbone, image, preprocessing, (last,), filters, normalisation)

    def attend(x, name):
        return _scse(x, name) if attention else x

    x = layers.Identity(name="features")(features[last])
    if backbone == "vgg16":
        for j in (1, 2):
            x = conv_bn_relu(
                x, x.shape[-1], initializer=he_uniform, name=f"center_{j}", **normalisation
            )
    convention = {"interpolation": interpolation, "half_pixel": interpolation != "nearest"}
    for i, channels in enumerate(decoder_channels, start=1):
        stage = encoder_depth - i
        skip = features.get(f"c{stage}")
        like = image if stage == 0 else skip
        if like is None:
            x = Resize(scale=2, **convention, name=f"up{i}_resize")(x)
        else:
            x = Resize(**convention, name=f"up{i}_resize")(x, like)
        if skip is not None:
            x = layers.Concatenate(name=f"up{i}_concat")([x, skip])
            x = attend(x, f"up{i}_attention1")
        for j in (1, 2):
            x = conv_bn_relu(
                x, channels, initializer=he_uniform, name=f"up{i}_{j}", **normalisation
            )
        x = attend(x, f"up{i}_attention2")
    logits = _classify(x, num_classes, 3, dtype="float32", name="logits")
    return _model(image, logits, weights, name)


def SMPPSPNet(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="resnet34",
    encoder_depth=3,
    psp_channels=512,
    dropout=0.2,
    filters=64,
    preprocessing=None,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="smp_pspnet",
):
    """Build smp's PSPNet, which ends at stride 8 and is not the paper's (that is `PSPNet`).

    Args:
        num_classes: channels of the output (smp: `classes`); the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works; smp's are multiples of 8.
        backbone: the encoder, see `SMPUnet`.
        encoder_depth: stages of the encoder that are used, 1 to 5; smp's `upsampling` must be
            2**encoder_depth.
        psp_channels: channels behind the pyramid (smp: `psp_out_channels`).
        dropout: rate before the last convolution; drops whole maps (smp: `psp_dropout`).
        filters, preprocessing, bn_momentum, bn_epsilon, weights: see `SMPUnet`.

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes).

    Raises:
        ValueError: for an unknown backbone, a depth outside 1..5, or a wrong number of classes.
    """
    _check_depth(encoder_depth)
    normalisation = {"momentum": bn_momentum, "epsilon": bn_epsilon}
    image = image_input(input_shape, num_classes, filters=filters, psp_channels=psp_channels)
    last = f"c{encoder_depth}"
    features = _encoder(backbone, image, preprocessing, (last,), filters, normalisation)
    x = layers.Identity(name="features")(features[last])
    width = x.shape[-1] // len(BINS)
    levels = []
    for b in BINS:
        y = AdaptiveAveragePooling2D(b, name=f"ppm{b}_pool")(x)  # (N, b, b, C)
        if b == 1:  # PyTorch refuses to normalise a single value
            y = conv(y, width, 1, use_bias=True, initializer=he_uniform, name=f"ppm{b}_conv")
            y = layers.ReLU(name=f"ppm{b}_relu")(y)
        else:
            y = conv_bn_relu(y, width, 1, initializer=he_uniform, name=f"ppm{b}", **normalisation)
        levels.append(Resize(align_corners=True, name=f"ppm{b}_resize")(y, x))
    x = layers.Concatenate(name="ppm")([*levels, x])
    x = conv_bn_relu(x, psp_channels, 1, initializer=he_uniform, name="head", **normalisation)
    if dropout:
        x = layers.SpatialDropout2D(dropout, name="head_dropout")(x)
    x = _classify(x, num_classes, 3, name="logits_low")
    return _model(image, resize_logits(x, image, align_corners=True), weights, name)


def SMPDeepLabV3(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="resnet34",
    output_stride=8,
    rates=(12, 24, 36),
    separable=False,
    decoder_channels=256,
    dropout=0.5,
    filters=64,
    preprocessing=None,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="smp_deeplab_v3",
):
    """Build smp's DeepLabV3: torchvision's, but with every block of a dilated stage dilated alike.

    Args:
        num_classes: channels of the output (smp: `classes`); the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works; smp's are multiples of 8 (16).
        backbone: the encoder, see `SMPUnet`.
        output_stride: of the trunk: 8, 16 or 32 (smp: `encoder_output_stride`, 8 or 16).
        rates: dilations of the pyramid, at every output stride (smp: `decoder_atrous_rates`).
        separable: depthwise separable convolutions in the pyramid (smp: `decoder_aspp_separable`).
        decoder_channels: channels of the pyramid's branches and behind it.
        dropout: rate behind the pyramid (smp: `decoder_aspp_dropout`).
        filters, preprocessing, bn_momentum, bn_epsilon, weights: see `SMPUnet`.

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes).

    Raises:
        ValueError: for an unknown backbone or output stride, rates that are no positive whole
            numbers, or a wrong number of classes.
    """
    normalisation = {"momentum": bn_momentum, "epsilon": bn_epsilon}
    image = image_input(
        input_shape, num_classes, filters=filters, decoder_channels=decoder_channels
    )
    features = _encoder(
        backbone, image, preprocessing, ("c5",), filters, normalisation, output_stride=output_stride
    )
    x = layers.Identity(name="features")(features["c5"])
    x = aspp_v3(
        x,
        aspp_rates(rates, output_stride),
        decoder_channels,
        convolution=_separable if separable else conv_bn_relu,
        dropout=dropout,
        initializer=uniform_fan_in,
        **normalisation,
    )
    x = conv_bn_relu(x, decoder_channels, initializer=uniform_fan_in, name="head", **normalisation)
    x = _classify(x, num_classes, 1, initializer=uniform_fan_in, name="logits_low")
    return _model(image, resize_logits(x, image, align_corners=True), weights, name)


def SMPDeepLabV3Plus(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="resnet34",
    output_stride=16,
    rates=(12, 24, 36),
    separable=True,
    decoder_channels=256,
    dropout=0.5,
    filters=64,
    preprocessing=None,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="smp_deeplab_v3_plus",
):
    """Build smp's DeepLabV3Plus.

    Args:
        num_classes: channels of the output (smp: `classes`); the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works; smp's are multiples of 16 (8).
        backbone: the encoder, see `SMPUnet`; a trunk with "c2" and "c5".
        output_stride: of the trunk: 16, 8 or 32 (smp: `encoder_output_stride`, 8 or 16).
        rates: dilations of the pyramid, at every output stride (smp: `decoder_atrous_rates`).
        separable: depthwise separable convolutions in the pyramid (smp: `decoder_aspp_separable`);
            those of the decoder always are.
        decoder_channels: channels of the pyramid and the decoder.
        dropout: rate behind the pyramid (smp: `decoder_aspp_dropout`).
        filters, preprocessing, bn_momentum, bn_epsilon, weights: see `SMPUnet`.

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes).

    Raises:
        ValueError: for an unknown backbone or output stride, rates that are no positive whole
            numbers, or a wrong number of classes.
    """
    normalisation = {"momentum": bn_momentum, "epsilon": bn_epsilon}
    head = {"initializer": uniform_fan_in, **normalisation}
    image = image_input(
        input_shape, num_classes, filters=filters, decoder_channels=decoder_channels
    )
    features = _encoder(
        backbone,
        image,
        preprocessing,
        ("c2", "c5"),
        filters,
        normalisation,
        output_stride=output_stride,
    )
    x = layers.Identity(name="features")(features["c5"])
    x = aspp_v3(
        x,
        aspp_rates(rates, output_stride),
        decoder_channels,
        convolution=_separable if separable else conv_bn_relu,
        dropout=dropout,
        **head,
    )
    x = _separable(x, decoder_channels, 3, name="head", **head)
    low = conv_bn_relu(features["c2"], 48, 1, name="low_level", **head)
    x = Resize(align_corners=True, name="decoder_resize")(x, low)
    x = layers.Concatenate(name="decoder_concat")([x, low])
    x = _separable(x, decoder_channels, 3, name="decoder", **head)
    x = _classify(x, num_classes, 1, initializer=uniform_fan_in, name="logits_low")
    return _model(image, resize_logits(x, image, align_corners=True), weights, name)


def he_uniform():
    """U(-a, a) with a = sqrt(6 / fan-in): smp's initialisation of Unet's and PSPNet's decoders."""
    return keras.initializers.HeUniform()


def _encoder(backbone, image, preprocessing, needs, filters, normalisation, **options):
    """Features of the image, those in `needs` among them."""
    if preprocessing is None:
        preprocessing = backbone_preprocessing(backbone, image.shape[-1])
    return build_features(
        backbone,
        preprocess(image, preprocessing),
        needs=needs,
        filters=filters,
        bn_momentum=normalisation["momentum"],
        bn_epsilon=normalisation["epsilon"],
        **options,
    )


def _separable(x, filters, kernel_size, **options):
    return separable_conv_bn_relu(x, filters, kernel_size, depthwise_bn=False, **options)


def _classify(
    x, num_classes, kernel_size, *, initializer=keras.initializers.GlorotUniform, **options
):
    """The last convolution, to the classes."""
    return layers.Conv2D(
        num_classes, kernel_size, padding="same", kernel_initializer=initializer(), **options
    )(x)


def _scse(x, name):
    """Concurrent squeeze and excitation of space and channels (Roy et al., MICCAI 2018)."""
    channels = x.shape[-1]
    if channels < 16:
        raise ValueError(
            f"attention 'scse' squeezes channels to a sixteenth, and {name} has only {channels}. "
            "Each of decoder_channels must be 16 or more."
        )

    def dense(y, filters, part, activation):
        return layers.Conv2D(
            filters,
            1,
            activation=activation,
            kernel_initializer=he_uniform(),
            name=f"{name}_{part}",
        )(y)

    y = AdaptiveAveragePooling2D(1, name=f"{name}_pool")(x)
    y = dense(y, channels // 16, "squeeze", "relu")
    y = dense(y, channels, "excite", "sigmoid")
    z = dense(x, 1, "space", "sigmoid")
    y = layers.Multiply(name=f"{name}_by_channel")([x, y])
    z = layers.Multiply(name=f"{name}_by_place")([x, z])
    return layers.Add(name=name)([y, z])


def _check_depth(depth):
    if not is_count(depth) or depth > 5:
        raise ValueError(f"encoder_depth must be a whole number from 1 to 5, got {depth!r}.")


def _model(image, logits, weights, name):
    model = keras.Model(image, logits, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
