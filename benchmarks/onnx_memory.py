"""Memory of a conversion to ONNX, in a fresh process.

    python benchmarks/onnx_memory.py                    # PSPNet-101 at 473 x 473
    python benchmarks/onnx_memory.py PSPNet resnet50 --size 473

A new process imports TensorFlow, Keras, tf2onnx and onnx; what it holds then is the start. It
builds the network, converts it and writes the file. Printed is the largest resident memory that it
ever had (`ru_maxrss`), whole and above the start, in bytes and as multiples of the weights' bytes,
and whether the latter is at most the bound.
"""

import argparse
import importlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

BOUND = 10


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", nargs="?", default="PSPNet")
    parser.add_argument("backbone", nargs="?", default="resnet101")
    parser.add_argument("--size", type=int, default=473)
    parser.add_argument("--inside", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return convert(options)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, options.network, options.backbone]
        command += ["--size", str(options.size), "--inside", f"{folder}/model.onnx"]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3"} | dict(os.environ)
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
        return done.returncode
    found = json.loads(done.stdout.splitlines()[-1])
    weights, above = found["weights"], found["peak"] - found["start"]
    print(f"{options.network} {options.backbone}, {options.size} x {options.size}")
    for name in ("weights", "file", "start", "peak"):
        print(f"  {name:12s} {found[name] / 1e6:8.0f} MB  {found[name] / weights:6.2f} x weights")
    print(f"  {'above start':12s} {above / 1e6:8.0f} MB  {above / weights:6.2f} x weights")
    print(f"  seconds      {found['seconds']:8.1f}")
    print("ok" if above <= BOUND * weights else f"FAIL: above {BOUND} x the weights")
    return int(above > BOUND * weights)


def convert(options):
    for name in ("tensorflow", "keras", "onnx", "tf2onnx"):
        importlib.import_module(name)
    from keras_seg import models
    from keras_seg.export import onnx as onnx_file
    from keras_seg.export.graph import StaticGraph

    start = peak()
    model = getattr(models, options.network)(21, backbone=options.backbone)
    weights = sum(variable.numpy().nbytes for variable in model.weights)
    begin = time.perf_counter()
    path = pathlib.Path(options.inside)
    size = (options.size, options.size)
    onnx_file.write(StaticGraph(models.inference_model(model), size, 3, "logits"), path)
    found = {
        "weights": weights,
        "file": path.stat().st_size,
        "start": start,
        "peak": peak(),
        "seconds": time.perf_counter() - begin,
    }
    print(json.dumps(found))


def peak():
    """Bytes; Linux counts `ru_maxrss` in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
