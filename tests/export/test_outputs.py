"""What exported files return: low-resolution logits, probabilities, labels, a confidence map."""

import json

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers

from keras_seg.export import export
from keras_seg.export.graph import StaticGraph
from keras_seg.inference import Predictor, ProposalPredictor, load_runner
from keras_seg.layers import conv_bn_relu, preprocess, resize_logits

SIZE = (33, 41)
KINDS = ("saved_model", "model.tflite", "model.onnx")


def network(input_shape=(None, None, 3), classes=4):
    """Stride 4, and a resize corner on corner to the size of the image."""
    image = keras.Input(input_shape, name="image")
    x = conv_bn_relu(preprocess(image, "unit"), 8, strides=4, name="stem")
    x = conv_bn_relu(x, 8, dilation_rate=2, name="dilated")
    x = layers.Conv2D(classes, 1, name="logits_low", kernel_initializer="orthogonal")(x)
    return keras.Model(image, resize_logits(x, image, align_corners=True), name="net")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return network()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3)).astype("uint8")


@pytest.fixture(scope="module")
def exported(model, images, tmp_path_factory):
    """{output: report} of an export of each output besides the logits, with its confidence."""
    folder = tmp_path_factory.mktemp("outputs")
    options = dict(size=SIZE, quantize=(), images=images, confidence=True, progress=False)
    return {
        "logits_lowres": export(model, folder / "low", output="logits_lowres", **options),
        "probabilities": export(model, folder / "p", output="probabilities", **options),
        "labels": export(model, folder / "l", output="labels", formats=("tflite",), **options),
    }


def expected(model, images):
    """{name: array} by Keras and NumPy alone."""
    both = keras.Model(model.input, [model.get_layer("logits_low").output, model.output])
    low, logits = (np.asarray(y) for y in both(images.astype("float32"), training=False))

    def softmax(x):
        shares = np.exp(x - x.max(-1, keepdims=True))
        return shares / shares.sum(-1, keepdims=True)

    return {
        "logits_lowres": (low, softmax(low).max(-1)),
        "probabilities": (softmax(logits), softmax(logits).max(-1)),
        "labels": (logits.argmax(-1), softmax(logits).max(-1)),
    }


def run_file(path, image, names):
    """The named outputs of one image, through the runtime's own interface."""
    if path.suffix == ".onnx":
        return onnxruntime.InferenceSession(str(path)).run(names, {"image": image})
    if path.suffix == ".tflite":
        signature = tf.lite.Interpreter(str(path)).get_signature_runner("serving_default")
        found = signature(image=image)
    else:
        found = tf.saved_model.load(str(path)).signatures["serve"](image=tf.constant(image))
    return [np.asarray(found[name]) for name in names]


@pytest.mark.parametrize(
    ("output", "name"),
    [(o, n) for o in ("logits_lowres", "probabilities") for n in KINDS]
    + [("labels", "model.tflite")],
)
def test_each_file_returns_what_its_output_names(exported, model, images, output, name):
    report = exported[output]
    wanted = expected(model, images)[output]
    for index, image in enumerate(images.astype("float32")):
        found = run_file(report.folder / name, image[None], [output, "confidence"])
        for result, right in zip(found, wanted, strict=True):
            assert result.shape == (1, *right.shape[1:])
            np.testing.assert_allclose(result[0], right[index], atol=2e-5)
    assert report.ok
    row = next(row for row in report.rows if row["file"] == name)
    assert row["agreement"] == 1 and row["confidence_difference"] < 1e-5


def test_the_manifest_says_what_comes_out(exported):
    low = json.loads((exported["logits_lowres"].folder / "manifest.json").read_text("utf-8"))
    assert low["output"].pop("difference") < 1e-5
    assert "before the network's last enlargement" in low["output"].pop("meaning")
    assert low["output"] == {
        "name": "logits_lowres",
        "dtype": "float32",
        "shape": [1, 9, 11, 4],
        "resize": "align_corners",
    }
    assert low["confidence"] == {"name": "confidence", "dtype": "float32", "shape": [1, 9, 11]}
    assert exported["probabilities"].manifest["output"]["shape"] == [1, *SIZE, 4]
    assert exported["labels"].manifest["confidence"]["shape"] == [1, *SIZE]
    assert exported["labels"].manifest["target"] == "cpu"


def test_the_main_output_is_the_first_of_a_tflite_file(exported):
    """So that code for files of one output reads the right one."""
    for output, report in exported.items():
        interpreter = tf.lite.Interpreter(str(report.folder / "model.tflite"))
        details = interpreter.get_output_details()
        assert [detail["name"] for detail in details] == [output, "confidence"]
        assert interpreter.get_input_details()[0]["name"] == "image"


@pytest.mark.parametrize("output", ["logits_lowres", "probabilities", "labels"])
def test_runners_know_what_a_file_returns(exported, model, images, output):
    report = exported[output]
    for path in report.files:
        runner = load_runner(path)
        assert runner.output == output and runner.has_confidence
        assert runner.outputs_labels == (output == "labels")
        found = runner.run_all(images)
        main, confidence = expected(model, images)[output]
        np.testing.assert_allclose(found[output], main, atol=2e-5)
        np.testing.assert_allclose(found["confidence"], confidence, atol=1e-5)
        np.testing.assert_array_equal(runner.run(images), found[output])


@pytest.mark.parametrize("output", ["logits_lowres", "probabilities"])
@pytest.mark.parametrize("options", [{}, {"flip": True}, {"mode": "slide"}], ids=str)
def test_a_predictor_gives_the_same_from_every_output(exported, model, output, options):
    """Low-resolution logits enlarged as the network does it; of probabilities no second softmax."""
    fixed = network((*SIZE, 3))
    fixed.set_weights(model.get_weights())
    image = np.random.default_rng(1).integers(0, 256, (50, 60, 3)).astype("uint8")
    wanted = Predictor(fixed).probabilities(image, **options)
    for path in exported[output].files:
        found = Predictor(path).probabilities(image, **options)
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_what_cannot_be_averaged_is_said(exported, images):
    probable = Predictor(exported["probabilities"].folder / "model.tflite")
    with pytest.raises(ValueError, match="returns probabilities; there are no logits to average"):
        probable.predict(images[0], average="logits")
    with pytest.raises(ValueError, match="returns probabilities, not logits"):
        probable.logits(images[:1])
    with pytest.raises(ValueError, match="returns probabilities; proposals need logits"):
        ProposalPredictor(
            exported["probabilities"].folder / "model.tflite", proposals=lambda image: []
        )
    low = Predictor(exported["logits_lowres"].folder / "model.tflite")
    with pytest.raises(ValueError, match="logits of the whole window at low resolution"):
        low.predict(images[0], mode="tile")


def test_a_map_that_no_plain_resize_enlarges(tmp_path):
    """A transposed convolution of the border fades; a Predictor must not guess."""
    image = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(2, 3, strides=2, padding="same", name="logits_low")(image)
    x = layers.Conv2DTranspose(2, 4, strides=2, padding="same", name="logits")(x)
    net = keras.Model(image, x)
    report = export(
        net,
        tmp_path / "out",
        formats="tflite",
        quantize=(),
        size=(16, 16),
        output="logits_lowres",
        progress=False,
    )
    assert report.ok and report.manifest["output"]["resize"] is None
    assert report.rows[0]["mean_iou"] is None
    assert "a Predictor cannot place those at low resolution" in str(report)
    predictor = Predictor(report.files[0])
    with pytest.raises(ValueError, match="does not enlarge by a plain resize"):
        predictor.predict(np.zeros((16, 16, 3), "uint8"))


def test_a_model_without_low_resolution_says_what_it_has(tmp_path):
    image = keras.Input((8, 8, 3), name="image")
    net = keras.Model(image, layers.Conv2D(2, 1)(image), name="flat")
    with pytest.raises(ValueError, match="'flat' has no layer 'logits_low'.* logits, probabilit"):
        export(net, tmp_path / "out", output="logits_lowres", quantize=(), progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("float_labels", [False, True])
def test_of_equal_logits_the_first_class_wins(float_labels):
    """Also without ARG_MAX. Few different numbers make ties of every kind."""
    image = keras.Input((20, 30, 5), name="image")
    graph = StaticGraph(
        keras.Model(image, layers.Activation("linear")(image)),
        (20, 30),
        5,
        "labels",
        float_labels=float_labels,
    )
    values = np.random.default_rng(0).integers(-1, 2, (1, 20, 30, 5)).astype("float32")
    found = graph.function(tf.constant(values))["labels"].numpy()
    assert found.dtype == (np.float32 if float_labels else np.int32)
    np.testing.assert_array_equal(found, values.argmax(-1))


# --- the signature `label` of a SavedModel ---


@pytest.mark.parametrize("output", ["logits_lowres", "probabilities"])
@pytest.mark.parametrize("size", [SIZE, (20, 30), (90, 70), (33, 100)])
def test_the_signature_label_does_what_a_predictor_does(exported, model, output, size):
    """Any uint8 image: smoothed where it shrinks, stretched where it grows, and back."""
    fixed = network((*SIZE, 3))
    fixed.set_weights(model.get_weights())
    image = np.random.default_rng(2).integers(0, 256, (*size, 3)).astype("uint8")
    loaded = tf.saved_model.load(str(exported[output].folder / "saved_model"))
    found = loaded.signatures["label"](image=tf.constant(image[None]))
    assert found["labels"].dtype == tf.uint8
    wanted = Predictor(fixed).probabilities(image)
    np.testing.assert_allclose(found["confidence"][0], wanted.max(-1), atol=1e-4)
    # Where two classes are within rounding of each other, either may win.
    best, second = np.sort(wanted, axis=-1)[..., :-3:-1].transpose(2, 0, 1)
    clear = best - second > 1e-4
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(found["labels"].numpy()[0][clear], wanted.argmax(-1)[clear])


def test_networks_that_lose_their_border_have_no_signature_label(tmp_path):
    image = keras.Input((None, None, 3), name="image")
    net = keras.Model(image, layers.Conv2D(2, 5)(image))
    report = export(net, tmp_path / "out", formats="saved_model", size=(12, 12), progress=False)
    signatures = tf.saved_model.load(str(report.files[0])).signatures
    assert sorted(signatures) == ["serve", "serving_default"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "lowres"}, "Unknown output 'lowres'. Did you mean 'logits_lowres'"),
        ({"confidence": "yes"}, "confidence must be True or False, got 'yes'"),
    ],
)
def test_bad_outputs(model, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export(model, tmp_path / "out", size=SIZE, quantize=(), **options)
    assert not list(tmp_path.iterdir())
