"""Class tables: colours, files, what is refused."""

import json

import numpy as np
import pytest

from keras_seg.data.labels import CAMVID, VOC, LabelTable, read_classes, voc_colors


def test_voc_colour_map():
    """Values of VOCdevkit's table (specs/datasets.md section 1)."""
    assert voc_colors(256)[[0, 1, 2, 15, 20, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [192, 128, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]
    assert len(np.unique(voc_colors(256), axis=0)) == 256


def test_known_tables():
    assert VOC.num_classes == 21 and VOC.names[15] == "person"
    assert CAMVID.num_classes == 11 and CAMVID.names[8] == "Car"
    assert CAMVID.colors[8].tolist() == [64, 0, 128]


def test_palette_and_json_round_trip():
    table = LabelTable(["a", "b"], [(1, 2, 3), (4, 5, 6)], 254, "own", (9, 9, 9))
    palette = table.palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    assert palette[[0, 1, 2, 254]].tolist() == [[1, 2, 3], [4, 5, 6], [0, 0, 0], [9, 9, 9]]
    assert LabelTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_default_table():
    table = LabelTable.default(3)
    assert table.names == ("background", "class 1", "class 2")
    assert table.colors.tolist() == voc_colors(3).tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"names": []}, "at least one"),
        ({"names": ["a", "b", "a"]}, "more than once: a"),
        ({"names": ["a", "b"], "colors": [(0, 0, 0)]}, r"\(2, 3\)"),
        ({"names": ["a"], "colors": [(0, 0, 256)]}, "0..255"),
        ({"names": ["a", "b"], "ignore_label": 1}, "ignore_label=1"),
        ({"names": ["a"], "ignore_label": 256}, "ignore_label=256"),
    ],
)
def test_bad_tables(arguments, words):
    with pytest.raises(ValueError, match=words):
        LabelTable(**arguments)


@pytest.mark.parametrize("count", [0, 256, -1, 2.0, True])
def test_bad_number_of_classes(count):
    with pytest.raises(ValueError, match="number of classes"):
        LabelTable.default(count)


def test_shared_colours_cannot_decode():
    table = LabelTable(["wall", "door"], [(1, 1, 1), (1, 1, 1)])
    with pytest.raises(ValueError, match="'wall' and 'door' both have the colour"):
        table.color_ids()


def test_text_file(tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text("# my classes\nroad 128 64 128\n\ntraffic light 250,170,30\nignore 0 0 0\n")
    table, has_colors, mask_values = read_classes(file)
    assert table.names == ("road", "traffic light") and has_colors and mask_values == {}
    assert table.color_ids() == {(128, 64, 128): 0, (250, 170, 30): 1, (0, 0, 0): 255}
    file.write_text("background\nlane 2\n")
    table, has_colors, _ = read_classes(file)
    assert table.names == ("background", "lane 2") and not has_colors


def test_json_file(tmp_path):
    file = tmp_path / "classes.json"
    file.write_text('["sky", "ground"]')
    assert read_classes(file)[0].names == ("sky", "ground")
    file.write_text('{"names": ["sky", "ground"], "mask_values": {"255": 1}}')
    assert read_classes(file)[2] == {255: 1}
    file.write_text(json.dumps(VOC.to_json()))
    assert read_classes(file)[:2] == (VOC, True)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("classes.txt", "a 1 2 3\nb\n", "without: b"),
        ("classes.txt", "", "at least one"),
        ("classes.txt", "a 1 2 300\n", "0..255"),
        ("classes.json", "{", "not valid JSON"),
        ("classes.json", '{"classes": 3}', "Expected a class table"),
        ("classes.json", "7", "a list of names"),
        ("classes.json", '{"names": ["a"], "mask_values": {"white": 1}}', "ids to ids"),
        ("classes.csv", "a", ".txt or .json"),
    ],
)
def test_bad_files_are_named(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        read_classes(tmp_path / name)
    assert name in str(caught.value)
