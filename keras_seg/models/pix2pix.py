"""pix2pix: a U-Net generator and the patch discriminators that it is trained against.

Isola, Zhu, Zhou, Efros. "Image-to-Image Translation with Conditional Adversarial Networks",
CVPR 2017. https://arxiv.org/abs/1611.07004; details as in the authors' two releases,
phillipi/pix2pix (Torch7) and junyanz/pytorch-CycleGAN-and-pix2pix (PyTorch).

    Pix2PixGenerator, for an image of 256 x 256
    down1   conv4x4/2                               64   128    up8   deconv4x4/2  512    2
    down2   leaky ReLU, conv4x4/2, BN              128    64    up7                512    4
    down3   the same                               256    32    up6                512    8
    down4                                          512    16    up5                512   16
    down5                                          512     8    up4                256   32
    down6                                          512     4    up3                128   64
    down7                                          512     2    up2                 64  128
    down8   leaky ReLU, conv4x4/2, no BN           512     1    logits  no BN        K  256

    up8 is ReLU, deconv4x4/2, BN on down8; each later one is the same on the one before joined with
    the encoder's map of its size. `depth=7` is the published form for 128 x 128: without one of the
    stages of 512.

    PatchGAN, on image and label map joined, for 256 x 256 and a patch of 70
    patch1  conv4x4/2, leaky ReLU                   64   128
    patch2  conv4x4/2, BN, leaky ReLU              128    64
    patch3  conv4x4/2, BN, leaky ReLU              256    32
    patch4  conv4x4/1, BN, leaky ReLU              512    31
    logits  conv4x4/1                                1    30

    PixelGAN: conv1x1 to 64, leaky ReLU; conv1x1 to 128, BN, leaky ReLU; conv1x1 to 1.

    parameters                               form="pytorch"   form="torch7"
    Pix2PixGenerator(3)                          54,413,955      54,419,459
    Pix2PixGenerator(19), (21)                                   54,452,243, 54,456,341
    Pix2PixGenerator(3, depth=7)                                 41,833,475
    PatchGAN(6)                                   2,768,705       2,769,601
    PatchGAN(3 + 19), PatchGAN(3 + 21)            2,785,089,      2,785,985,
                                                  2,787,137       2,788,033

The forms differ in three things. "pytorch": no bias before a normalisation, in down1 and in the
last encoder stage; the decoder joins [encoder, decoder]; dropout in the stages after the innermost
whose width is still the largest (up7, up6, up5). "torch7", the original: a bias everywhere (which
its training sets back to zero in every step), [decoder, encoder], dropout in the first three.

Faithful: kernels, widths, normalisation, order of operations, N(0, 0.02) initialisation.
Where we differ: the authors use the statistics of the batch and keep dropout on also when they
test; here inference is deterministic and uses the running averages, as every other model
(`generator(image, training=True)` is their way, and moves the averages). The releases take
multiples of 2**depth only; here a map of odd size is rounded up on the way down and cut on the
way up, so any size works. Outputs are logits, for a label map; `output="image"` gives the published
tanh. The discriminators return logits, without the release's sigmoid.
"""

import keras
from keras import layers

from keras_seg.layers import (
    BatchNormalization,
    CropLike,
    check_size,
    image_input,
    preprocess,
)
from keras_seg.utils import check_counts, unknown_name
from keras_seg.weights import load_own

FORMS = ("pytorch", "torch7")
# Pixels of the input that one score sees: number of strided convolutions.
PATCHES = {16: 1, 34: 2, 70: 3, 142: 4, 286: 5, 574: 6}


def Pix2PixGenerator(
    num_classes,
    input_shape=(None, None, 3),
    *,
    depth=8,
    form="pytorch",
    filters=64,
    output="logits",
    dropout=0.5,
    preprocessing=(127.5, 127.5),
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="pix2pix_generator",
):
    """Build the U-Net generator of pix2pix as a functional model.

    Args:
        num_classes: channels of the output: classes, or 3 for a colour image.
        input_shape: (H, W, C), H and W may be None. Any size works; those of the paper are
            multiples of 2**depth.
        depth: number of halvings: 8 (the paper's 256 x 256), 7 (128 x 128), at least 2.
        form: "pytorch" or "torch7", see the top of this file.
        filters: channels of the first stage; the stages have 1, 2, 4, 8, 8, ... times as many.
        output: "logits", or "image" for tanh of them.
        dropout: rate in the decoder's first stages, see the top of this file.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
            Default: to -1..1.
        bn_momentum, bn_epsilon: of every batch normalisation.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes), or to an image of that shape in -1..1.

    Raises:
        ValueError: for an unknown form or output, a wrong depth or number of classes.
    """
    _check_form(form)
    if output not in ("logits", "image"):
        raise unknown_name("output of Pix2PixGenerator", output, ("logits", "image"))
    check_counts(least=2, depth=depth)
    torch7 = form == "torch7"
    normalisation = (bn_momentum, bn_epsilon)
    dropped = range(depth - 2, depth + 1) if torch7 else range(5, depth)

    def width(stage):
        return filters * min(2 ** (stage - 1), 8)

    def deconvolution(x, channels, use_bias, name, dtype=None):
        return layers.Conv2DTranspose(
            channels,
            4,
            strides=2,
            padding="same",
            use_bias=use_bias,
            kernel_initializer=_normal(),
            dtype=dtype,
            name=name,
        )(x)

    image = image_input(input_shape, num_classes, filters=filters)
    x = preprocess(image, preprocessing)
    maps = [x]  # of size H, H/2, H/4, ...
    for stage in range(1, depth + 1):
        if stage > 1:
            x = _leaky_relu(x, f"down{stage}_relu")
        # 4x4 with stride 2: "same" pads one on either side of an even size, as the releases do.
        x = layers.Conv2D(
            width(stage),
            4,
            strides=2,
            padding="same",
            use_bias=torch7,
            kernel_initializer=_normal(),
            name=f"down{stage}_conv",
        )(x)
        if 1 < stage < depth:
            x = _batch_norm(f"down{stage}_bn", *normalisation)(x)
        maps.append(x)

    for stage in range(depth, 1, -1):
        skip = maps[stage - 1]
        x = layers.ReLU(name=f"up{stage}_relu")(x)
        x = deconvolution(x, width(stage - 1), torch7, f"up{stage}_deconv")
        x = _batch_norm(f"up{stage}_bn", *normalisation)(x)
        if dropout and stage in dropped:
            x = layers.Dropout(dropout, name=f"up{stage}_dropout")(x)
        x = CropLike(name=f"up{stage}_crop")(x, skip)
        joined = [x, skip] if torch7 else [skip, x]
        x = layers.Concatenate(name=f"up{stage}_concat")(joined)

    x = layers.ReLU(name="features")(x)
    x = deconvolution(x, num_classes, True, "logits_low", dtype="float32")
    x = CropLike(dtype="float32", name="logits")(x, image)
    if output == "image":
        x = layers.Activation("tanh", dtype="float32", name="tanh")(x)
    return _model(image, x, weights, name)


def PatchGAN(
    channels=6,
    *,
    receptive_field=70,
    form="pytorch",
    filters=64,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="patchgan",
):
    """Build the discriminator that scores overlapping patches of an image with its label map.

    Give real and generated pairs in two calls: in one batch, its normalisation would mix them.

    Args:
        channels: of the input: the image's and the label map's together.
        receptive_field: pixels, height and width, that one score sees: 16, 34, 70 (the paper's),
            142, 286 or 574. For 1 pixel there is `PixelGAN`.
        form: "pytorch" or "torch7", see the top of this file.
        filters: channels of the first stage; the stages have 1, 2, 4, 8, 8, ... times as many.
        bn_momentum, bn_epsilon: of every batch normalisation.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images joined with label maps (N, H, W, channels), in -1..1 (a one-hot
        map or probabilities may be 0..1), to float32 logits (N, h, w, 1), high for real. With n
        strided convolutions h = H // 2**n - 2: 30 for H = 256 and patches of 70. H and W must be at
        least 3 * 2**n.

    Raises:
        ValueError: for an unknown form or receptive field, a wrong number of channels or filters,
            or too small an image, also when the model is called (`keras_seg.layers.CheckSize`).
    """
    _check_form(form)
    if receptive_field not in PATCHES:
        known = ", ".join(map(str, PATCHES))
        raise ValueError(
            f"receptive_field must be one of {known} (for 1 there is PixelGAN), got "
            f"{receptive_field!r}."
        )
    halvings = PATCHES[receptive_field]

    def convolution(x, width, strides, use_bias, name, dtype=None):
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        return layers.Conv2D(
            width,
            4,
            strides=strides,
            use_bias=use_bias,
            kernel_initializer=_normal(),
            dtype=dtype,
            name=name,
        )(x)

    pair = _pair_input(channels, filters)
    x = check_size(pair, 3 * 2**halvings)
    for stage in range(1, halvings + 2):
        strides = 2 if stage <= halvings else 1
        use_bias = stage == 1 or form == "torch7"
        width = filters * min(2 ** (stage - 1), 8)
        x = convolution(x, width, strides, use_bias, f"patch{stage}_conv")
        if stage > 1:
            x = _batch_norm(f"patch{stage}_bn", bn_momentum, bn_epsilon)(x)
        x = _leaky_relu(x, f"patch{stage}_relu")
    x = convolution(x, 1, 1, True, "logits", dtype="float32")
    return _model(pair, x, weights, name)


def PixelGAN(
    channels=6,
    *,
    form="pytorch",
    filters=64,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="pixelgan",
):
    """Build the discriminator that scores each pixel by itself.

    Args:
        channels, form, filters, bn_momentum, bn_epsilon, weights: as of `PatchGAN`; the second
            stage has 2 * filters channels.

    Returns:
        `keras.Model` from images joined with label maps (N, H, W, channels), in -1..1, to float32
        logits (N, H, W, 1), high for real. Any size works.

    Raises:
        ValueError: for an unknown form, or a wrong number of channels or filters.
    """
    _check_form(form)

    def convolution(x, width, use_bias, name, dtype=None):
        return layers.Conv2D(
            width,
            1,
            use_bias=use_bias,
            kernel_initializer=_normal(),
            dtype=dtype,
            name=name,
        )(x)

    pair = _pair_input(channels, filters)
    x = convolution(pair, filters, True, "pixel1_conv")
    x = _leaky_relu(x, "pixel1_relu")
    x = convolution(x, 2 * filters, form == "torch7", "pixel2_conv")
    x = _batch_norm("pixel2_bn", bn_momentum, bn_epsilon)(x)
    x = _leaky_relu(x, "pixel2_relu")
    x = convolution(x, 1, form == "torch7", "logits", dtype="float32")
    return _model(pair, x, weights, name)


def _check_form(form):
    if form not in FORMS:
        raise unknown_name("form of pix2pix", form, FORMS)


def _pair_input(channels, filters):
    check_counts(channels=channels, filters=filters)
    return keras.Input((None, None, channels), name="pair", dtype="float32")


def _normal(mean=0.0):
    return keras.initializers.RandomNormal(mean, 0.02)


def _batch_norm(name, momentum, epsilon):
    """The authors draw the factor from N(1, 0.02)."""
    return BatchNormalization(momentum, epsilon, gamma_initializer=_normal(1.0), name=name)


def _leaky_relu(x, name):
    return layers.LeakyReLU(0.2, name=name)(x)


def _model(inputs, outputs, weights, name):
    model = keras.Model(inputs, outputs, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
