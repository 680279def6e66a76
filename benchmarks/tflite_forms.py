"""What the forms of keras_seg/export/tflite_forms.py gain: LiteRT with them and without, in turns.

    python benchmarks/tflite_forms.py                          # single layers, float32 and int8
    python benchmarks/tflite_forms.py UNet Pix2PixGenerator --size 256

Each line is one network of random weights, converted twice; the times are minima over the rounds,
in an order that changes, of an image (or a tensor) each. Printed last is by how much the two files'
outputs differ, relative to their deviation.
"""

import argparse
import time

import keras
import numpy as np
from keras import layers

from keras_seg import models
from keras_seg.export import tflite
from keras_seg.export.equalize import folded
from keras_seg.export.graph import StaticGraph
from keras_seg.export.tflite_split import split_long_sums
from keras_seg.layers import MaxUnpooling2D, Preprocess, Resize
from keras_seg.utils import silence

PLAIN = {"float32": (split_long_sums,), "dynamic": (), "int8": ()}  # without the forms


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="builders, with their defaults (single layers)")
    parser.add_argument("--size", type=int, default=256, help="of the builders' images (256)")
    parser.add_argument("--precision", nargs="+", default=["float32", "int8"], choices=[*PLAIN])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    print("| | precision | ms without | ms | ratio | difference |\n|---|---|---|---|---|---|")
    for name in options.names or LAYERS:
        if options.names:
            model = getattr(models, name)(21)
            image = np.random.default_rng(0).uniform(0, 255, (1, options.size, options.size, 3))
        else:
            model = LAYERS[name]()
            image = np.random.default_rng(0).uniform(0, 255, (1, *model.input.shape[1:]))
        for precision in options.precision:
            before, after, difference = measure(model, image.astype("float32"), precision, options)
            print(
                f"| {name} | {precision} | {1000 * before:.2f} | {1000 * after:.2f} "
                f"| {after / before:.2f} | {difference:.0e} |",
                flush=True,
            )


def transposed(side, inputs, outputs, kernel, stride):
    image = keras.Input((side, side, inputs))
    x = layers.Conv2DTranspose(outputs, kernel, stride, padding="same", activation="relu")(image)
    return keras.Model(image, x)


def enlarged(side, inputs, outputs):
    image = keras.Input((side, side, inputs))
    x = Resize(scale=2, interpolation="nearest")(image)
    return keras.Model(image, layers.Conv2D(outputs, 3, padding="same", activation="relu")(x))


def beginning(side, kernel):
    image = keras.Input((side, side, 3))
    x = layers.ZeroPadding2D(kernel // 2)(Preprocess("imagenet")(image))
    return keras.Model(image, layers.Conv2D(64, kernel, 2, activation="relu")(x))


def unpooled(side, channels):
    image = keras.Input((side, side, channels))
    x = layers.Rescaling(1 / 16)(image)  # LiteRT compares 8-bit values only below 255
    return keras.Model(image, MaxUnpooling2D()(layers.MaxPooling2D()(x), x))


def activation(side, channels):
    image = keras.Input((side, side, channels))
    return keras.Model(image, layers.ReLU()(layers.ZeroPadding2D(1)(image)))


LAYERS = {
    "transposed 2x2, stride 2, 256 x 256, 64 to 32": lambda: transposed(256, 64, 32, 2, 2),
    "transposed 2x2, stride 2, 64 x 64, 256 to 128": lambda: transposed(64, 256, 128, 2, 2),
    "transposed 3x3, stride 2, 56 x 56, 128 to 128": lambda: transposed(56, 128, 128, 3, 2),
    "transposed 4x4, stride 2, 128 x 128, 64 to 32": lambda: transposed(128, 64, 32, 4, 2),
    "transposed 64x64, stride 32, 16 x 16, 21 to 21": lambda: transposed(16, 21, 21, 64, 32),
    "nearest, 3x3, 256 x 256, 32 to 16": lambda: enlarged(256, 32, 16),
    "nearest, 3x3, 256 x 256, 64 to 32": lambda: enlarged(256, 64, 32),
    "max-unpooling, 112 x 112, 64": lambda: unpooled(112, 64),
    "ReLU behind a padding, 128 x 128, 128": lambda: activation(128, 128),
    "preprocessing, 7x7, stride 2, 512 x 512": lambda: beginning(512, 7),
    "preprocessing, 3x3, stride 2, 473 x 473": lambda: beginning(473, 3),
}


def measure(model, image, precision, options):
    """(seconds without the forms, seconds with them, difference of the outputs)."""
    graph = StaticGraph(
        folded(model) if precision == "int8" else model, image.shape[1:3], image.shape[3], "logits"
    )
    runs, outputs = [], []
    for changes in (PLAIN[precision], None):
        with silence():
            converter = tflite.converter_of(graph, precision, [image], changes=changes)
            runs.append(interpreter(converter.convert(), image, options.threads))
        runs[-1].invoke()
        outputs.append(runs[-1].get_tensor(runs[-1].get_output_details()[0]["index"]))
    best, order = [np.inf, np.inf], np.random.default_rng(0)
    for _ in range(options.rounds):
        for i in order.permutation(2):
            start = time.perf_counter()
            runs[i].invoke()
            best[i] = min(best[i], time.perf_counter() - start)
    difference = np.abs(outputs[0] - outputs[1]).max() / outputs[0].std()
    return *best, difference


def interpreter(content, image, threads):
    from ai_edge_litert.interpreter import Interpreter

    found = Interpreter(model_content=content, num_threads=threads)
    found.allocate_tensors()
    found.set_tensor(found.get_input_details()[0]["index"], image)
    return found


if __name__ == "__main__":
    main()
