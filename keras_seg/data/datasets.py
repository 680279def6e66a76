"""Data sets on disk: which layout a folder has, and opening it."""

import inspect

from keras_seg.data.readers import LAYOUTS
from keras_seg.data.readers.common import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    SPLITS,
    contents,
    either,
    existing_folder,
)
from keras_seg.utils import unknown_name

_MOST_BELOW = 20  # folders that are looked at for a hint


def open_dataset(
    root,
    split=None,
    *,
    layout="auto",
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    **options,
):
    """Open a data set on disk.

    Args:
        root: its folder.
        split: "train", "val" or "test" (or the folder's own name for it). None: "train" where the
            data set has splits, else all of it. A data set without splits is all "train".
        layout: name of one of `list_datasets()`, such as "folder" or "voc"; the functions of these
            names say more. "auto" looks which one it is, and `description` of the result says what
            it found.
        classes: `LabelTable`, list of names, number of classes, or path of a .txt or .json table;
            None: what the data set brings.
        channels: of the images, 1, 3 or 4.
        ignore_label: id of pixels that do not count, where classes are names, a number, or found in
            the data; with a `LabelTable`, its own, as with those of published sets, 255.
        problems: a list to which (file, message) of every file that is missing its partner or
            cannot be read is added, instead of stopping with an error.
        **options: what else the reader of the layout takes, such as `mask_values` of `folder`.

    Raises:
        ValueError: if `root` is no data set of that layout or has no such split, files do not pair
            up, or the classes cannot be found out.
    """
    root = existing_folder(root)
    known = find_layout(detect_layout(root) if layout == "auto" else layout)
    strange = sorted(options.keys() - inspect.signature(known.read).parameters.keys())
    if strange:
        raise ValueError(
            f"{root}: layout {known.name!r} does not take {', '.join(strange)}. "
            'layout="folder" takes the most.'
        )
    dataset = known.read(
        root,
        split,
        classes=classes,
        channels=channels,
        ignore_label=ignore_label,
        problems=problems,
        **options,
    )
    return dataset.noted(_size_note(known, dataset))


def detect_layout(root):
    """The name of the layout of the folder `root`, told by its subfolders.

    Raises:
        ValueError: if it looks like none, with what was looked for.
    """
    root = existing_folder(root)
    found = _first_layout(root)
    if found:
        return found
    raise ValueError(
        f"{root}: no data set found. Looked for images/ and masks/ (also {either(IMAGE_FOLDERS)} "
        f"with {either(MASK_FOLDERS)}; at the top, below train/, val/, test/, or with these "
        "below them), images/ and instances/, CamVid's train/ and trainannot/, VOC's JPEGImages/ "
        "and SegmentationClass/, and the folders of every other layout: "
        f"{', '.join(layout.name for layout in LAYOUTS)}. It holds: {contents(root)}."
        f"{_hint_below(root)}"
    )


def _first_layout(root):
    return next((layout.name for layout in LAYOUTS if layout.detect(root)), None)


def _hint_below(root):
    """What to open instead, where a folder in `root` is a data set."""
    for path in [path for path in sorted(root.iterdir()) if path.is_dir()][:_MOST_BELOW]:
        try:
            found = _first_layout(path)
        except OSError:  # not for this user to read
            continue
        if found:
            return f" Its folder {path} is one of layout {found!r}."
    return ""


def list_splits(root, layout="auto", **options):
    """The splits that a data set on disk has, "train" first; an empty list if it is not split.

    Args:
        root, layout: see `open_dataset`.
        **options: what the data set is to be opened with; it decides the splits where not all of
            them have every kind of label, as with Cityscapes' `coarse`.
    """
    root = existing_folder(root)
    splits = find_layout(detect_layout(root) if layout == "auto" else layout).splits
    known = inspect.signature(splits).parameters
    return splits(root, **{name: value for name, value in options.items() if name in known})


def list_datasets():
    """Every layout that `open_dataset` knows, as a list of `Layout`."""
    return list(LAYOUTS)


def find_layout(name):
    """The `Layout` of this name; ValueError for an unknown one."""
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    raise unknown_name("layout", name, ["auto", *(layout.name for layout in LAYOUTS)])


def _size_note(layout, dataset):
    """A note if the split on disk has another size than published, else None."""
    kind = next((k for k, names in SPLITS.items() if dataset.split_name in names), None)
    sizes = layout.published.get(dataset.split_name, layout.published.get(kind))
    sizes = sizes if isinstance(sizes, tuple | None) else (sizes,)
    if sizes is None or len(dataset) in sizes:
        return None
    return (
        f"{len(dataset)} samples in split {dataset.split_name}; {layout.title} was published with "
        f"{' or '.join(map(str, sizes))}"
    )
