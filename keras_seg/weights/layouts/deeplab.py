"""DeepLab v1 and v2 as their authors released them for Caffe; ours are `DeepLabV1`, `DeepLabV2`.

The name of the experiment within the last layers ("fc8_voc12", "fc1_coco_c0") may be any. A network
trained on several scales holds the layers of the smaller ones again, with the same weights: they
are ignored.
"""

import re

from keras_seg.weights.layouts.table import Layout, before, by_pattern

# Caffe's residual units: the convolutions 1, 2, 3 of a block.
BRANCHES = {"1": "2a", "2": "2b", "3": "2c"}


def _names(layers):
    stage4 = {layer.split("_")[1] for layer in layers if layer.startswith("stage4_")}
    single = sum(layer.startswith("aspp_conv") for layer in layers) == 1

    def unit(stage, block):
        """The third block of stage 4: "4c", and "4b2" in ResNet-101 and 152."""
        if stage in "34" and len(stage4) > 6:
            return stage + ("a" if block == "1" else f"b{before(block)}")
        return stage + "abcdef"[before(block)]

    def part(kind):
        return "res" if kind == "conv" else "bn"

    return by_pattern(
        layers,
        (
            (r"(conv\d_\d|fc[678](?:_\d)?|(?:data|pool\d)_(?:conv|fc|ms))", lambda name: name),
            (r"stem_conv1", lambda: "conv1"),
            (r"stem_bn1", lambda: "bn_conv1"),
            (
                r"stage(\d)_block(\d+)_(conv|bn)(\d)",
                lambda s, b, kind, i: f"{part(kind)}{unit(s, b)}_branch{BRANCHES[i]}",
            ),
            (
                r"stage(\d)_block(\d+)_shortcut_(conv|bn)",
                lambda s, b, kind: f"{part(kind)}{unit(s, b)}_branch1",
            ),
            (r"aspp_conv(\d)", lambda i: "fc1" if single else f"fc1_c{before(i)}"),
        ),
    )


def _prepare(state, ours):
    """Without the name of the experiment, and each Scale layer as part of its BatchNorm."""
    del ours

    def plain(name):
        name = re.sub(r"^scale(_conv1|\d\w*_branch\w+)\.", r"bn\1.", name)
        return re.sub(r"^(fc[18])_[A-Za-z]\w*?((?:_c?\d)?)\.", r"\1\2.", name)

    return {plain(name): array for name, array in state.items()}


LAYOUT = Layout(
    reference="the authors' Caffe networks of DeepLab v1 and v2",
    names=_names,
    ignored=(r".*res0(?:75|5).*",),
    prepare=_prepare,
)
