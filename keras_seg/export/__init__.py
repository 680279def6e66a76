"""Files for other runtimes (SavedModel, TFLite, ONNX) with the proof that they compute the same."""

from keras_seg.export.benchmark import BenchmarkReport, benchmark
from keras_seg.export.bounds import Bounds
from keras_seg.export.checker import CheckReport, check
from keras_seg.export.exporter import ExportError, ExportReport, export
from keras_seg.export.macs import count_macs

__all__ = [
    "BenchmarkReport",
    "Bounds",
    "CheckReport",
    "ExportError",
    "ExportReport",
    "benchmark",
    "check",
    "count_macs",
    "export",
]
