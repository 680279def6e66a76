"""Weights from files: those that a reference implementation published, and our own.

`load(model, state, layout)` fits the state of a reference implementation by name;
`load_own(model, path)` reads what `model.save` or `model.save_weights` wrote; `transfer` takes of
either what fits. `read_state(path)` reads `.pth`, `.caffemodel`, `.h5`, `.npz`, `.safetensors` as
{name: array} and never runs code from a file. Each checks everything before it changes the first
weight. `list_published()` names the trained weights that come with keras_seg, which every builder
takes by name.
"""

from keras_seg.weights.files import read_state
from keras_seg.weights.importer import Report, load
from keras_seg.weights.layouts import LAYOUTS
from keras_seg.weights.own import load_own
from keras_seg.weights.published import Published, find_published, list_published, publish
from keras_seg.weights.transfer import TransferReport, transfer

__all__ = [
    "LAYOUTS",
    "Published",
    "Report",
    "TransferReport",
    "find_published",
    "list_published",
    "load",
    "load_own",
    "publish",
    "read_state",
    "transfer",
]
