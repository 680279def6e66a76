"""DeconvNet's procedure: boxes, and how their scores become one map, worked out by hand."""

import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from keras_seg.crf import DenseCRF
from keras_seg.data import LabelTable, Sample
from keras_seg.inference import (
    Predictor,
    ProposalPredictor,
    choose_boxes,
    edge_boxes,
    enlarge_boxes,
    evaluate,
    selective_search,
)
from keras_seg.inference.proposals import _boxes_of_edges


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def by_mean(images):
    """Scores (-1, mean red, 2): the same at every pixel of what the network sees."""
    red = images[..., 0].mean(axis=(1, 2), keepdims=True) * np.ones(images.shape[:3])
    return np.stack([0 * red - 1, red, 0 * red + 2], axis=-1)


def image_of(*columns):
    """An image of 4 rows whose red is given for each column."""
    image = np.zeros((4, len(columns), 3), "uint8")
    image[..., 0] = columns
    return image


BOXES = [(0, 0, 4, 2), (0, 1, 4, 3)]
RED = (6, 6, 0, 0, 9)


def proposals(runner, **options):
    options = {"least": 1, "enlarge": 1, "size": (8, 8)} | options
    return ProposalPredictor(runner, lambda image: BOXES, **options)


def test_maximum_of_the_scores_and_zero(fake_runner):
    # Columns 0-1 have a mean red of 6, columns 1-2 of 3; no box has columns 3 and 4.
    found = proposals(fake_runner(by_mean)).scores(image_of(*RED))
    expected = [[0, 6, 2], [0, 6, 2], [0, 3, 2], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(found, np.tile(np.float32(expected), (4, 1, 1)), rtol=1e-6)


def test_mean_of_the_zero_padded_scores(fake_runner):
    found = proposals(fake_runner(by_mean), aggregate="mean").scores(image_of(*RED))
    # Column 1: ((-1, 6, 2) + (-1, 3, 2)) / 2; the others half of their one box.
    expected = [[-0.5, 3, 1], [-1, 4.5, 2], [-0.5, 1.5, 1], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(found, np.tile(np.float32(expected), (4, 1, 1)), rtol=1e-6)


def test_pixels_in_no_box_are_background(fake_runner):
    predictor = proposals(fake_runner(by_mean))
    np.testing.assert_array_equal(predictor.predict(image_of(*RED)), [[1, 1, 1, 0, 0]] * 4)
    probabilities = predictor.probabilities(image_of(*RED))
    np.testing.assert_allclose(probabilities[0, 4], [1 / 3] * 3, rtol=1e-6)
    np.testing.assert_allclose(probabilities[0, 0], softmax(np.array([0, 6, 2.0])), rtol=1e-5)
    nothing = predictor.predict(image_of(*RED), boxes=np.zeros((0, 4)))
    np.testing.assert_array_equal(nothing, np.zeros((4, 5)))


def test_a_box_is_resized_to_the_network_and_back(fake_runner):
    runner = fake_runner(lambda images: images / 10, size=(224, 224))
    y, x = np.mgrid[:90, :120]
    image = np.stack([y, x, y + x], axis=-1).astype("uint8")
    predictor = ProposalPredictor(runner, lambda image: [(20, 30, 76, 86)], least=50, enlarge=1)
    found = predictor.scores(image)
    assert runner.seen[0].shape == (1, 224, 224, 3)
    # 56 pixels to 224 and back: slopes stay, away from the borders, which are level.
    np.testing.assert_allclose(found[22:74, 32:84], image[22:74, 32:84] / 10, atol=1e-3)
    assert np.count_nonzero(found[:20]) == np.count_nonzero(found[:, 86:]) == 0


def test_a_box_may_leave_the_image(fake_runner):
    seen = []

    def network(images):
        seen.append(images[0])
        return images + 1

    image = np.full((10, 10, 3), 50, "uint8")
    predictor = ProposalPredictor(
        fake_runner(network), lambda image: [(0, 0, 10, 5)], least=1, enlarge=1.4, size=(14, 7)
    )
    # The box 10 x 5 becomes 14 x 7: rows -2 .. 12, columns -1 .. 6. Outside it is black.
    found = predictor.scores(image)
    expected = np.zeros((14, 7, 3))
    expected[2:12, 1:] = 50
    np.testing.assert_array_equal(seen[0], expected)
    np.testing.assert_array_equal(found[:, :6], np.full((10, 6, 3), 51))
    assert (found[:, 6:] == 0).all()


def test_boxes_are_chosen_by_rank_and_size():
    boxes = [(0, 0, 200, 111), (5, 5, 117, 300), (0, 0, 112, 112), (0, 0, 500, 500)]
    assert choose_boxes(boxes).tolist() == [list(box) for box in boxes[1:]]
    assert choose_boxes(boxes, count=2).tolist() == [list(box) for box in boxes[1:3]]
    assert choose_boxes(boxes, least=300).tolist() == [list(boxes[3])]
    # 1.2 times 100 and 50 pixels: 10 and 5 more on each side.
    assert enlarge_boxes([(20, 30, 120, 80)]).tolist() == [[10, 25, 130, 85]]
    for wrong, message in [([(0, 0, 5)], r"\(n, 4\)"), ([(3, 0, 3, 5)], "must end below")]:
        with pytest.raises(ValueError, match=message):
            choose_boxes(wrong)
    with pytest.raises(ValueError, match="factor must be"):
        enlarge_boxes(boxes, 0.5)


@pytest.mark.parametrize("combine", ["mean", "product"])
def test_ensemble_with_a_network_of_whole_images(fake_runner, combine):
    def whole(images):
        return np.stack([images[..., 0] / 3, 0 * images[..., 0] - 1, images[..., 1] + 1], axis=-1)

    image = image_of(*RED)
    other = Predictor(fake_runner(whole))
    predictor = proposals(fake_runner(by_mean), ensemble=other, combine=combine)
    scores = np.array([[0, 6, 2], [0, 6, 2], [0, 3, 2], [0, 0, 0], [0, 0, 0]], float)
    logits = np.array([[2, -1, 1], [2, -1, 1], [0, -1, 1], [0, -1, 1], [3, -1, 1]], float)
    if combine == "mean":
        expected = (softmax(scores) + softmax(logits)) / 2
    else:
        expected = softmax(scores * np.maximum(logits, 0))
    found = predictor.probabilities(image)
    np.testing.assert_allclose(found, np.tile(np.float32(expected), (4, 1, 1)), atol=1e-6)


def test_crf_and_evaluate(fake_runner):
    image = image_of(*RED)
    predictor = proposals(fake_runner(by_mean))
    crf = DenseCRF(theta_alpha=3, theta_beta=3, theta_gamma=1)
    refined = predictor.probabilities(image, crf=crf)
    np.testing.assert_allclose(refined, crf(predictor.probabilities(image), image), atol=1e-6)

    class Pictures(list):
        table = LabelTable.default(3)

    label = np.array([[1, 1, 0, 0, 0]] * 4, "uint8")
    result = evaluate(predictor, Pictures([Sample(image, label, "one")]), progress=False)
    assert result["pixel_accuracy"] == pytest.approx(16 / 20)
    predictor.check(crf="deeplab")
    with pytest.raises(ValueError, match="Unknown CRF"):
        predictor.check(crf="none")


def drawing():
    """A bright disc and a dark square on a grey wall, 100 x 150."""
    picture = Image.new("RGB", (150, 100), (120, 125, 130))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((15, 20, 64, 69), (250, 220, 40))
    draw.rectangle((90, 30, 139, 79), (20, 30, 90))
    noise = np.random.default_rng(0).normal(0, 3, (100, 150, 3))
    return np.clip(np.asarray(picture) + noise, 0, 255).astype("uint8")


def overlap(boxes, target):
    """The best intersection over union of any box with the target."""
    top, left = np.maximum(boxes[:, :2], target[:2]).T
    bottom, right = np.minimum(boxes[:, 2:], target[2:]).T
    both = np.clip(bottom - top, 0, None) * np.clip(right - left, 0, None)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return (both / (areas + (target[2] - target[0]) * (target[3] - target[1]) - both)).max()


def test_selective_search_finds_the_objects(fake_runner):
    image = drawing()
    boxes = selective_search(image)
    assert overlap(boxes, (20, 15, 70, 65)) > 0.9
    assert overlap(boxes, (30, 90, 80, 140)) > 0.9
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (100, 150)).all()
    # Yellow is class 1 wherever a box shows it; a box of the wall alone is class 0.
    yellow = fake_runner(lambda images: images[..., [2, 0, 2]] - 150)
    label = ProposalPredictor(yellow, least=30, size=(32, 32)).predict(image)
    assert label[45, 40] == 1 and label[90, 80] == 0


def test_edge_boxes_of_known_edges(fake_runner):
    """The half of edge boxes that needs no trained edges: the contour of one square."""
    import cv2

    edges = np.zeros((100, 150), "float32")
    directions = np.zeros_like(edges)
    edges[30, 90:140] = edges[79, 90:140] = edges[30:80, 90] = edges[30:80, 139] = 1
    directions[30, 90:140] = directions[79, 90:140] = np.pi / 2
    boxes = _boxes_of_edges(cv2, edges, directions, 20)
    assert 1 <= len(boxes) <= 20
    assert overlap(boxes[:1], (30, 90, 80, 140)) > 0.8


def test_edge_boxes_need_their_model(tmp_path):
    with pytest.raises(ValueError, match="no edge model"):
        edge_boxes(drawing(), tmp_path / "model.yml.gz")
    (tmp_path / "model.yml").write_text("nothing: 1\n")
    with pytest.raises(ValueError, match="no structured forest"):
        edge_boxes(drawing(), tmp_path / "model.yml")


def test_without_opencv(monkeypatch, fake_runner):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ValueError, match=r"keras-seg\[proposals\]"):
        selective_search(drawing())
    with pytest.raises(ValueError, match=r"keras-seg\[proposals\]"):
        ProposalPredictor(fake_runner(by_mean))
    # Boxes of the caller need none.
    assert proposals(fake_runner(by_mean)).predict(image_of(*RED)).shape == (4, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregate": "sum"}, "Unknown aggregate 'sum'"),
        ({"combine": "add"}, "Unknown combine 'add'"),
        ({"count": 0}, "count must be"),
        ({"enlarge": 0.9}, "factor must be"),
    ],
)
def test_bad_options_are_refused(fake_runner, options, message):
    with pytest.raises(ValueError, match=message):
        proposals(fake_runner(by_mean), **options)


def test_networks_that_do_not_fit_are_refused(fake_runner):
    other = Predictor(fake_runner(by_mean, classes=4))
    with pytest.raises(ValueError, match="an ensemble needs the same"):
        proposals(fake_runner(by_mean), ensemble=other)
    with pytest.raises(ValueError, match="there is no file edges.yml"):
        ProposalPredictor(fake_runner(by_mean), "edges.yml")
