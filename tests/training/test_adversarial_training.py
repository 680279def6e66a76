"""A segmentor against its adversary: each step by hand, who learns when, and the files of a run."""

import zipfile

import keras
import numpy as np
import pytest
from small_run import CLASSES, network, run

from keras_seg import data, inference, models, training
from keras_seg.training.adversarial import Game, _ratio
from keras_seg.training.checkpoint import BEST, LAST, read_progress

TABLE = data.LabelTable.default(3)
RATE, RIVAL_RATE, WEIGHT = 0.5, 0.25, 0.3


def values(model):
    return [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]


def pixel_network(dtype=None):
    """Logits of three classes, linear in the pixel."""
    image = keras.Input((None, None, 3))
    logits = keras.layers.Conv2D(3, 1, kernel_initializer="he_normal", dtype="float32")(image)
    return keras.Model(image, logits)


def mean_rival(channels=3):
    """One score, linear in the mean of the map."""
    planes = keras.Input((None, None, channels))
    x = keras.layers.GlobalAveragePooling2D()(planes)
    return keras.Model(planes, keras.layers.Dense(1, dtype="float32")(x))


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def game(rate=RATE, loss=None, build=mean_rival, **options):
    """A segmentor and a `Game` that is ready for `fit`."""
    options = {"weight": WEIGHT, "optimizer": keras.optimizers.SGD(RIVAL_RATE)} | options
    model = pixel_network()
    adversary = training.Adversary(build, **options)
    found = Game(adversary, model, TABLE, steps=1, seed=0)
    model.compile(keras.optimizers.SGD(rate), loss or cross_entropy())
    found.compile()
    return model, found


def batch(seed=0, count=2, size=(3, 4)):
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 2, (count, *size, 3)).astype("float32")
    return images, rng.integers(0, 3, (count, *size)).astype("int32")


def play(model, found, images, labels, steps=1):
    history = model.fit(
        images, labels, batch_size=len(images), epochs=steps, callbacks=[found], verbose=0
    )
    return history.history


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(images, labels, segmentor, rival):
    """NumPy: both networks after one step of plain gradient descent, and what is logged of it."""
    (kernel, bias), (w, b) = segmentor, rival
    kernel, w = kernel.reshape(3, 3), w[:, 0]
    count, height, width = labels.shape
    area = height * width
    logits = images @ kernel + bias
    q = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    truth = np.eye(3)[labels]

    real, fake = truth.mean((1, 2)), q.mean((1, 2))  # (N, 3)
    high, low = real @ w + b, fake @ w + b
    logs = {
        "loss": -np.log((q * truth).sum(-1)).mean(),
        "adversary_loss": (-np.log(sigmoid(high)) - np.log(1 - sigmoid(low))).mean(),
        "adversary_accuracy": ((high > 0).mean() + (low < 0).mean()) / 2,
    }
    up, down = sigmoid(high) - 1, sigmoid(low)  # slopes of the two terms at the scores
    w = w - RIVAL_RATE * (up[:, None] * real + down[:, None] * fake).mean(0)
    b = b - RIVAL_RATE * (up + down).mean()

    low = fake @ w + b  # against the adversary that has just learnt
    logs["fooling_loss"] = -np.log(sigmoid(low)).mean()
    own = (q - truth) / (count * area)
    to_q = (sigmoid(low) - 1)[:, None, None, None] * w / (area * count)
    pull = WEIGHT * q * (to_q - (q * to_q).sum(-1, keepdims=True))
    logs["gradient_ratio"] = np.sqrt((pull**2).sum() / (own**2).sum())
    slope = own + pull
    kernel = kernel - RATE * np.einsum("nhwi,nhwo->io", images, slope)
    bias = bias - RATE * slope.sum((0, 1, 2))
    return (kernel, bias), (w, b), logs


def test_a_step_of_each_by_hand():
    model, found = game()
    images, labels = batch()
    before = values(model), values(found.network)
    logs = play(model, found, images, labels)
    (kernel, bias), (w, b), expected = by_hand(images.astype("float64"), labels, *before)
    after = values(model)
    np.testing.assert_allclose(after[0].reshape(3, 3), kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after[1], bias, rtol=1e-5, atol=1e-6)
    after = values(found.network)
    np.testing.assert_allclose(after[0][:, 0], w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after[1], b, rtol=1e-5, atol=1e-6)
    assert set(expected) <= set(logs)
    for name, value in expected.items():
        assert logs[name] == [pytest.approx(value, rel=1e-5)], name


def test_float16_takes_the_same_steps():
    """Losses of both networks are scaled, and their gradients back."""
    keras.config.set_dtype_policy("mixed_float16")
    model, found = game()
    for optimizer in (model.optimizer, found.network.optimizer):
        assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    images, labels = batch()
    before = values(model), values(found.network)
    play(model, found, images, labels)
    (kernel, bias), (w, b), _ = by_hand(images.astype("float64"), labels, *before)
    np.testing.assert_allclose(values(model)[0].reshape(3, 3), kernel, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(values(model)[1], bias, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(values(found.network)[0][:, 0], w, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(values(found.network)[1], b, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("size", [1e-4, 300.0])
def test_gradients_in_float16_are_compared(size):
    """Their squares are 0 or infinite in float16."""
    one, other = (keras.ops.full((2, 3), n * size, "float16") for n in (1, 2))
    assert float(_ratio(one, other)) == pytest.approx(0.5, rel=1e-3)


def test_while_one_learns_the_other_stays():
    model, found = game(alternate=2)
    images, labels = batch()
    who = []
    for step in range(6):
        before = values(model), values(found.network)
        logs = model.fit(
            images, labels, initial_epoch=step, epochs=step + 1, callbacks=[found], verbose=0
        ).history
        after = values(model), values(found.network)
        changed = [
            not all(np.array_equal(a, b) for a, b in zip(x, y, strict=True))
            for x, y in zip(before, after, strict=True)
        ]
        who.append("".join(name for name, c in zip("SA", changed, strict=True) if c))
        assert ("adversary_loss" in logs) == changed[1]
        assert ("fooling_loss" in logs) == changed[0]
        assert logs["loss"][0] > 0
    assert who == ["A", "A", "S", "S", "A", "A"]
    assert int(model.optimizer.iterations) == 2
    assert int(found.network.optimizer.iterations) == 4


@pytest.mark.parametrize(
    ("alternate", "turns", "updates"),
    [
        (None, ["AS"] * 8, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (1, ["A", "S"] * 4, [0, 0, 1, 1, 2, 2, 3, 3, 4]),
        (3, ["A"] * 3 + ["S"] * 3 + ["A"] * 2, [0, 0, 0, 0, 1, 2, 3, 3, 3]),
    ],
)
def test_turns(alternate, turns, updates):
    adversary = training.Adversary(mean_rival, alternate=alternate)
    found = ["A" * teach + "S" * learn for teach, learn in map(adversary.turn, range(8))]
    assert found == turns
    assert [adversary.updates(n) for n in range(9)] == updates


# One row of two pixels of two classes; the second pixel is ignored. Probabilities 0.6, 0.4 and
# 0.25, 0.75. The pixels' colours are -1, 0, 1 and 1, 1, -0.5 on the scale of the adversary.
LABELS = np.array([[[0, 255]]], "int32")
LOGITS = np.log(np.array([[[[0.6, 0.4], [0.25, 0.75]]]], "float32"))
IMAGE = (np.array([[[[-1, 0, 1], [1, 1, -0.5]]]], "float32") + 1) * 127.5


@pytest.mark.parametrize(
    ("inputs", "real", "fake"),
    [
        ("basic", [[1, 0], [0.25, 0.75]], [[0.6, 0.4], [0.25, 0.75]]),
        ("scaling", [[0.9, 0.1], [0.25, 0.75]], [[0.6, 0.4], [0.25, 0.75]]),
        (
            "product",
            [[-1, 0, 0, 0, 1, 0], [0.25, 0.75, 0.25, 0.75, -0.125, -0.375]],
            [[-0.6, -0.4, 0, 0, 0.6, 0.4], [0.25, 0.75, 0.25, 0.75, -0.125, -0.375]],
        ),
        (
            "pair",
            [[-1, 0, 1, 1, 0], [1, 1, -0.5, 0.25, 0.75]],
            [[-1, 0, 1, 0.6, 0.4], [1, 1, -0.5, 0.25, 0.75]],
        ),
    ],
)
def test_what_the_adversary_sees(inputs, real, fake):
    adversary = training.Adversary(mean_rival, inputs=inputs)
    found = adversary.views(IMAGE, LABELS, LOGITS, 255)
    for view, expected in zip(found, (real, fake), strict=True):
        np.testing.assert_allclose(view[0, 0], expected, atol=1e-5)
    assert adversary.channels(2, 3) == len(real[0])


def test_an_image_with_a_border_and_logits_of_half_size():
    """Labels are the middle 4 x 5 of 6 x 7 pixels; logits are of every second one, padded by 1."""
    adversary = training.Adversary(mean_rival, inputs="pair", label_stride=2)
    images = np.zeros((1, 6, 7, 1), "float32")
    images[0, 1:5, 1:6, 0] = np.arange(20).reshape(4, 5)
    labels = np.arange(20).reshape(1, 4, 5) % 3
    logits = np.zeros((1, 3, 4, 3), "float32")
    real, fake = adversary.views(images, labels, logits, 255)
    assert real.shape == fake.shape == (1, 2, 3, 4)
    # Means of the pixels 0, 1, 5, 6 and so on; in the last column of those that there are.
    expected = [[3, 5, 6.5], [13, 15, 16.5]]
    np.testing.assert_allclose((real[0, ..., 0] + 1) * 127.5, expected, atol=1e-4)
    np.testing.assert_array_equal(np.argmax(real[0, ..., 1:], -1), [[0, 2, 1], [1, 0, 2]])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run against PatchGAN, with batch normalisation in both networks: (folder, result)."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("adversarial") / "run"
    return folder, run(folder, adversary=patch_rival(), steps_per_epoch=2)


def patch_rival(**options):
    return training.Adversary(
        lambda: models.PatchGAN(3 + CLASSES, receptive_field=16, filters=4),
        **{"inputs": "pair", "weight": 0.1} | options,
    )


def test_a_run_logs_both_and_is_opened_as_the_segmentor(finished):
    folder, result = finished
    wanted = {"loss", "adversary_loss", "adversary_accuracy", "fooling_loss", "gradient_ratio"}
    for row in result.history:
        assert wanted | {"val_mean_iou"} <= set(row)
        assert not any(name.startswith("val_") and "advers" in name for name in row)
        assert 0 <= row["adversary_accuracy"] <= 1 and row["gradient_ratio"] > 0
    plain = [layer.name for layer in network().layers]
    opened = keras.saving.load_model(folder / BEST)
    assert [layer.name for layer in opened.layers] == plain
    assert opened.count_params() == result.model.count_params() == network().count_params()
    image = data.shapes(1, size=(32, 32))[0].image
    label = inference.Predictor(folder).predict(image)
    expected = np.argmax(opened.predict(image[None].astype("float32"), verbose=0)[0], -1)
    np.testing.assert_array_equal(label, expected)
    # No trace of the game on the network: it can be trained on by itself.
    images, labels = np.zeros((1, 8, 8, 3)), np.zeros((1, 8, 8), "int32")
    again = result.model.fit(images, labels, verbose=0).history
    assert set(again) == {"loss", "mean_iou"}


def test_the_checkpoint_holds_the_adversary(finished):
    folder, _ = finished
    assert "keras_seg_adversary.weights.h5" in zipfile.ZipFile(folder / LAST).namelist()
    assert read_progress(folder / LAST)["epoch"] == 2


def test_a_run_goes_on_with_the_same_adversary_only(finished):
    folder, _ = finished
    with pytest.raises(ValueError, match=r"'weight': 0\.1.* before, .*'weight': 0\.2.* now"):
        run(folder, adversary=patch_rival(weight=0.2), steps_per_epoch=2)
    with pytest.raises(ValueError, match="adversary: .* before, None now"):
        run(folder, steps_per_epoch=2)
    other = training.Adversary(
        lambda: models.PatchGAN(3 + CLASSES, receptive_field=16, filters=6),
        inputs="pair",
        weight=0.1,
    )
    with pytest.raises(ValueError, match="does not fit the network"):
        run(folder, adversary=other, steps_per_epoch=2, epochs=3)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"inputs": "pairs"}, "pair"),
        ({"weight": 0}, "weight must be above 0"),
        ({"alternate": 0}, "alternate must be an integer of at least 1"),
        ({"tau": 1.5}, "tau must be between 0 and 1"),
        ({"optimizer": "adam"}, "Keras optimizer"),
        ({"form": "wgan"}, "wgan"),
    ],
)
def test_bad_settings(options, match):
    with pytest.raises(ValueError, match=match):
        training.Adversary(mean_rival, **options)


@pytest.mark.parametrize(
    ("build", "options", "match"),
    [
        (lambda: mean_rival(4), {}, "takes 4 channels, but inputs='basic' .* are 3"),
        (mean_rival, {"inputs": "product"}, "takes 3 channels, but inputs='product' .* are 9"),
        (lambda: None, {}, "must return a Keras model"),
    ],
)
def test_networks_that_do_not_fit(build, options, match):
    with pytest.raises(ValueError, match=match):
        game(build=build, **options)


def test_weights_that_are_not_finite_stop_the_run():
    model, found = game(alternate=5)  # the segmentor stays as it is
    kernel = found.network.trainable_variables[0]
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(ValueError, match=r"epoch 1: dense\S*/kernel of the adversary"):
        play(model, found, *batch())


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="needs the TensorFlow backend.*this is jax"):
        Game(training.Adversary(mean_rival), None, TABLE, steps=1, seed=0)


def test_a_built_adversary_is_refused():
    with pytest.raises(ValueError, match="build must be a function"):
        training.Adversary(mean_rival())


def test_an_output_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="logits_low"):
        run(tmp_path, lambda: network(aux=True), adversary=patch_rival(output="logits_low"))
