"""Files of arrays by name, read without running anything that is in them."""

import pathlib
import zipfile

import numpy as np

from keras_seg.utils import unknown_name
from keras_seg.weights import torch_file
from keras_seg.weights.checks import DAMAGE

# No network here comes near; a file that claims more is damaged or made to fill the memory.
MAX_BYTES = 4 * 2**30


def read_state(path):
    """{name: array} from an `.npz`, `.safetensors` or PyTorch (`.pth`, `.pt`, `.bin`) file.

    bfloat16 becomes float32. Of a PyTorch checkpoint with optimizer state and counters, the model's
    own state is returned.

    Raises:
        ValueError: for a file that is missing, of an unknown kind, damaged, larger than 4 GiB
            unpacked, or that wants to run code.
    """
    path = pathlib.Path(path)
    readers = {
        ".npz": _read_npz,
        ".safetensors": _read_safetensors,
        ".pth": torch_file.read,
        ".pt": torch_file.read,
        ".bin": torch_file.read,
    }
    if path.suffix in (".keras", ".h5"):
        raise ValueError(
            f"{path} is a file of Keras, not of a reference implementation: give it to a builder's "
            "weights= or to keras_seg.weights.load_own(model, path)."
        )
    if path.suffix not in readers:
        raise unknown_name(f"kind of weight file in {path}:", path.suffix, readers)
    if not path.is_file():
        raise ValueError(f"No weight file at {path}.")
    try:
        return readers[path.suffix](path, MAX_BYTES)
    except ValueError as error:
        if str(path) in str(error):
            raise
        # Some damage makes the libraries below raise a ValueError that names no file.
        raise ValueError(f"{path} is damaged: {error}.") from error


def _read_npz(path, max_bytes):
    try:
        with zipfile.ZipFile(path) as archive:
            check_size(path, (entry.file_size for entry in archive.infolist()), max_bytes)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged or not an .npz file: {error}.") from error


def _read_safetensors(path, max_bytes):
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ValueError(
            f"Reading {path} needs the package safetensors: pip install 'keras-seg[weights]'."
        ) from error
    # The format holds no compressed data, so the file is as large as its arrays.
    check_size(path, [path.stat().st_size], max_bytes)
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: _plain(file.get_tensor(name)) for name in file.keys()}
    except (SafetensorError, *DAMAGE) as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}.") from error


def _plain(array):
    """An array of a type that NumPy itself has; bfloat16 becomes float32."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def check_size(path, sizes, max_bytes):
    """Raise ValueError if the sizes add up to more than `max_bytes`."""
    total = sum(sizes)
    if total > max_bytes:
        raise ValueError(f"{path} holds {total} bytes; at most {max_bytes} are read.")
