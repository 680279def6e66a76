"""FCN on a dilated ResNet: outputs and trunks. Parity is in test_golden.py."""

import numpy as np
import pytest

from keras_seg import models, weights

SLIM = {"backbone": "resnet18", "filters": 4}


def picture(height, width):
    return np.random.default_rng(1).uniform(0, 255, (1, height, width, 3)).astype("float32")


def test_both_outputs_and_the_network_without_the_second():
    model = models.FCNResNet(5, aux=True, **SLIM)
    outputs = model(picture(41, 50))
    assert {name: y.shape for name, y in outputs.items()} == dict.fromkeys(
        ("logits", "aux"), (1, 41, 50, 5)
    )
    inference = models.inference_model(model)
    np.testing.assert_array_equal(inference(picture(41, 50)), outputs["logits"])


def test_a_head_is_a_quarter_of_its_features():
    """torchvision's rule: 2048 -> 512 and 1024 -> 256."""
    model = models.FCNResNet(21, aux=True)
    assert model.get_layer("head_conv").kernel.shape == (3, 3, 2048, 512)
    assert model.get_layer("aux_head_conv").kernel.shape == (3, 3, 1024, 256)
    small = models.FCNResNet(3, backbone="keras:MobileNetV3Small", aux=True)
    features, head = small.get_layer("head_conv").kernel.shape[2:]
    assert head == features // 4


def test_dilation_begins_in_the_second_block():
    model = models.FCNResNet(3, filters=4)
    for stage, expected in ((4, [1, 2, 2, 2, 2, 2]), (5, [2, 4, 4])):
        blocks = [f"stage{stage}_block{i + 1}_conv2" for i in range(len(expected))]
        assert [model.get_layer(name).dilation_rate[0] for name in blocks] == expected


def test_a_classifier_of_torchvision_fills_the_trunk():
    """resnet18 has the names "conv1", "layer1.0.conv1", "fc"; transfer finds them."""
    rng = np.random.default_rng(0)
    model = models.FCNResNet(3, **SLIM)
    kernel = rng.normal(size=(4, 4, 3, 3)).astype("float32")
    state = {
        "conv1.weight": rng.normal(size=(4, 3, 7, 7)).astype("float32"),
        "layer1.0.conv1.weight": kernel,
        "fc.weight": rng.normal(size=(1000, 32)),
    }
    weights.transfer(model, state, "torchvision", verbose=False)
    stem = np.asarray(model.get_layer("stem_conv1").kernel)
    np.testing.assert_array_equal(stem.transpose(3, 2, 0, 1), state["conv1.weight"])
    first = np.asarray(model.get_layer("stage2_block1_conv1").kernel)
    np.testing.assert_array_equal(first.transpose(3, 2, 0, 1), kernel)


def test_unknown_options():
    with pytest.raises(ValueError, match="Unknown backbone 'resnet51'. Did you mean 'resnet"):
        models.FCNResNet(3, backbone="resnet51")
    with pytest.raises(ValueError, match="Unknown stem '3x3'"):
        models.FCNResNet(3, stem="3x3")
