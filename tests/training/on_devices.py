"""One device against two, for test_strategy.py: a process of its own, since devices on the CPU have
to be asked for before the backend starts.

python on_devices.py FOLDER    (prints what was found as JSON)
"""

import contextlib
import json
import sys

import keras
import numpy as np
from one_worker import samples
from small_run import network, run

from keras_seg import losses
from keras_seg.layers import BatchNormalization, replace_batch_norm
from keras_seg.training import choose_strategy
from keras_seg.training.callbacks import EpochSeeds

TENSORFLOW = keras.backend.backend() == "tensorflow"
TWO = ["CPU:0", "CPU:1"]
CLASSES = 5
# Gradients of all losses on two replicas: tests/losses/test_replicas.py.
LOSSES = [
    losses.CrossEntropy(),
    losses.Dice(),
    losses.Lovasz(),
    losses.LovaszHinge(),
    losses.OHEM(min_kept=10),
    losses.SemanticEncoding(),
]


def with_losses(strategy):
    """{name of a loss: weights after 3 steps with it}, each of a convolution of its own.

    The first replica has 3 pixels that count of 256, the second 240.
    """
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(24, 8, 8, 3)).astype("float32")
    labels = rng.integers(0, CLASSES, (3, 512)).astype("uint8")
    for batch in labels:
        batch[rng.choice(256, 253, replace=False)] = 255
        batch[256 + rng.choice(256, 16, replace=False)] = 255
    labels = labels.reshape(-1, 8, 8)
    with strategy.scope() if strategy else contextlib.nullcontext():
        image = keras.Input((8, 8, 3))
        parts, targets = {}, {}
        for loss in LOSSES:
            binary = loss.mode == "binary"
            x = keras.layers.Conv2D(1 if binary else CLASSES, 3, padding="same")(image)
            if isinstance(loss, losses.SemanticEncoding):
                x = keras.layers.GlobalAveragePooling2D()(x)
            parts[loss.name] = x
            targets[loss.name] = np.where(labels == 255, 255, labels // 3) if binary else labels
        model = keras.Model(image, parts)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), {loss.name: loss for loss in LOSSES})
        model.fit(images, targets, batch_size=8, shuffle=False, verbose=0)
    found = {}
    for name in parts:
        single = keras.Model(image, model.output[name])
        found[name] = np.concatenate([w.ravel() for w in single.get_weights()])
    return found


def masks(strategy):
    """What dropout leaves of ones, on each replica, in an epoch of a run with the seed 0."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        image = keras.Input((64,))
        model = keras.Model(image, keras.layers.Dropout(0.5)(image))
    seeds = EpochSeeds(0, None)
    seeds.set_model(model)
    seeds.on_epoch_begin(3)
    ones = np.ones((1, 64), "float32")
    if strategy is None:
        return [keras.ops.convert_to_numpy(model(ones, training=True))]
    import tensorflow as tf

    run = tf.function(lambda: strategy.run(lambda: model(ones, training=True)))
    return [value.numpy() for value in strategy.experimental_local_results(run())]


def normalised_far_from_zero(strategy):
    """{name: array} of batch normalisation after a step on channels of 128 +- 1, unevenly laid."""
    images = np.random.default_rng(0).normal(128, 1, (4, 8, 8, 3)).astype("float32")
    images[2:] += 1
    with strategy.scope() if strategy else contextlib.nullcontext():
        image = keras.Input((8, 8, 3))
        layer = BatchNormalization()
        model = keras.Model(image, layer(image))
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(images, np.ones((4, 8, 8, 3)), batch_size=4, verbose=0)
    names = ("gamma", "moving_mean", "moving_variance")
    return {name: keras.ops.convert_to_numpy(getattr(layer, name)) for name in names}


def differences(one, two):
    """The largest difference between arrays, by name, in units of the largest of the first."""
    return {
        name: float(np.abs(two[name] - one[name]).max() / np.abs(one[name]).max()) for name in one
    }


def weights(result):
    variables = [*result.model.variables, *result.model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def training_data():
    """On TensorFlow ready batches, the last of validation of 1 image; on JAX a data set, as
    tests/training/test_processes.py has on TensorFlow."""
    if not TENSORFLOW:
        return {"train_data": samples(9), "val_data": samples(9), "steps_per_epoch": 2}
    import tensorflow as tf

    images, labels, _ = zip(*samples(9).samples, strict=True)
    arrays = np.stack(images).astype("float32"), np.stack(labels).astype("int32")
    every = tf.data.Dataset.from_tensor_slices(arrays)
    train = every.batch(4, drop_remainder=True)
    return {"train_data": train, "val_data": every.batch(4), "table": samples(1).table}


def trained(folder, devices):
    """Two epochs in one go on one device; on several the second is a resumed run."""
    options = {
        "augment": None,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "schedule": "constant",
        "devices": devices,
    }

    def build():
        return network(dropout=0.0)

    if devices:
        run(folder, build, epochs=1, **options, **training_data())
    return run(folder, build, epochs=2, **options, **training_data())


def normalised():
    """A network with Keras' own batch normalisation."""
    image = keras.Input((None, None, 3))
    x = keras.layers.BatchNormalization(name="own")(image)
    return keras.Model(image, keras.layers.Conv2D(4, 1)(x), name="plain")


def synchronised():
    """The same with this library's."""
    return replace_batch_norm(normalised(), BatchNormalization.from_config)


def refusal(function):
    """The message of the ValueError that `function()` raises."""
    try:
        function()
    except ValueError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    folder = sys.argv[1]
    report = {}
    strategy = choose_strategy(TWO)
    if TENSORFLOW:
        report["losses"] = differences(with_losses(None), with_losses(strategy))
        far = [normalised_far_from_zero(chosen) for chosen in (None, strategy)]
        report["far"] = differences(*far)

    one, two = (trained(f"{folder}/{name}", d) for name, d in (("one", None), ("two", TWO)))
    report["weights"] = [
        float(np.abs(a.astype("float64") - b).max())
        for a, b in zip(weights(one), weights(two), strict=True)
    ]
    report["history"] = [one.history, two.history]
    report["scores"] = [one.scores, two.scores]

    other = run(f"{folder}/other", train_data=samples(4), epochs=1, devices=TWO[1:])
    kernel = other.model.get_layer("logits").kernel.value
    report["other"] = kernel.device if TENSORFLOW else str(kernel.devices())

    if TENSORFLOW:
        report["masks"] = [masks(None), masks(strategy)]
    with strategy.scope():
        report["kept"] = choose_strategy() is strategy
    report["default"] = choose_strategy() is None and choose_strategy(TWO[:1]) is None
    report["text"] = choose_strategy(TWO[0]) is None
    report["others"] = refusal(lambda: choose_strategy(TWO[::-1]))
    report["odd"] = refusal(lambda: run(f"{folder}/odd", devices=TWO, batch_size=3))
    options = {"train_data": samples(4), "epochs": 1, "devices": TWO}
    report["apart"] = refusal(lambda: run(f"{folder}/apart", normalised, **options))
    report["together"] = refusal(lambda: run(f"{folder}/together", synchronised, **options))
    report["unknown"] = refusal(lambda: choose_strategy(["CPU:0", "CPU:7"]))
    report["twice"] = refusal(lambda: choose_strategy(["CPU:0", "cpu:0"]))
    report["none"] = refusal(lambda: choose_strategy([]))
    json.dump(report, sys.stdout, default=np.ndarray.tolist)
