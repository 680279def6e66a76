"""Where the time of a training step goes: input, forward pass, backward pass, update, metric."""

import dataclasses
import itertools
import time

import keras
import numpy as np

from keras_seg.training.folder import LOGS
from keras_seg.utils import write_json

PROFILE = "profile"  # below the run's logs
STEP_TIMES = "step_times.json"
WARMUP, TIMED, TRACED = 2, 10, 5


@dataclasses.dataclass(frozen=True)
class StepTimes:
    """Seconds of a training step, by part.

    The parts after the input are differences between functions that do one thing more each, so what
    is computed at the same time counts for the first of them. `str()` is a table.

    Attributes:
        input: waiting for the batch, while the steps before it went on as in training.
        forward: network and loss.
        backward: gradients.
        update: optimizer.
        metric: score of the training batch.
        folder: of the trace.
    """

    input: float
    forward: float
    backward: float
    update: float
    metric: float
    folder: str

    @property
    def step(self):
        """Seconds of all parts together."""
        return self.input + self.forward + self.backward + self.update + self.metric

    def __str__(self):
        lines = [f"Time of a training step (median of {TIMED}):"]
        for name in ("input", "forward", "backward", "update", "metric", "step"):
            seconds = getattr(self, name)
            share = seconds / self.step if self.step else 0.0
            lines.append(f"  {name:8} {1000 * seconds:10.2f} ms {100 * share:5.1f} %")
        lines.append(
            f"The trace of {TRACED} steps is in {self.folder} (tensorboard --logdir {self.folder}, "
            "with the package tensorboard-plugin-profile)."
        )
        return "\n".join(lines)


def check_profile():
    """ValueError where steps cannot be profiled."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"A profile needs the TensorFlow backend, this is {keras.backend.backend()}: set "
            "KERAS_BACKEND=tensorflow, or leave out profile (--profile)."
        )


def profile_steps(model, batches, folder):
    """Time some training steps, trace some more, and put everything in the model back.

    The trace goes to `folder/logs/profile`, the times into `step_times.json` beside it.

    Args:
        model: compiled, its optimizer built.
        batches: what `fit` is given, a `tf.data.Dataset` or a `PyDataset`; gone through anew.
        folder: `pathlib.Path` of the run.

    Returns:
        `StepTimes`.

    Raises:
        ValueError: on another backend than TensorFlow, and for a `PyDataset` on several replicas.
    """
    check_profile()
    variables = [*model.variables, *model.optimizer.variables]
    state = [keras.ops.convert_to_numpy(variable) for variable in variables]
    try:
        return _profile(model, batches, folder / LOGS / PROFILE)
    finally:
        for variable, value in zip(variables, state, strict=True):
            variable.assign(value)
        model.reset_metrics()


def _profile(model, batches, folder):
    import tensorflow as tf

    parts = [_compiled(model, step) for step in _growing_steps(model)]
    whole = parts[-1]
    stream = _stream(model, batches)
    rounds = []
    for _ in range(WARMUP + TIMED):
        batch = next(stream)
        rounds.append([_seconds(part, batch) for part in parts])
    ends = np.median(rounds[WARMUP:], axis=0)
    lengths = np.maximum(np.diff(ends, prepend=0.0), 0.0)  # noise must not make one negative

    waits = []
    for _ in range(WARMUP + TIMED):
        begin = time.perf_counter()
        batch = next(stream)
        waits.append(time.perf_counter() - begin)
        _seconds(whole, batch)
    folder.mkdir(parents=True, exist_ok=True)
    tf.profiler.experimental.start(str(folder))
    try:
        for number in range(TRACED):
            with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
                _seconds(whole, next(stream))
    finally:
        tf.profiler.experimental.stop()
    times = StepTimes(float(np.median(waits[WARMUP:])), *map(float, lengths), folder=str(folder))
    write_json(folder / STEP_TIMES, dataclasses.asdict(times) | {"step": times.step})
    return times


def _growing_steps(model):
    """Functions of a batch: forward pass; with backward pass; with update; with metric."""
    import tensorflow as tf

    def forward(data):
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        outputs = model(images, training=True)
        return model.compute_loss(images, labels, outputs, weights, training=True)

    def backward(data):
        with tf.GradientTape() as tape:
            loss = model.optimizer.scale_loss(forward(data))
        return tape.gradient(loss, model.trainable_weights)

    def update(data):
        gradients = backward(data)
        model.optimizer.apply(gradients, model.trainable_weights)

    return forward, backward, update, model.train_step


def _compiled(model, step):
    """`step` on every replica, compiled as `fit` compiles it."""
    import tensorflow as tf

    @tf.function(jit_compile=model.jit_compile, reduce_retracing=True)
    def run(data):
        return model.distribute_strategy.run(step, args=(data,))

    return run


def _stream(model, batches):
    """An endless iterator of batches."""
    strategy = model.distribute_strategy
    if isinstance(batches, keras.utils.PyDataset):
        if strategy.num_replicas_in_sync > 1:
            raise ValueError("A profile on several devices needs a tf.data.Dataset of batches.")
        return (
            keras.tree.map_structure(keras.ops.convert_to_tensor, batches[i % batches.num_batches])
            for i in itertools.count()
        )
    batches = batches.repeat()
    if strategy.num_replicas_in_sync > 1:
        batches = strategy.experimental_distribute_dataset(batches)
    return iter(batches)


def _seconds(function, *arguments):
    """Time of a call until every device is done with it."""
    import tensorflow as tf

    begin = time.perf_counter()
    function(*arguments)
    tf.test.experimental.sync_devices()
    return time.perf_counter() - begin
