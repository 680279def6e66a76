"""Convolutions that Keras has, in a form that runs everywhere."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("keras_seg")
class GroupedConv2D(layers.Conv2D):
    """`keras.layers.Conv2D` with `groups`, computed as one convolution for each group.

    Arguments, kernel (kh, kw, C / groups, filters) and result are those of Keras. TensorFlow has
    no grouped convolution for CPUs: Keras hands it to XLA, which compiles anew for every image
    size, takes half as long again, and leaves functions in the graph that no converter opens.
    """

    def convolution_op(self, inputs, kernel):
        parts = zip(
            ops.split(inputs, self.groups, axis=-1),
            ops.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        convolve = super().convolution_op
        return ops.concatenate([convolve(x, k) for x, k in parts], axis=-1)
