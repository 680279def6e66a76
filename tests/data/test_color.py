"""SSD's distortion against Python's colorsys and values worked by hand."""

import colorsys

import numpy as np
import pytest

from keras_seg.data import Augment, color

ALONE = {"scale": (1.0, 1.0), "flip": False}


@pytest.mark.parametrize(
    ("drawn", "before", "after"),
    [
        ((32, 1.0, False, 1.0, 0.0), (0, 100, 240), (32, 132, 255)),
        ((-32, 1.0, True, 1.0, 0.0), (0, 100, 240), (0, 68, 208)),
        ((0, 1.5, False, 1.0, 0.0), (10, 100, 200), (15, 150, 255)),
        ((10, 0.5, True, 1.0, 0.0), (10, 100, 250), (10, 55, 128)),  # 255 / 2, to the even
        ((0, 1.0, False, 0.5, 0.0), (200, 100, 0), (200, 150, 100)),
        ((0, 1.0, False, 1.5, 0.0), (200, 100, 100), (200, 50, 50)),
        ((0, 1.0, False, 1.0, 0.1), (255, 0, 0), (255, 153, 0)),  # 36 of 60 degrees to yellow
        ((0, 1.0, False, 1.0, -0.1), (255, 0, 0), (255, 0, 153)),
        ((0, 1.0, False, 1.5, 0.1), (77, 77, 77), (77, 77, 77)),
    ],
)
def test_worked_values(drawn, before, after):
    image = np.array(before, "uint8").reshape(1, 1, 3)
    assert color.distort(image, drawn).ravel().tolist() == list(after)


def test_saturation_and_hue_are_those_of_colorsys():
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    for saturation, turn in ((1.3, 0.07), (0.6, -0.09), (1.5, 0.1), (1.0, -0.1)):
        got = color.distort(image, (0, 1.0, False, saturation, turn))
        for pixel, mine in zip(image.reshape(-1, 3), got.reshape(-1, 3), strict=True):
            h, s, v = colorsys.rgb_to_hsv(*(pixel / 255))
            expected = 255 * np.array(
                colorsys.hsv_to_rgb((h + turn) % 1, min(1, s * saturation), v)
            )
            assert np.abs(mine - expected).max() <= 0.501


def test_each_change_has_probability_one_half():
    drawn = [color.draw_distortion(3, np.random.default_rng(seed)) for seed in range(400)]
    delta, contrast, last, saturation, hue = (
        np.array(values) for values in zip(*drawn, strict=True)
    )
    for changed in (delta != 0, contrast != 1, last, saturation != 1, hue != 0):
        assert 160 <= changed.sum() <= 240
    assert -32 <= delta.min() < -28 and 28 < delta.max() <= 32
    for factor in (contrast, saturation):
        assert 0.5 <= factor.min() < 0.55 and 1.45 < factor.max() <= 1.5
    assert -0.1 <= hue.min() < -0.09 and 0.09 < hue.max() <= 0.1


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 20])
@pytest.mark.parametrize("changes", [{"color": (0.4, 0.4, 0.4, 0.1)}, {"distortion": True}])
def test_any_number_of_channels(channels, changes):
    """What is not a colour stays: behind four channels in the jitter, behind three in SSD's."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 24, channels), dtype=np.uint8)
    label = np.zeros((20, 24), "uint8")
    results = [
        Augment(**ALONE, **changes)(image, label, np.random.default_rng(seed))[0]
        for seed in range(10)
    ]
    assert all(r.shape == image.shape and r.dtype == np.uint8 for r in results)
    assert any((r[..., 0] != image[..., 0]).any() for r in results)
    kept = 3 if channels > 4 or "distortion" in changes else channels
    assert all(np.array_equal(r[..., kept:], image[..., kept:]) for r in results)
    assert len(color.pad_color(channels)) == channels


def test_a_grey_image_varies_by_one_curve():
    """Of one channel brightness and contrast: equal values stay equal and keep their order."""
    image = np.arange(256, dtype="uint8").reshape(16, 16, 1)
    curves = set()
    for seed in range(20):
        augment = Augment(**ALONE, distortion=True)
        curve = augment(image, image[..., 0], np.random.default_rng(seed))[0].ravel().astype(int)
        assert (np.diff(curve) >= 0).all()
        curves.add(curve.tobytes())
    assert len(curves) > 8


def test_means_are_exact_for_large_images():
    image = np.full((2000, 1500, 2), 200, "uint8")
    image[0, 0] = (0, 255)
    expected = image.reshape(-1, 2).astype("float64").mean(0)
    assert np.allclose(color.channel_means(image), expected, atol=1e-5)
