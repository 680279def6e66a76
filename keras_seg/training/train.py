"""`train`: one call from data to a folder with the best network, its scores and its history."""

import collections.abc
import dataclasses
import json
import pathlib
import re
import sys

import keras
import numpy as np

from keras_seg import losses
from keras_seg.data import Augment, LabelTable, list_datasets
from keras_seg.inference import Predictor, evaluate
from keras_seg.layers import inference_model
from keras_seg.metrics import MeanIoU, confusion_matrix, scores
from keras_seg.training import strategy as devices_
from keras_seg.training.adversarial import Game
from keras_seg.training.batches import (
    EvaluationBatches,
    Targets,
    is_dataset,
    pixel_counts,
    training_batches,
    whole_batches,
    with_targets,
)
from keras_seg.training.callbacks import (
    AveragedWeights,
    EpochSeeds,
    FiniteGuard,
    Previews,
    Recorder,
    StopOnSignal,
    best_entry,
    check_monitors,
    new_progress,
    write_history,
)
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
from keras_seg.training.folder import HISTORY, METRICS, Manifest, start
from keras_seg.training.models import estimate_statistics
from keras_seg.training.multi_worker import Team
from keras_seg.training.optimizers import (
    SGD,
    Adam,
    LossScale,
    exchange_averages,
    head_variables,
    keep_averages,
)
from keras_seg.training.profile import check_profile, profile_steps
from keras_seg.training.schedules import Cosine, Poly
from keras_seg.training.semi_supervised import follow
from keras_seg.utils import is_count, read_json, sha256, unknown_name, write_json

OPTIMIZERS = {"adam": 1e-3, "sgd": 1e-2}  # name: learning rate where none is given
SCHEDULES = ("poly", "cosine", "constant")
# Arguments of `train` that are arguments of every Keras optimizer.
SHARED = ("gradient_accumulation_steps", "global_clipnorm", "ema_momentum")
LARGEST_CROP = 512  # by default: photos of 12 megapixels fill the memory


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What `train` returns.

    Attributes:
        model: the trained network with the weights of the best epoch.
        history: one dict an epoch: "epoch" (from 1), "loss", "mean_iou", "val_loss",
            "val_mean_iou", "learning_rate" (of its first step), "seconds".
        folder: `pathlib.Path` of the run.
        best_score: of the monitored score, or None if no epoch had one.
        best_epoch: its epoch, from 1.
        scores: final scores on the validation data, as `metrics.json`; None without such data.
    """

    model: keras.Model
    history: list
    folder: pathlib.Path
    best_score: float | None
    best_epoch: int | None
    scores: dict | None


def train(
    build_model,
    train_data,
    val_data=None,
    *,
    folder,
    epochs,
    batch_size=8,
    crop_size=None,
    augment="default",
    mix=None,
    val_size=None,
    steps_per_epoch=None,
    optimizer="adam",
    learning_rate=None,
    momentum=0.9,
    weight_decay=1e-4,
    schedule="poly",
    power=0.9,
    warmup_steps=None,
    head_multiplier=1.0,
    head_layers=None,
    gradient_accumulation_steps=None,
    global_clipnorm=None,
    ema_momentum=None,
    loss=None,
    aux_weight=0.4,
    class_weights=None,
    adversary=None,
    precision="float32",
    devices=None,
    jit_compile=None,
    monitor=None,
    validate_every=1,
    save_every=1,
    check_every=100,
    measure_statistics=0,
    cache=False,
    workers=2,
    profile=False,
    previews=4,
    tensorboard=True,
    callbacks=(),
    table=None,
    resume=True,
    overwrite=False,
    seed=0,
    deterministic=False,
    verbose="auto",
):
    """Train a network; the same call goes on where an interrupted one stopped.

    The folder receives `last.keras` and `best.keras` (weights, optimizer and progress in one file
    each, written whole or not at all), `manifest.json`, `history.csv`, `logs/` for TensorBoard,
    `previews/epoch_0001.png` and so on, and at the end `metrics.json`.

    Resuming is exact by epochs: what an epoch does follows from the checkpoint before it, `seed`
    and its number, so 2 epochs and then 2 more give what 4 in one go give, bit by bit with
    `deterministic=True`. An epoch that was broken off is done again. `epochs` may grow; every
    other setting must stay (with `schedule="poly"` the learning rate then follows the new length).

    Ctrl-C and SIGTERM leave the checkpoint of the last epoch that was saved. On SIGTERM the running
    step is finished and `SystemExit(143)` raised.

    Args:
        build_model: function without arguments that returns the network: variables must be made
            under this run's precision and devices. Pixels 0..255 -> logits (N, H, W, K), or a dict
            of such logits of which "logits" counts and the others are auxiliary. Auxiliary logits
            (N, K), of a whole image, learn which classes it holds (EncNet's "se"). An output with
            the name of a further label map of the data (`train_data.extra_tables`, such as SIFT
            Flow's "geometry") learns that one, its loss counts 1, and "logits" are what is
            scored.
        train_data: `keras_seg.data.SegmentationDataset`, whose weights of pixels, if it has them
            (`weighted`), go to the loss; or batches (images, labels[, sample weights]) that are
            ready for `fit` (`tf.data.Dataset` or `keras.utils.PyDataset`), whose order is then
            the caller's affair, exact resume included.
        val_data: the same, for validation, which knows no weights; None for none.
        folder: of the run; made if missing.
        epochs: number of epochs, in all.
        batch_size: images in a batch, over all devices together.
        crop_size: (H, W) of the training crops; default: the size of the first image, with
            augment="default" at most 512 x 512.
        augment: "default" (scale 0.5 to 2, crop, mirror), None (a random crop if `crop_size` is
            given, else the images as they are), or a `keras_seg.data.Augment`.
        mix: None, or `keras_seg.data.CutMix` or `CopyPaste`, which puts pixels of a second sample
            on each, after `augment`; for a `SegmentationDataset`, whose samples must all have one
            size by then.
        val_size: (H, W) cut from the centre of validation images while training, for networks that
            do not take every size; default: the network's fixed input size, the crops' size where
            its logits are smaller than the image, else whole images.
            The scores in `metrics.json` are always those of whole images.
        steps_per_epoch: default: each image at most once an epoch. More repeats images. Required
            for ready batches without a length.
        optimizer: "adam", "sgd", or a Keras optimizer; with the latter the next eleven arguments
            do not apply, and belong into it (those of `keras_seg.training` have them all).
        learning_rate: default 1e-3 for "adam", 1e-2 for "sgd".
        momentum: of "sgd".
        weight_decay: decoupled; see `keras_seg.training.SGD` for how published values translate.
        schedule: "poly", "cosine", "constant", or a Keras `LearningRateSchedule`.
        power: of "poly".
        warmup_steps: over so many first steps the rate rises in a straight line; for the schedules
            with a name. See `keras_seg.training.Poly` and `Cosine`.
        head_multiplier: factor of the learning rate outside of the backbone (PSPNet: 10).
        head_layers: what is outside, see `keras_seg.training.head_variables`.
        gradient_accumulation_steps: the mean gradient of so many batches makes one update: a batch
            that many times as large, but for the statistics of batch normalisation. Steps and
            schedules count batches.
        global_clipnorm: gradients whose norm, over all weights, is larger are scaled down to it.
        ema_momentum: keep moving averages of the weights, a <- m * a + (1 - m) * w after each
            update, such as 0.999. Validation, pictures, `best.keras` and the result are of the
            averages; `last.keras` holds both, so that resuming stays exact.
        loss: default `CrossEntropy()`; the same loss is used for every output of logits of pixels,
            and `SemanticEncoding` for logits of whole images. Or {name of an output: its loss}:
            outputs without one are not trained on, each of the others with weight 1. So
            `{"logits_low": CrossEntropy(label_stride=8)}` trains on scores at 1/8 of the size (see
            `keras_seg.training.with_outputs`) while "logits" are what is validated and kept.
        aux_weight: weight of the loss of each auxiliary output, where `loss` is one for all.
        class_weights: None, a list of K weights, or "median_frequency" or another scheme of
            `keras_seg.losses.class_weights`, from a count of the training labels. The loss of a
            further label map is not weighted.
        adversary: None, or a `keras_seg.training.Adversary`, against which the network is trained
            and which no file that is exported or opened as a model has. On TensorFlow. Such a run
            is repeated and resumed up to rounding, not bit by bit.
        precision: "float32", "mixed_float16" or "mixed_bfloat16".
        devices: None: all GPUs, of all machines that TF_CONFIG names (docs/many_machines.md); or
            names of devices, see `choose_strategy`.
        jit_compile: default: True on JAX, where nothing else is quick, otherwise False.
        monitor: "val_mean_iou" (default, or "mean_iou" without `val_data`), "val_loss", "loss".
        validate_every: validate every so many epochs, and after the last.
        save_every: write a checkpoint and pictures every so many epochs, after the last, and after
            each that is the best so far. For epochs of seconds, of which an interrupted run then
            repeats some.
        check_every: steps between two looks whether all weights are finite.
        measure_statistics: at the end measure the moving statistics of batch normalisation anew, on
            so many training images, evenly chosen and cut as those of validation are: with small
            batches the moving ones are of too few (`keras_seg.training.estimate_statistics`). The
            result and `best.keras` have them; the scores of the epochs are from before. 0: do not.
        cache: keep the decoded training images in memory, where they fit.
        workers: threads that make the next batches; tf.data, on TensorFlow, finds its own number.
        profile: before the first epoch time some steps, print how a step's time is shared by
            input, forward and backward pass, update and metric, and write a trace for TensorBoard
            into `logs/profile`. The weights are put back. On TensorFlow or JAX, on one machine.
        previews: number of validation images in the pictures; 0 for none.
        tensorboard: write `logs/`.
        callbacks: further Keras callbacks; their state is not restored on resume. A Keras callback
            must watch ("monitor") a score that there is.
        table: `LabelTable`; default: of the training data.
        resume: False: refuse a folder that holds a run.
        overwrite: delete a run that the folder holds.
        seed: of weights, data order, augmentation and dropout.
        deterministic: the same command gives the same weights on the same machine.
        verbose: 0 is silent, 1 a progress bar, 2 one line an epoch, "auto" a bar on a terminal
            and lines elsewhere.

    Returns:
        `TrainResult`.

    Raises:
        ValueError: before the first step for a folder that cannot be written, is in use, or holds
            another run; a network that does not fit the data or has nothing to train; unknown names
            and values out of range. While training for weights or losses that are not finite, and a
            full disk.
    """
    for name, value, least in (
        ("epochs", epochs, 1),
        ("batch_size", batch_size, 1),
        ("validate_every", validate_every, 1),
        ("save_every", save_every, 1),
        ("workers", workers, 1),
        ("previews", previews, 0),
        ("measure_statistics", measure_statistics, 0),
    ):
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
    monitor = monitor or ("mean_iou" if val_data is None else "val_mean_iou")
    known = ["loss", "mean_iou"] + (["val_loss", "val_mean_iou"] if val_data is not None else [])
    if monitor not in known:
        raise unknown_name("monitor", monitor, known)
    if profile:
        check_profile()
    strategy = devices_.choose_strategy(devices)
    replicas = devices_.replicas(strategy)
    team = Team(strategy)
    if profile and team.strategy is not None:
        raise ValueError("A profile is of one machine: unset TF_CONFIG, or leave out profile.")
    if batch_size % replicas:
        raise ValueError(
            f"batch_size={batch_size} cannot be shared by {replicas} devices: give a multiple of "
            f"{replicas}."
        )
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    say = print if verbose else (lambda *_: None)

    running = devices_.running(strategy)
    with team.held(folder) as folder, StopOnSignal(team.any) as stop, running:
        devices_.make_reproducible(seed, deterministic)
        with devices_.precision_policy(precision), devices_.scope(strategy):
            model = build_model()
        table = _check_fit(model, train_data, val_data, table)
        if measure_statistics:
            _check_statistics(model, train_data)
        outputs = model.output if isinstance(model.output, dict) else ()
        check_monitors(callbacks, outputs, val_data is not None)
        size = _crop_size(model, train_data, crop_size, augment)
        spaces = _label_spaces(model, train_data)
        targets = _targets(model, size, spaces)
        procedure = _procedure(model, targets, size)
        augment = _augmentation(augment, size, crop_size)
        if mix is not None and not is_dataset(train_data):
            raise ValueError(
                f"{mix} mixes samples of a SegmentationDataset; ready batches are trained on as "
                "they are. Give mix= to keras_seg.data.make_batches."
            )

        steps = _steps(train_data, batch_size, steps_per_epoch)
        game, updates = None, epochs * steps
        if adversary is not None:
            if getattr(train_data, "multilabel", False):
                raise ValueError("An adversary needs classes that exclude each other.")
            if team.strategy is not None:
                raise ValueError("Adversarial training runs on one machine: unset TF_CONFIG.")
            with devices_.precision_policy(precision), devices_.scope(strategy):
                game = Game(adversary, model, table, steps=steps, seed=seed)
            updates = adversary.updates(updates)
        loss = _loss(loss, model, table)
        optimizer = _Optimizer(
            optimizer,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            schedule=schedule,
            power=power,
            warmup_steps=warmup_steps,
            head_multiplier=head_multiplier,
            head_layers=head_layers,
            gradient_accumulation_steps=gradient_accumulation_steps,
            global_clipnorm=global_clipnorm,
            ema_momentum=ema_momentum,
        )
        settings = _settings(
            parameters=model.count_params(),
            num_classes=table.num_classes,
            images=len(train_data) if is_dataset(train_data) else None,
            epochs=epochs,
            batch_size=batch_size,
            steps_per_epoch=steps,
            crop_size=crop_size,
            augment=augment,
            mix=mix,
            val_size=val_size,
            loss=loss,
            aux_weight=aux_weight,
            class_weights=class_weights,
            adversary=adversary,
            precision=precision,
            monitor=monitor,
            validate_every=validate_every,
            seed=seed,
            deterministic=deterministic,
            **optimizer.settings(),
        )
        before = team.from_chief(
            lambda: start(folder, settings, resume=resume, overwrite=overwrite)
        )
        _check_name(folder, before, model)

        weights = before.get("class_weights") or _class_weights(class_weights, train_data, table)
        with devices_.scope(strategy):
            _compile(
                model,
                optimizer.build(model, updates),
                loss,
                weights,
                spaces,
                aux_weight,
                table,
                jit_compile,
            )
            team.prepare(model)
            if game:
                game.compile()
        follow(loss, model.optimizer, updates)
        rival = game.network if game else None
        progress = team.from_chief(lambda: _restore(model, folder, say, rival))
        team.share(model)
        first = progress["epoch"]
        manifest = Manifest(
            folder,
            state="running",
            command=sys.argv,
            model=model.name,
            settings=settings,
            seed=seed,
            classes=table.to_json(),
            data=_origin(train_data),
            class_weights=weights,
            input={
                "height": model.input.shape[1],
                "width": model.input.shape[2],
                "channels": model.input.shape[3],
                "range": [0, 255],
                "order": "RGB",
            },
            devices=replicas,
            epochs=epochs,
            epoch=first,
            best=best_entry(progress, monitor),
        )
        if progress["history"]:
            write_history(folder, progress["history"])
        finished = first >= epochs or (
            before.get("state") == "finished" and before.get("epochs") == epochs
        )
        # Valid convolutions take few sizes, and lose a border that differs between them.
        val_size = val_size or _fixed_size(model) or (size if any(targets.lost) else None)
        if val_data is not None and is_dataset(val_data):
            together = batch_size if val_size else _val_batch(batch_size, size, val_data, replicas)
            val_data = EvaluationBatches(val_data, together, targets, val_size, team.shard)
        elif val_data is not None and replicas > 1:
            val_data = whole_batches(val_data, replicas, table.ignore_label, fill=True)
        recorder = Recorder(
            folder,
            manifest,
            progress,
            monitor=monitor,
            larger_is_better=not monitor.endswith("loss"),
            tensorboard=tensorboard,
            saved=_every(save_every, epochs),
            checkpoints=team.chief,
            adversary=rival,
        )
        pictures = []
        try:
            if finished:
                say(f"The run in {folder} is finished ({first} epochs). More epochs continue it.")
            else:
                per_epoch = steps_per_epoch
                if is_dataset(train_data):
                    batches = training_batches(
                        train_data,
                        targets,
                        batch_size=batch_size,
                        augment=augment,
                        mix=mix,
                        seed=seed,
                        epoch=first,
                        steps=steps,
                        shard=team.shard,
                        cache=cache,
                        workers=workers,
                    )
                    batches = team.distribute(batches)
                    # An endless tf.data stream has to be told; the others know their length.
                    per_epoch = None if isinstance(batches, keras.utils.PyDataset) else steps
                else:
                    if replicas > 1:
                        train_data = whole_batches(
                            train_data, replicas, table.ignore_label, fill=False
                        )
                    batches = team.distribute(with_targets(train_data, targets), whole=True)
                if profile:
                    print(profile_steps(model, batches, folder), flush=True)
                if previews and team.chief and isinstance(val_data, EvaluationBatches):
                    pictures = [
                        Previews(
                            folder,
                            val_data.dataset,
                            previews,
                            table,
                            procedure,
                            drawn=_every(save_every, epochs),
                        )
                    ]
                model.fit(
                    batches,
                    epochs=epochs,
                    initial_epoch=first,
                    steps_per_epoch=per_epoch,
                    validation_data=team.distribute(
                        _for_fit(val_data, targets),
                        whole=not isinstance(val_data, EvaluationBatches),
                    ),
                    validation_freq=sorted(_every(validate_every, epochs)),
                    callbacks=[
                        EpochSeeds(seed, batches, team.shard[0]),
                        *([game] if game else []),
                        FiniteGuard(check_every),
                        AveragedWeights(),
                        *callbacks,
                        recorder,
                        *pictures,
                        stop,
                    ],
                    shuffle=False,
                    verbose=verbose,
                )
                keep_averages(model)
            best = progress["best_epoch"]
            if best is not None and (measure_statistics or best != progress["epoch"]):
                team.from_chief(lambda: load_checkpoint(model, folder / BEST, rival))
                team.share(model)
            elif finished:
                exchange_averages(model)
            measured = False
            if measure_statistics and best is not None:
                images = _Pictures(train_data, measure_statistics, targets, val_size)
                measured = team.from_chief(lambda: _measure(model, images, folder, rival, verbose))
                team.share(model)
            final = team.from_chief(
                lambda: (
                    read_json(folder / METRICS)
                    if finished
                    and not measured
                    and val_data is not None
                    and (folder / METRICS).exists()
                    else _final_scores(
                        model,
                        val_data,
                        targets,
                        table,
                        folder,
                        progress,
                        procedure,
                        verbose,
                        predictor=pictures[0].predictor if pictures else None,
                    )
                )
            )
            manifest.update(state="finished", files=_files(folder))
        except (KeyboardInterrupt, SystemExit):
            manifest.update(state="interrupted")
            raise
        except BaseException as error:
            reason = _reading_error(error) or team.lost_worker(error)
            manifest.update(state="failed", error=str(reason or error))
            if reason is not None:
                raise reason from error
            raise
        finally:
            recorder.close()
    return TrainResult(
        model,
        progress["history"],
        team.folder,
        progress["best_score"],
        progress["best_epoch"],
        final,
    )


class _Optimizer:
    """The optimizer that the arguments of `train` describe, to be made once the steps are known."""

    def __init__(self, optimizer, **options):
        self.given = optimizer if isinstance(optimizer, keras.optimizers.Optimizer) else None
        self.name = optimizer
        self.options = options
        if self.given is not None:
            named = ("learning_rate", "warmup_steps", *SHARED)
            given = [name for name in named if options[name] is not None]
            given += ["head_multiplier"] if options["head_multiplier"] != 1 else []
            if given:
                raise ValueError(
                    f"{' and '.join(given)} belong to optimizer='adam' or 'sgd'; set "
                    f"them in the {type(optimizer).__name__} that you give (keras_seg.training.SGD "
                    "and Adam have a head_multiplier, and use_ema beside ema_momentum)."
                )
            return
        if optimizer not in OPTIMIZERS:
            raise unknown_name("optimizer", optimizer, OPTIMIZERS)
        if options["learning_rate"] is None:
            options["learning_rate"] = OPTIMIZERS[optimizer]
        if not options["learning_rate"] > 0:
            raise ValueError(f"learning_rate must be above 0, got {options['learning_rate']}.")
        schedule = options["schedule"]
        if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            if schedule not in SCHEDULES:
                raise unknown_name("schedule", schedule, SCHEDULES)
        elif options["warmup_steps"] is not None:
            raise ValueError(
                f"warmup_steps is for the schedules {', '.join(SCHEDULES)}; set it in the "
                f"{type(schedule).__name__} that you give."
            )
        batches, norm, momentum = (options[name] for name in SHARED)
        if batches is not None and not is_count(batches, 2):
            raise ValueError(
                "gradient_accumulation_steps must be an integer of at least 2, or None for an "
                f"update after each batch; got {batches!r}."
            )
        if norm is not None and not norm > 0:
            raise ValueError(f"global_clipnorm must be above 0, got {norm!r}.")
        if momentum is not None and not 0 < momentum < 1:
            raise ValueError(f"ema_momentum must lie between 0 and 1, got {momentum!r}.")

    def settings(self):
        """What of it must be the same on resume."""
        if self.given is not None:
            return {"optimizer": self.given}
        return {"optimizer": self.name, **self.options}

    def build(self, model, total_steps):
        """A new optimizer for `model`, in the current strategy's scope, not yet built."""
        if self.given is not None:
            # A copy: the given one may belong to another run or strategy already.
            return type(self.given).from_config(self.given.get_config())
        options = self.options
        rate = options["learning_rate"]
        warmup = options["warmup_steps"] or 0
        if options["schedule"] == "poly":
            rate = Poly(rate, total_steps, options["power"], warmup)
        elif options["schedule"] == "cosine":
            rate = Cosine(rate, total_steps, warmup)
        elif options["schedule"] != "constant":
            rate = options["schedule"]
        elif warmup:
            rate = Poly(rate, total_steps, 0, warmup)
        common = {name: options[name] for name in ("weight_decay", *SHARED) if options[name]}
        if options["ema_momentum"]:
            common["use_ema"] = True
        if options["head_multiplier"] != 1:
            common["head_multiplier"] = options["head_multiplier"]
            common["head_variables"] = head_variables(model, options["head_layers"])
        if self.name == "sgd":
            return SGD(rate, momentum=options["momentum"], **common)
        return Adam(rate, **common)


class _Pictures(collections.abc.Sequence):
    """`count` images of a data set, evenly chosen, each a batch (1, H, W, C)."""

    def __init__(self, dataset, count, targets, size):
        self.batches = EvaluationBatches(dataset, 1, targets, size)
        self.count = min(count, len(dataset))

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        return self.batches.arrays(index * len(self.batches.dataset) // self.count)[0]


def _measure(model, images, folder, adversary, verbose):
    """Measure the statistics of the best network once; returns whether that was now."""
    if is_measured(folder / BEST):
        return False
    if verbose:
        print(f"Measuring the statistics of batch normalisation on {len(images)} images:")
    estimate_statistics(model, images, verbose=verbose == 1)
    save_measured(model, folder, adversary)
    return True


def _check_statistics(model, train_data):
    """ValueError where statistics of batch normalisation cannot be measured in the end."""
    if not is_dataset(train_data):
        raise ValueError(
            "measure_statistics needs a SegmentationDataset; with ready batches call "
            "keras_seg.training.estimate_statistics afterwards."
        )
    if not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        raise ValueError(f"measure_statistics: {model.name} has no batch normalisation.")


def _every(count, epochs):
    """Each `count`-th of the epochs 1 to `epochs`, and the last."""
    return {*range(count, epochs + 1, count), epochs}


def _settings(**values):
    """`values` as the manifest's JSON gives them back, so that two runs' can be compared."""
    return json.loads(json.dumps(values, default=_describe))


def _describe(value):
    """JSON for an object with a Keras configuration, a dataclass, an array; else its name."""
    if hasattr(value, "get_config"):
        return {"class": type(value).__name__, **value.get_config()}
    if dataclasses.is_dataclass(value):
        return {"class": type(value).__name__, **dataclasses.asdict(value)}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return getattr(value, "__qualname__", type(value).__name__)


def _check_fit(model, train_data, val_data, table):
    """The class table; ValueError where network, data and table do not belong together."""
    outputs = model.output
    if isinstance(outputs, dict) and "logits" not in outputs:
        raise ValueError(f"{model.name} has the outputs {list(outputs)}; one must be 'logits'.")
    if not model.trainable_variables:
        raise ValueError(
            f"{model.name} has no variable that is trained: every layer is frozen (its `trainable` "
            "is False)."
        )
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs
    channels, classes = model.input.shape[-1], logits.shape[-1]
    if table is None:
        table = train_data.table if is_dataset(train_data) else LabelTable.default(classes)
    if classes < 2:
        raise ValueError(
            f"{model.name} has {classes} class; training needs at least 2 (background is one)."
        )
    if classes != table.num_classes:
        raise ValueError(
            f"{model.name} has {classes} classes but the data {table.num_classes} "
            f"({', '.join(table.names[:8])}{'...' if table.num_classes > 8 else ''}): build it "
            f"with num_classes={table.num_classes}."
        )
    for what, data in (("training", train_data), ("validation", val_data)):
        if data is None or not is_dataset(data):
            continue
        if len(data) == 0:
            raise ValueError(f"The {what} data has no images.")
        if data.table.num_classes != classes:
            raise ValueError(
                f"The {what} data has {data.table.num_classes} classes, the network {classes}."
            )
        if data.channels != channels:
            raise ValueError(
                f"{model.name} takes images of {channels} channels but the {what} data has "
                f"{data.channels}: build it with input_shape=(None, None, {data.channels}) or "
                f"open the data with channels={channels}."
            )
    return table


def _check_name(folder, before, model):
    """ValueError if the run in `folder` is of another network, as far as its name tells."""

    def plain(name):
        """Without the number by which Keras tells networks apart that were given no name."""
        return re.sub(r"_\d+$", "", name)

    name = before.get("model", model.name)
    if plain(name) != plain(model.name):
        raise ValueError(
            f"{folder} holds a run of the network {name}, this one is {model.name}. Build that one "
            "to go on with it, give another folder, or overwrite=True (--overwrite) to delete it."
        )


def _fixed_size(model):
    """(H, W) that the network was built for, or None where it takes several."""
    size = model.input.shape[1:3]
    return None if None in size else tuple(size)


def _crop_size(model, train_data, crop_size, augment):
    """(H, W) of the training images, or None where ready batches do not tell."""
    fixed = _fixed_size(model)
    size = crop_size or getattr(augment, "crop", None)
    if size is not None and fixed is not None and tuple(size) != fixed:
        raise ValueError(
            f"{model.name} takes images of {fixed[0]} x {fixed[1]}, the crops are "
            f"{size[0]} x {size[1]}: give crop_size={fixed}."
        )
    size = size or fixed
    if size is None and is_dataset(train_data):
        size = train_data[0].image.shape[:2]
        if augment == "default":
            size = [min(n, LARGEST_CROP) for n in size]
    return None if size is None else (int(size[0]), int(size[1]))


def _val_batch(batch_size, crop, val_data, replicas):
    """Whole images in a batch of about as many pixels as one of the crops, shared by replicas."""
    if crop is None:
        return batch_size
    height, width = val_data[0].label.shape
    images = batch_size * crop[0] * crop[1] // (height * width)
    return max(replicas, min(batch_size, images) // replicas * replicas)


def _label_spaces(model, train_data):
    """Names of the outputs that learn a label map of their own; ValueError for a wrong number."""
    tables = getattr(train_data, "extra_tables", {})
    names = [n for n in (model.output if isinstance(model.output, dict) else ()) if n in tables]
    for name in names:
        channels, classes = model.output[name].shape[-1], tables[name].num_classes
        if channels != classes:
            raise ValueError(
                f"The output {name!r} of {model.name} has {channels} classes but the label map "
                f"{name!r} of the data {classes} ({', '.join(tables[name].names[:8])})."
            )
    return names


def _targets(model, size, spaces):
    """`Targets`; ValueError where the network cannot take images of `size`."""
    if size is not None and min(size) < 1:
        raise ValueError(f"Crops must have at least 1 x 1 pixel, got crop_size={size}.")
    try:
        return Targets(model, size, spaces)
    except ValueError as error:
        raise ValueError(
            f"{model.name} cannot be trained on crops of {size[0]} x {size[1]}: {error} Give "
            "another crop_size=(H, W); without one it is the size of the first image."
        ) from error


def _procedure(model, targets, size):
    """Options of `Predictor.predict` for whole images.

    Networks of valid convolutions see only the middle of an image at a time: in tiles of the usual
    size, or of the crops' where the network does not divide that evenly.
    """
    if not any(targets.lost):
        return {}
    predictor = Predictor(model)
    try:
        predictor.check(mode="tile")
    except ValueError:
        predictor.check(mode="tile", window=size)
        return {"mode": "tile", "window": size}
    return {"mode": "tile"}


def _augmentation(augment, size, crop_size):
    """The `Augment` (or None) that the arguments of `train` describe."""
    if isinstance(augment, str):
        if augment != "default":
            raise unknown_name("augment", augment, ["default"])
        return Augment(crop=size)
    if augment is None:
        return None if crop_size is None else Augment(crop=size, scale=(1.0, 1.0), flip=False)
    if crop_size is not None and tuple(augment.crop or ()) != tuple(crop_size):
        raise ValueError(
            f"crop_size={crop_size} but augment has crop={augment.crop}: say it once, in "
            f"Augment(crop={tuple(crop_size)}, ...)."
        )
    return augment


def _steps(train_data, batch_size, steps_per_epoch):
    """Steps of an epoch."""
    if steps_per_epoch is not None:
        if steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch must be at least 1, got {steps_per_epoch}.")
        return int(steps_per_epoch)
    if is_dataset(train_data):
        if len(train_data) < batch_size:
            raise ValueError(
                f"{len(train_data)} images do not fill one batch of {batch_size}: lower "
                "batch_size, or say steps_per_epoch to use images more than once an epoch."
            )
        return len(train_data) // batch_size
    length = None
    if isinstance(train_data, keras.utils.PyDataset):
        length = train_data.num_batches
    elif hasattr(train_data, "cardinality"):
        length = int(train_data.cardinality())
    if length is None or length < 1:
        raise ValueError(
            "The training batches do not say how many an epoch has: give steps_per_epoch."
        )
    return length


def _loss(loss, model, table):
    """The default loss, or the one given; ValueError for losses of outputs that there are not."""
    if loss is None:
        return losses.CrossEntropy(table.ignore_label)
    if isinstance(loss, dict):
        outputs = list(model.output) if isinstance(model.output, dict) else []
        for name in loss:
            if name not in outputs:
                raise unknown_name(f"output of {model.name} in loss", name, outputs)
        if not loss:
            raise ValueError("loss={} trains nothing; name at least one output and its loss.")
    return loss


def _class_weights(class_weights, train_data, table):
    """None or a list of K weights."""
    if class_weights is None:
        return None
    if isinstance(class_weights, str):
        if not is_dataset(train_data):
            raise ValueError(
                f"class_weights={class_weights!r} counts the labels of a SegmentationDataset; for "
                "ready batches give a list of weights."
            )
        pixels, in_images = pixel_counts(train_data)
        images = {"image_pixels": in_images} if class_weights == "median_frequency" else {}
        return losses.class_weights(pixels, class_weights, **images).tolist()
    weights = [float(weight) for weight in class_weights]
    if len(weights) != table.num_classes:
        raise ValueError(
            f"class_weights has {len(weights)} values for {table.num_classes} classes."
        )
    return weights


def _weighted(loss, weights):
    """`loss`, or the terms of a sum of losses, with class weights."""
    if weights is None:
        return loss
    if isinstance(loss, losses.WeightedSum):
        parts = loss.terms()
        return losses.WeightedSum(
            [_weighted(part, weights) for part, _ in parts], [factor for _, factor in parts]
        )
    config = loss.get_config()
    if "class_weights" not in config:
        raise ValueError(f"{type(loss).__name__} takes no class weights; use CrossEntropy.")
    return type(loss).from_config({**config, "class_weights": weights})


def _compile(model, optimizer, loss, class_weights, spaces, aux_weight, table, jit_compile):
    """Compile for logits alone or with auxiliary outputs, and make the optimizer's variables."""
    metric = MeanIoU(table.num_classes, table.ignore_label, name="mean_iou")
    metrics, loss_weights = [metric], None
    if isinstance(model.output, dict):
        metrics = {"logits": [metric]}
        _plain_metric_names(model)

    def weighted(name, part):
        """Class weights are of the classes of "logits", not of those of another label map."""
        return part if name in spaces else _weighted(part, class_weights)

    if isinstance(loss, dict):
        loss = {name: weighted(name, part) for name, part in loss.items()}
    elif isinstance(model.output, dict):
        counted = ("logits", *spaces)
        loss_weights = {n: 1.0 if n in counted else float(aux_weight) for n in model.output}
        presence = losses.SemanticEncoding(table.ignore_label)
        loss = {n: presence if y.ndim == 2 else weighted(n, loss) for n, y in model.output.items()}
    else:
        loss = _weighted(loss, class_weights)
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if model.dtype_policy.name == "mixed_float16" and not scaled:
        optimizer = LossScale(optimizer, name="loss_scale_optimizer")
    if jit_compile is None:
        jit_compile = keras.backend.backend() == "jax"
    model.compile(
        optimizer,
        loss,
        loss_weights=loss_weights,
        metrics=metrics,
        jit_compile=jit_compile,
    )
    model.optimizer.build(model.trainable_variables)


def _plain_metric_names(model):
    """Report the score of the output "logits" as "mean_iou" with or without other outputs."""
    results = model.get_metrics_result

    def renamed():
        return {
            "mean_iou" if name == "logits_mean_iou" else name: value
            for name, value in results().items()
        }

    model.get_metrics_result = renamed


def _restore(model, folder, say, adversary=None):
    """Load the furthest whole checkpoint of `folder` and return its progress."""
    name, _, problems = newest_checkpoint(folder)
    for problem in problems:
        say(problem)
    if name is None:
        if problems:
            raise ValueError(
                f"No checkpoint in {folder} can be read ({'; '.join(problems)}). Use "
                "overwrite=True to start again."
            )
        return new_progress()
    progress = resume_from(model, folder / name, adversary)
    say(f"Going on from {folder / name} after {progress['epoch']} epochs.")
    if progress["best_epoch"] is not None and not _has_best(folder, progress["best_epoch"]):
        if progress["best_epoch"] == progress["epoch"]:
            save_best(model, folder, progress, name, adversary)
        else:
            say(f"{folder / BEST} is lost; the best epoch is chosen anew from here on.")
            progress |= {"best_score": None, "best_epoch": None}
    return progress


def _has_best(folder, epoch):
    """Whether `best.keras` is whole and from this epoch."""
    try:
        return read_progress(folder / BEST)["epoch"] == epoch
    except ValueError:
        return False


def _for_fit(val_data, targets):
    """Validation batches in the form of this backend; None for None."""
    if val_data is None:
        return None
    if isinstance(val_data, EvaluationBatches):
        return val_data.for_fit()
    return with_targets(val_data, targets)


def _reading_error(error):
    """The ValueError that a data set raised inside a tf.data pipeline, or None for other errors."""
    found = re.search(r"ValueError: (.+)", str(error))
    if found is None or type(error).__name__ != "InvalidArgumentError":
        return None
    return ValueError(found[1])


def _final_scores(model, val_data, targets, table, folder, progress, procedure, verbose, predictor):
    """Score the best network on the validation data and write `metrics.json`.

    `predictor` is the model's where there is one already, which saves to trace it again.
    """
    if val_data is None:
        return None
    if isinstance(val_data, EvaluationBatches):
        predictor = predictor or Predictor(model, table=table)
        result = evaluate(predictor, val_data.dataset, progress=bool(verbose), **procedure)
    else:
        matrix = np.zeros((table.num_classes, table.num_classes), "int64")
        network = inference_model(model)
        for images, labels in (batch[:2] for batch in val_data):
            logits = keras.ops.convert_to_numpy(network(images, training=False))
            labels = keras.ops.convert_to_numpy(targets.crop(labels))
            matrix += confusion_matrix(
                labels, logits.argmax(-1), table.num_classes, table.ignore_label
            )
        result = scores(matrix) | {"confusion_matrix": matrix, "classes": list(table.names)}
    result = {**result, "epoch": progress["best_epoch"] or progress["epoch"]}
    write_json(folder / METRICS, result)
    return result


def _origin(train_data):
    """{"name", "licence"} of published training data; both None of the user's own."""
    name = getattr(train_data, "layout", None)
    for layout in list_datasets():
        if layout.name == name and layout.licence:
            return {"name": layout.title, "licence": layout.licence}
    return {"name": None, "licence": None}


def _files(folder):
    """{name: {"sha256", "bytes"}} of the files that a finished run keeps."""
    paths = [folder / name for name in (LAST, BEST, HISTORY, METRICS)]
    return {
        path.name: {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in paths
        if path.exists()
    }
