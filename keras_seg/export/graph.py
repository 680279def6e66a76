"""The one graph that every file is made from: batch 1, fixed size, inference mode, float32.

A static batch lets the converters fold dilated convolutions and batch normalisation, and
`training=False` is said because a layer of Keras 3.15 can switch a plain call to training mode.
"""

import functools
import re

import keras
import numpy as np

from keras_seg.export.origin import layer_names, layer_of
from keras_seg.inference import load_runner
from keras_seg.inference.resize import resize

_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
_OTHERS = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16", "float64")
# Rounding of a resize is below 1e-6 of the logits' deviation, the wrong kind of it above 1e-2.
_SAME_LOGITS = 1e-3


def other_precision(model):
    """The name of the precision other than float32 that a layer of `model` computes in, or None."""
    for layer in model._flatten_layers(include_self=False):
        if layer.compute_dtype in _OTHERS:
            return layer.dtype_policy.name
    return None


def in_float32(model):
    """A copy of `model` with the same weights whose every layer computes in float32.

    Graphs of other precisions convert to neither TFLite nor ONNX. `model` is left as it is.

    Raises:
        ValueError: if the model cannot be rebuilt from its configuration.
    """
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # for layers that other layers make by themselves
    try:
        copy = keras.saving.deserialize_keras_object(_all_float32(config))
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(
            f"The model {model.name!r} computes in {other_precision(model)} and cannot be rebuilt "
            f"in float32 for export: {error} Build it under the policy 'float32', copy the weights "
            "with set_weights, and export that."
        ) from error
    finally:
        keras.config.set_dtype_policy(policy)
    copy.set_weights(model.get_weights())
    return copy


def _all_float32(value, key=None):
    """A configuration in which every floating dtype and policy is float32."""
    if isinstance(value, dict):
        if value.get("class_name") == "DTypePolicy":
            return "float32"
        return {name: _all_float32(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_all_float32(item, key) for item in value)
    return "float32" if key in ("dtype", "value_dtype") and value in _OTHERS else value


class StaticGraph:
    """`model` in inference mode, from (1, H, W, C) float32 pixels to what a file returns.

    Args:
        model: a Keras model of one image that returns logits.
        size: (H, W).
        channels: C.
        output: what the graph returns, and the name of that output:
            - "logits": (1, h, w, K) as the model gives them.
            - "logits_lowres": those before the last enlargement, of the layer `logits_low`.
            - "probabilities": the softmax of the logits.
            - "labels": (1, h, w), the first of the classes with the largest logit.
        confidence: also return `confidence`, float32 (1, h, w): the largest probability.
        float_labels: labels as whole float32 numbers, made without ARG_MAX, which a phone's GPU
            does not have. Otherwise they are int32.

    Raises:
        ValueError: if the model cannot take this size, or has no such output.

    Attributes:
        model: the Keras model.
        network: the Keras model of which `head` takes the output: `model`, or its part up to
            `logits_low`.
        input_shape: (1, H, W, C).
        output: as given.
        outputs: the names of what is returned, `output` first.
        shapes: {name: shape}.
        function: the `tf.function`, which returns a dict.
        concrete: its trace for `input_shape`.
        logits_range: (lowest, highest) logit of 8-bit files, see `logits_range.measured`, or None.
    """

    def __init__(self, model, size, channels, output, *, confidence=False, float_labels=False):
        self.model = model
        self.output = output
        self.network = self.part(model)
        self.input_shape = (1, *size, channels)
        self.outputs = (output, "confidence") if confidence else (output,)
        self.float_labels = float_labels
        self.logits_range = None
        self.function, self.concrete = self.trace(self.input_shape)
        calls = {op.type for op in self.concrete.graph.get_operations()} & _PYTHON
        if calls:
            raise ValueError(
                f"The model {model.name!r} runs Python code in its graph ({', '.join(calls)}), "
                "which no file can hold. A CRF-RNN with bilateral='lattice' does so: build it with "
                "bilateral='exact' and the same weights, or export the network before the CRF."
            )
        found = self.concrete.structured_outputs
        self.shapes = {name: tuple(found[name].shape.as_list()) for name in self.outputs}
        shape = list(self.output_shape)
        if None in shape or min(shape) < 1:
            raise ValueError(
                f"The model {model.name!r} returns {output} of shape {shape} for images of "
                f"{size[0]} x {size[1]}; every number must be known and at least 1."
            )

    @functools.cached_property
    def runner(self):
        """The `Runner` of `network`, which all share that compare with it: it is traced once."""
        return load_runner(self.network)

    @property
    def output_shape(self):
        """The shape of the first output."""
        return self.shapes[self.output]

    @property
    def dtype(self):
        """The type of the first output, "float32" or "int32"."""
        return "int32" if self.output == "labels" and not self.float_labels else "float32"

    def trace(self, shape):
        """(`tf.function`, its trace) for images of a shape in which None stands for any number."""
        import tensorflow as tf

        function = tf.function(
            lambda image: self.head(self.network(image, training=False)),
            input_signature=[tf.TensorSpec(shape, tf.float32, name="image")],
            autograph=False,
        )
        try:
            return function, function.get_concrete_function()
        except (TypeError, ValueError, tf.errors.OpError) as error:
            size = " x ".join("any" if n is None else str(n) for n in shape[1:3])
            reason = str(error)
            small = re.search(r"Negative dimension size .*\{\{node (.+?)\}\}", reason)
            if small:
                layer = layer_of([small[1]], layer_names(self.model))
                reason = f"they are too small for the layer {layer!r}. Give a larger size."
            raise ValueError(
                f"The model {self.model.name!r} cannot take images of {size}: {reason}"
            ) from error

    def with_kernels_as_inputs(self, is_kernel, shape=None):
        """What the graph computes as a function that is given some of the weights.

        The converters copy what is constant in a graph many times.

        Args:
            is_kernel: function of a variable's shape: whether it is given.
            shape: that of the image; `input_shape`, if none is given.

        Returns:
            (function of the image and the given weights that returns {name: tensor}, its input
            signature, {name of an input: the variable that it stands for} in order).
        """
        import tensorflow as tf

        network = self.network
        variables = [*network.trainable_variables, *network.non_trainable_variables]
        split = len(network.trainable_variables)
        kernels = {f"kernel_{i}": i for i, v in enumerate(variables) if is_kernel(v.shape)}
        given = {name: variables[i] for name, i in kernels.items()}
        signature = [tf.TensorSpec(shape or self.input_shape, tf.float32, name="image")]
        signature += [tf.TensorSpec(v.shape, v.dtype, name=name) for name, v in given.items()]

        def call(image, *arrays):
            values = [variable.value for variable in variables]
            for index, array in zip(kernels.values(), arrays, strict=True):
                values[index] = array
            weights = values[:split], values[split:]
            logits, _ = network.stateless_call(*weights, image, training=False)
            return self.head(logits)

        return call, signature, given

    def operations(self):
        """(type, path) of every operation of TensorFlow's graph, those in its functions too."""
        graph = self.concrete.graph.as_graph_def()
        nodes = [node for function in graph.library.function for node in function.node_def]
        return [(node.op, node.name) for node in (*graph.node, *nodes)]

    def part(self, model):
        """The part of `model`, this one or one of the same layers, that `head` follows."""
        return _low_resolution(model) if self.output == "logits_lowres" else model

    def enlargement(self, image):
        """How to enlarge `logits_lowres` as the network does, found by trying on an image.

        Returns:
            {"resize": "half_pixel", "align_corners" or None, "difference": number}: the resize of
            `keras_seg.inference` that gives the network's logits; None where neither does, because
            the network pads, crops or enlarges in another way. The difference is the root of the
            mean square, relative to the logits' standard deviation.
        """
        low, logits = (
            keras.ops.convert_to_numpy(_single(network(image, training=False)))[0]
            for network in (self.network, self.model)
        )
        found = {}
        for sampling in ("half_pixel", "align_corners"):
            difference = resize(low, logits.shape[:2], sampling) - logits
            found[sampling] = float(np.sqrt((difference**2).mean()) / max(logits.std(), 1e-12))
        best = min(found, key=found.get)
        exact = found[best] <= _SAME_LOGITS
        return {"resize": best if exact else None, "difference": found[best]}

    def logits_shape(self):
        """(1, h, w, K) of the model's own logits."""
        if self.output in ("logits", "probabilities"):
            return self.output_shape
        return tuple(_single(self.model.compute_output_shape(self.input_shape)))

    def probabilities(self, image):
        """The model's probabilities (1, h, w, K) as a part of another graph."""
        import tensorflow as tf

        if self.output == "probabilities":
            return self.function(image)["probabilities"]
        if self.output == "logits":
            return tf.nn.softmax(self.function(image)["logits"])
        return tf.nn.softmax(_single(self.model(image, training=False)))

    def head(self, logits):
        """{name: tensor} of what the file returns for the network's output."""
        import tensorflow as tf

        logits = _single(logits)
        found = {self.output: logits}
        if self.output == "probabilities" or len(self.outputs) > 1:
            probabilities = tf.nn.softmax(logits)
        if self.output == "probabilities":
            found["probabilities"] = probabilities
        if self.output == "labels" and self.float_labels:
            found["labels"] = _first_largest(logits)
        elif self.output == "labels":
            # keras.ops.argmax converts to neither TFLite nor ONNX; this is one operator in both.
            found["labels"] = tf.argmax(logits, axis=-1, output_type=tf.int32)
        if "confidence" in self.outputs:
            found["confidence"] = tf.reduce_max(probabilities, axis=-1)
        return found


def _single(output):
    """The tensor, or the shape, of a model that returns one, or a list of one."""
    listed = isinstance(output, list) or (isinstance(output, tuple) and len(output) == 1)
    return output[0] if listed else output


def _first_largest(logits):
    """argmax over the last axis as float32, of maxima and comparisons: the first of equal ones."""
    import tensorflow as tf

    count = logits.shape[-1]
    largest = tf.cast(logits == tf.reduce_max(logits, axis=-1, keepdims=True), "float32")
    # Class k scores count - k, so that of several largest logits the first class wins.
    scores = largest * tf.range(count, 0, -1, dtype="float32")
    return count - tf.reduce_max(scores, axis=-1)


def _low_resolution(model):
    """The part of `model` up to its layer `logits_low`, sharing the weights."""
    if "logits_low" not in [layer.name for layer in model.layers]:
        raise ValueError(
            f"The model {model.name!r} has no layer 'logits_low': its logits are not enlarged at "
            "the end, or it names no such layer. It has the outputs logits, probabilities and "
            "labels."
        )
    return keras.Model(model.input, model.get_layer("logits_low").output, name=model.name)
