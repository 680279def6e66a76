"""Every network in every kind of file: converted, run, compared; the tables of docs/export.md.

    python benchmarks/export_matrix.py --slim           # slim forms of all: half an hour on 2 cores
    python benchmarks/export_matrix.py                  # full size: some hours, up to 15 GB
    python benchmarks/export_matrix.py UNet SegNet      # these at full size
    python benchmarks/export_matrix.py --write          # only docs/export.md from what was measured

Slim forms are those of tests/test_contract.py, on images as there. At full size each network has
its builder's defaults and 21 classes, and the image size of `keras-seg models`. Weights are random,
also those of normalisations, so that nothing is trained to round well: what is proved is that a
file computes what the network computes; what quantisation costs a trained network is in
docs/results.md.

Each network has a fresh process. Its figures are one line of `export_matrix_slim.jsonl` or
`export_matrix_full.jsonl` beside this script; a network that has a line is skipped, so that the
same command goes on where it stopped, and `--again` measures anew. A process above `--memory`
gigabytes is stopped, and its line says so.
"""

import argparse
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs" / "export.md"
BEGIN, END = "<!-- matrix: {} -->", "<!-- end of matrix: {} -->"
# What the contract test leaves out, since these only set constants of other builders.
PRESETS = {
    "Dilation7": {"filters": 2, "fc_channels": 8, "padding": "same"},
    "FCDenseNet56": {"growth_rate": 2, "filters": 4},
    "FCDenseNet67": {"growth_rate": 2, "filters": 4},
    "FCDenseNet103": {"growth_rate": 2, "filters": 4},
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="networks (all)")
    parser.add_argument("--slim", action="store_true", help="slim forms, those of the tests")
    parser.add_argument("--again", action="store_true", help="measure also what has a line")
    parser.add_argument("--memory", type=float, default=16, metavar="GB", help="limit (16)")
    parser.add_argument("--write", action="store_true", help="only write docs/export.md")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    if options.measure:
        print(json.dumps(measure(options.measure, options.slim)))
        return
    kind = "slim" if options.slim else "full"
    if not options.write:
        for name in networks(options.slim):
            if options.names and name.split("-")[0] not in options.names:
                continue
            if options.again or name not in read(kind):
                started = time.time()
                row = measured_apart(name, kind, options.memory)
                write(kind, {**read(kind), name: row})
                print(f"{name:<60.60}{time.time() - started:7.0f} s  {verdict(row)}", flush=True)
    write_page()


def networks(slim):
    """Names of all that are measured."""
    if slim:
        from test_contract import ROWS

        return [row.id for row in ROWS] + list(PRESETS)
    from keras_seg import models

    return models.list_models()


# --- measuring ---


def measured_apart(name, kind, memory):
    """The figures of one network from a fresh process; {"error": ...} if that did not end well."""
    command = [sys.executable, __file__, "--measure", name, *(["--slim"] if kind == "slim" else [])]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT)
        stopped = None
        while process.poll() is None:
            time.sleep(0.2)
            if memory_of(process.pid, "VmRSS") > memory * 1e9:
                stopped = f"stopped: needs more than {memory:g} GB"
                process.kill()
                process.wait()
        out.seek(0)
        err.seek(0)
        lines, errors = out.read().splitlines(), err.read().strip().splitlines()
    if process.returncode == 0:
        return json.loads(lines[-1])
    if process.returncode == -signal.SIGKILL:
        return {"error": stopped or "killed, most likely for want of memory"}
    return {"error": f"status {process.returncode}: {errors[-1] if errors else 'no message'}"}


def memory_of(pid, what):
    """Bytes of a process's memory: "VmRSS" resident, "VmHWM" its peak; 0 once it has ended."""
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{what}:\s+(\d+)", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def measure(name, slim):
    """The figures of one network: its export as a whole or, if that fails, file by file."""
    import keras

    from keras_seg import utils
    from keras_seg.export import count_macs
    from keras_seg.export.arguments import FORMATS, QUANTIZE

    keras.utils.set_random_seed(0)
    model, size, images = slim_network(name) if slim else full_network(name)
    started = time.time()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        try:
            files = exported(model, folder / "all", size, images, FORMATS, QUANTIZE)
        except Exception:
            files = {}
            for number, (formats, quantize) in enumerate(one_by_one(FORMATS, QUANTIZE)):
                key = quantize[0] if quantize else formats[0]
                try:
                    out = folder / str(number)
                    found = exported(model, out, size, images, formats, quantize)
                    files |= {n: file for n, file in found.items() if n not in files}
                except Exception as error:
                    files[key] = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    with utils.silence():
        macs = count_macs(model, size)
    return {
        "size": list(size),
        "parameters": model.count_params(),
        "macs": macs,
        "files": files,
        "seconds": round(time.time() - started, 1),
        "peak_memory": memory_of("self", "VmHWM"),  # getrusage tells the parent's as well
        "versions": {k: v for k, v in utils.versions().items() if k in ("keras", "tensorflow")},
    }


def one_by_one(formats, quantize):
    """(formats, quantize) of exports that write one kind of file each, the plain ones first."""
    for name in formats:
        yield (name,), ()
    for name in quantize:
        yield ("onnx" if name == "qdq" else "tflite",), (name,)


def slim_network(name):
    from test_contract import ROWS, Row, shake

    rows = {row.id: row for row in ROWS}
    row = rows[name] if name in rows else Row(name, PRESETS[name])
    model = row.build()
    shake(model, row)
    return model, row.sizes[1], row.picture(row.sizes[1], batch=2)


def full_network(name):
    from test_contract import Row, shake

    from keras_seg import models
    from keras_seg.export.pictures import made_up

    model = models.inference_model(getattr(models, name)(21))
    shake(model, Row(name, {}))
    side = next(card.size for card in models.cards() if card.name == name)
    return model, (side, side), made_up(2, (side, side), model.input.shape[-1])


def exported(model, folder, size, images, formats, quantize):
    """{file: its figures} of one export."""
    from keras_seg import utils
    from keras_seg.export import Bounds, count_macs, export, parity, targets
    from keras_seg.export.bounds import judge_all
    from keras_seg.export.graph import StaticGraph
    from keras_seg.export.pictures import Pictures

    report = export(
        model,
        folder,
        size=size,
        formats=formats,
        quantize=quantize,
        calibration=images,
        images=images,
        bounds=None,
        benchmark=False,
        progress=False,
    )

    def own_rounding():
        graph = StaticGraph(model, size, images[0].shape[-1], "logits")
        compared = Pictures(images, size, images[0].shape[-1], "images")
        return parity.own_rounding(graph, compared, Bounds().tie)

    with utils.silence():
        _, own = judge_all(report.rows[1:], Bounds(), own_rounding)
    rows = {row["file"]: row for row in report.rows}
    files = {}
    for name, entry in report.manifest["files"].items():
        row = rows[name]
        files[name] = {
            "bytes": entry["bytes"],
            "precision": entry["precision"],
            "difference": row["difference"],
            "mean_difference": row["mean_difference"],
            "agreement": row["agreement"],
            "clear_agreement": row["clear_agreement"],
            "verdict": row["verdict"],
            "rounding": own["difference"] if own and row["precision"] == "float32" else None,
            "operators": report.manifest["operators"].get(name),
        }
        with utils.silence():
            files[name]["macs"] = count_macs(folder / name, size)
        if name.endswith(".tflite"):
            files[name]["targets"] = {
                target: refusal(targets, folder / name, target, entry["precision"])
                for target in targets.TARGETS
            }
    return files


def refusal(targets, path, target, precision):
    """The operators, and why, that keep a target from running the file as a whole, or None."""
    try:
        targets.check(path, target, precision)
    except ValueError as error:
        return short(str(error))


def short(text):
    """What `targets.check` says, without the names of layers, each reason once."""
    reasons = text.partition(" as a whole: ")[2].partition(". Replace these layers")[0].split("; ")
    reasons = [re.sub(r"^(.+?) of .*(\(.*\))$", r"\1 \2", reason) for reason in reasons]
    return "; ".join(sorted({r for r in reasons if not re.fullmatch(r"and \d+ more", r)}))


# --- what was measured ---


def results(kind):
    return pathlib.Path(__file__).with_name(f"export_matrix_{kind}.jsonl")


def read(kind):
    """{network: figures} of the networks that have a line."""
    if not results(kind).exists():
        return {}
    lines = results(kind).read_text("utf-8").splitlines()
    return {row.pop("network"): row for row in map(json.loads, lines)}


def write(kind, rows):
    from keras_seg.utils import atomic_path

    lines = [json.dumps({"network": name, **row}) + "\n" for name, row in sorted(rows.items())]
    with atomic_path(results(kind)) as temporary:
        temporary.write_text("".join(lines), "utf-8")


def verdict(row):
    """One network in a few words."""
    if "error" in row:
        return row["error"]
    failed = [name for name, file in row["files"].items() if "error" in file]
    differ = [name for name, file in row["files"].items() if file.get("verdict") == "FAIL"]
    told = [f"{', '.join(failed)} failed"] if failed else []
    told += [f"{', '.join(differ)} differs"] if differ else []
    return "; ".join(told) or f"{len(row['files'])} files"


# --- the page ---

COLUMNS = {
    "saved_model": "SavedModel",
    "model.tflite": "TFLite",
    "model_float16.tflite": "float16",
    "model_dynamic.tflite": "dynamic",
    "model_int16x8.tflite": "int16x8",
    "model_int8.tflite": "int8",
    "model_uint8.tflite": "uint8",
    "model.onnx": "ONNX",
    "model_int8.onnx": "ONNX int8",
}


# The files that are made for a target.
CONCERNS = {
    "cpu": [name for name in COLUMNS if name.endswith(".tflite")],
    "gpu-delegate": ["model.tflite", "model_float16.tflite", "model_int8.tflite"],
    "nnapi-int8": ["model_int8.tflite", "model_uint8.tflite"],
}


def write_page():
    """Put the tables of what was measured between the markers of docs/export.md."""
    text = PAGE.read_text("utf-8")
    for kind in ("slim", "full"):
        begin, end = BEGIN.format(kind), END.format(kind)
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = f"{before}{begin}\n\n{tables(read(kind))}\n\n{end}{after}"
    PAGE.write_text(text, "utf-8")


def tables(rows):
    """Markdown: how well each file agrees, then what each is made of, then what went wrong."""
    if not rows:
        return "Not measured yet."
    columns = [n for n in COLUMNS if any(n in row.get("files", {}) for row in rows.values())]
    notes = []
    parts = [
        table(
            ["network", "image", *(COLUMNS[n] for n in columns)],
            [
                [label(name), image(row), *(parity_cell(row, n, notes) for n in columns)]
                for name, row in rows.items()
            ],
        ),
        table(
            ["network", "GMAC", "operators", *(f"{COLUMNS[n]} MB" for n in columns)],
            [
                [label(name), gmac(row), operators_cell(row), *(megabytes(row, n) for n in columns)]
                for name, row in rows.items()
            ],
        ),
        refusals(rows),
    ]
    parts += ["\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1))]
    return "\n\n".join(part for part in parts if part)


def table(head, lines):
    lines = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def label(name):
    builder, *options = re.split(r"-(?=\w+=)", name)
    return f"{builder} <sub>{', '.join(options)}</sub>" if options else builder


def image(row):
    return "{} x {}".format(*row["size"]) if "size" in row else ""


def gmac(row):
    return f"{row['macs'] / 1e9:.3g}" if row.get("macs") else ""


def megabytes(row, name):
    file = row.get("files", {}).get(name, {})
    return f"{file['bytes'] / 1e6:.3g}" if "bytes" in file else ""


def operators_cell(row):
    """How many operators the float TFLite file and the ONNX file hold."""
    found = [
        row.get("files", {}).get(n, {}).get("operators") for n in ("model.tflite", "model.onnx")
    ]
    return " / ".join("-" if counts is None else str(sum(counts.values())) for counts in found)


def parity_cell(row, name, notes):
    """Largest difference and share of equal labels, or the number of a note."""
    file = row.get("files", {}).get(name)
    if file is None:
        keys = {"saved_model": "saved_model", "model.tflite": "tflite", "model.onnx": "onnx"}
        precision = name.partition("_")[2].partition(".")[0]
        key = keys.get(name) or ("qdq" if name.endswith(".onnx") else precision)
        file = row.get("files", {}).get(key, {"error": row.get("error", "not written")})
    if "error" in file:
        error = re.sub(r"\.?\s*Node number \d+ ", "; ", file["error"])
        if error not in notes:
            notes.append(error)
        return f"fails ({notes.index(error) + 1})"
    differs = "**differs:** " if file["verdict"] == "FAIL" else ""
    if file.get("rounding"):
        note = (
            "rounding the pixels to the next float32 number moves the logits of the Keras network "
            f"itself by {file['rounding']:.0e}"
        )
        if note not in notes:
            notes.append(note)
        differs = f"({notes.index(note) + 1}) {differs}"
    share = "100 %" if file["agreement"] == 1 else f"{min(100 * file['agreement'], 99.99):.2f} %"
    if file["difference"] is None:
        return differs + share
    return f"{differs}{file['difference']:.0e}, {share}".replace("0e+00", "0")


def refusals(rows):
    """A table of the operators that keep a target from running files as a whole."""
    found = {}
    for name, row in rows.items():
        for target, files in CONCERNS.items():
            for file in files:
                reasons = row.get("files", {}).get(file, {}).get("targets", {}).get(target)
                for reason in reasons.split("; ") if reasons else ():
                    builders = found.setdefault((f"`{target}`", *operator_and_why(reason)), {})
                    builders[name.split("-")[0]] = True
    if not found:
        return "Every TFLite file runs as a whole on every target that it is for."
    lines = [[*key, ", ".join(builders)] for key, builders in sorted(found.items())]
    return table(["target", "cannot run", "because", "of the networks"], lines)


def operator_and_why(reason):
    """("MUL", "...") of one reason of `short`, whatever the tensor and its shape."""
    found = re.fullmatch(r"(\w+)(?: of the tensor '.*')?(?:: | \()(.*?)\)?", reason)
    operator, why = found.groups() if found else ("", reason)
    return operator, re.sub(r"(\[[\d, ]+\])", "(...)", why)


if __name__ == "__main__":
    main()
