"""Start a network from weights that fit in part: other classes, other channels, another head."""

import collections.abc
import dataclasses
import fnmatch

import keras
import numpy as np

from keras_seg.layers.preprocessing import BGR
from keras_seg.utils import unknown_name
from keras_seg.weights.checks import (
    as_path,
    finite,
    first_ten,
    layers_with_weights,
    numeric,
    raise_misfits,
)
from keras_seg.weights.files import read_state
from keras_seg.weights.importer import fit, open_state, references
from keras_seg.weights.layouts.table import Layout

OWN = Layout("a model of keras_seg", lambda layers: {name: name for name in layers}, keras=True)


@dataclasses.dataclass(frozen=True)
class TransferReport:
    """What `transfer` did. `str(report)` lists it, at most ten names of a kind.

    Attributes:
        source: the file, "state" for a mapping, or the name of the model.
        model: name of the model that was filled.
        loaded: our layers that took all their weights.
        adapted: {our layer: what was done}, for a change of the image's channels.
        skipped: {our layer: why}; these keep the values that they had.
        unused: names in the source that nothing was loaded from.
    """

    source: str
    model: str
    loaded: tuple
    adapted: dict
    skipped: dict
    unused: tuple

    def __str__(self):
        def notes(layers):
            return [f"{name} ({note})" for name, note in layers.items()]

        parts = {
            "loaded": self.loaded,
            "adapted": notes(self.adapted),
            "skipped": notes(self.skipped),
            "unused": self.unused,
        }
        lines = [f"{self.source} -> {self.model}"]
        for part, names in parts.items():
            lines.append(f"  {part:<8}{len(names):>4}  {first_ten(names)}".rstrip())
        return "\n".join(lines)


def transfer(model, source, layout=None, *, skip=(), verbose=True):
    """Give `model` every layer of `source` that fits; the others keep the values that they have.

    A layer takes all its weights or none. It is left alone where the source has none of its name
    or one of another shape, as the last layer for other classes has. The one thing that is changed
    to fit is the first convolution of a network of RGB images (in the way of timm and smp):

    - for 1 channel its kernel is summed over R, G and B, so that a grey image gives what it gave,
      up to the preprocessing: the means of "imagenet" and others differ between R, G and B, and of
      one channel their average is taken;
    - for N channels the kernels of R, G, B, R, G, ... are used in turn, times 3 / N. Where the
      model has a preprocessing that swaps RGB to BGR, which it leaves out for other than 3
      channels, they are turned back to RGB first.

    Args:
        model: the model to fill.
        source: a `.keras` or `.weights.h5` file of ours or another such model; or, with `layout`,
            a state or file of a reference, as in `keras_seg.weights.load`.
        layout: None for our own, else whose names the source has.
        skip: names of our layers to leave alone, with `*` for any part: "logits*" when there are
            as many classes as before but other ones.
        verbose: print the report.

    Returns:
        `TransferReport`.

    Raises:
        ValueError: if no layer fits, an array holds NaN or infinity, `skip` matches no layer, or
            for what `keras_seg.weights.load` refuses in a file. The model is untouched then.
    """
    layers = layers_with_weights(model)
    if layout is None:
        name, state, rules = _own(source)
    else:
        name, state, rules = open_state(source, layout, layers)
    broken = [key for key, array in state.items() if not finite(np.asarray(array))]
    raise_misfits(f"{name} is not used; nothing was changed.", {"not finite": broken})
    prefixes = rules.names(list(layers))
    channels = {image.shape[-1] for image in model.inputs}
    swapped = _swaps_rgb(model)

    plan, loaded, adapted, skipped, used = [], [], {}, {}, set()
    left_out = _matching(layers, skip)
    for layer_name, layer in layers.items():
        prefix = prefixes.get(layer_name)
        if layer_name in left_out:
            skipped[layer_name] = "as asked"
        elif prefix is None:
            constant = layer_name in prefixes
            skipped[layer_name] = "constant" if constant else "no name in the layout"
        else:
            found = references(layer, prefix, state, rules)
            arrays, note, problem = _arrays(found, state, channels, swapped)
            # A file of Keras 3 numbers the variables: one more is another kind of layer.
            if not problem and f"{prefix}/{len(layer.weights)}" in state:
                problem = "more variables in the source"
            if problem:
                skipped[layer_name] = problem
                continue
            plan += arrays
            used.update(reference for _, reference, _ in found)
            if note:
                adapted[layer_name] = note
            else:
                loaded.append(layer_name)

    unused = tuple(n for n in state if n not in used and not rules.ignores(n, used))
    report = TransferReport(name, model.name, tuple(loaded), adapted, skipped, unused)
    if not plan:
        raise ValueError(
            f"Nothing of {name} fits {model.name}; nothing was changed. Is it the file of this "
            f"network, and is layout {layout!r} right?\n{report}"
        )
    for variable, array in plan:
        variable.assign(array)
    if verbose:
        print(report)
    return report


def _own(source):
    """(name, state, layout) of a model or a file of ours."""
    if isinstance(source, keras.Model):
        state = {
            f"{name}/{i}": np.array(variable)
            for name, layer in layers_with_weights(source).items()
            for i, variable in enumerate(layer.weights)
        }
        return source.name, state, OWN
    if isinstance(source, collections.abc.Mapping):
        raise ValueError("For a state of arrays give transfer the layout of its names.")
    path = as_path(source, "a weight file")
    if not path.name.endswith((".keras", ".weights.h5")):
        raise ValueError(
            f"{path} is no file that keras_seg wrote (.keras, .weights.h5): give transfer the "
            "layout of its names."
        )
    return str(path), read_state(path), OWN


def _matching(layers, skip):
    """Names of the layers that a pattern in `skip` matches."""
    found = set()
    for pattern in [skip] if isinstance(skip, str) else skip:
        matches = fnmatch.filter(layers, pattern)
        if not matches:
            raise unknown_name("layer to skip", pattern, layers)
        found.update(matches)
    return found


def _swaps_rgb(model):
    """Whether the preprocessing of the model would swap RGB to BGR, had the image 3 channels."""
    modes = [getattr(layer, "mode", None) for layer in model.layers if layer.name == "preprocess"]
    return any(mode in BGR for mode in modes)


def _arrays(found, state, channels, swapped):
    """([(variable, array)], what was adapted, why it does not fit) of a layer."""
    arrays, note = [], ""
    for variable, reference, change in found:
        if reference not in state:
            return [], "", "not in the source"
        array, problem = fit(state[reference], change, variable)
        if problem and _takes_rgb(state[reference], change, variable, channels):
            wanted = variable.shape[2]
            array = _image_kernel(change(np.asarray(state[reference])), wanted, swapped)
            note, problem = f"3 -> {wanted} channels of the image", None
        if problem:
            return [], "", problem
        arrays.append((variable, array))
    return arrays, note, None


def _takes_rgb(kernel, change, variable, channels):
    """Whether the kernel differs from the variable in taking RGB instead of an image's channels."""
    shape, kernel = tuple(variable.shape), np.asarray(kernel)
    if not numeric(kernel) or kernel.ndim != 4 or len(shape) != 4 or shape[2] not in channels:
        return False
    return change(kernel).shape == (*shape[:2], 3, shape[3])


def _image_kernel(kernel, channels, swapped):
    """(height, width, 3, out) -> (height, width, channels, out), see `transfer`."""
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    if swapped:
        kernel = kernel[:, :, ::-1]
    return kernel[:, :, np.arange(channels) % 3] * (3 / channels)
