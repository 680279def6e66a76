"""DeepLab's VGG16: sizes of the papers' tables, dilation, and the average that counts zeros."""

import keras
import numpy as np
import pytest

from keras_seg.backbones import atrous_vgg16


def build(size=(None, None), **options):
    image = keras.Input((*size, 3), name="image")
    return keras.Model(image, atrous_vgg16(image, **options))


def test_parameter_count():
    assert build().count_params() == 14_714_688


@pytest.mark.parametrize(
    ("pools", "size", "sides"),
    [
        ("3x3", 321, (161, 81, 41, 41, 41, 41)),
        ("3x3", 513, (257, 129, 65, 65, 65, 65)),
        ("3x3", 34, (18, 10, 6, 6, 6, 6)),  # Caffe rounds up: ceil((34 + 2 - 3) / 2) + 1
        ("2x2-padded", 306, (154, 78, 40, 39, 39, 39)),
        ("2x2-padded", 514, (258, 130, 66, 65, 65, 65)),
        ("2x2", 500, (250, 125, 63, 63, 63, 63)),
    ],
)
def test_sizes(pools, size, sides):
    features = build((size, size), pools=pools, filters=1).output
    names = ("pool1", "pool2", "pool3", "pool4", "pool5", "pool5a")
    assert tuple(features[name].shape[1] for name in names) == sides
    assert [features[name].shape[3] for name in names] == [1, 2, 4, 8, 8, 8]


def test_only_block_5_is_dilated():
    model = build(filters=1)
    rates = {
        layer.name: layer.dilation_rate[0]
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    }
    assert {name for name, rate in rates.items() if rate == 2} == {"conv5_1", "conv5_2", "conv5_3"}
    assert set(rates.values()) == {1, 2}


def test_the_average_counts_the_zeros_around():
    """Caffe divides by all nine positions of the window, at the border too."""
    model = build(filters=1)
    image = np.random.default_rng(0).normal(size=(1, 65, 65, 3)).astype("float32")
    features = model(image)
    padded = np.pad(np.asarray(features["pool5"]), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = sum(padded[:, i : i + 9, j : j + 9] for i in range(3) for j in range(3)) / 9
    np.testing.assert_allclose(features["pool5a"], expected, rtol=1e-5, atol=1e-7)


def test_unknown_pools():
    with pytest.raises(ValueError, match="Unknown pools '4x4'"):
        build(pools="4x4")
