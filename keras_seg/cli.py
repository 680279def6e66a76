"""`keras-seg`: the whole path from the shell. Each subcommand is a thin layer over the library."""

import argparse
import ast
import contextlib
import importlib
import os
import pathlib
import signal
import sys
import textwrap
import threading

from keras_seg.utils import atomic_path, silence, writable_folder, write_json

EXAMPLES = {
    None: """\
examples:
  keras-seg quickstart
  keras-seg check-data photos/
  keras-seg train --model UNet --data photos/ --folder runs/photos --epochs 50
  keras-seg predict runs/photos new_images/ --output predictions/
  keras-seg export runs/photos --data photos/ --size 256 256 --output files/
  keras-seg evaluate files/model_int8.tflite --data photos/ --split val

A data folder holds images/ and masks/ with the same file stems (optionally below train/ and val/),
and classes.txt with one class name a line. `keras-seg COMMAND --help` tells more.""",
    "quickstart": """\
examples:
  keras-seg quickstart
  keras-seg quickstart --folder try --epochs 2""",
    "models": """\
examples:
  keras-seg models""",
    "datasets": """\
examples:
  keras-seg datasets
  keras-seg datasets voc
  keras-seg datasets --markdown""",
    "check-data": """\
examples:
  keras-seg check-data photos/
  keras-seg check-data CamVid/ --split train
  keras-seg check-data VOCdevkit/ --split trainaug --read sbd=SBD/dataset""",
    "prepare": """\
examples:
  keras-seg prepare VOCdevkit/VOC2012 --splits train val --output shards/voc
  keras-seg prepare photos/ --output shards/photos --shards 8
  keras-seg prepare cells/ --output shards/cells --channels 1 --max-megabytes 256
  keras-seg train --model UNet --data shards/photos --folder runs/photos
  the same command again goes on where an interrupted one stopped""",
    "train": """\
examples:
  keras-seg train --model UNet --data photos/ --folder runs/photos --epochs 50 --set filters=32
  keras-seg train --model PSPNet --data photos/ --folder runs/psp --optimizer sgd \\
      --learning-rate 0.01 --head-multiplier 10 --set backbone=resnet18 --set aux=True
  keras-seg train --model UNet --data photos/ --folder runs/ema --schedule cosine \\
      --warmup-steps 500 --accumulate 4 --clip-norm 1 --ema 0.999
  keras-seg train --model UNet --data photos/ --folder runs/profile --epochs 1 --profile
  the same command again goes on where an interrupted run stopped""",
    "evaluate": """\
examples:
  keras-seg evaluate runs/photos --data photos/ --split val
  keras-seg evaluate files/model_int8.tflite --data photos/ --split val --json scores.json
  keras-seg evaluate runs/psp --data photos/ --mode slide --window 473 --scales 0.75 1 --flip
  keras-seg evaluate runs/psp --data ADE/ --procedure semseg --window 473 --base-size 512 \\
      --scales 0.5 0.75 1 1.25 1.5 1.75 --flip
  keras-seg evaluate runs/setr --data ADE/ --procedure mmseg --window 512 --base-size 2048 512
  keras-seg evaluate runs/deconv --data VOCdevkit/ --proposals selective_search --ensemble runs/fcn
  keras-seg evaluate runs/photos --data photos/ --plots plots/ --boundary --trimap 4 8""",
    "predict": """\
examples:
  keras-seg predict runs/photos image.jpg --output predictions/
  keras-seg predict files/model.tflite new_images/ --output predictions/ --flip
  keras-seg predict --weights nuclei microscope/ --output predictions/
  keras-seg predict files/model.tflite aerial.tif --output predictions/ --mode slide
  keras-seg predict runs/city leftImg8bit/test/ --output results/ --submission cityscapes \\
      --procedure semseg --window 713
  keras-seg predict runs/photos new_images/ --output predictions/ --crf deeplab --crf-set w1=5""",
    "tune-crf": """\
examples:
  keras-seg tune-crf runs/photos --data photos/ --json crf.json
  keras-seg tune-crf runs/photos --data photos/ --images 20 --w1 3 5 --theta-alpha 40 80 \\
      --theta-beta 3 6 --rounds 1
  with --json the same command again goes on where an interrupted search stopped; --crf and
  --crf-set give the parameters that are not searched (deeplab_v1: w2 and theta_gamma 3)""",
    "export": """\
examples:
  keras-seg export runs/photos --data photos/ --size 256 256 --output files/
  keras-seg export best.keras --calibration photos/images --formats tflite --size 256 256 \\
      --quantize int8 --output files/
  keras-seg export runs/photos --data photos/ --size 256 256 --output-kind labels --confidence \\
      --bounds mean_iou_loss=0.01 --output files/""",
    "benchmark": """\
examples:
  keras-seg benchmark files/
  keras-seg benchmark runs/photos/best.keras files/model.tflite files/model.onnx --threads 1 2 4
  keras-seg benchmark a/model_int8.tflite b/model_int8.tflite --repeats 50 --json times.json""",
    "import-weights": """\
examples:
  keras-seg import-weights --model PSPNet --set backbone=resnet50 --classes 21 --layout semseg \\
      train_epoch_50.pth --output pspnet50.keras
  keras-seg import-weights --model FCN8s --classes 21 --layout caffe \\
      fcn8s-heavy-pascal.caffemodel --output fcn8s.keras
  keras-seg import-weights --model UNet --classes 3 --channels 1 --transfer \\
      runs/photos/best.keras --output start.keras
  with --transfer, layers that do not fit, such as those for other classes, keep their start values\
""",
}


FORMATS = ("saved_model", "tflite", "onnx")
# The files that `keras-seg export --quantize` adds, and their formats.
QUANTIZED = {
    "float16": "tflite",
    "dynamic": "tflite",
    "int8": "tflite",
    "int16x8": "tflite",
    "uint8": "tflite",
    "qdq": "onnx",
}
# Those of `keras_seg.losses` that train a network on their own, with their default arguments.
LOSSES = {
    "cross_entropy": "CrossEntropy",
    "cross_entropy_dice": "CrossEntropyDice",
    "cross_entropy_log_iou": "CrossEntropyLogIoU",
    "dice": "Dice",
    "focal": "Focal",
    "focal_tversky": "FocalTversky",
    "generalized_dice": "GeneralizedDice",
    "iou": "IoU",
    "l1": "L1",
    "lovasz": "Lovasz",
    "ohem": "OHEM",
    "top_k_cross_entropy": "TopKCrossEntropy",
    "tversky": "Tversky",
}
CLASS_WEIGHTS = ("median_frequency", "inverse", "balanced", "inverse_mean", "enet")


def main(arguments=None):
    """Run one subcommand; returns the exit status: 0, 1 when a check failed, 2 for bad input."""
    return _run(_parser().parse_args(arguments))


def _run(options):
    _import_quietly()
    try:
        with _terminable():
            status = options.run(options) or 0
            sys.stdout.flush()
            return status
    except BrokenPipeError:  # the reader has seen enough: keras-seg models | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 1
    except (ValueError, OSError) as error:
        print(f"keras-seg {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except _Terminated:
        return 128 + signal.SIGTERM


class _Terminated(BaseException):
    """SIGTERM, as Docker and batch systems send it."""


@contextlib.contextmanager
def _terminable():
    """SIGTERM ends what is done within as Ctrl-C does, so that no part of a file stays behind.

    A second one ends the process at once. While a network trains, `training.train` has its own way.
    """

    def terminate(*_):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # only there signals can be caught
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _import_quietly():
    """Import Keras and its backend without what their C++ libraries print at the start."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with silence():
        keras = importlib.import_module("keras")
    # Keras wraps the message of a layer in colours and arguments, which hide what is wrong.
    keras.config.disable_traceback_filtering()


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-seg",
        description="Semantic segmentation for Keras 3, from the paper to the phone.",
        epilog=EXAMPLES[None],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, run, summary):
        sub = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        return sub

    sub = command("quickstart", _quickstart, "train, look and export on made-up pictures, offline")
    sub.add_argument("--folder", default="quickstart", help="where everything goes (quickstart)")
    sub.add_argument("--epochs", type=int, default=None, help="passes over the pictures")

    command("models", _models, "list the networks and the backbones")

    sub = command("datasets", _datasets, "list the data sets that can be read, or show one in full")
    sub.add_argument("name", nargs="?", help="of the layout to show: classes, colours, files")
    sub.add_argument("--markdown", action="store_true", help="the list as a Markdown table")

    sub = command("check-data", _check_data, "read every file of a data set and say what is wrong")
    _add_data(sub, positional=True, channels=3)

    sub = command("prepare", _prepare, "write a data set as TFRecord shards with checksums")
    _add_reading(sub, positional=True, channels=3)
    sub.add_argument("--splits", nargs="+", metavar="SPLIT", help="which to write (all)")
    sub.add_argument("--output", required=True, metavar="FOLDER", help="where the shards go")
    sub.add_argument("--shards", type=int, metavar="N", help="files for each split")
    sub.add_argument(
        "--max-megabytes", type=float, metavar="M", help="instead: largest size of a file (128)"
    )
    sub.add_argument("--overwrite", action="store_true", help="delete shards that the folder holds")

    sub = command("train", _train, "train a network; the same command resumes an interrupted run")
    _add_data(sub, channels=3)
    _add_held_out(sub)
    _add_training(sub)

    sub = command("evaluate", _evaluate, "score a model or an exported file on labelled images")
    sub.add_argument("model", help="run folder, .keras, SavedModel folder, .tflite or .onnx")
    _add_data(sub)
    _add_held_out(sub)
    sub.add_argument("--json", metavar="FILE", help="write the scores there as well")
    sub.add_argument(
        "--boundary",
        nargs="?",
        type=float,
        const=0.0075,
        metavar="TOLERANCE",
        help="boundary F1; in pixels, or below 1 as a share of the diagonal (0.0075)",
    )
    sub.add_argument(
        "--trimap",
        nargs="+",
        type=float,
        default=[],
        metavar="WIDTH",
        help="IoU in bands of so many pixels on each side of the true contours, such as 4 8",
    )
    sub.add_argument(
        "--no-void-edges",
        action="store_true",
        help="for these two: no contour where ignored pixels begin",
    )
    sub.add_argument(
        "--average-precision", action="store_true", help="of each class at single pixels"
    )
    sub.add_argument(
        "--plots",
        nargs="?",
        const="plots",
        metavar="FOLDER",
        help="pictures of the confusion matrix, the IoU and precision over recall (plots)",
    )
    _add_procedure(sub)
    _add_proposals(sub)

    sub = command("predict", _predict, "label images: one PNG of class ids and one overlay each")
    sub.add_argument(
        "model", nargs="?", help="run folder, .keras, SavedModel folder, .tflite or .onnx"
    )
    sub.add_argument("images", help="an image or a folder of images")
    sub.add_argument("--output", required=True, metavar="FOLDER", help="where the pictures go")
    sub.add_argument(
        "--weights",
        metavar="NAME",
        help="in place of a model: published weights, such as nuclei (see docs/weights.md)",
    )
    sub.add_argument(
        "--white", type=int, metavar="VALUE", help="of 16-bit grey images, such as 65535"
    )
    sub.add_argument(
        "--submission",
        metavar="KIND",
        help="write what an evaluation server takes instead: cityscapes, voc or ade20k",
    )
    _add_procedure(sub)
    _add_proposals(sub)

    sub = command("tune-crf", _tune_crf, "search the parameters of a CRF on labelled images")
    sub.add_argument("model", help="run folder, .keras, SavedModel folder, .tflite or .onnx")
    _add_data(sub)
    _add_held_out(sub)
    sub.add_argument("--images", type=int, default=100, metavar="N", help="of the split (100)")
    for name in ("w1", "theta-alpha", "theta-beta"):
        sub.add_argument(
            f"--{name}", type=float, nargs="+", metavar="X", help="values to try (DeepLab's)"
        )
    sub.add_argument("--rounds", type=int, default=2, help="each with half the steps (2)")
    sub.add_argument("--json", metavar="FILE", help="keep the counts there, and resume from them")
    _add_procedure(sub)

    sub = command("export", _export, "write SavedModel, TFLite and ONNX files and prove them right")
    _add_export(sub)

    sub = command("benchmark", _benchmark, "time files of any kinds side by side, in turns")
    sub.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help=".keras, .tflite or .onnx file, SavedModel, run folder, or an export's folder (all of "
        "its files)",
    )
    sub.add_argument(
        "--size", nargs=2, type=int, metavar=("H", "W"), help="of the image, if no file fixes it"
    )
    sub.add_argument(
        "--threads", nargs="+", type=int, metavar="N", help="thread counts to run with (all cores)"
    )
    sub.add_argument("--repeats", type=int, default=20, metavar="N", help="counted rounds (20)")
    sub.add_argument("--warmup", type=int, default=3, metavar="N", help="rounds before them (3)")
    sub.add_argument("--images", metavar="FOLDER", help="images to run on (a made-up picture)")
    sub.add_argument("--baseline", metavar="FILE", help="the file that ratios are to (the first)")
    sub.add_argument("--json", metavar="FILE", help="write the figures there as well")

    sub = command("import-weights", _import_weights, "make a .keras file of a reference's weights")
    sub.add_argument("file", help="weights: .pth .pt .safetensors .npz .caffemodel .h5 .keras")
    _add_network(sub)
    sub.add_argument("--classes", type=int, required=True, metavar="K", help="number of classes")
    sub.add_argument("--channels", type=int, default=3, help="channels of the images (3)")
    sub.add_argument(
        "--size", nargs=2, type=int, metavar=("H", "W"), help="input size, where a network has one"
    )
    sub.add_argument(
        "--layout", help="whose names the weights have, such as semseg or smp: see docs/weights.md"
    )
    sub.add_argument("--transfer", action="store_true", help="load what fits, leave the rest")
    sub.add_argument(
        "--skip",
        action="append",
        default=[],
        metavar="LAYER",
        help="with --transfer: a layer to leave alone, * for any part; may be repeated",
    )
    sub.add_argument("--output", required=True, metavar="FILE", help="the .keras file to write")
    return parser


def _add_export(sub, formats=FORMATS):
    """The options of `keras-seg export`, and of the scripts in export/ for their formats."""
    sub.add_argument("model", help="run folder or .keras file")
    sub.add_argument("--output", required=True, metavar="FOLDER", help="where the files go")
    sub.add_argument(
        "--size", nargs=2, type=int, metavar=("H", "W"), help="input size of the files"
    )
    if len(formats) > 1:
        sub.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS)
    else:
        sub.set_defaults(formats=list(formats))
    quantized = [name for name, kind in QUANTIZED.items() if kind in formats]
    if quantized:
        sub.add_argument(
            "--quantize",
            nargs="*",
            default=None,
            choices=quantized,
            metavar="NAME",
            help=f"further files: {', '.join(quantized)} (float16, and int8 with --data or "
            "--calibration, which all but float16 and dynamic need)",
        )
        sub.add_argument(
            "--fallback",
            type=int,
            metavar="N",
            help="of int8 and qdq, at most N layers stay in float where int8 alone loses "
            "too much (8 where the images have labels, else 0)",
        )
    sub.add_argument(
        "--calibration", metavar="FOLDER", help="images whose ranges set the integers' scales"
    )
    _add_data(sub, required=False)
    _add_held_out(sub)
    sub.add_argument(
        "--images",
        metavar="N|FOLDER",
        help="images to compare on: so many of --data (16), or those in a folder",
    )
    sub.add_argument("--labels", metavar="FOLDER", help="masks of the --images in a folder")
    sub.add_argument(
        "--output-kind",
        default="logits",
        choices=["logits", "logits_lowres", "probabilities", "labels"],
        help="what the files return (logits)",
    )
    sub.add_argument(
        "--confidence", action="store_true", help="return the largest probability as well"
    )
    sub.add_argument(
        "--benchmark",
        type=int,
        default=5,
        metavar="N",
        help="runs of each file, in turns, for its time (5); 0: no times",
    )
    sub.add_argument(
        "--peak-memory", action="store_true", help="measure each file's, some seconds a file"
    )
    sub.add_argument(
        "--target",
        default="cpu",
        choices=["cpu", "gpu-delegate", "nnapi-int8"],
        help="what the .tflite files must run on as a whole (cpu)",
    )
    sub.set_defaults(dynamic=[])
    if "onnx" in formats:
        sub.add_argument(
            "--dynamic",
            nargs="+",
            default=[],
            choices=["batch", "size"],
            help="what the .onnx file leaves open: batch (any number of images), size",
        )
    sub.add_argument(
        "--bounds",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="what the files must reach, such as mean_iou_loss=0.01: difference, mean_difference, "
        "agreement, mean_iou_loss, tie; none: state the figures, judge nothing",
    )
    sub.add_argument("--data-name", metavar="TEXT", help="what the model was trained on")
    sub.add_argument("--licence", metavar="TEXT", help="the terms of that data")


def _add_network(sub):
    sub.add_argument("--model", required=True, help="name of the network: see keras-seg models")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the network, such as filters=32; may be repeated",
    )


def _add_data(sub, *, positional=False, required=True, channels=None):
    """How to find and read a split of a data set; `channels` None: as the model has them."""
    _add_reading(sub, positional=positional, required=required, channels=channels)
    if not positional:
        sub.add_argument(
            "--scale",
            type=float,
            metavar="FACTOR",
            help="resize pictures and masks by it, such as 0.5",
        )
    sub.add_argument("--split", help="train, val or test, where the data set has them")


def _add_reading(sub, *, positional=False, required=True, channels=None):
    """How to find and read a data set."""
    text = "folder of the data set (images/ and masks/, or one of keras-seg datasets)"
    if positional:
        sub.add_argument("data", help=text)
    else:
        sub.add_argument("--data", required=required, help=text)
    sub.add_argument(
        "--layout", default="auto", help="how the folder is laid out: see keras-seg datasets (auto)"
    )
    sub.add_argument("--classes", help="file with one class name a line, if not in the data folder")
    sub.add_argument(
        "--channels",
        type=int,
        default=channels,
        help=f"channels to read ({channels or 'those of the model'})",
    )
    sub.add_argument(
        "--mask-values",
        nargs="+",
        default=[],
        metavar="VALUE=ID",
        help="what the values in the masks mean, such as 0=0 255=1 for black and white masks",
    )
    sub.add_argument(
        "--mask-suffix",
        metavar="TEXT",
        help="what mask names have more than image names, such as _mask",
    )
    sub.add_argument(
        "--read",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the layout, such as coarse=True for cityscapes; `keras-seg datasets NAME` "
        "lists them; may be repeated",
    )


def _add_held_out(sub):
    sub.add_argument(
        "--held-out",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="part of the images that is the val split where the data set has none (0.2)",
    )


def _add_training(sub):
    _add_network(sub)
    sub.add_argument("--folder", required=True, help="the run's folder: everything goes there")
    sub.add_argument(
        "--epochs", type=int, default=50, help="in all, those before a resume too (50)"
    )
    sub.add_argument("--batch-size", type=int, default=8, help="crops in a step (8)")
    sub.add_argument("--crop", type=int, nargs=2, metavar=("H", "W"), help="size of the crops")
    sub.add_argument("--optimizer", default="adam", choices=["adam", "sgd"], help="(adam)")
    sub.add_argument("--learning-rate", type=float, help="of the first step (adam 1e-3, sgd 1e-2)")
    sub.add_argument("--weight-decay", type=float, default=1e-4, help="decoupled (1e-4)")
    sub.add_argument(
        "--schedule",
        default="poly",
        choices=["poly", "cosine", "constant"],
        help="of the learning rate: down to 0 by (1 - step / steps)^0.9 or by half a wave, or the "
        "same (poly)",
    )
    sub.add_argument(
        "--warmup-steps", type=int, metavar="N", help="steps over which the rate first rises (0)"
    )
    sub.add_argument(
        "--head-multiplier",
        type=float,
        default=1.0,
        help="learning rate of the layers behind the trunk, times the trunk's (1)",
    )
    sub.add_argument(
        "--accumulate", type=int, metavar="N", help="batches whose mean gradient is one update (1)"
    )
    sub.add_argument(
        "--clip-norm", type=float, metavar="X", help="largest norm of all gradients together"
    )
    sub.add_argument(
        "--ema",
        type=float,
        metavar="M",
        help="validate and keep moving averages of the weights, such as 0.999",
    )
    sub.add_argument(
        "--loss",
        default="cross_entropy",
        choices=LOSSES,
        metavar="NAME",
        help=f"one of {', '.join(LOSSES)} (cross_entropy)",
    )
    sub.add_argument(
        "--class-weights",
        choices=CLASS_WEIGHTS,
        metavar="SCHEME",
        help="weigh classes in the loss by their pixels in the training data: "
        f"{', '.join(CLASS_WEIGHTS)}",
    )
    sub.add_argument(
        "--devices",
        nargs="+",
        metavar="NAME",
        help="such as GPU:0 GPU:2 (all GPUs, of all machines that TF_CONFIG names)",
    )
    sub.add_argument(
        "--precision",
        default="float32",
        choices=["float32", "mixed_float16", "mixed_bfloat16"],
        help="of the arithmetic; weights and losses stay float32 (float32)",
    )
    sub.add_argument(
        "--profile",
        action="store_true",
        help="first show how long input, forward and backward pass, update and metric of a step "
        "take, and write a trace for TensorBoard",
    )
    sub.add_argument(
        "--validate-every", type=int, default=1, metavar="N", help="epochs between validations (1)"
    )
    sub.add_argument(
        "--save-every",
        type=int,
        default=1,
        metavar="N",
        help="epochs between checkpoints and pictures, where epochs take seconds (1)",
    )
    sub.add_argument(
        "--measure-statistics",
        type=int,
        default=0,
        metavar="N",
        help="at the end measure the statistics of batch normalisation on N training images, for "
        "training with small batches (0: keep the moving ones)",
    )
    sub.add_argument(
        "--cache", action="store_true", help="keep the decoded training images in memory"
    )
    sub.add_argument(
        "--workers",
        type=int,
        default=2,
        metavar="N",
        help="threads that make the batches on JAX and torch (2)",
    )
    sub.add_argument("--no-augment", action="store_true", help="train on the images as they are")
    sub.add_argument(
        "--mix", choices=["cutmix"], help="put a rectangle of another crop on every second crop"
    )
    sub.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (0)")
    sub.add_argument(
        "--deterministic", action="store_true", help="the same weights each time, more slowly"
    )
    sub.add_argument("--no-resume", action="store_true", help="refuse a folder that holds a run")
    sub.add_argument("--overwrite", action="store_true", help="delete a run that the folder holds")


def _add_procedure(sub):
    sub.add_argument(
        "--procedure",
        metavar="NAME",
        help="of a paper's code: semseg (PSPNet), mmseg, setr or encoding (EncNet); sets the mode, "
        "the rule, the average, the sampling and how sizes are rounded",
    )
    sub.add_argument(
        "--mode",
        choices=["whole", "slide", "tile"],
        help="the whole image, a sliding window, or the tiles of U-Net's published form (whole)",
    )
    sub.add_argument(
        "--window",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help="side of the sliding window or the tile, or its height and width",
    )
    sub.add_argument(
        "--stride", type=int, nargs="+", metavar="PIXELS", help="step of the window (2/3 of it)"
    )
    sub.add_argument(
        "--rule", metavar="NAME", help="where windows lie: semseg, mmseg or encoding (semseg)"
    )
    sub.add_argument(
        "--weighting", choices=["uniform", "gaussian"], help="of pixels in a window (uniform)"
    )
    sub.add_argument(
        "--batch-windows", type=int, metavar="N", help="windows at once (up to 8, by their size)"
    )
    sub.add_argument("--scales", type=float, nargs="+", default=[1.0])
    sub.add_argument(
        "--base-size",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help="scales are of a long side of this (the image's own); for mmseg and setr two bounds",
    )
    sub.add_argument(
        "--flip",
        nargs="?",
        default=False,
        const=True,
        choices=["d4"],
        help="average with the mirrored image; `--flip d4` with all 8 turns and mirrorings",
    )
    sub.add_argument(
        "--flip-pairs",
        nargs="+",
        default=[],
        metavar="ID,ID",
        help="classes that a mirror image swaps, such as 14,15 16,17 18,19 for LIP",
    )
    sub.add_argument(
        "--average",
        metavar="WHAT",
        help="probabilities, logits, views or likelihoods (probabilities)",
    )
    sub.add_argument(
        "--sampling",
        metavar="NAME",
        help="of resizes: antialias, half_pixel, align_corners or legacy (antialias)",
    )
    sub.add_argument("--crf", metavar="NAME", help="refine by a dense CRF, such as deeplab")
    sub.add_argument(
        "--crf-set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="parameter of the CRF, such as theta_alpha=80; may be repeated",
    )


def _add_proposals(sub):
    sub.add_argument(
        "--proposals",
        metavar="FROM",
        help="DeconvNet's procedure: score object proposals, from selective_search or from edge "
        "boxes with the edge model in this file",
    )
    sub.add_argument(
        "--ensemble", metavar="MODEL", help="for it: average with this network, FCN-8s"
    )


def _procedure(options):
    """The prediction options that were given."""
    procedure = {"scales": tuple(options.scales), "flip": options.flip}
    names = ("procedure", "mode", "rule", "weighting", "batch_windows", "average", "sampling")
    procedure |= {name: getattr(options, name) for name in names}
    for name in ("window", "stride", "base_size"):
        values = getattr(options, name)
        if values is not None:
            procedure[name] = values[0] if len(values) == 1 else tuple(values)
    if options.flip_pairs:
        procedure["flip_pairs"] = tuple(_parse_pair(text) for text in options.flip_pairs)
    if options.crf is not None:
        procedure["crf"] = _crf(options)
    elif options.crf_set:
        raise ValueError("--crf-set needs --crf, such as --crf deeplab.")
    return {name: value for name, value in procedure.items() if value is not None}


def _parse_pair(text):
    """(14, 15) from "14,15"."""
    try:
        left, right = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--flip-pairs takes ID,ID, such as 14,15; got {text!r}.") from None
    return left, right


def _predictor(options, table=None):
    """(the predictor, how it is to predict): `--proposals` is another one, with fewer options."""
    from keras_seg import inference

    procedure = _procedure(options)
    if not options.proposals:
        if options.ensemble:
            raise ValueError("--ensemble needs --proposals.")
        return inference.Predictor(options.model, table=table), procedure
    usual = {"scales": (1.0,), "flip": False}
    more = [n for n, value in procedure.items() if n != "crf" and value != usual.get(n)]
    if more:
        wrong = ", ".join("--" + name.replace("_", "-") for name in more)
        raise ValueError(f"--proposals has a procedure of its own; leave out {wrong}.")
    ensemble = inference.Predictor(options.ensemble) if options.ensemble else None
    predictor = inference.ProposalPredictor(options.model, options.proposals, ensemble=ensemble)
    return predictor, {name: procedure[name] for name in ("crf",) if name in procedure}


def _published(name):
    """(network, class table) of published weights."""
    from keras_seg import models, weights
    from keras_seg.data import LabelTable

    return models.pretrained(name), LabelTable.from_json(weights.find_published(name).classes)


def _crf(options):
    from keras_seg import crf

    changes = dict(_parse_setting(text, "--crf-set") for text in options.crf_set)
    return crf.find_crf(options.crf, **changes)


def _open(options, split=None):
    """A split of the data set; "val" where it has none is the part that `train` holds out."""
    from keras_seg import data

    if split == "val" and not _has_val(options):
        return _train_and_val(options)[1]
    dataset = _noted(data.open_dataset(options.data, split, **_reading(options)))
    return dataset if options.scale is None else dataset.scaled(options.scale)


def _train_and_val(options, split=None):
    """The train and val splits of the data set; where there is no val, or of `split`, cut in two.

    The cut follows from the data and its share alone, so that `evaluate` and `export` find again
    what `train` has held out.
    """
    if split or not _has_val(options):
        if not 0 < options.held_out < 1:
            raise ValueError(f"--held-out must be between 0 and 1, got {options.held_out}.")
        return _open(options, split).split(options.held_out)
    return _open(options, "train"), _open(options, "val")


def _has_val(options):
    from keras_seg import data

    splits = data.list_splits(options.data, **_reading(options))
    return any(split.startswith("val") for split in splits)


def _reading(options):
    """How the data set is to be read."""
    reading = {
        "layout": options.layout,
        "classes": options.classes,
        "channels": options.channels,
    }
    if options.mask_values:
        reading["mask_values"] = dict(_parse_mask_value(text) for text in options.mask_values)
    if options.mask_suffix:
        reading["mask_suffix"] = options.mask_suffix
    return reading | dict(_parse_setting(text, "--read") for text in options.read)


def _parse_mask_value(text):
    """(255, 1) from "255=1"."""
    try:
        value, number = (int(part) for part in text.split("="))
    except ValueError:
        raise ValueError(f"--mask-values takes VALUE=ID, such as 255=1; got {text!r}.") from None
    return value, number


def _quickstart(options):
    from keras_seg.quickstart import quickstart

    return _exporting(lambda: quickstart(options.folder, epochs=options.epochs))


def _models(options):
    from keras_seg import backbones, models
    from keras_seg.models import catalog

    print(catalog.format_table(models.cards()))
    names = "  ".join(backbones.list_backbones())
    print("\nbackbones, where a model leaves the choice:")
    print(textwrap.fill(names, 96, initial_indent="  ", subsequent_indent="  "))
    print(
        "\nParameters and GMAC (1e9 multiply-accumulates) with the default options and 21 classes, "
        "GMAC for one\nimage of the size in the next column; smallest: rows and columns of the "
        "smallest image that works."
    )


def _datasets(options):
    from keras_seg import data
    from keras_seg.data import catalog

    if options.name:
        print(catalog.format_layout(data.find_layout(options.name)))
    else:
        print(catalog.format_table(data.list_datasets(), markdown=options.markdown))


def _prepare(options):
    from keras_seg import data

    wanted = options.splits or data.list_splits(options.data, **_reading(options)) or [None]
    splits = {}
    for name in wanted:
        dataset = _noted(data.open_dataset(options.data, name, **_reading(options)))
        splits[dataset.split_name] = dataset
    size = options.max_megabytes
    folder = data.prepare(
        splits,
        options.output,
        shards=options.shards,
        max_bytes=None if size is None else int(size * 1e6),
        overwrite=options.overwrite,
    )
    counted = ", ".join(f"{name or 'all'}: {len(dataset)}" for name, dataset in splits.items())
    print(f"{folder} holds {counted} samples.")
    licence = data.find_layout(dataset.layout).licence
    if licence:
        print(f"Their licence stays: {licence}.")


def _noted(dataset):
    """The data set; what a user should know of it goes to stderr."""
    for note in dataset.notes:
        print(f"Note: {note}", file=sys.stderr)
    return dataset


def _check_data(options):
    from keras_seg import data

    report = data.check_data(options.data, options.split, **_reading(options))
    print(report)
    return 0 if report.ok else 1


def _train(options):
    from keras_seg import data, losses, models, training

    train_data, val_data = _train_and_val(options, options.split)
    print(f"{len(train_data)} images to train on, {len(val_data)} to validate on.")
    model_options = _model_options(options)
    num_classes = train_data.table.num_classes
    input_shape = (None, None, options.channels)

    def build_model():
        return models.build(options.model, num_classes, input_shape, **model_options)

    more = {"augment": None} if options.no_augment else {}
    result = training.train(
        build_model,
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        batch_size=options.batch_size,
        crop_size=tuple(options.crop) if options.crop else None,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        schedule=options.schedule,
        warmup_steps=options.warmup_steps,
        head_multiplier=options.head_multiplier,
        # 1 is what the help calls the default; `train` says None for an update after each batch.
        gradient_accumulation_steps=None if options.accumulate == 1 else options.accumulate,
        global_clipnorm=options.clip_norm,
        ema_momentum=options.ema,
        profile=options.profile,
        validate_every=options.validate_every,
        save_every=options.save_every,
        measure_statistics=options.measure_statistics,
        cache=options.cache,
        workers=options.workers,
        loss=getattr(losses, LOSSES[options.loss])(ignore_label=train_data.table.ignore_label),
        class_weights=options.class_weights,
        precision=options.precision,
        devices=options.devices,
        mix=data.CutMix() if options.mix else None,
        resume=not options.no_resume,
        overwrite=options.overwrite,
        seed=options.seed,
        deterministic=options.deterministic,
        **more,
    )
    best = "" if result.best_score is None else f"Best mean IoU {result.best_score:.4f}; "
    print(f"{best}everything is in {result.folder}.")


def _model_options(options):
    """The options of the network from `--set`; those with an option of their own are refused."""
    found = dict(_parse_setting(text) for text in options.set)
    for name, instead in (("num_classes", "--classes"), ("input_shape", "--channels")):
        if name in found:
            raise ValueError(f"--set {name}: use {instead} instead.")
    return found


def _parse_setting(text, option="--set"):
    """("filters", 32) from "filters=32": Python literals, anything else is a string."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{option} takes NAME=VALUE, got {text!r}.")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _evaluate(options):
    from keras_seg import inference

    _check_json(options.json)
    predictor, procedure = _predictor(options)
    options.channels = options.channels or predictor.channels
    dataset = _open(options, options.split or _split_to_score(options))
    print(f"Scoring {dataset!r}", file=sys.stderr)
    scores = inference.evaluate(
        predictor,
        dataset,
        boundary=options.boundary,
        trimap=options.trimap,
        void_edges=not options.no_void_edges,
        average_precision=options.average_precision,
        plots=options.plots,
        **procedure,
    )
    print(inference.format_scores(scores))
    if options.plots:
        print(f"Plots written to {options.plots}.")
    if options.json:
        write_json(options.json, scores)
        print(f"Scores written to {options.json}.")


def _check_json(path):
    """Raise ValueError, before any work, for a --json that cannot be written."""
    if path is None:
        return
    if pathlib.Path(path).is_dir():
        raise ValueError(f"--json {path} is a folder; give the name of a file.")
    writable_folder(pathlib.Path(path).absolute().parent)


def _split_to_score(options):
    """The split that the network was not trained on: val, else test; None where there is none."""
    from keras_seg import data

    splits = data.list_splits(options.data, **_reading(options))
    return next((s for kind in ("val", "test") for s in splits if s.startswith(kind)), None)


def _predict(options):
    from keras_seg import inference

    if (options.model is None) == (options.weights is None):
        raise ValueError("Give either a model or --weights NAME, and then the images.")
    table = None
    if options.weights:
        options.model, table = _published(options.weights)
    predictor, procedure = _predictor(options, table)
    if options.submission:
        written = inference.write_submission(
            predictor, options.images, options.output, options.submission, **procedure
        )
        print(f"{len(written)} label maps for {options.submission} in {written[0].parent}.")
        return
    written = inference.predict_folder(
        predictor, options.images, options.output, white=options.white, **procedure
    )
    print(f"{len(written)} label maps and overlays written to {options.output}.")


def _tune_crf(options):
    from keras_seg import inference

    options.crf = options.crf or "deeplab_v1"
    procedure = _procedure(options)
    grid = {name: getattr(options, name) for name in ("w1", "theta_alpha", "theta_beta")}
    predictor = inference.Predictor(options.model)
    options.channels = options.channels or predictor.channels
    dataset = _open(options, options.split or _split_to_score(options))
    result = inference.tune_crf(
        predictor,
        dataset,
        rounds=options.rounds,
        images=options.images,
        file=options.json,
        **{name: values for name, values in grid.items() if values},
        **procedure,
    )
    print(inference.format_search(result))
    best = result["settings"][0]
    chosen = " ".join(f"--crf-set {name}={best[name]:g}" for name in grid)
    given = "".join(f" --crf-set {text}" for text in options.crf_set)
    print(f"The best: --crf {options.crf}{given} {chosen}")


def _exporting(run):
    """Run what exports; status 1, with the table, for files that are outside of the bounds."""
    from keras_seg.export import ExportError

    try:
        run()
    except ExportError as error:
        print(error)
        return 1


def _export(options):
    from keras_seg import inference
    from keras_seg.export import Bounds, export
    from keras_seg.export.arguments import free_folder

    bounds = Bounds.parse(options.bounds)
    free_folder(options.output)  # before any image is read
    runner = inference.load_runner(options.model)
    options.channels = options.channels or runner.channels
    return _exporting(
        lambda: print(
            export(
                runner,
                options.output,
                formats=tuple(options.formats),
                quantize=_quantize(options),
                fallback=getattr(options, "fallback", None),
                size=tuple(options.size) if options.size else None,
                output=options.output_kind,
                confidence=options.confidence,
                target=options.target,
                dynamic=tuple(options.dynamic),
                bounds=bounds,
                data_name=options.data_name,
                licence=options.licence,
                benchmark=options.benchmark,
                peak_memory=options.peak_memory,
                **_export_images(options, runner),
            )
        )
    )


def _quantize(options):
    """The further files: by default those that can be made of what is given."""
    chosen = getattr(options, "quantize", ())
    if chosen is None:
        chosen = ("float16", "int8") if options.data or options.calibration else ("float16",)
    return tuple(chosen)


def _export_images(options, runner):
    """Calibration images, images with labels to compare on, and the classes, as the options name
    them; the classes of a training run count before those of the data set."""
    from keras_seg import data
    from keras_seg.data.labels import read_classes
    from keras_seg.export.manifest import class_table

    found = {}
    wanted = options.images or "16"
    count = int(wanted) if wanted.isdigit() else 0
    if count < 1 and not pathlib.Path(wanted).is_dir():
        raise ValueError(f"--images takes a number of images or a folder, got {wanted!r}.")
    if options.images and count and not options.data:
        raise ValueError(f"--images {count} takes images of --data: give it as well, or a folder.")
    if options.labels and count:
        raise ValueError("--labels are masks of images in a folder: give --images FOLDER as well.")
    own = runner.path is not None and class_table(runner.path) is not None
    if options.data:
        train_data, val_data = _train_and_val(options, options.split)
        # Where no file names them, the classes are counted from the masks, and may be too few.
        fits = train_data.table.num_classes == runner.num_classes
        if options.classes or (fits and not own):
            found["table"] = train_data.table
        found["calibration"] = [train_data[i].image for i in _spread(len(train_data), 64)]
        samples = [val_data[i] for i in _spread(len(val_data), count)] if count else []
        if samples:
            found["images"] = [sample.image for sample in samples]
            found["labels"] = [sample.label for sample in samples]
    if not count:
        found["images"] = options.images
        if options.labels:
            found["labels"] = options.labels
    if options.calibration:
        paths = data.list_images(options.calibration)
        found["calibration"] = [
            data.read_image(paths[i], options.channels) for i in _spread(len(paths), 64)
        ]
    if options.classes and not options.data:
        found["table"] = read_classes(options.classes)[0]
    return found


def export_script(description, formats, arguments=None):
    """What the scripts in export/ run: `keras-seg export` for one format, with its status."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_export(parser, formats)
    parser.set_defaults(run=_export, command="export")
    return _run(parser.parse_args(arguments))


def _benchmark(options):
    from keras_seg.export import benchmark

    _check_json(options.json)
    report = benchmark(
        options.files,
        size=tuple(options.size) if options.size else None,
        threads=options.threads,
        repeats=options.repeats,
        warmup=options.warmup,
        images=options.images,
        baseline=options.baseline,
    )
    print(report)
    if options.json:
        write_json(options.json, report.to_json())
        print(f"Figures written to {options.json}.")


def _import_weights(options):
    from keras_seg import models, weights

    output = pathlib.Path(options.output)
    if output.suffix != ".keras":
        raise ValueError(f"--output {output}: the file's name must end in .keras.")
    if not options.transfer and (options.layout is None or options.skip):
        missing = "--skip needs --transfer" if options.layout else "name the --layout"
        raise ValueError(f"{missing}. Layouts: {', '.join(weights.LAYOUTS)}.")
    writable_folder(output.absolute().parent)
    input_shape = (*(options.size or (None, None)), options.channels)
    model = models.build(options.model, options.classes, input_shape, **_model_options(options))
    if options.transfer:
        weights.transfer(model, options.file, options.layout, skip=options.skip)
    else:
        print(weights.load(model, options.file, layout=options.layout))
    with atomic_path(output) as temporary:
        model.save(temporary)
    print(f"{model.name} written to {output}.")


def _spread(count, wanted):
    """At most `wanted` indices, evenly over range(count)."""
    return [i * count // min(count, wanted) for i in range(min(count, wanted))]
