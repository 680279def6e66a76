"""The end of a network: logits at the size of the image, and the network without its helpers."""

import keras

from keras_seg.layers.resize import Resize


def resize_logits(x, image, *, align_corners=False, name="logits"):
    """Logits (N, h, w, K) at the size of `image`, float32 whatever the precision policy."""
    return Resize(align_corners=align_corners, dtype="float32", name=name)(x, image)


def classify(x, num_classes, initializer):
    """The end of a classifier: the mean of a map (N, h, w, C), then float32 "logits" (N, K)."""
    # float32: the sum over a map overflows float16.
    x = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)
    return keras.layers.Dense(
        num_classes, kernel_initializer=initializer, dtype="float32", name="logits"
    )(x)


def inference_model(model):
    """The network from image to logits, without auxiliary training outputs, sharing the weights.

    A model with one output is returned as it is; of a dict of outputs, "logits" is kept.

    Raises:
        ValueError: if there are several outputs and none is called "logits".
    """
    outputs = model.output
    if not isinstance(outputs, dict | list | tuple):
        return model
    if isinstance(outputs, list | tuple) and len(outputs) == 1:
        return model
    if not isinstance(outputs, dict) or "logits" not in outputs:
        names = sorted(outputs) if isinstance(outputs, dict) else [o.name for o in outputs]
        raise ValueError(f"{model.name} has the outputs {names}; one must be called 'logits'.")
    return keras.Model(model.input, outputs["logits"], name=model.name)
