"""The CRF layer on the lattice on the JAX backend, in a process of its own."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
CODE = """
import jax
import keras
import numpy as np
from keras_seg.crf import MeanField

rng = np.random.default_rng(0)
logits = rng.standard_normal((2, 10, 12, 3)).astype("float32")
image = rng.uniform(0, 255, logits.shape).astype("float32")
direction = rng.standard_normal(logits.shape).astype("float32")
gradients = []
for bilateral in ("exact", "lattice"):
    layer = MeanField(theta_alpha=5, theta_beta=40, iterations=1, bilateral=bilateral)
    layer(logits, image)
    value = lambda x: (jax.nn.softmax(layer(x, image)) * direction).sum()
    gradients.append(np.asarray(jax.jit(jax.grad(value))(logits)).ravel())
a, b = gradients
assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99

inputs = [keras.Input((10, 12, 3)), keras.Input((10, 12, 3))]
model = keras.Model(inputs, layer(*inputs))
np.testing.assert_allclose(
    model.predict([logits, image], verbose=0), layer(logits, image), atol=1e-5
)
"""


def test_lattice_in_compiled_code():
    settings = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env={**os.environ, **settings}
    )
    assert done.returncode == 0, done.stderr[-4000:]
