"""DeepLab of kazuto1011/deeplab-pytorch, `libs/models`; ours is `DeepLabV2`.

Its multi-scale wrapper puts "base." before every name ("scale." in older versions); the weights are
those of the network inside.
"""

from keras_seg.weights.layouts.table import Layout, before, by_pattern

# A residual unit's convolutions, and the module of each in the reference.
UNIT = {"1": "reduce", "2": "conv3x3", "3": "increase"}

TRUNK = (
    (r"stem_(conv|bn)1", lambda part: f"layer1.conv1.{part}"),
    (
        r"stage(\d)_block(\d+)_(conv|bn)(\d)",
        lambda stage, block, part, i: f"layer{stage}.block{block}.{UNIT[i]}.{part}",
    ),
    (
        r"stage(\d)_block(\d+)_shortcut_(conv|bn)",
        lambda stage, block, part: f"layer{stage}.block{block}.shortcut.{part}",
    ),
)
ASPP_SUM = ((r"aspp_conv(\d)", lambda i: f"aspp.c{before(i)}"),)


def _names(layers):
    return by_pattern(layers, (*TRUNK, *ASPP_SUM))


LAYOUT = Layout(
    reference="kazuto1011/deeplab-pytorch libs/models",
    names=_names,
    wrappers=("base.", "scale."),
)
