"""The form of a layout: from our layer names to the names of a reference."""

import dataclasses
import re
from collections.abc import Callable

# PyTorch counts the batches that a BatchNorm has seen; nothing reads the number.
COUNTERS = r".*\.num_batches_tracked"


@dataclasses.dataclass(frozen=True)
class Layout:
    """One reference's names.

    Attributes:
        reference: repository and file.
        names: takes the names of our layers that hold weights, in the model's order, and returns
            {our layer: prefix of the reference}; None for a layer that keeps its own values. A
            layer that is not in the result has no name in this reference, which is an error.
        ignored: patterns of reference names that are never read, with the counters of BatchNorm.
        heads: prefixes of whole heads that may be left out: ignored when the model has none of it.
        wrappers: prefixes that every name has where the reference's network sat in another module.
        keras: the names are those of Keras' variables, "conv/kernel" or "conv/0", and the axes are
            in Keras' order; otherwise they are PyTorch's.
        prepare: None, or a function of (state, names of our layers) that returns the state in the
            form that the names are for.
    """

    reference: str
    names: Callable
    ignored: tuple = ()
    heads: tuple = ()
    wrappers: tuple = ()
    keras: bool = False
    prepare: Callable | None = None

    def ignores(self, name, used):
        """Whether the reference's `name` may be left over, when the names in `used` were read."""
        if any(re.fullmatch(pattern, name) for pattern in (COUNTERS, *self.ignored)):
            return True
        return any(
            name.startswith(head) and not any(other.startswith(head) for other in used)
            for head in self.heads
        )


def by_pattern(layers, table):
    """{layer: prefix} by the first matching row (pattern of our name, function of its groups)."""
    names = {}
    for layer in layers:
        for pattern, prefix in table:
            match = re.fullmatch(pattern, layer)
            if match:
                names[layer] = prefix(*match.groups())
                break
    return names


def trunk_alone(known, prefix):
    """A `Layout.prepare` for checkpoints of the trunk alone, as a classifier: they lack `prefix`.

    They are told by the name `known`, which no whole network has.
    """

    def prepare(state, layers):
        return {prefix + name: state[name] for name in state} if known in state else state

    return prepare


def before(number):
    """Our stages and blocks count from 1, the references' modules from 0: "3" -> 2."""
    return int(number) - 1


def residual_stages(prefix=""):
    """Rows for stages 2 to 5 of our `resnet`, as torchvision names them: "layer1.0.conv1"."""

    def block(stage, number):
        return f"{prefix}layer{before(stage)}.{before(number)}"

    return (
        (
            r"stage(\d)_block(\d+)_((?:conv|bn)\d)",
            lambda stage, number, part: f"{block(stage, number)}.{part}",
        ),
        (r"stage(\d)_block(\d+)_shortcut_conv", lambda s, b: f"{block(s, b)}.downsample.0"),
        (r"stage(\d)_block(\d+)_shortcut_bn", lambda s, b: f"{block(s, b)}.downsample.1"),
    )
