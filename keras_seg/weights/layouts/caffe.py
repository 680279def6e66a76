"""Caffe's names, as Berkeley's FCN has them (voc-fcn32s, voc-fcn16s, voc-fcn8s); ours are alike.

The transposed convolutions hold fixed bilinear kernels there and here: ours keep their own.
"""

from keras_seg.weights.layouts.table import Layout, by_pattern


def _names(layers):
    return by_pattern(
        layers,
        (
            (r"(conv\d_\d|fc[67]|score_fr|score_pool[34])", lambda name: name),
            (r"upscore\w*", lambda: None),
        ),
    )


LAYOUT = Layout(
    reference="shelhamer/fcn.berkeleyvision.org",
    names=_names,
    ignored=(r"upscore\w*\.weight",),
)
