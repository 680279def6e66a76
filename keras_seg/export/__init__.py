"""Files for other runtimes (SavedModel, TFLite, ONNX) with the proof that they compute the same."""

from keras_seg.export.bounds import Bounds
from keras_seg.export.checker import CheckReport, check
from keras_seg.export.exporter import ExportError, ExportReport, export

__all__ = ["Bounds", "CheckReport", "ExportError", "ExportReport", "check", "export"]
