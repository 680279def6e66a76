"""Layers that compute at every position what a strided network computes at every d-th one.

A map whose stride was removed is `dilation` times finer than the network's own map: the own map is
`x[:, ::dilation, ::dilation]`, its size ceil(H / dilation). What the network pads depends on the
size of that map ("same" with stride 2 pads one row on even sizes and two on odd ones), so that the
layers here work the padding out from the size they meet, also where it is unknown until the graph
runs. That makes the transformation exact at every size.
"""

import math

import keras
import numpy as np
from keras import layers, ops


def axis_padding(size, kernel_size, stride, dilation, padding):
    """Padding of one axis, and the size of the map after a convolution of stride 1.

    Args:
        size: H or W of the map; a number, or a scalar tensor.
        kernel_size: extent of the kernel on the network's own map.
        stride: the stride that was removed (1: none).
        dilation: how many times finer the map is than the network's own.
        padding: "same", or (before, after) in cells of the own map; (0, 0) is "valid".

    Returns:
        (before, after, total). The map padded by them, then convolved with stride 1 and the kernel
        spread by `dilation`, has `total` cells. `total` lies as near to `size` as the network's
        own next size allows: it stays a map of the image, where "valid" would eat the border.
    """
    smaller, larger = (min, max) if isinstance(size, int) else (ops.minimum, ops.maximum)
    own = -(-size // dilation)
    if padding == "same":
        out = -(-own // stride)
        before = larger((out - 1) * stride + kernel_size - own, 0) // 2
    else:
        before = padding[0]
        out = (own + sum(padding) - kernel_size) // stride + 1
    total = larger(size, (out - 1) * stride * dilation + 1)
    total = smaller(total, out * stride * dilation)
    before = before * dilation
    return before, total + (kernel_size - 1) * dilation - size - before, total


class _OnGrid(layers.Layer):
    """What the layers share: the operation on the network's own map that they stand for.

    Args:
        kernel_size: (rows, columns) on the network's own map.
        strides: the stride that was removed, 1 if none.
        dilation: how many times finer the map is than the network's own, before this layer.
        padding: "same", or ((top, bottom), (left, right)) in cells of the own map.

    Call with (N, H, W, C); H and W may be unknown.
    """

    def __init__(self, kernel_size, strides=1, dilation=1, padding="same", **kwargs):
        super().__init__(**kwargs)
        self.kernel_size = tuple(kernel_size)
        self.strides = strides
        self.dilation = dilation
        self.padding = padding if padding == "same" else tuple(tuple(p) for p in padding)

    def _axis(self, size, axis):
        padding = self.padding if self.padding == "same" else self.padding[axis]
        return axis_padding(size, self.kernel_size[axis], self.strides, self.dilation, padding)

    def _pad(self, x):
        _, height, width, _ = ops.shape(x)
        top, bottom, _ = self._axis(height, 0)
        left, right, _ = self._axis(width, 1)
        width = ((0, 0), (top, bottom), (left, right), (0, 0))
        return ops.pad(x, width)

    def _windows(self, x, reduce):
        """Reduce the windows of a padded map, rows and then columns, with stride 1."""
        for axis, kernel_size in enumerate(self.kernel_size, start=1):
            parts = []
            for i in range(kernel_size):
                start = i * self.dilation
                stop = start - (kernel_size - 1) * self.dilation or None
                parts.append(x[:, start:stop] if axis == 1 else x[:, :, start:stop])
            x = parts[0]
            for part in parts[1:]:
                x = reduce(x, part)
        return x

    def compute_output_shape(self, input_shape):
        sizes = (
            None if size is None else self._axis(size, axis)[2]
            for axis, size in enumerate(input_shape[1:3])
        )
        return (input_shape[0], *sizes, input_shape[3])

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "dilation": self.dilation,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable("keras_seg")
class GridPadding2D(_OnGrid):
    """Zeros around a map, so that a dilated "valid" convolution computes what a strided one did.

    Arguments as for the operation replaced: its kernel size, its stride (now removed), the map's
    dilation, and its padding, "same" or that of a ZeroPadding2D before it.
    """

    def call(self, x):
        return self._pad(x)

    def compute_output_shape(self, input_shape):
        after = super().compute_output_shape(input_shape)
        spans = [(k - 1) * self.dilation for k in self.kernel_size]
        sizes = (
            None if size is None else size + span
            for size, span in zip(after[1:3], spans, strict=True)
        )
        return (after[0], *sizes, after[3])


@keras.saving.register_keras_serializable("keras_seg")
class DilatedMaxPooling2D(_OnGrid):
    """A max-pool of stride 1 whose window is spread by `dilation` (Keras has none).

    Arguments as for `GridPadding2D`; with "same" the padding never wins, given padding is zeros.
    """

    def call(self, x):
        padded = self._repeat_edges(x) if self.padding == "same" else self._pad(x)
        return self._windows(padded, ops.maximum)

    def _repeat_edges(self, x):
        """x with the cells around it that `_pad` adds, each the nearest that windows with it hold.

        So the maximum is that of the cells inside. A very low number would do as well, but for the
        range of an 8-bit map, and LiteRT pads in 16 bits with zeros only.
        """
        for axis in (1, 2):
            size = ops.shape(x)[axis]
            before, after, _ = self._axis(size, axis - 1)
            arrays = np if isinstance(size, int) else ops
            place = arrays.arange(-before, size + after)
            last = size - 1 - (size - 1 - place) % self.dilation
            index = arrays.where(
                place < 0, place % self.dilation, arrays.where(place < size, place, last)
            )
            x = ops.take(x, arrays.clip(index, 0, size - 1), axis=axis)
        return x


@keras.saving.register_keras_serializable("keras_seg")
class DilatedAveragePooling2D(_OnGrid):
    """An average pool of stride 1 whose window is spread by `dilation` (Keras has none).

    Arguments as for `GridPadding2D`; with "same" the padding is not counted, given padding is.
    """

    def call(self, x):
        total = self._windows(self._pad(x), ops.add)
        if self.padding != "same":
            return total * (1.0 / math.prod(self.kernel_size))
        _, height, width, _ = ops.shape(x)
        ones = ops.ones((1, height, width, 1), dtype=x.dtype)
        return total / self._windows(self._pad(ones), ops.add)


@keras.saving.register_keras_serializable("keras_seg")
class Subsample2D(layers.Layer):
    """Every `strides`-th row and column, from the first: (N, H, W, C) -> (N, ceil(H / s), ...).

    In front of a global pool it gives the mean of the network's own, undilated map.
    """

    def __init__(self, strides, **kwargs):
        super().__init__(**kwargs)
        self.strides = strides

    def call(self, x):
        return x[:, :: self.strides, :: self.strides]

    def compute_output_shape(self, input_shape):
        sizes = (None if n is None else -(-n // self.strides) for n in input_shape[1:3])
        return (input_shape[0], *sizes, input_shape[3])

    def get_config(self):
        return {**super().get_config(), "strides": self.strides}


@keras.saving.register_keras_serializable("keras_seg")
class Standardize(layers.Layer):
    """(x - mean) / std with constants, each a list with one number a channel or one for all.

    In place of `keras.layers.Normalization`, which ONNX conversion cannot take.
    """

    def __init__(self, mean, std, **kwargs):
        super().__init__(**kwargs)
        self.mean = [float(m) for m in mean]
        self.std = [float(s) for s in std]

    def call(self, x):
        mean = ops.convert_to_tensor(self.mean, x.dtype)
        return (x - mean) / ops.convert_to_tensor(self.std, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "std": self.std}
