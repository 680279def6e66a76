"""Weights of a finished run as a published file with its card, scored as they are published.

    python benchmarks/publish_weights.py runs/unet_nuclei --name nuclei --model UNet \\
        --options '{"filters": 8}' --data dsb2018 --layout instances --held-out 0.2 \\
        --on "a random fifth of DSB 2018" --use "Any: the pictures are CC0." \\
        --data-name "Data Science Bowl 2018, stage 1" --licence CC0-1.0 \\
        --objects --int8 256 256 --output keras_seg/weights/files
    python benchmarks/publish_weights.py runs/fc_densenet_camvid --name camvid \\
        --model FCDenseNet56 --data camvid --layout camvid --split test --on "CamVid's test set" \\
        --measure-statistics 122 --use "Research only, as the pictures." --output assets

The weights are rounded to float16, so the scores in the card are not the run's: the network is
built again from the file and scored on the labelled pictures, whole, one scale. With --int8 there
is a TFLite file of that size too; it and the network are scored by the same sliding window. With
--measure-statistics N those of batch normalisation are measured first, on N training pictures, for
a run that did not do so itself.
"""

import argparse
import json
import pathlib
import tempfile

from keras_seg import data, export, inference, models, recipe, training, weights
from keras_seg.utils import read_json

MEANS = ("mean_iou", "pixel_accuracy", "mean_accuracy")
CALIBRATION = 64  # pictures of the training set that set the ranges of int8


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder of the run; its best epoch is published")
    parser.add_argument("--name", required=True, help="what builders call the weights")
    parser.add_argument("--model", required=True, help="name of the builder")
    parser.add_argument("--options", type=json.loads, default={}, help="of the builder, as JSON")
    parser.add_argument("--data", required=True, help="folder of the pictures to score on")
    parser.add_argument("--layout", required=True, help="of that folder")
    parser.add_argument("--split", help="of the data set")
    parser.add_argument("--held-out", type=float, help="share that the run held out of it")
    parser.add_argument("--on", required=True, help="what the pictures are, in words")
    parser.add_argument("--use", required=True, help="what the weights may be used for")
    parser.add_argument("--how", help="they were trained, where the run is not all of it")
    parser.add_argument("--data-name", help="of what the run was trained on (what its run says)")
    parser.add_argument("--licence", help="of that data, likewise")
    parser.add_argument("--measure-statistics", type=int, metavar="N", help="on training pictures")
    parser.add_argument("--objects", action="store_true", help="score objects as DSB 2018 as well")
    parser.add_argument("--int8", nargs=2, type=int, metavar=("H", "W"), help="also a TFLite file")
    parser.add_argument("--output", required=True, help="folder of the files")
    options = parser.parse_args()

    run = read_json(pathlib.Path(options.run) / "manifest.json")
    origin = {
        "name": options.data_name or run["data"]["name"],
        "licence": options.licence or run["data"]["licence"],
    }
    table = data.LabelTable.from_json(run["classes"])
    dataset = train_data = data.open_dataset(options.data, options.split, layout=options.layout)
    if options.held_out:
        train_data, dataset = dataset.split(options.held_out)
    best = pathlib.Path(options.run) / "best.keras"
    model = models.build(options.model, table.num_classes, weights=best, **options.options)
    if options.measure_statistics:
        if not options.held_out:
            train_data = data.open_dataset(options.data, "train", layout=options.layout)
        count = min(options.measure_statistics, len(train_data))
        chosen = [index * len(train_data) // count for index in range(count)]
        training.estimate_statistics(model, (train_data[i].image[None] for i in chosen))
    card = {
        "model": options.model,
        "num_classes": table.num_classes,
        "options": options.options,
        "classes": run["classes"],
        "data": origin,
        "use": options.use,
        "trained": {  # the script without its folders, which say nothing elsewhere
            "by": pathlib.Path(run["command"][0]).name,
            "epoch": run["best"]["epoch"],
            "seed": run["seed"],
            **({"how": options.how} if options.how else {}),
        },
    }
    published = weights.publish(model, options.output, options.name, **card, scores={})
    model = models.build(options.model, table.num_classes, weights=published, **options.options)
    found = inference.evaluate(inference.Predictor(model, table=table), dataset)
    scores = {"on": options.on, "pictures": len(dataset)} | {n: float(found[n]) for n in MEANS}
    scores["iou"] = dict(zip(table.names, map(float, found["iou"]), strict=True))
    print(inference.format_scores(found))
    with tempfile.TemporaryDirectory() as folder:
        if options.objects:
            objects = recipe.score_objects(model, dataset, folder)
            scores["objects"] = {
                "score": objects["score"],
                "at IoU 0.5": objects["by_threshold"][0],
            }
        tflite = None
        if options.int8:
            tflite = write_int8(
                model, pathlib.Path(folder), table, origin, train_data, dataset, options
            )
        weights.publish(model, options.output, options.name, **card, scores=scores, tflite=tflite)
    print(f"{published}: {published.stat().st_size / 1e6:.2f} MB")


def write_int8(model, folder, table, origin, train_data, dataset, options):
    """Write NAME_int8.tflite; returns what the card says of it."""
    count = min(CALIBRATION, len(train_data))
    samples = [dataset[i] for i in range(min(16, len(dataset)))]
    report = export.export(
        model,
        folder / "files",
        formats=("tflite",),
        quantize=("int8",),
        size=options.int8,
        calibration=[train_data[i * len(train_data) // count].image for i in range(count)],
        images=[sample.image for sample in samples],
        labels=[sample.label for sample in samples],
        table=table,
        data_name=origin["name"],
        licence=origin["licence"],
    )
    print(report)
    file = pathlib.Path(options.output) / f"{options.name}_int8.tflite"
    file.write_bytes((folder / "files" / "model_int8.tflite").read_bytes())
    found = {}
    for name, network in (("int8", file), ("float32", model)):
        predictor = inference.Predictor(network, table=table)
        scores = inference.evaluate(predictor, dataset, mode="slide", window=options.int8)
        found[name] = {mean: float(scores[mean]) for mean in MEANS}
        print(f"{name}, by windows: mean IoU {scores['mean_iou']:.4f}")
    return {"file": file.name, "size": options.int8, "scores by windows": found}


if __name__ == "__main__":
    main()
