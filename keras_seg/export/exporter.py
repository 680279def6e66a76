"""`export`: from one Keras model to files for other runtimes, whole or not at all."""

import contextlib
import errno
import functools
import os
import pathlib

import numpy as np

from keras_seg.export import (
    arguments,
    manifest,
    metadata,
    onnx,
    onnx_dynamic,
    parity,
    saved_model,
    targets,
    tflite,
)
from keras_seg.export import quantize as quantization
from keras_seg.export.benchmark import measure_export
from keras_seg.export.bounds import DEFAULT_BOUNDS, judge_all
from keras_seg.export.graph import StaticGraph, in_float32, other_precision
from keras_seg.export.pictures import Pictures, made_up
from keras_seg.export.progress import Progress
from keras_seg.export.report import ExportError, ExportReport, notes
from keras_seg.inference import load_runner
from keras_seg.utils import (
    atomic_path,
    read_json,
    sha256,
    silence,
    write_json,
)

MOST_COMPARED = 16
RUNS = 5  # of each file, for the times in the manifest


def export(
    model_or_path,
    folder,
    *,
    formats=arguments.FORMATS,
    size=None,
    quantize=("float16", "int8"),
    calibration=None,
    fallback=None,
    images=None,
    labels=None,
    table=None,
    output="logits",
    confidence=False,
    target="cpu",
    dynamic=(),
    bounds=DEFAULT_BOUNDS,
    data_name=None,
    licence=None,
    benchmark=True,
    peak_memory=False,
    progress=True,
):
    """Write a model as SavedModel, TFLite and ONNX files and compare each with the model.

    The files take one image, float32 (1, H, W, C) in plain pixels 0..255 (RGB), under the name
    `image`; preprocessing is part of them. They return what `output` names. Auxiliary outputs are
    left out; a model in another precision is converted in float32 with the same weights. Every file
    is loaded again in its own runtime and compared with the Keras model on the images; the result
    is in the report and in `manifest.json`.

    Args:
        model_or_path: a `keras.Model`, a `.keras` file, or a training run's folder (`best.keras`;
            its `manifest.json` has the classes).
        folder: a new or empty folder, or an earlier export, which is then replaced. Nothing appears
            there before everything is done; only a process that is killed, or ended by SIGTERM
            without a handler (`keras-seg export` has one), leaves a folder `.partial-...` beside
            it, which may be deleted. Files: `saved_model/`, `model.tflite`,
            `model_float16.tflite` and what else `quantize` names, `model.onnx`, `manifest.json`.
        formats: of "saved_model", "tflite", "onnx".
        size: (H, W) of the image. Default: the model's own fixed size.
        quantize: further files, of "float16" (TFLite; weights), "dynamic" (TFLite; int8 weights,
            activations rounded as they come), "int8" (TFLite; weights and activations; input and
            output stay float), "int16x8" (TFLite; int8 weights, int16 activations), "uint8"
            (TFLite; "int8" without any float: uint8 pixels in, uint8 labels or int8 logits out),
            "qdq" (ONNX; `model_int8.onnx`, weights and activations int8). Those whose format is not
            in `formats` are left out. What is new in the network for int8: see
            `keras_seg.export.equalize`.
        calibration: images to measure the ranges of activations on ("int8", "int16x8", "uint8",
            "qdq"), about 100 like those to come: a folder, a list of files or arrays (H, W, C), an
            array (N, H, W, C), or a data set of `keras_seg.data`. At most 200, evenly spread, are
            used.
        fallback: whether layers of "int8" and "qdq" may stay in float where int8 alone costs more
            than `bounds.mean_iou_loss`, those that were measured to cost most: True, or how many
            at most (True: 8). Judged on at most 16 of `images` by mean IoU, without labels by the
            share of labels away from ties that change. Default: where `images` have labels. The
            report and `manifest.json` (`quantization`) say which layers stay in float and what each
            costs in int8.
        images: images to compare on, given likewise; all of them are used. Default: 16 of
            `calibration`, or made-up pictures of shapes.
        labels: integer maps (H, W) or files of them, one for each of `images`, or a folder of masks
            with the file stems of a folder of images; for the mean IoU of every file. A data set
            brings its own.
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
        bounds: the `Bounds` that every file is held to; None states the figures without judging.
        data_name: what the model was trained on, for the manifest and the files' metadata. Default:
            from the run's manifest, else not stated.
        licence: the terms of that data, to which the files may be bound, likewise.
        benchmark: how many times each file runs, in turns with the Keras model, for its time in the
            table (as a ratio to the Keras model's) and in the manifest. True: 5; False: its time is
            not measured.
        peak_memory: whether to measure each file's as well, see
            `keras_seg.export.BenchmarkReport`, which costs a process of some seconds for each.
        progress: print one line for each step on standard error.

    Returns:
        `ExportReport`; printed, it is the table of every file's figures.

    Raises:
        ExportError: if a file breaks one of the `bounds`; it holds the report. An export is written
            whole or not at all: an earlier one in the folder stays as it was.
        ValueError: for a wrong argument, a folder that cannot be written or holds something else,
            a size that the model cannot take, an operator that a format or the target does not
            have (the layer is named), an output that the model does not have, a missing package,
            or a backend other than TensorFlow. No file is left behind.
    """
    formats, quantize, dynamic = arguments.checked_names(formats, quantize, dynamic)
    arguments.check_output(output, confidence, target, formats, quantize)
    arguments.check_images(quantize, calibration, images, labels)
    runs = RUNS * benchmark if isinstance(benchmark, bool) else benchmark
    arguments.check_judging(fallback, bounds, runs)
    folder = arguments.free_folder(folder)
    arguments.check_tools(formats)

    runner = load_runner(model_or_path)
    arguments.check_logits(runner)
    size = arguments.checked_size(size, runner)
    arguments.check_dynamic(dynamic, runner)
    table = arguments.checked_table(table, runner)
    model, precision = runner.model, other_precision(runner.model)
    if precision:
        model = in_float32(model)

    calibration = (
        calibration
        if calibration is None
        else Pictures(calibration, size, runner.channels, "calibration")
    )
    pictures, source = _compared(images, labels, calibration, size, runner.channels)
    arguments.check_ids(pictures, runner, table)

    steps = Progress(progress)
    with _whole(folder) as temporary:
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
        content = _description(graph, runner, table, precision, lowres)
        content |= {"data": _data(runner.path, data_name, licence), "target": target}
        measure = _measure(fallback, quantize, graph, pictures, runner, table, bounds)
        files, quantized, loose = _convert(
            temporary,
            graph,
            list(_files(formats, quantize)),
            calibration=calibration,
            dynamic=dynamic,
            target=target,
            measure=measure,
            content=content,
            steps=steps,
        )
        operators = _operators(temporary, files)
        paths = {name: temporary / name for name in files}
        tie = (bounds or DEFAULT_BOUNDS).tie
        with steps.step(f"comparing on {len(pictures)} images"), silence():
            rows = parity.compare(
                graph,
                ({"keras, as trained": (runner, precision)} if precision else {})
                | {name: (paths[name], entry["precision"]) for name, entry in files.items()},
                pictures,
                num_classes=runner.num_classes,
                ignore_label=table.ignore_label,
                tie=tie,
                enlarge=lowres.get("resize"),
            )
            judged = [row for row in rows if row["file"] in files]
            broken, own = judge_all(
                judged, bounds, lambda: parity.own_rounding(graph, pictures, tie)
            )
        with steps.step("measuring cost"), silence():
            costs = measure_export(graph, paths, pictures[0][0], runs, peak_memory)
        for name, entry in {"keras": content["model"], **files}.items():
            entry |= costs[name]
        ok = None if bounds is None else not broken
        warnings = notes(source, operators, content["data"], lowres, quantized, loose, own)
        content |= {
            "quantization": quantized,
            "operators": operators,
            "parity": {
                "ok": ok,
                "images": len(pictures),
                "source": source,
                "bounds": bounds,
                "rounding": own,
                "rows": rows,
            },
            "warnings": list(warnings),
        }
        for name, entry in files.items():
            metadata.pack(temporary / name, entry, content)
            entry |= manifest.describe_file(temporary / name)
        content["files"] = files
        write_json(temporary / manifest.NAME, content)
        content = read_json(temporary / manifest.NAME)  # as a reader of the file will see it
        arguments.free_folder(folder)  # what was put there meanwhile would be lost
        written = tuple(folder / name for name in files)
        report = ExportReport(folder, written, rows, content, ok, warnings, broken)
        if broken:
            raise ExportError(report)
    return report


@contextlib.contextmanager
def _whole(folder):
    """A new folder that becomes `folder` on success; no trace of it after an error."""
    try:
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            yield temporary
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OSError(
            error.errno,
            f"{error.strerror}: the files do not fit in {folder.parent}. Nothing is left there of "
            "this export; make room, or give a folder on another disk",
        ) from error


def _disk_is_full(error):
    """Whether TensorFlow says so, in its own words, while it writes a SavedModel."""
    import tensorflow as tf

    # Of ENOSPC, EDQUOT and EFBIG.
    kinds = (tf.errors.ResourceExhaustedError, tf.errors.OutOfRangeError)
    words = [os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
    return isinstance(error, kinds) and any(word in str(error) for word in words)


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
        if quantization.FORMATS[precision] == "tflite":
            yield f"model_{precision}.tflite", precision
    if "onnx" in formats:
        yield "model.onnx", "float32"
    if "qdq" in quantize:
        yield "model_int8.onnx", "qdq"


def _format(name):
    return {".tflite": "tflite", ".onnx": "onnx"}.get(pathlib.Path(name).suffix, "saved_model")


def _convert(folder, graph, names, *, calibration, dynamic, target, measure, content, steps):
    """Write every file into `folder`.

    Args:
        graph: `StaticGraph` of the model.
        names: (file name, precision) of each.
        measure: what `_measure` returned.
        content: of the manifest so far; goes into the files too.
        Others: as of `export`.

    Returns:
        {file name: what the manifest says of it}; {} or what was done for integers;
        {file name: operators by which it takes different values for equal}.
    """
    network, quantized = graph, {}
    if {precision for _, precision in names} & set(quantization.CALIBRATED):
        with steps.step("equalising") as say, silence():
            network, count = quantization.prepared(graph, calibration)
            say(f"{count} layers")
        quantized = {"equalised_layers": count, "files": {}}
        if network.logits_range is not None:
            limits = [None if np.isinf(n) else float(n) for n in network.logits_range]
            quantized["logits_range"] = limits
    files, loose = {}, {}
    for name, precision in names:
        with steps.step(name) as say:
            of = network if precision in quantization.CALIBRATED else graph
            path = folder / name
            files[name] = {"format": _format(name), "precision": precision}
            _write(name, precision, of, path, calibration, dynamic)
            if path.suffix == ".tflite":  # before it runs, for some would end this process
                targets.check(path, target, precision, graph.model)
            if measure is not None and precision in quantization.WITH_FALLBACK:
                with silence():
                    quantized["files"][name] = measure(of, path, precision, calibration)
            if precision == "uint8":
                returned = "uint8" if graph.output == "labels" else "int8"
                files[name] |= {"input_dtype": "uint8", "output_dtype": returned}
            if path.suffix == ".tflite":
                targets.check(path, target, precision, graph.model)  # layers may be in float now
                loose[name] = targets.loose_comparisons(path, graph.model)
                metadata.describe_tflite(path, content, graph.outputs)
            say(f"{manifest.size(path) / 1e6:.2f} MB")
    if dynamic:
        with steps.step("model.onnx at other shapes"), silence():
            shapes = onnx_dynamic.check(
                folder / "model.onnx", graph, dynamic, parity.run_all(graph, graph.model)
            )
        files["model.onnx"] |= {"dynamic": list(dynamic), "shapes": shapes}
    return files, quantized, loose


def _write(name, precision, graph, path, calibration, dynamic):
    with silence() as printed:
        try:
            if _format(name) == "saved_model":
                saved_model.write(graph, path)
            elif precision in quantization.CALIBRATED:
                quantization.write(graph, path, precision, calibration)
            elif _format(name) == "onnx":
                onnx.write(graph, path, dynamic)
            else:
                tflite.write(graph, path, precision)
        except (ValueError, OSError):
            raise
        except Exception as error:
            if _disk_is_full(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
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


def _measure(fallback, quantize, graph, pictures, runner, table, bounds):
    """The function that leaves layers of a file in float, or None where none shall be."""
    if fallback is not None and not fallback:
        return None
    if not set(quantize) & set(quantization.WITH_FALLBACK):
        return None
    bounds = bounds or DEFAULT_BOUNDS
    loss = quantization.Loss(
        graph,
        pictures,
        num_classes=runner.num_classes,
        ignore_label=table.ignore_label,
        tie=bounds.tie,
    )
    if fallback is None and loss.measure != "mean_iou":
        return None
    bound = DEFAULT_BOUNDS.mean_iou_loss if bounds.mean_iou_loss is None else bounds.mean_iou_loss
    most = {} if fallback in (None, True) else {"most": fallback}
    return functools.partial(quantization.with_fallback, loss=loss, bound=bound, **most)


def _description(graph, runner, table, precision, lowres):
    """The part of the manifest that is known before any file is written."""
    _, height, width, channels = graph.input_shape
    content = {
        "keras_seg_manifest": 1,
        "kind": "export",
        "model": {
            "name": graph.model.name,
            "parameters": graph.model.count_params(),
            "precision": precision or "float32",
            **_origin(runner.path),
        },
        "classes": table.to_json(),
        "input": {
            "name": "image",
            "dtype": "float32",
            "layout": "NHWC",
            "batch": 1,
            "height": height,
            "width": width,
            "channels": channels,
            "range": [0, 255],
            "order": {1: "grey", 3: "RGB"}.get(channels),  # None: as in training
        },
        "output": {
            "name": graph.output,
            "dtype": graph.dtype,
            "shape": list(graph.output_shape),
            "meaning": arguments.OUTPUTS[graph.output],
            **lowres,
        },
        "versions": manifest.versions(),
    }
    if "confidence" in graph.outputs:
        shape = list(graph.shapes["confidence"])
        content["confidence"] = {"name": "confidence", "dtype": "float32", "shape": shape}
    return content


def _origin(path):
    return {} if path is None else {"file": path.name, "sha256": sha256(path)}


def _data(path, name, licence):
    """{"name", "licence"} of the training data, None where neither argument nor run says it."""
    run = (manifest.read(path.parent) if path is not None else None) or {}
    found = run.get("data") or {}
    return {"name": name or found.get("name"), "licence": licence or found.get("licence")}
