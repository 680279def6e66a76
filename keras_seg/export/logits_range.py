"""How far the logits reach in 8-bit files that do not return them.

Over all that the calibration images reach, 255 steps are wide: FC-DenseNet56's logits on CamVid go
from -33 to 33, and with a step of 0.26 the two largest of a hundredth of all pixels are equal.
argmax then takes the first class; that alone cost 0.98 points of mean IoU, of the last classes
mostly, where noise of the same size cost 0.03. But a class far below the winner has no probability,
at -10 or at -33, and one far above all others has all of it. So logits are cut where that costs
less than the finer step gains, measured on the probabilities.
"""

import numpy as np

# Of the calibration images, and of the logits of all of them.
_MOST_IMAGES = 32
_MOST_VALUES = 2**19
_FRACTIONS = 2.0 ** (-np.arange(9) / 2)

# Operators of TFLite and ONNX as `_kind` calls them.
_MOVING = frozenset(
    """depthtospace expanddims identity reshape resize resizebilinear resizenearestneighbor slice
    squeeze stridedslice transpose unsqueeze""".split()
)
_ROUNDED_FREELY = frozenset(
    "add conv conv2d convtranspose depthwiseconv2d fullyconnected gemm matmul transposeconv".split()
)
# What the head of a graph computes of the logits, the last first.
_HEADS = {
    "probabilities": ("softmax",),
    "labels": ("argmax",),
    "confidence": ("reducemax", "softmax"),
}


def measured(graph, calibration):
    """(lowest, highest) logit that 8-bit files of a `StaticGraph` tell apart, or None.

    A side that is not cut is infinite. None where the graph returns logits, makes labels by
    comparing them in float, or has one class.

    Args:
        graph: a `StaticGraph`.
        calibration: `Pictures`.
    """
    compared = "labels" in graph.outputs and graph.float_labels
    if compared or not set(graph.outputs) <= set(_HEADS):
        return None
    count = min(_MOST_IMAGES, len(calibration))
    rng = np.random.default_rng(0)
    chosen = []
    for image in calibration.spread(count):
        logits = graph.runner.run(image)
        classes = logits.shape[-1]
        logits = logits.reshape(-1, classes)
        pixels = max(_MOST_VALUES // (count * classes), 1)
        chosen.append(logits if pixels >= len(logits) else logits[rng.choice(len(logits), pixels)])
    return None if classes == 1 else best(np.concatenate(chosen))


def best(logits):
    """The (lowest, highest) of (N, K) logits at which rounding to 8 bits changes the softmax least.

    Tried are fractions of the whole range on each side of 0, from 1 to 1/16. A side that is best
    left alone is infinite.
    """
    exact = softmax(logits)
    low, high = min(float(logits.min()), 0.0), max(float(logits.max()), 0.0)
    if low == high:
        return -np.inf, np.inf
    trials = {
        (below, above): np.abs(softmax(rounded(logits, low * below, high * above)) - exact).mean()
        for below in _FRACTIONS
        for above in _FRACTIONS
    }
    below, above = min(trials, key=trials.get)
    return (
        -np.inf if below == 1 else low * below,
        np.inf if above == 1 else high * above,
    )


def rounded(values, low, high):
    """Values after 8 bits over a range that holds 0, as both formats round them."""
    step = (high - low) / 255
    zero = np.round(-128 - low / step)
    return (np.clip(np.round(values / step) + zero, -128, 127) - zero) * step


def softmax(logits):
    """Over the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def cut(low, high, limits):
    """A measured range within `limits`, those of `measured`."""
    return max(low, limits[0]), min(high, limits[1])


def tensors(outputs, operators):
    """The tensors of a file that hold its logits, from what computes them to the head.

    Args:
        outputs: {name of an output of a `StaticGraph`: the file's tensor}.
        operators: [(operator as the format calls it, input tensors, output tensors)].

    Returns:
        A list of tensors; [] where their range is not free, because of what computes them or what
        else reads them.
    """
    makers = {tensor: number for number, (*_, made) in enumerate(operators) for tensor in made}
    found, passed = [], set()
    for name, tensor in outputs.items():
        head = list(_HEADS[name])
        while True:
            number = makers.get(tensor)
            if number is None:
                return []
            kind, given = _kind(operators[number][0]), operators[number][1]
            passed.add(number)
            if head and kind == head[0]:
                del head[0]
            elif head and (kind == "cast" or kind in _MOVING):
                pass
            elif not head and kind in _MOVING:
                found.append(tensor)
            elif not head and kind in _ROUNDED_FREELY:
                found.append(tensor)
                break
            else:
                return []
            tensor = given[0]
    found = list(dict.fromkeys(found))
    readers = {n for n, (_, given, _) in enumerate(operators) if set(given) & set(found)}
    return found if readers <= passed else []


def _kind(operator):
    """DEPTH_TO_SPACE and DepthToSpace are the same."""
    return operator.replace("_", "").lower()
