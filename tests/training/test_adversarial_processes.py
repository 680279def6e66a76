"""Adversarial and semi-supervised training in a process of its own: two devices, exact resume."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
SCRIPT = """
import json, sys
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from keras_seg import data, losses, models, training
from small_run import CLASSES, SIZE, Samples, StopAfter, network, run

folder, rivals = sys.argv[1], []

def patches():
    rivals.append(models.PatchGAN(3 + CLASSES, receptive_field=16, filters=4))
    return rivals[-1]

def with_dropout():
    x = planes = keras.Input((None, None, CLASSES))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(x)
    x = keras.layers.Dropout(0.5)(x)
    rivals.append(keras.Model(planes, keras.layers.Conv2D(1, 1, dtype="float32")(x)))
    return rivals[-1]

def arrays(result, rival):
    parts = [result.model, result.model.optimizer, rival, rival.optimizer]
    return [keras.ops.convert_to_numpy(v) for part in parts for v in part.variables]

def history(result):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]

# Of every second image only two rows are labelled, of one nothing.
shapes, samples = data.shapes(8, size=SIZE), []
for i, sample in enumerate(shapes[i] for i in range(8)):
    label = sample.label.copy()
    label[2 * (i != 3) if i % 2 else len(label):] = 255
    samples.append(sample._replace(label=label))
dataset = Samples(samples, shapes.table)
loss = losses.CrossEntropy() + training.WarmUp(0.5 * losses.TotalVariation(), 0.5)
report = {}
for devices in (None, ["CPU:0", "CPU:1"]):
    adversary = training.Adversary(
        patches, inputs="pair", weight=0.5, alternate=2, optimizer=keras.optimizers.SGD(0.05)
    )
    name = "two" if devices else "one"
    result = run(
        f"{folder}/{name}", lambda: network(dropout=0.0), dataset, devices=devices, loss=loss,
        adversary=adversary, augment=None, optimizer="sgd", learning_rate=0.05,
        steps_per_epoch=4, epochs=2, previews=0,
    )
    report[name] = {
        "arrays": [a.ravel().tolist() for a in arrays(result, rivals[-1])],
        "history": history(result),
    }

options = {"epochs": 4, "steps_per_epoch": 3, "deterministic": True, "loss": loss, "previews": 0}
options["adversary"] = training.Adversary(with_dropout, alternate=2, weight=0.2)
whole = run(f"{folder}/whole", **options)
expected = arrays(whole, rivals[-1])
try:
    run(f"{folder}/parts", callbacks=[StopAfter(2)], **options)
except KeyboardInterrupt:
    parts = run(f"{folder}/parts", **options)
found = arrays(parts, rivals[-1])
report["same"] = [bool(np.array_equal(a, b)) for a, b in zip(expected, found, strict=True)]
report["histories"] = [history(whole), history(parts)]
json.dump(report, open(f"{folder}/report.json", "w"))
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adversarial")
    path = os.pathsep.join(map(str, (HERE.parents[1], HERE)))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "report.json").read_text())


def test_two_devices_train_as_one(report):
    """Both networks, both optimizers and what is logged; labels unevenly spread, 4 steps each."""
    one, two = report["one"], report["two"]
    for a, b in zip(one["arrays"], two["arrays"], strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-6)
    for a, b in zip(one["history"], two["history"], strict=True):
        assert b == pytest.approx(a, rel=1e-4)
        assert {"adversary_loss", "fooling_loss", "gradient_ratio"} < set(a)


def test_two_epochs_and_two_more_are_four(report):
    """Bit by bit; dropout in both networks, and turns that end in the middle of an epoch."""
    assert all(report["same"])
    whole, parts = report["histories"]
    assert whole == parts
