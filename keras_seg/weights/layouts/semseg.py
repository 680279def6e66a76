"""PSPNet of hszhao/semseg, `model/pspnet.py` and `model/resnet.py`; ours is `PSPNet`.

The reference builds its auxiliary head in training mode only, and its checkpoints carry it: it is
ignored for a model without one. Checkpoints of its ResNets alone (`resnet50_v2.pth`) name the
layers of the stem one by one, for `keras_seg.weights.transfer`.
"""

import re

from keras_seg.weights.layouts.table import Layout, before, by_pattern, residual_stages


def _names(layers):
    # The reference numbers the levels of the pyramid, we name them by their bins.
    bins = [m[1] for m in (re.fullmatch(r"ppm(\d+)_conv", layer) for layer in layers) if m]

    return by_pattern(
        layers,
        (
            (r"stem_conv(\d)", lambda i: f"layer0.{3 * before(i)}"),
            (r"stem_bn(\d)", lambda i: f"layer0.{3 * before(i) + 1}"),
            *residual_stages(),
            (r"ppm(\d+)_conv", lambda b: f"ppm.features.{bins.index(b)}.1"),
            (r"ppm(\d+)_bn", lambda b: f"ppm.features.{bins.index(b)}.2"),
            (r"head_conv", lambda: "cls.0"),
            (r"head_bn", lambda: "cls.1"),
            (r"logits_low", lambda: "cls.4"),
            (r"aux_head_conv", lambda: "aux.0"),
            (r"aux_head_bn", lambda: "aux.1"),
            (r"aux_low", lambda: "aux.4"),
        ),
    )


def _prepare(state, ours):
    """The stem of a ResNet alone under the names that it has in a PSPNet."""
    del ours
    if "conv3.weight" not in state:
        return state
    stem = re.compile(r"(conv|bn)([123])\.(.+)")

    def name(old):
        found = stem.fullmatch(old)
        if not found:
            return old
        kind, number, part = found.groups()
        return f"layer0.{3 * before(number) + (kind == 'bn')}.{part}"

    return {name(old): array for old, array in state.items()}


LAYOUT = Layout(
    reference="hszhao/semseg model/pspnet.py", names=_names, heads=("aux.",), prepare=_prepare
)
