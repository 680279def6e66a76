"""The Encoding layer: what a feature map holds, whatever its size, as residuals from codewords."""

import math

import keras
from keras import ops

from keras_seg.utils import check_counts


@keras.saving.register_keras_serializable("keras_seg")
class Encoding(keras.layers.Layer):
    """Soft assignment to K learned codewords, and the sum of the residuals from each.

    Zhang, Xue, Dana. "Deep TEN: Texture Encoding Network", CVPR 2017, section 3; EncNet's paper,
    section 3.1. For the pixels x_i of a map and codewords c_k with scales s_k:

        a_ik = softmax over k of s_k |x_i - c_k|^2        e_k = sum over i of a_ik (x_i - c_k)

    (N, H, W, D) -> (N, K, D). The papers write exp(-s_k ...): as in the authors' code the sign is
    part of the scale, which starts in -1..0. The sum is not divided by H W: it grows with the map.

    Nothing of the size H W K D is made: |x - c|^2 is |x|^2 - 2 x c + |c|^2 and the sum a product of
    matrices. All of it is float32, whatever the precision policy, since those squares cancel; the
    result has the dtype of the input, so that a large map wants `dtype="float32"`.

    Args:
        num_codewords: K.

    Raises:
        ValueError: for a number of codewords that is not a whole number of at least 1.
    """

    def __init__(self, num_codewords=32, **kwargs):
        super().__init__(**kwargs)
        check_counts(num_codewords=num_codewords)
        self.num_codewords = num_codewords

    def build(self, input_shape):
        channels = input_shape[-1]
        limit = 1 / math.sqrt(self.num_codewords * channels)
        self.codewords = self.add_weight(
            shape=(self.num_codewords, channels),
            initializer=keras.initializers.RandomUniform(-limit, limit),
            name="codewords",
        )
        self.scale = self.add_weight(
            shape=(self.num_codewords,),
            initializer=keras.initializers.RandomUniform(-1.0, 0.0),
            name="scale",
        )

    def call(self, x):
        pixels = self._pixels(x)
        a = self.assign(x)
        sums = ops.matmul(ops.transpose(a, (0, 2, 1)), pixels)  # (N, K, D)
        shares = ops.expand_dims(ops.sum(a, axis=1), -1)  # (N, K, 1)
        return ops.cast(sums - shares * ops.cast(self.codewords, "float32"), x.dtype)

    def assign(self, x):
        """The a_ik of a map (N, H, W, D): float32 (N, H W, K), of which each row sums to 1."""
        pixels = self._pixels(x)
        codewords = ops.cast(self.codewords, "float32")
        distance = (
            ops.sum(ops.square(pixels), axis=-1, keepdims=True)
            - 2.0 * ops.matmul(pixels, ops.transpose(codewords))
            + ops.sum(ops.square(codewords), axis=-1)
        )
        return ops.softmax(ops.cast(self.scale, "float32") * distance, axis=-1)

    def _pixels(self, x):
        """(N, H, W, D) -> float32 (N, H W, D)."""
        _, height, width, channels = ops.shape(x)
        return ops.cast(ops.reshape(x, (-1, height * width, channels)), "float32")

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_codewords, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "num_codewords": self.num_codewords}
