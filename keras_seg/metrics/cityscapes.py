"""The scores of the Cityscapes pixel-level benchmark.

Cordts et al. "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016, and the
definitions of its evaluation script. Everything is in label ids, 0 to 33, not in the 19 ids that
networks train on: `train_ids_to_label_ids` converts a prediction.

Counts are summed over all images. For a class, and for a category over its classes:

    IoU    TP / (TP + FP + FN). Pixels whose label is not evaluated (parking, static, ...) do not
           count; a pixel that does and is predicted as such a label is missed (FN).
    iIoU   iTP / (iTP + FP + iFN) for classes with instances: each true instance's found and missed
           pixels are multiplied by the average size of its class over its own size, so that small
           objects weigh as much as large ones. FP are plain pixels: a prediction has no instances.
           Regions of several objects (car group, ...) are no instances.

A score whose denominator is 0 is NaN and left out of the means.
"""

import math

import numpy as np

# Label ids 0 .. 33: name, category, whether it is evaluated. License plate (-1) is in no image.
_LABELS = (
    ("unlabeled", "void", False),
    ("ego vehicle", "void", False),
    ("rectification border", "void", False),
    ("out of roi", "void", False),
    ("static", "void", False),
    ("dynamic", "void", False),
    ("ground", "void", False),
    ("road", "flat", True),
    ("sidewalk", "flat", True),
    ("parking", "flat", False),
    ("rail track", "flat", False),
    ("building", "construction", True),
    ("wall", "construction", True),
    ("fence", "construction", True),
    ("guard rail", "construction", False),
    ("bridge", "construction", False),
    ("tunnel", "construction", False),
    ("pole", "object", True),
    ("polegroup", "object", False),
    ("traffic light", "object", True),
    ("traffic sign", "object", True),
    ("vegetation", "nature", True),
    ("terrain", "nature", True),
    ("sky", "sky", True),
    ("person", "human", True),
    ("rider", "human", True),
    ("car", "vehicle", True),
    ("truck", "vehicle", True),
    ("bus", "vehicle", True),
    ("caravan", "vehicle", False),
    ("trailer", "vehicle", False),
    ("train", "vehicle", True),
    ("motorcycle", "vehicle", True),
    ("bicycle", "vehicle", True),
)
NUM_LABELS = len(_LABELS)
# The label id of each train id, 0 .. 18.
LABEL_IDS = tuple(i for i, (_, _, evaluated) in enumerate(_LABELS) if evaluated)
CLASSES = tuple(_LABELS[i][0] for i in LABEL_IDS)
CATEGORIES = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
# The mean number of pixels of an instance of a class in the data set.
AVERAGE_SIZES = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
CATEGORIES_WITH_INSTANCES = ("human", "vehicle")

_CATEGORY = np.array([("void", *CATEGORIES).index(category) for _, category, _ in _LABELS])
_EVALUATED = np.isin(np.arange(NUM_LABELS), LABEL_IDS)
_AVERAGE_SIZE = np.array([AVERAGE_SIZES.get(name, 0.0) for name, _, _ in _LABELS])


def train_ids_to_label_ids(train_ids):
    """Label ids of predictions: what `CityscapesScores` and the benchmark's server take.

    Args:
        train_ids: integers of any shape, 0 .. 18; 255 becomes 0, unlabeled.

    Returns:
        uint8 of the same shape.

    Raises:
        ValueError: no integers, or other ids.
    """
    train_ids = np.asarray(train_ids)
    _check_integers("train ids", train_ids)
    unknown = (train_ids != 255) & ((train_ids < 0) | (train_ids >= len(CLASSES)))
    if unknown.any():
        found = ", ".join(str(i) for i in np.unique(train_ids[unknown])[:8])
        raise ValueError(
            f"Train ids of Cityscapes are 0 .. {len(CLASSES) - 1} and 255, not {found}."
        )
    table = np.zeros(256, "uint8")
    table[: len(CLASSES)] = LABEL_IDS
    return table[train_ids]


class CityscapesScores:
    """Counts over images, and the scores of Cityscapes from them.

        found = CityscapesScores()
        for ...:
            found.update(label_ids, train_ids_to_label_ids(predicted), instance_ids)
        print(format_cityscapes(found.result()))

    Attributes:
        matrix: int64 (34, 34), pixels by true and predicted label id.
        weighted: float64 (34, 3), over the instances of each class the weighted pixels that are
            found as that class, found as any class of its category, and all.
        images: their number.
        with_instances: whether instance ids were given; None before the first image.
    """

    def __init__(self):
        self.matrix = np.zeros((NUM_LABELS, NUM_LABELS), "int64")
        self.weighted = np.zeros((NUM_LABELS, 3))
        self.images = 0
        self.with_instances = None

    def update(self, label_ids, predictions, instance_ids=None):
        """Add an image.

        Args:
            label_ids: integers (H, W), 0 .. 33, as in the files `*_labelIds.png`.
            predictions: integers (H, W), label ids as well.
            instance_ids: integers (H, W), as in the files `*_instanceIds.png`: 1000 * label id +
                number for the pixels of an instance, the label id elsewhere. Give them for all
                images or for none; without them there is no iIoU.

        Raises:
            ValueError: no integers, different shapes, unknown ids, instance ids that are of other
                labels, or given for some images only. Nothing is counted then.
        """
        label_ids, predictions = np.asarray(label_ids), np.asarray(predictions)
        for what, ids in (("label ids", label_ids), ("predictions", predictions)):
            _check_integers(what, ids)
            unknown = (ids < 0) | (ids >= NUM_LABELS)
            if unknown.any():
                found = ", ".join(str(i) for i in np.unique(ids[unknown])[:8])
                raise ValueError(
                    f"{what} of Cityscapes are 0 .. {NUM_LABELS - 1}, not {found}. Convert the "
                    "output of a network with train_ids_to_label_ids."
                )
        if label_ids.ndim != 2 or label_ids.shape != predictions.shape:
            raise ValueError(
                "Give label ids and predictions of one shape (H, W), got "
                f"{label_ids.shape} and {predictions.shape}."
            )
        with_instances = instance_ids is not None
        if self.with_instances not in (None, with_instances):
            raise ValueError("Give instance ids for all images or for none.")
        if with_instances:
            weighted = _weigh_instances(label_ids, predictions, np.asarray(instance_ids))
            self.weighted += weighted
        cells = label_ids.astype("int64") * NUM_LABELS + predictions
        counts = np.bincount(cells.ravel(), minlength=NUM_LABELS**2)
        self.matrix += counts.reshape(NUM_LABELS, NUM_LABELS)
        self.images += 1
        self.with_instances = with_instances

    def merge(self, other):
        """Add what another `CityscapesScores` has counted on other images."""
        if None not in (self.with_instances, other.with_instances):
            if self.with_instances != other.with_instances:
                raise ValueError("Only one of the two has counted instances.")
        self.matrix += other.matrix
        self.weighted += other.weighted
        self.images += other.images
        if self.with_instances is None:
            self.with_instances = other.with_instances

    def result(self):
        """The scores.

        Returns:
            dict of "class_iou" (of 19 names), "class_iiou" (8), "category_iou" (7) and
            "category_iiou" (human, vehicle), each a dict of floats, NaN where undefined; of their
            means "mean_class_iou", "mean_class_iiou", "mean_category_iou", "mean_category_iiou";
            and of "images". Without instance ids the iIoU are NaN.
        """
        result = {
            "class_iou": {name: self._iou([i], [i]) for name, i in _named_ids()},
            "class_iiou": {
                name: self._iou([i], [i], instances=0)
                for name, i in _named_ids()
                if name in AVERAGE_SIZES
            },
            "category_iou": {},
            "category_iiou": {},
        }
        for code, category in enumerate(CATEGORIES, 1):
            members = np.flatnonzero(_CATEGORY == code)
            evaluated = members[_EVALUATED[members]]
            result["category_iou"][category] = self._iou(evaluated, evaluated)
            if category in CATEGORIES_WITH_INSTANCES:
                # Here the script counts predictions of caravan and trailer as vehicles too.
                result["category_iiou"][category] = self._iou(evaluated, members, instances=1)
        for name in list(result):
            values = [value for value in result[name].values() if not math.isnan(value)]
            result[f"mean_{name}"] = sum(values) / len(values) if values else math.nan
        return {**result, "images": self.images}

    def _iou(self, truth, predicted, instances=None):
        """IoU of a group of true labels with predicted ones; iIoU by a column of `weighted`."""
        if instances is not None and not self.with_instances:
            return math.nan
        others = _EVALUATED.copy()
        others[truth] = False
        false = self.matrix[others][:, predicted].sum()
        if instances is None:
            hit, all_true = self.matrix[truth][:, predicted].sum(), self.matrix[truth].sum()
        else:
            hit, all_true = self.weighted[truth, instances].sum(), self.weighted[truth, 2].sum()
        return float(hit / (all_true + false)) if all_true + false else math.nan


def _named_ids():
    return zip(CLASSES, LABEL_IDS, strict=True)


def _check_integers(what, ids):
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{what} must be integers, got {ids.dtype}.")


def _weigh_instances(label_ids, predictions, instance_ids):
    """What one image adds to `CityscapesScores.weighted`."""
    _check_integers("instance ids", instance_ids)
    if instance_ids.shape != label_ids.shape:
        raise ValueError(
            f"instance ids {instance_ids.shape} and label ids {label_ids.shape} differ in shape."
        )
    inside = instance_ids >= 1000
    if (np.where(inside, instance_ids // 1000, instance_ids) != label_ids).any():
        raise ValueError("The instance ids are not of this image: their labels differ.")
    ids, number = np.unique(instance_ids[inside], return_inverse=True)
    predictions, labels = predictions[inside], label_ids[inside]
    same = _CATEGORY[predictions] == _CATEGORY[labels]
    # (instances, 3): pixels found as the class, found as its category, and all.
    pixels = [np.bincount(number, mask, len(ids)) for mask in (predictions == labels, same)]
    pixels.append(np.bincount(number, minlength=len(ids)))
    pixels = np.stack(pixels, axis=1)
    classes = ids // 1000
    weight = _AVERAGE_SIZE[classes] / pixels[:, 2]
    weighted = np.zeros((NUM_LABELS, 3))
    np.add.at(weighted, classes, pixels * weight[:, None])
    return weighted


def format_cityscapes(result):
    """The scores of `CityscapesScores.result` as a table: classes, categories, and their means."""
    lines = []
    for kind in ("class", "category"):
        lines.append(f"{kind:16}{'IoU':>8}{'iIoU':>8}")
        for name, value in result[f"{kind}_iou"].items():
            instance = result[f"{kind}_iiou"].get(name, math.nan)
            lines.append(f"{name:16}{_cell(value)}{_cell(instance)}")
        means = (result[f"mean_{kind}_iou"], result[f"mean_{kind}_iiou"])
        lines += [f"{'mean':16}{_cell(means[0])}{_cell(means[1])}", ""]
    return "\n".join([*lines, f"{result['images']} images"])


def _cell(value):
    return f"{'-':>8}" if math.isnan(value) else f"{value:>8.4f}"
