"""Changes of a graph of constants before TensorFlow's converter sees it."""

import copy


def rewritten(graph, change):
    """A `StaticGraph` like `graph` after a change of its operators.

    Args:
        graph: a `StaticGraph`.
        change: function of an `Editor`, which it tells what to change. Returns whether it did.

    Returns:
        `graph` itself if nothing changed; otherwise a copy with another `concrete` and `function`,
        in which variables are constants, and inputs and outputs are named as before.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(graph.concrete)
    outputs = dict(zip(sorted(graph.concrete.structured_outputs), frozen.outputs, strict=True))
    editor = Editor(frozen.graph)
    if not change(editor):
        return graph
    definition = editor.without_the_unused([tensor.op.name for tensor in outputs.values()])

    def call(image):
        inputs = {frozen.inputs[0].name: image}
        names = [tensor.name for tensor in outputs.values()]
        found = tf.import_graph_def(definition, inputs, names, name="")
        return dict(zip(outputs, found, strict=True))

    found = copy.copy(graph)
    found.function = tf.function(
        call,
        input_signature=[tf.TensorSpec(graph.input_shape, tf.float32, name="image")],
        autograph=False,
    )
    found.concrete = found.function.get_concrete_function()
    return found


def squares_as_products(editor):
    """Squares, also of differences, as multiplications; whether there were any.

    LiteRT has no kernel of SQUARED_DIFFERENCE in 16 bits, which the converter makes of a square
    and a subtraction too: the layer and local contrast normalisations would convert, and not run.
    The squares of an L2 normalisation stay: the converter knows it by them, and in 16 bits its
    single steps would be rounded to nothing.
    """
    found = [node for node in editor.of_type("Square") if not _is_of_norm(editor, node)]
    found += editor.of_type("SquaredDifference")
    for node in found:
        factor = node.input[0]
        if node.op == "SquaredDifference":
            factor = editor.add("Sub", f"{node.name}/difference", node.input)
        node.op = "Mul"
        del node.input[:]
        node.input.extend([factor, factor])
    return bool(found)


def _is_of_norm(editor, node):
    """Whether a square is summed, kept from zero, and one over the root taken."""
    for operators in (("Sum",), ("AddV2", "Maximum"), ("Rsqrt",)):
        node = editor.only_reader(node)
        if node is None or node.op not in operators:
            return False
    return True


class Editor:
    """Reads and changes the GraphDef of a graph of constants.

    Operators that are added are named below the one that they replace, whose layer they come from.
    What ends a changed part keeps its name, so that what reads it need not be changed, and so that
    its shape is still known.
    """

    def __init__(self, graph):
        self._graph, self.definition = graph, graph.as_graph_def()
        self._nodes = {node.name: node for node in self.definition.node}

    def of_type(self, *operators):
        """The nodes of these operators, as a list: what is added later is not in it."""
        return [node for node in self.definition.node if node.op in operators]

    def node(self, name):
        """The node that makes a tensor."""
        return self._nodes[name.split(":")[0]]

    def has(self, name):
        """Whether there is a node of this name."""
        return name in self._nodes

    def shape(self, name):
        """The shape of a tensor that was there from the start, as a list; None for what is unknown,
        four times where not even the number of dimensions is known."""
        name = name if ":" in name else f"{name}:0"
        shape = self._graph.get_tensor_by_name(name).shape
        return [None] * 4 if shape.rank is None else shape.as_list()

    def constant(self, name):
        """The array of a constant, behind any Identity, or None."""
        import tensorflow as tf

        node = self.node(name)
        while node.op == "Identity":
            node = self.node(node.input[0])
        return tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else None

    def is_fixed(self, name):
        """Whether a tensor is computed of constants alone."""
        seen, waiting = set(), [name]
        while waiting:
            node = self.node(waiting.pop().lstrip("^"))
            if node.op == "Placeholder":
                return False
            if node.name not in seen:
                seen.add(node.name)
                waiting += node.input
        return True

    def readers(self, node):
        """The nodes that read the first output of `node`, one for each time."""
        return [
            other
            for other in self.definition.node
            for name in other.input
            if name in (node.name, f"{node.name}:0")
        ]

    def only_reader(self, node):
        """The node that reads `node`, if that is one and reads it once, or None."""
        readers = self.readers(node)
        return readers[0] if len(readers) == 1 else None

    def channel_constant(self, reader, node, operators, channels):
        """The other input of a reader of `node` if it is one of the operators, and that input is
        one fixed number for each channel; or None."""
        if reader is None or reader.op not in operators:
            return None
        others = [name for name in reader.input if self.node(name) is not node]
        if len(others) != 1 or self.shape(others[0]) not in ([channels], [1, 1, 1, channels]):
            return None
        return others[0] if self.is_fixed(others[0]) else None

    def add(self, operator, name, inputs, **attributes):
        """Add a node of float32 tensors; its name."""
        node = self.definition.node.add(name=name, op=operator, input=inputs)
        node.attr["T"].CopyFrom(self._type)
        for key, value in attributes.items():
            if isinstance(value, int):
                node.attr[key].i = value
            elif isinstance(value, str):
                node.attr[key].s = value.encode()
            elif isinstance(value, list):
                node.attr[key].list.i.extend(value)
            else:
                node.attr[key].type = value.as_datatype_enum
        self._nodes[name] = node
        return name

    def add_constant(self, name, array):
        """Add an array; its name."""
        import tensorflow as tf

        node = self.definition.node.add(name=name, op="Const")
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
        node.attr["dtype"].type = node.attr["value"].tensor.dtype
        self._nodes[name] = node
        return name

    def add_with(self, operator, name, source, second, kind):
        """Add an operator whose second input is a list of int32, of which attribute `kind` speaks;
        its name. (Pad, Reshape, Tile)"""
        import numpy as np
        import tensorflow as tf

        numbers = self.add_constant(f"{name}/{kind}", np.array(second, "int32"))
        return self.add(operator, name, [source, numbers], **{kind: tf.int32})

    def add_slice(self, name, source, begin, size):
        """Add the part of a tensor from `begin` on; its name."""
        import numpy as np
        import tensorflow as tf

        begin = self.add_constant(f"{name}/begin", np.array(begin, "int32"))
        size = self.add_constant(f"{name}/size", np.array(size, "int32"))
        return self.add("Slice", name, [source, begin, size], Index=tf.int32)

    def copy(self, old, name, inputs):
        """Add a node like `old`; its name."""
        node = self.definition.node.add()
        node.CopyFrom(old)
        node.name = name
        del node.input[:]
        node.input.extend(inputs)
        self._nodes[name] = node
        return name

    def put_in_place(self, node, name):
        """Let what reads `node` read the tensor `name`."""
        old = node.name
        node.Clear()
        node.name, node.op = old, "Identity"
        node.input.append(name)
        node.attr["T"].CopyFrom(self._type)

    def without_the_unused(self, names):
        """The GraphDef of the nodes that the nodes `names` need."""
        used, waiting = set(), list(names)
        while waiting:
            name = waiting.pop().lstrip("^").split(":")[0]
            if name not in used:
                used.add(name)
                waiting += self._nodes[name].input
        for index in reversed(range(len(self.definition.node))):
            node = self.definition.node[index]
            if node.name not in used and node.op != "Placeholder":
                del self.definition.node[index]
        return self.definition

    @property
    def _type(self):
        """The attribute that says float32."""
        import tensorflow as tf

        return tf.compat.v1.AttrValue(type=tf.float32.as_datatype_enum)
