"""Weights of a finished run as a published file with its card, scored as they are published.

    python benchmarks/publish_weights.py runs/unet_nuclei --name nuclei --model UNet \\
        --options '{"filters": 8}' --data dsb2018 --layout instances --held-out 0.2 \\
        --on "a random fifth of DSB 2018" --use "Any: the pictures are CC0." \\
        --output keras_seg/weights/files
    python benchmarks/publish_weights.py runs/fc_densenet_camvid --name camvid \\
        --model FCDenseNet56 --data camvid --layout camvid --split test --on "CamVid's test set" \\
        --use "Research only, as the pictures." --output assets

The weights are rounded to float16, so the scores in the card are not the run's: the network is
built again from the file and scored on the labelled pictures, whole, one scale.
"""

import argparse
import json
import pathlib

from keras_seg import data, inference, models, weights
from keras_seg.utils import read_json


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
    parser.add_argument("--output", required=True, help="folder of the two files")
    options = parser.parse_args()

    run = read_json(pathlib.Path(options.run) / "manifest.json")
    table = data.LabelTable.from_json(run["classes"])
    dataset = data.open_dataset(options.data, options.split, layout=options.layout)
    if options.held_out:
        dataset = dataset.split(options.held_out)[1]
    best = pathlib.Path(options.run) / "best.keras"
    model = models.build(options.model, table.num_classes, weights=best, **options.options)
    card = {
        "model": options.model,
        "num_classes": table.num_classes,
        "options": options.options,
        "classes": run["classes"],
        "data": run["data"],
        "use": options.use,
        "trained": {  # the script without its folders, which say nothing elsewhere
            "by": pathlib.Path(run["command"][0]).name,
            "epoch": run["best"]["epoch"],
            "seed": run["seed"],
        },
    }
    published = weights.publish(model, options.output, options.name, **card, scores={})
    model = models.build(options.model, table.num_classes, weights=published, **options.options)
    found = inference.evaluate(inference.Predictor(model, table=table), dataset)
    means = ("mean_iou", "pixel_accuracy", "mean_accuracy")
    scores = {"on": options.on, "pictures": len(dataset)} | {n: float(found[n]) for n in means}
    scores["iou"] = dict(zip(table.names, map(float, found["iou"]), strict=True))
    weights.publish(model, options.output, options.name, **card, scores=scores)
    print(inference.format_scores(found))
    print(f"{published}: {published.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
