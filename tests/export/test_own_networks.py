"""Networks of a user's own: those that return smaller maps than the image, and other forms."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_seg import data
from keras_seg.cli import main
from keras_seg.export import export
from keras_seg.inference import Predictor, evaluate
from keras_seg.utils import read_json

SIZE = (32, 48)


def reduced(stride, classes=3):
    """Logits of every `stride`-th pixel."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1)(image)
    x = layers.Conv2D(8, 5, strides=stride, padding="same", activation="relu")(x)
    return keras.Model(image, layers.Conv2D(classes, 1)(x), name="reduced")


def run(model, folder, **options):
    defaults = dict(formats="tflite", quantize=(), size=SIZE, progress=False, bounds=None)
    return export(model, folder, **{**defaults, **options})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    data.write_shapes(root, 6, size=SIZE, seed=0)
    return data.open_dataset(root)


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("output", ["logits", "probabilities", "labels"])
def test_the_mean_iou_of_a_smaller_map_is_that_of_predictor(pictures, tmp_path, stride, output):
    """Enlarged to the label's size, not compared with its centre."""
    net = reduced(stride, pictures.table.num_classes)
    report = run(net, tmp_path / "files", images=pictures, output=output)
    path = tmp_path / "files" / "model.tflite"
    expected = evaluate(Predictor(path), pictures)["mean_iou"]
    assert report.rows[1]["mean_iou"] == pytest.approx(expected, abs=1e-6)
    if output == "logits":
        whole = evaluate(Predictor(net), pictures)["mean_iou"]
        assert report.rows[0]["mean_iou"] == pytest.approx(whole, abs=1e-6)


def test_layers_stay_in_float_by_the_same_measure(pictures, tmp_path):
    """Labels that are the network's own: in float nothing is lost."""
    net = reduced(4, pictures.table.num_classes)
    images = [pictures[i].image for i in range(len(pictures))]
    labels = [Predictor(net).predict(image) for image in images]
    options = dict(images=images, labels=labels, calibration=images, quantize="int8")
    report = run(net, tmp_path / "files", **options)
    assert report.rows[0]["mean_iou"] == 1
    found = report.manifest["quantization"]["files"]["model_int8.tflite"]
    change = report.rows[-1]["mean_iou_change"]
    assert found["measure"] == "mean_iou"
    assert found["loss"] == pytest.approx(-change, abs=1e-6)


def of_a_list():
    image = keras.Input((None, None, 3))
    return keras.Model([image], [layers.Conv2D(4, 3, padding="same")(image)])


def sequential():
    first = layers.Conv2D(8, 3, padding="same", activation="relu")
    return keras.Sequential([keras.Input((None, None, 3)), first, layers.Conv2D(4, 1)])


def in_float64():
    image = keras.Input((None, None, 3))
    return keras.Model(image, layers.Conv2D(4, 3, padding="same", dtype="float64")(image))


@pytest.mark.parametrize("build", [of_a_list, sequential, in_float64])
def test_other_forms_of_a_network(build, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), "uint8")
    net = build()
    net.save(tmp_path / "net.keras")
    options = dict(formats=("saved_model", "tflite", "onnx"), bounds=None, calibration=images)
    report = run(tmp_path / "net.keras", tmp_path / "files", quantize="int8", **options)
    assert all(row["clear_agreement"] > 0.98 for row in report.rows[1:])
    expected = np.reshape(net(images[:1]), (*SIZE, 4))
    found = Predictor(tmp_path / "files" / "model.onnx").logits(images[:1])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2)


def test_a_model_of_no_single_image_is_refused(tmp_path):
    one, two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))

    class Own(keras.Model):
        def call(self, x):
            return x

    for model in (keras.Model([one, two], one + two), Own()):
        with pytest.raises(ValueError, match=r"must take one tensor .* keras.Model\(image, logits"):
            Predictor(model)


@pytest.mark.parametrize("build", ["activation", "layer"])
def test_probabilities_of_a_network_with_a_softmax_are_not_squashed_twice(build):
    image = keras.Input((None, None, 3), name="image")
    if build == "layer":
        x = layers.Softmax()(layers.Conv2D(4, 1)(image))
    else:
        x = layers.Conv2D(4, 1, activation="softmax")(image)
    net = keras.Model(image, x)
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), "uint8")
    expected = net(picture[None].astype("float32")).numpy()[0]
    np.testing.assert_allclose(Predictor(net).probabilities(picture), expected, atol=1e-6)


def test_the_files_have_the_names_of_the_data_set(tmp_path):
    """For a lone `.keras` file; those of --classes count before the data set's."""
    data.write_shapes(tmp_path / "shapes", 5, size=SIZE, seed=0)
    names = data.open_dataset(tmp_path / "shapes").table.names
    reduced(2, len(names)).save(tmp_path / "net.keras")
    given = tmp_path / "names.txt"
    given.write_text("".join(f"{name} too\n" for name in names))
    out = tmp_path / "files"
    command = ["export", str(tmp_path / "net.keras"), "--data", str(tmp_path / "shapes")]
    command += ["--size", "32", "48", "--output", str(out), "--formats", "tflite", "--quantize"]
    for more, expected in (
        ([], names),
        (["--classes", str(given)], [f"{name} too" for name in names]),
    ):
        assert main([*command, *more]) == 0
        assert list(read_json(out / "manifest.json")["classes"]["names"]) == list(expected)
