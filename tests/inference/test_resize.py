"""Bilinear resizing against the tables of the papers' code, Pillow and TensorFlow, and in parts."""

import numpy as np
import pytest
from PIL import Image

from keras_seg.inference import resize as module
from keras_seg.inference.resize import (
    Picture,
    equal_blocks,
    resize,
    resize_blocks,
    source_columns,
)

SAMPLINGS = ["antialias", "half_pixel", "align_corners", "legacy"]
SIZES = [(5, 9), (31, 3), (13, 17), (40, 50), (1, 1), (14, 17), (13, 40)]


def scores(*shape):
    return np.random.default_rng(0).random(shape).astype("float32")


@pytest.mark.parametrize(
    ("sampling", "row"),
    [
        ("antialias", [0, 0.25, 0.75, 1]),
        ("half_pixel", [0, 0.25, 0.75, 1]),
        ("align_corners", [0, 1 / 3, 2 / 3, 1]),
        ("legacy", [0, 0.5, 1, 1]),
    ],
)
def test_where_an_enlarged_pixel_lies(sampling, row):
    small = np.array([[0, 1], [2, 3]], "uint8")[..., None]
    np.testing.assert_allclose(resize(small, (4, 4), sampling)[0, :, 0], row, rtol=1e-6)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ("antialias", [3.571429, 5.142859, 9.857145, 11.428574]),
        ("half_pixel", [2.5, 4.5, 10.5, 12.5]),
        ("align_corners", [0, 3, 12, 15]),
        ("legacy", [0, 2, 8, 10]),
    ],
)
def test_where_a_shrunk_pixel_lies(sampling, expected):
    large = np.arange(16, dtype="float64").reshape(4, 4, 1)
    found = resize(large, (2, 2), sampling)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_every_sampling_equals_the_library_that_has_it(size):
    import tensorflow as tf

    image = scores(13, 17, 3)
    old = tf.compat.v1.image.resize_bilinear
    planes = [Image.fromarray(plane) for plane in np.moveaxis(image, 2, 0).copy()]
    expected = {
        "antialias": [p.resize(size[::-1], Image.Resampling.BILINEAR) for p in planes],
        "half_pixel": tf.image.resize(image, size).numpy(),
        "align_corners": old(image[None], size, align_corners=True)[0].numpy(),
        "legacy": old(image[None], size)[0].numpy(),
    }
    expected["antialias"] = np.stack([np.asarray(p) for p in expected["antialias"]], axis=-1)
    for sampling in SAMPLINGS:
        # TensorFlow computes positions up to 17 in float32: wrong by up to 1e-6.
        np.testing.assert_allclose(
            resize(image, size, sampling), expected[sampling], atol=2e-6, err_msg=sampling
        )


@pytest.mark.parametrize("size", SIZES)
def test_resized_probabilities_still_add_up_to_one(size):
    image = scores(13, 17, 5)
    image /= image.sum(axis=-1, keepdims=True)
    for sampling in SAMPLINGS:
        np.testing.assert_allclose(resize(image, size, sampling).sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("heights", [[13], [1] * 13, [4, 8, 1]])
def test_a_stream_is_resized_as_the_whole_is(monkeypatch, sampling, size, heights):
    image = scores(13, 17, 3)
    whole = resize(image, size, sampling)
    monkeypatch.setattr(module, "_BLOCK_BYTES", 400)
    np.testing.assert_array_equal(resize(image, size, sampling), whole)
    for first, last in [(0, size[1]), (0, 1), (size[1] // 3, size[1] // 2 + 1)]:
        begin, end = source_columns(17, size[1], sampling, (first, last))
        stream = np.split(image[:, begin:end], np.cumsum(heights)[:-1])
        blocks = list(resize_blocks(iter(stream), (13, 17), size, sampling, (first, last)))
        np.testing.assert_array_equal(np.concatenate(blocks), whole[:, first:last])
        cut = list(equal_blocks(iter(blocks), 4))
        assert {len(block) for block in cut[:-1]} <= {4} and 1 <= len(cut[-1]) <= 4
        np.testing.assert_array_equal(np.concatenate(cut), whole[:, first:last])


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("size", [(13, 17), (30, 9)])
def test_windows_of_a_picture_are_parts_of_the_resized_one(sampling, size):
    image = np.random.default_rng(0).integers(0, 256, (13, 17, 2)).astype("uint8")
    picture, whole = Picture(image, size, sampling), resize(image, size, sampling)
    np.testing.assert_array_equal(picture.window(3, 2, (5, 6), 0), whole[3:8, 2:8])
    beyond = picture.window(-2, 4, (size[0] + 3, 9), (7, 8))
    expected = np.empty((size[0] + 3, 9, 2), "float32")
    expected[...] = (7, 8)
    inside = whole[:, 4:13]
    expected[2:-1, : inside.shape[1]] = inside
    np.testing.assert_array_equal(beyond, expected)


def test_an_unknown_sampling_is_refused():
    with pytest.raises(ValueError, match="Unknown sampling 'half-pixel'. Did you mean"):
        resize(scores(4, 4, 1), (2, 2), "half-pixel")
