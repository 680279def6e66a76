"""What the scripts in `recipes/` share: their options, data, start weights, and scores at the end.

    options = recipe.options(__doc__, folder="runs/x", epochs=30, layout="voc", weights="caffe")
    train_data = recipe.open_split(options, "train")

With `--smoke` every recipe runs from its first line to its last in seconds, on made-up pictures
that are written in the layout of its data set and read by the reader that reads the real ones.
"""

import argparse
import pathlib

import numpy as np

from keras_seg import backbones, data, inference, metrics, models, training, utils
from keras_seg import weights as weight_files
from keras_seg.export import Bounds, export
from keras_seg.training.multi_worker import is_chief


def options(
    description,
    *,
    folder,
    epochs,
    layout,
    weights=None,
    switches=None,
    numbers=None,
    texts=None,
    choices=None,
    arguments=None,
):
    """Parse a recipe's command line.

    Args:
        description: the recipe's docstring, shown by `--help`.
        folder: default of `--folder`, where the run goes.
        epochs: default of `--epochs`, the paper's.
        layout: of the data that the recipe reads, see `keras_seg.data.list_datasets`.
        weights: layout of the weights that the paper starts from, such as "caffe" (see
            `keras_seg.weights.LAYOUTS`): adds `--weights` and `--weights-layout`.
        switches: {"--name": its help}, what else the recipe can do.
        numbers: {"--name": (default, its help)}, such as the epochs of later stages; whole ones if
            the default is whole. With `--smoke` they are 1.
        texts: {"--name": (default or None, its help)}, such as a second folder. Their defaults, and
            not what is given, hold with `--smoke`.
        choices: {"--name": (its values, the default first; its help)}.
        arguments: list of strings, or None for the command line.

    Returns:
        Namespace with data_dir, folder, epochs, smoke, resume, export, layout, weights,
        weights_layout, the switches, numbers, texts and choices. With `--smoke`, data_dir is None,
        epochs 1, and the folder has `-smoke` at its end.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = data.find_layout(layout)
    text = f"the data set: {known.title}, as on disk (layout {known.name})"
    parser.add_argument("--data-dir", metavar="FOLDER", help=text)
    parser.add_argument("--folder", default=folder, help=f"the run's folder ({folder})")
    parser.add_argument(
        "--epochs", type=int, default=epochs, help=f"of the first stage, or all ({epochs})"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a run of seconds on made-up pictures, to see it work"
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on where an interrupted run in the folder stopped (the default)",
    )
    parser.add_argument(
        "--export", action="store_true", help="export every format at the end and score each file"
    )
    if weights:
        parser.add_argument(
            "--weights",
            metavar="FILE",
            help="start from these weights; layers that do not fit keep their start values",
        )
        parser.add_argument(
            "--weights-layout",
            default=weights,
            metavar="NAME",
            help=f"whose names they have, see docs/weights.md; '' for a file of ours ({weights})",
        )
    for name, text in (switches or {}).items():
        parser.add_argument(name, action="store_true", help=text)
    for name, (default, text) in (numbers or {}).items():
        parser.add_argument(name, type=type(default), default=default, help=f"{text} ({default})")
    for name, (default, text) in (texts or {}).items():
        shown = text if default is None else f"{text} ({default})"
        parser.add_argument(name, default=default, help=shown)
    for name, (values, text) in (choices or {}).items():
        shown = f"{text}: {', '.join(values)} ({values[0]})"
        parser.add_argument(name, default=values[0], choices=values, metavar="NAME", help=shown)
    chosen = parser.parse_args(arguments)
    chosen.layout = layout
    if chosen.smoke:
        for name in numbers or {}:
            setattr(chosen, _attribute(name), 1)
        for name, (default, _) in (texts or {}).items():
            setattr(chosen, _attribute(name), default)
        chosen.data_dir, chosen.epochs, chosen.folder = None, 1, f"{chosen.folder}-smoke"
    elif not chosen.data_dir:
        parser.error(f"--data-dir is needed: {known.title}. Or --smoke for made-up pictures.")
    training.choose_strategy()  # several machines meet before anything of TensorFlow is made
    return chosen


def _attribute(name):
    """Where argparse keeps an option."""
    return name.lstrip("-").replace("-", "_")


def open_split(options, split, *, size=(96, 96), counts=None, layout=None, root=None, **reading):
    """A split of the recipe's data, or with `--smoke` of a made-up data set in the same layout.

    Args:
        options: what `options` returned.
        split: of `keras_seg.data.open_dataset`; None for its own choice.
        size, counts: of the made-up pictures, see `keras_seg.data.write_layout`. The first call of
            a recipe writes them into `FOLDER-data`; later calls read what is there.
        layout, root: another layout than that of the options, and its folder, for recipes with
            two data sets.
        **reading: what the reader of the layout takes, such as `channels=1`.

    Returns:
        `keras_seg.data.SegmentationDataset`.
    """
    layout = layout or options.layout
    root = root or options.data_dir
    if options.smoke:
        root = pathlib.Path(f"{options.folder}-data", layout)
        if not root.exists():
            data.write_layout(layout, root, counts, size)
    return data.open_dataset(root, split, layout=layout, **reading)


SBD = {"--sbd": (None, "folder of the Semantic Boundaries Dataset, for the split trainaug")}


def open_voc(options, *splits, **made_up):
    """Splits of PASCAL VOC; `options` of a recipe with `texts=SBD`.

    Args:
        options: what `options` returned.
        *splits: such as "trainaug" and "val", see `keras_seg.data.voc`.
        **made_up: the `size` of the pictures of `--smoke`; the first split has 6, the others 3.

    Returns:
        List of data sets.
    """
    reading = {"sbd": options.sbd} if options.sbd else {}
    counts = {split: 3 for split in splits} | {splits[0]: 6}
    return [open_split(options, split, counts=counts, **made_up, **reading) for split in splits]


def open_camvid(options, **made_up):
    """CamVid as SegNet's authors have it: train, val, and test where it is there, else val again.

    Args:
        options: what `options` returned.
        **made_up: the `size` of the pictures of `--smoke`.
    """
    counts = {"train": 8, "val": 3, "test": 3}
    train_data, val_data = (
        open_split(options, split, counts=counts, **made_up) for split in ("train", "val")
    )
    if not options.smoke and "test" not in data.list_splits(options.data_dir):
        return train_data, val_data, val_data
    return train_data, val_data, open_split(options, "test", counts=counts, **made_up)


def start_weights(model, options):
    """Load `--weights` into `model`, as far as they fit, and return it; without, random ones stay.

    Raises:
        ValueError: as `keras_seg.weights.transfer`.
    """
    if options.weights:
        weight_files.transfer(model, options.weights, options.weights_layout or None)
    return model


def tiny_resnet(output_stride):
    """A residual trunk of four blocks of 4 to 32 channels, in place of a real one with `--smoke`.

    Returns:
        Function from an image to features, for a builder's `backbone=`.
    """
    depth = (1, 1, 1, 1)
    return lambda image: backbones.resnet(
        image, depth, block="basic", output_stride=output_stride, filters=4
    )


def start_from(build_model, trained):
    """`build_model`, its networks started from another one's weights, layer by layer by name."""

    def build():
        model = build_model()
        weight_files.transfer(model, trained, verbose=False)
        return model

    return build


FCN_BATCH, FCN_MOMENTUM = 1, 0.99


def fcn_stages(options, stages, train_data, val_data, *, decay, start=start_weights, **more):
    """Train FCN's networks of one score map and of its skips, each from the one before it.

    By the release: whole images, one a step, no augmentation, SGD with momentum 0.99, biases twice
    as fast and without decay (Long, Shelhamer, Darrell 2015, section 4.3).

    Args:
        options: what `options` returned, with the number `steps`, those of an epoch.
        stages: of each (function that builds the network, name, learning rate of the loss's mean).
            The others start from the one before, by `keras_seg.models.transfer_fcn`.
        train_data, val_data: data sets.
        decay: weight decay, as it is added to the gradient of the mean.
        start: function (model, options) -> model that starts the first network.
        **more: further arguments of `keras_seg.training.train`.

    Returns:
        `keras_seg.training.TrainResult` of the last stage.
    """
    (first, _, _), *_ = stages
    return training.train_stages(
        [
            training.Stage(
                name=name,
                epochs=options.epochs,
                build_model=(lambda: start(first(), options)) if build is first else build,
                transfer=models.transfer_fcn,
                options={
                    "optimizer": training.SGD(
                        learning_rate, momentum=FCN_MOMENTUM, l2=decay, groups=[("bias$", 2, 0)]
                    )
                },
            )
            for build, name, learning_rate in stages
        ],
        train_data=train_data,
        val_data=val_data,
        folder=options.folder,
        steps_per_epoch=options.steps,
        batch_size=FCN_BATCH,
        augment=None,
        resume=options.resume,
        **more,
    ).last


def score_ways(ways, dataset, folder):
    """Score several procedures or networks; writes `test_scores.json` and prints a row each.

    Args:
        ways: {name: (model or `inference.Predictor`, options of `inference.evaluate`)}.
        dataset: labelled data set.
        folder: of the run.

    Returns:
        dict name -> scores as of `inference.evaluate`.
    """
    found, predictors = {}, {}
    for name, (model, procedure) in ways.items():
        predictor = model
        if not isinstance(model, inference.Predictor):
            if id(model) not in predictors:  # a model is traced once for all its ways
                predictors[id(model)] = inference.Predictor(model, table=dataset.table)
            predictor = predictors[id(model)]
        found[name] = inference.evaluate(predictor, dataset, **procedure)
        means = ("mean_iou", "pixel_accuracy", "mean_accuracy")
        shown = ", ".join(f"{mean.replace('_', ' ')} {found[name][mean]:.4f}" for mean in means)
        print(f"{name:24} {shown}", flush=True)
    _write_scores(folder, "test_scores.json", found)
    return found


def _write_scores(folder, file, found):
    """Write `found` into a run's folder; of several machines `train` makes the chief's alone."""
    utils.write_json(utils.writable_folder(folder) / file, found)


def score(model, dataset, folder, *, file="test_scores.json", **procedure):
    """Score a model by the paper's test procedure; writes the scores and prints the means.

    Args:
        model: Keras model, or what else `inference.Predictor` takes.
        dataset: labelled data set.
        folder: of the run.
        file: name of the file in it.
        **procedure: of `inference.evaluate`, such as `mode="slide"`.

    Returns:
        dict, as `inference.evaluate`.
    """
    predictor = inference.Predictor(model, table=dataset.table)
    found = inference.evaluate(predictor, dataset, **procedure)
    _write_scores(folder, file, found)
    print(inference.format_scores(found), flush=True)
    return found


def open_sift_flow(options):
    """What trains (the split train, or trainval of FCN's authors) and the split test."""
    counts = {"train": 4, "test": 2}
    return [open_split(options, split, counts=counts) for split in (None, "test")]


def isbi_slices(options, size):
    """The first `options.train_slices` slices of ISBI 2012, and the `held_out_slices` after them.

    Args:
        options: what `options` returned, with these two numbers.
        size: (H, W) of the made-up slices of `--smoke`.

    Raises:
        ValueError: if there are fewer slices.
    """
    slices = open_split(options, "train", size=size, channels=1)
    first, last = options.train_slices, options.train_slices + options.held_out_slices
    if min(first, last - first) < 1 or last > len(slices):
        raise ValueError(
            f"{slices!r} cannot be cut in {first} slices that train and {last - first} held out."
        )
    order = sorted(range(len(slices)), key=lambda i: int(slices.names[i]))
    return slices.subset(order[:first]), slices.subset(order[first:last])


def membrane_scores(maps, labels):
    """Pixel error and Dice of the class membrane (0) at ten levels of its probability.

    The challenge of ISBI 2012 thresholds each map at ten levels and takes the best.

    Args:
        maps: probabilities (H, W) of the membrane, one for each label.
        labels: label maps (H, W), 0 membrane, 1 cell.

    Returns:
        dict of "levels" (0, 0.1, ..., 0.9), "pixel_error" and "dice", a list each over all pixels.
    """
    levels = [level / 10 for level in range(10)]
    matrices = np.zeros((len(levels), 2, 2), "int64")
    for membrane, label in zip(maps, labels, strict=True):
        for matrix, level in zip(matrices, levels, strict=True):
            matrix += metrics.confusion_matrix(label, (membrane <= level).astype("uint8"), 2)
    found = [metrics.scores(matrix) for matrix in matrices]
    return {
        "levels": levels,
        "pixel_error": [1 - float(scores["pixel_accuracy"]) for scores in found],
        "dice": [float(scores["f1"][0]) for scores in found],
    }


def format_membrane_scores(scores):
    """One line: what `membrane_scores` found at probability 1/2 and at the best level."""
    errors, dices = scores["pixel_error"], scores["dice"]
    half, best = scores["levels"].index(0.5), int(np.argmin(errors))
    return (
        f"pixel error {errors[half]:.4f} and membrane Dice {dices[half]:.4f} at probability 1/2, "
        f"{errors[best]:.4f} and {dices[best]:.4f} at {scores['levels'][best]}"
    )


def score_objects(model, dataset, folder, **procedure):
    """Score what hangs together as one object: the Data Science Bowl's score of 2018.

    The connected pixels (also by their corners) that are no background are an object; writes
    `object_scores.json` and prints the score.

    Args:
        model: Keras model, or what else `inference.Predictor` takes.
        dataset: labelled data set that knows its instances; class 0 is the background.
        folder: of the run.
        **procedure: of `inference.Predictor.predict`.

    Returns:
        dict, as `keras_seg.metrics.instance_scores`.

    Raises:
        ValueError: if scipy is not installed.
    """
    try:
        from scipy import ndimage
    except ImportError:
        raise ValueError("Objects need the package scipy: pip install 'keras-seg[eval]'.") from None
    predictor = inference.Predictor(model, table=dataset.table)
    counts = []
    for index in range(len(dataset)):
        found = predictor.predict(dataset[index].image, **procedure) > 0
        objects, _ = ndimage.label(found, np.ones((3, 3)))
        counts.append(metrics.instance_counts(dataset.read_extra(index, "instances"), objects))
    scores = metrics.instance_scores(counts)
    _write_scores(folder, "object_scores.json", scores)
    print(
        f"objects: score {scores['score']:.4f}, {scores['by_threshold'][0]:.4f} at IoU 0.5",
        flush=True,
    )
    return scores


def count_steps(dataset, batch_size):
    """Steps of an epoch of `dataset`, at least 1: what schedules of a recipe are counted in."""
    return max(1, len(dataset) // batch_size)


def export_and_score(result, train_data, val_data, size, *, calibration=64, **procedure):
    """Export a finished run in every format and score each file on all of `val_data`.

    Writes `files/` and `scores.json` into the run's folder and prints one row a file.

    Args:
        result: what `training.train` returned.
        train_data: data set whose images set the int8 scales.
        val_data: labelled data set that every file is scored on.
        size: (H, W) of the exported files.
        calibration: number of images of `train_data` that set the scales.
        **procedure: of `inference.evaluate`, such as `mode="slide"`: the same for every file.

    Returns:
        dict file name -> scores, the Keras model's under "keras"; of several machines the chief
        exports, and the others return {}.

    Raises:
        ExportError: if a float file does not compute what the Keras model computes.
    """
    if not is_chief():
        return {}
    folder = pathlib.Path(result.folder)
    count = min(calibration, len(train_data))
    samples = [val_data[i] for i in range(min(16, len(val_data)))]
    report = export(
        folder,
        folder / "files",
        size=size,
        calibration=[train_data[i * len(train_data) // count].image for i in range(count)],
        images=[sample.image for sample in samples],
        labels=[sample.label for sample in samples],
        # The mean IoU that counts is that of all of `val_data`, below.
        bounds=Bounds(mean_iou_loss=None),
    )
    print(report)
    paths = {"keras": folder} | {path.name: path for path in report.files}
    scores = {}
    for name, path in paths.items():
        scores[name] = inference.evaluate(inference.Predictor(path), val_data, **procedure)
        print(f"{name:24} mean IoU {scores[name]['mean_iou']:.4f}", flush=True)
    utils.write_json(folder / "scores.json", scores)
    return scores
