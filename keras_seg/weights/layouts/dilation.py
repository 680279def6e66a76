"""Dilated convolutions of fyu/dilation, the layers' names of its prototxt files.

Ours are `DilatedFrontEnd`, `Dilation7`, `Dilation8`, `Dilation10` and `context_module`. The fixed
kernel that enlarges the scores of Dilation10 is not read: ours resizes.
"""

import re

from keras_seg.weights.layouts.table import Layout, by_pattern


def _names(layers):
    return by_pattern(layers, ((r"(final|(?:conv|fc|ct_|ctx_)\w+)", lambda name: name),))


def _prepare(state, ours):
    """The scores are "fc-final" in the networks for VOC, "final" in the others and in training."""
    del ours
    return {re.sub(r"^fc-final\.", "final.", name): array for name, array in state.items()}


LAYOUT = Layout(
    reference="fyu/dilation models/*.prototxt",
    names=_names,
    ignored=(r"ctx_upsample\.weight",),
    prepare=_prepare,
)
