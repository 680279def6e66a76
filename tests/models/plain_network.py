"""Convolution and pooling in NumPy, in double precision, for networks too old for a reference."""

import numpy as np


def conv(x, kernel, bias=0.0):
    """(h, w, C) without padding."""
    view = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(0, 1))
    return np.einsum("hwcij,ijco->hwo", view, kernel, optimize=True) + bias


def pool(x, size, how=np.max):
    """Windows of size x size side by side; what is left over is dropped."""
    height, width, channels = x.shape
    x = x[: height // size * size, : width // size * size]
    return how(x.reshape(height // size, size, width // size, size, channels), axis=(1, 3))


def weights(model):
    """{layer: its weights, float64}, with random numbers for biases, which start at 0."""
    rng = np.random.default_rng(0)
    found = {}
    for layer in model.layers:
        if layer.weights:
            values = [np.array(v) for v in layer.weights]
            values = [rng.normal(0, 0.2, v.shape) if v.ndim == 1 else v for v in values]
            layer.set_weights(values)
            found[layer.name] = [np.float64(v) for v in layer.get_weights()]
    return found


def picture(height, width, channels=3):
    shape = (1, height, width, channels)
    return np.random.default_rng(1).uniform(0, 255, shape).astype("float32")


def assert_close(a, b, bound=1e-5):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= bound * np.abs(b).max()
