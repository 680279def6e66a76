"""Checkpoints that survive a kill at any moment: weights, optimizer and progress in one file."""

import json
import os
import pathlib
import shutil
import tempfile
import warnings
import zipfile

from keras_seg.training.optimizers import averaged, averages, exchange_averages
from keras_seg.utils import atomic_path

LAST = "last.keras"
PREVIOUS = "last.previous.keras"
BEST = "best.keras"
# Members of the .keras archive. Keras reads the members it knows and lets the others be.
PROGRESS = "keras_seg_progress.json"
ADVERSARY = "keras_seg_adversary.weights.h5"
MEASURED = "keras_seg_measured_statistics"  # empty: it is there or not


def save_checkpoint(model, folder, progress, *, best, adversary=None):
    """Write `last.keras`, keeping the former one as `last.previous.keras`, and maybe `best.keras`.

    Each file is whole or absent at every moment, and once the first is written one is always there.

    Args:
        model: compiled model, its optimizer built.
        folder: run folder.
        progress: JSON-able dict with at least "epoch", the number of finished epochs.
        best: whether this state is the best so far, and goes into `best.keras` too.
        adversary: compiled model that `model` is trained against, for the next `load_checkpoint`;
            who opens the file as a Keras model does not see it.

    Raises:
        ValueError: if the disk refuses; the former files are as they were.
    """
    folder = pathlib.Path(folder)
    try:
        with atomic_path(folder / LAST) as temporary:
            _write(model, temporary, progress, adversary)
            if (folder / LAST).exists():
                os.replace(folder / LAST, folder / PREVIOUS)
        if best:
            save_best(model, folder, progress, LAST, adversary)
    except OSError as error:
        raise ValueError(
            f"Cannot write a checkpoint in {folder}: {error.strerror or error}. The former one is "
            "untouched: make room, then give the same command to go on from it."
        ) from error


def _write(model, path, progress, adversary):
    model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        if adversary is not None:
            weights = path.with_name(ADVERSARY)
            adversary.save_weights(weights)
            archive.write(weights, ADVERSARY)
        archive.writestr(PROGRESS, json.dumps(progress))


def save_best(model, folder, progress, name, adversary=None):
    """Make `best.keras` of the model, whose state the checkpoint `name` holds.

    A copy of it (no link: damage must not spread). Where the optimizer keeps averages of the
    weights, these are the weights in `best.keras`, and the weights lie in the optimizer.
    """
    folder = pathlib.Path(folder)
    with atomic_path(folder / BEST) as temporary:
        if averages(model.optimizer):
            with averaged(model):
                _write(model, temporary, progress, adversary)
        else:
            shutil.copyfile(folder / name, temporary)


def save_measured(model, folder, adversary=None):
    """Write `best.keras` again, its statistics of batch normalisation measured since.

    Args:
        model: loaded from that file, all else as it was there.
        folder: run folder.
        adversary: as for `save_checkpoint`.
    """
    path = pathlib.Path(folder) / BEST
    progress = read_progress(path)
    with atomic_path(path) as temporary:
        _write(model, temporary, progress, adversary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(MEASURED, "")


def is_measured(path):
    """Whether a checkpoint was written by `save_measured`."""
    with zipfile.ZipFile(path) as archive:
        return MEASURED in archive.namelist()


def read_progress(path):
    """The progress stored in a checkpoint whose every byte was checked (CRC-32 of each member).

    Raises:
        ValueError: if the file is missing, damaged, or was not written by `save_checkpoint`.
    """
    path = pathlib.Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(f"checksum of {damaged}")
            if PROGRESS not in archive.namelist():
                raise ValueError(
                    f"{path} is a Keras model but no checkpoint of keras_seg.training: it does "
                    "not say which epoch it belongs to."
                )
            return json.loads(archive.read(PROGRESS))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist.") from None
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise ValueError(
            f"{path} is damaged ({path.stat().st_size} bytes): {error}. Delete it to go on "
            "without it."
        ) from error


def load_checkpoint(model, path, adversary=None):
    """Put weights and optimizer state of a checkpoint into `model`; return the progress.

    Args:
        model: compiled as the one that was saved, its optimizer built.
        path: a file of `save_checkpoint`.
        adversary: None, or the same of the model that was saved as `adversary`.

    Raises:
        ValueError: as `read_progress`, and if the weights or the optimizer do not fit.
    """
    progress = read_progress(path)
    with warnings.catch_warnings():
        # Keras only warns when the optimizer's state is skipped.
        warnings.simplefilter("error", UserWarning)
        try:
            model.load_weights(path)
            if adversary is not None:
                with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
                    adversary.load_weights(archive.extract(ADVERSARY, folder))
        except (ValueError, UserWarning, KeyError) as error:
            # What follows in Keras' message is the whole variable, digit by digit.
            reason = " ".join(str(error).split("Target variable:")[0].split())
            raise ValueError(
                f"{path} does not fit the network that is to go on training: {reason} Give the "
                "arguments that the run was started with, or another folder."
            ) from error
    return progress


def resume_from(model, path, adversary=None):
    """`load_checkpoint` to go on training: the weights stand in the model, also from `best.keras`.

    Raises:
        ValueError: as `load_checkpoint`.
    """
    progress = load_checkpoint(model, path, adversary)
    if pathlib.Path(path).name == BEST:
        exchange_averages(model)
    return progress


def newest_checkpoint(folder):
    """(file name, progress, what is wrong with the others) of the furthest whole checkpoint.

    (None, None, problems) if there is none. Torn files are what a full disk or a copied folder
    leaves; a kill does not.
    """
    found, problems = (None, None), []
    for name in (LAST, PREVIOUS, BEST):
        path = pathlib.Path(folder) / name
        if not path.exists():
            continue
        try:
            progress = read_progress(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        if found[0] is None or progress["epoch"] > found[1]["epoch"]:
            found = (name, progress)
    return *found, problems
