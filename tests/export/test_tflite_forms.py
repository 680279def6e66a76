"""Convolutions in the forms that LiteRT computes faster: the same values, by other operators."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_seg.export import tflite
from keras_seg.export.equalize import folded
from keras_seg.export.graph import StaticGraph
from keras_seg.layers import Preprocess, Resize


def randomised(model):
    rng = np.random.default_rng(0)
    for variable in model.weights:
        low = 0.5 if "variance" in variable.path else -1
        variable.assign(rng.uniform(low, 1, variable.shape))
    return model


def picture(model):
    """Pixels from 0 to 255, both among them."""
    image = np.random.default_rng(1).uniform(0, 255, (1, *model.input.shape[1:]))
    image[0, 0, 0], image[0, -1, -1] = 0, 255
    return image.astype("float32")


def converted(model, precision="float32", **options):
    """(operators, largest error relative to the largest value) of a file of the network."""
    image = picture(model)
    size, channels = model.input.shape[1:3], model.input.shape[3]
    graph = StaticGraph(folded(model) if precision == "int8" else model, size, channels, "logits")
    content = tflite.converter_of(graph, precision, [image], **options).convert()
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(given["index"], image)
    interpreter.invoke()
    found, expected = interpreter.get_tensor(result["index"]), model(image).numpy()
    assert found.shape == expected.shape
    operators = {op["op_name"] for op in interpreter._get_ops_details()} - {"DELEGATE"}
    return operators, np.abs(found - expected).max() / np.abs(expected).max()


def no_worse(model):
    """Operators of the int8 file, whose error is not above that of the forms as they are."""
    operators, error = converted(model, "int8")
    _, before = converted(model, "int8", changes=())
    assert error < 1.3 * before + 0.004  # half a step of the output
    return operators


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [(1, 1), (2, 1), (3, 1), ((5, 4), 1)]
    + [(2, 2), (3, 2), (4, 2), ((2, 5), 2), (5, 3), (7, 4), (32, 16)],
)
def test_transposed_convolutions(kernel, stride, padding):
    """With what follows pixel by pixel, and at the borders."""
    image = keras.Input((11, 14, 3), name="image")
    x = layers.Conv2DTranspose(4, kernel, strides=stride, padding=padding)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    model = randomised(keras.Model(image, layers.Conv2D(2, 1)(x)))
    operators, error = converted(model)
    assert error < 1e-5
    assert operators <= {"PAD", "CONV_2D", "DEPTH_TO_SPACE", "SLICE"}
    assert "TRANSPOSE_CONV" not in no_worse(model)


@pytest.mark.parametrize(
    ("padding", "kernel", "more"),
    [("same", 3, 0), ("same", 3, 1), ("same", 5, 0), ("same", 5, 1), ("same", 4, 1)]
    + [("valid", 3, 0), ("valid", 3, 1), ("valid", 4, 0)],
)
def test_transposed_convolutions_of_a_size_that_was_given(padding, kernel, more):
    """One row less than the stride makes of the image, and one that no tap reaches."""
    image = keras.Input((11, 14, 3), name="image")
    options = {"strides": 2, "padding": padding, "output_padding": more}
    x = layers.Conv2DTranspose(2, kernel, **options)(image)
    operators, error = converted(randomised(keras.Model(image, x)))
    assert error < 1e-5
    assert "TRANSPOSE_CONV" not in operators


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (1, 2)])
def test_transposed_convolutions_of_mostly_zeros_stay(kernel, stride):
    """A row that no tap reaches, which is none of a place; and a kernel smaller than its places."""
    image = keras.Input((11, 14, 3), name="image")
    more = 1 if kernel == 4 else None
    x = layers.Conv2DTranspose(2, kernel, strides=stride, output_padding=more)(image)
    operators, error = converted(randomised(keras.Model(image, x)))
    assert error < 1e-5
    assert operators == {"TRANSPOSE_CONV"}


def test_a_transposed_convolution_of_one_pixel_stays():
    """As a convolution it would multiply mostly zeros (DeconvNet's first)."""
    image = keras.Input((1, 1, 8), name="image")
    x = layers.Conv2DTranspose(4, 7)(image)
    operators, error = converted(randomised(keras.Model(image, x)))
    assert error < 1e-5
    assert operators == {"TRANSPOSE_CONV"}


def test_transposed_convolutions_with_unequal_strides_stay():
    image = keras.Input((4, 5, 3), name="image")
    x = layers.Conv2DTranspose(2, 3, strides=(1, 2), padding="same")(image)
    operators, error = converted(randomised(keras.Model(image, x)))
    assert error < 1e-5
    assert operators == {"TRANSPOSE_CONV"}


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_convolutions_behind_an_enlargement(factor, kernel):
    image = keras.Input((5, 6, 3), name="image")
    x = Resize(scale=factor, interpolation="nearest")(image)
    x = layers.Conv2D(4, kernel, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    model = randomised(keras.Model(image, layers.Conv2D(2, 1)(x)))
    operators, error = converted(model)
    assert error < 1e-5
    assert operators == {"CONV_2D", "DEPTH_TO_SPACE"}
    assert "RESIZE_NEAREST_NEIGHBOR" not in no_worse(model)


@pytest.mark.parametrize(
    ("size", "interpolation", "options"),
    [
        ((10, 13), "nearest", {}),  # no whole factor
        ((10, 18), "nearest", {}),  # two factors
        ((10, 12), "bilinear", {}),
        ((10, 12), "nearest", {"padding": "valid"}),
        ((10, 12), "nearest", {"dilation_rate": 2}),
        ((10, 12), "nearest", {"strides": 2}),
        ((10, 12), "nearest", {"filters": 40}),  # as many weights would slow it down
    ],
)
def test_other_enlargements_stay(size, interpolation, options):
    image = keras.Input((5, 6, 3), name="image")
    x = Resize(size, interpolation=interpolation)(image)
    x = layers.Conv2D(**{"filters": 4, "kernel_size": 3, "padding": "same"} | options)(x)
    operators, error = converted(randomised(keras.Model(image, x)))
    assert error < 1e-5
    assert f"RESIZE_{interpolation.upper()}".replace("NEAREST", "NEAREST_NEIGHBOR") in operators
    assert "DEPTH_TO_SPACE" not in operators


def test_an_enlargement_that_two_read_stays():
    image = keras.Input((5, 6, 3), name="image")
    x = Resize(scale=2, interpolation="nearest")(image)
    x = layers.Add()([layers.Conv2D(3, 3, padding="same")(x), x])
    operators, error = converted(randomised(keras.Model(image, x)))
    assert error < 1e-5
    assert "RESIZE_NEAREST_NEIGHBOR" in operators


@pytest.mark.parametrize("size", [(32, 46), (33, 47), (35, 64)])
@pytest.mark.parametrize(
    ("kernel", "stride", "before", "padding"),
    [
        (7, 2, 3, "valid"),  # ResNet
        (3, 2, 1, "valid"),
        (3, 2, 0, "same"),
        (4, 2, 1, "same"),
        (5, 3, ((2, 0), (1, 3)), "same"),
        (11, 4, 0, "valid"),  # AlexNet; of some sizes no tap reaches the last pixels
        (11, 4, 20, "valid"),
    ],
)
def test_a_strided_convolution_of_an_image_in_8_bits(kernel, stride, before, padding, size):
    image = keras.Input((*size, 3), name="image")
    x = Preprocess("imagenet")(image)
    x = layers.ZeroPadding2D(before)(x) if before else x
    x = layers.Conv2D(6, kernel, strides=stride, padding=padding, activation="relu")(x)
    model = randomised(keras.Model(image, x))
    operators = no_worse(model)
    assert operators - {"PAD"} <= {
        "QUANTIZE",
        "RESHAPE",
        "DEPTHWISE_CONV_2D",
        "SPACE_TO_DEPTH",
        "CONV_2D",
        "DEQUANTIZE",
    }
    reached = kernel != 11 or before or size == (35, 47)
    if reached:
        assert "SPACE_TO_DEPTH" in operators
    assert "SPACE_TO_DEPTH" not in converted(model)[0]


@pytest.mark.parametrize("mode", ["imagenet", "caffe", "unit", ([100.0] * 3, [3.0, 4.0, 5.0])])
@pytest.mark.parametrize("size", [(9, 32), (9, 30), (9, 17), (9, 5)])
def test_preprocessing_in_8_bits(mode, size):
    """Of any width; exact but for half a step."""
    image = keras.Input((*size, 3), name="image")
    model = keras.Model(image, Preprocess(mode)(image))
    operators, error = converted(model, "int8")
    assert error < 0.012
    wanted = "CONV_2D" if mode == "caffe" else "DEPTHWISE_CONV_2D"  # which turns RGB to BGR
    assert wanted in operators


@pytest.mark.parametrize(("size", "stride"), [((6, 8), 2), ((6, 9), 3)])
def test_every_other_pixel(size, stride):
    image = keras.Input((*size, 5), name="image")
    corners = [(i, j) for i in range(stride) for j in range(stride)]
    parts = [image[:, i::stride, j::stride] for i, j in corners[::-1]]
    operators, error = converted(keras.Model(image, layers.Concatenate()(parts)))
    assert error == 0
    assert "STRIDED_SLICE" not in operators and "SPACE_TO_DEPTH" in operators


@pytest.mark.parametrize(
    "part",
    [
        (slice(None), slice(None, None, 2), slice(None, None, 2)),  # of 7 columns
        (slice(None), slice(2, None, 2), slice(None, 6, 2)),
        (slice(None), slice(None, None, 2)),
        (slice(None), slice(None, None, 2), slice(None, None, 3)),
        (slice(None), slice(None, None, 2), slice(None, None, 2), slice(None, None, 2)),
        (Ellipsis, slice(None, None, 2), slice(None)),
        (slice(None), slice(1, -1), slice(1, -1)),
        (slice(None), slice(None, None, -2), slice(None, None, -2)),
    ],
)
def test_other_slices_stay(part):
    image = keras.Input((6, 7, 5), name="image")
    operators, error = converted(keras.Model(image, 2 * image[part]))
    assert error == 0
    assert "SPACE_TO_DEPTH" not in operators


def test_an_activation_by_itself_in_8_bits():
    image = keras.Input((8, 6, 4), name="image")
    x = layers.Conv2D(4, 3, padding="same")(image)
    y = layers.Conv2D(4, 3, padding="same")(image)
    x = layers.ReLU()(layers.Concatenate()([x, y]))
    model = randomised(keras.Model(image, layers.Conv2D(3, 3, padding="same")(x)))
    operators = no_worse(model)
    assert "MAX_POOL_2D" in operators and "RELU" not in operators
    assert "MAX_POOL_2D" not in converted(model)[0]


def test_layers_are_still_named():
    """The operators of a changed part carry the name of the layer that they come from."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2DTranspose(4, 4, strides=2, padding="same", name="upwards")(image)
    graph = StaticGraph(keras.Model(image, x), (8, 8), 3, "logits")
    content = tflite.converter_of(graph).convert()
    names = tflite.values(content, np.zeros((1, 8, 8, 3), "float32"), np.asarray)
    assert all("upwards" in name or name.startswith("Identity") for name in names), [*names]
