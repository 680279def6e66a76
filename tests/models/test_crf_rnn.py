"""CRF-RNN: FCN-8s and the CRF on it, trained one after the other."""

import numpy as np
from unknown_sizes import in_graph

from keras_seg import models
from keras_seg.crf import MeanField

SLIM = {"filters": 2, "fc_channels": 8}


def shaken_fcn():
    fcn = models.FCN8s(3, **SLIM)
    rng = np.random.default_rng(0)
    for layer in fcn.layers:
        if layer.trainable_weights:
            layer.set_weights([rng.normal(0, 0.3, v.shape) for v in layer.weights])
    return fcn


def test_the_crf_refines_the_logits_of_the_fcn_that_was_trained_first(tmp_path):
    fcn = shaken_fcn()
    fcn.save_weights(tmp_path / "fcn.weights.h5")
    model = models.CRFRNN(3, **SLIM, fcn_weights=tmp_path / "fcn.weights.h5")
    image = np.random.default_rng(1).uniform(0, 255, (1, 21, 30, 3)).astype("float32")
    unaries = np.asarray(fcn(image))
    expected = np.asarray(MeanField()(unaries, image))
    assert np.abs(expected - unaries).max() > 0.1
    np.testing.assert_allclose(model(image), expected, atol=1e-5 * np.abs(expected).max())
    # Of an image whose size it does not know, the layer computes in blocks.
    got = in_graph(model)(image)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_own_file(tmp_path):
    model = models.CRFRNN(3, **SLIM)
    crf = model.get_layer("logits")
    crf.set_weights([w + 0.5 for w in crf.get_weights()])
    model.save_weights(tmp_path / "crf.weights.h5")
    again = models.CRFRNN(3, **SLIM, weights=tmp_path / "crf.weights.h5")
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
