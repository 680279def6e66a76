"""Bilinear and nearest resizing, with the two conventions of the field, to a size or like a tensor.

Keras resizes with half-pixel centres only, its layer refuses to be exported when the size is not
known, and `keras.layers.Resizing` inside a model switches later normalisations to training mode.
"""

import keras
from keras import ops


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
            pixel is the first of its block (dilated convolutions).
        interpolation: "bilinear" or "nearest" (nearest has half-pixel centres only).
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
        if scale is not None and not (isinstance(scale, int) and scale >= 1):
            raise ValueError(f"scale must be a whole number of at least 1, got {scale!r}.")
        if interpolation not in ("bilinear", "nearest"):
            raise ValueError(
                f"interpolation must be 'bilinear' or 'nearest', got {interpolation!r}."
            )
        if interpolation == "nearest" and (align_corners or not half_pixel):
            raise ValueError("interpolation='nearest' has half-pixel centres only.")
        if align_corners and not half_pixel:
            raise ValueError("align_corners=True and half_pixel=False exclude each other.")
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"size must be (height, width), each at least 1, got {size!r}.")
        self.size = None if size is None else tuple(int(n) for n in size)
        self.scale = scale
        self.align_corners = align_corners
        self.interpolation = interpolation
        self.half_pixel = half_pixel

    def call(self, x, reference=None):
        if (self.size is None and self.scale is None) == (reference is None):
            raise ValueError(
                "Resize takes its size either from `size` or `scale` or from a second tensor: "
                "Resize(size=(H, W))(x), Resize(scale=2)(x) or Resize()(x, reference)."
            )
        if self.size is not None:
            size = self.size
        elif self.scale is not None:
            size = tuple(n * self.scale for n in ops.shape(x)[1:3])
        else:
            size = tuple(ops.shape(reference)[1:3])
        known = all(isinstance(n, int) for n in size)
        if known and size == tuple(x.shape[1:3]):
            return x
        if keras.backend.backend() == "tensorflow":
            return self._with_tensorflow(x, size)
        if self.interpolation == "nearest":
            return ops.image.resize(x, size, interpolation="nearest", data_format="channels_last")
        convention = (self.align_corners, x.dtype, self.half_pixel)
        rows = _bilinear_matrix(ops.shape(x)[1], size[0], *convention)
        columns = _bilinear_matrix(ops.shape(x)[2], size[1], *convention)
        return ops.einsum("oh,nhwc,pw->nopc", rows, x, columns)

    def _with_tensorflow(self, x, size):
        """TensorFlow's own kernels: one builtin operator in TFLite and ONNX."""
        import tensorflow as tf

        if not all(isinstance(n, int) for n in size):
            size = tf.stack(size)
        if self.interpolation == "nearest":
            return tf.image.resize(x, size, method="nearest")
        if self.align_corners or not self.half_pixel:
            y = tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=self.align_corners)
        else:
            y = tf.image.resize(x, size)
        return tf.cast(y, x.dtype)

    def compute_output_shape(self, x_shape, reference_shape=None):
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


def _bilinear_matrix(source, target, align_corners, dtype, half_pixel=True):
    """(target, source) matrix whose row o holds the bilinear weights of output o."""
    position = ops.cast(ops.arange(target), "float32")
    if align_corners:
        position = position * ((source - 1) / max(target - 1, 1))
    else:
        shift = 0.5 if half_pixel else 0.0
        position = ops.clip((position + shift) * (source / target) - shift, 0, source - 1)
    distance = ops.abs(position[:, None] - ops.cast(ops.arange(source), "float32")[None])
    return ops.cast(ops.relu(1.0 - distance), dtype)


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
