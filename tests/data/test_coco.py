"""MS COCO: polygons and run lengths as maps of classes, stuff, panoptic."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_seg import data
from keras_seg.data.labels import COCO_STUFF, COCO_STUFF_IDS, COCO_THING_IDS, COCO_THINGS, VOC

NAMES = {n: COCO_THINGS.names[i] for n, i in COCO_THING_IDS.items()}
CATEGORIES = [{"id": n, "name": name} for n, name in NAMES.items()]


def box(top, left, bottom, right):
    """A polygon of whole pixels."""
    return [[left, top, right, top, right, bottom, left, bottom]]


@pytest.fixture
def coco(tmp_path, save):
    """coco(annotations, size=..., split=..., categories=...): one picture, "000000000009.jpg"."""

    def write(annotations, size=(6, 8), split="train2017", categories=CATEGORIES, more=()):
        save(tmp_path / split / "000000000009.jpg", np.zeros((*size, 3)))
        height, width = size
        images = [{"id": 9, "file_name": "000000000009.jpg", "height": height, "width": width}]
        rows = [
            {"id": i, "image_id": 9, "iscrowd": 0, **item} for i, item in enumerate(annotations, 1)
        ]
        value = {"images": [*images, *more], "annotations": rows, "categories": categories}
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(value))
        return tmp_path

    return write


def test_tables():
    missing = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # the gaps of the category ids 1..90
    assert list(COCO_THING_IDS) == [n for n in range(1, 91) if n not in missing]
    assert list(COCO_THING_IDS.values()) == list(range(1, 81))
    assert (NAMES[1], NAMES[90], NAMES[72]) == ("person", "toothbrush", "tv")
    unused = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
    assert set(range(182)) - set(COCO_STUFF_IDS) == unused and COCO_STUFF.num_classes == 171
    assert COCO_STUFF.names[COCO_STUFF_IDS[181]] == "wood" and COCO_STUFF.names[0] == "person"
    assert COCO_STUFF.names[COCO_STUFF_IDS[123]] == "grass" and COCO_STUFF_IDS[255] == 255


def test_things(coco):
    root = coco(
        [
            {"category_id": 90, "segmentation": box(0, 0, 2, 2)},  # small, first, and yet in front
            {"category_id": 1, "segmentation": box(0, 0, 4, 6)},
            {
                "category_id": 13,
                "iscrowd": 1,
                "segmentation": {"size": [6, 8], "counts": [47, 1]},  # columns: the last pixel
            },
        ]
    )
    coco([], split="val2017")
    dataset = data.open_dataset(root)
    assert dataset.layout == "coco" and dataset.table is COCO_THINGS
    assert dataset.split_name == "train2017" and dataset.names == ["000000000009"]
    assert data.list_splits(root) == ["train2017", "val2017"]
    expected = np.zeros((6, 8), "uint8")
    expected[:4, :6] = 1
    expected[:2, :2] = 80
    objects = expected.astype("int32")
    objects[:4, :6] = 2
    objects[:2, :2] = 1
    expected[5, 7] = 12  # stop sign
    np.testing.assert_array_equal(dataset[0].label, expected)
    np.testing.assert_array_equal(dataset.read_extra(0, "instances"), objects)
    assert dataset.extras == ("instances",)
    val = data.open_dataset(root, "val")
    assert val.split_name == "val2017" and not val[0].label.any()
    assert "1 samples in split val2017; MS COCO" in val.notes[0] and "5000" in val.notes[0]
    with pytest.raises(ValueError, match="has no split 'test'. Found: train2017, val2017"):
        data.coco(root, "test")


def test_other_categories_make_their_own_table(coco):
    categories = [{"id": 7, "name": "fig"}, {"id": 3, "name": "date"}]
    root = coco([{"category_id": 7, "segmentation": box(0, 0, 6, 8)}], categories=categories)
    dataset = data.coco(root)
    assert dataset.table.names == ("background", "date", "fig")
    assert (dataset[0].label == 2).all()
    assert data.coco(root, classes=["a", "b", "c"]).table.names == ("a", "b", "c")
    with pytest.raises(ValueError, match="protocol 'things' has 3 classes, but 2 were given"):
        data.coco(root, classes=2)
    with pytest.raises(ValueError, match="protocol 'voc' needs COCO's own 80 categories"):
        data.coco(root, protocol="voc")


@pytest.mark.parametrize("side, kept", [(1000, 0), (1001, 1), (3000, 1), (400, 0)])
@pytest.mark.parametrize("area", [True, False])
def test_voc_protocol_wants_more_than_1000_labelled_pixels(coco, side, kept, area):
    size = (1, 3000)
    row = {"category_id": 62, "segmentation": box(0, 0, 1, side)}  # chair
    other = {"category_id": 90, "segmentation": box(0, 0, 1, 3000)}  # no class of VOC's
    if area:
        row["area"], other["area"] = float(side), 3000.0
    root = coco([row, other], size=size)
    problems = []
    if not kept:
        with pytest.raises(ValueError, match="0 samples: instances_train2017.json"):
            data.coco(root, protocol="voc", problems=problems)
        return
    dataset = data.coco(root, protocol="voc")
    assert dataset.table is VOC
    assert np.bincount(dataset[0].label.ravel()).tolist() == [3000 - side, *[0] * 8, side]
    assert VOC.names[9] == "chair"


def test_missing_pictures_and_bad_files(coco):
    lost = {"id": 10, "file_name": "lost.jpg", "height": 2, "width": 2}
    root = coco([], more=[lost])
    with pytest.raises(ValueError, match="lost.jpg: is missing, though instances_train2017.json"):
        data.coco(root)
    problems = []
    assert len(data.coco(root, problems=problems)) == 1 and len(problems) == 1
    (root / "annotations/instances_train2017.json").write_text("{")
    with pytest.raises(ValueError, match="instances_train2017.json is not valid JSON"):
        data.coco(root)
    with pytest.raises(ValueError, match="Unknown protocol 'thing'. Did you mean 'things'"):
        data.coco(root, protocol="thing")
    with pytest.raises(ValueError, match="nothing for protocol 'stuff'.*stuffthingmaps/SPLIT/"):
        data.coco(root, protocol="stuff")


def test_stuff(tmp_path, save):
    raw = np.array([[0, 10, 12, 91, 181, 255]])
    for name in ("000000000009", "000000000025"):
        save(tmp_path / "images/train2017" / f"{name}.jpg", np.zeros((1, 6, 3)))
        save(tmp_path / "stuffthingmaps/train2017" / f"{name}.png", raw)
    assert data.detect_layout(tmp_path) == "coco"
    dataset = data.coco(tmp_path, protocol="stuff")
    assert len(dataset) == 2 and dataset.table is COCO_STUFF and dataset.extras == ()
    assert dataset[0].label.tolist() == [[0, 10, 11, 80, 170, 255]]
    save(tmp_path / "stuffthingmaps/train2017/000000000009.png", np.full((1, 6), 11))
    with pytest.raises(ValueError, match="000000000009.png: ids 11 are none of the data set"):
        dataset[0]
    (tmp_path / "stuffthingmaps/train2017/000000000025.png").unlink()
    with pytest.raises(ValueError, match="000000000025.jpg: has no mask of the same name"):
        data.coco(tmp_path, protocol="stuff")


def test_panoptic(tmp_path, save):
    numbers = np.array([[0, 300, 300, 70000, 5]])  # ids above 255 and above 65535
    colors = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1)
    save(tmp_path / "val2017" / "a.jpg", np.zeros((1, 5, 3)))
    file = save(tmp_path / "annotations/panoptic_val2017/a.png", colors)
    segments = [
        {"id": 300, "category_id": 200, "iscrowd": 0},
        {"id": 70000, "category_id": 1, "iscrowd": 0},
        {"id": 5, "category_id": 1, "iscrowd": 1},
    ]
    value = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
        "categories": [
            {"id": 200, "name": "rug", "isthing": 0},
            {"id": 1, "name": "person", "isthing": 1},
        ],
    }
    description = tmp_path / "annotations/panoptic_val2017.json"
    description.write_text(json.dumps(value))
    dataset = data.open_dataset(tmp_path, "val", protocol="panoptic")
    assert dataset.table.names == ("person", "rug")
    assert dataset[0].label.tolist() == [[255, 1, 1, 0, 0]]
    assert dataset.read_extra(0, "instances").tolist() == [[0, 0, 0, 2, 0]]
    Image.fromarray(np.full((1, 5, 3), 1, "uint8")).save(file)
    with pytest.raises(ValueError, match="a.png: segment 65793 is none of those"):
        dataset[0]
    del value["annotations"][0]["segments_info"]
    description.write_text(json.dumps(value))
    with pytest.raises(ValueError, match="panoptic_val2017.json: not COCO's panoptic JSON"):
        data.coco(tmp_path, "val", protocol="panoptic")
