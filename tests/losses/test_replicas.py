"""The same loss, gradient and weights on one replica and on two, ignored pixels unevenly spread."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).with_name("two_replicas.py")


@pytest.fixture(scope="module")
def report():
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_values_and_gradients(report):
    one, two = report["one"], report["two"]
    for i, name in enumerate(report["names"]):
        assert two["values"][i] == pytest.approx(one["values"][i], rel=1e-6), name
        slope = np.array(one["gradients"][i])
        difference = np.abs(np.array(two["gradients"][i]) - slope).max()
        assert difference <= 1e-6 * np.abs(slope).max(), name


def test_weights_after_fit(report):
    one, two = np.array(report["one"]["weights"]), np.array(report["two"]["weights"])
    assert np.abs(two - one).max() <= 1e-6 * np.abs(one).max()


def test_logs(report):
    assert len(report["one"]["logs"]) == 16  # loss, four scores, "some", two per image, twice
    for name, value in report["one"]["logs"].items():
        assert report["two"]["logs"][name] == pytest.approx(value, rel=1e-6), name


def test_no_pixel_is_lost(report):
    for replicas in ("one", "two"):
        matrix = np.array(report[replicas]["matrix"])
        assert matrix.sum() == 3 * 243
        assert report[replicas]["ignored"] == 3 * (512 - 243)
        assert report[replicas]["matrix"] == report[replicas]["recount"]


def test_scores_per_image(report):
    """Some images have no pixel that counts; the values are NumPy's."""
    for replicas in ("one", "two"):
        for name in ("per_image", "per_image_dice"):
            value = report[replicas]["logs"][f"val_{name}"]
            assert value == pytest.approx(report[replicas][name], rel=1e-6)
