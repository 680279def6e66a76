"""Multi-scale CNN: one network on three scales of the image, joined for each pixel.

Farabet, Couprie, Najman, LeCun. "Learning Hierarchical Features for Scene Labeling", IEEE
Transactions on Pattern Analysis and Machine Intelligence 35(8), 2013; details as in the authors'
modules (clementfarabet/lua---nnx, SpatialFovea and SpatialClassifier) where they say.

    for each scale 1, 1/2, 1/4 of the image in YUV, normalised over 15 x 15 pixels, with 21 zeros
    around; the weights are the same for all
    conv1       conv7x7, tanh, max-pool 2x2     16
    conv2       conv7x7, tanh, max-pool 2x2     64
    conv3       conv7x7                        256      one position for 4 x 4 pixels of the scale

    features    coarser scales repeated, joined              768
    classify    conv1x1 1024, tanh, conv1x1 K                  K    ("linear": conv1x1 K alone)
    logits      repeated 4 x 4 times                           K

A position sees 46 x 46 pixels of its scale, 184 x 184 of the image on the coarsest.

    parameters, 3 channels                       features   classifier, 8 and 33 classes
    connections="all",    classifier="mlp"        855,680   795,656 and 821,281
    connections="all",    classifier="linear"     855,680     6,152 and  25,377
    connections="random"                          427,910   (connections; the kernels have zeros)

`connections="random"`: of the first 16 maps 10 see Y, 6 see U and V; each map of the second stage
sees 8, of the third 32 maps of the stage before, drawn at random.

Faithful to the authors' modules: order of pyramid, normalisation, padding, network, repetition;
kernels and widths of the features; outputs at a quarter of the image. Where we differ, or sources
disagree: the public summary of the paper has a Laplacian pyramid (the default), the module averages
blocks (`pyramid="average"`); the tables were drawn with another generator. No public source was
found for the window of 15, the hidden layer of 1024, the six maps that see both U and V, and a
scaling of tanh (here plain). The paper's clean-up with superpixels, trees or a CRF is another
matter. Images whose sides are no multiples of 16 are mirrored at the far borders up to the next.
"""

import keras
import numpy as np
from keras import layers, ops

from keras_seg.layers import (
    CropLike,
    LocalContrastNormalization,
    ReflectMargin,
    Resize,
    image_input,
    preprocess,
    uniform_fan_in,
)
from keras_seg.utils import check_counts, is_count, unknown_name
from keras_seg.weights import load_own

PYRAMIDS = ("laplacian", "average")
CLASSIFIERS = ("mlp", "linear")
CONNECTIONS = ("all", "random")
UPSAMPLINGS = ("nearest", "bilinear")


def MultiscaleCNN(
    num_classes,
    input_shape=(None, None, 3),
    *,
    scales=3,
    filters=16,
    classifier="mlp",
    connections="all",
    seed=0,
    pyramid="laplacian",
    window=15,
    upsampling="nearest",
    preprocessing="unit",
    weights=None,
    name="multiscale_cnn",
):
    """Build the multi-scale CNN as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works; multiples of 16 for 3 scales
            need no padding. Images of other than 3 channels are not turned into YUV.
        scales: how many, each half of the one before.
        filters: channels of the first stage; the others have 4 and 16 times, the hidden layer of
            the classifier 64 times as many.
        classifier: "mlp" (with a hidden layer) or "linear" (which the features are trained with).
        connections: "all" or "random", see the top of this file.
        seed: of the random connections.
        pyramid: "laplacian" or "average".
        window: side of the local contrast normalisation, an odd number, or None for none.
        upsampling: "nearest" or "bilinear", of coarse features and of the logits.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`. The
            normalisation is meant for 0..1.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes).

    Raises:
        ValueError: for an unknown option, a window that is not odd, or a wrong number of classes,
            filters or scales.
    """
    for what, value, known in (
        ("classifier", classifier, CLASSIFIERS),
        ("connections", connections, CONNECTIONS),
        ("pyramid", pyramid, PYRAMIDS),
        ("upsampling", upsampling, UPSAMPLINGS),
    ):
        if value not in known:
            raise unknown_name(f"{what} of MultiscaleCNN", value, known)
    check_counts(scales=scales)
    if window is not None and not (is_count(window) and window % 2):
        raise ValueError(f"window must be an odd number of pixels or None, got {window!r}.")

    def resize(x, scale, name, dtype=None):
        return Resize(scale=scale, interpolation=upsampling, dtype=dtype, name=name)(x)

    image = image_input(input_shape, num_classes, filters=filters)
    x = preprocess(image, preprocessing)
    x = ReflectMargin(0, multiple=4 * 2 ** (scales - 1), name="margin")(x)
    if image.shape[-1] == 3:
        x = RGBToYUV(name="yuv")(x)
    levels = [x]
    for scale in range(2, scales + 1):
        levels.append(layers.AveragePooling2D(2, name=f"scale{scale}")(levels[-1]))
    if pyramid == "laplacian":
        for i in range(scales - 1):
            low = Resize(scale=2, name=f"scale{i + 1}_low")(levels[i + 1])
            levels[i] = layers.Subtract(name=f"scale{i + 1}_detail")([levels[i], low])

    tables = _tables(image.shape[-1], filters, seed) if connections == "random" else [None] * 3
    convolutions = [
        TableConv2D(
            filters * 4**i,
            7,
            table=tables[i],
            kernel_initializer=uniform_fan_in(),
            name=f"conv{i + 1}",
        )
        for i in range(3)
    ]
    maps = []
    for scale, y in enumerate(levels, start=1):
        prefix = f"scale{scale}"
        if window is not None:
            y = LocalContrastNormalization(
                window, deviation=None, joint=False, name=f"{prefix}_normalised"
            )(y)
        # (seen - step) / 2: with it the positions divide the scale into blocks of 4 x 4 pixels.
        y = layers.ZeroPadding2D((46 - 4) // 2, name=f"{prefix}_pad")(y)
        for i, convolution in enumerate(convolutions, start=1):
            y = convolution(y)
            if i < 3:
                y = layers.Activation("tanh", name=f"{prefix}_tanh{i}")(y)
                y = layers.MaxPooling2D(2, name=f"{prefix}_pool{i}")(y)
        maps.append(y if scale == 1 else resize(y, 2 ** (scale - 1), f"{prefix}_up"))

    x = layers.Concatenate(name="features")(maps) if scales > 1 else maps[0]
    if classifier == "mlp":
        x = layers.Conv2D(64 * filters, 1, kernel_initializer=uniform_fan_in(), name="hidden")(x)
        x = layers.Activation("tanh", name="hidden_tanh")(x)
    x = layers.Conv2D(
        num_classes, 1, kernel_initializer=uniform_fan_in(), dtype="float32", name="logits_low"
    )(x)
    x = resize(x, 4, "enlarge", dtype="float32")
    logits = CropLike(dtype="float32", name="logits")(x, image)
    model = keras.Model(image, logits, name=name)
    if weights is not None:
        load_own(model, weights)
    return model


def _tables(channels, filters, seed):
    """For each stage, for each of its maps, the maps before it that it sees."""
    rng = np.random.default_rng(seed)

    def drawn(inputs, outputs, count):
        count = min(count, inputs)
        return [sorted(rng.choice(inputs, count, replace=False).tolist()) for _ in range(outputs)]

    luminance = round(10 / 16 * filters)
    first = [[0]] * luminance + [[1, 2]] * (filters - luminance) if channels == 3 else None
    return [first, drawn(filters, 4 * filters, 8), drawn(4 * filters, 16 * filters, 32)]


@keras.saving.register_keras_serializable("keras_seg")
class TableConv2D(layers.Conv2D):
    """A convolution whose maps see some of the maps before only.

    Args:
        filters, kernel_size: as of `keras.layers.Conv2D`, and so are those not named here.
        table: for each filter the list of input channels that it sees, or None for all. The rest
            of the kernel counts as zero, whatever it holds.
    """

    def __init__(self, filters, kernel_size, table=None, **kwargs):
        super().__init__(filters, kernel_size, **kwargs)
        self.table = None if table is None else [list(inputs) for inputs in table]

    def build(self, input_shape):
        super().build(input_shape)
        if self.table is not None:
            mask = np.zeros((input_shape[-1], self.filters), "float32")
            for output, inputs in enumerate(self.table):
                mask[inputs, output] = 1
            self._mask = mask

    @property
    def kernel(self):
        kernel = super().kernel
        if self.table is None:
            return kernel
        return ops.multiply(kernel, ops.cast(self._mask, kernel.dtype))

    def get_config(self):
        return {**super().get_config(), "table": self.table}


@keras.saving.register_keras_serializable("keras_seg")
class RGBToYUV(layers.Layer):
    """Images (N, H, W, 3) from RGB to YUV (ITU-R BT.601); U and V are around 0."""

    def call(self, x):
        red, green, blue = x[..., :1], x[..., 1:2], x[..., 2:]
        y = 0.299 * red + 0.587 * green + 0.114 * blue
        return ops.concatenate([y, 0.492 * (blue - y), 0.877 * (red - y)], axis=-1)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)
