"""One replica against two (logical CPU devices): prints what each gives as JSON.

Run by test_replicas.py in a process of its own, because a process bears one MirroredStrategy only.
The first replica has 3 pixels that count of 256, the second 240.
"""

import contextlib
import json
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_seg.layers import batch_norm
from keras_seg.losses import (
    L1,
    OHEM,
    Boundary,
    CrossEntropy,
    CrossEntropyDice,
    CrossEntropyLogIoU,
    Dice,
    Focal,
    FocalTversky,
    GeneralizedDice,
    IoU,
    Lovasz,
    SemanticEncoding,
    TopKCrossEntropy,
    TotalVariation,
    Tversky,
)
from keras_seg.metrics import (
    ConfusionMatrix,
    MeanIoU,
    PerImageDiceScore,
    PerImageMeanIoU,
    confusion_matrix,
    scores_per_image,
)

CLASSES = 5
LOSSES = [
    CrossEntropy(),
    CrossEntropy(class_weights=[1, 2, 0.5, 3, 1]),
    CrossEntropy(over="image"),
    CrossEntropy(label_smoothing=0.1, label_stride=2),
    CrossEntropy(mode="binary", class_weights=[1, 3]),
    CrossEntropy(name="weighted"),
    CrossEntropy(class_weights=[1, 2, 0.5, 3, 1], divide_by="weights", name="weighted"),
    CrossEntropy(over="image", divide_by="weights", name="weighted"),
    Focal(alpha=[1, 2, 0.5, 3, 1]),
    OHEM(thresh=0.1, min_kept=10),
    TopKCrossEntropy(40),
    TopKCrossEntropy(0.5),
    IoU(over="image", classes="all"),
    Tversky(smooth=1.0, classes="all"),
    CrossEntropyLogIoU(),
    CrossEntropyDice(),
    Lovasz(),
    Lovasz(over="image", classes="all"),
    GeneralizedDice(),
    FocalTversky(over="image"),
    Boundary(),
    Boundary(over="image", classes=[1, 2]),
    TotalVariation(),
    L1(),
    SemanticEncoding(),
]
STEPS = 3


def batches():
    """STEPS batches of 8 images, 8 x 8, of which the first 4 go to the first replica."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(STEPS * 8, 8, 8, 3)).astype("float32")
    labels = rng.integers(0, CLASSES, (STEPS, 512)).astype("uint8")
    for batch in labels:
        batch[rng.choice(256, 253, replace=False)] = 255
        batch[256 + rng.choice(256, 16, replace=False)] = 255
    return images, labels.reshape(-1, 8, 8)


def value_of(loss, labels, logits):
    """The loss, with input of the form that it takes."""
    if isinstance(loss, SemanticEncoding):
        return loss(labels, logits[:, 0, 0])
    if loss.mode == "binary":
        return loss(tf.where(labels == 255, labels, labels // 3), logits[..., :1])
    if loss.name == "weighted":
        return loss(labels, logits, 1.0 + tf.cast(labels, "float32"))
    stride = getattr(loss, "label_stride", 1)
    return loss(labels, logits[:, ::stride, ::stride])


def values_and_gradients(strategy):
    """[(loss, gradient of the logits)] of every loss, without a model."""
    rng = np.random.default_rng(1)
    labels, logits = batches()[1][:8], rng.normal(size=(8, 8, 8, CLASSES)).astype("float32")
    count = strategy.num_replicas_in_sync if strategy else 1

    def step(labels, logits):
        results = []
        for loss in LOSSES:
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = value_of(loss, labels, logits)
            results.append((value, tape.gradient(value, logits)))
        return results

    if strategy is None:
        results = tf.function(step)(tf.constant(labels), tf.constant(logits))
        return [(float(value), slope.numpy()) for value, slope in results]

    def part(array):
        pieces = np.split(array, count)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(pieces[context.replica_id_in_sync_group])
        )

    run = tf.function(lambda a, b: strategy.run(step, args=(a, b)))
    results = []
    for value, slope in run(part(labels), part(logits)):
        value = sum(float(v) for v in strategy.experimental_local_results(value))
        slope = [s.numpy() for s in strategy.experimental_local_results(slope)]
        results.append((value, np.concatenate(slope)))
    return results


def train(strategy):
    """Three plain `fit` steps with synchronised batch normalisation, then `evaluate`."""
    keras.utils.set_random_seed(0)
    images, labels = batches()

    def build():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Conv2D(8, 3, padding="same", use_bias=False),
                batch_norm("bn"),
                keras.layers.ReLU(),
                keras.layers.Conv2D(CLASSES, 1),
            ]
        )
        metric = ConfusionMatrix(CLASSES)
        model.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            CrossEntropy() + 0.5 * Dice() + IoU(over="image"),
            metrics=[
                metric,
                MeanIoU(CLASSES, classes=[1, 2], name="some"),
                PerImageMeanIoU(CLASSES, name="per_image"),
                PerImageDiceScore(CLASSES, absent="one", name="per_image_dice"),
            ],
        )
        return model, metric

    with strategy.scope() if strategy else contextlib.nullcontext():
        model, metric = build()
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    history = model.fit(data, epochs=1, verbose=0, shuffle=False).history
    logs = {name: values[0] for name, values in history.items()}
    logs |= {f"val_{k}": v for k, v in model.evaluate(data, verbose=0, return_dict=True).items()}
    counts = metric.counts()
    predicted = model.predict(images, verbose=0).argmax(-1)
    pairs = zip(labels, predicted, strict=True)
    matrices = [confusion_matrix(label, ids, CLASSES) for label, ids in pairs]
    return {
        "logs": {name: float(value) for name, value in logs.items()},
        "weights": np.concatenate([w.ravel() for w in model.get_weights()]),
        "matrix": counts["matrix"],
        "ignored": counts["ignored"],
        "recount": confusion_matrix(labels, predicted, CLASSES),
        "per_image": scores_per_image(matrices)["mean_iou"],
        "per_image_dice": scores_per_image(matrices, "one")["mean_f1"],
    }


def plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
report = {}
for name in ("one", "two"):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]) if name == "two" else None
    results = values_and_gradients(strategy)
    report[name] = {
        "values": [value for value, _ in results],
        "gradients": [plain(slope) for _, slope in results],
        **{key: plain(value) for key, value in train(strategy).items()},
    }
report["names"] = [f"{i}-{loss.name}" for i, loss in enumerate(LOSSES)]
json.dump(report, sys.stdout)
