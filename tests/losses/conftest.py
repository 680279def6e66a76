"""The fixture of every pinned value: 2 images of 2 x 3 pixels, 4 classes, one ignored pixel.

Class 3 is in no label, class 2 only in the first image.
"""

import numpy as np
import pytest

Z = [
    [[[2, 1, 0, -1], [0.5, 0.5, 0, -1], [-1, 2, 0.5, -1]],
     [[0, 0, 3, -1], [1, -1, 0, -1], [0.2, 0.1, 0.3, -1]]],
    [[[1, 0, -1, -1], [0, 1, 0, -1], [3, 0, 0, -1]],
     [[-2, 0, 1, -1], [0.5, 1.5, -0.5, -1], [0, 0, 0, -1]]],
]  # fmt: skip
Y = [[[0, 0, 1], [2, 255, 2]], [[0, 1, 0], [1, 1, 0]]]


@pytest.fixture
def logits():
    return np.array(Z, "float32")


@pytest.fixture
def labels():
    return np.array(Y, "int32")
