"""Label maps in MATLAB files."""

import io
import pathlib

import numpy as np

from keras_seg.utils import atomic_path, writable_folder


def read_mat(path, *keys):
    """The numeric array of a .mat file at `keys`: a variable, then fields of its struct.

    Raises:
        ValueError: without scipy; or naming the file, if it is missing, damaged, of MATLAB's 7.3
            format (HDF5), or has no such integers.
    """
    try:
        from scipy import io as scipy_io
    except ImportError as error:
        raise ValueError(
            f"{path}: .mat files need the package scipy: pip install 'keras-seg[eval]'."
        ) from error
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}.") from error
    try:
        value = scipy_io.loadmat(io.BytesIO(data), struct_as_record=False)
    except Exception as error:  # damage shows as many types; 7.3 as NotImplementedError
        raise ValueError(f"{path}: damaged, or no .mat file that scipy reads ({error}).") from error
    for key in keys:
        if isinstance(value, np.ndarray) and value.dtype == object and value.size:
            value = value.flat[0]  # the one struct in its matrix of structs
        value = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
        if value is None:
            raise ValueError(f"{path}: has no {'.'.join(keys)}.")
    value = np.asarray(value)
    if value.dtype.kind == "f" and np.array_equal(value, np.rint(value)):
        value = value.astype("int32")
    if value.ndim != 2 or value.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: {'.'.join(keys)} holds {value.dtype} {value.shape}, not integers (H, W)."
        )
    return value.astype("int32")


class FromOneReader:
    """Function from a .mat file to a label map uint8 (H, W): 1..K of `key` become 0..K-1.

    0 and -1, which data sets that count from 1 have on unlabelled pixels, become ignored.
    """

    def __init__(self, key, table):
        self.key, self.table = key, table

    def __call__(self, path):
        ids = read_mat(path, self.key)
        strange = np.unique(ids[(ids < -1) | (ids > self.table.num_classes)])
        if len(strange):
            raise ValueError(
                f"{path}: ids {', '.join(map(str, strange[:8]))} are outside the table: expected "
                f"1..{self.table.num_classes}, or 0 or -1 for unlabelled pixels."
            )
        return np.where(ids < 1, self.table.ignore_label, ids - 1).astype("uint8")


def save_mat(path, **values):
    """Write variables as a .mat file; makes its folder. Structs are dicts. Needs scipy."""
    from scipy import io as scipy_io

    writable_folder(path.parent)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        scipy_io.savemat(file, values, do_compression=True)
