"""`.tflite` files on emulated ARM processors (benchmarks/arm_check.py), and that script's sums.

The slow test needs the folder that the script describes, named by the environment variable
KERAS_SEG_ARM, and fails without it.
"""

import os
import pathlib
import runpy

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "arm_check.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["UNet", "SegNet", "DeepLabV3Plus"])
def test_files_give_the_labels_of_x86_on_arm(script, tmp_path, name):
    assert "KERAS_SEG_ARM" in os.environ, "set it to the folder that benchmarks/arm_check.py needs"
    files = script["slim_files"](tmp_path, [name])
    rows = script["compare"](os.environ["KERAS_SEG_ARM"], files)
    assert len(rows) == len(files) * len(script["CPUS"]) and len(files) == 3
    for row in rows:
        assert row["no_ties"] == 1, row
        if "int8" in row["file"]:  # whole numbers leave no room for another rounding
            assert row["difference"] == 0, row
        else:
            assert row["difference"] < 1e-4, row


def test_differences_by_hand(script):
    """Three pixels of two classes: far apart, close, and a tie that turns over."""
    here = np.array([[[0.0, 2.0], [1.0, 0.0], [1.0, 1.00001]]], "float32")
    arm = here + np.array([[[0.5, 0.0], [0.0, 0.0], [0.0001, 0.0]]], "float32")
    found = script["difference"](here[None], arm[None])
    assert found["difference"] == pytest.approx(0.5 / here.std())
    assert found["equal"] == pytest.approx(2 / 3)
    assert found["no_ties"] == 1
    arm[0, 1] = 0, 1
    assert script["difference"](here[None], arm[None])["no_ties"] == 0.5


def test_labels_are_compared_as_they_are(script):
    labels = np.array([[[1, 2], [3, 4]]])
    same = {"difference": 0, "equal": 1, "no_ties": 1}
    assert script["difference"](labels, labels) == same
    assert script["difference"](labels, labels.clip(2)) == {
        "difference": 1,
        "equal": 0.75,
        "no_ties": 0.75,
    }


def test_a_folder_without_the_arm_side_is_refused(script, tmp_path):
    with pytest.raises(ValueError, match="There is no .*qemu-aarch64-static.* says how to get it"):
        script["compare"](tmp_path, [])
