"""FC-DenseNet of bfortuner/pytorch_tiramisu, `models/tiramisu.py`; ours is `FCDenseNet`."""

from keras_seg.weights.layouts.table import Layout, before, by_pattern


def _names(layers):
    def kind(part):
        return "norm" if part == "bn" else "conv"

    return by_pattern(
        layers,
        (
            (r"first_conv", lambda: "firstconv"),
            (
                r"down(\d+)_layer(\d+)_(bn|conv)",
                lambda b, i, p: f"denseBlocksDown.{before(b)}.layers.{before(i)}.{kind(p)}",
            ),
            (
                r"down(\d+)_transition_(bn|conv)",
                lambda b, p: f"transDownBlocks.{before(b)}.{kind(p)}",
            ),
            (
                r"bottleneck_layer(\d+)_(bn|conv)",
                lambda i, p: f"bottleneck.bottleneck.layers.{before(i)}.{kind(p)}",
            ),
            (r"up(\d+)_transition_conv", lambda b: f"transUpBlocks.{before(b)}.convTrans"),
            (
                r"up(\d+)_layer(\d+)_(bn|conv)",
                lambda b, i, p: f"denseBlocksUp.{before(b)}.layers.{before(i)}.{kind(p)}",
            ),
            (r"logits", lambda: "finalConv"),
        ),
    )


LAYOUT = Layout(reference="bfortuner/pytorch_tiramisu models/tiramisu.py", names=_names)
