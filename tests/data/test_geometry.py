"""A window of a resized or turned picture shows what the whole one would show there."""

import numpy as np
import pytest
from PIL import Image

from keras_seg.data import geometry


def _smooth(rng, size, channels=3):
    """A picture without edges: neighbours differ by a few grey values."""
    coarse = rng.integers(0, 256, (size[0] // 16 + 2, size[1] // 16 + 2, channels), dtype=np.uint8)
    return geometry.resize_image(coarse, size)


def _windows(rng, size, count):
    for _ in range(count):
        top, left = (int(rng.integers(n)) for n in size)
        bottom = int(rng.integers(top, size[0])) + 1
        right = int(rng.integers(left, size[1])) + 1
        yield top, bottom, left, right


def _cut(array, window):
    return array[window[0] : window[1], window[2] : window[3]]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_nearest_is_pillows(dtype):
    rng = np.random.default_rng(0)
    for _ in range(100):
        height, width, rows, columns = (int(n) for n in rng.integers(1, 120, 4))
        label = rng.integers(0, 256, (height, width)).astype(dtype)
        expected = Image.fromarray(label).resize((columns, rows), Image.Resampling.NEAREST)
        got = geometry.resize_label(label, (rows, columns))
        assert got.dtype == label.dtype and np.array_equal(got, expected)
        for window in _windows(rng, (rows, columns), 3):
            part = geometry.resize_label(label, (rows, columns), window)
            assert np.array_equal(part, _cut(got, window))


def test_nearest_takes_half_pixel_centres():
    """The worked value of a 4 x 4 map at 2 x 2; sampling at dst * in / out gives 0 2 8 10."""
    label = np.arange(16, dtype="uint8").reshape(4, 4)
    assert geometry.resize_label(label, (2, 2)).tolist() == [[5, 7], [13, 15]]


def test_many_labels_a_pixel_are_resized_like_one():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, (20, 30, 5), dtype=np.uint8)
    got = geometry.resize_label(label, (33, 17))
    for k in range(5):
        assert np.array_equal(got[..., k], geometry.resize_label(label[..., k], (33, 17)))


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_a_window_of_a_resized_image(channels):
    rng = np.random.default_rng(channels)
    for _ in range(30):
        size = tuple(int(n) for n in rng.integers(20, 200, 2))
        image = _smooth(rng, tuple(int(n) for n in rng.integers(20, 200, 2)), channels)
        whole = geometry.resize_image(image, size).astype(int)
        for window in _windows(rng, size, 4):
            part = geometry.resize_image(image, size, window)
            # Rounded after each direction, both are within 1 of the exact value.
            assert np.abs(part - _cut(whole, window)).max() <= 2


def test_pixels_are_changed_before_they_are_resized():
    image = _smooth(np.random.default_rng(0), (60, 50))
    window = (10, 40, 20, 60)
    changed = geometry.resize_image(image, (90, 75), window, change=lambda pixels: 255 - pixels)
    assert np.array_equal(changed, geometry.resize_image(255 - image, (90, 75), window))


def test_a_window_of_a_turned_picture_is_pillows():
    rng = np.random.default_rng(0)
    image = _smooth(rng, (70, 90))
    label = np.asarray(Image.fromarray(rng.integers(0, 5, (7, 9), dtype=np.uint8)).resize((90, 70)))
    wrong = 0
    for angle in rng.uniform(-180, 180, 20):
        turn = geometry.Turn(angle, (70, 90))
        fill = (1, 2, 3)
        picture = Image.fromarray(image)
        whole = np.asarray(picture.rotate(angle, Image.Resampling.BILINEAR, fillcolor=fill))
        ids = np.asarray(Image.fromarray(label).rotate(angle, fillcolor=255))
        for window in _windows(rng, (70, 90), 3):
            reach = geometry.clip_window(turn.reach(window), (70, 90))
            place = (reach[0], reach[2])
            part = turn.image(_cut(image, reach), place, window, fill)
            assert np.abs(part.astype(int) - _cut(whole, window)).max() <= 1
            # Pillow counts in 2**-16 of a pixel: a place half-way may fall to either side.
            mine = turn.map(_cut(label, reach), place, window, 255)
            wrong += (mine != _cut(ids, window)).sum()
    assert wrong <= 5


def test_mirrored_is_numpys_reflection():
    for count in (1, 2, 3, 7):
        expected = np.pad(np.arange(count), 20, mode="reflect")
        assert np.array_equal(geometry.mirrored(np.arange(-20, count + 20), count), expected)
