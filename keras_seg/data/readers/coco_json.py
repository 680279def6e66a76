"""Your own pictures with a COCO JSON, as annotation programs export them."""

import json

import numpy as np

from keras_seg.data.dataset import ImageReader, SegmentationDataset
from keras_seg.data.labels import LabelTable
from keras_seg.data.readers.coco_masks import CocoFile, instance_map, semantic_map
from keras_seg.data.readers.common import (
    choose_split,
    contents,
    existing_folder,
    find_classes,
    report,
    save_png,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.utils import write_json

_HEAD = 4096  # bytes looked at to tell a COCO file


def coco_json(
    root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None, white=None
):
    """images/ and one or more COCO JSON files beside it (or in annotations/), a file a split.

    Classes are "background" (0) and the file's categories by their ids (1..). Overlaps: the smaller
    object wins (`semantic_map`). `read_extra(i, "instances")` numbers the objects of a picture
    (`instance_map`). Needs pycocotools (extra "coco"). Arguments and errors: see `open_dataset`.

    Args:
        classes: a table of as many classes as the file has categories, and background.
    """
    root = existing_folder(root)
    files = _files(root)
    if not files or not (root / "images").is_dir():
        raise ValueError(
            f"{root}: expected images/ and a COCO file NAME.json. It holds: {contents(root)}."
        )
    split = choose_split(root, split, list(files))
    file = CocoFile(files[split])
    table = _table(file, root, split, classes, ignore_label)
    paths, errors, kept = [], [], []
    for image in file.images:
        path = root / "images" / image["file_name"]
        beside = root / image["file_name"]  # names that begin with images/
        path = beside if not path.is_file() and beside.is_file() else path
        if path.is_file():
            kept.append(image)
            paths.append(path)
        else:
            errors.append((path, f"is missing, though {file.path.name} lists it"))
    if not kept and not errors:
        raise ValueError(f"0 samples: {file.path} lists no images.")
    report(root, errors, problems)
    count = sum(len(file.annotations[image["id"]]) for image in kept)
    return SegmentationDataset(
        _CocoSource(file, kept, paths, ImageReader(channels, white)),
        table,
        [image["file_name"].rpartition(".")[0] or image["file_name"] for image in kept],
        channels=channels,
        layout="coco_json",
        split=split,
        description=f"{title(root, split)}: images/ with {file.path.name}, {count} annotations",
    )


class _CocoSource:
    """Source of a data set (see `SegmentationDataset`) that draws its label maps."""

    extras = ("instances",)

    def __init__(self, file, images, paths, read_image):
        self.file, self.images, self.image_paths, self.read_image = file, images, paths, read_image
        self.mask_paths = [file.path] * len(paths)
        self.ids = {item["id"]: n for n, item in enumerate(file.categories, start=1)}

    def image(self, index):
        return self.read_image(self.image_paths[index])

    def label(self, index):
        return semantic_map(self.file, self.images[index], self.ids)

    def extra(self, index, name):
        return instance_map(self.file, self.images[index])

    def both(self, index):
        return self.image(index), self.label(index)


def _table(file, root, split, classes, ignore_label):
    names = ["background", *(item["name"] for item in file.categories)]
    if classes is not None:
        table, _, _ = find_classes(root, split, classes, ignore_label)
        if table.num_classes != len(names):
            raise ValueError(
                f"{file.path} has {len(names) - 1} categories, which makes {len(names)} classes "
                f"with background, but {table.num_classes} classes were given."
            )
        return table
    try:
        return LabelTable(names, ignore_label=ignore_label)
    except ValueError as error:
        raise ValueError(f"{file.path}: its categories make no table: {error}") from error


def _files(root):
    """{split: Path} of the COCO files of a folder, train first."""
    places = [*root.glob("*.json"), *root.glob("annotations/*.json")]
    found = {
        path.stem.removeprefix("instances_"): path for path in sorted(places) if _is_coco(path)
    }
    return dict(sorted(found.items(), key=lambda item: item[0] != "train"))


def _is_coco(path):
    """Whether the file starts as a COCO file does: a look at its first bytes only."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD).lstrip()
    except OSError:
        return False
    return head.startswith(b"{") and any(
        json.dumps(key).encode() in head for key in ("images", "annotations")
    )


def _write(root, split, samples):
    """One annotation a class and picture, as run lengths; an ignored line becomes background."""
    images, annotations = [], []
    for number, sample in enumerate(samples, start=1):
        save_png(root / "images" / f"{sample.name}.png", sample.image)
        height, width = sample.label.shape
        images.append(
            {"id": number, "file_name": f"{sample.name}.png", "height": height, "width": width}
        )
        for category in range(1, 4):
            mask = sample.label == category
            if mask.any():
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": category,
                        "iscrowd": 0,
                        "segmentation": {"size": [height, width], "counts": runs(mask)},
                    }
                )
    categories = [{"id": n, "name": f"class {n}"} for n in range(1, 4)]
    value = {"images": images, "annotations": annotations, "categories": categories}
    write_json(root / f"{split}.json", value)


def runs(mask):
    """Lengths of the runs of a mask in columns, beginning with those of 0."""
    flat = np.concatenate([[0], mask.T.ravel(), [2]])
    ends = np.flatnonzero(np.diff(flat.astype(int)))
    return [int(n) for n in np.diff([0, *ends])]


LAYOUT = Layout(
    name="coco_json",
    read=coco_json,
    detect=lambda root: (root / "images").is_dir() and bool(_files(root)),
    splits=lambda root: list(_files(root)),
    write=_write,
    title="your own: images/ and a COCO JSON",
    ignores=False,
    contents="instances",
)
