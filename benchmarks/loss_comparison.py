"""Which loss helps: one slim U-Net on the vessels of DRIVE, trained with one loss after another.

    python benchmarks/loss_comparison.py --data-dir DRIVE --folder runs/loss_comparison
    python benchmarks/loss_comparison.py --data-dir DRIVE --losses CE Dice --seeds 99 --steps 150

DRIVE is the folder that holds training/{images,1st_manual,mask} with the 20 training pictures; 14
of them train and 6 are held out. Pixels outside of the field of view do not count. All losses start
from the same weights and see the same batches, one set a seed. Dice and IoU are those of the class
vessel on the whole held-out pictures, from counts summed over them, with the weights after the
last step.

Every run leaves one JSON in the folder, and a run that has one is not done again: an interrupted
comparison goes on where it stopped. table.md and plot.png (needs matplotlib: pip install
"keras-seg[viz]") are made of all of them.
"""

import argparse
import pathlib
import time

import keras
import numpy as np
from PIL import Image

from keras_seg import losses, models
from keras_seg.data import Augment, LabelTable, NumpyBatches, SegmentationDataset, read_image
from keras_seg.inference import Predictor, evaluate
from keras_seg.utils import read_json, write_json

LOSSES = {
    "CE": losses.CrossEntropy,
    "Dice": losses.Dice,
    "IoU": losses.IoU,
    "Tversky": lambda: losses.Tversky(0.3, 0.7),  # false positives, false negatives
    "CE - log IoU": losses.CrossEntropyLogIoU,
    "0.1 CE + 0.9 Dice": losses.CrossEntropyDice,
    "Lovasz": losses.Lovasz,
}
HELD_OUT = 0.3
VESSEL = 1


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, metavar="FOLDER", help="of DRIVE")
    parser.add_argument("--folder", default="runs/loss_comparison", help="of the results")
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=[*LOSSES], metavar="LOSS")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=500, help="of training (500)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128, help="rows and columns (128)")
    parser.add_argument("--filters", type=int, default=8, help="of the first stage (8)")
    parser.add_argument("--learning-rate", type=float, default=1e-2, help="at the start (1e-2)")
    parser.add_argument("--threads", type=int, default=1, help="of TensorFlow (1)")
    options = parser.parse_args()
    limit_threads(options.threads)

    folder = pathlib.Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    train_data, val_data = drive(options.data_dir).cached().split(HELD_OUT, seed=0)
    for seed in options.seeds:
        for name in options.losses:
            file = folder / f"{name.replace(' ', '')}_{seed}.json"
            if not file.exists():
                write_json(file, run(name, seed, train_data, val_data, options))
            result = read_json(file)
            if result["settings"] != settings(options):
                parser.error(f"{file} has {result['settings']}: give another --folder.")
            scores = f"Dice {result['dice']:.4f}, IoU {result['iou']:.4f}"
            print(f"{name:18} seed {seed}: {scores}", flush=True)
    results = [read_json(file) for file in sorted(folder.glob("*_*.json"))]
    text = table(results)
    print(text)
    (folder / "table.md").write_text(text + "\n", "utf-8")
    plot(results, folder / "plot.png")


def settings(options):
    """What must be the same in all runs of a comparison."""
    names = ("steps", "batch_size", "crop", "filters", "learning_rate")
    return {name: getattr(options, name) for name in names}


def limit_threads(threads):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


class _Drive:
    """Source of a data set: the three folders of DRIVE, whose GIFs `read_mask` refuses."""

    def __init__(self, root):
        files = {
            name: sorted(path for path in (root / name).iterdir() if path.is_file())
            for name in ("images", "1st_manual", "mask")
        }
        numbers = {name: [path.name[:2] for path in paths] for name, paths in files.items()}
        if not numbers["images"] or len({tuple(n) for n in numbers.values()}) > 1:
            raise ValueError(f"{root}: images, 1st_manual and mask do not pair up: {numbers}.")
        self.image_paths, self.mask_paths, self.view_paths = files.values()

    def image(self, index):
        return read_image(self.image_paths[index])

    def label(self, index):
        vessel, view = (
            np.asarray(Image.open(paths[index]).convert("L")) > 127
            for paths in (self.mask_paths, self.view_paths)
        )
        return np.where(view, vessel, 255).astype("uint8")

    def both(self, index):
        return self.image(index), self.label(index)


def drive(root):
    """The 20 training pictures as a data set: 0 background, 1 vessel, 255 outside of the view."""
    source = _Drive(pathlib.Path(root) / "training")
    names = [path.stem for path in source.image_paths]
    return SegmentationDataset(source, LabelTable(["background", "vessel"]), names)


def run(name, seed, train_data, val_data, options):
    """Train one network and score it; a dict for JSON."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = models.UNet(2, filters=options.filters)
    rate = keras.optimizers.schedules.CosineDecay(options.learning_rate, options.steps)
    model.compile(keras.optimizers.Adam(rate), LOSSES[name]())
    augment = Augment(crop=options.crop, scale=(1.0, 1.0), vertical_flip=True)
    batches = NumpyBatches(
        train_data,
        options.batch_size,
        augment=augment,
        shuffle=True,
        seed=seed,
        drop_remainder=True,
        repeat=True,
        workers=0,
    )
    start = time.perf_counter()
    history = model.fit(batches, steps_per_epoch=options.steps, shuffle=False, verbose=0)
    seconds = time.perf_counter() - start
    scores = evaluate(Predictor(model), val_data, progress=False)
    return {
        "loss": name,
        "seed": seed,
        "dice": scores["f1"][VESSEL],
        "iou": scores["iou"][VESSEL],
        "precision": scores["precision"][VESSEL],
        "recall": scores["recall"][VESSEL],
        "mean_training_loss": history.history["loss"][0],
        "seconds": seconds,
        "settings": settings(options),
        "trained_on": train_data.names,
        "held_out": val_data.names,
    }


def by_loss(results):
    """{loss: its results} in the order of LOSSES."""
    found = {name: [r for r in results if r["loss"] == name] for name in LOSSES}
    return {name: runs for name, runs in found.items() if runs}


def table(results):
    """Mean and sample standard deviation over the seeds, in Markdown."""
    lines = ["| loss | seeds | Dice | IoU | precision | recall |", "|---|---|---|---|---|---|"]
    for name, runs in by_loss(results).items():
        cells = []
        for score in ("dice", "iou", "precision", "recall"):
            values = np.array([r[score] for r in runs])
            spread = f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.4f}{spread}")
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(results, path):
    """Every run as a dot, every mean as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = by_loss(results)
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 0.45 * len(groups) + 1.2), sharey=True)
    for axis, score, title in zip(axes, ("dice", "iou"), ("Dice", "IoU"), strict=True):
        for row, runs in enumerate(groups.values()):
            values = [r[score] for r in runs]
            axis.plot(values, [row] * len(values), "o", color="tab:blue", alpha=0.6)
            axis.plot([np.mean(values)] * 2, [row - 0.3, row + 0.3], color="black")
        axis.set_xlabel(f"{title} of the vessels, held-out pictures")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(groups)), groups)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
