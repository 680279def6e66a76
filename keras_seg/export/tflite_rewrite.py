"""Changes of a graph of constants before TensorFlow's converter sees it."""


def rewritten(graph, change):
    """(concrete function, `tf.function`) of a `StaticGraph` after a change of its operators.

    Args:
        graph: a `StaticGraph`.
        change: function of the graph with its variables as constants, a `FuncGraph`, and the names
            of the operators that end it. Returns the new GraphDef, in which these names still
            stand, or None for no change.

    Returns:
        The pair that the graph has if nothing changed. Inputs and outputs are named as before.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(graph.concrete)
    outputs = dict(zip(sorted(graph.concrete.structured_outputs), frozen.outputs, strict=True))
    definition = change(frozen.graph, [tensor.op.name for tensor in outputs.values()])
    if definition is None:
        return graph.concrete, graph.function

    def call(image):
        inputs = {frozen.inputs[0].name: image}
        names = [tensor.name for tensor in outputs.values()]
        found = tf.import_graph_def(definition, inputs, names, name="")
        return dict(zip(outputs, found, strict=True))

    function = tf.function(
        call,
        input_signature=[tf.TensorSpec(graph.input_shape, tf.float32, name="image")],
        autograph=False,
    )
    return function.get_concrete_function(), function


def squares_as_products(graph):
    """`rewritten` with squares, also of differences, as multiplications.

    LiteRT has no kernel of SQUARED_DIFFERENCE in 16 bits, which the converter makes of a square
    and a subtraction too: the layer and local contrast normalisations would convert, and not run.
    """

    def split(constant_graph, outputs):
        definition = constant_graph.as_graph_def()
        found = [node for node in definition.node if node.op in ("Square", "SquaredDifference")]
        for node in found:
            factor = node.input[0]
            if node.op == "SquaredDifference":
                difference = definition.node.add(name=f"{node.name}/difference", op="Sub")
                difference.input.extend(node.input)
                difference.attr["T"].CopyFrom(node.attr["T"])
                factor = difference.name
            node.op = "Mul"
            del node.input[:]
            node.input.extend([factor, factor])
        return definition if found else None

    return rewritten(graph, split)
