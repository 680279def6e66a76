"""Whether every network's files give the same labels in a browser as here, on CPU and GPU.

    python benchmarks/web_check.py                                      # half an hour and more
    python benchmarks/web_check.py PSPNet EncNet --places gpu --files model.onnx

Slim forms of the networks, those of the tests, with random weights; the page of export/web in
headless Chromium, onnxruntime-web and LiteRT.js; one picture of the files' size. The GPU is
Chromium's own, computed by the CPU; int8 stays on the CPU, for a GPU computes its layers in float.
It needs what tests/export/test_web.py needs.

Each line has the share of labels that are `Predictor`'s on the same file, or what the page said
where it labels nothing: LiteRT.js takes a file to the GPU as a whole or not at all. The exit status
is 1 if less than 99.9 % of a file's labels are the same.
"""

import argparse
import gc
import pathlib
import re
import runpy
import sys
import tempfile

import keras
import numpy as np
from PIL import Image

from keras_seg.export import export
from keras_seg.inference import Predictor

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "export")]
FILES = ("model.onnx", "model.tflite", "model_int8.tflite")
PLACES = ("cpu", "gpu")


def main():
    from test_web import Page, built

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of networks (all)")
    parser.add_argument("--files", nargs="+", choices=FILES, default=FILES)
    parser.add_argument("--places", nargs="+", choices=PLACES, default=PLACES)
    options = parser.parse_args()
    matrix = runpy.run_path(str(ROOT / "benchmarks" / "export_matrix.py"))
    differ = 0
    with tempfile.TemporaryDirectory() as root:
        page = Page(built(pathlib.Path(root)))
        for name in matrix["networks"](True):
            if options.names and name.split("-")[0] not in options.names:
                continue
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                picture = exported(name, folder, matrix["slim_network"])
                if picture is None:
                    print(f"{name:<60.60} no picture of 1 or 3 channels", flush=True)
                    continue
                for file in options.files:
                    for place in options.places:
                        if (file, place) == ("model_int8.tflite", "gpu"):
                            continue
                        found = agreement(page, folder, file, picture, place)
                        differ += isinstance(found, float) and found < 0.999
                        shown = f"{found:.3%}" if isinstance(found, float) else found
                        print(f"{name:<60.60} {file:<18} {place}  {shown}", flush=True)
            keras.backend.clear_session()
            gc.collect()
    return int(differ > 0)


def exported(name, folder, slim_network):
    """The files in `folder`, and a picture of their size beside them; None if there can be none."""
    keras.utils.set_random_seed(0)
    model, size, images = slim_network(name)
    pixels = np.clip(np.rint(images[0]), 0, 255).astype("uint8")
    if pixels.shape[-1] not in (1, 3):
        return None
    export(
        model,
        folder,
        size=size,
        formats=("tflite", "onnx"),
        quantize=("int8",),
        calibration=images,
        images=images,
        bounds=None,
        benchmark=0,
        progress=False,
    )
    Image.fromarray(pixels.squeeze()).save(folder / "picture.png")
    return folder / "picture.png"


def agreement(page, folder, file, picture, place):
    """The share of labels that are `Predictor`'s, or what the page said."""
    from test_web import read_ids

    labels = folder / "labels.png"
    steps = [("picture", picture), ("select", "#place", place), ("model", folder / file)]
    try:
        page.use(None, *steps, ("labels", labels))
    except AssertionError as error:
        said = re.findall("Error: no labels: (.*)", str(error))
        if not said:
            raise
        return said[-1]
    return float((read_ids(labels) == Predictor(folder / file).predict_file(picture)).mean())


if __name__ == "__main__":
    sys.exit(main())
