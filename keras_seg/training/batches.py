"""From data sets to what `fit` and `evaluate` read: whole batches, labels as the outputs need."""

import concurrent.futures

import keras
import numpy as np

from keras_seg.data import make_batches
from keras_seg.data.augment import pad_color


def is_dataset(data):
    """Whether `data` is a `SegmentationDataset`, and not batches that are ready for `fit`."""
    return hasattr(data, "table") and hasattr(data, "channels")


class Targets:
    """Labels in the form in which a network's outputs are compared with them.

    Args:
        model: functional; its output is logits, or a dict of logits that all learn the same labels.
        size: (H, W) of an image, or None where only networks of full-size logits are expected.
        spaces: names of outputs with a label map of their own, in the order in which these lie
            behind the label (`SegmentationDataset.stacked`).

    Attributes:
        names: output names of a dict, or None.
        lost: (rows, columns) by which logits are smaller than the image (valid convolutions).
    """

    def __init__(self, model, size=None, spaces=()):
        self.spaces = list(spaces)
        self.names = list(model.output) if isinstance(model.output, dict) else None
        self.lost = (0, 0)
        if size is not None:
            shape = model.compute_output_shape((1, *size, model.input.shape[-1]))
            shape = shape["logits"] if self.names else shape
            self.lost = (size[0] - shape[1], size[1] - shape[2])

    def __call__(self, images, labels, *weights):
        """(images, labels) -> (images, labels cropped around the centre, once for each output).

        Weights behind them are cropped as the labels are, if they are weights of pixels.
        """
        labels = self.crop(labels)
        if self.spaces:
            space = {name: place for place, name in enumerate(self.spaces, start=1)}
            labels = {name: labels[..., space.get(name, 0)] for name in self.names}
        elif self.names:
            labels = {name: labels for name in self.names}
        return images, labels, *(self.crop(w) if len(w.shape) > 2 else w for w in weights)

    def stack(self, dataset):
        """The data set with the label maps that `spaces` need."""
        return dataset.stacked(*self.spaces) if self.spaces else dataset

    def crop(self, maps):
        """Maps (N, H, W, ...) of the labels, without the border that the logits lack."""
        rows, columns = self.lost
        if not (rows or columns):
            return maps
        top, left = rows // 2, columns // 2
        height, width = maps.shape[1], maps.shape[2]
        bottom = None if height is None else height - (rows - top)
        right = None if width is None else width - (columns - left)
        return maps[:, top:bottom, left:right]

    @property
    def changes(self):
        """False where labels stay as they are."""
        return bool(self.names or any(self.lost))


class _Epochs(keras.utils.PyDataset):
    """An endless stream one epoch at a time: step i of epoch e is stream[e * steps + i].

    Reads ahead with threads of its own. Keras' `workers` cannot be used for an exact resume: the
    batches that they read ahead while `fit` looks at the first one, before it calls any callback,
    are kept and served in the first epoch.
    """

    def __init__(self, stream, targets, steps, workers):
        super().__init__()
        self.stream = stream
        self.targets = targets
        self.steps = steps
        self.epoch = 0
        self.ahead = workers + 1
        self._threads = concurrent.futures.ThreadPoolExecutor(workers)
        self._coming = {}  # position in the stream -> future

    @property
    def num_batches(self):
        return self.steps

    def __getitem__(self, index):
        first = self.epoch * self.steps + index
        self._coming = {
            position: self._coming.get(position)
            or self._threads.submit(self.stream.__getitem__, position)
            for position in range(first, first + self.ahead)
        }
        return self.targets(*self._coming[first].result())

    def set_epoch(self, epoch):
        self.epoch = epoch


class _Mapped(keras.utils.PyDataset):
    """Another PyDataset with its labels through `targets`."""

    def __init__(self, batches, targets):
        super().__init__(batches.workers, batches.use_multiprocessing, batches.max_queue_size)
        self.batches = batches
        self.targets = targets

    @property
    def num_batches(self):
        return self.batches.num_batches

    def __getitem__(self, index):
        return self.targets(*self.batches[index])

    def set_epoch(self, epoch):
        if hasattr(self.batches, "set_epoch"):
            self.batches.set_epoch(epoch)

    def on_epoch_begin(self):
        self.batches.on_epoch_begin()

    def on_epoch_end(self):
        self.batches.on_epoch_end()


def with_targets(batches, targets):
    """Ready batches (tf.data or PyDataset) with their labels through `targets`."""
    if not targets.changes:
        return batches
    if isinstance(batches, keras.utils.PyDataset):
        return _Mapped(batches, targets)
    return batches.map(targets)


class _Whole(_Mapped):
    """Another PyDataset without a smaller last batch, or with that filled up by `fill`."""

    def __init__(self, batches, size, fill):
        super().__init__(batches, None)
        self.size = size
        self.fill = fill

    @property
    def num_batches(self):
        count = self.batches.num_batches
        if self.fill is None and count and len(self.batches[count - 1][0]) < self.size:
            return count - 1
        return count

    def __getitem__(self, index):
        batch = self.batches[index]
        return batch if self.fill is None else self.fill(*batch)


def whole_batches(batches, replicas, ignore_label, *, fill):
    """Ready batches (tf.data or PyDataset) for several devices: all of one size.

    Args:
        batches: (images, labels[, sample weights]).
        replicas: of which each gets as many images of every batch.
        ignore_label: of the labels.
        fill: whether smaller batches are filled up with images whose pixels are all ignored, which
            leaves every score as it is (validation). Otherwise the smaller last batch of a
            PyDataset is left out, and tf.data must not have one: in training such images would
            count in batch normalisation.

    Raises:
        ValueError: without `fill`, if the size is not known or no multiple of `replicas`.
    """
    py = isinstance(batches, keras.utils.PyDataset)
    if py or fill:
        size = len(next(iter(batches))[0])
    else:
        size = keras.tree.flatten(batches.element_spec)[0].shape[0]
    if fill:
        size += -size % replicas
    elif not size or size % replicas:
        raise ValueError(
            f"Training batches of {size or 'unknown'} size cannot be shared by {replicas} devices: "
            f"make them with batch(size, drop_remainder=True), of a multiple of {replicas} images."
        )
    elif not py:
        return batches

    def lacking(array, count):
        return [[0, size - count], *[[0, 0]] * (len(array.shape) - 1)]

    if py:

        def filled(*batch):
            pads = [lacking(array, len(array)) for array in batch]
            return tuple(map(_pad, batch, pads, (0, ignore_label, 0)))

        return _Whole(batches, size, filled if fill else None)
    import tensorflow as tf

    def tf_filled(*batch):
        result = []
        for array, value in zip(batch, (0, ignore_label, 0), strict=False):
            value = tf.cast(value, array.dtype)
            padded = tf.pad(array, lacking(array, tf.shape(array)[0]), constant_values=value)
            padded.set_shape((size, *array.shape[1:]))
            result.append(padded)
        return tuple(result)

    return batches.map(tf_filled)


def _pad(array, lacking, value):
    return np.pad(array, lacking, constant_values=value)


class EvaluationBatches(keras.utils.PyDataset):
    """Every image of a data set once, in batches that are all whole.

    The last batch is filled with samples of ignored pixels, and images of different sizes are
    padded below and on the right with ignored pixels to the largest of their batch, so that every
    labelled pixel is scored once, on any number of replicas.

    Args:
        dataset: `SegmentationDataset`.
        batch_size: samples in each batch.
        targets: `Targets`.
        size: (H, W) to cut out of the centre, or None. Smaller images are padded to it, around them
            where the network loses a border, so that the border is padding first.
        shard: (index, count): this worker's part of each batch, `batch_size / count` samples of it.
    """

    def __init__(self, dataset, batch_size, targets, size=None, shard=(0, 1)):
        super().__init__()
        self.dataset = dataset
        self.stacked = targets.stack(dataset)
        self.channels = getattr(self.stacked, "label_channels", ())
        self.whole_batch = batch_size
        self.batch_size = batch_size // shard[1]
        self.targets = targets
        self.size = size
        self.shard = shard

    @property
    def num_batches(self):
        return -(-len(self.dataset) // self.whole_batch)

    def __getitem__(self, index):
        return self.targets(*self.arrays(index))

    def arrays(self, index):
        """Batch `index` as images float32 (B, H, W, C) and labels int32 (B, H, W)."""
        first = index * self.whole_batch + self.shard[0] * self.batch_size
        last = min(first + self.batch_size, len(self.dataset))
        # Where padding alone is left to this worker, another sample says its size.
        samples = [self.stacked[i] for i in (range(first, last) or [0])]
        pairs = [(sample.image, sample.label) for sample in samples]
        if self.size is not None:
            pairs = [
                (_centre(image, self.size), _centre(label, self.size)) for image, label in pairs
            ]
        height, width = self.size or (
            max(label.shape[0] for _, label in pairs),
            max(label.shape[1] for _, label in pairs),
        )
        channels = pairs[0][0].shape[2]
        images = np.empty((self.batch_size, height, width, channels), "float32")
        images[:] = pad_color(channels)
        ignore = self.dataset.table.ignore_label
        labels = np.full((self.batch_size, height, width, *self.channels), ignore, "int32")
        for n, (image, label) in enumerate(pairs[: max(0, last - first)]):
            rows, columns = label.shape[:2]
            top, left = 0, 0
            if any(self.targets.lost):
                top, left = (height - rows) // 2, (width - columns) // 2
            images[n, top : top + rows, left : left + columns] = image
            labels[n, top : top + rows, left : left + columns] = label
        return images, labels

    def for_fit(self):
        """Itself, or on TensorFlow a tf.data.Dataset that lets sizes differ between batches."""
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        size = self.size or (None, None)

        def load(index):
            images, labels = tf.numpy_function(
                lambda i: self.arrays(int(i)), [index], [tf.float32, tf.int32], stateful=False
            )
            images.set_shape((self.batch_size, *size, self.dataset.channels))
            labels.set_shape((self.batch_size, *size, *self.channels))
            return self.targets(images, labels)

        steps = tf.data.Dataset.range(self.num_batches)
        return steps.map(load, num_parallel_calls=2, deterministic=True).prefetch(2)


def _centre(array, size):
    """The middle of an array (H, W, ...), at most (rows, columns) of `size`."""
    top, left = (max(have - want, 0) // 2 for have, want in zip(array.shape, size, strict=False))
    return array[top : top + size[0], left : left + size[1]]


def training_batches(
    dataset,
    targets,
    *,
    batch_size,
    augment,
    mix,
    seed,
    epoch,
    steps,
    shard=(0, 1),
    cache=False,
    workers=2,
):
    """Shuffled whole batches of `dataset` for `fit(steps_per_epoch=steps)` from `epoch` on.

    The images are gone through again and again in new orders; `steps` batches are one epoch of
    training. Step i of an epoch is the same however the run came to it. Of each batch a worker
    gets its part, `shard` = (index, count). `cache` keeps decoded samples in memory; `workers`
    threads read ahead, where tf.data does not decide that by itself.

    Returns:
        `tf.data.Dataset`, or on other backends a `PyDataset` of one epoch, with `set_epoch`.
    """
    dataset = targets.stack(dataset)
    if len(dataset) < batch_size:
        dataset = dataset.subset([i % len(dataset) for i in range(batch_size)])
    options = {"augment": augment, "mix": mix, "shuffle": True, "seed": seed}
    options |= {"drop_remainder": True, "shard": shard, "cache": cache}
    per_worker = batch_size // shard[1]
    if keras.backend.backend() != "tensorflow":
        stream = make_batches(
            dataset, per_worker, backend="numpy", repeat=True, workers=0, **options
        )
        return _Epochs(stream, targets, steps, workers)
    passed, skipped = divmod(epoch * steps, len(dataset) // batch_size)
    stream = make_batches(dataset, per_worker, repeat=True, initial_epoch=passed, **options)
    return with_targets(stream.skip(skipped), targets)


def pixel_counts(dataset):
    """Labelled pixels of each class, and of all the images in which the class occurs.

    Reads every label once.

    Returns:
        two int64 arrays (K,).
    """
    classes = dataset.table.num_classes
    pixels = np.zeros(classes, "int64")
    in_images = np.zeros(classes, "int64")
    for index in range(len(dataset)):
        count = np.bincount(dataset.read_label(index).ravel(), minlength=256)[:classes]
        pixels += count
        in_images[count > 0] += count.sum()
    return pixels, in_images
