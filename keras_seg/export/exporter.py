"""`export`: from one Keras model to files for other runtimes, whole or not at all."""

import dataclasses
import os
import pathlib

import keras

from keras_seg.export import manifest, onnx, onnx_dynamic, parity, saved_model, targets, tflite
from keras_seg.export.graph import StaticGraph, half_precision, in_float32
from keras_seg.export.pictures import Pictures, made_up
from keras_seg.export.progress import Progress
from keras_seg.inference import load_runner
from keras_seg.utils import (
    atomic_path,
    read_json,
    sha256,
    silence,
    unknown_name,
    writable_folder,
    write_json,
)

FORMATS = ("saved_model", "tflite", "onnx")
QUANTIZE = ("float16", "int8")
OUTPUTS = ("logits", "logits_lowres", "probabilities", "labels")

# More calibration images change the measured ranges little and cost a run of the network each.
MOST_CALIBRATION = 200
MOST_COMPARED = 16


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What an export wrote and how it compares; `str(report)` is the table.

    Attributes:
        folder: where the files are.
        files: their paths.
        rows: one dict for the Keras model and for each file, see `keras_seg.export.parity.compare`.
        manifest: the content of manifest.json.
        ok: False if a float32 or float16 file does not agree with the Keras model.
        warnings: what a user should know, in sentences.
    """

    folder: pathlib.Path
    files: tuple
    rows: list
    manifest: dict
    ok: bool
    warnings: tuple

    def __str__(self):
        found = self.manifest
        size = f"{found['input']['height']} x {found['input']['width']}"
        images = found["parity"]["images"]
        source = found["parity"]["source"]
        sizes = {name: entry["bytes"] for name, entry in found["files"].items()}
        title = f"{found['model']['name']}, {size}, on {images} images ({source})"
        lines = [title, parity.table(self.rows, sizes)]
        lines += [f"note: {warning}" for warning in self.warnings]
        if not self.ok:
            lines.append(
                "FAIL: a file does not compute what the Keras model computes (bounds: difference "
                f"{parity.MAX_DIFFERENCE:g} of the logits' deviation for float32, and "
                f"{parity.MIN_AGREEMENT:.1%} equal labels)."
            )
        return "\n".join(lines)


def export(
    model_or_path,
    folder,
    *,
    formats=FORMATS,
    size=None,
    quantize=QUANTIZE,
    calibration=None,
    images=None,
    labels=None,
    table=None,
    output="logits",
    confidence=False,
    target="cpu",
    dynamic=(),
    progress=True,
):
    """Write a model as SavedModel, TFLite and ONNX files and compare each with the model.

    The files take one image, float32 (1, H, W, C) in plain pixels 0..255 (RGB), under the name
    `image`; preprocessing is part of them. They return what `output` names. Auxiliary outputs are
    left out; a model in mixed precision is converted in float32 with the same weights. Every file
    is loaded again in its own runtime and compared with the Keras model on the images; the result
    is in the report and in `manifest.json`.

    Args:
        model_or_path: a `keras.Model`, a `.keras` file, or a training run's folder (`best.keras`;
            its `manifest.json` has the classes).
        folder: a new or empty folder, or an earlier export, which is then replaced. Nothing appears
            there before everything is done. Files: `saved_model/`, `model.tflite`,
            `model_float16.tflite`, `model_int8.tflite`, `model.onnx`, `manifest.json`.
        formats: of "saved_model", "tflite", "onnx".
        size: (H, W) of the image. Default: the model's own fixed size.
        quantize: further TFLite files, of "float16" (weights) and "int8" (weights and activations;
            input and output stay float).
        calibration: images for "int8", about 100 like those to come: a folder, a list of files or
            arrays (H, W, C), an array (N, H, W, C), or a data set of `keras_seg.data`. At most 200,
            evenly spread, are used.
        images: images to compare on, given likewise; all of them are used. Default: 16 of
            `calibration`, or made-up pictures of shapes.
        labels: integer maps (H, W), one for each of `images`, for the mean IoU of every file. A
            data set brings its own.
        table: `keras_seg.data.LabelTable` of the classes. Default: from the run's manifest, else
            numbered classes.
        output: what the files return, and the name of that output.
            "logits": float32 (1, h, w, K), as the model does.
            "logits_lowres": those before the network's last enlargement (layer `logits_low`), many
            times smaller and faster; `manifest.json` says the shape, and under `output.resize` how
            to enlarge them as the network does.
            "probabilities": their softmax.
            "labels": int32 (1, h, w), of equal logits the first class. For `target`
            "gpu-delegate" they are whole numbers in float32, which a GPU can return.
        confidence: add the output `confidence`, float32 (1, h, w): the largest probability.
        target: what the `.tflite` files shall run on as a whole, checked from the files, see
            `keras_seg.export.targets`: "cpu"; "gpu-delegate", a phone's GPU; "nnapi-int8", 8-bit
            accelerators, for the files in int8 (others then need to run on the CPU only).
        dynamic: what the `.onnx` file leaves open, of "batch" (any number of images) and "size"
            (any height and width that the network takes); the file is also run at two other
            shapes then. Files of one shape are faster.
        progress: print one line for each step on standard error.

    Returns:
        `ExportReport`. `report.ok` is False if a float32 file differs by more than 1e-3 of the
        logits' standard deviation, or a float32 or float16 file has less than 99.9 % of its labels
        equal to the Keras model's; the files are written all the same, and the manifest says so
        (`parity.ok`). For int8 the figures are stated, "low" if it loses over a point of mean IoU.

    Raises:
        ValueError: for a wrong argument, a folder that cannot be written or holds something else,
            a size that the model cannot take, an operator that a format or the target does not
            have (the layer is named), an output that the model does not have, a missing package,
            or a backend other than TensorFlow. No file is left behind.
    """
    formats = _chosen("format", formats, FORMATS)
    quantize = _chosen("quantization", quantize, QUANTIZE) if "tflite" in formats else ()
    if output not in OUTPUTS:
        raise unknown_name("output", output, OUTPUTS)
    if target not in targets.TARGETS:
        raise unknown_name("target", target, targets.TARGETS)
    _check_target(target, formats, quantize, output)
    dynamic = _chosen("dynamic dimension", dynamic, onnx_dynamic.DYNAMIC)
    if dynamic and "onnx" not in formats:
        raise ValueError(
            f"dynamic={dynamic!r} is about the .onnx file, and formats={formats!r} makes none. Add "
            "'onnx', or leave dynamic out."
        )
    if not isinstance(confidence, bool):
        raise ValueError(f"confidence must be True or False, got {confidence!r}.")
    if "int8" in quantize and calibration is None:
        raise ValueError(
            "int8 needs images to measure the ranges on: calibration=..., a folder, list, array or "
            "data set of about 100 images like those the model will see. Without int8: "
            "quantize=('float16',)."
        )
    if labels is not None and images is None:
        raise ValueError("labels were given without images; give both.")
    folder = _target(folder)
    _check_tools(formats)

    runner = load_runner(model_or_path)
    if runner.kind != "keras" or runner.outputs_labels:
        raise ValueError(
            f"{runner.name} is not a Keras model that returns logits; export starts from a "
            "keras.Model, a .keras file or a training run's folder."
        )
    size = _checked_size(size, runner)
    fixed = {"batch": runner.batch, "size": runner.input_size}
    for name in dynamic:
        if fixed[name] is not None:
            raise ValueError(
                f"{runner.name} was built for the {name} {fixed[name]} only, so that dynamic="
                f"{name!r} is not possible. Build it with None there and load the weights."
            )
    table = _checked_table(table, runner)
    model, half = runner.model, half_precision(runner.model)
    if half:
        model = in_float32(model)

    calibration = (
        calibration
        if calibration is None
        else Pictures(calibration, size, runner.channels, "calibration")
    )
    pictures, source = _compared(images, labels, calibration, size, runner.channels)

    steps = Progress(progress)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        with steps.step("graph"), silence():
            graph = StaticGraph(
                model,
                size,
                runner.channels,
                output,
                confidence=confidence,
                float_labels=target == "gpu-delegate",
            )
            lowres = graph.enlargement(pictures[0][0]) if output == "logits_lowres" else {}
        files = {}
        for name, precision in _files(formats, quantize):
            with steps.step(name) as say:
                _write(name, precision, graph, temporary / name, calibration, dynamic)
                if _format(name) == "tflite":
                    targets.check(temporary / name, target, precision, model)
                files[name] = {
                    **manifest.describe_file(temporary / name),
                    "format": _format(name),
                    "precision": precision,
                }
                say(f"{files[name]['bytes'] / 1e6:.2f} MB")
        if dynamic:
            with steps.step("model.onnx at other shapes"), silence():
                shapes = onnx_dynamic.check(
                    temporary / "model.onnx", graph, dynamic, parity.run_all(graph, graph.model)
                )
            files["model.onnx"] |= {"dynamic": list(dynamic), "shapes": shapes}
        operators = _operators(temporary, files)
        compared = {"keras, as trained": (runner, "half")} if half else {}
        for name, entry in files.items():
            compared[name] = (temporary / name, entry["precision"])
        with steps.step(f"comparing on {len(pictures)} images"), silence():
            rows = parity.compare(
                graph,
                compared,
                pictures,
                num_classes=runner.num_classes,
                ignore_label=table.ignore_label,
                enlarge=lowres.get("resize"),
            )
        ok = all(row["verdict"] != "FAIL" for row in rows)
        warnings = _warnings(source, operators, rows, lowres)
        content = {
            "keras_seg_manifest": 1,
            "kind": "export",
            "model": {
                "name": model.name,
                "parameters": model.count_params(),
                "precision": half or "float32",
                **_origin(runner.path),
            },
            "classes": table.to_json(),
            "input": {
                "name": "image",
                "dtype": "float32",
                "layout": "NHWC",
                "batch": 1,
                "height": size[0],
                "width": size[1],
                "channels": runner.channels,
                "range": [0, 255],
                "order": "RGB",
            },
            "output": {
                "name": output,
                "dtype": graph.dtype,
                "shape": list(graph.output_shape),
                **lowres,
            },
            **_confidence(graph),
            "target": target,
            "files": files,
            "operators": operators,
            "parity": {
                "ok": ok,
                "images": len(pictures),
                "source": source,
                "bounds": {
                    "difference": parity.MAX_DIFFERENCE,
                    "agreement": parity.MIN_AGREEMENT,
                    "mean_iou_loss": parity.MAX_IOU_LOSS,
                },
                "rows": rows,
            },
            "warnings": list(warnings),
            "versions": manifest.versions(),
        }
        write_json(temporary / manifest.NAME, content)
        content = read_json(temporary / manifest.NAME)  # as a reader of the file will see it
    paths = tuple(folder / name for name in files)
    return ExportReport(folder, paths, rows, content, ok, warnings)


def _chosen(kind, names, known):
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in known:
            raise unknown_name(kind, name, known)
    if kind == "format" and not names:
        raise ValueError(f"formats is empty; choose of {', '.join(known)}.")
    return tuple(name for name in known if name in names)


def _target(folder):
    """`folder` as an absolute path, proved to be writable and free for an export."""
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


def _check_tools(formats):
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


def _checked_size(size, runner):
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


def _checked_table(table, runner):
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


def _compared(images, labels, calibration, size, channels):
    """The pictures to compare on, and in words where they come from."""
    if images is not None:
        return Pictures(images, size, channels, "images", labels), "given images"
    if calibration is not None:
        chosen = [image[0] for image in calibration.spread(MOST_COMPARED)]
        return Pictures(chosen, size, channels, "calibration"), "calibration images"
    chosen = made_up(8, size, channels)
    return Pictures(chosen, size, channels, "images"), "made-up pictures"


def _files(formats, quantize):
    """(file name, precision) of everything to write, in order."""
    if "saved_model" in formats:
        yield "saved_model", "float32"
    if "tflite" in formats:
        yield "model.tflite", "float32"
    for precision in quantize:
        yield f"model_{precision}.tflite", precision
    if "onnx" in formats:
        yield "model.onnx", "float32"


def _format(name):
    return {".tflite": "tflite", ".onnx": "onnx"}.get(pathlib.Path(name).suffix, "saved_model")


def _write(name, precision, graph, path, calibration, dynamic):
    with silence() as printed:
        try:
            if _format(name) == "saved_model":
                saved_model.write(graph, path)
            elif _format(name) == "onnx":
                onnx.write(graph, path, dynamic)
            else:
                images = calibration.spread(MOST_CALIBRATION) if precision == "int8" else None
                tflite.write(graph, path, precision, images)
        except ValueError:
            raise
        except Exception as error:
            error.add_note(f"The converter of {name} printed:\n{printed()[-2000:]}")
            raise


def _operators(folder, files):
    found = {}
    with silence():
        for name, entry in files.items():
            if entry["format"] == "tflite":
                found[name] = tflite.operators(folder / name)
            elif entry["format"] == "onnx":
                found[name] = onnx.operators(folder / name)
    return found


def _confidence(graph):
    if "confidence" not in graph.outputs:
        return {}
    shape = list(graph.shapes["confidence"])
    return {"confidence": {"name": "confidence", "dtype": "float32", "shape": shape}}


def _warnings(source, operators, rows, lowres):
    found = []
    if lowres and lowres["resize"] is None:
        found.append(
            "the network enlarges its logits by more than a plain resize (it pads, crops or "
            "convolves), so that a Predictor cannot place those at low resolution in the image."
        )
    if source == "made-up pictures":
        found.append(
            "compared on made-up pictures; give images=... (and labels=...) for figures that count."
        )
    for name, counts in operators.items():
        if not name.endswith(".tflite"):
            continue
        slow = sorted(op for op in counts if op in ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"))
        if slow:
            found.append(f"{name} has {', '.join(slow)}: a dilated convolution was not folded.")
        foreign = sorted(set(counts) - targets.GPU_DELEGATE)
        if foreign:
            found.append(f"{name}: {', '.join(foreign)} run on the CPU, not on a phone's GPU.")
    low = [row["file"] for row in rows if row["verdict"] == "low"]
    if low:
        found.append(
            f"{', '.join(low)} loses more than {parity.MAX_IOU_LOSS:.0%} of mean IoU; calibrate "
            "with more images like those to come, or use the float16 file."
        )
    return tuple(found)


def _origin(path):
    return {} if path is None else {"file": path.name, "sha256": sha256(path)}
