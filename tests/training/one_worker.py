"""One of the processes of test_multi_worker.py.

python one_worker.py FOLDER OUT [EVENT EPOCH]

Trains 3 epochs of 2 steps; for 9 images in batches of 4 the last batch of validation is filled up.
At EVENT, "kill" or "terminate", worker 1 sends itself that signal in the first step of EPOCH
(from 0). Where `train` leaves with an exit status it is called once more, as a restart would.
Writes OUT.npz, all variables after training, and OUT.json, what else there is to tell.
"""

import json
import os
import signal
import sys

import keras
import numpy as np
from small_run import SIZE, Samples, network, run

from keras_seg import data


def samples(count=9):
    """Shapes; of every second image only two rows count, so that ignored pixels lie unevenly.

    With noise: where many pixels are alike, a ReLU at 0 turns the last digit of a sum into a
    difference of all of them.
    """
    shapes = data.shapes(count, size=SIZE)
    rng = np.random.default_rng(0)
    changed = []
    for i in range(count):
        sample = shapes[i]
        image = sample.image // 2 + rng.integers(0, 128, sample.image.shape, "uint8")
        label = sample.label.copy()
        if i % 2:
            label[2:] = 255
        changed.append(sample._replace(image=image, label=label))
    return Samples(changed, shapes.table)


class Event(keras.callbacks.Callback):
    """The signal, and the last step that this worker came to."""

    def __init__(self, name=None, epoch=None):
        super().__init__()
        self.signals = {int(epoch): {"kill": signal.SIGKILL, "terminate": signal.SIGTERM}[name]}
        self.last = None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.last = [self.epoch, batch]
        if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
            number = self.signals.pop(self.epoch, None)
            if number is not None:
                os.kill(os.getpid(), number)


def train(folder, callbacks):
    return run(
        folder,
        lambda: network(dropout=0.0),
        samples(),
        samples(),
        augment=None,
        optimizer="sgd",
        learning_rate=0.1,
        head_multiplier=10,
        steps_per_epoch=2,
        epochs=3,
        previews=1,
        callbacks=callbacks,
    )


if __name__ == "__main__":
    folder, out, *event = sys.argv[1:]
    callbacks = [Event(*event)] if event else []
    told = {}
    try:
        result = train(folder, callbacks)
    except SystemExit as error:
        told = {"status": error.code, "last": callbacks[0].last}
        result = train(folder, [])
    told |= {"history": result.history, "scores": result.scores, "folder": str(result.folder)}
    told["best_epoch"] = result.best_epoch
    variables = [*result.model.variables, *result.model.optimizer.variables]
    np.savez(f"{out}.npz", *[keras.ops.convert_to_numpy(variable) for variable in variables])
    with open(f"{out}.json", "w", encoding="utf-8") as file:
        json.dump(told, file, default=np.ndarray.tolist)
