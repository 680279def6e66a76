"""What readers and importers share: bounds, damage, and one message for all that misfits."""

import lzma
import os
import pathlib
import zipfile
import zlib

import keras
import numpy as np

# No network here comes near; a file that claims more is damaged or made to fill the memory.
MAX_BYTES = 4 * 2**30

# What a damaged archive or HDF5 file makes its reader raise.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    UnicodeDecodeError,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)


def as_path(path, what):
    """`path` as a `pathlib.Path`, which should be that of `what`; ValueError if it is no path."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise ValueError(f"Expected the path of {what}, got {path!r}.")
    return pathlib.Path(path)


def check_size(path, sizes, max_bytes):
    """Raise ValueError if the sizes add up to more than `max_bytes`."""
    total = sum(sizes)
    if total > max_bytes:
        raise ValueError(f"{path} holds {total} bytes; at most {max_bytes} are read.")


def layers_with_weights(model):
    """{name: layer} of every layer that holds weights, inner models opened.

    Raises:
        ValueError: if two layers have one name, for then a name does not say which is meant.
    """
    found = {}
    for layer in _open(model):
        if not layer.weights:
            continue
        if found.setdefault(layer.name, layer) is not layer:
            raise ValueError(f"{model.name} has two layers named {layer.name!r}; rename one.")
    return found


def _open(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _open(layer)
        else:
            yield layer


def first_ten(names):
    """ "a, b, c and 4 more": enough of a list to see what is wrong."""
    names = list(names)
    rest = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(str(name) for name in names[:10]) + rest


def numeric(array):
    """Whether the array holds real numbers, and not text, objects, dates or complex numbers."""
    return array.dtype.kind in "fiub" or array.dtype.name == "bfloat16"


def finite(array):
    """Whether every number of a floating array is finite as float32; True for other types."""
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        return True
    with np.errstate(over="ignore"):  # of float64: 1e300 becomes infinity, which is no weight
        return bool(np.isfinite(array.astype("float32", copy=False)).all())


def raise_misfits(title, misfits):
    """Raise ValueError(title + one line a kind of misfit) unless every list in `misfits` is empty.

    `misfits` is {what is wrong: [names]}.
    """
    lines = [
        f"  {what} ({len(names)}): {first_ten(names)}" for what, names in misfits.items() if names
    ]
    if lines:
        raise ValueError("\n".join([title, *lines]))
