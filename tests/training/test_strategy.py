"""One device against two of the CPU, on both backends that know several."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_seg.training.batches import whole_batches

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


@pytest.mark.slow
def test_three_steps_with_losses_of_each_kind(report):
    """On TensorFlow, where each replica sees its own part only."""
    if report["backend"] == "tensorflow":
        assert len(report["losses"]) == 6
        for name, difference in report["losses"].items():
            assert difference <= 1e-6, name


@pytest.mark.slow
def test_statistics_of_channels_far_from_zero_are_those_of_one_device(report):
    """E(x ** 2) less E(x) ** 2, as Keras has it, is wrong in the fourth digit here."""
    if report["backend"] == "tensorflow":
        assert set(report["far"]) == {"gamma", "moving_mean", "moving_variance"}
        for name, difference in report["far"].items():
            assert difference <= 1e-5, name


@pytest.mark.slow
def test_two_devices_train_as_one(report):
    """With unevenly ignored pixels, synchronised batch normalisation and a resumed run. On
    TensorFlow the batches are ready ones, of which the last of validation is filled up, so that it
    weighs more in the loss."""
    assert max(report["weights"]) <= tolerance(report)
    one, two = report["history"]
    assert [row["epoch"] for row in two] == [1, 2]
    for a, b in zip(one, two, strict=True):
        for name in a.keys() - {"seconds", "val_loss"}:
            assert b[name] == pytest.approx(a[name], rel=1e-5), name
        if report["backend"] == "jax":
            assert b["val_loss"] == pytest.approx(a["val_loss"], rel=1e-5)
    one, two = report["scores"]
    assert one["confusion_matrix"] == two["confusion_matrix"]


class Batches(keras.utils.PyDataset):
    """A batch of 4 images and one of 1, with sample weights."""

    num_batches = 2

    def __getitem__(self, index):
        count = (4, 1)[index]
        return np.full((count, 2, 2, 3), 7.0), np.ones((count, 2, 2), "int32"), np.ones(count)


def tf_batches(drop_remainder=False, size=4):
    import tensorflow as tf

    arrays = np.full((5, 2, 2, 3), 7.0), np.ones((5, 2, 2), "int32"), np.ones(5)
    return tf.data.Dataset.from_tensor_slices(arrays).batch(size, drop_remainder=drop_remainder)


@pytest.mark.parametrize("make", [Batches, tf_batches])
def test_validation_batches_are_filled_up(make):
    whole = whole_batches(make(), 2, 255, fill=True)
    whole = [whole[0], whole[1]] if make is Batches else list(whole)
    assert [len(images) for images, _, _ in whole] == [4, 4]
    images, labels, weights = (np.asarray(array) for array in whole[1])
    assert images.shape == (4, 2, 2, 3)
    assert images[0, 0, 0, 0] == 7
    assert labels[:, 0, 0].tolist() == [1, 255, 255, 255]
    assert weights.tolist() == [1, 0, 0, 0]


def test_training_batches_must_be_whole():
    assert whole_batches(Batches(), 2, 255, fill=False).num_batches == 1
    assert len(list(whole_batches(tf_batches(True), 2, 255, fill=False))) == 1
    for batches, replicas in ((tf_batches(), 2), (tf_batches(True, 5), 2), (Batches(), 3)):
        with pytest.raises(ValueError, match="cannot be shared by .*drop_remainder=True"):
            whole_batches(batches, replicas, 255, fill=False)


@pytest.mark.slow
def test_replicas_drop_different_features(report):
    """On TensorFlow; on JAX dropout sees the whole batch. The first replica's are one device's."""
    if report["backend"] == "tensorflow":
        (one,), (first, second) = report["masks"]
        assert first == one
        assert second != first


@pytest.mark.slow
def test_batch_normalisation_on_each_device_by_itself_is_refused(report):
    """On JAX a shared batch is one array, which is normalised as one."""
    if report["backend"] == "tensorflow":
        assert "plain normalises on each of the 2 devices" in report["apart"]
        assert "own (1 in all)" in report["apart"]
        assert "synchronized=True, or return keras_seg.layers.replace_batch_norm" in report["apart"]
    else:
        assert not report["apart"]
    assert not report["together"]


@pytest.mark.slow
def test_one_device_that_is_not_the_default(report):
    assert "CPU:1" in report["other"].upper() or "ID=1" in report["other"].upper()


@pytest.mark.slow
def test_what_is_chosen(report):
    assert report["kept"], "the strategy that is active"
    assert report["default"], "plain Keras on the default device"
    assert report["text"], "one name is that device"
    if report["backend"] == "tensorflow":
        assert "trained on CPU:0, CPU:1 together already" in report["others"]
        assert "CPU:1, CPU:0 as well: start another process" in report["others"]
    assert "batch_size=3 cannot be shared by 2 devices" in report["odd"]
    assert "Unknown device 'CPU:7'" in report["unknown"]
    assert "different devices" in report["twice"]
    assert "at least one" in report["none"]
