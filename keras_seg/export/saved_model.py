"""SavedModel: for TensorFlow Serving, TensorFlow.js, C++ and Python without Keras."""


def write(graph, path):
    """Write the `StaticGraph` as a SavedModel folder.

    Its signatures:
        serving_default, serve: `image`, float32 (1, H, W, C) pixels 0..255 -> the graph's outputs.
        label: `image`, uint8 (1, h, w, C) of any size -> `labels`, uint8 (1, h, w), and
            `confidence`, float32 (1, h, w), where the graph has it: what a `Predictor` of the
            default options makes of an image of this size. The probabilities of all classes exist
            at the image's size on the way. Networks whose logits do not have the size of their
            input do not get this signature.

    Only the graph and its variables are written: with the Keras model attached the same takes twice
    as long.
    """
    import tensorflow as tf

    module = tf.Module()
    module.predict = graph.function
    signatures = {"serving_default": graph.concrete, "serve": graph.concrete}
    variables = {id(v): v for v in graph.concrete.variables}
    label = _label_function(graph)
    if label is not None:
        signatures["label"] = label.get_concrete_function()
        variables |= {id(v): v for v in signatures["label"].variables}
    module.parameters = list(variables.values())
    tf.saved_model.save(module, str(path), signatures=signatures)


def _label_function(graph):
    """The `tf.function` of the signature `label`, or None for a network that cannot have it."""
    import tensorflow as tf

    _, height, width, channels = graph.input_shape

    def resize(images, size):
        # Antialiased where it shrinks, at half-pixel centres where it grows, as `Predictor` does.
        return tf.image.resize(images, size, antialias=True)

    def label(image):
        size = tf.shape(image)[1:3]
        probabilities = graph.probabilities(resize(tf.cast(image, "float32"), (height, width)))
        probabilities = resize(probabilities, size)
        found = {"labels": tf.cast(tf.argmax(probabilities, axis=-1), "uint8")}
        if "confidence" in graph.outputs:
            found["confidence"] = tf.reduce_max(probabilities, axis=-1)
        return found

    if graph.logits_shape()[1:3] != (height, width):
        return None
    signature = [tf.TensorSpec((1, None, None, channels), tf.uint8, name="image")]
    return tf.function(label, input_signature=signature, autograph=False)
