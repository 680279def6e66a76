"""CamVid as published: Brostow, Fauqueur, Cipolla. Pattern Recognition Letters, 2009."""

import numpy as np
from PIL import Image

from keras_seg.data import labels
from keras_seg.data.dataset import Files, ImageReader, MaskReader, SegmentationDataset
from keras_seg.data.readers.camvid import keep_listed
from keras_seg.data.readers.common import (
    SPLITS,
    choose_split,
    contents,
    existing_folder,
    find_classes,
    pair,
    report,
    save_png,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.utils import unknown_name, writable_folder

_IMAGES, _LABELS = "701_StillsRaw_full", "LabeledApproved_full"
_DEFAULT = "segnet"


def camvid32(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    white=None,
    merge=_DEFAULT,
):
    """CamVid's 701 frames with 32 labels in colours: 701_StillsRaw_full/, LabeledApproved_full/.

    Labels are called NAME_L.png. The lists train.txt, val.txt and test.txt in `root` make the
    splits; without them, SegNet's rule does (367, 101 and 233 frames): of sequence 0001TP the first
    half trains and the second tests, 0006R0 trains, Seq05VD tests, and of 0016E5 the frames
    7959..8159 validate and the others train. Folders by split are read as well, with or without
    lists: train/ with train_labels/ or trainannot/. Colours tell them from SegNet's copy.

    Args:
        root, split, channels, ignore_label, problems: see `open_dataset`.
        classes: a table whose colours say the ids, instead of `merge`.
        white: see `read_image`.
        merge: "segnet", the 11 classes of `labels.CAMVID`, to which every label belongs;
            "swiftnet", 11 in another order, where rare labels are ignored
            (`labels.CAMVID_SWIFTNET`); None, all labels (`labels.CAMVID32`). Void is always
            ignored. Scores on different merges do not compare.

    Raises:
        ValueError: see `open_dataset`; for an unknown merge.
    """
    root = existing_folder(root)
    if merge not in labels.CAMVID_MERGES:
        raise unknown_name("merge", merge, [str(name) for name in labels.CAMVID_MERGES])
    table, colors, values = find_classes(root, None, classes, ignore_label)
    if table is None:
        table, colors = labels.CAMVID_MERGES[merge]
    split = choose_split(root, split, _splits(root))
    places = _split_folders(root)
    errors = []
    listed = root / f"{split}.txt"
    rows = _pair(*(places[split] if places else (root / _IMAGES, root / _LABELS)), errors)
    if not places and not listed.is_file():
        keep = [i for i, name in enumerate(rows[0]) if published_split(name) == split]
        rows = tuple([column[i] for i in keep] for column in rows)
    names, images, masks = keep_listed(listed, rows, errors)
    if not names and not errors:
        raise ValueError(f"{root}: 0 samples in split {split}, by the published rule.")
    report(root, errors, problems)
    return SegmentationDataset(
        Files(images, masks, ImageReader(channels, white), MaskReader(table, colors, values)),
        table,
        names,
        channels=channels,
        layout="camvid32",
        split=split,
        description=f"{title(root, split)}: CamVid's colours, {table.num_classes} classes",
    )


def published_split(name):
    """The split of a frame of CamVid, "train", "val" or "test", by SegNet's rule; see `camvid32`.

    Frames of other names train.
    """
    sequence, _, frame = name.partition("_")
    number = int(frame) if frame.isdigit() else 0
    if sequence == "Seq05VD" or (sequence == "0001TP" and number > 8520):
        return "test"
    return "val" if sequence == "0016E5" and 7959 <= number <= 8159 else "train"


def _pair(images, masks, errors):
    suffix = "_L" if next(masks.glob("*_L.png"), None) else ""
    return pair(images, masks, suffix, errors)


def _split_folders(root):
    """{split: (image folder, label folder)} where the folders are by split."""
    found = {}
    for name in (name for names in SPLITS.values() for name in names):
        for folder in (root / f"{name}_labels", root / f"{name}annot"):
            if (root / name).is_dir() and folder.is_dir():
                found.setdefault(name, (root / name, folder))
    return found


def _splits(root):
    places = _split_folders(root)
    if places:
        return list(places)
    if not (root / _IMAGES).is_dir() or not (root / _LABELS).is_dir():
        raise ValueError(
            f"{root}: expected {_IMAGES}/ and {_LABELS}/, or train/ and train_labels/. "
            f"It holds: {contents(root)}."
        )
    listed = [split for split in SPLITS if (root / f"{split}.txt").is_file()]
    return listed or list(SPLITS)


def _is_camvid32(root):
    if (root / _IMAGES).is_dir() and (root / _LABELS).is_dir():
        return True
    folders = [labels for _, labels in _split_folders(root).values()]
    if not folders:
        return False
    return all(next(f.glob("*_L.png"), None) for f in folders) or _has_colors(folders[0])


def _has_colors(folder):
    """Whether the first mask is in colours: SegNet's copy, whose folders these are, has ids."""
    first = min(folder.glob("*.png"), default=folder)
    try:
        with Image.open(first) as image:
            return image.mode in ("RGB", "RGBA")
    except OSError:  # there is none, or it is damaged: whoever reads it says so
        return False


def _write(root, split, samples):
    _, colors = labels.CAMVID_MERGES[_DEFAULT]
    drawn = {index: color for color, index in reversed(colors.items())}
    drawn[255] = (0, 0, 0)
    palette = np.array([drawn.get(index, (0, 0, 0)) for index in range(256)], "uint8")
    for sample in samples:
        save_png(root / _IMAGES / f"{sample.name}.png", sample.image)
        save_png(root / _LABELS / f"{sample.name}_L.png", palette[sample.label])
    text = "".join(f"{sample.name}.png\n" for sample in samples)
    (writable_folder(root) / f"{split}.txt").write_text(text, "utf-8")


LAYOUT = Layout(
    name="camvid32",
    read=camvid32,
    detect=_is_camvid32,
    splits=_splits,
    write=_write,
    title="CamVid as published, 32 labels",
    table=labels.CAMVID,
    published={"train": 367, "val": 101, "test": 233},
    licence="research",
    source="mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid",
)
