"""How long one image takes: Keras, the exported files, and the same network in PyTorch.

    python benchmarks/latency.py                          # every network with default options
    python benchmarks/latency.py PSPNet UNet --size 256 --repeats 15
    python benchmarks/latency.py --markdown table.md

Random weights, batch 1, CPU. Each network is exported to TFLite (float32, int8) and ONNX; then all
of its forms run in turns in this process, and the table holds medians as ratios to Keras'
`predict`. Where segmentation_models_pytorch or torchvision is installed, its networks run beside
ours of the same form (eager PyTorch). A ratio below 1 is faster than Keras. Only the first column
is a time, that of this machine in this run.
"""

import argparse
import functools
import gc
import pathlib
import platform
import statistics
import tempfile

import keras
import numpy as np

from keras_seg import models
from keras_seg.export import export
from keras_seg.export.benchmark import interleaved, timed
from keras_seg.inference import load_runner
from keras_seg.utils import versions

CLASSES = 21
# Files of the export, by the column that they fill.
FILES = {"onnx": "model.onnx", "tflite": "model.tflite", "int8": "model_int8.tflite"}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="networks (all)")
    parser.add_argument("--size", type=int, default=256, help="rows and columns of the image (256)")
    parser.add_argument("--repeats", type=int, default=11, help="rounds (11)")
    parser.add_argument("--threads", type=int, default=2, help="of each runtime (2)")
    parser.add_argument("--markdown", metavar="FILE", help="write the table there")
    options = parser.parse_args()
    limit_threads(options.threads)

    columns = ("network", "size", "predict", *FILES, "PyTorch")
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for line in lines:
        print(line)
    for name in options.names or models.list_models():
        line = measure(name, options)
        keras.backend.clear_session()
        gc.collect()  # models are cycles: gigabytes of the last network else stay
        print(line, flush=True)
        lines.append(line)
    found = ", ".join(f"{package} {version}" for package, version in versions().items())
    lines.append(
        f"\n{options.repeats} rounds, {options.threads} threads, {found}, {platform.machine()}."
    )
    print(lines[-1])
    if options.markdown:
        pathlib.Path(options.markdown).write_text("\n".join(lines) + "\n", "utf-8")


def limit_threads(threads):
    """For TensorFlow and PyTorch; the files' runtimes are told when they are opened."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(threads)


def measure(name, options):
    """One line of the table."""
    model = models.inference_model(getattr(models, name)(CLASSES))
    size = working_size(model, options.size)
    shape = (1, *size, model.inputs[0].shape[-1])
    image = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    calls = {"predict": lambda: model.predict(image, verbose=0)}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder) / "files"
        export(
            model,
            folder,
            size=size,
            formats=("tflite", "onnx"),
            quantize=("int8",),
            calibration=image.astype("uint8"),
            bounds=None,
            benchmark=False,
            progress=False,
        )
        for column, file in FILES.items():
            runner = load_runner(folder / file, num_threads=options.threads)
            calls[column] = lambda runner=runner: runner.run(image)
        peer = torch_peer(name, image)
        if peer:
            calls["PyTorch"] = peer
        calls = {name: functools.partial(timed, call) for name, call in calls.items()}
        seconds = interleaved(calls, options.repeats, warmup=2)
    times = {name: statistics.median(values) for name, values in seconds.items()}
    base = times["predict"]
    cells = [f"{times[c] / base:.2f}" if c in times else "-" for c in (*FILES, "PyTorch")]
    return f"| {name} | {size[0]}x{size[1]} | {1000 * base:.0f} ms | {' | '.join(cells)} |"


def working_size(model, size):
    """(H, W) nearest to a square of `size` that the network takes."""
    if None not in model.inputs[0].shape[1:3]:
        return tuple(model.inputs[0].shape[1:3])
    for n in sorted(range(1, 3 * size), key=lambda n: abs(n - size)):
        try:
            model.compute_output_spec(keras.KerasTensor((1, n, n, model.inputs[0].shape[-1])))
        except ValueError:
            continue
        return n, n
    raise ValueError(f"{model.name} takes no square image up to {3 * size}.")


# Our networks with default options, by the networks of a PyTorch package that are the same.
TORCHVISION = {"FCNResNet": "fcn_resnet50"}
SMP = {
    "SMPUnet": "Unet",
    "SMPPSPNet": "PSPNet",
    "SMPDeepLabV3": "DeepLabV3",
    "SMPDeepLabV3Plus": "DeepLabV3Plus",
}


def torch_peer(name, image):
    """A function that runs the same network in PyTorch, or None where no package has it."""
    try:
        if name in SMP:
            import segmentation_models_pytorch as smp

            network = getattr(smp, SMP[name])("resnet34", encoder_weights=None, classes=CLASSES)
        elif name in TORCHVISION:
            from torchvision.models import segmentation

            network = getattr(segmentation, TORCHVISION[name])(
                weights=None, weights_backbone=None, num_classes=CLASSES
            )
        else:
            return None
        import torch
    except ImportError:
        return None
    network.eval()
    x = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())

    def run():
        with torch.inference_mode():
            network(x)

    return run


if __name__ == "__main__":
    main()
