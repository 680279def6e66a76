"""DeepLab v1: sizes of the paper, where scores lie, multi-scale features."""

import keras
import numpy as np
import pytest
from unknown_sizes import in_graph

from keras_seg import models

SLIM = {"filters": 2, "fc_channels": 4}
MEAN_PIXEL = (122.67892, 116.66877, 104.00699)  # RGB


def build(**options):
    return models.DeepLabV1(3, **SLIM, **options)


def picture(height, width):
    return np.random.default_rng(1).uniform(0, 255, (1, height, width, 3)).astype("float32")


def low(model):
    return keras.Model(model.input, model.get_layer("logits_low").output)


def assert_close(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert np.abs(b).max() > 0
    assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


@pytest.mark.parametrize(
    ("variant", "size", "side"),
    [
        ("largefov", 321, 41),
        ("largefov", 513, 65),
        ("base", 306, 39),
        ("base", 514, 65),
        ("4x4", 306, 39),
        ("7x7", 306, 39),
    ],
)
def test_sizes_of_the_paper(variant, size, side):
    model = models.DeepLabV1(3, (size, size, 3), variant=variant, **SLIM)
    assert model.get_layer("pad").output.shape[1:3] == (size, size)
    assert low(model).output.shape == (None, side, side, 3)
    assert model.output.shape == (None, size, size, 3)


def test_scores_of_largefov_lie_over_every_eighth_pixel():
    model = build()
    image = picture(65, 97)
    scores, logits = low(model)(image), np.asarray(model(image))
    assert scores.shape == (1, 9, 13, 3)
    assert_close(logits[:, ::8, ::8], scores)


def test_scores_of_the_base_network_begin_at_the_second_pixel():
    """Its label grid starts at pixel 1; the row before has the same logits."""
    model = build(variant="base")
    image = picture(66, 98)
    scores, logits = low(model)(image), np.asarray(model(image))
    assert scores.shape == (1, 9, 13, 3)
    assert_close(logits[:, 1::8, 1::8], scores)
    np.testing.assert_array_equal(logits[:, 0], logits[:, 1])
    np.testing.assert_array_equal(logits[:, :, 0], logits[:, :, 1])


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (65, 97)),
        ({"variant": "base"}, (66, 98)),
        ({"variant": "7x7"}, (66, 98)),
        ({"multiscale": True}, (65, 97)),
    ],
)
def test_padding_is_the_same_on_both_sides(options, size):
    """With mirrored kernels the picture's mirror gives the mirrored scores."""
    model = build(**options)
    for layer in model.layers:
        if layer.weights:
            kernel = np.asarray(layer.kernel)
            layer.kernel.assign(kernel + kernel[::-1] + kernel[:, ::-1] + kernel[::-1, ::-1])
    image = picture(*size)
    assert_close(np.asarray(low(model)(image[:, ::-1, ::-1]))[:, ::-1, ::-1], low(model)(image))


@pytest.mark.parametrize(("options", "padded"), [({}, (65, 57)), ({"variant": "base"}, (66, 58))])
def test_other_sizes_are_padded_with_the_mean_pixel(options, padded):
    model = build(**options)
    image = picture(60, 51)
    larger = np.broadcast_to(np.float32(MEAN_PIXEL), (1, *padded, 3)).copy()
    larger[:, :60, :51] = image
    logits = model(image)
    assert logits.shape == (1, 60, 51, 3)
    assert_close(logits, np.asarray(model(larger))[:, :60, :51])
    assert_close(in_graph(model)(image), logits)


@pytest.mark.parametrize("options", [{}, {"variant": "base"}, {"multiscale": True}])
def test_an_image_of_one_pixel(options):
    assert build(**options)(picture(1, 1)).shape == (1, 1, 1, 3)


@pytest.mark.parametrize("variant", ["largefov", "base"])
def test_both_fusions_agree_on_every_eighth_pixel(variant):
    """The authors train on scores of stride 8 and test on those of stride 1."""
    fine = build(multiscale=True, variant=variant)
    coarse = build(multiscale=True, variant=variant, fusion_stride=8)
    rng = np.random.default_rng(0)
    for layer in fine.layers:
        if layer.weights:
            kernel = rng.standard_normal(layer.kernel.shape)
            kernel *= np.sqrt(2 / np.prod(kernel.shape[:3]))
            layer.set_weights([kernel, 0.1 * rng.standard_normal(layer.bias.shape)])
    by_name = {layer.name: layer for layer in coarse.layers}
    for layer in fine.layers:
        by_name.get(layer.name, layer).set_weights(layer.get_weights())
    image = picture(65, 97)
    assert low(coarse)(image).shape == (1, 9, 13, 3)
    assert_close(np.asarray(fine(image))[:, ::8, ::8], np.asarray(coarse(image))[:, ::8, ::8])


def test_new_layers_start_as_in_the_release():
    model = models.DeepLabV1(21, multiscale=True, fc_channels=64)
    deviations = {"fc8": 0.01, "pool3_ms": 0.01, "pool3_conv": 0.001, "pool4_fc": 0.005}
    for name, deviation in deviations.items():
        kernel = np.asarray(model.get_layer(name).kernel)
        assert abs(kernel.std() / deviation - 1) < 0.1, name


def test_unknown_options():
    with pytest.raises(ValueError, match="Unknown variant of DeepLabV1 'LargeFOV'. Did you mean"):
        models.DeepLabV1(3, variant="LargeFOV")
    with pytest.raises(ValueError, match="fusion_stride must be 1 or 8, got 4"):
        models.DeepLabV1(3, fusion_stride=4)
