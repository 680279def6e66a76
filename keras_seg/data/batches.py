"""Batches for `fit` and `evaluate`: one content, as a Keras PyDataset or as a tf.data pipeline.

A batch is (images float32 (B, H, W, C) 0..255, labels int32 (B, H, W)), and weights float32
(B, H, W) as third if the data set has them. It follows from (seed, epoch, step) and the shard
alone. Hence a resumed run sees what the uninterrupted one would have seen, and both pipelines give
the same bits. Labels of a data set whose pixels have K labels (`dataset.label_channels`) are
(B, H, W, K).
"""

import concurrent.futures
import threading

import keras
import numpy as np

from keras_seg.data.augment import pad_color, pad_to

_TYPES = ("float32", "int32", "float32")  # of images, labels, weights
# Separate the random numbers of the order, of the augmentation, and of partners and their mixing.
_ORDER, _CHANGE, _MIX = 1, 2, 3


class NumpyBatches(keras.utils.PyDataset):
    """Batches made by NumPy, for every backend.

    For training say `repeat=True` and `fit(steps_per_epoch=len(batches))`: one endless stream, of
    which each epoch has its own order and augmentation. Without `repeat` it is one pass with the
    content of one epoch, as evaluation needs it; `fit` would see the same augmentation each epoch
    unless a callback calls `set_epoch`, and would shuffle the steps by random numbers of its own
    unless told `shuffle=False`.

    Args:
        dataset: `SegmentationDataset`.
        batch_size: samples a batch.
        augment: `Augment`, or None.
        mix: `CutMix`, `CopyPaste` or such a function, which puts pixels of another sample, drawn
            from (seed, epoch, sample) among all of the data set, into each; None: none.
        size: (H, W) to which every image is padded at the bottom and the right, with ImageNet's
            mean and the ignored id; for evaluation of images of mixed sizes. None: no padding, and
            the images of a batch must have one size.
        shuffle: a new order of the samples each epoch.
        seed: of the order and the augmentation, not negative.
        initial_epoch: epoch to begin with, 0-based: that of a resumed run.
        drop_remainder: leave out the last, smaller batch of an epoch (training on replicas).
        pad_batch: fill the last batch with images whose pixels are all ignored, so that no batch is
            smaller and no pixel is lost (evaluation on replicas).
        repeat: an endless stream of epochs; `set_epoch` then does nothing, since the position in
            the stream says the epoch.
        cache: keep the decoded samples in memory.
        shard: (index, count) of this host among `count`, each of which reads every count-th sample
            of the order and makes batches of `batch_size` of its own. All hosts have the same
            number of steps; together, step s of all of them holds the samples of step s of one host
            with `count` times the batch. Unless the samples divide evenly it needs
            `drop_remainder`, or `pad_batch`, by which a host may end on a batch of padding alone.
        workers: threads that make the following batches in the meantime; 0: none.

    Raises:
        ValueError: if the arguments make no batch; on reading, if an image is damaged, larger than
            `size`, or of another size than the others of its batch, with the name of the sample.
    """

    def __init__(
        self,
        dataset,
        batch_size,
        *,
        augment=None,
        mix=None,
        size=None,
        shuffle=False,
        seed=0,
        initial_epoch=0,
        drop_remainder=False,
        pad_batch=False,
        repeat=False,
        cache=False,
        shard=(0, 1),
        workers=1,
    ):
        # Own threads: Keras' would start an endless stream late where it peeks at a first batch.
        super().__init__(workers=1)
        if workers < 0:
            raise ValueError(f"workers must not be negative, got {workers}.")
        self.plan = _Plan(
            dataset,
            batch_size,
            augment=augment,
            mix=mix,
            size=size,
            shuffle=shuffle,
            seed=seed,
            drop_remainder=drop_remainder,
            pad_batch=pad_batch,
            cache=cache,
            shard=shard,
        )
        self.epoch = _check_epoch(initial_epoch)
        self.repeat = repeat
        self._ahead = _Ahead(self.plan.batch, workers) if workers else None

    def __len__(self):
        """Steps of an epoch."""
        return self.plan.steps

    @property
    def num_batches(self):
        """Steps of an epoch; None for an endless stream."""
        return None if self.repeat else self.plan.steps

    def __getitem__(self, index):
        steps = self.plan.steps
        if index < 0 or (index >= steps and not self.repeat):
            raise IndexError(f"No batch {index}: an epoch has {steps} steps.")
        if self._ahead is None:
            return self.plan.batch(*self._position(index))
        last = index + 1 + self._ahead.workers
        following = range(index + 1, last if self.repeat else min(last, steps))
        return self._ahead.get(self._position(index), [self._position(i) for i in following])

    def set_epoch(self, epoch):
        """Make the next pass the one of `epoch` (0-based)."""
        if not self.repeat:
            self.epoch = _check_epoch(epoch)

    def _position(self, index):
        return self.epoch + index // self.plan.steps, index % self.plan.steps


class _Ahead:
    """Calls of a pure function, started in threads before their results are asked for."""

    def __init__(self, function, workers):
        self.function, self.workers = function, workers
        self._pool = concurrent.futures.ThreadPoolExecutor(workers, "keras_seg_batches")
        self._lock = threading.Lock()
        self._started = {}

    def get(self, key, following):
        """`function(*key)`; the keys in `following` are started and all others forgotten."""
        with self._lock:
            started = self._started
            mine = started.get(key)
            self._started = {k: started.get(k) or self._start(k) for k in following}
        return self.function(*key) if mine is None else mine.result()

    def _start(self, key):
        return self._pool.submit(self.function, *key)


def tf_batches(
    dataset,
    batch_size,
    *,
    augment=None,
    mix=None,
    size=None,
    shuffle=False,
    seed=0,
    initial_epoch=0,
    drop_remainder=False,
    pad_batch=False,
    repeat=False,
    cache=False,
    shard=(0, 1),
):
    """The batches of `NumpyBatches` as a `tf.data.Dataset`, made in parallel, in the same order.

    Arguments as `NumpyBatches`. With `repeat`, an endless stream from `initial_epoch` on, for
    `fit(steps_per_epoch=...)`, which goes through it once over all epochs. Without, one pass with
    the content of epoch `initial_epoch` each time it is iterated: for evaluation, not for training
    with augmentation, of which every epoch would be the same.

    Raises:
        ValueError: as `NumpyBatches`. What goes wrong while reading comes out of the iterator as
            TensorFlow's InvalidArgumentError with the same message, file name included.
    """
    import tensorflow as tf

    initial_epoch = _check_epoch(initial_epoch)
    plan = _Plan(
        dataset,
        batch_size,
        augment=augment,
        mix=mix,
        size=size,
        shuffle=shuffle,
        seed=seed,
        drop_remainder=drop_remainder,
        pad_batch=pad_batch,
        cache=cache,
        shard=shard,
    )

    def load(index):
        epoch, step = divmod(int(index), plan.steps)
        return plan.batch(initial_epoch + epoch, step)

    types = [tf.float32, tf.int32] + [tf.float32] * plan.weighted

    def to_tensors(index):
        images, *maps = tf.numpy_function(load, [index], types, stateful=False)
        shape = plan.static_shape()
        images.set_shape((*shape, dataset.channels))
        labels, *weights = maps
        labels.set_shape((*shape, *plan.label_channels))
        for values in weights:
            values.set_shape(shape)
        return images, labels, *weights

    steps = tf.data.Dataset.counter() if repeat else tf.data.Dataset.range(plan.steps)
    batches = steps.map(to_tensors, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(2)


def make_batches(dataset, batch_size, *, backend="auto", workers=1, **options):
    """`tf_batches` on Keras' TensorFlow backend, `NumpyBatches` elsewhere; same content.

    Args:
        dataset, batch_size, **options: see `NumpyBatches`.
        backend: "tensorflow" or "numpy" to choose; "auto": by Keras' backend.
        workers: threads of `NumpyBatches`; tf.data finds its own number.

    Raises:
        ValueError: for an unknown backend, and as `NumpyBatches`.
    """
    if backend == "auto":
        backend = "tensorflow" if keras.backend.backend() == "tensorflow" else "numpy"
    if backend == "tensorflow":
        return tf_batches(dataset, batch_size, **options)
    if backend == "numpy":
        return NumpyBatches(dataset, batch_size, workers=workers, **options)
    raise ValueError(f'backend must be "auto", "tensorflow" or "numpy", got {backend!r}.')


def steps_per_epoch(count, batch_size, drop_remainder=False):
    """Batches that `count` samples make."""
    return count // batch_size if drop_remainder else -(-count // batch_size)


def _check_epoch(epoch):
    if epoch < 0:
        raise ValueError(f"The epoch must not be negative, got {epoch}.")
    return int(epoch)


def _check_shard(shard, samples, even):
    """(index, count), checked: every host must have the same number of steps."""
    index, count = shard
    if count < 1 or not 0 <= index < count:
        raise ValueError(f"shard must be (index, count), 0 <= index < count; got {shard!r}.")
    if samples % count and not even:
        raise ValueError(
            f"{samples} samples do not divide evenly among {count} hosts: say drop_remainder=True "
            "(training) or pad_batch=True (evaluation)."
        )
    return int(index), int(count)


def _check_padding(augment, table):
    """ValueError where augmentation would pad labels with an id that the table does not have."""
    padded = getattr(augment, "ignore_label", table.ignore_label)
    if padded != table.ignore_label and padded >= table.num_classes:
        raise ValueError(
            f"The augmentation pads labels with {padded}, which is no class of the data; their "
            f"ignored pixels are {table.ignore_label}: give "
            f"Augment(..., ignore_label={table.ignore_label})."
        )


class _Plan:
    """What is in batch (epoch, step): a pure function."""

    def __init__(
        self,
        dataset,
        batch_size,
        *,
        augment,
        mix,
        size,
        shuffle,
        seed,
        drop_remainder,
        pad_batch,
        cache,
        shard,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}.")
        if drop_remainder and pad_batch:
            raise ValueError("drop_remainder and pad_batch exclude each other.")
        if size is not None and augment is not None and augment.crop is not None:
            raise ValueError("Give size= or augment.crop, not both: the crop already says a size.")
        _check_padding(augment, dataset.table)
        self.shard = _check_shard(shard, len(dataset), drop_remainder or pad_batch)
        hosts = self.shard[1]
        mine = len(dataset) // hosts if drop_remainder else -(-len(dataset) // hosts)
        self.steps = steps_per_epoch(mine, batch_size, drop_remainder)
        if self.steps == 0:
            among = f" for each of {hosts} hosts" if hosts > 1 else ""
            raise ValueError(
                f"{len(dataset)} samples make no batch of {batch_size}{among} with drop_remainder="
                f"{drop_remainder}: {dataset!r}. Use a smaller batch_size."
            )
        if mix is not None and len(dataset) < 2:
            raise ValueError(f"mix needs at least 2 samples: {dataset!r}.")
        self.dataset = dataset.cached() if cache else dataset
        # A data set of one's own need not know of weights and of several labels a pixel.
        self.weighted = getattr(dataset, "has_weights", False)
        self.label_channels = getattr(dataset, "label_channels", ())
        self.batch_size = batch_size
        self.augment = augment
        self.mix = mix
        self.mix_objects = getattr(mix, "needs_instances", False)
        if self.mix_objects and "instances" not in getattr(dataset, "extras", ()):
            raise ValueError(
                f"{dataset!r} does not say which pixels belong to one object, as {mix} needs."
            )
        self.size = None if size is None else tuple(size)
        self.shuffle = shuffle
        self.seed = int(seed)
        self.full = drop_remainder or pad_batch
        self.pad_batch = pad_batch
        # What pads images, labels and weights.
        self.fills = (pad_color(dataset.channels), dataset.table.ignore_label, 0)

    def static_shape(self):
        """(B, H, W) of every batch, None where it varies."""
        fixed = self.size or (self.augment and self.augment.crop) or (None, None)
        return (self.batch_size if self.full else None, *fixed)

    def batch(self, epoch, step):
        order = np.arange(len(self.dataset))
        if self.shuffle:
            np.random.default_rng([_ORDER, self.seed, epoch]).shuffle(order)
        index, hosts = self.shard
        mine = order[index::hosts]
        chosen = mine[step * self.batch_size : (step + 1) * self.batch_size]
        # Where padding alone is left to this host, another sample says its size.
        samples = [self._sample(epoch, int(index)) for index in (chosen if len(chosen) else [0])]
        self._check_sizes(samples, chosen)
        count = self.batch_size if self.pad_batch else len(samples)
        batch = []
        for kind, first in enumerate(samples[0]):
            whole = np.empty((count, *first.shape), _TYPES[kind])
            whole[:] = self.fills[kind]
            for place, arrays in enumerate(samples[: len(chosen)]):
                whole[place] = arrays[kind]
            batch.append(whole)
        return tuple(batch)

    def _sample(self, epoch, index):
        """(image, label) or (image, label, weights)."""
        rng = np.random.default_rng([_CHANGE, self.seed, epoch, index])
        sample = self._changed(index, rng)
        if self.mix is None:
            return sample
        rng = np.random.default_rng([_MIX, self.seed, epoch, index])
        other = int(rng.integers(len(self.dataset) - 1))
        other += other >= index  # any but itself
        partner = self._changed(other, rng, self.mix_objects)
        if partner[1].shape != sample[1].shape:
            names = self.dataset.names
            sizes = [f"{h}x{w}" for h, w in (s[1].shape[:2] for s in (sample, partner))]
            raise ValueError(
                f"{names[index]} is {sizes[0]} (HxW) and {names[other]}, to be mixed with it, "
                f"{sizes[1]}. Give both one size: augment=Augment(crop=(H, W))."
            )
        return self.mix(sample, partner, rng)

    def _changed(self, index, rng, objects=False):
        """Sample `index` augmented and padded; with `objects`, its map of them comes last."""
        image, label, name = self.dataset[index]
        weights = [self.dataset.read_weights(index)] if self.weighted else []
        arrays = (image, label, *weights)
        if objects:
            extras = {"instances": self.dataset.read_extra(index, "instances")}
            if self.augment is not None:
                *arrays, extras = self.augment(image, label, rng, *weights, extras=extras)
            arrays = (*arrays, extras["instances"])
        elif self.augment is not None:
            arrays = self.augment(image, label, rng, *weights)
        if self.size is not None:
            arrays = self._pad(arrays, name)
        return arrays

    def _pad(self, arrays, name):
        height, width = arrays[1].shape[:2]
        if height > self.size[0] or width > self.size[1]:
            raise ValueError(
                f"{name} is {height}x{width} (HxW), larger than size={self.size}. Give a larger "
                "size, or crop with augment=Augment(crop=...)."
            )
        fills = (*self.fills[:2], 0, 0)
        return tuple(pad_to(a, self.size, f) for a, f in zip(arrays, fills, strict=False))

    def _check_sizes(self, samples, chosen):
        sizes = {sample[1].shape[:2]: i for sample, i in zip(samples, chosen, strict=False)}
        if len(sizes) > 1:
            names = self.dataset.names
            listed = ", ".join(f"{h}x{w} ({names[i]})" for (h, w), i in list(sizes.items())[:3])
            raise ValueError(
                f"The images of a batch have different sizes (HxW): {listed}. For training crop "
                "them, augment=Augment(crop=(H, W)); for evaluation use batch_size=1, or size= "
                "(H, W), which pads."
            )
