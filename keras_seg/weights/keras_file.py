"""Keras' weight files: HDF5 of every version, and the `.keras` archive around it."""

import contextlib
import io
import math
import re
import zipfile

import h5py
import numpy as np

from keras_seg.weights.checks import DAMAGE, check_size

# What Keras 1 called the variables, "conv1_W" or "conv1_W_1", and what they are called since.
KERAS_1 = {
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",  # it always was the variance
}
# No kernel here has more rows or columns; a side that is longer counts channels.
LARGEST_KERNEL = 15


def read(path, max_bytes, flip_kernels=None):
    """{"layer/kernel": array} of a file of Keras 1 or 2, {"layer/0": array} of Keras 3.

    See `keras_seg.weights.read_state`.
    """
    with open_h5(path, max_bytes) as file:
        try:
            if "layers" in file and "layer_names" not in file.attrs:
                return _read_new(path, file, max_bytes)
            return _read_old(path, file, max_bytes, flip_kernels)
        except DAMAGE as error:
            raise ValueError(f"{path} is damaged: {error}.") from error


@contextlib.contextmanager
def open_h5(path, max_bytes):
    """The open HDF5 file. That of a `.keras` archive is read whole, so that its checksum counts.

    Raises:
        ValueError: for a damaged file, or one of more than `max_bytes` in the archive.
    """
    try:
        source = path
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                entry = archive.getinfo("model.weights.h5")
                check_size(path, [entry.file_size], max_bytes)
                source = io.BytesIO(archive.read(entry))
        file = h5py.File(source, "r")
    except DAMAGE as error:
        size = path.stat().st_size
        raise ValueError(f"{path} ({size} bytes) is damaged or not of Keras: {error}.") from error
    with file:
        yield file


def layer_groups(file):
    """{layer: [groups of its variables]} of a file of Keras 3; one group unless names repeat."""
    found = {}

    def visit(group_path, group):
        """Keras writes layers/.../vars with the layer's name and the datasets 0, 1, ..."""
        is_vars = group_path.startswith("layers/") and group_path.endswith("/vars")
        if is_vars and len(group):
            name = _texts(group, "name") or [group_path]
            found.setdefault(name[0], []).append(group)

    file.visititems(visit)
    return found


def datasets(group):
    """The datasets 0, 1, ... of a group. Links to other files are not followed."""
    return [_plain(group, group.get(str(i))) for i in range(len(group))]


def _plain(group, dataset):
    inside = isinstance(dataset, h5py.Dataset) and dataset.file == group.file
    if not inside or dataset.external or dataset.is_virtual or dataset.dtype.kind not in "fiub":
        raise TypeError(f"{group.name} holds something other than arrays of numbers")
    return dataset


def _read_new(path, file, max_bytes):
    groups = layer_groups(file)
    doubled = [name for name, found in groups.items() if len(found) > 1]
    if doubled:
        raise ValueError(f"{path} has more than one layer named {doubled[0]!r}.")
    found = {
        f"{name}/{i}": dataset
        for name, (group,) in groups.items()
        for i, dataset in enumerate(datasets(group))
    }
    return _load(path, found, max_bytes)


def _load(path, found, max_bytes):
    """{name: array} of {name: dataset}."""
    if not found:
        raise ValueError(f"{path} holds no weights of a Keras model.")
    check_size(path, (d.size * d.dtype.itemsize for d in found.values()), max_bytes)
    return {name: np.asarray(dataset) for name, dataset in found.items()}


def _read_old(path, file, max_bytes, flip_kernels):
    """A file of Keras 1 or 2: LAYER/.../VARIABLE, below model_weights if it is a whole model."""
    whole = isinstance(file.get("model_weights"), h5py.Group)
    root = file["model_weights"] if whole else file
    names = _layer_names(root)
    found = {}
    for layer in names:
        group = root.get(layer)
        if not isinstance(group, h5py.Group) or group.file != file:
            raise TypeError(f"it has no layer {layer}")
        # Links are not visited, so all of this lies in the file.
        parts = []
        group.visit(parts.append)
        parts = [part for part in parts if not isinstance(group[part], h5py.Group)]
        # Several scopes in one group are the layers of an inner model.
        inner = len({part.rpartition("/")[0] for part in parts}) > 1
        for part in parts:
            scope, _, variable = part.rpartition("/")
            name = f"{scope.rpartition('/')[2] if inner else layer}/{_variable(variable)}"
            if name in found:
                raise TypeError(f"it has {name} twice")
            found[name] = _plain(group, group[part])
    state = _load(path, found, max_bytes)
    backend = "".join(_texts(root, "backend"))
    return _from_theano(path, state, backend, flip_kernels)


def _layer_names(root):
    """Names of the layers in their order; the attribute is cut in parts where it is long."""
    parts = sorted(
        (key for key in root.attrs if re.fullmatch(r"layer_names\d*", key)),
        key=lambda key: int(key.removeprefix("layer_names") or 0),
    )
    return [name for part in parts for name in _texts(root, part)]


def _texts(group, key):
    """The strings of an attribute; none if there is no such attribute."""
    if key not in group.attrs:
        return []
    found = np.ravel(group.attrs[key]).tolist()
    return [text.decode() if isinstance(text, bytes) else str(text) for text in found]


def _variable(name):
    """ "kernel" from "kernel:0", and from "conv1_W" or "conv1_W_1:0" of Keras 1."""
    name = name.partition(":")[0]
    old = re.fullmatch(rf"(?:.*_)?({'|'.join(KERAS_1)})(?:_\d+)?", name)
    return KERAS_1[old[1]] if old else name


def _from_theano(path, state, backend, flip):
    """The state with kernels (height, width, in, out) that are not turned."""
    kernels = [n for n, a in state.items() if n.endswith("kernel") and a.ndim == 4]
    file_name = path.name
    order = re.search(r"(th|tf)_dim_ordering", file_name)
    if order:
        theano_order = order[1] == "th"
    else:
        shapes = [state[name].shape for name in kernels]
        theano_order = any(max(shape[:2]) > LARGEST_KERNEL for shape in shapes) and all(
            max(shape[2:]) <= LARGEST_KERNEL for shape in shapes
        )
    if flip is None:
        turned = re.search(r"(th|tf)_kernels", file_name)
        if turned:
            flip = turned[1] == "th"
        else:
            flip = backend == "theano" or (theano_order and not backend)

    channels = None  # of the last convolution
    for name, array in state.items():
        if name in kernels:
            if theano_order:
                array = array.transpose(2, 3, 1, 0)
            channels = array.shape[-1]
            state[name] = array[::-1, ::-1] if flip else array
        elif theano_order and channels and name.endswith("/kernel") and array.ndim == 2:
            state[name] = _rows_of_pixels(path, name, array, channels)
            channels = None
    return state


def _rows_of_pixels(path, name, array, channels):
    """The matrix behind a flattened map: rows by (channel, y, x) become rows by (y, x, channel)."""
    side = math.isqrt(len(array) // channels)
    if side * side * channels != len(array):
        raise ValueError(
            f"{path} has Theano's order of axes, and the map that {name} of {len(array)} rows "
            f"flattens is not square with {channels} channels. Read the layers before it only."
        )
    rows = array.reshape(channels, side, side, -1).transpose(1, 2, 0, 3)
    return rows.reshape(array.shape)
