"""Write a trained model as an ONNX file and compare it with the Keras model.

    python export/to_onnx.py runs/photos --size 256 256 --output files/onnx
    python export/to_onnx.py best.keras --size 256 256 --images photos/ --output files/web

Exit status: 0, 1 when the file does not compute what the Keras model computes, 2 for bad input.
"""

import argparse
import os
import sys

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("model", help="a .keras file or a training run's folder")
parser.add_argument("--output", required=True, help="new folder for model.onnx and manifest.json")
parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="size of the image")
parser.add_argument("--images", metavar="FOLDER", help="images to compare on")
parser.add_argument("--returns", default="logits", choices=["logits", "labels"])

if __name__ == "__main__":
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up chatter
    from keras_seg.export import export  # after --help: it loads TensorFlow

    try:
        report = export(
            options.model,
            options.output,
            formats=("onnx",),
            size=options.size,
            images=options.images,
            output=options.returns,
        )
    except ValueError as error:
        parser.error(str(error))
    print(report)
    sys.exit(0 if report.ok else 1)
