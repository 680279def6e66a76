"""What every builder says to classes, shapes and sizes that cannot work."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seg import models

PAPER = {"form": "paper", "filters": 1}


@pytest.mark.parametrize("name", models.list_models())
@pytest.mark.parametrize("classes", [0, -1, 2.5, "4", None, True])
def test_a_wrong_number_of_classes(name, classes):
    with pytest.raises(ValueError, match="num_classes must be a whole number of at least 1"):
        models.build(name, classes)


@pytest.mark.parametrize("name", models.list_models())
@pytest.mark.parametrize(
    "shape", [(32, 32), (1, 32, 32, 3), (32, 32, None), (0, 32, 3), 32, (32.0, 32, 3)], ids=str
)
def test_a_wrong_input_shape(name, shape):
    with pytest.raises(ValueError, match=r"input_shape must be \(height, width, channels\)"):
        models.build(name, 3, shape)


@pytest.mark.parametrize("shape", [(64, 64, 3), (3, 64, 64)])
def test_keras_set_to_channels_first(shape):
    """Its layers would take the height for the channels."""
    keras.config.set_image_data_format("channels_first")
    with pytest.raises(ValueError, match=r'set_image_data_format\("channels_last"\)'):
        models.FCNResNet(3, shape, backbone="resnet18", filters=4)


@pytest.mark.parametrize("name", models.list_models())
@pytest.mark.parametrize("filters", [0, 2.5, "64"])
def test_a_wrong_width(name, filters):
    with pytest.raises(ValueError, match="filters must be a (whole number|multiple of 4)"):
        models.build(name, 3, filters=filters)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("FCN8s", {"fc_channels": 0}, "fc_channels must be a whole number of at least 1, got 0"),
        ("FCN8s", {"legacy_padding": "x"}, "legacy_padding must be True, False or None, got 'x'"),
        ("FCN8s", {"other_classes": 3}, "other_classes must be a dict such as .*, got 3"),
        ("FCNLateFusion", {"preprocessing": None}, "preprocessing must be a pair"),
        ("DeepLabV1", {"fc_channels": 0}, "fc_channels must be"),
        ("DeepLabV2", {"scales": 0.75}, "scales must be different fractions .* got 0.75"),
        ("DeepLabV3", {"rates": 6}, "rates must be a list or tuple of whole numbers .* got 6"),
        ("DeepLabV3Plus", {"low_level_filters": 0}, "low_level_filters must be"),
        ("EncNet", {"codewords": 0}, "codewords must be a whole number of at least 1, got 0"),
        ("FCDenseNet", {"growth_rate": 0}, "growth_rate must be"),
        ("FCDenseNet", {"layers_per_block": 4}, "layers_per_block must be a list or tuple"),
        (
            "ParseNet",
            {"scale": "a", "filters": 1, "fc_channels": 1},
            "scale must be a number, got 'a'",
        ),
        ("PSPNet", {"bn_momentum": 2}, "momentum of BN must be from 0 to 1, got 2"),
        ("PSPNet", {"bn_epsilon": -1}, "epsilon of BN must be a number above 0, got -1"),
        (
            "PSPNet",
            {"bins": 3, "backbone": "resnet18", "filters": 1},
            "bins must be a list or tuple",
        ),
        ("SETR", {"depth": 0}, "depth must be a whole number of at least 1, got 0"),
        ("SETR", {"num_heads": 0}, "num_heads must be"),
        ("SMPUnet", {"decoder_channels": 256}, "decoder_channels must be a list or tuple"),
        ("SMPUnet", {"encoder_depth": 2.0}, "encoder_depth must be a whole number from 1 to 5"),
        ("UNet", {"form": "papr"}, "Unknown form 'papr'. Did you mean 'paper'"),
        ("UNet", {"upsampling": "bilinar"}, "Unknown upsampling .*Did you mean 'bilinear'"),
    ],
)
def test_other_wrong_options(name, options, words):
    with pytest.raises(ValueError, match=words):
        models.build(name, 3, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DRN", {"variant": "D-22", "task": "classification", "filters": 4}),
        ("EncNet", {"backbone": "resnet18", "filters": 4, "codewords": 2, "se_loss": True}),
        ("MultiscaleCNN", {"filters": 2, "scales": 1, "window": 7}),
        ("ParseNet", {"filters": 1, "fc_channels": 4}),
        ("SETR", {"crop_size": 48, "embed_dim": 8, "num_heads": 2, "depth": 1, "filters": 4}),
    ],
)
def test_whole_numbers_of_numpy(name, options, tmp_path):
    """Such as `labels.max() + 1`; what Keras writes into the file must be numbers of Python."""
    numbers = {k: np.int64(v) if type(v) is int else v for k, v in options.items()}
    model = models.build(name, np.int64(3), (48, 64, 3), **numbers)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.count_params() == models.build(name, 3, (48, 64, 3), **options).count_params()


def test_a_network_of_any_size_refuses_too_small_an_image():
    model = models.UNet(2, filters=1)
    with pytest.raises(ValueError, match="The height 15 is too small: at least 16 is needed"):
        model(np.zeros((1, 15, 40, 3), "float32"))


@pytest.mark.parametrize("shape", [(200, 204, 3), (None, None, 3)])
def test_tiles_of_the_paper_are_even_at_every_pooling(shape):
    """At 200 the pools would drop rows without a word, and the skips lie beside the maps."""
    message = "The height 200 cannot work: it must be 188 plus a multiple of 16. Use 188 or 204"
    with pytest.raises(ValueError, match=message):
        models.UNet(2, shape, **PAPER)(np.zeros((1, 200, 204, 3), "float32"))


@pytest.mark.parametrize(("depth", "tile", "output"), [(1, 18, 2), (2, 44, 4), (4, 188, 4)])
def test_the_smallest_tile(depth, tile, output):
    """By the paper's figure: a stage takes 4 rows, a pooling halves them, an up-conv doubles."""
    model = models.UNet(2, depth=depth, **PAPER)
    step = 2**depth
    image = np.zeros((1, tile, tile + step, 3), "float32")
    assert model(image).shape == (1, output, output + step, 2)
    with pytest.raises(ValueError, match=f"The height {tile - step} is too small: {tile} plus"):
        model(image[:, step:])


def test_a_size_that_is_known_only_when_the_graph_runs():
    model = models.UNet(2, **PAPER)
    graph = tf.function(model, input_signature=[tf.TensorSpec((1, None, None, 3))])
    assert graph(tf.zeros((1, 204, 188, 3))).shape == (1, 20, 4, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="188 plus a multiple of 16"):
        graph(tf.zeros((1, 204, 200, 3)))
