import resource
import zipfile

import keras
import numpy as np
import pytest

from keras_seg.training.checkpoint import (
    BEST,
    LAST,
    PREVIOUS,
    load_checkpoint,
    newest_checkpoint,
    read_progress,
    save_checkpoint,
)


def trained(steps=3, units=2):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, name="dense")])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.optimizer.build(model.trainable_variables)
    if steps:
        x = np.random.default_rng(0).normal(size=(4 * steps, 4))
        model.fit(x, x[:, :units], batch_size=4, verbose=0, shuffle=False)
    return model


def state(model):
    both = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(v) for v in both]


def test_weights_optimizer_and_progress_come_back_from_one_file(tmp_path):
    model = trained(steps=3)
    progress = {"epoch": 7, "history": [{"epoch": 7, "loss": 0.5}]}
    save_checkpoint(model, tmp_path, progress, best=False)
    other = trained(steps=0)
    assert load_checkpoint(other, tmp_path / LAST) == progress
    assert int(other.optimizer.iterations) == 3
    for one, two in zip(state(model), state(other), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_file_is_an_ordinary_keras_model(tmp_path):
    model = trained()
    save_checkpoint(model, tmp_path, {"epoch": 1}, best=True)
    x = np.ones((2, 4), "float32")
    again = keras.models.load_model(tmp_path / BEST)
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_the_last_two_and_the_best_are_kept(tmp_path):
    model = trained()
    for epoch in (1, 2, 3):
        save_checkpoint(model, tmp_path, {"epoch": epoch}, best=epoch == 2)
    found = {name: read_progress(tmp_path / name)["epoch"] for name in (LAST, PREVIOUS, BEST)}
    assert found == {LAST: 3, PREVIOUS: 2, BEST: 2}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([LAST, PREVIOUS, BEST])


@pytest.mark.parametrize("damage", ["cut", "flipped bit", "empty", "missing"])
def test_the_newest_whole_file_is_found(tmp_path, damage):
    model = trained()
    for epoch in (1, 2, 3):
        save_checkpoint(model, tmp_path, {"epoch": epoch}, best=epoch == 1)
    content = bytearray((tmp_path / LAST).read_bytes())
    if damage == "missing":
        (tmp_path / LAST).unlink()
    else:
        if damage == "cut":
            content = content[: len(content) // 2]
        elif damage == "flipped bit":
            content[len(content) // 2] ^= 1
        else:
            content = b""
        (tmp_path / LAST).write_bytes(content)
    name, progress, problems = newest_checkpoint(tmp_path)
    assert (name, progress["epoch"]) == (PREVIOUS, 2)
    if damage != "missing":
        assert len(problems) == 1
        assert f"{LAST} is damaged ({len(content)} bytes)" in problems[0]


def test_an_empty_folder_has_none(tmp_path):
    assert newest_checkpoint(tmp_path) == (None, None, [])


def test_another_network_does_not_fit(tmp_path):
    save_checkpoint(trained(units=2), tmp_path, {"epoch": 1}, best=False)
    with pytest.raises(ValueError, match=rf"{LAST} does not fit.*another folder"):
        load_checkpoint(trained(units=3, steps=0), tmp_path / LAST)


def test_another_optimizer_does_not_fit(tmp_path):
    """Keras itself only warns, and trains on with an empty state."""
    save_checkpoint(trained(), tmp_path, {"epoch": 1}, best=False)
    other = trained(steps=0)
    other.compile(keras.optimizers.SGD(0.01), "mse")
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(ValueError, match=rf"{LAST} does not fit.*optimizer"):
        load_checkpoint(other, tmp_path / LAST)


def test_a_plain_model_is_no_checkpoint(tmp_path):
    trained().save(tmp_path / LAST)
    with pytest.raises(ValueError, match="no checkpoint of keras_seg"):
        read_progress(tmp_path / LAST)


def test_a_full_disk_leaves_the_former_checkpoint(tmp_path):
    """Keras writes in place: the old file would be cut off at the limit and lost."""
    model = trained()
    save_checkpoint(model, tmp_path, {"epoch": 1}, best=True)
    size = (tmp_path / LAST).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        with pytest.raises(ValueError, match="Cannot write a checkpoint in .*make room"):
            save_checkpoint(model, tmp_path, {"epoch": 2}, best=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {read_progress(tmp_path / name)["epoch"] for name in (LAST, BEST)} == {1}
    assert sorted(p.name for p in tmp_path.iterdir()) == [BEST, LAST]


def test_the_progress_lies_beside_what_keras_wrote(tmp_path):
    save_checkpoint(trained(), tmp_path, {"epoch": 1}, best=False)
    with zipfile.ZipFile(tmp_path / LAST) as archive:
        assert {"config.json", "model.weights.h5", "metadata.json"} < set(archive.namelist())
