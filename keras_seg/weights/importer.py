"""Fit the state of a reference implementation into one of our models, by name."""

import collections.abc
import dataclasses

import keras
import numpy as np

from keras_seg.layers import Encoding, TokenEmbedding
from keras_seg.utils import unknown_name
from keras_seg.weights.checks import finite, layers_with_weights, numeric, raise_misfits
from keras_seg.weights.files import read_state
from keras_seg.weights.layouts import LAYOUTS


@dataclasses.dataclass(frozen=True)
class Report:
    """What `load` did. `str(report)` is one line for a log.

    Attributes:
        source: the file, or "state" for a mapping.
        layout: name of the layout.
        loaded: reference names whose values are now in the model.
        ignored: reference names that the layout leaves out (counters, fixed kernels, heads that
            the model was built without).
        kept: our layers that keep their own values, because the reference's are constants.
    """

    source: str
    layout: str
    loaded: tuple
    ignored: tuple
    kept: tuple

    def __str__(self):
        return (
            f"{self.source}: {len(self.loaded)} arrays loaded by layout {self.layout!r}, "
            f"{len(self.ignored)} ignored, {len(self.kept)} layers kept."
        )


def load(model, state, layout):
    """Give `model` the weights of a reference implementation.

    Args:
        model: a model of `keras_seg.models`, built with the options of the reference.
        state: {reference name: array} in the reference's own axis order (PyTorch: OIHW), or the
            path of a file that `keras_seg.weights.read_state` reads. A prefix "module." or
            "_orig_mod." before every name (DataParallel, torch.compile) is dropped, and so is a
            wrapper's that the layout knows.
        layout: whose names these are, one of `keras_seg.weights.LAYOUTS`.

    Returns:
        `Report`: what was loaded, ignored and kept.

    Raises:
        ValueError: for an unknown layout; when an array is left over or missing, has another
            shape, or holds text, NaN or infinity (the first ten names of each kind); for a file
            that `read_state` refuses, or a layer of the model that has no rule. The model is
            untouched then. `keras_seg.weights.transfer` loads what fits and leaves the rest.
    """
    layers = layers_with_weights(model)
    source, state, rules = open_state(state, layout, layers)
    prefixes = rules.names(list(layers))
    kept = [name for name in layers if prefixes.get(name, "") is None]
    unknown = [name for name in layers if name not in prefixes]

    used = {}  # an ordered set of reference names
    plan, missing, misfits = [], [], []
    for name, prefix in prefixes.items():
        if prefix is None:
            continue
        for variable, reference, change in references(layers[name], prefix, state, rules):
            if reference not in state:
                missing.append(f"{reference} for {name}/{variable.name}")
                continue
            used[reference] = None
            array, problem = fit(state[reference], change, variable)
            if problem:
                misfits.append(f"{reference} {problem}")
            else:
                plan.append((variable, array))

    rest = [name for name in state if name not in used]
    ignored = [name for name in rest if rules.ignores(name, used)]
    left_over = [name for name in rest if not rules.ignores(name, used)]
    raise_misfits(
        f"{source} does not fit {model.name} by layout {layout!r} ({rules.reference}). Build the "
        "model with the options of the reference (number of classes, backbone, aux), name the "
        "right layout, or load what fits with keras_seg.weights.transfer. Nothing was changed.",
        {
            "layers that the layout has no name for": unknown,
            "not in the state": missing,
            "left over in the state": left_over,
            "of another shape, or not finite numbers": misfits,
        },
    )
    for variable, array in plan:
        variable.assign(array)
    return Report(source, layout, tuple(used), tuple(ignored), tuple(kept))


def open_state(state, layout, layers):
    """(name for messages, state, `Layout`) of a state or file whose names are those of `layout`."""
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    rules = LAYOUTS[layout]
    source = "state"
    if not isinstance(state, collections.abc.Mapping):
        if str(state).endswith((".keras", ".weights.h5")) and not rules.keras:
            raise ValueError(
                f"{state} is a file of Keras, not of {rules.reference}: give it to a builder's "
                "weights=, to keras_seg.weights.load_own(model, path), or to "
                "keras_seg.weights.transfer(model, path) without a layout."
            )
        source, state = str(state), read_state(state)
    # torch.compile may lie around DataParallel or within it.
    for wrapper in ("module.", "_orig_mod.", "module.", *rules.wrappers):
        state = _unwrapped(state, wrapper)
    if rules.prepare is not None:
        state = rules.prepare(dict(state), set(layers))
    return source, state, rules


def references(layer, prefix, state, rules):
    """[(variable, its name in the state, change of axes)] of what the state calls `prefix`."""
    if rules.keras:
        return [
            (variable, _keras_name(prefix, variable.name, i, state, len(layer.weights)), _same)
            for i, variable in enumerate(layer.weights)
        ]
    found = []
    for variable in layer.weights:
        suffix, change = _rule(layer, variable)
        found.append((variable, prefix + suffix, change))
    return found


def _keras_name(prefix, variable, index, state, count):
    """Of "conv/kernel", "conv/depthwise_kernel" (Keras 2) and "conv/0", what the state has.

    The only variable of a layer is meant whatever it is called.
    """
    names = [f"{prefix}/{variable}", f"{prefix}/depthwise_{variable}", f"{prefix}/{index}"]
    found = [name for name in names if name in state]
    if not found and count == 1:
        found = [name for name in state if name.startswith(f"{prefix}/")]
        found = found if len(found) == 1 else []
    return found[0] if found else names[0]


def _unwrapped(state, prefix):
    """The state without `prefix` if every name begins with it."""
    if state and all(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): array for name, array in state.items()}
    return state


def fit(array, change, variable):
    """(array in our axis order, None), or (None, what is wrong).

    The matrix of a fully connected layer becomes the kernel of a convolution that computes the
    same, as FCN and DeepLab make fc6 and fc7 of VGG16.
    """
    array = np.asarray(array)
    shape = array.shape
    if not numeric(array):
        return None, f"holds {array.dtype}, not real numbers"
    try:
        if array.ndim == 2 and len(variable.shape) == 4:
            array = _as_convolution(array, change, tuple(variable.shape))
        array = change(array)
    except ValueError:
        return None, f"has shape {shape}, which is not that of a {variable.path.split('/')[-1]}"
    if array.shape != tuple(variable.shape):
        return None, f"has shape {shape}, here {tuple(variable.shape)} in the order of Keras"
    if not finite(array):
        return None, "holds NaN or infinity (as float32)"
    return array, None


def _as_convolution(matrix, change, shape):
    """A matrix as a kernel of the axes that `change` takes, to become one of `shape`."""
    height, width, inputs, outputs = shape
    if change is _same:
        return matrix.reshape(shape)
    return matrix.reshape(outputs, inputs, height, width)


def _convolution(array):
    """(out, in, kh, kw) -> (kh, kw, in, out), and transposed (in, out, ...) -> (..., out, in)."""
    return array.transpose(2, 3, 1, 0)


def _depthwise(array):
    """(channels, 1, kh, kw) -> (kh, kw, channels, 1)."""
    return array.transpose(2, 3, 0, 1)


def _dense(array):
    """(out, in), or a 1x1 convolution's (out, in, 1, 1), -> (in, out)."""
    if array.shape[2:] == (1, 1):
        array = array[:, :, 0, 0]
    return array.transpose(1, 0)


def _same(array):
    return array


_NORMALIZATION = {
    "gamma": (".weight", _same),
    "beta": (".bias", _same),
    "moving_mean": (".running_mean", _same),
    "moving_variance": (".running_var", _same),
}
_BIAS = (".bias", _same)

# Type of layer -> {our variable: (PyTorch's suffix, change of axes)}.
_RULES = {
    keras.layers.Conv2D: {"kernel": (".weight", _convolution), "bias": _BIAS},
    keras.layers.Conv2DTranspose: {"kernel": (".weight", _convolution), "bias": _BIAS},
    keras.layers.DepthwiseConv2D: {"kernel": (".weight", _depthwise), "bias": _BIAS},
    keras.layers.Dense: {"kernel": (".weight", _dense), "bias": _BIAS},
    keras.layers.BatchNormalization: _NORMALIZATION,
    keras.layers.LayerNormalization: _NORMALIZATION,
    TokenEmbedding: {"class_token": (".cls_token", _same)},
    Encoding: {"codewords": (".codewords", _same), "scale": (".scale", _same)},
}


def _rule(layer, variable):
    """(suffix, change of axes) of one variable of a layer."""
    if isinstance(layer, TokenEmbedding) and variable is layer.positions:
        return ".pos_embed", layer.fit_positions
    for kind, variables in _RULES.items():
        if isinstance(layer, kind) and variable.name in variables:
            return variables[variable.name]
    raise ValueError(
        f"Cannot import {variable.path}: no rule for the {variable.name} of a "
        f"{type(layer).__name__}."
    )
