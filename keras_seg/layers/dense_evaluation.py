"""What turns a network that labels one window into one that labels every pixel.

Where a window's network pools with stride 2, the network for all windows at once pools at every
pixel and spreads the taps of all that follows ("max-filtering", "fragments", "shift and stitch":
Giusti et al., "Fast image scanning with deep max-pooling convolutional neural networks", ICIP
2013). The weights stay the same.
"""

import keras
from keras import layers, ops

from keras_seg.utils import check_counts, unknown_name


@keras.saving.register_keras_serializable("keras_seg")
class DilatedPooling2D(layers.Layer):
    """Pool (N, H, W, C) at every pixel: (N, H - r, W - r, C) with r = (pool_size - 1) * dilation.

    Output (y, x) is the maximum or the mean over the rows y, y + dilation, ... and the columns
    likewise. Built from slices: no runtime has a pooling with dilation.

    Args:
        pool_size: taps a row and column.
        dilation: pixels from tap to tap.
        mode: "max" or "average".

    Raises:
        ValueError: for a value not listed above.
    """

    def __init__(self, pool_size=2, dilation=1, mode="max", **kwargs):
        super().__init__(**kwargs)
        check_counts(pool_size=pool_size, dilation=dilation)
        if mode not in ("max", "average"):
            raise unknown_name("mode", mode, ("max", "average"))
        self.pool_size, self.dilation, self.mode = pool_size, dilation, mode

    def call(self, x):
        for axis in (1, 2):
            x = self._along(x, axis)
        return x

    def _along(self, x, axis):
        size = ops.shape(x)[axis] - (self.pool_size - 1) * self.dilation
        total = None
        for tap in range(self.pool_size):
            part = slice(tap * self.dilation, tap * self.dilation + size)
            y = x[:, part] if axis == 1 else x[:, :, part]
            if total is None:
                total = y
            else:
                total = ops.maximum(total, y) if self.mode == "max" else total + y
        return total if self.mode == "max" else total * (1 / self.pool_size)

    def compute_output_shape(self, input_shape):
        reach = (self.pool_size - 1) * self.dilation
        size = [None if n is None else n - reach for n in input_shape[1:3]]
        return (input_shape[0], *size, input_shape[3])

    def get_config(self):
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "dilation": self.dilation,
            "mode": self.mode,
        }


@keras.saving.register_keras_serializable("keras_seg")
class SharedConv2D(layers.Layer):
    """A convolution without padding whose one kernel is applied with several dilations.

    `layer(x, dilation=2)`: (N, H, W, C) -> (N, H - r, W - r, filters), r = (kernel_size - 1) *
    dilation. With bias. A Keras convolution has one dilation for all its calls.

    Args:
        filters: channels of the output.
        kernel_size: side of the kernel.
        kernel_initializer: as of `keras.layers.Conv2D`.
    """

    def __init__(self, filters, kernel_size, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size = filters, kernel_size
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(self.kernel_size, self.kernel_size, input_shape[-1], self.filters),
            initializer=self.kernel_initializer,
            name="kernel",
        )
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, x, dilation=1):
        x = ops.conv(
            x, self.kernel, padding="valid", dilation_rate=dilation, data_format="channels_last"
        )
        return x + self.bias

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
