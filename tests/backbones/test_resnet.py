"""ResNet trunks: sizes, names, dilation against the undilated network."""

import keras
import numpy as np
import pytest

from keras_seg.backbones import resnet


def build(*args, size=None, channels=3, **options):
    image = keras.Input((*(size or (None, None)), channels), name="image")
    return keras.Model(image, resnet(image, *args, **options))


def trainable(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


def randomise(model, seed=0):
    """Weights and statistics that hide nothing: every batch normalisation does something."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.path.endswith(("gamma", "variance")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.path.endswith(("beta", "mean", "bias")):
            weight.assign(rng.normal(0, 0.2, weight.shape))


@pytest.mark.parametrize(
    "depth, stem, count",
    [
        (18, "7x7", 11_176_512),  # torchvision's counts without the fc layer
        (34, "7x7", 21_284_672),
        (50, "7x7", 23_508_032),
        pytest.param(101, "7x7", 42_500_160, marks=pytest.mark.slow),
        pytest.param(152, "7x7", 58_143_808, marks=pytest.mark.slow),
        (50, "deep", 23_631_808),  # semseg's
        (101, "deep", 42_623_936),
        pytest.param(152, "deep", 58_267_584, marks=pytest.mark.slow),
        (269, "deep", 100_148_160),
    ],
)
def test_parameter_count(depth, stem, count):
    assert trainable(build(depth, stem=stem)) == count


def test_explicit_blocks_are_the_same_network():
    listed = build((3, 4, 6, 3), filters=8)
    assert [w.path for w in listed.weights] == [w.path for w in build(50, filters=8).weights]
    assert [w.shape for w in listed.weights] == [w.shape for w in build(50, filters=8).weights]


@pytest.mark.parametrize("output_stride, sides", [(8, (8, 8, 8)), (16, (8, 16, 16)), (32, None)])
def test_strides_and_channels(output_stride, sides):
    model = build((1, 1, 1, 1), output_stride=output_stride, filters=4, size=(64, 96))
    strides = (2, 4, *(sides or (8, 16, 32)))
    channels = (4, 16, 32, 64, 128)
    shapes = {f"c{i + 1}": (None, 64 // s, 96 // s, channels[i]) for i, s in enumerate(strides)}
    assert {key: tensor.shape for key, tensor in model.output.items()} == shapes


def rates(model, stage):
    return [
        model.get_layer(f"stage{stage}_block{i}_conv2").dilation_rate[0]
        for i in range(1, 10)
        if any(layer.name == f"stage{stage}_block{i}_conv2" for layer in model.layers)
    ]


@pytest.mark.parametrize(
    "options, stage4, stage5",
    [
        ({"output_stride": 8}, [2] * 6, [4] * 3),
        ({"output_stride": 8, "first_block_dilation": "half"}, [1] + [2] * 5, [2, 4, 4]),
        ({"output_stride": 16}, [1] * 6, [2] * 3),
        ({"output_stride": 16, "multi_grid": (1, 2, 4)}, [1] * 6, [2, 4, 8]),
        ({"output_stride": 8, "multi_grid": (1, 2, 4)}, [2] * 6, [4, 8, 16]),
    ],
)
def test_dilation_of_each_block(options, stage4, stage5):
    model = build(50, filters=4, **options)
    assert rates(model, 4) == stage4
    assert rates(model, 5) == stage5


@pytest.mark.parametrize(
    "stem, stride_in, first", [("7x7", "3x3", "half"), ("deep", "1x1", "full")]
)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_network_equals_the_strided_one(stem, stride_in, first, output_stride):
    options = {"stem": stem, "stride_in": stride_in, "filters": 4}
    plain = build((2, 2, 2, 2), **options)
    dilated = build(
        (2, 2, 2, 2), output_stride=output_stride, first_block_dilation=first, **options
    )
    randomise(plain)
    dilated.set_weights(plain.get_weights())
    for size in [(65, 97), (64, 96), (70, 51)]:
        image = np.random.default_rng(1).normal(size=(1, *size, 3)).astype("float32")
        expected, got = plain(image, training=False), dilated(image, training=False)
        for i in range(1, 6):
            removed = max(1, 2**i // output_stride)
            a = np.asarray(got[f"c{i}"])[:, ::removed, ::removed]
            b = np.asarray(expected[f"c{i}"])
            assert a.shape == b.shape
            assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max(), f"c{i} at {size}"


def test_odd_sizes_round_up():
    model = build((1, 1, 1, 1), filters=4)
    shape = model(np.zeros((1, 65, 97, 3), "float32"))["c5"].shape
    assert tuple(shape) == (1, 3, 4, 128)  # 65 -> 33 -> 17 -> 9 -> 5 -> 3


def test_caffe_rounds_the_pool_up():
    """torch.nn.MaxPool2d(3, 2, 1, ceil_mode=True): 32 -> 17 and 26 -> 14, but 33 -> 17."""
    model = build((1, 1, 1, 1), stem_pool="ceil", output_stride=8, filters=2)
    pool = keras.Model(model.input, model.get_layer("stem_pool").output)
    for size, side in [((64, 51), (17, 14)), ((65, 66), (17, 17))]:
        assert pool(np.zeros((1, *size, 3), "float32")).shape[1:3] == side
    # Where both take the same windows they are the same network.
    floor = build((1, 1, 1, 1), output_stride=8, filters=2)
    floor.set_weights(model.get_weights())
    image = np.random.default_rng(1).normal(size=(1, 65, 97, 3)).astype("float32")
    np.testing.assert_array_equal(model(image)["c5"], floor(image)["c5"])


def test_basic_blocks_of_any_depth():
    model = build((1, 1, 1, 1), block="basic", filters=4)
    assert model.output["c5"].shape[-1] == 32
    # As in torchvision, the first stage of a basic network with the 7x7 stem has no shortcut.
    names = {layer.name for layer in model.layers}
    assert "stage2_block1_shortcut_conv" not in names
    assert "stage3_block1_shortcut_conv" in names


def test_names_for_weight_maps():
    model = build(50, stem="deep", filters=4, prefix="trunk_")
    names = {layer.name for layer in model.layers if layer.weights}
    assert {"trunk_stem_conv3", "trunk_stem_bn3", "trunk_stage2_block1_conv1"} <= names
    assert {"trunk_stage5_block3_bn3", "trunk_stage4_block1_shortcut_bn"} <= names


def test_options_reach_every_normalisation():
    model = build((1, 1, 1, 1), filters=4, bn_momentum=0.9997, bn_epsilon=1e-3)
    norms = [v for v in model.layers if isinstance(v, keras.layers.BatchNormalization)]
    assert len(norms) == 1 + 4 * 4
    assert {(n.momentum, n.epsilon) for n in norms} == {(0.9997, 1e-3)}


@pytest.mark.parametrize(
    "options, words",
    [
        ({"depth": 51}, "depth must be one of"),
        ({"depth": "50"}, "depth must be one of .* got '50'"),
        ({"depth": (3, 4)}, "depth must be a list or tuple of 4 whole numbers"),
        ({"multi_grid": 2}, "multi_grid must be a list or tuple of whole numbers"),
        ({"filters": 2.5}, "filters must be a whole number of at least 1, got 2.5"),
        ({"output_stride": 4}, "output_stride must be 8, 16 or 32"),
        ({"stem": "depe"}, "Did you mean 'deep'"),
        ({"stride_in": "7x7"}, "stride_in"),
        ({"stem_pool": "round"}, "stem_pool"),
        ({"first_block_dilation": "quarter"}, "first_block_dilation"),
        ({"block": "bottle"}, "Did you mean 'bottleneck'"),
        ({"depth": 18, "multi_grid": (1, 2, 4)}, "multi_grid must have 2"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        build(**{"filters": 4, **options})
