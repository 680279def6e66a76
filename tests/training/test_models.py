import keras
import numpy as np
import pytest
from small_run import SIZE, network, run

from keras_seg import data, inference, losses, training
from keras_seg.layers import batch_norm, resize_logits


def low_resolution(classes=4):
    """Scores at every fourth pixel, enlarged: as DeepLab's, in small."""
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3, strides=4, padding="same", activation="relu", name="conv")(x)
    x = keras.layers.Conv2D(classes, 1, name="logits_low")(x)
    return keras.Model(image, resize_logits(x, image), name="low")


def weights(model):
    return {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}


def test_training_on_low_scores_validates_and_keeps_the_whole_network(tmp_path):
    result = run(
        tmp_path / "run",
        lambda: training.with_outputs(low_resolution()),
        loss={"logits_low": losses.CrossEntropy(label_stride=4)},
    )
    kept = inference.Predictor(tmp_path / "run").predict(data.shapes(1, size=SIZE)[0].image)
    assert kept.shape == SIZE
    assert result.scores["mean_iou"] == pytest.approx(result.best_score, abs=1e-6)


def test_the_loss_is_that_of_the_named_output_alone():
    model = training.with_outputs(low_resolution())
    batch = data.shapes(2, size=SIZE)
    images = np.stack([s.image for s in batch]).astype("float32")
    labels = np.stack([s.label for s in batch]).astype("int32")
    loss = losses.CrossEntropy(label_stride=4)
    expected = float(loss(labels, model(images)["logits_low"]))
    model.compile("sgd", {"logits_low": loss})
    found = model.evaluate(images, {"logits": labels, "logits_low": labels}, verbose=0)
    assert (found if np.isscalar(found) else found[0]) == pytest.approx(expected, rel=1e-5)


def test_losses_of_outputs_that_there_are_not(tmp_path):
    with pytest.raises(ValueError, match="logits_low"):
        run(tmp_path, loss={"logits_low": losses.CrossEntropy()})
    with pytest.raises(ValueError, match="trains nothing"):
        run(tmp_path, lambda: network(aux=True), loss={})


@pytest.mark.parametrize("statistics_only", [False, True])
def test_frozen_normalisation_in_training_and_in_a_file(tmp_path, statistics_only):
    def build():
        return training.freeze_batch_norm(network(), statistics_only)

    keras.utils.set_random_seed(0)
    start = weights(network())
    result = run(tmp_path / "run", build, epochs=1)
    changed = {
        path.split("/")[-1]
        for path, value in weights(result.model).items()
        if "_bn/" in path and np.any(value != start[path])
    }
    assert changed == ({"gamma", "beta"} if statistics_only else set())

    # What is read from the file trains on by the moving statistics, too.
    again = keras.models.load_model(tmp_path / "run" / "best.keras", compile=False)
    (layer,) = [layer for layer in again.layers if layer.name == "block1_bn"]
    x = np.random.default_rng(0).normal(3, 2, (2, 4, 4, layer.gamma.shape[0])).astype("float32")
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    assert bool(layer.trainable_weights) is statistics_only


def test_normalisation_in_a_model_inside_the_model_is_frozen():
    inner = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.BatchNormalization()])
    image = keras.Input((4, 4, 2))
    model = keras.Model(image, inner(image))
    training.freeze_batch_norm(model)
    assert model.trainable_weights == []


def test_what_cannot_be_frozen():
    image = keras.Input((4, 4, 2))
    plain = keras.Model(image, keras.layers.Conv2D(2, 1)(image), name="plain")
    with pytest.raises(ValueError, match="plain has no batch normalisation"):
        training.freeze_batch_norm(plain)
    mixed = keras.layers.BatchNormalization(name="theirs")(batch_norm("ours")(image))
    mixed = keras.Model(image, mixed, name="mixed")
    with pytest.raises(ValueError, match="not in theirs"):
        training.freeze_batch_norm(mixed, statistics_only=True)
    assert not mixed.get_layer("ours").frozen_statistics


def normalised():
    """Normalisation of the picture, then of a product of its result."""
    image = keras.Input((None, None, 2))
    x = batch_norm("first")(image)
    x = keras.layers.Dropout(0.5)(keras.layers.Rescaling(3.0, offset=1.0)(x))
    return keras.Model(image, batch_norm("second")(x))


def test_statistics_are_those_of_all_batches():
    rng = np.random.default_rng(0)
    images = [rng.normal(m, s, (1, h, 6, 2)) for m, s, h in ((5, 1, 4), (9, 3, 8), (2, 2, 5))]
    model = normalised()
    assert training.estimate_statistics(model, images) is model
    first, second = (model.get_layer(name) for name in ("first", "second"))
    means, variances = ([f(x, axis=(0, 1, 2)) for x in images] for f in (np.mean, np.var))
    np.testing.assert_allclose(first.moving_mean, np.mean(means, axis=0), rtol=1e-5)
    # Each batch counts the same, whatever its size; what parts their means is variance too.
    expected = np.mean(variances, axis=0) + np.var(means, axis=0)
    np.testing.assert_allclose(first.moving_variance, expected, rtol=1e-5)
    # Behind the first one each batch has mean 0 and variance 1, but for epsilon; dropout is off.
    np.testing.assert_allclose(second.moving_mean, [1, 1], atol=1e-5)
    np.testing.assert_allclose(second.moving_variance, [9, 9], rtol=1e-4)


def test_each_call_of_a_shared_layer_counts():
    image = keras.Input((None, None, 2))
    shared = batch_norm("shared")
    y = shared(keras.layers.Rescaling(3.0, offset=1.0)(image))
    model = keras.Model(image, keras.layers.Add()([shared(image), y]))
    images = np.random.default_rng(0).normal(5, 2, (3, 1, 4, 6, 2))
    training.estimate_statistics(model, images)
    both = np.stack([images, 3 * images + 1])
    np.testing.assert_allclose(shared.moving_mean, both.mean((0, 1, 2, 3, 4)), rtol=1e-5)
    np.testing.assert_allclose(shared.moving_variance, both.var((0, 1, 2, 3, 4)), rtol=1e-5)


def test_frozen_statistics_are_not_measured():
    model = normalised()
    model.get_layer("first").frozen_statistics = True
    training.estimate_statistics(model, [np.full((1, 4, 4, 2), 7.0)])
    np.testing.assert_array_equal(model.get_layer("first").moving_mean, [0, 0])
    np.testing.assert_allclose(model.get_layer("second").moving_mean, [22, 22], rtol=1e-4)
    assert model.get_layer("first").trainable
    model.get_layer("second").frozen_statistics = True
    before = model.get_weights()
    training.estimate_statistics(model, [np.full((1, 4, 4, 2), 9.0)])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_statistics_inside_of_other_models():
    """A trunk of keras.applications is one layer of the network, with its normalisation inside."""
    trunk = keras.Sequential([keras.layers.Rescaling(2.0), keras.layers.BatchNormalization()])
    trunk = keras.Sequential([keras.Input((None, None, 2)), trunk])
    image = keras.Input((None, None, 2))
    model = keras.Model(image, batch_norm("last")(keras.layers.Rescaling(3.0)(trunk(image))))
    images = np.random.default_rng(0).normal(5, 2, (3, 1, 4, 6, 2))
    training.estimate_statistics(model, images)
    inner = trunk.layers[0].layers[1]
    np.testing.assert_allclose(inner.moving_mean, (2 * images).mean((0, 1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(inner.moving_variance, (2 * images).var((0, 1, 2, 3)), rtol=1e-5)
    # Behind it each image has mean 0 and variance 1.
    np.testing.assert_allclose(model.get_layer("last").moving_mean, [0, 0], atol=1e-5)
    np.testing.assert_allclose(model.get_layer("last").moving_variance, [9, 9], rtol=1e-2)


def test_statistics_of_frozen_layers_stay():
    model = training.freeze_batch_norm(normalised())
    before = model.get_weights()
    training.estimate_statistics(model, [np.full((1, 4, 4, 2), 7.0)])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_statistics_of_nothing():
    model = normalised()
    with pytest.raises(ValueError, match="no images"):
        training.estimate_statistics(model, [])
    image = keras.Input((4, 4, 2))
    plain = keras.Model(image, keras.layers.Conv2D(2, 1)(image), name="plain")
    with pytest.raises(ValueError, match="plain has no batch normalisation"):
        training.estimate_statistics(plain, [np.zeros((1, 4, 4, 2))])


def test_accumulated_gradients_change_the_weights_once_a_group(tmp_path):
    def change(folder, steps):
        optimizer = training.SGD(0.1, gradient_accumulation_steps=2)
        options = {"optimizer": optimizer, "learning_rate": None, "epochs": 1}
        result = run(tmp_path / folder, steps_per_epoch=steps, **options)
        keras.utils.set_random_seed(0)
        start = weights(network())
        return sum(
            float(np.abs(value - start[path]).sum())
            for path, value in weights(result.model).items()
            if "/kernel" in path
        )

    assert change("one", 1) == 0
    assert change("two", 2) > 0
