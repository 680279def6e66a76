"""DeconvNet: the maps of the paper, other sizes, start. Parity is in test_golden.py."""

import keras
import numpy as np
import pytest

from keras_seg import models

SLIM = {"filters": 2, "fc_channels": 4}


def test_maps_of_the_paper():
    model = models.DeconvNet(3, (224, 224, 3), **SLIM)
    assert model.get_layer("fc7").output.shape == (None, 1, 1, 4)
    assert model.get_layer("fc6_deconv").output.shape == (None, 7, 7, 16)
    sizes = {5: 14, 4: 28, 3: 56, 2: 112, 1: 224}
    for block, size in sizes.items():
        assert model.get_layer(f"unpool{block}").output.shape[1:3] == (size, size)
    ends = {"deconv5_3": 16, "deconv4_3": 8, "deconv3_3": 4, "deconv2_2": 2, "deconv1_2": 2}
    assert {name: model.get_layer(name).filters for name in ends} == ends


def test_the_smallest_image():
    model = models.DeconvNet(2, **SLIM)
    assert model(np.zeros((1, 193, 230, 3), "float32")).shape == (1, 193, 230, 2)
    with pytest.raises(ValueError, match="The height 192 is too small: at least 193 is needed"):
        model(np.zeros((1, 192, 230, 3), "float32"))


def test_start():
    """As the training files say: decoder from N(0, 0.01), shifts of 0.001."""
    model = models.DeconvNet(2, filters=8, fc_channels=8)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2DTranspose):
            assert np.std(layer.kernel) == pytest.approx(0.01, rel=0.1), layer.name
        if isinstance(layer, keras.layers.BatchNormalization):
            np.testing.assert_allclose(layer.beta, 0.001)
