"""Where training runs: one device or several, which precision, reproducible or not."""

import contextlib

import keras

from keras_seg.training.multi_worker import multi_worker_strategy, read_tf_config
from keras_seg.utils import unknown_name

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


def choose_strategy(devices=None):
    """What training is to run under, or None for plain Keras on one device.

    Args:
        devices: None: the machines of TF_CONFIG, if it names several; otherwise all GPUs that the
            backend sees. A strategy (on JAX a distribution) that is already active is kept.
            Or names, such as ["GPU:0", "GPU:2"], or one name. Several logical devices on the CPU
            have to be asked for before the backend starts:
            `tf.config.set_logical_device_configuration`, or
            XLA_FLAGS=--xla_force_host_platform_device_count=2 for JAX.

    Returns:
        On TensorFlow a `tf.distribute` strategy: `MultiWorkerMirroredStrategy` over several
        machines, `MirroredStrategy` over several devices, `OneDeviceStrategy` for one that is not
        the default. On JAX a `keras.distribution.DataParallel`. None where the default device alone
        is used.

    Raises:
        ValueError: for a device that is not there or named twice, `devices` on torch or together
            with several machines, several devices where this process has shared batches by others,
            a malformed TF_CONFIG, and JAX in several processes.
    """
    if isinstance(devices, str):
        devices = [devices]
    if devices is not None:
        devices = [name.removeprefix("/device:").upper() for name in devices]
        if not devices or len(set(devices)) < len(devices):
            raise ValueError(f"devices must name different devices, at least one, got {devices}.")
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _choose_on_tensorflow(devices)
    if backend == "jax":
        return _choose_on_jax(devices)
    if devices:
        raise ValueError(
            f"devices={devices} is for the TensorFlow and JAX backends; this is {backend}."
        )
    return None


def _choose_on_tensorflow(devices):
    import tensorflow as tf

    if devices is None and tf.distribute.has_strategy():
        return tf.distribute.get_strategy()
    cluster = read_tf_config()
    if cluster is not None and cluster.workers > 1:
        if devices:
            raise ValueError(
                f"devices={devices} cannot be given with the {cluster.workers} workers of "
                "TF_CONFIG, each of which uses all its GPUs: choose with CUDA_VISIBLE_DEVICES."
            )
        return multi_worker_strategy()
    known = [d.name.removeprefix("/device:") for d in tf.config.list_logical_devices()]
    gpus = [name for name in known if name.startswith("GPU")]
    if devices is None:
        devices = gpus
    _check_known(devices, known)
    if len(devices) > 1:
        return _mirrored(tuple(devices))
    if devices and devices != (gpus or ["CPU:0"])[:1]:
        return tf.distribute.OneDeviceStrategy(f"/{devices[0]}")
    return None


_strategies = {}  # devices: the `MirroredStrategy` of this process


def _mirrored(devices):
    """One strategy a process: in TensorFlow 2.21 the exchanges of a second one can get mixed up."""
    import tensorflow as tf

    if devices not in _strategies:
        if _strategies:
            raise ValueError(
                f"This process has trained on {', '.join(*_strategies)} together already, and "
                f"TensorFlow cannot share batches by {', '.join(devices)} as well: start another "
                "process for these."
            )
        _strategies[devices] = tf.distribute.MirroredStrategy(list(devices))
    return _strategies[devices]


def _choose_on_jax(devices):
    distribution = keras.distribution.distribution()
    default = [name.upper() for name in keras.distribution.list_devices()]
    if devices is not None or distribution is None:
        if devices is None:
            devices = default if not default[0].startswith("CPU") else default[:1]
        cpus = {name.upper() for name in keras.distribution.list_devices("cpu")}
        _check_known(devices, {*default, *cpus})
        if devices == default[:1]:
            return None
        distribution = keras.distribution.DataParallel(devices=[name.lower() for name in devices])
    if distribution.num_processes > 1:
        raise ValueError(
            f"JAX runs in {distribution.num_processes} processes; training over several machines "
            "is for the TensorFlow backend (TF_CONFIG)."
        )
    return distribution


def _check_known(devices, known):
    for name in devices:
        if name not in known:
            raise unknown_name("device", name, known)


def replicas(strategy):
    """How many devices share a batch."""
    if strategy is None:
        return 1
    if keras.backend.backend() == "jax":
        return strategy.num_model_replicas
    return strategy.num_replicas_in_sync


def scope(strategy):
    """Context in which variables belong to `strategy`; does nothing for None."""
    return strategy.scope() if strategy is not None else contextlib.nullcontext()


def running(strategy):
    """Context of a whole run: on JAX a distribution has to be active in `fit` as well."""
    return scope(strategy if keras.backend.backend() == "jax" else None)


def replica_copies(model, variable, worker=0):
    """[(number of the replica, its copy of `variable`)] of the devices of this `worker`.

    [(0, variable)] where there is one device, and on JAX, where several hold one variable.
    """
    strategy = getattr(model, "distribute_strategy", None)
    if replicas(strategy if keras.backend.backend() == "tensorflow" else None) == 1:
        return [(0, variable)]
    copies = strategy.experimental_local_results(variable.value)
    return list(enumerate(copies, start=worker * len(copies)))


@contextlib.contextmanager
def precision_policy(precision):
    """Layers made inside compute in `precision`; the caller's policy comes back afterwards.

    Raises:
        ValueError: if `precision` is not one of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def make_reproducible(seed, deterministic):
    """Seed Python, NumPy and the backend; with `deterministic` also forbid unordered sums.

    On TensorFlow `deterministic` holds for the rest of the process. A seed alone leaves three runs
    with three different sets of weights.
    """
    keras.utils.set_random_seed(seed)
    if deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif deterministic and keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True)
