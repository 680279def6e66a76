"""Patchwise networks: the class of a pixel from the window around it.

Ciresan, Giusti, Gambardella, Schmidhuber. "Deep Neural Networks Segment Neuronal Membranes in
Electron Microscopy Images", NIPS 2012: network N4.
Ning, Delhomme, LeCun, Piano, Bottou, Barbano. "Toward Automatic Phenotyping of Developing Embryos
from Videos", IEEE Transactions on Image Processing 14(9), 2005.

    ciresan_n4, window 95 x 95          dilation of the dense form
    conv4x4 48, max-pool 2x2    46      1
    conv5x5 48, max-pool 2x2    21      2
    conv4x4 48, max-pool 2x2     9      4
    conv4x4 48, max-pool 2x2     3      8
    fully connected 200          1      16 (a convolution of 3x3)
    fully connected K            1
    219,290 parameters for 1 channel and 2 classes

    ning, window 40 x 40
    conv7x7  6, subsampling     17      1
    conv6x6 16, subsampling      6      2
    conv6x6 40                   1      4
    conv1x1 K                    1
    27,101 parameters for 1 channel and 5 classes

An activation follows every layer but the last. A subsampling is an average over 2x2, times a gain
and plus a bias of each map, both trained.

`mode="patch"` is the network of one window, for training: samples can be drawn so that the classes
are balanced, as the authors did. `mode="dense"` computes the same for the windows around all
pixels of an image at once: pools keep every pixel, and the taps of all later layers are spread by 2
for each pool that came before. Both have the same weights; a file of one opens in the other. The
image is mirrored at its border, as in public trainings of N4.

Faithful: the layers of N4, as public re-implementations quote them. Where we differ, or nothing
was published: the activation of N4 is ReLU, as in the re-implementations (`activation="tanh"` is
the other candidate); the sizes of `ning` add up but stand in no public source; its second layer
sees all maps of the first (the original has a connection table); the authors average several
networks, calibrate and filter the result, which is left to the user.
"""

import keras
from keras import layers

from keras_seg.layers import CropLike, DilatedPooling2D, ReflectMargin, image_input, preprocess
from keras_seg.utils import is_count, unknown_name
from keras_seg.weights import load_own

# window; (kernel size, width as multiple of the first, whether a pool follows); first width
VARIANTS = {
    "ciresan_n4": (95, ((4, 1, True), (5, 1, True), (4, 1, True), (4, 1, True)), 48),
    "ning": (40, ((7, 1, True), (6, 8 / 3, True), (6, 20 / 3, False)), 6),
}
MODES = ("dense", "patch")


def PatchwiseCNN(
    num_classes,
    input_shape=(None, None, 1),
    *,
    variant="ciresan_n4",
    mode="dense",
    filters=None,
    activation=None,
    preprocessing="unit",
    weights=None,
    name="patchwise_cnn",
):
    """Build a patchwise network as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C). mode="dense": H and W may be None, and any size works.
            mode="patch": H and W are the window's (95 or 40) or None, which means the same.
        variant: "ciresan_n4" or "ning".
        mode: "dense" (all pixels of an image) or "patch" (one window).
        filters: channels of the first convolution; the others follow in proportion. Default: the
            paper's (48, 6).
        activation: a Keras activation. Default: "relu" for ciresan_n4, "tanh" for ning.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
        weights: None, or a file that this model wrote in either mode (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits: of every pixel,
        (N, H, W, num_classes), or with mode="patch" (N, num_classes) of the pixel in the middle of
        each window: row and column 47 of 95, 20 of 40, counted from 0.

    Raises:
        ValueError: for an unknown variant or mode, a wrong number of classes, or windows of another
            size.
    """
    if variant not in VARIANTS:
        raise unknown_name("variant of PatchwiseCNN", variant, VARIANTS)
    if mode not in MODES:
        raise unknown_name("mode of PatchwiseCNN", mode, MODES)
    window, stages, first_width = VARIANTS[variant]
    is_n4, is_patch = variant == "ciresan_n4", mode == "patch"
    width = first_width if filters is None else filters
    if activation is None:
        activation = "relu" if is_n4 else "tanh"
    dilation = 1

    def convolution(x, channels, kernel_size, name):
        x = layers.Conv2D(
            channels,
            kernel_size,
            dilation_rate=dilation,
            kernel_initializer="he_normal" if activation == "relu" else "glorot_uniform",
            name=name,
        )(x)
        return layers.Activation(activation, name=f"{name}_activation")(x)

    def pool(x, name):
        if not is_patch:
            return DilatedPooling2D(2, dilation, "max" if is_n4 else "average", name=name)(x)
        kind = layers.MaxPooling2D if is_n4 else layers.AveragePooling2D
        return kind(2, name=name)(x)

    if is_patch:
        input_shape = _of_window(input_shape, window)
    image = image_input(input_shape, num_classes, filters=width)
    x = preprocess(image, preprocessing)
    if not is_patch:
        x = ReflectMargin(window // 2, name="margin")(x)
    for number, (kernel_size, factor, is_pooled) in enumerate(stages, start=1):
        x = convolution(x, round(factor * width), kernel_size, f"conv{number}")
        if is_pooled:
            x = pool(x, f"pool{number}")
            if not is_n4:
                x = layers.DepthwiseConv2D(
                    1, depthwise_initializer="ones", name=f"subsampling{number}"
                )(x)
                x = layers.Activation(activation, name=f"subsampling{number}_activation")(x)
            dilation = dilation if is_patch else 2 * dilation
    if is_n4:
        x = convolution(x, 200, 3, "fc1")
    x = layers.Identity(name="features")(x)
    x = layers.Conv2D(num_classes, 1, dtype="float32", name="logits_low")(x)
    if is_patch:
        logits = layers.Flatten(dtype="float32", name="logits")(x)
    else:
        # A window of even size has a pixel more before its middle than behind.
        logits = CropLike(dtype="float32", name="logits")(x, image)
    model = keras.Model(image, logits, name=name)
    if weights is not None:
        load_own(model, weights)
    return model


def _of_window(input_shape, window):
    """The shape with the window's size for None; what is no shape at all is left to its check."""
    if not isinstance(input_shape, list | tuple) or len(input_shape) != 3:
        return input_shape
    for size in input_shape[:2]:
        if is_count(size) and size != window:
            raise ValueError(
                f"With mode='patch' the input is a window of {window} x {window} pixels, got "
                f"input_shape {tuple(input_shape)!r}. For whole images: mode='dense'."
            )
    return tuple(window if size is None else size for size in input_shape[:2]) + (input_shape[2],)
