"""CMP Facades: Tylecek, Sara. "Spatial Pattern Templates for Recognition of Objects", GCPR 2013."""

import numpy as np
from PIL import Image

from keras_seg.data import labels
from keras_seg.data.dataset import Files, ImageReader, MaskReader, SegmentationDataset
from keras_seg.data.labels import LabelTable
from keras_seg.data.read import write_mask
from keras_seg.data.readers.common import (
    contents,
    existing_folder,
    find_classes,
    report,
    save_jpeg,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.data.readers.lists import existing
from keras_seg.utils import writable_folder

_PARTS = ("base", "extended")


def facades(
    root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None, white=None
):
    """CMP Facades: base/cmp_b0001.jpg with base/cmp_b0001.png, and extended/cmp_x0001.* alike.

    `root` is the folder of both or one of them. There is no official cut: `split` None or "train"
    is all, "base" and "extended" are the two parts. The PNGs have a palette, whose indices 1..12
    become 0..11; 0, which the owners do not use, is ignored. Arguments and errors: see
    `open_dataset`.
    """
    root = existing_folder(root)
    if _is_pix2pix(root):
        raise ValueError(
            f"{root}: pix2pix' version of the facades, photo and drawing side by side in one "
            "JPEG: its labels are blurred colours and not ids. Get the CMP data base itself "
            "(CMP_facade_DB_base.zip and CMP_facade_DB_extended.zip)."
        )
    parts = _parts(root)
    if split not in (None, "train", *parts):
        raise ValueError(
            f"{root} has no split {split!r}. Found: {', '.join(parts) or 'none'}; train is all of "
            "it, which dataset.split(0.2) cuts in two."
        )
    places = [place for name, place in parts.items() if split in (None, "train", name)]
    stems = {
        path.with_suffix(""): None
        for place in places
        for path in sorted(place.glob("cmp_*"))
        if path.suffix.lower() in (".jpg", ".png")
    }
    if not stems:
        raise ValueError(f"0 samples: no cmp_*.jpg in {root}. It holds: {contents(root)}.")
    table, colors, values = find_classes(root, None, classes, ignore_label, labels.FACADES)
    values = values or {i: table.ignore_label if i == 0 else i - 1 for i in range(13)}
    errors = []
    names, images, masks = existing(
        stems,
        [lambda stem: stem.with_suffix(".jpg"), lambda stem: stem.with_suffix(".png")],
        errors,
        source=None,
    )
    report(root, errors, problems)
    return SegmentationDataset(
        Files(images, masks, ImageReader(channels, white), MaskReader(table, colors, values)),
        table,
        [f"{stem.parent.name}/{stem.name}" for stem in names],
        channels=channels,
        layout="facades",
        split=split or "train",
        description=f"{title(root, split)}: CMP Facades, {' and '.join(parts)}",
    )


def _parts(root):
    """{"base" or "extended": Path}."""
    found = {name: root / name for name in _PARTS if any((root / name).glob("cmp_*.jpg"))}
    if not found and any(root.glob("cmp_*.jpg")):
        found = {root.name: root}
    return found


def _is_pix2pix(root):
    """train/1.jpg and so on, 512 pixels wide and 256 high, and no folders of labels."""
    folders = {path.name for path in root.iterdir() if path.is_dir()}
    if "train" not in folders or not folders <= {"train", "val", "test"}:
        return False
    first = next((root / "train").glob("*.jpg"), None)
    if first is None or not first.stem.isdigit():
        return False
    try:
        with Image.open(first) as image:
            return image.size == (512, 256)
    except OSError:
        return False


def _write(root, split, samples):
    """Split "train" makes base/, any other extended/."""
    part, letter = ("base", "b") if split == "train" else ("extended", "x")
    table = LabelTable.default(13)  # so that an index has a colour; the owners' differ
    for number, sample in enumerate(samples, start=1):
        stem = writable_folder(root / part) / f"cmp_{letter}{number:04d}"
        save_jpeg(stem.with_suffix(".jpg"), sample.image)
        index = np.where(sample.label == 255, 0, sample.label + 1)
        write_mask(stem.with_suffix(".png"), index, table)


LAYOUT = Layout(
    name="facades",
    read=facades,
    detect=lambda root: bool(_parts(root)) or _is_pix2pix(root),
    splits=lambda root: list(_parts(root)),
    write=_write,
    title="CMP Facades",
    table=labels.FACADES,
    published={"train": 606, "base": 378, "extended": 228},
    licence="research, with a citation",
    source="cmp.felk.cvut.cz/~tylecr1/facade",
)
