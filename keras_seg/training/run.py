"""A run of `train` once its network is compiled: where it goes on, how it ends, what it leaves."""

import collections.abc
import contextlib
import re
import traceback

import keras
import numpy as np

from keras_seg.inference import Predictor, evaluate
from keras_seg.layers import inference_model
from keras_seg.metrics import confusion_matrix, scores
from keras_seg.training.batches import EvaluationBatches
from keras_seg.training.callbacks import new_progress
from keras_seg.training.checkpoint import (
    BEST,
    LAST,
    is_measured,
    load_checkpoint,
    newest_checkpoint,
    read_progress,
    resume_from,
    save_best,
    save_measured,
)
from keras_seg.training.folder import HISTORY, METRICS
from keras_seg.training.models import estimate_statistics
from keras_seg.utils import read_json, sha256, write_json


class Run:
    """A compiled network, its data and its folder, with the weights of the last checkpoint.

    Args:
        model: compiled network.
        plan: `keras_seg.training.plan.Plan` of its data.
        folder: held `pathlib.Path`.
        team: `Team`; its chief alone reads and writes the folder.
        adversary: compiled network that checkpoints hold too, or None.
        verbose: 0 is silent, 1 shows progress bars, 2 lines.

    Attributes:
        progress: of the checkpoint, or `new_progress()`; the `Recorder` keeps it up to date.

    Raises:
        ValueError: if the folder has checkpoints of which none can be read.
    """

    def __init__(self, model, plan, folder, team, adversary, verbose):
        self.model = model
        self.plan = plan
        self.folder = folder
        self.team = team
        self.adversary = adversary
        self.verbose = verbose
        self.progress = team.from_chief(self._restore)
        team.share(model)

    def say(self, text):
        if self.verbose:
            print(text)

    def _restore(self):
        """Load the furthest whole checkpoint and return its progress."""
        name, _, problems = newest_checkpoint(self.folder)
        for problem in problems:
            self.say(problem)
        if name is None:
            if problems:
                raise ValueError(
                    f"No checkpoint in {self.folder} can be read ({'; '.join(problems)}). Use "
                    "overwrite=True to start again."
                )
            return new_progress()
        progress = resume_from(self.model, self.folder / name, self.adversary)
        self.say(f"Going on from {self.folder / name} after {progress['epoch']} epochs.")
        best = progress["best_epoch"]
        if best is not None and not self._has_best(best):
            if best == progress["epoch"]:
                save_best(self.model, self.folder, progress, name, self.adversary)
            else:
                self.say(
                    f"{self.folder / BEST} is lost; the best epoch is chosen anew from here on."
                )
                progress |= {"best_score": None, "best_epoch": None}
        return progress

    def _has_best(self, epoch):
        """Whether `best.keras` is whole and from this epoch."""
        try:
            return read_progress(self.folder / BEST)["epoch"] == epoch
        except ValueError:
            return False

    @contextlib.contextmanager
    def watched(self, manifest):
        """Context whose end without success the manifest tells; errors in the caller's terms.

        A run that is only looked at stays finished, whatever ends the look.
        """
        finished = manifest.entries["state"] == "finished"

        def tell(state, **entries):
            with contextlib.suppress(OSError):  # of a full disk, which must not hide the reason
                manifest.update(state="finished" if finished else state, **entries)

        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            tell("interrupted")
            raise
        except BaseException as error:
            reason = _reading_error(error) or _size_error(error, self.model, self.plan)
            reason = reason or self.team.lost_worker(error)
            tell("failed", error=str(reason or error))
            if reason is not None:
                raise reason from error
            raise

    def load_best(self):
        """Load the weights of `best.keras`, on every worker."""
        self.team.from_chief(
            lambda: load_checkpoint(self.model, self.folder / BEST, self.adversary)
        )
        self.team.share(self.model)

    def measure(self, dataset, count):
        """Measure the statistics of the best network once; returns whether that was now.

        They are those of `count` images of a data set, see `estimate_statistics`.
        """
        images = _Pictures(dataset, count, self.plan)
        measured = self.team.from_chief(lambda: self._measure(images))
        self.team.share(self.model)
        return measured

    def _measure(self, images):
        if is_measured(self.folder / BEST):
            return False
        self.say(f"Measuring the statistics of batch normalisation on {len(images)} images:")
        estimate_statistics(self.model, images, verbose=self.verbose == 1)
        save_measured(self.model, self.folder, self.adversary)
        return True

    def final_scores(self, val_data, predictor, *, again):
        """Scores of the best network on the validation data, which `metrics.json` gets.

        Args:
            val_data: `EvaluationBatches`, batches (images, labels), or None.
            predictor: the network's if there is one already, which saves to trace it, or None.
            again: whether scores that are there do not hold any more.

        Returns:
            Dict, or None without validation data.
        """
        return self.team.from_chief(lambda: self._final_scores(val_data, predictor, again))

    def _final_scores(self, val_data, predictor, again):
        if val_data is None:
            return None
        path = self.folder / METRICS
        if path.exists() and not again:
            return read_json(path)
        plan, model = self.plan, self.model
        if isinstance(val_data, EvaluationBatches):
            predictor = predictor or Predictor(model, table=plan.table)
            result = evaluate(
                predictor, val_data.dataset, progress=bool(self.verbose), **plan.procedure
            )
        else:
            classes = plan.table.num_classes
            matrix = np.zeros((classes, classes), "int64")
            network = inference_model(model)
            for images, labels in (batch[:2] for batch in val_data):
                logits = keras.ops.convert_to_numpy(network(images, training=False))
                labels = keras.ops.convert_to_numpy(plan.targets.crop(labels))
                if labels.ndim == 4:  # (N, H, W, 1), which losses and metrics take as well
                    labels = labels[..., 0]
                predicted = logits.argmax(-1)
                matrix += confusion_matrix(labels, predicted, classes, plan.table.ignore_label)
            result = scores(matrix) | {"confusion_matrix": matrix}
            result["classes"] = list(plan.table.names)
        result = {**result, "epoch": self.progress["best_epoch"] or self.progress["epoch"]}
        write_json(path, result)
        return result

    def files(self):
        """{name: {"sha256", "bytes"}} of the files that a finished run keeps."""
        paths = [self.folder / name for name in (LAST, BEST, HISTORY, METRICS)]
        return {
            path.name: {"sha256": sha256(path), "bytes": path.stat().st_size}
            for path in paths
            if path.exists()
        }


class _Pictures(collections.abc.Sequence):
    """`count` images of a data set, evenly chosen, each a batch (1, H, W, C)."""

    def __init__(self, dataset, count, plan):
        self.batches = EvaluationBatches(dataset, 1, plan.targets, plan.val_size)
        self.count = min(count, len(dataset))

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        return self.batches.arrays(index * len(self.batches.dataset) // self.count)[0]


def _reading_error(error):
    """The ValueError that a data set raised inside a tf.data pipeline, or None for other errors."""
    found = re.search(r"ValueError: (.+)", str(error))
    if found is None or type(error).__name__ != "InvalidArgumentError":
        return None
    return ValueError(found[1])


def _size_error(error, model, plan):
    """The ValueError for a layer that asks for the size of images of which a graph knows none."""
    if type(error).__name__ != "OperatorNotAllowedInGraphError" or plan.val_size:
        return None
    # Keras names the layer, unless it was told to leave tracebacks as they are (as keras-seg does).
    reason = str(error).splitlines()[0]
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if isinstance(owner, keras.Layer) and not isinstance(owner, keras.Model):
            reason = f"{type(owner).__name__} {owner.name!r} asks for it."
    return ValueError(
        f"{model.name} takes no images whose size is unknown when it is traced, as that of whole "
        f"validation images is. {reason} Give val_size=(H, W), or take another layer "
        "(keras_seg.layers.Resize for a bilinear UpSampling2D)."
    )
