"""How fast images are read, augmented and batched, beside how fast networks train and predict.

    python benchmarks/input_pipeline.py
    python benchmarks/input_pipeline.py --size 256 --models SMPPSPNet --markdown table.md

Two made-up trees are written: PASCAL VOC's (375 x 500 JPEG) and one of Cityscapes' size (1024 x
2048 PNG), each also as shards. Every pipeline gives batches of crops, scaled by 0.5 to 2 and
mirrored, float32. The networks are those of the zoo that train fastest.

All forms run in turns in this process. Two rates are given: images a second, which what else runs
on the machine disturbs, and images a second of processor time (per core), which it disturbs less
and which the ratios use. A pipeline keeps a network busy if its rate is higher.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time

import keras
import numpy as np

from keras_seg import data, losses, models

CLASSES = 21
TREES = {  # name: (layout, size of the pictures, how many)
    "VOC": ("voc", (375, 500), 24),
    "Cityscapes size": ("folder", (1024, 2048), 6),
}
# The fastest of their kind: name in the table, builder, its options.
NETWORKS = {
    "FCNResNet mobilenet-v3": ("FCNResNet", {"backbone": "mobilenet-v3-large"}),
    "DeepLabV3 mobilenet-v3": ("DeepLabV3", {"backbone": "mobilenet-v3-large"}),
    "SMPPSPNet": ("SMPPSPNet", {}),
    "Pix2PixGenerator": ("Pix2PixGenerator", {}),
    "UNet filters=8": ("UNet", {"filters": 8}),
    "MultiscaleCNN": ("MultiscaleCNN", {}),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512, help="rows and columns of a crop (512)")
    parser.add_argument("--batch", type=int, default=4, help="images of a batch (4)")
    parser.add_argument("--rounds", type=int, default=3, help="of everything in turn (3)")
    parser.add_argument("--threads", type=int, default=2, help="of pipelines and networks (2)")
    parser.add_argument("--models", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--markdown", metavar="FILE", help="write the tables there")
    options = parser.parse_args()
    limit_threads(options.threads)

    with tempfile.TemporaryDirectory() as folder:
        calls = pipelines(pathlib.Path(folder), options)
        networks = {name: network(name, options) for name in options.models}
        for name, (train, predict) in networks.items():
            calls[name, "train"] = train
            calls[name, "predict"] = predict
        rates = interleaved(calls, options.rounds)
    fastest = max(rates[name, "train"][1] for name in networks)
    lines = [
        "| what | how | images/s | images/s per core | of the fastest training |",
        "|---" * 5 + "|",
    ]
    for (name, how), (wall, core) in rates.items():
        lines.append(f"| {name} | {how} | {wall:.2f} | {core:.2f} | {core / fastest:.2f} |")
    lines.append(
        f"\nCrops of {options.size}, batch {options.batch}, medians of {options.rounds} rounds, "
        f"{options.threads} threads, load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores."
    )
    print("\n".join(lines))
    if options.markdown:
        pathlib.Path(options.markdown).write_text("\n".join(lines) + "\n", "utf-8")


def limit_threads(threads):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


def pipelines(folder, options):
    """{(tree, how): function that makes one more batch and returns its number of images}."""
    calls = {}
    for name, (layout, size, count) in TREES.items():
        root = folder / name
        data.write_layout(layout, root, {"train": count}, size=size)
        files = data.open_dataset(root, "train")
        shards = data.prepare(files, folder / f"{name} shards", progress=False)
        shards = data.open_dataset(shards, "train")
        cached = files.cached()
        sources = {"files": files, "shards": shards, "cached": cached}
        for source, dataset in sources.items():
            calls[name, f"{source}, NumPy"] = stream(
                data.NumpyBatches(dataset, options.batch, workers=options.threads, **how(options))
            )
        if keras.backend.backend() == "tensorflow":
            calls[name, "shards, tf.data"] = stream(
                data.tf_batches(shards, options.batch, **how(options))
            )
    return calls


def how(options):
    crop = (options.size, options.size)
    return {"augment": data.Augment(crop=crop), "shuffle": True, "repeat": True}


def stream(batches):
    """A function that takes `count` batches from an endless stream, and says how many images."""
    if hasattr(batches, "take"):
        iterator = iter(batches)
    else:
        iterator = (batches[step] for step in range(10**9))

    def take(count=6):
        return sum(len(next(iterator)[0]) for _ in range(count))

    return take


def network(name, options):
    """(function of one training step, function of one prediction)."""
    builder, settings = NETWORKS[name]
    model = models.build(builder, CLASSES, **settings)
    model.compile(keras.optimizers.SGD(1e-3), losses.CrossEntropy())
    rng = np.random.default_rng(0)
    shape = (options.batch, options.size, options.size)
    images = rng.uniform(0, 255, (*shape, 3)).astype("float32")
    labels = rng.integers(0, CLASSES, shape).astype("int32")

    def train():
        model.train_on_batch(images, labels)
        return len(images)

    def predict():
        model.predict_on_batch(images)
        return len(images)

    return train, predict


def interleaved(calls, rounds):
    """{name: (images a second, images a second of processor time)}, medians after one to warm up.

    The clocks stop when the process is quiet: threads work ahead, and as many batches are made in a
    round as are taken.
    """
    rates = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            start, busy = time.perf_counter(), time.process_time()
            count = call()
            wall = quiet() - start
            if round_:
                rates[name].append((count / wall, count / (time.process_time() - busy)))
    return {
        name: tuple(statistics.median(column) for column in zip(*values, strict=True))
        for name, values in rates.items()
    }


def quiet(pause=0.02):
    """Wait until no thread of this process works; returns the time when it began to be so."""
    while True:
        now, busy = time.perf_counter(), time.process_time()
        time.sleep(pause)
        if time.process_time() - busy < 0.1 * pause:
            return now


if __name__ == "__main__":
    main()
