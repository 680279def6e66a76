"""What the scripts in `recipes/` share: their options, and the files and scores at the end."""

import argparse
import pathlib

from keras_seg import inference, utils
from keras_seg.export import export


def options(description, *, folder, epochs, data, switches=None, numbers=None, arguments=None):
    """Parse a recipe's command line.

    Args:
        description: the recipe's docstring, shown by `--help`.
        folder: default of `--folder`, where the run goes.
        epochs: default of `--epochs`, the paper's.
        data: what `--data-dir` must hold, in a few words.
        switches: {"--name": its help}, what else the recipe can do.
        numbers: {"--name": (default, its help)}, whole numbers such as the epochs of later stages,
            which are 1 with `--smoke`.
        arguments: list of strings, or None for the command line.

    Returns:
        Namespace with data_dir, folder, epochs, smoke, resume, export, the switches and numbers.
        With `--smoke`, data_dir is None, epochs 1, and the folder has `-smoke` at its end.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", metavar="FOLDER", help=data)
    parser.add_argument("--folder", default=folder, help=f"the run's folder ({folder})")
    parser.add_argument("--epochs", type=int, default=epochs, help=f"({epochs})")
    parser.add_argument(
        "--smoke", action="store_true", help="a run of seconds on made-up pictures, to see it work"
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on where an interrupted run in the folder stopped (the default)",
    )
    parser.add_argument(
        "--export", action="store_true", help="export every format at the end and score each file"
    )
    for name, text in (switches or {}).items():
        parser.add_argument(name, action="store_true", help=text)
    for name, (default, text) in (numbers or {}).items():
        parser.add_argument(name, type=int, default=default, help=f"{text} ({default})")
    chosen = parser.parse_args(arguments)
    if chosen.smoke:
        for name in numbers or {}:
            setattr(chosen, name.lstrip("-").replace("-", "_"), 1)
        chosen.data_dir, chosen.epochs, chosen.folder = None, 1, f"{chosen.folder}-smoke"
    elif not chosen.data_dir:
        parser.error(f"--data-dir is needed: {data}. Or --smoke for a run on made-up pictures.")
    return chosen


def export_and_score(result, train_data, val_data, size, *, calibration=64, **procedure):
    """Export a finished run in every format and score each file on all of `val_data`.

    Writes `files/` and `scores.json` into the run's folder and prints one row a file.

    Args:
        result: what `training.train` returned.
        train_data: data set whose images set the int8 scales.
        val_data: labelled data set that every file is scored on.
        size: (H, W) of the exported files.
        calibration: number of images of `train_data` that set the scales.
        **procedure: of `inference.evaluate`, such as `mode="slide"`: the same for every file.

    Returns:
        dict file name -> scores, the Keras model's under "keras".
    """
    folder = pathlib.Path(result.folder)
    count = min(calibration, len(train_data))
    samples = [val_data[i] for i in range(min(16, len(val_data)))]
    report = export(
        folder,
        folder / "files",
        size=size,
        calibration=[train_data[i * len(train_data) // count].image for i in range(count)],
        images=[sample.image for sample in samples],
        labels=[sample.label for sample in samples],
    )
    print(report)
    paths = {"keras": folder} | {path.name: path for path in report.files}
    scores = {}
    for name, path in paths.items():
        scores[name] = inference.evaluate(inference.Predictor(path), val_data, **procedure)
        print(f"{name:24} mean IoU {scores[name]['mean_iou']:.4f}", flush=True)
    utils.write_json(folder / "scores.json", scores)
    return scores
