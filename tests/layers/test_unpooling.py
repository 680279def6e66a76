"""Max-unpooling and local contrast normalisation: values by the definition, any size, any dtype."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seg.layers import LocalContrastNormalization, MaxUnpooling2D
from keras_seg.layers.unpooling import _interleave


def coarse(*shape):
    """Whole numbers 0..3, so that most windows hold equal maxima."""
    return np.random.default_rng(0).integers(0, 4, shape).astype("float32")


def unpooled(x, before):
    """The definition, window by window: the first maximum in row order gets the value."""
    y = np.zeros_like(before)
    for n, i, j, c in np.ndindex(x.shape):
        window = before[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        row, column = np.unravel_index(window.argmax(), window.shape)
        y[n, 2 * i + row, 2 * j + column, c] = x[n, i, j, c]
    return y


SIZES = [(6, 8), (7, 8), (6, 9), (5, 3), (1, 1), (1, 4)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_first_maximum_of_each_window(size, dtype):
    before = coarse(2, *size, 3) - 2  # odd sizes: also windows whose maximum is below 0
    x = coarse(2, (size[0] + 1) // 2, (size[1] + 1) // 2, 3) + 1
    y = MaxUnpooling2D(dtype=dtype)(x, before)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    np.testing.assert_array_equal(tf.cast(y, "float32"), unpooled(x, before))


def test_sizes_that_are_known_only_when_it_runs():
    image = keras.Input((None, None, 2))
    low = keras.layers.MaxPooling2D(2, padding="same")(image)
    model = keras.Model(image, MaxUnpooling2D()(low, image))
    assert model.output.shape == (None, None, None, 2)
    graph = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 2))])
    for size in SIZES:
        before = coarse(2, *size, 2)
        low = keras.layers.MaxPooling2D(2, padding="same")(before)
        np.testing.assert_array_equal(graph(before), unpooled(np.asarray(low), before))


def test_the_gradient_takes_the_way_back():
    """To x from the place of the maximum alone; none to the map that chooses the place."""
    before, x = tf.constant(coarse(1, 6, 5, 2)), tf.constant(coarse(1, 3, 3, 2))
    weight = np.random.default_rng(1).normal(size=before.shape).astype("float32")
    with tf.GradientTape() as tape:
        tape.watch([before, x])
        loss = tf.reduce_sum(weight * MaxUnpooling2D()(x, before))
    to_before, to_x = tape.gradient(loss, [before, x])
    assert to_before is None
    expected = np.zeros(x.shape, "float32")
    for n, i, j, c in np.ndindex(expected.shape):
        one = np.zeros_like(expected)
        one[n, i, j, c] = 1
        expected[n, i, j, c] = (weight * unpooled(one, before.numpy())).sum()
    np.testing.assert_allclose(to_x, expected, rtol=1e-6)


def test_an_overflow_stays_where_it_is():
    before = np.zeros((1, 2, 2, 1), "float16")
    y = MaxUnpooling2D(dtype="float16")(np.full((1, 1, 1, 1), np.inf, "float16"), before)
    np.testing.assert_array_equal(np.asarray(y).ravel(), [np.inf, 0, 0, 0])


@pytest.mark.parametrize("size", [(8, 10), (7, 9)])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_tflite_finds_the_same_places(size, precision, tmp_path):
    """Exactly, also in int8 and with equal maxima, by operators that the GPU delegate has."""
    from keras_seg.export import targets, tflite
    from keras_seg.export.graph import StaticGraph
    from keras_seg.inference import load_runner

    image = keras.Input((None, None, 2))
    x = keras.layers.Rescaling(1 / 4)(image)  # LiteRT compares no 8-bit values beyond 255
    low = keras.layers.MaxPooling2D(2, padding="same")(x)
    model = keras.Model(image, MaxUnpooling2D()(low, x))
    file = tmp_path / "model.tflite"
    pixels = coarse(1, *size, 2)
    tflite.write(StaticGraph(model, size, 2, "logits"), file, precision, [pixels])
    before = pixels / 4
    low = keras.layers.MaxPooling2D(2, padding="same")(before)
    np.testing.assert_array_equal(load_runner(file).run(pixels), unpooled(np.asarray(low), before))
    assert set(tflite.operators(file)) <= targets.GPU_DELEGATE


def test_form_of_other_backends_equals_tensorflow(monkeypatch):
    phases = [coarse(2, 3, 4, 5) + 10 * i for i in range(4)]
    theirs = _interleave(phases)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    np.testing.assert_array_equal(_interleave(phases), theirs)


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match="4 values cannot be put into 9 places; .*are needed: 5"):
        MaxUnpooling2D()(keras.Input((4, 4, 2)), keras.Input((9, 8, 2)))


def contrast(x, size, deviation):
    """Jarrett et al. 2009, section 2, pixel by pixel."""

    def local_mean(y):
        out = np.empty(y.shape[:2])
        for i, j in np.ndindex(out.shape):
            rows, columns = np.ogrid[: y.shape[0], : y.shape[1]]
            weight = np.exp(-0.5 * ((rows - i) ** 2 + (columns - j) ** 2) / deviation**2)
            weight[(abs(rows - i) > size // 2) | (abs(columns - j) > size // 2)] = 0
            out[i, j] = (weight[..., None] * y).sum() / (weight.sum() * y.shape[2])
        return out[..., None]

    centred = x - local_mean(x)
    spread = np.sqrt(local_mean(centred**2))
    return centred / np.maximum(spread, spread.mean())


def test_local_contrast_normalisation_by_its_definition():
    image = np.random.default_rng(0).uniform(0, 255, (2, 11, 8, 3)).astype("float32")
    image[:, :6, :6] /= 20  # a corner of low contrast
    y = LocalContrastNormalization(5, 1.5)(image)
    for ours, one in zip(np.asarray(y), image, strict=True):
        np.testing.assert_allclose(ours, contrast(one, 5, 1.5), atol=1e-4)


def test_a_blank_image_stays_blank():
    y = LocalContrastNormalization()(np.full((1, 12, 12, 3), 200, "float32"))
    np.testing.assert_allclose(y, 0, atol=0.1)


@pytest.mark.parametrize("arguments", [{"size": 4}, {"size": 0}, {"deviation": 0}])
def test_local_contrast_normalisation_refuses(arguments):
    with pytest.raises(ValueError, match="size must be an odd|deviation must be positive"):
        LocalContrastNormalization(**arguments)
