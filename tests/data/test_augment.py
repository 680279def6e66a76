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


def _far_from_outlines(label, reach=4):
    """Pixels around which, `reach` pixels each way, all are of one id."""
    lowest, highest = label, label
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view
        lowest = windows(lowest, 2 * reach + 1, axis).min(-1)
        highest = windows(highest, 2 * reach + 1, axis).max(-1)
    return np.pad(lowest == highest, reach)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("channels", [1, 3, 4, 8])
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
        inner = _far_from_outlines(new_label) & (new_label != 255)
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


# Each paper's augmentation; sizes as published, on a picture of 375 x 500.
PAPERS = {
    "deeplab_v1": {"crop": 321, "scale": (1.0, 1.0), "pad_at": "end"},
    "deeplab_v2": {"crop": 321, "scale_steps": (0.5, 0.75, 1, 1.25, 1.5), "pad_at": "end"},
    "deeplab_v3": {"crop": 513, "scale_steps": (0.5, 0.75, 1, 1.25, 1.5, 1.75, 2)},
    "deconvnet": {"resize": (250, 250), "crop": 224, "scale": (1.0, 1.0)},
    "dilated": {"crop": 628, "scale": (1.0, 1.0), "pad": "mirror", "margin": 186},
    "drn_c": {"crop": 896, "scale": (1.0, 1.0), "pad": "mirror_image"},
    "drn_d_105": {
        "crop": 840,
        "rotation": 10.0,
        "rotation_probability": 1.0,
        "interpolation": "bicubic",
        "pad": "mirror_image",
    },
    "encnet": {"long_side": 520, "crop": 480, "rotation": 10.0, "pad_at": "end"},
    "encnet_short": {"short_side": 520, "crop": 480, "pad_at": "end"},
    "farabet": {"scale": (0.9, 1.1), "rotation": 8.0, "color": 0.1},
    "fc_densenet": {"crop": 224, "scale": (1.0, 1.0)},
    "parsenet": {"crop": 500, "scale": (1.0, 1.0), "pad_at": "end"},
    "patchwise": {"crop": 100, "scale": (1.0, 1.0), "turns": True, "pad": "mirror"},
    "pspnet": {"crop": 473, "rotation": 10.0, "blur": 0.5},
    "resnet38": {"crop": 504, "scale": (0.7, 1.3)},
    "semseg_aspect": {"crop": 473, "aspect": (0.8, 1.25)},
    "setr": {"bound": (2048, 512), "crop": 512, "cat_max_ratio": 0.75, "distortion": True},
    "unet": {
        "crop": 572,
        "scale": (1.0, 1.0),
        "rotation": 180.0,
        "elastic": 10.0,
        "turns": True,
        "distortion": True,
        "pad": "mirror",
        "margin": 92,
    },
}


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("many", [False, True])
def test_every_paper(paper, many):
    """Of the right size, no new ids, image and label together, weights and extras along."""
    rng = np.random.default_rng(0)
    label = _blobs(rng, (375, 500)) % 4  # 0, 2 and 3
    image = np.repeat(label[..., None] * np.uint8(60), 3, axis=2)
    options = {"pad_color": (200, 200, 200), **PAPERS[paper]}
    if many:
        label = (label[..., None] == np.arange(5)).astype("uint8")
        options.pop("cat_max_ratio", None)
    ids = np.arange(375 * 500, dtype="int32").reshape(375, 500)
    weights = np.where(image[..., 0] == 120, 3, 2).astype("float32")
    augment = Augment(**options)
    for seed in range(2):
        new = augment(image, label, np.random.default_rng(seed), weights, {"ids": ids})
        new_image, new_label, new_weights, extras = new
        assert new_image.shape[:2] == new_label.shape[:2] == new_weights.shape
        assert augment.crop is None or new_weights.shape == augment.crop
        assert new_label.shape[2:] == label.shape[2:]
        assert set(np.unique(new_label)) <= {*np.unique(label), 255}
        seen = (new_label if new_label.ndim == 2 else new_label[..., 0]) != 255
        classes = new_label if new_label.ndim == 2 else new_label.argmax(2)
        assert np.array_equal(new_weights, np.where(seen, np.where(classes == 2, 3, 2), 0))
        # Where a pixel came from tells its label: labels and further maps move alike.
        came = label.reshape(-1, *label.shape[2:])[extras["ids"][seen]]
        assert np.array_equal(new_label[seen], came)
        again = augment(image, label, np.random.default_rng(seed))
        assert np.array_equal(again[0], new_image) and np.array_equal(again[1], new_label)
        # Away from outlines the image is of its label's grey.
        if not (augment.distortion or any(augment.color)):
            flat = _far_from_outlines(np.where(seen, classes, 255)) & seen
            assert flat.any() and (new_image[flat] == classes[flat][:, None] * 60).all()


@pytest.mark.parametrize(
    ("options", "size", "expected"),
    [
        ({"short_side": 520}, (300, 400), (520, 693)),
        ({"long_side": 520}, (300, 400), (390, 520)),
        ({"bound": (2048, 512)}, (375, 500), (512, 683)),  # the short side meets it
        ({"bound": (2048, 512)}, (100, 500), (410, 2048)),  # the long side does
        ({"bound": (512, 2048)}, (500, 375), (683, 512)),
        ({"resize": (250, 240)}, (375, 500), (250, 240)),
        ({"resize": (250, 240), "scale": (2.0, 2.0)}, (375, 500), (500, 480)),
        ({"aspect": (4.0, 4.0)}, (100, 100), (50, 200)),
        ({"aspect": (0.25, 0.25), "scale": (0.5, 0.5)}, (100, 100), (100, 25)),
    ],
)
def test_sizes_by_hand(options, size, expected):
    options = {**STILL, **options}
    image, label = np.zeros((*size, 3), "uint8"), np.zeros(size, "uint8")
    new_image, new_label = Augment(**options)(image, label, np.random.default_rng(0))
    assert new_image.shape == (*expected, 3) and new_label.shape == expected


def test_scale_steps_are_equally_likely():
    image, label = np.zeros((100, 100, 1), "uint8"), np.zeros((100, 100), "uint8")
    rng = np.random.default_rng(0)
    augment = Augment(scale_steps=(0.5, 0.75, 1, 1.25, 1.5))
    sides = [len(augment(image, label, rng)[1]) for _ in range(500)]
    counts = [sides.count(side) for side in (50, 75, 100, 125, 150)]
    assert sum(counts) == 500 and min(counts) >= 70


def test_padding_at_the_end():
    image, label = np.full((3, 4, 1), 9, "uint8"), np.ones((3, 4), "uint8")
    augment = Augment(crop=(5, 6), pad_at="end", **STILL)
    new_image, new_label = augment(image, label, np.random.default_rng(0))
    assert (new_label[:3, :4] == 1).all() and (new_label == 255).sum() == 30 - 12
    assert (new_image[new_label == 255] == 116).all()


@pytest.mark.parametrize("margin", [0, 2])
def test_mirror_padding_by_hand(margin):
    label = np.array([[0, 1, 2]], "uint8")
    image = label[..., None] * np.uint8(10)
    crop = None if margin else (1, 7)
    expected = [2, 1, 0, 1, 2, 1, 0]
    for pad, ids in (
        ("mirror", expected),
        ("mirror_image", [255, 255, 0, 1, 2, 255, 255]),
    ):
        augment = Augment(crop=crop, margin=margin, pad=pad, **STILL)
        new_image, new_label = augment(image, label, np.random.default_rng(0))
        middle = new_label.shape[0] // 2
        assert new_image[middle, :, 0].tolist() == [10 * i for i in expected]
        assert new_label[middle].tolist() == ids


def test_a_margin_lets_the_middle_of_a_crop_reach_every_pixel():
    """Dilation: a network that loses 2 pixels a side sees labels up to the corners."""
    label = np.arange(30, dtype="uint8").reshape(5, 6)
    augment = Augment(crop=(7, 6), margin=2, pad="mirror", **STILL)
    rng = np.random.default_rng(0)
    seen = set()
    padded = np.pad(label, 2, mode="reflect")
    windows = {padded[i : i + 7, j : j + 6].tobytes() for i in range(3) for j in range(5)}
    for _ in range(200):
        new_image, new_label = augment(label[..., None], label, rng)
        assert new_label.tobytes() in windows and np.array_equal(new_image[..., 0], new_label)
        seen.update(new_label[2:-2, 2:-2].ravel().tolist())
    assert seen == set(range(30))


def test_a_turned_picture_is_mirrored_outside():
    label = np.repeat(np.arange(40, dtype="uint8")[:, None], 40, 1)
    image = np.full((40, 40, 3), 7, "uint8")
    for pad, ignored in (("mirror", False), ("mirror_image", True)):
        augment = Augment(rotation=45, rotation_probability=1, pad=pad, **STILL)
        new_image, new_label = augment(image, label, np.random.default_rng(3))
        assert (new_image == 7).all() and (new_label == 255).any() == ignored


@pytest.mark.parametrize(
    ("image", "label", "options", "words"),
    [
        ((4, 5, 3), (5, 4), {}, r"image is \(4, 5, 3\), the label \(5, 4\)"),
        ((4, 5), (4, 5), {}, r"image is \(4, 5\)"),
        ((4, 5, 3), (4, 5), {"pad_color": (0, 0)}, r"pad_color=\(0, 0\).* 3 channels"),
    ],
)
def test_samples_that_do_not_fit(image, label, options, words):
    augment = Augment(crop=3, **options)
    with pytest.raises(ValueError, match=words):
        augment(np.zeros(image, "uint8"), np.zeros(label, "uint8"), np.random.default_rng(0))


def test_cat_max_ratio_passes_over_what_is_all_ignored():
    label = np.full((20, 200), 255, "uint8")
    label[:, :60] = np.arange(60) % 2
    augment = Augment(crop=(20, 40), cat_max_ratio=0.75, **STILL)
    drawn = [augment(label[..., None], label, np.random.default_rng(s))[1] for s in range(40)]
    # 101 of 161 windows are all ignored; ten tries of one in a row are rare.
    assert sum((each == 255).all() for each in drawn) < 5


def test_cat_max_ratio():
    label = np.repeat(np.arange(2, dtype="uint8"), 50)[None].repeat(20, 0)
    shares = {}
    for ratio in (1.0, 0.75):
        augment = Augment(crop=(20, 40), cat_max_ratio=ratio, **STILL)
        drawn = [augment(label[..., None], label, np.random.default_rng(s))[1] for s in range(60)]
        shares[ratio] = np.array([max(d.mean(), 1 - d.mean()) for d in drawn])
    assert (shares[1.0] > 0.75).sum() > 20  # 40 of 61 windows
    assert (shares[0.75] > 0.75).sum() <= 4  # 0.66 ** 10 of 60 is 0.9
    # Ignored pixels do not count, and where no window will do the last is taken.
    for ids in ([255] * 60 + [0] * 20 + [1] * 20, [0] * 100):
        label = np.array([ids], "uint8").repeat(20, 0)
        image = label[..., None]
        mixed = Augment(crop=(20, 100), cat_max_ratio=0.75, **STILL)
        assert np.array_equal(mixed(image, label, np.random.default_rng(0))[1], label)


def test_the_middle():
    label = np.arange(35, dtype="uint8").reshape(5, 7)
    augment = Augment(crop=3, centre=True, **STILL)
    new_image, new_label = augment(label[..., None], label, np.random.default_rng(0))
    assert np.array_equal(new_label, label[1:4, 2:5]) and np.array_equal(
        new_image[..., 0], new_label
    )


def test_quarter_turns():
    label = np.arange(6, dtype="uint8").reshape(2, 3)
    augment = Augment(turns=True, **STILL)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(40):
        image, turned = augment(label[..., None], label, rng)
        assert np.array_equal(image[..., 0], turned)
        seen.add((turned.shape, turned.tobytes()))
    assert seen == {(t.shape, t.tobytes()) for t in (np.rot90(label, k) for k in range(4))}
    for seed in range(20):
        turned = Augment(turns=True, crop=2, **STILL)(
            label[..., None], label, np.random.default_rng(seed)
        )[1]
        windows = [np.rot90(label[:, i : i + 2], k).tolist() for i in (0, 1) for k in range(4)]
        assert turned.tolist() in windows


def test_left_and_right_change_places():
    """LIP: a mirrored left arm is a right arm; upside down and mirrored it is left again."""
    label = np.array([[14, 15, 0], [16, 3, 255]], "uint8")
    swapped = np.array([[15, 14, 0], [17, 3, 255]], "uint8")
    many = (label[..., None] == np.arange(18)).astype("uint8")
    swapped_many = (swapped[..., None] == np.arange(18)).astype("uint8")
    augment = Augment(scale=(1.0, 1.0), vertical_flip=True, swap=((14, 15), (16, 17)))
    seen = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        image, turned = augment(label[..., None], label, rng)
        for name, view in (
            ("same", np.s_[:, :]),
            ("mirrored", np.s_[:, ::-1]),
            ("upended", np.s_[::-1]),
            ("both", np.s_[::-1, ::-1]),
        ):
            if np.array_equal(image[..., 0], label[view]):
                expected = swapped if name in ("mirrored", "upended") else label
                assert np.array_equal(turned, expected[view])
                expected = swapped_many if name in ("mirrored", "upended") else many
                again = augment(label[..., None], many, np.random.default_rng(seed))[1]
                assert np.array_equal(again, expected[view])
                seen.add(name)
    assert seen == {"same", "mirrored", "upended", "both"}
    with pytest.raises(ValueError, match="label 17"):
        for seed in range(9):
            augment(label[..., None], many[..., :15], np.random.default_rng(seed))


def test_extras_move_with_the_label():
    rng = np.random.default_rng(0)
    label = _blobs(rng, (40, 50))
    image = np.repeat(label[..., None], 3, axis=2)
    extras = {
        "instances": label.astype("int32") * 100_000,
        "depth": label.astype("float32") / 7,
        "coarse": np.where(label == 18, 1, 0).astype("uint8"),
    }
    augment = Augment(crop=(60, 45), rotation=30, elastic=3, turns=True, vertical_flip=True)
    padded = 0
    for seed in range(6):
        *arrays, moved = augment(image, label, np.random.default_rng(seed), extras=extras)
        plain = augment(image, label, np.random.default_rng(seed))
        assert all(np.array_equal(a, b) for a, b in zip(arrays, plain, strict=True))
        assert list(moved) == list(extras)
        ids = arrays[1].astype("int32")
        padding = moved["coarse"] == 255
        padded += padding.any()
        assert (ids[padding] == 255).all()
        assert np.array_equal(moved["instances"], np.where(padding, 0, ids * 100_000))
        assert np.array_equal(moved["depth"], np.where(padding, 0, ids.astype("float32") / 7))
        assert np.array_equal(moved["coarse"][~padding], ids[~padding] == 18)
    assert padded > 2
    with pytest.raises(ValueError, match=r"extras\['depth'\] is float64"):
        augment(image, label, rng, extras={"depth": label / 7})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"crop": (0, 4)}, "crop"),
        ({"crop": (1, 2, 3)}, "crop"),
        ({"crop": 24.0}, "crop"),
        ({"crop": (24.5, 24)}, "crop"),
        ({"scale": 1.5}, "scale"),
        ({"scale": (2.0, 0.5)}, "scale"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"rotation": -1}, "rotation"),
        ({"blur": 2}, "blur"),
        ({"color": -0.1}, "color"),
        ({"color": (0, 0, 0, 0.6)}, "color"),
        ({"color": (0.1, 0.2)}, "color"),
        ({"scale_steps": (0.5, 0)}, "scale_steps"),
        ({"scale_steps": ()}, "scale_steps"),
        ({"aspect": (2, 1)}, "aspect"),
        ({"resize": 250}, "resize must be two"),
        ({"short_side": 0}, "short_side"),
        ({"bound": (512.5, 4)}, "bound"),
        ({"long_side": 520, "resize": (9, 9)}, "Give one of resize, long_side"),
        ({"interpolation": "cubic"}, "interpolation.*bicubic"),
        ({"rotation_probability": 1.5}, "rotation_probability"),
        ({"elastic": -1.0}, "elastic"),
        ({"elastic_grid": 1}, "elastic_grid"),
        ({"pad": "zero"}, "pad must be one of.*mirror"),
        ({"pad_at": "start"}, "pad_at"),
        ({"crop": 90, "margin": 90}, "margin"),
        ({"cat_max_ratio": 0}, "cat_max_ratio"),
        ({"swap": ((1, 2), (2, 3))}, "swap"),
        ({"swap": ((1, 2, 3),)}, "swap"),
        ({"swap": (14, 15)}, r"swap must be pairs of different ids, got \(14, 15\)"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        Augment(**arguments)


def test_cat_max_ratio_needs_one_class_a_pixel():
    label = np.zeros((9, 9, 4), "uint8")
    with pytest.raises(ValueError, match=r"cat_max_ratio.*\(9, 9, 4\)"):
        Augment(crop=4, cat_max_ratio=0.5)(label[..., :3], label, np.random.default_rng(0))
