"""The folder of one training run: who holds it, and what its manifest says."""

import contextlib
import errno
import os
import shutil
import socket

from keras_seg.training.checkpoint import BEST, LAST, PREVIOUS
from keras_seg.utils import read_json, versions, writable_folder, write_json

MANIFEST = "manifest.json"
HISTORY = "history.csv"
METRICS = "metrics.json"
LOCK = ".lock"
LOGS = "logs"
PREVIEWS = "previews"
OURS = (LAST, PREVIOUS, BEST, MANIFEST, HISTORY, METRICS, LOGS, PREVIEWS)
# What a disk says that is full, over its quota, or has become read-only.
REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextlib.contextmanager
def held(path):
    """Make the folder `path`, prove that it can be written in, and hold it against other runs.

    The system drops the lock when its process ends, however it ends, so a lock file that a killed
    run left behind does not stand in the way. Its text (process id, machine) is for the reader.

    Raises:
        ValueError: if the folder cannot be written in or another run holds it; also for a disk that
            becomes full, or can no longer be written on, while it is held.
    """
    new = not os.path.exists(path)
    folder = writable_folder(path)
    with open(folder / LOCK, "a+", encoding="utf-8") as file:
        if not _lock(file):
            file.seek(0)
            raise ValueError(
                f"{folder} is in use by another run ({file.read().strip() or 'just started'}). "
                "Wait for it, stop it, or give another folder."
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        for left_over in folder.glob(".partial-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        try:
            yield folder
        except BaseException as error:
            if new:
                _remove_if_empty(folder)
            if isinstance(error, OSError) and error.errno in REFUSED:
                raise ValueError(
                    f"Cannot write in {folder}: {error.strerror}. The last checkpoint, if there is "
                    "one, is untouched: make room, then give the same command to go on from it."
                ) from error
            raise


def _remove_if_empty(folder):
    """Remove a folder that holds nothing but our lock, where the system allows it."""
    if os.listdir(folder) == [LOCK]:
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
            folder.rmdir()


def _lock(file):
    """Lock an open file for this process, without waiting. False if another holds it."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system without locks (some network shares) must not keep anyone from training.
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


def start(folder, settings, *, resume, overwrite):
    """Settle what `folder` holds before a run, and return its manifest, or {} for a new run.

    A run that stopped before its first checkpoint has nothing to lose: after a mistake in the
    settings or the data the corrected command starts anew in its folder.

    Args:
        folder: a held folder.
        settings: what the run is started with; on resume all but "epochs" must be as they were.
        resume: go on with the run in the folder. If False the folder must not hold a run.
        overwrite: delete the run in the folder first.

    Raises:
        ValueError: for a folder with a run when `resume` is False; for one that holds something
            else under our names; for other settings than the run was started with.
    """
    if overwrite:
        for name in OURS:
            path = folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return {}
    present = [name for name in OURS if (folder / name).exists()]
    if not present:
        return {}
    if MANIFEST not in present:
        raise ValueError(
            f"{folder} holds {', '.join(present)} but no {MANIFEST}: it is not a run that can be "
            "continued. Give another folder, or overwrite=True to delete these files."
        )
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("kind") != "run":
        raise ValueError(
            f"{folder / MANIFEST} does not describe a training run. Give another folder."
        )
    if not resume:
        raise ValueError(
            f"{folder} already holds a run ({manifest.get('state')}, {manifest.get('epoch')} "
            "epochs). Use resume=True to go on with it, another folder, or overwrite=True "
            "(--overwrite) to delete it."
        )
    if not {LAST, PREVIOUS, BEST}.intersection(present):
        return {}
    _check_same(folder, manifest.get("settings", {}), settings)
    return manifest


def _check_same(folder, before, now):
    """Raise ValueError naming every setting that differs from the run's, "epochs" excepted."""
    different = [
        f"{key}: {before.get(key)!r} before, {now.get(key)!r} now"
        for key in sorted({*before, *now} - {"epochs"})
        if _unnamed(before.get(key)) != _unnamed(now.get(key))
    ]
    if different:
        raise ValueError(
            f"{folder} holds a run that was started differently ({'; '.join(different)}). Give "
            "the same arguments to go on with it, another folder, or overwrite=True (--overwrite) "
            "to delete it."
        )


def _unnamed(setting):
    """A setting without the name that Keras gives each object: the second "SGD" is "sgd_1"."""
    if isinstance(setting, dict) and "class" in setting:
        return {key: value for key, value in setting.items() if key != "name"}
    return setting


class Manifest:
    """`manifest.json` of a run; every change is written at once, atomically."""

    def __init__(self, folder, **entries):
        self.path = folder / MANIFEST
        self.entries = {"keras_seg_manifest": 1, "kind": "run", "versions": versions()}
        self.update(**entries)

    def update(self, **entries):
        self.entries |= entries
        write_json(self.path, self.entries)
