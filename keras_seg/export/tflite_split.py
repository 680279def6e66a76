"""Convolutions over very many input channels as sums of convolutions over some of them.

LiteRT's float kernels (XNNPACK) compute a few pixels of a convolution at a time, and read the
kernel's whole columns, kernel area times input channels long, for each of them. Beyond some ten
thousand values these no longer stay in a processor's second cache, and the convolution waits for
memory: the head of PSPNet (3x3, 4096 -> 512) was measured at a fifth of the speed of eight
convolutions over 512 channels each, and the dilated ones of DeepLab v3 (3x3, 2048 -> 256) at two
fifths of that of four (`benchmarks/export_speed.py`).
"""

from keras_seg.export.tflite_rewrite import rewritten

LONGEST = 9216  # values in a column that is left whole: 3 x 3 x 1024
PART = 4608  # in a part of a longer one: 3 x 3 x 512
FEWEST_PIXELS = 64  # of the output: with fewer, the kernel is read a few times only


def split_long_sums(graph):
    """(concrete function, `tf.function`) of a `StaticGraph`, with long convolutions in parts.

    The same pair that the graph has if it has no such convolution. Otherwise variables are
    constants, and inputs and outputs are named as before.
    """
    if not any(_is_long(v.shape) for v in graph.concrete.variables):
        return graph.concrete, graph.function

    def split(constant_graph, outputs):
        splitter = _Splitter(constant_graph)
        return splitter.without_the_unused(outputs) if splitter.run() else None

    return rewritten(graph, split)


def _is_long(kernel):
    return len(kernel) == 4 and kernel[0] * kernel[1] * kernel[2] > LONGEST


class _Splitter:
    """Rewrites the GraphDef of a graph of constants."""

    def __init__(self, graph):
        self.graph, self.definition = graph, graph.as_graph_def()
        self.nodes = {node.name: node for node in self.definition.node}

    def run(self):
        """Whether there was something to split."""
        found = [node for node in self.definition.node if self._should_split(node)]
        for node in found:
            self._split(node)
        return bool(found)

    def without_the_unused(self, names):
        """The GraphDef of the nodes that others need, the kernels of old not among them."""
        used, waiting = set(), list(names)
        while waiting:
            name = waiting.pop().lstrip("^").split(":")[0]
            if name not in used:
                used.add(name)
                waiting += self.nodes[name].input
        for index in reversed(range(len(self.definition.node))):
            node = self.definition.node[index]
            if node.name not in used and node.op != "Placeholder":
                del self.definition.node[index]
        return self.definition

    def _should_split(self, node):
        if node.op != "Conv2D" or self._constant(node.input[1]) is None:
            return False
        kernel, output, source = (self._shape(n) for n in (node.input[1], node.name, node.input[0]))
        pixels = output[0] * output[1] * output[2] if None not in output else 0
        return _is_long(kernel) and source[3] == kernel[2] and pixels >= FEWEST_PIXELS

    def _split(self, node):
        """A dilated convolution stands between SpaceToBatchND and BatchToSpaceND, which the
        converter turns into one operator: each part gets its own of both."""
        import tensorflow as tf

        before, after = self._node(node.input[0]), self._only_reader(node)
        dilated = before.op == "SpaceToBatchND" and after is not None
        dilated = dilated and after.op == "BatchToSpaceND"
        source = before.input[0] if dilated else node.input[0]
        kernel = tf.make_ndarray(self._constant(node.input[1]))
        factor, offset, end = self._normalisation(after if dilated else node, kernel.shape[3])
        parts = -(-kernel.shape[0] * kernel.shape[1] * kernel.shape[2] // PART)
        step = -(-kernel.shape[2] // parts)
        step += -step % 16  # values in a vector register
        total = None
        for start in range(0, kernel.shape[2], step):
            stop = min(start + step, kernel.shape[2])
            name = f"{node.name}/part{start}"
            part = self._channels(source, start, stop, name)
            weights = self._add_constant(f"{name}/kernel", kernel[:, :, start:stop])
            if factor is not None:
                weights = self._add("Mul", f"{name}/scaled", [weights, factor])
            if dilated:
                part = self._copy(before, f"{name}/before", [part, *before.input[1:]])
            part = self._copy(node, f"{name}/convolution", [part, weights])
            if dilated:
                part = self._copy(after, f"{name}/after", [part, *after.input[1:]])
            if total is not None:
                part = self._add("AddV2", f"{name}/sum", [total, part])
            elif offset is not None:
                part = self._add("AddV2", f"{name}/offset", [part, offset])
            total = part
        # What comes behind reads the sum under the name that it knows.
        name, kind = end.name, self._type
        end.Clear()
        end.name, end.op = name, "Identity"
        end.input.append(total)
        end.attr["T"].CopyFrom(kind)

    def _normalisation(self, node, channels):
        """(factor, offset, last node): names of what scales and shifts the channels of a
        convolution behind it, or None, and the node behind which that is done."""
        factor = offset = None
        reader = self._only_reader(node)
        other = self._other_input(reader, node, ("Mul",), channels)
        if other is not None:
            factor, node = other, reader
            reader = self._only_reader(node)
        other = self._other_input(reader, node, ("AddV2", "BiasAdd"), channels)
        if other is not None:
            offset, node = other, reader
        return factor, offset, node

    def _other_input(self, reader, node, operators, channels):
        """The other input of an operator if it is one fixed number for each channel, or None."""
        if reader is None or reader.op not in operators:
            return None
        others = [name for name in reader.input if self._node(name) is not node]
        if len(others) != 1 or self._shape(others[0]) not in ([channels], [1, 1, 1, channels]):
            return None
        waiting = [others[0]]
        while waiting:
            found = self._node(waiting.pop())
            if found.op == "Placeholder":
                return None
            waiting += found.input
        return others[0]

    def _channels(self, source, start, stop, name):
        """Channels of a tensor; from the part that holds them if it was put together of several."""
        node = self._node(source)
        if node.op == "ConcatV2":
            offset = 0
            for part in node.input[:-1]:
                width = self._shape(part)[3]
                if self._shape(source)[3] == self._shape(part)[3]:
                    break  # along another axis
                if offset <= start and stop <= offset + width:
                    if (start, stop) == (offset, offset + width):
                        return part
                    return self._slice(part, start - offset, stop - offset, name)
                offset += width
        return self._slice(source, start, stop, name)

    def _slice(self, source, start, stop, name):
        import numpy as np

        begin = self._add_constant(f"{name}/begin", np.array([0, 0, 0, start], "int32"))
        size = self._add_constant(f"{name}/size", np.array([-1, -1, -1, stop - start], "int32"))
        made = self._add("Slice", f"{name}/slice", [source, begin, size])
        self.nodes[made].attr["Index"].CopyFrom(self.nodes[begin].attr["dtype"])
        return made

    def _node(self, name):
        return self.nodes[name.split(":")[0]]

    def _shape(self, name):
        return self.graph.get_tensor_by_name(name if ":" in name else f"{name}:0").shape.as_list()

    def _constant(self, name):
        """The TensorProto of a constant, behind any Identity, or None."""
        node = self._node(name)
        while node.op == "Identity":
            node = self._node(node.input[0])
        return node.attr["value"].tensor if node.op == "Const" else None

    def _only_reader(self, node):
        readers = [
            other
            for other in self.definition.node
            for name in other.input
            if name.split(":")[0] == node.name
        ]
        return readers[0] if len(readers) == 1 else None

    @property
    def _type(self):
        """The attribute that says float32."""
        import tensorflow as tf

        return tf.compat.v1.AttrValue(type=tf.float32.as_datatype_enum)

    def _register(self, node):
        self.nodes[node.name] = node
        return node.name

    def _add(self, op, name, inputs):
        node = self.definition.node.add(name=name, op=op, input=inputs)
        node.attr["T"].CopyFrom(self._type)
        return self._register(node)

    def _add_constant(self, name, array):
        import tensorflow as tf

        node = self.definition.node.add(name=name, op="Const")
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
        node.attr["dtype"].type = node.attr["value"].tensor.dtype
        return self._register(node)

    def _copy(self, old, name, inputs):
        node = self.definition.node.add()
        node.CopyFrom(old)
        node.name = name
        del node.input[:]
        node.input.extend(inputs)
        return self._register(node)
