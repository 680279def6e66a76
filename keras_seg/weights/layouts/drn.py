"""DRN of fyu/drn: the classifiers of `drn.py` and the segmenter of `segment.py`; ours is `DRN`.

The segmenter holds the children of a classifier, numbered, as "base". DRN-A and DRN-B, C have
convolution, BN, ReLU (and A a pool) before the first level, DRN-D counts them as a level.

Left out: the segmenter's fixed up-sampling kernel; and the projection of level 7 in DRN-C-58, which
the reference computes and then does not add.
"""

from keras_seg.weights.layouts.table import Layout, before, by_pattern


def _names(layers):
    segmenter = "logits_low" in layers
    if "stem_conv1" in layers:
        children_before = 3  # DRN-A
    else:
        children_before = 0 if "level1_conv1" in layers else 2

    def level(number):
        return f"base.{int(number) + children_before}" if segmenter else f"layer{number}"

    def first(part):
        if segmenter:
            return f"base.{int(part == 'bn')}"
        return f"{part}1"

    def convolutions(number, part, index):
        """Convolution, BN, ReLU, convolution, BN, ReLU."""
        if number == "0" and children_before:
            return first(part)
        return f"{level(number)}.{3 * before(index) + (part == 'bn')}"

    def block(kind, number, index):
        # DRN-A's groups count from 1, our stages from 2.
        number = before(number) if kind == "stage" else number
        return f"{level(number)}.{before(index)}"

    shortcut = {"conv": "downsample.0", "bn": "downsample.1"}
    return by_pattern(
        layers,
        (
            (r"stem_(conv|bn)1", first),
            (r"level(\d)_(conv|bn)(\d)", convolutions),
            (
                r"(level|stage)(\d)_block(\d+)_((?:conv|bn)\d)",
                lambda kind, n, b, part: f"{block(kind, n, b)}.{part}",
            ),
            (
                r"(level|stage)(\d)_block(\d+)_shortcut_(conv|bn)",
                lambda kind, n, b, part: f"{block(kind, n, b)}.{shortcut[part]}",
            ),
            (r"logits_low", lambda: "seg"),
            (r"logits", lambda: "fc"),
        ),
    )


LAYOUT = Layout(
    reference="fyu/drn drn.py, segment.py",
    names=_names,
    ignored=(r"up\.weight", r"(layer7|base\.9)\.0\.downsample\..*"),
)
