import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_run import SIZE, run

from keras_seg import data
from keras_seg.training.profile import profile_steps


class Clock:
    """Stands still but where something is `slow`, however busy the machine is."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


CLOCK = Clock()


def slow(seconds):
    """The identity on a tensor, which takes its time."""

    def call(x):
        def wait(value):
            CLOCK.now += seconds
            return value

        y = tf.numpy_function(wait, [x], x.dtype)
        y.set_shape(x.shape)
        return y

    return call


INPUT, FORWARD, BACKWARD, UPDATE, METRIC = 0.12, 0.04, 0.10, 0.06, 0.08


@tf.custom_gradient
def slow_both_ways(x):
    return slow(FORWARD)(x), slow(BACKWARD)


@keras.saving.register_keras_serializable("tests")
class Slow(keras.layers.Layer):
    def call(self, x):
        return slow_both_ways(x)


class SlowSGD(keras.optimizers.SGD):
    def apply(self, grads, trainable_variables=None):
        grads = [slow(UPDATE)(grads[0]), *grads[1:]]
        return super().apply(grads, trainable_variables)


class SlowError(keras.metrics.MeanSquaredError):
    def update_state(self, y, y_pred, sample_weight=None):
        return super().update_state(y, slow(METRIC)(y_pred), sample_weight)


def test_each_part_is_given_its_own_time(tmp_path, monkeypatch):
    """Every part takes a known time."""
    monkeypatch.setattr("keras_seg.training.profile.time", CLOCK)
    for name, count in (("WARMUP", 1), ("TIMED", 3), ("TRACED", 2)):
        monkeypatch.setattr(f"keras_seg.training.profile.{name}", count)
    image = keras.Input((2, 2, 1))
    model = keras.Model(image, keras.layers.Conv2D(1, 1)(Slow()(keras.layers.Conv2D(1, 1)(image))))
    model.compile(SlowSGD(0.1), "mse", metrics=[SlowError()], jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    batches = tf.data.Dataset.from_tensors(rng.normal(size=(2, 2, 2, 1)).astype("float32"))
    alone = tf.data.Options()
    alone.experimental_optimization.inject_prefetch = False  # which would hide it
    batches = batches.map(lambda x: (slow(INPUT)(x), 2 * x)).with_options(alone)
    before = [keras.ops.convert_to_numpy(v) for v in [*model.variables, *model.optimizer.variables]]
    times = profile_steps(model, batches, tmp_path)
    for name, expected in (
        ("input", INPUT),
        ("forward", FORWARD),
        ("backward", BACKWARD),
        ("update", UPDATE),
        ("metric", METRIC),
    ):
        assert getattr(times, name) == pytest.approx(expected), name
    after = [*model.variables, *model.optimizer.variables]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(other), one)
    assert list(tmp_path.glob("logs/profile/plugins/profile/*/*.xplane.pb"))
    written = json.loads((tmp_path / "logs" / "profile" / "step_times.json").read_text())
    assert written["step"] == pytest.approx(times.step)


def test_a_profiled_run_trains_as_another(tmp_path, capsys):
    options = {"train_data": data.shapes(8, size=SIZE), "epochs": 1, "previews": 0}
    (plain,), (profiled,) = (
        run(tmp_path / str(profile), profile=profile, **options).history
        for profile in (False, True)
    )
    for name in ("loss", "mean_iou"):
        assert profiled[name] == pytest.approx(plain[name], rel=1e-4), name
    printed = capsys.readouterr().out
    names = [line.split()[0] for line in printed.splitlines() if line.startswith("  ")]
    assert names == ["input", "forward", "backward", "update", "metric", "step"]


def test_another_backend_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "torch")
    with pytest.raises(ValueError, match="needs the TensorFlow or JAX backend, this is torch"):
        run(tmp_path / "run", lambda: pytest.fail("the network was built"), profile=True)
