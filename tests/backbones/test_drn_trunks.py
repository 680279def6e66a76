"""DRN trunks: sizes, dilations and skips of each family. Parity is in tests/models."""

import keras
import pytest

from keras_seg.backbones import drn


def build(variant, size=(64, 96), **options):
    image = keras.Input((*size, 3), name="image")
    return keras.Model(image, drn(image, variant, **{"filters": 4, **options}))


@pytest.mark.parametrize(
    "variant, channels",
    [
        ("A-18", (4, 4, 8, 16, 32)),
        ("A-50", (4, 16, 32, 64, 128)),
        ("B-26", (2, 4, 8, 16, 32)),
        ("C-58", (2, 16, 32, 64, 32)),  # levels 7 and 8 are basic in any variant
        ("D-22", (2, 4, 8, 16, 32)),
        ("D-54", (2, 16, 32, 64, 32)),
    ],
)
def test_strides_and_channels(variant, channels):
    features = build(variant).output
    shapes = {key: tensor.shape[1:] for key, tensor in features.items()}
    strides = (2, 4, 8, 8, 8)
    assert shapes == {
        f"c{i + 1}": (64 // strides[i], 96 // strides[i], channels[i]) for i in range(5)
    }


def test_odd_sizes_round_up():
    features = build("D-22", (65, 43)).output
    assert [features[f"c{i}"].shape[1:3] for i in (1, 2, 3, 5)] == [
        (33, 22),
        (17, 11),
        (9, 6),
        (9, 6),
    ]


def rates(model, *parts):
    """Dilations of the 3x3 convolutions of a level, shortcuts aside, in order."""
    return [
        layer.dilation_rate[0]
        for layer in model.layers
        if layer.name.startswith(parts) and getattr(layer, "kernel_size", 0) == (3, 3)
    ]


@pytest.mark.parametrize(
    "variant, blocks, last", [("C-26", (2, 2), 2), ("D-22", (2, 2), 1), ("D-24", (2, 2), 2)]
)
def test_every_convolution_of_a_level_is_dilated(variant, blocks, last):
    model = build(variant)
    assert rates(model, "level5_") == [2] * 2 * blocks[0]
    assert rates(model, "level6_") == [4] * 2 * blocks[1]
    assert rates(model, "level7_") == [2] * last
    assert rates(model, "level8_") == [1] * last
    assert set(rates(model, "level1_", "level2_", "level3_", "level4_")) == {1}


@pytest.mark.parametrize("first, last_stage", [("code", [1, 4, 4]), ("paper", [2, 4, 4])])
def test_first_blocks_of_drn_a(first, last_stage):
    model = build("A-50", first_block_dilation=first)
    assert rates(model, "stage4_") == [1] + [2] * 5
    assert rates(model, "stage5_") == last_stage


@pytest.mark.parametrize("variant, skips", [("B-26", True), ("C-26", False)])
def test_degridding_levels(variant, skips):
    names = {layer.name for layer in build(variant).layers}
    for level in (7, 8):
        assert (f"level{level}_block1_add" in names) == skips
        assert f"level{level}_block1_out" in names


@pytest.mark.parametrize(
    "variant, options, words",
    [
        ("C-25", {}, "Unknown variant of DRN 'C-25'. Did you mean .*'C-26'"),
        ("A-50", {"first_block_dilation": "papers"}, "Did you mean 'paper'"),
        ("C-26", {"first_block_dilation": "paper"}, "a matter of DRN-A only"),
        ("C-26", {"filters": 6}, "filters must be a multiple of 4, got 6"),
    ],
)
def test_bad_options(variant, options, words):
    with pytest.raises(ValueError, match=words):
        build(variant, **options)
