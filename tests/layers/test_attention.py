"""The layers of vision transformers against NumPy, scipy and torch's resize (golden case)."""

import keras
import numpy as np
import pytest
import scipy.special
from golden import cases

from keras_seg.layers import GELU, SelfAttention, TokenEmbedding, TokenMap

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype("float32")


def embedding(grid, positions, **options):
    """A layer whose class token is 0 and whose positions are given."""
    layer = TokenEmbedding(grid, **options)
    layer.build((None, None, None, positions.shape[-1]))
    layer.token.assign(np.zeros(layer.token.shape))
    layer.positions.assign(positions)
    return layer


def test_tokens_are_patches_row_by_row_behind_the_class_token():
    patches, positions, token = normal(2, 3, 5, 4), normal(1, 16, 4), normal(1, 1, 4)
    layer = embedding((3, 5), positions)
    layer.token.assign(token)
    got = np.asarray(layer(patches))
    np.testing.assert_allclose(got[:, 1:], patches.reshape(2, 15, 4) + positions[:, 1:], rtol=1e-6)
    np.testing.assert_allclose(got[:, 0], np.repeat(token[0] + positions[0, :1], 2, 0), rtol=1e-6)
    np.testing.assert_array_equal(TokenMap()(got, patches), got[:, 1:].reshape(2, 3, 5, 4))


def test_without_class_token():
    layer = embedding((3, 5), normal(1, 16, 4), class_token=False)
    assert layer(normal(2, 3, 5, 4)).shape == (2, 15, 4)
    assert [v.name for v in layer.non_trainable_weights] == ["class_token"]


@pytest.mark.parametrize("name", ["6x6_to_24x24", "12x15_to_23x29", "9x11_to_5x4"])
@pytest.mark.parametrize("known", [True, False])
def test_positions_of_another_grid_are_resized_as_torch_does(name, known):
    case, reference = cases.load("layer_bilinear_resize")
    grid = cases.inputs(case)[name].transpose(0, 2, 3, 1)
    rows, columns, channels = grid.shape[1:]
    positions = np.concatenate([np.ones((1, 1, channels)), grid.reshape(1, -1, channels)], axis=1)
    layer = embedding((rows, columns), positions)
    expected = reference[f"halfpixel_{name}"]
    height, width = expected.shape[2:]
    patches = np.zeros((1, height, width, channels), "float32")
    if known:
        tokens = layer(patches)
    else:
        image = keras.Input((None, None, channels))
        tokens = keras.Model(image, layer(image)).predict(patches, verbose=0)
    np.testing.assert_array_equal(np.asarray(tokens)[0, 0], 1)
    got = TokenMap()(tokens, patches)
    assert cases.relative_error(case, f"halfpixel_{name}", got, expected) <= 5e-6


def test_learned_positions_are_fitted_to_the_grid():
    """Square grids of any size, with the entry of DeiT's distillation token or without."""
    case, reference = cases.load("layer_bilinear_resize")
    grid = cases.inputs(case)["6x6_to_24x24"].transpose(0, 2, 3, 1).reshape(1, 36, 2)
    extra = normal(1, 2, 2)
    layer = embedding((24, 24), np.zeros((1, 577, 2)))
    for first in (extra[:, :1], extra):
        fitted = layer.fit_positions(np.concatenate([first, grid], axis=1))
        assert fitted.shape == (1, 577, 2)
        np.testing.assert_array_equal(fitted[:, 0], extra[:, 0])
        got = fitted[:, 1:].reshape(1, 24, 24, 2)
        error = cases.relative_error(
            case, "halfpixel_6x6_to_24x24", got, reference["halfpixel_6x6_to_24x24"]
        )
        assert error <= 5e-6
    for own_grid in [(6, 6), (2, 5), (5, 10)]:  # 1 + 9 and 1 + 49: no square and DeiT's entry
        own = normal(1, 1 + own_grid[0] * own_grid[1], 2)
        np.testing.assert_array_equal(embedding(own_grid, own).fit_positions(own), own)
    rows = np.repeat([0.0, *range(6)], [1, *[6] * 6])[None, :, None]  # a ramp from row to row
    fitted = embedding((4, 9), np.zeros((1, 37, 1))).fit_positions(rows)
    np.testing.assert_allclose(fitted[0, 1:, 0], np.repeat([0.25, 1.75, 3.25, 4.75], 9))
    for odd in (normal(1, 1, 2), normal(1, 40, 2), normal(37, 2)):  # no square grid
        assert layer.fit_positions(odd) is odd


def test_attention_is_the_papers_formula():
    x = normal(2, 7, 3 * 12)
    q, k, v = (a.reshape(2, 7, 3, 4).astype("float64") for a in np.split(x, 3, axis=-1))
    scores = scipy.special.softmax(np.einsum("nthd,nshd->nhts", q, k) / 2, axis=-1)
    expected = np.einsum("nhts,nshd->nthd", scores, v).reshape(2, 7, 12)
    np.testing.assert_allclose(SelfAttention(3)(x), expected, rtol=1e-4, atol=1e-6)
    half = SelfAttention(3, dtype="mixed_float16")(x)
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    np.testing.assert_allclose(half, expected, rtol=2e-2, atol=5e-3)
    with pytest.raises(ValueError, match="12 channels do not divide into 5 heads"):
        SelfAttention(5)(x)


def test_gelu_is_exact():
    x = np.linspace(-6, 6, 101).astype("float32")
    np.testing.assert_allclose(GELU()(x), x * scipy.special.ndtr(x), atol=1e-6)
