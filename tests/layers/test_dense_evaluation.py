"""Pooling at every pixel, and one kernel with several dilations."""

import keras
import numpy as np
import pytest

from keras_seg.layers import DilatedPooling2D, SharedConv2D


def picture(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize("mode", ["max", "average"])
@pytest.mark.parametrize(("size", "dilation"), [(2, 1), (2, 4), (3, 2)])
def test_pooling_equals_a_loop(mode, size, dilation):
    x = picture(2, 11, 14, 3)
    reach = (size - 1) * dilation
    expected = np.empty((2, 11 - reach, 14 - reach, 3))
    for i in range(expected.shape[1]):
        for j in range(expected.shape[2]):
            taps = x[:, i : i + reach + 1 : dilation, j : j + reach + 1 : dilation]
            expected[:, i, j] = taps.max((1, 2)) if mode == "max" else taps.mean((1, 2))
    layer = DilatedPooling2D(size, dilation, mode)
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)
    assert layer.compute_output_shape((None, None, 14, 3)) == (None, None, 14 - reach, 3)


def test_with_stride_its_places_are_those_of_the_plain_pool():
    x = picture(1, 12, 10, 2)
    np.testing.assert_array_equal(
        np.asarray(DilatedPooling2D(2)(x))[:, ::2, ::2], keras.layers.MaxPooling2D(2)(x)
    )


def test_one_kernel_for_all_dilations():
    x = picture(2, 15, 13, 3)
    shared = SharedConv2D(4, 3)
    for dilation in (1, 3):
        y = shared(x, dilation=dilation)
        plain = keras.layers.Conv2D(4, 3, dilation_rate=dilation)
        plain.build(x.shape)
        plain.set_weights(shared.get_weights())
        np.testing.assert_allclose(y, plain(x), atol=1e-5)
    assert len(shared.weights) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pool_size": 0}, "pool_size must be a whole number of at least 1, got 0"),
        ({"dilation": 1.5}, "dilation must be a whole number of at least 1, got 1.5"),
        ({"mode": "mean"}, "Unknown mode 'mean'.*average, max"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DilatedPooling2D(**arguments)
