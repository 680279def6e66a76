import csv
import json
import os
import signal

import keras
import numpy as np
import pytest
from small_run import CLASSES, StopAfter

from keras_seg import data
from keras_seg.layers import BatchNormalization
from keras_seg.training import SGD, Stage, train_stages
from keras_seg.training.checkpoint import LAST
from keras_seg.training.folder import held

SIZE = (16, 16)
TRUNK = ("trunk/kernel", "trunk/bias")


def network(head="logits", dilation=1):
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(3, 3, padding="same", dilation_rate=dilation, name="trunk")(image)
    x = BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(CLASSES, 1, name=head)(x)
    return keras.Model(image, keras.layers.Identity(name="out")(x), name="staged")


TRAIN, VAL = data.shapes(4, size=SIZE), data.shapes(2, size=SIZE, seed=1)
OPTIONS = {"batch_size": 4, "augment": None, "previews": 0, "tensorboard": False, "verbose": 0}


def train(folder, *stages, build=network, train_data=TRAIN, val_data=VAL, **options):
    optimizer = {"optimizer": SGD(1e-3, momentum=0.9)}
    options = OPTIONS | optimizer | options
    return train_stages(stages, build, train_data, val_data, folder=folder, **options)


def values(model):
    return {v.path: keras.ops.convert_to_numpy(v) for v in model.variables}


def file(path):
    return values(keras.saving.load_model(path, compile=False))


def coarse(**more):
    return Stage(**{"name": "coarse", "epochs": 3, **more})


def fine(**more):
    return Stage(**{"name": "fine", "epochs": 2, "trainable": "logits", **more})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages") / "run"
    return folder, train(folder, coarse(), fine())


def test_the_second_stage_trains_its_part_of_the_first_ones_best(finished):
    folder, result = finished
    assert list(result.stages) == ["coarse", "fine"]
    assert result.stages["coarse"].folder.name == "run-coarse"
    assert result.last.folder == folder
    best = file(folder.with_name("run-coarse") / "best.keras")
    now = values(result.model)
    for path in TRUNK:
        np.testing.assert_array_equal(now[path], best[path], err_msg=path)
    assert not np.array_equal(now["logits/kernel"], best["logits/kernel"])


def test_the_history_of_all_stages_is_one(finished):
    folder, result = finished
    with open(folder / "stages.csv", newline="") as written:
        rows = list(csv.DictReader(written))
    assert [row["stage"] for row in rows] == ["coarse"] * 3 + ["fine"] * 2
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5]
    own = [row for part in result.stages.values() for row in part.history]
    assert [row["loss"] for row in result.history] == [row["loss"] for row in own]
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in own]


class Fail(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        pytest.fail("a finished stage was trained")


def test_an_interrupted_stage_goes_on_and_a_finished_one_stays(finished, tmp_path):
    folder, ended = tmp_path / "run", []
    first, second = folder.with_name("run-coarse"), folder
    with pytest.raises(KeyboardInterrupt):
        train(folder, coarse(on_end=ended.append), fine(options={"callbacks": [StopAfter(1)]}))
    assert [result.folder for result in ended] == [first]
    before = (first / LAST).read_bytes()
    assert json.loads((second / "manifest.json").read_text())["epoch"] == 1
    stay = {"options": {"callbacks": [Fail()]}}
    result = train(folder, coarse(**stay), fine())
    assert (first / LAST).read_bytes() == before
    whole = values(finished[1].model)
    for path, value in values(result.model).items():
        np.testing.assert_allclose(value, whole[path], rtol=1e-4, atol=1e-6, err_msg=path)
    # A kill while a finished stage is looked at leaves "running".
    manifest = json.loads((first / "manifest.json").read_text())
    (first / "manifest.json").write_text(json.dumps(manifest | {"state": "running"}))
    again = train(folder, coarse(**stay), fine(**stay))
    assert again.history == result.history


def test_a_stage_cannot_be_made_longer_once_the_next_has_begun(finished):
    folder, _ = finished
    with pytest.raises(ValueError, match="'coarse' is at 3 of 4 epochs, but 'fine' in .* begun"):
        train(folder, coarse(epochs=4), fine())
    assert "state" in json.loads((folder / "manifest.json").read_text())


def test_a_stage_without_a_checkpoint_has_not_begun(tmp_path):
    rarely = {"validate_every": 9, "save_every": 9, "callbacks": [StopAfter(1)]}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", coarse(epochs=1), fine(epochs=9, options=rarely))
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["epoch"] == 1
    result = train(tmp_path / "run", coarse(epochs=2), fine(epochs=1))
    assert [row["stage"] for row in result.history] == ["coarse", "coarse", "fine"]


def test_another_network_frozen_statistics_and_the_last_weights(tmp_path):
    """As DeepLab v3: another stride, normalisation held fast. Data are made when they are due."""
    seen, opened = [], []

    def copy(before, new):
        seen.append(values(before))
        for name in ("trunk", "norm"):
            new.get_layer(name).set_weights(before.get_layer(name).get_weights())

    def later():
        opened.append((tmp_path / "run" / LAST).exists())
        return TRAIN

    result = train(
        tmp_path / "run",
        Stage(name="one", epochs=2, options={"monitor": "loss"}),
        Stage(
            name="two",
            epochs=1,
            build_model=lambda: network(head="scores", dilation=2),
            train_data=later,
            freeze_batch_norm="all",
            start="last",
            transfer=copy,
        ),
        main="one",
    )
    assert opened == [True]
    last = file(tmp_path / "run" / LAST)
    (before,) = seen
    assert before.keys() == last.keys()
    now = values(result.model)
    for path, value in last.items():
        np.testing.assert_array_equal(before[path], value, err_msg=path)
        if path.startswith("norm"):
            np.testing.assert_array_equal(now[path], value, err_msg=path)
    assert not np.array_equal(now["trunk/kernel"], last["trunk/kernel"])
    assert result.last.folder.name == "run-two"
    assert (tmp_path / "run" / "stages.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"epochs": 0}, "'fine' trains nothing: epochs must be an integer of at least 1, got 0"),
        ({"name": "a/b"}, "can be part of a folder's, got 'a/b'"),
        ({"start": "bset"}, "Unknown start 'bset'. Did you mean 'best'"),
        ({"freeze_batch_norm": "statistic"}, "Did you mean 'statistics'"),
        ({"options": {"batchsize": 3}}, "Unknown option of train 'batchsize'. Did you mean 'batch"),
        ({"options": {"folder": "x"}}, "Unknown option of train 'folder'"),
    ],
)
def test_a_stage_that_cannot_be(arguments, text):
    with pytest.raises(ValueError, match=text):
        fine(**arguments)


def frozen():
    model = network()
    model.trainable = False
    return model


@pytest.mark.parametrize(
    ("stages", "options", "text"),
    [
        ([], {}, "there must be one"),
        ([coarse(), coarse()], {}, r"names of their own .*\['coarse', 'coarse'\]"),
        ([coarse(), fine(trainable="lgits")], {}, "no layer of staged begins with 'lgits'"),
        ([coarse(), fine(trainable=lambda name: False)], {}, "'fine' trains nothing.*trunk, norm"),
        ([coarse(), fine(trainable="image")], {}, "'fine' trains nothing: no variable of staged"),
        ([fine()], {"main": "coarse"}, "Unknown main stage 'coarse'"),
        ([fine()], {"epochs": 3}, "Unknown option of train 'epochs'"),
        ([fine()], {"build": None}, "'fine' has no build_model"),
        ([fine()], {"train_data": None}, "'fine' has no train_data"),
        (
            [coarse(), fine(options={"optimizer": SGD(groups=[("trunk", 2, 0)])})],
            {},
            "stage 'fine': The group 'trunk' matches none of the 2 variables that are trained",
        ),
        (
            [coarse(), fine(options={"optimizer": SGD(head_variables=["logit/kernel"])})],
            {},
            r"stage 'fine': head_variables names variables that are not trained: \['logit/kernel'",
        ),
        (
            [coarse(), fine(options={"head_multiplier": 10, "head_layers": "trunk"})],
            {"optimizer": "sgd"},
            "stage 'fine': head_layers='trunk' chooses no trainable layer of staged",
        ),
        ([coarse(build_model=frozen)], {}, "'coarse' trains nothing: no variable of staged"),
    ],
)
def test_stages_that_cannot_be_trained(tmp_path, stages, options, text):
    with pytest.raises(ValueError, match=text):
        train(tmp_path / "run", *stages, **options)
    assert not list(tmp_path.iterdir())


class Ask(keras.callbacks.Callback):
    """SIGTERM behind the last step, as a preempted machine sends it while the scores are made."""

    def on_train_end(self, logs=None):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_behind_the_last_step_of_a_stage_keeps_the_next_from_beginning(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(SystemExit) as left:
        train(folder, coarse(epochs=1, options={"callbacks": [Ask()]}), fine(epochs=1))
    assert left.value.code == 128 + signal.SIGTERM
    first = json.loads((tmp_path / "run-coarse" / "manifest.json").read_text())
    assert first["state"] == "finished" and (tmp_path / "run-coarse" / "metrics.json").exists()
    assert not folder.exists()


def test_overwrite_deletes_later_stages_too(tmp_path):
    """Else they would be taken for having gone on from the new weights of the first."""
    folder = tmp_path / "run"
    old = train(folder, coarse(epochs=1), fine(epochs=1))
    with pytest.raises(SystemExit):
        ask = {"callbacks": [Ask()]}
        train(folder, coarse(epochs=1, options=ask), fine(epochs=1), overwrite=True, seed=1)
    new = train(folder, coarse(epochs=1), fine(epochs=1), seed=1)
    assert new.last.history[0]["loss"] != old.last.history[0]["loss"]


def test_overwrite_deletes_nothing_while_a_stage_is_in_use(tmp_path):
    folder = tmp_path / "run"
    train(folder, coarse(epochs=1), fine(epochs=1))
    last = [path / LAST for path in (tmp_path / "run-coarse", folder)]
    before = [path.read_bytes() for path in last]
    for used in (tmp_path / "run-coarse", folder):
        with held(used), pytest.raises(ValueError, match=f"{used} is in use by another run"):
            train(folder, coarse(epochs=1), fine(epochs=1), overwrite=True)
        assert [path.read_bytes() for path in last] == before
