"""build_features: every way to say which trunk."""

import sys

import keras
import numpy as np
import pytest

from keras_seg.backbones import (
    backbone_preprocessing,
    build_features,
    from_keras,
    list_backbones,
    vgg16,
)
from keras_seg.layers import Preprocess

KEYS = ["c1", "c2", "c3", "c4", "c5"]


def image_input(size=(64, 96), channels=3):
    return keras.Input((*size, channels), name="image")


def sides(features):
    return [features[key].shape[1] for key in KEYS]


@pytest.mark.parametrize(
    "output_stride, expected", [(8, [32, 16, 8, 8, 8]), (32, [32, 16, 8, 4, 2])]
)
@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_own_trunks_by_name(name, output_stride, expected):
    features = build_features(name, image_input(), output_stride=output_stride, filters=4)
    assert sides(features) == expected
    # The width reaches the trunk, also where VGG goes through the dilating transformation.
    assert features["c5"].shape[-1] == 32


def test_resnet_options():
    image = image_input()
    features = build_features("resnet18", image, output_stride=16, stem="deep", filters=4)
    names = {layer.name for layer in keras.Model(image, features).layers}
    assert "stem_conv3" in names


def test_drn_by_name_keeps_its_stride():
    image = image_input()
    features = build_features(
        "drn-d-22",
        image,
        output_stride=32,
        filters=8,
        bn_epsilon=1e-3,
        first_block_dilation="half",  # a matter of ResNet
    )
    assert sides(features) == [32, 16, 8, 8, 8]
    model = keras.Model(image, features)
    assert model.get_layer("level8_bn1").epsilon == 1e-3
    assert features["c5"].shape[-1] == 64


@pytest.mark.parametrize("output_stride, last", [(8, [8, 8, 8]), (32, [8, 4, 2])])
def test_wide_resnet_by_name(output_stride, last):
    image = image_input()
    features = build_features(
        "wide-resnet38", image, output_stride=output_stride, stem="deep", filters=4
    )
    assert sides(features) == [32, 16, *last]
    assert features["c5"].shape[-1] == 256


def test_dilated_vgg_is_our_vgg():
    plain_input, dilated_input = image_input(), image_input()
    plain = keras.Model(plain_input, build_features("vgg16", plain_input, filters=4))
    features = build_features("vgg16", dilated_input, output_stride=8, filters=4)
    dilated = keras.Model(dilated_input, features)
    dilated.set_weights(plain.get_weights())
    x = np.random.default_rng(0).normal(size=(1, 64, 96, 3)).astype("float32")
    got, expected = np.asarray(dilated(x)["c5"])[:, ::4, ::4], np.asarray(plain(x)["c5"])
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def test_keras_network_by_name_with_any_channels():
    features = build_features("keras:MobileNetV2", image_input(channels=4), output_stride=8)
    assert sides(features) == [32, 16, 8, 8, 8]


def test_builder_of_keras_applications():
    features = build_features(keras.applications.MobileNetV2, image_input(), output_stride=16)
    assert sides(features) == [32, 16, 8, 4, 4]


def test_classifier_keeps_its_weights():
    fresh = image_input()
    classifier = keras.Model(fresh, vgg16(fresh, filters=4)["pool5"], name="classifier")
    image = image_input()
    model = keras.Model(image, build_features(classifier, image, output_stride=8))
    assert all(
        np.array_equal(a, b)
        for a, b in zip(model.get_weights(), classifier.get_weights(), strict=True)
    )


def test_sequential_classifier():
    convs = [keras.layers.Conv2D(4, 3, strides=2, padding="same") for _ in range(5)]
    classifier = keras.Sequential([keras.Input((None, None, 3)), *convs])
    assert sides(build_features(classifier, image_input(), output_stride=8)) == [32, 16, 8, 8, 8]


def test_feature_model_is_taken_as_it_is():
    trunk = from_keras("MobileNetV2", 16, alpha=0.35)
    image = image_input()
    model = keras.Model(image, build_features(trunk, image, output_stride=8))
    assert sides(model.output) == [32, 16, 8, 4, 4]
    assert model.weights[0] is trunk.weights[0]


def test_function_is_taken_as_it_is():
    def halves(image):
        return {"c1": keras.layers.MaxPooling2D(2)(image), "c5": image}

    features = build_features(halves, image_input())
    assert features["c1"].shape[1:] == (32, 48, 3)


KERAS_NAMES = [name for name in list_backbones() if name.startswith("keras:")]


@pytest.mark.parametrize("name", KERAS_NAMES)
def test_networks_of_keras_get_the_pixels_that_they_know(name):
    """Their own `preprocess_input`, in which "none" stands for a scaling inside of the network."""
    builder = getattr(keras.applications, name.removeprefix("keras:"))
    image = np.random.default_rng(0).uniform(0, 255, (1, 5, 7, 3)).astype("float32")
    mode = backbone_preprocessing(name)
    expected = sys.modules[builder.__module__].preprocess_input(image.copy())
    np.testing.assert_allclose(Preprocess(mode)(image), expected, rtol=1e-5, atol=2e-5)
    assert backbone_preprocessing(builder) == mode


def test_what_scales_pixels_itself_is_not_scaled_twice():
    image = keras.Input((None, None, 3))
    plain = keras.Model(image, vgg16(image, filters=2)["pool5"])
    scaled = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Rescaling(1 / 255), plain]
    )
    assert backbone_preprocessing(scaled) == "none"
    assert backbone_preprocessing(from_keras(scaled)) == "none"
    assert backbone_preprocessing(keras.Sequential([scaled])) == "none"
    assert backbone_preprocessing(from_keras("EfficientNetV2B0")) == "none"
    for backbone in (plain, from_keras(plain), vgg16, "resnet50", "vgg16"):
        assert backbone_preprocessing(backbone) == "imagenet"
    # Keras leaves the normalisation out where there are not 3 channels.
    assert backbone_preprocessing("keras:ConvNeXtTiny", channels=4) == "imagenet"


@pytest.mark.parametrize("taken", [(64, 64, 3), (None, None, 1)])
def test_a_model_that_takes_other_images(taken):
    fresh = keras.Input(taken)
    model = keras.Model(fresh, vgg16(fresh, filters=2)["pool5"], name="mine")
    with pytest.raises(ValueError, match="The backbone 'mine' takes images .*Build the network"):
        build_features(model, keras.Input((None, None, 3)))


def test_known_names():
    names = list_backbones()
    assert {
        "resnet18",
        "resnet269",
        "drn-d-105",
        "wide-resnet38",
        "vgg16",
        "keras:MobileNetV2",
        "keras:ConvNeXtTiny",
    } <= {*names}
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "backbone, options, words",
    [
        ("resnet51", {}, "Unknown backbone 'resnet51'. Did you mean 'resnet5?0?1?"),
        ("keras:MobilNetV2", {}, "Did you mean 'keras:MobileNetV2'"),
        ("keras:NASNetMobile", {}, "Unknown backbone 'keras:NASNetMobile'"),
        (50, {}, "backbone must be a name, a keras.Model or a function"),
        (lambda image: image, {}, r"must give the features \['c5'\], but gave KerasTensor"),
        ("keras:ConvNeXtTiny", {"needs": ("c1", "c5")}, r"gave \['c2', 'c3', 'c4', 'c5'\]"),
        ("resnet18", {"output_stride": 5}, "output_stride must be 8, 16 or 32"),
        ("keras:MobileNetV2", {"output_stride": 4}, "output_stride must be 8, 16 or 32"),
        ("drn-c-26", {"output_stride": 4}, "output_stride must be 8, 16 or 32, got 4"),
    ],
)
def test_bad_backbones(backbone, options, words):
    with pytest.raises(ValueError, match=words):
        build_features(backbone, image_input(), **options)
