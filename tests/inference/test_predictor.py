"""From a picture to a label map: modes, averaging, class tables, and what is refused."""

import concurrent.futures
import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from keras_seg.data import LabelTable
from keras_seg.inference import Predictor
from keras_seg.layers import check_size


def picture(*shape):
    return np.random.default_rng(3).integers(0, 256, shape).astype("uint8")


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def as_logits(images):
    """Three classes from three channels; each pixel by itself."""
    return images / 64


def uneven(images):
    """Looks at the pixel to the left and above: neither symmetric nor free of position."""
    return (images + 2 * np.roll(images, 1, axis=2) + np.roll(images, 1, axis=1)) / 200


def test_the_whole_image_is_one_call_of_the_model(make_model):
    model = make_model((None, None))
    image = picture(19, 31, 3)
    logits = model.predict_on_batch(image[None].astype("float32"))
    predictor = Predictor(model)
    assert (predictor.num_classes, predictor.channels, predictor.input_size) == (5, 3, None)
    np.testing.assert_allclose(predictor.logits(image[None]), logits, atol=1e-5)
    np.testing.assert_allclose(predictor.probabilities(image), softmax(logits[0]), atol=1e-6)
    label = predictor.predict(image)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, logits[0].argmax(axis=-1))


@pytest.mark.parametrize("size", [(9, 7), (24, 24), (24, 5)])
def test_a_window_as_large_as_the_image_changes_nothing(make_model, size):
    # A pointwise network: it cannot see the padding around a smaller image.
    image = keras.Input((None, None, 3))
    predictor = Predictor(keras.Model(image, keras.layers.Conv2D(4, 1)(image)))
    image = picture(*size, 3)
    np.testing.assert_allclose(
        predictor.probabilities(image, mode="slide", window=24),
        predictor.probabilities(image),
        atol=2e-6,
    )


def test_every_file_gives_the_same_labels(files):
    image = picture(16, 24, 3)
    expected = Predictor(files["model.keras"]).predict(image)
    assert len(np.unique(expected)) > 2
    for name in ("saved_model", "model.tflite", "model.onnx", "labels.tflite"):
        table = LabelTable.default(5)
        np.testing.assert_array_equal(Predictor(files[name], table=table).predict(image), expected)


def test_probabilities_are_averaged_and_not_logits(fake_runner):
    # inference.md, section 1: three views, here three scales. One confidently wrong view decides
    # the mean of the logits, but not the mean of the probabilities.
    views = {4: (2, 0, 0), 2: (-8, -1, -1.1), 8: (2, 0, 0)}

    def network(images):
        return np.full((*images.shape[:3], 3), views[images.shape[1]], "float32")

    predictor = Predictor(fake_runner(network))
    image, scales = picture(4, 4, 3), (1.0, 0.5, 2.0)
    mean = predictor.probabilities(image, scales=scales)
    np.testing.assert_allclose(mean, np.tile([0.524817, 0.245914, 0.229269], (4, 4, 1)), atol=1e-6)
    assert (predictor.predict(image, scales=scales) == 0).all()
    of_logits = predictor.probabilities(image, scales=scales, average="logits")
    np.testing.assert_allclose(
        of_logits, np.tile(softmax(np.mean(list(views.values()), axis=0)), (4, 4, 1)), atol=1e-6
    )
    assert (predictor.predict(image, scales=scales, average="logits") == 1).all()


def test_flip_is_the_mean_of_both_directions(fake_runner):
    predictor = Predictor(fake_runner(uneven))
    image = picture(6, 9, 3)
    there = softmax(uneven(image[None].astype("float32"))[0])
    back = softmax(uneven(image[None, :, ::-1].astype("float32"))[0])[:, ::-1]
    assert np.abs(there - back).max() > 0.1
    flipped = predictor.probabilities(image, flip=True)
    np.testing.assert_allclose(flipped, (there + back) / 2, atol=1e-6)
    mirrored = predictor.probabilities(image[:, ::-1], flip=True)
    np.testing.assert_allclose(mirrored, flipped[:, ::-1], atol=1e-6)


def test_flip_changes_nothing_for_a_symmetric_network(fake_runner):
    predictor = Predictor(fake_runner(as_logits))
    image = picture(6, 9, 3)
    np.testing.assert_allclose(
        predictor.probabilities(image, flip=True), predictor.probabilities(image), atol=1e-7
    )
    np.testing.assert_allclose(
        predictor.probabilities(image, flip="d4"), predictor.probabilities(image), atol=1e-6
    )


@pytest.mark.parametrize("options", [{}, {"mode": "slide", "window": 5, "stride": 5}])
def test_d4_follows_every_rotation_and_mirror_image(fake_runner, options):
    predictor = Predictor(fake_runner(uneven))
    image = picture(10, 10, 3)
    result = predictor.probabilities(image, flip="d4", **options)
    for turn in range(4):
        turned = predictor.probabilities(np.rot90(image, turn), flip="d4", **options)
        np.testing.assert_allclose(turned, np.rot90(result, turn), atol=1e-6)
        mirrored = predictor.probabilities(np.rot90(image, turn)[:, ::-1], flip="d4", **options)
        np.testing.assert_allclose(mirrored, np.rot90(result, turn)[:, ::-1], atol=1e-6)


def test_options_together_still_give_probabilities(make_model):
    predictor = Predictor(make_model((None, None)))
    image = picture(37, 50, 3)
    options = {"mode": "slide", "window": (20, 30), "scales": (0.5, 1.25), "flip": True}
    for more in [{}, {"average": "logits"}, {"weighting": "gaussian"}, {"base_size": 60}]:
        result = predictor.probabilities(image, **options, **more)
        assert result.shape == (37, 50, 5) and result.dtype == np.float32
        np.testing.assert_allclose(result.sum(axis=-1), 1, atol=1e-5)
        np.testing.assert_array_equal(
            predictor.predict(image, **options, **more), result.argmax(axis=-1)
        )


@pytest.mark.parametrize(
    ("size", "scale", "base_size", "seen"),
    [
        # Long side round(scale * 512), the other in proportion (semseg).
        ((683, 512), 0.5, 512, (256, 192)),
        ((512, 683), 1.75, 512, (672, 896)),
        ((300, 500), 1.5, None, (450, 750)),
        ((3, 400), 0.1, None, (1, 40)),
    ],
)
def test_scales_are_of_the_image_or_of_base_size(fake_runner, size, scale, base_size, seen):
    runner = fake_runner(as_logits)
    result = Predictor(runner).predict(picture(*size, 3), scales=scale, base_size=base_size)
    assert result.shape == size
    assert runner.seen[0].shape == (1, *seen, 3)


def test_a_file_of_fixed_size_sees_the_whole_squareresized(fake_runner):
    runner = fake_runner(as_logits, size=(8, 12))
    # Left half class 0, right half class 2, on a picture of another size and shape.
    image = np.zeros((32, 24, 3), "uint8")
    image[:, :12, 0] = image[:, 12:, 2] = 255
    label = Predictor(runner).predict(image)
    assert runner.seen[0].shape == (1, 8, 12, 3)
    assert (label[:, :12] == 0).all() and (label[:, 12:] == 2).all()


def test_a_file_of_fixed_size_slides_over_a_large_picture(files, make_model):
    image = picture(40, 41, 3)
    whole = Predictor(make_model((None, None))).predict(image)
    for name in ("model.tflite", "model.onnx"):
        slid = Predictor(files[name]).predict(image, mode="slide")
        # Windows of 16x24 begin at rows 0, 11, ... and columns 0, 16, ...: what only the first one
        # covers lies away from its lower and right borders, where it sees zeros for the image.
        np.testing.assert_array_equal(slid[:11, :16], whole[:11, :16])
        assert slid.shape == (40, 41) and (slid == whole).mean() > 0.5


def test_size_divisor_pads_bottom_and_right_with_the_mean_colour(fake_runner):
    runner = fake_runner(as_logits)
    predictor = Predictor(runner)
    image = picture(9, 17, 3)
    plain = predictor.predict(image)
    np.testing.assert_array_equal(predictor.predict(image, size_divisor=8), plain)
    np.testing.assert_array_equal(predictor.predict(image, size_divisor=(8, 1)), plain)
    assert [seen.shape[1:3] for seen in runner.seen] == [(9, 17), (16, 24), (9, 17)]
    np.testing.assert_array_equal(runner.seen[1][0, :9, :17], image)
    np.testing.assert_allclose(
        runner.seen[1][0, 9:], np.broadcast_to(np.float32([123.675, 116.28, 103.53]), (7, 24, 3))
    )


def test_a_smaller_map_of_scores_is_resized(fake_runner):
    def stride_8(images):
        return images[:, ::8, ::8]

    predictor = Predictor(fake_runner(stride_8))
    image = np.zeros((20, 33, 3), "uint8")
    image[..., 1] = 200
    assert predictor.predict(image).shape == (20, 33)
    assert (predictor.predict(image) == 1).all()


def test_valid_convolutions_need_tiles(fake_runner):
    def valid(images):
        return images[:, 6:-6, 6:-6]

    predictor = Predictor(fake_runner(valid))
    image = picture(30, 45, 3)
    with pytest.raises(ValueError, match="Use mode='tile'"):
        predictor.predict(image)
    label = predictor.predict(image, mode="tile", window=32)
    np.testing.assert_array_equal(label, image.argmax(axis=-1))
    np.testing.assert_array_equal(
        predictor.predict(image, mode="tile", window=(28, 60), flip=True), label
    )


def test_a_window_that_pooling_does_not_divide_is_refused():
    image = keras.Input((None, None, 3))
    x = keras.layers.MaxPooling2D()(keras.layers.Conv2D(4, 3)(image))
    x = keras.layers.Conv2DTranspose(4, 2, strides=2)(x)
    predictor = Predictor(keras.Model(image, x))
    square = picture(20, 20, 3)
    assert predictor.predict(square, mode="tile", window=12).shape == (20, 20)
    # 13 loses one row at the top and two at the bottom: half of three is no border.
    with pytest.raises(ValueError, match="leaves out the last pixels"):
        predictor.predict(square, mode="tile", window=13)


def test_a_file_of_labels_votes(fake_runner):
    def labels(images):
        return images.argmax(axis=-1)

    table = LabelTable.default(3)
    predictor = Predictor(fake_runner(labels, labels=True), table=table)
    image = picture(12, 9, 3)
    expected = image.argmax(axis=-1)
    np.testing.assert_array_equal(predictor.predict(image), expected)
    np.testing.assert_array_equal(predictor.predict(image, mode="slide", window=8), expected)
    one_hot = predictor.probabilities(image, flip=True)
    np.testing.assert_array_equal(one_hot, np.eye(3)[expected])
    with pytest.raises(ValueError, match="labels, not logits"):
        predictor.logits(image[None])
    with pytest.raises(ValueError, match="no logits to average"):
        predictor.predict(image, average="logits")
    with pytest.raises(ValueError, match="class table has 2 classes"):
        Predictor(fake_runner(labels, labels=True), table=LabelTable.default(2)).predict(image)
    with pytest.raises(ValueError, match="how many classes"):
        Predictor(fake_runner(labels, labels=True))


def test_the_class_table_comes_from_the_manifest(files, tmp_path):
    table = LabelTable(["sky", "road", "car", "tree", "sign"], name="street")
    manifest = {"keras_seg_manifest": 1, "classes": table.to_json()}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    shutil.copy(files["model.keras"], tmp_path / "best.keras")
    shutil.copytree(files["saved_model"], tmp_path / "saved_model")
    assert Predictor(tmp_path).table == table
    assert Predictor(tmp_path / "saved_model").table == table
    own = LabelTable.default(5)
    assert Predictor(tmp_path, table=own).table == own
    assert Predictor(files["model.keras"]).table == own
    with pytest.raises(ValueError, match="returns 5 classes, but the class table names 4"):
        Predictor(tmp_path, table=LabelTable.default(4))


@pytest.mark.parametrize("text", ['["classes"]', '{"name": "app", "classes": {"a": 1}}'])
def test_a_manifest_of_something_else_does_not_matter(make_model, tmp_path, text):
    make_model().save(tmp_path / "model.keras")
    (tmp_path / "manifest.json").write_text(text)
    assert Predictor(tmp_path / "model.keras").num_classes == 5


def test_the_manifests_size_is_the_default_window(make_model, tmp_path):
    model = make_model((None, None))
    model.save(tmp_path / "best.keras")
    image = picture(30, 40, 3)
    with pytest.raises(ValueError, match="needs window="):
        Predictor(tmp_path).predict(image, mode="slide")
    (tmp_path / "manifest.json").write_text(
        '{"keras_seg_manifest": 1, "input": {"height": 12, "width": 20}}'
    )
    np.testing.assert_array_equal(
        Predictor(tmp_path).predict(image, mode="slide"),
        Predictor(model).predict(image, mode="slide", window=(12, 20)),
    )


def test_predict_file_reads_the_channels_that_the_network_takes(tmp_path, fake_runner):
    grey = picture(8, 9)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    runner = fake_runner(lambda x: np.concatenate([x, 128 - x], axis=-1), classes=2, channels=1)
    predictor = Predictor(runner)
    label = predictor.predict_file(tmp_path / "grey.png")
    np.testing.assert_array_equal(label, grey < 64)
    np.testing.assert_array_equal(predictor.predict(grey), label)
    np.testing.assert_array_equal(predictor.predict(grey.astype("float32")), label)
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match="torn.png"):
        predictor.predict_file(tmp_path / "torn.png")


def test_threads_get_their_own_pictures(files):
    predictor = Predictor(files["model.keras"])
    pictures = [picture(10 + n, 30, 3) for n in range(12)]
    options = {"mode": "slide", "flip": True}
    alone = [predictor.predict(image, **options) for image in pictures]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda image: predictor.predict(image, **options), pictures)
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), "uint8"), r"takes an image \(H, W, 3\), got the shape \(8, 8\)"),
        (np.zeros((8, 8, 1), "uint8"), r"got the shape \(8, 8, 1\)"),
        (np.zeros((1, 8, 8, 3), "uint8"), r"got the shape \(1, 8, 8, 3\)"),
        (np.zeros((0, 8, 3), "uint8"), r"got the shape \(0, 8, 3\)"),
        (np.full((8, 8, 3), 0.5), "looks like 0..1"),
        (np.full((8, 8, 3), 300, "uint16"), "uint16 with 300..300"),
        (np.full((8, 8, 3), -1.0), "with -1.0..-1.0"),
        (np.full((8, 8, 3), np.nan), "pixels 0..255"),
    ],
)
def test_bad_images_are_refused(fake_runner, image, message):
    with pytest.raises(ValueError, match=message):
        Predictor(fake_runner(as_logits)).predict(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "sliding"}, "Unknown mode 'sliding'. Did you mean 'slide'"),
        ({"average": "prob"}, "Unknown average 'prob'"),
        ({"flip": "vertical"}, "flip must be"),
        ({"scales": ()}, "scales must be"),
        ({"scales": (1, 0)}, "scales must be"),
        ({"scales": (1, float("nan"))}, "scales must be"),
        ({"scales": float("inf")}, "scales must be"),
        ({"base_size": 0}, "base_size must be"),
        ({"window": 8}, "belong to mode='slide'"),
        ({"mode": "slide", "size_divisor": 8}, "belongs to mode='whole'"),
        ({"size_divisor": 0}, "size_divisor must be"),
        ({"size_divisor": (8, 8)}, "size_divisor must be"),
        ({"size_divisor": "8"}, "size_divisor must be"),
        ({"size_divisor": (8, 1, 0)}, "size_divisor must be"),
        ({"mode": "slide", "window": 0}, "window must be"),
        ({"mode": "slide", "window": 8, "stride": 9}, "left out"),
        ({"mode": "slide", "window": (8, 6), "flip": "d4"}, "needs a square"),
    ],
)
def test_bad_options_are_refused(fake_runner, options, message):
    with pytest.raises(ValueError, match=message):
        Predictor(fake_runner(as_logits)).predict(picture(8, 8, 3), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": (0.5, 1)}, "fixed input size"),
        ({"base_size": 100}, "fixed input size"),
        ({"size_divisor": 8}, "fixed input size"),
        ({"mode": "slide", "window": 8}, "Leave window out"),
        ({"flip": "d4"}, "needs a square"),
    ],
)
def test_options_that_a_fixed_size_rules_out_are_refused(fake_runner, options, message):
    with pytest.raises(ValueError, match=message):
        Predictor(fake_runner(as_logits, size=(8, 12))).predict(picture(8, 12, 3), **options)


@pytest.mark.parametrize("classes", [1, 256])
def test_a_number_of_classes_that_no_label_map_holds_is_refused(fake_runner, classes):
    with pytest.raises(ValueError, match=f"returns {classes} classes. Expected 2 to 255"):
        Predictor(fake_runner(as_logits, classes=classes))


def test_an_image_that_is_too_small_for_the_poolings():
    image = keras.Input((None, None, 3))
    x = keras.layers.MaxPooling2D(8)(image)
    model = keras.Model(image, keras.layers.UpSampling2D(8)(x))
    predictor = Predictor(model)
    assert predictor.predict(picture(8, 16, 3)).shape == (8, 16)
    with pytest.raises(ValueError, match="an image of 3 x 16.*too small"):
        predictor.predict(picture(3, 16, 3))


def test_a_size_that_the_network_itself_refuses():
    image = keras.Input((None, None, 3))
    predictor = Predictor(keras.Model(image, check_size(image, least=12, step=8)))
    assert predictor.predict(picture(12, 20, 3)).shape == (12, 20)
    with pytest.raises(
        ValueError, match="12 x 16: height and width must be 12 plus a multiple of 8"
    ):
        predictor.predict(picture(12, 16, 3))
