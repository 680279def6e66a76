"""Networks of qubvel-org/segmentation_models.pytorch; ours are those of `models/smp.py`.

What a network carries and does not use is ignored: stages of the encoder beyond its depth,
attention over a skip that is not there, and the classifier of images that smp calls auxiliary.
"""

import re

from keras_seg.weights.layouts.table import Layout, before, by_pattern, residual_stages

PART = {"conv": 0, "bn": 1}
ATTENTION = {"squeeze": "cSE.1", "excite": "cSE.3", "space": "sSE.0"}

# VGG16's convolutions: each is followed by a ReLU, and a block by a pool.
VGG_BLOCKS = (2, 2, 3, 3, 3)
VGG_MODULES = 2 * sum(VGG_BLOCKS) + len(VGG_BLOCKS)


def _vgg(block, number):
    earlier = VGG_BLOCKS[: before(block)]
    return f"encoder.features.{2 * sum(earlier) + len(earlier) + 2 * before(number)}"


UNET = (
    (r"center_(\d)_(conv|bn)", lambda j, kind: f"decoder.center.{before(j)}.{PART[kind]}"),
    (
        r"up(\d+)_(\d)_(conv|bn)",
        lambda i, j, kind: f"decoder.blocks.{before(i)}.conv{j}.{PART[kind]}",
    ),
    (
        r"up(\d+)_attention(\d)_(squeeze|excite|space)",
        lambda i, j, part: f"decoder.blocks.{before(i)}.attention{j}.attention.{ATTENTION[part]}",
    ),
)


def _pyramid(layers):
    # smp numbers the levels, we name them by their bins.
    found = (re.fullmatch(r"ppm(\d+)_conv", layer) for layer in layers)
    bins = sorted(int(match[1]) for match in found if match)
    return (
        (
            r"ppm(\d+)_(conv|bn)",
            lambda b, kind: f"decoder.psp.blocks.{bins.index(int(b))}.pool.1.{PART[kind]}",
        ),
        (r"head_(conv|bn)", lambda kind: f"decoder.conv.{PART[kind]}"),
    )


def _deeplab(layers):
    plus = "low_level_conv" in layers
    aspp = "decoder.aspp.0" if plus else "decoder.aspp"
    pooling = sum(re.fullmatch(r"aspp\d+_conv", layer) is not None for layer in layers)

    def branch(i, kind):
        if kind == "bn":
            return f"{aspp}.convs.{i}.1"
        split = f"aspp{i}_depthwise" in layers
        return f"{aspp}.convs.{i}.0" + (".1" if split else "")

    rows = (
        (r"aspp(\d+)_(conv|bn)", branch),
        (r"aspp(\d+)_depthwise", lambda i: f"{aspp}.convs.{i}.0.0"),
        (r"aspp_pool_(conv|bn)", lambda kind: f"{aspp}.convs.{pooling}.{PART[kind] + 1}"),
        (r"aspp_project_(conv|bn)", lambda kind: f"{aspp}.project.{PART[kind]}"),
    )
    if not plus:
        return (*rows, (r"head_(conv|bn)", lambda kind: f"decoder.{kind}"))
    return (
        *rows,
        (r"head_depthwise", lambda: "decoder.aspp.1.0"),
        (r"head_conv", lambda: "decoder.aspp.1.1"),
        (r"head_bn", lambda: "decoder.aspp.2"),
        (r"low_level_(conv|bn)", lambda kind: f"decoder.block1.{PART[kind]}"),
        (r"decoder_depthwise", lambda: "decoder.block2.0.0"),
        (r"decoder_conv", lambda: "decoder.block2.0.1"),
        (r"decoder_bn", lambda: "decoder.block2.1"),
    )


def _names(layers):
    return by_pattern(
        layers,
        (
            (r"stem_(conv|bn)1", lambda kind: f"encoder.{kind}1"),
            *residual_stages("encoder."),
            (r"conv(\d)_(\d)", _vgg),
            *UNET,
            *(_deeplab(layers) if "aspp_project_conv" in layers else _pyramid(layers)),
            (r"logits|logits_low", lambda: "segmentation_head.0"),
        ),
    )


def _prepare(state, layers):
    """DeepLab v3's decoder was a list before version 0.5: "decoder.0" is its pyramid."""
    if "aspp_project_conv" not in layers or "low_level_conv" in layers:
        return state
    parts = {"0": "aspp", "1": "conv", "2": "bn"}
    return {
        re.sub(r"^decoder\.([012])\.", lambda m: f"decoder.{parts[m[1]]}.", name): array
        for name, array in state.items()
    }


LAYOUT = Layout(
    reference="qubvel-org/segmentation_models.pytorch segmentation_models_pytorch/decoders",
    names=_names,
    heads=(
        *(f"encoder.layer{i}." for i in range(1, 5)),
        *(f"encoder.features.{i}." for i in range(VGG_MODULES)),
        *(f"decoder.blocks.{i}.attention1." for i in range(5)),
        "classification_head.",
    ),
    prepare=_prepare,
)
