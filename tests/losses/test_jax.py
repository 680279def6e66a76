"""Losses and metrics on the JAX backend: on_jax.py in a process of its own."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("on_jax.py")


@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs jax, which the extra `test` installs"
)
def test_on_jax():
    settings = {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(SCRIPT.parents[2]),
    }
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
    )
    assert done.returncode == 0, done.stderr[-4000:]
