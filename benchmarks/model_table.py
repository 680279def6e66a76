"""Write `keras_seg/models/table.csv`: figures of every network at full size.

    python benchmarks/model_table.py                 # all of them, about ten minutes on 2 cores
    python benchmarks/model_table.py PSPNet UNet     # only these rows anew

Each network is built with its builder's defaults (images of 3 channels, of 1 where a paper's images
are grey) and 21 classes. Its multiply-accumulates are counted for one image of 512 x 512, or of the
nearest size that works (`keras_seg.export.count_macs`). CRF-RNN is counted at 64 x 64: beyond, it
loops over blocks, and a graph does not say how often.
"""

import argparse
import csv
import math

import keras

from keras_seg import models
from keras_seg.export import count_macs
from keras_seg.models import catalog

CLASSES = 21
SIZE = 512
SIZES = {"CRFRNN": 64}
COLUMNS = (
    "name",
    "classes",
    "parameters",
    "output_stride",
    "smallest",
    "size",
    "gmac",
    "dynamic",
    "files",
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="networks to measure (all)")
    names = parser.parse_args().names or models.list_models()
    rows = {}
    if catalog.TABLE.exists():
        with catalog.TABLE.open(newline="", encoding="utf-8") as file:
            rows = {row["name"]: row for row in csv.DictReader(file)}
    for name in names:
        rows[name] = measure(name)
        print(rows[name], flush=True)
        keras.backend.clear_session()
        with catalog.TABLE.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows[n] for n in models.list_models() if n in rows)


def measure(name):
    """One row of the table."""
    builder = getattr(models, name)
    model = models.inference_model(builder(CLASSES))
    dynamic = None in model.inputs[0].shape[1:3]
    smallest = smallest_size(model)
    size = working_size(model, SIZE)
    low = low_size(model, size)
    counted = working_size(model, SIZES.get(name, SIZE))
    return {
        "name": name,
        "classes": CLASSES,
        "parameters": sum(math.prod(v.shape) for v in model.trainable_weights),
        "output_stride": 2 ** round(math.log2(size / low)),
        "smallest": smallest,
        "size": counted,
        "gmac": f"{count_macs(model, (counted, counted)) / 1e9:.2f}",
        "dynamic": "yes" if dynamic else "no",
        # The contract test exports a slim form of every network to each.
        "files": " ".join(catalog.FILES),
    }


def works(model, size):
    """Whether the network takes an image of this size, by its shapes."""
    fixed = model.inputs[0].shape[1:3]
    if None not in fixed:
        return tuple(fixed) == (size, size)
    channels = [tensor.shape[-1] for tensor in model.inputs]
    images = [keras.KerasTensor((1, size, size, c)) for c in channels]
    try:
        output = model.compute_output_spec(images if len(images) > 1 else images[0])
    except ValueError:
        return False
    return min(output.shape[1:3]) > 0


def smallest_size(model):
    """Rows of the smallest square image that works."""
    for layer in model.layers:
        if type(layer).__name__ == "CheckSize":
            return next(n for n in range(layer.least, 10 * SIZE) if works(model, n))
    fixed = model.inputs[0].shape[1]
    if fixed is not None:
        return fixed
    low, high = 0, 1
    while not works(model, high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if works(model, middle) else (middle, high)
    return high


def working_size(model, wanted):
    """The size nearest to `wanted` that works."""
    fixed = model.inputs[0].shape[1]
    if fixed is not None:
        return fixed
    nearest = sorted(range(1, 2 * SIZE), key=lambda size: abs(size - wanted))
    return next(size for size in nearest if works(model, size))


def low_size(model, size):
    """Rows of the last map before the final resize."""
    names = [layer.name for layer in model.layers]
    tensor = model.get_layer("logits_low").output if "logits_low" in names else model.output
    probe = keras.Model(model.inputs, tensor)
    images = [keras.KerasTensor((1, size, size, t.shape[-1])) for t in model.inputs]
    return probe.compute_output_spec(images if len(images) > 1 else images[0]).shape[1]


if __name__ == "__main__":
    main()
