"""The same network in a form that eight bits hold better: what is done before it is quantised.

`folded` leaves no batch normalisation to the converters. Behind a convolution it goes into kernel
and bias. Elsewhere (before the convolution, as in DenseNet) they would write a product with a
constant and a sum with a constant, each rounded to 256 steps that all channels share; a depthwise
1x1 convolution has a step for each channel and a bias of 32 bits. The preprocessing becomes a 1x1
convolution for the same reason.

`equalise` is cross-layer equalisation: Nagel, van Baalen, Blankevoort, Welling. "Data-Free
Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.1. ReLU and its
like commute with positive factors, so that the channels of a tensor can be divided by factors that
the next kernels take up. Kernels have a step for each of their output channels in today's files,
but a tensor of activations has one for all channels; so here each channel of activations is divided
by its measured range, relative to the others', and the kernels take up anything. (Xiao et al.,
"SmoothQuant", ICML 2023, equation 4, with alpha 1. With alpha 0.5 the kernels have a say, so that
factors depend on which branch of a concatenation comes first; docs/quantization.md has figures.)

What is concatenated has one step for all of it. So where a part cannot be divided (it comes out of
a sum, say), the others are brought to its range.
"""

import keras
import numpy as np
from keras import layers

from keras_seg.layers import CropLike, MaxUnpooling2D, PadLike, Preprocess, Resize, ResizeBy

_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose)
# f(s x) = s f(x) for every s > 0, channel by channel. Of several inputs only the first is changed.
_HOMOGENEOUS = (
    layers.AveragePooling2D,
    layers.Cropping2D,
    layers.Dropout,
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.Identity,
    layers.LeakyReLU,
    layers.MaxPooling2D,
    layers.PReLU,
    layers.SpatialDropout2D,
    layers.UpSampling2D,
    layers.ZeroPadding2D,
    CropLike,
    PadLike,
    Resize,
    ResizeBy,
)
_POINTWISE = (layers.Activation, layers.Dropout, layers.Identity, layers.LeakyReLU, layers.ReLU)
_ACTIVATIONS = (keras.activations.linear, keras.activations.relu, keras.activations.leaky_relu)
# Beyond this factor the smaller of two channels carries next to nothing. With 1e4 the kernel before
# a ReLU that hardly ever lets a value through had a step that LiteRT refuses.
_LARGEST_FACTOR = 1e3
# Of a channel's values on all images. The largest of fewer says little of other images'.
_FEWEST_VALUES = 256
# What the values that are compared in 8 bits reach; between 1 and 255, far from both.
_COMPARED = 32.0


def folded(model):
    """A copy of a functional model with `BatchNormalization` and `Preprocess` as convolutions.

    The copy has weights of its own and computes the same function in inference mode. Layers that
    normalise over another axis, or are used twice, stay as they are.
    """
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    graph = _Graph(model)
    new, weights = {}, {}
    for node in graph.nodes:
        layer = node.operation
        if isinstance(layer, Preprocess):
            channels = node.input_tensors[0].shape[-1]
            new[id(layer)] = layers.Conv2D(channels, 1, name=layer.name)
            weights[id(layer)] = _matrix(layer, channels)
        elif _is_affine(layer) and graph.once(layer):
            factor, offset = _affine(layer)
            before = graph.maker(node.input_tensors[0])
            convolution = None if before is None else before.operation
            if (
                convolution is not None
                and _type(convolution) in _CONVOLUTIONS
                and convolution.activation is keras.activations.linear
                and graph.once(convolution)
                and len(graph.readers(node.input_tensors[0])) == 1
            ):
                config = {**convolution.get_config(), "use_bias": True}
                new[id(convolution)] = type(convolution).from_config(config)
                weights[id(convolution)] = _scaled(convolution, factor, offset)
                new[id(layer)] = layers.Identity(name=layer.name)
                weights[id(layer)] = []
            elif len(node.input_tensors[0].shape) == 4:
                new[id(layer)] = layers.DepthwiseConv2D(1, name=layer.name)
                weights[id(layer)] = [factor[None, None, :, None], offset]

    def replaced(layer):
        if not isinstance(layer, layers.Layer):
            return layer
        if id(layer) not in new:
            nested = isinstance(layer, keras.Sequential) or hasattr(layer, "_nodes_by_depth")
            new[id(layer)] = folded(layer) if nested else _copied(layer)
            shared = nested or new[id(layer)] is layer
            weights[id(layer)] = None if shared else layer.get_weights()
        return new[id(layer)]

    def called(layer, *arguments, **options):
        if isinstance(layer, layers.Identity | layers.DepthwiseConv2D):
            options.pop("mask", None)  # of the normalisation that stood here
        return layer(*arguments, **options)

    copy = keras.models.clone_model(model, clone_function=replaced, call_function=called)
    for key, layer in new.items():
        if weights[key]:
            layer.set_weights(weights[key])
    return copy


def equalise(model, images):
    """Spread the range of the activations evenly over the channels, in place.

    Args:
        model: what `folded` returns.
        images: arrays (1, H, W, C) on which the activations are measured.

    Returns:
        The number of layers whose output was changed. The function of the model stays the same.
    """
    graph = _Graph(model)
    pairs = []
    for node in graph.nodes:
        layer = node.operation
        if (
            _type(layer) in _CONVOLUTIONS
            and layer.activation in _ACTIVATIONS
            and graph.once(layer)
            and (next_layers := graph.takers(node.outputs[0])) is not None
        ):
            pairs.append((layer, graph.activated(node.outputs[0]), next_layers))
    if not pairs:
        return 0
    groups = graph.concatenated({id(layer) for layer, _, _ in pairs})
    kept = [tensor for _, others in groups for tensor in others]
    tensors = [tensor for _, tensor, _ in pairs] + kept
    found = [_factors(measured) for measured in _ranges(model, tensors, images)]
    own = {id(layer): ranges for (layer, _, _), ranges in zip(pairs, found, strict=False)}
    of_kept = iter(found[len(pairs) :])
    # The middle of the ranges stays where it is: untrained networks may reach 1e8, and the scale of
    # a kernel that took it to 1 would be less than TensorFlow can write.
    factors = {key: ranges / _middle(ranges) for key, ranges in own.items()}
    for members, others in groups:
        beside = [next(of_kept) for _ in others] or [own[member] for member in members]
        middle = _middle(np.concatenate(beside))
        factors |= {member: own[member] / middle for member in members}
    for layer, _, next_layers in pairs:
        layer.set_weights(_scaled(layer, 1 / factors[id(layer)], None))
        for taker, first in next_layers:
            _take_up(taker, first, factors[id(layer)])
    return len(pairs)


def comparable(model, images):
    """`model` with what its `MaxUnpooling2D` layers compare brought to a range that LiteRT can.

    Its 8-bit comparison is right for values that reach 1 and stay below 255. A positive factor
    leaves the maximum of each window where it is.

    Args:
        model: a functional model; its layers are those of the result.
        images: arrays (1, H, W, C) on which the range is measured.
    """
    nodes = [n for n in _Graph(model).nodes if isinstance(n.operation, MaxUnpooling2D)]
    if not nodes:
        return model
    ranges = _ranges(model, [node.input_tensors[1] for node in nodes], images)
    factors = {
        node.operation.name: _COMPARED / most.max()
        for node, most in zip(nodes, ranges, strict=True)
        if not _COMPARED / 16 < most.max() < 4 * _COMPARED
    }
    if not factors:
        return model

    def called(layer, *arguments, **options):
        if layer.name in factors:
            x, before = arguments
            name = f"{layer.name}_range"
            arguments = (x, layers.Rescaling(factors[layer.name], name=name)(before))
        return layer(*arguments, **options)

    return keras.models.clone_model(model, clone_function=lambda x: x, call_function=called)


class _Graph:
    """The calls of a functional model, first to last, and who reads what they return."""

    def __init__(self, model):
        by_depth = model._nodes_by_depth
        self.nodes = [n for depth in sorted(by_depth, reverse=True) for n in by_depth[depth]]
        self._calls, self._makers, self._readers = {}, {}, {}
        for node in self.nodes:
            self._calls[id(node.operation)] = self._calls.get(id(node.operation), 0) + 1
            for tensor in node.outputs:
                self._makers[id(tensor)] = node
            for tensor in node.input_tensors:
                self._readers.setdefault(id(tensor), []).append(node)
        for tensor in model.outputs:
            self._readers.setdefault(id(tensor), []).append(None)

    def once(self, operation):
        """Whether the layer is called once, so that its weights are for that place alone."""
        return self._calls[id(operation)] == 1

    def maker(self, tensor):
        """The call that returns the tensor; None for the image."""
        node = self._makers.get(id(tensor))
        return None if node is None or node.is_input else node

    def readers(self, tensor):
        """The calls that read the tensor, and None if the model returns it."""
        return self._readers.get(id(tensor), [])

    def activated(self, tensor):
        """The tensor behind the activation, if that is all that reads `tensor`."""
        readers = self.readers(tensor)
        while len(readers) == 1 and readers[0] and isinstance(readers[0].operation, _POINTWISE):
            tensor = readers[0].outputs[0]
            readers = self.readers(tensor)
        return tensor

    def takers(self, tensor, first=0):
        """[(convolution, index of its input channel that the tensor's first one is)] of all that
        the tensor reaches; None if it also reaches something else."""
        found = []
        for node in self.readers(tensor):
            if node is None:
                return None
            layer, inputs = node.operation, node.input_tensors
            places = [i for i, given in enumerate(inputs) if given is tensor]
            if _type(layer) in _CONVOLUTIONS and self.once(layer):
                more = [(layer, first)]
            elif isinstance(layer, _HOMOGENEOUS) or _is_relu(layer):
                more = [] if 0 not in places else self.takers(node.outputs[0], first)
            elif _joins_channels(layer):
                more = []
                for place in places:
                    before = sum(given.shape[-1] for given in inputs[:place])
                    reached = self.takers(node.outputs[0], first + before)
                    more = None if reached is None else more + reached
                    if more is None:
                        break
            else:
                more = None
            if more is None:
                return None
            found += more
        return found or None

    def concatenated(self, divided):
        """What stands side by side in concatenations that convolutions read.

        Args:
            divided: ids of the convolutions whose output is divided.

        Returns:
            [({id of a convolution}, [tensor])]: the divided ones that stand in one concatenation,
            or in several that share one of them, and what is not divided there.
        """
        groups = []
        for node in self.nodes:
            takers = self.takers(node.outputs[0]) if _joins_channels(node.operation) else None
            members, others = set(), []
            for maker, tensor in self._parts(node.outputs[0]) if takers else ():
                if id(maker) in divided:
                    members.add(id(maker))
                else:
                    others.append(tensor)
            if members:
                for group in [group for group in groups if group[0] & members]:
                    groups.remove(group)
                    members, others = members | group[0], others + group[1]
                groups.append((members, others))
        return groups

    def _parts(self, tensor):
        """[(layer that made it or None, tensor)] of what a tensor was concatenated of, looked at
        through layers of `_HOMOGENEOUS`."""
        node = self.maker(tensor)
        layer = None if node is None else node.operation
        if layer is not None and _joins_channels(layer):
            return [part for given in node.input_tensors for part in self._parts(given)]
        if isinstance(layer, _HOMOGENEOUS) or _is_relu(layer):
            found = self._parts(node.input_tensors[0])
            return found if len(found) > 1 else [(found[0][0], tensor)]
        return [(layer, tensor)]


def _type(layer):
    """Which of the three convolutions a layer is, or None."""
    # A subclass may compute something else with the same weights.
    own = type(layer).call in (layers.Conv2D.call, layers.DepthwiseConv2D.call)
    own = own or type(layer).call is layers.Conv2DTranspose.call
    return next((c for c in _CONVOLUTIONS if own and isinstance(layer, c)), None)


def _is_affine(layer):
    if not isinstance(layer, layers.BatchNormalization):
        return False
    return type(layer).__name__ != "BatchStatistics" and layer.axis in (-1, 3)


def _joins_channels(layer):
    return isinstance(layer, layers.Concatenate) and layer.axis in (-1, 3)


def _is_relu(layer):
    if isinstance(layer, layers.ReLU):
        return layer.max_value is None and layer.threshold == 0
    return isinstance(layer, layers.Activation) and layer.activation in _ACTIVATIONS


def _copied(layer):
    """A layer like `layer`; that one itself if it cannot be made again: it will not be changed."""
    try:
        config = layer.get_config()
        config.pop("synchronized", None)
        return type(layer).from_config(config)
    except (NotImplementedError, TypeError, ValueError):
        return layer


def _matrix(layer, channels):
    """[kernel (1, 1, C, C), bias (C,)] of a layer that is affine in the channels of each pixel."""
    probes = np.concatenate([np.zeros((1, channels)), np.eye(channels)]).astype("float32")
    found = keras.ops.convert_to_numpy(layer(probes[:, None, None]))[:, 0, 0]
    return [(found[1:] - found[0])[None, None], found[0]]


def _affine(layer):
    """(factor, offset) of a batch normalisation in inference mode, for each channel."""
    mean, variance, gamma, beta = (
        None if value is None else np.asarray(keras.ops.convert_to_numpy(value), "float64")
        for value in (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta)
    )
    factor = 1 / np.sqrt(variance + layer.epsilon)
    factor = factor if gamma is None else factor * gamma
    offset = -mean * factor if beta is None else beta - mean * factor
    return factor.astype("float32"), offset.astype("float32")


def _scaled(layer, factor, offset):
    """Weights of a convolution that returns `factor` times what `layer` returns, plus `offset`."""
    kernel, *bias = layer.get_weights()
    if isinstance(layer, layers.DepthwiseConv2D):  # (h, w, in, multiplier)
        kernel = kernel * factor.reshape(kernel.shape[2:])
    elif isinstance(layer, layers.Conv2DTranspose):  # (h, w, out, in)
        kernel = kernel * factor[:, None]
    else:  # (h, w, in, out)
        kernel = kernel * factor
    bias = [b * factor for b in bias]
    if offset is not None:
        bias = [bias[0] + offset if bias else offset]
    return [kernel, *bias]


def _take_up(layer, first, factors):
    """Multiply the kernel's input channels from `first` on."""
    kernel, *bias = layer.get_weights()
    last = first + len(factors)
    if isinstance(layer, layers.Conv2DTranspose):
        kernel[..., first:last] *= factors
    elif isinstance(layer, layers.DepthwiseConv2D):
        kernel[:, :, first:last] *= factors[:, None]
    else:
        by_input = _by_input(kernel, layer.groups)
        by_input[:, :, first:last] *= factors[:, None]
        kernel = _by_input(by_input, layer.groups, back=True)
    layer.set_weights([kernel, *bias])


def _by_input(kernel, groups, back=False):
    """(h, w, in / groups, out) as (h, w, in, out / groups), or `back`."""
    height, width, one, two = kernel.shape
    if back:
        kernel = kernel.reshape(height, width, groups, one // groups, two)
        return kernel.transpose(0, 1, 3, 2, 4).reshape(height, width, one // groups, -1)
    kernel = kernel.reshape(height, width, one, groups, two // groups)
    return kernel.transpose(0, 1, 3, 2, 4).reshape(height, width, one * groups, -1).copy()


def _factors(measured):
    """What to divide channels by: their ranges, within bounds; of a channel of zeros the mean."""
    alive = measured > 0
    if not alive.any():
        return np.ones_like(measured)
    middle = _middle(measured[alive])
    factors = np.where(alive, measured, middle)
    return np.clip(factors, middle / _LARGEST_FACTOR, middle * _LARGEST_FACTOR).astype("float32")


def _middle(values):
    """Their geometric mean."""
    return np.exp(np.log(values).mean())


def _ranges(model, tensors, images):
    """The largest magnitude of each channel of each tensor over the images; of the whole tensor
    where a channel has few values, as behind a global pooling."""
    largest = [keras.ops.max(keras.ops.abs(t), axis=(0, 1, 2)) for t in tensors]
    measure = keras.Model(model.inputs, largest)
    found, count = None, 0
    for image in images:
        values = [
            keras.ops.convert_to_numpy(v)
            for v in keras.tree.flatten(measure.predict_on_batch(image))
        ]
        found = (
            values if found is None else [np.maximum(*p) for p in zip(found, values, strict=True)]
        )
        count += 1
    symbolic = keras.KerasTensor(image.shape, image.dtype)
    shapes = [t.shape for t in keras.tree.flatten(keras.Model(model.inputs, tensors)(symbolic))]
    return [
        np.full_like(most, most.max())
        if None not in shape and count * shape[1] * shape[2] < _FEWEST_VALUES
        else most
        for most, shape in zip(found, shapes, strict=True)
    ]
