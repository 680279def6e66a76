"""Networks in a graph that knows no size, as a server has them; `predict` knows the image's."""

import tensorflow as tf


def in_graph(model):
    """The model as a function of one image batch, traced for any batch, height and width."""
    spec = tf.TensorSpec((None, None, None, model.input.shape[-1]))
    return tf.function(lambda image: model(image, training=False), input_signature=[spec])
