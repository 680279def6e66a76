"""What an export says of itself: the report, its notes, and the error of a broken bound."""

import dataclasses
import pathlib

from keras_seg.export import parity, targets
from keras_seg.export.bounds import advice


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What an export wrote and how it compares; `str(report)` is the table.

    Attributes:
        folder: where the files are.
        files: their paths.
        rows: one dict for the Keras model and for each file, see `keras_seg.export.parity.compare`.
        manifest: the content of manifest.json.
        ok: whether every file is within the bounds; None with `bounds=None`.
        warnings: what a user should know, in sentences.
        broken: which bounds are broken, and by how much, in sentences.
    """

    folder: pathlib.Path
    files: tuple
    rows: list
    manifest: dict
    ok: bool | None
    warnings: tuple
    broken: tuple = ()

    def __str__(self):
        found = self.manifest
        size = f"{found['input']['height']} x {found['input']['width']}"
        images = found["parity"]["images"]
        source = found["parity"]["source"]
        sizes = {name: entry["bytes"] for name, entry in found["files"].items()}
        ratios = {
            name: entry["latency"]["ratio"]
            for name, entry in found["files"].items()
            if "latency" in entry
        }
        if ratios:
            ratios["keras"] = 1.0
        title = f"{found['model']['name']}, {size}, on {images} images ({source})"
        lines = [title, parity.table(self.rows, sizes, ratios)]
        lines += [f"note: {warning}" for warning in self.warnings]
        lines += [f"FAIL: {sentence}" for sentence in self.broken]
        failed = [row["precision"] for row in self.rows if row["verdict"] == "FAIL"]
        lines += [f"to do: {advice(precision)}" for precision in dict.fromkeys(failed)]
        return "\n".join(lines)


class ExportError(ValueError):
    """A file is outside of the bounds, so that nothing was written. Its text is the whole table.

    Attributes:
        report: the `ExportReport` of what would have been written.
    """

    def __init__(self, report):
        self.report = report
        super().__init__(f"{report}\nNothing was written to {report.folder}.")


def notes(source, operators, data, lowres, quantized, loose, own=None):
    """What a user should know, in sentences.

    `loose`: of each TFLite file, see `targets.loose_comparisons`; `own`: `parity.own_rounding`, if
    it was needed; the other arguments are parts of the manifest.
    """
    found = [] if own is None else [said_of_rounding(own)]
    for name, entry in quantized.get("files", {}).items():
        found += _said_of(name, entry)
        if name == "model_int8.tflite" and entry["float_layers"] and "model_uint8.tflite" in loose:
            found.append(
                f"model_uint8.tflite has no layer in float, so that it differs from {name}."
            )
    if lowres and lowres["resize"] is None:
        found.append(
            "the network enlarges its logits by more than a plain resize (it pads, crops or "
            "convolves), so that a Predictor cannot place those at low resolution in the image."
        )
    if source == "made-up pictures":
        found.append(
            "compared on made-up pictures; give images=... (and labels=...) for figures that count."
        )
    missing = [
        f"{key}=..."
        for key, value in (("data_name", data["name"]), ("licence", data["licence"]))
        if not value
    ]
    if missing:
        found.append(
            f"training data or licence are not stated in the files; give {', '.join(missing)}."
        )
    for name, compared in loose.items():
        if compared:
            found.append(
                f"{name}: {', '.join(compared)} takes neighbouring values for equal, because they "
                "are small (they should reach 1): unpooling puts some in several places. Normalise "
                "the layer before it, or use the float16 file."
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
    return tuple(found)


def said_of_rounding(own):
    """A sentence on `parity.own_rounding`."""
    logits = own["difference"]
    moved = "" if logits is None else f"its logits by up to {logits:.1e} of their deviation and "
    return (
        f"rounding the pixels to the next float32 number moves {moved}{1 - own['agreement']:.3%} "
        "of the labels of the Keras network itself; float32 files are held to four times that "
        "where it is more than a default bound. Unpooling is the cause, or weights that are not "
        "trained."
    )


def _said_of(name, entry):
    """Sentences on what `quantize.with_fallback` did to a file."""
    unit = {"mean_iou": "of mean IoU", "labels": "of the labels"}[entry["measure"]]
    loss, whole, bound = (f"{entry[key]:.2%}" for key in ("loss", "loss_int8", "bound"))
    if entry["float_layers"]:
        each = ", ".join(f"{f['layer']} ({f['cost']:.2%})" for f in entry["float_layers"])
        yield (
            f"{name}: int8 throughout loses {whole} {unit}, and {loss} with these layers and what "
            f"reads them in float (what each would cost in int8): {each}."
        )
    if not entry["within"]:
        yield (
            f"{name} loses {loss} {unit}, more than {bound}, and no layers in float were found "
            "that bring it below."
        )
