"""What an export cannot do is said before the work where it can be, and leaves nothing behind."""

import os
import resource
import signal
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_seg.cli import main
from keras_seg.data import LabelTable
from keras_seg.export import export, saved_model
from keras_seg.inference import load_runner

SIZE = (16, 24)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 4), "uint8")
LABELS = IMAGES[..., 0] % 2


@keras.saving.register_keras_serializable("tests")
class ArgmaxPool(layers.Layer):
    def call(self, x):
        return tf.nn.max_pool_with_argmax(x, 2, 1, "SAME").output


def network(*more):
    """Two classes of 4 channels; `more` are layers before the last one."""
    image = x = keras.Input((None, None, 4), name="image")
    for layer in more:
        x = layer(x)
    return keras.Model(image, layers.Conv2D(2, 1, name="logits_low")(x), name="net")


def ending(layer):
    """`network` with another last layer."""
    image = network().input
    return keras.Model(image, layer(image), name="net")


def wide():
    """Weights of 160 kB, more than `small_disk` takes."""
    return network(layers.Conv2D(1000, 3, padding="same", name="wide"))


@pytest.fixture
def small_disk():
    """No file may grow beyond 100 kB, which fails as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def run(model, folder, **options):
    defaults = dict(formats="tflite", quantize=(), size=SIZE, progress=False)
    return export(model, folder, **{**defaults, **options})


BAD = [
    # sizes that the network cannot have
    (
        lambda: network(layers.MaxPooling2D(32, name="pool")),
        {},
        "'net' cannot take images of 16 x 24: they are too small for the layer 'pool'. Give a larg",
    ),
    (
        lambda: network(layers.Conv2D(4, 19, name="wide")),
        {},
        "'net' cannot take images of 16 x 24: they are too small for the layer 'wide'.",
    ),
    # int8 is calibrated on what is given, never on random numbers
    (network, dict(quantize="int8"), "int8 needs images to measure the ranges on: calibration="),
    (network, dict(quantize="int8", calibration=[]), "calibration is empty"),
    # labels of something else
    (network, dict(images=IMAGES, labels=LABELS[:1]), "images has 2 images and 1 labels"),
    (network, dict(images=IMAGES, labels=LABELS + 1), r"labels\[0\] has the ids 2; .* 2 classes"),
    (network, dict(table=LabelTable.default(3)), "The table has 3 classes, .* has 2"),
    (
        network,
        dict(images=IMAGES, labels=np.stack([LABELS[0], LABELS[1] + 1])),
        r"labels\[1\] has the ids 2",
    ),
    (network, dict(images=IMAGES, labels="masks"), "labels is the folder masks; then images must"),
    (
        network,
        dict(quantize="int8", calibration=[(IMAGES[0], LABELS[0])]),
        r"calibration\[0\] is a tuple of 2, .* give the images alone",
    ),
    # what returns no logits of two classes
    (lambda: ending(layers.Conv2D(1, 1)), {}, "returns one logit; export takes two or more"),
    (lambda: ending(layers.Conv2D(2, 1, activation="softmax")), {}, "ends in a softmax"),
    (lambda: keras.Sequential([network(), layers.Softmax()]), {}, "ends in a softmax"),
    (lambda: ending(layers.Conv2D(2, 1, activation="sigmoid")), {}, "ends in a sigmoid"),
    (lambda: network(layers.Rescaling(np.nan)), {}, "not finite numbers for the image 0"),
    # operators that a format does not have, with the layer
    (
        lambda: network(ArgmaxPool(name="pool")),
        {},
        r"no builtin operator for MaxPoolWithArgmax \(layer 'pool'\)",
    ),
    (
        lambda: network(layers.Activation(keras.ops.erfinv, name="bend")),
        dict(formats="onnx"),
        r"ONNX has no operator for Erfinv \(layer 'bend'\)",
    ),
    (
        lambda: network(
            keras.Sequential([layers.Activation(keras.ops.erfinv, name="in")], name="out")
        ),
        dict(formats="onnx"),
        r"ONNX has no operator for Erfinv \(layer 'out/in'\)",
    ),
]


@pytest.mark.parametrize(
    "build,options,message", BAD, ids=lambda v: v[:30] if type(v) is str else ""
)
def test_bad_input(tmp_path, build, options, message):
    with pytest.raises(ValueError, match=message):
        run(build(), tmp_path / "files", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["saved_model", "tflite", "onnx"])
def test_a_full_disk_leaves_nothing(tmp_path, small_disk, name):
    with pytest.raises(OSError, match="the files do not fit in .* make room"):
        run(wide(), tmp_path / "files", formats=name)
    assert not list(tmp_path.iterdir())


def test_what_ends_the_process_leaves_nothing(tmp_path, monkeypatch, capsys):
    """Ctrl-C, and SIGTERM as Docker and batch systems send it."""
    network().save(tmp_path / "model.keras")
    options = ["--size", "16", "24", "--output", str(tmp_path / "new" / "files")]
    before = signal.getsignal(signal.SIGTERM)

    def interrupt(*_):
        raise KeyboardInterrupt  # not by SIGINT, which a shell's background jobs ignore

    def terminate(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    for end, status in ((interrupt, 130), (terminate, 143)):
        monkeypatch.setattr(saved_model, "write", end)
        assert main(["export", str(tmp_path / "model.keras"), *options]) == status
        assert not list((tmp_path / "new").iterdir())
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_target_is_tried_before_the_work(tmp_path, capsys):
    """Before the model is even looked for."""
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"Cannot (export to|write in)"):
            run(tmp_path / "no.keras", folder)
        command = ["export", str(tmp_path / "no.keras"), "--data", str(tmp_path / "none")]
        assert main([*command, "--output", str(folder)]) == 2
        assert "Cannot" in capsys.readouterr().err


def test_a_missing_runtime_is_named_with_its_extra(tmp_path, monkeypatch):
    run(network(), tmp_path / "files", formats=("tflite", "onnx"))
    for name in ("onnxruntime", "ai_edge_litert", "ai_edge_litert.interpreter", "tensorflow"):
        monkeypatch.setitem(sys.modules, name, None)
    for name, runtime in (("model.onnx", "onnxruntime"), ("model.tflite", "LiteRT")):
        with pytest.raises(ValueError, match=rf"{runtime}.*: pip install keras-seg\[export\]"):
            load_runner(tmp_path / "files" / name)


def test_options_of_the_command_that_do_not_fit(tmp_path, capsys):
    network().save(tmp_path / "model.keras")
    command = ["export", str(tmp_path / "model.keras"), "--output", str(tmp_path / "files")]
    for arguments, message in (
        (["--images", "none"], "--images takes a number of images or a folder"),
        (["--images", "3"], "--images 3 takes images of --data"),
        (["--labels", str(tmp_path)], "give --images FOLDER as well"),
        (["--quantize", "int8", "--size", "16", "24"], "int8 needs images"),
    ):
        assert main([*command, *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "files").exists()
