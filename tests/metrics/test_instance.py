"""Average precision pinned by and the score of instance maps by hand."""

import builtins
import math

import numpy as np
import pytest

from keras_seg.metrics import coco_ap, instance_counts, instance_scores

NAN = math.nan


def rectangle(x, y, w, h):
    mask = np.zeros((100, 100), bool)
    mask[y : y + h, x : x + w] = True
    return mask


def picture(*found):
    """found: (class, rectangle) or (class, rectangle, score)."""
    scores = {"scores": [f[2] for f in found]} if found and len(found[0]) > 2 else {}
    masks = np.array([rectangle(*f[1]) for f in found]).reshape(-1, 100, 100)
    return {"masks": masks, "classes": [f[0] for f in found], **scores}


TRUTHS = [
    picture((0, (10, 10, 40, 40)), (0, (60, 60, 20, 20))),
    picture((0, (0, 0, 50, 100)), (1, (60, 10, 30, 30))),
]
DETECTIONS = [
    picture(
        (0, (10, 10, 40, 36), 0.9),
        (0, (12, 10, 40, 40), 0.8),
        (0, (60, 60, 20, 12), 0.7),
        (1, (0, 0, 5, 5), 0.5),
    ),
    picture((0, (0, 0, 45, 100), 0.6), (1, (60, 10, 30, 30), 0.95)),
]


def near(value):
    return pytest.approx(value, abs=1e-6, nan_ok=True)


def test_coco_ap(capsys):
    found = coco_ap(TRUTHS, DETECTIONS, 3)
    assert found["ap_of_class"] == near([0.550248, 1, NAN])
    assert found["ap50_of_class"] == near([0.834158, 1, NAN])
    assert found["ap75_of_class"] == near([0.5, 1, NAN])
    by_threshold = [0.834158] * 3 + [0.5] * 6 + [0]
    assert found["ap_of_class_by_threshold"][0] == near(by_threshold)
    rounded = {name: round(found[name], 3) for name in found if isinstance(found[name], float)}
    assert math.isnan(rounded.pop("ap_large")) and math.isnan(rounded.pop("ar_large"))
    assert {k: v for k, v in rounded.items() if k not in ("ar_small", "ar_medium")} == {
        "ap": 0.775,
        "ap50": 0.917,
        "ap75": 0.75,
        "ap_small": 0.65,
        "ap_medium": 0.751,
        "ar1": 0.8,
        "ar10": 0.85,
        "ar100": 0.85,
    }
    assert capsys.readouterr().out == ""


def test_coco_ap_at_other_thresholds():
    found = coco_ap(TRUTHS, DETECTIONS, 2, thresholds=[0.5, 0.95])
    assert found["ap_of_class"][0] == near(0.834158 / 2)
    assert found["ap50"] == near((0.834158 + 1) / 2) and math.isnan(found["ap75"])


def test_coco_ap_without_detections_or_truths():
    nothing = {"masks": np.zeros((0, 100, 100), bool), "classes": [], "scores": []}
    assert coco_ap(TRUTHS, [nothing] * 2, 2)["ap"] == 0
    assert math.isnan(coco_ap([picture()] * 2, DETECTIONS, 2)["ap"])
    assert math.isnan(coco_ap([], [], 2)["ap"])


def test_crowds_absorb_detections():
    """A second detection inside a group of class 0 is neither right nor wrong."""
    truth = picture((0, (0, 0, 20, 20)), (0, (50, 0, 40, 40)))
    ours = [picture((0, (0, 0, 20, 20), 0.5), (0, (60, 10, 10, 10), 0.9))]
    assert coco_ap([truth], ours, 1)["ap"] < 0.5
    assert coco_ap([truth | {"crowd": [False, True]}], ours, 1)["ap"] == near(1)


@pytest.mark.parametrize(
    ("truths", "detections", "match"),
    [
        (TRUTHS[:1], DETECTIONS, "1 truths, 2 detections"),
        (TRUTHS, TRUTHS, r"detections\[0\] has no scores"),
        (TRUTHS[1:], [picture((2, (0, 0, 9, 9), 0.5))], r"detections\[0\]: classes are 0 .. 1"),
        (TRUTHS[1:], [DETECTIONS[0] | {"scores": [1]}], r"n values, got \(4, 100, 100\)"),
        (TRUTHS[1:], [DETECTIONS[0] | {"masks": np.zeros((4, 9, 9))}], r"Picture 0: .* \(9, 9\)"),
    ],
)
def test_bad_input_of_coco_ap(truths, detections, match):
    with pytest.raises(ValueError, match=match):
        coco_ap(truths, detections, 2)


def test_coco_ap_names_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"pip install 'keras-seg\[coco\]'"):
        coco_ap(TRUTHS, DETECTIONS, 2)


# --- Maps ---


def maps():
    """Three true instances; IoU 0.9, 0.6, one missed, one invented."""
    labels, predictions = np.zeros((2, 30, 40), "uint16")
    labels[0:10, 0:10] = 1
    predictions[0:9, 0:10] = 40
    labels[15:25, 0:10] = 300
    predictions[15:21, 0:10] = 2
    labels[0:10, 20:30] = 4
    predictions[20:30, 20:30] = 9
    return labels, predictions


def test_instance_counts():
    counts = instance_counts(*maps(), thresholds=(0.5, 0.6, 0.75, 0.95))
    # IoU 0.6 is not above 0.6.
    assert counts.tolist() == [[2, 1, 1], [1, 2, 2], [1, 2, 2], [0, 3, 3]]


def test_instance_scores():
    labels, predictions = maps()
    counts = [instance_counts(labels, predictions), instance_counts(labels, labels)]
    # Thresholds .50 .55: 2 of 4; .60 to .85: 1 of 5; .90 and .95: none.
    first = (2 * 2 / 4 + 6 * 1 / 5) / 10
    found = instance_scores(counts)
    assert found["score"] == near((first + 1) / 2)
    assert found["by_threshold"][0] == near((0.5 + 1) / 2)
    assert (found["true_positives"][0], found["false_negatives"][-1]) == (5, 3)


def test_pictures_without_instances_are_left_out():
    nothing = np.zeros((4, 4), int)
    empty = instance_counts(nothing, nothing)
    assert math.isnan(instance_scores([empty])["score"])
    found = instance_scores([empty, instance_counts(*maps())])
    assert found["score"] == instance_scores([instance_counts(*maps())])["score"]
    full = np.ones((4, 4), int)
    assert instance_scores([instance_counts(full, full)])["score"] == 1
    assert instance_scores([instance_counts(nothing, full)])["score"] == 0


@pytest.mark.parametrize(
    ("labels", "predictions", "thresholds", "match"),
    [
        (np.zeros((2, 2)), np.zeros((2, 2), int), (0.5,), "labels must be integer"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), (0.5,), "predictions must be integer"),
        (np.zeros((2, 2), int), np.zeros((2, 3), int), (0.5,), "one shape"),
        (np.zeros((2, 2), int), np.zeros((2, 2), int), (0.4,), "0.5"),
    ],
)
def test_bad_maps(labels, predictions, thresholds, match):
    with pytest.raises(ValueError, match=match):
        instance_counts(labels, predictions, thresholds)
    with pytest.raises(ValueError, match="instance_counts"):
        instance_scores([])
