"""FCN: start, alignment, and the two ways to up-sample. Parity is in test_golden.py."""

import numpy as np
import pytest

from keras_seg import models

BUILDERS = [models.FCN32s, models.FCN16s, models.FCN8s]
SLIM = {"filters": 2, "fc_channels": 8}


def shaken(build, **options):
    """A slim network whose kernels are random, and the same seen in a mirror."""
    model = build(3, **SLIM, **options)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if layer.weights and not layer.name.startswith("upscore"):
            kernel = rng.standard_normal(layer.kernel.shape)
            kernel = kernel + kernel[::-1] + kernel[:, ::-1] + kernel[::-1, ::-1]
            fan_in = np.prod(kernel.shape[:3])
            layer.set_weights([kernel / np.sqrt(fan_in), rng.standard_normal(layer.bias.shape)])
    return model


def picture(height, width):
    return np.random.default_rng(1).uniform(0, 255, (1, height, width, 3)).astype("float32")


def assert_close(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


@pytest.mark.parametrize("build", BUILDERS)
def test_starts_at_zero_scores(build):
    logits = np.asarray(build(3, **SLIM)(picture(40, 33)))
    assert logits.shape == (1, 40, 33, 3)
    assert not logits.any()


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("build", BUILDERS)
def test_resize_computes_what_the_deconvolution_computes(build, legacy):
    deconv = shaken(build, legacy_padding=legacy)
    resize = shaken(build, legacy_padding=legacy, upsampling="resize")
    for size in [(1, 1), (33, 70)]:
        logits = deconv(picture(*size))
        assert logits.shape == (1, *size, 3)
        assert_close(resize(picture(*size)), logits)


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize(("legacy", "size"), [(True, (58, 90)), (False, (64, 96))])
def test_scores_lie_over_the_centre_of_their_pixels(build, legacy, size):
    """With mirrored kernels the picture's mirror gives the mirrored logits.

    The sizes are such that the grid of scores lies evenly in the image: 32 k for padding 1, and
    32 k - 6 for padding 100. Any other crop would break the symmetry.
    """
    model = shaken(build, legacy_padding=legacy)
    image = picture(*size)
    mirrored = model(image[:, ::-1, ::-1])
    assert_close(np.asarray(mirrored)[:, ::-1, ::-1], model(image))


def test_kernels_are_frozen():
    model = models.FCN8s(3, **SLIM)
    frozen = [layer.name for layer in model.layers if layer.weights and not layer.trainable_weights]
    assert sorted(frozen) == ["upscore2", "upscore8", "upscore_pool4"]


def test_unknown_options():
    with pytest.raises(ValueError, match="Unknown backbone of FCN 'vgg17'. Did you mean 'vgg16'"):
        models.FCN8s(3, backbone="vgg17")
    with pytest.raises(ValueError, match="Unknown upsampling 'bilinear'. .*deconv, resize"):
        models.FCN8s(3, upsampling="bilinear")
