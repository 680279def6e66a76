"""SGD and Adam with decoupled weight decay and a larger learning rate for chosen variables.

Keras has one learning rate for all variables. Segmentation papers train the layers that are added
to a pretrained trunk ten times as fast as the trunk (PSPNet, DeepLab).
"""

import keras


class _Grouped:
    """What both optimizers add; stands before the Keras class in the bases."""

    def __init__(
        self, *args, weight_decay=None, head_multiplier=1.0, head_variables=(), **arguments
    ):
        if weight_decay is not None and weight_decay < 0:
            raise ValueError(f"weight_decay must be 0 or more, got {weight_decay}.")
        if not head_multiplier > 0:
            raise ValueError(f"head_multiplier must be above 0, got {head_multiplier}.")
        # Keras would decay by its one learning rate; here the decay follows the variable's own.
        super().__init__(*args, weight_decay=None, **arguments)
        self.decoupled_weight_decay = weight_decay
        self.head_multiplier = float(head_multiplier)
        self.head_variables = list(head_variables)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        missing = set(self.head_variables) - {variable.path for variable in variables}
        if missing:
            raise ValueError(
                f"head_variables names variables that are not trained: {sorted(missing)}."
            )
        head = set(self.head_variables)
        self._multipliers = [
            self.head_multiplier if variable.path in head else 1.0 for variable in variables
        ]
        self._decays = [self._use_weight_decay(variable) for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        rate = keras.ops.cast(learning_rate, variable.dtype) * self._multipliers[index]
        if self.decoupled_weight_decay and self._decays[index]:
            self.assign_sub(variable, variable * (rate * self.decoupled_weight_decay))
        super().update_step(gradient, variable, rate)

    def get_config(self):
        return {
            **super().get_config(),
            "weight_decay": self.decoupled_weight_decay,
            "head_multiplier": self.head_multiplier,
            "head_variables": list(self.head_variables),
        }


@keras.saving.register_keras_serializable("keras_seg")
class SGD(_Grouped, keras.optimizers.SGD):
    """Momentum SGD: w <- w - rate * decay * w; v <- momentum * v - rate * g; w <- w + v.

    `rate` is the learning rate, times `head_multiplier` for the variables named in
    `head_variables` (paths such as "cls_conv/kernel").

    The decay is decoupled (Loshchilov and Hutter, 2019): it does not pass through the momentum.
    The L2 term that Caffe and PyTorch add to the gradient does, and acts 1 / (1 - momentum) times
    as strongly in the long run: a published 1e-4 with momentum 0.9 is `weight_decay=1e-3` here.

    Args:
        weight_decay: None or 0 for none; every trainable variable decays, biases and batch
            normalisation included, as in the reference implementations, but for those given to
            `exclude_from_weight_decay`.
        head_multiplier: factor of the learning rate for `head_variables`.
        head_variables: variable paths.
        Others: as `keras.optimizers.SGD`.
    """


@keras.saving.register_keras_serializable("keras_seg")
class Adam(_Grouped, keras.optimizers.Adam):
    """Adam with decoupled weight decay (AdamW: Loshchilov and Hutter, 2019, algorithm 2).

    `weight_decay`, `head_multiplier` and `head_variables` as in `SGD`; others as
    `keras.optimizers.Adam`.
    """


def head_variables(model, head=None):
    """Paths of the trainable variables that are no part of the pretrained trunk.

    Args:
        model: a functional model.
        head: None: the layers that the layer named "features" (the end of the trunk in every
            network of `keras_seg.models` that has one) does not depend on; or a function from a
            layer's name to True or False; or a list of prefixes of layer names.

    Returns:
        List of paths, in the model's order.

    Raises:
        ValueError: if the head cannot be told, or is empty.
    """
    if head is None:
        names = {layer.name for layer in model.layers}
        if "features" not in names:
            raise ValueError(
                f"{model.name} has no layer named 'features' that ends its backbone: say which "
                "layers learn faster, head_layers=[prefixes of layer names] or a function from a "
                "layer's name to True or False."
            )
        trunk = keras.Model(model.inputs, model.get_layer("features").output)
        backbone = {layer.name for layer in trunk.layers}

        def chosen(name):
            return name not in backbone
    elif callable(head):
        chosen = head
    else:
        prefixes = tuple([head] if isinstance(head, str) else head)

        def chosen(name):
            return name.startswith(prefixes)

    paths = [
        variable.path
        for layer in model.layers
        if chosen(layer.name)
        for variable in layer.trainable_weights
    ]
    if not paths:
        raise ValueError(
            f"head_layers={head!r} chooses no trainable layer of {model.name}; its layers are "
            f"{[layer.name for layer in model.layers if layer.trainable_weights]}."
        )
    return paths
