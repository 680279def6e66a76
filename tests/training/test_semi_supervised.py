"""A loss that grows over the first steps of a run."""

import keras
import numpy as np
import pytest
from small_run import StopAfter, run

from keras_seg import losses, training


def pair():
    rng = np.random.default_rng(0)
    return rng.integers(0, 4, (2, 5, 6)), rng.normal(size=(2, 5, 6, 4)).astype("float32")


def variation(logits):
    """NumPy: sum of the differences of neighbours over the pixels, mean over the images."""
    q = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    total = np.abs(np.diff(q, axis=1)).sum() + np.abs(np.diff(q, axis=2)).sum()
    return total / q[..., 0].size


def test_the_factor_rises_over_a_share_of_the_steps():
    labels, logits = pair()
    loss = training.WarmUp(0.5 * losses.TotalVariation(), 0.2)
    full = 0.5 * variation(logits)
    assert float(loss(labels, logits)) == pytest.approx(full, rel=1e-5)  # outside of `train`
    optimizer = keras.optimizers.SGD()
    loss.follow(optimizer, 20)
    for step, factor in [(0, 0), (1, 0.25), (3, 0.75), (4, 1), (19, 1)]:
        optimizer.iterations.assign(step)
        assert float(loss(labels, logits)) == pytest.approx(factor * full, rel=1e-5)


@pytest.mark.parametrize("wrap", [lambda one: one, training.LossScale])
def test_accumulated_batches_count_as_steps(wrap):
    """The first 4 of 20 batches, two to an update: half of it after the first, all after both."""
    labels, logits = pair()
    loss = training.WarmUp(losses.TotalVariation(), 0.2)
    optimizer = wrap(training.SGD(0.1, gradient_accumulation_steps=2))
    weight = keras.Variable(np.zeros(1, "float32"))
    loss.follow(optimizer, 20)
    factors = []
    for _ in range(6):
        factors.append(float(loss(labels, logits)) / variation(logits))
        optimizer.apply([np.zeros(1, "float32")], [weight])
    assert factors == pytest.approx([0, 0, 0.5, 0.5, 1, 1], rel=1e-5)


def test_it_is_saved_without_the_step():
    labels, logits = pair()
    loss = losses.CrossEntropy() + training.WarmUp(0.5 * losses.TotalVariation(), 0.3)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
    assert float(again(labels, logits)) == pytest.approx(float(loss(labels, logits)))


def test_in_a_run(tmp_path):
    """6 steps of a network that stands still, the first 3 of them at 0, 1/3 and 2/3."""
    import tensorflow as tf

    labels, _ = pair()
    labels[1] = 255  # an image without labels has a variation
    images = np.random.default_rng(1).uniform(0, 255, (2, 5, 6, 3)).astype("float32")
    batches = tf.data.Dataset.from_tensors((images, labels.astype("int32"))).repeat()

    def linear():
        image = keras.Input((None, None, 3))
        x = keras.layers.Rescaling(1 / 255)(image)
        return keras.Model(image, keras.layers.Conv2D(4, 1, name="logits")(x))

    options = {
        "build": linear,
        "train_data": batches,
        "steps_per_epoch": 3,
        "batch_size": 2,
        "loss": losses.CrossEntropy() + training.WarmUp(2.0 * losses.TotalVariation(), 0.5),
        "optimizer": keras.optimizers.SGD(1e-12),
        "learning_rate": None,
    }
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, callbacks=[StopAfter(1)], **options)
    result = run(tmp_path, **options)
    logits = result.model.predict(images, verbose=0).astype("float64")
    q = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    supervised = -np.log(np.take_along_axis(q[:1], labels[:1, ..., None], -1)).mean()
    expected = [supervised + factor * 2 * variation(logits) for factor in (1 / 3, 1)]
    assert [row["loss"] for row in result.history] == pytest.approx(expected, rel=1e-5)


def test_bad_input(monkeypatch):
    with pytest.raises(ValueError, match="share must be above 0"):
        training.WarmUp(losses.TotalVariation(), 0)
    with pytest.raises(ValueError, match=r"loss of keras_seg\.losses"):
        training.WarmUp(keras.losses.MeanSquaredError())
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="needs the TensorFlow backend"):
        training.WarmUp(losses.TotalVariation()).follow(keras.optimizers.SGD(), 10)
