"""Mapillary Vistas: labels as the configuration beside the splits says."""

import json

import numpy as np
import pytest

from keras_seg import data

LABELS = [  # an ignored one in the middle, to see that ids close up
    {"name": "a--bird", "readable": "Bird", "color": [165, 42, 42], "instances": True},
    {"name": "void--ego", "readable": "Ego", "color": [0, 0, 0], "instances": False},
    {"name": "b--curb", "readable": "Curb", "color": [196, 196, 196], "instances": False},
]


@pytest.fixture
def tree(tmp_path, save, png):
    def write(version, config):
        for split in ("training", "validation"):
            save(tmp_path / split / "images" / "x.jpg", np.zeros((1, 4, 3)))
            for kind in ("labels", "instances"):
                (tmp_path / split / version / kind).mkdir(parents=True)
            png(tmp_path / split / version / "labels" / "x.png", [[0, 0, 1, 2]], 8)
            png(tmp_path / split / version / "instances" / "x.png", [[0, 1, 256, 512]], 16)
        rows = [{**item, "evaluate": item["name"] != "void--ego"} for item in LABELS]
        (tmp_path / config).write_text(json.dumps({"labels": rows}))
        return tmp_path

    return write


@pytest.mark.parametrize(
    "version, config",
    [("v1.2", "config_v1.2.json"), ("v2.0", "config_v2.0.json"), ("", "config.json")],
)
def test_versions(tree, version, config):
    root = tree(version, config)
    dataset = data.open_dataset(root)
    assert dataset.layout == "mapillary" and dataset.split_name == "training"
    assert data.list_splits(root) == ["training", "validation"]
    assert dataset.table.names == ("Bird", "Curb")
    assert dataset.table.colors.tolist() == [[165, 42, 42], [196, 196, 196]]
    assert dataset[0].label.tolist() == [[0, 0, 255, 1]]
    assert dataset.read_extra(0, "instances").tolist() == [[1, 2, 0, 0]]
    assert data.mapillary(root, classes=3)[0].label.tolist() == [[0, 0, 1, 2]]


def test_bad_input(tree, png):
    root = tree("v1.2", "config_v1.2.json")
    png(root / "training/v1.2/labels/x.png", [[0, 0, 0, 3]], 8)
    with pytest.raises(ValueError, match="x.png: ids 3 are none of the data set"):
        data.mapillary(root)[0]
    with pytest.raises(ValueError, match="Unknown version 'v2'. Did you mean 'v2.0'"):
        data.mapillary(root, version="v2")
    with pytest.raises(ValueError, match="expected training/images/ and training/v2.0/labels/"):
        data.mapillary(root, version="v2.0")
    (root / "training/v1.2/labels/x.png").rename(root / "training/v1.2/labels/X.png")
    with pytest.raises(ValueError, match="No image in"):
        data.mapillary(root)
    (root / "config_v1.2.json").write_text('{"labels": [{}]}')
    with pytest.raises(ValueError, match="config_v1.2.json: not a configuration of Mapillary's"):
        data.mapillary(root)
