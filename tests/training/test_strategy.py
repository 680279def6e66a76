"""One device against two of the CPU, on both backends that know several."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
TWO_CPUS = """
import runpy, sys
sys.argv = sys.argv[1:]
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
NO_TENSORFLOW = """
import runpy, sys
sys.argv = sys.argv[1:]
sys.modules["tensorflow"] = None  # importing it fails, as where it is not installed
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module", params=["tensorflow", "jax"])
def report(request, tmp_path_factory):
    assert importlib.util.find_spec("jax"), "jax is missing: pip install 'keras-seg[test]'"
    before = TWO_CPUS if request.param == "tensorflow" else NO_TENSORFLOW
    done = subprocess.run(
        [sys.executable, "-c", before, HERE / "on_devices.py", tmp_path_factory.mktemp("run")],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ
        | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
            "KERAS_BACKEND": request.param,
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        },
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {"backend": request.param, **json.loads(done.stdout)}


def tolerance(report):
    """What is asked for: on JAX the compiler orders the sums of two devices anew."""
    return 1e-6 if report["backend"] == "tensorflow" else 1e-5


def test_three_steps_with_every_loss(report):
    assert len(report["losses"]) == 18
    for name, difference in report["losses"].items():
        assert difference <= tolerance(report), name


def test_two_devices_train_as_one(report):
    """Synchronised batch normalisation, two outputs, a resumed run; the last batch of validation
    filled up."""
    assert max(report["weights"]) <= tolerance(report)
    one, two = report["history"]
    assert [row["epoch"] for row in two] == [1, 2]
    for a, b in zip(one, two, strict=True):
        del a["seconds"], b["seconds"]
        assert b == pytest.approx(a, rel=1e-5)
    one, two = report["scores"]
    assert one == two


def test_an_uneven_last_batch_of_ready_batches(report):
    """Left out in training, filled up in validation."""
    assert max(report["ready weights"]) <= tolerance(report)
    one, two = report["ready scores"]
    assert two == pytest.approx(one, rel=1e-6)


def test_replicas_drop_different_features(report):
    """On TensorFlow; on JAX dropout sees the whole batch. The first replica's are one device's."""
    if report["backend"] == "tensorflow":
        (one,), (first, second) = report["masks"]
        assert first == one
        assert second != first


def test_one_device_that_is_not_the_default(report):
    assert "CPU:1" in report["other"].upper() or "ID=1" in report["other"].upper()


def test_what_is_chosen(report):
    assert report["kept"], "the strategy that is active"
    assert report["default"], "plain Keras on the default device"
    assert "batch_size=3 cannot be shared by 2 devices" in report["odd"]
    assert "Unknown device 'CPU:7'" in report["unknown"]
    assert "different devices" in report["twice"]
    assert "at least one" in report["none"]
