"""`keras-seg benchmark`: what it measures, and what it says of files that it cannot measure."""

import importlib
import json
import re
import shutil

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from keras_seg import cli
from keras_seg.export import benchmark, export

module = importlib.import_module("keras_seg.export.benchmark")
SIZE = (32, 48)


def network(size=SIZE, filters=4):
    image = keras.Input((*size, 3), name="image")
    x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.Conv2D(filters, 3, padding="same", activation="relu", name="wide")(x)
    return keras.Model(image, layers.Conv2DTranspose(2, 4, strides=2, padding="same")(x))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An export of a small network, as TFLite and ONNX, and the network as a `.keras` file."""
    folder = tmp_path_factory.mktemp("benchmark")
    net = network()
    net.save(folder / "net.keras")
    export(net, folder / "files", formats=("tflite", "onnx"), quantize=(), progress=False)
    return folder


@pytest.fixture(scope="module")
def measured(files):
    """The JSON and the text that the command leaves, for an export's folder."""
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        status = cli.main(
            ["benchmark", str(files / "files"), "--threads", "1", "--repeats", "5"]
            + ["--baseline", "model.onnx", "--json", str(files / "times.json")]
        )
    assert status == 0
    return json.loads((files / "times.json").read_text("utf-8")), text.getvalue()


# 16 x 24 positions of 27 * 4 and 36 * 4, each spread to 4 * 4 * 2 from 4. In TFLite that is one of
# 2 x 2 taps over 4, to the 2 x 2 pixels of 17 x 25 places.
MACS = {
    "model.onnx": 16 * 24 * 4 * (27 + 36 + 4 * 4 * 2),
    "model.tflite": 16 * 24 * 4 * (27 + 36) + 17 * 25 * (2 * 2 * 2) * (2 * 2 * 4),
}


def test_every_file_of_an_export_has_a_row(measured, files):
    found, _ = measured
    rows = {row["file"]: row for row in found["rows"]}
    assert list(rows) == ["model.tflite", "model.onnx"]
    for name, row in rows.items():
        assert row["threads"] == 1 and row["runs"] == 5
        assert 0 < row["minimum"] <= row["median"] < 1
        assert row["bytes"] == (files / "files" / name).stat().st_size
        assert row["macs"] == MACS[name]
    assert rows["model.tflite"]["runtime"] == "LiteRT"
    assert rows["model.onnx"]["runtime"] == "onnxruntime"
    assert (found["size"], found["baseline"]) == ([32, 48], "model.onnx")


def test_ratios_are_to_the_baseline(measured):
    found, _ = measured
    tflite, onnx = found["rows"]
    assert onnx["ratio"] == 1
    assert tflite["ratio"] == pytest.approx(tflite["median"] / onnx["median"])


def test_the_table_says_what_is_measured(measured):
    _, text = measured
    assert re.search(r"^model\.tflite +LiteRT +1 .* ms .* ms ", text, re.MULTILINE)
    assert "one image of 32 x 48" in text and "ratio: median to that of model.onnx" in text


@pytest.mark.slow
def test_all_kinds_and_thread_counts(files, tmp_path):
    """A run's folder, a SavedModel, more weights than the process had memory before."""
    net = network(filters=1024)  # 9.4 million weights in the layer in the middle: 38 MB
    (tmp_path / "run").mkdir()
    net.save(tmp_path / "run" / "best.keras")
    export(net, tmp_path / "files", formats=("saved_model", "tflite"), quantize=(), progress=False)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((40, 60, 3), "uint8")).save(tmp_path / name)
    report = benchmark(
        [tmp_path / "run", tmp_path / "files", files / "files" / "model.tflite"],
        threads=[1, 2],
        repeats=3,
        warmup=1,
        images=tmp_path,
        progress=False,
    )
    small = str(files / "files" / "model.tflite")
    names = ["best.keras", "saved_model", str(tmp_path / "files" / "model.tflite"), small]
    assert [(row["file"], row["threads"]) for row in report.rows] == [
        (name, count) for count in (1, 2) for name in names
    ]
    assert "tf.function" in report.rows[0]["runtime"]
    assert len({row["macs"] for row in report.rows[:3]}) == 1
    for row in report.rows[:3]:
        assert 38e6 < row["peak_memory"] < 1e9
    assert report.rows[3]["peak_memory"] < 20e6
    assert [row["ratio"] for row in report.rows if row["file"] == "best.keras"] == [1, 1]
    assert report.images == "2 images"


def test_files_take_turns():
    calls = []

    def call(name):
        def run():
            calls.append(name)
            return len(calls)

        return run

    times = module.interleaved({name: call(name) for name in "ab"}, repeats=2, warmup=1)
    assert calls == ["a", "b"] * 3
    assert times == {"a": [3, 5], "b": [4, 6]}


def test_spread_is_that_of_the_quartiles():
    found = module.summary([4.0, 1.0, 2.0, 3.0, 5.0])
    assert found == {"median": 3.0, "minimum": 1.0, "spread": pytest.approx(2 / 3), "runs": 5}


def test_a_busy_machine_is_said(monkeypatch):
    row = {"file": "a", "runtime": "LiteRT", "threads": 1, "ratio": 1.0, "bytes": 1}
    row |= {"peak_memory": None, "macs": None, **module.summary([0.1, 0.2])}
    texts = [
        str(module.BenchmarkReport([row], SIZE, "a", "a picture", load, 2, {}))
        for load in (1.9, 2.1, None)
    ]
    assert ["the machine was busy" in text for text in texts] == [False, True, False]


# --- what cannot be measured ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats must be a whole number of at least 1"),
        ({"warmup": -1}, "warmup must be a whole number of at least 0"),
        ({"threads": [0]}, "threads must be a list or tuple of whole numbers"),
        ({"size": (32,)}, "size must be a list or tuple of 2 whole numbers"),
        (
            {"baseline": "model.tflit"},
            "Unknown baseline 'model.tflit'. Did you mean 'model.tflite'",
        ),
    ],
)
def test_wrong_arguments(files, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        benchmark(files / "files", progress=False, **options)


def test_files_that_are_not_there(files, tmp_path):
    with pytest.raises(ValueError, match="There is no model at .*nothing.onnx"):
        benchmark(tmp_path / "nothing.onnx")
    with pytest.raises(ValueError, match="No files"):
        benchmark([])
    with pytest.raises(ValueError, match=r"net\.keras was given twice"):
        benchmark([files / "net.keras", files / "net.keras"])
    shutil.copytree(files / "files", tmp_path / "files")
    (tmp_path / "files" / "model.onnx").unlink()
    with pytest.raises(ValueError, match=r"no file .*model\.onnx, which the manifest\.json"):
        benchmark(tmp_path / "files")


def test_a_changed_file_is_refused(files, tmp_path, capsys):
    shutil.copytree(files / "files", tmp_path / "files")
    content = bytearray((tmp_path / "files" / "model.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "files" / "model.tflite").write_bytes(content)
    for given in ("files", "files/model.tflite"):
        assert cli.main(["benchmark", str(tmp_path / given)]) == 2
        error = capsys.readouterr().err
        assert "model.tflite is not the file that" in error and "SHA-256" in error


@pytest.mark.parametrize(
    ("name", "packages", "message"),
    [
        ("files/model.onnx", {"onnxruntime"}, r"onnxruntime.*keras-seg\[export\]"),
        ("files/model.tflite", {"ai_edge_litert", "tensorflow"}, "ai_edge_litert.*pip install"),
        ("net.keras", {"tensorflow"}, "tensorflow.*not installed"),
    ],
)
def test_a_runtime_that_is_not_installed(files, monkeypatch, name, packages, message):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda x, *a: None if x in packages else find_spec(x, *a)
    )
    with pytest.raises(ValueError, match=message):
        benchmark(files / name)


def test_sizes_must_agree():
    of = {"a.onnx": {"size": [32, 48], "channels": 3}, "b.tflite": {"size": None, "channels": 3}}
    assert module._agreed(of, None) == ((32, 48), 3)
    with pytest.raises(ValueError, match=r"a\.onnx 32 x 48; asked for 64 x 64"):
        module._agreed(of, (64, 64))
    of["b.tflite"] = {"size": [64, 48], "channels": 3}
    with pytest.raises(ValueError, match=r"different sizes.* a\.onnx 32 x 48, b\.tflite 64 x 48"):
        module._agreed(of, None)
    of["b.tflite"] = {"size": [32, 48], "channels": 1}
    with pytest.raises(ValueError, match=r"channels: a\.onnx 3, b\.tflite 1"):
        module._agreed(of, None)
    with pytest.raises(ValueError, match=r"a\.keras takes images of any size: give size=\(H, W\)"):
        module._agreed({"a.keras": {"size": None, "channels": 3}}, None)


def test_errors_of_the_processes_arrive(tmp_path):
    """A damaged file is told by the process that opens it; one that is killed is told as well."""
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with module._Worker(tmp_path / "broken.onnx", 1) as worker:
        with pytest.raises(ValueError, match=r"Cannot load .*broken\.onnx"):
            worker.ask("load")
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(ValueError, match=r"broken\.onnx ended with signal 9: .* memory"):
            worker.ask("load")


def test_peak_memory_is_that_of_this_process_alone():
    """The peak that `getrusage` tells is inherited from a large parent."""
    start = module._resident()
    held = np.ones(300_000_000, "uint8")
    assert 250e6 < module._peak() - start < 400e6
    del held
    module._resident()
    assert module._peak() - start < 150e6


# --- in the manifest of an export ---


def test_an_export_states_what_its_files_cost(files):
    found = json.loads((files / "files" / "manifest.json").read_text("utf-8"))
    for name, runtime in (("model.tflite", "LiteRT"), ("model.onnx", "onnxruntime")):
        entry = found["files"][name]
        assert entry["macs"] == MACS[name]
        latency = entry["latency"]
        assert (latency["runtime"], latency["runs"]) == (runtime, 5)
        assert latency["threads"] >= 1 and 0 < latency["minimum"] <= latency["median"] < 1
    assert found["model"]["macs"] == MACS["model.onnx"]
    assert "tf.function" in found["model"]["latency"]["runtime"]


def test_the_table_of_an_export_has_times_as_ratios(tmp_path):
    options = {"formats": ("onnx",), "quantize": (), "progress": False}
    report = export(network(), tmp_path / "timed", benchmark=2, **options)
    head, keras_row, onnx_row = str(report).splitlines()[1:4]
    assert head.endswith("time") and keras_row.split()[-1] == "1.00"
    model, onnx = report.manifest["model"], report.manifest["files"]["model.onnx"]
    # The only file: the Keras model ran in turns with it alone.
    ratio = onnx["latency"]["median"] / model["latency"]["median"]
    assert onnx["latency"]["ratio"] == pytest.approx(ratio)
    assert f" {ratio:.2f}  ok" in onnx_row and onnx["latency"]["runs"] == 2

    report = export(network(), tmp_path / "untimed", benchmark=False, **options)
    assert "time" not in str(report)
    assert "latency" not in report.manifest["files"]["model.onnx"]
    with pytest.raises(ValueError, match="benchmark must be a whole number of at least 0, got -1"):
        export(network(), tmp_path / "wrong", benchmark=-1, **options)


@pytest.mark.slow
def test_an_export_measures_peak_memory_when_asked(tmp_path):
    net = network(filters=1024)  # 38 MB of weights
    report = export(
        net, tmp_path / "out", formats=("tflite",), quantize=(), peak_memory=True, progress=False
    )
    assert 38e6 < report.manifest["files"]["model.tflite"]["peak_memory"] < 1e9
