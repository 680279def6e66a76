"""Results of several processes put together."""

import json

import numpy as np
import pytest
from maps import LABELS, PREDICTED

from keras_seg.metrics import confusion_matrix, merge_results, scores
from keras_seg.utils import plain, write_json

MODEL = {"classes": list("abcde"), "model": {"name": "m", "kind": "keras"}, "options": {}}


def result_of(labels, predicted, images):
    matrix = confusion_matrix(labels, predicted, 5)
    return plain({**scores(matrix), "confusion_matrix": matrix, "images": images, **MODEL})


@pytest.mark.parametrize("absent", ["skip", "zero"])
def test_two_parts_are_one_whole(tmp_path, absent):
    """As dicts and as the JSON files that two processes have written."""
    parts = [result_of(LABELS[i], PREDICTED[i], 1) for i in (0, 1)]
    whole = result_of(LABELS, PREDICTED, 2) | plain(
        scores(confusion_matrix(LABELS, PREDICTED, 5), absent)
    )
    assert merge_results(parts, absent) == whole
    paths = [tmp_path / "0.json", tmp_path / "1.json"]
    for path, part in zip(paths, parts, strict=True):
        write_json(path, part)
    assert merge_results(paths, absent) == whole
    assert json.loads(json.dumps(merge_results(paths, absent), allow_nan=False)) == whole


def test_counts_are_enough():
    matrix = confusion_matrix(LABELS, PREDICTED, 5)
    found = merge_results([{"confusion_matrix": matrix.tolist()}] * 2)
    assert found["confusion_matrix"] == (2 * matrix).tolist()
    assert found["mean_iou"] == pytest.approx(0.489583, abs=1e-6)
    assert found["iou"][4] is None
    assert "images" not in found and "model" not in found
    empty = merge_results([{"confusion_matrix": np.zeros((2, 2), int)}])
    assert empty["mean_iou"] is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"classes": list("abcdf")}, "different classes"),
        ({"model": {"name": "n", "kind": "keras"}}, "different model"),
        ({"options": {"flip": True}}, "different options"),
        ({"confusion_matrix": [[1, 2], [3, 4]]}, "different shapes"),
        ({"confusion_matrix": None}, "integers"),
    ],
)
def test_what_does_not_add_up(change, match):
    one = result_of(LABELS, PREDICTED, 2)
    with pytest.raises(ValueError, match=match):
        merge_results([one, one | change] if match != "integers" else [one | change])


def test_nothing_to_merge(tmp_path):
    for results in ([], [{}]):
        with pytest.raises(ValueError, match="confusion_matrix"):
            merge_results(results)
    with pytest.raises(ValueError, match="Cannot read"):
        merge_results([tmp_path / "none.json"])
