"""Local contrast normalisation of images."""

import keras
import numpy as np
from keras import ops

from keras_seg.utils import is_count


@keras.saving.register_keras_serializable("keras_seg")
class LocalContrastNormalization(keras.layers.Layer):
    """Images (N, H, W, C) with local mean 0, over their local standard deviation.

    Jarrett et al., "What is the best multi-stage architecture for object recognition?", ICCV 2009,
    section 2: v = x - mean of x and y = v / max(s, c), with s = sqrt(mean of v ** 2) and c the mean
    of s over the image. Both local means run over a Gaussian window and all channels; at the border
    the part of the window inside the image counts. Computed in float32.

    Args:
        size: rows and columns of the window, an odd number; 9 in the paper.
        deviation: of the Gaussian, in pixels. The paper states none; the default is ours. None for
            a window whose pixels all count the same (Farabet et al. 2013).
        joint: one mean over all channels; False for one of each channel.

    Raises:
        ValueError: for an even size, or a deviation that is not above 0.
    """

    def __init__(self, size=9, deviation=2.0, joint=True, **kwargs):
        super().__init__(**kwargs)
        if not is_count(size) or size % 2 == 0:
            raise ValueError(f"size must be an odd number of pixels, got {size!r}.")
        if deviation is not None and not deviation > 0:
            raise ValueError(f"deviation must be positive or None, got {deviation!r}.")
        self.size, self.deviation, self.joint = int(size), deviation, joint

    def call(self, x):
        image = ops.cast(x, "float32")
        centred = image - self._local_mean(image)
        # The bound is below one grey level: a blank image stays near 0.
        spread = ops.sqrt(ops.maximum(self._local_mean(ops.square(centred)), 1e-5))
        spread = ops.maximum(spread, ops.mean(spread, axis=(1, 2), keepdims=True))
        return ops.cast(centred / spread, x.dtype)

    def _local_mean(self, x):
        """(N, H, W, C) -> (N, H, W, 1), or (N, H, W, C) if not joint."""
        line = np.ones(self.size)
        if self.deviation is not None:
            distance = np.arange(self.size) - self.size // 2
            line = np.exp(-0.5 * (distance / self.deviation) ** 2)
        window = np.outer(line, line)[:, :, None, None] / line.sum() ** 2
        if self.joint:
            x = ops.mean(x, axis=-1, keepdims=True)
        total, inside = (
            ops.depthwise_conv(
                y,
                ops.convert_to_tensor(np.repeat(window, y.shape[-1], axis=2), "float32"),
                padding="same",
                data_format="channels_last",
            )
            for y in (x, ops.ones_like(x[..., :1]))
        )
        return total / inside

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "size": self.size,
            "deviation": self.deviation,
            "joint": self.joint,
        }
