"""Many machines: the processes that TF_CONFIG names train one network (TensorFlow only).

Every worker runs the same program. Each reads its own part of every batch; gradients, the sums in
the losses and the statistics of batch normalisation are summed over all of them, so that the
weights are those of one process with the whole batch. What belongs to the run and not to a worker
(folder, lock, checkpoints, history, pictures, scores) is the chief's, and the others are told.

The loop of Keras 3's `fit` fails on `MultiWorkerMirroredStrategy` in two places, which
`Team.prepare` replaces on the model. One of them has a private name: tests/training/
test_multi_worker.py pins it with two processes.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import re
import tempfile

import keras
import numpy as np

from keras_seg.training.folder import held
from keras_seg.utils import unknown_name

JOBS = ("chief", "worker")
_BYTES_OF_LENGTH = 8


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What TF_CONFIG says.

    Attributes:
        workers: number of processes that train together, the chief among them.
        rank: of this one, from 0; 0 is the chief.
    """

    workers: int
    rank: int


def read_tf_config():
    """The `Cluster` of the environment variable TF_CONFIG, or None where it is not set.

    It is JSON, the same on all machines but for "task":

        {"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
         "task": {"type": "worker", "index": 0}}

    The cluster may name one further task as "chief"; otherwise worker 0 is it.

    Raises:
        ValueError: if it is anything else.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
    except ValueError as error:
        raise _malformed(f"is not JSON ({error}): {text[:200]!r}") from error
    cluster = config.get("cluster") if isinstance(config, dict) else None
    if not isinstance(cluster, dict) or not cluster:
        raise _malformed('has no "cluster"')
    for job, addresses in cluster.items():
        if job not in JOBS:
            raise _malformed(f"has a cluster with {unknown_name('job', job, JOBS)}")
        if not isinstance(addresses, list) or not addresses:
            raise _malformed(f'must list the addresses of "{job}", got {addresses!r}')
        for address in addresses:
            if not _is_address(address):
                raise _malformed(f'has the address {address!r} of "{job}", which is no host:port')
    everyone = [address for addresses in cluster.values() for address in addresses]
    if len(set(everyone)) < len(everyone):
        raise _malformed(f"has one address for two tasks: {', '.join(sorted(everyone))}")
    chiefs = len(cluster.get("chief", ()))
    if chiefs > 1:
        raise _malformed(f"has {chiefs} chiefs; there is one at most")
    task = config.get("task")
    if not isinstance(task, dict) or not {"type", "index"} <= task.keys():
        raise _malformed('has no "task" with a "type" and an "index"')
    job, index = task["type"], task["index"]
    if job not in cluster:
        raise _malformed(f"has a task of {unknown_name('type', job, cluster)}")
    if not re.fullmatch(r"\d+", str(index)) or int(index) >= len(cluster[job]):
        raise _malformed(
            f'has the task index {index!r}; "{job}" has {len(cluster[job])} addresses, so it is '
            f"0 .. {len(cluster[job]) - 1}"
        )
    rank = int(index) + (chiefs if job == "worker" else 0)
    return Cluster(len(everyone), rank)


def is_chief():
    """Whether this process writes what belongs to the whole training."""
    cluster = read_tf_config() if keras.backend.backend() == "tensorflow" else None
    return cluster is None or cluster.rank == 0


def _malformed(what):
    """The ValueError for a TF_CONFIG that `what`."""
    return ValueError(
        f"The environment variable TF_CONFIG {what}. Expected "
        '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}; '
        "unset it to train on this machine alone."
    )


def _is_address(address):
    """Whether `address` is "host:port"; an IPv6 host stands in brackets."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^\s:/]+):(\d{1,5})", str(address))
    return found is not None and 0 < int(found[2]) < 2**16


@functools.cache
def multi_worker_strategy():
    """`tf.distribute.MultiWorkerMirroredStrategy` of TF_CONFIG; a process has one.

    Waits for the other workers. All GPUs of the machine take part, or its CPU.

    Raises:
        ValueError: if TensorFlow was used before, so that it cannot join a cluster any more, or
            another process has this worker's port.
    """
    import tensorflow as tf

    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ValueError(
            "TF_CONFIG names several workers, but TensorFlow was used before it could join them "
            f"({error}). Call keras_seg.training.choose_strategy() first thing in the program, "
            "before any tensor, variable, model or Keras optimizer is made."
        ) from error
    except tf.errors.UnknownError as error:
        raise ValueError(
            "This worker cannot listen at its address in TF_CONFIG, most likely since another "
            f"process has the port ({error.message}). End that one, or give another port in the "
            "TF_CONFIG of every worker."
        ) from error


class Team:
    """The processes of one run. Where there is one alone, it is the chief and nothing else is done.

    The methods that talk to the others must be called by all workers in the same order.

    Args:
        strategy: of `choose_strategy`.

    Attributes:
        chief: whether this process writes the run's folder.
        shard: (rank, workers), as `keras_seg.data.make_batches` takes it.
        folder: of the run, once `held`.
    """

    def __init__(self, strategy):
        cluster = read_tf_config() if _is_multi_worker(strategy) else None
        if cluster is None or cluster.workers == 1:
            cluster, strategy = Cluster(1, 0), None
        self.strategy = strategy
        self.shard = (cluster.rank, cluster.workers)
        self.chief = cluster.rank == 0
        self.folder = None

    @contextlib.contextmanager
    def held(self, folder):
        """`held(folder)` on the chief; elsewhere a temporary folder, in the end deleted.

        Raises:
            ValueError: on every worker, as `held`.
        """
        with contextlib.ExitStack() as stack:
            path = self.from_chief(lambda: str(stack.enter_context(held(folder))))
            self.folder = pathlib.Path(path)
            if not self.chief:
                path = stack.enter_context(tempfile.TemporaryDirectory(prefix="keras_seg-"))
            yield pathlib.Path(path)

    def from_chief(self, function):
        """What `function()`, called on the chief alone, returns there; as from JSON elsewhere.

        Raises:
            ValueError: on every worker, if it does on the chief.
        """
        if self.strategy is None:
            return function()
        value, answer = None, {}
        if self.chief:
            try:
                value = function()
                answer = {"value": value}
            except ValueError as error:
                answer = {"error": str(error)}
        text = json.dumps(answer, default=lambda array: array.tolist()).encode()
        length = int.from_bytes(self._send_bytes(len(text).to_bytes(_BYTES_OF_LENGTH)))
        answer = json.loads(self._send_bytes(text if self.chief else bytes(length)))
        if "error" in answer:
            raise ValueError(answer["error"])
        return value if self.chief else answer["value"]

    def any(self, flag):
        """Whether `flag` is true on any worker."""
        if self.strategy is None:
            return flag
        return bool(self._sum(np.array([flag], "float32"))[0])

    def lost_worker(self, error):
        """The error to raise for one by which TensorFlow reports a lost worker; None for others."""
        if self.strategy is None:
            return None
        from tensorflow import errors

        kinds = errors.UnavailableError, errors.AbortedError, errors.CancelledError
        if not isinstance(error, kinds):
            return None
        return ConnectionError(
            "Another worker was lost. The checkpoint of the last finished epoch stays: start all "
            f"workers again with the same command. TensorFlow says: {' '.join(str(error).split())}"
        )

    def share(self, model):
        """Give the chief's variables, those of the optimizer included, to every worker."""
        if self.strategy is None:
            return
        for variable in [*model.variables, *model.optimizer.variables]:
            mine = keras.ops.convert_to_numpy(variable)
            if mine.dtype == np.float32:
                value = self._send(mine.ravel()).reshape(mine.shape)
            else:
                value = np.frombuffer(self._send_bytes(mine.tobytes()), mine.dtype)
            variable.assign(value.reshape(mine.shape))

    def distribute(self, batches, *, whole=False):
        """For `fit`: this worker's parts of all batches, dealt to its devices.

        Args:
            batches: `tf.data.Dataset` of this worker's parts, of one known size, or None.
            whole: it has the whole batches, alike on all workers, and TensorFlow is to take this
                worker's part of each.

        Raises:
            ValueError: for whole batches of a `PyDataset`, which cannot be taken apart.
        """
        if self.strategy is None or batches is None:
            return batches
        import tensorflow as tf

        if whole:
            if not isinstance(batches, tf.data.Dataset):
                raise ValueError(
                    f"{type(batches).__name__} cannot be shared by {self.shard[1]} workers: give "
                    "a SegmentationDataset or a tf.data.Dataset."
                )
            options = tf.data.Options()
            options.experimental_distribute.auto_shard_policy = (
                tf.data.experimental.AutoShardPolicy.DATA
            )
            return batches.with_options(options)
        devices = self.strategy.num_replicas_in_sync // self.shard[1]
        if devices > 1:  # they take turns at the elements
            size = keras.tree.flatten(batches.element_spec)[0].shape[0]
            batches = batches.rebatch(size // devices, drop_remainder=True)
        return self.strategy.distribute_datasets_from_function(lambda _: batches)

    def prepare(self, model):
        """Replace on a compiled model what of `fit` and `evaluate` fails on several workers.

        Keras would build losses and metrics from the mean of a batch of images over the workers,
        and reduce the logs of a step, which are scalars, over their first axis.
        """
        if self.strategy is None:
            return
        if model.jit_compile:
            raise ValueError(
                "jit_compile=True does not work on several workers: XLA compiles no step that "
                "waits for other machines. Leave it out."
            )
        strategy = self.strategy

        def build(iterator=None, data_batch=None):
            if iterator is not None:
                data_batch = keras.tree.map_structure(
                    lambda value: strategy.experimental_local_results(value)[0],
                    next(iter(iterator._distributed_dataset)),
                )
            with strategy.scope():
                model._symbolic_build(data_batch=data_batch)

        model._maybe_symbolic_build = build
        model.train_function = _loop(strategy, model.train_step)
        model.test_function = _loop(strategy, model.test_step)

    def _send_bytes(self, data):
        """The chief's bytes, on every worker; all give as many."""
        return self._send(np.frombuffer(data, "uint8").astype("float32")).astype("uint8").tobytes()

    def _send(self, vector):
        """The chief's float32 vector, on every worker; all give one of the same length."""
        return self._sum(vector if self.chief else np.zeros_like(vector))

    def _sum(self, vector):
        """The sum of the workers' float32 vectors."""
        return self.strategy.experimental_local_results(self._total(vector))[0].numpy()

    @functools.cached_property
    def _total(self):
        import tensorflow as tf

        strategy = self.strategy
        devices = strategy.num_replicas_in_sync // self.shard[1]

        def of_replica(vector):
            replica = tf.distribute.get_replica_context()
            first = replica.replica_id_in_sync_group % devices == 0
            return replica.all_reduce("sum", tf.where(first, vector, 0.0))

        return tf.function(
            lambda vector: strategy.run(of_replica, args=(vector,)),
            input_signature=[tf.TensorSpec([None], "float32")],
        )


def _is_multi_worker(strategy):
    if strategy is None or keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _loop(strategy, step):
    """`model.train_function` or `test_function`, whose logs are those of the worker's first device.

    Scores over all workers would take an exchange for each after every step; `fit` asks for them
    at the end of an epoch.
    """
    import tensorflow as tf

    run = tf.function(lambda batch: strategy.run(step, args=(batch,)), reduce_retracing=True)

    def function(iterator):
        logs = run(next(iterator))
        return {name: strategy.experimental_local_results(v)[0] for name, v in logs.items()}

    return function
