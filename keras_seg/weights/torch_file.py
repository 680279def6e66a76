"""PyTorch's `.pth` files without PyTorch, and without running what they contain.

A `.pth` file (PyTorch 1.6 and later) is a zip archive: `data.pkl`, a pickle that says how the
tensors are put together, and `data/0`, `data/1`, ..., the raw bytes. A pickle may name any function
of the machine and call it. The reader here knows a fixed table of names, none of which does more
than note down its arguments, and refuses every other by name.
"""

import collections
import io
import math
import pickle
import zipfile

import numpy as np

from keras_seg.weights.checks import DAMAGE

# The pickle holds names and shapes only: megabytes at most, even with an optimizer's state.
MAX_PICKLE = 64 * 2**20

_STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}

# Where checkpoints keep the model's state beside optimizer, epoch and scores.
_STATE_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net")


def read(path, max_bytes):
    """{name: array} of the model's state in a PyTorch file. bfloat16 becomes float32.

    Entries that are no tensors (counters, settings) are left out. Quantised and sparse tensors and
    files written on a big-endian machine are refused.

    Raises:
        ValueError: for a damaged file, one of another kind, one that names anything but tensors,
            or whose arrays would take more than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(path, archive, max_bytes)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} is no zip archive: it is damaged, no PyTorch file, or was written before "
            "PyTorch 1.6. Convert an old file with PyTorch: "
            "torch.save(torch.load(old, map_location='cpu', weights_only=True), new)."
        ) from error
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def _read_archive(path, archive, max_bytes):
    entries = {entry.filename: entry for entry in archive.infolist()}
    pickles = [name for name in entries if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(pickles) != 1:
        raise ValueError(
            f"{path} has no data.pkl: it is a zip archive, but not one that torch.save wrote."
        )
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in entries:
        raise ValueError(
            f"{path} is a TorchScript program, not a state. Save model.state_dict() instead."
        )
    order = f"{root}byteorder"
    if order in entries and archive.read(order).strip() != b"little":
        raise ValueError(f"{path} was written on a big-endian machine; convert it with PyTorch.")
    if entries[pickles[0]].file_size > MAX_PICKLE:
        raise ValueError(f"{path}: its data.pkl is larger than {MAX_PICKLE} bytes.")

    unpickler = _Unpickler(io.BytesIO(archive.read(pickles[0])))
    try:
        content = unpickler.load()
    except _RefusedError as error:
        raise ValueError(f"{path} {error}") from error
    except Exception as error:  # A damaged pickle may fail in any way; none of them ran its code.
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}.") from error

    storages, total, state = {}, 0, {}
    for name, tensor in _state(path, content).items():
        total += tensor.count * tensor.storage.itemsize
        if total > max_bytes:
            raise ValueError(f"{path} holds more than {max_bytes} bytes of arrays.")
        key = tensor.storage.key
        if key not in storages:
            entry = entries.get(f"{root}data/{key}")
            # PyTorch stores bytes as they are. Compressed ones could unpack to any size.
            if entry is None or entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{path}: the bytes of {name} are missing or compressed.")
            storages[key] = archive.read(entry)
        state[name] = _array(path, name, tensor, storages[key])
    return state


def _state(path, content):
    """{name: _Tensor} of the model in what the file holds."""
    if isinstance(content, dict):
        for key in _STATE_KEYS:
            if isinstance(content.get(key), dict):
                content = content[key]
                break
        tensors = {
            name: value
            for name, value in content.items()
            if isinstance(name, str) and isinstance(value, _Tensor)
        }
        if tensors:
            return tensors
        found = f"a dict with the keys {sorted(map(str, content))[:10]}"
    else:
        found = f"a {type(content).__name__.strip('_').lower()}"
    raise ValueError(f"{path} holds no state of a model ({found}). Save model.state_dict().")


def _array(path, name, tensor, raw):
    """The tensor as a contiguous NumPy array of its own."""
    storage = tensor.storage
    if len(raw) != storage.count * storage.itemsize:
        raise ValueError(
            f"{path} is damaged: {name} needs {storage.count} numbers, there are "
            f"{len(raw) // storage.itemsize}."
        )
    bits = storage.dtype == "bfloat16"
    values = np.frombuffer(raw, "uint16" if bits else storage.dtype)[tensor.offset :]
    strides = [step * storage.itemsize for step in tensor.strides]
    # `_rebuild_tensor` has checked that no index leaves the storage.
    array = np.lib.stride_tricks.as_strided(values, tensor.shape, strides).copy()
    # bfloat16 is the upper half of a float32.
    return (array.astype("uint32") << 16).view("float32") if bits else array


class _RefusedError(Exception):
    """The pickle names something that is not in the table."""


class _Inert:
    """An object of the pickle. Without `__setstate__`, a pickle could set its attributes."""

    def __setstate__(self, state):
        raise _RefusedError("changes an object in a way that no tensor needs.")


class _Storage(_Inert):
    """Name, type and length of a run of raw numbers."""

    def __init__(self, key, dtype, count):
        self.key, self.dtype, self.count = key, dtype, count
        self.itemsize = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


class _Tensor(_Inert):
    """Where in its storage a tensor lies."""

    def __init__(self, storage, offset, shape, strides):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides
        self.count = math.prod(shape)


class _Ignored:
    """A number or setting beside the tensors; kept as nothing."""

    def __init__(self, *args):
        del args

    def __setstate__(self, state):
        del state


def _rebuild_tensor(storage, offset, shape, strides, *rest):
    """torch._utils._rebuild_tensor_v2: check every index before any memory is read."""
    del rest  # requires_grad, hooks, metadata
    whole = [offset, *shape, *strides]
    if not isinstance(storage, _Storage) or any(type(n) is not int or n < 0 for n in whole):
        raise _RefusedError("describes a tensor by something other than numbers.")
    if len(shape) != len(strides) or len(shape) > 32:
        raise _RefusedError(f"describes a tensor of shape {shape} by the strides {strides}.")
    count = math.prod(shape)
    steps = zip(shape, strides, strict=True)
    last = offset + sum((n - 1) * step for n, step in steps) if count else offset
    if (count and last >= storage.count) or count > storage.count:
        raise _RefusedError(
            f"describes a tensor of shape {tuple(shape)} that reaches beyond its "
            f"{storage.count} numbers (or repeats them; save it contiguous)."
        )
    return _Tensor(storage, offset if count else 0, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor, *rest):
    """torch._utils._rebuild_parameter: a parameter is its tensor."""
    del rest  # requires_grad, hooks
    return tensor


_TABLE = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    # Scores and settings that checkpoints carry.
    ("torch", "device"): _Ignored,
    ("torch", "Size"): _Ignored,
    ("numpy", "dtype"): _Ignored,
    ("numpy.core.multiarray", "scalar"): _Ignored,
    ("numpy._core.multiarray", "scalar"): _Ignored,
    ("_codecs", "encode"): _Ignored,
    # A type is a word here: `persistent_load` looks it up.
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Knows the names in `_TABLE` and nothing else."""

    def find_class(self, module, name):
        if (module, name) in _TABLE:
            return _TABLE[module, name]
        raise _RefusedError(
            f"names {module}.{name}, which is no part of a state of tensors; nothing of the file "
            "was run. A whole pickled model cannot be read: save model.state_dict()."
        )

    def persistent_load(self, pid):
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise _RefusedError("refers to something other than the bytes of a tensor.")
        _, dtype, key, _, count = pid
        known = isinstance(dtype, str) and dtype in _STORAGES.values()
        if not known or not isinstance(key, str) or type(count) is not int or count < 0:
            raise _RefusedError(f"describes the bytes of a tensor by {pid[1:]!r}.")
        return _Storage(key, dtype, count)
