"""Boundary scores pinned by the DAVIS code, distance transforms and by hand."""

import math

import keras
import numpy as np
import pytest
from scipy import ndimage

from keras_seg.losses import CrossEntropy
from keras_seg.metrics import (
    BoundaryF1,
    TrimapIoU,
    boundary_counts,
    boundary_scores,
    davis_f,
    davis_j,
    davis_scores,
    scores,
    trimap_matrices,
)

TRUTH = np.zeros((40, 60), "uint8")
TRUTH[10:30, 15:45] = 1
PREDICTED = np.zeros_like(TRUTH)
PREDICTED[12:31, 16:48] = 1


def near(value):
    return pytest.approx(value, abs=1e-6)


# --- DAVIS: values of davis2017-evaluation ---


@pytest.mark.parametrize(
    ("tolerance", "f", "precision", "recall"),
    [
        (1, 0.514851, 0.509804, 0.52),
        (0.008, 0.514851, 0.509804, 0.52),  # .577 pixels, rounded up
        (2, 0.821109, 0.794118, 0.85),
        (3, 0.995074, 0.990196, 1),
        (5, 1, 1, 1),
    ],
)
def test_davis_f(tolerance, f, precision, recall):
    assert davis_f(TRUTH, PREDICTED, tolerance) == (near(f), near(precision), near(recall))


def test_davis_j():
    assert davis_j(TRUTH, PREDICTED) == near(0.760933)


def test_davis_of_empty_masks():
    empty = np.zeros_like(TRUTH)
    assert davis_f(empty, empty) == (1, 1, 1) and davis_j(empty, empty) == 1
    assert davis_f(TRUTH, empty) == (0, 1, 0) and davis_j(TRUTH, empty) == 0
    assert davis_f(empty, TRUTH) == (0, 0, 1)
    far = np.zeros_like(TRUTH)
    far[0, 0] = 1
    assert davis_f(TRUTH, far) == (0, 0, 0)
    full = np.ones_like(TRUTH)  # the rim of the picture is no boundary
    assert davis_f(full, full) == (1, 1, 1)


def test_davis_ignored_pixels_are_background_in_both():
    ignored = np.zeros_like(TRUTH)
    ignored[30] = 1
    predicted = TRUTH.copy()
    predicted[30, 15:45] = 1
    assert davis_f(TRUTH, predicted, 0)[0] < 1
    assert davis_f(TRUTH, predicted, 0, ignored) == (1, 1, 1)
    assert davis_j(TRUTH, predicted, ignored) == 1


def test_davis_scores():
    """Two objects: one found as in the fixture in every frame, one lost after half of them."""
    labels, predictions = np.stack([TRUTH] * 10), np.stack([PREDICTED] * 10)
    labels[:, 2:6, 2:6] = predictions[:5, 2:6, 2:6] = 7
    predictions[0] = predictions[-1] = 0  # left out
    predictions[3, 35, 5] = 9  # no object
    found = davis_scores([(labels, predictions)])
    one, seven = found["objects"]
    assert (one["sequence"], one["object"], seven["object"]) == (0, 1, 7)
    assert one["j_mean"] == near(0.760933) and one["f_mean"] == near(0.514851)
    assert one["j_and_f"] == near(0.637892)
    assert (one["j_recall"], one["f_recall"], one["j_decay"]) == (1, 1, near(0))
    # Frames 1 .. 8: four right, four lost. The quarters are those of frames 1-3, ..., 6-8.
    assert (seven["j_mean"], seven["j_recall"], seven["f_mean"]) == (0.5, 0.5, 0.5)
    assert seven["j_decay"] == seven["f_decay"] == 1
    assert found["j_mean"] == near((0.760933 + 0.5) / 2)
    assert found["j_and_f"] == near((0.637892 + 0.5) / 2)
    twice = davis_scores([(labels, predictions)] * 2)
    assert len(twice["objects"]) == 4 and twice["f_recall"] == found["f_recall"]


def test_davis_decay_shares_the_end_frames_of_quarters():
    """J of 7 frames 1 1 0 0 0 0 1: the quarters hold frames 0-2 and 5-6 (cuts 1 3 4 6 7)."""
    labels = np.stack([TRUTH] * 7)
    predictions = labels * np.array([1, 1, 0, 0, 0, 0, 1], "uint8")[:, None, None]
    found = davis_scores([(labels, predictions)], trim=False)
    assert found["j_decay"] == near(2 / 3 - 1 / 2)


def test_davis_without_objects_or_frames():
    nothing = np.zeros((3, 4, 4), "uint8")
    assert math.isnan(davis_scores([(nothing, nothing)])["j_and_f"])
    with pytest.raises(ValueError, match="Sequence 0 has 2 frames, at least 3"):
        davis_scores([(nothing[:2], nothing[:2])])
    with pytest.raises(ValueError, match="Sequence 1: .* integers of one shape"):
        davis_scores([(nothing, nothing), (nothing, nothing[:, 1:])])
    with pytest.raises(ValueError, match="masks of one shape"):
        davis_f(TRUTH, TRUTH[1:])


# --- Boundary F1 ---


@pytest.mark.parametrize(
    ("tolerance", "f1", "precision", "recall"),
    [
        (1, 0.515464, 0.510204, 0.520833),
        (2, 0.824014, None, None),
        (3, 0.994872, None, None),
        (5, 1, 1, 1),
        (2 / math.hypot(40, 60) + 1e-9, 0.824014, None, None),
    ],
)
def test_boundary_f1(tolerance, f1, precision, recall):
    counts = boundary_counts(TRUTH, PREDICTED, 2, tolerance)
    assert counts[1, [0, 2]].tolist() == [98, 96]
    found = boundary_scores([counts])
    assert found["f1"][1] == near(f1)
    if precision:
        assert (found["precision"][1], found["recall"][1]) == (near(precision), near(recall))
    assert found["mean_f1"] == near(np.mean(found["f1"]))


def random_maps(seed, shape=(24, 31), classes=4):
    """Smooth label maps with some ignored pixels, and predictions of other contours."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(2, classes, *shape)), (0, 0, 2, 2))
    labels, predictions = noise[0].argmax(0), (noise[0] + 0.5 * noise[1]).argmax(0)
    labels[ndimage.gaussian_filter(rng.normal(size=shape), 3) > 0.1] = 255
    return labels, predictions


def edges_by_distance(ids):
    """Edge pixels from their definition, pixel by pixel."""
    edges = np.zeros(ids.shape, bool)
    for (y, x), i in np.ndenumerate(ids):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            inside = 0 <= v < ids.shape[0] and 0 <= u < ids.shape[1]
            edges[y, x] |= inside and ids[v, u] != i
    return edges


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, math.sqrt(5), 4.5])
def test_boundary_counts_equal_the_distance_transform(tolerance):
    labels, predictions = random_maps(0)
    counts = boundary_counts(labels, predictions, 4, tolerance)
    truth = np.where(labels == 255, -1, labels)
    ours = np.where(labels == 255, -1, predictions)
    for c in range(4):
        edges = [(ids == c) & edges_by_distance(ids) for ids in (ours, truth)]
        distances = [ndimage.distance_transform_edt(~edge) for edge in edges]
        right = edges[0] & (distances[1] <= tolerance)
        found = edges[1] & (distances[0] <= tolerance)
        expected = [edges[0].sum(), right.sum(), edges[1].sum(), found.sum()]
        assert counts[c].tolist() == expected


def test_boundary_averages():
    """A class in one of two pictures: the two orders of averaging differ."""
    other = np.where(TRUTH == 1, 1, 2)
    other[:5] = 0
    counts = [boundary_counts(t, p, 4, 1) for t, p in ((TRUTH, PREDICTED), (other, other))]
    first = boundary_scores(counts[:1])
    assert math.isnan(first["f1"][3]) and math.isnan(first["f1"][2])
    by_image = boundary_scores(counts)
    assert by_image["mean_f1"] == near((first["mean_f1"] + 1) / 2)
    by_class = boundary_scores(counts, "class")
    f1 = [(first["f1"][0] + 1) / 2, (first["f1"][1] + 1) / 2, 1]
    assert by_class["f1"][:3] == near(f1) and math.isnan(by_class["f1"][3])
    assert by_class["mean_f1"] == near(np.mean(f1))


def test_boundaries_in_only_one_map_score_0_and_none_at_all_are_undefined():
    empty = np.zeros_like(TRUTH)
    found = boundary_scores([boundary_counts(TRUTH, empty, 2)])
    assert found["f1"] == [0, 0] and found["recall"] == [0, 0]
    assert all(math.isnan(v) for v in found["precision"])
    found = boundary_scores([boundary_counts(empty, empty, 2)])
    assert math.isnan(found["mean_f1"])


def test_void_edges():
    """Without its outline of ignored pixels an object that is right has a contour or none."""
    labels = TRUTH.copy()
    labels[9, 14:46] = labels[30, 14:46] = labels[9:31, 14] = labels[9:31, 45] = 255
    with_void = boundary_counts(labels, PREDICTED, 2, 1)
    assert with_void[1, 2] == 96 and with_void[1, 3] < 96
    assert boundary_counts(labels, PREDICTED, 2, 1, void_edges=False)[:, 2].tolist() == [0, 0]
    assert trimap_matrices(labels, PREDICTED, 2, [1]).sum() > 0
    assert trimap_matrices(labels, PREDICTED, 2, [1], void_edges=False).sum() == 0


def test_one_to_one_matching_pays_each_contour_once():
    """Two predicted lines around a true one: by distance both are right, one to one only one."""
    labels, predictions = np.zeros((9, 9), int), np.zeros((9, 9), int)
    labels[4], predictions[3], predictions[5] = 1, 1, 1
    assert boundary_counts(labels, predictions, 2, 1)[1].tolist() == [18, 18, 9, 9]
    one = boundary_counts(labels, predictions, 2, 1, matching="one_to_one")
    assert one[1].tolist() == [18, 9, 9, 9]
    # A true T of 3 pixels next to one predicted pixel, and a pixel too far from all.
    predictions[:], labels[:] = 0, 0
    predictions[1, 1] = predictions[7, 7] = 1
    labels[1, 2] = labels[2, 1] = labels[0, 1] = 1
    one = boundary_counts(labels, predictions, 2, 1, matching="one_to_one")
    assert one[1].tolist() == [2, 1, 3, 1]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tolerance": -1}, "tolerance"),
        ({"tolerance": math.nan}, "tolerance"),
        ({"matching": "bsds"}, "one_to_one"),
    ],
)
def test_bad_options_of_boundary_counts(options, match):
    with pytest.raises(ValueError, match=match):
        boundary_counts(TRUTH, PREDICTED, 2, **options)


def test_bad_maps():
    with pytest.raises(ValueError, match="ids that are no class: 7"):
        boundary_counts(TRUTH + 7, PREDICTED, 2)
    with pytest.raises(ValueError, match="differ in shape"):
        trimap_matrices(TRUTH[1:], PREDICTED, 2)
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        boundary_counts(TRUTH[None], PREDICTED[None], 2)
    with pytest.raises(ValueError, match="average"):
        boundary_scores([boundary_counts(TRUTH, PREDICTED, 2)], "pixel")
    with pytest.raises(ValueError, match="boundary_counts"):
        boundary_scores([])


# --- Trimap ---


@pytest.mark.parametrize(
    ("width", "distance", "pixels", "iou", "accuracy"),
    [
        (1, "euclidean", 196, 0.337506, 0.505102),
        (2, "euclidean", 388, 0.456681, 0.628866),
        (4, "euclidean", 768, 0.644903, 0.786458),
        (8, "euclidean", 1500, 0.790538, 0.890667),
        (2, "chessboard", 396, 0.461155, None),
        (4, "chessboard", 796, 0.653271, None),
        (8, "chessboard", 1596, 0.797275, None),
    ],
)
def test_trimap(width, distance, pixels, iou, accuracy):
    (matrix,) = trimap_matrices(TRUTH, PREDICTED, 2, [width], distance=distance)
    found = scores(matrix)
    assert found["pixels"] == pixels and found["mean_iou"] == near(iou)
    if accuracy:
        assert found["pixel_accuracy"] == near(accuracy)
    metric = TrimapIoU(2, width, distance=distance)
    metric.update_state(TRUTH[None], PREDICTED[None])
    assert float(metric.result()) == near(iou)
    assert metric.counts()["matrix"].tolist() == matrix.tolist()


def test_trimap_wider_than_the_picture_is_the_whole_picture():
    (matrix,) = trimap_matrices(TRUTH, PREDICTED, 2, [200])
    assert scores(matrix)["iou"] == [near(0.912673), near(0.760933)]
    nothing = np.zeros_like(TRUTH)
    assert trimap_matrices(nothing, nothing, 2, [200]).sum() == 0


@pytest.mark.parametrize("width", [1, 2.5, 7])
def test_trimap_equals_the_distance_transform(width):
    labels, predictions = random_maps(1)
    edges = edges_by_distance(labels)
    band = (ndimage.distance_transform_edt(~edges) <= width - 1) & (labels != 255)
    expected = np.zeros((4, 4), int)
    np.add.at(expected, (labels[band], predictions[band]), 1)
    several = trimap_matrices(np.stack([labels] * 2), np.stack([predictions] * 2), 4, [width])
    assert several[0].tolist() == (2 * expected).tolist()


@pytest.mark.parametrize(("width", "distance"), [(0, "euclidean"), (2, "cityblock")])
def test_bad_options_of_the_trimap(width, distance):
    for make in (
        lambda: trimap_matrices(TRUTH, PREDICTED, 2, [width], distance=distance),
        lambda: TrimapIoU(2, width, distance=distance),
    ):
        with pytest.raises(ValueError, match="width|distance"):
            make()


# --- Keras ---


def batch(count=3):
    maps = [random_maps(seed) for seed in range(count)]
    return np.stack([m[0] for m in maps]), np.stack([m[1] for m in maps])


@pytest.mark.parametrize("average", ["image", "class"])
@pytest.mark.parametrize("void_edges", [True, False])
@pytest.mark.parametrize("tolerance", [0.0075, 0.1, 3])
def test_boundary_f1_metric_equals_numpy(average, void_edges, tolerance):
    labels, predictions = batch()
    labels[2] = 255  # nothing to score
    metric = BoundaryF1(5, tolerance, average=average, void_edges=void_edges)
    for part in (slice(0, 1), slice(1, 3)):
        metric.update_state(labels[part], predictions[part])
    counts = [
        boundary_counts(t, p, 5, tolerance, void_edges=void_edges)
        for t, p in zip(labels, predictions, strict=True)
    ]
    assert float(metric.result()) == near(boundary_scores(counts, average)["mean_f1"])
    metric.reset_state()
    assert math.isnan(metric.result())


def test_in_fit():
    """Logits of a float16 model of any size, in a graph: the same numbers as in NumPy."""
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential([keras.Input((None, None, 4)), keras.layers.Conv2D(4, 1)])
    metrics = [BoundaryF1(4, 2), TrimapIoU(4, 3, void_edges=False)]
    model.compile(loss=CrossEntropy(), metrics=metrics)
    model.layers[-1].set_weights([np.eye(4)[None, None], np.zeros(4)])
    labels, predictions = batch()
    images = np.eye(4, dtype="float32")[predictions]
    logs = model.evaluate(images, labels, batch_size=2, verbose=0, return_dict=True)
    counts = [boundary_counts(t, p, 4, 2) for t, p in zip(labels, predictions, strict=True)]
    assert logs["boundary_f1"] == near(boundary_scores(counts)["mean_f1"])
    (matrix,) = trimap_matrices(labels, predictions, 4, [3], void_edges=False)
    assert logs["trimap_iou"] == near(scores(matrix)["mean_iou"])


@pytest.mark.parametrize("make", [lambda: BoundaryF1(4, 2), lambda: TrimapIoU(4, 3)])
def test_illegal_labels(make):
    import tensorflow as tf

    labels, predictions = batch()
    labels[1, 0, 0] = 99
    metric = make()
    with pytest.raises(ValueError, match="99"):
        metric.update_state(labels, predictions)
    tf.function(metric.update_state)(tf.constant(labels), tf.constant(predictions))
    assert math.isnan(metric.result())


def test_metrics_save_their_options():
    options = {"average": "class", "void_edges": False, "ignore_label": [254, 255]}
    for metric in (BoundaryF1(4, 2.5, **options), TrimapIoU(4, 3, distance="chessboard")):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
        assert again.get_config() == metric.get_config()


def test_bad_options_of_boundary_f1():
    import tensorflow as tf

    any_size = tf.TensorSpec((None, None, None), "int32")
    with pytest.raises(ValueError, match="known size"):
        tf.function(BoundaryF1(4).update_state).get_concrete_function(any_size, any_size)
    for wrong in ({"average": "pixel"}, {"tolerance": -2}, {"num_classes": 1}):
        with pytest.raises(ValueError):
            BoundaryF1(**{"num_classes": 4, **wrong})
