"""SavedModel: for TensorFlow Serving, TensorFlow.js, C++ and Python without Keras."""


def write(graph, path):
    """Write the `StaticGraph` as a SavedModel folder with the signature `serving_default`.

    The signature takes `image` and returns `logits` or `labels`. Only the graph and its variables
    are written: with the Keras model attached the same takes twice as long.
    """
    import tensorflow as tf

    module = tf.Module()
    module.parameters = list(graph.concrete.variables)
    module.predict = graph.function
    tf.saved_model.save(module, str(path), signatures={"serving_default": graph.concrete})
