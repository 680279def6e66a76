"""Mixing two samples: every pixel comes whole from one; the partner follows from the seed."""

import keras
import numpy as np
import pytest

from keras_seg import data

needs_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data")
SIZE = (40, 50)


def _sample(value, label):
    """(image, label, weights), all of which say which sample a pixel is from."""
    image = np.full((*SIZE, 3), value, "uint8")
    return image, label.astype("uint8"), np.full(SIZE, value, "float32")


def _pair():
    one = _sample(1, np.zeros(SIZE))
    label = np.zeros(SIZE)
    label[5:15, 5:20] = 1
    label[20:35, 10:30] = 2
    label[0:3] = 255
    return one, _sample(2, label)


def _taken(mixed, one, two):
    """Where `mixed` is of `two`; asserts that each pixel is wholly of one of them."""
    taken = mixed[2] == 2
    for array, first, second in zip(mixed, one, two, strict=True):
        mask = taken[..., None] if array.ndim == 3 else taken
        assert np.array_equal(array, np.where(mask, second, first))
    return taken


def test_cut_mix_cuts_a_rectangle():
    one, two = _pair()
    shares = []
    for seed in range(200):
        mixed = data.CutMix(probability=1.0)(one, two, np.random.default_rng(seed))
        taken = _taken(mixed, one, two)
        rows, columns = taken.any(1), taken.any(0)
        assert np.array_equal(taken, rows[:, None] & columns)
        for side in (rows, columns):  # one run
            assert (np.diff(side.astype(int)) == 1).sum() + side[0] <= 1
        shares.append(taken.mean())
    # The share is uniform but for what the border cuts off: of a side r, centred uniformly,
    # r - r**2 / 4 is left on the mean.
    side = np.sqrt((np.arange(10000) + 0.5) / 10000)
    assert abs(np.mean(shares) - ((side - side**2 / 4) ** 2).mean()) < 0.05
    assert (one[0] == 1).all() and (one[1] == 0).all()  # nothing was written to


def test_probability():
    one, two = _pair()
    for mix in (data.CutMix(0.3, alpha=2.0), data.CopyPaste(0.3, classes=(1,))):
        rngs = [np.random.default_rng(seed) for seed in range(200)]
        mixed = sum((mix(one, two, rng)[0] == 2).any() for rng in rngs)
        assert 40 <= mixed <= 80
    never = data.CutMix(probability=0.0)(one, two, np.random.default_rng(0))
    assert all(np.array_equal(a, b) for a, b in zip(never, one, strict=True))


@pytest.mark.parametrize("many", [False, True])
def test_copy_paste_of_classes(many):
    one, two = _pair()
    label = two[1]
    if many:
        one, two = (
            (s[0], (s[1][..., None] == np.arange(4)).astype("uint8"), s[2]) for s in (one, two)
        )
    seen = set()
    for seed in range(40):
        mix = data.CopyPaste(1.0, classes=(1, 2, 3))
        taken = _taken_by_weight(mix(one, two, np.random.default_rng(seed)), one, two)
        chosen = frozenset(np.unique(label[taken]).tolist())
        assert np.array_equal(taken, np.isin(label, list(chosen)))
        seen.add(chosen)
    assert seen == {frozenset({1}), frozenset({2}), frozenset({1, 2})}
    # What the partner does not show cannot be pasted.
    mixed = data.CopyPaste(1.0, classes=(3,))(one, two, np.random.default_rng(0))
    assert (mixed[2] == 1).all()


def _taken_by_weight(mixed, one, two):
    taken = mixed[2] == 2
    for array, first, second in zip(mixed, one, two, strict=True):
        assert np.array_equal(array[taken], second[taken])
        assert np.array_equal(array[~taken], first[~taken])
    return taken


def test_copy_paste_of_instances():
    one, two = _pair()
    objects = np.zeros(SIZE, "int32")
    objects[5:15, 5:20] = 70_000
    objects[20:35, 10:20], objects[20:35, 20:30] = 8, 9
    seen = set()
    for seed in range(60):
        mix = data.CopyPaste(1.0, instances=True)
        taken = _taken(mix(one, (*two, objects), np.random.default_rng(seed)), one, two)
        chosen = frozenset(np.unique(objects[taken]).tolist())
        assert np.array_equal(taken, np.isin(objects, list(chosen))) and 0 not in chosen
        seen.add(chosen)
    assert len(seen) == 7  # every choice but none
    mix = data.CopyPaste(1.0, classes=(2,), instances=True)
    for seed in range(10):
        taken = _taken(mix(one, (*two, objects), np.random.default_rng(seed)), one, two)
        assert taken.any() and set(np.unique(objects[taken])) <= {8, 9}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: data.CutMix(probability=1.1), "probability"),
        (lambda: data.CutMix(alpha=0), "alpha"),
        (lambda: data.CopyPaste(-0.1, classes=(1,)), "probability"),
        (lambda: data.CopyPaste(), "classes=.*instances=True"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def _bits(batches):
    return [[np.asarray(a).tobytes() for a in batch] for batch in batches]


AUGMENT = data.Augment(crop=(24, 32), rotation=20)
OPTIONS = {"augment": AUGMENT, "shuffle": True, "seed": 5, "mix": data.CutMix(0.7)}


@pytest.fixture(scope="module")
def dataset():
    return data.shapes(7, size=(32, 40))


def test_mixed_batches_follow_from_the_seed(dataset):
    batches = data.NumpyBatches(dataset, 3, **OPTIONS)
    first = _bits(batches[i] for i in range(3))
    assert first == _bits(data.NumpyBatches(dataset, 3, cache=True, **OPTIONS)[i] for i in range(3))
    batches.set_epoch(1)
    assert first != _bits(batches[i] for i in range(3))
    plain = data.NumpyBatches(dataset, 3, **{**OPTIONS, "mix": None})
    never = data.NumpyBatches(dataset, 3, **{**OPTIONS, "mix": data.CutMix(0.0)})
    plain = _bits(plain[i] for i in range(3))
    assert plain != first and plain == _bits(never[i] for i in range(3))
    stream = data.NumpyBatches(dataset, 3, repeat=True, workers=2, **OPTIONS)
    assert first == _bits(stream[i] for i in range(3))


@needs_tensorflow
@pytest.mark.parametrize("mix", [data.CutMix(0.7), data.CopyPaste(0.9, classes=(1, 2, 3))])
def test_tf_mixes_the_same_bits(dataset, mix):
    options = {**OPTIONS, "mix": mix}
    batches = data.NumpyBatches(dataset, 3, **options)
    assert _bits(batches[i] for i in range(3)) == _bits(data.tf_batches(dataset, 3, **options))


def test_every_pixel_of_a_batch_is_of_a_sample_or_its_partner():
    """Pictures of one value each: a mixed one shows two, never one that is not in the data set."""
    source = [np.full((16, 20, 3), 10 * i, "uint8") for i in range(5)]
    dataset = Pictures(source, [np.full((16, 20), i, "uint8") for i in range(5)])
    partners = set()
    for epoch in range(30):
        batches = data.NumpyBatches(dataset, 5, mix=data.CutMix(1.0), initial_epoch=epoch)
        images, labels = batches[0]
        assert np.array_equal(images[..., 0], labels * 10)
        for i, label in enumerate(labels):
            partners.update((i, int(other)) for other in np.unique(label) if other != i)
    assert partners == {(i, j) for i in range(5) for j in range(5) if i != j}


def test_objects_are_pasted_from_data_that_knows_them():
    """`instances` come from the data set, moved as the label is, with weights or without."""
    table = data.shapes(1).table
    maps = []
    for i in range(4):
        objects = np.zeros((32, 40), "int32")
        objects[4:12, 4:12], objects[18:28, 20:36] = 1 + i, 300 + i
        maps.append(objects)
    images = [
        np.where(m > 0, 50 + 40 * i, 5).astype("uint8")[..., None] for i, m in enumerate(maps)
    ]
    source = Source(images, [(m > 0).astype("uint8") for m in maps], maps)
    dataset = data.SegmentationDataset(source, table, list("abcd"), channels=1)
    options = {
        "augment": data.Augment(crop=(32, 40), scale=(1.0, 1.0)),
        "mix": data.CopyPaste(1.0, instances=True),
    }
    plain = {**options, "mix": None}
    weighted = dataset.weighted(lambda ids: 1.0 + (ids > 0))
    changed = 0
    for each in (dataset, weighted):
        batches = data.NumpyBatches(each, 4, **options)[0]
        before = data.NumpyBatches(each, 4, **plain)[0]
        assert np.array_equal(batches[1] == 1, batches[0][..., 0] > 5)
        pasted = batches[0][..., 0] != before[0][..., 0]
        assert (batches[1][pasted] == 1).all()
        changed += pasted.any()
        if len(batches) == 3:
            assert np.array_equal(batches[2], 1.0 + batches[1])
    assert changed == 2


@pytest.mark.parametrize("own", [False, True])
def test_data_that_knows_no_objects(own):
    images, labels = [np.zeros((16, 20, 3), "uint8")] * 2, [np.zeros((16, 20), "uint8")] * 2
    dataset = Pictures(images, labels)
    if not own:
        dataset = data.SegmentationDataset(object(), Pictures.table, ["a", "b"])
    with pytest.raises(ValueError, match="which pixels belong to one object"):
        data.NumpyBatches(dataset, 2, mix=data.CopyPaste(instances=True))


def test_what_cannot_be_mixed():
    dataset = Pictures(
        [np.zeros((16, 20, 3), "uint8"), np.zeros((16, 24, 3), "uint8")],
        [np.zeros((16, 20), "uint8"), np.zeros((16, 24), "uint8")],
    )
    with pytest.raises(ValueError, match=r"0 is 16x20.*and 1.*16x24.*Augment\(crop="):
        data.NumpyBatches(dataset, 1, mix=data.CutMix())[0]
    with pytest.raises(ValueError, match="mix needs at least 2 samples"):
        data.NumpyBatches(data.shapes(1), 1, mix=data.CutMix())


class Source:
    """A source in memory, with instances."""

    image_paths = mask_paths = None
    extras = ("instances",)

    def __init__(self, images, labels, maps):
        self.images, self.labels, self.maps = images, labels, maps

    def both(self, index):
        return self.images[index], self.labels[index]

    def extra(self, index, name):
        return self.maps[index]


class Pictures:
    """A data set of one's own: what batches need and no more."""

    channels = 3
    table = data.LabelTable.default(5)

    def __init__(self, images, labels):
        self.images, self.labels = images, labels
        self.names = [str(i) for i in range(len(images))]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index], self.names[index]
