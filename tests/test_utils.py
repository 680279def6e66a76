"""Helpful errors, and files that are whole or not there."""

import pathlib

import numpy as np
import pytest

from keras_seg import utils


def test_unknown_name_offers_the_nearest():
    error = utils.unknown_name("model", "pspnt", ["UNet", "PSPNet", "FCN8s"])
    assert str(error) == (
        "Unknown model 'pspnt'. Did you mean 'PSPNet'? Known: FCN8s, PSPNet, UNet."
    )


def test_whole_numbers():
    assert utils.counts("rates", [np.int64(6), 12]) == (6, 12)
    with pytest.raises(ValueError, match="depth must be a whole number of at least 2, got True"):
        utils.check_counts(least=2, width=np.int32(2), depth=True)
    for wrong in (6, (), "6", (6, 0), (6, 1.0), (6, 12)):
        with pytest.raises(ValueError, match="rates must be a list or tuple of 3 whole numbers"):
            utils.counts("rates", wrong, 3)


def test_atomic_path_keeps_the_old_file_on_an_error(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), utils.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_replaces_a_folder(tmp_path):
    for text in ("one", "two"):
        with utils.atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / text).write_text(text)
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_json_takes_numpy_and_names_a_damaged_file(tmp_path):
    path = tmp_path / "a.json"
    utils.write_json(path, {"iou": np.array([0.5, np.nan]), "n": np.int64(3)})
    assert utils.read_json(path) == {"iou": [0.5, None], "n": 3}
    path.write_text("{")
    with pytest.raises(ValueError, match="a.json is not valid JSON"):
        utils.read_json(path)
    with pytest.raises(ValueError, match="missing.json"):
        utils.read_json(tmp_path / "missing.json")


def test_writable_folder_refuses_a_file_in_its_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="Cannot write in .*file"):
        utils.writable_folder(tmp_path / "file" / "run")


def test_sha256_of_a_folder_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("x")
    first = utils.sha256(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = utils.sha256(tmp_path)
    pathlib.Path(tmp_path / "b").write_text("y")
    assert len({first, second, utils.sha256(tmp_path)}) == 3
