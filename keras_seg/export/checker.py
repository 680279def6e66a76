"""Is a file, or a folder of them, still what an export wrote, and does it run and compute here?"""

import dataclasses
import pathlib

import numpy as np

from keras_seg.export import manifest, onnx, parity, targets, tflite
from keras_seg.export.bounds import DEFAULT_BOUNDS, advice, judge_all
from keras_seg.export.graph import StaticGraph, in_float32, other_precision
from keras_seg.export.pictures import Pictures, made_up
from keras_seg.export.report import said_of_rounding
from keras_seg.inference import find_model, load_runner
from keras_seg.inference.manifest import checked_manifest
from keras_seg.utils import sha256, silence, unknown_name


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """What was found; `str(report)` is all of it.

    Attributes:
        lines: what was checked, file by file.
        rows: of the comparison with a Keras model, see `keras_seg.export.parity.compare`; empty
            without one.
        problems: what is wrong, in sentences.
        ok: whether there is no problem.
    """

    lines: tuple
    rows: list
    problems: tuple

    @property
    def ok(self):
        return not self.problems

    def __str__(self):
        lines = list(self.lines)
        if self.rows:
            lines.append(parity.table(self.rows, {}))
        lines += [f"FAIL: {problem}" for problem in self.problems]
        failed = [row["precision"] for row in self.rows if row["verdict"] == "FAIL"]
        lines += [f"to do: {advice(precision)}" for precision in dict.fromkeys(failed)]
        return "\n".join(lines)


def check(path, *, against=None, images=None, labels=None, target=None, bounds=DEFAULT_BOUNDS):
    """Check an exported file, or every file of an export's folder, on this machine.

    Each file is compared with its manifest (SHA-256, operators), `.tflite` files with what the
    target can run, and each is loaded in its runtime and run on a picture.

    Args:
        path: a `.tflite` or `.onnx` file, a SavedModel folder, or the folder of an export.
        against: the Keras model or `.keras` file that the files were made from; they are then
            compared with it as `keras_seg.export.export` does.
        images, labels: to compare on, as `export` takes them; made-up pictures otherwise.
        target: one of `keras_seg.export.targets.TARGETS`. Default: that of the export, else "cpu".
            Of "nnapi-int8", files that are not in 8 bits are held to "cpu", and the report says so.
        bounds: the `Bounds` of the comparison; None judges nothing.

    Returns:
        `CheckReport`.

    Raises:
        ValueError: if there is no such file or model, an argument is wrong, or a package that the
            check itself needs is missing.
    """
    if target is not None and target not in targets.TARGETS:
        raise unknown_name("target", target, targets.TARGETS)
    if against is None and (images is not None or labels is not None):
        raise ValueError("images and labels are for a comparison: give the Keras model as against.")
    if labels is not None and images is None:
        raise ValueError("labels were given without images; give both.")
    reference = None if against is None else _reference(against)
    lines, rows, problems = [], [], []
    for file in _files(path, problems):
        try:
            with silence():
                found, runner = _check_file(file, target)
                compared, broken, own = [], (), None
                if reference is not None:
                    arguments = (reference, runner, file, images, labels, bounds)
                    compared, broken, own = _compare(*arguments)
        except _Wrong as error:
            problems.append(str(error))
            continue
        lines.append(f"{file.name}: {'; '.join(found)}.")
        if own is not None:
            lines.append(f"note: {said_of_rounding(own)}")
        rows += compared if not rows else compared[1:]
        problems += broken
        source = runner.manifest.get("model", {}).get("sha256")
        if reference is not None and reference.path is not None and source:
            if sha256(reference.path) != source:
                lines.append(f"note: {file.name} was made from another file than {reference.path}.")
    return CheckReport(tuple(lines), rows, tuple(problems))


class _Wrong(Exception):
    """Something is wrong with a file, as against with the arguments."""


def _reference(against):
    runner = load_runner(against)
    if runner.kind != "keras":
        raise ValueError(f"against must be a Keras model or a .keras file, got {against}.")
    return runner


def _files(path, problems):
    """The files to check; what the folder's manifest lists and is not there goes to `problems`."""
    path = pathlib.Path(path)
    listed = (manifest.read(path) or {}) if path.is_dir() else {}
    if listed.get("kind") != "export":
        return [find_model(path)]
    missing = [name for name in listed["files"] if not (path / name).exists()]
    problems += [
        f"{name} is listed in {path / manifest.NAME} and is not there." for name in missing
    ]
    return [path / name for name in listed["files"] if name not in missing]


def _check_file(file, target):
    """(what was found, the runner) of one file; raises `_Wrong`."""
    try:
        content = checked_manifest(file)
        runner = load_runner(file)
    except ValueError as error:
        raise _Wrong(str(error)) from error
    found = ["as it was exported" if content.get("kind") == "export" else "without a manifest"]
    operators = None
    if runner.kind == "tflite":
        precision = _precision(content, file)
        if targets.applied(target, precision) != target:
            found.append(f"{precision}, which {target} does not run: held to cpu")
        target = targets.applied(target or content.get("target", "cpu"), precision)
        try:
            targets.check(file, target, precision)
        except ValueError as error:
            raise _Wrong(str(error)) from error
        operators = tflite.operators(file)
    elif runner.kind == "onnx" and not onnx.missing_packages():
        operators, target = onnx.operators(file), None
    if operators is not None:
        names = ", ".join(f"{name} {count}" for name, count in operators.items())
        found.append(f"operators {f'for target {target} ' if target else ''}({names})")
    outputs = runner.run_all(_picture(runner, content))
    for name, output in outputs.items():
        if not np.isfinite(output).all():
            raise _Wrong(f"{file} returns {name} that are not finite numbers.")
        found.append(f"runs and returns {name} {' x '.join(map(str, output.shape))}")
    return found, runner


def _precision(content, file):
    entry = content.get("file") or content.get("files", {}).get(file.name) or {}
    return entry.get("precision", "float32")


def _size(runner, content):
    taken = content.get("input", {})
    return runner.input_size or (taken.get("height") or 64, taken.get("width") or 64)


def _picture(runner, content):
    size, channels = _size(runner, content), runner.channels
    return Pictures(made_up(1, size, channels), size, channels, "images")[0][0]


def _compare(reference, runner, file, images, labels, bounds):
    """Of one file: the rows of `parity.compare`, and what `judge_all` returns."""
    if runner.channels != reference.channels:
        raise ValueError(
            f"{file} takes images of {runner.channels} channels, {reference.name} of "
            f"{reference.channels}: it was not made from this model."
        )
    size = _size(runner, runner.manifest)
    model = in_float32(reference.model) if other_precision(reference.model) else reference.model
    graph = StaticGraph(
        model, size, runner.channels, runner.output, confidence=runner.has_confidence
    )
    if runner.num_classes not in (None, reference.num_classes):
        raise ValueError(
            f"{file} has {runner.num_classes} classes, {reference.name} has "
            f"{reference.num_classes}: it was not made from this model."
        )
    given = made_up(8, size, runner.channels) if images is None else images
    pictures = Pictures(given, size, runner.channels, "images", labels)
    tie = (bounds or DEFAULT_BOUNDS).tie
    rows = parity.compare(
        graph,
        {file.name: (file, _precision(runner.manifest, file))},
        pictures,
        num_classes=reference.num_classes,
        ignore_label=runner.manifest.get("classes", {}).get("ignore_label", 255),
        tie=tie,
        enlarge=runner.manifest.get("output", {}).get("resize"),
    )
    return rows, *judge_all(rows[1:], bounds, lambda: parity.own_rounding(graph, pictures, tie))
