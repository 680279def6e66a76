"""Where the time of a training step goes: input, forward pass, backward pass, update, metric."""

import contextlib
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
    if keras.backend.backend() not in ("tensorflow", "jax"):
        raise ValueError(
            f"A profile needs the TensorFlow or JAX backend, this is {keras.backend.backend()}: "
            "set KERAS_BACKEND, or leave out profile (--profile)."
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
        ValueError: on another backend than TensorFlow and JAX, for a `PyDataset` on several
            replicas, and for several devices of JAX.
    """
    check_profile()
    backend = _JAX if keras.backend.backend() == "jax" else _TensorFlow
    variables = [*model.variables, *model.optimizer.variables]
    state = [keras.ops.convert_to_numpy(variable) for variable in variables]
    try:
        return _profile(backend(model, batches), folder / LOGS / PROFILE)
    finally:
        for variable, value in zip(variables, state, strict=True):
            variable.assign(value)
        model.reset_metrics()


def _profile(backend, folder):
    whole = backend.parts[-1]
    rounds = []
    for _ in range(WARMUP + TIMED):
        batch = next(backend.stream)
        rounds.append([_seconds(part, batch) for part in backend.parts])
    ends = np.median(rounds[WARMUP:], axis=0)
    lengths = np.maximum(np.diff(ends, prepend=0.0), 0.0)  # noise must not make one negative

    waits = []
    for _ in range(WARMUP + TIMED):
        begin = time.perf_counter()
        batch = next(backend.stream)
        waits.append(time.perf_counter() - begin)
        whole(batch)
    folder.mkdir(parents=True, exist_ok=True)
    with backend.trace(str(folder)):
        for number in range(TRACED):
            with backend.traced_step(number):
                whole(next(backend.stream))
    times = StepTimes(float(np.median(waits[WARMUP:])), *map(float, lengths), folder=str(folder))
    write_json(folder / STEP_TIMES, dataclasses.asdict(times) | {"step": times.step})
    return times


def _seconds(function, batch):
    begin = time.perf_counter()
    function(batch)
    return time.perf_counter() - begin


class _TensorFlow:
    """How steps are run and traced, on any number of replicas.

    Attributes:
        parts: functions of a batch that return when every device is done: forward pass; with
            backward pass; with update; with metric, the whole step.
        stream: endless iterator of batches.
    """

    def __init__(self, model, batches):
        self.model = model
        self.parts = [self._compiled(step) for step in self._growing_steps()]
        self.stream = self._stream(batches)

    def _growing_steps(self):
        import tensorflow as tf

        model = self.model

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

    def _compiled(self, step):
        """`step` on every replica, compiled as `fit` compiles it."""
        import tensorflow as tf

        @tf.function(jit_compile=self.model.jit_compile, reduce_retracing=True)
        def run(data):
            return self.model.distribute_strategy.run(step, args=(data,))

        def wait(data):
            run(data)
            tf.test.experimental.sync_devices()

        return wait

    def _stream(self, batches):
        strategy = self.model.distribute_strategy
        if isinstance(batches, keras.utils.PyDataset):
            if strategy.num_replicas_in_sync > 1:
                raise ValueError("A profile on several devices needs a tf.data.Dataset of batches.")
            return _tensors(batches)
        batches = batches.repeat()
        if strategy.num_replicas_in_sync > 1:
            batches = strategy.experimental_distribute_dataset(batches)
        return iter(batches)

    @contextlib.contextmanager
    def trace(self, folder):
        import tensorflow as tf

        tf.profiler.experimental.start(folder)
        try:
            yield
        finally:
            tf.profiler.experimental.stop()

    def traced_step(self, number):
        import tensorflow as tf

        return tf.profiler.experimental.Trace("train", step_num=number, _r=1)


class _JAX:
    """The same on one device of JAX, where a step is a function of the state of the network."""

    def __init__(self, model, batches):
        if keras.distribution.distribution() is not None:
            raise ValueError(
                "A profile on JAX is of one device: name one (devices=), or leave it out."
            )
        self.model = model
        self.stream = _tensors(batches)
        model.train_on_batch(*next(self.stream))  # makes the metrics' variables
        groups = (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
        self.state = [[variable.value for variable in group] for group in groups]
        self.parts = [self._compiled(step) for step in self._growing_steps()]

    def _growing_steps(self):
        import jax

        model = self.model

        def loss(function, state, data):
            trainable, others, optimizer, metrics = state
            batch = keras.utils.unpack_x_y_sample_weight(data)
            return function(
                trainable, others, metrics, *batch, training=True, optimizer_variables=optimizer
            )

        def forward(state, data):
            return loss(model.compute_loss_and_updates, state, data)

        def backward(state, data):
            gradient = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)
            return loss(gradient, state, data)

        def update(state, data):
            found, gradients = backward(state, data)
            return found, model.optimizer.stateless_apply(state[2], gradients, state[0])

        return forward, backward, update, model.train_step

    def _compiled(self, step):
        import jax

        run = jax.jit(step) if self.model.jit_compile else step
        return lambda data: jax.block_until_ready(run(self.state, data))

    def trace(self, folder):
        import jax

        return jax.profiler.trace(folder)

    def traced_step(self, number):
        import jax

        return jax.profiler.StepTraceAnnotation("train", step_num=number)


def _tensors(batches):
    """An endless iterator of the batches of a `PyDataset` or `tf.data.Dataset`, as tensors."""
    if isinstance(batches, keras.utils.PyDataset):
        found = (batches[i % batches.num_batches] for i in itertools.count())
    else:
        found = batches.repeat().as_numpy_iterator()
    return (keras.tree.map_structure(keras.ops.convert_to_tensor, batch) for batch in found)
