"""Our Cityscapes scores beside those of the official script, run here on pictures.

Not in CI, for what the package asks for besides (a `typing` that is older than Python's own); first

    pip install --no-deps "cityscapesScripts>=2.3" pyquaternion
"""

import math

import numpy as np
import pytest
import test_cityscapes as fixture
from PIL import Image

from keras_seg.metrics import CityscapesScores

pytestmark = pytest.mark.slow


def random_picture(rng):
    """Label, instance and predicted ids of an odd size: blocks, groups, every label, noise."""
    height, width = (int(n) for n in rng.integers(17, 90, 2))
    labels = np.zeros((height, width), "uint8")
    instances = np.zeros((height, width), "uint16")
    for number in range(40):
        top, left = rng.integers(0, height), rng.integers(0, width)
        block = np.s_[top : top + rng.integers(1, 30), left : left + rng.integers(1, 30)]
        label = int(rng.integers(0, 34))
        if rng.random() < 0.5:
            label = int(rng.choice([24, 25, 26, 27, 28, 29, 30, 31, 32, 33]))
        labels[block] = label
        is_instance = label >= 24 and rng.random() < 0.8
        instances[block] = 1000 * label + number if is_instance else label
    noise = rng.integers(0, 34, labels.shape)
    nearby = np.roll(labels, rng.integers(0, 4, 2), (0, 1))
    predicted = np.where(rng.random(labels.shape) < 0.15, noise, nearby).astype("uint8")
    return labels, instances, predicted


def judge(pictures, folder, monkeypatch):
    # The script asks for a function that NumPy 2.4 no longer has.
    if not hasattr(np, "in1d"):
        monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as script

    monkeypatch.setattr(script.args, "quiet", True)
    monkeypatch.setattr(script.args, "JSONOutput", False)
    predictions, truths = [], []
    for i, (labels, instances, predicted) in enumerate(pictures):
        truths.append(str(folder / f"a_{i:06}_000000_gtFine_labelIds.png"))
        predictions.append(str(folder / f"a_{i:06}_000000_predicted.png"))
        Image.fromarray(labels).save(truths[-1])
        Image.fromarray(instances).save(truths[-1].replace("labelIds", "instanceIds"))
        Image.fromarray(predicted).save(predictions[-1])
    return script.evaluateImgLists(predictions, truths, script.args)


CASES = [[(fixture.LABELS, fixture.INSTANCES, fixture.PREDICTED)]]
CASES += [
    [random_picture(np.random.default_rng([seed, i])) for i in range(count)]
    for seed, count in enumerate((1, 1, 1, 2, 3, 5, 8))
]


@pytest.mark.parametrize("pictures", CASES, ids=len)
def test_same_as_cityscapes_scripts(pictures, tmp_path, monkeypatch):
    theirs = judge(pictures, tmp_path, monkeypatch)
    found = CityscapesScores()
    for labels, instances, predicted in pictures:
        found.update(labels, predicted, instances)
    ours = found.result()
    assert found.matrix.tolist() == theirs["confMatrix"]
    for name, key in (
        ("class_iou", "classScores"),
        ("class_iiou", "classInstScores"),
        ("category_iou", "categoryScores"),
        ("category_iiou", "categoryInstScores"),
    ):
        for label, value in theirs[key].items():
            assert ours[name].get(label, math.nan) == pytest.approx(value, rel=1e-12, nan_ok=True)
    for name, key in (
        ("mean_class_iou", "averageScoreClasses"),
        ("mean_class_iiou", "averageScoreInstClasses"),
        ("mean_category_iou", "averageScoreCategories"),
        ("mean_category_iiou", "averageScoreInstCategories"),
    ):
        assert ours[name] == pytest.approx(theirs[key], rel=1e-12, nan_ok=True)
