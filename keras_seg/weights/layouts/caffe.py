"""Caffe's names, as Berkeley's FCN has them; ours are alike.

voc-fcn32s, 16s, 8s, 8s-atonce and fcn-alexnet; nyud-fcn32s-color-hha (`FCNLateFusion`, our prefixes
for its suffixes "color" and "hha"); siftflow-fcn32s, 16s, 8s (`other_classes={"geometric": 3}`).
The trunk of GoogLeNet has the names of BVLC's classifier, for `keras_seg.weights.transfer`.

The transposed convolutions and the scales of "at once" are constants there and here: ours keep
their own.
"""

from keras_seg.weights.layouts.table import Layout, by_pattern

SCORE = r"(score_(?:fr|pool[34]))"


def _names(layers):
    # Two label spaces: then the semantic one has a suffix too.
    semantic = "_sem" if "score_fr_geometric" in layers else ""
    return by_pattern(
        layers,
        (
            (r"(conv\d(?:_\d)?|fc[67])", lambda name: name),
            (SCORE, lambda name: name + semantic),
            (SCORE + "_geometric", lambda name: f"{name}_geo"),
            (r"rgb_(conv\d_\d|fc[67]|score_fr)", lambda name: f"{name}color"),
            (r"depth_(conv\d_\d|fc[67]|score_fr)", lambda name: f"{name}hha"),
            (r"(conv\d|inception_\d[a-e])_(\d+x\d+\w*|pool_proj)", lambda *names: "/".join(names)),
            (r"upscore\w*", lambda: None),
        ),
    )


LAYOUT = Layout(
    reference="shelhamer/fcn.berkeleyvision.org",
    names=_names,
    ignored=(r"(upscore\w*|scale_pool[34])\.weight",),
)
