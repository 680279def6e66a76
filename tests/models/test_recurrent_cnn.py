"""RecurrentCNN: dense and on its grid, it is the paper's network slid over the image."""

import keras
import numpy as np
import pytest
from plain_network import assert_close, conv, picture, pool, weights

from keras_seg import models

KINDS = [
    # variant, instances, pixels seen, pixels a prediction
    ("rcnn1", 1, 25, 4),
    ("rcnn1", 2, 121, 16),
    ("rcnn2", 2, 67, 4),
    ("rcnn2", 3, 155, 8),
    ("plain", 1, 133, 16),
]
CLASSES = 3


def instance(planes, w, variant):
    first, second, last = w["conv1"], w["conv2"], w["classify"]
    x = np.tanh(pool(conv(planes, *first), 8 if variant == "plain" else 2))
    x = conv(x, *second)
    if variant != "rcnn2":
        x = np.tanh(pool(x, 2))
    return conv(x, *last)


def slid(window, w, variant, instances):
    """Scores of the pixel in the middle of `window`, as the paper computes them."""
    seen, step = {"rcnn1": (25, 4), "rcnn2": (23, 2), "plain": (133, 16)}[variant]
    image = window
    scores = instance(
        image if variant == "plain" else np.pad(image, ((0, 0), (0, 0), (0, CLASSES))), w, variant
    )
    for _ in range(1, instances):
        # The pixel in the middle of what each score has seen.
        rows, columns = scores.shape[:2]
        image = image[seen // 2 :: step, seen // 2 :: step][:rows, :columns]
        e = np.exp(scores - scores.max(-1, keepdims=True))
        probabilities = e / e.sum(-1, keepdims=True)
        scores = instance(np.concatenate([image, probabilities], axis=-1), w, variant)
    assert scores.shape == (1, 1, CLASSES)
    return scores[0, 0]


@pytest.mark.parametrize(("variant", "instances", "seen", "step"), KINDS)
def test_both_forms_equal_a_sliding_window(variant, instances, seen, step, tmp_path):
    options = {"variant": variant, "instances": instances, "filters": 4}
    dense = models.RecurrentCNN(CLASSES, **options)
    w = weights(dense)
    dense.save_weights(tmp_path / "dense.weights.h5")
    coarse = models.RecurrentCNN(
        CLASSES, dense=False, weights=tmp_path / "dense.weights.h5", **options
    )
    image = picture(37, 50)
    logits = np.asarray(dense(image))[0]
    assert logits.shape == (37, 50, CLASSES)
    before = seen // 2
    around = ((before, before), (before, before), (0, 0))
    mirrored = np.pad(np.float64(image[0]) / 255, around, mode="reflect")
    places = [(0, 0), (36, 49), (0, 49)]
    places += [tuple(p) for p in np.random.default_rng(2).integers(0, 37, (6, 2))]
    for y, x in places:
        expected = slid(mirrored[y : y + seen, x : x + seen], w, variant, instances)
        assert_close(logits[y, x], expected)

    # One prediction for each block, of the pixel left of and above its middle.
    low = keras.Model(coarse.input, coarse.get_layer("logits_low").output)(image)[0]
    assert low.shape[:2] == (-(-37 // step), -(-50 // step))
    on_grid = logits[step // 2 - 1 :: step, step // 2 - 1 :: step]
    assert_close(np.asarray(low)[: on_grid.shape[0], : on_grid.shape[1]], on_grid)
    assert coarse(image).shape == (1, 37, 50, CLASSES)


def test_dense_equals_shift_and_stitch():
    """rcnn2 twice has a grid of 4: from 16 shifted images come all predictions of one."""
    options = {"variant": "rcnn2", "instances": 2, "filters": 4}
    dense = models.RecurrentCNN(CLASSES, **options)
    weights(dense)
    coarse = models.RecurrentCNN(CLASSES, dense=False, **options)
    coarse.set_weights(dense.get_weights())
    coarse = keras.Model(coarse.input, coarse.get_layer("logits_low").output)
    image = picture(84, 88)
    stitched = np.zeros((84, 88, CLASSES))
    for y in range(4):
        for x in range(4):
            low = np.asarray(coarse(image[:, y:, x:]))[0]
            place = stitched[y + 1 :: 4, x + 1 :: 4]
            place[:] = low[: place.shape[0], : place.shape[1]]
    # The shifted images have another border; 33 pixels around a prediction are seen.
    inside = (slice(33 + 3, 84 - 33), slice(33 + 3, 88 - 33))
    assert_close(np.asarray(dense(image))[0][inside], stitched[inside])


def test_earlier_instances_are_the_network_applied_less_often():
    options = {"variant": "rcnn2", "filters": 4}
    model = models.RecurrentCNN(CLASSES, instances=3, aux=True, **options)
    weights(model)
    image = picture(20, 31)
    outputs = model(image)
    assert set(outputs) == {"logits", "instance1", "instance2"}
    for instances, name in ((1, "instance1"), (2, "instance2")):
        shorter = models.RecurrentCNN(CLASSES, instances=instances, **options)
        shorter.set_weights(model.get_weights())
        assert_close(outputs[name], shorter(image))
    scores = models.RecurrentCNN(CLASSES, instances=3, feedback="scores", **options)
    scores.set_weights(model.get_weights())
    assert np.abs(np.asarray(scores(image)) - outputs["logits"]).max() > 1e-3


def test_bad_arguments():
    with pytest.raises(ValueError, match="Unknown variant of RecurrentCNN 'rcnn3'"):
        models.RecurrentCNN(3, variant="rcnn3")
    with pytest.raises(ValueError, match="Unknown feedback 'logits'"):
        models.RecurrentCNN(3, feedback="logits")
    with pytest.raises(ValueError, match="instances must be a whole number of at least 1, got 0"):
        models.RecurrentCNN(3, instances=0)
    with pytest.raises(ValueError, match="'plain' is not recurrent"):
        models.RecurrentCNN(3, variant="plain")
    with pytest.raises(ValueError, match="aux=True needs dense=True"):
        models.RecurrentCNN(3, aux=True, dense=False)
