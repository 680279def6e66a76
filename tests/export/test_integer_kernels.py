"""What LiteRT and its quantisers get wrong in integers, unless the export sees to it."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_seg.export import export

SIZE = (16, 24)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3)).astype("uint8")


def network(between):
    """A convolution, what is tested, and logits."""
    keras.utils.set_random_seed(0)
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.Rescaling(1 / 64, -2, name="scale")(image)
    x = layers.Conv2D(8, 3, padding="same", kernel_initializer="he_normal", name="before")(x)
    return keras.Model(image, layers.Conv2D(4, 1, name="logits")(between(x)), name="net")


def differences(tmp_path, model, *quantize):
    """The largest difference of each file's logits, in standard deviations."""
    report = export(
        model,
        tmp_path / "out",
        formats=("tflite",),
        quantize=quantize,
        calibration=IMAGES,
        bounds=None,
        benchmark=False,
        progress=False,
    )
    return [row["difference"] for row in report.rows[2:]]


def choice(x):
    return ops.where(x > 0, x, 0.25 * x)


def larger(x):
    """A leaky ReLU by hand."""
    return ops.maximum(x, 0.25 * x)


def smaller(x):
    return ops.minimum(x, -0.25 * x)


def total(x):
    return ops.sum(x, axis=-1, keepdims=True)


def total_of_the_map(x):
    return ops.sum(x, axis=(1, 2))[:, None, None] * 0.1 + x


def far_bounds(x):
    return ops.clip(x, -1e12, 1e12)


def far_bound_read_elsewhere(x):
    return ops.minimum(x, 1e12) + 0.5 * x


BOUNDS = np.array([np.inf, 0.5, 1e6, 0.3, 200, 1e12, 1, 0.2], "float32")


def far_and_near_bounds(x):
    return ops.maximum(ops.minimum(x, BOUNDS), -BOUNDS[::-1])


def soft_shrink(x):
    return ops.soft_shrink(x, 0.5)


def both_sides(x):
    return ops.maximum(x, 0.0) + 0.2 * ops.minimum(x, 0.0)


def positive_and_all(x):
    return ops.where(x > 0, x, 0.0) + 0.3 * x


def negative_in_another_shape(x):
    flat = ops.minimum(ops.reshape(x, (-1, SIZE[0] * SIZE[1], 8)), 0.0)
    return ops.reshape(flat, (-1, *SIZE, 8)) + 0.4 * x


def larger_of_what_is_moved(x):
    """The maximum cuts off much of the range of what is moved, and read elsewhere whole."""
    moved = ops.pad(ops.flip(x, 2), ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]
    return ops.maximum(2 * ops.tanh(x) + 3, moved) + 0.5 * x


def larger_of_two_channels(x):
    first, *others = ops.unstack(x, axis=-1)
    return ops.stack([ops.maximum(first, others[0] + 3), *[0.5 * y for y in others]], -1)


@pytest.mark.parametrize(
    ("between", "quantize"),
    [
        (far_bounds, ("int8", "int16x8")),
        (far_and_near_bounds, ("int16x8",)),
        (larger_of_what_is_moved, ("int8", "uint8")),
        (larger_of_two_channels, ("int8",)),
        (far_bound_read_elsewhere, ("int8", "int16x8")),
        (soft_shrink, ("int16x8",)),
        (layers.ReLU(3.0, negative_slope=0.1, threshold=0.05), ("int8", "int16x8")),
        (both_sides, ("int8", "int16x8")),
        (ops.celu, ("int8",)),
        (positive_and_all, ("int8", "int16x8")),
        (negative_in_another_shape, ("int8",)),
        (choice, ("int8", "int16x8")),
        (layers.Activation("selu"), ("int8", "int16x8")),
        (larger, ("int8", "uint8")),
        (smaller, ("int8",)),
        (total, ("int16x8",)),
        (total_of_the_map, ("int16x8",)),
        (layers.UnitNormalization(), ("int8", "int16x8")),
    ],
    ids=[
        *"far far-and-near moved unstacked far-elsewhere soft-shrink relu".split(),
        *["both-sides", "celu", "where-zero", "reshaped", "where", "selu", "maximum", "minimum"],
        *["sum", "sum-of-the-map", "unit-normalization"],
    ],
)
def test_integer_files_compute_the_same(tmp_path, between, quantize):
    """To what rounding explains; where they do not, it is by a deviation and more."""
    found = differences(tmp_path, network(between), *quantize)
    assert len(found) == len(quantize) and max(found) < 0.3


def test_what_is_clipped_is_compared_whole(tmp_path):
    """`x > 0` of an x that another layer clips at 0; a step is not there in its rounding."""
    net = network(lambda x: ops.cast(x > 0, "float32") + 0.3 * ops.minimum(x, 0.0))
    exporting = dict(formats=("tflite",), bounds=None, benchmark=False, progress=False)
    quantize = ("int8", "int16x8")
    report = export(net, tmp_path / "out", quantize=quantize, calibration=IMAGES, **exporting)
    assert max(row["mean_difference"] for row in report.rows[2:]) < 0.1


def test_a_constant_that_is_compared_and_computed_with(tmp_path):
    def equal(x):
        return ops.cast(ops.equal(x, 0.5), "float32") + 0.5 * x

    message = "model_int16x8.tflite .*EQUAL of the layer 'act': it compares float32 with int16"
    with pytest.raises(ValueError, match=message):
        differences(tmp_path, network(layers.Lambda(equal, name="act")), "int16x8")


def test_a_normalisation_of_the_image_itself(tmp_path):
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.BatchNormalization(name="first")(image)
    model = keras.Model(image, layers.Conv2D(4, 3, padding="same")(x))
    model.get_layer("first").set_weights(
        [np.full(3, 2.0), np.ones(3), np.full(3, 120.0), np.full(3, 5e3)]
    )
    assert max(differences(tmp_path, model, "int8", "int16x8")) < 0.3


def gated(x):
    """Channels by a gate whose inner layer is dead."""
    gate = layers.GlobalAveragePooling2D()(x)
    dead = keras.initializers.Constant(-100)
    gate = layers.Dense(4, activation="relu", bias_initializer=dead, name="dead")(gate)
    gate = layers.Dense(8, activation="sigmoid", name="gate")(gate)
    return layers.Multiply()([x, layers.Reshape((1, 1, 8))(gate)])


@pytest.mark.parametrize(
    "never", [lambda x: ops.where(x > 90.0, 2 * x, 0.0), lambda x: ops.maximum(x - 90.0, 0.0)]
)
def test_a_choice_that_is_never_made_is_named(tmp_path, never):
    model = network(layers.Lambda(never, output_shape=(*SIZE, 8), name="choice"))
    message = r"CONV_2D of the layer 'logits': what it reads is zeros alone .*\(choice_?1?/"
    with pytest.raises(ValueError, match=message):
        differences(tmp_path, model, "int16x8")


def test_a_layer_that_returns_zeros_alone(tmp_path):
    assert max(differences(tmp_path, network(gated), "int8", "uint8")) < 0.3
    message = "FULLY_CONNECTED of the layer 'gate': what it reads is zeros alone"
    with pytest.raises(ValueError, match=f"model_int16x8.tflite .*{message}"):
        differences(tmp_path, network(gated), "int16x8")
