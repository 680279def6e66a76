"""A patchwise network on the ISBI 2012 stack (Ciresan et al. 2012), a modernised recipe.

    python recipes/patchwise_isbi.py --data-dir isbi_membrane --folder runs/patchwise_isbi

The folder holds train/image/N.png and train/label/N.png, 512 x 512, 0 membrane and 255 cell; the
first 20 slices train, the next 5 are held out (--train-slices, --held-out-slices).

Network N4 learns the class of the pixel in the middle of a window of 95 x 95. As in the paper, each
membrane pixel comes once an epoch with as many pixels of cells, drawn at random; windows are turned
by quarters and mirrored at random, and go on as their mirror image beyond the border. Then the
same weights label every pixel at once, a cubic maps the probabilities of the balanced windows to
how often there is membrane in the training slices, and a median filter of radius 2 smooths them.
SGD with momentum 0.9, batch 256, learning rate 1e-3 times 0.9 an epoch, 30 epochs.
Pixel error and Dice of the membrane are given at probability 1/2 and at the best of ten levels, of
each of the three maps. The folder's `dense.keras` labels whole images, and is what --export
exports.
Hardware: any GPU, or a processor for some epochs; not timed at full length.
Published: warping error 0.000420, Rand error 0.0504 on the test stack, of four networks' mean.
Where we differ: one network, N4; ReLU for an activation that is not published; batches and momentum
for the authors' single windows; scored on held-out slices, as the labels of the test are secret.
Measured: not run at full length.
"""

import keras
import numpy as np
from keras import layers

from keras_seg import inference, models, recipe, training, utils
from keras_seg.export import export

WINDOW = 95
BATCH = 256
MOMENTUM, LEARNING_RATE, DECAY = 0.9, 1e-3, 0.9
EPOCHS = 30
RADIUS = 2  # of the median filter
HELD_OUT_STEPS = 40  # of a batch each, of windows drawn evenly


class Windows(keras.utils.PyDataset):
    """Batches of windows (B, 95, 95, 1) with their labels (B, 95, 95).

    Args:
        dataset: slices with labels.
        batch_size: windows in a batch.
        steps: batches in an epoch; 0: each membrane pixel once.
        balanced: half of each batch on membrane, turned and mirrored; else anywhere, as they are.
        seed: of what is drawn.
    """

    def __init__(self, dataset, batch_size, *, steps=0, balanced=True, seed=0):
        super().__init__()
        self.batch_size, self.balanced, self.seed = batch_size, balanced, seed
        self.images, self.labels, places = [], [], []
        for number, (image, label, _) in enumerate(dataset):
            self.images.append(np.pad(image[..., 0], WINDOW // 2, mode="reflect"))
            self.labels.append(np.pad(label, WINDOW // 2, mode="reflect"))
            for kind in (0, 1):
                rows, columns = np.nonzero(label == kind)
                places.append((kind, np.stack([np.full_like(rows, number), rows, columns], 1)))
        self.places = [np.concatenate([p for k, p in places if k == kind]) for kind in (0, 1)]
        self.steps = steps or 2 * len(self.places[0]) // batch_size
        self.set_epoch(0)

    @property
    def num_batches(self):
        return self.steps

    def set_epoch(self, epoch):
        """Draw a new order of the membrane's pixels."""
        self.epoch = epoch
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.places[0]))

    def __getitem__(self, index):
        rng = np.random.default_rng([self.seed, self.epoch, index])
        if self.balanced:
            half = self.batch_size // 2
            turn = (index * half + np.arange(half)) % len(self.order)
            membrane, cells = self.places[0][self.order[turn]], self.places[1]
            chosen = np.concatenate([membrane, rng.choice(cells, self.batch_size - half)])
        else:
            chosen = rng.choice(np.concatenate(self.places), self.batch_size)
        pairs = [self._window(*place) for place in chosen]
        if self.balanced:
            turns = rng.integers(8, size=len(pairs))
            pairs = [
                [np.rot90(a[:, ::-1] if t > 3 else a, t % 4) for a in pair]
                for pair, t in zip(pairs, turns, strict=True)
            ]
        images, labels = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
        return images[..., None].astype("float32"), labels.astype("int32")

    def _window(self, number, row, column):
        part = np.s_[row : row + WINDOW, column : column + WINDOW]
        return self.images[number][part], self.labels[number][part]


def calibration(maps, labels):
    """Membrane's share in the labels for 0, 1/255, ..., 1 of a map: a cubic, never falling."""
    counts = np.zeros((2, 256))
    for membrane, label in zip(maps, labels, strict=True):
        level = np.rint(membrane * 255).astype("int64")
        counts += [np.bincount(level[label == kind], minlength=256) for kind in (0, 1)]
    pixels = counts.sum(0)
    share = counts[0] / np.maximum(pixels, 1)
    levels = np.linspace(0, 1, 256)
    cubic = np.polyval(np.polyfit(levels, share, 3, w=np.sqrt(pixels)), levels)
    return np.maximum.accumulate(np.clip(cubic, 0, 1))


def smooth(membrane):
    """The median over a disc of `RADIUS`."""
    from scipy import ndimage

    rows, columns = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    return ndimage.median_filter(membrane, footprint=rows**2 + columns**2 <= RADIUS**2)


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/patchwise_isbi",
        epochs=EPOCHS,
        layout="isbi",
        numbers={
            "--train-slices": (20, "slices that train, the first ones"),
            "--held-out-slices": (5, "slices after those, to score"),
            "--filters": (48, "maps of each convolution"),
            "--steps": (0, "steps of an epoch; 0: each membrane pixel once"),
            "--seed": (0, "of weights and windows"),
        },
        arguments=arguments,
    )
    batch, held_out_steps = (8, 1) if options.smoke else (BATCH, HELD_OUT_STEPS)
    train_data, val_data = recipe.isbi_slices(options, size=(64, 64))
    windows = Windows(train_data, batch, steps=options.steps, seed=options.seed)

    def build_model():
        patch = models.PatchwiseCNN(2, mode="patch", filters=options.filters)
        logits = layers.Reshape((1, 1, 2), dtype="float32", name="pixel")(patch.output)
        return keras.Model(patch.input, logits, name=patch.name)

    result = training.train(
        build_model,
        windows,
        Windows(val_data, batch, steps=held_out_steps, balanced=False),
        folder=options.folder,
        epochs=options.epochs,
        optimizer=training.SGD(
            training.Step(LEARNING_RATE, windows.steps, DECAY), momentum=MOMENTUM
        ),
        table=train_data.table,
        seed=options.seed,
        resume=options.resume,
    )
    dense = models.PatchwiseCNN(2, mode="dense", filters=options.filters)
    dense.set_weights(result.model.get_weights())
    dense.save(f"{options.folder}/dense.keras")
    predictor = inference.Predictor(dense, table=train_data.table)

    def maps(dataset):
        return (predictor.probabilities(sample.image)[..., 0] for sample in dataset)

    curve = calibration(maps(train_data), (sample.label for sample in train_data))
    raw = list(maps(val_data))
    calibrated = [curve[np.rint(membrane * 255).astype("int64")] for membrane in raw]
    found = {"calibration": curve.tolist()}
    for name, results in (
        ("network", raw),
        ("calibrated", calibrated),
        ("calibrated, median", [smooth(membrane) for membrane in calibrated]),
    ):
        found[name] = recipe.membrane_scores(results, (sample.label for sample in val_data))
        print(f"{name}: {recipe.format_membrane_scores(found[name])}", flush=True)
    utils.write_json(f"{options.folder}/test_scores.json", found)
    if options.export:
        report = export(
            dense,
            f"{options.folder}/files",
            size=train_data[0].label.shape,
            calibration=[sample.image for sample in train_data],
            images=[sample.image for sample in val_data],
            labels=[sample.label for sample in val_data],
            table=train_data.table,
        )
        print(report)


if __name__ == "__main__":
    main()
