"""What adversarial.py and semi_supervised.py share: a small U-Net on CamVid, ways and seeds.

A way of training is a dict of arguments of `keras_seg.training.train`. Each run has its folder, in
which an interrupted one goes on, and one line of results.jsonl when it is done; a run with a line
is not done again.
"""

import argparse
import json
import pathlib

import keras
import numpy as np

from keras_seg import data, models, training
from keras_seg.utils import unknown_name

SIZE = (192, 256)
SCALE = 8 / 15  # of 360 x 480
SETTINGS = ("epochs", "batch_size", "filters", "learning_rate", "smoke")


def parse(description, folder, ways, arguments=None, numbers=None):
    """The command line: data, folder, which ways and seeds, and the budget of a run.

    Args:
        numbers: {option: (default, help)} of more whole numbers that belong to the budget.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", metavar="FOLDER", help="CamVid as SegNet's authors have it")
    parser.add_argument("--folder", default=folder, help=f"of the runs ({folder})")
    parser.add_argument("--ways", nargs="+", default=[*ways], metavar="WAY", help=", ".join(ways))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--filters", type=int, default=16, help="of the U-Net's first stage (16)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="of Adam, poly (2e-3)")
    parser.add_argument("--smoke", action="store_true", help="made-up pictures, to see it work")
    for option, (default, text) in (numbers or {}).items():
        parser.add_argument(option, type=int, default=default, help=f"{text} ({default})")
    options = parser.parse_args(arguments)
    options.settings = [*SETTINGS, *(o.strip("-").replace("-", "_") for o in numbers or ())]
    for name in options.ways:
        if name not in ways:
            raise unknown_name("way", name, ways)
    if options.smoke:
        options.folder, options.epochs, options.seeds = f"{options.folder}-smoke", 1, [0, 1]
        options.batch_size, options.filters = 2, 2
    elif not options.data_dir:
        parser.error("--data-dir is needed. Or --smoke for made-up pictures.")
    return options


def open_data(options):
    """CamVid's train and val at 192 x 256, in memory."""
    root = options.data_dir
    if options.smoke:
        root = pathlib.Path(f"{options.folder}-data")
        if not root.exists():
            data.write_layout("camvid", root, {"train": 4, "val": 2}, (60, 120))
    splits = (data.open_dataset(root, split, layout="camvid") for split in ("train", "val"))
    return [split.scaled(SCALE).cached() for split in splits]


def crop(options):
    """(H, W) of the training crops."""
    return (32, 64) if options.smoke else SIZE


def compare(options, ways, val_data):
    """Do the runs that are missing, in turns over the seeds, and print the table.

    Args:
        options: what `parse` returned.
        ways: function from a seed to {name: arguments of `training.train`, "train_data" too}.
        val_data: labelled data set that scores.
    """
    file = pathlib.Path(options.folder, "results.jsonl")
    file.parent.mkdir(parents=True, exist_ok=True)
    settings = {name: getattr(options, name) for name in options.settings}
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for row in rows:
        if row["settings"] != settings:
            raise ValueError(f"{file} has {row['settings']}: give another --folder.")
    for seed in options.seeds:
        for name in options.ways:
            if any((row["way"], row["seed"]) == (name, seed) for row in rows):
                continue
            rows.append(
                run(name, seed, ways(seed)[name], val_data, options) | {"settings": settings}
            )
            with open(file, "a", encoding="utf-8") as lines:
                lines.write(json.dumps(rows[-1]) + "\n")
            print(f"{name} seed {seed}: mean IoU {rows[-1]['mean_iou']:.4f}", flush=True)
    print(table(rows, options.ways), flush=True)


def run(name, seed, way, val_data, options):
    """Train one network; a dict for JSON."""
    keras.backend.clear_session()
    classes = val_data.table.num_classes
    result = training.train(
        lambda: models.UNet(classes, filters=options.filters),
        val_data=val_data,
        folder=pathlib.Path(options.folder, f"{name.replace(' ', '_')}_{seed}"),
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=seed,
        previews=0,
        tensorboard=False,
        verbose=2,
        **way,
    )
    last = result.history[-1]
    return {
        "way": name,
        "seed": seed,
        "mean_iou": last["val_mean_iou"],
        "best_mean_iou": result.best_score,
        "seconds": sum(row["seconds"] for row in result.history),
        "last_epoch": last,
    }


def table(rows, ways):
    """Mean and sample standard deviation over the seeds, in Markdown."""
    lines = [
        "| way | seeds | mean IoU on val, last epoch | of the best epoch | minutes a run |",
        "|---|---|---|---|---|",
    ]
    for name in ways:
        runs = [row for row in rows if row["way"] == name]
        cells = []
        for score in ("mean_iou", "best_mean_iou"):
            values = np.array([row[score] for row in runs])
            spread = f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.4f}{spread}")
        minutes = np.mean([row["seconds"] for row in runs]) / 60
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} | {minutes:.1f} |")
    return "\n".join(lines)
