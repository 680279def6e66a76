"""How well predicted contours lie on the true ones: DAVIS, boundary F1, and IoU in a trimap.

An edge pixel is one that has a pixel of another id among its four neighbours in the picture. The
rim of the picture is no edge. Ignored pixels take part in nothing; `void_edges` says whether a
class ends where they begin. True suits data whose objects are outlined by a strip of them (PASCAL
VOC: without it there would be no edges at all), False suits data where they are regions that were
not labelled (Cityscapes), and batches that are padded with them.

A tolerance of 1 or more is a distance in pixels, one below 1 a share of the picture's diagonal.
Distances are Euclidean between the centres of pixels, and a distance equal to the tolerance is
within it: a disk of that radius, which the distance transform would give as well.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_seg.metrics.confusion import (
    MeanIoU,
    check_classes,
    check_pixels,
    confusion_matrix,
    sort_pixels,
)
from keras_seg.utils import unknown_name

# --- DAVIS ---


def davis_f(labels, predictions, tolerance=0.008, ignored=None):
    """Contour accuracy F of one object in one frame (Perazzi et al. 2016, DAVIS).

    The boundary lies half a pixel to the upper left of where a mask begins or ends: a pixel that
    differs from its right, lower or lower right neighbour.

    Args:
        labels, predictions: masks (H, W), anything but 0 is the object.
        tolerance: pixels, or a share of the diagonal, which DAVIS rounds up to whole pixels.
        ignored: mask (H, W) of pixels that are taken for background in both, or None.

    Returns:
        (F, precision, recall), each 0..1; all 1 where neither mask has a boundary, F 0 where only
        one of them has.

    Raises:
        ValueError: the shapes differ, or a tolerance below 0.
    """
    labels, predictions = _masks(labels, predictions, ignored)
    radius = _radius(tolerance, labels.shape)
    radius = math.ceil(radius) if tolerance < 1 else radius
    edges = [np.where(_half_pixel_boundary(mask), 0, -1) for mask in (predictions, labels)]
    if any((edge < 0).all() for edge in edges):
        precision, recall = (float((edge < 0).all()) for edge in edges)
    else:
        precision, recall = (float(hit.mean()) for _, hit in _match_near(*edges, radius))
    return float(_harmonic_mean(precision, recall)), precision, recall


def davis_j(labels, predictions, ignored=None):
    """Region similarity J of one object in one frame: IoU; 1 where both masks are empty.

    Arguments and errors: `davis_f`.
    """
    labels, predictions = _masks(labels, predictions, ignored)
    union = np.sum(labels | predictions)
    return float(np.sum(labels & predictions) / union) if union else 1.0


def davis_scores(sequences, *, tolerance=0.008, ignore_label=255, trim=True):
    """J and F over all objects of videos (Pont-Tuset et al., the DAVIS 2017 challenge).

    Of each object's J and F in its frames: the mean; the recall, the share of frames above 0.5;
    and the decay, how much the mean of the last quarter of the frames is below that of the first
    (quarters share their end frames, as in the official code).

    Args:
        sequences: iterable of pairs (labels, predictions), integers (T, H, W): 0 is background, the
            other ids in `labels` are the objects. Predicted ids that are no object in this
            sequence count as background.
        tolerance: as in `davis_f`.
        ignore_label: id of pixels in `labels` that are background in both, or None.
        trim: leave out the first and the last frame of each sequence, as the challenge does.

    Returns:
        Dict of floats, means over the objects of all sequences: "j_and_f" (mean of "j_mean" and
        "f_mean"), "j_mean", "j_recall", "j_decay", "f_mean", "f_recall", "f_decay"; NaN where
        there are no objects. "objects" is a list of one such dict each, with "sequence" (its
        place in the iterable) and "object" (its id).

    Raises:
        ValueError: no integers, shapes that differ, or too few frames.
    """
    objects = []
    for number, (labels, predictions) in enumerate(sequences):
        labels, predictions = np.asarray(labels), np.asarray(predictions)
        _check_video(number, labels, predictions, 3 if trim else 1)
        ids = np.setdiff1d(labels, [0] if ignore_label is None else [0, ignore_label])
        if trim:
            labels, predictions = labels[1:-1], predictions[1:-1]
        ignored = labels == ignore_label if ignore_label is not None else labels < labels
        for i in ids.tolist():
            frames = list(zip(labels == i, predictions == i, ignored, strict=True))
            j = np.array([davis_j(*frame) for frame in frames])
            f = np.array([davis_f(true, ours, tolerance, void)[0] for true, ours, void in frames])
            result = {**_over_time("j", j), **_over_time("f", f)}
            result["j_and_f"] = (result["j_mean"] + result["f_mean"]) / 2
            objects.append({"sequence": number, "object": i, **result})
    names = ["j_and_f", *(f"{s}_{part}" for s in "jf" for part in ("mean", "recall", "decay"))]
    means = {name: _mean([found[name] for found in objects]).item() for name in names}
    return {**means, "objects": objects}


def _masks(labels, predictions, ignored):
    labels, predictions = np.asarray(labels) != 0, np.asarray(predictions) != 0
    ignored = np.zeros_like(labels) if ignored is None else np.asarray(ignored) != 0
    shapes = {labels.shape, predictions.shape, ignored.shape}
    if labels.ndim != 2 or len(shapes) > 1:
        raise ValueError(
            "labels, predictions and ignored are masks of one shape (H, W), got "
            f"{labels.shape}, {predictions.shape} and {ignored.shape}."
        )
    return labels & ~ignored, predictions & ~ignored


def _check_video(number, labels, predictions, least):
    integers = all(np.issubdtype(ids.dtype, np.integer) for ids in (labels, predictions))
    if not integers or labels.ndim != 3 or labels.shape != predictions.shape:
        raise ValueError(
            f"Sequence {number}: labels and predictions are integers of one shape (T, H, W), got "
            f"{labels.dtype} {labels.shape} and {predictions.dtype} {predictions.shape}."
        )
    if len(labels) < least:
        raise ValueError(
            f"Sequence {number} has {len(labels)} frames, at least {least} are needed"
            + (": the first and the last are left out (trim=True)." if least > 1 else ".")
        )


def _half_pixel_boundary(mask):
    # A pixel without a right or lower neighbour is compared with those that it has.
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, lower, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return (mask != right) | (mask != lower) | (mask != diagonal)


def _over_time(name, values):
    """Mean, recall and decay of the values (T,) of one object."""
    cuts = np.floor(np.linspace(1, len(values), 5) + 0.5).astype(int) - 1
    first, last = values[: cuts[1] + 1], values[cuts[3] :]
    return {
        f"{name}_mean": float(values.mean()),
        f"{name}_recall": float(np.mean(values > 0.5)),
        f"{name}_decay": float(first.mean() - last.mean()),
    }


# --- Boundary F1 ---

MATCHING = ("distance", "one_to_one")


def boundary_counts(
    labels,
    predictions,
    num_classes,
    tolerance=0.0075,
    *,
    ignore_label=255,
    void_edges=True,
    matching="distance",
):
    """Count a picture's edge pixels, class by class, and those that lie on the other's edges.

    The boundary of a class are its own edge pixels (its mask without the erosion by four
    neighbours), so that it has one on each side of a contour between two classes.

    Args:
        labels: integers (H, W): class ids, or `ignore_label`.
        predictions: integers (H, W), class ids wherever the label is not ignored.
        num_classes: K.
        tolerance: pixels, or a share of the diagonal; the default is that of Csurka et al. 2013.
        ignore_label: id, list of ids or None.
        void_edges: whether a class ends where ignored pixels begin; see the module.
        matching: "distance", an edge pixel is found when any edge pixel of its class lies within
            the tolerance; "one_to_one", each edge pixel finds at most one (needs scipy), so that
            one contour cannot pay for two. The latter is meant for SegNet's 480 x 360 pictures: it
            takes minutes where the tolerance is many pixels.

    Returns:
        int64 (K, 4): predicted edge pixels, those of them that are right, true edge pixels, those
        of them that are found.

    Raises:
        ValueError: as `confusion_matrix`, for a tolerance below 0, an unknown matching, or where
            "one_to_one" has no scipy.
    """
    if matching not in MATCHING:
        raise unknown_name("matching", matching, MATCHING)
    labels, predictions, valid = check_pixels(labels, predictions, num_classes, ignore_label)
    if labels.ndim != 2:
        raise ValueError(f"labels must have the shape (H, W), got {labels.shape}.")
    radius = _radius(tolerance, labels.shape)
    truth, predicted = (
        np.where(_edges(ids, void_edges, np), ids, -1)
        for ids in (np.where(valid, i.astype("int32"), -1) for i in (labels, predictions))
    )
    match = _match_near if matching == "distance" else _match_one_to_one
    columns = []
    for ids, hit in match(predicted, truth, radius):
        columns += [np.bincount(i, minlength=num_classes) for i in (ids, ids[hit])]
    return np.stack(columns, axis=1)


def boundary_scores(counts, average="image"):
    """Boundary F1 of a data set (BF score; Csurka, Larlus, Perronnin 2013).

    F1 is the harmonic mean of precision (share of the predicted edge pixels that are right) and
    recall (share of the true ones that are found), for each class in each picture. A class without
    edges in truth and prediction has none there; with edges in only one of them it is 0.

    `average="image"` with `matching="one_to_one"` is the score in SegNet's tables up to two
    details: their BSDS code finds the assignment of least total distance, ours one of the largest
    size, and its boundaries lie between pixels. They score 480 x 360 pictures, where the default
    tolerance is 4.5 pixels, and count a picture without any edge as 0, where we leave it out.

    Args:
        counts: list of what `boundary_counts` gave for each picture.
        average: "image", the mean over the classes in each picture, then over the pictures
            (SegNet); "class", over the pictures for each class, then over the classes.

    Returns:
        Dict of floats "mean_f1", "mean_precision", "mean_recall" and of lists of K floats, over
        the pictures, "f1", "precision", "recall". Undefined is NaN.

    Raises:
        ValueError: for counts of another shape or an unknown average.
    """
    if average not in ("image", "class"):
        raise unknown_name("average", average, ("image", "class"))
    counts = np.asarray(counts, "float64")
    if counts.ndim != 3 or counts.shape[2] != 4:
        raise ValueError(
            f"counts are those of `boundary_counts`, N times (K, 4), got {counts.shape}."
        )
    predicted, right, truth, found = np.moveaxis(counts, -1, 0)
    with np.errstate(invalid="ignore"):
        values = {"precision": right / predicted, "recall": found / truth}
    f1 = _harmonic_mean(*(np.nan_to_num(v) for v in values.values()))
    values["f1"] = np.where(predicted + truth > 0, f1, np.nan)
    axes = (1, 0) if average == "image" else (0, 0)
    means = {f"mean_{name}": _mean(_mean(v, axes[0]), axes[1]).item() for name, v in values.items()}
    return {**means, **{name: _mean(v, 0).tolist() for name, v in values.items()}}


def _radius(tolerance, size):
    """The tolerance in pixels, for pictures of a size (H, W)."""
    if not 0 <= tolerance < math.inf:
        raise ValueError(
            f"A tolerance is pixels, or below 1 a share of the diagonal, got {tolerance}."
        )
    return tolerance if tolerance >= 1 else tolerance * math.hypot(*size)


def _harmonic_mean(a, b):
    return 2 * a * b / np.maximum(a + b, 1e-300)


def _mean(values, axis=0):
    """Mean over an axis of what is not NaN; NaN where nothing is."""
    values = np.asarray(values, "float64")
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _disk(radius):
    """Offsets (dy, dx) of the pixels within a distance, the nearest first."""
    reach = math.floor(radius)
    offsets = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    distances = np.sqrt((offsets**2).sum(axis=1))
    order = np.argsort(distances, kind="stable")
    return offsets[order][distances[order] <= radius]


def _match_near(ours, theirs, radius):
    """Of two maps of ids (H, W), -1 for no edge: which edge pixels lie near one of the same id.

    Yields for each of the two: ids (n,) of its edge pixels, whether each of them is matched (n,).
    """
    for edges, others in ((ours, theirs), (theirs, ours)):
        ids, matched = edges[edges >= 0], np.zeros(np.sum(edges >= 0), bool)
        for pixels, _ in _neighbours(edges, others, radius, matched):
            matched[pixels] = True
        yield ids, matched


def _match_one_to_one(ours, theirs, radius):
    """As `_match_near`, with each edge pixel matched to at most one: as many as can be."""
    try:
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_bipartite_matching
    except ImportError as error:
        raise ValueError(
            "matching='one_to_one' needs the package scipy: pip install 'keras-seg[eval]'."
        ) from error
    ids, other_ids = ours[ours >= 0], theirs[theirs >= 0]
    pairs = [np.stack(found) for found in _neighbours(ours, theirs, radius)]
    pairs = np.concatenate(pairs, axis=1)
    graph = csr_array((np.ones(pairs.shape[1], bool), pairs), shape=(ids.size, other_ids.size))
    partner = maximum_bipartite_matching(graph, perm_type="column")
    taken = np.zeros(other_ids.size, bool)
    taken[partner[partner >= 0]] = True
    return [(ids, partner >= 0), (other_ids, taken)]


def _neighbours(edges, others, radius, done=None):
    """Pairs of an edge pixel and one of the same id in `others`: their numbers, offset by offset.

    The caller may set `done` (n,) between two offsets: such edge pixels are passed over.
    """
    reach = math.floor(radius)
    padded = np.pad(others, reach, constant_values=-1)
    number = np.cumsum(padded >= 0) - 1
    rows, columns = np.nonzero(edges >= 0)
    ids = edges[rows, columns]
    places = (rows + reach) * padded.shape[1] + columns + reach
    pixels = np.arange(ids.size)
    for dy, dx in _disk(radius):
        if done is not None:
            pixels = pixels[~done[pixels]]
        there = places[pixels] + dy * padded.shape[1] + dx
        same = padded.ravel()[there] == ids[pixels]
        yield pixels[same], number[there[same]]


# --- Trimap ---

DISTANCES = ("euclidean", "chessboard")


def trimap_matrices(
    labels,
    predictions,
    num_classes,
    widths=(1, 2, 4, 8),
    *,
    ignore_label=255,
    distance="euclidean",
    void_edges=True,
):
    """Confusion matrices in bands along the true contours (Kohli, Ladicky, Torr 2009).

    A band of width w is w pixels wide on each side of a contour: all pixels at most w - 1 from an
    edge pixel. `keras_seg.metrics.scores` makes scores of each matrix; matrices of several
    pictures add up.

    Args:
        labels, predictions, num_classes, ignore_label: as in `confusion_matrix`, of one picture
            (H, W) or several (N, H, W).
        widths: pixels, each at least 1.
        distance: "euclidean" or "chessboard" (a square around each edge pixel).
        void_edges: whether a contour runs where ignored pixels begin; see the module.

    Returns:
        int64 (number of widths, K, K), rows the truth.

    Raises:
        ValueError: as `confusion_matrix`, for a width below 1 or an unknown distance.
    """
    for width in widths:
        _check_band(width, distance)
    labels, predictions, valid = check_pixels(labels, predictions, num_classes, ignore_label)
    edges = _edges(np.where(valid, labels.astype("int32"), -1), void_edges, np)
    matrices = []
    for width in widths:
        band = valid & _dilate(edges, width - 1, distance, np)
        matrices.append(confusion_matrix(labels[band], predictions[band], num_classes, None))
    return np.stack(matrices)


def _check_band(width, distance):
    if not 1 <= width < math.inf:
        raise ValueError(f"The width of a band must be at least 1 pixel, got {width}.")
    if distance not in DISTANCES:
        raise unknown_name("distance", distance, DISTANCES)


# --- Keras ---


@keras.saving.register_keras_serializable("keras_seg")
class TrimapIoU(MeanIoU):
    """Mean IoU in a band along the true contours: see `trimap_matrices`.

    As exact and as mergeable as `MeanIoU`. Where batches are padded with the ignore label, use
    `void_edges=False`: the rim of the padding would be a contour.

    Args:
        num_classes: K.
        width: of the band on each side of a contour, in pixels.
        ignore_label: id, list of ids or None.
        distance: "euclidean" or "chessboard".
        void_edges: whether a contour runs where ignored pixels begin.
        name, **options: as in `ConfusionMatrix`.
    """

    def __init__(
        self,
        num_classes,
        width,
        ignore_label=255,
        *,
        distance="euclidean",
        void_edges=True,
        name="trimap_iou",
        **options,
    ):
        super().__init__(num_classes, ignore_label, name=name, **options)
        _check_band(width, distance)
        self.width, self.distance, self.void_edges = width, distance, bool(void_edges)

    def update_state(self, y_true, y_pred, sample_weight=None):
        ids, predicted, valid, illegal = sort_pixels(self, y_true, y_pred, sample_weight)
        edges = _edges(ops.where(valid, ids, -1), self.void_edges, ops)
        band = _dilate(edges, self.width - 1, self.distance, ops)
        self._count(ids, predicted, ops.logical_and(valid, band), illegal)

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "distance": self.distance,
            "void_edges": self.void_edges,
        }


@keras.saving.register_keras_serializable("keras_seg")
class BoundaryF1(keras.metrics.Metric):
    """Boundary F1 of `boundary_counts` and `boundary_scores`, with the matching by distance.

    Takes what `ConfusionMatrix` takes and treats illegal ids alike. The sums over pictures add up
    over the replicas of `tf.distribute`. The cost grows with K times the tolerance in pixels: meant
    for validation, not for every training step.

    Args:
        num_classes: K.
        tolerance: pixels, or a share of the diagonal; a share needs pictures of a fixed size.
        ignore_label: id, list of ids or None.
        average: "image" or "class".
        void_edges: whether a class ends where ignored pixels begin; False where batches are padded.
        name, dtype: as in Keras.

    Raises:
        ValueError: for options out of range, and on update as `ConfusionMatrix`.
    """

    def __init__(
        self,
        num_classes,
        tolerance=0.0075,
        ignore_label=255,
        *,
        average="image",
        void_edges=True,
        name="boundary_f1",
        dtype=None,
    ):
        super().__init__(dtype=dtype, name=name)
        self.num_classes = check_classes(num_classes, ignore_label)
        self.ignore_label = ignore_label
        if average not in ("image", "class"):
            raise unknown_name("average", average, ("image", "class"))
        _radius(tolerance, (1, 1))
        self.tolerance, self.average = tolerance, average
        self.void_edges = bool(void_edges)
        # Sums and counts: of the pictures' means, or of each class.
        self._totals = self.add_variable(
            shape=(2, 1 if average == "image" else self.num_classes),
            initializer="zeros",
            dtype="float32",
            aggregation="sum",
            name="totals",
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        ids, predicted, valid, illegal = sort_pixels(self, y_true, y_pred, sample_weight)
        size = tuple(ids.shape[1:3])
        if self.tolerance < 1 and None in size:
            raise ValueError(
                f"{self.name}: a tolerance of {self.tolerance} of the diagonal needs pictures of "
                f"a known size, got {size}. Give the tolerance in pixels."
            )
        radius = _radius(self.tolerance, size if self.tolerance < 1 else (1, 1))
        # One picture at a time: the masks of all classes of a batch may not fit.
        f1 = ops.map(
            lambda maps: _f1_of_classes(*maps, self.num_classes, radius, self.void_edges),
            (ops.where(valid, ids, -1), ops.where(valid, predicted, -1)),
        )
        known = ops.cast(f1 >= 0, "float32")
        f1 = f1 * known
        if self.average == "image":
            count = ops.sum(known, axis=1, keepdims=True)
            f1 = ops.sum(f1, axis=1, keepdims=True) / ops.maximum(count, 1.0)
            known = ops.cast(count > 0, "float32")
        batch = ops.stack([ops.sum(f1, axis=0), ops.sum(known, axis=0)])
        self._totals.assign_add(ops.where(ops.any(illegal), float("nan"), batch))

    def result(self):
        total, count = self._totals[0], self._totals[1]
        means = ops.where(count > 0, total / ops.maximum(count, 1.0), 0.0)
        defined = ops.sum(ops.cast(count > 0, "float32"))
        mean = ops.sum(means) / ops.maximum(defined, 1.0)
        return ops.cast(ops.where(defined > 0, mean, float("nan")), self.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "tolerance": self.tolerance,
            "ignore_label": self.ignore_label,
            "average": self.average,
            "void_edges": self.void_edges,
        }


def _f1_of_classes(truth, predicted, num_classes, radius, void_edges):
    """Boundary F1 float32 (K,) of a picture's maps of ids (H, W); -1 for classes without edges."""
    classes = ops.reshape(ops.arange(num_classes, dtype="int32"), (-1, 1, 1))
    truth, predicted = (
        ops.logical_and(ops.equal(ids, classes), _edges(ids, void_edges, ops))
        for ids in (truth, predicted)
    )

    def count(mask):
        return ops.cast(ops.count_nonzero(mask, axis=(1, 2)), "float32")

    def share(edges, others):
        near = _dilate(others, radius, "euclidean", ops)
        return count(ops.logical_and(edges, near)) / ops.maximum(count(edges), 1.0)

    precision, recall = share(predicted, truth), share(truth, predicted)
    both = precision + recall
    f1 = 2.0 * precision * recall / ops.where(both > 0, both, 1.0)
    return ops.where(count(truth) + count(predicted) > 0, f1, -1.0)


# --- Both: `xp` is numpy or keras.ops, maps are (..., H, W) ---


def _edges(ids, void_edges, xp):
    """Mask of the pixels with a 4-neighbour of another id; an id below 0 is void."""
    edges = xp.zeros_like(ids, dtype="bool")
    for axis in (-2, -1):
        after, before = _cut(ids, 1, None, axis), _cut(ids, None, -1, axis)
        differ = after != before
        if not void_edges:
            differ = xp.logical_and(differ, xp.logical_and(after >= 0, before >= 0))
        rest = xp.zeros_like(_cut(ids, None, 1, axis), dtype="bool")
        for parts in ((differ, rest), (rest, differ)):
            edges = xp.logical_or(edges, xp.concatenate(parts, axis=axis))
    return edges


def _dilate(mask, radius, distance, xp):
    """Mask of the pixels within `radius` of a true one, rim included."""
    reach = math.floor(radius)
    grown, width, result = mask, 0, mask
    for dy in range(reach, -1, -1):
        # Half of the row at height dy of a disk or a square.
        half = reach
        if distance == "euclidean":
            half = sum(math.sqrt(dy * dy + dx * dx) <= radius for dx in range(1, reach + 1))
        while width < half:
            sides = (_shift(grown, step, -1, xp) for step in (1, -1))
            grown = xp.logical_or(grown, xp.logical_or(*sides))
            width += 1
        moved = [_shift(grown, step, -2, xp) for step in (dy, -dy)] if dy else [grown]
        for part in moved:
            result = xp.logical_or(result, part)
    return result


def _shift(mask, step, axis, xp):
    """Move a mask by `step` pixels, not 0, to the start of an axis; what comes in is False."""
    if step > 0:
        new = xp.zeros_like(_cut(mask, None, step, axis))
        return xp.concatenate((_cut(mask, step, None, axis), new), axis=axis)
    new = xp.zeros_like(_cut(mask, step, None, axis))
    return xp.concatenate((new, _cut(mask, None, step, axis)), axis=axis)


def _cut(x, start, stop, axis):
    return x[(..., slice(start, stop), *[slice(None)] * (-1 - axis))]
