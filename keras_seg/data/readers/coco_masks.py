"""COCO's JSON of annotations: read, checked, and drawn as maps of classes or of objects.

Format: Lin et al. "Microsoft COCO: Common Objects in Context", 2014; polygons or run lengths, with
pycocotools deciding which pixels they cover.
"""

import pathlib

import numpy as np

from keras_seg.utils import read_json

_MOST_LISTED = 20  # wrong annotations that an error names


class CocoFile:
    """The annotations of one JSON file.

    Args:
        path: of the file.

    Attributes:
        path: Path.
        images: list of {"id", "file_name", "height", "width", ...}, in the file's order.
        categories: list of {"id", "name", ...}, by id.
        annotations: {id of an image: list of its annotations, in the file's order}.

    Raises:
        ValueError: naming the file and the image or annotation, if the file is no such JSON, an id
            occurs twice or is unknown, or an annotation has no proper segmentation.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        value = read_json(self.path)
        keys = ("images", "annotations", "categories")
        if not isinstance(value, dict) or not all(isinstance(value.get(k), list) for k in keys):
            raise ValueError(
                f"{self.path}: not a COCO file: it must be an object with the lists "
                '"images", "annotations" and "categories".'
            )
        self.images = value["images"]
        self._check("image", self.images, id=int, file_name=str, height=int, width=int)
        self.categories = value["categories"]
        self._check("category", self.categories, id=int, name=str)
        self.categories = sorted(self.categories, key=lambda item: item["id"])
        self._check("annotation", value["annotations"], id=int, image_id=int, category_id=int)
        known = {item["id"] for item in self.categories}
        images = {item["id"]: item for item in self.images}
        self.annotations = {key: [] for key in images}
        wrong = []
        for item in value["annotations"]:
            if item["category_id"] not in known:
                problem = f"category_id {item['category_id']} is not in categories"
            elif item["image_id"] not in images:
                problem = f"image_id {item['image_id']} is not in images"
            else:
                problem = _wrong_segmentation(item, images[item["image_id"]])
                self.annotations[item["image_id"]].append(item)
            if problem:
                wrong.append(f"annotation {item['id']}: {problem}")
        if wrong:
            more = f"; and {len(wrong) - _MOST_LISTED} more" * (len(wrong) > _MOST_LISTED)
            raise ValueError(f"{self.path}: {'; '.join(wrong[:_MOST_LISTED])}{more}.")

    def mask(self, annotation, image):
        """The pixels of one annotation: bool (H, W).

        Raises:
            ValueError: if they cannot be drawn, or pycocotools is not installed.
        """
        try:
            from pycocotools import mask as tools
        except ImportError as error:
            raise ValueError(
                "COCO annotations need pycocotools: pip install 'keras-seg[coco]'."
            ) from error
        shape = annotation["segmentation"]
        size = image["height"], image["width"]
        try:
            if isinstance(shape, list):
                runs = tools.merge(tools.frPyObjects(shape, *size))
            elif isinstance(shape["counts"], list):
                runs = tools.frPyObjects(shape, *size)
            else:
                runs = {"size": list(size), "counts": shape["counts"].encode("ascii")}
            return tools.decode(runs).astype(bool)
        except Exception as error:  # whatever its C code reports
            raise ValueError(
                f"{self.path}: annotation {annotation['id']}: its segmentation cannot be drawn "
                f"({error})."
            ) from error

    def _check(self, kind, items, **fields):
        """Every item must be a dict with these fields of these types, and no id twice."""
        seen = set()
        for place, item in enumerate(items):
            for key, needed in fields.items():
                value = item.get(key) if isinstance(item, dict) else None
                sound = isinstance(value, needed) and not isinstance(value, bool)
                if not sound or (key in ("height", "width") and value < 1):
                    raise ValueError(
                        f"{self.path}: {kind} number {place}: {key!r} must be "
                        f"{'text' if needed is str else 'a whole number'}, got {value!r:.60}."
                    )
            if item["id"] in seen:
                raise ValueError(f"{self.path}: {kind} id {item['id']} occurs twice.")
            seen.add(item["id"])


def _wrong_segmentation(item, image):
    """What is wrong with the polygons or run lengths of an annotation, or None."""
    shape = item.get("segmentation")
    if isinstance(shape, list) and shape:
        bad = [polygon for polygon in shape if not _is_polygon(polygon)]
        if bad:
            return f"a polygon must be [x, y, ...] of 3 points or more: {bad[0]!r:.60}"
        return None
    if not isinstance(shape, dict) or not isinstance(shape.get("counts"), list | str):
        return "it has no segmentation (polygons or run lengths)"
    height, width = image["height"], image["width"]
    if shape.get("size") != [height, width]:
        return f"its runs are of size {shape.get('size')}, the image {[height, width]}"
    counts = shape["counts"]
    if isinstance(counts, list):
        sound = all(isinstance(n, int) and n >= 0 for n in counts)
        if not sound or sum(counts) != height * width:
            return f"its runs do not add up to {height * width} pixels"
    return None


def _is_polygon(value):
    """Whether it is [x, y, ...] of 3 points or more; by arrays, for COCO has a million of them."""
    if not isinstance(value, list) or len(value) < 6 or len(value) % 2:
        return False
    try:
        array = np.array(value)
    except ValueError:  # of lists of different lengths
        return False
    return array.ndim == 1 and array.dtype.kind in "iuf" and bool(np.isfinite(array).all())


def semantic_map(file, image, ids):
    """The classes of one image: uint8 (H, W), 0 where there is no annotation.

    Where annotations overlap, the smaller one (by its pixels) wins: a fork on a table stays.

    Args:
        file: `CocoFile`.
        image: one of its `images`.
        ids: {id of a category: id of its class}; annotations of other categories are left out.
    """
    label = np.zeros((image["height"], image["width"]), "uint8")
    for annotation, mask in _by_area(file, image, ids):
        label[mask] = ids[annotation["category_id"]]
    return label


def instance_map(file, image, ids=None):
    """The objects of one image: int32 (H, W), 0 background, else 1.. in the file's order.

    Crowds (`iscrowd`) are no single objects and stay 0 (they still take a number, and hide no
    object). Overlaps and arguments as in `semantic_map`; `ids=None` takes all categories.
    """
    numbers = {a["id"]: n for n, a in enumerate(file.annotations[image["id"]], start=1)}
    instances = np.zeros((image["height"], image["width"]), "int32")
    for annotation, mask in _by_area(file, image, ids):
        if not annotation.get("iscrowd"):
            instances[mask] = numbers[annotation["id"]]
    return instances


def _by_area(file, image, ids):
    """(annotation, mask) from the largest to the smallest."""
    wanted = [a for a in file.annotations[image["id"]] if ids is None or a["category_id"] in ids]
    drawn = [(annotation, file.mask(annotation, image)) for annotation in wanted]
    return sorted(drawn, key=lambda item: -np.count_nonzero(item[1]))
