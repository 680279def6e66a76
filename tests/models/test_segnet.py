"""SegNet: Bayesian dropout, normalised input, odd sizes. Parity is in test_golden.py."""

import keras
import numpy as np
import pytest

from keras_seg import models
from keras_seg.layers import LocalContrastNormalization, LocalResponseNormalization

BUILDERS = [models.SegNet, models.SegNetBasic]
SLIM = {"filters": 4}


def picture(height, width):
    return np.random.default_rng(1).uniform(0, 255, (1, height, width, 3)).astype("float32")


@pytest.mark.parametrize(
    ("build", "maps"),
    [
        (models.SegNet, [(180, 240), (90, 120), (45, 60), (23, 30), (12, 15)]),
        (models.SegNetBasic, [(180, 240), (90, 120), (45, 60), (23, 30)]),
    ],
)
def test_maps_of_the_paper_and_back(build, maps):
    """Section 4 and the prototxt files: 360x480, a pooling of 45 rows gives 23."""
    model = build(3, (360, 480, 3), **SLIM)
    for block, size in enumerate(maps, start=1):
        assert model.get_layer(f"pool{block}").output.shape[1:3] == size
        before = (360, 480) if block == 1 else maps[block - 2]
        assert model.get_layer(f"upsample{block}").output.shape[1:3] == before


@pytest.mark.parametrize(
    ("build", "count"), [(models.SegNet, 6), (models.SegNetBasic, 4)], ids=["SegNet", "Basic"]
)
def test_bayesian_dropout(build, count):
    """Six layers, in Basic four, as in the bayesian_*.prototxt files; with Monte Carlo they sample.

    Normalisation uses its moving averages all the while, and they do not change.
    """
    plain = build(3, **SLIM)
    trained = build(3, dropout=0.5, **SLIM)
    dropped = [layer for layer in trained.layers if isinstance(layer, keras.layers.Dropout)]
    assert len(dropped) == count and {layer.rate for layer in dropped} == {0.5}
    samples = build(3, dropout=0.5, monte_carlo=True, **SLIM)
    for model in (trained, samples):
        for layer in plain.layers:
            if layer.weights:
                model.get_layer(layer.name).set_weights(layer.get_weights())
    x = picture(40, 48)
    np.testing.assert_array_equal(trained(x), plain(x))
    first, second = samples.predict(x, verbose=0), samples.predict(x, verbose=0)
    assert np.abs(first - second).max() > 1e-3
    for layer in plain.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for old, new in zip(layer.weights, samples.get_layer(layer.name).weights, strict=True):
                np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match="monte_carlo=True needs a dropout rate"):
        build(3, monte_carlo=True, **SLIM)


def test_a_model_that_samples_can_be_stored(tmp_path):
    model = models.SegNetBasic(2, dropout=0.5, monte_carlo=True, filters=2)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    x = picture(24, 24)
    assert np.abs(np.asarray(again(x)) - np.asarray(again(x))).max() > 0


def test_input_norm():
    def kind(model):
        return {layer.name: type(layer) for layer in model.layers}.get("input_norm")

    kinds = {None: None, "lrn": LocalResponseNormalization, "lcn": LocalContrastNormalization}
    for build, default in zip(BUILDERS, (None, "lrn"), strict=True):
        assert kind(build(3, **SLIM)) == kinds[default]
        for norm in kinds:
            assert kind(build(3, input_norm=norm, **SLIM)) == kinds[norm]
    with pytest.raises(ValueError, match="Unknown input_norm 'lnr'. Did you mean 'lrn'"):
        models.SegNet(3, input_norm="lnr", **SLIM)


def test_plain_pixels_in_the_order_bgr():
    """As the released networks read them: no mean is subtracted."""
    model = models.SegNet(3, **SLIM)
    x = picture(8, 8)
    y = keras.Model(model.input, model.get_layer("preprocess").output)(x)
    np.testing.assert_array_equal(y, x[..., ::-1])
