"""Dilated convolutions of fyu/dilation, the layers' names of its prototxt files.

Ours are `DilatedFrontEnd`, `Dilation7`, `Dilation8`, `Dilation10` and `context_module`. The fixed
kernel that enlarges the scores of Dilation10 is not read: ours resizes.
"""

from keras_seg.weights.layouts.table import Layout, by_pattern


def _names(layers):
    # The release names the scores "fc-final" in the networks for VOC and "final" in the others.
    voc = not any(layer.startswith("ctx_") for layer in layers)
    return by_pattern(
        layers,
        (
            (r"final", lambda: "fc-final" if voc else "final"),
            (r"((?:conv|fc|ct_|ctx_)\w+)", lambda name: name),
        ),
    )


LAYOUT = Layout(
    reference="fyu/dilation models/*.prototxt", names=_names, ignored=(r"ctx_upsample\.weight",)
)
