"""The curves of training runs as a picture: loss and mean IoU, by epoch, one run after the other.

    pip install 'keras-seg[viz]'
    python benchmarks/plot_history.py runs/camvid-crops runs/camvid --output curves.png

Each run is a folder of `keras_seg.training.train`, with its history.csv; runs of which each began
from the weights of the one before, such as stages, are put behind each other.
"""

import argparse
import csv
import pathlib

from keras_seg.inference.plots import require_matplotlib
from keras_seg.training.folder import HISTORY

NAMES = {"loss": "loss", "mean_iou": "mean IoU"}


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders, in their order")
    parser.add_argument("--output", required=True, metavar="FILE", help="the picture, PNG or SVG")
    options = parser.parse_args(arguments)
    require_matplotlib()
    from matplotlib.figure import Figure

    epochs = [read(run) for run in options.runs]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, 2), NAMES.items(), strict=True):
        for kind, prefix, marker in (("training", "", ""), ("validation", "val_", "o")):
            points = [
                (number, float(row[prefix + name]))
                for number, row in enumerate(sum(epochs, []), start=1)
                if row.get(prefix + name)
            ]
            if points:
                axes.plot(*zip(*points, strict=True), marker=marker, label=kind)
        for end in range(1, len(epochs)):
            axes.axvline(sum(map(len, epochs[:end])) + 0.5, color="grey", linestyle=":")
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(options.output, dpi=100)
    print(options.output)


def read(run):
    """The rows of a run's history."""
    path = pathlib.Path(run, HISTORY)
    if not path.is_file():
        raise SystemExit(f"There is no {path}: give the folder of a run.")
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
