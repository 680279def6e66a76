"""ParseNet's normalisation: features of different layers brought to one scale."""

import numbers

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_seg")
class L2Normalization(keras.layers.Layer):
    """Give the last axis of (N, ..., C) the length 1, and each of its channels a learned scale.

    y_c = gamma_c x_c / sqrt(sum_k x_k^2 + epsilon) (Liu, Rabinovich, Berg 2015; the Normalize layer
    of the author's Caffe with across_spatial and channel_shared false). Computed in float32: the
    squares of 1024 channels overflow float16.

    Args:
        scale: where every gamma starts. With 1 the entries of a long vector are too small to learn
            from.
        epsilon: added to the sum of squares, before the root.

    Raises:
        ValueError: for a scale that is no number.
    """

    def __init__(self, scale=10.0, epsilon=1e-10, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(scale, numbers.Real):
            raise ValueError(f"scale must be a number, got {scale!r}.")
        self.scale, self.epsilon = scale, epsilon

    def build(self, input_shape):
        self.gamma = self.add_weight(
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(self.scale),
            name="gamma",
        )

    def call(self, x):
        y = ops.cast(x, "float32")
        length = ops.sum(ops.square(y), axis=-1, keepdims=True)
        y = y * ops.rsqrt(length + self.epsilon) * ops.cast(self.gamma, "float32")
        return ops.cast(y, x.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale, "epsilon": self.epsilon}
