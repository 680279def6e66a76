"""Pooling to a fixed grid, the pyramid of PSPNet, and the pooling of AlexNet and GoogLeNet."""

import itertools

import keras
from keras import layers, ops

from keras_seg.layers.normalization import conv_bn_relu, he_fan_out
from keras_seg.layers.resize import Resize
from keras_seg.utils import check_counts, counts


@keras.saving.register_keras_serializable("keras_seg")
class AdaptiveAveragePooling2D(layers.Layer):
    """Average (N, H, W, C) over a `bins` x `bins` grid: (N, bins, bins, C).

    Bin i covers rows floor(i H / bins) to ceil((i + 1) H / bins), as in PyTorch: bins overlap where
    the grid does not divide the map. Unlike `keras.layers.AdaptiveAveragePooling2D` of Keras 3.15
    it works with unknown sizes and with one bin inside a graph.

    Args:
        bins: rows and columns of the result, at least 1; ValueError for anything else.
    """

    def __init__(self, bins, **kwargs):
        super().__init__(**kwargs)
        check_counts(bins=bins)
        self.bins = bins

    def call(self, x):
        # float32: a sum over a large map overflows float16.
        return ops.cast(self._average(ops.cast(x, "float32")), x.dtype)

    def _average(self, x):
        if self.bins == 1:
            return ops.mean(x, axis=(1, 2), keepdims=True)
        known = None not in x.shape[1:3]
        even = [_even_windows(length, self.bins) for length in x.shape[1:3]] if known else [None]
        if None not in even:
            window, stride = zip(*even, strict=True)
            return ops.average_pool(x, window, stride, "valid", data_format="channels_last")
        size = ops.shape(x)
        rows = _bin_matrix(size[1], self.bins, x.dtype)
        columns = _bin_matrix(size[2], self.bins, x.dtype)
        return ops.einsum("bh,nhwc,dw->nbdc", rows, x, columns)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.bins, self.bins, input_shape[3])

    def get_config(self):
        return {**super().get_config(), "bins": self.bins}


def _even_windows(size, bins):
    """(length, stride) of bins that are all as long and as far apart, else None: 64 rows are three
    bins of 22, 21 apart, but six of 11 or 12."""
    first = [i * size // bins for i in range(bins)]
    length = [-(-(i + 1) * size // bins) - start for i, start in enumerate(first)]
    stride = [after - before for before, after in itertools.pairwise(first)]
    even = len(set(length)) == 1 and len(set(stride)) == 1 and min(stride) > 0
    return (length[0], stride[0]) if even else None


def _bin_matrix(size, bins, dtype):
    """(bins, size) matrix that averages the rows of each bin."""
    number = ops.arange(bins, dtype="int32")
    first = number * size // bins
    last = -(-(number + 1) * size // bins)  # rounded up
    row = ops.arange(size, dtype="int32")[None]
    inside = ops.cast((row >= first[:, None]) & (row < last[:, None]), "float32")
    return ops.cast(inside / ops.sum(inside, axis=1, keepdims=True), dtype)


def max_pool_ceil(x, *, name):
    """Caffe's max-pool 3x3 with stride 2, which rounds up: (N, H, W, C) -> (N, H // 2, W // 2, C).

    For maps without negative values: a last window that hangs over the edge is filled with zeros.
    """
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    return layers.MaxPooling2D(3, strides=2, name=name)(x)


def pyramid_pooling(
    x,
    bins=(1, 2, 3, 6),
    filters=None,
    *,
    align_corners=True,
    momentum=0.9,
    epsilon=1e-5,
    initializer=he_fan_out,
):
    """Pyramid pooling (Zhao et al. 2017, section 3.2): (N, H, W, C) -> (N, H, W, C + B * filters).

    Each level averages the map over b x b bins, reduces it with a 1x1 convolution (no bias, BN,
    ReLU) and resizes it back; the result is x followed by the levels in the order of `bins`.
    `filters` is C / len(bins) unless given; `initializer` as in `conv_bn_relu`. Layers:
    `ppm{b}_pool`, `ppm{b}_conv`, `ppm{b}_bn`, `ppm{b}_relu`, `ppm{b}_resize`, `ppm`.
    """
    bins = counts("bins", bins)
    if filters is None:
        filters = x.shape[-1] // len(bins)
    levels = [x]
    for b in bins:
        y = AdaptiveAveragePooling2D(b, name=f"ppm{b}_pool")(x)  # (N, b, b, C)
        y = conv_bn_relu(
            y,
            filters,
            1,
            momentum=momentum,
            epsilon=epsilon,
            initializer=initializer,
            name=f"ppm{b}",
        )
        levels.append(Resize(align_corners=align_corners, name=f"ppm{b}_resize")(y, x))
    return layers.Concatenate(name="ppm")(levels)
