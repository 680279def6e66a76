"""DRN: up-sampling, classifiers, names of the reference. Parity is in test_golden.py."""

import keras
import numpy as np
import pytest

from keras_seg import models
from keras_seg.weights import LAYOUTS, transfer

SLIM = {"variant": "D-22", "filters": 4}
CLASSIFIER = {"task": "classification", **SLIM}


def picture(height, width, batch=1):
    return np.random.default_rng(1).uniform(0, 255, (batch, height, width, 3)).astype("float32")


@pytest.mark.parametrize("size", [(40, 56), (37, 50), (8, 1)])
def test_upsampling_fades_as_the_reference(size):
    """A map of ones under the fixed kernel 16x16, stride 8, padding 4 (values: spec of fyu/drn)."""
    model = models.DRN(1, **SLIM)
    head = model.get_layer("logits_low")
    head.set_weights([np.zeros(head.kernel.shape), np.ones(1)])
    logits = np.asarray(model(picture(*size)))[0, :, :, 0]
    edge = [0.5625, 0.6875, 0.8125, 0.9375]
    lines = []
    for n in size:
        whole = 8 * -(-n // 8)
        lines.append(np.concatenate([edge, np.ones(whole - 8), edge[::-1]])[:n])
    np.testing.assert_allclose(logits, np.outer(*lines), rtol=1e-6)


def test_align_corners_keeps_the_corners():
    model = models.DRN(3, align_corners=True, **SLIM)
    both = keras.Model(model.input, [model.get_layer("logits_low").output, model.output])
    low, logits = (np.asarray(y) for y in both(picture(41, 57)))
    np.testing.assert_allclose(logits[:, ::8, ::8], low, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variant", ["A-18", "C-26"])
@pytest.mark.parametrize("size", [(37, 50), (64, 48)])
def test_classifier_averages_the_whole_map(variant, size):
    model = models.DRN(5, task="classification", variant=variant, filters=4)
    both = keras.Model(model.input, [model.get_layer("features").output, model.output])
    features, logits = (np.asarray(y) for y in both(picture(*size, batch=2)))
    kernel, bias = (np.asarray(w) for w in model.get_layer("logits").get_weights())
    assert features.shape[1:3] == tuple(-(-n // 8) for n in size)
    np.testing.assert_allclose(logits, features.mean((1, 2)) @ kernel + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_classifier_of_other_channels(channels):
    model = models.DRN(5, (32, 32, channels), **CLASSIFIER)
    assert model(np.zeros((1, 32, 32, channels), "float32")).shape == (1, 5)


def test_classifier_in_mixed_precision():
    exact = models.DRN(5, **CLASSIFIER)
    keras.config.set_dtype_policy("mixed_float16")
    mixed = models.DRN(5, **CLASSIFIER)
    mixed.set_weights(exact.get_weights())
    logits, expected = mixed(picture(40, 40)), np.asarray(exact(picture(40, 40)))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.abs(np.asarray(logits) - expected).max() < 0.02 * np.abs(expected).max()


def test_classifier_learns_and_its_file_opens(tmp_path):
    """Bright pictures against dark ones, plain integer labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(8) % 2
    x = rng.uniform(0, 100, (8, 24, 24, 3)) + 150 * labels[:, None, None, None]
    model = models.DRN(2, **CLASSIFIER)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss=loss, run_eagerly=True)
    history = model.fit(x, labels, batch_size=8, epochs=6, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]
    model.save(tmp_path / "classifier.keras")
    opened = keras.saving.load_model(tmp_path / "classifier.keras")
    np.testing.assert_allclose(opened(x), model(x), rtol=1e-6)


def test_pixels_are_scaled_as_for_the_task():
    def mode(**options):
        return models.DRN(3, **SLIM, **options).get_layer("preprocess")

    image = np.full((1, 1, 1, 3), 255.0, "float32")
    cityscapes = (1 - np.array([0.290101, 0.328081, 0.286964])) / [0.182954, 0.186566, 0.184475]
    np.testing.assert_allclose(mode()(image)[0, 0, 0], cityscapes, rtol=1e-5)
    assert mode(task="classification").mode == "imagenet"
    assert mode(preprocessing="unit").mode == "unit"


@pytest.mark.parametrize(
    "variant, task, layer, reference",
    [
        ("A-18", "segmentation", "stem_bn1", "base.1"),
        ("A-18", "segmentation", "stage2_block1_conv1", "base.4.0.conv1"),
        ("A-18", "segmentation", "stage5_block2_bn2", "base.7.1.bn2"),
        ("C-26", "classification", "level0_conv1", "conv1"),
        ("C-26", "classification", "level8_block1_bn2", "layer8.0.bn2"),
        ("C-26", "segmentation", "level2_block1_shortcut_bn", "base.4.0.downsample.1"),
        ("D-22", "segmentation", "level0_bn1", "base.0.1"),
        ("D-22", "segmentation", "level8_conv1", "base.8.0"),
        ("D-24", "classification", "level7_conv2", "layer7.3"),
        ("D-24", "classification", "level7_bn2", "layer7.4"),
    ],
)
def test_names_of_the_reference(variant, task, layer, reference):
    """The children of fyu/drn's modules, counted by hand where no golden case has them."""
    model = models.DRN(3, task=task, variant=variant, filters=4)
    layers = [each.name for each in model.layers if each.weights]
    names = LAYOUTS["drn"].names(layers)
    assert names[layer] == reference
    assert set(names) == set(layers) and len(set(names.values())) == len(layers)


def test_a_segmenter_starts_from_a_classifier():
    classifier, segmenter = models.DRN(7, **CLASSIFIER), models.DRN(3, **SLIM)
    report = transfer(segmenter, classifier, verbose=False)
    assert set(report.skipped) == {"logits_low"}
    for layer in ("level0_conv1", "level8_conv1"):
        ours, theirs = (model.get_layer(layer).kernel for model in (segmenter, classifier))
        np.testing.assert_array_equal(ours, theirs)


def test_what_the_reference_carries_and_never_uses():
    layout = LAYOUTS["drn"]
    for name in ("up.weight", "layer7.0.downsample.0.weight", "base.9.0.downsample.1.running_var"):
        assert layout.ignores(name, ())
    assert not layout.ignores("layer6.0.downsample.0.weight", ())


def test_unknown_task():
    with pytest.raises(ValueError, match="Unknown task 'segment'. Did you mean 'segmentation'"):
        models.DRN(3, task="segment")
