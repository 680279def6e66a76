"""Networks of keras.applications; ours are `vgg16`, `resnet` and what `from_keras` makes.

A network that went through `from_keras` has the names of the original. Layers that Keras named
itself ("conv2d_4") have other numbers in every process: they are matched in their order, if there
are as many on both sides. EfficientNet's files hold the statistics of the pixels too, which
`from_keras` turns into constants: give it the file, `from_keras(name, weights=file)`.

For our own trunks:

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


# What Keras calls layers that were given no name; Keras 1 wrote the words without a line between.
NUMBERED = (
    r"(batch_?normalization|conv2d|convolution2d|dense|layer_normalization|"
    r"separable_?conv(?:olution)?2d)(?:_(\d+))?"
)


def _prepare(state, layers):
    """The names of today, and for our own ResNet the biases within the normalisations."""
    old = "bn_conv1" in {name.partition("/")[0] for name in state}
    names = _renumbered({name.partition("/")[0] for name in state}, layers)
    renamed = {}
    for name, array in state.items():
        layer, slash, variable = name.partition("/")
        layer = _today(layer) if old else names.get(layer, layer)
        renamed[layer + slash + variable] = array
    if "stage2_block1_conv1" in layers:
        _fold_biases(renamed)
    return renamed


def _renumbered(theirs, ours):
    """{their name: ours} of the layers that Keras named, each kind in its order."""
    kinds = {}
    for side, names in enumerate((theirs, ours)):
        for name in names:
            match = re.fullmatch(NUMBERED, name)
            if match:
                kind = match[1].replace("_", "").replace("convolution", "conv")
                kinds.setdefault(kind, ([], []))[side].append((int(match[2] or 0), name))
    found = {}
    for one, other in kinds.values():
        if len(one) == len(other):
            pairs = zip(sorted(one), sorted(other), strict=True)
            found.update((their_name, our_name) for (_, their_name), (_, our_name) in pairs)
    return found


def _fold_biases(state):
    """Take the biases of the convolutions out of the state and off the means behind them."""
    for conv in [name for name in state if name.endswith(("_conv/bias", "_conv/1"))]:
        layer, _, variable = conv.rpartition("/")
        mean = layer.removesuffix("conv") + ("bn/moving_mean" if variable == "bias" else "bn/2")
        if mean in state and state[mean].shape == state[conv].shape:
            state[mean] = state[mean] - state.pop(conv)


def _today(layer):
    """ "conv2_block1_3_bn" from "bn2a_branch2c"."""
    if layer in ("conv1", "bn_conv1"):
        return "conv1_bn" if layer == "bn_conv1" else "conv1_conv"
    match = re.fullmatch(r"(res|bn)(\d)([a-z])(\d*)_branch(1|2[abc])", layer)
    if not match:
        return layer
    kind, stage, letter, number, branch = match.groups()
    # 2a, 2b, 2c, or in the deep ones 3a, 3b1, 3b2, ...
    block = int(number) + 1 if number else "abcdefghijklmnopqrstuvwxyz".index(letter) + 1
    part = 0 if branch == "1" else "abc".index(branch[1]) + 1
    return f"conv{stage}_block{block}_{part}_{'conv' if kind == 'res' else 'bn'}"


LAYOUT = Layout(
    reference="keras.applications",
    names=_names,
    heads=("fc1/", "fc2/", "fc1000/", "predictions/"),
    keras=True,
    prepare=_prepare,
)
