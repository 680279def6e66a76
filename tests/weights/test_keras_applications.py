"""Weights of keras.applications in our trunks: the features are those of the original."""

import re

import keras
import numpy as np
import pytest
from weight_writers import write_keras_1

from keras_seg import backbones, models, weights

RNG = np.random.default_rng(0)


def randomise(model):
    """Numbers that keep the features at about their size through every layer."""
    for variable in model.weights:
        fan_in = np.prod(variable.shape[:-1])
        uniform = RNG.uniform(0.5, 1.5, variable.shape)
        normal = RNG.normal(size=variable.shape)
        wide = normal * np.sqrt(2 / fan_in) if len(variable.shape) > 1 else normal * 0.1
        variable.assign(uniform if variable.name in ("gamma", "moving_variance") else wide)
    return model


def state_of(model):
    return {f"{x.name}/{v.name}": np.array(v) for x in model.layers for v in x.weights}


def assert_same_features(trunk, name, original):
    image = RNG.normal(size=(1, 65, 64, 3)).astype("float32")
    expected = np.asarray(original(image, training=False))
    got = trunk(image, training=False)[name]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_network_that_went_through_from_keras(tmp_path, suffix):
    original = keras.applications.MobileNet(
        input_shape=(None, None, 3), alpha=0.25, include_top=False, weights=None
    )
    randomise(original)
    path = tmp_path / f"mobilenet{suffix}"
    original.save(path)
    trunk = backbones.from_keras("MobileNet", alpha=0.25)
    report = weights.load(trunk, path, layout="keras_applications")
    assert not report.ignored
    assert_same_features(trunk, "c5", original)


def unnamed():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.SeparableConv2D(4, 3)(x)
    return keras.Model(image, keras.layers.Conv2D(4, 3)(x))


@pytest.mark.parametrize("keras_1", [False, True])
def test_layers_that_keras_named_are_taken_in_their_order(keras_1):
    """A process that has built other layers before numbers them from there."""
    for _ in range(11):
        original = unnamed()
    state = state_of(randomise(original))
    if keras_1:
        names = {"conv2d": "convolution2d", "batch_normalization": "batchnormalization"}
        names["separable_conv2d"] = "separableconvolution2d"
        state = {
            re.sub(r"^([a-z_0-9]+)_(\d+)/", lambda m: f"{names[m[1]]}_{m[2]}/", name): array
            for name, array in state.items()
        }
    model = unnamed()
    assert {x.name for x in model.layers}.isdisjoint(name.split("/")[0] for name in state)
    weights.load(model, state, layout="keras_applications")
    for one, two in zip(model.weights, original.weights, strict=True):
        np.testing.assert_array_equal(one, two)


def vgg16():
    image = keras.Input((None, None, 3))
    return keras.Model(image, backbones.vgg16(image, filters=4))


def test_vgg16_of_a_theano_file(tmp_path):
    """Slim, since the names decide; the file as Keras 1 wrote it on Theano, with a classifier."""
    trunk = vgg16()
    layers = {}
    for layer in trunk.layers:
        if layer.weights:
            block, i = layer.name.removeprefix("conv").split("_")
            kernel, bias = (RNG.normal(size=v.shape).astype("float32") for v in layer.weights)
            layers[f"block{block}_conv{i}"] = {"W": kernel, "b": bias}
    stored = {
        name: {"W": parts["W"][::-1, ::-1].transpose(3, 2, 0, 1), "b": parts["b"]}
        for name, parts in layers.items()
    }
    stored["fc1"] = {"W": RNG.normal(size=(32 * 49, 8)), "b": np.zeros(8)}
    path = tmp_path / "vgg16_weights_th_dim_ordering_th_kernels.h5"
    write_keras_1(path, stored)
    report = weights.load(trunk, path, layout="keras_applications")
    assert report.ignored == ("fc1/kernel", "fc1/bias")
    for name, parts in layers.items():
        layer = trunk.get_layer(name.replace("block", "conv").replace("_conv", "_"))
        np.testing.assert_array_equal(layer.kernel, parts["W"])
        np.testing.assert_array_equal(layer.bias, parts["b"])


def test_the_classifier_of_vgg16_becomes_fc6_and_fc7():
    """fc1 multiplies the flattened 7x7 map in the order (y, x, channel)."""
    model = models.FCN32s(2, filters=2, fc_channels=5)
    state = {"fc1/kernel": RNG.normal(size=(7 * 7 * 16, 5)), "fc1/bias": np.zeros(5)}
    state |= {"fc2/kernel": RNG.normal(size=(5, 5)), "fc2/bias": np.ones(5)}
    report = weights.transfer(model, state, "keras_applications", verbose=False)
    assert report.loaded == ("fc6", "fc7")
    x = RNG.normal(size=(1, 7, 7, 16)).astype("float32")
    got = model.get_layer("fc6")(x)
    np.testing.assert_allclose(got[0, 0], x.reshape(1, -1) @ state["fc1/kernel"], rtol=1e-4)
    np.testing.assert_allclose(model.get_layer("fc7").kernel[0, 0], state["fc2/kernel"], rtol=1e-6)


def resnet():
    image = keras.Input((None, None, 3))
    options = {"stem": "7x7", "stride_in": "1x1", "bn_epsilon": 1.001e-5}
    return keras.Model(image, backbones.resnet(image, 50, **options))


@pytest.mark.slow
def test_resnet50_with_the_biases_of_its_convolutions():
    original = keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    randomise(original)
    trunk = resnet()
    weights.load(trunk, state_of(original), layout="keras_applications")
    assert_same_features(trunk, "c5", original)
    by_number = {
        f"{x.name}/{i}": np.array(v) for x in original.layers for i, v in enumerate(x.weights)
    }
    other = resnet()
    weights.load(other, by_number, layout="keras_applications")
    for one, two in zip(trunk.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one, two)


def small_resnet():
    image = keras.Input((None, None, 3))
    return keras.Model(image, backbones.resnet(image, (1, 1, 3, 1), filters=2, block="bottleneck"))


def test_the_names_that_resnets_had_before_2019():
    """res4b1 of the deep ones and res4b of ResNet50 are both the second block."""
    trunk = small_resnet()
    old = {"stem": "1", "conv": "res", "bn": "bn"}
    for second, third in (("b", "c"), ("b1", "b2")):
        state, expected = {}, {}
        for layer in trunk.layers:
            if not layer.weights:
                continue
            kind = "bn" if "_bn" in layer.name else "conv"
            if layer.name.startswith("stem"):
                name = "bn_conv1" if kind == "bn" else "conv1"
            else:
                stage, block, *part = layer.name.split("_")
                letter = {"1": "a", "2": second, "3": third}[block[-1]]
                branch = "1" if part[0] == "shortcut" else "2" + "_abc"[int(part[0][-1])]
                name = f"{old[kind]}{stage[-1]}{letter}_branch{branch}"
            for variable in layer.weights:
                state[f"{name}/{variable.name}"] = RNG.normal(size=variable.shape)
                expected[layer.name, variable.name] = state[f"{name}/{variable.name}"]
        weights.load(trunk, state, layout="keras_applications")
        for (layer, variable), array in expected.items():
            got = {v.name: v for v in trunk.get_layer(layer).weights}[variable]
            np.testing.assert_allclose(got, array, rtol=1e-6, err_msg=f"{layer} {variable}")


def test_a_bias_is_taken_up_by_the_normalisation():
    trunk = small_resnet()
    names = weights.LAYOUTS["keras_applications"].names([x.name for x in trunk.layers if x.weights])
    state = {
        f"{names[x.name]}/{v.name}": RNG.normal(size=v.shape)
        for x in trunk.layers
        for v in x.weights
    }
    mean = state["conv4_block2_3_bn/moving_mean"].copy()
    state["conv4_block2_3_conv/bias"] = np.arange(mean.size) + 1.0
    weights.load(trunk, state, layout="keras_applications")
    np.testing.assert_allclose(
        trunk.get_layer("stage4_block2_bn3").moving_mean, mean - np.arange(mean.size) - 1, rtol=1e-5
    )
