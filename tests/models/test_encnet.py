"""EncNet: the Encoding layer, outputs, both forms. Parity is in test_golden.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from unknown_sizes import in_graph

from keras_seg import layers, models, weights

SLIM = {"backbone": "resnet18", "filters": 4, "codewords": 5}


def picture(height, width, channels=3):
    shape = (1, height, width, channels)
    return np.random.default_rng(1).uniform(0, 255, shape).astype("float32")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def encode(x, codewords, scale):
    """The definition, by the residual of each pixel from each codeword, in float64."""
    pixels = x.reshape(len(x), -1, 1, x.shape[-1]).astype("float64")
    residuals = pixels - codewords.astype("float64")
    scores = scale * (residuals**2).sum(axis=-1)
    a = np.exp(scores - scores.max(axis=-1, keepdims=True))
    a /= a.sum(axis=-1, keepdims=True)
    return (a[..., None] * residuals).sum(axis=1)


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (64, 3)])
def test_encoding_is_the_sum_of_weighted_residuals(size):
    layer = layers.Encoding(6)
    features = keras.Input((None, None, 9))
    model = keras.Model(features, layer(features))
    x = np.random.default_rng(0).normal(0.5, 1.0, (2, *size, 9)).astype("float32")
    expected = encode(x, np.asarray(layer.codewords), np.asarray(layer.scale))
    assert model.output_shape == (None, 6, 9)
    for got in (model(x), model.predict(x, verbose=0)):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)


def test_encoding_starts_as_the_authors_start_it():
    layer = layers.Encoding(32)
    layer.build((None, None, None, 512))
    assert layer.count_params() == 16_416
    assert 0.0077 < np.abs(layer.codewords).max() <= 0.0078125
    assert -1 <= np.min(layer.scale) and np.max(layer.scale) < 0


def test_encoding_makes_no_array_of_all_residuals():
    """60 x 60 pixels, 32 codewords and 512 channels would be 236 MB."""
    layer = layers.Encoding(32)
    function = tf.function(layer).get_concrete_function(tf.TensorSpec((1, 60, 60, 512)))
    largest = max(
        t.shape.num_elements() or 0 for op in function.graph.get_operations() for t in op.outputs
    )
    assert largest == 60 * 60 * 512


def test_encoding_in_half_precision():
    """The same input, rounded: the sums over pixels and the squares stay float32."""
    x = np.full((1, 60, 60, 16), 20.0, "float16")
    layer = layers.Encoding(4, dtype="float32")
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    assert 65504 < np.max(np.abs(y)) < np.inf
    mixed = layers.Encoding(4, dtype="mixed_float16")
    y = mixed(x[:, :3, :3])
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    expected = encode(x[:, :3, :3], np.asarray(mixed.codewords), np.asarray(mixed.scale))
    np.testing.assert_allclose(y, expected, rtol=1e-2)


def test_encoding_refuses():
    with pytest.raises(ValueError, match="num_codewords must be a whole number"):
        layers.Encoding(0)


@pytest.mark.parametrize("size", [(41, 57), (40, 63)])
def test_outputs(size):
    model = models.EncNet(5, se_loss=True, aux=True, lateral=True, **SLIM)
    image = picture(*size)
    outputs = model(image)
    assert {name: y.shape for name, y in outputs.items()} == {
        "logits": (1, *size, 5),
        "se": (1, 5),
        "aux": (1, *size, 5),
    }
    inference = models.inference_model(model)
    np.testing.assert_array_equal(inference(image), outputs["logits"])
    assert not {"se", "aux"} & {layer.name for layer in inference.layers}
    unknown = in_graph(inference)(image)
    np.testing.assert_allclose(unknown, outputs["logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["release", "paper"])
def test_the_gate(form):
    """Release: ReLU(x + x g), g from the mean over codewords. Paper: x g, from their sum."""
    model = models.EncNet(3, form=form, dropout=0, **SLIM)
    gate = model.get_layer("gate")
    taps = ["head_relu", "encoding_relu"]
    last = model.get_layer("logits_low").input
    image = picture(33, 41)
    x, codes, gated = keras.Model(model.input, [*(model.get_layer(t).output for t in taps), last])(
        image
    )
    x, codes, gated = (np.asarray(a, "float64") for a in (x, codes, gated))
    e = codes.mean(axis=1) if form == "release" else codes.sum(axis=1)
    g = sigmoid(e @ np.asarray(gate.kernel) + np.asarray(gate.bias))[:, None, None]
    expected = np.maximum(x + x * g, 0) if form == "release" else x * g
    np.testing.assert_allclose(gated, expected, rtol=1e-4, atol=1e-5)


def test_the_auxiliary_head_of_the_paper_tells_classes():
    model = models.EncNet(3, form="paper", aux=True, se_loss=True, **SLIM)
    outputs = model(picture(33, 41))
    assert {name: y.shape for name, y in outputs.items()} == {
        "logits": (1, 33, 41, 3),
        "se": (1, 3),
        "aux": (1, 3),
    }
    assert model.get_layer("aux_head_conv").input.shape[-1] == 16  # stage 4 of resnet18, slim
    with pytest.raises(ValueError, match="Unknown form 'papr'. Did you mean 'paper'"):
        models.EncNet(3, form="papr", **SLIM)


def test_names_of_the_lateral_connections():
    """`EncHead` of the reference: connect[0] is of its layer2, our stage 3."""
    layout = weights.LAYOUTS["encoding"]
    model = models.EncNet(3, lateral=True, **SLIM)
    names = layout.names([layer.name for layer in model.layers if layer.weights])
    assert len(names) == sum(bool(layer.weights) for layer in model.layers)
    assert names["lateral3_conv"] == "head.connect.0.0"
    assert names["lateral4_bn"] == "head.connect.1.1"
    assert names["fusion_conv"] == "head.fusion.0"
    assert model.get_layer("lateral3_conv").input.shape[-1] == 8
    assert model.get_layer("lateral4_conv").input.shape[-1] == 16
    assert model.get_layer("fusion_conv").input.shape[-1] == 3 * 32


def test_a_checkpoint_with_the_heads_of_training():
    layout = weights.LAYOUTS["encoding"]
    used = {"head.conv5.0.weight"}
    for name in ("auxlayer.conv5.4.bias", "head.encmodule.selayer.weight", "pretrained.fc.bias"):
        assert layout.ignores(name, used), name
    assert not layout.ignores("head.encmodule.fc.0.bias", used)
    assert not layout.ignores("auxlayer.conv5.4.bias", {*used, "auxlayer.conv5.0.weight"})


def test_start_from_a_classifier():
    """A checkpoint of the reference's ResNet alone."""
    model = models.EncNet(3, **SLIM)
    trunk = [x for x in model.layers if x.weights and x.name.startswith(("stem", "stage"))]
    prefixes = weights.LAYOUTS["encoding"].names([layer.name for layer in trunk])
    rng, state = np.random.default_rng(3), {"fc.weight": np.ones((10, 32), "float32")}
    for layer in trunk:
        prefix = prefixes[layer.name].removeprefix("pretrained.")
        suffixes = ("weight", "bias", "running_mean", "running_var")
        for suffix, variable in zip(suffixes, layer.weights, strict=False):
            shape = variable.shape
            shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape
            state[f"{prefix}.{suffix}"] = rng.uniform(0, 1, shape).astype("float32")
    report = weights.transfer(model, state, layout="encoding", verbose=False)
    assert set(report.loaded) == set(prefixes) and report.unused == ()
    np.testing.assert_array_equal(
        model.get_layer("stage5_block2_conv2").kernel,
        state["layer4.1.conv2.weight"].transpose(2, 3, 1, 0),
    )
    np.testing.assert_array_equal(model.get_layer("stem_bn3").gamma, state["bn1.weight"])
