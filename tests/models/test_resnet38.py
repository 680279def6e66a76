"""ResNet-38: head, classifier, names of the reference. Parity of the trunk is in test_golden.py."""

import keras
import numpy as np
import pytest

from keras_seg import models
from keras_seg.weights import LAYOUTS, load

SLIM = {"blocks": (1,) * 6, "filters": 2}


def picture(height, width, batch=1):
    return np.random.default_rng(1).uniform(0, 255, (batch, height, width, 3)).astype("float32")


@pytest.mark.parametrize("size", [(37, 50), (8, 1)])
def test_two_convolutions_of_dilation_12(size):
    """The head against a sum over the nine taps, on a map with a border of 12 zeros."""
    model = models.ResNet38(3, **SLIM)
    rng = np.random.default_rng(0)
    taps = {name: model.get_layer(name).output for name in ("features", "logits_low", "logits")}
    for name in ("head_conv", "logits_low"):
        layer = model.get_layer(name)
        layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    got = keras.Model(model.input, taps)(picture(*size))
    x = np.asarray(got["features"], "float64")
    assert x.shape[1:3] == tuple(-(-n // 8) for n in size)
    for name in ("head_conv", "logits_low"):
        kernel, bias = (np.asarray(w, "float64") for w in model.get_layer(name).get_weights())
        height, width = x.shape[1:3]
        padded = np.pad(x, ((0, 0), (12, 12), (12, 12), (0, 0)))
        x = bias + sum(
            padded[:, 12 * i : 12 * i + height, 12 * j : 12 * j + width] @ kernel[i, j]
            for i in range(3)
            for j in range(3)
        )
        x = np.maximum(x, 0) if name == "head_conv" else x
    np.testing.assert_allclose(got["logits_low"], x, rtol=1e-4, atol=1e-4 * np.abs(x).max())
    assert got["logits"].shape == (1, *size, 3)


@pytest.mark.parametrize("form", ["A", "A1", "A2"])
def test_classifier_averages_the_whole_map(form):
    model = models.ResNet38(5, task="classification", form=form, **SLIM)
    both = keras.Model(model.input, [model.get_layer("features").output, model.output])
    features, logits = (np.asarray(y) for y in both(picture(65, 32, batch=2)))
    kernel, bias = model.get_layer("logits").get_weights()
    assert features.shape == (2, 3, 1, 128)
    np.testing.assert_allclose(logits, features.mean((1, 2)) @ kernel + bias, rtol=1e-4, atol=1e-4)


def test_dropout_by_task():
    def rates(**options):
        layers = models.ResNet38(3, **SLIM, **options).layers
        return [x.rate for x in layers if isinstance(x, keras.layers.Dropout)]

    assert rates() == [0.3, 0.5]
    assert rates(task="classification") == []
    assert rates(dropout=(0.1, 0)) == [0.1]


def test_form_a_has_stride_32():
    with pytest.raises(ValueError, match="For dilation use form 'A1' or 'A2'"):
        models.ResNet38(3, form="A", **SLIM)
    model = models.ResNet38(3, form="A", output_stride=32, **SLIM)
    assert model(picture(40, 33)).shape == (1, 40, 33, 3)


def test_names_of_the_reference():
    model = models.ResNet38(3, task="classification", **SLIM)
    layers = [layer.name for layer in model.layers if layer.weights]
    names = LAYOUTS["inplace_abn"].names(layers)
    assert set(names) == set(layers) and len(set(names.values())) == len(layers)
    assert names["logits"] == "classifier.fc"
    assert names["level6_block1_bn1"] == "mod6.block1.bn1"
    assert names["level6_block1_bn3"] == "mod6.block1.convs.bn3"


def test_factors_count_by_their_size():
    """InPlaceABN computes (x - mean) / sqrt(var + eps) * (|weight| + eps) + bias."""
    model = models.ResNet38(3, task="classification", **SLIM)
    state = {}
    for layer in model.layers:
        if layer.weights:
            name = LAYOUTS["inplace_abn"].names([layer.name])[layer.name]
            if layer.name == "logits" or "bn" not in layer.name:
                axes = (1, 0) if layer.name == "logits" else (3, 2, 0, 1)
                state[f"{name}.weight"] = np.asarray(layer.kernel).transpose(axes)
                if layer.name == "logits":
                    state[f"{name}.bias"] = np.asarray(layer.bias)
                continue
            parts = ("weight", "bias", "running_mean", "running_var")
            size = layer.gamma.shape[0]
            for part, value in zip(parts, (-0.25, -2.0, -3.0, 4.0), strict=True):
                state[f"{name}.{part}"] = np.full(size, value, "float32")
    load(model, state, layout="inplace_abn")
    for name in ("level2_block1_bn1", "level6_block1_bn3", "out_bn"):
        values = [float(v[0]) for v in model.get_layer(name).get_weights()]
        assert values == [0.25, -2.0, -3.0, 4.0]
    assert np.min(model.get_layer("level2_block1_conv1").kernel) < 0


def test_unknown_task():
    with pytest.raises(ValueError, match="Unknown task 'classify'. Did you mean 'classification'"):
        models.ResNet38(3, task="classify")
