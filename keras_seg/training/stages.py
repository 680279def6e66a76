"""Training in stages: each a run of `train` that starts from the weights of the one before.

    stages = [
        Stage(name="crops", epochs=750, options={"batch_size": 3, "crop_size": (224, 224)}),
        Stage(name="whole", epochs=100, options={"batch_size": 1, "augment": None}),
    ]
    result = train_stages(stages, build_model, train_data, val_data, folder="runs/camvid")

The folder of a stage is a whole run by itself, so resuming is that of `train`: the same command
finds the finished stages finished, and goes on in the one that was interrupted.
"""

import contextlib
import csv
import dataclasses
import inspect
import pathlib
import re

import keras

from keras_seg.training.batches import is_dataset
from keras_seg.training.checkpoint import BEST, LAST, PREVIOUS
from keras_seg.training.folder import MANIFEST, held, start
from keras_seg.training.models import freeze_batch_norm
from keras_seg.training.multi_worker import is_chief
from keras_seg.training.optimizers import head_variables
from keras_seg.training.plan import build_network
from keras_seg.training.strategy import choose_strategy
from keras_seg.training.train import train
from keras_seg.utils import atomic_path, is_count, read_json, unknown_name, writable_folder
from keras_seg.weights import transfer

STAGES = "stages.csv"
STARTS = ("best", "last")
FROZEN = ("all", "statistics")
# Given to `train` by `train_stages` itself.
OWN = ("build_model", "train_data", "val_data", "folder", "epochs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a training: what is trained, on what, how, and from which weights.

    Attributes:
        name: of the stage and of its folder.
        epochs: number of epochs, at least 1.
        options: further arguments of `train`, which go before those of `train_stages`:
            "batch_size", "crop_size", "augment", "optimizer", "schedule", "loss" and so on.
        build_model: function without arguments that returns the stage's network, a new one each
            time, such as one with another output stride or head; default: the one of
            `train_stages`.
        train_data, val_data: of the stage, as for `train`, or functions without arguments that
            return them, called when the stage begins; default: those of `train_stages`.
        trainable: what is trained: a prefix of layer names, a list of them, or a function from a
            layer's name to True or False. The other layers are frozen. Default: all that the
            network was built with.
        freeze_batch_norm: None, "all" or "statistics" (gamma and beta are trained), see
            `keras_seg.training.freeze_batch_norm`.
        start: weights of the stage before: "best" of its epochs, or "last". The first stage starts
            from what its `build_model` returns.
        transfer: function (network of the stage before, new network) that puts them in; default:
            `keras_seg.weights.transfer`, which copies layers by name as far as they fit. Layers
            that Keras numbers by itself do not have the same name twice: name them.
        on_end: function of the `TrainResult`, called when the stage is finished, also on resume:
            for scores of the stage before the next one begins.

    Raises:
        ValueError: for a value that is none of these.
    """

    name: str
    epochs: int
    options: dict = dataclasses.field(default_factory=dict)
    build_model: object = None
    train_data: object = None
    val_data: object = None
    trainable: object = None
    freeze_batch_norm: str | None = None
    start: str = "best"
    transfer: object = None
    on_end: object = None

    def __post_init__(self):
        if not re.fullmatch(r"[\w.-]+", str(self.name)):
            raise ValueError(
                f"A stage needs a name that can be part of a folder's, got {self.name!r}."
            )
        if not is_count(self.epochs):
            raise ValueError(
                f"The stage {self.name!r} trains nothing: epochs must be an integer of at least 1, "
                f"got {self.epochs!r}."
            )
        if self.freeze_batch_norm not in (None, *FROZEN):
            raise unknown_name("freeze_batch_norm", self.freeze_batch_norm, FROZEN)
        if self.start not in STARTS:
            raise unknown_name("start", self.start, STARTS)
        _check_options(self.options)

    def restrict(self, model):
        """Freeze in `model` what this stage does not train, and return it.

        Raises:
            ValueError: if nothing is left to train, or as `freeze_batch_norm`.
        """
        if self.trainable is not None:
            chosen = self._chosen(model)
            for layer in model.layers:
                if not chosen(layer.name):
                    layer.trainable = False
        if self.freeze_batch_norm:
            freeze_batch_norm(model, statistics_only=self.freeze_batch_norm == "statistics")
        if not model.trainable_variables:
            raise ValueError(
                f"The stage {self.name!r} trains nothing: no variable of {model.name} is left with "
                f"trainable={self.trainable!r}; it was built with the layers "
                f"{', '.join(layer.name for layer in model.layers if layer.weights)}."
            )
        return model

    def _chosen(self, model):
        """`trainable` as a function of a layer's name."""
        if callable(self.trainable):
            return self.trainable
        prefixes = (self.trainable,) if isinstance(self.trainable, str) else tuple(self.trainable)
        names = [layer.name for layer in model.layers]
        for prefix in prefixes:
            if not any(name.startswith(prefix) for name in names):
                raise ValueError(
                    f"The stage {self.name!r} trains nothing of that name: no layer of "
                    f"{model.name} begins with {prefix!r}."
                )
        return lambda name: name.startswith(prefixes)


@dataclasses.dataclass(frozen=True)
class StagesResult:
    """What `train_stages` returns.

    Attributes:
        stages: {name: `TrainResult`}.
        folder: `pathlib.Path` of the whole training.
    """

    stages: dict
    folder: pathlib.Path

    @property
    def last(self):
        """`TrainResult` of the last stage."""
        return list(self.stages.values())[-1]

    @property
    def model(self):
        """The network of the last stage."""
        return self.last.model

    @property
    def history(self):
        """The histories of all stages as one: each row with "stage", and "epoch" counted on."""
        rows = []
        for name, result in self.stages.items():
            done = len(rows)
            rows += [
                {"stage": name, **row, "epoch": done + number}
                for number, row in enumerate(result.history, start=1)
            ]
        return rows


def train_stages(
    stages, build_model=None, train_data=None, val_data=None, *, folder, main=None, **options
):
    """Train in stages; the same call goes on where an interrupted one stopped.

    The stage `main` is in `folder` itself, another one in `FOLDER-NAME`. `folder/stages.csv` holds
    the history of all stages that are finished, a row an epoch.

    Args:
        stages: list of `Stage`, in their order. With other `epochs` an earlier stage cannot be
            resumed once a later one has begun.
        build_model, train_data, val_data: of stages that do not say otherwise, as for `train`.
        folder: of the whole training.
        main: name of the stage whose folder is `folder`; default: the last one.
        **options: further arguments of `train`, for all stages.

    Returns:
        `StagesResult`.

    Raises:
        ValueError: before the first stage for names that occur twice or not at all, options that
            `train` does not have, a stage without network or data, one that trains nothing, and
            learning rates of layers that there are not; then as `train`.
    """
    names = [stage.name for stage in stages]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"Stages need names of their own and there must be one, got {names}.")
    main = main or names[-1]
    if main not in names:
        raise unknown_name("main stage", main, names)
    _check_options(options)
    choose_strategy(options.get("devices"))  # workers meet before the first network is made
    for stage in stages:
        if (stage.build_model or build_model) is None:
            raise ValueError(f"The stage {stage.name!r} has no build_model, nor has train_stages.")
        if stage.train_data is None and train_data is None:
            raise ValueError(f"The stage {stage.name!r} has no train_data, nor has train_stages.")
        _check_network(stage, build_model, options | stage.options)
    folders = {n: str(folder) if n == main else f"{folder}-{n}" for n in names}
    if not options.get("overwrite"):
        _check_order(stages, folders)
    elif is_chief():
        _delete(folders.values())

    results, before = {}, None
    for stage in stages:
        chosen = options | stage.options
        before = results[stage.name] = train(
            _builder(stage, build_model, _source(stage, before), chosen.get("verbose", "auto")),
            _opened(train_data if stage.train_data is None else stage.train_data),
            _opened(val_data if stage.val_data is None else stage.val_data),
            folder=folders[stage.name],
            epochs=stage.epochs,
            **chosen,
        )
        found = StagesResult(dict(results), pathlib.Path(folder))
        if is_chief():
            _write_history(found)
        if stage.on_end:
            stage.on_end(before)
    return found


def _check_options(options):
    """ValueError for options that `train` does not have, or has from elsewhere."""
    known = [name for name in inspect.signature(train).parameters if name not in OWN]
    for name in options:
        if name not in known:
            raise unknown_name("option of train", name, known)


def _check_network(stage, build_model, options):
    """ValueError where what a stage trains, or its learning rates, do not fit its network.

    Found out now, and not after the days of the stages before. Other stages are not built for it.
    """
    optimizer = options.get("optimizer")
    given = isinstance(optimizer, keras.optimizers.Optimizer)
    head = options.get("head_multiplier", 1) != 1 and not given
    if stage.trainable is None and not (stage.freeze_batch_norm or given or head):
        return
    model = build_network(lambda: stage.restrict((stage.build_model or build_model)()))
    try:
        if head:
            head_variables(model, options.get("head_layers"))
        if given:
            # A copy: the given one may belong to another run already.
            type(optimizer).from_config(optimizer.get_config()).build(model.trainable_variables)
    except ValueError as error:
        raise ValueError(f"The stage {stage.name!r}: {error}") from error


def _check_order(stages, folders):
    """ValueError where a stage would train on although a later one has begun from its weights."""
    runs = {stage.name: _manifest(folders[stage.name]) for stage in stages}
    for number, stage in enumerate(stages):
        run = runs[stage.name]
        ended = run.get("state") == "finished" and run.get("epochs") == stage.epochs
        if ended or run.get("epoch", 0) >= stage.epochs:
            continue
        for later in stages[number + 1 :]:
            if runs[later.name].get("epoch"):
                raise ValueError(
                    f"The stage {stage.name!r} is at {run.get('epoch', 0)} of {stage.epochs} "
                    f"epochs, but {later.name!r} in {folders[later.name]} has begun already, from "
                    "other weights than it would have then. Give the epochs of before, another "
                    "folder, or overwrite=True to train all stages anew."
                )


def _delete(folders):
    """Delete the runs of all stages.

    All at once: a later stage that was left for its turn would, after an interruption, be taken for
    one that went on from the new weights. None is deleted while one of them is in use.
    """
    with contextlib.ExitStack() as stack:
        present = [path for path in folders if pathlib.Path(path).exists()]
        for folder in [stack.enter_context(held(path)) for path in present]:
            start(folder, {}, resume=True, overwrite=True)


def _manifest(folder):
    """The manifest of the run in `folder`; {} without a checkpoint to go on from, as `start`."""
    path = pathlib.Path(folder, MANIFEST)
    saved = any(path.with_name(name).exists() for name in (LAST, PREVIOUS, BEST))
    return read_json(path) if saved and path.exists() else {}


def _opened(data):
    """`data`, or what it returns where it is a function."""
    return data() if callable(data) and not is_dataset(data) else data


def _source(stage, before):
    """The network from whose weights a stage starts; None for the first one.

    Of several workers the chief's counts, and the others may not see its folder. It is loaded
    outside of the scope of a strategy: there every new variable is sent to all workers, which would
    have to load it as well.
    """
    if before is None:
        return None
    if stage.start == "last" and is_chief():
        return keras.saving.load_model(before.folder / LAST, compile=False)
    return before.model


def _builder(stage, build_model, source, verbose):
    """The function that builds a stage's network with its start weights, for `train`."""

    def build():
        model = (stage.build_model or build_model)()
        if source is not None:
            if stage.transfer is None:
                report = transfer(model, source, verbose=False)
                if report.skipped and verbose:
                    print(f"Stage {stage.name}: {report}", flush=True)
            else:
                stage.transfer(source, model)
        return stage.restrict(model)

    return build


def _write_history(result):
    rows = result.history
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (
        atomic_path(writable_folder(result.folder) / STAGES) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
