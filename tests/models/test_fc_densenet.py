"""FC-DenseNet: sizes, initialisation, wrong options. Parity is in test_golden.py."""

import numpy as np
import pytest

from keras_seg import models

SLIM = {"growth_rate": 2, "layers_per_block": (1, 2, 1), "bottleneck_layers": 2, "filters": 4}


@pytest.mark.parametrize("size", [(8, 8), (9, 15), (37, 50), (64, 48)])
def test_any_size_from_eight(size):
    """Three poolings; odd maps round down, and the way up is cut to the skip."""
    image = np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype("float32")
    free = models.FCDenseNet(3, **SLIM)
    fixed = models.FCDenseNet(3, (*size, 3), **SLIM)
    fixed.set_weights(free.get_weights())
    assert free(image).shape == (1, *size, 3)
    np.testing.assert_allclose(free(image), fixed(image), rtol=1e-5, atol=1e-6)


def test_a_size_that_cannot_work():
    with pytest.raises(ValueError, match="The width 7 is too small: at least 8"):
        models.FCDenseNet(3, (8, 7, 3), **SLIM)
    with pytest.raises(ValueError, match="The height 31 is too small: at least 32"):
        models.FCDenseNet56(3, (31, None, 3))


@pytest.mark.parametrize(
    "wrong", [{"layers_per_block": (1, 0, 1)}, {"bottleneck_layers": 0}, {"bottleneck_layers": 1.5}]
)
def test_blocks_without_layers(wrong):
    with pytest.raises(ValueError, match="must be .*whole numbers? of at least 1, got"):
        models.FCDenseNet(3, **{**SLIM, **wrong})


def test_he_uniform():
    """The paper's initialisation: U(-a, a) with a = sqrt(6 / fan-in), and zero biases."""
    model = models.FCDenseNet56(11)
    layer = model.get_layer("bottleneck_layer4_conv")
    kernel = np.asarray(layer.kernel)
    limit = np.sqrt(6 / np.prod(kernel.shape[:3]))
    assert 0.98 * limit < np.abs(kernel).max() <= limit
    np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.02)
    assert not np.asarray(layer.bias).any()


def test_epsilon_of_the_paper_reaches_every_normalisation():
    norms = [x for x in models.FCDenseNet(3, **SLIM).layers if x.name.endswith("_bn")]
    assert norms and {x.epsilon for x in norms} == {1e-4}
