"""TF_CONFIG, and two workers on loopback: one is killed, both start again, one is asked to end."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from one_worker import samples
from small_run import network

from keras_seg.training import choose_strategy
from keras_seg.training.batches import EvaluationBatches, Targets
from keras_seg.training.checkpoint import BEST, LAST, read_progress
from keras_seg.training.multi_worker import Cluster, read_tf_config

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
LONGEST = 300  # seconds, on a busy machine


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, HERE / "one_worker.py", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"} | environment,
    )


def free_addresses(count):
    """Of ports that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def start_two(folder, out, *event):
    """Two workers; each gives another run folder, of which only the chief's is to be used."""
    cluster = {"worker": free_addresses(2)}
    return [
        start(
            f"{folder}{rank}",
            f"{out}{rank}",
            *event,
            TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}}),
        )
        for rank in (0, 1)
    ]


def finish(processes):
    """(exit status, error output) of each; none of them is left running."""
    try:
        errors = [process.communicate(timeout=LONGEST)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, e[-3000:]) for p, e in zip(processes, errors, strict=True)]


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """What three pairs of processes leave behind, and one process alone."""
    folder = tmp_path_factory.mktemp("workers")
    alone = start(folder / "alone", folder / "one")
    broken = finish(start_two(folder / "run", folder / "broken", "kill", 1))
    saved = read_progress(folder / "run0" / LAST)
    manifest = json.loads((folder / "run0" / "manifest.json").read_text())
    again = finish([alone, *start_two(folder / "run", folder / "two", "terminate", 2)])
    assert [status for status, _ in again] == [0, 0, 0], again
    told = {
        name: json.loads((folder / f"{name}.json").read_text()) for name in ("one", "two0", "two1")
    }
    for rows in (entry["history"] for entry in told.values()):
        for row in rows:
            del row["seconds"]
    return {
        "folder": folder,
        "broken": broken,
        "saved": saved,
        "manifest": manifest,
        "weights": {name: np.load(folder / f"{name}.npz") for name in told},
        **told,
    }


@pytest.mark.slow
def test_a_lost_worker_ends_the_others_and_costs_one_epoch(story):
    (status, error), (killed, _) = story["broken"]
    assert killed == -signal.SIGKILL
    assert status == 1
    assert "ConnectionError: Another worker was lost" in error
    assert "same command" in error
    assert story["saved"]["epoch"] == 1
    assert story["manifest"]["state"] == "failed"


@pytest.mark.slow
def test_one_request_to_end_ends_all_after_the_same_step(story):
    for name in ("two0", "two1"):
        assert story[name]["status"] == 128 + signal.SIGTERM
        assert story[name]["last"] == [2, 0]


@pytest.mark.slow
def test_both_have_the_weights_of_one_process(story):
    """Through a kill and a request to end, with synchronised batch normalisation, unevenly ignored
    pixels, and the optimizer's state."""
    one = story["weights"]["one"]
    for name in ("two0", "two1"):
        two = story["weights"][name]
        assert two.files == one.files
        for key in one.files:
            np.testing.assert_allclose(two[key], one[key], rtol=0, atol=1e-5)
    for key in one.files:
        np.testing.assert_array_equal(story["weights"]["two0"][key], story["weights"]["two1"][key])


@pytest.mark.slow
def test_both_have_the_scores_of_one_process(story):
    one = story["one"]
    assert [row["epoch"] for row in one["history"]] == [1, 2, 3]
    for name in ("two0", "two1"):
        two = story[name]
        assert two["scores"] == one["scores"]
        assert two["best_epoch"] == one["best_epoch"]
        for mine, theirs in zip(two["history"], one["history"], strict=True):
            assert mine == pytest.approx(theirs, rel=1e-4)


@pytest.mark.slow
def test_the_chief_alone_writes(story):
    folder = story["folder"]
    names = {path.name for path in (folder / "run0").iterdir()}
    assert {LAST, BEST, "manifest.json", "history.csv", "metrics.json", "logs", "previews"} < names
    assert len(list((folder / "run0" / "previews").iterdir())) == 3
    assert not (folder / "run1").exists()
    assert story["two1"]["folder"] == str(folder / "run0")
    manifest = json.loads((folder / "run0" / "manifest.json").read_text())
    assert (manifest["state"], manifest["devices"]) == ("finished", 2)


STAGES = """
import sys
from small_run import network
from keras_seg import data, training

stages = [
    training.Stage(name="first", epochs=2),
    training.Stage(name="second", epochs=1, start="last", trainable="logits"),
]
shapes = data.shapes(8, size=(32, 32))
options = {"batch_size": 4, "previews": 0, "tensorboard": False, "verbose": 0}
result = training.train_stages(stages, network, shapes, shapes, folder=sys.argv[1], **options)
print([row["loss"] for row in result.history])
"""


def in_own_folders(folder, *command):
    """What two workers print that run `command`, each in a folder of its own."""
    cluster = {"worker": free_addresses(2)}
    processes = []
    for rank in (0, 1):
        (folder / str(rank)).mkdir()
        config = {"cluster": cluster, "task": {"type": "worker", "index": rank}}
        processes.append(
            subprocess.Popen(
                [sys.executable, *map(str, command)],
                cwd=folder / str(rank),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ
                | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "TF_CONFIG": json.dumps(config)},
            )
        )
    try:
        found = [process.communicate(timeout=LONGEST) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], found
    return [out for out, _ in found]


@pytest.mark.slow
def test_stages_need_no_shared_folder(tmp_path):
    """Both workers go on from the chief's last weights."""
    one, other = in_own_folders(tmp_path, "-c", STAGES, "run")
    assert one == other
    assert (tmp_path / "0" / "run" / "stages.csv").exists()
    assert not list((tmp_path / "1").iterdir())


@pytest.mark.slow
def test_a_recipe_runs_on_several_workers(tmp_path):
    """One that makes its optimizers itself, trains in stages and scores after each. The chief alone
    exports."""
    command = [ROOT / "recipes" / "deeplab_v3_voc.py", "--smoke", "--folder", "run", "--export"]
    in_own_folders(tmp_path, *command)
    scores = [tmp_path / rank / "run-smoke" / "test_scores.json" for rank in "01"]
    assert scores[0].read_text() == scores[1].read_text()
    files = [tmp_path / rank / "run-smoke" / "files" for rank in "01"]
    assert (files[0] / "model_int8.tflite").exists() and not files[1].exists()


@pytest.mark.slow
def test_a_port_that_is_taken_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        addresses = [f"127.0.0.1:{taken.getsockname()[1]}", *free_addresses(1)]
        task = {"type": "worker", "index": 0}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        ((status, error),) = finish([start(tmp_path / "run", tmp_path / "out", TF_CONFIG=config)])
    assert status == 1
    assert "ValueError: This worker cannot listen at its address in TF_CONFIG" in error


def test_workers_validate_their_parts():
    """9 images in batches of 4: the second worker's last part is padding alone."""
    dataset, targets = samples(), Targets(network())
    whole = EvaluationBatches(dataset, 4, targets)
    parts = [EvaluationBatches(dataset, 4, targets, None, (rank, 2)) for rank in (0, 1)]
    assert [part.num_batches for part in parts] == [whole.num_batches] * 2
    for step in range(whole.num_batches):
        for all_of_it, *theirs in zip(whole[step], *(part[step] for part in parts), strict=True):
            np.testing.assert_array_equal(np.concatenate(theirs), all_of_it)


def test_a_cluster_cannot_be_joined_late(monkeypatch):
    import tensorflow as tf

    tf.constant(0)
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": WORKERS}, "task": TASK}))
    with pytest.raises(ValueError, match=r"Call keras_seg.training.choose_strategy\(\) first"):
        choose_strategy()
    with pytest.raises(ValueError, match="2 workers of TF_CONFIG.*CUDA_VISIBLE_DEVICES"):
        choose_strategy(["CPU:0"])


def test_a_cluster_of_one_is_no_cluster(monkeypatch):
    config = {"cluster": {"worker": WORKERS[:1]}, "task": TASK}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert choose_strategy() is None


TASK = {"type": "worker", "index": 0}
WORKERS = ["10.0.0.1:2222", "10.0.0.2:2222"]


@pytest.mark.parametrize(
    ("config", "cluster"),
    [
        ({"cluster": {"worker": WORKERS}, "task": {"type": "worker", "index": 1}}, Cluster(2, 1)),
        ({"cluster": {"worker": WORKERS}, "task": {"type": "worker", "index": "1"}}, Cluster(2, 1)),
        ({"cluster": {"chief": ["a.b-c:1"], "worker": WORKERS}, "task": TASK}, Cluster(3, 1)),
        (
            {"cluster": {"chief": ["[::1]:1"], "worker": WORKERS}, "environment": "cloud"}
            | {"task": {"type": "chief", "index": 0}},
            Cluster(3, 0),
        ),
    ],
)
def test_tf_config(monkeypatch, config, cluster):
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert read_tf_config() == cluster


def test_no_tf_config(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert read_tf_config() is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{'cluster': 1}", "is not JSON"),
        ([], 'no "cluster"'),
        ({"task": TASK}, 'no "cluster"'),
        ({"cluster": {}, "task": TASK}, 'no "cluster"'),
        ({"cluster": {"worker": WORKERS}}, 'no "task"'),
        ({"cluster": {"worker": WORKERS}, "task": {"type": "worker"}}, 'no "task"'),
        ({"cluster": {"worker": WORKERS, "ps": ["c:1"]}, "task": TASK}, "Unknown job 'ps'"),
        ({"cluster": {"worker": []}, "task": TASK}, "list the addresses"),
        ({"cluster": {"worker": "a:1"}, "task": TASK}, "list the addresses"),
        ({"cluster": {"worker": ["10.0.0.1"]}, "task": TASK}, "'10.0.0.1'.*no host:port"),
        ({"cluster": {"worker": ["a:99999"]}, "task": TASK}, "'a:99999'.*no host:port"),
        ({"cluster": {"worker": ["http://a:1"]}, "task": TASK}, "no host:port"),
        ({"cluster": {"worker": ["a:1", "a:1"]}, "task": TASK}, "one address for two tasks"),
        ({"cluster": {"chief": ["a:1", "b:1"]}, "task": TASK}, "2 chiefs"),
        ({"cluster": {"worker": WORKERS}, "task": {"type": "chief", "index": 0}}, "type 'chief'"),
        ({"cluster": {"worker": WORKERS}, "task": {"type": "worker", "index": 2}}, r"0 \.\. 1"),
        ({"cluster": {"worker": WORKERS}, "task": {"type": "worker", "index": -1}}, r"0 \.\. 1"),
        ({"cluster": {"worker": WORKERS}, "task": {"type": "worker", "index": "x"}}, r"0 \.\. 1"),
    ],
)
def test_malformed_tf_config(monkeypatch, config, message):
    text = config if isinstance(config, str) else json.dumps(config)
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=f"TF_CONFIG.*{message}"):
        read_tf_config()
