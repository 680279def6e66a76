"""How much memory and time a picture of 40 megapixels takes, by windows of 512 x 512.

    python benchmarks/large_image.py                     # .keras, .tflite and .onnx, 21 classes
    python benchmarks/large_image.py --classes 150 --files keras
    python benchmarks/large_image.py --scales 0.5 0.75 1 1.25 1.5 1.75 --flip --files keras

A U-Net with few filters and random weights, on a made-up picture. Each file is run in a process of
its own. "beyond the model" is the process's peak resident memory less what it has when the model is
loaded and has labelled one window; the picture itself and its label map are part of it. Linux only.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

WINDOW = 512
FILES = {"keras": "model.keras", "tflite": "model.tflite", "onnx": "model.onnx"}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--filters", type=int, default=4, help="of the U-Net's first level (4)")
    parser.add_argument("--size", type=int, nargs=2, default=(5500, 7300), metavar=("H", "W"))
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0])
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--procedure", help="semseg, mmseg, setr or encoding")
    parser.add_argument("--one", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options)))
        return
    height, width = options.size
    print(
        f"{width} x {height} pixels, {options.classes} classes, scales {options.scales}, ", end=""
    )
    print(f"flip {options.flip}, procedure {options.procedure}")
    print(f"{'file':8}{'model MiB':>12}{'beyond the model MiB':>24}{'seconds':>10}")
    with tempfile.TemporaryDirectory() as folder:
        write_files(pathlib.Path(folder), options)
        for kind in options.files:
            command = [sys.executable, *sys.argv, "--one", str(pathlib.Path(folder, FILES[kind]))]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            model, beyond, seconds = json.loads(done.stdout.splitlines()[-1])
            print(f"{kind:8}{model:>12.0f}{beyond:>24.0f}{seconds:>10.0f}", flush=True)


def write_files(folder, options):
    """The network in every kind of file; the process that trains or converts is not measured."""
    from keras_seg import models
    from keras_seg.export import export

    network = models.UNet(options.classes, (WINDOW, WINDOW, 3), filters=options.filters)
    network.save(folder / "model.keras")
    formats = [kind for kind in options.files if kind != "keras"]
    if formats:
        images = [np.zeros((WINDOW, WINDOW, 3), "uint8")]
        export(
            network, folder / "files", formats=formats, quantize=(), images=images, progress=False
        )
        for kind in formats:
            (folder / "files" / FILES[kind]).rename(folder / FILES[kind])


def measure(options):
    """[MiB of the process with the model, MiB at most beyond that, seconds]."""
    from keras_seg.inference import Predictor

    predictor = Predictor(options.one)
    how = {"mode": "slide", "scales": options.scales, "flip": options.flip}
    how["procedure"] = options.procedure
    predictor.predict(np.zeros((WINDOW, WINDOW, 3), "uint8"), mode="slide")
    model = resident()
    image = picture(*options.size)
    start = time.monotonic()
    label = predictor.predict(image, **how)
    seconds = time.monotonic() - start
    assert label.shape == image.shape[:2]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return model, peak - model, seconds


def resident():
    """Resident memory of this process now, in MiB."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def picture(height, width):
    """Coloured waves, uint8 (H, W, 3), made row by row."""
    image = np.empty((height, width, 3), "uint8")
    x = np.arange(width)[:, None] / [31, 67, 113]
    for y, row in enumerate(image):
        row[...] = 127.5 + 127.5 * np.sin(x + y / np.array([53, 41, 23]))
    return image


if __name__ == "__main__":
    main()
