"""Where training runs: one device or several, which precision, reproducible or not."""

import contextlib

import keras

from keras_seg.utils import unknown_name

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


def choose_strategy(devices=None):
    """The `tf.distribute` strategy to train under, or None for plain Keras on one device.

    Args:
        devices: None: all GPUs that TensorFlow sees; a strategy that is already active is kept.
            Or names, such as ["GPU:0", "GPU:2"], or ["CPU:0", "CPU:1"] after
            `tf.config.set_logical_device_configuration`.

    Returns:
        `tf.distribute.MirroredStrategy` over two devices or more; otherwise None. On JAX and torch
        always None (JAX: activate a `keras.distribution` for several devices).

    Raises:
        ValueError: for a device that is not there, or `devices` on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        if devices:
            raise ValueError(
                f"devices={devices} is for the TensorFlow backend; this is "
                f"{keras.backend.backend()}. On JAX set a keras.distribution.DataParallel."
            )
        return None
    import tensorflow as tf

    if devices is None:
        if tf.distribute.has_strategy():
            return tf.distribute.get_strategy()
        devices = [device.name for device in tf.config.list_logical_devices("GPU")]
    known = {device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()}
    names = [device.removeprefix("/device:") for device in devices]
    for name in names:
        if name not in known:
            raise unknown_name("device", name, known)
    return tf.distribute.MirroredStrategy(names) if len(names) > 1 else None


def replicas(strategy):
    """How many devices share a batch."""
    return strategy.num_replicas_in_sync if strategy is not None else 1


def scope(strategy):
    """Context in which variables belong to `strategy`; does nothing for None."""
    return strategy.scope() if strategy is not None else contextlib.nullcontext()


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
