"""MATLAB files through SciPy (up to version 7.2; those of 7.3 are HDF5)."""

import numpy as np

from keras_seg.utils import atomic_path, writable_folder


def read_mat(path, key):
    """The variable `key` of a .mat file, an array.

    Raises:
        ValueError: naming the file, if it is missing or damaged, is of version 7.3, has no such
            variable, or SciPy is not installed.
    """
    scipy_io = _scipy_io()
    try:
        values = scipy_io.loadmat(path, variable_names=[key])
        if key not in values:
            found = ", ".join(name for name, _, _ in scipy_io.whosmat(path)) or "nothing"
            raise ValueError(f"{path}: no variable {key!r}; it holds {found}.")
    except NotImplementedError as error:
        raise ValueError(f"{path}: a MATLAB 7.3 file. Save it again with -v7.") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # damage shows as many types of error
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: damaged, or not a MATLAB file ({error}).") from error
    return values[key]


def read_mat_ids(path, key, table):
    """A label map 0..K of a .mat file as uint8 (H, W): 1..K become 0..K-1, 0 and -1 are ignored.

    Raises:
        ValueError: naming the file, as `read_mat`, or for other values.
    """
    ids = read_mat(path, key)
    if ids.ndim != 2 or ids.dtype.kind not in "iuf":
        raise ValueError(f"{path}: {key} must be a map (H, W) of ids, got {ids.dtype} {ids.shape}.")
    if ((ids < -1) | (ids > table.num_classes) | (ids != np.rint(ids))).any():
        raise ValueError(
            f"{path}: {key} holds {ids.min()}..{ids.max()}; expected whole numbers "
            f"1..{table.num_classes}, or 0 or -1 for unlabelled pixels."
        )
    return np.where(ids < 1, table.ignore_label, ids.astype("int32") - 1).astype("uint8")


def write_mat(path, **variables):
    """Write arrays as a .mat file; makes its folder."""
    writable_folder(path.parent)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        _scipy_io().savemat(file, variables, do_compression=True)


def _scipy_io():
    try:
        import scipy.io
    except ImportError as error:
        raise ValueError("MATLAB files need SciPy: pip install 'keras-seg[eval]'.") from error
    return scipy.io
