"""What `export` is told, checked before any work; every message says what would be right."""

import os
import pathlib

import keras
import numpy as np

from keras_seg.export import manifest, onnx, onnx_dynamic, targets
from keras_seg.export import quantize as quantization
from keras_seg.export.bounds import Bounds
from keras_seg.utils import check_counts, unknown_name, writable_folder

FORMATS = ("saved_model", "tflite", "onnx")
QUANTIZE = tuple(quantization.FORMATS)
# What the files may return, and what that means.
OUTPUTS = {
    "logits": "logits (1, h, w, K); the class of a pixel is the index of its largest",
    "logits_lowres": "logits (1, h, w, K) before the network's last enlargement",
    "probabilities": "probabilities (1, h, w, K) of the classes",
    "labels": "labels (1, h, w): the class of each pixel",
}


def checked_names(formats, quantize, dynamic):
    """`formats`, the part of `quantize` that they have, and `dynamic`, as tuples in our order."""
    formats = _chosen("format", formats, FORMATS)
    quantize = _chosen("quantization", quantize, QUANTIZE)
    quantize = tuple(name for name in quantize if quantization.FORMATS[name] in formats)
    dynamic = _chosen("dynamic dimension", dynamic, onnx_dynamic.DYNAMIC)
    if dynamic and "onnx" not in formats:
        raise ValueError(
            f"dynamic={dynamic!r} is about the .onnx file, and formats={formats!r} makes none. Add "
            "'onnx', or leave dynamic out."
        )
    return formats, quantize, dynamic


def check_output(output, confidence, target, formats, quantize):
    """Raise ValueError for an output or target that there is not, or not for these files."""
    if output not in OUTPUTS:
        raise unknown_name("output", output, OUTPUTS)
    if not isinstance(confidence, bool):
        raise ValueError(f"confidence must be True or False, got {confidence!r}.")
    if target not in targets.TARGETS:
        raise unknown_name("target", target, targets.TARGETS)
    _check_target(target, formats, quantize, output)


def check_images(quantize, calibration, images, labels):
    """Raise ValueError if a file needs images and there are none, or labels have no images."""
    calibrated = [name for name in quantize if name in quantization.CALIBRATED]
    if calibrated and calibration is None:
        others = tuple(name for name in quantize if name not in calibrated)
        raise ValueError(
            f"{', '.join(calibrated)} needs images to measure the ranges on: calibration=..., a "
            "folder, list, array or data set of about 100 images like those the model will see. "
            f"Without {', '.join(calibrated)}: quantize={others!r}."
        )
    if labels is not None and images is None:
        raise ValueError("labels were given without images; give both.")


def check_judging(fallback, bounds, runs):
    """Raise ValueError if one of what decides on the files, or how often they run, is none."""
    if fallback is not None and (not isinstance(fallback, int) or fallback < 0):
        raise ValueError(f"fallback must be True, False or a number of layers, got {fallback!r}.")
    if bounds is not None and not isinstance(bounds, Bounds):
        raise ValueError(f"bounds must be a keras_seg.export.Bounds or None, got {bounds!r}.")
    check_counts(0, benchmark=runs)


def check_logits(runner):
    """Raise ValueError for all but a Keras model that returns logits of two or more classes."""
    if runner.kind != "keras" or runner.outputs_labels:
        raise ValueError(
            f"{runner.name} is not a Keras model that returns logits; export starts from a "
            "keras.Model, a .keras file or a training run's folder."
        )
    if runner.activation is not None:
        raise ValueError(
            f"{runner.name} ends in a {runner.activation}; export starts from logits, and adds a "
            "softmax itself for output='probabilities'. Take it off: "
            "model.layers[-1].activation = keras.activations.linear, or, where it is a layer of "
            "its own, keras.Model(model.input, model.layers[-1].input)."
        )
    if runner.num_classes < 2:
        raise ValueError(
            f"{runner.name} returns one logit; export takes two or more classes, background "
            "included. For a network of a single logit z, export that of the logits 0 and z: "
            "z = model.output; keras.Model(model.input, keras.ops.concatenate("
            "[keras.ops.zeros_like(z), z], -1))."
        )


def check_dynamic(dynamic, runner):
    """Raise ValueError if the model itself has fixed what the file shall leave open."""
    fixed = {"batch": runner.batch, "size": runner.input_size}
    for name in dynamic:
        if fixed[name] is not None:
            raise ValueError(
                f"{runner.name} was built for the {name} {fixed[name]} only, so that dynamic="
                f"{name!r} is not possible. Build it with None there and load the weights."
            )


def _chosen(kind, names, known):
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in known:
            raise unknown_name(kind, name, known)
    if kind == "format" and not names:
        raise ValueError(f"formats is empty; choose of {', '.join(known)}.")
    return tuple(name for name in known if name in names)


def free_folder(folder):
    """`folder` as an absolute path, proved to be writable and free for an export.

    Raises ValueError where it is not.
    """
    folder = pathlib.Path(folder).absolute()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Cannot export to {folder}: it is a file. Give the name of a folder.")
    if os.path.ismount(folder):
        raise ValueError(f"Cannot replace the mounted folder {folder}; give a folder in it.")
    writable_folder(folder.parent)
    if not folder.exists() or not any(folder.iterdir()):
        return folder
    earlier = manifest.read(folder)
    if earlier is None or earlier.get("kind") != "export":
        raise ValueError(
            f"{folder} is not empty and holds no earlier export. Give a new or an empty folder."
        )
    foreign = sorted({p.name for p in folder.iterdir()} - set(earlier["files"]) - {manifest.NAME})
    if foreign:
        raise ValueError(
            f"{folder} holds an earlier export and also {', '.join(foreign)}, which would be lost. "
            "Move them away, or give another folder."
        )
    return folder


def _check_target(target, formats, quantize, output):
    if target != "cpu" and "tflite" not in formats:
        raise ValueError(
            f"target={target!r} is about .tflite files, and formats={formats!r} makes none. Add "
            "'tflite', or leave target out."
        )
    integers = [precision for precision in quantize if precision in targets.INTEGERS]
    if target == "nnapi-int8" and not integers:
        raise ValueError(
            "target='nnapi-int8' is for 8-bit accelerators: add 'int8' to `quantize` and give "
            "calibration=..., images to measure the ranges on."
        )
    if target == "gpu-delegate" and output == "labels" and integers:
        raise ValueError(
            f"For target='gpu-delegate' labels are float32, which {', '.join(integers)} would "
            "round to other labels. Leave it out, quantize=('float16',), or use output='logits'."
        )


def check_tools(formats):
    """Raise ValueError on another backend than TensorFlow, or if a package is missing."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Export converts TensorFlow graphs, and Keras runs on {keras.backend.backend()} here. "
            "Save the model with model.save('model.keras') and export that file in a process "
            "with KERAS_BACKEND=tensorflow, on a machine where TensorFlow is installed."
        )
    missing = onnx.missing_packages() if "onnx" in formats else []
    if missing:
        raise ValueError(
            f"ONNX export needs {', '.join(missing)}: pip install keras-seg[export]. Or leave "
            "'onnx' out of `formats`."
        )


def checked_size(size, runner):
    """(H, W) of the files."""
    if size is None:
        if runner.input_size is None:
            raise ValueError(
                f"{runner.name} takes images of any size, the files take one: give size=(H, W)."
            )
        return runner.input_size
    try:
        height, width = (int(n) for n in size)
    except (TypeError, ValueError) as error:
        raise ValueError(f"size must be (height, width), got {size!r}.") from error
    if height < 1 or width < 1 or (height, width) != tuple(size):
        raise ValueError(f"size must be two whole numbers of at least 1, got {size!r}.")
    if runner.input_size not in (None, (height, width)):
        raise ValueError(
            f"{runner.name} takes images of {runner.input_size} only, got size={(height, width)}."
        )
    return height, width


def checked_table(table, runner):
    """The `LabelTable`: the given one, the run's, or numbered classes."""
    from keras_seg.data import LabelTable

    if table is None and runner.path is not None:
        table = manifest.class_table(runner.path)
    if table is None:
        table = LabelTable.default(runner.num_classes)
    if table.num_classes != runner.num_classes:
        raise ValueError(
            f"The table has {table.num_classes} classes, {runner.name} has {runner.num_classes}."
        )
    return table


def check_ids(pictures, runner, table):
    """Raise ValueError if a label map has ids that are none of the model's classes."""
    for index in range(len(pictures)):
        label = pictures[index][1]
        if label is None:
            continue
        ids = np.setdiff1d(label, [*range(runner.num_classes), table.ignore_label])
        if ids.size:
            raise ValueError(
                f"labels[{index}] has the ids {', '.join(map(str, ids[:6]))}; {runner.name} "
                f"returns {runner.num_classes} classes, 0 to {runner.num_classes - 1}, and "
                f"{table.ignore_label} is left out. Give the labels that it was trained with."
            )
