"""Augmentation: ids are never invented, image and mask stay together, padding is ignored."""

import numpy as np
import pytest
from PIL import Image

from keras_seg.data import Augment

FULL = {
    "scale": (0.5, 2.0),
    "rotation": 30,
    "blur": 0.5,
    "vertical_flip": True,
    "color": (0.4, 0.4, 0.4, 0.1),
}
STILL = {"scale": (1.0, 1.0), "flip": False}


def _blobs(rng, size):
    """Random label map of blocks with the ids 0, 3, 18 and the ignored one."""
    ids = np.array([0, 3, 18, 255], "uint8")[rng.integers(0, 4, (4, 5))]
    return np.asarray(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST))


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_no_new_ids_and_exact_crop(seed, channels):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 60, 2))
    image = rng.integers(0, 256, (*size, channels), dtype=np.uint8)
    label = _blobs(rng, size)
    before = label.copy()
    new_image, new_label = Augment(crop=(24, 33), **FULL)(image, label, rng)
    assert new_image.shape == (24, 33, channels) and new_image.dtype == np.uint8
    assert new_label.shape == (24, 33) and new_label.dtype == np.uint8
    assert set(np.unique(new_label)) <= {*np.unique(label), 255}
    assert np.array_equal(label, before)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_image_and_mask_stay_together(channels):
    """The image is drawn from its mask; away from outlines and padding it must still say it."""
    rng = np.random.default_rng(0)
    augment = Augment(crop=(64, 80), scale=(0.5, 2.0), rotation=45, vertical_flip=True, blur=0.5)
    for _ in range(40):
        label = np.asarray(
            Image.fromarray(rng.integers(0, 5, (4, 5), dtype=np.uint8)).resize(
                (100, 80), Image.Resampling.NEAREST
            )
        )
        image = np.repeat(label[..., None] * 40, channels, axis=2)
        new_image, new_label = augment(image, label, rng)
        inner = np.ones(new_label.shape, bool)
        for shift in [(dy, dx) for dy in range(-4, 5) for dx in range(-4, 5)]:
            inner &= new_label == np.roll(new_label, shift, (0, 1))
        inner[:4] = inner[-4:] = False
        inner[:, :4] = inner[:, -4:] = False
        inner &= new_label != 255
        assert (new_image[inner] == new_label[inner][:, None] * 40).all()


def test_nothing_asked_nothing_changed():
    rng = np.random.default_rng(0)
    image, label = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8), _blobs(rng, (9, 7))
    new_image, new_label = Augment(**STILL)(image, label, rng)
    assert np.array_equal(new_image, image) and np.array_equal(new_label, label)


def test_crop_larger_than_the_image_pads_with_ignore():
    """Padding lies on both sides alike; only where the crop is smaller does the window move."""
    rng = np.random.default_rng(0)
    image, label = rng.integers(0, 256, (4, 9, 3), dtype=np.uint8), np.ones((4, 9), "uint8")
    places = set()
    for _ in range(60):
        new_image, new_label = Augment(crop=(10, 6), **STILL)(image, label, rng)
        assert (new_label[3:7] == 1).all() and (new_label == 255).sum() == 6 * 6
        start = [i for i in range(4) if np.array_equal(new_image[3:7], image[:, i : i + 6])]
        places.update(start)
        assert (new_image[new_label == 255] == (124, 116, 104)).all()
    assert places == {0, 1, 2, 3}
    new_image, new_label = Augment(crop=10, pad_color=(1, 2, 3), ignore_label=99, **STILL)(
        image, label, rng
    )
    assert new_label.shape == (10, 10) and (new_label == 99).sum() == 100 - 36
    assert (new_image[new_label == 99] == (1, 2, 3)).all()


def test_crop_reaches_every_place():
    label = np.arange(12, dtype="uint8").reshape(3, 4)
    image = label[..., None]
    rng = np.random.default_rng(0)
    corners = {int(Augment(crop=2, **STILL)(image, label, rng)[1][0, 0]) for _ in range(200)}
    assert corners == {0, 1, 2, 4, 5, 6}


def test_rotation_fills_with_padding():
    image, label = np.full((40, 40, 3), 7, "uint8"), np.ones((40, 40), "uint8")
    rng = np.random.default_rng(1)
    turned = 0
    for _ in range(20):
        new_image, new_label = Augment(rotation=45, **STILL)(image, label, rng)
        turned += (new_label == 255).any()
        assert (new_image[new_label == 255] == (124, 116, 104)).all()
        assert (new_image[new_label == 1] == 7).all()
        assert new_label[20, 20] == 1
    assert 4 <= turned <= 16  # with probability 1/2


def test_scale_is_uniform_in_its_range():
    image, label = np.zeros((100, 100, 3), "uint8"), np.zeros((100, 100), "uint8")
    rng = np.random.default_rng(0)
    sides = [len(Augment(scale=(0.5, 2.0))(image, label, rng)[1]) for _ in range(300)]
    assert min(sides) >= 50 and max(sides) <= 200
    assert abs(np.mean(sides) - 125) < 8  # log-uniform would give 108


def test_flips():
    label = np.arange(6, dtype="uint8").reshape(2, 3)
    rng = np.random.default_rng(0)
    flip = Augment(scale=(1.0, 1.0), flip=True, vertical_flip=True)
    seen = {flip(label[..., None], label, rng)[1].tobytes() for _ in range(60)}
    expected = (label, label[:, ::-1], label[::-1], label[::-1, ::-1])
    assert seen == {array.tobytes() for array in expected}


def test_blur_is_a_gaussian_of_five_taps():
    """An impulse gives OpenCV's kernel: sigma = 0.3 * ((5 - 1) / 2 - 1) + 0.8."""
    image = np.zeros((9, 9, 1), "uint8")
    image[4, 4] = 255
    blurred = Augment(blur=1.0, **STILL)(image, image[..., 0], np.random.default_rng(0))[0][..., 0]
    taps = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 1.1**2))
    taps /= taps.sum()
    expected = np.zeros((9, 9))
    expected[2:7, 2:7] = np.rint(255 * np.outer(taps, taps))
    assert np.array_equal(blurred, expected)


def test_blur_keeps_a_flat_image():
    image = np.full((3, 4, 3), 200, "uint8")
    assert (
        Augment(blur=1.0, **STILL)(image, image[..., 0], np.random.default_rng(0))[0] == 200
    ).all()


@pytest.mark.parametrize("color", [(0.5, 0, 0, 0), (0, 0.5, 0, 0), (0, 0, 0.5, 0), (0, 0, 0, 0.5)])
def test_each_colour_change_does_its_own(color):
    rng = np.random.default_rng(0)
    image = rng.integers(60, 180, (20, 20, 3), dtype=np.uint8)
    label = np.zeros((20, 20), "uint8")
    luma = np.array([0.299, 0.587, 0.114])
    changed = Augment(color=color, **STILL)(image, label, rng)[0]
    assert not np.array_equal(changed, image)
    before, after = image @ luma, changed @ luma
    if color[0]:  # brightness: proportional
        assert np.allclose(changed / image, (changed / image).mean(), atol=0.02)
    if color[1]:  # contrast: about the mean, which stays
        assert abs(after.mean() - before.mean()) < 1
    if color[2] or color[3]:  # saturation and hue leave the luma of each pixel
        assert np.abs(after - before).max() < 2


def test_grey_pixels_have_no_saturation_and_no_hue():
    image = np.repeat(np.arange(0, 240, 8, dtype="uint8").reshape(5, 6, 1), 3, 2)
    augment = Augment(color=(0, 0, 0.9, 0.5), **STILL)
    changed = augment(image, image[..., 0], np.random.default_rng(0))[0]
    assert np.abs(changed.astype(int) - image).max() <= 1


def test_same_generator_same_result():
    rng = np.random.default_rng(3)
    image, label = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), _blobs(rng, (30, 40))
    augment = Augment(crop=(20, 20), **FULL)
    first = augment(image, label, np.random.default_rng(5))
    second = augment(image, label, np.random.default_rng(5))
    other = augment(image, label, np.random.default_rng(6))
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"crop": (0, 4)}, "crop"),
        ({"crop": (1, 2, 3)}, "crop"),
        ({"scale": (2.0, 0.5)}, "scale"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"rotation": -1}, "rotation"),
        ({"blur": 2}, "blur"),
        ({"color": -0.1}, "color"),
        ({"color": (0, 0, 0, 0.6)}, "color"),
        ({"color": (0.1, 0.2)}, "color"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        Augment(**arguments)
