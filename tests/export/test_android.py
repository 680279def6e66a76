"""export/android without Android: what of it is plain Kotlin, run on a JVM, against `Predictor`.

Needs Java 17, Node.js with npm's registry (its package kotlin-compiler), and Android's org.json as
Debian's libandroid-json-java has it (ANDROID_JSON=path of the jar if it lies elsewhere).
"""

import os
import pathlib
import re
import shutil
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from keras_seg.data import LabelTable, shapes
from keras_seg.export import export
from keras_seg.export.arguments import OUTPUTS
from keras_seg.inference import Predictor
from keras_seg.layers import conv_bn_relu, preprocess, resize_logits

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = ROOT / "export" / "android" / "app" / "src" / "main" / "kotlin" / "kerasseg" / "sample"
SIZE = (48, 64)
PICTURES = (SIZE, (131, 97), (33, 41), (40, 200))
TABLE = LabelTable(("ground", "circle", "square", "triangle"), np.eye(4, 3, dtype="uint8") * 200)

# Reads and writes files of plain numbers in place of a phone's bitmaps and LiteRT's buffers.
CHECK = """
package kerasseg.sample

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

fun read(path: String): ByteBuffer =
    ByteBuffer.wrap(File(path).readBytes()).order(ByteOrder.LITTLE_ENDIAN)

fun ints(path: String) = read(path).asIntBuffer().let { b -> IntArray(b.remaining()) { b.get(it) } }

fun floats(path: String) =
    read(path).asFloatBuffer().let { b -> FloatArray(b.remaining()) { b.get(it) } }

fun write(path: String, values: FloatArray) {
    val bytes = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
    for (value in values) bytes.putFloat(value)
    File(path).writeBytes(bytes.array())
}

/** Lines of a file: prepare|labels|colors|describe and its arguments. */
fun main(arguments: Array<String>) {
    for (line in File(arguments[0]).readLines()) {
        val words = line.split(" ")
        val model = TfliteFile(read(words[1]))
        val (_, height, width, channels) = model.input.shape
        val seen = Size(height, width)
        when (words[0]) {
            "describe" -> for (it in listOf(model.input) + model.outputs) {
                println("${it.name} ${it.type} ${it.shape} ${it.scale} ${it.zero}")
            }
            "prepare" -> {
                val picture = Size(words[3].toInt(), words[4].toInt())
                val pixels = toPixels(ints(words[2]), picture, seen, channels)
                if (model.input.quantised) File(words[5]).writeBytes(toBytes(pixels, model.input))
                else write(words[5], pixels)
            }
            "labels" -> {
                val manifest = Manifest(File(words[2]).readText())
                val output = mainOutput(model.outputs)
                val found: Any = when (output.type) {
                    ElementType.FLOAT32 -> floats(words[3])
                    ElementType.INT32 -> ints(words[3])
                    else -> File(words[3]).readBytes()
                }
                val picture = Size(words[4].toInt(), words[5].toInt())
                val labels = toLabels(found, output, manifest, seen, picture)
                File(words[6]).writeBytes(labels)
                val colors = toColors(labels, manifest.colors, 0.5f)
                println(manifest.names.joinToString() + " " + shares(labels, 4).joinToString())
                println(colors[0].toUInt().toString(16) + " " + labels[0])
            }
        }
    }
}
"""


class Kotlin:
    """A compiler and a JVM."""

    def __init__(self, folder):
        for name in ("java", "javac", "npm"):
            assert shutil.which(name), f"{name} is needed on the PATH."
        json = os.environ.get("ANDROID_JSON", "/usr/share/java/com.android.json.jar")
        assert os.path.isfile(json), "apt-get install libandroid-json-java, or set ANDROID_JSON."
        run(["npm", "install", "--no-audit", "--no-fund", "kotlin-compiler@~2.4.20"], cwd=folder)
        self._home = folder / "node_modules" / "kotlin-compiler"
        self.json = json

    def compile(self, sources, output, classpath=()):
        jars = ":".join(str(jar) for jar in sorted(self._home.glob("lib/*.jar")))
        command = ["java", "-cp", jars, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
        command += ["-kotlin-home", self._home, "-no-reflect", "-Werror", "-d", output]
        command += ["-cp", ":".join(map(str, [self.json, *classpath])), *sources]
        run(command)

    def run(self, classes, *arguments):
        stdlib = self._home / "lib" / "kotlin-stdlib.jar"
        path = f"{classes}:{stdlib}:{self.json}"
        return run(["java", "-cp", path, "kerasseg.sample.CheckKt", *arguments])


def run(command, **options):
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def kotlin(tmp_path_factory):
    return Kotlin(tmp_path_factory.mktemp("kotlin"))


@pytest.fixture(scope="module")
def classes(kotlin, tmp_path_factory):
    """The files without Android in them, and `CHECK`, compiled."""
    folder = tmp_path_factory.mktemp("classes")
    (folder / "Check.kt").write_text(CHECK, "utf-8")
    names = ("Resize", "Labels", "TfliteFile", "Manifest")
    sources = [SOURCES / f"{name}.kt" for name in names]
    for source in sources:
        assert "import android" not in source.read_text("utf-8")
    kotlin.compile([*sources, folder / "Check.kt"], folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3), name="image")
    x = preprocess(image, "imagenet")
    for i, (strides, rate) in enumerate([(2, 1), (2, 1), (1, 2)]):
        x = conv_bn_relu(x, 16, strides=strides, dilation_rate=rate, name=f"conv{i}")
    x = layers.Conv2D(TABLE.num_classes, 1, name="logits_low")(x)
    model = keras.Model(image, resize_logits(x, image), name="small")
    data = shapes(48, size=SIZE, seed=5)
    images = np.stack([sample.image for sample in data]).astype("float32")
    labels = np.stack([sample.label for sample in data])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, jit_compile=False)
    weights = np.where(labels == 0, 0.1, 1.0)
    model.fit(images, labels, sample_weight=weights, batch_size=8, epochs=8, verbose=0)
    return model


def files_of(model, folder, output):
    export(
        model,
        folder,
        formats="tflite",
        quantize=("int8",),
        size=SIZE,
        calibration=[sample.image for sample in shapes(16, size=SIZE, seed=6)],
        table=TABLE,
        output=output,
        progress=False,
    )
    return folder


def full_integer(model, path, output):
    """A file that takes uint8, and returns int8 logits or the label map in int32."""

    @tf.function(input_signature=[tf.TensorSpec((1, *SIZE, 3), tf.float32, name="image")])
    def call(image):
        logits = model(image, training=False)
        if output == "logits":
            return {"logits": logits}
        return {"labels": tf.argmax(logits, axis=-1, output_type=tf.int32)}

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [call.get_concrete_function()], call
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    if output == "logits":
        converter.inference_output_type = tf.int8
    # Dark pictures: the numbers that stand for 0..200 are not 0..200.
    dark = [sample.image[None] * np.float32(200 / 255) for sample in shapes(16, size=SIZE, seed=6)]
    converter.representative_dataset = lambda: ([picture] for picture in dark)
    path.write_bytes(converter.convert())


def label_with_kotlin(kotlin, classes, path, manifest, images, folder):
    """Label maps of images, Kotlin before and after the network in Python, and what it printed."""
    lines = []
    for i, image in enumerate(images):
        channels = image.astype("uint32")
        argb = 255 << 24 | channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]
        (folder / f"argb{i}").write_bytes(argb.astype("<u4").tobytes())
        height, width = image.shape[:2]
        lines.append(f"prepare {path} {folder}/argb{i} {height} {width} {folder}/in{i}")
    (folder / "prepare").write_text("\n".join(lines), "utf-8")
    kotlin.run(classes, folder / "prepare")
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    lines = []
    for i, image in enumerate(images):
        pixels = np.frombuffer((folder / f"in{i}").read_bytes(), given["dtype"])
        interpreter.set_tensor(given["index"], pixels.reshape(given["shape"]))
        interpreter.invoke()
        (folder / f"out{i}").write_bytes(interpreter.get_tensor(result["index"]).tobytes())
        height, width = image.shape[:2]
        lines.append(
            f"labels {path} {manifest} {folder}/out{i} {height} {width} {folder}/labels{i}"
        )
    (folder / "labels").write_text("\n".join(lines), "utf-8")
    printed = kotlin.run(classes, folder / "labels")
    maps = [
        np.frombuffer((folder / f"labels{i}").read_bytes(), "uint8").reshape(image.shape[:2])
        for i, image in enumerate(images)
    ]
    return maps, printed.splitlines()


def images():
    return [shapes(1, size=size, seed=90 + i)[0].image for i, size in enumerate(PICTURES)]


def compare(kotlin, classes, path, manifest, folder):
    found, printed = label_with_kotlin(kotlin, classes, path, manifest, images(), folder)
    predictor = Predictor(path, table=TABLE)
    for label, image, (line, color) in zip(
        found, images(), zip(printed[::2], printed[1::2], strict=True), strict=True
    ):
        expected = predictor.predict(image)
        assert len(np.unique(expected)) > 1
        equal = (label == expected).mean()
        print(f"{path.parent.name}, {path.name}, {label.shape}: {equal:.4%} equal labels")
        assert equal >= 0.999
        names, _, numbers = line.partition(" 0.")
        assert names == "ground, circle, square, triangle"
        shares = np.fromstring("0." + numbers, sep=",")
        np.testing.assert_allclose(
            shares, np.bincount(label.ravel(), minlength=4) / label.size, atol=1e-6
        )
        red, green, blue = TABLE.colors[label[0, 0]]
        assert color == f"80{red:02x}{green:02x}{blue:02x} {label[0, 0]}"


@pytest.mark.parametrize("output", OUTPUTS)
def test_labels_are_those_of_predictor(kotlin, classes, model, tmp_path, output):
    folder = files_of(model, tmp_path / "files", output)
    for name in ("model.tflite", "model_int8.tflite"):
        (tmp_path / name).mkdir()
        compare(kotlin, classes, folder / name, folder / "manifest.json", tmp_path / name)


@pytest.mark.parametrize("output", ["logits", "labels"])
def test_full_integer_files(kotlin, classes, model, tmp_path, output):
    folder = files_of(model, tmp_path / "files", output)
    path = tmp_path / "model_uint8.tflite"
    full_integer(model, path, output)
    compare(kotlin, classes, path, folder / "manifest.json", tmp_path)


def test_what_the_file_says(kotlin, classes, model, tmp_path):
    folder = files_of(model, tmp_path / "files", "logits")
    full_integer(model, tmp_path / "model_uint8.tflite", "logits")
    paths = [folder / "model.tflite", folder / "model_int8.tflite", tmp_path / "model_uint8.tflite"]
    (tmp_path / "lines").write_text("\n".join(f"describe {path}" for path in paths), "utf-8")
    lines = iter(kotlin.run(classes, tmp_path / "lines").splitlines())
    for path in paths:
        interpreter = Interpreter(str(path))
        details = [interpreter.get_input_details()[0], interpreter.get_output_details()[0]]
        for detail in details:
            name, kind, rest = next(lines).split(" ", 2)
            shape, scale, zero = rest.rsplit(" ", 2)
            assert kind == np.dtype(detail["dtype"]).name.upper()
            assert shape == str(detail["shape"].tolist())
            assert np.float32(scale) == np.float32(detail["quantization"][0])
            assert int(zero) == detail["quantization"][1]
        if interpreter.get_signature_list():
            assert name == "logits"


def test_the_whole_app_fits_the_apis(kotlin, tmp_path):
    """Types only, against stubs of Android and LiteRT written from their documentation."""
    stubs = (ROOT / "tests" / "export" / "android_stubs.txt").read_text("utf-8")
    _, *parts = re.split(r"^// (\S+)$", stubs, flags=re.MULTILINE)
    for name, content in zip(parts[::2], parts[1::2], strict=True):
        (tmp_path / "stubs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "stubs" / name).write_text(content, "utf-8")
    run(["javac", "-d", tmp_path / "android", *(tmp_path / "stubs").rglob("*.java")])
    litert = tmp_path / "stubs" / "LiteRt.kt"
    kotlin.compile([litert], tmp_path / "litert", [tmp_path / "android"])
    sources = sorted(SOURCES.glob("*.kt"))
    assert {source.stem for source in sources} >= {"MainActivity", "Segmenter", "MaskView"}
    kotlin.compile(sources, tmp_path / "app", [tmp_path / "android", tmp_path / "litert"])
    assert (tmp_path / "app" / "kerasseg" / "sample" / "MainActivity.class").is_file()
