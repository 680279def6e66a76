"""What is known of a data set's layout on disk."""

import dataclasses
from collections.abc import Callable

from keras_seg.data.labels import LabelTable


@dataclasses.dataclass(frozen=True)
class Layout:
    """A layout on disk: how to tell and to read it, and what its owners publish of the data set.

    Attributes:
        name: what `open_dataset(layout=...)` calls it.
        read: function (root, split, **options) -> `SegmentationDataset`.
        detect: function from the Path of a folder to whether it has this layout, told by names
            of files and folders (a look at a first file at most).
        splits: function from that Path to the names of the splits on disk, "train" first; [] where
            the data are not split. It may have further arguments with defaults, of the names of
            those of `read` that decide which splits there are.
        write: function (root, split, samples) that writes made-up samples as this layout has them,
            for tests and for `--smoke`; `samples` is a list of `synthetic.Drawn`.
        title: of the data set, with its publication's year where that tells versions apart.
        table: `LabelTable`, None where the data say it.
        ignores: whether its labels may have ignored pixels.
        contents: what samples have beside image and label, "" for nothing.
        published: {split: number of samples, or a tuple of numbers that are all in use}. A data set
            on disk of another size gets a note, never an error.
        licence: in a few words, "" where it is the user's own data.
        source: where to get it, "" where it is the user's own data.
        tfds: what tensorflow-datasets has of it, "" for nothing.
    """

    name: str
    read: Callable
    detect: Callable
    splits: Callable
    write: Callable
    title: str
    table: LabelTable | None = None
    ignores: bool = True
    contents: str = ""
    published: dict = dataclasses.field(default_factory=dict)
    licence: str = ""
    source: str = ""
    tfds: str = ""
