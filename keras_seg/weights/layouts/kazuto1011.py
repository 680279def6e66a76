"""DeepLab of kazuto1011/deeplab-pytorch, `libs/models`; ours are `DeepLabV2`, `DeepLabV3` with
`form="paper"`, and `DeepLabV3Plus`.

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
ASPP = (
    (r"aspp(\d+)_(conv|bn)", lambda i, part: f"aspp.stages.c{i}.{part}"),
    (r"aspp_pool_(conv|bn)", lambda part: f"aspp.stages.imagepool.conv.{part}"),
    (r"aspp_project_(conv|bn)", lambda part: f"fc1.{part}"),
)
DECODER = (
    (r"low_level_(conv|bn)", lambda part: f"reduce.{part}"),
    (r"decoder(\d)_(conv|bn)", lambda i, part: f"fc2.conv{i}.{part}"),
)


def _names(layers):
    last = "fc2.conv3" if "low_level_conv" in layers else "fc2"
    logits = (r"logits_low", lambda: last)
    return by_pattern(layers, (*TRUNK, *ASPP_SUM, *ASPP, *DECODER, logits))


LAYOUT = Layout(
    reference="kazuto1011/deeplab-pytorch libs/models",
    names=_names,
    wrappers=("base.", "scale."),
)
