"""VGG16: sizes as in Caffe, taps, and equality with the network of keras.applications."""

import keras
import numpy as np
import pytest

from keras_seg.backbones import vgg16


def build(size=(None, None), **options):
    image = keras.Input((*size, 3), name="image")
    return keras.Model(image, vgg16(image, **options))


def test_parameter_count():
    assert build().count_params() == 14_714_688


def test_equals_keras_applications():
    ours = build()
    reference = keras.applications.VGG16(
        weights=None, include_top=False, input_shape=(None, None, 3)
    )
    ours.set_weights(reference.get_weights())
    image = np.random.default_rng(0).normal(size=(1, 32, 64, 3)).astype("float32")
    got, expected = np.asarray(ours(image)["c5"]), np.asarray(reference(image))
    assert got.shape == expected.shape == (1, 1, 2, 512)
    assert np.abs(got - expected).max() <= 1e-6 * np.abs(expected).max()


def test_sizes_of_the_fcn_paper():
    """The table of FCN-32s for a 500x500 image: padding 100, pools that round up."""
    shapes = {
        k: v.shape[1] for k, v in build((500, 500), filters=2, first_padding=100).output.items()
    }
    assert shapes["conv1_2"] == 698
    assert [shapes[f"pool{i}"] for i in range(1, 6)] == [349, 175, 88, 44, 22]


def test_taps_are_the_last_maps_of_each_stride():
    features = build((33, 50), filters=2).output
    for tap, name in zip(
        ["c1", "c2", "c3", "c4", "c5"],
        ["conv2_2", "conv3_3", "conv4_3", "conv5_3", "pool5"],
        strict=True,
    ):
        assert features[tap] is features[name]
    sizes = [(17, 25), (9, 13), (5, 7), (3, 4), (2, 2)]
    assert [features[f"c{i}"].shape[1:3] for i in range(1, 6)] == sizes
    assert [features[f"pool{i}"].shape[1:3] for i in range(1, 6)] == sizes
    assert [features[f"c{i}"].shape[3] for i in range(1, 6)] == [4, 8, 16, 16, 16]


@pytest.mark.parametrize("value", [0, -1, 1.5, "same"])
def test_bad_padding(value):
    with pytest.raises(ValueError, match="first_padding"):
        build(first_padding=value)
