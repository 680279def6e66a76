"""Read the golden cases of this folder (see README.md) and make their weights and inputs again.

A case stores neither: both are drawn from a NumPy generator, a parameter's seeded by the CRC-32 of
its name, an input's by the case. Everything is in the reference's order of axes (NCHW, OIHW).
"""

import json
import pathlib
import zlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent


def load(name):
    """(case as a dict, {output name: array}) of the case `name`."""
    case = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return case, dict(arrays)


def inputs(case):
    """{input name: float32 array}."""
    drawn = {}
    for name, rule in case["inputs"].items():
        normal = np.random.default_rng(rule["seed"]).standard_normal(rule["shape"])
        scaled = normal * rule.get("scale", 1.0) + rule.get("offset", 0.0)
        drawn[name] = scaled.astype("float32")
    return drawn


def state(case):
    """{parameter name: float32 array} of every parameter that the reference's rule draws."""
    drawn = {}
    for name, shape, kind in case["state"]:
        if kind not in ("fixed", "skip"):  # constants of the paper, counters
            drawn[name] = _parameter(zlib.crc32(name.encode()), shape, kind).astype("float32")
    return drawn


def _parameter(seed, shape, kind):
    rng = np.random.default_rng(seed)
    normal, uniform = rng.standard_normal, rng.uniform
    if kind.startswith("uniform:"):
        low, high = kind.split(":")[1:]
        return uniform(float(low), float(high), shape)
    if kind.startswith("normal:"):
        return normal(shape) * float(kind.split(":")[1])
    return {
        "he": lambda: normal(shape) * np.sqrt(2 / np.prod(shape[1:])),
        "he_t": lambda: normal(shape) * np.sqrt(2 / shape[0]),
        "linear": lambda: normal(shape) / np.sqrt(shape[-1]),
        "gamma": lambda: uniform(0.5, 1.5, shape),
        "var": lambda: uniform(0.5, 1.5, shape),
        "beta": lambda: normal(shape) * 0.1,
        "mean": lambda: normal(shape) * 0.1,
    }[kind]()


def relative_error(case, output, ours, reference):
    """max |ours - reference| / max |reference|; `ours` is the whole output, a map as (N, H, W, C).

    The stored reference may be thinned: the case says by which step on each axis.
    """
    rule = case["outputs"][output]
    ours = np.asarray(ours)
    if ours.ndim == 4:
        ours = np.moveaxis(ours, -1, 1)
    if list(ours.shape) != rule["shape"]:
        raise ValueError(f"{output} has shape {ours.shape}, the reference {rule['shape']}.")
    ours = ours[tuple(slice(None, None, step) for step in rule["step"])]
    return float(np.abs(ours - reference).max() / rule["absmax"])
