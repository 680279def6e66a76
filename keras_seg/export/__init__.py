"""Files for other runtimes (SavedModel, TFLite, ONNX) with the proof that they compute the same."""

from keras_seg.export.exporter import ExportReport, export

__all__ = ["ExportReport", "export"]
