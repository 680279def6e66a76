"""Losses and metrics on the JAX backend: on_jax.py in a process of its own."""

import os
import pathlib
import subprocess
import sys

# Importing TensorFlow fails in the script, as where it is not installed.
RUN = "import runpy, sys; sys.modules['tensorflow'] = None; runpy.run_path(sys.argv[1])"
SCRIPT = pathlib.Path(__file__).with_name("on_jax.py")


def test_on_jax():
    settings = {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[2]), str(SCRIPT.parent)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(SCRIPT)],
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
    )
    assert done.returncode == 0, done.stderr[-4000:]
