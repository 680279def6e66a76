"""Files of arrays by name, read without running anything that is in them."""

import zipfile

import numpy as np

from keras_seg.utils import unknown_name
from keras_seg.weights import caffe_file, keras_file, torch_file
from keras_seg.weights.checks import DAMAGE, MAX_BYTES, as_path, check_size


def read_state(path, *, flip_kernels=None):
    """{name: array} from a weight file. Nothing in the file is run.

    ====================================  =========================================================
    kind                                  names
    ====================================  =========================================================
    `.npz`, `.safetensors`                as stored
    `.pth`, `.pt`, `.bin`, `.pth.tar`     as stored, of PyTorch from 0.1.10 on; of a checkpoint with
                                          optimizer state and counters, the model's own state
    `.caffemodel`                         "conv1.weight", "conv1.bias", as PyTorch would call them
                                          (see `keras_seg.weights.caffe_file`)
    `.h5`                                 "conv1/kernel", "conv1/bias", ... of Keras 1 and 2, and
                                          of Keras 3's `model.save("x.h5")`
    `.keras`, `.weights.h5`               "conv1/0", "conv1/1", ...: they do not name the variables
    ====================================  =========================================================

    Arrays keep their axes: (out, in, height, width) in PyTorch and Caffe, (height, width, in, out)
    in Keras. bfloat16 becomes float32.

    Args:
        path: the file.
        flip_kernels: of `.h5` files only. Theano turned a convolution's kernel by 180 degrees,
            which cannot be seen in the numbers. None goes by the file: what its name says
            ("th_kernels", "tf_kernels"), else the backend that it names, else the order of its
            axes. True and False decide. Theano's order of the axes becomes TensorFlow's in any
            case.

    Raises:
        ValueError: for a file that is missing, of an unknown kind, damaged, larger than 4 GiB
            unpacked, or that wants to run code.
    """
    path = as_path(path, "a weight file")
    suffix = ".pth" if path.name.endswith(".pth.tar") else path.suffix

    def read_keras(path, max_bytes):
        return keras_file.read(path, max_bytes, flip_kernels)

    readers = {
        ".npz": _read_npz,
        ".safetensors": _read_safetensors,
        ".pth": torch_file.read,
        ".pt": torch_file.read,
        ".bin": torch_file.read,
        ".caffemodel": caffe_file.read,
        ".h5": read_keras,
        ".keras": read_keras,
    }
    if suffix not in readers:
        raise unknown_name(f"kind of weight file in {path}:", suffix, readers)
    if not path.is_file():
        raise ValueError(f"No weight file at {path}.")
    try:
        return readers[suffix](path, MAX_BYTES)
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
