"""COCO JSON files: what is drawn, overlaps, run lengths, and errors that name the annotation."""

import json

import numpy as np
import pytest

from keras_seg import data
from keras_seg.data.readers.coco_masks import CocoFile

CATEGORIES = [{"id": 7, "name": "fork"}, {"id": 3, "name": "table"}]
TABLE = {"id": 2, "category_id": 3, "segmentation": [[1, 1, 7, 1, 7, 5, 1, 5]]}
FORK = {"id": 1, "category_id": 7, "segmentation": [[2, 2, 4, 2, 4, 4, 2, 4]]}


@pytest.fixture
def tree(tmp_path, save):
    """tree(annotations): one 6x8 picture with these annotations."""

    def write(annotations, images=({"id": 5, "file_name": "a.png", "height": 6, "width": 8},)):
        save(tmp_path / "images" / "a.png", np.zeros((6, 8, 3)))
        annotations = [{"image_id": 5, "iscrowd": 0, **a} for a in annotations]
        value = {"images": list(images), "annotations": annotations, "categories": CATEGORIES}
        (tmp_path / "train.json").write_text(json.dumps(value))
        return tmp_path

    return write


def _expected(outer, inner):
    label = np.zeros((6, 8), int)
    label[1:5, 1:7] = outer
    label[2:4, 2:4] = inner
    return label.tolist()


@pytest.mark.parametrize("order", [(FORK, TABLE), (TABLE, FORK)])
def test_the_smaller_object_wins(tree, order):
    dataset = data.open_dataset(tree(order))
    assert dataset.layout == "coco_json" and dataset.split_name == "train"
    assert dataset.table.names == ("background", "table", "fork")  # by id of category
    assert dataset[0].label.tolist() == _expected(1, 2)
    numbers = [1 + order.index(TABLE), 1 + order.index(FORK)]  # objects in the file's order
    assert dataset.read_extra(0, "instances").tolist() == _expected(*numbers)


def test_run_lengths(tree):
    """Runs go down the columns: 6 + 1 pixels of 0, then rows 1..2 of column 1."""
    runs = {"size": [6, 8], "counts": [7, 2, 39]}
    expected = np.zeros((6, 8), int)
    expected[1:3, 1] = 1
    dataset = data.open_dataset(tree([{**TABLE, "segmentation": runs}]))
    assert dataset[0].label.tolist() == expected.tolist()
    from pycocotools import mask as tools

    packed = tools.encode(np.asfortranarray(expected.astype("uint8")))
    packed["counts"] = packed["counts"].decode()
    dataset = data.open_dataset(tree([{**TABLE, "segmentation": packed}]))
    assert dataset[0].label.tolist() == expected.tolist()


def test_a_crowd_has_a_class_and_is_no_object(tree):
    dataset = data.open_dataset(tree([{**TABLE, "iscrowd": 1}, FORK]))
    assert dataset[0].label.tolist() == _expected(1, 2)
    assert dataset.read_extra(0, "instances").tolist() == _expected(0, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 4}, "annotation 2: category_id 4 is not in categories"),
        ({"image_id": 6}, "annotation 2: image_id 6 is not in images"),
        ({"segmentation": [[1, 2, 3, 4]]}, "annotation 2: a polygon must be"),
        ({"segmentation": [[1, 2, 3, 4, 5, "x"]]}, "annotation 2: a polygon must be"),
        ({"segmentation": []}, "annotation 2: it has no segmentation"),
        ({"segmentation": {"size": [8, 6], "counts": [48]}}, "annotation 2: its runs are of size"),
        (
            {"segmentation": {"size": [6, 8], "counts": [49]}},
            "annotation 2: its runs do not add up to 48",
        ),
        ({"id": "x"}, "annotation number 0: 'id' must be a whole number, got 'x'"),
    ],
)
def test_bad_annotations_are_named(tree, change, message):
    root = tree([{**TABLE, **change}])
    with pytest.raises(ValueError, match=rf"train.json: {message}"):
        data.open_dataset(root)


def test_all_bad_annotations_are_named_at_once(tree):
    root = tree([{**TABLE, "segmentation": []}, {**FORK, "category_id": 4}])
    report = data.check_data(root, progress=False)
    (error,) = report.errors
    for annotation, words in ((TABLE, "no segmentation"), (FORK, "category_id 4")):
        assert f"annotation {annotation['id']}: " in error.message and words in error.message


def test_bad_packed_runs_are_named(tree):
    dataset = data.open_dataset(
        tree([{**TABLE, "segmentation": {"size": [6, 8], "counts": "zzzzzzzz"}}])
    )
    with pytest.raises(ValueError, match="train.json: annotation 2: its segmentation cannot be"):
        dataset[0]


def test_bad_files(tree, tmp_path):
    root = tree([TABLE, {**FORK, "id": 2}])
    with pytest.raises(ValueError, match="annotation id 2 occurs twice"):
        data.open_dataset(root)
    (root / "train.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match="train.json: not a COCO file"):
        data.open_dataset(root)
    (root / "train.json").write_text('{"images": [')
    with pytest.raises(ValueError, match="train.json is not valid JSON"):
        CocoFile(root / "train.json")


def test_missing_pictures_and_empty_files(tree):
    images = [
        {"id": 5, "file_name": "a.png", "height": 6, "width": 8},
        {"id": 9, "file_name": "b.png", "height": 6, "width": 8},
    ]
    root = tree([TABLE], images)
    with pytest.raises(ValueError, match=r"b.png: is missing, though train.json lists it"):
        data.open_dataset(root)
    problems = []
    assert data.open_dataset(root, problems=problems).names == ["a"]
    assert [path.name for path, _ in problems] == ["b.png"]
    with pytest.raises(ValueError, match="0 samples"):
        data.open_dataset(tree([], []))
    with pytest.raises(ValueError, match="2 categories, which makes 3 classes"):
        data.open_dataset(tree([TABLE]), classes=2)


def test_names_may_begin_with_the_folder(tree):
    images = [{"id": 5, "file_name": "images/a.png", "height": 6, "width": 8}]
    dataset = data.open_dataset(tree([TABLE], images))
    assert dataset.names == ["images/a"] and dataset[0].image.shape == (6, 8, 3)


def test_sizes_that_disagree(tree):
    root = tree([TABLE], [{"id": 5, "file_name": "a.png", "height": 8, "width": 6}])
    with pytest.raises(ValueError, match=r"a.png is 6x8 .*train.json is 8x6"):
        data.open_dataset(root)[0]
