"""Discriminators: what they see, how large they are, and that they train, save and run anywhere.

They judge label maps and make none, so `tests/test_contract.py` does not have them. Parity of
`PatchGAN` is in test_golden.py.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seg import models

SLIM = [
    ("PatchGAN", {"filters": 4, "receptive_field": 16}),
    ("PatchGAN", {"filters": 4, "form": "torch7"}),
    ("PixelGAN", {"filters": 4}),
    ("LargeFOVAdversary", {"filters": 6}),
    ("SmallFOVAdversary", {"filters": 6, "light": True}),
]
each_slim = pytest.mark.parametrize(
    ("name", "options"), SLIM, ids=[f"{name}-{options}" for name, options in SLIM]
)
CHANNELS = 5


def maps(height, width, batch=2):
    shape = (batch, height, width, CHANNELS)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def build(name, options):
    return getattr(models, name)(CHANNELS, **options)


def test_they_are_no_segmentation_networks():
    assert not {name for name, _ in SLIM} & set(models.list_models())


@pytest.mark.parametrize(
    ("name", "channels", "options", "parameters"),
    [
        ("PatchGAN", 6, {}, 2_768_705),
        ("PatchGAN", 22, {}, 2_785_089),
        ("PatchGAN", 24, {}, 2_787_137),
        ("PatchGAN", 6, {"form": "torch7"}, 2_769_601),
        ("PatchGAN", 22, {"form": "torch7"}, 2_785_985),
        ("PatchGAN", 24, {"form": "torch7"}, 2_788_033),
        # By hand: 6 * 64 + 64, 64 * 128, two numbers of BN for each of 128, 128.
        ("PixelGAN", 6, {}, 448 + 8192 + 256 + 128),
        ("PixelGAN", 6, {"form": "torch7"}, 448 + 8320 + 256 + 129),
        ("LargeFOVAdversary", 63, {}, 2_387_458),
        ("LargeFOVAdversary", 21, {}, 2_351_170),
        ("LargeFOVAdversary", 63, {"light": True}, 907_778),
        ("LargeFOVAdversary", 21, {"light": True}, 871_490),
        ("SmallFOVAdversary", 63, {}, 1_609_090),
        ("SmallFOVAdversary", 21, {}, 1_572_802),
        ("SmallFOVAdversary", 63, {"light": True}, 526_722),
        ("SmallFOVAdversary", 21, {"light": True}, 490_434),
    ],
)
def test_parameters(name, channels, options, parameters):
    model = getattr(models, name)(channels, **options)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_weights) == parameters


def seen(model, layer, size):
    """Rows and columns of the input that the middle score of `layer` depends on."""
    scores = keras.Model(model.input, model.get_layer(layer).output)
    x = tf.constant(maps(size, size, batch=1))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = scores(x)
        middle = tf.reduce_sum(y[:, y.shape[1] // 2, y.shape[2] // 2])
    gradient = np.abs(tape.gradient(middle, x)).sum((0, 3))
    return tuple(int(np.ptp(np.flatnonzero(gradient.sum(axis)))) + 1 for axis in (1, 0))


@pytest.mark.parametrize("size", [16, 34, 70, 142, 286, 574])
def test_a_patch_has_the_size_of_its_name(size):
    model = models.PatchGAN(CHANNELS, receptive_field=size, filters=2)
    assert seen(model, "logits", 2 * size) == (size, size)


def test_a_pixel_is_a_pixel():
    assert seen(models.PixelGAN(CHANNELS, filters=2), "logits", 9) == (1, 1)


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize(
    ("build", "size"), [(models.LargeFOVAdversary, 34), (models.SmallFOVAdversary, 18)]
)
def test_fields_of_view_of_the_paper(build, size, light):
    """Many channels, so that a pool does not hide the border of the field."""
    model = build(CHANNELS, filters=48, light=light)
    assert seen(model, "score", 3 * size) == (size, size)


def test_published_size():
    model = models.PatchGAN(6, filters=2)
    assert model.compute_output_shape((1, 256, 256, 6)) == (1, 30, 30, 1)


@each_slim
def test_any_size(name, options):
    model = build(name, options)
    for size in [(37, 50), (64, 48)]:
        y = model.predict(maps(*size), verbose=0)
        if name == "PatchGAN":
            step = 2 if options.get("receptive_field") == 16 else 8
            assert y.shape == (2, size[0] // step - 2, size[1] // step - 2, 1)
        else:
            assert y.shape == ((2, *size, 1) if name == "PixelGAN" else (2, 2))
        assert np.isfinite(y).all()


@each_slim
def test_fit_learns_to_tell_two_kinds_of_maps(name, options):
    model = build(name, options)
    x = maps(40, 33, batch=4)
    truth = np.array([1, 0, 1, 0])
    x[truth == 1] = np.abs(x[truth == 1])
    if model.output.shape[1:] == (2,):
        loss, target = keras.losses.SparseCategoricalCrossentropy(from_logits=True), truth
    else:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        target = np.ones((4, *model(x).shape[1:])) * truth[:, None, None, None]
    model.compile(keras.optimizers.Adam(2e-2), loss=loss)
    history = model.fit(x, target, batch_size=4, epochs=10, verbose=0).history["loss"]
    assert history[-1] < 0.9 * history[0], history


@each_slim
def test_file_and_weights(name, options, tmp_path):
    model = build(name, options)
    x = maps(37, 50)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), model(x))
    again = build(name, {**options, "weights": tmp_path / "model.keras"})
    np.testing.assert_array_equal(again(x), model(x))


@each_slim
def test_mixed_precision_gives_float32_logits(name, options):
    exact = build(name, options)
    keras.config.set_dtype_policy("mixed_float16")
    mixed = build(name, options)
    mixed.set_weights(exact.get_weights())
    x = maps(37, 50)
    y = mixed(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    expected = np.asarray(exact(x))
    assert np.abs(y - expected).max() < 0.02 * np.abs(expected).max()


def test_bad_arguments():
    with pytest.raises(ValueError, match="one of 16, 34, 70, 142, 286, 574 .*got 71"):
        models.PatchGAN(6, receptive_field=71)
    with pytest.raises(ValueError, match="Unknown form of pix2pix 'torch'. Did you mean 'torch7'"):
        models.PixelGAN(6, form="torch")
    for name, options in SLIM:
        with pytest.raises(ValueError, match="channels must be a whole number of at least 1"):
            getattr(models, name)(0, **options)
    with pytest.raises(ValueError, match="filters must be a multiple of 3"):
        models.LargeFOVAdversary(21, filters=64)
    with pytest.raises(ValueError, match="The height 23 is too small: at least 24 is needed"):
        models.PatchGAN(CHANNELS, filters=2)(maps(23, 40))


def test_generator_at_any_size_and_depth():
    """At multiples of 2**depth nothing is cut; the forms differ where their releases do."""
    image = np.random.default_rng(0).uniform(0, 255, (1, 37, 50, 3)).astype("float32")
    model = models.Pix2PixGenerator(3, depth=8, filters=2, output="image")
    y = np.asarray(model(image))
    assert y.shape == (1, 37, 50, 3) and np.abs(y).max() <= 1
    dropped = {
        form: [
            layer.name
            for layer in models.Pix2PixGenerator(3, filters=2, form=form).layers
            if isinstance(layer, keras.layers.Dropout)
        ]
        for form in ("torch7", "pytorch")
    }
    assert dropped["torch7"] == ["up8_dropout", "up7_dropout", "up6_dropout"]
    assert dropped["pytorch"] == ["up7_dropout", "up6_dropout", "up5_dropout"]


def test_generator_refuses():
    with pytest.raises(ValueError, match="depth must be a whole number of at least 2, got 1"):
        models.Pix2PixGenerator(3, depth=1)
    with pytest.raises(ValueError, match="Unknown output of Pix2PixGenerator 'tanh'"):
        models.Pix2PixGenerator(3, output="tanh")
