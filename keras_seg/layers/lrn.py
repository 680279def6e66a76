"""Normalisation over neighbouring channels, as networks had it before batch normalisation."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_seg")
class LocalResponseNormalization(keras.layers.Layer):
    """Divide (N, H, W, C) by (bias + alpha / size * s) ** beta, s = sum of squares over channels.

    The sum runs over `size` neighbouring channels, centred on each; beyond the first and the last
    there are zeros. `alpha / size` as in Caffe; AlexNet's paper (Krizhevsky et al. 2012, section
    3.3) writes the quotient as one number. Computed in float32: squares of pixels overflow float16.

    Args:
        size: channels in a window, an odd number.
        alpha, beta, bias: the constants above; defaults are those of Caffe's AlexNet and GoogLeNet.

    Raises:
        ValueError: for an even size.
    """

    def __init__(self, size=5, alpha=1e-4, beta=0.75, bias=1.0, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(size, int) or size < 1 or size % 2 == 0:
            raise ValueError(f"size must be an odd number of channels, got {size!r}.")
        self.size, self.alpha, self.beta, self.bias = size, alpha, beta, bias

    def call(self, x):
        return ops.cast(self._normalise(ops.cast(x, "float32")), x.dtype)

    def _normalise(self, x):
        radius = self.size // 2
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # One builtin operator in TFLite and ONNX.
            return tf.nn.local_response_normalization(
                x, radius, self.bias, self.alpha / self.size, self.beta
            )
        squares = ops.pad(ops.square(x), ((0, 0), (0, 0), (0, 0), (radius, radius)))
        channels = x.shape[-1]
        total = sum(squares[..., i : i + channels] for i in range(self.size))
        return x / (self.bias + self.alpha / self.size * total) ** self.beta

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
            "bias": self.bias,
        }
