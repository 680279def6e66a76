"""The shared layers: values from the conventions they follow, any size, any backend's file."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seg.layers import (
    AdaptiveAveragePooling2D,
    BatchNormalization,
    CropLike,
    GroupedConv2D,
    L2Normalization,
    LocalResponseNormalization,
    PadLike,
    PadToStep,
    Preprocess,
    RepeatEdge,
    Resize,
    ResizeBy,
    bilinear_upsampling,
    conv_bn_relu,
    inference_model,
)
from keras_seg.layers.resize import bilinear_matrix


def picture(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    ("convention", "row"),
    [
        ({}, [0, 0.25, 0.75, 1]),
        ({"align_corners": True}, [0, 1 / 3, 2 / 3, 1]),
        ({"half_pixel": False}, [0, 0.5, 1, 1]),
    ],
    ids=str,
)
def test_resize_follows_the_convention(convention, row):
    x = np.array([[0, 1], [2, 3]], "float32")[None, :, :, None]
    y = Resize(size=(4, 4), **convention)(x)
    np.testing.assert_allclose(np.asarray(y)[0, 0, :, 0], row, atol=1e-6)


@pytest.mark.parametrize(
    ("align_corners", "half_pixel"), [(False, True), (True, True), (False, False)]
)
@pytest.mark.parametrize(
    ("source", "target"), [((7, 9), (25, 65)), ((33, 12), (5, 1)), ((1, 1), (4, 6))]
)
def test_matrix_form_of_other_backends_equals_tensorflow(source, target, align_corners, half_pixel):
    x = picture(2, *source, 3)
    rows, columns = (
        np.asarray(bilinear_matrix(s, t, align_corners, "float32", half_pixel))
        for s, t in zip(source, target, strict=True)
    )
    ours = np.einsum("oh,nhwc,pw->nopc", rows, x, columns)
    theirs = Resize(size=target, align_corners=align_corners, half_pixel=half_pixel)(x)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_resize_reads_unknown_sizes_when_it_runs():
    image = keras.Input((None, None, 3))
    low = keras.layers.AveragePooling2D(4)(image)
    model = keras.Model(image, Resize(align_corners=True)(low, image))
    for size in [(37, 50), (64, 32)]:
        x = picture(1, *size, 3)
        assert model.predict(x, verbose=0).shape == (1, *size, 3)
        np.testing.assert_allclose(model.predict(x, verbose=0), model(x), atol=1e-5)


def test_resize_by_a_factor_and_nearest():
    x = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    assert Resize(scale=3)(x).shape == (1, 12, 12, 1)
    y = Resize(size=(2, 2), interpolation="nearest")(x)
    np.testing.assert_array_equal(np.asarray(y)[0, :, :, 0], [[5, 7], [13, 15]])
    # PyTorch's "nearest" is floor(o * in / out): rows 0, 1.33, 2.67 and columns 0, 0.8, 1.6, ...
    y = Resize(size=(3, 5), interpolation="nearest", half_pixel=False)(x)
    expected = np.asarray(x)[0, [0, 1, 2]][:, [0, 0, 1, 2, 3], 0]
    np.testing.assert_array_equal(np.asarray(y)[0, :, :, 0], expected)


def test_resize_to_its_own_size_is_free():
    function = tf.function(lambda x: Resize()(x, x))
    graph = function.get_concrete_function(tf.TensorSpec((1, 8, 8, 1))).graph
    assert "ResizeBilinear" not in {op.type for op in graph.get_operations()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (0, 3)}, "at least 1"),
        ({"size": 3}, "size must be a list or tuple of 2 whole numbers of at least 1, got 3"),
        ({"size": (3, 3), "scale": 2}, "not both"),
        ({"scale": 1.5}, "whole number"),
        ({"interpolation": "cubic"}, "Known: bilinear, nearest"),
        ({"interpolation": "nearest", "align_corners": True}, "has no align_corners form"),
        ({"align_corners": True, "half_pixel": False}, "exclude each other"),
    ],
)
def test_resize_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Resize(**arguments)


def test_resize_needs_a_size():
    with pytest.raises(ValueError, match="Resize\\(size="):
        Resize()(picture(1, 4, 4, 1))
    with pytest.raises(ValueError, match="Resize\\(size="):
        Resize()(keras.Input((4, 4, 1)))


def test_crop_like_cuts_at_the_offset_or_the_centre():
    x = np.arange(49, dtype="float32").reshape(1, 7, 7, 1)
    reference = np.zeros((1, 4, 3, 1), "float32")
    np.testing.assert_array_equal(CropLike(2)(x, reference), x[:, 2:6, 2:5])
    np.testing.assert_array_equal(CropLike("center")(x, reference), x[:, 1:5, 2:5])


def test_crop_like_that_cannot_fit_says_so():
    with pytest.raises(ValueError, match="cannot cut 6 from 7 at offset 2"):
        CropLike(2)(keras.Input((7, 7, 1)), keras.Input((6, 6, 1)))


def test_pad_like_puts_the_odd_zero_behind():
    x = np.ones((1, 2, 3, 1), "float32")
    y = np.asarray(PadLike()(x, np.zeros((1, 5, 4, 1), "float32")))[0, :, :, 0]
    expected = np.zeros((5, 4))
    expected[1:3, 0:3] = 1
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("scale", "align_corners", "expected"),
    [
        (0.75, True, (241, 7)),
        (0.75, False, (240, 6)),
        (0.5, True, (161, 5)),
        (0.7, False, (224, 6)),
        (1.5, False, (481, 13)),
    ],
)
def test_resize_by_a_fraction(scale, align_corners, expected):
    """Sizes of DeepLab v2's scales for 321: 241 and 161 with aligned corners.

    Without, rows and columns lie 1 / scale apart and not 321 / 240.
    """
    layer = ResizeBy(scale, align_corners)
    x = picture(1, 321, 9, 2)
    if align_corners:
        y = Resize(expected, align_corners=True)(x)
    else:
        rows, columns = ((np.arange(n) + 0.5) / scale - 0.5 for n in expected)
        y = np.apply_along_axis(lambda v: np.interp(rows, np.arange(321), v), 1, x)
        y = np.apply_along_axis(lambda v: np.interp(columns, np.arange(9), v), 2, y)
    np.testing.assert_allclose(layer(x), y, atol=2e-4)
    image = keras.Input((None, None, 2))
    got = keras.Model(image, layer(image)).predict(x, verbose=0)
    np.testing.assert_allclose(got, y, atol=2e-4)
    assert layer.compute_output_shape((None, 321, None, 2)) == (None, expected[0], None, 2)


def test_resize_by_counts_in_whole_numbers():
    assert ResizeBy(0.7).compute_output_shape((1, 10, 30, 2)) == (1, 7, 21, 2)  # 0.7 * 30 < 21
    assert ResizeBy(0.5).compute_output_shape((1, 1, 3, 2)) == (1, 1, 1, 2)  # not 0
    with pytest.raises(ValueError, match="above 0"):
        ResizeBy(0)


@pytest.mark.parametrize(
    ("first", "size", "expected"), [(1, (60, 65), (65, 65)), (2, (65, 66), (66, 66))]
)
def test_pad_to_step(first, size, expected):
    layer = PadToStep(8, first)
    x = np.ones((1, *size, 2), "float32")
    y = np.zeros((1, *expected, 2))
    y[:, : size[0], : size[1]] = 1
    np.testing.assert_array_equal(layer(x), y)
    image = keras.Input((None, None, 2))
    np.testing.assert_array_equal(keras.Model(image, layer(image)).predict(x, verbose=0), y)
    assert layer.compute_output_shape((None, *size, 2)) == (None, *expected, 2)
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        PadToStep(0)


def test_repeat_edge():
    x = np.array([[1, 2], [3, 4]], "float32")[None, :, :, None]
    y = np.asarray(RepeatEdge()(x))[0, :, :, 0]
    np.testing.assert_array_equal(y, [[1, 1, 2], [1, 1, 2], [3, 3, 4]])


def test_l2_normalization():
    """By the formula; 1024 channels of 100 have a square sum of 1e7, too large for float16."""
    x = picture(2, 3, 4, 5)
    layer = L2Normalization(epsilon=0.1)
    layer.build(x.shape)
    gamma = np.linspace(1, 2, 5)
    layer.gamma.assign(gamma)
    expected = gamma * x / np.sqrt((x**2).sum(axis=-1, keepdims=True) + 0.1)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5)
    half = L2Normalization(dtype="mixed_float16")(np.full((1, 1, 1, 1024), 100, "float16"))
    np.testing.assert_allclose(half, np.full((1, 1, 1, 1024), 10 / 32), rtol=1e-3)


def test_adaptive_pooling_has_pytorch_bins():
    """Bin i of b over n rows is floor(i n / b) .. ceil((i + 1) n / b): 64 over 6 overlaps."""
    x = picture(1, 64, 7, 2)
    y = np.asarray(AdaptiveAveragePooling2D(6)(x))
    rows = [(0, 11), (10, 22), (21, 32), (32, 43), (42, 54), (53, 64)]
    columns = [(0, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7)]
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            expected = x[0, top:bottom, left:right].mean((0, 1))
            np.testing.assert_allclose(y[0, i, j], expected, atol=1e-5)


@pytest.mark.parametrize("size", [(12, 18), (64, 64), (13, 19), (5, 7), (2, 3)])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_adaptive_pooling_of_known_and_unknown_sizes(bins, size):
    """Known sizes may be pooled by windows: 64 in three of 22, 21 apart; 13 in two of 7."""
    image = keras.Input((None, None, 2))
    model = keras.Model(image, AdaptiveAveragePooling2D(bins)(image))
    x = picture(2, *size, 2)
    edges = [[(i * n // bins, -(-(i + 1) * n // bins)) for i in range(bins)] for n in size]
    expected = np.array(
        [
            [x[:, top:end, left:right].mean((1, 2)) for left, right in edges[1]]
            for top, end in edges[0]
        ]
    ).transpose(2, 0, 1, 3)
    np.testing.assert_allclose(AdaptiveAveragePooling2D(bins)(x), expected, atol=1e-5)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)


def test_many_bins_of_a_long_map_with_16_bit_floats_in_keras():
    """With `set_floatx("float16")`, whole numbers of Keras end at 32767, below 59 x 700."""
    x = picture(1, 700, 2, 1)
    expected = np.asarray(AdaptiveAveragePooling2D(59)(x))
    keras.config.set_floatx("float16")
    found = AdaptiveAveragePooling2D(59, dtype="float32")(x)
    np.testing.assert_array_equal(found, expected)


def test_adaptive_pooling_does_not_overflow_in_float16():
    x = np.full((1, 300, 300, 1), 60.0, "float16")
    y = AdaptiveAveragePooling2D(1, dtype="float16")(x)
    assert float(np.asarray(y)[0, 0, 0, 0]) == 60.0


@pytest.mark.parametrize(
    ("mode", "pixel", "expected"),
    [
        ("none", [10, 20, 30], [10, 20, 30]),
        ("unit", [0, 51, 255], [0, 0.2, 1]),
        ("imagenet", [123.675, 116.28, 160.905], [0, 0, 1]),
        ("caffe", [122.67892, 116.66877, 105.00699], [1, 0, 0]),
        ("nyud", [92.318, 97.203, 117.190], [1, 0, 0]),
        ("hha", [132.431, 94.076, 119.477], [0, 0, 1]),
        (((10.0, 0.0, 0.0), 2.0), [12, 4, 0], [1, 2, 0]),
    ],
)
def test_preprocess(mode, pixel, expected):
    x = np.array(pixel, "float32")[None, None, None]
    np.testing.assert_allclose(np.asarray(Preprocess(mode)(x))[0, 0, 0], expected, atol=1e-5)


def test_preprocess_averages_its_statistics_for_other_channels():
    x = np.full((1, 1, 1, 1), np.mean([123.675, 116.28, 103.53]), "float32")
    np.testing.assert_allclose(np.asarray(Preprocess("imagenet")(x)), 0, atol=1e-5)


def test_preprocess_refuses():
    with pytest.raises(ValueError, match="Did you mean 'imagenet'"):
        Preprocess("imagnet")
    with pytest.raises(ValueError, match="positive"):
        Preprocess((0.0, 0.0))
    with pytest.raises(ValueError, match="must hold numbers, got None"):
        Preprocess((None, 1.0))
    with pytest.raises(ValueError, match="2 values for 3 channels"):
        Preprocess(((0.0, 1.0), 1.0))(picture(1, 2, 2, 3))


@pytest.mark.parametrize("factor", [2, 8, 32])
def test_bilinear_deconvolution_equals_resizing_inside(factor):
    """A k = 2s kernel with a crop of s/2 is half-pixel interpolation, except in a border of s/2."""
    image = keras.Input((6, 5, 2))
    model = keras.Model(image, bilinear_upsampling(image, 2 * factor, factor, name="up"))
    x = picture(1, 6, 5, 2)
    half = factor // 2
    ours = np.asarray(model(x))[:, half:-half, half:-half]
    theirs = np.asarray(Resize(scale=factor)(x))
    inside = (slice(None), slice(half, -half), slice(half, -half))
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-5)
    assert not model.trainable_variables


def test_strided_convolution_pads_as_pytorch():
    """On an even size the padding shows row -1, not row H; Keras' "same" does the reverse."""
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, conv_bn_relu(image, 1, strides=2, name="a"))
    kernel = np.zeros((3, 3, 1, 1), "float32")
    kernel[0, 0] = 1  # takes the pixel above and to the left
    model.get_layer("a_conv").set_weights([kernel])
    x = np.arange(1, 17, dtype="float32").reshape(1, 4, 4, 1)
    y = np.asarray(model(x))[0, :, :, 0] * np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(y, [[0, 0], [0, 6]], atol=1e-5)


def test_batch_normalization_file_does_not_depend_on_the_backend():
    config = BatchNormalization(name="bn").get_config()
    assert "synchronized" not in config
    assert config["momentum"] == 0.9 and config["epsilon"] == 1e-5
    assert BatchNormalization.from_config(config).synchronized  # these tests run on TensorFlow


def test_inference_model_drops_the_auxiliary_output():
    image = keras.Input((4, 4, 1), name="image")
    logits = keras.layers.Conv2D(2, 1, name="a")(image)
    aux = keras.layers.Conv2D(2, 1, name="b")(image)
    model = keras.Model(image, {"logits": logits, "aux": aux})
    single = inference_model(model)
    x = picture(1, 4, 4, 1)
    np.testing.assert_array_equal(single(x), model(x)["logits"])
    assert [layer.name for layer in single.layers] == ["image", "a"]
    with pytest.raises(ValueError, match="'logits'"):
        inference_model(keras.Model(image, {"main": logits, "aux": aux}))


@pytest.mark.parametrize("channels", [2, 8])
def test_local_response_normalization_sums_over_neighbouring_channels(channels):
    x = 30 * picture(1, 3, 4, channels)
    expected = np.empty(x.shape)
    for c in range(channels):
        near = x[..., max(c - 2, 0) : c + 3].astype("float64")
        expected[..., c] = x[..., c] / (1 + 1e-2 / 5 * (near**2).sum(axis=-1)) ** 0.75
    layer = LocalResponseNormalization(5, alpha=1e-2)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5)
    half = LocalResponseNormalization(5, alpha=1e-2, dtype="mixed_float16")(x)
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    np.testing.assert_allclose(half, expected, rtol=2e-2)
    with pytest.raises(ValueError, match="odd"):
        LocalResponseNormalization(4)


def test_grouped_convolution_is_keras_own():
    theirs = keras.layers.Conv2D(8, 3, padding="same", groups=2, bias_initializer="normal")
    ours = GroupedConv2D.from_config(theirs.get_config())
    x = picture(2, 7, 9, 6)
    expected = theirs(x)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(x), expected, atol=1e-5)
