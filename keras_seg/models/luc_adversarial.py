"""The adversaries of Luc et al., which tell true label maps from predicted ones.

Luc, Couprie, Chintala, Verbeek. "Semantic Segmentation using Adversarial Networks", NIPS workshop
2016. https://arxiv.org/abs/1611.08408; layers as in the public Chainer re-implementation
oyam/Semantic-Segmentation-using-Adversarial-Networks (the authors released none).

    LargeFOV (34 x 34)   SmallFOV (18 x 18)   light: the same with
    conv3x3   96         conv3x3   96           96
    conv3x3  128         conv1x1  128          128
    conv3x3  128                               128 (LargeFOV only)
    max-pool 2x2         max-pool 2x2
    conv3x3  256         conv3x3  256          128
    conv3x3  256         conv1x1  256          128
    max-pool 2x2         max-pool 2x2
    conv3x3  512         conv3x3  512          256
    conv3x3    2         conv1x1    2            2
    average over the map

    parameters, 21 classes      LargeFOV     SmallFOV    LargeFOV light    SmallFOV light
    "product" input (63)       2,387,458    1,609,090           907,778           526,722
    "basic", "scaling" (21)    2,351,170    1,572,802           871,490           490,434

ReLU after every convolution but the last, no normalisation. What the paper feeds them, at the
segmentor's resolution, C classes: "basic", the C probabilities or the one-hot truth; "product",
each of these planes times each colour plane, 3 C channels; "scaling", the C probabilities against a
truth softened towards them.

Faithful: kernels, widths, fields of view. Where we differ: the last layer of the re-implementation
is a softmax over two scores; here the scores themselves are returned.
"""

import keras
from keras import layers

from keras_seg.utils import check_counts, is_count
from keras_seg.weights import load_own

# (kernel size, channels) of each convolution, with a pool between the blocks.
_LARGE = (((3, 96), (3, 128), (3, 128)), ((3, 256), (3, 256)), ((3, 512),))
_SMALL = (((3, 96), (1, 128)), ((3, 256), (1, 256)), ((3, 512),))


def LargeFOVAdversary(
    channels, *, light=False, filters=96, weights=None, name="large_fov_adversary"
):
    """Build the adversary with a field of view of 34 x 34 pixels.

    Args:
        channels: of the input: the number of classes, or 3 times as many for "product".
        light: half the channels behind the first pool.
        filters: channels of the first convolution (96); the others follow in proportion.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from label maps (N, H, W, channels), any size, to float32 logits (N, 2):
        column 1 is high for the truth, column 0 for a prediction.

    Raises:
        ValueError: for a wrong number of channels or filters.
    """
    return _adversary(_LARGE, 3, channels, light, filters, weights, name)


def SmallFOVAdversary(
    channels, *, light=False, filters=96, weights=None, name="small_fov_adversary"
):
    """Build the adversary with a field of view of 18 x 18 pixels.

    Arguments, result and errors are those of `LargeFOVAdversary`.
    """
    return _adversary(_SMALL, 1, channels, light, filters, weights, name)


def _adversary(blocks, last_kernel, channels, light, filters, weights, name):
    check_counts(channels=channels)
    if not is_count(filters) or filters % 3:
        raise ValueError(f"filters must be a multiple of 3 (96 in the paper), got {filters!r}.")

    def convolution(x, width, kernel_size, name, dtype=None):
        return layers.Conv2D(
            width,
            kernel_size,
            padding="same",
            kernel_initializer="lecun_normal",
            dtype=dtype,
            name=name,
        )(x)

    label_map = keras.Input((None, None, channels), name="label_map", dtype="float32")
    x = label_map
    for number, block in enumerate(blocks, start=1):
        if number > 1:
            # Rounds up on odd sizes, as Chainer's.
            x = layers.MaxPooling2D(2, padding="same", name=f"pool{number - 1}")(x)
        for i, (kernel_size, width) in enumerate(block, start=1):
            width = width * filters // 96
            if light and number > 1:
                width //= 2
            x = convolution(x, width, kernel_size, f"conv{number}_{i}")
            x = layers.ReLU(name=f"relu{number}_{i}")(x)
    x = convolution(x, 2, last_kernel, "score", dtype="float32")
    x = layers.GlobalAveragePooling2D(dtype="float32", name="logits")(x)
    model = keras.Model(label_map, x, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
