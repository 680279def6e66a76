"""SegNet of alexgkendall/SegNet-Tutorial, the layers' names of its prototxt files.

Ours are `SegNet` and `SegNetBasic`. Batch normalisation as running statistics, not as the scale and
shift that the authors' script folds them into.
"""

from keras_seg.weights.layouts.table import Layout, by_pattern


def _names(layers):
    basic = "conv_decode1" in layers
    return by_pattern(
        layers,
        (
            (r"(conv\w+)", lambda name: name),
            (r"bn(\w+)", lambda name: f"conv{name}_bn"),
            (r"logits", lambda: "conv_classifier" if basic else "conv1_1_D"),
        ),
    )


LAYOUT = Layout(reference="alexgkendall/SegNet-Tutorial Models/*.prototxt", names=_names)
