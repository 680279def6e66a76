"""Convolutions over very many channels become sums, which LiteRT computes several times as fast."""

import collections
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_seg.export import tflite
from keras_seg.export.graph import StaticGraph
from keras_seg.layers import L2Normalization

SIZE = (10, 12)


def converted(model, path, precision="float32"):
    """Operators of the file and its largest error, relative to the largest value."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        low = 0.5 if "variance" in variable.path else -1
        variable.assign(rng.uniform(low, 1, variable.shape))
    image = rng.uniform(-1, 1, (1, *model.input.shape[1:])).astype("float32")
    graph = StaticGraph(model, SIZE, model.input.shape[3], "logits")
    tflite.write(graph, path, precision, [image])
    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(given["index"], image)
    interpreter.invoke()
    found = interpreter.get_tensor(result["index"])
    expected = model(image, training=False).numpy()
    return tflite.operators(path), np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("rate", [1, 3])
def test_parts_add_up(rate, tmp_path):
    """With normalisation and ReLU inside of them, at the borders too, and without the tensor that
    is put together of several only to be cut into parts."""
    image = keras.Input((*SIZE, 8), name="image")
    x = layers.Concatenate()([layers.Conv2D(1024, 1)(image), layers.Conv2D(512, 1)(image)])
    x = layers.Conv2D(6, 3, padding="same", dilation_rate=rate, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    model = keras.Model(image, layers.Conv2D(3, 1)(x))
    operators, error = converted(model, tmp_path / "model.tflite")
    assert error < 1e-5
    # 13824 values in a column: three parts of 512 channels
    expected = {"CONV_2D": 6, "ADD": 2, "SLICE": 2}
    assert collections.Counter(operators) == expected


def test_a_bias_goes_into_the_first_part(tmp_path):
    image = keras.Input((*SIZE, 1040), name="image")
    model = keras.Model(image, layers.Conv2D(4, 3, activation="relu")(image))
    operators, error = converted(model, tmp_path / "model.tflite")
    assert error < 1e-5
    assert operators == {"ADD": 2, "CONV_2D": 3, "SLICE": 3}


def test_short_sums_and_int8_stay_whole(tmp_path):
    image = keras.Input((*SIZE, 1024), name="image")
    model = keras.Model(image, layers.Conv2D(4, 3)(image))
    assert converted(model, tmp_path / "a.tflite")[0] == {"CONV_2D": 1}
    image = keras.Input((*SIZE, 1040), name="image")
    model = keras.Model(image, layers.Conv2D(4, 3)(image))
    assert converted(model, tmp_path / "b.tflite", "int8")[0]["CONV_2D"] == 1


def test_normalised_differences_run_in_16_bits(tmp_path):
    """LiteRT has no SQUARED_DIFFERENCE of 16 bits: of a layer normalisation, and of a square."""
    image = keras.Input((*SIZE, 4), name="image")
    x = layers.LayerNormalization()(layers.Conv2D(8, 3, padding="same")(image))
    x = keras.ops.square(x - keras.ops.mean(x, (1, 2), keepdims=True))
    model = keras.Model(image, layers.Conv2D(3, 1)(x))
    operators, error = converted(model, tmp_path / "model.tflite", "int16x8")
    assert "SQUARED_DIFFERENCE" not in operators
    assert error < 0.03  # one image, weights of 8 bits


def test_an_l2_normalisation_stays_one_in_16_bits(tmp_path):
    """ParseNet's. In single steps of 16 bits the sum of small squares is nothing."""
    image = keras.Input((*SIZE, 4), name="image")
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(image)
    model = keras.Model(image, layers.Conv2D(3, 1)(L2Normalization()(x)))
    operators, error = converted(model, tmp_path / "model.tflite", "int16x8")
    assert "L2_NORMALIZATION" in operators
    assert error < 0.03


CONVERTING = """
import pathlib, re, sys
import keras
from keras_seg.export import tflite
from keras_seg.export.graph import StaticGraph

def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status)[1])

image = keras.Input((16, 16, 256))
x = keras.layers.Conv2D(2048, 7, padding="same", activation="relu", name="long")(image)
model = keras.Model(image, keras.layers.Conv2D(2, 1, name="logits")(x))
size = 4 * model.count_params()
graph = StaticGraph(model, (16, 16), 256, "logits")
tiny = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(2, 1)])
tflite.write(StaticGraph(tiny, (16, 16), 3, "logits"), pathlib.Path(sys.argv[1], "tiny.tflite"))
before = peak()
tflite.write(graph, pathlib.Path(sys.argv[1], "large.tflite"))
print((peak() - before) / size)
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_of_a_conversion(tmp_path):
    """103 MB of weights; with variables that TensorFlow makes constants it was 52 times that."""
    command = [sys.executable, "-c", CONVERTING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 1 < float(done.stdout) < 15
