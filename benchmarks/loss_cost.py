"""What losses and metrics cost: each as a share of one training step of PSPNet-50.

    python benchmarks/loss_cost.py
    python benchmarks/loss_cost.py Dice Lovasz --size 473 --repeats 5 --markdown table.md

The step is Keras' compiled one with cross entropy and SGD; a loss is its value and the gradient
with respect to the logits, in a tf.function; the metric is one update from the logits. All run in
turns in this process, and the table holds medians as a share of the step's. Logits are random; a
hundredth of the labels is ignored.
"""

import argparse
import pathlib
import platform

import keras
import numpy as np
from latency import interleaved, limit_threads  # beside this file

from keras_seg import losses, metrics, models
from keras_seg.utils import versions

CLASSES = 21
LOSSES = (
    "CrossEntropy",
    "Focal",
    "OHEM",
    "TopKCrossEntropy",
    "Dice",
    "IoU",
    "GeneralizedDice",
    "Tversky",
    "FocalTversky",
    "CrossEntropyDice",
    "CrossEntropyLogIoU",
    "Lovasz",
    "Boundary",
    "TotalVariation",
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=LOSSES, help="of keras_seg.losses")
    parser.add_argument("--size", type=int, default=233, help="rows and columns, 8 k + 1 (233)")
    parser.add_argument("--batch-size", type=int, default=2, help="images in a step (2)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds (7)")
    parser.add_argument("--threads", type=int, default=1, help="of TensorFlow (1)")
    parser.add_argument("--markdown", metavar="FILE", help="write the table there")
    options = parser.parse_args()
    limit_threads(options.threads)

    rng = np.random.default_rng(0)
    shape = (options.batch_size, options.size, options.size)
    labels = rng.integers(0, CLASSES, shape, dtype="int32")
    labels[rng.random(shape) < 0.01] = 255
    logits = rng.normal(size=(*shape, CLASSES)).astype("float32")
    images = rng.uniform(0, 255, (*shape, 3)).astype("float32")

    model = models.PSPNet(CLASSES, (options.size, options.size, 3))
    model.compile(keras.optimizers.SGD(1e-4, momentum=0.9), losses.CrossEntropy())
    metric = metrics.ConfusionMatrix(CLASSES)
    calls = {
        "training step of PSPNet-50": lambda: model.train_on_batch(images, labels),
        "ConfusionMatrix, one update": compiled(metric.update_state, labels, logits),
    }
    for name in options.names:
        calls[name] = compiled(with_gradient(getattr(losses, name)()), labels, logits)

    times = interleaved(calls, options.repeats)
    step = times["training step of PSPNet-50"]
    lines = ["| | share of a step |", "|---|---|"]
    lines += [f"| {name} | {100 * seconds / step:.2f} % |" for name, seconds in times.items()]
    found = ", ".join(f"{package} {version}" for package, version in versions().items())
    lines.append(
        f"\nBatch {options.batch_size}, {options.size}x{options.size}, {CLASSES} classes, "
        f"{options.repeats} rounds, {options.threads} threads, {found}, {platform.machine()}."
    )
    text = "\n".join(lines)
    print(text)
    if options.markdown:
        pathlib.Path(options.markdown).write_text(text + "\n", "utf-8")


def with_gradient(loss):
    """labels, logits -> value, gradient."""
    import tensorflow as tf

    def call(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    return call


def compiled(function, labels, logits):
    """A call of the function, as a graph, on arguments that lie ready."""
    import tensorflow as tf

    arguments = tf.constant(labels), tf.constant(logits)
    graph = tf.function(function).get_concrete_function(*arguments)
    return lambda: graph(*arguments)


if __name__ == "__main__":
    main()
