"""The end of a network: logits at the size of the image, and the network without its helpers."""

import keras
from keras import layers

from keras_seg.layers.normalization import conv_bn_relu, uniform_fan_in
from keras_seg.layers.resize import Resize


def resize_logits(x, image, *, align_corners=False, name="logits"):
    """Logits (N, h, w, K) at the size of `image`, float32 whatever the precision policy."""
    return Resize(align_corners=align_corners, dtype="float32", name=name)(x, image)


def classify(x, num_classes, initializer):
    """The end of a classifier: the mean of a map (N, h, w, C), then float32 "logits" (N, K)."""
    # float32: the sum over a map overflows float16.
    x = layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)
    return layers.Dense(
        int(num_classes), kernel_initializer=initializer, dtype="float32", name="logits"
    )(x)


def fcn_head(
    x,
    image,
    num_classes,
    filters,
    *,
    dropout=0.1,
    dropout_layer=layers.Dropout,
    align_corners=False,
    momentum=0.9,
    epsilon=1e-5,
    name="logits",
):
    """conv3x3, normalisation, ReLU, dropout, conv1x1, resize: logits of the size of `image`.

    The head of FCNs on residual networks, and the auxiliary one of most others; it starts as
    PyTorch starts it.

    Args:
        x: features (N, h, w, C).
        image: the network's input, (N, H, W, C').
        num_classes: channels of the logits.
        filters: channels of the 3x3 convolution.
        dropout: rate, 0 for none.
        dropout_layer: `keras.layers.Dropout` (single values) or `SpatialDropout2D` (whole maps).
        align_corners: convention of the resize.
        momentum, epsilon: of the normalisation.
        name: of the last layer, "logits" or for example "aux". The layers are `head_conv`,
            `head_bn`, `head_relu`, `head_dropout`, `logits_low`, `logits`; and `aux_head_conv`,
            ..., `aux_low`, `aux`.
    """
    prefix = "" if name == "logits" else f"{name}_"
    x = conv_bn_relu(
        x,
        filters,
        momentum=momentum,
        epsilon=epsilon,
        initializer=uniform_fan_in,
        name=f"{prefix}head",
    )
    if dropout:
        x = dropout_layer(dropout, name=f"{prefix}head_dropout")(x)
    x = layers.Conv2D(num_classes, 1, kernel_initializer=uniform_fan_in(), name=f"{name}_low")(x)
    return resize_logits(x, image, align_corners=align_corners, name=name)


def of_one_image(model):
    """`model` as a functional model of one tensor; a Sequential, a list or dict of one is unpacked.

    None where it is not functional, or takes more than one tensor.
    """
    try:
        inputs = model.inputs
    except (AttributeError, ValueError):  # a subclass of Model, a Sequential that is not built
        return None
    if not inputs or len(inputs) != 1:
        return None
    if isinstance(getattr(model, "input", None), keras.KerasTensor):
        return model
    output = model.outputs[0] if len(model.outputs) == 1 else model.output
    return keras.Model(inputs[0], output, name=model.name)


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
