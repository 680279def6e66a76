"""Exported files against the same networks in PyTorch and in files exported from PyTorch.

    pip install torch torchvision segmentation-models-pytorch onnxscript
    python benchmarks/export_speed.py                       # every network, every column
    python benchmarks/export_speed.py unet psp50 --columns torch "onnx from torch" onnx
    python benchmarks/export_speed.py unet --labels --clock cpu --threads 1

Each network is built in PyTorch with random weights, which `keras_seg.weights.load` puts into ours;
ours is exported with its preprocessing, PyTorch's as it is (its input is normalised beforehand).
Then all columns run in turns in this process, one image each, and the table holds the minimum of
each over the rounds, as a ratio to eager PyTorch and to onnxruntime on PyTorch's file. Printed
first is by how much the outputs of both differ. Without PyTorch the columns that need it are empty
and weights are random.

`--clock cpu` counts the seconds that this process computed, with one thread: other work on the
machine hardly shows there, where it can double the time by the clock.
"""

import argparse
import contextlib
import gc
import io
import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with contextlib.suppress(ImportError):  # torchvision crashes where TensorFlow was imported first
    import segmentation_models_pytorch

import keras
import numpy as np

from keras_seg import models, weights
from keras_seg.export import onnx as onnx_file
from keras_seg.export import tflite
from keras_seg.export.equalize import folded
from keras_seg.export.graph import StaticGraph
from keras_seg.inference import load_runner
from keras_seg.utils import silence, versions

CLASSES = 21
MEAN, DEVIATION = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def smp(name, encoder):
    """A network of segmentation_models.pytorch."""

    def build():
        network = getattr(segmentation_models_pytorch, name)
        return network(encoder, encoder_weights=None, classes=CLASSES)

    return build


def psp50():
    """PSPNet of the paper in PyTorch, with the names of the authors' release."""
    import torch
    from torch import nn
    from torch.nn import functional
    from torchvision.models import resnet50

    def unit(inputs, outputs, size=1, **options):
        convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False, **options)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.ModuleList(
                nn.Sequential(nn.AdaptiveAvgPool2d(bins), *unit(2048, 512)) for bins in (1, 2, 3, 6)
            )

        def forward(self, x):
            options = {"size": x.shape[2:], "mode": "bilinear", "align_corners": True}
            levels = [functional.interpolate(f(x), **options) for f in self.features]
            return torch.cat([x, *levels], 1)

    class PSPNet(nn.Module):
        def __init__(self):
            super().__init__()
            trunk = resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
            trunk.inplanes = 128
            self.layer0 = nn.Sequential(
                *unit(3, 64, 3, stride=2),
                *unit(64, 64, 3),
                *unit(64, 128, 3),
                nn.MaxPool2d(3, 2, 1),
            )
            trunk.dilation = 1
            self.layer1 = trunk._make_layer(type(trunk.layer1[0]), 64, 3)
            self.layer2, self.layer3, self.layer4 = trunk.layer2, trunk.layer3, trunk.layer4
            for stage, rate in ((self.layer3, 2), (self.layer4, 4)):
                stage[0].conv2.dilation = stage[0].conv2.padding = (rate, rate)
            self.ppm = Pyramid()
            self.cls = nn.Sequential(*unit(4096, 512, 3), nn.Dropout2d(0.1), nn.Conv2d(512, 21, 1))

        def forward(self, x):
            size = x.shape[2:]
            x = self.layer4(self.layer3(self.layer2(self.layer1(self.layer0(x)))))
            x = self.cls(self.ppm(x))
            return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)

    return PSPNet()


# name: (builder and its options, side of the image, PyTorch's network, layout of its weights)
NETWORKS = {
    "unet": ("SMPUnet", {"backbone": "resnet34"}, 512, smp("Unet", "resnet34"), "smp"),
    "psp-smp": ("SMPPSPNet", {"backbone": "resnet50"}, 480, smp("PSPNet", "resnet50"), "smp"),
    "psp50": ("PSPNet", {"backbone": "resnet50"}, 473, psp50, "semseg"),
    "deeplab3": (
        "SMPDeepLabV3",
        {"backbone": "resnet50"},
        512,
        smp("DeepLabV3", "resnet50"),
        "smp",
    ),
}
PLAIN = ("torch", "onnx from torch", "onnx", "tflite", "int8")
LABELS = ("onnx labels", "tflite labels", "int8 labels")
UNOPTIMISED = ("onnx from torch, unoptimised", "onnx, unoptimised")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NETWORKS)} (all)")
    parser.add_argument("--columns", nargs="+", default=PLAIN, help=f"of {PLAIN}")
    parser.add_argument("--labels", action="store_true", help=f"add {LABELS}")
    parser.add_argument("--unoptimised", action="store_true", help=f"add {UNOPTIMISED}")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2, help="of each runtime (2)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--folder", help="keep the files there, and use those that are there")
    options = parser.parse_args()
    if options.clock == "cpu" and options.threads > 1:
        parser.error("--clock cpu adds up what all threads spend; give --threads 1.")
    options.columns = [*options.columns, *LABELS * options.labels]
    options.columns += UNOPTIMISED * options.unoptimised
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.names or NETWORKS:
            folder = pathlib.Path(options.folder or temporary) / name
            folder.mkdir(parents=True, exist_ok=True)
            measure(name, folder, options)
            keras.backend.clear_session()
            gc.collect()
    print(", ".join(f"{package} {version}" for package, version in versions().items()))


def measure(name, folder, options):
    """Print one network's lines."""
    builder, settings, side, build_torch, layout = NETWORKS[name]
    image = np.random.default_rng(0).uniform(0, 255, (1, side, side, 3)).astype("float32")
    normalised = ((image - MEAN) / DEVIATION).astype("float32").transpose(0, 3, 1, 2).copy()
    keras.utils.set_random_seed(0)
    network = torch_network(build_torch, options.threads)
    wanted = [c for c in options.columns if network or "torch" not in c]
    missing = [c for c in wanted if c != "torch" and not path(c, folder).exists()]
    if missing:
        model = getattr(models, builder)(CLASSES, **settings)
        if network:
            weights.load(model, network.state_dict(), layout=layout)
        for column in missing:
            write(column, path(column, folder), network, normalised, model, image)
    calls, outputs = {}, {}
    for column in wanted:
        if column == "torch":
            calls[column] = torch_call(network, normalised)
        elif column.endswith("unoptimised") or column == "onnx from torch":
            given = normalised if "torch" in column else image
            calls[column] = onnx_call(path(column, folder), given, options.threads, column)
        else:
            runner = load_runner(path(column, folder), num_threads=options.threads)
            calls[column] = lambda runner=runner: runner.run(image)
        outputs[column] = np.asarray(calls[column]())
    if {"onnx from torch", "onnx"} <= set(wanted):
        theirs = outputs["onnx from torch"].transpose(0, 2, 3, 1)
        difference = np.abs(outputs["onnx"] - theirs).max() / theirs.std()
        print(f"{name}: onnx differs from onnx from torch by {difference:.1e} of the deviation")
    times = interleaved(calls, options.rounds, options.clock)
    print(f"{name} {side}x{side}, {options.clock}, {options.threads} threads")
    for column, seconds in times.items():
        line = f"  {column:30s} {1000 * seconds:8.1f} ms"
        for base in ("torch", "onnx from torch"):
            if base in times:
                line += f"  {seconds / times[base]:6.3f} x {base}"
        plain = column.removesuffix(" labels")
        if plain != column and plain in times:
            line += f"  {seconds / times[plain]:6.3f} x {plain}"
        print(line, flush=True)


def torch_network(build, threads):
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return build().eval()


def path(column, folder):
    """The file that a column runs."""
    if column.startswith("onnx"):
        return folder / f"{column.removesuffix(', unoptimised').replace(' ', '_')}.onnx"
    return folder / f"{column.replace(' ', '_')}.tflite"


def write(column, path, network, normalised, model, image):
    if column.startswith("onnx from torch"):
        import torch

        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(
                network,
                (torch.from_numpy(normalised),),
                str(path),
                dynamo=False,
                opset_version=17,
                input_names=["image"],
            )
        return
    with silence():
        output = "labels" if "labels" in column else "logits"
        model = folded(model) if column.startswith("int8") else model  # as `keras-seg export` does
        graph = StaticGraph(model, image.shape[1:3], 3, output)
        if column.startswith("onnx"):
            onnx_file.write(graph, path)
        else:
            precision = "int8" if column.startswith("int8") else "float32"
            tflite.write(graph, path, precision, [image])


def torch_call(network, normalised):
    import torch

    x = torch.from_numpy(normalised)

    def run():
        with torch.inference_mode():
            return network(x)

    return run


def onnx_call(path, image, threads, column):
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    if column.endswith("unoptimised"):
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), settings)
    (given,) = session.get_inputs()
    return lambda: session.run(None, {given.name: image})[0]


def interleaved(calls, rounds, clock):
    """{name: smallest seconds}: one call of each in turn, `rounds` times, after two to warm up.

    Each round has another order: the threads of one runtime go on looking for work for a while, so
    what runs behind it would always be the slower one.
    """
    now = time.process_time if clock == "cpu" else time.perf_counter
    best, order = dict.fromkeys(calls, float("inf")), np.random.default_rng(0)
    for round_ in range(rounds + 2):
        for name in order.permutation(list(calls)):
            start = now()
            calls[name]()
            if round_ >= 2:
                best[name] = min(best[name], now() - start)
    return best


if __name__ == "__main__":
    main()
