"""What needs a process of its own: kills, signals, several devices, another backend."""

import importlib.util
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from keras_seg.training.checkpoint import BEST, LAST, newest_checkpoint, read_progress

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]


def start(*command, **environment):
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"} | environment,
    )


def finish(process, status=0):
    out, error = process.communicate(timeout=300)
    assert process.returncode == status, error[-3000:]
    return out


def wait_for(path, process):
    end = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


RESUME = """
import os, sys
if os.environ.get("KERAS_BACKEND") in ("jax", "torch"):
    sys.modules["tensorflow"] = None  # importing it fails, as where it is not installed
import keras, numpy as np
from small_run import StopAfter, network, run

options = {"epochs": 4, "deterministic": True, "augment": "default", "steps_per_epoch": 5}
# An update every two of five steps, so that the interruption falls between the two.
options |= {"gradient_accumulation_steps": 2, "global_clipnorm": 1.0, "ema_momentum": 0.5}
folder, build = sys.argv[1], lambda: network(aux=True)
whole = run(folder + "/whole", build, **options)
try:
    run(folder + "/parts", build, callbacks=[StopAfter(2)], **options)
except KeyboardInterrupt:
    parts = run(folder + "/parts", build, **options)
for one, other in zip(
    [*whole.model.variables, *whole.model.optimizer.variables],
    [*parts.model.variables, *parts.model.optimizer.variables],
    strict=True,
):
    one, other = keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
    np.testing.assert_array_equal(one, other)
keep = lambda history: [{k: v for k, v in row.items() if k != "seconds"} for row in history]
assert keep(whole.history) == keep(parts.history)
assert whole.history[3]["loss"] < whole.history[0]["loss"]
assert whole.scores == parts.scores
"""


def test_two_epochs_and_two_more_are_four(tmp_path):
    """Every weight, every bit of the optimizer's state, every score; dropout, augmentation,
    averaged weights, half an accumulated batch, and an epoch that is no whole number of passes over
    the data included."""
    finish(start("-c", RESUME, tmp_path))


def test_sigterm_leaves_the_last_epoch_and_status_143(tmp_path):
    process = start(HERE / "small_run.py", tmp_path, "epochs=1000")
    wait_for(tmp_path / LAST, process)
    process.send_signal(signal.SIGTERM)
    finish(process, status=128 + signal.SIGTERM)
    assert json.loads((tmp_path / "manifest.json").read_text())["state"] == "interrupted"
    progress = read_progress(tmp_path / LAST)
    assert progress["epoch"] == len(progress["history"]) >= 1
    assert not list(tmp_path.glob(".partial-*"))


DEVICES = """
import sys, numpy as np, tensorflow as tf, keras
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from keras_seg import data
from small_run import SIZE, Samples, network, run

shapes = data.shapes(9, size=SIZE)
samples = []
for i, sample in enumerate(shapes[i] for i in range(9)):
    label = sample.label.copy()
    if i % 2:
        label[2:] = 255  # of every second image only two rows count
    samples.append(sample._replace(label=label))
dataset = Samples(samples, shapes.table)
found = {}
for devices in (None, ["CPU:0", "CPU:1"]):
    found[len(devices or "1")] = run(
        f"{sys.argv[1]}/{len(devices or '1')}",
        lambda: network(aux=True, dropout=0.0),
        dataset, dataset, devices=devices, augment=None, optimizer="sgd", learning_rate=0.1,
        head_multiplier=10, epochs=2, steps_per_epoch=4, previews=2,
        gradient_accumulation_steps=2, global_clipnorm=0.5, ema_momentum=0.5,
    )
one, two = found[1], found[2]
state = lambda model: [*model.variables, *model.optimizer.variables]
for a, b in zip(state(one.model), state(two.model), strict=True):
    a, b = keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b)
    np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)
for a, b in zip(one.history, two.history, strict=True):
    for name in a.keys() - {"seconds"}:
        np.testing.assert_allclose(b[name], a[name], rtol=1e-5, err_msg=name)
assert two.scores["confusion_matrix"] == one.scores["confusion_matrix"]
try:
    run(sys.argv[1] + "/odd", devices=["CPU:0", "CPU:1"], batch_size=3)
except ValueError as error:
    assert "cannot be shared by 2 devices" in str(error)
else:
    raise AssertionError("an odd batch was accepted")
"""


def test_two_devices_train_as_one(tmp_path):
    """Synchronised batch normalisation and unevenly ignored pixels; 9 images in batches of 4, so
    that the last batch of validation is filled up; gradients accumulated, clipped as a whole, and
    weights averaged."""
    finish(start("-c", DEVICES, tmp_path))


SCALED = """
import numpy as np, tensorflow as tf, keras
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from keras_seg import training

strategy = training.choose_strategy(["CPU:0", "CPU:1"])
with strategy.scope():
    weight = keras.Variable([1.0, -2.0])
    optimizer = training.LossScale(training.SGD(0.5), initial_scale=4.0)
    optimizer.build([weight])

@tf.function
def step(bad):
    def on_replica():
        place = tf.distribute.get_replica_context().replica_id_in_sync_group
        infinite = tf.logical_and(bad, tf.equal(place, 1))
        optimizer.apply([tf.where(infinite, [np.inf, 0.0], [4.0, 8.0])], [weight])
    strategy.run(on_replica)

for bad, expected in ((True, [1.0, -2.0]), (False, [-1.0, -6.0])):  # 2 * 4 / 2 * 0.5 and twice it
    step(tf.constant(bad))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(weight), expected)
"""


@pytest.mark.slow
def test_a_gradient_of_one_device_that_is_not_finite_keeps_all_from_moving():
    finish(start("-c", SCALED))


def test_jax_without_tensorflow(tmp_path):
    """The same exact resume on another backend, and the whole folder."""
    assert importlib.util.find_spec("jax"), "jax is missing: pip install 'keras-seg[test]'"
    finish(start("-c", RESUME, tmp_path, KERAS_BACKEND="jax"))
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {LAST, BEST, "manifest.json", "history.csv", "metrics.json", "logs", "previews"} < names


@pytest.mark.slow
def test_torch_without_tensorflow(tmp_path):
    assert importlib.util.find_spec("torch"), "torch is missing: pip install torch"
    finish(start("-c", RESUME, tmp_path, KERAS_BACKEND="torch"))


PROFILED = """
import json, pathlib, sys
sys.modules["tensorflow"] = None
from small_run import run

plain, profiled = (
    run(pathlib.Path(sys.argv[1], str(on)), epochs=2, deterministic=True, profile=on, previews=0)
    for on in (False, True)
)
same = [[row[name] for name in ("loss", "mean_iou")] for row in plain.history]
assert same == [[row[name] for name in ("loss", "mean_iou")] for row in profiled.history]
"""


def test_a_profile_on_jax_without_tensorflow(tmp_path):
    """The run is the one that it would have been, and the parts are named and written."""
    out = finish(start("-c", PROFILED, tmp_path, KERAS_BACKEND="jax"))
    names = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert names == ["input", "forward", "backward", "update", "metric", "step"]
    folder = tmp_path / "True" / "logs" / "profile"
    times = json.loads((folder / "step_times.json").read_text())
    assert times["forward"] > 0
    assert list(folder.glob("plugins/profile/*/*.xplane.pb"))


@pytest.mark.slow
def test_no_kill_costs_more_than_an_epoch(tmp_path):
    """20 times kill -9 at a random moment, most of which is saving; each start goes on."""
    seen = 0
    for trial in range(20):
        process = start(HERE / "small_run.py", tmp_path, "epochs=100000", "previews=0")
        history = tmp_path / "history.csv"
        wait_for(history, process)
        while len(history.read_text().splitlines()) < seen + 2:  # a header, and one more epoch
            assert process.poll() is None, process.communicate()[1][-3000:]
            time.sleep(0.01)
        time.sleep(random.Random(trial).uniform(0.5, 2.5))
        process.kill()
        process.communicate()
        name, progress, problems = newest_checkpoint(tmp_path)
        assert not problems
        assert name is not None
        assert progress["epoch"] > seen
        seen = progress["epoch"]
    result = finish(start(HERE / "small_run.py", tmp_path, f"epochs={seen + 1}", "previews=0"))
    assert [row["epoch"] for row in json.loads(result)] == list(range(1, seen + 2))
    assert not list(tmp_path.glob(".partial-*"))
