"""Wide ResNets of mapillary/inplace_abn, `scripts/models/wider_resnet.py`; ours is `ResNet38`.

The trunk and the classifier. The reference has no name for the authors' segmentation head: take
`keras_seg.weights.transfer` for a segmenter.

The published networks are trained with InPlaceABN, which scales by |weight| + 1e-5: a factor below
zero counts by its size. It is loaded as such; the 1e-5 is left out, so that those of plain batch
normalisation (the reference's ABN), where they are positive, are loaded as they are.
"""

import re

import numpy as np

from keras_seg.weights.layouts.table import Layout, by_pattern


def _names(layers):
    def unit(level, block, part, index):
        inside = "" if part == "bn" and index == "1" else "convs."
        return f"mod{level}.block{block}.{inside}{part}{index}"

    return by_pattern(
        layers,
        (
            (r"level1_conv", lambda: "mod1.conv1"),
            (r"level(\d)_block(\d+)_(bn|conv)(\d)", unit),
            (r"level(\d)_block(\d+)_shortcut", lambda lv, b: f"mod{lv}.block{b}.proj_conv"),
            (r"out_bn", lambda: "bn_out"),
            (r"logits", lambda: "classifier.fc"),
        ),
    )


def _prepare(state, ours):
    """Without the sign of the factors, see above."""
    del ours
    factor = re.compile(r"(.+\.bn\d|bn_out)\.weight")
    return {
        name: np.abs(np.asarray(array)) if factor.fullmatch(name) else array
        for name, array in state.items()
    }


LAYOUT = Layout(
    reference="mapillary/inplace_abn scripts/models/wider_resnet.py",
    names=_names,
    prepare=_prepare,
    heads=("classifier.",),
)
