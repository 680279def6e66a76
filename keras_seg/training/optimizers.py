"""SGD, RMSprop and Adam with the papers' weight decay and a learning rate for chosen variables.

Keras has one learning rate for all variables. Segmentation papers train the layers that are added
to a pretrained trunk ten times as fast as the trunk (PSPNet, DeepLab), and Caffe's networks learn
biases twice as fast as kernels, without decay.
"""

import re

import keras


class _Grouped:
    """What these optimizers add; stands before the Keras class in the bases."""

    def __init__(
        self,
        *args,
        weight_decay=None,
        l2=0.0,
        head_multiplier=1.0,
        head_variables=(),
        groups=(),
        **arguments,
    ):
        for name, value in (("weight_decay", weight_decay), ("l2", l2)):
            if value is not None and value < 0:
                raise ValueError(f"{name} must be 0 or more, got {value}.")
        if not head_multiplier > 0:
            raise ValueError(f"head_multiplier must be above 0, got {head_multiplier}.")
        # Keras would decay by its one learning rate; here the decay follows the variable's own.
        super().__init__(*args, weight_decay=None, **arguments)
        self.decoupled_weight_decay = weight_decay
        self.l2 = float(l2)
        self.head_multiplier = float(head_multiplier)
        self.head_variables = list(head_variables)
        self.groups = [_check_group(group) for group in groups]

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        paths = [variable.path for variable in variables]
        missing = set(self.head_variables) - set(paths)
        if missing:
            raise ValueError(
                f"head_variables names variables that are not trained: {sorted(missing)}."
            )
        head = set(self.head_variables)
        self._multipliers = [self.head_multiplier if path in head else 1.0 for path in paths]
        self._decays = [float(self._use_weight_decay(variable)) for variable in variables]
        for pattern, rate, decay in self.groups:
            chosen = [index for index, path in enumerate(paths) if re.search(pattern, path)]
            if not chosen:
                raise ValueError(
                    f"The group {pattern!r} matches none of the {len(paths)} variables that are "
                    f"trained, such as {paths[0]}."
                )
            for index in chosen:
                self._multipliers[index] *= rate
                self._decays[index] *= decay

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        rate = keras.ops.cast(learning_rate, variable.dtype) * self._multipliers[index]
        decay = self._decays[index]
        if self.decoupled_weight_decay and decay:
            self.assign_sub(variable, variable * (rate * self.decoupled_weight_decay * decay))
        if self.l2 and decay:
            gradient = keras.ops.cast(gradient, variable.dtype) + variable * (self.l2 * decay)
        super().update_step(gradient, variable, rate)

    def get_config(self):
        return {
            **super().get_config(),
            "weight_decay": self.decoupled_weight_decay,
            "l2": self.l2,
            "head_multiplier": self.head_multiplier,
            "head_variables": list(self.head_variables),
            "groups": [list(group) for group in self.groups],
        }


def _check_group(group):
    """(pattern, factor of the rate, factor of the decay), each checked."""
    try:
        pattern, rate, decay = group
        re.compile(pattern)
        good = rate > 0 and decay >= 0
    except (TypeError, ValueError, re.error):
        good = False
    if not good:
        raise ValueError(
            "A group is (regular expression, factor of the learning rate above 0, factor of the "
            f"decay of 0 or more), such as ('bias$', 2, 0); got {group!r}."
        )
    return str(pattern), float(rate), float(decay)


@keras.saving.register_keras_serializable("keras_seg")
class SGD(_Grouped, keras.optimizers.SGD):
    """Momentum SGD: g <- g + l2 * w; w <- w - rate * decay * w; v <- momentum * v - rate * g;
    w <- w + v.

    `rate` is the learning rate, times `head_multiplier` for the variables named in
    `head_variables` (paths such as "cls_conv/kernel"), times the factors of the `groups`.

    `l2` is the weight decay of Caffe and PyTorch: it is added to the gradient and goes through the
    momentum. `weight_decay` is decoupled (Loshchilov and Hutter, 2019) and does not: `l2` acts
    1 / (1 - momentum) times as strongly in the long run.

    Args:
        weight_decay: None or 0 for none; every trainable variable decays, biases and batch
            normalisation included, as in the reference implementations, but for those given to
            `exclude_from_weight_decay`.
        l2: 0 for none; for the same variables.
        head_multiplier: factor of the learning rate for `head_variables`.
        head_variables: variable paths.
        groups: (regular expression, rate, decay) each: variables whose path it finds have these
            factors on their learning rate and on their decay of either kind; those of several
            groups multiply. Caffe's biases: `[("bias$", 2, 0)]`.
        Others: as `keras.optimizers.SGD`.

    Raises:
        ValueError: for values out of range, and when it is built, for `head_variables` that are not
            trained or a group without variables.
    """


@keras.saving.register_keras_serializable("keras_seg")
class RMSprop(_Grouped, keras.optimizers.RMSprop):
    """RMSprop with `weight_decay`, `l2`, `head_multiplier`, `head_variables` and `groups` as `SGD`.

    Here `l2` is part of the gradient that is divided by its root mean square. Others as
    `keras.optimizers.RMSprop`.
    """


@keras.saving.register_keras_serializable("keras_seg")
class Adam(_Grouped, keras.optimizers.Adam):
    """Adam with decoupled weight decay (AdamW: Loshchilov and Hutter, 2019, algorithm 2).

    `weight_decay`, `l2`, `head_multiplier`, `head_variables` and `groups` as in `SGD`; others as
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
