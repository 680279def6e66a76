"""smp's networks: what their checkpoints carry, sizes and options. Parity is in test_golden.py."""

import numpy as np
import pytest

from keras_seg import models, weights
from keras_seg.weights.checks import layers_with_weights

SLIM = {"backbone": "resnet18", "filters": 4}
UNET = {**SLIM, "decoder_channels": (16, 8, 8, 4, 4)}
KINDS = {"gamma": "weight", "beta": "bias", "bias": "bias", "kernel": "weight"}
KINDS |= {"moving_mean": "running_mean", "moving_variance": "running_var"}


def checkpoint(model):
    """{name in smp: array} with PyTorch's axes, random, as a network of smp would save it."""
    rng = np.random.default_rng(0)
    layers = layers_with_weights(model)
    state = {}
    for name, prefix in weights.LAYOUTS["smp"].names(list(layers)).items():
        for variable in layers[name].weights:
            shape = tuple(variable.shape)
            if len(shape) == 4:
                shape = (shape[2:] if "depthwise" in name else shape[:1:-1]) + shape[:2]
            array = rng.uniform(0.1, 0.2, shape).astype("float32")
            state[f"{prefix}.{KINDS[variable.name]}"] = array
    return state


def picture(height, width):
    return np.random.default_rng(1).uniform(0, 255, (1, height, width, 3)).astype("float32")


def test_the_stages_beyond_the_depth_are_ignored():
    """smp's PSPNet carries them without using them."""
    state = checkpoint(models.SMPPSPNet(3, **SLIM, psp_channels=8))
    assert not any(name.startswith("encoder.layer3") for name in state)
    unused = {"encoder.layer3.0.conv1.weight": np.zeros(3), "encoder.layer4.1.bn2.bias": np.ones(1)}
    report = weights.load(
        models.SMPPSPNet(3, **SLIM, psp_channels=8), {**state, **unused}, layout="smp"
    )
    assert set(report.ignored) == set(unused)
    with pytest.raises(ValueError, match="left over in the state .*encoder.layer2.7.conv1.weight"):
        weights.load(
            models.SMPPSPNet(3, **SLIM, psp_channels=8),
            {**state, "encoder.layer2.7.conv1.weight": np.zeros(3)},
            layout="smp",
        )


def test_the_levels_of_the_pyramid():
    """Numbered by their bins; that of one bin has a bias and no normalisation."""
    state = checkpoint(models.SMPPSPNet(3, **SLIM, psp_channels=8))
    level = "decoder.psp.blocks.{}.pool.1.{}".format
    assert level(0, "0.bias") in state and level(0, "1.weight") not in state
    for number in (1, 2, 3):
        assert level(number, "0.bias") not in state and level(number, "1.weight") in state


def test_the_classifier_of_images_is_ignored():
    model = models.SMPUnet(3, **UNET)
    extra = {
        "classification_head.3.weight": np.zeros((2, 8)),
        "classification_head.3.bias": np.zeros(2),
    }
    report = weights.load(model, {**checkpoint(model), **extra}, layout="smp")
    assert set(report.ignored) == set(extra)


def test_checkpoints_of_deeplab_v3_before_version_0_5():
    """Its decoder was a list then."""
    options = {**SLIM, "decoder_channels": 8}
    state = checkpoint(models.SMPDeepLabV3(3, **options))
    number = {"aspp": "0", "conv": "1", "bn": "2"}

    def before(name):
        first, second, *rest = name.split(".")
        return ".".join([first, number[second], *rest]) if first == "decoder" else name

    old = {before(name): array for name, array in state.items()}
    assert "decoder.0.project.0.weight" in old and "decoder.2.running_var" in old
    a, b = models.SMPDeepLabV3(3, **options), models.SMPDeepLabV3(3, **options)
    weights.load(a, state, layout="smp")
    weights.load(b, old, layout="smp")
    for x, y in zip(a.weights, b.weights, strict=True):
        np.testing.assert_array_equal(x, y)


def test_vgg16_has_a_centre():
    """Numbered by modules: a convolution and its ReLU are two, a pool is one."""
    model = models.SMPUnet(3, backbone="vgg16", filters=4, decoder_channels=(8, 8, 4, 4, 4))
    state = checkpoint(model)
    convolutions = {int(n.split(".")[2]) for n in state if n.startswith("encoder.features")}
    assert sorted(convolutions) == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert state["decoder.center.1.0.weight"].shape == (32, 32, 3, 3)
    assert len(weights.load(model, state, layout="smp").loaded) == len(state)


def test_unet_on_a_trunk_without_the_first_stage():
    model = models.SMPUnet(3, backbone="keras:ConvNeXtTiny")
    assert model(picture(64, 70)).shape == (1, 64, 70, 3)


@pytest.mark.parametrize("depth", [1, 3])
def test_unet_of_fewer_stages(depth):
    model = models.SMPUnet(3, encoder_depth=depth, decoder_channels=(8,) * depth, **SLIM)
    assert model(picture(37, 50)).shape == (1, 37, 50, 3)
    stages = {layer.name[:6] for layer in model.layers if layer.name.startswith("stage")}
    assert len(stages) == depth - 1  # the first one is the stem


def test_attention_weighs_channels_and_places():
    """sigmoid(space) x + sigmoid(channels) x: with zeros in both convolutions, x itself."""
    wide = {**SLIM, "decoder_channels": (16,) * 5}
    model = models.SMPUnet(3, attention="scse", **wide)
    for layer in model.layers:
        if "attention" in layer.name and layer.weights:
            layer.set_weights([np.zeros(v.shape) for v in layer.weights])
    plain = models.SMPUnet(3, **wide)
    for layer in plain.layers:
        layer.set_weights(model.get_layer(layer.name).get_weights())
    np.testing.assert_allclose(model(picture(40, 50)), plain(picture(40, 50)), rtol=1e-4, atol=1e-5)


def test_wrong_options():
    with pytest.raises(ValueError, match="encoder_depth must be a whole number from 1 to 5, got 6"):
        models.SMPPSPNet(3, encoder_depth=6)
    with pytest.raises(ValueError, match="decoder_channels must have 5 values"):
        models.SMPUnet(3, decoder_channels=(64, 32))
    with pytest.raises(ValueError, match="Unknown attention 'scce'. Did you mean 'scse'"):
        models.SMPUnet(3, attention="scce")
    with pytest.raises(ValueError, match="up1_attention2 has only 8. Each of decoder_channels"):
        models.SMPUnet(3, attention="scse", **{**SLIM, "decoder_channels": (8,) * 5})
    with pytest.raises(ValueError, match="Unknown interpolation 'linear'. Did you mean 'bilinear'"):
        models.SMPUnet(3, interpolation="linear")
