"""DeepLab v3+: decoder and options. Parity is in test_golden.py."""

import keras
import numpy as np
import pytest

from keras_seg import models

SLIM = {"filters": 4}


def test_the_decoder_of_the_paper():
    """Table 2: 48 channels of the stride-4 map beside the pyramid's 256, then 3x3 twice."""
    model = models.DeepLabV3Plus(21, (513, 513, 3))
    assert model.get_layer("low_level_relu").output.shape == (None, 129, 129, 48)
    assert model.get_layer("aspp_project_relu").output.shape == (None, 33, 33, 256)
    assert model.get_layer("decoder_concat").output.shape == (None, 129, 129, 304)
    assert model.get_layer("decoder2_conv").kernel.shape == (3, 3, 256, 256)
    assert model.get_layer("logits_low").output.shape == (None, 129, 129, 21)


def test_the_same_weights_at_every_output_stride():
    options = {"backbone": "resnet18", "multi_grid": (1, 2), **SLIM}
    trained = models.DeepLabV3Plus(3, output_stride=16, **options)
    image = np.random.default_rng(1).uniform(0, 255, (1, 49, 66, 3)).astype("float32")
    for output_stride in (8, 32):
        tested = models.DeepLabV3Plus(3, output_stride=output_stride, **options)
        tested.set_weights(trained.get_weights())
        assert tested(image).shape == (1, 49, 66, 3)


def test_separable_convolutions():
    """All 3x3 of pyramid and decoder; dilation in the depthwise half, ReLU behind each half."""
    model = models.DeepLabV3Plus(3, output_stride=8, separable=True, **SLIM)
    split = [x for x in model.layers if isinstance(x, keras.layers.DepthwiseConv2D)]
    assert {x.name: x.dilation_rate[0] for x in split} == {
        "aspp1_depthwise": 12,
        "aspp2_depthwise": 24,
        "aspp3_depthwise": 36,
        "decoder1_depthwise": 1,
        "decoder2_depthwise": 1,
    }
    for layer in split:
        assert model.get_layer(f"{layer.name}_relu") and not layer.use_bias
    head = [x for x in model.layers if x.name.startswith(("aspp", "decoder", "low_level"))]
    kernels = {x.kernel_size for x in head if isinstance(x, keras.layers.Conv2D)}
    assert kernels == {(1, 1)}


def test_a_keras_application_as_trunk():
    model = models.DeepLabV3Plus(3, backbone="keras:Xception", **SLIM)
    assert model.get_layer("preprocess").mode == [[127.5], [127.5]]
    assert model.output.shape == (None, None, None, 3)


def test_a_trunk_without_low_level_features():
    def trunk(x):
        return {"c5": keras.layers.Conv2D(8, 3, strides=16)(x)}

    with pytest.raises(ValueError, match=r"must give the features \['c2', 'c5'\], but gave"):
        models.DeepLabV3Plus(3, backbone=trunk)
