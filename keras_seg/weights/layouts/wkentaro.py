"""FCN of wkentaro/pytorch-fcn, `torchfcn/models/fcn*s.py`; our layers have the same names.

The transposed convolutions hold fixed bilinear kernels there and here: ours keep their own.
"""

from keras_seg.weights.layouts.table import Layout, by_pattern


def _names(layers):
    return by_pattern(
        layers,
        (
            (r"(conv[1-5]_[1-3]|fc[67]|score_fr|score_pool[34])", lambda name: name),
            (r"upscore\w*", lambda: None),
        ),
    )


LAYOUT = Layout(
    reference="wkentaro/pytorch-fcn torchfcn/models",
    names=_names,
    ignored=(r"upscore\w*\.weight",),
)
