"""manifest.json: what the files of an export take and return, and how well they agree."""

import importlib.metadata
import pathlib

from keras_seg import utils
from keras_seg.data import LabelTable
from keras_seg.inference.manifest import NAME

CONVERTERS = ("tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")


def read(folder):
    """The manifest in `folder` as a dict, or None where there is none of ours."""
    path = pathlib.Path(folder) / NAME
    if not path.is_file():
        return None
    found = utils.read_json(path)
    return found if isinstance(found, dict) and "keras_seg_manifest" in found else None


def class_table(model_path):
    """The `LabelTable` that lies beside a model file or in a run's folder, or None."""
    path = pathlib.Path(model_path)
    found = read(path if path.is_dir() else path.parent)
    if found is None or not found.get("classes"):
        return None
    return LabelTable.from_json(found["classes"])


def versions():
    """Versions of everything that had a hand in the files."""
    found = utils.versions()
    for package in CONVERTERS:
        try:
            found[package.replace("-", "_")] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def size(path):
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


def describe_file(path):
    """{"bytes", "sha256"} of a file, or of a folder: see `keras_seg.utils.sha256`."""
    return {"bytes": size(path), "sha256": utils.sha256(path)}
