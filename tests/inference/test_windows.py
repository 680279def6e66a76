"""Sliding window and overlap-tile: the vectors and invariants of their sources."""

import itertools
import math

import keras
import numpy as np
import pytest

from keras_seg.inference.resize import Picture
from keras_seg.inference.windows import OverlapTile, SlidingWindow, pad_to_multiple, window_starts


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype("float32")


# specs of the three code bases: rule, crop, stride, image, (start, end) of each window.
SPANS = [
    ("semseg", 713, 476, 1024, [(0, 713), (311, 1024)]),
    ("semseg", 713, 476, 2048, [(0, 713), (476, 1189), (952, 1665), (1335, 2048)]),
    ("semseg", 473, 316, 512, [(0, 473), (39, 512)]),
    ("semseg", 473, 316, 473, [(0, 473)]),
    ("semseg", 473, 316, 683, [(0, 473), (210, 683)]),
    # Padded to 473: 86 pixels before, 87 behind.
    ("semseg", 473, 316, 300, [(-86, 387)]),
    ("mmseg", 769, 513, 1024, [(0, 769), (255, 1024)]),
    ("mmseg", 769, 513, 2049, [(0, 769), (513, 1282), (1026, 1795), (1280, 2049)]),
    ("mmseg", 512, 341, 512, [(0, 512)]),
    ("mmseg", 512, 341, 683, [(0, 512), (171, 683)]),
    ("mmseg", 512, 341, 300, [(0, 300)]),
    ("mmseg", 768, 512, 2048, [(0, 768), (512, 1280), (1024, 1792), (1280, 2048)]),
    ("mmseg", 480, 320, 481, [(0, 480), (1, 481)]),
    # Not shifted: the second window has 200 pixels of the image and 280 of padding.
    ("encoding", 480, 320, 520, [(0, 480), (320, 800)]),
    ("encoding", 480, 320, 800, [(0, 480), (320, 800)]),
    ("encoding", 480, 320, 300, [(0, 480)]),
    ("encoding", 520, 346, 1000, [(0, 520), (346, 866), (692, 1212)]),
]


@pytest.mark.parametrize(("rule", "window", "stride", "length", "spans"), SPANS)
def test_windows_lie_where_each_code_base_puts_them(rule, window, stride, length, spans):
    slide = SlidingWindow(window, rule=rule)
    assert slide.stride == (stride, stride)
    assert slide.spans((length, length)) == (spans, spans)
    # Each axis by itself.
    assert slide.spans((length, window)) == (spans, [(0, window)])


def test_the_grids_are_those_of_the_code_bases_for_every_length():
    for length, window, stride in itertools.product(range(1, 60), (7, 16), (1, 3, 5, 7)):
        expected = {"semseg": [], "mmseg": [], "encoding": []}
        for index in range(math.ceil((max(length, window) - window) / stride) + 1):
            end = min(index * stride + window, max(length, window))
            before = max(0, window - length) // 2
            expected["semseg"].append((end - window - before, end - before))
            expected["encoding"].append((index * stride, index * stride + window))
        for index in range(max(length - window + stride - 1, 0) // stride + 1):
            end = min(index * stride + window, length)
            expected["mmseg"].append((max(end - window, 0), end))
        for rule, spans in expected.items():
            found = SlidingWindow(window, stride, rule=rule).spans((length, 1))[0]
            assert found == spans, (rule, length, window, stride)
            covered = np.zeros(length, int)
            for start, end in found:
                covered[max(0, start) : end] += 1
            assert covered.min() >= 1


def test_window_starts():
    assert window_starts(2049, 769, 513) == [0, 513, 1026, 1280]
    assert window_starts(2049, 769, 513, shift=False) == [0, 513, 1026, 1539]
    assert window_starts(300, 473, 316) == [0]


@pytest.mark.parametrize("rule", ["semseg", "mmseg", "encoding"])
@pytest.mark.parametrize("size", [(1, 1), (7, 30), (16, 12), (17, 13), (45, 33)])
def test_rules_keep_the_invariants(rule, size):
    image = noise(*size, 2)
    slide = SlidingWindow((16, 12), rule=rule)
    np.testing.assert_array_equal(slide(image, lambda part: part), image)
    constant = slide(image, lambda part: 0 * part + 7)
    np.testing.assert_array_equal(constant, np.full_like(image, 7))


def test_what_a_small_image_is_padded_with():
    image = noise(5, 4, 3)
    seen = {}
    for rule in ("mmseg", "encoding"):
        SlidingWindow(8, rule=rule)(image, lambda part, rule=rule: seen.setdefault(rule, part))
    np.testing.assert_array_equal(seen["mmseg"], image)
    np.testing.assert_array_equal(seen["encoding"], np.pad(image, ((0, 3), (0, 4), (0, 0))))
    # A network of fixed size cannot run it as it is: padded as by semseg.
    SlidingWindow(8, rule="mmseg", fixed=True)(image, lambda part: seen.setdefault("fixed", part))
    np.testing.assert_array_equal(seen["fixed"][1:6, 2:6], image)
    np.testing.assert_allclose(seen["fixed"][0, 0], [123.675, 116.28, 103.53], rtol=1e-6)


def blur(windows):
    """Looks around each pixel, and sees the windows' borders."""
    total = windows + np.roll(windows, 1, axis=1) + 2 * np.roll(windows, 1, axis=2)
    return np.sqrt(total).astype("float32")


@pytest.mark.parametrize("rule", ["semseg", "mmseg", "encoding"])
@pytest.mark.parametrize("weighting", ["uniform", "gaussian"])
@pytest.mark.parametrize("size", [(9, 7), (23, 64), (61, 37)])
def test_strips_of_columns_and_batches_change_nothing(rule, weighting, size):
    slide = SlidingWindow((16, 12), (5, 7), weighting, rule)
    image = noise(*size, 2)
    whole = slide(image, lambda part: blur(part[None])[0])
    picture = Picture(image)
    for first, last, batch in [(0, size[1], 3), (0, 1, 1), (size[1] // 2, size[1], 2), (3, 6, 4)]:
        sizes = []

        def network(windows, sizes=sizes):
            sizes.append(len(windows))
            return blur(windows)

        blocks = slide.rows(picture, network, columns=(first, last), batch=batch)
        np.testing.assert_array_equal(np.concatenate(list(blocks)), whole[:, first:last])
        assert max(sizes) <= batch
        assert sum(sizes) == slide.count(size, (first, last))


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
        ((8, 4, "uniform", "detectron"), "Unknown rule 'detectron'"),
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


def test_tiles_smaller_than_16_keep_to_the_stride_of_the_network():
    """An output of 14 pixels would have been moved by 14, which is no multiple of the stride."""
    network = valid_network()
    image = noise(37, 50, 2) / 255
    output = network(np.zeros((20, 20, 2), "float32")).shape[:2]
    assert output == (14, 14)
    tiles = OverlapTile(20, output)
    result = tiles(image, network)
    np.testing.assert_allclose(
        result, OverlapTile(20, output, step=4)(image, network), atol=1e-5, rtol=0
    )


def test_tiles_in_strips_and_batches_are_the_same():
    network = valid_network()
    image = noise(37, 50, 2) / 255
    tiles = OverlapTile((28, 36), (22, 30), step=(20, 28))
    whole = tiles(image, network)
    for first, last in [(0, 50), (0, 10), (20, 33), (49, 50)]:
        blocks = tiles.rows(
            Picture(image),
            lambda parts: np.stack([network(part) for part in parts]),
            columns=(first, last),
            batch=2,
        )
        np.testing.assert_array_equal(np.concatenate(list(blocks)), whole[:, first:last])


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


@pytest.mark.parametrize(
    ("arguments", "size"), [((8,), (16, 24)), ((8, 1), (17, 25)), ((1,), (16, 19))]
)
def test_padding_to_a_multiple_is_at_the_bottom_and_right(arguments, size):
    image = noise(16, 19, 1)
    padded = pad_to_multiple(image, *arguments)
    assert padded.shape == (*size, 1)
    np.testing.assert_array_equal(padded[:16, :19], image)
    assert (padded[16:] == 127.5).all() and (padded[:, 19:] == 127.5).all()
