"""Bilinear and nearest resizing, with the two conventions of the field, to a size or like a tensor.

Keras resizes with half-pixel centres only, its layer refuses to be exported when the size is not
known, and `keras.layers.Resizing` inside a model switches later normalisations to training mode.
"""

import fractions

import keras
import numpy as np
from keras import ops

from keras_seg.utils import check_counts, counts, unknown_name


@keras.saving.register_keras_serializable("keras_seg")
class Resize(keras.layers.Layer):
    """Resize (N, H, W, C) to a size, by a whole factor, or to the size of a second tensor.

    `Resize(size=(33, 65))(x)`, `Resize(scale=2)(x)` or `Resize()(x, reference)`; unknown sizes are
    read when the graph runs. Keeps the dtype.

    Args:
        size: (height, width) of the output, or None.
        scale: the output is `scale` times as high and wide, or None.
        align_corners: where output pixel o looks. False: at (o + 0.5) * in / out - 0.5, clamped
            (half-pixel centres: TensorFlow 2, torch default). True: at o * (in - 1) / (out - 1),
            so that corner falls on corner (DeepLab, PSPNet).
        half_pixel: False, with align_corners False: at o * in / out, clamped, so that each source
            pixel is the first of its block (dilated convolutions; PyTorch's "nearest").
        interpolation: "bilinear" or "nearest" (which has no align_corners form).
    """

    def __init__(
        self,
        size=None,
        scale=None,
        align_corners=False,
        interpolation="bilinear",
        half_pixel=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if size is not None and scale is not None:
            raise ValueError(f"Resize takes size or scale, not both: got {size!r} and {scale!r}.")
        if scale is not None:
            check_counts(scale=scale)
        if interpolation not in ("bilinear", "nearest"):
            raise unknown_name("interpolation", interpolation, ("bilinear", "nearest"))
        if interpolation == "nearest" and align_corners:
            raise ValueError("interpolation='nearest' has no align_corners form.")
        if align_corners and not half_pixel:
            raise ValueError("align_corners=True and half_pixel=False exclude each other.")
        self.size = None if size is None else counts("size", size, 2)
        self.scale = None if scale is None else int(scale)
        self.align_corners = align_corners
        self.interpolation = interpolation
        self.half_pixel = half_pixel

    def call(self, x, reference=None):
        self._check_source(reference)
        if self.size is not None:
            size = self.size
        elif self.scale is not None:
            size = tuple(n * self.scale for n in ops.shape(x)[1:3])
        else:
            size = tuple(ops.shape(reference)[1:3])
        return _resize(x, size, self.align_corners, self.interpolation, self.half_pixel)

    def _check_source(self, reference):
        if (self.size is None and self.scale is None) == (reference is None):
            raise ValueError(
                "Resize takes its size either from `size` or `scale` or from a second tensor: "
                "Resize(size=(H, W))(x), Resize(scale=2)(x) or Resize()(x, reference)."
            )

    def compute_output_shape(self, x_shape, reference_shape=None):
        self._check_source(reference_shape)
        if self.scale is not None:
            height, width = (None if n is None else n * self.scale for n in x_shape[1:3])
        else:
            height, width = self.size or reference_shape[1:3]
        return (x_shape[0], height, width, x_shape[3])

    def get_config(self):
        return {
            **super().get_config(),
            "size": self.size,
            "scale": self.scale,
            "align_corners": self.align_corners,
            "interpolation": self.interpolation,
            "half_pixel": self.half_pixel,
        }


@keras.saving.register_keras_serializable("keras_seg")
class ResizeBy(keras.layers.Layer):
    """Resize (N, H, W, C) bilinearly to a fraction of its size. Keeps the dtype.

    Args:
        scale: the fraction, such as 0.75; a number of few digits.
        align_corners: as in `Resize`. True: the output has floor((H - 1) * scale) + 1 rows, so
            that they lie exactly 1 / scale apart where that is whole: at 0.75, 321 -> 241
            (DeepLab v2). False: floor(H * scale) rows, but at least one, which lie exactly
            1 / scale apart at every H (`scale_factor` of PyTorch's `interpolate`).
    """

    def __init__(self, scale, align_corners=False, **kwargs):
        super().__init__(**kwargs)
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not scale > 0:
            raise ValueError(f"scale must be a number above 0, got {scale!r}.")
        self.scale, self.align_corners = scale, align_corners
        # A quotient of whole numbers: 0.7 * 30 must not become 20 by rounding.
        self._ratio = fractions.Fraction(scale).limit_denominator(1000)

    def _size(self, sizes):
        last = int(self.align_corners)

        def scaled(n):
            n = (n - last) * self._ratio.numerator // self._ratio.denominator + last
            return max(n, 1) if isinstance(n, int) else ops.maximum(n, 1)

        return tuple(None if n is None else scaled(n) for n in sizes)

    def _is_whole(self, n):
        """Whether n * scale is surely a whole number, so that the quotient of sizes is scale."""
        parts = self._ratio.denominator
        return parts == 1 or (isinstance(n, int) and n % parts == 0)

    def call(self, x):
        source = ops.shape(x)[1:3]
        size = self._size(source)
        if self.align_corners or all(self._is_whole(n) for n in source):
            return _resize(x, size, self.align_corners)
        rows, columns = (
            bilinear_matrix(n, m, dtype=x.dtype, step=1 / self.scale)
            for n, m in zip(source, size, strict=True)
        )
        return ops.einsum("oh,nhwc,pw->nopc", rows, x, columns)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self._size(input_shape[1:3]), input_shape[3])

    def get_config(self):
        return {**super().get_config(), "scale": self.scale, "align_corners": self.align_corners}


def _resize(x, size, align_corners, interpolation="bilinear", half_pixel=True):
    """x at `size`, a pair of numbers or of scalar tensors."""
    known = all(isinstance(n, int) for n in size)
    if known and tuple(size) == tuple(x.shape[1:3]):
        return x
    if keras.backend.backend() == "tensorflow":
        return _resize_with_tensorflow(x, size, align_corners, interpolation, half_pixel)
    if interpolation == "nearest" and half_pixel:
        return ops.image.resize(x, size, interpolation="nearest", data_format="channels_last")
    if interpolation == "nearest":
        for axis, target in enumerate(size, start=1):
            place = ops.arange(target, dtype="int32") * ops.shape(x)[axis] // target
            x = ops.take(x, place, axis=axis)
        return x
    convention = (align_corners, x.dtype, half_pixel)
    rows = bilinear_matrix(ops.shape(x)[1], size[0], *convention)
    columns = bilinear_matrix(ops.shape(x)[2], size[1], *convention)
    return ops.einsum("oh,nhwc,pw->nopc", rows, x, columns)


def _resize_with_tensorflow(x, size, align_corners, interpolation, half_pixel):
    """TensorFlow's own kernels: one builtin operator in TFLite and ONNX."""
    import tensorflow as tf

    if not all(isinstance(n, int) for n in size):
        size = tf.stack(size)
    if interpolation == "nearest":
        return tf.raw_ops.ResizeNearestNeighbor(
            images=x, size=size, align_corners=False, half_pixel_centers=half_pixel
        )
    if align_corners or not half_pixel:
        y = tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=align_corners)
    else:
        y = tf.image.resize(x, size)
    return tf.cast(y, x.dtype)


def bilinear_matrix(
    source, target, align_corners=False, dtype="float32", half_pixel=True, step=None
):
    """(target, source) matrix whose row o holds the bilinear weights of output o.

    `target` is a number, which gives a constant, or, with `align_corners=False`, a tensor; then
    `source` may be one too. `step`: distance of the outputs, with `align_corners=False`; by
    default source / target.
    """
    if isinstance(target, int):
        xp, position = np, np.arange(target, dtype="float32")
    else:
        xp, position = ops, ops.cast(ops.arange(target), "float32")
        target = ops.cast(target, "float32")
    if align_corners:
        position = position * ((source - 1) / max(target - 1, 1))
    else:
        shift = 0.5 if half_pixel else 0.0
        if step is None:
            step = source / target
        last = source - 1 if isinstance(source, int) else ops.cast(source - 1, "float32")
        position = xp.clip((position + shift) * step - shift, 0, last)
    if isinstance(source, int):
        cells = np.arange(source, dtype="float32")
    else:
        cells = ops.cast(ops.arange(source), "float32")
    distance = xp.abs(position[:, None] - cells[None])
    return ops.cast(ops.convert_to_tensor(xp.maximum(1.0 - distance, 0.0)), dtype)


@keras.saving.register_keras_serializable("keras_seg")
class CropLike(keras.layers.Layer):
    """Cut (N, H, W, C) to the height and width of a second tensor, beginning at `offset`.

    Raises ValueError when the sizes are known and the cut does not fit.

    Args:
        offset: rows and columns to leave out before the cut, or "center" for half of the surplus,
            rounded down (Caffe's Crop layer and Lasagne's centre crop).
    """

    def __init__(self, offset=0, **kwargs):
        super().__init__(**kwargs)
        if offset != "center" and not (isinstance(offset, int) and offset >= 0):
            raise ValueError(f"offset must be 'center' or a number >= 0, got {offset!r}.")
        self.offset = offset

    def call(self, x, reference):
        size, target = ops.shape(x), ops.shape(reference)
        if self.offset == "center":
            top, left = (size[1] - target[1]) // 2, (size[2] - target[2]) // 2
        else:
            top = left = self.offset
        return x[:, top : top + target[1], left : left + target[2]]

    def compute_output_shape(self, x_shape, reference_shape):
        for size, target in zip(x_shape[1:3], reference_shape[1:3], strict=True):
            start = 0 if self.offset == "center" else self.offset
            if size is not None and target is not None and size < target + start:
                raise ValueError(
                    f"{self.name}: cannot cut {target} from {size} at offset {self.offset}; "
                    "the network's input is too small."
                )
        return (x_shape[0], *reference_shape[1:3], x_shape[3])

    def get_config(self):
        return {**super().get_config(), "offset": self.offset}


@keras.saving.register_keras_serializable("keras_seg")
class PadLike(keras.layers.Layer):
    """Pad (N, H, W, C) with zeros to the height and width of a second, larger tensor.

    Half of what is missing, rounded down, goes before and the rest behind, as in milesial's U-Net.
    """

    def call(self, x, reference):
        if tuple(x.shape[1:3]) == tuple(reference.shape[1:3]) and None not in x.shape[1:3]:
            return x
        missing = [t - n for t, n in zip(ops.shape(reference)[1:3], ops.shape(x)[1:3], strict=True)]
        return ops.pad(x, [(0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)])

    def compute_output_shape(self, x_shape, reference_shape):
        return (x_shape[0], *reference_shape[1:3], x_shape[3])


@keras.saving.register_keras_serializable("keras_seg")
class PadToStep(keras.layers.Layer):
    """Pad (N, H, W, C) with zeros below and on the right to the next size `first + k * step`.

    DeepLab's data layer does so with the mean pixel, which is zero after the preprocessing: only
    sizes 8 k + 1 have a grid of stride 8 whose corners are the image's.

    Args:
        step: distance of the sizes that fit.
        first: the smallest size that fits.
    """

    def __init__(self, step=8, first=1, **kwargs):
        super().__init__(**kwargs)
        check_counts(step=step, first=first)
        self.step, self.first = int(step), int(first)

    def _missing(self, sizes):
        return [(self.first - n) % self.step for n in sizes]

    def call(self, x):
        missing = self._missing(ops.shape(x)[1:3])
        if all(isinstance(n, int) and n == 0 for n in missing):
            return x
        return ops.pad(x, [(0, 0), *((0, n) for n in missing), (0, 0)])

    def compute_output_shape(self, input_shape):
        height, width = (None if n is None else n + self._missing([n])[0] for n in input_shape[1:3])
        return (input_shape[0], height, width, input_shape[3])

    def get_config(self):
        return {**super().get_config(), "step": self.step, "first": self.first}


@keras.saving.register_keras_serializable("keras_seg")
class RepeatEdge(keras.layers.Layer):
    """Repeat the first row and the first column of (N, H, W, C): (N, H + 1, W + 1, C)."""

    def call(self, x):
        x = ops.concatenate([x[:, :1], x], axis=1)
        return ops.concatenate([x[:, :, :1], x], axis=2)

    def compute_output_shape(self, input_shape):
        height, width = (None if n is None else n + 1 for n in input_shape[1:3])
        return (input_shape[0], height, width, input_shape[3])
