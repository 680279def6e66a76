"""Semantic segmentation for Keras 3, from the paper to the phone.

The parts, each a module that is imported when it is first used, so that `import keras_seg` is quick
and a machine without TensorFlow can still build and train:

    layers      the layers that the networks share
    backbones   trunks that return features c1..c5; keras.applications networks through from_keras
    models      one builder a paper
    losses      from logits and integer labels, exact on any number of replicas
    metrics     from one int64 confusion matrix
    crf         mean-field inference in a fully connected CRF, as a layer
    weights     weights of the reference implementations, by name
    data        folders of images and masks, augmentation, batches
    training    train(): fit with atomic checkpoints, resume, previews
    inference   Predictor over a Keras model, SavedModel, TFLite or ONNX file
    export      SavedModel, TFLite and ONNX files with the proof that they compute the same
"""

import importlib

__version__ = "0.1.0"

_PARTS = (
    "layers",
    "backbones",
    "models",
    "losses",
    "metrics",
    "crf",
    "weights",
    "data",
    "training",
    "inference",
    "export",
)

__all__ = ["__version__", *_PARTS]


def __getattr__(name):
    if name in _PARTS:
        return importlib.import_module(f"keras_seg.{name}")
    raise AttributeError(f"module 'keras_seg' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
