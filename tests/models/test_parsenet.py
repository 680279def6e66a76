"""ParseNet: the context by hand, both fusions, alignment."""

import keras
import numpy as np
import pytest

from keras_seg import models

SLIM = {"filters": 2, "fc_channels": 6}


def build(**options):
    """A slim network whose weights are all random."""
    model = models.ParseNet(3, **SLIM, **options)
    rng = np.random.default_rng(0)
    for variable in model.trainable_weights:
        if variable.path.endswith("kernel"):
            value = rng.standard_normal(variable.shape) / np.sqrt(np.prod(variable.shape[:-1]))
        else:
            value = rng.uniform(0.1, 1, variable.shape)
        variable.assign(value)
    return model


def picture(height, width):
    return np.random.default_rng(1).uniform(0, 255, (1, height, width, 3)).astype("float32")


def tap(model, layer, image):
    return np.asarray(keras.Model(model.input, model.get_layer(layer).output)(image))


def assert_close(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


def test_the_context_is_the_normalised_mean_of_the_map():
    model = build()
    image = picture(61, 50)

    def weights(layer):
        return [np.asarray(w, "float64") for w in model.get_layer(layer).weights]

    def normalised(x, layer):
        (gamma,) = weights(layer)
        return gamma * x / np.sqrt((x**2).sum(axis=-1, keepdims=True) + 1e-10)

    def scores(x, layer):
        kernel, bias = weights(layer)
        return x @ kernel.reshape(kernel.shape[-2:]) + bias

    features = tap(model, "features", image).astype("float64")
    assert features.shape == (1, 8, 7, 6)
    context = normalised(features.mean((1, 2), keepdims=True), "context_norm")
    expected = scores(normalised(features, "local_norm"), "score") + scores(
        context, "score_context"
    )
    assert_close(tap(model, "logits_low", image), expected)


def test_late_and_early_fusion_compute_the_same():
    """One linear layer over both is the sum of two."""
    late, early = build(), build(fusion="early")
    shared = {layer.name: layer for layer in early.layers if layer.weights}
    for layer in late.layers:
        if layer.name in shared and layer.name != "score":
            shared[layer.name].set_weights(layer.get_weights())
    (kernel, bias), (context_kernel, context_bias) = (
        late.get_layer(name).get_weights() for name in ("score", "score_context")
    )
    shared["score"].set_weights(
        [np.concatenate([kernel, context_kernel[None, None]], axis=2), bias + context_bias]
    )
    image = picture(61, 50)
    assert_close(early(image), late(image))


@pytest.mark.parametrize("fusion", ["late", "early", "none"])
def test_scores_lie_over_the_centre_of_their_pixels(fusion):
    """With mirrored kernels the picture's mirror gives the mirrored logits."""
    model = build(fusion=fusion)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.name != "upscore8":
            kernel = np.asarray(layer.kernel)
            layer.kernel.assign(kernel + kernel[::-1] + kernel[:, ::-1] + kernel[::-1, ::-1])
    image = picture(64, 96)
    assert_close(np.asarray(model(image[:, ::-1, ::-1]))[:, ::-1, ::-1], model(image))


def test_scales_start_at_ten():
    model = models.ParseNet(3, **SLIM)
    for name in ("context_norm", "local_norm"):
        np.testing.assert_array_equal(model.get_layer(name).gamma, np.full(6, 10.0))


def test_unknown_fusion():
    with pytest.raises(ValueError, match="Unknown fusion 'middle'. Known: early, late, none"):
        models.ParseNet(3, fusion="middle")
