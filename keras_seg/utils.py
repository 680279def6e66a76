"""Small things that every part needs: helpful errors, and files that are whole or not there."""

import contextlib
import dataclasses
import difflib
import hashlib
import importlib.metadata
import io
import json
import numbers
import os
import pathlib
import platform
import shutil
import sys
import tempfile
import warnings

import numpy as np


def unknown_name(kind, name, names):
    """A ValueError, for the caller to raise, that offers the nearest of the known `names`."""
    names = sorted(names)
    lower = {known.lower(): known for known in names}
    near = [lower[n] for n in difflib.get_close_matches(str(name).lower(), lower, n=3, cutoff=0.5)]
    guess = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return ValueError(f"Unknown {kind} {name!r}.{guess} Known: {', '.join(names)}.")


def is_count(value, least=1):
    """Whether `value` is a whole number (of Python or NumPy, no bool) of at least `least`."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= least


def check_counts(least=1, **arguments):
    """Raise ValueError, with the argument's name, for the first that is no such whole number."""
    for name, value in arguments.items():
        if not is_count(value, least):
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")


def counts(name, values, length=None):
    """The argument `name` as a tuple of whole numbers of at least 1, `length` of them if given.

    Raises ValueError for anything else, as one number where several are meant, or none at all.
    """
    found = tuple(values) if isinstance(values, list | tuple) else ()
    if not found or not all(map(is_count, found)) or length not in (None, len(found)):
        wanted = "whole numbers" if length is None else f"{length} whole numbers"
        raise ValueError(
            f"{name} must be a list or tuple of {wanted} of at least 1, got {values!r}."
        )
    return tuple(map(int, found))


@contextlib.contextmanager
def atomic_path(path):
    """Give a temporary path beside `path`; on success it becomes `path`, on an error it goes.

    A file is flushed to the disk before the rename, so that after a crash `path` is either the
    old file or the whole new one. The temporary name keeps the suffix (Keras reads the format
    from it) and starts with `.partial-`. A folder may be written as well; an old folder at `path`
    is then replaced.
    """
    path = pathlib.Path(path)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        temporary = pathlib.Path(folder) / path.name
        yield temporary
        if temporary.is_dir():
            _replace_folder(temporary, path)
            return
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    _sync_folder(path.parent)


def _replace_folder(new, path):
    """Put the folder `new` at `path`. No system swaps folders in one step: the old waits aside."""
    if not path.exists():
        os.replace(new, path)
        return
    aside = new.with_name(new.name + ".old")
    os.replace(path, aside)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(aside, path)
        raise
    shutil.rmtree(aside)


def _sync_folder(folder):
    """Make a rename inside `folder` survive a power cut (not possible on Windows, nor needed)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path, value):
    """Write `value` as JSON, whole or not at all. NumPy values are accepted; NaN becomes null."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(plain(value), indent=2, allow_nan=False) + "\n", "utf-8")


def plain(value):
    """`value` in what JSON has: NumPy values as Python's, NaN and infinities as None."""
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, pathlib.Path):
        return str(value)
    return value


def read_json(path):
    """The value in a JSON file. Raises ValueError, naming it, when it is missing or damaged."""
    try:
        return json.loads(pathlib.Path(path).read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error


def writable_folder(path):
    """Make the folder `path` and prove that it can be written in, or raise ValueError."""
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"keras_seg")
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"Cannot write in {path}: {reason}. Give a folder that you may write in."
        ) from error
    return path


def sha256(path, leave_out=None):
    """Hexadecimal SHA-256 of a file, or of a folder's file names and contents in sorted order.

    leave_out: the name of a folder in the folder that does not count.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        total = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            name = file.relative_to(path)
            if name.parts[0] != leave_out:
                total.update(name.as_posix().encode())
                total.update(sha256(file).encode())
        return total.hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions():
    """{"python": ..., "keras_seg": ..., ...}: what a file was made with, for its manifest."""
    import keras

    found = {"python": platform.python_version(), "backend": keras.backend.backend()}
    for package in ("keras-seg", "keras", "tensorflow", "jax", "torch", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package.replace("-", "_")] = importlib.metadata.version(package)
    return found


@contextlib.contextmanager
def silence():
    """Keep what Python and C++ code print from the terminal; yields a function that returns it.

    Works on the process's own output and error streams, so other threads are silent too.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file, contextlib.ExitStack() as stack:
        for stream in (1, 2):
            kept = os.dup(stream)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, stream)
            os.dup2(file.fileno(), stream)
        printed = io.StringIO()
        stack.enter_context(contextlib.redirect_stdout(printed))
        stack.enter_context(contextlib.redirect_stderr(printed))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")

        def text():
            file.seek(0)
            return file.read().decode(errors="replace") + printed.getvalue()

        yield text
