"""Predict, evaluate and draw, with any network: a Keras model, SavedModel, TFLite or ONNX file."""

from keras_seg.inference.runners import Runner, find_model, load_runner

__all__ = ["Runner", "find_model", "load_runner"]
