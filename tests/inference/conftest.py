"""A network with known answers, and one small network in every kind of file."""

import keras
import numpy as np
import pytest

from keras_seg.inference import Runner

SIZE = (16, 24)


class FakeRunner(Runner):
    """A network that is a NumPy function of one batch; remembers what it was shown."""

    kind = "keras"

    def __init__(self, function, classes=3, channels=3, size=(None, None), labels=False):
        self.function, self.seen = function, []
        output = (None, *size) if labels else (None, *size, classes)
        kind = "labels" if labels else "logits"
        super().__init__("fake", None, (None, *size, channels), output, output=kind)

    def _call(self, images):
        self.seen.append(images)
        return [self.function(images)]


@pytest.fixture
def fake_runner():
    return FakeRunner


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3)).astype("uint8")


def small_model(size=SIZE, classes=5, seed=0):
    """Three convolutions; BatchNormalization and Dropout show whether inference mode is on."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((*size, 3), name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3, padding="same", name="conv")(x)
    x = keras.layers.BatchNormalization(
        moving_mean_initializer=keras.initializers.RandomNormal(),
        moving_variance_initializer=keras.initializers.RandomUniform(0.5, 2),
    )(x)
    x = keras.layers.Dropout(0.5)(keras.layers.ReLU()(x))
    x = keras.layers.Conv2D(classes, 3, padding="same", name="logits")(x)
    return keras.Model(image, x, name="small")


@pytest.fixture(scope="session")
def make_model():
    return small_model


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """{name: path} of `small_model`, written by the converters themselves."""
    tf = pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("files")
    model = small_model()
    model.save(folder / "model.keras")
    model.export(folder / "saved_model", verbose=False)

    def logits(image):
        return {"logits": model(image, training=False)}

    def labels(image):
        scores = model(image, training=False)
        return {"labels": tf.argmax(scores, axis=-1, output_type=tf.int32)}

    static = tf.TensorSpec((1, *SIZE, 3), name="image")
    (folder / "model.tflite").write_bytes(_tflite(tf, logits, static))
    (folder / "labels.tflite").write_bytes(_tflite(tf, labels, static))
    for dtype in ("int8", "uint8"):
        (folder / f"{dtype}.tflite").write_bytes(_tflite(tf, logits, static, dtype))
    (folder / "any_size.tflite").write_bytes(_tflite_with_two_outputs(tf, folder / "two_outputs"))
    _onnx(tf, logits, static, folder / "model.onnx")
    _onnx(tf, labels, static, folder / "labels.onnx")
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="session")
def pointwise_files(tmp_path_factory):
    """{name: path} of a network that sees each pixel by itself; TFLite and ONNX of fixed size."""
    tf = pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("pointwise")
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 64)(image)
    x = keras.layers.Conv2D(5, 1, bias_initializer="random_normal", name="logits")(x)
    model = keras.Model(image, x)
    model.save(folder / "model.keras")
    model.export(folder / "saved_model", verbose=False)

    def logits(image):
        return {"logits": model(image, training=False)}

    static = tf.TensorSpec((1, *SIZE, 3), name="image")
    (folder / "model.tflite").write_bytes(_tflite(tf, logits, static))
    _onnx(tf, logits, static, folder / "model.onnx")
    return {path.name: path for path in folder.iterdir()}


def _frozen(tf, function, spec):
    """The function's graph with its weights as constants: a TFLite file needs that."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    graph = tf.function(function, input_signature=[spec]).get_concrete_function()
    return convert_variables_to_constants_v2(graph)


def _tflite(tf, function, spec, dtype=None):
    converter = tf.lite.TFLiteConverter.from_concrete_functions([_frozen(tf, function, spec)])
    if dtype is not None:
        pixels = np.random.default_rng(0).integers(0, 256, (8, *spec.shape)).astype("float32")
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image] for image in pixels)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.as_dtype(dtype)
        converter.inference_output_type = tf.as_dtype(dtype)
    return converter.convert()


def _tflite_with_two_outputs(tf, folder):
    """Any image size, and a second output; this route keeps the outputs' names in the file."""
    model = small_model((None, None))
    spec = tf.TensorSpec((1, None, None, 3), name="image")
    graph = _frozen(tf, lambda image: model(image, training=False), spec)
    module = tf.Module()
    module.run = tf.function(
        lambda image: {"aux": image[:, ::4, ::4], "logits": graph(image)[0]},
        input_signature=[spec],
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.run})
    return tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert()


def _onnx(tf, function, spec, path):
    import tf2onnx

    graph = tf.function(function, input_signature=[spec])
    tf2onnx.convert.from_function(graph, [spec], opset=17, output_path=str(path))
