"""PatchwiseCNN: the dense form is the sliding window, and both are the published layers."""

import keras
import numpy as np
import pytest
from plain_network import assert_close, conv, picture, pool, weights

from keras_seg import models


def n4(x, w):
    for i in (1, 2, 3, 4):
        x = pool(np.maximum(conv(x, *w[f"conv{i}"]), 0), 2)
    x = np.maximum(conv(x, *w["fc1"]), 0)
    return conv(x, *w["logits_low"])


def ning(x, w):
    for i in (1, 2):
        x = pool(np.tanh(conv(x, *w[f"conv{i}"])), 2, np.mean)
        gain, bias = w[f"subsampling{i}"]
        x = np.tanh(x * gain[0, 0, :, 0] + bias)
    x = np.tanh(conv(x, *w["conv3"]))
    return conv(x, *w["logits_low"])


@pytest.mark.parametrize(
    ("variant", "plain", "window", "options"),
    [("ciresan_n4", n4, 95, {"filters": 3}), ("ning", ning, 40, {})],
)
def test_both_forms_equal_a_sliding_window(variant, plain, window, options, tmp_path):
    options = {**options, "variant": variant}
    dense = models.PatchwiseCNN(4, **options)
    w = weights(dense)
    if variant == "ning":  # gains start at 1
        layer = dense.get_layer("subsampling1")
        gain, bias = layer.get_weights()
        layer.set_weights([np.linspace(0.5, 2, gain.size).reshape(gain.shape), bias])
        w["subsampling1"] = layer.get_weights()
    dense.save_weights(tmp_path / "dense.weights.h5")
    patch = models.PatchwiseCNN(4, mode="patch", weights=tmp_path / "dense.weights.h5", **options)
    assert patch.input.shape[1:] == (window, window, 1)

    image = picture(50, 53, 1)
    logits = np.asarray(dense(image))[0]
    assert logits.shape == (50, 53, 4)
    before = window // 2
    mirrored = np.pad(image[0], ((before, before), (before, before), (0, 0)), mode="reflect")
    places = [(0, 0), (0, 52), (49, 0), (49, 52)]
    places += [tuple(p) for p in np.random.default_rng(2).integers(0, 50, (12, 2))]
    windows = np.stack([mirrored[y : y + window, x : x + window] for y, x in places])
    expected = np.stack([plain(np.float64(x) / 255, w)[0, 0] for x in windows])
    assert_close(patch(windows), expected)
    assert_close(np.stack([logits[place] for place in places]), expected)


def test_every_pixel_by_the_patch_form():
    """A whole image, smaller than the window, window by window."""
    dense, patch = (models.PatchwiseCNN(3, variant="ning", mode=m) for m in ("dense", "patch"))
    weights(dense)
    patch.set_weights(dense.get_weights())
    image = picture(26, 23, 1)
    mirrored = np.pad(image[0], ((20, 20), (20, 20), (0, 0)), mode="reflect")
    windows = np.stack([mirrored[y : y + 40, x : x + 40] for y in range(26) for x in range(23)])
    expected = np.asarray(patch.predict(windows, verbose=0)).reshape(1, 26, 23, 3)
    assert_close(dense(image), expected)
    assert_close(dense.predict(image, verbose=0), expected)


def test_patches_train_with_keras_own_loss():
    """Two textures; labels are one class a window."""
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 255, (8, 40, 40, 1)).astype("float32")
    y = np.arange(8) % 2
    x[y == 1, ::2] = 0
    model = models.PatchwiseCNN(2, mode="patch", variant="ning")

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss=loss)
    history = model.fit(x, y, epochs=15, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]


def test_bad_arguments():
    with pytest.raises(ValueError, match="a window of 95 x 95 pixels, got .*For whole images"):
        models.PatchwiseCNN(2, (np.int64(64), 95, 1), mode="patch")
    with pytest.raises(ValueError, match=r"input_shape must be \(height, width, channels\)"):
        models.PatchwiseCNN(2, (95, 95), mode="patch")
    with pytest.raises(ValueError, match="Unknown variant of PatchwiseCNN 'n4'"):
        models.PatchwiseCNN(2, variant="n4")
    with pytest.raises(ValueError, match="Unknown mode of PatchwiseCNN 'patches'.*'patch'"):
        models.PatchwiseCNN(2, mode="patches")
