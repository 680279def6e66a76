"""Files for other runtimes (SavedModel, TFLite, ONNX) with the proof that they compute the same."""

from keras_seg.export.benchmark import BenchmarkReport, benchmark
from keras_seg.export.exporter import ExportReport, export
from keras_seg.export.macs import count_macs

__all__ = ["BenchmarkReport", "ExportReport", "benchmark", "count_macs", "export"]
