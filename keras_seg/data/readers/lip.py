"""Look Into Person: Gong et al. CVPR 2017."""

from keras_seg.data import labels
from keras_seg.data.dataset import Files, ImageReader, MaskReader, SegmentationDataset
from keras_seg.data.read import write_mask
from keras_seg.data.readers.common import (
    choose_split,
    existing_folder,
    find_classes,
    pair,
    report,
    save_jpeg,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.utils import writable_folder

_IMAGES, _MASKS = "TrainVal_images", "TrainVal_parsing_annotations"


def lip(root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None, white=None):
    """LIP: train_images/*.jpg in TrainVal_images/, train_segmentations/ in their outer folder.

    That is TrainVal_parsing_annotations/; both also without the outer folders. Ids are those of the
    files, 0..19. A mirrored picture must swap left and right: `labels.LIP_FLIP_PAIRS`. Arguments
    and errors: see `open_dataset`.
    """
    root = existing_folder(root)
    places = _places(root)
    split = choose_split(root, split, list(places))
    errors = []
    names, images, masks = pair(*places[split], "", errors)
    table, colors, values = find_classes(root, None, classes, ignore_label, labels.LIP)
    report(root, errors, problems)
    return SegmentationDataset(
        Files(images, masks, ImageReader(channels, white), MaskReader(table, colors, values)),
        table,
        names,
        channels=channels,
        layout="lip",
        split=split,
        description=f"{title(root, split)}: LIP layout",
    )


def _places(root):
    """{split: (folder of images, folder of masks)}."""
    found = {}
    for split in ("train", "val"):
        images = _find(root, _IMAGES, f"{split}_images")
        masks = _find(root, _MASKS, f"{split}_segmentations")
        both = (images, masks)
        if all(both):
            found[split] = both
    return found


def _find(root, outer, name):
    """A folder at the top, in its outer folder, or in that twice, as some archives unpack."""
    places = (root / outer / name, root / outer / outer / name, root / name)
    return next((place for place in places if place.is_dir()), None)


def _write(root, split, samples):
    for sample in samples:
        save_jpeg(root / _IMAGES / f"{split}_images" / f"{sample.name}.jpg", sample.image)
        place = root / _MASKS / f"{split}_segmentations"
        write_mask(writable_folder(place) / f"{sample.name}.png", sample.label, labels.LIP)


LAYOUT = Layout(
    name="lip",
    read=lip,
    detect=lambda root: bool(_places(root)),
    splits=lambda root: list(_places(root)),
    write=_write,
    title="LIP",
    table=labels.LIP,
    published={"train": 30462, "val": 10000},
    licence="non-commercial research",
    source="sysu-hcp.net/lip",
)
