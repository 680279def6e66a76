"""Sliding window, overlap-tile and resize: the vectors and invariants of their sources."""

import keras
import numpy as np
import pytest

from keras_seg.inference.resize import resize
from keras_seg.inference.windows import OverlapTile, SlidingWindow, pad_to_multiple, window_starts


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype("float32")


@pytest.mark.parametrize(
    ("length", "window", "starts"),
    [
        (1024, 713, [0, 311]),
        (2048, 713, [0, 476, 952, 1335]),
        (512, 473, [0, 39]),
        (473, 473, [0]),
        (683, 473, [0, 210]),
        (300, 473, [0]),
    ],
)
def test_windows_lie_where_semseg_puts_them(length, window, starts):
    stride = SlidingWindow(window).stride[0]
    assert stride == {713: 476, 473: 316}[window]
    assert window_starts(length, window, stride) == starts


def test_windows_with_a_stride_of_their_own():
    # mmsegmentation's windows are the same where the image is not smaller than the window.
    assert window_starts(2049, 769, 513) == [0, 513, 1026, 1280]
    assert window_starts(2048, 768, 512) == [0, 512, 1024, 1280]
    assert window_starts(683, 512, 341) == [0, 171]


@pytest.mark.parametrize("weighting", ["uniform", "gaussian"])
@pytest.mark.parametrize("size", [(1, 1), (7, 30), (16, 12), (17, 13), (45, 33), (64, 12)])
def test_every_pixel_is_covered_and_overlaps_are_averaged(size, weighting):
    image = noise(*size, 2)
    identity = SlidingWindow((16, 12), weighting=weighting)(image, lambda part: part)
    constant = SlidingWindow((16, 12), (5, 3), weighting)(image, lambda part: 0 * part + 7)
    if weighting == "uniform":
        np.testing.assert_array_equal(identity, image)
        np.testing.assert_array_equal(constant, np.full_like(image, 7))
    else:
        np.testing.assert_allclose(identity, image, rtol=1e-6)
        np.testing.assert_allclose(constant, 7, rtol=1e-6)


def test_gaussian_weights_favour_the_middle_of_a_window():
    image = np.zeros((1, 12, 1), "float32")

    def network(part):
        network.calls += 1
        return np.full_like(part, network.calls)

    network.calls = 0
    # Windows 0..8 (value 1) and 4..12 (value 2): pixel 5 is nearer the middle of the first.
    result = SlidingWindow((1, 8), (1, 4), "gaussian")(image, network)[0, :, 0]
    assert result[:4].tolist() == [1] * 4 and result[8:].tolist() == [2] * 4
    assert 1 < result[5] < 1.5 < result[6] < 2


def test_a_small_image_is_padded_evenly_with_the_mean_colour():
    seen = []
    image = noise(5, 4, 3)
    result = SlidingWindow(8)(image, lambda part: seen.append(part) or part)
    np.testing.assert_array_equal(result, image)
    np.testing.assert_array_equal(seen[0][1:6, 2:6], image)
    border = np.ones((8, 8), bool)
    border[1:6, 2:6] = False
    assert np.unique(seen[0][border], axis=0).tolist() == [
        pytest.approx([123.675, 116.28, 103.53], rel=1e-6)
    ]


def test_an_image_as_large_as_the_window_is_run_once():
    image = noise(9, 9, 3)
    seen = []
    SlidingWindow(9)(image, lambda part: seen.append(part) or part)
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "window must be"),
        (((8, 8, 8),), "window must be"),
        ((8, 9), "pixels would be left out"),
        ((8, 0), "stride must be"),
        ((8, 4, "hann"), "weighting must be"),
    ],
)
def test_bad_windows_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SlidingWindow(*arguments)


def valid_network():
    """A small U of valid convolutions: two poolings (stride 4), 3 pixels lost a side."""
    image = keras.Input((None, None, 2))
    x = keras.layers.Conv2D(4, 3, activation="tanh")(image)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Conv2D(4, 2, activation="tanh")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Conv2DTranspose(4, 2, strides=2)(x)
    x = keras.layers.Conv2DTranspose(4, 2, strides=2)(x)
    x = keras.layers.Conv2D(3, 3)(x)
    model = keras.Model(image, x)
    return lambda part: model.predict_on_batch(part[None])[0]


def test_overlap_tiles_equal_one_run_over_the_mirrored_image():
    network = valid_network()
    image = noise(37, 50, 2) / 255
    window, output = (28, 36), network(np.zeros((28, 36, 2), "float32")).shape[:2]
    tiles = OverlapTile(window, output, step=tuple(n - n % 4 for n in output))
    result = tiles(image, network)
    (top, left) = tiles.border
    # The whole image in one run: mirrored by the lost border and on to a size that can be run.
    pads = [(top, 80 - 37 - top), (left, 80 - 50 - left), (0, 0)]
    whole = network(np.pad(image, pads, mode="reflect"))
    assert result.shape == (37, 50, 3)
    np.testing.assert_allclose(result, whole[:37, :50], atol=1e-5, rtol=0)
    # Tiles side by side are not enough: 22 is no multiple of the network's stride of 4.
    assert output == (22, 30)
    assert np.abs(OverlapTile(window, output, step=output)(image, network) - result).max() > 1e-3


def test_overlap_tile_of_the_unet_paper():
    tiles = OverlapTile(572, 388)
    assert tiles.border == (92, 92)
    assert tiles.step == (384, 384)  # the largest multiple of the network's stride within 388


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 40)])
def test_mirroring_reaches_far_beyond_a_small_image(size):
    image = noise(*size, 1)
    seen = []

    def network(part):
        seen.append(part)
        return part[10:14, 10:14]

    result = OverlapTile(24, 4, step=4)(image, network)
    np.testing.assert_array_equal(result, image)
    # Once around the image and back is a period of 2 (n - 1) pixels.
    rows, columns = (np.arange(-10, 14) % max(1, 2 * (n - 1)) for n in size)
    rows, columns = (
        np.minimum(i, 2 * (n - 1) - i) for i, n in zip((rows, columns), size, strict=True)
    )
    np.testing.assert_array_equal(seen[0], image[rows][:, columns])


def test_an_uneven_border_is_refused():
    with pytest.raises(ValueError, match="must be even"):
        OverlapTile(16, 3)
    with pytest.raises(ValueError, match="must be even"):
        OverlapTile(16, 18)
    with pytest.raises(ValueError, match="longer than the network's output"):
        OverlapTile(16, 4, step=8)


def test_resize_is_half_pixel_and_antialiased():
    small = np.array([[0, 1], [2, 3]], "float32")[..., None]
    assert resize(small, (4, 4))[0, :, 0].tolist() == [0, 0.25, 0.75, 1]
    large = np.arange(16, dtype="float32").reshape(4, 4, 1)
    shrunk = resize(large, (2, 2)).ravel()
    np.testing.assert_allclose(shrunk, [3.571429, 5.142859, 9.857145, 11.428574], rtol=1e-5)


@pytest.mark.parametrize("size", [(5, 9), (31, 3), (13, 17)])
def test_resized_probabilities_still_add_up_to_one(size):
    scores = np.random.default_rng(0).random((13, 17, 5)).astype("float32")
    scores /= scores.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(resize(scores, size).sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "size"), [((8,), (16, 24)), ((8, 1), (17, 25)), ((1,), (16, 19))]
)
def test_padding_to_a_multiple_is_at_the_bottom_and_right(arguments, size):
    image = noise(16, 19, 1)
    padded = pad_to_multiple(image, *arguments)
    assert padded.shape == (*size, 1)
    np.testing.assert_array_equal(padded[:16, :19], image)
    assert (padded[16:] == 127.5).all() and (padded[:, 19:] == 127.5).all()
