"""What a vision transformer is made of: tokens with positions, self-attention, exact GELU."""

import math

import keras
import numpy as np
from keras import ops

from keras_seg.layers.resize import bilinear_matrix
from keras_seg.utils import check_counts, counts


def normal_002():
    """N(0, 0.02). The references truncate it at +-2, a hundred deviations away: at nothing."""
    return keras.initializers.RandomNormal(stddev=0.02)


@keras.saving.register_keras_serializable("keras_seg")
class TokenEmbedding(keras.layers.Layer):
    """A map of patches as a sequence with a class token before it and a position added to each.

    (N, h, w, D) -> (N, 1 + h w, D), patches row by row. Dosovitskiy et al., "An Image is Worth
    16x16 Words", ICLR 2021, section 3.1. Positions are learned for one grid. For a map of another
    size they are resized bilinearly with half-pixel centres, as SETR does with those of a
    classifier.

    Args:
        grid: (rows, columns) that positions are learned for.
        class_token: False: the output has no class token, (N, h w, D). Its weight is kept, frozen:
            the references' checkpoints hold it, and it counts among their parameters.

    Raises:
        ValueError: for a grid that is not two whole numbers of at least 1.
    """

    def __init__(self, grid, class_token=True, **kwargs):
        super().__init__(**kwargs)
        self.grid = counts("grid", grid, 2)
        self.class_token = class_token

    def build(self, input_shape):
        channels = input_shape[-1]
        self.token = self.add_weight(
            shape=(1, 1, channels),
            initializer=normal_002(),
            trainable=self.class_token,
            name="class_token",
        )
        self.positions = self.add_weight(
            shape=(1, 1 + math.prod(self.grid), channels),
            initializer=normal_002(),
            name="positions",
        )

    def call(self, x):
        _, height, width, channels = ops.shape(x)
        patches = ops.reshape(x, (-1, height * width, channels))
        grid = ops.reshape(self.positions[0, 1:], (*self.grid, channels))
        patches = patches + ops.reshape(
            ops.cast(_resized(grid, height, width), x.dtype), (1, height * width, channels)
        )
        if not self.class_token:
            return patches
        token = self.token + self.positions[:, :1]
        token = ops.broadcast_to(token, (ops.shape(x)[0], 1, channels))
        return ops.concatenate([token, patches], axis=1)

    def fit_positions(self, array):
        """Positions (1, T, D) that were learned for a square grid, resized to this layer's grid.

        The first entry is that of the class token, the last n x n are the grid's; DeiT's entry of
        the distillation token, between them, is dropped. Other arrays are returned as they are,
        and so are those with one entry more than this grid has patches (5 x 10, which is 7 x 7 and
        one), but the entries of a square that are as many (6 x 6 for 4 x 9) are resized: all
        published ones are of squares.
        """
        entries = array.shape[1] if array.ndim == 3 else 0
        side = math.isqrt(max(entries - 1, 0))
        if side == 0 or entries - side**2 > 2:
            return array
        if entries - side**2 == 2 and entries == 1 + math.prod(self.grid):
            return array
        grid = array[0, -(side**2) :].reshape(side, side, -1)
        grid = np.asarray(_resized(grid.astype("float32"), *self.grid))
        return np.concatenate([array[:, :1], grid.reshape(1, -1, grid.shape[-1])], axis=1)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        tokens = None if None in (height, width) else height * width + self.class_token
        return (batch, tokens, channels)

    def get_config(self):
        return {**super().get_config(), "grid": self.grid, "class_token": self.class_token}


def _resized(grid, height, width):
    """(rows, columns, D) -> float32 (height, width, D), or `grid` itself where that is its size.

    By products of matrices, which are constants in an exported file.
    """
    rows, columns, channels = grid.shape
    known = isinstance(height, int) and isinstance(width, int)
    if known and (height, width) == (rows, columns):
        return grid
    y = ops.reshape(ops.cast(grid, "float32"), (rows, columns * channels))
    y = ops.matmul(bilinear_matrix(rows, height), y)
    y = ops.reshape(y, (height, columns, channels))
    return ops.matmul(bilinear_matrix(columns, width), y)


@keras.saving.register_keras_serializable("keras_seg")
class TokenMap(keras.layers.Layer):
    """Tokens back as a map: `TokenMap()(tokens, patches)`, (N, T, D) -> (N, h, w, D).

    `patches` is the map (N, h, w, ...) that the tokens were made from.

    Args:
        class_token: whether the first token is the class token, which is dropped.
    """

    def __init__(self, class_token=True, **kwargs):
        super().__init__(**kwargs)
        self.class_token = class_token

    def call(self, tokens, patches):
        _, height, width, _ = ops.shape(patches)
        if self.class_token:
            tokens = tokens[:, 1:]
        return ops.reshape(tokens, (-1, height, width, tokens.shape[-1]))

    def compute_output_shape(self, tokens_shape, patches_shape):
        return (*patches_shape[:3], tokens_shape[-1])

    def get_config(self):
        return {**super().get_config(), "class_token": self.class_token}


@keras.saving.register_keras_serializable("keras_seg")
class SelfAttention(keras.layers.Layer):
    """softmax(q k / sqrt(d)) v for each head, from queries, keys and values side by side.

    Vaswani et al., "Attention Is All You Need", 2017, section 3.2. (N, T, 3 D) -> (N, T, D); d is
    D / num_heads. No weights: the dense layers before and behind it are the network's. The softmax
    is float32 whatever the precision policy.

    Args:
        num_heads: number of heads, a divisor of D.

    Raises:
        ValueError: for a number of heads below 1, or one that does not divide the channels.
    """

    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        check_counts(num_heads=num_heads)
        self.num_heads = num_heads

    def build(self, input_shape):
        if input_shape[-1] % (3 * self.num_heads):
            raise ValueError(
                f"{input_shape[-1] // 3} channels do not divide into {self.num_heads} heads."
            )

    def call(self, x):
        _, tokens, channels = ops.shape(x)
        width = channels // (3 * self.num_heads)

        def heads(y):
            y = ops.reshape(y, (-1, tokens, self.num_heads, width))
            return ops.transpose(y, (0, 2, 1, 3))  # (N, heads, T, d)

        q, k, v = (heads(y) for y in ops.split(x, 3, axis=-1))
        scores = ops.matmul(q * width**-0.5, ops.transpose(k, (0, 1, 3, 2)))  # (N, heads, T, T)
        scores = ops.cast(ops.softmax(ops.cast(scores, "float32"), axis=-1), x.dtype)
        y = ops.transpose(ops.matmul(scores, v), (0, 2, 1, 3))
        return ops.reshape(y, (-1, tokens, channels // 3))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] // 3)

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


@keras.saving.register_keras_serializable("keras_seg")
class GELU(keras.layers.Layer):
    """x Phi(x) by the error function, no approximation (Hendrycks and Gimpel, arXiv 1606.08415).

    Keras' own is written with erfc, which neither ONNX nor the fusion of TFLite knows.
    """

    def call(self, x):
        return 0.5 * x * (1.0 + ops.erf(x * 0.5**0.5))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)
