"""The one graph that every file is made from: batch 1, fixed size, inference mode, float32.

A static batch lets the converters fold dilated convolutions and batch normalisation, and
`training=False` is said because a layer of Keras 3.15 can switch a plain call to training mode.
"""

import keras

_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
_HALF = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def half_precision(model):
    """The name of the half precision that some layer of `model` computes in, or None."""
    for layer in model._flatten_layers(include_self=False):
        if layer.compute_dtype in _HALF:
            return layer.dtype_policy.name
    return None


def in_float32(model):
    """A copy of `model` with the same weights whose every layer computes in float32.

    float16 and bfloat16 graphs convert to neither TFLite nor ONNX. `model` is left as it is.

    Raises:
        ValueError: if the model cannot be rebuilt from its configuration.
    """
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # for layers that other layers make by themselves
    try:
        copy = keras.saving.deserialize_keras_object(_without_half(config))
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(
            f"The model {model.name!r} computes in {half_precision(model)} and cannot be rebuilt "
            f"in float32 for export: {error} Build it under the policy 'float32', copy the weights "
            "with set_weights, and export that."
        ) from error
    finally:
        keras.config.set_dtype_policy(policy)
    copy.set_weights(model.get_weights())
    return copy


def _without_half(value, key=None):
    """A configuration in which every half-precision dtype and policy is float32."""
    if isinstance(value, dict):
        if value.get("class_name") == "DTypePolicy":
            return "float32"
        return {name: _without_half(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_half(item, key) for item in value)
    return "float32" if key in ("dtype", "value_dtype") and value in _HALF else value


class StaticGraph:
    """`model` from (1, H, W, C) float32 pixels to logits (1, h, w, K) or int32 labels (1, h, w).

    Raises ValueError if the model cannot take this size.

    Attributes:
        model: the Keras model.
        input_shape: (1, H, W, C).
        output: "logits" or "labels", also the name of the graph's output.
        function: the `tf.function`.
        concrete: its trace for `input_shape`.
    """

    def __init__(self, model, size, channels, output):
        import tensorflow as tf

        self.model = model
        self.input_shape = (1, *size, channels)
        self.output = output
        signature = [tf.TensorSpec(self.input_shape, tf.float32, name="image")]
        self.function = tf.function(
            lambda image: {output: self.head(model(image, training=False))},
            input_signature=signature,
            autograph=False,
        )
        try:
            self.concrete = self.function.get_concrete_function()
        except (TypeError, ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"The model {model.name!r} cannot take images of {size[0]} x {size[1]}: {error}"
            ) from error
        calls = {op.type for op in self.concrete.graph.get_operations()} & _PYTHON
        if calls:
            raise ValueError(
                f"The model {model.name!r} runs Python code in its graph ({', '.join(calls)}), "
                "which no file can hold. A CRF-RNN with bilateral='lattice' does so: build it with "
                "bilateral='exact' and the same weights, or export the network before the CRF."
            )
        shape = self.concrete.structured_outputs[output].shape.as_list()
        if None in shape or min(shape) < 1:
            raise ValueError(
                f"The model {model.name!r} returns {output} of shape {shape} for images of "
                f"{size[0]} x {size[1]}; every number must be known and at least 1."
            )
        self.output_shape = tuple(shape)

    def head(self, logits):
        """What the file returns for the model's output."""
        import tensorflow as tf

        if isinstance(logits, list | tuple):
            logits = logits[0]
        if self.output == "labels":
            # keras.ops.argmax converts to neither TFLite nor ONNX; this is one operator in both.
            return tf.argmax(logits, axis=-1, output_type=tf.int32)
        return logits
