"""`train`: one call from data to a folder with the best network, its scores and its history."""

import contextlib
import dataclasses
import json
import pathlib
import sys

import keras
import numpy as np

from keras_seg.data import list_datasets
from keras_seg.training import strategy as devices_
from keras_seg.training.adversarial import Game
from keras_seg.training.batches import (
    EvaluationBatches,
    is_dataset,
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
    check_callbacks,
    check_rates,
    settle_monitors,
    write_history,
)
from keras_seg.training.chosen_optimizer import ChosenOptimizer
from keras_seg.training.folder import Manifest, start
from keras_seg.training.multi_worker import Team
from keras_seg.training.objective import (
    check_activation,
    check_ignored,
    class_weights_of,
    compile_for,
    loss_of,
)
from keras_seg.training.optimizers import exchange_averages, keep_averages
from keras_seg.training.plan import (
    build_network,
    check_name,
    check_replicas,
    check_statistics,
    make_plan,
)
from keras_seg.training.profile import check_profile, profile_steps
from keras_seg.training.run import Run
from keras_seg.training.semi_supervised import follow
from keras_seg.utils import is_count, unknown_name


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
    step is finished and `SystemExit(143)` raised; after the last step, once the scores are written.

    Args:
        build_model: function without arguments that returns the network, functional or Sequential:
            variables must be made under this run's precision and devices. Pixels 0..255 -> logits
            (N, H, W, K), or a dict of such logits of which "logits" counts and the others are
            auxiliary. Auxiliary logits (N, K), of a whole image, learn which classes it holds
            (EncNet's "se"). An output with the name of a further label map of the data
            (`train_data.extra_tables`, such as SIFT Flow's "geometry") learns that one, its loss
            counts 1, and "logits" are what is scored.
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
        class_weights: None, a list of K weights, {id: weight} with every id, or "median_frequency"
            or another scheme of `keras_seg.losses.class_weights`, from a count of the training
            labels. The loss of a further label map is not weighted.
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
        callbacks: list of further Keras callbacks; their state is not restored on resume. A Keras
            callback must watch ("monitor") a score that there is, whose better direction it is told
            (mode="auto"). Those that set the learning rate need `schedule="constant"`.
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
        if not is_count(value, least):
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
    check_callbacks(callbacks)
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

    running = devices_.running(strategy)
    with team.held(folder) as folder, StopOnSignal(team.any) as stop, running:
        devices_.make_reproducible(seed, deterministic)
        with devices_.precision_policy(precision), devices_.scope(strategy):
            model = build_network(build_model)
        plan = make_plan(
            model,
            train_data,
            val_data,
            table=table,
            batch_size=batch_size,
            crop_size=crop_size,
            augment=augment,
            mix=mix,
            val_size=val_size,
            steps_per_epoch=steps_per_epoch,
        )
        check_replicas(model, replicas)
        if measure_statistics:
            check_statistics(model, train_data)
        outputs = model.output if isinstance(model.output, dict) else ()
        settle_monitors(callbacks, outputs, val_data is not None)
        game, updates = None, epochs * plan.steps
        if adversary is not None:
            _check_adversarial(train_data, team)
            with devices_.precision_policy(precision), devices_.scope(strategy):
                game = Game(adversary, model, plan.table, steps=plan.steps, seed=seed)
            updates = adversary.updates(updates)
        loss = loss_of(loss, model, plan.table)
        check_activation(loss, model)
        check_ignored(loss, train_data, table)
        optimizer = ChosenOptimizer(
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
        check_rates(callbacks, optimizer.scheduled)
        settings = _settings(
            parameters=model.count_params(),
            num_classes=plan.table.num_classes,
            images=len(train_data) if is_dataset(train_data) else None,
            epochs=epochs,
            batch_size=batch_size,
            steps_per_epoch=plan.steps,
            crop_size=crop_size,
            augment=plan.augment,
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
        check_name(folder, before, model)

        weights = before.get("class_weights")
        weights = weights or class_weights_of(class_weights, train_data, plan.table)
        with devices_.scope(strategy):
            chosen = optimizer.build(model, updates)
            compile_for(model, chosen, loss, weights, plan, aux_weight, jit_compile)
            team.prepare(model)
            if game:
                game.compile()
        follow(loss, model.optimizer, updates)
        rival = game.network if game else None
        run = Run(model, plan, folder, team, rival, verbose)
        progress = run.progress
        first = progress["epoch"]
        ended = before.get("state") == "finished" and before.get("epochs") == epochs
        finished = first >= epochs or ended
        manifest = Manifest(
            folder,
            state="finished" if ended else "running",
            command=sys.argv,
            model=model.name,
            settings=settings,
            seed=seed,
            classes=plan.table.to_json(),
            data=_origin(train_data),
            class_weights=weights,
            input=_input(model),
            devices=replicas,
            epochs=epochs,
            epoch=first,
            best=best_entry(progress, monitor),
        )
        if progress["history"]:
            write_history(folder, progress["history"])
        val_data = _validation(val_data, plan, batch_size, replicas, team)
        saved = _every(save_every, epochs)
        recorder = Recorder(
            folder,
            manifest,
            progress,
            monitor=monitor,
            larger_is_better=not monitor.endswith("loss"),
            tensorboard=tensorboard,
            saved=saved,
            checkpoints=team.chief,
            adversary=rival,
        )
        pictures = None
        with run.watched(manifest), contextlib.closing(recorder):
            if finished:
                run.say(
                    f"The run in {folder} is finished ({first} epochs). More epochs continue it."
                )
            else:
                batches = _training(
                    train_data,
                    plan,
                    replicas,
                    batch_size=batch_size,
                    mix=mix,
                    seed=seed,
                    epoch=first,
                    shard=team.shard,
                    cache=cache,
                    workers=workers,
                )
                batches = team.distribute(batches, whole=not is_dataset(train_data))
                if profile:
                    print(profile_steps(model, batches, folder), flush=True)
                if previews and team.chief and isinstance(val_data, EvaluationBatches):
                    pictures = Previews(
                        folder, val_data.dataset, previews, plan.table, plan.procedure, drawn=saved
                    )
                model.fit(
                    batches,
                    epochs=epochs,
                    initial_epoch=first,
                    steps_per_epoch=_told_steps(train_data, batches, plan, steps_per_epoch),
                    validation_data=team.distribute(
                        _for_fit(val_data, plan.targets),
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
                        *([pictures] if pictures else []),
                        stop,
                    ],
                    shuffle=False,
                    verbose=verbose,
                )
                keep_averages(model)
            best = progress["best_epoch"]
            # A callback may leave weights of another epoch: EarlyStopping restores some.
            if best is not None and (measure_statistics or callbacks or best != progress["epoch"]):
                run.load_best()
            elif finished:
                exchange_averages(model)
            measured = False
            if measure_statistics and best is not None:
                measured = run.measure(train_data, measure_statistics)
            predictor = pictures.predictor if pictures else None
            final = run.final_scores(val_data, predictor, again=measured or not finished)
            manifest.update(state="finished", files=run.files())
        stop.leave()
    return TrainResult(
        model,
        progress["history"],
        team.folder,
        progress["best_score"],
        progress["best_epoch"],
        final,
    )


def _check_adversarial(train_data, team):
    if getattr(train_data, "multilabel", False):
        raise ValueError("An adversary needs classes that exclude each other.")
    if team.strategy is not None:
        raise ValueError("Adversarial training runs on one machine: unset TF_CONFIG.")


def _training(train_data, plan, replicas, *, batch_size, **options):
    """Training batches, before a team distributes them."""
    if is_dataset(train_data):
        return training_batches(
            train_data,
            plan.targets,
            batch_size=batch_size,
            augment=plan.augment,
            steps=plan.steps,
            **options,
        )
    if replicas > 1:
        train_data = whole_batches(train_data, replicas, plan.table.ignore_label, fill=False)
    return with_targets(train_data, plan.targets)


def _told_steps(train_data, batches, plan, steps_per_epoch):
    """What `fit` is told: an endless tf.data stream has no length, the others know theirs."""
    if not is_dataset(train_data):
        return steps_per_epoch
    return None if isinstance(batches, keras.utils.PyDataset) else plan.steps


def _validation(val_data, plan, batch_size, replicas, team):
    """Validation batches, before they get this backend's form; None for None."""
    if val_data is None:
        return None
    if is_dataset(val_data):
        if not plan.val_size:
            batch_size = _val_batch(batch_size, plan.crop, val_data, replicas)
        return EvaluationBatches(val_data, batch_size, plan.targets, plan.val_size, team.shard)
    if replicas > 1:
        return whole_batches(val_data, replicas, plan.table.ignore_label, fill=True)
    return val_data


def _val_batch(batch_size, crop, val_data, replicas):
    """Whole images in a batch of about as many pixels as one of the crops, shared by replicas."""
    if crop is None:
        return batch_size
    height, width = val_data[0].label.shape
    images = batch_size * crop[0] * crop[1] // (height * width)
    return max(replicas, min(batch_size, images) // replicas * replicas)


def _for_fit(val_data, targets):
    """Validation batches in the form of this backend; None for None."""
    if val_data is None:
        return None
    if isinstance(val_data, EvaluationBatches):
        return val_data.for_fit()
    return with_targets(val_data, targets)


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


def _input(model):
    """What the manifest says of the images that `model` takes."""
    _, height, width, channels = model.input.shape
    return {
        "height": height,
        "width": width,
        "channels": channels,
        "range": [0, 255],
        "order": "RGB",
    }


def _origin(train_data):
    """{"name", "licence"} of published training data; both None of the user's own."""
    name = getattr(train_data, "layout", None)
    for layout in list_datasets():
        if layout.name == name and layout.licence:
            return {"name": layout.title, "licence": layout.licence}
    return {"name": None, "licence": None}
