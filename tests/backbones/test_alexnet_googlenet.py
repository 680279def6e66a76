"""AlexNet and GoogLeNet: counts, sizes as in Caffe, and the two forms of every stride."""

import keras
import numpy as np
import pytest

from keras_seg.backbones import alexnet, build_features, googlenet
from keras_seg.layers import max_pool_ceil


def build(trunk, size=(None, None), **options):
    image = keras.Input((*size, 3), name="image")
    return keras.Model(image, trunk(image, **options))


def test_parameter_counts():
    """Of the release's FCN-AlexNet and of BVLC GoogLeNet, less what lies on top of the trunk."""
    fc6, fc7, score = 6 * 6 * 256 * 4096 + 4096, 4096 * 4096 + 4096, 4096 * 21 + 21
    assert build(alexnet).count_params() == 56_954_261 - fc6 - fc7 - score
    assert build(googlenet).count_params() == 6_998_552 - 1_025_000


def test_sizes_of_alexnet():
    """voc-fcn-alexnet at 500 pixels; padding 100, pools that round up."""
    shapes = build(alexnet, (500, 500), filters=4, first_padding=100).output
    names = ["conv1", "pool1", "conv2", "pool2", "conv5", "pool5"]
    assert [shapes[name].shape[1] for name in names] == [173, 86, 86, 43, 43, 21]
    # Caffe's classifier: no padding, 227 pixels.
    shapes = build(alexnet, (227, 227), filters=4, first_padding=0).output
    assert [shapes[name].shape[1] for name in names] == [55, 27, 27, 13, 13, 6]


def test_sizes_and_channels_of_googlenet():
    """Table 1 of the paper, at 224 pixels."""
    features = build(googlenet, (224, 224)).output
    assert [features[f"c{i}"].shape[1:] for i in range(1, 6)] == [
        (112, 112, 64),
        (56, 56, 192),
        (28, 28, 480),
        (14, 14, 832),
        (7, 7, 1024),
    ]
    channels = [features[f"inception_{m}"].shape[-1] for m in ("3a", "4a", "4b", "4c", "4d", "5a")]
    assert channels == [256, 512, 512, 512, 528, 832]


def test_taps_of_alexnet():
    features = build(alexnet, (64, 64), filters=4).output
    assert "c1" not in features
    for tap, name in {"c2": "conv1", "c3": "conv2", "c4": "conv5", "c5": "pool5"}.items():
        assert features[tap] is features[name]


@pytest.mark.parametrize("rows", [2, 3, 4, 7, 10])
def test_pools_round_up_as_in_caffe(rows):
    """ceil((H - 3) / 2) + 1 windows; the last may hang over the edge."""
    x = np.random.default_rng(0).uniform(0, 1, (1, rows, rows + 1, 2)).astype("float32")
    image = keras.Input((None, None, 2))
    got = np.asarray(keras.Model(image, max_pool_ceil(image, name="pool"))(x))
    height, width = (int(np.ceil((n - 3) / 2)) + 1 for n in x.shape[1:3])
    assert got.shape == (1, height, width, 2)
    for i in range(height):
        for j in range(width):
            window = x[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            np.testing.assert_array_equal(got[0, i, j], window.max((0, 1)))


@pytest.mark.parametrize("name", ["alexnet", "googlenet"])
def test_dilated_is_the_same_network(name):
    """At output stride 8, every 4th feature of c5 is the undilated trunk's."""
    plain_input, dilated_input = keras.Input((None, None, 3)), keras.Input((None, None, 3))
    plain = keras.Model(plain_input, build_features(name, plain_input, filters=8))
    features = build_features(name, dilated_input, output_stride=8, filters=8)
    dilated = keras.Model(dilated_input, features)
    dilated.set_weights(plain.get_weights())
    x = np.random.default_rng(0).normal(size=(1, 75, 98, 3)).astype("float32")
    got, expected = np.asarray(dilated(x)["c5"])[:, ::4, ::4], np.asarray(plain(x)["c5"])
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def test_bad_widths():
    with pytest.raises(ValueError, match="filters must be a multiple of 4, got 6"):
        build(alexnet, filters=6)
    with pytest.raises(
        ValueError, match="first_padding must be a whole number of at least 0, got -1"
    ):
        build(alexnet, first_padding=-1)
    with pytest.raises(ValueError, match="filters must be a whole number of at least 1, got 0"):
        build(googlenet, filters=0)
