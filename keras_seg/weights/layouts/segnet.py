"""SegNet of alexgkendall/SegNet-Tutorial, the layers' names of its prototxt files.

Ours are `SegNet` and `SegNetBasic`, with or without dropout. Where the statistics are within scale
and shift, as the authors' script leaves them, mean 0 and variance 1 stand for them. One of the
released networks is another one: bayesian_segnet_camvid has a block conv1_1_D of 64 channels and a
classifier behind it.
"""

import re

from keras_seg.weights.layouts.table import Layout, by_pattern


def _names(layers):
    basic = "conv_decode1" in layers
    return by_pattern(
        layers,
        (
            (r"(conv\w+)", lambda name: name),
            (r"bn(\w+)", lambda name: f"conv{name}_bn"),
            (r"logits", lambda: "conv_classifier" if basic else "conv1_1_D"),
        ),
    )


def _prepare(state, ours):
    """The classifier of the Basic networks has one name in some files, one in the others."""
    del ours
    other = r"^dense_softmax_inner_prod\."
    return {re.sub(other, "conv_classifier.", name): array for name, array in state.items()}


LAYOUT = Layout(
    reference="alexgkendall/SegNet-Tutorial Models/*.prototxt", names=_names, prepare=_prepare
)
