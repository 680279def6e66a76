"""Transposed convolution with the fixed bilinear kernel of FCN."""

import keras
import numpy as np
from keras import layers, ops


@keras.saving.register_keras_serializable("keras_seg")
class BilinearKernel(keras.initializers.Initializer):
    """Kernel (k, k, K, K) of a transposed convolution that interpolates each channel bilinearly.

    f = ceil(k / 2), centre c = f - 1 for odd k and f - 0.5 for even k;
    w(i, j) = (1 - |i - c| / f) (1 - |j - c| / f) on the diagonal of the channels, 0 elsewhere
    (Long et al. 2015, section 3.3; the `surgery.py` of its release).
    """

    def __call__(self, shape, dtype=None):
        height, width, outputs, inputs = shape
        if height != width or outputs != inputs:
            raise ValueError(f"A bilinear kernel must be (k, k, K, K), got shape {tuple(shape)}.")
        factor = (height + 1) // 2
        centre = factor - 1 if height % 2 else factor - 0.5
        line = 1 - np.abs(np.arange(height) - centre) / factor
        kernel = np.outer(line, line)[:, :, None, None] * np.eye(outputs)
        return ops.convert_to_tensor(kernel, dtype or keras.config.floatx())

    def get_config(self):
        return {}


def bilinear_upsampling(x, kernel_size, strides, *, trainable=False, name):
    """FCN's "deconvolution": (N, H, W, K) -> (N, (H - 1) * strides + kernel_size, ..., K), no bias.

    Starts as, and by default stays, bilinear interpolation by `strides`.
    """
    channels = x.shape[-1]
    return layers.Conv2DTranspose(
        channels,
        kernel_size,
        strides=strides,
        padding="valid",
        use_bias=False,
        kernel_initializer=BilinearKernel(),
        trainable=trainable,
        name=name,
    )(x)
