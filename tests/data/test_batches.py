"""Batches: both pipelines, every epoch, every resume give the same bits; bad batches say why."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_seg import data

BACKEND = keras.backend.backend()
AUGMENT = data.Augment(
    crop=(24, 32), rotation=20, blur=0.5, vertical_flip=True, color=(0.3, 0.3, 0.3, 0.1)
)
TRAINING = {"augment": AUGMENT, "shuffle": True, "seed": 5}
needs_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data")


@pytest.fixture(scope="module")
def dataset():
    return data.shapes(7, size=(32, 40))


def _numpy(batches, count):
    return [batches[i] for i in range(count)]


def _tf(batches, count):
    return [(x.numpy(), y.numpy()) for x, y in batches.take(count)]


def _same(first, second):
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)


def test_form(dataset):
    batches = data.NumpyBatches(dataset, 3)
    assert len(batches) == 3
    images, labels = batches[0]
    assert images.shape == (3, 32, 40, 3) and images.dtype == np.float32
    assert labels.shape == (3, 32, 40) and labels.dtype == np.int32
    assert np.array_equal(images[1], dataset[1].image) and np.array_equal(
        labels[1], dataset[1].label
    )
    assert len(batches[2][0]) == 1
    with pytest.raises(IndexError):
        batches[3]


@needs_tensorflow
@pytest.mark.parametrize(
    "options",
    [
        {},
        TRAINING,
        {**TRAINING, "drop_remainder": True},
        {**TRAINING, "initial_epoch": 3},
        {"size": (40, 48), "pad_batch": True},
        {"size": (40, 48), "cache": True},
    ],
)
def test_numpy_and_tf_give_the_same_bits(dataset, options):
    batches = data.NumpyBatches(dataset, 3, **options)
    pipeline = data.tf_batches(dataset, 3, **options)
    assert int(pipeline.cardinality()) == len(batches)
    _same(_numpy(batches, len(batches)), _tf(pipeline, 10))
    # an endless stream goes on with the next epochs
    stream = data.NumpyBatches(dataset, 3, repeat=True, **options)
    count = 2 * len(batches) + 1
    _same(_numpy(stream, count), _tf(data.tf_batches(dataset, 3, repeat=True, **options), count))


@needs_tensorflow
def test_tf_shapes_are_known(dataset):
    def shape(**options):
        return data.tf_batches(dataset, 3, **options).element_spec[0].shape.as_list()

    assert shape() == [None, None, None, 3]
    assert shape(augment=AUGMENT, drop_remainder=True) == [3, 24, 32, 3]
    assert shape(size=(40, 48), pad_batch=True) == [3, 40, 48, 3]


def test_resume_is_exact(dataset):
    """Epoch e by set_epoch, in a stream, or as initial_epoch of a new object."""
    straight = data.NumpyBatches(dataset, 3, **TRAINING)
    stream = data.NumpyBatches(dataset, 3, repeat=True, **TRAINING)
    epochs = []
    for epoch in range(3):
        straight.set_epoch(epoch)
        epochs.append(_numpy(straight, 3))
        _same(epochs[-1], _numpy(data.NumpyBatches(dataset, 3, initial_epoch=epoch, **TRAINING), 3))
        _same(epochs[-1], [stream[3 * epoch + i] for i in range(3)])
    straight.set_epoch(1)
    _same(epochs[1], _numpy(straight, 3))
    assert not np.array_equal(epochs[0][0][0], epochs[1][0][0])
    later = data.NumpyBatches(dataset, 3, repeat=True, initial_epoch=2, **TRAINING)
    later.set_epoch(0)  # the position in the stream says the epoch
    _same(epochs[2], _numpy(later, 3))


def test_the_seed_matters_and_order_of_reading_does_not(dataset):
    one, two = (data.NumpyBatches(dataset, 3, **TRAINING) for _ in range(2))
    other = data.NumpyBatches(dataset, 3, **{**TRAINING, "seed": 6})
    _same([one[2], one[0]], [two[i] for i in (0, 2)][::-1])
    assert not np.array_equal(one[0][0], other[0][0])


def test_every_sample_once_an_epoch(dataset):
    batches = data.NumpyBatches(dataset, 2, shuffle=True, seed=1)
    orders = []
    for epoch in range(3):
        batches.set_epoch(epoch)
        images = np.concatenate([images for images, _ in _numpy(batches, 4)])
        order = [next(i for i in range(7) if np.array_equal(x, dataset[i].image)) for x in images]
        assert sorted(order) == list(range(7))
        orders.append(order)
    assert orders[0] != orders[1] and orders[1] != orders[2]


def test_drop_and_pad(dataset):
    dropped = data.NumpyBatches(dataset, 3, drop_remainder=True)
    assert len(dropped) == 2 and data.steps_per_epoch(7, 3, drop_remainder=True) == 2
    padded = data.NumpyBatches(dataset, 3, pad_batch=True)
    images, labels = padded[2]
    assert len(padded) == 3 and images.shape == (3, 32, 40, 3)
    assert np.array_equal(labels[0], dataset[6].label)
    assert (labels[1:] == 255).all() and (images[1:] == (124, 116, 104)).all()
    with pytest.raises(ValueError, match="exclude each other"):
        data.NumpyBatches(dataset, 3, drop_remainder=True, pad_batch=True)
    with pytest.raises(ValueError, match="7 samples make no batch of 8"):
        data.NumpyBatches(dataset, 8, drop_remainder=True)


@pytest.fixture
def mixed(tmp_path, save):
    for name, size in (("a", (8, 6)), ("b", (6, 8))):
        save(tmp_path / "images" / f"{name}.png", np.full((*size, 3), 9))
        save(tmp_path / "masks" / f"{name}.png", np.ones(size))
    return data.folder(tmp_path, classes=2)


def test_mixed_sizes(mixed):
    with pytest.raises(ValueError, match=r"8x6 \(a\), 6x8 \(b\).*Augment\(crop=.*batch_size=1"):
        data.NumpyBatches(mixed, 2)[0]
    assert data.NumpyBatches(mixed, 1)[1][0].shape == (1, 6, 8, 3)
    images, labels = data.NumpyBatches(mixed, 2, size=(8, 8))[0]
    assert (labels[0, :, :6] == 1).all() and (labels[0, :, 6:] == 255).all()
    assert (labels[1, :6] == 1).all() and (labels[1, 6:] == 255).all()
    assert (images[labels == 1] == 9).all() and (images[labels == 255] == (124, 116, 104)).all()
    with pytest.raises(ValueError, match=r"a is 8x6 \(HxW\), larger than size=\(7, 8\)"):
        data.NumpyBatches(mixed, 1, size=(7, 8))[0]


@needs_tensorflow
def test_tf_errors_carry_the_message(mixed):
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match="different sizes.*8x6"):
        list(data.tf_batches(mixed, 2))
    mixed.image_paths[1].write_bytes(b"\x89PNG")
    with pytest.raises(tf.errors.InvalidArgumentError, match="b.png: damaged"):
        list(data.tf_batches(mixed, 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"initial_epoch": -1}, "epoch"),
        ({"size": (32, 32), "augment": AUGMENT}, "not both"),
    ],
)
@pytest.mark.parametrize(
    "make", [data.NumpyBatches, pytest.param(data.tf_batches, marks=needs_tensorflow)]
)
def test_bad_arguments(dataset, make, options, words):
    with pytest.raises(ValueError, match=words):
        make(dataset, **{"batch_size": 2, **options})


def test_make_batches_chooses_by_backend(dataset):
    chosen = data.make_batches(dataset, 2, **TRAINING)
    assert isinstance(chosen, data.NumpyBatches) == (BACKEND != "tensorflow")
    assert isinstance(data.make_batches(dataset, 2, backend="numpy"), data.NumpyBatches)
    with pytest.raises(ValueError, match="backend must be"):
        data.make_batches(dataset, 2, backend="numppy")


def _losses(batches, initial_epoch=0, weights=None, epochs=3, **options):
    """Losses of a tiny network by epoch: they tell one order or augmentation from another."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3)]
    )
    model.add(keras.layers.ZeroPadding2D(1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile(keras.optimizers.SGD(0.1), loss)
    if weights is not None:
        model.set_weights(weights)
    history = model.fit(
        batches, epochs=epochs, initial_epoch=initial_epoch, verbose=0, shuffle=False, **options
    )
    return history.history["loss"], model.get_weights()


def test_fit_sees_the_same_epochs_through_every_pipeline(dataset):
    """Endless with any number of threads, tf.data, finite, resumed: the same losses by epoch."""
    steps = {"steps_per_epoch": 3}
    stream = data.NumpyBatches(dataset, 3, repeat=True, workers=0, **TRAINING)
    _, weights = _losses(stream, epochs=2, **steps)
    expected, _ = _losses(stream, **steps)
    assert len(set(np.round(expected, 6))) == 3
    finite = data.NumpyBatches(dataset, 3, workers=2, **TRAINING)
    epochs = keras.callbacks.LambdaCallback(on_epoch_begin=lambda e, logs: finite.set_epoch(e))
    kinds = [
        (finite, {"callbacks": [epochs]}),
        (data.NumpyBatches(dataset, 3, repeat=True, **TRAINING), steps),
        (data.NumpyBatches(dataset, 3, repeat=True, workers=3, **TRAINING), steps),
        (data.make_batches(dataset, 3, repeat=True, cache=True, **TRAINING), steps),
    ]
    for batches, options in kinds:
        np.testing.assert_allclose(_losses(batches, **options)[0], expected, rtol=1e-5)
    resumed = data.make_batches(dataset, 3, repeat=True, initial_epoch=2, **TRAINING)
    losses, _ = _losses(resumed, initial_epoch=2, weights=weights, **steps)
    np.testing.assert_allclose(losses, expected[2:], rtol=1e-5)


def test_importing_data_is_light():
    code = (
        "import sys, keras_seg.data;"
        "heavy = {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


REPLICAS = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from keras_seg import data

class Pixels(keras.metrics.Metric):
    def __init__(self):
        super().__init__(name="pixels")
        self.count = self.add_variable((), "zeros", name="count")
    def update_state(self, y_true, y_pred, sample_weight=None):
        self.count.assign_add(keras.ops.sum(keras.ops.cast(y_true != 255, "float32")))
    def result(self):
        return self.count

dataset = data.shapes(5, size=(16, 20))
truth = sum(int((sample.label != 255).sum()) for sample in dataset)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 1)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile("sgd", loss, metrics=[Pixels()])
training = data.tf_batches(
    dataset, 4, repeat=True, shuffle=True, drop_remainder=True, augment=data.Augment(crop=16)
)
model.fit(training, steps_per_epoch=2, epochs=2, verbose=0)
scores = model.evaluate(data.tf_batches(dataset, 4, pad_batch=True), verbose=0, return_dict=True)
assert scores["pixels"] == truth, (scores, truth)
"""


@pytest.mark.slow
@needs_tensorflow
def test_two_replicas_lose_no_pixel():
    """5 samples in batches of 4 on two devices: no ragged batch, every labelled pixel counted."""
    done = subprocess.run([sys.executable, "-c", REPLICAS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def _indices(dataset, batches, steps):
    """Which samples the images of some batches are; -1: padding."""
    found = []
    for step in range(steps):
        images, labels = batches[step]
        for image, label in zip(images, labels, strict=True):
            same = [i for i in range(len(dataset)) if np.array_equal(image, dataset[i].image)]
            assert same or (label == 255).all()
            found.append(same[0] if same else -1)
    return found


@pytest.mark.parametrize("hosts", [2, 3])
@pytest.mark.parametrize("cache", [False, True])
def test_hosts_share_an_epoch(dataset, hosts, cache):
    """7 samples: all hosts have the same number of steps, and together every sample once."""
    options = {"shuffle": True, "seed": 3, "pad_batch": True, "cache": cache}
    for epoch in (0, 1):
        alone = data.NumpyBatches(dataset, 2 * hosts, initial_epoch=epoch, **options)
        parts = [
            data.NumpyBatches(dataset, 2, shard=(i, hosts), initial_epoch=epoch, **options)
            for i in range(hosts)
        ]
        steps = {len(part) for part in parts} | {len(alone)}
        assert len(steps) == 1
        steps = steps.pop()
        found = [_indices(dataset, part, steps) for part in parts]
        assert sorted(i for part in found for i in part if i >= 0) == list(range(7))
        for step in range(steps):  # a step of all hosts is that of one host with the whole batch
            together = [i for part in found for i in part[2 * step : 2 * step + 2]]
            whole = _indices(dataset, [alone[step]], 1)
            assert sorted(together) == sorted(whole)


def test_a_host_reads_only_its_part(dataset):
    read = []

    class Watched:
        channels, table, names = dataset.channels, dataset.table, dataset.names

        def __len__(self):
            return len(dataset)

        def __getitem__(self, index):
            read.append(index)
            return dataset[index]

    parts = []
    for host in range(3):
        batches = data.NumpyBatches(
            Watched(), 1, shard=(host, 3), shuffle=True, drop_remainder=True, workers=0
        )
        assert len(batches) == 2
        read.clear()
        _numpy(batches, 2)
        parts += read
    assert len(parts) == len(set(parts)) == 6


def test_a_host_may_end_on_padding_alone(dataset):
    """Three samples, two hosts, one a batch: the second host has nothing for the second step."""
    three = dataset.subset(range(3))
    images, labels = data.NumpyBatches(three, 1, shard=(1, 2), pad_batch=True)[1]
    assert images.shape == (1, 32, 40, 3) and (images == (124, 116, 104)).all()
    assert labels.shape == (1, 32, 40) and (labels == 255).all()


@needs_tensorflow
def test_shards_of_tf(dataset):
    options = {"shard": (1, 2), "pad_batch": True, **TRAINING}
    batches = data.NumpyBatches(dataset, 3, **options)
    _same(_numpy(batches, len(batches)), _tf(data.tf_batches(dataset, 3, **options), 9))


def test_bad_shards(dataset):
    for shard in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="shard must be"):
            data.NumpyBatches(dataset, 1, shard=shard)
    with pytest.raises(ValueError, match="7 samples do not divide evenly among 2 hosts"):
        data.NumpyBatches(dataset, 1, shard=(0, 2))
    with pytest.raises(ValueError, match="no batch of 3 for each of 3 hosts"):
        data.NumpyBatches(dataset, 3, shard=(0, 3), drop_remainder=True)
    assert len(data.NumpyBatches(dataset.subset(range(6)), 2, shard=(1, 2))) == 2


class ManyLabels:
    """A data set of one's own whose pixels have several labels."""

    channels, label_channels = 3, (4,)
    table = data.LabelTable.default(4)
    names = ["a", "b", "c"]

    def __len__(self):
        return 3

    def __getitem__(self, index):
        label = data.shapes(3, size=(32, 40))[index].label
        many = (label[..., None] == np.arange(4)).astype("uint8")
        return np.repeat(label[..., None] * np.uint8(60), 3, 2), many, self.names[index]


@pytest.mark.parametrize("options", [{"augment": AUGMENT}, {"size": (40, 48)}])
def test_many_labels_a_pixel(options):
    options = {"pad_batch": True, **options}
    batches = data.NumpyBatches(ManyLabels(), 2, **options)
    size = AUGMENT.crop if "augment" in options else (40, 48)
    for images, labels in _numpy(batches, 2):
        assert images.shape == (2, *size, 3)
        assert labels.shape == (2, *size, 4) and labels.dtype == np.int32
        ignored = (labels == 255).any(-1)
        assert (labels[ignored] == 255).all() and (labels[~ignored].sum(-1) == 1).all()
    assert (labels[1] == 255).all()
    if BACKEND == "tensorflow":
        pipeline = data.tf_batches(ManyLabels(), 2, **options)
        assert pipeline.element_spec[1].shape == (2, *size, 4)
        _same(_numpy(batches, 2), _tf(pipeline, 9))
