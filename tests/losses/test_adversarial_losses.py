"""Losses of adversaries, against their formulas in NumPy."""

import keras
import numpy as np
import pytest

from keras_seg.losses import L1, Adversarial, soften_truth

SCORES = np.random.default_rng(0).normal(size=(2, 3, 4, 1)).astype("float32") * 3


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype("float64")))


@pytest.mark.parametrize("target", [0, 1, 0.9])
def test_value(target):
    q = sigmoid(SCORES)
    expected = -np.mean(target * np.log(q) + (1 - target) * np.log(1 - q))
    assert float(Adversarial()(target, SCORES)) == pytest.approx(expected, rel=1e-6)
    squares = float(Adversarial("least_squares")(target, SCORES))
    assert squares == pytest.approx(np.mean((SCORES - target) ** 2), rel=1e-6)


def test_targets_of_samples_and_patches():
    targets = np.array([1.0, 0.0])
    of_samples = float(Adversarial()(targets[:, None, None, None], SCORES))
    mean = (Adversarial()(1, SCORES[:1]) + Adversarial()(0, SCORES[1:])) / 2
    assert of_samples == pytest.approx(float(mean), rel=1e-6)
    filled = np.broadcast_to(targets[:, None, None, None], SCORES.shape)
    assert float(Adversarial()(filled, SCORES)) == pytest.approx(of_samples, rel=1e-6)


def test_two_scores_are_their_softmax():
    scores = np.array([[1.0, -2.0], [0.3, 0.4], [-5.0, 9.0]], "float32")
    log_softmax = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    assert float(Adversarial()(1, scores)) == pytest.approx(-log_softmax[:, 1].mean(), rel=1e-5)
    assert float(Adversarial()(0, scores)) == pytest.approx(-log_softmax[:, 0].mean(), rel=1e-5)


def test_sure_scores_keep_the_generators_gradient():
    """-log sigmoid(s) of a score that the adversary is sure is false: slope -1, not 0."""
    import tensorflow as tf

    scores = tf.constant([[-500.0]])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value = Adversarial()(1, scores)
    assert float(value) == 500
    assert float(tape.gradient(value, scores)[0, 0]) == -1


def test_half_precision_and_bad_input():
    half = keras.ops.cast(np.full((1, 200, 200, 1), 60000.0), "float16")
    assert np.isfinite(Adversarial()(0, half))
    with pytest.raises(ValueError, match=r"\(N, h, w, 1\)"):
        Adversarial()(1, SCORES[..., 0])
    with pytest.raises(ValueError, match="'bce'"):
        Adversarial("bcee")
    loss = Adversarial("least_squares", name="d")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()


def test_l1(labels, logits):
    powers = np.exp(logits.astype("float64"))
    q = powers / powers.sum(-1, keepdims=True)
    counts = labels != 255
    errors = np.abs(np.eye(4)[np.where(counts, labels, 0)] - q)[counts]
    assert float(L1()(labels, logits)) == pytest.approx(errors.mean(), rel=1e-6)
    ids = np.where(logits > 0.4, 1, 0)
    ids[0, 0, 0, 0] = 255
    expected = np.abs(ids - sigmoid(logits)).ravel()[1:].mean()
    assert float(L1(mode="multilabel")(ids, logits)) == pytest.approx(expected, rel=1e-6)


class TestSoftenTruth:
    q = np.array([[[[0.5, 0.3, 0.2], [0.95, 0.03, 0.02], [0.0, 1.0, 0.0]]]], "float32")

    def test_by_hand(self):
        soft = soften_truth(np.array([[[1, 0, 0]]]), self.q)
        np.testing.assert_allclose(
            soft[0, 0, 0], [0.1 * 0.5 / 0.7, 0.9, 0.1 * 0.2 / 0.7], rtol=1e-6
        )
        np.testing.assert_allclose(soft[0, 0, 1], self.q[0, 0, 1], rtol=1e-5)
        np.testing.assert_allclose(soft[0, 0, 2], [0.9, 0.1, 0], rtol=1e-6)

    def test_extremes(self):
        labels = np.array([[[1, 0, 1]]])
        np.testing.assert_allclose(soften_truth(labels, self.q, tau=0), self.q, atol=2e-6)
        hard = soften_truth(labels, self.q, tau=1)
        np.testing.assert_allclose(hard, np.eye(3)[labels], atol=2e-6)

    def test_ignored_and_wrong_labels(self):
        soft = soften_truth(np.array([[[255, 255, 255]]]), self.q)
        np.testing.assert_array_equal(soft, self.q)
        with pytest.raises(ValueError, match="ids"):
            soften_truth(np.array([[[0, 3, 0]]]), self.q)
        with pytest.raises(ValueError, match="tau"):
            soften_truth(np.array([[[0, 1, 0]]]), self.q, tau=1.5)
