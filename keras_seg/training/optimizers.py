"""SGD, RMSprop and Adam with the papers' weight decay and a learning rate for chosen variables.

Keras has one learning rate for all variables. Segmentation papers train the layers that are added
to a pretrained trunk ten times as fast as the trunk (PSPNet, DeepLab), and Caffe's networks learn
biases twice as fast as kernels, without decay.

Gradient accumulation, clipping, averaged weights and loss scaling are Keras' own arguments. Here
they give on N replicas what they give on one: the gradients are added over the replicas first.
"""

import contextlib
import re

import keras
import numpy as np


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
        if self.use_ema:
            # Keras starts the averages at 0, which shows where no step was made yet. A copy: JAX
            # gives the memory of both away in each step, and must not find it to be the same.
            for variable, average in averages(self):
                average.assign(keras.ops.copy(variable))
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

    def _backend_apply_gradients(self, grads, trainable_variables):
        if _replicas() == 1:
            super()._backend_apply_gradients(grads, trainable_variables)
            return
        # Keras clips each replica's part by itself, and adds the clipped ones.
        grads = _add_over_replicas(grads)
        if not self.gradient_accumulation_steps:
            super()._backend_apply_gradients(grads, trainable_variables)
            return
        self._accumulate_on_replicas(grads, trainable_variables)
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars  # _backend_apply_gradients did it

    def _accumulate_on_replicas(self, grads, variables):
        """Keras' accumulation asks inside of a replica whether it is time to update, and fails."""
        import tensorflow as tf

        sums = [self._accumulated_gradients[self._get_variable_index(v)] for v in variables]

        def update(grads):
            steps = self.gradient_accumulation_steps
            means = [(grad + total) / steps for grad, total in zip(grads, sums, strict=True)]
            self._backend_update_step(self._clip_gradients(means), variables, self.learning_rate)
            self._backend_reset_gradient_accumulators()

        def add(grads):
            for grad, total in zip(grads, sums, strict=True):
                total.assign(total + grad)

        def choose(strategy, grads):
            each = strategy.extended.call_for_each_replica
            tf.cond(
                self._is_update_step(),
                lambda: each(update, args=(grads,)),
                lambda: each(add, args=(grads,)),
            )

        tf.distribute.get_replica_context().merge_call(choose, args=(grads,))

    def _is_update_step(self):
        return (self._iterations + 1) % self.gradient_accumulation_steps == 0

    def _update_model_variables_moving_average(self, trainable_variables):
        """One step of the average for each update; Keras makes one for each accumulated batch."""
        momentum = keras.ops.where(keras.ops.equal(self.iterations, 0), 0.0, self.ema_momentum)
        if self.gradient_accumulation_steps:
            momentum = keras.ops.where(self._is_update_step(), momentum, 1.0)
        for variable, average in averages(self):
            m = keras.ops.cast(momentum, variable.dtype)
            average.assign(m * average + (1 - m) * variable)

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


def _replicas():
    """How many replicas of a `tf.distribute` strategy run this step."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def _add_over_replicas(values):
    import tensorflow as tf

    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


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
        gradient_accumulation_steps: the mean gradient of so many batches makes one update. A
            schedule counts batches.
        global_clipnorm: largest norm of all gradients together, before `l2` is added; with
            accumulation, of the mean.
        use_ema, ema_momentum: keep averages of the weights, a <- m * a + (1 - m) * w after each
            update; the first sets a = w.
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


@keras.saving.register_keras_serializable("keras_seg")
class LossScale(keras.optimizers.LossScaleOptimizer):
    """Keras' dynamic loss scaling, which skips a step with a gradient that is not finite.

    On several replicas Keras looks at the gradients of the first alone; here a step is left out
    everywhere if those of any replica are not finite.
    """

    def check_finite(self, grads):
        finite = super().check_finite(grads)
        if _replicas() == 1:
            return finite
        return _add_over_replicas(keras.ops.cast(finite, "int32")) == _replicas()


def averages(optimizer):
    """[(variable, its moving average)] of a built optimizer; empty without `use_ema`."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not optimizer.use_ema:
        return []
    both = zip(
        optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
    )
    return [(variable, average) for variable, average in both if average is not None]


def exchange_averages(model):
    """Exchange the weights of a compiled model with their averages, to the last bit.

    Keras' `SwapEMAWeights` adds and subtracts them on TensorFlow, which rounds, so that a run that
    was validated goes on from other weights.
    """
    for variable, average in averages(model.optimizer):
        values = [np.array(keras.ops.convert_to_numpy(v)) for v in (variable, average)]
        average.assign(values[0])
        variable.assign(values[1])


def keep_averages(model):
    """Put the averages into the model for good.

    `fit` does so at its end, but on JAX both are then one piece of memory, which the next
    evaluation gives away.
    """
    for variable, average in averages(model.optimizer):
        variable.assign(keras.ops.copy(average))


@contextlib.contextmanager
def averaged(model):
    """The averages stand in the model inside of this, the weights come back afterwards.

    Does nothing for an optimizer without `use_ema`.
    """
    exchange_averages(model)
    try:
        yield
    finally:
        exchange_averages(model)


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
                "layer's name to True or False (on the command line leave out --head-multiplier)."
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
