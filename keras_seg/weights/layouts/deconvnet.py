"""DeconvNet of HyeonwooNoh/DeconvNet, the layers' names of its prototxt files; ours is `DeconvNet`.

Batch normalisation as scale, shift and running statistics.
"""

from keras_seg.weights.layouts.table import Layout, by_pattern


def _names(layers):
    return by_pattern(
        layers,
        (
            (r"(conv\d_\d|bn\d_\d|fc[67]|deconv\d_\d)", lambda name: name),
            (r"(fc[67])_bn", lambda name: f"bn{name}"),
            (r"deconv(\d_\d)_bn", lambda name: f"debn{name}"),
            (r"fc6_deconv", lambda: "fc6-deconv"),
            (r"fc6_deconv_bn", lambda: "fc6-deconv-bn"),
            (r"logits", lambda: "seg-score-voc"),
        ),
    )


LAYOUT = Layout(reference="HyeonwooNoh/DeconvNet model/DeconvNet/*.prototxt", names=_names)
