"""What happens between the steps and after each epoch of a run."""

import csv
import signal
import threading
import time

import keras
import numpy as np

from keras_seg.training.checkpoint import LAST, save_checkpoint
from keras_seg.training.events import EventWriter
from keras_seg.training.folder import HISTORY, LOGS, PREVIEWS
from keras_seg.training.optimizers import averaged, exchange_averages
from keras_seg.training.strategy import replica_copies
from keras_seg.utils import atomic_path, unknown_name

# What a shell reports for a process that SIGTERM ended.
TERMINATED = 128 + signal.SIGTERM


class FiniteGuard(keras.callbacks.Callback):
    """Stops a run whose loss, weights or optimizer state are no longer finite.

    The loss alone does not tell: TensorFlow's fused convolution on CPU turns NaN into 0, and the
    loss of a network whose weights are NaN stays finite.

    Args:
        every: steps between two looks; there is one more at the end of each epoch.

    Raises (from `fit`):
        ValueError: naming the epoch, the step, and the first tensor that is not finite; or for an
            epoch in which no pixel counted, whose loss 0 is finite and means nothing.
    """

    def __init__(self, every=100):
        super().__init__()
        if every < 1:
            raise ValueError(f"check_every must be at least 1, got {every}.")
        self.every = every
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (batch + 1) % self.every == 0:
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            self._check(f"epoch {self._epoch + 1}, step {batch + 1}", {"loss": logs["loss"]})

    def on_epoch_end(self, epoch, logs=None):
        losses = {name: value for name, value in logs.items() if name.endswith("loss")}
        self._check(f"the end of epoch {epoch + 1}", losses)
        # The mean is over the classes that were seen or predicted, and of none NaN.
        if np.isnan(logs.get("mean_iou", 0)):
            raise ValueError(
                f"Training stopped at the end of epoch {epoch + 1}: none of its pixels counted, "
                "since every label is the table's ignore_label. Nothing of this epoch was saved. "
                "See what the masks hold with keras_seg.data.check_data (keras-seg check-data)."
            )

    def _check(self, where, losses):
        bad = first_not_finite(self.model)
        if bad is None:
            bad = next((name for name, value in losses.items() if not np.isfinite(value)), None)
        if bad is not None:
            raise ValueError(
                f"Training stopped at {where}: {bad} is not finite. Nothing of this epoch was "
                f"saved; {LAST} holds the one before, if there was one. Usual causes: a label id "
                "outside the class table, ignored pixels (borders, padding of the augmentation) "
                "that a loss with ignore_label=None does not leave out, a pixel that is not "
                "finite, a learning rate that is too high."
            )


def first_not_finite(model):
    """Path of the first weight, or else optimizer variable, with a NaN or infinity; or None."""
    variables = [
        v for v in [*model.variables, *model.optimizer.variables] if "float" in str(v.dtype)
    ]
    finite = keras.ops.stack([keras.ops.all(keras.ops.isfinite(v)) for v in variables])
    finite = keras.ops.convert_to_numpy(finite)  # one transfer from the device
    return None if finite.all() else variables[int(finite.argmin())].path


class EpochSeeds(keras.callbacks.Callback):
    """Random numbers of layers (dropout) and the order of data follow from (seed, epoch).

    Their running state is not stored by Keras; this makes an epoch the same whether the run came
    to it in one go or was resumed before it. Replicas draw different numbers: by themselves they
    would drop the same features of the first image of each.

    Args:
        seed: of the run.
        batches: training data; told the epoch if it has `set_epoch`.
        worker: number of this process among several workers.
    """

    def __init__(self, seed, batches, worker=0):
        super().__init__()
        self.worker = worker
        self.seed = seed
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        if hasattr(self.batches, "set_epoch"):
            self.batches.set_epoch(epoch)
        if keras.backend.backend() == "torch":
            import torch

            # There Keras' dropout draws from the generator of the process, whatever its seed.
            key = np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0]
            torch.manual_seed(int(key))
        states = [v for v in self.model.variables if v.name == "seed_generator_state"]
        for index, state in enumerate(states):
            for replica, copy in replica_copies(self.model, state, self.worker):
                key = (self.seed, epoch, index, *([replica] if replica else []))
                value = np.random.SeedSequence(key).generate_state(1)[0] % 2**31
                copy.assign(np.array([value, 0], state.dtype))


class AveragedWeights(keras.callbacks.Callback):
    """Validation is of the moving averages of the weights, if the optimizer keeps them."""

    def on_test_begin(self, logs=None):
        exchange_averages(self.model)

    def on_test_end(self, logs=None):
        exchange_averages(self.model)


class StopOnSignal(keras.callbacks.Callback):
    """SIGTERM (a preempted machine) ends the run after the current step, with exit status 143.

    The checkpoint of the last finished epoch stays; the same command goes on from it. A save under
    way is finished first. A second SIGTERM ends the process at once. Outside the main thread
    signals cannot be caught, and nothing is done.

    Args:
        agree: function from whether this process was asked to whether to end; of several workers
            that train together all end after the same step.
    """

    def __init__(self, agree=bool):
        super().__init__()
        self._agree = agree
        self._asked = False
        self._before = None

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *error):
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number, frame):
        self._asked = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def leave(self):
        """End the process if it was asked to.

        Raises:
            SystemExit: with the status 143.
        """
        if self._agree(self._asked):
            raise SystemExit(TERMINATED)

    def on_train_batch_end(self, batch, logs=None):
        self.leave()

    def on_test_batch_end(self, batch, logs=None):
        self.leave()

    def on_epoch_end(self, epoch, logs=None):
        self.leave()


class Recorder(keras.callbacks.Callback):
    """After each epoch: history as CSV, TensorBoard, manifest; checkpoint and best so far.

    The checkpoint is written first and holds the history, so that the other files can always be
    made again from it.

    Args:
        folder: run folder.
        manifest: `Manifest` of the run.
        progress: of the checkpoint that the run goes on from, or `new_progress()`.
        monitor: the score that decides which epoch is the best.
        larger_is_better: its direction.
        tensorboard: whether to write `logs/`.
        saved: epochs, from 1, after which a checkpoint is written; also after the best so far.
        checkpoints: whether to write those; one of several workers does.
        adversary: compiled model that the checkpoints hold too, or None.
    """

    def __init__(
        self,
        folder,
        manifest,
        progress,
        *,
        monitor,
        larger_is_better,
        tensorboard,
        saved,
        checkpoints=True,
        adversary=None,
    ):
        super().__init__()
        self.checkpoints = checkpoints
        self.folder = folder
        self.manifest = manifest
        self.progress = progress
        self.monitor = monitor
        self.sign = 1 if larger_is_better else -1
        self.tensorboard = tensorboard
        self.saved = saved
        self.adversary = adversary
        self._writers = {}
        self._start = {}

    def on_epoch_begin(self, epoch, logs=None):
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        self._start = {"learning_rate": float(rate), "seconds": time.monotonic()}

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1}
        row |= {name: float(value) for name, value in logs.items()}
        row |= {
            "learning_rate": self._start["learning_rate"],
            "seconds": time.monotonic() - self._start["seconds"],
        }
        score = row.get(self.monitor, float("nan"))
        best = self.progress["best_score"]
        improved = np.isfinite(score) and (best is None or self.sign * (score - best) > 0)
        self.progress["epoch"] = epoch + 1
        self.progress["history"].append(row)
        if improved:
            self.progress |= {"best_score": score, "best_epoch": epoch + 1}
        saves = improved or epoch + 1 in self.saved or self.model.stop_training
        if self.checkpoints and saves:
            save_checkpoint(
                self.model, self.folder, self.progress, best=improved, adversary=self.adversary
            )
        write_history(self.folder, self.progress["history"])
        self.manifest.update(epoch=epoch + 1, best=best_entry(self.progress, self.monitor))
        if self.tensorboard:
            self._write_events(row)

    def _write_events(self, row):
        """`epoch_...` of training and validation under the same tags, so that curves overlay."""
        curves = {"train": {}, "validation": {}}
        for name, value in row.items():
            if name == "epoch":
                continue
            kind = "validation" if name.startswith("val_") else "train"
            curves[kind]["epoch_" + name.removeprefix("val_")] = value
        for kind, values in curves.items():
            if values:
                if kind not in self._writers:
                    self._writers[kind] = EventWriter(self.folder / LOGS / kind)
                self._writers[kind].scalars(row["epoch"] - 1, values)

    def close(self):
        for writer in self._writers.values():
            writer.close()


def settle_monitors(callbacks, outputs, validated):
    """Tell Keras' callbacks with mode="auto" whether more of what they watch is better.

    Keras itself knows that of its own metrics alone, and says so after the first epoch.

    Args:
        callbacks: of the caller.
        outputs: names of the network's outputs; empty for one.
        validated: whether there is validation data.

    Raises:
        ValueError: for a callback that watches a score which no epoch has; Keras only warns.
    """
    known = ["loss", "mean_iou", *(f"{name}_loss" for name in outputs)]
    known += [f"val_{name}" for name in known] if validated else []
    others = False  # a callback that is not Keras' may add scores, for itself and those after it
    for callback in callbacks:
        others |= not type(callback).__module__.startswith("keras.")
        watched = getattr(callback, "monitor", None)
        if watched in known:
            if getattr(callback, "mode", None) == "auto":
                callback.mode = "min" if watched.endswith("loss") else "max"
        # ModelCheckpoint has a monitor that it only looks at with save_best_only.
        elif watched and not others and getattr(callback, "save_best_only", True):
            raise unknown_name(f"monitor of {type(callback).__name__}", watched, known)


def check_callbacks(callbacks):
    """ValueError for anything but a list of Keras callbacks."""
    listed = isinstance(callbacks, list | tuple)
    if not listed or not all(isinstance(each, keras.callbacks.Callback) for each in callbacks):
        raise ValueError(f"callbacks must be a list of Keras callbacks, got {callbacks!r}.")


def check_rates(callbacks, scheduled):
    """ValueError for a callback that sets the learning rate where a schedule does so already.

    Keras raises TypeError when the callback first sets it, which may be after days.
    """
    setters = keras.callbacks.ReduceLROnPlateau | keras.callbacks.LearningRateScheduler
    for callback in callbacks:
        if scheduled and isinstance(callback, setters):
            raise ValueError(
                f"{type(callback).__name__} sets the learning rate, and so does the schedule: give "
                "schedule='constant' without warmup_steps, or, if you give an optimizer, a number "
                "as its learning_rate."
            )


def new_progress():
    """Progress of a run before its first epoch."""
    return {"epoch": 0, "history": [], "best_score": None, "best_epoch": None}


def best_entry(progress, monitor):
    """What the manifest says of the best epoch."""
    return {
        "monitor": monitor,
        "score": progress["best_score"],
        "epoch": progress["best_epoch"],
    }


def write_history(folder, history):
    """`history.csv`: a row an epoch; empty where an epoch was not validated."""
    names = list(dict.fromkeys(name for row in history for name in row))
    with (
        atomic_path(folder / HISTORY) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(history)


class Previews(keras.callbacks.Callback):
    """A picture after an epoch: images beside labels and predictions, always the same samples.

    Args:
        folder: run folder; files are `previews/epoch_0001.png` and so on.
        dataset: `keras_seg.data.SegmentationDataset`.
        count: how many of its samples, evenly spread over it.
        table: `keras_seg.data.LabelTable`, for the colours.
        procedure: options of `Predictor.predict`.
        drawn: epochs, from 1, after which there is one.

    Attributes:
        predictor: the `Predictor` of the trained model, None before the first picture.
    """

    def __init__(self, folder, dataset, count, table, procedure, drawn):
        super().__init__()
        self.folder = folder / PREVIEWS
        count = min(count, len(dataset))
        self.samples = [dataset[i * len(dataset) // count] for i in range(count)]
        self.table = table
        self.procedure = procedure
        self.drawn = drawn
        self.predictor = None

    def on_epoch_end(self, epoch, logs=None):
        from keras_seg.inference import Predictor, contact_sheet

        if epoch + 1 not in self.drawn:
            return
        if self.predictor is None:
            self.folder.mkdir(exist_ok=True)
            self.predictor = Predictor(self.model, table=self.table)
        with averaged(self.model):
            predictions = [
                self.predictor.predict(sample.image, **self.procedure) for sample in self.samples
            ]
        sheet = contact_sheet(
            [sample.image for sample in self.samples],
            [sample.label for sample in self.samples],
            predictions,
            self.table,
        )
        with atomic_path(self.folder / f"epoch_{epoch + 1:04d}.png") as temporary:
            sheet.save(temporary)
