"""Check exported files on this machine: unchanged, with operators that it can run, and right.

    python export/check.py files/phone
    python export/check.py model.tflite --target gpu-delegate
    python export/check.py files/phone --against runs/photos --images photos/held_out

Exit status: 0; 1 when a file was changed, cannot run, or is outside of the bounds; 2 for bad input.
"""

import argparse
import os
import sys

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("path", help=".tflite, .onnx, SavedModel folder, or the folder of an export")
parser.add_argument("--against", metavar="MODEL", help=".keras file or run folder to compare with")
parser.add_argument("--images", metavar="FOLDER", help="images to compare on")
parser.add_argument("--labels", metavar="FOLDER", help="masks of these images, for the mean IoU")
parser.add_argument("--target", help="cpu, gpu-delegate or nnapi-int8 (that of the export)")
parser.add_argument("--bounds", nargs="+", default=[], metavar="NAME=VALUE", help="or none")

if __name__ == "__main__":
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from keras_seg.utils import silence

    with silence():  # what C++ libraries print at the start
        from keras_seg.export import Bounds, check  # after --help: it loads TensorFlow

    try:
        bounds = Bounds.parse(options.bounds)
        report = check(
            options.path,
            against=options.against,
            images=options.images,
            labels=options.labels,
            target=options.target,
            bounds=bounds,
        )
    except ValueError as error:
        parser.error(str(error))
    print(report)
    sys.exit(0 if report.ok else 1)
