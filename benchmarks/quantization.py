"""What eight bits cost a trained network: every precision on held-out images.

    python benchmarks/quantization.py runs/drive --data DRIVE --layout drive --split training \\
        --calibrate 0:15 --score 15:20 --size 576 560
    python benchmarks/quantization.py runs/camvid --data CAMVID --layout camvid \\
        --calibrate 0:367:4 --split train --score 0:101:5 --score-split val --size 360 480

Rows: each file of `keras_seg.export` without fallback, and "int8, unprepared": the network handed
to the converter as it is, without folding and equalisation. Dice is the mean over the classes of
2 TP / (2 TP + FP + FN) of all images together. `--fallback` also tries layers in float.
"""

import argparse
import pathlib
import tempfile

import numpy as np

from keras_seg import data
from keras_seg.export import export, parity, tflite
from keras_seg.export.graph import StaticGraph
from keras_seg.export.pictures import Pictures
from keras_seg.inference import load_runner

PRECISIONS = ("float16", "dynamic", "int8", "int16x8", "uint8", "qdq")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="run folder or .keras file")
    parser.add_argument("--data", required=True, metavar="FOLDER")
    parser.add_argument("--layout", default="auto", help="of the data (found out)")
    parser.add_argument("--split", help="that of the calibration images")
    parser.add_argument("--score-split", help="that of the images to score on (the same)")
    parser.add_argument("--calibrate", type=span, required=True, metavar="FROM:TO[:STEP]")
    parser.add_argument("--score", type=span, required=True, metavar="FROM:TO[:STEP]")
    parser.add_argument("--size", nargs=2, type=int, required=True, metavar=("H", "W"))
    parser.add_argument("--quantize", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--output", default="logits", choices=("logits", "labels"))
    parser.add_argument("--fallback", action="store_true")
    options = parser.parse_args()

    calibration = part(options, options.split, options.calibrate)
    images = part(options, options.score_split or options.split, options.score)
    print(f"calibrated on {len(calibration)} images, scored on {len(images)}")
    size = tuple(options.size)
    with tempfile.TemporaryDirectory() as folder:
        report = export(
            options.model,
            pathlib.Path(folder, "files"),
            formats=("tflite", "onnx"),
            size=size,
            quantize=options.quantize,
            calibration=calibration,
            images=images,
            output=options.output,
            fallback=options.fallback,
            bounds=None,
        )
        rows = {row["file"]: row for row in report.rows}
        rows["int8, unprepared"] = unprepared(options.model, size, calibration, images, folder)
        sizes = {name: entry["bytes"] / 1e6 for name, entry in report.manifest["files"].items()}
    print("| file | MB | mean IoU | change | Dice | change | same label |")
    print("|---|---|---|---|---|---|---|")
    first = rows["keras"]
    for name, row in rows.items():
        size = f"{sizes[name]:.2f}" if name in sizes else ""
        same = "" if row["agreement"] is None else f"{row['agreement']:.3%}"
        iou, change = row["mean_iou"], row["mean_iou"] - first["mean_iou"]
        print(
            f"| {name} | {size} | {iou:.4f} | {change:+.4f} | {dice(row):.4f} | "
            f"{dice(row) - dice(first):+.4f} | {same} |"
        )
    for sentence in report.warnings:
        print(sentence)


def span(text):
    return slice(*(int(n) for n in text.split(":")))


def part(options, split, indices):
    dataset = data.open_dataset(options.data, split, layout=options.layout)
    return dataset.subset(range(len(dataset))[indices])


def unprepared(model, size, calibration, images, folder):
    """The row of an int8 file of the network as it is."""
    runner = load_runner(model)
    graph = StaticGraph(runner.model, size, runner.channels, "logits")
    path = pathlib.Path(folder, "unprepared.tflite")
    pictures = Pictures(calibration, size, runner.channels, "calibration")
    tflite.write(graph, path, "int8", pictures.spread(200))
    return parity.compare(
        graph,
        {"int8": (path, "int8")},
        Pictures(images, size, runner.channels, "images"),
        num_classes=runner.num_classes,
        ignore_label=images.table.ignore_label,
        tie=0.01,
    )[1]


def dice(row):
    """Dice = 2 IoU / (1 + IoU), class by class, of the classes that there are."""
    iou = np.array([np.nan if value is None else value for value in row["iou"]], float)
    return float(np.nanmean(2 * iou / (1 + iou)))


if __name__ == "__main__":
    main()
