"""The beginning of every network: its input, a margin, the sizes that it cannot work with."""

import keras
from keras import ops

from keras_seg.utils import check_counts, is_count


def image_input(input_shape, num_classes, **widths):
    """The input "image" of a network, once these arguments of its builder have been checked.

    Args:
        input_shape: (H, W, C), H and W may be None.
        num_classes: channels that the network is to return.
        widths: other arguments that are whole numbers of at least 1, such as `filters`.

    Returns:
        symbolic tensor (N, H, W, C), float32.

    Raises:
        ValueError: for a shape that is not such a triple, a number of classes or a width that is
            not a whole number of at least 1, or where Keras is set to "channels_first".
    """
    if not is_count(num_classes):
        raise ValueError(
            "num_classes must be a whole number of at least 1 (background counts, the ignore "
            f"label does not), got {num_classes!r}."
        )
    check_counts(**widths)
    shape = tuple(input_shape) if isinstance(input_shape, list | tuple) else ()
    free = [n for n in shape[:2] if n is not None]
    if len(shape) != 3 or not all(map(is_count, [*free, shape[2]])):
        raise ValueError(
            "input_shape must be (height, width, channels), whole numbers of at least 1; height "
            f"and width may be None for any size. It is {input_shape!r}."
        )
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "keras_seg takes images (N, H, W, C), but Keras is set to "
            f"{keras.config.image_data_format()!r}: call "
            'keras.config.set_image_data_format("channels_last"), or change ~/.keras/keras.json.'
        )
    return keras.Input(shape, name="image", dtype="float32")


@keras.saving.register_keras_serializable("keras_seg")
class CheckSize(keras.layers.Layer):
    """Images (N, H, W, C) as they are, or an error for a size that the network cannot work with.

    A size that is known while the graph is made (a fixed input, a plain call, an exported file)
    gives a ValueError; one that TensorFlow learns only when the graph runs gives its
    InvalidArgumentError.

    Args:
        least: the smallest height and width that work, in pixels.
        step: the next ones are `least + step`, `least + 2 * step`, and so on.
    """

    def __init__(self, least, step=1, **kwargs):
        super().__init__(**kwargs)
        self.least, self.step = least, step

    def call(self, x):
        self.compute_output_shape(x.shape)
        if None not in x.shape[1:3]:
            return x
        import tensorflow as tf  # no other backend leaves sizes open

        size = tf.shape(x)[1:3]
        works = tf.reduce_all((size >= self.least) & ((size - self.least) % self.step == 0))
        problem = f"height and width must be {self._rule()}"
        with tf.control_dependencies([tf.debugging.Assert(works, [problem, size])]):
            return tf.identity(x)

    def compute_output_shape(self, input_shape):
        for axis, size in zip(("height", "width"), input_shape[1:3], strict=True):
            if size is None:
                continue
            if size < self.least:
                raise ValueError(f"The {axis} {size} is too small: {self._rule()} is needed.")
            below = size - (size - self.least) % self.step
            if size != below:
                raise ValueError(
                    f"The {axis} {size} cannot work: it must be {self._rule()}. Use {below} or "
                    f"{below + self.step}."
                )
        return tuple(input_shape)

    def _rule(self):
        if self.step == 1:
            return f"at least {self.least}"
        return f"{self.least} plus a multiple of {self.step}"

    def get_config(self):
        return {**super().get_config(), "least": self.least, "step": self.step}


def check_size(x, least, step=1):
    """`CheckSize(least, step)`, in float32 so that mixed precision loses no grey level."""
    return CheckSize(least, step, name="check_size", dtype="float32")(x)


@keras.saving.register_keras_serializable("keras_seg")
class ReflectMargin(keras.layers.Layer):
    """Images (N, H, W, C) with `margin` pixels around them, mirrored at the first and last pixel.

    (N, H, W, C) -> (N, H + 2 margin + h, W + 2 margin + w, C). The border pixel itself is not
    repeated (OpenCV's BORDER_REFLECT_101); a margin wider than the image goes back and forth.

    Args:
        margin: pixels on each side.
        multiple: behind the last row and column are as many more, h and w, as make H + h and W + w
            multiples of it.
    """

    def __init__(self, margin, multiple=1, **kwargs):
        super().__init__(**kwargs)
        self.margin, self.multiple = margin, multiple

    def call(self, x):
        for axis, size in ((1, ops.shape(x)[1]), (2, ops.shape(x)[2])):
            x = ops.take(x, self._source(size), axis=axis)
        return x

    def _source(self, size):
        """Which row of the image each row of the result shows."""
        last = size - 1
        period = ops.maximum(2 * last, 1)
        place = ops.mod(ops.arange(self._padded(size)) - self.margin, period)
        return last - ops.abs(last - place)

    def _padded(self, size):
        return size + 2 * self.margin + (-size) % self.multiple

    def compute_output_shape(self, input_shape):
        height, width = (None if n is None else self._padded(n) for n in input_shape[1:3])
        return (input_shape[0], height, width, input_shape[3])

    def get_config(self):
        return {**super().get_config(), "margin": self.margin, "multiple": self.multiple}
