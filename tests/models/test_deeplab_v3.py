"""DeepLab v3: what its forms and arguments mean. Parity is in test_golden.py."""

import keras
import numpy as np
import pytest

from keras_seg import models

SLIM = {"filters": 4}


def picture(height, width):
    return np.random.default_rng(1).uniform(0, 255, (1, height, width, 3)).astype("float32")


def shapes(model):
    return [(v.path, tuple(v.shape)) for v in model.weights]


@pytest.mark.parametrize("form", ["paper", "torchvision"])
def test_the_same_weights_at_every_output_stride(form):
    options = {"form": form, "backbone": "resnet18", "multi_grid": (1, 2), **SLIM}
    trained = models.DeepLabV3(3, output_stride=16, **options)
    for output_stride in (8, 32):
        tested = models.DeepLabV3(3, output_stride=output_stride, **options)
        assert shapes(tested) == shapes(trained)
        tested.set_weights(trained.get_weights())
        low = keras.Model(tested.input, tested.get_layer("logits_low").output)
        assert low(picture(65, 97)).shape == (
            1,
            64 // output_stride + 1,
            96 // output_stride + 1,
            3,
        )


# Section 3 of the paper: dilation of stage 5 is the stage's times (1, 2, 4); rates double at 8.
DILATION = [
    ({}, (1, 1), (2, 4, 8), (6, 12, 18)),
    ({"output_stride": 8}, (2, 2), (4, 8, 16), (12, 24, 36)),
    ({"output_stride": 8, "multi_grid": (1, 2, 1)}, (2, 2), (4, 8, 4), (12, 24, 36)),
    ({"rates": (3, 5)}, (1, 1), (2, 4, 8), (3, 5)),
    ({"form": "torchvision"}, (1, 2), (2, 4, 4), (12, 24, 36)),
]


@pytest.mark.parametrize(("options", "stage4", "stage5", "rates"), DILATION)
def test_dilation(options, stage4, stage5, rates):
    model = models.DeepLabV3(3, **SLIM, **options)

    def dilation(name):
        return model.get_layer(name).dilation_rate[0]

    assert tuple(dilation(f"stage4_block{i}_conv2") for i in (1, 2)) == stage4
    assert tuple(dilation(f"stage5_block{i}_conv2") for i in (1, 2, 3)) == stage5
    assert tuple(dilation(f"aspp{i + 1}_conv") for i in range(len(rates))) == rates
    assert f"aspp{len(rates) + 1}_conv" not in {layer.name for layer in model.layers}


@pytest.mark.parametrize("builder", [models.DeepLabV3, models.DeepLabV3Plus])
def test_trunks_of_other_than_three_last_blocks_have_no_multi_grid_by_default(builder):
    def dilation(backbone, count):
        model = builder(3, backbone=backbone, **SLIM)
        names = [f"stage5_block{i}_conv2" for i in range(1, count + 1)]
        return [model.get_layer(name).dilation_rate[0] for name in names]

    assert dilation("resnet18", 2) == [2, 2]
    assert dilation("resnet34", 3) == [2, 4, 8]


def test_momentum_of_the_paper_and_of_torchvision():
    def momenta(**options):
        model = models.DeepLabV3(3, backbone="resnet18", multi_grid=(1, 2), **SLIM, **options)
        return {layer.momentum for layer in model.layers if layer.name.endswith(("_bn", "_bn1"))}

    assert momenta() == {0.9997}
    assert momenta(form="torchvision", aux=True) == {0.9}
    assert momenta(bn_momentum=0.5) == {0.5}


def test_a_keras_application_as_trunk():
    model = models.DeepLabV3(3, backbone="keras:MobileNetV3Small", **SLIM)
    assert model.get_layer("preprocess").mode == "none"
    assert model(picture(64, 48)).shape == (1, 64, 48, 3)


def test_wrong_options():
    with pytest.raises(ValueError, match="Unknown form 'torch'. Did you mean 'torchvision'"):
        models.DeepLabV3(3, form="torch")
    with pytest.raises(ValueError, match="form='paper' has no auxiliary head"):
        models.DeepLabV3(3, aux=True)
    with pytest.raises(ValueError, match=r"rates must be .*whole numbers .* got \(6, 0\)"):
        models.DeepLabV3(3, rates=(6, 0), **SLIM)
    with pytest.raises(ValueError, match="output_stride must be 8, 16 or 32, got 4"):
        models.DeepLabV3(3, output_stride=4)
    with pytest.raises(ValueError, match="multi_grid must have 3 factors"):
        models.DeepLabV3(3, multi_grid=(1, 2), **SLIM)
