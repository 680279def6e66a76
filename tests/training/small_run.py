"""A run of seconds that the tests of `train` share; also a command, for tests that need a process.

python small_run.py FOLDER [name=value ...]    (values as JSON, arguments of `train`)
"""

import json
import sys

import keras

from keras_seg import data, training
from keras_seg.layers import conv_bn_relu, preprocess

SIZE = (32, 32)
CLASSES = 4  # of the synthetic shapes


def network(aux=False, filters=8, input_shape=(None, None, 3), classes=CLASSES, dropout=0.1):
    """Two convolutions and dropout; with `aux` a dict of outputs, as PSPNet's."""
    image = keras.Input(input_shape, name="image")
    x = preprocess(image, "unit")
    middle = conv_bn_relu(x, filters, name="block1")
    x = conv_bn_relu(middle, filters, dilation_rate=2, name="block2")
    x = keras.layers.Dropout(dropout, name="features")(x)
    logits = keras.layers.Conv2D(classes, 1, dtype="float32", name="logits")(x)
    if not aux:
        return keras.Model(image, logits, name="small")
    extra = keras.layers.Conv2D(classes, 1, dtype="float32", name="aux")(middle)
    return keras.Model(image, {"logits": logits, "aux": extra}, name="small")


def run(folder, build=network, train_data=None, val_data=None, **options):
    """`train` on 16 shapes, 3 steps of 4 an epoch, unless `options` say otherwise."""
    options = {"epochs": 2, "batch_size": 4, "learning_rate": 0.01, "verbose": 0} | options
    if train_data is None:
        train_data = data.shapes(14, size=SIZE, seed=0)
        val_data = data.shapes(5, size=SIZE, seed=1)
    return training.train(build, train_data, val_data, folder=folder, **options)


class StopAfter(keras.callbacks.Callback):
    """Ctrl-C after a number of epochs, in the first step of the next one."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs
        self.epoch = None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.epochs:
            raise KeyboardInterrupt


class Samples:
    """The least that a data set is, from a list of samples."""

    def __init__(self, samples, table, channels=3):
        self.samples, self.table, self.channels = list(samples), table, channels

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]

    def subset(self, indices):
        return Samples([self.samples[i] for i in indices], self.table, self.channels)


if __name__ == "__main__":
    arguments = dict(text.split("=", 1) for text in sys.argv[2:])
    result = run(sys.argv[1], **{name: json.loads(value) for name, value in arguments.items()})
    print(json.dumps(result.history))
