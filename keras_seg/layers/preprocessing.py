"""From plain pixels to what a network was trained on, as the first layer of the model."""

import keras
import numpy as np
from keras import layers, ops

from keras_seg.utils import unknown_name

# name: (mean, standard deviation) in the order of the network's channels, of pixels 0..255.
MODES = {
    "none": ((0.0,), (1.0,)),
    "unit": ((0.0,), (255.0,)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "cityscapes": ((73.9758, 83.6607, 73.1758), (46.6533, 47.5743, 47.0411)),
    "caffe": ((104.00699, 116.66877, 122.67892), (1.0, 1.0, 1.0)),
    "nyud": ((116.190, 97.203, 92.318), (1.0, 1.0, 1.0)),
    "hha": ((132.431, 94.076, 118.477), (1.0, 1.0, 1.0)),
    "keras-caffe": ((103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
    "bgr": ((0.0,), (1.0,)),
    "bgr-voc": ((102.93, 111.36, 116.52), (1.0, 1.0, 1.0)),
    "bgr-cityscapes": ((72.39, 82.91, 73.16), (1.0, 1.0, 1.0)),
    "bgr-camvid": ((110.70313206, 108.77808759, 105.41212523), (1.0, 1.0, 1.0)),
    "bgr-kitti": ((96.19429688, 95.55136972, 91.34692262), (1.0, 1.0, 1.0)),
}
BGR = tuple(mode for mode in MODES if "caffe" in mode or mode.startswith("bgr")) + ("nyud",)


@keras.saving.register_keras_serializable("keras_seg")
class Preprocess(layers.Layer):
    """Turn RGB pixels 0..255 into (x - mean) / std, so that a model takes plain pixels everywhere.

    Args:
        mode: "none" (x as it is), "unit" (0..1), "imagenet" (torchvision's mean and deviation),
            "cityscapes" (those of its training images, as DRN's authors use them), "caffe"
            (channels swapped to BGR, minus the mean pixel of ILSVRC), "keras-caffe" (the same with
            the mean of VGG's and ResNet's authors, as in keras.applications), "bgr" (channels
            swapped, nothing subtracted), "bgr-voc", "bgr-cityscapes", "bgr-camvid", "bgr-kitti"
            (channels swapped, minus the mean pixel of that data set as in the release of dilated
            convolutions), "nyud" and "hha" (colours as BGR, and depth coded as HHA, minus their
            means over NYUDv2, as in FCN's release), or a pair (mean, std), each a number or one
            number a channel.

    With other than 3 input channels the statistics of a named mode are averaged over the channels,
    and no channels are swapped.

    Raises:
        ValueError: for an unknown name, a pair that does not hold numbers (deviations above 0), or
            one with a number of values that is neither 1 nor that of the channels.
    """

    def __init__(self, mode="none", **kwargs):
        super().__init__(**kwargs)
        if isinstance(mode, str):
            if mode not in MODES:
                raise unknown_name("preprocessing", mode, MODES)
            self.mean, self.std = MODES[mode]
        else:
            self.mean, self.std = (_numbers(value, mode) for value in _pair(mode))
            mode = [list(self.mean), list(self.std)]
        self.mode = mode

    def build(self, input_shape):
        channels = input_shape[-1]
        for values in (self.mean, self.std):
            if not isinstance(self.mode, str) and len(values) not in (1, channels):
                raise ValueError(
                    f"preprocessing has {len(values)} values for {channels} channels: {self.mode}."
                )

    def call(self, x):
        channels = x.shape[-1]
        if self.mode in BGR and channels == 3:
            # Three slices: a reversal is no operator of the mobile runtimes.
            x = ops.concatenate([x[..., 2:], x[..., 1:2], x[..., :1]], axis=-1)
        scale = [1.0 / s for s in self._per_channel(self.std, channels)]
        mean = self._per_channel(self.mean, channels)
        offset = [-m * s for m, s in zip(mean, scale, strict=True)]
        if any(s != 1.0 for s in scale):
            x = x * ops.convert_to_tensor(scale, x.dtype)
        if any(o != 0.0 for o in offset):
            x = x + ops.convert_to_tensor(offset, x.dtype)
        return x

    def _per_channel(self, values, channels):
        if len(values) == channels:
            return list(values)
        return [sum(values) / len(values)] * channels

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


def _pair(mode):
    if not isinstance(mode, list | tuple) or len(mode) != 2:
        raise ValueError(
            f"preprocessing must be one of {sorted(MODES)} or a pair (mean, std), got {mode!r}."
        )
    return mode


def _numbers(value, mode):
    try:
        values = tuple(float(v) for v in np.ravel(value))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"A pair (mean, std) of preprocessing must hold numbers, got {value!r}."
        ) from error
    if value is mode[1] and not all(v > 0 for v in values):
        raise ValueError(f"The deviations of preprocessing must be positive, got {value!r}.")
    return values


def preprocess(x, mode):
    """`Preprocess(mode)`, in float32 so that mixed precision loses no grey level."""
    return Preprocess(mode, name="preprocess", dtype="float32")(x)
