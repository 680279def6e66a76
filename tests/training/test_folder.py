import os
import subprocess
import sys

import pytest

from keras_seg.training.checkpoint import LAST
from keras_seg.training.folder import LOCK, Manifest, held, start

HOLD = """
import os, signal, sys
from keras_seg.training.folder import held
with held(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"Cannot write in .*run"), held(tmp_path / "file" / "run"):
        pytest.fail("the folder was accepted")


def test_two_runs_cannot_share_a_folder_and_a_killed_one_does_not_block_it(tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match=f"in use by another run .process {other.pid} on "):
        with held(tmp_path):
            pytest.fail("the folder was accepted")
    other.kill()
    other.wait()
    assert f"process {other.pid}" in (tmp_path / LOCK).read_text()
    with held(tmp_path):
        assert f"process {os.getpid()}" in (tmp_path / LOCK).read_text()


def test_what_a_killed_save_left_is_swept(tmp_path):
    (tmp_path / ".partial-abc").mkdir()
    (tmp_path / ".partial-abc" / "last.keras").write_bytes(b"half a file")
    with held(tmp_path):
        assert [p.name for p in tmp_path.iterdir()] == [LOCK]


def begin(folder, settings, **options):
    return start(folder, settings, **{"resume": True, "overwrite": False} | options)


def test_a_new_folder_may_hold_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert begin(tmp_path, {"seed": 0}) == {}


def test_a_run_goes_on_with_the_same_settings(tmp_path):
    Manifest(tmp_path, settings={"seed": 0, "epochs": 2}, state="interrupted")
    (tmp_path / LAST).write_bytes(b"")
    assert begin(tmp_path, {"seed": 0, "epochs": 5})["state"] == "interrupted"


def test_other_settings_are_named(tmp_path):
    Manifest(tmp_path, settings={"seed": 0, "batch_size": 8, "optimizer": "sgd"})
    (tmp_path / LAST).write_bytes(b"")
    with pytest.raises(ValueError, match="batch_size: 8 before, 4 now; seed: 0 before, 1 now"):
        begin(tmp_path, {"seed": 1, "batch_size": 4, "optimizer": "sgd"})


def test_a_run_without_a_checkpoint_may_start_again_with_other_settings(tmp_path):
    Manifest(tmp_path, settings={"images": 8}, state="failed", class_weights=[1.0, 2.0])
    assert begin(tmp_path, {"images": 7}) == {}


def test_a_refused_run_leaves_no_folder_but_one_that_was_there(tmp_path):
    for folder in (tmp_path / "new", tmp_path):
        with pytest.raises(ValueError, match="refused"), held(folder):
            raise ValueError("refused")
    assert [p.name for p in tmp_path.iterdir()] == [LOCK]


def test_resume_false_refuses_a_run(tmp_path):
    Manifest(tmp_path, settings={}, state="finished", epoch=3)
    with pytest.raises(ValueError, match=r"already holds a run \(finished, 3 epochs\)"):
        begin(tmp_path, {}, resume=False)


def test_overwrite_deletes_the_run_and_nothing_else(tmp_path):
    Manifest(tmp_path, settings={"seed": 0})
    (tmp_path / "logs").mkdir()
    (tmp_path / "last.keras").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("mine")
    assert begin(tmp_path, {"seed": 1}, overwrite=True) == {}
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_files_that_are_no_run_are_not_touched(tmp_path):
    (tmp_path / "best.keras").write_bytes(b"precious")
    with pytest.raises(ValueError, match="holds best.keras but no manifest.json"):
        begin(tmp_path, {})
    (tmp_path / "manifest.json").write_text('{"kind": "export"}')
    with pytest.raises(ValueError, match="does not describe a training run"):
        begin(tmp_path, {})
    assert (tmp_path / "best.keras").read_bytes() == b"precious"
