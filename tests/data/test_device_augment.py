"""DeviceAugment: what the host makes of the same drawn numbers; compiled the same."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_seg import data
from keras_seg.data import color, elastic, geometry
from keras_seg.data.augment import Frame

BACKEND = keras.backend.backend()
needs_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data")
STILL = {"scale": (1.0, 1.0), "flip": False}
SIZE = (60, 76)


def _batch(count, channels=3, size=SIZE, smooth=True):
    """Pictures and labels of blocks with the ids 0, 3, 18; `smooth`: waves of 150 pixels."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (count, *size, channels), dtype=np.uint8)
    if smooth:
        phases = rng.uniform(0, 2 * np.pi, (2, count, 1, 1, channels))
        y, x = (np.arange(n) * 2 * np.pi / 150 for n in size)
        waves = np.sin(y[None, :, None, None] + phases[0]) + np.sin(x[:, None] + phases[1])
        images = np.rint(127 + 60 * waves).astype("uint8")
    ids = np.array([0, 3, 18], "uint8")[rng.integers(0, 3, (count, 4, 5))]
    labels = [geometry.resize_label(each, size) for each in ids]
    return images, np.stack(labels).astype("int32")


def _device(augment, images, labels, step=0):
    """(images, labels, what was drawn) as NumPy arrays."""
    drawn = augment.draw(step, len(images), *images.shape[1:3])
    new_images, new_labels = augment(images, labels, step)
    drawn = {key: ops.convert_to_numpy(value) for key, value in drawn.items()}
    return ops.convert_to_numpy(new_images), ops.convert_to_numpy(new_labels), drawn


def _host(augment, images, labels, drawn):
    """What the host makes of the numbers that were drawn on the device."""
    options = augment.host
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):

        def recolor(pixels, i=i, image=image):
            if any(options.color):
                keys = ("bright", "strong", "full", "hue")
                count = 3 if image.shape[2] > 4 else image.shape[2]
                mean = image[..., :count].mean((0, 1)).astype("float32")
                matrix = color.jitter_matrix([float(drawn[k][i]) for k in keys], mean)
                pixels = color.change_colors(pixels, *matrix)
            if options.distortion:
                keys = ("delta", "factor", "last", "vividness", "shift")
                values = [drawn[k][i].item() for k in keys]
                if image.shape[2] < 3:  # what has no colours
                    values[3:] = 1.0, 0.0
                pixels = color.distort(pixels, values)
            return pixels

        size = (int(drawn["height"][i]), int(drawn["width"][i]))
        frame = Frame(
            image=image,
            maps=[label],
            recolor=recolor,
            size=size,
            interpolation="bilinear",
            pad=color.pad_color(image.shape[2]),
            fills=[255],
            mirror_image=options.pad != "color",
            mirror_maps=options.pad == "mirror",
            blurred=bool(drawn["blurred"][i]),
            flipped=bool(drawn["flipped"][i]),
            upended=bool(drawn["upended"][i]),
            quarters=int(drawn["quarters"][i]),
        )
        if drawn["angle"][i]:
            frame.turn = geometry.Turn(float(drawn["angle"][i]), size)
        if options.elastic:
            frame.displacements = drawn["displacements"][i]
        top, left = int(drawn["top"][i]), int(drawn["left"][i])
        window = (top, top + options.crop[0], left, left + options.crop[1])
        yield frame.read_image(window).astype("float32"), frame.read_map(window, 0)


def _flat(label, reach=3):
    """Pixels around which all are of one id."""
    windows = np.lib.stride_tricks.sliding_window_view(label, (2 * reach + 1,) * 2)
    return np.pad(windows.min((2, 3)) == windows.max((2, 3)), reach)


@pytest.mark.parametrize("pad", ["color", "mirror", "mirror_image"])
@pytest.mark.parametrize("crop", [(40, 50), (90, 70), (70, 100)])
def test_flips_turns_and_crops_are_exactly_the_hosts(pad, crop):
    images, labels = _batch(12, smooth=False)
    augment = data.DeviceAugment(
        crop, scale=(1.0, 1.0), vertical_flip=True, turns=True, pad=pad, seed=4
    )
    new_images, new_labels, drawn = _device(augment, images, labels)
    assert len(np.unique(drawn["quarters"])) == 4 and len(np.unique(drawn["flipped"])) == 2
    for i, (image, label) in enumerate(_host(augment, images, labels, drawn)):
        assert np.array_equal(new_images[i], image) and np.array_equal(new_labels[i], label)
    if pad == "color":
        assert (new_images[new_labels == 255] == (124, 116, 104)).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("changes", [{"color": (0.4, 0.4, 0.4, 0.1)}, {"distortion": True}])
def test_colours_are_the_hosts_to_one_grey_value(channels, changes):
    images, labels = _batch(10, channels, smooth=False)
    augment = data.DeviceAugment(SIZE, **STILL, **changes)
    new_images, new_labels, drawn = _device(augment, images, labels)
    assert np.array_equal(new_labels, labels)
    # Half a value of the host's rounding; its distortion rounds before the colours and contrast,
    # which multiply that by 1.5 each at most.
    bound = 0.51 if "color" in changes else 0.5 * (1 + 1.5 + 1.5**2)
    for i, (image, _) in enumerate(_host(augment, images, labels, drawn)):
        error = np.abs(new_images[i] - image)
        assert error.max() <= bound and error.mean() < 0.5
    assert (
        sum((np.abs(new - old) > 2).any() for new, old in zip(new_images, images, strict=True)) > 5
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": (1.0, 2.0)},
        {"scale": (0.5, 1.0)},
        {"scale": (0.7, 1.5), "aspect": (0.7, 1.4)},
        {"scale_steps": (0.75, 1.0, 1.5)},
        {"scale": (1.0, 1.0), "rotation": 60.0},
        {"scale": (1.0, 1.0), "elastic": 4.0},
        {"scale": (1.0, 1.0), "blur": 0.7},
        {
            "scale": (0.7, 1.5),
            "rotation": 30.0,
            "elastic": 3.0,
            "blur": 0.5,
            "vertical_flip": True,
            "turns": True,
        },
    ],
)
@pytest.mark.parametrize("pad", ["color", "mirror"])
def test_resampling_is_near_the_hosts(changes, pad):
    """Away from edges: what the host rounds, up to five times; labels but for outlines alike."""
    images, labels = _batch(8)
    augment = data.DeviceAugment((64, 60), pad=pad, **changes)
    new_images, new_labels, drawn = _device(augment, images, labels)
    compared = padded = 0
    for i, (image, label) in enumerate(_host(augment, images, labels, drawn)):
        flat = _flat(label)
        assert np.array_equal(new_labels[i][flat], label[flat])
        # Outlines may move by a pixel where the host resamples more than once.
        assert (new_labels[i] == label).mean() > 0.95
        # Two pixels around padding the host's blur and turns mix its colour in.
        far = _flat((label == 255).astype("uint8")) & (label != 255)
        error = np.abs(new_images[i] - image)[far]
        if far.any():
            assert error.max() <= 2.5 and error.mean() < 0.6
        compared += far.sum()
        padding = (label == 255) & (new_labels[i] == 255)
        padded += padding.sum()
        assert (new_images[i][padding] == (124, 116, 104)).all()
    assert compared > 8 * 500 and (padded == 0 or pad == "color")


def test_no_new_ids_and_types():
    images, labels = _batch(6, smooth=False)
    augment = data.DeviceAugment(
        (50, 44), rotation=40, elastic=5, blur=0.5, color=0.3, distortion=True, cut_mix=0.5
    )
    for step in range(3):
        new_images, new_labels, _ = _device(augment, images, labels, step)
        assert new_images.shape == (6, 50, 44, 3) and new_images.dtype == np.float32
        assert new_labels.shape == (6, 50, 44) and new_labels.dtype == np.int32
        assert set(np.unique(new_labels)) <= {0, 3, 18, 255}
        assert new_images.min() >= 0 and new_images.max() <= 255
    many = (labels[..., None] == np.arange(19)).astype("int32")
    new_many = ops.convert_to_numpy(augment(images.astype("float32"), many, step)[1])
    assert new_many.shape == (6, 50, 44, 19)
    seen = new_many[..., 0] != 255
    assert np.array_equal(seen, new_labels != 255)
    assert np.array_equal(new_many[seen].argmax(-1), new_labels[seen])


def _mixed(x):
    """The finaliser of MurmurHash3 in NumPy."""
    x = np.asarray(x, "uint32")
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return x ^ (x >> np.uint32(16))


def test_what_is_drawn_follows_from_seed_and_step_on_every_backend():
    augment = data.DeviceAugment(32, seed=7, cut_mix=0.5)
    with np.errstate(over="ignore"):
        key = _mixed(_mixed([7]) + np.uint32(11))
        sample = _mixed(key + np.arange(1, 5, dtype="uint32"))
        bits = _mixed(sample[:, None] + np.arange(1, 24, dtype="uint32"))
    uniform = (bits >> np.uint32(8)) / 2**24
    drawn = augment.draw(11, 4, 40, 50)
    factors = 0.5 + 1.5 * uniform[:, 4]
    assert np.allclose(drawn["height"], np.round(40 * factors))
    assert np.allclose(drawn["width"], np.round(50 * factors))
    assert np.array_equal(ops.convert_to_numpy(drawn["flipped"]), uniform[:, 9] < 0.5)
    assert np.allclose(drawn["column"], uniform[:, 17])


def test_draws_are_uniform_and_independent():
    augment = data.DeviceAugment(32, rotation=30, rotation_probability=1.0, elastic=5.0, color=0.5)
    drawn = augment.draw(0, 4000, 4000, 50)
    drawn = {key: ops.convert_to_numpy(value).astype("float64") for key, value in drawn.items()}
    uniform = {
        "height": (drawn["height"] / 4000 - 0.5) / 1.5,
        "angle": (drawn["angle"] + 30) / 60,
        "bright": drawn["bright"] - 0.5,
        "share": drawn["share"],
        "row": drawn["row"],
    }
    for name, values in uniform.items():
        assert abs(values.mean() - 0.5) < 0.02, name
        counts = np.histogram(values, 10, (0, 1))[0]
        assert counts.min() > 320 and counts.max() < 480, name
    names = [*uniform.values(), drawn["flipped"], *drawn["displacements"].reshape(4000, -1).T]
    correlation = np.corrcoef(names) - np.eye(len(names))
    assert np.abs(correlation).max() < 0.07
    assert abs(drawn["displacements"].mean()) < 0.1
    assert abs(drawn["displacements"].std() - 5) < 0.1
    other = ops.convert_to_numpy(augment.draw(1, 4000, 40, 50)["angle"])
    assert abs(np.corrcoef(other, drawn["angle"])[0, 1]) < 0.07


@pytest.mark.skipif(BACKEND == "torch", reason="XLA")
def test_compiled_is_the_same():
    """By XLA; TensorFlow's graph is `test_in_tf_data`."""
    images, labels = _batch(2)
    augment = data.DeviceAugment((50, 44), rotation=40, blur=0.5, color=0.3, cut_mix=0.5)
    expected = _device(augment, images, labels, 3)[:2]
    if BACKEND == "jax":
        import jax

        compiled = jax.jit(lambda *batch: augment(*batch))
    else:
        import tensorflow as tf

        compiled = tf.function(lambda *batch: augment(*batch), jit_compile=True)
    new_images, new_labels = compiled(images, labels, np.int32(3))
    assert np.abs(ops.convert_to_numpy(new_images) - expected[0]).max() < 0.1
    assert (ops.convert_to_numpy(new_labels) == expected[1]).mean() > 0.999


@needs_tensorflow
def test_in_tf_data():
    """Of any size, in a pipeline, step by step."""
    dataset = data.shapes(6, size=(32, 40))
    augment = data.DeviceAugment(
        24, rotation=20, blur=0.5, color=0.3, distortion=True, elastic=2, turns=True, cut_mix=0.5
    )
    pipeline = data.tf_batches(dataset, 2)
    assert pipeline.element_spec[0].shape.as_list() == [None, None, None, 3]
    changed = pipeline.enumerate().map(lambda step, batch: augment(*batch, step))
    for step, (images, labels) in enumerate(changed):
        expected = augment(*data.NumpyBatches(dataset, 2)[step], step)
        assert np.allclose(images, expected[0], atol=0.01)
        assert np.array_equal(labels, expected[1]) and images.shape == (2, 24, 24, 3)


def test_cut_mix_takes_rectangles_of_the_one_before():
    images = np.broadcast_to(np.arange(8)[:, None, None, None], (8, 30, 40, 3)).astype("float32")
    labels = images[..., 0].astype("int32")
    augment = data.DeviceAugment((30, 40), **STILL, cut_mix=0.6)
    mixed = 0
    for step in range(10):
        new_images, new_labels, drawn = _device(augment, images, labels, step)
        assert np.array_equal(new_images, np.repeat(new_labels[..., None], 3, 3))
        for i, label in enumerate(new_labels):
            assert set(np.unique(label)) <= {i, (i - 1) % 8}
            taken = label != i
            assert np.array_equal(taken, taken.any(1)[:, None] & taken.any(0))
            assert drawn["mixed"][i] or not taken.any()
            mixed += taken.any()
    assert 30 <= mixed <= 60


def test_it_is_stored_with_its_arguments():
    augment = data.DeviceAugment(
        (24, 20), rotation=5.0, scale_steps=(0.5, 1.0), pad="mirror", cut_mix=0.2, seed=9
    )
    config = keras.saving.serialize_keras_object(augment)
    assert config["registered_name"] == "keras_seg>DeviceAugment"
    again = keras.saving.deserialize_keras_object(config)
    images, labels = _batch(2)
    for one, other in zip(augment(images, labels, 1), again(images, labels, 1), strict=True):
        assert np.array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop": None}, "needs crop"),
        ({"crop": 8, "rotation": 200}, "rotation"),
        ({"crop": 8, "cut_mix": 2}, "cut_mix"),
        ({"crop": 8, "seed": 2**31}, "seed"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        data.DeviceAugment(**options)


def test_the_field_is_the_hosts():
    augment = data.DeviceAugment((41, 61), **STILL, elastic=3.0, elastic_grid=4)
    drawn = augment.draw(0, 2, 41, 61)
    points = ops.convert_to_numpy(drawn["displacements"])
    rows, columns, _ = augment._places(
        {**drawn, "displacements": ops.convert_to_tensor(points / 1e3)}, 0
    )
    for i in range(2):
        field = elastic.displacement_field(points[i] / 1e3, (41, 61), (0, 41, 0, 61))
        moved = ops.convert_to_numpy(rows)[i] - np.arange(41)[:, None]
        inner = np.s_[1:-1, 1:-1]
        assert np.allclose(moved[inner], field[0][inner], atol=1e-4)
        moved = ops.convert_to_numpy(columns)[i] - np.arange(61)
        assert np.allclose(moved[inner], field[1][inner], atol=1e-4)
