"""The context module of dilated convolutions."""

import keras
import numpy as np
from keras import layers, ops

from keras_seg.utils import counts, unknown_name

FORMS = ("basic", "large")
DILATIONS = (1, 1, 2, 4, 8, 16, 1)


@keras.saving.register_keras_serializable("keras_seg")
class IdentityKernel(keras.initializers.Initializer):
    """Kernel (k, k, c_in, c_out) that passes on `groups` channels, whatever the widths.

    Input channel a and output channel b belong together if floor(a groups / c_in) is
    floor(b groups / c_out); the centre of such a pair is groups / c_out, so that the mean of a
    group times its width is kept. All other entries are N(0, deviation) (Yu and Koltun 2016,
    section 3).

    Args:
        groups: number of channels that are passed on.
        deviation: of the other entries; 0 leaves them 0.

    Raises:
        ValueError: for the shape of a kernel that is not square or has an even side.
    """

    def __init__(self, groups, deviation=0.0):
        self.groups, self.deviation = groups, deviation

    def __call__(self, shape, dtype=None):
        height, width, inputs, outputs = shape
        if not (height == width and height % 2):
            raise ValueError(f"An identity kernel must be odd and square, got {tuple(shape)}.")
        pair = np.equal.outer(
            np.arange(inputs) * self.groups // inputs, np.arange(outputs) * self.groups // outputs
        )
        identity = np.zeros(shape, "float32")
        identity[height // 2, width // 2] = pair * (self.groups / outputs)
        dtype = dtype or keras.config.floatx()
        kernel = ops.convert_to_tensor(identity, dtype)
        if not self.deviation:
            return kernel
        noise = keras.initializers.RandomNormal(stddev=self.deviation)(shape, dtype)
        return ops.where(identity != 0, kernel, noise)

    def get_config(self):
        return {"groups": self.groups, "deviation": self.deviation}


def context_module(x, form="basic", *, dilations=DILATIONS, deviation=None, name="ctx"):
    """Context aggregation (Yu and Koltun 2016, section 3): (N, h, w, C) -> (N, h, w, C).

    One 3x3 convolution with bias and ReLU for each dilation, then a 1x1 convolution. They start as
    the identity: the module then returns relu(x). It can follow the scores of any network.

    Args:
        x: scores (N, h, w, C).
        form: "basic": C channels throughout and zeros around each convolution. "large", as in the
            network released for VOC: 2, 2, 4, 8, 16, 32 and 32 times C channels, and all zeros
            (33 for the default dilations) around the first.
        dilations: of the 3x3 convolutions.
        deviation: of the entries that the identity leaves out, times C over the channels of the
            layer. Default 0.01 for "large" and 0 for "basic".
        name: layers are `{name}_conv1_1`, `{name}_conv1_2`, `{name}_conv2_1`, ..., `{name}_fc1`
            (the last 3x3 convolution), each with `_relu`, and `{name}_final`.

    Raises:
        ValueError: for an unknown form, or dilations that are no whole numbers of at least 1.
    """
    if form not in FORMS:
        raise unknown_name("form", form, FORMS)
    dilations = counts("dilations", dilations)
    large = form == "large"
    if deviation is None:
        deviation = 0.01 if large else 0.0
    channels = x.shape[-1]

    def convolution(x, multiple, kernel_size, dilation, name):
        return layers.Conv2D(
            multiple * channels,
            kernel_size,
            padding="valid" if large else "same",
            dilation_rate=dilation,
            kernel_initializer=IdentityKernel(channels, deviation / multiple),
            name=name,
        )(x)

    if large:
        x = layers.ZeroPadding2D(sum(dilations), name=f"{name}_pad")(x)
    last = len(dilations) - 1
    for i, dilation in enumerate(dilations):
        part = "fc1" if i == last else f"conv{max(i, 1)}_{2 if i == 1 else 1}"
        multiple = 2 ** min(max(i, 1), last - 1) if large else 1
        x = convolution(x, multiple, 3, dilation, f"{name}_{part}")
        x = layers.ReLU(name=f"{name}_{part}_relu")(x)
    return convolution(x, 1, 1, 1, f"{name}_final")
