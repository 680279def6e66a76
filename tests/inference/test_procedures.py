"""Published test-time procedures: averaging, sizes, bands of rows, batches, kinds of files."""

import math
import tracemalloc

import numpy as np
import pytest

from keras_seg.inference import Predictor, predictor, resize
from keras_seg.inference import options as options_module
from keras_seg.inference.options import scaled_size

VIEWS = [(2, 0, 0), (-8, -1, -1.1), (2, 0, 0)]


def picture(*shape):
    return np.random.default_rng(3).integers(0, 256, shape).astype("uint8")


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def uneven(images):
    """Looks at the pixel to the left and above: neither symmetric nor free of position."""
    return (images + 2 * np.roll(images, 1, axis=2) + np.roll(images, 1, axis=1)) / 200


def bilinear(image, size, align_corners=False):
    """TensorFlow's, of one map (H, W, K)."""
    import tensorflow as tf

    if align_corners:
        resized = tf.compat.v1.image.resize_bilinear(image[None], size, align_corners=True)[0]
    else:
        resized = tf.image.resize(image, size)
    return resized.numpy()


# ----------------------------------------------------------------------------------- averaging


def by_size(images):
    """The three views of inference.md, section 1, told apart by their size: scales 1, 0.5 and 2."""
    views = {4: VIEWS[0], 2: VIEWS[1], 8: VIEWS[2]}
    return np.full((*images.shape[:3], 3), views[images.shape[1]], "float32")


@pytest.mark.parametrize(
    ("average", "expected"),
    [
        # The three softmaxes are (.787,.107,.107), (.000478,.525,.475) and the first again.
        ("probabilities", (0.524817, 0.245914, 0.229269)),
        ("views", (0.524817, 0.245914, 0.229269)),
        # Mean logits (-4/3, -1/3, -1.1/3).
        ("logits", softmax(np.array([-4.0, -1.0, -1.1]) / 3)),
        # Sums of exponentials: 2 e^2 + e^-8, 2 + e^-1, 2 + e^-1.1.
        ("likelihoods", np.array([14.778448, 2.367879, 2.332871]) / 19.479198),
    ],
)
def test_one_confidently_wrong_view(fake_runner, average, expected):
    image, scales = np.zeros((4, 4, 3), "uint8"), (1, 0.5, 2)
    network = Predictor(fake_runner(by_size))
    found = network.probabilities(image, scales=scales, average=average)
    np.testing.assert_allclose(found, np.tile(np.float32(expected), (4, 4, 1)), atol=1e-6)
    label = network.predict(image, scales=scales, average=average)
    assert (label == np.argmax(expected)).all()


def test_likelihoods_multiply_over_mirror_images(fake_runner):
    """A view and its mirror image with logits (2,0,0) and (-8,-1,-1.1): sums -6, -1, -1.1."""

    def network(images):
        mirrored = images[:, :1, :1, :1] > images[:, :1, -1:, :1]
        return np.where(mirrored, VIEWS[1], VIEWS[0]) * np.ones((*images.shape[:3], 1))

    image = np.zeros((4, 6, 3), "uint8")
    image[:, 3:] = 200
    runner = Predictor(fake_runner(network))
    powers = np.exp([-6, -1, -1.1])
    found = runner.probabilities(image, flip=True, average="likelihoods")
    np.testing.assert_allclose(found[0, 0], powers / powers.sum(), rtol=1e-5)
    assert (runner.predict(image, flip=True, average="likelihoods") == 1).all()
    # The mean of the softmaxes: (.787 + .0005) / 2 = .394 and (.107 + .525) / 2 = .316.
    assert (runner.predict(image, flip=True) == 0).all()


def test_likelihoods_that_overflow_are_refused(fake_runner):
    network = Predictor(fake_runner(lambda images: images / 2))
    with pytest.raises(ValueError, match="its exponential is no number"):
        network.probabilities(np.full((4, 4, 3), 255, "uint8"), average="likelihoods")


def slid(image, network, spans, pad=0):
    """Sum over windows of what `network` gives for each, and how often each pixel is in one."""
    height, width = image.shape[:2]
    bottom = max(end for _, end in spans[0])
    right = max(end for _, end in spans[1])
    padded = np.full((max(height, bottom), max(width, right), 3), pad, "float32")
    padded[:height, :width] = image
    total, count = 0, np.zeros((*padded.shape[:2], 1))
    for top, bottom in spans[0]:
        for left, right in spans[1]:
            one = np.zeros((*padded.shape[:2], 3))
            one[top:bottom, left:right] = network(padded[None, top:bottom, left:right])[0]
            count[top:bottom, left:right] += 1
            total = total + one
    return (total / count)[:height, :width]


def test_mmseg_step_by_step(fake_runner):
    """Logits over windows, resized, softmax, and the mean over scales and mirrored pictures."""
    image = picture(20, 30, 3)
    # Windows 12, stride 8. Scale 1: 20 -> 0, 8; 30 -> 0, 8, 16, 18. Scale 0.5 (10 x 15).
    spans = {
        (20, 30): ([(0, 12), (8, 20)], [(0, 12), (8, 20), (16, 28), (18, 30)]),
        (10, 15): ([(0, 10)], [(0, 12), (3, 15)]),
    }
    expected = 0
    for size, windows in spans.items():
        for mirror in (1, -1):
            scaled = bilinear(image[:, ::mirror].astype("float32"), size)
            logits = slid(scaled, uneven, windows)
            expected = expected + softmax(bilinear(logits, (20, 30)))[:, ::mirror] / 4
    network = Predictor(fake_runner(uneven))
    options = {"procedure": "mmseg", "window": 12, "scales": (1, 0.5), "flip": True}
    np.testing.assert_allclose(network.probabilities(image, **options), expected, atol=1e-5)
    np.testing.assert_array_equal(network.predict(image, **options), expected.argmax(axis=-1))


def test_encoding_step_by_step(fake_runner):
    """exp(logits + mirrored logits) over windows that are not shifted, all resizes by corners."""
    image = picture(20, 30, 3)
    # Windows 12, stride 8. Scale 1: 20 -> 0, 8; 30 -> 0, 8, 16, 24; 0.5 -> 10 x 15: 0; 0, 8.
    spans = {
        (20, 30): ([(0, 12), (8, 20)], [(0, 12), (8, 20), (16, 28), (24, 36)]),
        (10, 15): ([(0, 12)], [(0, 12), (8, 20)]),
    }

    def likelihood(windows):
        return np.exp(uneven(windows) + uneven(windows[:, :, ::-1])[:, :, ::-1])

    expected = 0
    for size, windows in spans.items():
        scaled = bilinear(image.astype("float32"), size, align_corners=True)
        scores = slid(scaled, likelihood, windows)
        expected = expected + bilinear(scores, (20, 30), align_corners=True)
    expected = expected / expected.sum(axis=-1, keepdims=True)
    network = Predictor(fake_runner(uneven))
    options = {"procedure": "encoding", "window": 12, "scales": (1, 0.5), "flip": True}
    np.testing.assert_allclose(network.probabilities(image, **options), expected, atol=1e-5)
    np.testing.assert_array_equal(network.predict(image, **options), expected.argmax(axis=-1))


def test_semseg_step_by_step(fake_runner):
    """Probabilities of a window and its mirror image, over windows, resized, over scales."""
    image = picture(20, 30, 3)

    def probabilities(windows):
        mirrored = softmax(uneven(windows[:, :, ::-1]))[:, :, ::-1]
        return (softmax(uneven(windows)) + mirrored) / 2

    # Windows 9, stride 6. Scale 1: 20 -> 0, 6, 11; 30 -> 0, 6, 12, 18, 21. 0.75: 15 and 22 pixels.
    spans = {
        (20, 30): ([0, 6, 11], [0, 6, 12, 18, 21]),
        (15, 22): ([0, 6], [0, 6, 12, 13]),
    }
    expected = 0
    for size, starts in spans.items():
        windows = [[(start, start + 9) for start in axis] for axis in starts]
        scaled = bilinear(image.astype("float32"), size)
        expected = expected + bilinear(slid(scaled, probabilities, windows), (20, 30)) / 2
    network = Predictor(fake_runner(uneven))
    options = {"procedure": "semseg", "window": 9, "scales": (1, 0.75), "flip": True}
    np.testing.assert_allclose(network.probabilities(image, **options), expected, atol=1e-5)


def test_a_procedure_is_a_default(fake_runner):
    network, image = Predictor(fake_runner(uneven)), picture(20, 30, 3)
    plain = {"mode": "slide", "window": 12, "flip": True, "scales": (1, 0.7)}
    spelled = {"rule": "mmseg", "average": "views", "sampling": "half_pixel"}
    np.testing.assert_array_equal(
        network.probabilities(image, procedure="mmseg", window=12, flip=True, scales=(1, 0.7)),
        network.probabilities(image, **plain, **spelled),
    )
    np.testing.assert_array_equal(
        network.probabilities(image, procedure="mmseg", **plain, average="logits"),
        network.probabilities(image, **plain, **(spelled | {"average": "logits"})),
    )
    assert network.predict(image, procedure="mmseg", mode="whole").shape == (20, 30)


def test_a_smaller_map_is_enlarged_by_corners_where_asked(fake_runner):
    # 17 pixels to 3 by stride 8, as a network of sizes 8k+1 does.
    network = Predictor(fake_runner(lambda images: images[:, ::8, ::8]))
    image = picture(17, 25, 3)
    for corners in (False, True):
        logits = bilinear(image[::8, ::8].astype("float32"), (17, 25), corners)
        found = network.probabilities(image, align_corners=corners)
        np.testing.assert_allclose(found, softmax(logits), atol=1e-5)


# --------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("procedure", "base_size", "size", "scale", "expected"),
    [
        # round(0.75 * 512) = 384; 384 / 683 * 512 = 287.86.
        ("semseg", 512, (512, 683), 0.75, (288, 384)),
        ("semseg", 2048, (1024, 2048), 1.75, (1792, 3584)),
        # ceil(0.75 * 521) = 391; int(500 * 391 / 375 + 0.5) for an upright picture.
        ("encoding", 521, (500, 375), 0.75, (391, 293)),
        ("encoding", 520, (375, 500), 1.0, (390, 520)),
        # Half a pixel: 3 * 5 / 10 + 0.5 = 2.
        ("encoding", 5, (10, 3), 1.0, (5, 2)),
        # Inside (2048, 512): min(2048 / 683, 512 / 512) = 1; then min(1024 / 683, 256 / 512).
        ("mmseg", (2048, 512), (512, 683), 1.0, (512, 683)),
        ("mmseg", (2048, 512), (512, 683), 0.5, (256, 342)),
        # A long picture: 2048 / 3000 * 400 = 273.07.
        ("mmseg", (2048, 512), (400, 3000), 1.0, (273, 2048)),
        # Bounds are rounded down: int(1025 * 0.75) = 768, int(2049 * 0.75) = 1536.
        ("mmseg", (2049, 1025), (1024, 2048), 0.75, (768, 1536)),
        ("mmseg", None, (100, 200), 1.5, (150, 300)),
        # The short side, not below a window of 512.
        ("setr", (2048, 512), (512, 683), 0.5, (512, 683)),
        ("setr", (2048, 512), (512, 683), 1.5, (768, 1025)),
        (None, 512, (683, 512), 0.5, (256, 192)),
        (None, None, (3, 400), 0.1, (1, 40)),
    ],
)
def test_sizes_of_scaled_pictures(procedure, base_size, size, scale, expected):
    assert scaled_size(size, scale, base_size, procedure, least=512) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"procedure": "pspnet"}, "Unknown procedure 'pspnet'"),
        ({"rule": "mmseg"}, "rule belongs to mode='slide'"),
        ({"weighting": "gaussian"}, "weighting belongs to mode='slide'"),
        ({"mode": "slide", "window": 8, "rule": "caffe"}, "Unknown rule 'caffe'"),
        ({"average": "views", "flip": "d4"}, "the mirror image alone"),
        ({"sampling": "nearest"}, "Unknown sampling 'nearest'"),
        ({"base_size": (2048, 512)}, "base_size is one number"),
        ({"procedure": "mmseg", "window": 8, "base_size": 512}, "is a pair"),
        ({"procedure": "mmseg", "window": 8, "base_size": (512, 0)}, "base_size must be"),
        ({"batch_windows": 0}, "batch_windows must be"),
        ({"flip_pairs": ((0, 1),)}, "belongs to flip=True"),
        ({"flip_pairs": ((0, 3),), "flip": True}, r"in 0\.\.2"),
        ({"flip_pairs": ((0, 1), (1, 2)), "flip": True}, "at most once"),
        ({"flip_pairs": ((0, 1, 2),), "flip": True}, "pairs of different"),
        ({"flip_pairs": (0, 1), "flip": True}, "pairs of different"),
    ],
)
def test_bad_options_are_refused(fake_runner, options, message):
    with pytest.raises(ValueError, match=message):
        Predictor(fake_runner(uneven)).check(**options)


# ----------------------------------------------------------------------------- mirrored classes


def left_right(images):
    """Class 1 where the picture darkens to the right, class 2 where to the left."""
    after = np.roll(images, -1, axis=2)[..., 0]
    before = np.roll(images, 1, axis=2)[..., 0]
    score = (before - after) / 50
    return np.stack([0 * score, score, -score], axis=-1)


@pytest.mark.parametrize("options", [{}, {"mode": "slide", "window": 8}, {"average": "views"}])
def test_classes_that_a_mirror_image_swaps(fake_runner, options):
    network, image = Predictor(fake_runner(left_right)), picture(8, 11, 3)
    plain = network.probabilities(image, **options)
    # Mirrored, this network says the same with the names exchanged.
    found = network.probabilities(image, flip=True, flip_pairs=((1, 2),), **options)
    np.testing.assert_allclose(found, plain, atol=1e-6)
    # Without the pairs the two directions cancel out.
    without = network.probabilities(image, flip=True, **options)
    np.testing.assert_allclose(without[..., 1], without[..., 2], atol=1e-6)
    assert np.abs(plain[..., 1] - plain[..., 2]).max() > 0.5


@pytest.mark.parametrize("flip", [True, "d4"])
def test_pairs_of_classes_follow_the_mirror_image_of_any_network(fake_runner, flip):
    network, image = Predictor(fake_runner(uneven)), picture(8, 8, 3)
    options = {"flip": flip, "flip_pairs": ((2, 1),)}
    found = network.probabilities(image, **options)
    mirrored = network.probabilities(image[:, ::-1], **options)[:, ::-1]
    np.testing.assert_allclose(mirrored[..., [0, 2, 1]], found, atol=1e-6)
    assert np.abs(found - network.probabilities(image, flip=flip)).max() > 0.1


# --------------------------------------------------------------------------------- bands of rows


BANDS = [
    {"window": (16, 24)},
    {"window": 16, "stride": 5, "weighting": "gaussian"},
    {"window": 16, "scales": (0.5, 1, 1.75), "flip": True},
    {"window": (13, 16), "scales": (0.6, 1.3), "base_size": 50, "sampling": "half_pixel"},
    {"procedure": "mmseg", "window": 16, "scales": (0.5, 1, 1.25), "flip": True},
    {"procedure": "encoding", "window": 16, "scales": (0.5, 1, 1.25), "flip": True},
    {"procedure": "semseg", "window": 17, "scales": (0.75,), "base_size": 60},
    {"window": 16, "flip": "d4", "average": "logits", "scales": (0.7, 1)},
    {"mode": "tile", "window": 16, "scales": (0.7, 1)},
]


@pytest.mark.parametrize("options", BANDS, ids=str)
@pytest.mark.parametrize("size", [(41, 67), (5, 30)])
def test_bands_and_strips_give_what_the_whole_gives(monkeypatch, make_model, options, size):
    network, image = Predictor(make_model((None, None))), picture(*size, 3)
    options = {"mode": "slide"} | options
    whole = network.probabilities(image, **options)
    # A band of a few rows, strips of a few columns, however small the picture.
    monkeypatch.setattr(resize, "_BLOCK_BYTES", 2000)
    for held in (2**29, 20_000):
        monkeypatch.setattr(predictor, "_HELD_BYTES", held)
        label = network.predict(image, **options)
        sure = np.sort(whole, axis=-1)
        sure = sure[..., -1] - sure[..., -2] > 1e-5
        assert sure.mean() > 0.99
        np.testing.assert_array_equal(label[sure], whole.argmax(axis=-1)[sure])
    np.testing.assert_allclose(network.probabilities(image, **options), whole, atol=1e-6)


@pytest.mark.parametrize("options", BANDS, ids=str)
def test_bands_are_bit_equal_for_a_network_that_is(monkeypatch, fake_runner, options):
    network, image = Predictor(fake_runner(uneven)), picture(41, 67, 3)
    options = {"mode": "slide"} | options
    whole = network.probabilities(image, **options).argmax(axis=-1)
    monkeypatch.setattr(resize, "_BLOCK_BYTES", 2000)
    for held in (2**29, 20_000, 5000):
        monkeypatch.setattr(predictor, "_HELD_BYTES", held)
        np.testing.assert_array_equal(network.predict(image, **options), whole)


@pytest.mark.parametrize("name", ["model.keras", "saved_model", "model.tflite", "model.onnx"])
@pytest.mark.parametrize("size", [(16, 24), (41, 67), (5, 30)])
def test_a_pointwise_network_gives_the_same_whole_and_windowed(pointwise_files, name, size):
    image = picture(*size, 3)
    whole = Predictor(pointwise_files["model.keras"]).probabilities(image)
    network = Predictor(pointwise_files[name])
    for rule in ("semseg", "mmseg", "encoding"):
        for more in ({}, {"stride": 7}, {"weighting": "gaussian"}, {"flip": True}):
            options = {"mode": "slide", "window": (16, 24), "rule": rule, **more}
            np.testing.assert_allclose(network.probabilities(image, **options), whole, atol=2e-6)
            label = network.predict(image, **options)
            np.testing.assert_array_equal(label, whole.argmax(axis=-1))


def test_a_fixed_file_on_a_large_picture_is_stretched_in_bands(monkeypatch, fake_runner):
    network, image = Predictor(fake_runner(uneven, size=(8, 12))), picture(70, 90, 3)
    whole = network.probabilities(image).argmax(axis=-1)
    monkeypatch.setattr(resize, "_BLOCK_BYTES", 3000)
    np.testing.assert_array_equal(network.predict(image), whole)


def test_memory_does_not_grow_with_the_picture(monkeypatch, fake_runner):
    """The scores of a picture of 1000 x 800 pixels with 40 classes take 122 MiB."""

    def network(images):
        runner.seen.clear()
        return np.repeat(images[..., :1], 40, axis=-1)

    monkeypatch.setattr(resize, "_BLOCK_BYTES", 2**19)
    monkeypatch.setattr(predictor, "_HELD_BYTES", 2**23)
    runner = fake_runner(network, classes=40)
    network = Predictor(runner)
    image = np.zeros((1000, 800, 3), "uint8")
    options = {"mode": "slide", "window": 100, "stride": 100, "batch_windows": 1}
    for more, limit in [({}, 20), ({"scales": (0.5, 1)}, 24)]:
        tracemalloc.start()
        network.predict(image, **options, **more)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < limit * 2**20


# ------------------------------------------------------------------------------ files, batches


@pytest.mark.parametrize("name", ["model.keras", "saved_model", "model.tflite", "model.onnx"])
def test_multi_scale_and_flip_on_files_of_fixed_size(files, name):
    """The papers' scales, through the windows of a file that takes no other size."""
    image = picture(40, 41, 3)
    scales = tuple(np.arange(0.5, 1.8, 0.25))
    for procedure in (None, "semseg", "mmseg", "encoding"):
        options = {"mode": "slide", "procedure": procedure, "scales": scales, "flip": True}
        label = Predictor(files[name]).predict(image, **options)
        expected = Predictor(files["model.keras"]).probabilities(image, **options)
        sure = np.sort(expected, axis=-1)
        sure = sure[..., -1] - sure[..., -2] > 1e-4
        assert sure.mean() > 0.95
        np.testing.assert_array_equal(label[sure], expected.argmax(axis=-1)[sure])


def test_batches_of_windows(fake_runner):
    image = picture(20, 50, 3)
    results = []
    for batch, sizes in [(1, {1}), (3, {3, 2}), (None, {5})]:
        runner = fake_runner(uneven)
        options = {"mode": "slide", "window": 12, "stride": 10, "batch_windows": batch}
        results.append(Predictor(runner).probabilities(image, **options))
        # Two rows of five windows.
        assert {len(seen) for seen in runner.seen} == sizes
        assert sum(len(seen) for seen in runner.seen) == 10
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    runner = fake_runner(uneven)
    Predictor(runner).predict(image, mode="slide", window=12, flip=True, batch_windows=2)
    assert max(len(seen) for seen in runner.seen) == 4  # two windows and their mirror images


def test_the_usual_batch_has_few_large_windows(monkeypatch, fake_runner):
    # The scores of a window of 12 x 12 pixels and 3 classes take 1728 bytes.
    monkeypatch.setattr(options_module, "_BATCH_BYTES", 4000)
    for flip, most in [(False, 2), (True, 2)]:  # two windows, or one and its mirror image
        runner = fake_runner(uneven)
        Predictor(runner).predict(picture(12, 50, 3), mode="slide", window=12, flip=flip)
        assert max(len(seen) for seen in runner.seen) == most


def test_progress_is_on_standard_error(fake_runner, capsys):
    network = Predictor(fake_runner(uneven))
    options = {"mode": "slide", "window": 12, "stride": 12, "scales": (0.5, 1), "flip": True}
    network.predict(picture(24, 48, 3), **options)
    assert capsys.readouterr() == ("", "")
    network.predict(picture(24, 48, 3), **options, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    # One row of two windows at half the size, two of four at full size.
    assert "10/10" in err and "windows" in err
    network.predict(picture(24, 48, 3), procedure="mmseg", progress=True, window=12, flip=True)
    # Two rows (0, 8 and 12) and columns 0, 8, ..., 32 and 36, twice.
    rows, columns = (math.ceil((side - 12) / 8) + 1 for side in (24, 48))
    assert f"{2 * rows * columns}/{2 * rows * columns}" in capsys.readouterr().err


def test_the_bar_comes_by_itself_for_large_pictures(fake_runner, monkeypatch, capsys):
    monkeypatch.setattr(predictor, "_LARGE", 1000)
    network = Predictor(fake_runner(uneven))
    options = {"mode": "slide", "window": 24, "stride": 24}
    network.predict(picture(24, 48, 3), **options)
    assert "2/2" in capsys.readouterr().err
    network.predict(picture(24, 48, 3), **options, progress=False)
    assert capsys.readouterr().err == ""
