"""Losses and metrics on JAX, run by test_jax.py in a process with the JAX backend and 2 devices."""

import jax
import keras
import numpy as np
from conftest import Y, Z

from keras_seg.losses import (
    L1,
    OHEM,
    Adversarial,
    Boundary,
    CrossEntropy,
    CrossEntropyDice,
    CrossEntropyLogIoU,
    Dice,
    Focal,
    FocalTversky,
    GeneralizedDice,
    IoU,
    Lovasz,
    LovaszHinge,
    SemanticEncoding,
    TopKCrossEntropy,
    TotalVariation,
    Tversky,
)
from keras_seg.metrics import (
    ConfusionMatrix,
    MeanIoU,
    MultiLabelScores,
    PerImageMeanIoU,
    confusion_matrix,
    scores,
    scores_per_image,
)

LABELS, LOGITS = np.array(Y, "uint8"), np.array(Z, "float32")
VALUES = [
    (CrossEntropy(), 0.665073),
    (CrossEntropy(class_weights=[0.5, 1, 3, 4]), 0.646670),
    (Focal(), 0.246310),
    (OHEM(0.3, 3), 0.985379),
    (TopKCrossEntropy(3), 1.250595),
    (IoU(), 0.601774),
    (IoU(over="image", classes="all"), 0.721799),
    (Dice(), 0.433406),
    (Tversky(), 0.435022),
    (GeneralizedDice(), 0.468627),
    (FocalTversky(), 0.535361),
    (Lovasz(), 0.473769),
    (Lovasz(over="image"), 0.439149),
    (CrossEntropyDice(), 0.456573),
    (CrossEntropyLogIoU(), 1.585809),
]
SLOPES = {"cross_entropy_dice": 0.426280, "cross_entropy_log_iou": 1.804716}


def check_losses():
    for loss, expected in VALUES:
        step = jax.jit(jax.value_and_grad(lambda z, y, loss=loss: loss(y, z)))
        value, slope = step(LOGITS, LABELS)
        np.testing.assert_allclose(value, expected, atol=2e-6)
        np.testing.assert_array_equal(slope[0, 1, 1], 0)
        if loss.name in SLOPES:
            np.testing.assert_allclose(np.abs(slope).sum(), SLOPES[loss.name], atol=5e-6)
        np.testing.assert_allclose(loss(LABELS, LOGITS), expected, atol=2e-6)

        value, slope = step(LOGITS, np.full_like(LABELS, 255))
        assert value == 0 and np.all(slope == 0), loss.name
        illegal = LABELS.copy()
        illegal[0, 0, 0] = 4
        value, slope = step(LOGITS, illegal)
        assert np.isnan(value) and np.all(slope == 0), loss.name
        perfect = 100 * np.eye(4, dtype="float32")[np.where(LABELS == 255, 0, LABELS)]
        value, slope = step(perfect, LABELS)
        assert abs(value) < 1e-6 and np.all(np.isfinite(slope)), loss.name

    presence = np.array([[2, -1, 0.5, -3], [0, 1, -2, 1]], "float32")
    value = jax.jit(lambda z, y: SemanticEncoding()(y, z))(presence, LABELS)
    np.testing.assert_allclose(value, 0.551182, atol=2e-6)

    # By hand, as in test_boundary_loss.py and test_lovasz.py.
    q = np.array([[[[0.1], [0.2], [0.6], [0.7], [0.9]]]], "float32")
    row = np.array([[[0, 0, 1, 1, 1]]])
    for loss, labels, logits, expected in [
        (TotalVariation(), LABELS, LOGITS, 1.098290),
        (Boundary(mode="binary"), row, np.log(q / (1 - q)), -2.1 / 5),
        (LovaszHinge(), 0 * row[..., :3], [[[[-3.0], [0.5], [1.5]]]], 2.5),
        (L1(mode="binary"), row, np.log(q / (1 - q)), 1.1 / 5),
        (Adversarial("least_squares"), 1, q, (0.81 + 0.64 + 0.16 + 0.09 + 0.01) / 5),
    ]:
        step = jax.jit(jax.value_and_grad(lambda z, y, loss=loss: loss(y, z)))
        value, slope = step(np.array(logits, "float32"), labels)
        np.testing.assert_allclose(value, expected, atol=2e-6)
        assert np.any(slope != 0), loss.name


def check_pixel_weights():
    """`fit` hands them on, and an illegal id is named where there are values to look at."""
    loss = CrossEntropy()
    model = keras.Sequential([keras.Input((2, 3, 4)), keras.layers.Conv2D(4, 1)])
    model.compile("sgd", loss)
    weights = np.arange(12, dtype="float32").reshape(LABELS.shape)
    expected = loss(LABELS, model.predict(LOGITS, verbose=0), weights)
    assert abs(expected - loss(LABELS, model.predict(LOGITS, verbose=0))) > 0.1
    logs = model.fit(LOGITS, LABELS, sample_weight=weights, verbose=0).history
    np.testing.assert_allclose(logs["loss"][0], expected, rtol=1e-6)
    try:
        loss(np.full_like(LABELS, 9), LOGITS)
    except ValueError as error:
        assert ": 9. Expected" in str(error)
    else:
        raise AssertionError("an illegal label went unnoticed")


def check_counts():
    """2**31 pixels and more, traced, where the integers have 32 bits."""
    metric = MeanIoU(2)
    digits = np.zeros((2, 6), "int32")
    digits[:, 0] = 2**30 - 1, 5
    update = jax.jit(metric.stateless_update_state)
    state = update([digits], np.array([[[0, 0, 1, 255]]]), np.array([[[0, 0, 0, 0]]]))
    for variable, value in zip(metric.variables, state, strict=True):
        variable.assign(value)
    counts = metric.counts()
    assert counts["matrix"].tolist() == [[6 * 2**30 + 1, 0], [1, 0]]
    assert counts["ignored"] == 1

    metric = MeanIoU(2)
    state = jax.jit(metric.stateless_update_state)(
        [v.value for v in metric.variables], np.array([[[0, 7]]]), np.array([[[0, 0]]])
    )
    assert np.isnan(metric.stateless_result(state))
    try:
        metric.update_state(np.array([[[0, 7]]]), np.array([[[0, 0]]]))
    except ValueError as error:
        assert " 7" in str(error)
    else:
        raise AssertionError("an illegal label went unnoticed")


def check_metrics():
    """Traced and eager: one output, misses, labels that overlap."""
    labels, logit = np.array([[[0, 1, 1, 255]]]), np.array([[[[-1], [2], [-3], [4]]]], "float32")
    ids = np.array([[[0, 1, 7, 0]]])
    cases = [
        (MeanIoU(2, threshold=0.0), labels, logit, 0.5),
        (MeanIoU(2, void_predictions="miss"), labels, ids, 0.75),
        (MeanIoU(2, void_predictions="drop"), labels, ids, 1.0),
        (MultiLabelScores(4, threshold=0.0), labels[None], logit[None, :, :, :, 0], 0.5),
    ]
    for metric, truth, outputs, expected in cases:
        update = jax.jit(metric.stateless_update_state)
        state = update([v.value for v in metric.variables], truth, outputs)
        for value in (metric.stateless_result(state), metric(truth, outputs)):
            value = value["mean_iou"] if isinstance(value, dict) else value
            np.testing.assert_allclose(value, expected, rtol=1e-6)


def train(images, labels):
    """Two steps of `fit`: the logs, and the scores of `evaluate` beside NumPy's."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(5, 3, padding="same")])
    metrics = [ConfusionMatrix(5), PerImageMeanIoU(5)]
    model.compile(keras.optimizers.SGD(0.5), CrossEntropy() + Dice(), metrics=metrics)
    logs = model.fit(images, labels, batch_size=8, shuffle=False, verbose=0).history
    found = model.evaluate(images, labels, batch_size=8, verbose=0, return_dict=True)
    predicted = model.predict(images, verbose=0).argmax(-1)
    expected = scores(confusion_matrix(labels, predicted, 5))
    for name in ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
    each = [confusion_matrix(*pair, 5) for pair in zip(labels, predicted, strict=True)]
    expected = scores_per_image(each)["mean_iou"]
    np.testing.assert_allclose(found["per_image_mean_iou"], expected, rtol=1e-6)
    return logs["loss"][0], np.concatenate([w.ravel() for w in model.get_weights()])


def check_devices():
    """One device and two: ignored pixels unevenly spread."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(16, 8, 8, 3)).astype("float32")
    labels = rng.integers(0, 5, (2, 512)).astype("uint8")
    labels[:, 3:256] = 255
    labels[:, 256:272] = 255
    labels = labels.reshape(16, 8, 8)
    loss, weights = train(images, labels)
    assert len(jax.devices()) == 2
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    loss_of_two, weights_of_two = train(images, labels)
    np.testing.assert_allclose(loss_of_two, loss, rtol=1e-6)
    assert np.abs(weights_of_two - weights).max() <= 1e-6 * np.abs(weights).max()


assert keras.backend.backend() == "jax"
check_losses()
check_pixel_weights()
check_counts()
check_metrics()
check_devices()
