"""SETR: sizes, positions, decoders, auxiliary heads. Parity is in test_golden.py."""

import keras
import numpy as np
import pytest
from golden import cases
from unknown_sizes import in_graph

from keras_seg import layers, models, training, weights

SLIM = {"embed_dim": 8, "depth": 4, "num_heads": 2, "filters": 4}


def picture(height, width):
    return np.random.default_rng(1).uniform(0, 255, (1, height, width, 3)).astype("float32")


def taps(model, *names):
    return keras.Model(model.input, [model.get_layer(name).output for name in names])


@pytest.mark.parametrize("decoder", ["naive", "pup", "mla"])
def test_any_multiple_of_16_works(decoder):
    model = models.SETR(5, decoder=decoder, crop_size=64, aux=True, **SLIM)
    unknown = in_graph(models.inference_model(model))
    for size in [(64, 64), (48, 112)]:
        image = picture(*size)
        outputs = model(image)
        heads = 3 if decoder == "naive" else 4
        assert list(outputs) == ["logits", *(f"aux{i + 1}" for i in range(heads))]
        assert {y.shape for y in outputs.values()} == {(1, *size, 5)}
        np.testing.assert_allclose(unknown(image), outputs["logits"], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="The width 100 cannot work.*Use 96 or 112"):
        model(picture(64, 100))


def test_positions_are_those_of_the_crop():
    def grid(shape=(None, None, 3), **options):
        return models.SETR(5, shape, **SLIM, **options).get_layer("tokens").grid

    assert grid() == (32, 32)
    assert grid((64, 96, 3)) == (4, 6)
    assert grid((64, 96, 3), crop_size=80) == (5, 5)
    assert grid(crop_size=(32, 80)) == (2, 5)
    for wrong in (100, (64, 64, 64), 0, "64"):
        with pytest.raises(ValueError, match="crop_size must be a multiple of 16"):
            models.SETR(5, crop_size=wrong, **SLIM)
    with pytest.raises(ValueError, match="The height 100 cannot work"):
        models.SETR(5, (100, 64, 3), **SLIM)


def test_a_checkpoint_of_another_crop():
    """Its positions are resized at load, which is what the graph does with images of that size."""
    case, _ = cases.load("setr_naive_small")
    state = cases.state(case)
    options = {
        "decoder": "naive",
        "embed_dim": 192,
        "depth": 4,
        "num_heads": 3,
        "preprocessing": "none",
    }
    same, other = (models.SETR(11, crop_size=size, **options) for size in (96, (64, 128)))
    for model in (same, other):
        report = weights.load(model, state, layout="setr")
        assert any(name.startswith("auxiliary_head.0.") for name in report.ignored)
    image = np.random.default_rng(2).standard_normal((1, 64, 128, 3)).astype("float32")
    assert np.asarray(other.get_layer("tokens").positions).shape == (1, 33, 192)
    np.testing.assert_allclose(other(image), same(image), rtol=1e-4, atol=1e-5)
    positions = np.asarray(same.get_layer("tokens").positions)
    resized = layers.Resize((4, 8))(positions[:, 1:].reshape(1, 6, 6, 192))
    np.testing.assert_allclose(
        np.asarray(other.get_layer("tokens").positions)[:, 1:],
        np.reshape(resized, (1, 32, 192)),
        atol=1e-6,
    )
    state["backbone.pos_embed"] = state["backbone.pos_embed"][:, :30]
    with pytest.raises(ValueError, match=r"backbone.pos_embed has shape \(1, 30, 192\)"):
        weights.load(same, state, layout="setr")


def test_start_from_a_classifier():
    """DeiT's checkpoint: two entries before the grid of positions, and a classifier's layers."""
    case, _ = cases.load("setr_naive_small")
    state = {
        name.removeprefix("backbone."): array
        for name, array in cases.state(case).items()
        if name.startswith("backbone.")
    }
    grid = state["pos_embed"][:, 1:]
    state["pos_embed"] = np.concatenate([state["pos_embed"][:, :1], grid[:, :1], grid], axis=1)
    for name in ("norm.weight", "norm.bias", "head.weight", "head_dist.bias", "dist_token"):
        state[name] = np.ones(192, "float32")
    model = models.SETR(4, crop_size=96, embed_dim=192, depth=4, num_heads=3, filters=8)
    report = weights.transfer(model, state, layout="setr", verbose=False)
    assert report.unused == ()
    assert all(name.startswith(("head", "logits")) for name in report.skipped)
    np.testing.assert_array_equal(model.get_layer("tokens").positions[:, 1:], grid)
    np.testing.assert_array_equal(
        model.get_layer("block4_fc2").kernel, state["blocks.3.mlp.fc2.weight"].T
    )


@pytest.mark.parametrize(
    ("decoder", "depth", "blocks"),
    [
        ("naive", 24, [10, 15, 20]),
        ("pup", 24, [10, 15, 20, 24]),
        ("naive", 12, [3, 6, 9]),
        ("pup", 12, [5, 8, 10, 12]),
    ],
)
def test_auxiliary_heads_of_the_paper(decoder, depth, blocks):
    model = models.SETR(3, decoder=decoder, aux=True, **{**SLIM, "depth": depth})
    norms = [layer for layer in model.layers if layer.name.endswith("head_norm")]
    found = {norm.name: norm.input.name for norm in norms}
    expected = {f"aux{i}_head_norm": f"block{block}_out" for i, block in enumerate(blocks, 1)}
    expected["head_norm"] = "features"
    assert found == {name: model.get_layer(tap).output.name for name, tap in expected.items()}
    assert model.get_layer("features").input is model.get_layer(f"block{depth}_out").output


def test_few_blocks_need_no_auxiliary_heads():
    models.SETR(3, **{**SLIM, "depth": 1})
    with pytest.raises(ValueError, match=r"aux_blocks must be .* out of \[1\], got \(0, 0, 0, 1\)"):
        models.SETR(3, aux=True, **{**SLIM, "depth": 1})


def test_pup_doubles_the_map_four_times():
    model = models.SETR(3, decoder="pup", **SLIM)
    names = ["head_map", "head1_resize", "head2_resize", "head3_resize", "logits_low"]
    shapes = [y.shape[1:3] for y in taps(model, *names)(picture(48, 80))]
    assert shapes == [(3, 5), (6, 10), (12, 20), (24, 40), (24, 40)]


def test_mla_adds_the_deeper_levels():
    """Level 5 is of the deepest block; each other one is its own plus all deeper ones."""
    model = models.SETR(3, decoder="mla", mla_blocks=[1, 2, 3, 4], **SLIM)
    names = [f"mla{level}_reduce_relu" for level in (2, 3, 4, 5)]
    inputs = keras.Model(
        model.input, [model.get_layer(f"mla{level}_conv").input for level in (2, 3, 4, 5)]
    )
    image = picture(32, 48)
    own = [np.asarray(y) for y in taps(model, *names)(image)]
    for i, total in enumerate(inputs(image)):
        np.testing.assert_allclose(total, sum(own[i:]), rtol=1e-5, atol=1e-6)
    assert model.get_layer("mla2_norm").input is model.get_layer("block1_out").output
    features, low = taps(model, "head_concat", "logits_low")(image)
    assert (features.shape, low.shape) == ((1, 8, 12, 4 * 2), (1, 8, 12, 3))


@pytest.mark.parametrize("decoder", ["naive", "pup", "mla"])
def test_the_head_is_what_the_release_trains_faster(decoder):
    """Ten times the rate for names with "head"; what makes the levels of mla is its backbone."""
    model = models.SETR(3, decoder=decoder, aux=True, **SLIM)
    layers_of_the_head = {path.split("/")[0] for path in training.head_variables(model)}
    weighted = [layer.name for layer in model.layers if layer.trainable_weights]
    names = weights.LAYOUTS["setr"].names(weighted)
    assert layers_of_the_head == {name for name in weighted if "head" in names[name]}


@pytest.mark.parametrize(("decoder", "used"), [("naive", True), ("mla", False)])
def test_the_class_token(decoder, used):
    model = models.SETR(3, decoder=decoder, **SLIM)
    image = picture(32, 32)
    before = np.asarray(model(image))
    layer = model.get_layer("tokens")
    layer.token.assign(np.linspace(-3, 3, 8).reshape(1, 1, 8))
    assert np.array_equal(model(image), before) != used
    assert layer.token.trainable == used


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": "nave"}, "Unknown decoder 'nave'. Did you mean 'naive'"),
        ({"variant": "huge"}, "Unknown variant 'huge'"),
        ({"aux_blocks": [2, 5]}, r"aux_blocks must be ascending .* out of \[1, 2, 3, 4\]"),
        ({"aux_blocks": [2, 1]}, "aux_blocks must be ascending"),
        ({"decoder": "mla", "mla_blocks": [1, 2, 3]}, "mla_blocks must be four blocks"),
        ({"decoder": "mla", "depth": 2}, "mla_blocks must be ascending"),
        ({"decoder": "mla", "mla_blocks": [1, 2, 3, 4], "aux_blocks": [5]}, "aux_blocks must be"),
        ({"num_heads": 3}, "8 channels do not divide into 3 heads"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        models.SETR(3, aux=True, **{**SLIM, **options})
