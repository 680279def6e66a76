"""Weights that our own models wrote, checked by name before they are read.

Keras loads a weight file by position: two layers of one type and shape that changed places are
loaded into each other without a word. The file does hold the layers' names; they decide here.
"""

import contextlib
import io
import pathlib
import zipfile

import h5py
import numpy as np

from keras_seg.weights.checks import DAMAGE, finite, layers_with_weights, raise_misfits


def load_own(model, path):
    """Read a `.weights.h5` or `.keras` file that a model of the same build wrote.

    Only the weights are read: an optimizer's state in a `.keras` file is left alone.

    Args:
        model: the model to fill. It is untouched when anything misfits.
        path: file of `model.save_weights` or `model.save`.

    Raises:
        ValueError: naming the file, when it is missing, of another kind, damaged, or its layers
            and shapes are not the model's (the first ten of each).
    """
    path = pathlib.Path(path)
    if not path.name.endswith((".weights.h5", ".keras")):
        raise ValueError(
            f"Cannot read weights from {path}: expected a file that Keras wrote, .weights.h5 or "
            ".keras. For .pth, .npz and .safetensors of a reference implementation build the model "
            "without weights and call keras_seg.weights.load(model, path, layout=...)."
        )
    if not path.is_file():
        raise ValueError(f"No weight file at {path}.")
    layers = layers_with_weights(model)
    title = (
        f"{path} does not hold the weights of {model.name}. Build the model with the options that "
        "the file was trained with (classes, filters, backbone, aux). Nothing was changed."
    )
    with _h5(path) as file:
        try:
            arrays = _read(file, layers, title)
        except DAMAGE as error:
            raise ValueError(f"{path} is damaged: {error}.") from error
    raise_misfits(title, {"not finite": [name for name in arrays if not _all_finite(arrays[name])]})
    for name, values in arrays.items():
        layers[name].load_own_variables({str(i): array for i, array in enumerate(values)})


@contextlib.contextmanager
def _h5(path):
    """The open HDF5 file. That of a `.keras` archive is read whole, so that its checksum counts."""
    try:
        source = path
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                source = io.BytesIO(archive.read("model.weights.h5"))
        file = h5py.File(source, "r")
    except DAMAGE as error:
        size = path.stat().st_size
        raise ValueError(f"{path} ({size} bytes) is damaged or not of Keras: {error}.") from error
    with file:
        yield file


def _read(file, layers, title):
    """{layer: [arrays]}; raises ValueError when names or shapes are not those of `layers`."""
    found = {}

    def visit(group_path, group):
        """Keras writes layers/.../vars with the layer's name and the datasets 0, 1, ..."""
        is_vars = group_path.startswith("layers/") and group_path.endswith("/vars")
        if is_vars and len(group):
            found.setdefault(str(group.attrs.get("name", group_path)), []).append(group)

    file.visititems(visit)
    doubled = [name for name, groups in found.items() if len(groups) > 1]
    shapes = []
    for name in layers.keys() & found.keys() - set(doubled):
        expected = [tuple(variable.shape) for variable in layers[name].weights]
        stored = _shapes(found[name][0])
        if stored != expected:
            shapes.append(f"{name} has {stored}, here {expected}")
    raise_misfits(
        title,
        {
            "not in the file": [name for name in layers if name not in found],
            "only in the file": [name for name in found if name not in layers],
            "of another shape": sorted(shapes),
            "more than once in the file": doubled,
        },
    )
    return {name: _arrays(found[name][0]) for name in layers}


def _datasets(group):
    """The group's datasets in their order. Links to other files are not followed."""
    datasets = [group.get(str(i)) for i in range(len(group))]
    for dataset in datasets:
        plain = isinstance(dataset, h5py.Dataset) and dataset.file == group.file
        if not plain or dataset.external or dataset.is_virtual or dataset.dtype.kind not in "fiub":
            raise TypeError(f"{group.name} holds something other than arrays of numbers")
    return datasets


def _shapes(group):
    return [dataset.shape for dataset in _datasets(group)]


def _arrays(group):
    return [np.asarray(dataset) for dataset in _datasets(group)]


def _all_finite(arrays):
    return all(finite(array) for array in arrays)
