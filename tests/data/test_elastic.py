"""Elastic deformation: the field goes through its grid, images and labels move alike."""

import numpy as np
import pytest

from keras_seg.data import Augment, elastic

ALONE = {"scale": (1.0, 1.0), "flip": False}


def test_cubic_weights_by_hand():
    """Keys, a = -1/2: half-way (-1, 9, 9, -1) / 16, the values before the first being the first."""
    got = elastic.cubic_weights([0, 0.5, 1, 1.5, 2], 3) * 16
    assert got.tolist() == [[16, 0, 0], [8, 9, -1], [0, 16, 0], [-1, 9, 8], [0, 0, 16]]
    got = elastic.cubic_weights([1.5], 4) * 16
    assert got.tolist() == [[-1, 9, 9, -1]]


def test_the_field_goes_through_its_grid():
    points = np.random.default_rng(0).normal(0, 10, (2, 3, 3))
    field = elastic.displacement_field(points, (41, 61), (0, 41, 0, 61))
    assert np.allclose(field[:, ::20, ::30], points, atol=1e-5)
    part = elastic.displacement_field(points, (41, 61), (5, 30, 10, 44))
    assert np.allclose(part, field[:, 5:30, 10:44], atol=1e-5)
    constant = elastic.displacement_field(np.full((2, 3, 3), 4.0), (41, 61), (0, 41, 0, 61))
    assert np.allclose(constant, 4)


def test_displacements_have_the_standard_deviation():
    drawn = elastic.draw_displacements(10, 3, np.random.default_rng(0))
    assert drawn.shape == (2, 3, 3)
    many = np.stack(
        [elastic.draw_displacements(10, 3, np.random.default_rng(i)) for i in range(200)]
    )
    assert abs(many.mean()) < 0.6 and abs(many.std() - 10) < 0.4


def test_sampling_by_hand():
    image = np.array([[0, 100], [200, 40]], "uint8")[..., None]
    rows, columns = np.array([[0, 0.5, 0.25]], "float32"), np.array([[0.5, 0.5, 1]], "float32")
    assert elastic.sample_image(image, rows, columns)[..., 0].tolist() == [[50, 85, 85]]
    outside = np.array([[-0.4, -0.6, 1.6]], "float32")
    middle = np.zeros((1, 3), "float32")
    assert elastic.sample_image(image, outside, middle, (7,))[..., 0].tolist() == [[0, 7, 7]]
    assert elastic.sample_map(image[..., 0], outside, middle, 9).tolist() == [[0, 9, 9]]
    # mirrored about the outermost pixels: -0.6 is 0.6, 1.6 is 0.4
    assert elastic.sample_image(image, outside, middle)[..., 0].tolist() == [[80, 120, 80]]
    assert elastic.sample_map(image[..., 0], outside, middle).tolist() == [[0, 200, 0]]


@pytest.mark.parametrize("pad", ["color", "mirror", "mirror_image"])
def test_a_shift_by_whole_pixels(pad, monkeypatch):
    """Displacements that are all alike move the picture; what comes in is as `pad` says."""
    shift = np.stack([np.full((3, 3), 2.0), np.full((3, 3), -3.0)])
    monkeypatch.setattr(elastic, "draw_displacements", lambda sigma, grid, rng: shift)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
    label = rng.integers(0, 5, (12, 14), dtype=np.uint8)
    new_image, new_label = Augment(elastic=10, pad=pad, **ALONE)(image, label, rng)
    rows, columns = np.arange(12) + 2, np.arange(14) - 3
    inside = (rows < 12)[:, None] & (columns >= 0)
    mirrored = np.minimum(rows, 22 - rows)[:, None], np.abs(columns)
    expected = image[mirrored] if pad != "color" else image[np.minimum(rows, 11)[:, None], columns]
    ids = label[mirrored].copy()
    if pad == "color":
        expected[~inside] = (124, 116, 104)
    if pad != "mirror":
        ids[~inside] = 255
    assert np.array_equal(new_image, expected) and np.array_equal(new_label, ids)
