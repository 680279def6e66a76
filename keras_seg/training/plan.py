"""The plan of a run: what follows from its network, its data and the arguments of `train`."""

import dataclasses
import os
import re

import keras

from keras_seg.data import Augment, LabelTable
from keras_seg.inference import Predictor
from keras_seg.layers import of_one_image
from keras_seg.training.batches import Targets, is_dataset
from keras_seg.utils import check_counts, counts, unknown_name

LARGEST_CROP = 512  # by default: photos of 12 megapixels fill the memory


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is settled before the first step.

    Attributes:
        table: `LabelTable` of the classes.
        crop: (H, W) of the training images, or None where ready batches do not tell.
        spaces: names of the outputs that learn a label map of their own.
        targets: `Targets`.
        augment: `Augment`, or None for images as they are.
        steps: of an epoch.
        val_size: (H, W) cut from the centre of validation images while training, or None for whole
            images.
        procedure: options of `Predictor.predict` for whole images.
    """

    table: LabelTable
    crop: tuple | None
    spaces: list
    targets: Targets
    augment: Augment | None
    steps: int
    val_size: tuple | None
    procedure: dict


def make_plan(
    model,
    train_data,
    val_data,
    *,
    table,
    batch_size,
    crop_size,
    augment,
    mix,
    val_size,
    steps_per_epoch,
):
    """The `Plan` of a run with these arguments of `train`.

    Raises:
        ValueError: where network, data and arguments do not belong together.
    """
    _check_data("train_data", train_data)
    if val_data is not None:
        _check_data("val_data", val_data)
    table = _check_fit(model, train_data, val_data, table)
    if crop_size is not None:
        crop_size = counts("crop_size", crop_size, 2)
    if val_size is not None:
        val_size = counts("val_size", val_size, 2)
    crop = _crop_size(model, train_data, crop_size, augment)
    spaces = _label_spaces(model, train_data)
    targets = _targets(model, crop, spaces)
    procedure = _procedure(model, targets, crop)
    augment = _augmentation(augment, crop, crop_size, table.ignore_label)
    if mix is not None and not is_dataset(train_data):
        raise ValueError(
            f"{mix} mixes samples of a SegmentationDataset; ready batches are trained on as "
            "they are. Give mix= to keras_seg.data.make_batches."
        )
    steps = _steps(train_data, batch_size, steps_per_epoch)
    # Valid convolutions take few sizes, and lose a border that differs between them.
    val_size = val_size or _fixed_size(model) or (crop if any(targets.lost) else None)
    return Plan(table, crop, spaces, targets, augment, steps, val_size, procedure)


def build_network(build_model):
    """The network that `build_model` returns, functional; a Sequential is unrolled.

    Raises:
        ValueError: where it is no functional model from one image to what `train` takes.
    """
    if isinstance(build_model, keras.Model) or not callable(build_model):
        raise ValueError(
            "build_model must be a function that builds the network, such as lambda: "
            f"models.UNet(3), so that it is made for this run; got {build_model!r}."
        )
    built = build_model()
    model = of_one_image(built) if isinstance(built, keras.Model) else None
    if model is None or not _is_network(model):
        raise ValueError(
            "build_model must return a functional keras.Model (or a Sequential that begins with "
            "keras.Input) of one image (N, H, W, C) with one output, or a dict of outputs; got "
            f"{_described(built)}."
        )
    return model


def _is_network(model):
    """Whether a functional model takes an image and has one output or a dict of outputs."""
    outputs = model.output
    outputs = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
    return all(isinstance(t, keras.KerasTensor) for t in outputs) and len(model.input.shape) == 4


def _described(model):
    """What was built in place of a network, in a few words."""
    if not isinstance(model, keras.Model):
        return repr(model)
    if not getattr(model, "inputs", None):
        return f"{model.name}, a {type(model).__name__} that is not functional"
    return f"{model.name} from {_shapes(model.input)} to {_shapes(model.output)}"


def _shapes(tensors):
    return keras.tree.map_structure(lambda tensor: tensor.shape, tensors)


def check_name(folder, before, model):
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


def check_statistics(model, train_data):
    """ValueError where statistics of batch normalisation cannot be measured in the end."""
    if not is_dataset(train_data):
        raise ValueError(
            "measure_statistics needs a SegmentationDataset; with ready batches call "
            "keras_seg.training.estimate_statistics afterwards."
        )
    kind = keras.layers.BatchNormalization
    if not any(isinstance(layer, kind) for layer in model._flatten_layers()):
        raise ValueError(f"measure_statistics: {model.name} has no batch normalisation.")


def check_replicas(model, replicas):
    """ValueError where the weights would depend on how many devices share a batch.

    On TensorFlow alone: a batch that JAX shares is one array, and is normalised as one.
    """
    if replicas == 1 or keras.backend.backend() != "tensorflow":
        return
    apart = [
        layer.name
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.trainable
        and not layer.synchronized
    ]
    if apart:
        raise ValueError(
            f"{model.name} normalises on each of the {replicas} devices by the statistics of its "
            f"own images: {', '.join(apart[:3])} ({len(apart)} in all) would give weights that "
            "depend on the number of devices. Build these layers with synchronized=True, or return "
            "keras_seg.layers.replace_batch_norm(model, "
            "keras_seg.layers.BatchNormalization.from_config)."
        )


def _check_data(name, data):
    """ValueError for paths and arrays, which `train` does not make batches of."""
    paths_or_arrays = str | os.PathLike | tuple | list | dict | None
    if isinstance(data, paths_or_arrays) or hasattr(data, "shape"):
        raise ValueError(
            f"{name} must be a SegmentationDataset (keras_seg.data.open_dataset(path) opens one), "
            "or batches (images, labels) as a tf.data.Dataset or keras.utils.PyDataset; got "
            f"{data if isinstance(data, str | os.PathLike) else type(data).__name__!r}."
        )


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


def _fixed_size(model):
    """(H, W) that the network was built for, or None where it takes several."""
    size = model.input.shape[1:3]
    return None if None in size else tuple(size)


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


def _augmentation(augment, size, crop_size, ignore_label):
    """The `Augment` (or None) that the arguments of `train` describe."""
    if isinstance(augment, str):
        if augment != "default":
            raise unknown_name("augment", augment, ["default"])
        return Augment(crop=size, ignore_label=ignore_label)
    if augment is None:
        if crop_size is None:
            return None
        return Augment(crop=size, scale=(1.0, 1.0), flip=False, ignore_label=ignore_label)
    if crop_size is not None and tuple(augment.crop or ()) != tuple(crop_size):
        raise ValueError(
            f"crop_size={crop_size} but augment has crop={augment.crop}: say it once, in "
            f"Augment(crop={tuple(crop_size)}, ...)."
        )
    return augment


def _steps(train_data, batch_size, steps_per_epoch):
    """Steps of an epoch."""
    if steps_per_epoch is not None:
        check_counts(steps_per_epoch=steps_per_epoch)
        return int(steps_per_epoch)
    if is_dataset(train_data):
        if len(train_data) < batch_size:
            raise ValueError(
                f"{len(train_data)} images do not fill one batch of {batch_size}: lower "
                "batch_size (--batch-size), or from Python say steps_per_epoch to use images more "
                "than once an epoch."
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
