"""PASCAL VOC: Everingham et al. "The PASCAL Visual Object Classes Challenge", IJCV 2010."""

from keras_seg.data import labels
from keras_seg.data.dataset import Files, ImageReader, MaskReader, SegmentationDataset
from keras_seg.data.read import write_mask
from keras_seg.data.readers.common import (
    choose_split,
    contents,
    existing_folder,
    find_classes,
    report,
    save_jpeg,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.utils import writable_folder


def voc(root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None, white=None):
    """PASCAL VOC: JPEGImages/, SegmentationClass/ and lists in ImageSets/Segmentation/.

    `root` is the year's folder (VOC2012) or one above it. Palette masks give their indices; RGB
    ones are read through the colours of the table. Arguments and errors: see `open_dataset`.
    """
    given = existing_folder(root)
    root = _voc_root(given)
    if root is None:
        raise ValueError(
            f"{given}: no JPEGImages/ and SegmentationClass/ here or in VOCdevkit/VOC*/. "
            f"It holds: {contents(given)}."
        )
    split = choose_split(root, split, _voc_splits(root))
    table, colors, values = find_classes(root, None, classes, ignore_label, labels.VOC)
    if not split:
        raise ValueError(f"{root}: no lists NAME.txt in ImageSets/Segmentation/.")
    file = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    names, images, masks, errors = [], [], [], []
    for name in file.read_text("utf-8").split():
        image = root / "JPEGImages" / f"{name}.jpg"
        mask = root / "SegmentationClass" / f"{name}.png"
        missing = [path for path in (image, mask) if not path.is_file()]
        errors += [(path, f"is missing, though {file.name} lists it") for path in missing]
        if not missing:
            names.append(name)
            images.append(image)
            masks.append(mask)
    if not names and not errors:
        raise ValueError(f"0 samples: {file} lists none.")
    report(root, errors, problems)
    return SegmentationDataset(
        Files(images, masks, ImageReader(channels, white), MaskReader(table, colors, values)),
        table,
        names,
        channels=channels,
        layout="voc",
        split=split,
        description=f"{title(root, split)}: PASCAL VOC layout",
    )


def _voc_root(root):
    for place in (root, *sorted(root.glob("VOC20*")), *sorted(root.glob("VOCdevkit/VOC20*"))):
        if (place / "JPEGImages").is_dir() and (place / "SegmentationClass").is_dir():
            return place
    return None


def _voc_splits(root):
    found = sorted(path.stem for path in (root / "ImageSets" / "Segmentation").glob("*.txt"))
    return sorted(found, key=lambda name: name != "train")


def _write(root, split, samples):
    for sample in samples:
        save_jpeg(root / "JPEGImages" / f"{sample.name}.jpg", sample.image)
        mask = writable_folder(root / "SegmentationClass") / f"{sample.name}.png"
        write_mask(mask, sample.label, labels.VOC)
    lists = writable_folder(root / "ImageSets" / "Segmentation")
    (lists / f"{split}.txt").write_text("".join(f"{s.name}\n" for s in samples), "utf-8")


LAYOUT = Layout(
    name="voc",
    read=voc,
    detect=lambda root: _voc_root(root) is not None,
    splits=lambda root: _voc_splits(_voc_root(root) or root),
    write=_write,
    title="PASCAL VOC 2012",
    table=labels.VOC,
    published={"train": 1464, "val": 1449, "trainval": 2913},
    licence="research; photos under Flickr's terms",
    source="host.robots.ox.ac.uk/pascal/VOC/voc2012",
    tfds="voc has boxes only, no masks",
)
