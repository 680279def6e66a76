"""The graph of constants that TensorFlow's converter is given, and changes of it.

`tf.lite` makes the variables of a function constants by way of a dozen copies of the whole graph:
FCN-32s, 0.54 GB, took 14 GB and two minutes, and more than 17 GB and fifteen minutes if its graph
had been changed before. Here kernels enter as inputs, so that freezing and every change see a small
graph, and become constants at the end.
"""

import math

import keras
import numpy as np

# Constants of more values than this are kept beside the GraphDef.
LARGE = 4096
_COMPARING = ("Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "NotEqual")
_RESHAPING = ("ExpandDims", "Identity", "Reshape", "Squeeze", "Transpose")
# Operators whose result has the step of what they read, in 8 bits.
_KEEPING_STEPS = frozenset(
    """AvgPool BatchToSpaceND BroadcastTo ConcatV2 DepthToSpace GatherNd GatherV2 Max MaxPool Min
    MirrorPad Pack Pad PadV2 ResizeBilinear ResizeNearestNeighbor ReverseV2 Roll Slice
    SpaceToBatchND SpaceToDepth Split SplitV StridedSlice Tile Unpack""".split()
)
# `x > c` is `x >= d` for the next number d above c, and so on: (operator, which side d is on).
_SAME = {
    "Greater": ("GreaterEqual", np.float32(np.inf)),
    "LessEqual": ("Less", np.float32(np.inf)),
    "GreaterEqual": ("Greater", np.float32(-np.inf)),
    "Less": ("LessEqual", np.float32(-np.inf)),
}
# From here on a bound in 16 bits may be more steps of what it bounds than 32 bits can count.
_FAR = 100
# selu(x) is the sum of these times elu(x) and relu(x): 1.0507 x above 0, 1.7581 (exp(x) - 1) below.
_SELU = {"Elu": 1.7580993408473766, "Relu": 1.0507009873554805 - 1.7580993408473766}


def frozen(graph, finish=None):
    """The `Editor` of a graph of constants that computes what a `StaticGraph` does.

    Args:
        graph: a `StaticGraph`.
        finish: function of {name: tensor} that returns what the graph shall return instead.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    network, signature, kernels = graph.with_kernels_as_inputs(lambda s: math.prod(s) > LARGE)

    def call(*given):
        found = network(*given)
        return found if finish is None else finish(found)

    function = tf.function(call, input_signature=signature, autograph=False)
    constant = convert_variables_to_constants_v2(function.get_concrete_function())
    image, *names = [tensor.op.name for tensor in constant.inputs]
    arrays = map(keras.ops.convert_to_numpy, kernels.values())
    outputs = [tensor.name for tensor in constant.outputs]  # in the order of the alphabet
    return Editor(
        constant.graph.as_graph_def(), image, outputs, dict(zip(names, arrays, strict=True))
    )


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


def norms_bounded_below(editor):
    """`minimum(rsqrt(x), c)`, as `keras.ops.normalize` has it, as `rsqrt(maximum(x, 1 / c**2))`;
    whether there were any.

    Its c is 1e12, which the quantiser in 16 bits makes the smallest number that there is. The
    converter makes one operator of the other form.
    """
    found = []
    for node in editor.of_type("Minimum"):
        for root, bound in (node.input, node.input[::-1]):
            value = editor.constant(bound)
            if editor.node(root).op == "Rsqrt" and value is not None and (value > 0).all():
                found.append((node, editor.node(root).input[0], value))
    for node, source, value in found:
        least = editor.add_constant(
            f"{node.name}/least", np.float32(1 / np.square(value, dtype=float))
        )
        bounded = editor.add("Maximum", f"{node.name}/bounded", [source, least])
        editor.put_in_place(node, editor.add("Rsqrt", f"{node.name}/root", [bounded]))
    return bool(found)


def sums_as_means(editor):
    """Sums over axes as means times the number of values; whether there were any.

    The quantiser gives a sum in 16 bits the step of what is summed, by which it is cut off. Those
    of squares stay: after `squares_as_products` they are those of an L2 normalisation.
    """
    found = []
    for node in editor.of_type("Sum"):
        before, after = (editor.shape(name) for name in (node.input[0], node.name))
        of_norm = editor.node(node.input[0]).op == "Square"
        if None not in before + after and not of_norm and not editor.is_fixed(node.name):
            found.append((node, math.prod(before) / math.prod(after)))
    for node, count in found:
        mean = editor.copy(node, f"{node.name}/mean", node.input)
        editor.node(mean).op = "Mean"
        count = editor.add_constant(f"{node.name}/count", np.float32(count))
        editor.put_in_place(node, editor.add("Mul", f"{node.name}/product", [mean, count]))
    return bool(found)


def choices_as_sums(editor):
    """`where(condition, a, b)` as a sum of products with 0 and 1, and SELU, which the converter
    makes such a choice, as one of ELU and ReLU; whether there were any.

    The quantiser gives a choice in 8 bits one range with all that it chooses of, that of the
    result: `where(x > 0, x, x / 4)` cut the x that is divided off as well. In 16 bits `b` keeps a
    step of its own and is taken for one of the step of `a`. One of zeros and of values that nothing
    else reads is right.
    """
    found = [
        node
        for node in editor.of_type("SelectV2")
        if node.attr["T"].type == editor.float32
        and not editor.is_fixed(node.name)
        and not (
            any(editor.is_zero(name) for name in node.input[1:])
            and not _read_elsewhere(editor, node, node.input[1:])
        )
    ]
    for node in found:
        condition, one, other = node.input
        name = node.name
        here = editor.add_mask(f"{name}/here", condition)
        whole = editor.add_constant(f"{name}/one", np.float32(1))
        there = editor.add("Sub", f"{name}/there", [whole, here])
        parts = [
            editor.add("Mul", f"{name}/{part}", [mask, value])
            for part, mask, value in (("first", here, one), ("second", there, other))
            if not editor.is_zero(value)
        ]
        made = parts[0] if len(parts) == 1 else editor.add("AddV2", f"{name}/sum", parts)
        editor.put_in_place(node, made)
    units = editor.of_type("Selu")
    for node in units:
        parts = []
        for kind, factor in _SELU.items():
            made = editor.add(kind, f"{node.name}/{kind}", node.input)
            factor = editor.add_constant(f"{made}/factor", np.float32(factor))
            parts.append(editor.add("Mul", f"{made}/product", [made, factor]))
        editor.put_in_place(node, editor.add("AddV2", f"{node.name}/sum", parts))
    return bool(found + units)


def larger_as_sums(editor):
    """`maximum(a, b)` as `relu(a - b) + b`, and a minimum likewise, where a or b is read elsewhere;
    whether there were any.

    As in `choices_as_sums` one range, that of the result, would be of a and b too:
    `maximum(x, x / 4)` cut the x that is divided. What compares two of them may see them cut, and
    max-unpooling has to find its maxima again.
    """
    return _as_sums(editor, lambda node: _read_elsewhere(editor, node, node.input))


def far_bounds_as_sums(editor):
    """`minimum(x, 1e12)` as `x - relu(x - 1e12)`, and a maximum likewise; whether there were any.

    In 16 bits a bound has the step of what it bounds, and the quantiser lets the number of steps
    overflow: the bound became a small number.
    """

    def is_far(node):
        bounds = [editor.constant(name) for name in node.input]
        return any(bound is not None and np.abs(bound).max() >= _FAR for bound in bounds)

    return _as_sums(editor, is_far)


def _as_sums(editor, chosen):
    found = [
        node
        for node in editor.of_type("Maximum", "Minimum")
        if node.attr["T"].type == editor.float32 and not editor.is_fixed(node.name) and chosen(node)
    ]
    for node in found:
        # Added to is what varies: the sum with a bound far away would have its step.
        one, other = sorted(node.input, key=lambda name: not editor.is_fixed(name))
        if editor.is_zero(one):
            one, other = other, one
        name, sign, total = node.name, ("AddV2" if node.op == "Maximum" else "Sub"), other
        for part, (bound, mask) in enumerate(_alike(editor, one, name)):
            pair = [bound, other] if node.op == "Maximum" else [other, bound]
            beyond = editor.add("Sub", f"{name}/difference_{part}", pair)
            beyond = editor.add("Relu", f"{name}/beyond_{part}", [beyond])
            if mask is not None:
                beyond = editor.add("Mul", f"{name}/there_{part}", [beyond, mask])
            total = editor.add(sign, f"{name}/sum_{part}", [total, beyond])
        editor.put_in_place(node, total)
    return bool(found)


def _alike(editor, name, prefix):
    """Pairs of a tensor and a mask of 0 and 1: where each is 1, the tensor `name`. The bounds of a
    constant that are a hundred times others are apart from them, of which they would be no step.

    One pair with the mask None, if there are none such.
    """
    bounds = editor.constant(name)
    if bounds is None:
        return [(name, None)]
    sizes = np.floor(np.log10(np.maximum(np.abs(bounds), 1)) / np.log10(_FAR))
    groups = np.unique(sizes)
    if len(groups) == 1:
        return [(name, None)]
    found = []
    for number, size in enumerate(groups):
        here = sizes == size
        values = {"bound": np.where(here, bounds, bounds[here][0]), "mask": here}
        found.append(
            tuple(
                editor.add_constant(f"{prefix}/{kind}_{number}", value.astype("float32"))
                for kind, value in values.items()
            )
        )
    return found


def bounds_compared_apart(editor):
    """Comparisons with a constant as those with the next number; whether there were any.

    In 16 bits they are computed in float. A constant that something else computes with too would
    be the same tensor, in 16 bits, and the file could not be loaded.
    """
    found = []
    for node in editor.of_type(*_SAME):
        value = editor.constant(node.input[1])
        if value is not None and value.dtype == np.float32:
            found.append((node, value))
    for node, value in found:
        node.op, side = _SAME[node.op]
        # Next to 0 comes what a processor may take for 0.
        least = np.copysign(np.finfo("float32").tiny, side)
        value = np.where(value == 0, least, np.nextafter(value, side)).astype("float32")
        node.input[1] = editor.add_constant(f"{node.name}/next", value)
    return bool(found)


def _read_elsewhere(editor, node, names):
    """Whether something computes with one of the tensors besides `node`, or with what `node` reads
    in another shape or place."""
    # Max-unpooling may see them cut, and would not find its maxima in sums.
    unpools = node.op == "SelectV2" and editor.node(node.input[0]).op == "Equal"
    unpools |= any(r.op in _COMPARING for name in names for r in editor.readers(editor.node(name)))
    passed = {*_RESHAPING} if unpools else {*_RESHAPING, *_KEEPING_STEPS}
    waiting = [(name, node) for name in names]
    while waiting:
        name, reader = waiting.pop()
        if editor.is_fixed(name):
            continue
        source = editor.node(name)
        others = [other for other in editor.readers(source) if other is not reader]
        if not all(_may_be_cut(editor, other, node) for other in others):
            return True
        if source.op in passed:
            waiting += [(name, source) for name in source.input]
    return False


def _may_be_cut(editor, reader, node):
    """Whether `reader` may see what `node` reads in the range of what `node` returns: max-unpooling
    compares with the largest value, and chooses the rest by the same condition."""
    if node.op == "SelectV2" and reader.op == "SelectV2":
        return reader.input[0] == node.input[0]
    if reader.op not in _COMPARING:
        return False
    return node.op == "SelectV2" or not any(map(editor.is_fixed, reader.input))


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

    Args:
        definition: the GraphDef, in which large constants may be placeholders.
        image: the name of the node that is fed.
        outputs: the names of the tensors that are returned.
        arrays: {name of a placeholder: its array}.
    """

    def __init__(self, definition, image, outputs, arrays):
        self.definition, self.image, self.outputs = definition, image, outputs
        self._arrays = dict(arrays)
        self._nodes = {node.name: node for node in definition.node}
        for node in definition.node:
            if node.op == "Const" and _count(node) > LARGE:
                self._keep_beside(node)
        self._infer_shapes()

    def whole(self):
        """(GraphDef with all constants, the input tensor, the output tensors), for a converter."""
        self._drop_the_unused()
        tensors = [self._graph.get_tensor_by_name(name) for name in self.outputs]
        image = self._graph.get_tensor_by_name(f"{self.image}:0")
        definition = type(self.definition)()
        definition.CopyFrom(self.definition)
        for node in definition.node:
            if node.name in self._arrays:
                _fill(node, self._arrays[node.name])
        return definition, image, tensors

    def apply(self, change):
        """Make a change, after which the shapes of what it added are known; whether it did any."""
        changed = change(self)
        if changed:
            self._infer_shapes()
        return changed

    def _infer_shapes(self):
        import tensorflow as tf

        with tf.Graph().as_default() as self._graph:
            tf.import_graph_def(self.definition, name="")

    def _keep_beside(self, node):
        import tensorflow as tf

        array = tf.make_ndarray(node.attr["value"].tensor)
        name, dtype = node.name, node.attr["dtype"].type
        node.Clear()
        node.name, node.op = name, "Placeholder"
        node.attr["dtype"].type = dtype
        node.attr["shape"].shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
        self._arrays[name] = array

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
        """The array of a constant, behind any Identity and Cast, or None."""
        import tensorflow as tf

        node = self.node(name)
        if node.op == "Identity":
            return self.constant(node.input[0])
        if node.op == "Cast":
            value = self.constant(node.input[0])
            kind = tf.as_dtype(node.attr["DstT"].type).as_numpy_dtype
            return None if value is None else value.astype(kind)
        if node.name in self._arrays:
            return self._arrays[node.name]
        return tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else None

    def is_image(self, node):
        """Whether a node is what the graph is fed with."""
        return node.name == self.image

    def is_fixed(self, name):
        """Whether a tensor is computed of constants alone."""
        seen, waiting = set(), [name]
        while waiting:
            node = self.node(waiting.pop().lstrip("^"))
            if self.is_image(node):
                return False
            if node.name not in seen:
                seen.add(node.name)
                waiting += node.input
        return True

    def readers(self, node):
        """The nodes that read what `node` returns, one for each time."""
        return [
            other
            for other in self.definition.node
            for name in other.input
            if name.split(":")[0] == node.name
        ]

    def only_reader(self, node):
        """The node that reads `node`, if that is one and reads it once, or None."""
        readers = self.readers(node)
        return readers[0] if len(readers) == 1 else None

    def is_zero(self, name):
        """Whether a tensor is a constant of zeros."""
        found = self.constant(name)
        return found is not None and not found.any()

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

    def add_mask(self, name, condition):
        """Add 1 where a tensor of bool is true, 0 elsewhere; its name."""
        import tensorflow as tf

        node = self.definition.node.add(name=name, op="Cast", input=[condition])
        node.attr["SrcT"].type = tf.bool.as_datatype_enum
        node.attr["DstT"].type = self.float32
        self._nodes[name] = node
        return name

    def add_constant(self, name, array):
        """Add an array; its name."""
        node = self.definition.node.add(name=name)
        _fill(node, array)
        self._nodes[name] = node
        if array.size > LARGE:
            self._keep_beside(node)
        return name

    def add_with(self, operator, name, source, second, kind):
        """Add an operator whose second input is a list of int32, of which attribute `kind` speaks;
        its name. (Pad, Reshape, Tile)"""
        import tensorflow as tf

        numbers = self.add_constant(f"{name}/{kind}", np.array(second, "int32"))
        return self.add(operator, name, [source, numbers], **{kind: tf.int32})

    def add_slice(self, name, source, begin, size):
        """Add the part of a tensor from `begin` on; its name."""
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

    def _drop_the_unused(self):
        used, waiting = {self.image}, list(self.outputs)
        while waiting:
            name = waiting.pop().lstrip("^").split(":")[0]
            if name not in used:
                used.add(name)
                waiting += self._nodes[name].input
        for index in reversed(range(len(self.definition.node))):
            if self.definition.node[index].name not in used:
                del self.definition.node[index]
        self._nodes = {node.name: node for node in self.definition.node}

    @property
    def float32(self):
        """What stands for float32 in an attribute."""
        import tensorflow as tf

        return tf.float32.as_datatype_enum

    @property
    def _type(self):
        """The attribute that says float32."""
        import tensorflow as tf

        return tf.compat.v1.AttrValue(type=self.float32)


def _count(node):
    """The number of values of a constant."""
    return math.prod(d.size for d in node.attr["value"].tensor.tensor_shape.dim)


def _fill(node, array):
    """Make a placeholder a constant."""
    import tensorflow as tf

    name, tensor = node.name, tf.make_tensor_proto(array)
    node.Clear()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = tensor.dtype
    node.attr["value"].tensor.CopyFrom(tensor)
