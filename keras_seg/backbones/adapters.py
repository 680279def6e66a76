"""Backbones of keras_hub and keras_cv, which name their features by pyramid level.

Both are functional models with a list of levels: keras_hub's `pyramid_outputs` is {"P2": tensor},
keras_cv's `pyramid_level_inputs` is {"P2": layer name}. Level i has stride 2**i, as our "c{i}".
Neither library is imported here: a model that has such a list is one of theirs.
"""

import keras

from keras_seg.backbones.from_keras import from_keras


def has_pyramid(model):
    """Whether `model` says which of its tensors are its pyramid levels."""
    return bool(_levels(model))


def from_pyramid(model, output_stride=32):
    """A feature extractor of a `keras_hub` or `keras_cv` backbone, with its weights.

    Args:
        model: the backbone, built (`keras_hub.models.ResNetBackbone(...)`), from a preset or with
            random weights. Nothing is downloaded here.
        output_stride: 8, 16 or 32. Below 32 strides become dilation, as in `from_keras`; at 32
            the model's own tensors are taken and the weights are shared.

    Returns:
        A `keras.Model` from images to {"c2": ..., "c5": ...}: the levels that the backbone names.

    Raises:
        ValueError: for a backbone that takes more than one image, or, below 32, one that holds an
            operation whose dilated form is not known.
    """
    layers = _levels(model)
    if len(model.inputs) != 1:
        names = [tensor.name for tensor in model.inputs]
        raise ValueError(f"{model.name} takes the inputs {names}; a backbone takes one image.")
    if output_stride != 32:
        return from_keras(model, output_stride, taps=layers)
    features = {level: model.get_layer(name).output for level, name in layers.items()}
    return keras.Model(model.inputs[0], features, name=model.name)


def _levels(model):
    """{"c2": layer name, ...} in the order of the levels; empty for a model without any."""
    outputs = getattr(model, "pyramid_outputs", None)
    if outputs:
        levels = {level: _layer_of(tensor) for level, tensor in outputs.items()}
    else:
        levels = getattr(model, "pyramid_level_inputs", None) or {}
    return {f"c{level[1:]}": levels[level] for level in sorted(levels)}


def _layer_of(tensor):
    return tensor._keras_history.operation.name
