"""FCN and DeepLab v3 of torchvision, `models/segmentation`; ours are `FCNResNet` and
`DeepLabV3(form="torchvision")`, on a ResNet or on "mobilenet-v3-large".

The weights that torchvision ships carry the auxiliary head: it is ignored for a model without one.
Its classifiers (`resnet50`, `mobilenet_v3_large`) have the names of the trunk alone, for
`keras_seg.weights.transfer`.
"""

import re

from keras_seg.weights.layouts.table import Layout, by_pattern, residual_stages, trunk_alone

# The last convolution of MobileNetV3 follows the stem, 0, and 15 blocks.
MOBILENET_LAST = 16


def _names(layers):
    # DeepLab's classifier has the pyramid before the head's convolution.
    head = 1 if "aspp_project_conv" in layers else 0
    # The image pooling counts on from the convolutions, and its pool is a module of its own.
    pooling = sum(re.fullmatch(r"aspp\d+_conv", layer) is not None for layer in layers)
    part = {"conv": 0, "bn": 1}

    def inverted(block, step, kind):
        """A step of a MobileNetV3 block; the steps that a block lacks are not counted."""
        steps = [("expand", "expand_conv"), ("depthwise", "depthwise_conv")]
        steps += [("se", "squeeze_conv"), ("project", "project_conv")]
        steps = [name for name, layer in steps if f"block{block}_{layer}" in layers]
        if step in ("squeeze", "excite"):
            return f"backbone.{block}.block.{steps.index('se')}.fc{1 + (step == 'excite')}"
        return f"backbone.{block}.block.{steps.index(step)}.{part[kind]}"

    return by_pattern(
        layers,
        (
            (r"stem_(conv|bn)1", lambda kind: f"backbone.{kind}1"),
            *residual_stages("backbone."),
            (r"stem_(conv|bn)", lambda kind: f"backbone.0.{part[kind]}"),
            (r"block(\d+)_([a-z]+)_(conv|bn)", inverted),
            (r"last_(conv|bn)", lambda kind: f"backbone.{MOBILENET_LAST}.{part[kind]}"),
            (r"aspp(\d+)_(conv|bn)", lambda i, kind: f"classifier.0.convs.{i}.{part[kind]}"),
            (r"aspp_pool_(conv|bn)", lambda kind: f"classifier.0.convs.{pooling}.{part[kind] + 1}"),
            (r"aspp_project_(conv|bn)", lambda kind: f"classifier.0.project.{part[kind]}"),
            (r"head_(conv|bn)", lambda kind: f"classifier.{head + part[kind]}"),
            (r"logits_low", lambda: "classifier.4"),
            (r"aux_head_(conv|bn)", lambda kind: f"aux_classifier.{part[kind]}"),
            (r"aux_low", lambda: "aux_classifier.4"),
        ),
    )


def _trunk(state, layers):
    """The classifiers' names as in a whole network: "layer1..." and "features.0..." (MobileNet)."""
    if "features.0.0.weight" in state:
        names = [name for name in state if name.startswith("features.")]
        return {"backbone." + name.removeprefix("features."): state[name] for name in names}
    return trunk_alone("layer1.0.conv1.weight", "backbone.")(state, layers)


LAYOUT = Layout(
    reference="pytorch/vision torchvision/models/segmentation",
    names=_names,
    ignored=(r"backbone\.fc\.(weight|bias)",),
    heads=("aux_classifier.",),
    prepare=_trunk,
)
