"""MS COCO: Lin et al. "Microsoft COCO: Common Objects in Context", ECCV 2014."""

import functools
import numbers

import numpy as np

from keras_seg.data import labels, read
from keras_seg.data.dataset import Files, ImageReader, SegmentationDataset
from keras_seg.data.labels import LabelTable
from keras_seg.data.readers.coco_json import runs
from keras_seg.data.readers.coco_masks import CocoFile, instance_map, semantic_map
from keras_seg.data.readers.common import (
    MappedReader,
    check_class_count,
    choose_split,
    contents,
    existing_folder,
    find_classes,
    find_listed,
    pair,
    report,
    save_jpeg,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.utils import read_json, unknown_name, writable_folder, write_json

_PROTOCOLS = ("things", "voc", "stuff", "panoptic")
_LEAST_PIXELS = 1000  # of a picture in protocol "voc"
_STUFF_FOLDERS = ("stuffthingmaps", "stuffthingmaps_trainval2017", "annotations")


def coco(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    white=None,
    protocol="things",
):
    """MS COCO: pictures in train2017/ (or images/train2017/), annotations/instances_train2017.json.

    Splits are called as the files are; "train" and "val" find the year by themselves. Protocols:

    - "things": background and 80 classes (`labels.COCO_THINGS`), drawn from the polygons of
      instances_SPLIT.json; where objects overlap, the smaller wins. Crowds count as their class.
      A file with other categories has those, by their ids.
    - "voc": the same drawn with PASCAL VOC's 21 classes, all else background, and only of pictures
      with more than 1000 labelled pixels: for training before VOC.
    - "stuff": 171 classes (`labels.COCO_STUFF`) from COCO-Stuff's stuffthingmaps/SPLIT/NAME.png.
    - "panoptic": panoptic_SPLIT.json with panoptic_SPLIT/NAME.png; the file's categories by their
      ids, pixels of no segment `ignore_label`.

    Extra "instances" in all but "stuff": 0, else 1.. in the file's order; crowds, and stuff in
    "panoptic", are 0. "things" and "voc" need pycocotools (the extra "coco").

    Args:
        root, split, channels, ignore_label, problems: see `open_dataset`.
        classes: a table with as many classes as the protocol has.
        white: see `read_image`.
        protocol: see above.

    Raises:
        ValueError: see `open_dataset`; for an unknown protocol, or files that do not have it.
    """
    root = existing_folder(root)
    if protocol not in _PROTOCOLS:
        raise unknown_name("protocol", protocol, _PROTOCOLS)
    split = _choose(root, split, _splits(root, protocol), protocol)
    images = _image_folder(root, split)
    open_it = {"stuff": _open_stuff, "panoptic": _open_panoptic}.get(protocol, _open_instances)
    if protocol == "voc":
        open_it = functools.partial(open_it, as_voc=True)
    given, _, _ = find_classes(root, None, classes, ignore_label)
    ignore = (given or labels.COCO_STUFF).ignore_label
    errors = []
    read_image = ImageReader(channels, white)
    names, source, table = open_it(root, split, images, read_image, ignore, errors)
    report(root, errors, problems)
    if given is not None:
        check_class_count(root, given, table.num_classes, f"protocol {protocol!r}")
        table = given
    return SegmentationDataset(
        source,
        table,
        names,
        channels=channels,
        layout="coco",
        split=split,
        description=f"{title(root, split)}: COCO, {protocol}, {table.num_classes} classes",
    )


def _open_instances(root, split, images, read_image, ignore, errors, as_voc=False):
    file = CocoFile(root / "annotations" / f"instances_{split}.json")
    categories = [item["id"] for item in file.categories]
    official = categories == list(labels.COCO_THING_IDS)
    if as_voc and not official:
        raise ValueError(f"{file.path}: protocol 'voc' needs COCO's own 80 categories.")
    ids = {category: index for index, category in enumerate(categories, start=1)}
    table = labels.COCO_THINGS if official else _table(file.path, file.categories, "background")
    if as_voc:
        ids, table = labels.COCO_VOC_IDS, labels.VOC
    kept = [item for item in file.images if not as_voc or _has_enough(file, item, ids)]
    by_name = {item["file_name"]: item for item in kept}
    found, paths, _ = find_listed(
        list(by_name), lambda name: images / name, lambda name: file.path, file.path.name, errors
    )
    source = _Drawn(file, [by_name[name] for name in found], ids, paths, read_image)
    return [_stem(name) for name in found], source, table


def _has_enough(file, image, ids):
    """Whether more than `_LEAST_PIXELS` pixels are labelled; drawn only where areas leave doubt."""
    wanted = [a for a in file.annotations[image["id"]] if a["category_id"] in ids]
    areas = [annotation.get("area") for annotation in wanted]
    if all(isinstance(area, numbers.Real) for area in areas):
        if max(areas, default=0) > 2 * _LEAST_PIXELS:
            return True
        if sum(areas) < _LEAST_PIXELS / 2:
            return False
    return np.count_nonzero(semantic_map(file, image, ids)) > _LEAST_PIXELS


class _Drawn:
    """Source of a data set (see `SegmentationDataset`) that draws its label maps."""

    extras = ("instances",)

    def __init__(self, file, images, ids, paths, read_image):
        self.file, self.images, self.ids, self.read_image = file, images, ids, read_image
        self.image_paths, self.mask_paths = paths, [file.path] * len(paths)

    def image(self, index):
        return self.read_image(self.image_paths[index])

    def label(self, index):
        return semantic_map(self.file, self.images[index], self.ids)

    def extra(self, index, name):
        return instance_map(self.file, self.images[index], self.ids)

    def both(self, index):
        return self.image(index), self.label(index)


def _open_stuff(root, split, images, read_image, ignore, errors):
    table = labels.COCO_STUFF
    names, paths, masks = pair(images, _stuff_folder(root, split), "", errors)
    ids = labels.COCO_STUFF_IDS | {255: ignore}
    read_label = MappedReader(read.read_mask, table, ids)
    return names, Files(paths, masks, read_image, read_label), table


def _open_panoptic(root, split, images, read_image, ignore, errors):
    file = root / "annotations" / f"panoptic_{split}.json"
    value = read_json(file)
    try:
        categories = sorted(value["categories"], key=lambda item: item["id"])
        photos = {item["id"]: item["file_name"] for item in value["images"]}
        entries = {photos[item["image_id"]]: item for item in value["annotations"]}
        things = {item["id"] for item in categories if item["isthing"]}
        ids = {item["id"]: index for index, item in enumerate(categories)}
        table = _table(file, categories)
        segments = {
            item["file_name"]: [
                (s["id"], ids[s["category_id"]], s["category_id"] in things and not s["iscrowd"])
                for s in item["segments_info"]
            ]
            for item in entries.values()
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file}: not COCO's panoptic JSON: {error!r} is wrong.") from error
    folder = file.with_suffix("")
    found, paths, masks = find_listed(
        list(entries),
        lambda name: images / name,
        lambda name: folder / entries[name]["file_name"],
        file.name,
        errors,
    )
    source = Files(
        paths,
        masks,
        read_image,
        functools.partial(_panoptic_classes, segments=segments, ignore=ignore),
        {"instances": (masks, functools.partial(_panoptic_objects, segments=segments))},
    )
    return [_stem(name) for name in found], source, table


def _panoptic_classes(path, segments, ignore):
    numbers = _read_segments(path)
    label = np.full(numbers.shape, ignore, "uint8")
    for number, index, _ in segments[path.name]:
        label[numbers == number] = index
    known = [0, *(number for number, _, _ in segments[path.name])]
    strange = np.setdiff1d(numbers, known)
    if strange.size:
        raise ValueError(
            f"{path}: segment {strange[0]} is none of those that its JSON lists for the picture."
        )
    return label


def _panoptic_objects(path, segments):
    numbers = _read_segments(path)
    instances = np.zeros(numbers.shape, "int32")
    for count, (number, _, single) in enumerate(segments[path.name], start=1):
        if single:
            instances[numbers == number] = count
    return instances


def _read_segments(path):
    return read.read_image(path).astype("int32") @ np.array([1, 256, 65536], "int32")


def _table(file, categories, *first):
    try:
        return LabelTable([*first, *(item["name"] for item in categories)])
    except ValueError as error:
        raise ValueError(f"{file}: its categories make no table: {error}") from error


def _stem(name):
    return name.rpartition(".")[0] or name


def _image_folder(root, split):
    places = (root / split, root / "images" / split)
    return next((place for place in places if place.is_dir()), None)


def _stuff_folder(root, split):
    places = (root / folder / split for folder in _STUFF_FOLDERS)
    return next((place for place in places if place.is_dir()), None)


def _splits(root, protocol=None):
    """The splits with labels of a protocol (None: of any), train first."""
    found = set()
    for kind in ("instances", "panoptic"):
        if protocol in (None, kind) or (kind == "instances" and protocol in ("things", "voc")):
            files = (root / "annotations").glob(f"{kind}_*.json")
            found |= {path.stem.removeprefix(f"{kind}_") for path in files}
    if protocol in (None, "stuff"):
        places = [place for folder in _STUFF_FOLDERS for place in (root / folder).glob("*/")]
        found |= {place.name for place in places if place.is_dir()}
    found = [split for split in found if _image_folder(root, split)]
    return sorted(found, key=lambda split: (not split.startswith("train"), split))


def _is_coco(root):
    """Not a plain folder with annotations/train/: has COCO's names of JSON files or of a folder."""
    jsons = [*root.glob("annotations/instances_*.json"), *root.glob("annotations/panoptic_*.json")]
    stuff = [folder for folder in _STUFF_FOLDERS[:2] if (root / folder).is_dir()]
    return bool(jsons or stuff)


def _choose(root, split, found, protocol):
    if not found:
        raise ValueError(
            f"{root}: nothing for protocol {protocol!r}. Expected pictures in SPLIT/ or "
            "images/SPLIT/, and annotations/instances_SPLIT.json (things, voc), "
            "stuffthingmaps/SPLIT/ (stuff) or annotations/panoptic_SPLIT.json (panoptic). "
            f"It holds: {contents(root)}.{_other_protocols(root)}"
        )
    wanted = split or "train"
    of_a_year = [name for name in found if name.rstrip("0123456789") == wanted]
    if of_a_year and wanted not in found:
        return of_a_year[-1]
    return choose_split(root, split, found)


def _other_protocols(root):
    """A hint at the protocols of which there are labels."""
    found = [name for name in _PROTOCOLS if _splits(root, name)]
    return f" It has what protocol={found[0]!r} needs." if found else ""


def _write(root, split, samples):
    """instances_SPLIT2017.json with run lengths, an annotation an object."""
    images, annotations = [], []
    numbers = list(labels.COCO_THING_IDS)
    for number, sample in enumerate(samples, start=1):
        name = f"{number:012d}.jpg"
        save_jpeg(root / f"{split}2017" / name, sample.image)
        height, width = sample.label.shape
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for instance in np.unique(sample.instances[sample.label > 0]).tolist():
            mask = (sample.instances == instance) & (sample.label > 0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": numbers[int(sample.label[mask][0]) - 1],
                    "iscrowd": 0,
                    "area": int(mask.sum()),
                    "segmentation": {"size": [height, width], "counts": runs(mask)},
                }
            )
    names = labels.COCO_THINGS.names
    categories = [{"id": n, "name": names[i]} for n, i in labels.COCO_THING_IDS.items()]
    value = {"images": images, "annotations": annotations, "categories": categories}
    write_json(writable_folder(root / "annotations") / f"instances_{split}2017.json", value)


LAYOUT = Layout(
    name="coco",
    read=coco,
    detect=lambda root: bool(_splits(root)) and _is_coco(root),
    splits=lambda root, protocol="things": _splits(root, protocol) or _splits(root),
    write=_write,
    title="MS COCO 2017, COCO-Stuff, panoptic",
    table=labels.COCO_THINGS,
    ignores=False,
    contents="instances",
    published={"train2017": 118287, "val2017": 5000, "train2014": 82783, "val2014": 40504},
    licence="annotations CC BY 4.0; photos under Flickr's terms",
    source="cocodataset.org; stuff: github.com/nightrome/cocostuff",
    tfds="coco/2017_panoptic has panoptic maps; coco/2014 and coco/2017 boxes only",
)
