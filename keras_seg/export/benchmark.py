"""How long files of any kind take for one image, how much memory they need, and how large they are.

Every file runs in a process of its own, all files in turns, so that whatever else the machine does
meets all of them alike, and no runtime's threads, caches or memory stand in another's way.
"""

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from keras_seg.export import manifest
from keras_seg.export.macs import count_macs, of_graph
from keras_seg.export.pictures import Pictures, made_up
from keras_seg.export.progress import Progress
from keras_seg.inference import find_model, load_runner
from keras_seg.inference.manifest import checked_manifest
from keras_seg.utils import check_counts, counts, unknown_name

RUNTIMES = {
    "keras": "TensorFlow, tf.function",
    "saved_model": "TensorFlow, SavedModel",
    "tflite": "LiteRT",
    "onnx": "onnxruntime",
}
# Packages of each kind of file, any of which will do, and what installs them.
_PACKAGES = {
    "keras": (("tensorflow",), "tensorflow"),
    "saved_model": (("tensorflow",), "tensorflow"),
    "tflite": (("ai_edge_litert", "tensorflow"), "ai-edge-litert"),
    "onnx": (("onnxruntime",), "keras-seg[export]"),
}
_TENSORFLOW = ("keras", "saved_model")
MOST_IMAGES = 16


@dataclasses.dataclass(frozen=True)
class BenchmarkReport:
    """What a benchmark measured; `str(report)` is the table.

    Attributes:
        rows: a dict for each thread count and file, in the order given:
            file: its name, or its path where two files have the same name; runtime; threads;
            median, minimum: seconds of one call from Python, from pixels as a NumPy array to logits
            or labels as one; spread: the distance of the quartiles divided by the median; runs: how
            many calls these are of; ratio: its median to that of the baseline;
            bytes: of the file or folder;
            peak_memory: bytes by which the peak of the process's resident memory, once it has
            loaded the file and run it once, is above its resident memory before, when all packages
            are imported (pages of a file that is mapped count); None where the system does not say;
            macs: see `count_macs`.
        size: (H, W) of the image.
        baseline: the file that the ratios are to.
        images: what was run on, in words.
        load: processes that wanted to run at the start (average of a minute), None if not known.
        cores: that this process may use.
        versions: of the packages.
    """

    rows: list
    size: tuple
    baseline: str
    images: str
    load: float | None
    cores: int
    versions: dict

    @property
    def busy(self):
        """Whether others used the machine, so that only ratios and minima mean something."""
        return self.load is not None and self.load > self.cores

    def to_json(self):
        """The report as a dict of what JSON has."""
        return {"keras_seg_benchmark": 1, **dataclasses.asdict(self), "busy": self.busy}

    def __str__(self):
        names = [len(row["file"]) for row in self.rows]
        width = max(4, *names)
        title = f"one image of {self.size[0]} x {self.size[1]} ({self.images})"
        lines = [
            f"{title}, {self.rows[0]['runs']} calls in turns, {self.cores} cores",
            f"{'file':<{width}}  {'runtime':<23}{'threads':>8}{'median':>11}{'minimum':>11}"
            f"{'spread':>8}{'ratio':>7}{'file MB':>9}{'memory MB':>11}{'GMAC':>9}",
        ]
        for row in self.rows:
            memory = "" if row["peak_memory"] is None else f"{row['peak_memory'] / 1e6:.0f}"
            macs = "" if row["macs"] is None else f"{row['macs'] / 1e9:.3f}"
            lines.append(
                f"{row['file']:<{width}}  {row['runtime']:<23}{row['threads']:>8}"
                f"{1e3 * row['median']:>8.2f} ms{1e3 * row['minimum']:>8.2f} ms"
                f"{row['spread']:>8.0%}{row['ratio']:>7.2f}{row['bytes'] / 1e6:>9.2f}"
                f"{memory:>11}{macs:>9}"
            )
        lines.append(
            f"ratio: median to that of {self.baseline}; spread: quartiles, of the median; memory: "
            "peak above the process's start, once loaded and run"
        )
        if self.busy:
            lines.append(
                f"note: the machine was busy (load {self.load:.1f} on {self.cores} cores), times "
                "are too long; compare minima and ratios only."
            )
        return "\n".join(lines)


def benchmark(
    files,
    *,
    size=None,
    threads=None,
    repeats=20,
    warmup=3,
    images=None,
    baseline=None,
    progress=True,
):
    """Measure files of any kinds side by side.

    Each file is loaded by a fresh process for each thread count. One thread count after the other,
    the files run in turns, one call of each, `warmup` rounds uncounted and `repeats` counted.
    What is timed is what a Python program waits for: NumPy in, NumPy out.

    Args:
        files: a path or a list of them: `.keras` (runs as a `tf.function` in inference mode),
            `.tflite` and `.onnx` files, SavedModel folders, training runs (their `best.keras`),
            and folders of an export (all files in it).
        size: (H, W) of the image; needed if no file fixes it.
        threads: a list of thread counts. Default: one count, every core that this process may use.
        repeats, warmup: rounds.
        images: a folder, list or array of images to run on in turns, at most 16; they are brought
            to the size. Default: one made-up picture.
        baseline: name or path of the file that the ratios are to. Default: the first.
        progress: print one line for each step on standard error.

    Raises:
        ValueError: for a wrong argument, a file that is missing, damaged or not the one that its
            manifest describes, a runtime that is not installed, files of different sizes or
            channels, or a process that was stopped, as for want of memory.
    """
    check_counts(1, repeats=repeats)
    check_counts(0, warmup=warmup)
    threads = counts("threads", [_cores()] if threads is None else threads)
    size = None if size is None else counts("size", size, 2)
    paths = _named(_expand(files))
    baseline = _baseline(baseline, paths)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    steps = Progress(progress, "benchmark")
    rows, macs = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for count in threads:
            with contextlib.ExitStack() as stack:
                workers = {
                    name: stack.enter_context(_Worker(path, count)) for name, path in paths.items()
                }
                with steps.step(f"loading, {count} threads"):
                    found = {name: worker.ask("load") for name, worker in workers.items()}
                    size, channels = _agreed(found, size)
                    file, source = _write_images(images, size, channels, folder)
                    memory = {
                        name: worker.ask("first", file=file)["peak_memory"]
                        for name, worker in workers.items()
                    }
                with steps.step(f"{warmup} + {repeats} rounds, {count} threads"):
                    times = interleaved(
                        {name: worker.run for name, worker in workers.items()}, repeats, warmup
                    )
                if not macs:
                    macs = {
                        name: worker.ask("macs", size=size)["macs"]
                        for name, worker in workers.items()
                    }
            base = statistics.median(times[baseline])
            for name, path in paths.items():
                row = {"file": name, "runtime": RUNTIMES[found[name]["kind"]], "threads": count}
                row |= summary(times[name])
                row |= {"ratio": row["median"] / base, "bytes": manifest.size(path)}
                rows.append(row | {"peak_memory": memory[name], "macs": macs[name]})
    return BenchmarkReport(
        rows, size, baseline, source, load, _cores(), {**manifest.versions(), **_machine()}
    )


def interleaved(calls, repeats, warmup=1):
    """{name: seconds of each call}: one call of each in turn, after `warmup` uncounted rounds.

    Args:
        calls: {name: function that runs once and returns how many seconds it took}.
    """
    times = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            seconds = call()
            if turn >= warmup:
                times[name].append(seconds)
    return times


def summary(seconds):
    """{"median", "minimum", "spread", "runs"} of the seconds of several calls."""
    low, median, high = np.percentile(seconds, [25, 50, 75])
    return {
        "median": float(median),
        "minimum": min(seconds),
        "spread": float((high - low) / median),
        "runs": len(seconds),
    }


def timed(call):
    """Seconds that a function of no arguments takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure_export(graph, files, image, runs, memory):
    """What the manifest of an export says of the cost of each file, measured in this process.

    One file at a time is open, and runs in turns with the Keras model.

    Args:
        graph: the `StaticGraph` that the files were made from.
        files: {name: path}.
        image: (1, H, W, C).
        runs: counted calls of each, in turns after an uncounted one; 0 measures no time.
        memory: whether to start a process for each file that tells its peak memory.

    Returns:
        {name: {"macs", "latency": {"runtime", "threads", "median", "minimum", ..., "ratio"}, see
        `BenchmarkReport`, "peak_memory"}}, with that of the Keras model, as a `tf.function`, under
        "keras"; without what was not measured. "ratio" is that of the medians of the file and of
        the Keras model in the same turns.
    """
    import tensorflow as tf

    whole, size = of_graph(graph.concrete.graph), graph.input_shape[1:3]
    kinds = {"keras": "keras"} | {name: _kind(path) for name, path in files.items()}
    found = {
        name: {"macs": whole if kind in _TENSORFLOW else count_macs(files[name], size)}
        for name, kind in kinds.items()
    }
    if runs:
        tensor, of_keras = tf.constant(image), []

        def keras_run():
            return [output.numpy() for output in graph.function(tensor).values()]

        for name, path in files.items():
            keras, file = _in_turns(keras_run, load_runner(path), image, runs)
            of_keras += keras
            ratio = float(np.median(file) / np.median(keras))
            found[name]["latency"] = _latency(kinds[name], file) | {"ratio": ratio}
        found["keras"]["latency"] = _latency("keras", of_keras)
    if memory:
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "images.npy")
            np.save(file, image)
            for name, path in files.items():
                with _Worker(path, _cores()) as worker:
                    worker.ask("load")
                    found[name] |= worker.ask("first", file=file)
    return found


def _in_turns(keras_run, runner, image, runs):
    """Seconds of each call of the Keras model, and of a file's runner, which is then closed."""
    calls = {"keras": keras_run, "file": functools.partial(runner.run_all, image)}
    calls = {name: functools.partial(timed, call) for name, call in calls.items()}
    return interleaved(calls, runs).values()


def _latency(kind, seconds):
    return {"runtime": RUNTIMES[kind], "threads": _cores(), **summary(seconds)}


# --- files ---


def _expand(files):
    """The files and SavedModel folders that the paths mean."""
    files = [files] if isinstance(files, str | os.PathLike) else list(files)
    if not files:
        raise ValueError("No files were given to measure.")
    found = []
    for given in map(pathlib.Path, files):
        exported = manifest.read(given) if given.is_dir() else None
        if exported is not None and exported.get("kind") == "export":
            found += [given / name for name in exported["files"]]
        else:
            found.append(find_model(given))
    for path in found:
        _check_file(path)
    return found


def _check_file(path):
    """Raise ValueError for a file that cannot be run, before any process starts."""
    if not path.exists():
        raise ValueError(f"There is no file {path}, which the {manifest.NAME} beside it lists.")
    checked_manifest(path)
    packages, install = _PACKAGES[_kind(path)]
    if not any(map(importlib.util.find_spec, packages)):
        raise ValueError(
            f"{path} needs {' or '.join(packages)}, which is not installed: pip install {install}."
        )


def _kind(path):
    return "saved_model" if path.is_dir() else path.suffix[1:]


def _named(paths):
    """{name: path}: file names where they differ, else paths."""
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(f"{twice} was given twice.")
    names = [path.name for path in paths]
    return {
        str(path) if names.count(path.name) > 1 else path.name: path.absolute() for path in paths
    }


def _baseline(wanted, paths):
    if wanted is None:
        return next(iter(paths))
    for name, path in paths.items():
        if str(wanted) == name or pathlib.Path(wanted).absolute() == path:
            return name
    raise unknown_name("baseline", str(wanted), paths)


def _agreed(found, size):
    """((H, W), channels) that every file takes."""
    fixed = {name: tuple(info["size"]) for name, info in found.items() if info["size"]}
    sizes = {*fixed.values(), *([size] if size else [])}
    if len(sizes) > 1:
        listed = ", ".join(f"{name} {h} x {w}" for name, (h, w) in fixed.items())
        asked = f"; asked for {size[0]} x {size[1]}" if size else ""
        raise ValueError(
            f"The files take images of different sizes and cannot be compared: {listed}{asked}."
        )
    if not sizes:
        raise ValueError(
            f"{', '.join(found)} takes images of any size: give size=(H, W), or --size H W."
        )
    channels = {info["channels"] for info in found.values()}
    if len(channels) > 1:
        listed = ", ".join(f"{name} {info['channels']}" for name, info in found.items())
        raise ValueError(f"The files take images of different numbers of channels: {listed}.")
    return sizes.pop(), channels.pop()


def _write_images(images, size, channels, folder):
    """An array file (N, H, W, C) for the processes, and in words what is in it."""
    source = "a made-up picture"
    if images is None:
        pictures = Pictures(made_up(1, size, channels), size, channels, "images")
    else:
        pictures = Pictures(images, size, channels, "images")
        source = f"{min(len(pictures), MOST_IMAGES)} images"
    file = os.path.join(folder, "images.npy")
    np.save(file, np.concatenate(list(pictures.spread(MOST_IMAGES))))
    return file, source


def _machine():
    return {"machine": platform.machine(), "system": platform.system()}


def _cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- one process for each file ---


class _Worker:
    """A fresh process that has one file loaded and runs it when asked."""

    def __init__(self, path, threads):
        self._path = path
        root = str(pathlib.Path(__file__).parents[2])
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        if _kind(path) in _TENSORFLOW:
            environment["KERAS_BACKEND"] = "tensorflow"
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from keras_seg.export.benchmark import _serve; _serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        self._send({"path": str(path), "threads": threads})

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.communicate()

    def ask(self, what, **details):
        """Have it do something; returns its answer. Raises ValueError with what went wrong."""
        self._send({"ask": what, **details})
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            reason = f"signal {-status}" if status < 0 else f"status {status}"
            hint = ": most likely the memory did not suffice" if status == -9 else ""
            raise ValueError(f"The process that ran {self._path} ended with {reason}{hint}.")
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def run(self):
        """Seconds of one call."""
        return self.ask("run")["seconds"]

    def _send(self, message):
        with contextlib.suppress(BrokenPipeError):  # `ask` reads how the process ended
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()


def _serve():
    """What a worker's process does: obey one line of JSON after another."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    order = json.loads(sys.stdin.readline())
    path, threads = pathlib.Path(order["path"]), order["threads"]
    runner = images = None
    turn = 0
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["ask"] == "load":
                _prepare(path, threads)
                start = _resident()
                runner = load_runner(path, num_threads=threads)
                answer = {
                    "kind": runner.kind,
                    "size": runner.input_size,
                    "channels": runner.channels,
                }
            elif order["ask"] == "first":
                images = np.load(order["file"])
                runner.run_all(images[:1])
                peak = _peak()
                answer = {"peak_memory": None if start is None else peak - start - images.nbytes}
            elif order["ask"] == "run":
                image = images[turn % len(images)][None]
                answer = {"seconds": timed(functools.partial(runner.run_all, image))}
                turn += 1
            else:
                answer = {"macs": count_macs(getattr(runner, "model", path), order["size"])}
        except ValueError as error:
            answer = {"error": str(error)}
        except Exception as error:  # the runtimes' errors share no base class
            answer = {"error": f"{path} failed to {order['ask']}: {type(error).__name__} {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _prepare(path, threads):
    """Import the runtime, and limit TensorFlow's threads; the others are told as they load."""
    kind = _kind(path)
    if kind in _TENSORFLOW:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        return
    for package in ("onnxruntime",) if kind == "onnx" else ("ai_edge_litert.interpreter",):
        with contextlib.suppress(ImportError):
            importlib.import_module(package)


def _resident():
    """Bytes of this process's resident memory, and from here on `_peak` counts anew; None where the
    system does not say.

    Linux tells both of this process alone. The peak of `getrusage` is no use: a process inherits
    there what its parent had when it started it.
    """
    if not os.path.exists("/proc/self/status"):
        return None
    with contextlib.suppress(OSError):  # without the right to, imports may have had a higher peak
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak():
    return _status("VmHWM")


def _status(name):
    text = pathlib.Path("/proc/self/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])
