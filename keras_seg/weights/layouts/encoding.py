"""EncNet of zhanghang1989/PyTorch-Encoding, `encoding/models/sseg/encnet.py`; ours is `EncNet`.

The reference's checkpoints carry the heads of training (`auxlayer`, `selayer`), which are ignored
for a model without them, and some the classifier that the trunk was pretrained with. Checkpoints of
its ResNets alone (`resnet50s`) have the same names, for `keras_seg.weights.transfer`.
"""

from keras_seg.weights.layouts.table import (
    Layout,
    before,
    by_pattern,
    residual_stages,
    trunk_alone,
)

MODULE = "head.encmodule"


def _stem(kind, number):
    """conv1 holds convolution, BN, ReLU, convolution, BN, ReLU, convolution; bn1 is the last BN."""
    if kind == "bn" and number == "3":
        return "pretrained.bn1"
    return f"pretrained.conv1.{3 * before(number) + (kind == 'bn')}"


def _names(layers):
    return by_pattern(
        layers,
        (
            (r"stem_(conv|bn)(\d)", _stem),
            *residual_stages("pretrained."),
            (r"head_conv", lambda: "head.conv5.0"),
            (r"head_bn", lambda: "head.conv5.1"),
            (r"lateral(\d)_conv", lambda stage: f"head.connect.{int(stage) - 3}.0"),
            (r"lateral(\d)_bn", lambda stage: f"head.connect.{int(stage) - 3}.1"),
            (r"fusion_conv", lambda: "head.fusion.0"),
            (r"fusion_bn", lambda: "head.fusion.1"),
            (r"context_conv", lambda: f"{MODULE}.encoding.0"),
            (r"context_bn", lambda: f"{MODULE}.encoding.1"),
            (r"encoding", lambda: f"{MODULE}.encoding.3"),
            (r"encoding_bn", lambda: f"{MODULE}.encoding.4"),
            (r"gate", lambda: f"{MODULE}.fc.0"),
            (r"se", lambda: f"{MODULE}.selayer"),
            (r"logits_low", lambda: "head.conv6.1"),
            (r"aux_head_conv", lambda: "auxlayer.conv5.0"),
            (r"aux_head_bn", lambda: "auxlayer.conv5.1"),
            (r"aux_low", lambda: "auxlayer.conv5.4"),
        ),
    )


LAYOUT = Layout(
    reference="zhanghang1989/PyTorch-Encoding encoding/models/sseg/encnet.py",
    names=_names,
    ignored=(r"pretrained\.fc\.(weight|bias)",),
    prepare=trunk_alone("layer1.0.conv1.weight", "pretrained."),
    heads=("auxlayer.", f"{MODULE}.selayer."),
)
