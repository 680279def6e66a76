"""FCN and DeepLab v3 of torchvision, `models/segmentation`; ours are `FCNResNet` and
`DeepLabV3(form="torchvision")`.

The weights that torchvision ships carry the auxiliary head: it is ignored for a model without one.
Its classifiers (`resnet50`) have the names of the trunk alone, for `keras_seg.weights.transfer`.
"""

import re

from keras_seg.weights.layouts.table import Layout, by_pattern, residual_stages, trunk_alone


def _names(layers):
    # DeepLab's classifier has the pyramid before the head's convolution.
    head = 1 if "aspp_project_conv" in layers else 0
    # The image pooling counts on from the convolutions, and its pool is a module of its own.
    pooling = sum(re.fullmatch(r"aspp\d+_conv", layer) is not None for layer in layers)
    part = {"conv": 0, "bn": 1}

    return by_pattern(
        layers,
        (
            (r"stem_(conv|bn)1", lambda kind: f"backbone.{kind}1"),
            *residual_stages("backbone."),
            (r"aspp(\d+)_(conv|bn)", lambda i, kind: f"classifier.0.convs.{i}.{part[kind]}"),
            (r"aspp_pool_(conv|bn)", lambda kind: f"classifier.0.convs.{pooling}.{part[kind] + 1}"),
            (r"aspp_project_(conv|bn)", lambda kind: f"classifier.0.project.{part[kind]}"),
            (r"head_(conv|bn)", lambda kind: f"classifier.{head + part[kind]}"),
            (r"logits_low", lambda: "classifier.4"),
            (r"aux_head_(conv|bn)", lambda kind: f"aux_classifier.{part[kind]}"),
            (r"aux_low", lambda: "aux_classifier.4"),
        ),
    )


LAYOUT = Layout(
    reference="pytorch/vision torchvision/models/segmentation",
    names=_names,
    ignored=(r"backbone\.fc\.(weight|bias)",),
    heads=("aux_classifier.",),
    prepare=trunk_alone("layer1.0.conv1.weight", "backbone."),
)
