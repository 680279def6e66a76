"""Edge weights: the values of the specification, exact distances, one disk file a map, batches."""

import sys

import keras
import numpy as np
import pytest

from keras_seg import data

needs_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data")


@pytest.fixture
def cells():
    """The map of specs/losses.md, section 3: three cells of 2 x 2."""
    instances = np.zeros((6, 9), "int32")
    instances[1:3, 1:3], instances[1:3, 4:6], instances[4:6, 6:8] = 1, 2, 3
    return instances


def test_pinned_values(cells):
    weights = data.edge_weights(cells)
    assert weights.dtype == np.float32
    rows = {
        0: "6.415943 8.071651 9.110361 9.521438 9.110361 8.071651 6.563965 5.594290 4.459240",
        3: "6.415943 8.071651 9.110361 9.521438 9.110361 9.899691 9.899691 9.110361 7.577795",
    }
    for row, values in rows.items():
        np.testing.assert_allclose(weights[row], [float(v) for v in values.split()], atol=1e-6)
    assert weights[1, 3] == pytest.approx(10.231163, abs=1e-6)
    assert weights[5, 0] == pytest.approx(3.638286, abs=1e-6)
    assert (weights[cells > 0] == 1).all()
    everywhere = data.edge_weights(cells, background_only=False)
    assert everywhere[1, 1] == pytest.approx(9.352702, abs=1e-6)
    assert np.array_equal(everywhere[cells == 0], weights[cells == 0])
    balanced = data.edge_weights(cells, class_weights=(12 / 42, 1))
    assert balanced[1, 3] == pytest.approx(9.516878, abs=1e-6) and balanced[1, 1] == 1


def test_the_ids_do_not_matter_and_a_lone_cell_has_no_edge(cells):
    ids = np.array([0, 40000, 7, 500])[cells]
    assert np.array_equal(data.edge_weights(ids), data.edge_weights(cells))
    for few in (np.zeros((3, 4), "uint8"), np.ones((3, 4), "uint8"), (cells == 1).astype(int)):
        assert (data.edge_weights(few, class_weights=(0.5, 2))[few == 0] == 0.5).all()
        assert (data.edge_weights(few, background_only=False) == 1).all()
    assert (data.edge_weights(cells, w0=0) == 1).all()


def test_distances_are_exact_however_far_the_cells_are():
    """Against the distance to each pixel of each cell, one by one."""
    rng = np.random.default_rng(0)
    instances = np.zeros((90, 70), "int32")
    for number in range(1, 9):
        y, x = rng.integers(0, (85, 65))
        instances[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = number
    yx = np.stack(np.indices(instances.shape), -1)[:, :, None]
    distances = [
        np.sqrt(((yx - np.argwhere(instances == n)) ** 2).sum(-1)).min(-1)
        for n in np.unique(instances)[1:]
    ]
    d1, d2 = np.sort(distances, axis=0)[:2]
    for sigma in (1.0, 5.0):
        expected = 1 + 10 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
        found = data.edge_weights(instances, sigma=sigma, background_only=False)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ([[1, 1, 2, 2]], [[1, 1, 0, 2]]),
        ([[5, 5, 0, 2]], [[5, 5, 0, 2]]),
        ([[1, 0], [0, 2]], [[1, 0], [0, 0]]),
        ([[2, 2, 2], [3, 3, 2], [3, 3, 1]], [[2, 2, 2], [0, 0, 0], [3, 0, 1]]),
    ],
)
def test_touching_objects_get_a_line_between_them(instances, expected):
    separated = data.separate_touching(np.array(instances, "uint16"))
    assert separated.dtype == np.uint16 and separated.tolist() == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"instances": np.zeros((2, 2))}, "integers"),
        ({"instances": np.zeros((1, 2, 2), int)}, r"shape \(1, 2, 2\)"),
        ({"instances": np.array([[-1, 0]])}, "lowest -1"),
        ({"sigma": 0}, "sigma must be above 0"),
        ({"w0": -1}, "w0"),
        ({"class_weights": (1, 2, 3)}, "background, object"),
        ({"class_weights": (1, -2)}, "background, object"),
    ],
)
def test_bad_input_says_why(options, words):
    with pytest.raises(ValueError, match=words):
        data.edge_weights(**{"instances": np.zeros((2, 2), int), **options})
    if "instances" not in options:
        with pytest.raises(ValueError, match=words):
            data.EdgeWeights(**options)


def test_without_scipy_the_extra_is_named(cells, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ValueError, match=r"keras-seg\[eval\]"):
        data.edge_weights(cells)


def test_a_map_is_made_once(cells, tmp_path, monkeypatch):
    made = data.EdgeWeights(cache=tmp_path / "maps")(cells)
    np.testing.assert_allclose(made, data.edge_weights(cells), rtol=5e-4)
    assert np.array_equal(made, data.EdgeWeights()(cells))
    (file,) = (tmp_path / "maps").iterdir()
    monkeypatch.setattr("keras_seg.data.weight_maps.edge_weights", None)  # a call would fail
    assert np.array_equal(made, data.EdgeWeights(cache=tmp_path / "maps")(cells))
    monkeypatch.undo()

    data.EdgeWeights(sigma=3, cache=tmp_path / "maps")(cells)
    data.EdgeWeights(cache=tmp_path / "maps")(cells[::-1])
    assert len(list((tmp_path / "maps").iterdir())) == 3
    file.write_bytes(file.read_bytes()[:-30])
    assert np.array_equal(made, data.EdgeWeights(cache=tmp_path / "maps")(cells))


@pytest.fixture
def touching(tmp_path, save, png):
    """Two data sets of one picture with two cells side by side: as they are, and separated."""
    save(tmp_path / "images" / "a.png", np.zeros((6, 8, 3)))
    (tmp_path / "instances").mkdir()
    png(tmp_path / "instances" / "a.png", [[0, 1, 1, 1, 300, 300, 300, 0]] * 6, 16)
    return data.instances(tmp_path), data.open_dataset(tmp_path, separate=True)


def test_data_sets_carry_weights(touching):
    plain, separate = touching
    assert not plain.has_weights and separate.layout == "instances"
    assert plain[0].label[0].tolist() == [0, 1, 1, 1, 1, 1, 1, 0]
    assert separate[0].label[0].tolist() == [0, 1, 1, 1, 0, 1, 1, 0]
    weighted = separate.weighted(data.EdgeWeights())
    for dataset in (weighted, weighted.cached(), weighted.subset([0]), weighted.scaled(2)):
        label, weights = dataset[0].label, dataset.read_weights(0)
        assert dataset.has_weights and weights.shape == label.shape
        assert (weights[:, label.shape[1] // 2] > 8).all() and (weights[label > 0] == 1).all()
    kept = weighted.cached()
    assert kept.read_weights(0) is kept.read_weights(0)
    with pytest.raises(ValueError, match='layout="instances"'):
        data.SegmentationDataset(object(), plain.table, []).weighted(data.EdgeWeights())


def _weighted_shapes():
    """Weights that tell the label, so that a pixel of one shows that of the other."""
    return data.shapes(5, size=(40, 48)).weighted(lambda ids: np.where(ids > 0, 3.0, 2.0))


AUGMENT = data.Augment(crop=(56, 44), rotation=30, vertical_flip=True, blur=0.5, color=0.2)


def test_weights_move_with_the_label():
    dataset = _weighted_shapes()
    plain = data.NumpyBatches(data.shapes(5, size=(40, 48)), 2, augment=AUGMENT, shuffle=True)
    batches = data.NumpyBatches(dataset, 2, augment=AUGMENT, shuffle=True, pad_batch=True)
    for step in range(3):
        images, labels, weights = batches[step]
        assert weights.shape == labels.shape == (2, 56, 44) and weights.dtype == np.float32
        expected = np.where(labels == 255, 0, np.where(labels > 0, 3, 2))
        assert np.array_equal(weights, expected)
        for one, other in zip(plain[step], (images, labels), strict=True):
            assert np.array_equal(one, other[: len(one)])
    padded = data.NumpyBatches(dataset, 2, size=(50, 60))[0]
    assert (padded[2][padded[1] == 255] == 0).all() and padded[2].max() == 3


@needs_tensorflow
def test_tf_gives_the_same_bits():
    options = {"augment": AUGMENT, "shuffle": True, "drop_remainder": True}
    batches = data.NumpyBatches(_weighted_shapes(), 2, **options)
    pipeline = data.tf_batches(_weighted_shapes(), 2, **options)
    assert pipeline.element_spec[2].shape == (2, 56, 44)
    for step, batch in enumerate(pipeline):
        for one, other in zip(batches[step], batch, strict=True):
            assert np.array_equal(one, other.numpy())
