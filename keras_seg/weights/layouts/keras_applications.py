"""Networks of keras.applications; ours are `vgg16`, `resnet` and what `from_keras` makes.

A network that went through `from_keras` has the names of the original. For our own trunks:

- `vgg16` takes VGG16; FCN's fc6 and fc7 take fc1 and fc2 of the file with the classifier.
- `resnet(stem="7x7", stride_in="1x1")` computes what ResNet50, 101 and 152 compute. Their
  convolutions have biases, ours do not: the normalisation behind one takes it up, since
  (x + b) - mean is x - (mean - b). Files of before 2019, which have Caffe's names
  ("res2a_branch2a", "bn2a_branch2a"), are read as well.
"""

import re

from keras_seg.weights.layouts.table import Layout, by_pattern


def _names(layers):
    deep = "stem_conv2" in layers  # three convolutions, where theirs is one of 7x7
    return by_pattern(
        layers,
        (
            (r"conv([1-5])_([1-3])", lambda block, i: f"block{block}_conv{i}"),
            (r"fc([67])", lambda i: f"fc{int(i) - 5}"),
            (r"stem_(conv|bn)1", lambda kind: f"stem_{kind}1" if deep else f"conv1_{kind}"),
            (
                r"stage(\d)_block(\d+)_(conv|bn)(\d)",
                lambda stage, block, kind, i: f"conv{stage}_block{block}_{i}_{kind}",
            ),
            (
                r"stage(\d)_block(\d+)_shortcut_(conv|bn)",
                lambda stage, block, kind: f"conv{stage}_block{block}_0_{kind}",
            ),
            (r"(.*)", lambda name: name),
        ),
    )


def _prepare(state, layers):
    """The names of today, and for our own ResNet the biases within the normalisations."""
    if "bn_conv1" in {name.partition("/")[0] for name in state}:
        state = {_today(name): array for name, array in state.items()}
    if "stage2_block1_conv1" not in layers:
        return state
    state = dict(state)
    for conv in [name for name in state if name.endswith(("_conv/bias", "_conv/1"))]:
        layer, _, variable = conv.rpartition("/")
        mean = layer.removesuffix("conv") + ("bn/moving_mean" if variable == "bias" else "bn/2")
        if mean in state and state[mean].shape == state[conv].shape:
            state[mean] = state[mean] - state.pop(conv)
    return state


def _today(name):
    """ "conv2_block1_3_bn/gamma" from "bn2a_branch2c/gamma"."""
    layer, _, variable = name.partition("/")
    if layer in ("conv1", "bn_conv1"):
        return f"conv1_{'bn' if layer == 'bn_conv1' else 'conv'}/{variable}"
    match = re.fullmatch(r"(res|bn)(\d)([a-z])(\d*)_branch(1|2[abc])", layer)
    if not match:
        return name
    kind, stage, letter, number, branch = match.groups()
    # 2a, 2b, 2c, or in the deep ones 3a, 3b1, 3b2, ...
    block = int(number) + 1 if number else "abcdefghijklmnopqrstuvwxyz".index(letter) + 1
    part = 0 if branch == "1" else "abc".index(branch[1]) + 1
    return f"conv{stage}_block{block}_{part}_{'conv' if kind == 'res' else 'bn'}/{variable}"


LAYOUT = Layout(
    reference="keras.applications",
    names=_names,
    heads=("fc1/", "fc2/", "fc1000/", "predictions/"),
    keras=True,
    prepare=_prepare,
)
