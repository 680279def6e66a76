"""Max-unpooling by the places of the maxima, as in DeconvNet and SegNet."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_seg")
class MaxUnpooling2D(keras.layers.Layer):
    """Put each value where its 2x2 window had the maximum, and 0 elsewhere.

    `MaxUnpooling2D()(x, before)`: `before` (N, H, W, C) is the map that
    `keras.layers.MaxPooling2D(2, padding="same")` has pooled, x (N, ceil(H / 2), ceil(W / 2), C)
    holds one value for each window; the result has the size of `before`. Of equal maxima the first
    in row order counts, as with the indices of PyTorch, TensorFlow and Caffe: after a ReLU many
    windows are all zero. No gradient flows to `before`.

    Neither indices nor a scatter are needed, so that every runtime has the operators: the maximum
    is looked for in the four phases of the 2x2 grid.

    Raises:
        ValueError: when the sizes are known and x does not have one value for each window.
    """

    def call(self, x, before):
        height, width = ops.shape(before)[1:3]
        before = _even(_even(before, 1), 2)
        a, b, c, d = (before[:, i::2, j::2] for i in (0, 1) for j in (0, 1))
        maximum = ops.maximum(ops.maximum(a, b), ops.maximum(c, d))
        phases = []
        # `where` and not a product with a mask: 0 times an overflow of float16 would be NaN.
        zero = ops.zeros((), x.dtype)
        for phase in (a, b, c):
            here = ops.equal(phase, maximum)
            phases.append(ops.where(here, x, zero))
            x = ops.where(here, zero, x)
        y = _interleave([*phases, x])
        if _is_even(height) and _is_even(width):
            return y
        return y[:, :height, :width]

    def compute_output_shape(self, x_shape, before_shape):
        for size, whole in zip(x_shape[1:3], before_shape[1:3], strict=True):
            if size is not None and whole is not None and size != (whole + 1) // 2:
                raise ValueError(
                    f"{self.name}: {size} values cannot be put into {whole} places; half as many, "
                    f"rounded up, are needed: {(whole + 1) // 2}."
                )
        return (x_shape[0], *before_shape[1:3], x_shape[3])


def _is_even(size):
    """Whether a size is known and even."""
    return isinstance(size, int) and size % 2 == 0


def _even(x, axis):
    """x with its last row (axis 1) or column (axis 2) once more if their number is odd.

    The copy stands behind the original in each window, so that it is never the first maximum, and
    unlike a very low number it does not widen the range of a quantised map.
    """
    size = ops.shape(x)[axis]
    if _is_even(size):
        return x
    last = x[:, -1:] if axis == 1 else x[:, :, -1:]
    if not isinstance(size, int):
        missing = size % 2
        last = last[:, :missing] if axis == 1 else last[:, :, :missing]
    return ops.concatenate([x, last], axis=axis)


def _interleave(phases):
    """Four maps (N, h, w, C), one for each place of a 2x2 window, as one map (N, 2h, 2w, C)."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.nn.depth_to_space(tf.concat(phases, axis=-1), 2)  # one operator everywhere
    _, height, width, channels = phases[0].shape
    y = ops.reshape(ops.stack(phases, axis=3), (-1, height, width, 2, 2, channels))
    y = ops.transpose(y, (0, 1, 3, 2, 4, 5))
    return ops.reshape(y, (-1, 2 * height, 2 * width, channels))
