"""Maps with one id an object, read as background and object."""

from keras_seg.data import labels, read
from keras_seg.data.dataset import Files, ImageReader, SegmentationDataset
from keras_seg.data.readers.common import (
    IMAGE_FOLDERS,
    check_class_count,
    choose_split,
    existing_folder,
    find_classes,
    pair,
    report,
    save_png,
    split_places,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.data.weight_maps import separate_touching


def instances(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    white=None,
    separate=False,
):
    """images/ with instances/: maps with one id an object, read as background (0) and object (1).

    Ids may have 16 bits. Classes: two, `labels.NUCLEI` if nothing else is given. Folders as in
    `folder`; arguments and errors: see `open_dataset`. `separate=True` puts a line of background
    between objects that touch, for training (`separate_touching`); score on the maps as they are.
    """
    root = existing_folder(root)
    places = split_places(root, IMAGE_FOLDERS, ("instances",))
    split = choose_split(root, split, list(places))
    table, _, _ = find_classes(root, split, classes, ignore_label, labels.NUCLEI)
    check_class_count(root, table, 2, "a map of instances (background and object)")
    errors = []
    names, images, masks = pair(*places[split], "", errors)
    report(root, errors, problems)
    return SegmentationDataset(
        InstanceFiles(images, masks, ImageReader(channels, white), separate),
        table,
        names,
        channels=channels,
        layout="instances",
        split=split,
        description=f"{title(root, split)}: {places[split][0]} with instances, ids > 0 as class 1",
    )


class InstanceFiles(Files):
    """Source of a data set whose masks are maps of instances.

    Args:
        image_paths, mask_paths, read_image: see `Files`.
        separate: whether to put background between objects that touch.
        read_map: function from a mask path to int32 (H, W), 0 background.
    """

    def __init__(self, image_paths, mask_paths, read_image, separate, read_map=read.read_instances):
        super().__init__(image_paths, mask_paths, read_image, read_map)
        self.extras = ("instances",)
        self.separate = separate

    def extra(self, index, name):
        instances = super().label(index)
        return separate_touching(instances) if self.separate else instances

    def label(self, index):
        return (self.extra(index, "instances") > 0).astype("uint8")


def _write(root, split, samples):
    for sample in samples:
        save_png(root / split / "images" / f"{sample.name}.png", sample.image)
        ids = sample.instances.astype("uint16")
        save_png(root / split / "instances" / f"{sample.name}.png", ids)


LAYOUT = Layout(
    name="instances",
    read=instances,
    detect=lambda root: bool(split_places(root, IMAGE_FOLDERS, ("instances",))),
    splits=lambda root: [
        split for split in split_places(root, IMAGE_FOLDERS, ("instances",)) if split
    ],
    write=_write,
    title="your own: images/ and instances/",
    ignores=False,
    table=labels.NUCLEI,
    contents="instances",
)
