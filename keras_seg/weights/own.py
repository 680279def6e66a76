"""Weights that our own models wrote, checked by name before they are read.

Keras loads a weight file by position: two layers of one type and shape that changed places are
loaded into each other without a word. The file does hold the layers' names; they decide here.
"""

import re

import numpy as np

from keras_seg.weights.checks import (
    DAMAGE,
    MAX_BYTES,
    as_path,
    finite,
    layers_with_weights,
    raise_misfits,
)
from keras_seg.weights.keras_file import datasets, layer_groups, open_h5
from keras_seg.weights.published import is_published, published_path

# Names of layers that a network has for its training only; the first group is the output's name.
AUXILIARY = re.compile(r"(aux\d*|se)(_\w+)?")


def load_own(model, path):
    """Read a `.weights.h5` or `.keras` file that a model of the same build wrote.

    Only the weights are read: an optimizer's state in a `.keras` file is left alone, and so are
    the auxiliary heads (layers "aux_...", "se_...") that the model was built without.

    Args:
        model: the model to fill. It is untouched when anything misfits.
        path: file of `model.save_weights` or `model.save`; or the name of published weights, such
            as "nuclei" (`keras_seg.weights.list_published`).

    Raises:
        ValueError: naming the file, when it is missing, of another kind, damaged, larger than
            4 GiB unpacked, holds NaN or infinity, or its layers and shapes are not the model's
            (the first ten of each).
    """
    if is_published(path):
        path = published_path(path, model)
    path = as_path(path, "a weight file that Keras wrote (.weights.h5 or .keras)")
    if not path.name.endswith((".weights.h5", ".keras")):
        raise ValueError(
            f"Cannot read weights from {path}: expected a file that Keras wrote, .weights.h5 or "
            ".keras. For files of a reference implementation (.pth, .caffemodel, .h5 and others) "
            "build the model without weights and call keras_seg.weights.load(model, path, "
            "layout=...)."
        )
    if not path.is_file():
        raise ValueError(f"No weight file at {path}.")
    layers = layers_with_weights(model)
    title = (
        f"{path} does not hold the weights of {model.name}. Build the model with the options that "
        "the file was trained with (classes, filters, backbone, aux). Nothing was changed."
    )
    with open_h5(path, MAX_BYTES) as file:
        try:
            arrays = _read(file, layers, title)
        except DAMAGE as error:
            raise ValueError(f"{path} is damaged: {error}.") from error
    raise_misfits(title, {"not finite": [name for name in arrays if not _all_finite(arrays[name])]})
    for name, values in arrays.items():
        layers[name].load_own_variables({str(i): array for i, array in enumerate(values)})


def _read(file, layers, title):
    """{layer: [arrays]}; raises ValueError when names or shapes are not those of `layers`."""
    found = layer_groups(file)
    heads = {_head(name) for name in layers} | {None}
    found = {name: groups for name, groups in found.items() if _head(name) in heads}
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


def _head(layer):
    """Name of the output, for training only, that the layer belongs to; None for any other."""
    match = AUXILIARY.fullmatch(layer)
    return match[1] if match else None


def _shapes(group):
    return [dataset.shape for dataset in datasets(group)]


def _arrays(group):
    return [np.asarray(dataset) for dataset in datasets(group)]


def _all_finite(arrays):
    return all(finite(array) for array in arrays)
