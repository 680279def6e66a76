"""Wide ResNet trunks: forms, dilation, pools, shortcuts. Parity is in tests/models."""

import keras
import numpy as np
import pytest

from keras_seg.backbones import wide_resnet


def build(form="A1", size=(None, None), **options):
    image = keras.Input((*size, 3), name="image")
    options = {"filters": 2, "blocks": (1, 1, 1, 2, 1, 1), **options}
    return keras.Model(image, wide_resnet(image, form, **options))


def randomise(model):
    """Weights and statistics that hide nothing: every batch normalisation does something."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.endswith(("gamma", "variance")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.path.endswith(("beta", "mean")):
            weight.assign(rng.normal(0, 0.2, weight.shape))


def picture(height, width):
    return np.random.default_rng(1).normal(size=(1, height, width, 3)).astype("float32")


@pytest.mark.parametrize(
    "form, output_stride", [("A", 32), ("A1", 32), ("A1", 16), ("A1", 8), ("A2", 8)]
)
def test_strides_and_channels(form, output_stride):
    features = build(form, (64, 96), output_stride=output_stride, filters=4).output
    strides = [min(s, output_stride) for s in (2, 4, 8, 16, 32)]
    channels = (8, 16, 32, 64, 256)
    assert {key: tensor.shape[1:] for key, tensor in features.items()} == {
        f"c{i + 1}": (64 // strides[i], 96 // strides[i], channels[i]) for i in range(5)
    }


@pytest.mark.parametrize(
    "form, pools, strided", [("A", "23456", ""), ("A1", "", "23456"), ("A2", "23", "456")]
)
def test_what_halves_the_map(form, pools, strided):
    model = build(form)
    names = {layer.name for layer in model.layers}
    assert {n for n in "23456" if f"level{n}_pool" in names} == set(pools)
    for part in ("conv1", "shortcut"):
        strides = {n: model.get_layer(f"level{n}_block1_{part}").strides[0] for n in "234567"}
        assert {n for n in strides if strides[n] == 2} == set(strided)


@pytest.mark.parametrize("size", [(8, 10), (9, 7)])
def test_pools_look_at_nothing_beyond_the_border(size):
    """Windows of 3x3 around every second cell, over sums of which many are negative."""
    model = build("A")
    taps = [model.get_layer(name).output for name in ("level1_conv", "level2_pool")]
    before, after = (np.asarray(y)[0] for y in keras.Model(model.input, taps)(picture(*size)))
    assert (after < 0).any()
    rows, columns = range(0, size[0], 2), range(0, size[1], 2)
    expected = [
        [before[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max((0, 1)) for j in columns]
        for i in rows
    ]
    np.testing.assert_array_equal(after, expected)


@pytest.mark.parametrize("first, level5", [("half", [1, 2, 2, 2]), ("full", [2, 2, 2, 2])])
def test_dilation_of_each_convolution(first, level5):
    model = build("A1", output_stride=8, first_block_dilation=first)
    rates = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3):
            rates.setdefault(layer.name[:6], []).append(layer.dilation_rate[0])
    assert rates.pop("level5") == level5
    assert rates.pop("level6") == rates.pop("level7") == [4]
    assert {rate for level in rates.values() for rate in level} == {1}


@pytest.mark.parametrize("form, output_stride", [("A1", 8), ("A1", 16), ("A2", 8)])
def test_dilated_network_equals_the_strided_one(form, output_stride):
    plain, dilated = build(form), build(form, output_stride=output_stride)
    randomise(plain)
    dilated.set_weights(plain.get_weights())
    for size in [(65, 97), (64, 96), (70, 51)]:
        image = picture(*size)
        expected, got = plain(image, training=False), dilated(image, training=False)
        for i in range(1, 6):
            removed = max(1, 2**i // output_stride)
            a = np.asarray(got[f"c{i}"])[:, ::removed, ::removed]
            b = np.asarray(expected[f"c{i}"])
            assert a.shape == b.shape
            assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max(), f"c{i} at {size}"


def test_the_three_forms_have_the_same_weights():
    shapes = [[(w.path, w.shape) for w in build(form).weights] for form in ("A", "A1", "A2")]
    assert shapes[0] == shapes[1] == shapes[2]


def test_dropout_before_the_last_convolution_of_two_levels():
    model = build(dropout=(0.3, 0.5))
    drops = {x.name: x.rate for x in model.layers if isinstance(x, keras.layers.Dropout)}
    assert drops == {"level6_block1_dropout": 0.3, "level7_block1_dropout": 0.5}
    for level in (6, 7):
        last = model.get_layer(f"level{level}_block1_conv3")
        assert last.input is model.get_layer(f"level{level}_block1_dropout").output


def test_leaky_activation_reaches_every_unit():
    model = build(activation="leaky_relu")
    slopes = {x.negative_slope for x in model.layers if isinstance(x, keras.layers.ReLU)}
    np.testing.assert_allclose(list(slopes), [0.01])


@pytest.mark.parametrize(
    "options, words",
    [
        ({"form": "A3"}, "Unknown form of wide ResNet 'A3'. Did you mean"),
        ({"form": "A", "output_stride": 8}, "use form 'A1' or 'A2', which have the same weights"),
        ({"output_stride": 4}, "output_stride must be 8, 16 or 32, got 4"),
        ({"activation": "leaky"}, "Did you mean 'leaky_relu'"),
        ({"first_block_dilation": "code"}, "Known: full, half"),
        ({"blocks": (3, 3, 6)}, "blocks must be a list or tuple of 6 whole numbers"),
        ({"blocks": 3}, "6 whole numbers of at least 1, got 3"),
        ({"dropout": 0.5}, "dropout must be two rates, .* got 0.5"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        build(**options)
