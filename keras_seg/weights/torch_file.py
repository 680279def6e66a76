"""PyTorch's `.pth` files without PyTorch, and without running what they contain.

A `.pth` file of PyTorch 1.6 and later is a zip archive: `data.pkl`, a pickle that says how the
tensors are put together, and `data/0`, `data/1`, ..., the raw bytes. An older one is a stream: five
pickles (a magic number, a version, the machine, the tensors, the order of their bytes), then for
each run of raw bytes its length and itself. A pickle may name any function of the machine and call
it. The reader here knows a fixed table of names, none of which does more than note down its
arguments, and refuses every other by name.
"""

import collections
import io
import math
import pickle
import pickletools
import zipfile

import numpy as np

from keras_seg.weights.checks import DAMAGE, check_size

# How an old file begins: the first two of its pickles.
MAGIC = 0x1950A86A20F9469CFC6C
STREAM_VERSION = 1001

# The opcodes that write a numbered entry of a pickle's memo. A pickle numbers them one by one.
MEMO = ("PUT", "BINPUT", "LONG_BINPUT")

# The pickle holds names and shapes only: megabytes at most, even with an optimizer's state.
MAX_PICKLE = 16 * 2**20

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
        with open(path, "rb") as file:
            start = file.read(2)
            file.seek(0)
            if start == b"PK":
                with zipfile.ZipFile(file) as archive:
                    return _read_archive(path, archive, max_bytes)
            if start[:1] == b"\x80":
                return _read_stream(path, file, max_bytes)
    except _RefusedError as error:
        raise ValueError(f"{path} {error}") from error
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    raise ValueError(
        f"{path} is damaged or no file of torch.save (or one from before PyTorch 0.1.10, which "
        "was a tar archive)."
    )


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
    for name in (order, pickles[0]):
        if name in entries and entries[name].file_size > MAX_PICKLE:
            raise ValueError(f"{path}: its {name} is larger than {MAX_PICKLE} bytes.")
    if order in entries and archive.read(order).strip() != b"little":
        raise ValueError(f"{path} was written on a big-endian machine; convert it with PyTorch.")
    content = _unpickle(path, io.BytesIO(archive.read(pickles[0])))
    sizes = []

    def read_storage(name, key):
        entry = entries.get(f"{root}data/{key}")
        # PyTorch stores bytes as they are. Compressed ones could unpack to any size.
        if entry is None or entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{path}: the bytes of {name} are missing or compressed.")
        # Entries may lie over one another, and so be larger together than the file.
        sizes.append(entry.file_size)
        check_size(path, sizes, max_bytes)
        return archive.read(entry)

    return _arrays(path, content, read_storage, max_bytes)


def _read_stream(path, file, max_bytes):
    if _unpickle(path, file) != MAGIC or _unpickle(path, file) != STREAM_VERSION:
        raise ValueError(f"{path} is a pickle, but not one of torch.save.")
    machine = _unpickle(path, file)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError(f"{path} was written on a big-endian machine; convert it with PyTorch.")
    storages = {}
    content = _unpickle(path, file, storages)
    keys = _unpickle(path, file)
    if not isinstance(keys, list) or set(keys) != storages.keys():
        raise ValueError(f"{path} is damaged: it lists other bytes than its tensors need.")

    places = {}
    size = path.stat().st_size
    for key in keys:
        count = int.from_bytes(file.read(8), "little", signed=True)
        places[key] = (file.tell(), storages[key].itemsize * count)
        if count != storages[key].whole or sum(places[key]) > size:
            raise ValueError(f"{path} is damaged: it ends early or a length is wrong.")
        file.seek(sum(places[key]))

    def read_storage(name, key):
        del name
        start, length = places[key]
        file.seek(start)
        return file.read(length)

    return _arrays(path, content, read_storage, max_bytes)


def _arrays(path, content, read_storage, max_bytes):
    """{name: array}; `read_storage(name, key)` gives the raw bytes that a tensor lies in."""
    storages, total, state = {}, 0, {}
    for name, tensor in _state(path, content).items():
        total += tensor.count * tensor.storage.itemsize
        if total > max_bytes:
            raise ValueError(f"{path} holds more than {max_bytes} bytes of arrays.")
        key = tensor.storage.key
        if key not in storages:
            storages[key] = read_storage(name, key)
        state[name] = _array(path, name, tensor, storages[key])
    return state


def _unpickle(path, file, storages=None):
    """The object of the next pickle in `file`; its runs of raw bytes are noted in `storages`."""
    start = file.tell()
    try:
        # Look before the leap: a number for the memo may make the reader fill the memory.
        for opcode, argument, position in pickletools.genops(file):
            if opcode.name in MEMO and int(argument) > position - start:
                raise ValueError(f"the memo has no entry {argument}")
            if position - start > MAX_PICKLE:
                raise ValueError(f"it is larger than {MAX_PICKLE} bytes")
        length = file.tell() - start
        file.seek(start)
        unpickler = _Unpickler(io.BytesIO(file.read(length)), encoding="latin1")
        unpickler.storages = {} if storages is None else storages
        return unpickler.load()
    except _RefusedError:
        raise
    except Exception as error:  # A damaged pickle may fail in any way; none of them ran its code.
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}.") from error


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
    if len(raw) != storage.whole * storage.itemsize:
        raise ValueError(
            f"{path} is damaged: {name} needs {storage.whole} numbers, there are "
            f"{len(raw) // storage.itemsize}."
        )
    bits = storage.dtype == "bfloat16"
    start = storage.start + tensor.offset
    values = np.frombuffer(raw, "uint16" if bits else storage.dtype)[start:]
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
    """A run of `count` raw numbers: from `start` on, of the `whole` that are stored as `key`."""

    def __init__(self, key, dtype, count, start, whole):
        self.key, self.dtype, self.count, self.start, self.whole = key, dtype, count, start, whole
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
    """torch._utils._rebuild_tensor and _v2: check every index before any memory is read."""
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
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    # Scores and settings that checkpoints carry.
    ("torch", "device"): _Ignored,
    ("torch", "Size"): _Ignored,
    ("argparse", "Namespace"): _Ignored,
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
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise _RefusedError("refers to something other than the bytes of a tensor.")
        _, dtype, key, _, whole, *view = pid
        known = isinstance(dtype, str) and dtype in _STORAGES.values()
        # PyTorch 0.3 and before stored a part of other bytes as (its name, start, count).
        _, start, count = view[0] if view and view[0] is not None else (key, 0, whole)
        numbers = all(type(n) is int and n >= 0 for n in (whole, start, count))
        if not known or not isinstance(key, str) or not numbers or start + count > whole:
            raise _RefusedError("describes the bytes of a tensor by something impossible.")
        storage = _Storage(key, dtype, count, start, whole)
        self.storages.setdefault(key, storage)
        return storage
