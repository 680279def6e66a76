"""The label maps of every pinned value: 2 pictures, 5 classes, 2 void pixels.

Class 3 is never true but predicted once, class 4 neither.
"""

import numpy as np

LABELS = np.array(
    [[[0, 0, 1, 1], [0, 0, 1, 255], [2, 2, 1, 1]], [[1, 1, 1, 1], [1, 2, 2, 2], [0, 0, 0, 255]]],
    "uint8",
)
PREDICTED = np.array(
    [[[0, 0, 1, 1], [0, 1, 1, 1], [2, 0, 1, 3]], [[1, 1, 1, 2], [1, 2, 2, 2], [0, 1, 0, 0]]],
    "uint8",
)
MATRIX = [[5, 2, 0, 0, 0], [0, 8, 1, 1, 0], [1, 0, 4, 0, 0], [0] * 5, [0] * 5]
