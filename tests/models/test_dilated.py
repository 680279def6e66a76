"""Dilated convolutions: sizes, margins, enlargement, field of view. Parity is in test_golden.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seg import models, weights
from keras_seg.layers import (
    IdentityKernel,
    ReflectMargin,
    bilinear_upsampling,
    context_module,
)

SLIM = {"filters": 2, "fc_channels": 4, "dropout": 0.0}


def picture(height, width):
    return np.random.default_rng(1).uniform(0, 255, (1, height, width, 3)).astype("float32")


def scores(height, width, channels):
    return np.random.default_rng(2).normal(size=(1, height, width, channels)).astype("float32")


def shaken(build, **options):
    """Scores start near 0: draw them wider, so that what lies after them shows."""
    keras.utils.set_random_seed(0)
    model = build(3, **SLIM, **options)
    kernel = model.get_layer("final").kernel
    kernel.assign(np.random.default_rng(3).normal(size=kernel.shape))
    return model


@pytest.mark.parametrize(
    ("build", "options", "image", "low"),
    [
        (models.DilatedFrontEnd, {}, (900, 900), (66, 66)),
        (models.Dilation8, {}, (900, 900), (66, 66)),
        (models.Dilation8, {"context": "basic"}, (900, 1100), (66, 91)),
        (models.Dilation7, {}, (852, 1636), (60, 158)),
        (models.Dilation10, {}, (1396, 1396), (128, 128)),
    ],
)
def test_maps_of_the_deployed_networks(build, options, image, low):
    model = build(3, (*image, 3), padding="valid", **SLIM, **options)
    assert model.get_layer("logits_low").output.shape[1:3] == low
    assert model.output.shape[1:] == (image[0] - 372, image[1] - 372, 3)


def test_sizes_of_tiles():
    model = models.DilatedFrontEnd(2, padding="valid", **SLIM)
    assert model(picture(380, 388)).shape == (1, 8, 16, 2)
    with pytest.raises(ValueError, match="The width 384 cannot work.*Use 380 or 388"):
        model(picture(380, 384))
    with pytest.raises(ValueError, match="The height 372 is too small"):
        model(picture(372, 380))


@pytest.mark.parametrize("build", [models.DilatedFrontEnd, models.Dilation8, models.Dilation10])
def test_the_margin_is_the_mirrored_image(build):
    """A 40x24 image: the deployed network on the image with its margin; 37x20: cut from that."""
    ours, deployed = shaken(build), shaken(build, padding="valid")
    deployed.set_weights(ours.get_weights())
    for height, width in [(40, 24), (37, 20)]:
        image = picture(height, width)
        more = [(186, 186 + -n % 8) for n in (height, width)]
        with_margin = np.pad(image, [(0, 0), *more, (0, 0)], mode="reflect")
        expected = np.asarray(deployed(with_margin))[:, :height, :width]
        np.testing.assert_allclose(ours(image), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("size", [(3, 7), (1, 2), (9, 30)])
def test_a_margin_wider_than_the_image(size):
    """Also where sizes are known only when the graph runs."""
    x = picture(*size)
    expected = np.pad(x, [(0, 0), (6, 6 + -size[0] % 4), (6, 6 + -size[1] % 4), (0, 0)], "reflect")
    layer = ReflectMargin(6, 4)
    np.testing.assert_array_equal(layer(x), expected)
    graph = tf.function(layer, input_signature=[tf.TensorSpec((1, None, None, 3))])
    np.testing.assert_array_equal(graph(x), expected)
    assert layer.compute_output_shape((None, *size, 3)) == (None, *expected.shape[1:])


def enlarged(low):
    """interp_map of the release: output (h, w) lies at (h / 8, w / 8); the last map row goes on."""
    low = np.pad(low, [(0, 0), (0, 1), (0, 1), (0, 0)], "edge")
    for axis in (1, 2):
        place = np.arange(8 * (low.shape[axis] - 1)) / 8
        first = place.astype(int)
        part = (place - first).reshape([-1 if i == axis else 1 for i in range(4)])
        low = (1 - part) * low.take(first, axis) + part * low.take(first + 1, axis)
    return low


def low_and_logits(model, image):
    return keras.Model(model.input, [model.get_layer("logits_low").output, model.output])(image)


@pytest.mark.parametrize("size", [(40, 56), (37, 50)])
@pytest.mark.parametrize("build", [models.DilatedFrontEnd, models.Dilation7, models.Dilation8])
def test_score_i_lies_at_pixel_8_i(build, size):
    low, logits = low_and_logits(shaken(build, padding="same"), picture(*size))
    assert low.shape == (1, 5, 7, 3) and np.abs(low).max() > 0
    expected = enlarged(np.asarray(low))[:, : size[0], : size[1]]
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("size", [(40, 56), (37, 50)])
def test_dilation10_enlarges_by_a_transposed_convolution(size):
    """Kernel 16, stride 8, 4 pixels cut off, as layer ctx_upsample of the release."""
    low, logits = low_and_logits(shaken(models.Dilation10, padding="same"), picture(*size))
    whole = np.asarray(bilinear_upsampling(low, 16, 8, name="ctx_upsample"))
    expected = whole[:, 4 : 4 + size[0], 4 : 4 + size[1]]
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("form", ["basic", "large"])
def test_context_starts_as_the_relu_of_the_scores(form):
    """Section 3: exactly without noise; with the noise of 0.01 the values are still there."""
    x = scores(9, 12, 4)
    image = keras.Input((None, None, 4))
    exact = keras.Model(image, context_module(image, form, deviation=0.0))
    np.testing.assert_allclose(exact(x), np.maximum(x, 0), atol=1e-5)
    start = keras.Model(image, context_module(image, form))
    difference = np.asarray(start(x)) - np.maximum(x, 0)
    assert (np.abs(difference).max() < 1) if form == "large" else not difference.any()


def test_identity_kernel_where_the_widths_do_not_divide():
    """3 channels carried by 4 inputs and 5 outputs: floor(3 a / 4) and floor(3 b / 5)."""
    kernel = np.array(IdentityKernel(3)((3, 3, 4, 5), "float32"))
    centre = np.array([[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]) * 3 / 5
    np.testing.assert_allclose(kernel[1, 1], centre, rtol=1e-6)
    kernel[1, 1] = 0
    assert not kernel.any()
    noisy = np.asarray(IdentityKernel(3, 0.01)((3, 3, 40, 50), "float32"))
    assert 0.009 < noisy[0].std() < 0.011


@pytest.mark.parametrize(
    ("dilations", "sees"),
    [((1, 1, 2, 4, 8, 1), 35), ((1, 1, 2, 4, 8, 16, 1), 67), ((1, 1, 2, 4, 8, 16, 32, 64, 1), 259)],
)
def test_field_of_view(dilations, sees):
    """Of Dilation7, 8 and 10, on the grid of the scores: how far one score reaches."""
    image = keras.Input((None, None, 1))
    model = keras.Model(image, context_module(image, dilations=dilations))
    for layer in model.layers:
        if layer.weights:
            layer.kernel.assign(np.ones(layer.kernel.shape))
    x = np.zeros((1, 281, 281, 1), "float32")
    x[0, 140, 140] = 1
    rows, columns = np.nonzero(np.asarray(model(x))[0, :, :, 0])
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == sees


@pytest.mark.parametrize(
    ("build", "final", "more"),
    [
        (models.Dilation8, "fc-final", {}),
        (models.Dilation10, "final", {"ctx_upsample.weight": 0}),
        (models.DilatedFrontEnd, "fc-final", {}),
        (models.DilatedFrontEnd, "final", {}),  # of `train.py frontend`, and of Cityscapes
    ],
)
def test_state_of_a_release(build, final, more):
    """The scores have another name in the networks for VOC; the fixed kernel is left out."""
    source, target = build(3, **SLIM), build(3, **SLIM)
    state = {}
    for layer in source.layers:
        if layer.weights:
            name = final if layer.name == "final" else layer.name
            state[f"{name}.weight"] = np.asarray(layer.kernel).transpose(3, 2, 0, 1)
            state[f"{name}.bias"] = np.asarray(layer.bias) + 0.5
    report = weights.load(target, {**state, **more}, layout="dilation")
    assert {name.removeprefix("fc-") for name in state} == set(report.loaded)
    assert set(report.ignored) == set(more)
    for ours, theirs in zip(target.layers, source.layers, strict=True):
        if ours.weights:
            np.testing.assert_array_equal(ours.kernel, theirs.kernel)
            np.testing.assert_array_equal(ours.bias, np.asarray(theirs.bias) + 0.5)


def test_unknown_options():
    with pytest.raises(ValueError, match="Unknown padding 'mirror'.*reflect, same, valid"):
        models.Dilation8(3, padding="mirror")
    with pytest.raises(ValueError, match="Unknown context 'larg'. Did you mean 'large'"):
        models.Dilation8(3, context="larg")
    with pytest.raises(ValueError, match="Unknown form"):
        context_module(keras.Input((8, 8, 2)), "wide")
