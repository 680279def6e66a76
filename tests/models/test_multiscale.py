"""MultiscaleCNN: windows of 46 pixels on three scales, the tables, the normalisation."""

import keras
import numpy as np
import pytest
from plain_network import assert_close, conv, picture, pool, weights

from keras_seg import models
from keras_seg.layers import LocalContrastNormalization
from keras_seg.models.multiscale import RGBToYUV


def features_of_a_window(x, w):
    for i in (1, 2):
        x = pool(np.tanh(conv(x, *w[f"conv{i}"])), 2)
    x = conv(x, *w["conv3"])
    assert x.shape[:2] == (1, 1)
    return x[0, 0]


def test_equals_a_window_slid_over_each_scale():
    model = models.MultiscaleCNN(4, filters=2, pyramid="average", window=None, preprocessing="none")
    w = weights(model)
    image = picture(32, 48) / 255
    yuv = np.float64(RGBToYUV()(image))[0]
    columns = []
    for scale in (1, 2, 4):
        level = np.pad(pool(yuv, scale, np.mean), ((21, 21), (21, 21), (0, 0)))
        rows, cols = (n // (4 * scale) for n in (32, 48))
        found = np.array(
            [
                [features_of_a_window(level[4 * i : 4 * i + 46, 4 * j : 4 * j + 46], w)
                 for j in range(cols)]
                for i in range(rows)
            ]
        )  # fmt: skip
        columns.append(found.repeat(scale, 0).repeat(scale, 1))
    features = np.concatenate(columns, axis=-1)
    assert_close(keras.Model(model.input, model.get_layer("features").output)(image)[0], features)
    scores = conv(np.tanh(conv(features, *w["hidden"])), *w["logits_low"])
    assert_close(model(image)[0], scores.repeat(4, 0).repeat(4, 1))


def test_other_sizes_are_the_mirrored_image_cut():
    model = models.MultiscaleCNN(3, filters=2)
    weights(model)
    image = picture(21, 40)
    mirrored = np.pad(image, ((0, 0), (0, 11), (0, 8), (0, 0)), mode="reflect")
    assert_close(model(image), np.asarray(model(mirrored))[:, :21, :40])


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
def test_the_pyramid_adds_up_to_the_image(upsampling):
    """Details plus the enlarged coarser level give each level back; a blank image has none."""
    model = models.MultiscaleCNN(3, filters=2, upsampling=upsampling)
    names = ("scale1_detail", "scale1_low", "yuv", "scale2_detail", "scale2_low", "scale2")
    levels = keras.Model(model.input, {n: model.get_layer(n).output for n in names})
    got = levels(picture(32, 32))
    assert_close(got["scale1_detail"] + got["scale1_low"], got["yuv"])
    assert_close(got["scale2_detail"] + got["scale2_low"], got["scale2"])
    assert np.abs(levels(np.full((1, 32, 32, 3), 90.0))["scale1_detail"]).max() < 1e-6


def test_random_connections():
    """427,910 connections with their biases, as the authors count them; the others are unused."""
    model = models.MultiscaleCNN(8, connections="random", classifier="linear", seed=3)
    stages = [model.get_layer(f"conv{i}") for i in (1, 2, 3)]
    assert sum(49 * sum(map(len, s.table)) + s.filters for s in stages) == 427_910
    assert [len(inputs) for inputs in stages[1].table] == [8] * 64
    assert [len(set(inputs)) for inputs in stages[2].table] == [32] * 256
    assert stages[0].table == [[0]] * 10 + [[1, 2]] * 6
    assert sum(int(np.count_nonzero(s.kernel)) + s.filters for s in stages) == 427_910
    again = models.MultiscaleCNN(8, connections="random", classifier="linear", seed=3)
    assert again.get_layer("conv3").table == stages[2].table
    other = models.MultiscaleCNN(8, connections="random", classifier="linear", seed=4)
    assert other.get_layer("conv3").table != stages[2].table


def test_yuv():
    pixels = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 1]], "float32")[None, None]
    expected = [[1, 0, 0], [0.299, -0.147, 0.615], [0.114, 0.436, -0.1]]
    np.testing.assert_allclose(RGBToYUV()(pixels)[0, 0], expected, atol=5e-4)


def test_each_channel_is_normalised_in_its_neighbourhood():
    x = np.random.default_rng(0).uniform(0, 1, (1, 20, 18, 2)).astype("float32")

    def local_mean(a):
        out = np.empty(a.shape)
        for i in range(20):
            for j in range(18):
                near = a[max(i - 7, 0) : i + 8, max(j - 7, 0) : j + 8]
                out[i, j] = near.mean((0, 1))
        return out

    centred = x[0] - local_mean(x[0])
    spread = np.sqrt(local_mean(centred**2))
    expected = centred / np.maximum(spread, spread.mean((0, 1)))
    layer = LocalContrastNormalization(15, deviation=None, joint=False)
    np.testing.assert_allclose(layer(x)[0], expected, atol=1e-4)
    assert LocalContrastNormalization.from_config(layer.get_config()).joint is False


def test_bad_arguments():
    for option in ("classifier", "connections", "pyramid", "upsampling"):
        with pytest.raises(ValueError, match=f"Unknown {option} of MultiscaleCNN 'best'"):
            models.MultiscaleCNN(3, **{option: "best"})
    with pytest.raises(ValueError, match="scales must be a whole number of at least 1, got 0"):
        models.MultiscaleCNN(3, scales=0)
    with pytest.raises(ValueError, match="window must be an odd number of pixels or None, got 4"):
        models.MultiscaleCNN(3, window=4)
