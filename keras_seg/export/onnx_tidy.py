"""Passes over an ONNX graph of fixed sizes, so that it needs no optimiser to run at full speed.

Each computes the same function: constants are computed once, what scales or shifts channels goes
into the convolution beside it, zero padding into the operator that reads it, transposes to where
tensors are small, or away. Weights are NumPy arrays here and in no ProtoBuf message, whose every
copy would cost their size again.
"""

import collections
import dataclasses
import hashlib

import numpy as np

# Arrays of more values than this are weights: no size, no factor, no statistics of a layer.
LARGE = 4096
TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]  # of the channels
_ELEMENTWISE = ("Add", "Div", "Mul", "Sub")
# Operators that compute each value from those in the same place.
_POINTWISE = frozenset(
    """Abs Add Cast Clip Div Elu Equal Erf Exp Greater LeakyRelu Less Log Max Min Mul Neg Not Pow
    Reciprocal Relu Sigmoid Softplus Sqrt Sub Tanh Where""".split()
)


@dataclasses.dataclass(eq=False)
class Node:
    """One operator; `attributes` are Python values."""

    op: str
    inputs: list
    outputs: list
    attributes: dict
    domain: str = ""

    def get(self, name, default=None):
        return self.attributes.get(name, default)


class Network:
    """The nodes of a graph and its constants, with who makes and who reads each tensor.

    Args:
        proto: a ModelProto.
        arrays: {input of the graph: the constant that it is}.

    Attributes:
        nodes: the operators, in no order.
        values: {name: array} of the constants.
        makers: {name: the node that makes it}.
        readers: {name: nodes that read it}, one that reads it twice counted twice.
        shapes: {name: shape}, where all of it is known.
        dimensions: {name: shape}, 0 for a number that is not known.
        inputs: ValueInfoProto of the graph's inputs that are no constants.
        outputs: names of its outputs.
    """

    def __init__(self, proto, arrays):
        import onnx

        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        self.dimensions = {
            info.name: [d.dim_value for d in info.type.tensor_type.shape.dim]
            for info in (
                *inferred.graph.value_info,
                *inferred.graph.input,
                *inferred.graph.output,
            )
        }
        self.shapes = {name: shape for name, shape in self.dimensions.items() if all(shape)}
        self.values = dict(arrays)
        for tensor in proto.graph.initializer:
            self.values[tensor.name] = onnx.numpy_helper.to_array(tensor)
        self.inputs = [info for info in proto.graph.input if info.name not in self.values]
        self.outputs = [output.name for output in proto.graph.output]
        self.nodes, self.makers = [], {}
        self.readers = collections.defaultdict(list)
        for node in proto.graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            self.add(
                Node(node.op_type, [*node.input], [*node.output], attributes, domain=node.domain)
            )

    def add(self, node):
        self.nodes.append(node)
        for name in node.inputs:
            self.readers[name].append(node)
        for name in node.outputs:
            self.makers[name] = node
        return node

    def remove(self, node):
        self.nodes.remove(node)
        for name in node.inputs:
            self.readers[name].remove(node)
        for name in node.outputs:
            if self.makers.get(name) is node:
                del self.makers[name]

    def feed(self, node, index, name):
        """Let input `index` of a node be `name`."""
        self.readers[node.inputs[index]].remove(node)
        node.inputs[index] = name
        self.readers[name].append(node)

    def reconnect(self, old, new):
        """Let every node that reads `old` read `new`."""
        for node in list(self.readers[old]):
            for index, name in enumerate(node.inputs):
                if name == old:
                    self.feed(node, index, new)

    def constant(self, hint, array):
        """The name of a new constant."""
        name, number = hint, 1
        while name in self.values or name in self.makers:
            name, number = f"{hint}/{number}", number + 1
        self.values[name] = np.ascontiguousarray(array)
        return name

    def only_reader(self, name):
        """The node that alone reads a tensor, once, or None."""
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def channels_first(self, source, name):
        """Note the shape of `name`: that of `source` with its channels first."""
        for shapes in (self.dimensions, self.shapes):
            if len(shapes.get(source, ())) == 4:
                shapes[name] = [shapes[source][axis] for axis in TO_FIRST]

    def all_readers(self, name, accept):
        """The readers of a tensor if there are any and all are accepted, else []."""
        readers = self.readers[name]
        return readers if name not in self.outputs and all(map(accept, readers)) else []

    def ordered(self):
        """The nodes, each behind those that make its inputs; without those that nobody reads."""
        done, order = set(), []
        stack = [self.makers[name] for name in reversed(self.outputs) if name in self.makers]
        while stack:
            node = stack[-1]
            needed = [self.makers[name] for name in node.inputs if name in self.makers]
            needed = [other for other in needed if id(other) not in done]
            if id(node) not in done and not needed:
                done.add(id(node))
                order.append(node)
            if needed:
                stack += reversed(needed)
            else:
                stack.pop()
        return order


def tidy(network):
    """Every pass, in an order in which none undoes or misses what another did."""
    fold_constants(network)
    drop_what_does_nothing(network)
    merge_into_convolutions(network)
    channel_order_to_gather(network)
    lift_transposes(network)
    sink_transposes(network)
    channel_order_into_convolutions(network)
    fold_paddings(network)
    scale_into_convolutions(network)
    affine_to_normalisation(network)
    argmax_over_first(network)
    channels_in_fours(network)
    share_constants(network)
    fill_instead_of_keeping(network)


def fold_constants(network):
    """Compute the nodes that depend on constants alone: the transposes of the kernels."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    for node in list(network.nodes):
        names = [name for name in node.inputs if name]
        if not names or any(name not in network.values for name in names):
            continue
        feeds = {name: network.values[name] for name in names}
        if node.op == "Transpose":
            results = [feeds[names[0]].transpose(node.get("perm"))]
        else:
            proto = onnx.helper.make_node(node.op, node.inputs, node.outputs, **node.attributes)
            results = ReferenceEvaluator(proto).run(None, feeds)
        network.remove(node)
        for name, result in zip(node.outputs, results, strict=True):
            network.values[name] = np.ascontiguousarray(result)
        for name in names:
            if not network.readers[name]:
                network.values.pop(name, None)  # megabytes, in the case of a kernel


def drop_what_does_nothing(network):
    """Remove Identity, and Reshape to the shape that a tensor has: transposes of a single pixel
    became these, and a runtime leaves its layout of convolutions for them."""
    for node in list(network.nodes):
        if node.outputs[0] in network.outputs:
            continue
        if node.op == "Reshape":
            size, shape = network.values.get(node.inputs[1]), network.shapes.get(node.inputs[0])
            if size is None or size.tolist() != shape:
                continue
        elif node.op != "Identity":
            continue
        network.reconnect(node.outputs[0], node.inputs[0])
        network.remove(node)


def merge_into_convolutions(network):
    """Merge a factor and an offset for each channel, as batch normalisation leaves them, into the
    kernel and the bias of the convolution before them."""
    for node in list(network.nodes):
        if node.op not in ("Conv", "ConvTranspose") or node.inputs[1] not in network.values:
            continue
        if node.op == "ConvTranspose" and node.get("group", 1) != 1:
            continue
        if len(node.inputs) > 2 and node.inputs[2] not in network.values:
            continue
        # (out, in, h, w); transposed convolutions have (in, out, h, w).
        axis = 0 if node.op == "Conv" else 1
        kernel = network.values[node.inputs[1]]
        channels = kernel.shape[axis]
        bias = np.zeros(channels, kernel.dtype)
        if len(node.inputs) > 2:
            bias = network.values[node.inputs[2]]
        factor, merged = np.ones(channels, kernel.dtype), []
        while True:
            reader = network.only_reader((merged or [node])[-1].outputs[0])
            vector = reader and _channel_vector(network, reader, channels)
            if vector is None or reader.op not in ("Mul", "Add"):
                break
            if reader.op == "Mul":
                factor, bias = factor * vector, bias * vector
            else:
                bias = bias + vector
            merged.append(reader)
        if not merged:
            continue
        if (factor != 1).any():
            kernel = kernel * _along(factor, axis, kernel.ndim)
        for reader in merged:
            network.remove(reader)
        _set_weights(network, node, kernel, bias)
        _rename_output(network, node, merged[-1].outputs[0])


def _channel_vector(network, node, channels, rank=4):
    """The constant (C,) with which an elementwise node changes the channels (N, C, H, W) of its
    other input, or None."""
    if node.op not in _ELEMENTWISE:
        return None
    constants = [name for name in node.inputs if name in network.values]
    if len(constants) != 1 or (node.op in ("Sub", "Div") and node.inputs[1] not in constants):
        return None
    value = network.values[constants[0]]
    if value.size == 1 and value.ndim <= rank:
        return np.full(channels, value.reshape(()), value.dtype)
    if value.ndim <= rank and list(value.shape)[1 - rank :] == [channels] + [1] * (rank - 2):
        return value.reshape(channels) if value.size == channels else None
    return None


def _has_channels(network, name, count):
    """Whether a tensor (N, C, H, W) has so many channels; a constant may make three of one."""
    shape = network.dimensions.get(name, ())
    return len(shape) == 4 and shape[1] == count


def _along(vector, axis, rank):
    return np.expand_dims(vector, [i for i in range(rank) if i != axis])


def _set_weights(network, convolution, kernel, bias):
    """Under new names: another convolution may read the same kernel."""
    old = convolution.inputs[1:]
    for name in old:
        network.readers[name].remove(convolution)
    del convolution.inputs[1:]
    for name in old:
        if not network.readers[name]:
            del network.values[name]
    hint = convolution.outputs[0]
    for part, array in (("kernel", kernel), ("bias", bias)):
        name = network.constant(f"{hint}/{part}", array)
        convolution.inputs.append(name)
        network.readers[name].append(convolution)


def _rename_output(network, node, name):
    del network.makers[node.outputs[0]]
    node.outputs[0] = name
    network.makers[name] = node


def channel_order_to_gather(network):
    """One Gather for channels that are cut out one by one and put together in another order, as
    the preprocessing does that turns RGB to BGR."""
    for node in list(network.nodes):
        if node.op != "Concat":
            continue
        parts = [network.makers.get(name) for name in node.inputs]
        if any(part is None or part.op != "Slice" for part in parts):
            continue
        source, axis = parts[0].inputs[0], node.get("axis")
        shape = network.shapes.get(source)
        if shape is None or {part.inputs[0] for part in parts} != {source}:
            continue
        order = [_channel_of_slice(network, part, axis % len(shape), shape) for part in parts]
        if None in order or sorted(order) != list(range(shape[axis])):
            continue
        network.remove(node)
        for part in parts:
            if not network.readers[part.outputs[0]] and part in network.nodes:
                network.remove(part)
        indices = network.constant("channel_order", np.array(order, "int64"))
        network.add(Node("Gather", [source, indices], node.outputs, {"axis": axis % len(shape)}))


def _channel_of_slice(network, node, axis, shape):
    """The index that a Slice cuts out of an axis if it is one, else None."""
    if len(node.inputs) < 4 or any(name not in network.values for name in node.inputs[1:]):
        return None
    start, end, where, *step = (network.values[name].tolist() for name in node.inputs[1:])
    if [n % len(shape) for n in where] != [axis] or (step and step[0] != [1]):
        return None
    start, end, _ = slice(start[0], end[0]).indices(shape[axis])
    return start if end - start == 1 else None


def lift_transposes(network):
    """Move a transpose to channels-first before what computes each pixel alone.

    Of the preprocessing, that is: along three channels that lie side by side, elementwise operators
    take many times as long as along whole rows.
    """
    for node in [node for node in network.nodes if node.op == "Transpose"]:
        while node in network.nodes and node.get("perm") == TO_FIRST:
            before = network.makers.get(node.inputs[0])
            if before is None or network.only_reader(node.inputs[0]) is not node:
                break
            if before.op == "Transpose" and before.get("perm") == TO_LAST:
                if node.outputs[0] not in network.outputs:
                    network.reconnect(node.outputs[0], before.inputs[0])
                    network.remove(node)
                    network.remove(before)
                break
            index = _to_channels_first(network, before)
            if index is None:
                break
            # x -> before -> node becomes x -> node -> before
            source, middle, result = before.inputs[index], node.inputs[0], node.outputs[0]
            network.remove(node)
            del network.makers[middle]
            before.outputs[0] = result
            network.makers[result] = before
            node.inputs[0], node.outputs[0] = source, f"{middle}/first"
            network.channels_first(source, node.outputs[0])
            network.add(node)
            network.feed(before, index, node.outputs[0])


def _to_channels_first(network, node):
    """Change the constants of a node whose input becomes channels-first; the index of the input.

    None where that is not possible; the node is as it was then.
    """
    others = [i for i, name in enumerate(node.inputs) if name and name not in network.values]
    if len(others) != 1:
        return None
    if node.op in _ELEMENTWISE and len(node.inputs) == 2:
        name = node.inputs[1 - others[0]]
        value = network.values[name]
        if value.size > 1:
            value = value.reshape((1,) * (4 - value.ndim) + value.shape).transpose(TO_FIRST)
            network.feed(node, 1 - others[0], network.constant(f"{name}/first", value))
        return others[0]
    if others != [0]:
        return None
    if node.op == "Pad" and len(node.inputs) < 4:
        before, after = np.split(network.values[node.inputs[1]], 2)
        pads = np.concatenate([before[TO_FIRST], after[TO_FIRST]])
        network.feed(node, 1, network.constant(f"{node.inputs[1]}/first", pads))
        return 0
    if node.op == "Gather" and network.values[node.inputs[1]].ndim == 1:
        node.attributes["axis"] = TO_FIRST.index(node.get("axis", 0) % 4)
        return 0
    return None


def sink_transposes(network):
    """Move transposes to channels-last behind what does not care, so that they meet those back.

    Convolutions want channels first, and what lies between them then stays there.
    """
    waiting = [node for node in network.ordered() if node.op == "Transpose"]
    while waiting:
        transpose = waiting.pop()
        if transpose.get("perm") != TO_LAST or transpose not in network.nodes:
            continue
        for node in list(network.readers[transpose.outputs[0]]):
            if node.op == "Transpose" and node.get("perm") == TO_FIRST:
                if node.outputs[0] not in network.outputs:
                    network.reconnect(node.outputs[0], transpose.inputs[0])
                    network.remove(node)
            elif node in network.nodes and _into_channels_first(network, node):
                for index, name in enumerate(node.outputs):
                    inner = f"{name}/first"
                    network.channels_first(name, inner)
                    del network.makers[name]
                    node.outputs[index] = inner
                    network.makers[inner] = node
                    made = Node("Transpose", [inner], [name], {"perm": TO_LAST})
                    waiting.append(network.add(made))
    for node in [node for node in network.nodes if node.op == "Transpose"]:
        if not network.readers[node.outputs[0]] and node.outputs[0] not in network.outputs:
            network.remove(node)


def _into_channels_first(network, node):
    """Let a node whose inputs were all transposed to channels-last read them as they were before.

    Returns False, and changes nothing, where that is not possible.
    """
    data, sources, flat = [], {}, {}
    for index, name in enumerate(node.inputs):
        if not name or name in network.values:
            continue
        data.append(index)
        maker, shape = network.makers.get(name), network.shapes.get(name, ())
        if maker is not None and maker.op == "Transpose" and maker.get("perm") == TO_LAST:
            sources[index] = maker.inputs[0]
        elif len(shape) == 4 and (shape[3] == 1 or shape[1:3] == [1, 1]):
            flat[index] = [shape[axis] for axis in TO_FIRST]  # the same numbers in the same order
        else:
            return False
    rest = [i for i, name in enumerate(node.inputs) if name and i not in data]
    if node.op in _POINTWISE:
        for index in rest:
            value = network.values[node.inputs[index]]
            if value.size > 1:
                value = value.reshape((1,) * (4 - value.ndim) + value.shape).transpose(TO_FIRST)
                network.feed(node, index, network.constant(f"{node.inputs[index]}/first", value))
    elif node.op in ("Concat", "Split"):
        node.attributes["axis"] = TO_FIRST.index(node.get("axis", 0) % 4)
    elif node.op == "Slice" and data == [0] and len(node.inputs) > 3:
        axes = [TO_FIRST.index(axis % 4) for axis in network.values[node.inputs[3]].tolist()]
        axes = np.array(axes, "int64")
        network.feed(node, 3, network.constant(f"{node.inputs[3]}/first", axes))
    elif node.op == "Pad" and data == [0] and len(node.inputs) < 4:
        before, after = np.split(network.values[node.inputs[1]], 2)
        pads = np.concatenate([before[TO_FIRST], after[TO_FIRST]])
        network.feed(node, 1, network.constant(f"{node.inputs[1]}/first", pads))
    else:
        return False
    for index, source in sources.items():
        network.feed(node, index, source)
    for index, shape in flat.items():
        name = node.inputs[index]
        first = f"{name}/first/{len(network.nodes)}"
        size = network.constant("first_size", np.array(shape, "int64"))
        network.add(Node("Reshape", [name, size], [first], {}))
        network.shapes[first] = network.dimensions[first] = shape
        network.feed(node, index, first)
    return True


def channel_order_into_convolutions(network):
    """Let convolutions read channels in the order in which they come: their kernels change."""
    for node in [node for node in network.nodes if node.op == "Gather" and node.get("axis") == 1]:
        order = network.values.get(node.inputs[1])
        if order is None or order.ndim != 1:
            continue
        # A choice of some channels is no order.
        if not _has_channels(network, node.inputs[0], order.size):
            continue
        if sorted(order.tolist()) != list(range(order.size)):
            continue
        # Down past the offsets and the padding of the preprocessing.
        passed, name = [], node.outputs[0]
        while (reader := network.only_reader(name)) is not None and reader.inputs[0] == name:
            vector = _channel_vector(network, reader, order.size)
            if vector is None and reader.op != "Pad":
                break
            passed.append((reader, vector))
            name = reader.outputs[0]
        convolutions = network.all_readers(name, lambda n, name=name: _reads_plainly(network, n))
        if not convolutions or any(
            network.values[c.inputs[1]].shape[1] != order.size for c in convolutions
        ):
            continue
        inverse = np.argsort(order)
        for reader, vector in passed:
            if vector is not None:
                value = _along(vector[inverse], 1, 4)
                network.feed(reader, 1, network.constant(f"{reader.inputs[1]}/order", value))
        for convolution in convolutions:
            kernel = network.values[convolution.inputs[1]][:, inverse]
            hint = f"{convolution.inputs[1]}/order"
            network.feed(convolution, 1, network.constant(hint, kernel))
        network.reconnect(node.outputs[0], node.inputs[0])
        network.remove(node)


def _reads_plainly(network, node):
    """Whether a node is an ungrouped convolution with a constant kernel and bias."""
    return (
        node.op == "Conv"
        and node.get("group", 1) == 1
        and all(name in network.values for name in node.inputs[1:])
    )


def fold_paddings(network):
    """Let the operators behind a zero padding pad by themselves."""
    for node in [node for node in network.nodes if node.op == "Pad"]:
        pads = network.values.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if pads is None or len(node.inputs) > 3 or node.get("mode", b"constant") != b"constant":
            continue
        if len(node.inputs) > 2 and node.inputs[2]:
            value = network.values.get(node.inputs[2])
            if value is None or value.item() != 0:
                continue
        before, after = np.split(pads, 2)
        if pads.min() < 0 or before[:2].any() or after[:2].any():
            continue
        pads = [*before[2:].tolist(), *after[2:].tolist()]
        positive = not_negative(network, node.inputs[0])
        readers = network.all_readers(
            node.outputs[0], lambda n, pads=pads, positive=positive: _can_pad(n, pads, positive)
        )
        for reader in list(readers):
            old = reader.get("pads") or [0] * len(pads)
            reader.attributes["pads"] = [int(a + b) for a, b in zip(old, pads, strict=True)]
            reader.attributes.pop("auto_pad", None)
            if reader.op == "AveragePool":
                reader.attributes["count_include_pad"] = 1
            network.feed(reader, 0, node.inputs[0])
        if readers is not None and not network.readers[node.outputs[0]]:
            if node.outputs[0] not in network.outputs:
                network.remove(node)


def _can_pad(node, pads, positive):
    """Whether `node` gives the same with `pads` of its own as behind a padding with zeros."""
    if node.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return False
    if node.op == "Conv":
        return len(pads) == len(node.get("pads") or pads)
    kernel = node.get("kernel_shape")
    if node.op not in ("MaxPool", "AveragePool") or any(node.get("pads") or ()):
        return False
    if node.get("ceil_mode") or any(rate != 1 for rate in node.get("dilations") or ()):
        return False
    if any(pad >= size for pad, size in zip(pads, [*kernel, *kernel], strict=True)):
        return False
    # A pool's own padding never is the largest value; a zero may be, unless every window also
    # holds a value of at least zero.
    return node.op == "AveragePool" or (positive and len(node.outputs) == 1)


def not_negative(network, name):
    """Whether a tensor surely holds no value below zero."""
    node = network.makers.get(name)
    if node is None:
        return False
    if node.op in ("Relu", "Sigmoid", "Softmax", "Abs"):
        return True
    if node.op == "Clip":
        low = network.values.get(node.inputs[1]) if len(node.inputs) > 1 else None
        return low is not None and low.item() >= 0
    if node.op in ("MaxPool", "AveragePool", "Concat", "Transpose"):
        return all(not_negative(network, name) for name in node.inputs)
    return False


def scale_into_convolutions(network):
    """Merge a factor for each channel into the kernels of the convolutions behind it, and an
    offset into their biases where they do not pad."""
    for node in list(network.nodes):
        if node.op == "Mul":
            _merge_factor(network, node)
    for node in list(network.nodes):
        if node.op == "Add":
            _merge_offset(network, node)


def _merge_factor(network, node):
    offset = network.only_reader(node.outputs[0])
    if offset is not None and offset.op != "Add":
        offset = None
    last = offset or node
    convolutions = network.all_readers(last.outputs[0], lambda n: _reads_plainly(network, n))
    if not convolutions:
        return
    channels = network.values[convolutions[0].inputs[1]].shape[1]
    factor = _channel_vector(network, node, channels)
    if factor is None or not factor.all():
        return
    (source,) = (name for name in node.inputs if name not in network.values)
    if not _has_channels(network, source, channels):
        return
    if offset is not None:
        vector = _channel_vector(network, offset, channels)
        if vector is None:
            return
        # x * factor + offset = (x + offset / factor) * factor
        index = 0 if offset.inputs[0] in network.values else 1
        value = _along(vector / factor, 1, 4)
        network.feed(offset, index, network.constant(f"{offset.inputs[index]}/scaled", value))
    for convolution in list(convolutions):
        kernel = network.values[convolution.inputs[1]]
        kernel = kernel * _along(factor, 1, kernel.ndim)
        network.feed(convolution, 1, network.constant(f"{convolution.inputs[1]}/scaled", kernel))
    network.reconnect(node.outputs[0], source)
    network.remove(node)


def _merge_offset(network, node):
    def accept(reader):
        pads = reader.get("pads") or ()
        automatic = reader.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
        return _reads_plainly(network, reader) and not any(pads) and not automatic

    convolutions = network.all_readers(node.outputs[0], accept)
    if not convolutions:
        return
    channels = network.values[convolutions[0].inputs[1]].shape[1]
    vector = _channel_vector(network, node, channels)
    if vector is None:
        return
    (source,) = (name for name in node.inputs if name not in network.values)
    if not _has_channels(network, source, channels):
        return
    for convolution in list(convolutions):
        kernel = network.values[convolution.inputs[1]]
        bias = np.einsum("oihw,i->o", kernel, vector)
        if len(convolution.inputs) > 2:
            bias = bias + network.values[convolution.inputs[2]]
        network.feed(convolution, 0, source)
        _set_weights(network, convolution, kernel, bias.astype(kernel.dtype))
    network.remove(node)


def affine_to_normalisation(network):
    """BatchNormalization for a factor and an offset of channels that no convolution could take:
    one operator, which runtimes with a layout of their own for convolutions also have in it."""
    for node in [node for node in network.nodes if node.op == "Mul"]:
        offset = network.only_reader(node.outputs[0])
        (source, *more) = (name for name in node.inputs if name not in network.values)
        shape = network.shapes.get(source)
        if offset is None or offset.op != "Add" or more or shape is None or len(shape) != 4:
            continue
        factor = _channel_vector(network, node, shape[1])
        vector = _channel_vector(network, offset, shape[1])
        if factor is None or vector is None or factor.dtype != np.float32:
            continue
        name = offset.outputs[0]
        network.remove(node)
        network.remove(offset)
        statistics = (factor, vector, np.zeros_like(factor), np.ones_like(factor))
        parts = ("scale", "offset", "mean", "variance")
        names = [
            network.constant(f"{name}/{part}", array)
            for part, array in zip(parts, statistics, strict=True)
        ]
        network.add(Node("BatchNormalization", [source, *names], [name], {"epsilon": 0.0}))


def argmax_over_first(network):
    """ArgMax over channels that come first, where it runs over whole rows at once, in place of one
    behind a transpose."""
    for node in [node for node in network.nodes if node.op == "ArgMax"]:
        before = network.makers.get(node.inputs[0])
        if before is None or before.op != "Transpose" or before.get("perm") != TO_LAST:
            continue
        if node.get("axis", 0) in (3, -1) and node.get("keepdims", 1) == 0:
            node.attributes["axis"] = 1
            network.feed(node, 0, before.inputs[0])


def channels_in_fours(network):
    """Add zeros to what is read by a convolution that onnxruntime's WebGPU gets wrong (1.30 does).

    It reads channels three at a time where their number is divisible by 3 and not by 4, and that of
    the outputs by 4; beyond three channels the sums are wrong. Dilation8 for 21 classes has such a
    convolution, 42 to 84.
    """
    for node in [node for node in network.nodes if node.op == "Conv"]:
        kernel = network.values.get(node.inputs[1])
        if kernel is None or kernel.ndim != 4 or node.get("group", 1) != 1:
            continue
        outputs, inputs = kernel.shape[:2]
        if inputs == 3 or inputs % 3 or inputs % 4 == 0 or outputs % 4:
            continue
        more = -inputs % 4
        pads = network.constant(f"{node.outputs[0]}/more", np.array([0, 0, 0, 0, 0, more, 0, 0]))
        padded = f"{node.outputs[0]}/padded"
        network.add(Node("Pad", [node.inputs[0], pads], [padded], {}))
        network.feed(node, 0, padded)
        kernel = np.pad(kernel, [(0, 0), (0, more), (0, 0), (0, 0)])
        old = node.inputs[1]
        network.feed(node, 1, network.constant(f"{old}/padded", kernel))
        if not network.readers[old]:
            del network.values[old]


def share_constants(network):
    """Keep one of equal constants: a layer that is called many times has as many kernels here."""
    first = {}
    for name, array in list(network.values.items()):
        if not network.readers[name] or name in network.outputs:
            continue
        key = (array.dtype, array.shape, hashlib.sha256(np.ascontiguousarray(array)).digest())
        other = first.setdefault(key, name)
        if other != name:
            network.reconnect(name, other)
            del network.values[name]


def fill_instead_of_keeping(network):
    """Large constants of one value, such as the first planes of a recurrent network, are made when
    the file is loaded. Not kernels, which the quantiser looks for."""
    import onnx

    for name, array in list(network.values.items()):
        if array.size <= LARGE or name in network.outputs or (array != array.flat[0]).any():
            continue
        if network.all_readers(name, lambda node: node.op in _POINTWISE | {"Concat"}):
            del network.values[name]
            shape = network.constant(f"{name}/shape", np.array(array.shape, "int64"))
            value = onnx.numpy_helper.from_array(array.reshape(-1)[:1])
            network.add(Node("ConstantOfShape", [shape], [name], {"value": value}))
