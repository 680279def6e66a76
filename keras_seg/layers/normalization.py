"""BatchNormalization as the papers use it, and the usual convolution around it."""

import numbers

import keras
from keras import layers, ops


def _replica():
    """TensorFlow's context of the replica that runs this; None outside of one, or elsewhere."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.distribute.get_replica_context()


def _sums_over_replicas(*values):
    replica = _replica()
    if replica is None:
        return values
    import tensorflow as tf

    return replica.all_reduce(tf.distribute.ReduceOp.SUM, values)


@keras.saving.register_keras_serializable("keras_seg")
class BatchNormalization(layers.BatchNormalization):
    """Batch normalisation whose statistics are those of the whole batch, on every replica.

    Keras 3 synchronises only on TensorFlow and refuses to elsewhere; on JAX a sharded batch is one
    array and nothing is to do. So the switch follows the backend and is not stored: a file that
    was trained on one backend opens on the other.

    Args:
        momentum: Keras' momentum, 1 minus PyTorch's: 0.9 is PyTorch's default.
        epsilon: 1e-5 is PyTorch's and Caffe's default (Keras: 1e-3).
        frozen_statistics: normalise by the moving statistics in training too and leave them as they
            are; gamma and beta are trained. `trainable = False` freezes those as well.

    Raises:
        ValueError: for a momentum that is no number from 0 to 1, or an epsilon not above 0.
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, *, frozen_statistics=False, **kwargs):
        if not (isinstance(momentum, numbers.Real) and 0 <= momentum <= 1):
            raise ValueError(f"The momentum of BN must be from 0 to 1, got {momentum!r}.")
        if not (isinstance(epsilon, numbers.Real) and epsilon > 0):
            raise ValueError(f"The epsilon of BN must be a number above 0, got {epsilon!r}.")
        kwargs["synchronized"] = keras.backend.backend() == "tensorflow"
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)
        self.frozen_statistics = bool(frozen_statistics)

    def call(self, inputs, training=None, mask=None):
        training = training and not self.frozen_statistics
        if training and self.trainable and mask is None and not self.renorm:
            if self._fuses(inputs):
                return self._fused(inputs)
            # JAX counts as `_statistics` does, and keeps no digits less.
            if keras.backend.backend() != "jax":
                return self._in_two_passes(inputs)
        return super().call(inputs, training=training, mask=mask)

    def _fuses(self, inputs):
        """Whether TensorFlow's one kernel does it: one replica, (N, H, W, C), channels last."""
        replica = _replica()
        return (
            replica is not None
            and replica.num_replicas_in_sync == 1
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.compute_dtype in ("float32", "float16", "bfloat16")
            and self.variable_dtype == "float32"
        )

    def _in_two_passes(self, inputs):
        """The training step on several replicas, on torch, or of inputs that are no images."""
        mean, variance = self._statistics(inputs)
        momentum = self.momentum
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            value = ops.cast(value, moving.dtype)
            moving.assign(moving * momentum + value * (1 - momentum))
        return self._normalized(inputs, mean, variance)

    def _statistics(self, inputs):
        """Mean and variance (C,) of the batch on all replicas, in float32 at least.

        Keras has E(x ** 2) less E(x) ** 2 on torch and on several replicas, of which channels far
        from zero keep few digits. So the mean first, then that of (x - mean) ** 2.
        """
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        x = ops.moveaxis(x, self.axis, -1)
        axes = tuple(range(len(x.shape) - 1))
        count = ops.cast(ops.size(x), x.dtype) / x.shape[-1]
        total, count = _sums_over_replicas(ops.sum(x, axes), count)
        mean = total / count
        (total,) = _sums_over_replicas(ops.sum(ops.square(x - mean), axes))
        return mean, total / count

    def _normalized(self, inputs, mean, variance):
        offset, scale = (
            None if weight is None else ops.cast(weight, mean.dtype)
            for weight in (self.beta, self.gamma)
        )
        x = ops.cast(inputs, mean.dtype)
        y = ops.batch_normalization(x, mean, variance, self.axis, offset, scale, self.epsilon)
        return ops.cast(y, self.compute_dtype)

    def _fused(self, inputs):
        """The training step as one kernel forward and one backward.

        Keras goes through sums of x and x ** 2, the reductions' gradients and four multiplications;
        that was a third of FC-DenseNet's step. The variance is of x - mean, not E(x ** 2) less
        E(x) ** 2, so that channels far from zero keep their digits.
        """
        import tensorflow as tf

        channels = inputs.shape[-1]
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(inputs, self.compute_dtype),
            scale=self.gamma.value if self.scale else tf.ones(channels),
            offset=self.beta.value if self.center else tf.zeros(channels),
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel's variance is that of a sample, over n - 1; the moving one is over n.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), "float32")
        momentum = self.momentum
        self.moving_mean.assign(self.moving_mean * momentum + mean * (1 - momentum))
        self.moving_variance.assign(
            self.moving_variance * momentum + variance * ((1 - momentum) * (count - 1) / count)
        )
        return y

    def get_config(self):
        config = super().get_config()
        config.pop("synchronized")
        return {**config, "frozen_statistics": self.frozen_statistics}


@keras.saving.register_keras_serializable("keras_seg")
class BatchStatistics(BatchNormalization):
    """Batch normalisation by the batch's own statistics, in training and in inference alike."""

    def call(self, inputs, training=None, mask=None):
        # Not Keras' training step, which a frozen layer does not take.
        return self._normalized(inputs, *self._statistics(inputs))


def batch_statistics(model):
    """A copy of a functional model that normalises by the statistics of the batch it is given.

    With one image a batch, each image is normalised by its own mean and variance. That is how the
    released FC-DenseNet and others were scored. Dropout is off as in any inference, and the copy's
    moving statistics never change.

    Args:
        model: functional; its BatchNormalization layers, which may be Keras' own and may lie in
            models inside of it, are replaced.

    Returns:
        `keras.Model` with copies of the weights.

    Raises:
        ValueError: if the model has no batch normalisation.
    """
    return replace_batch_norm(model, BatchStatistics.from_config)


def replace_batch_norm(model, make):
    """A copy of a functional model, with copies of the weights, with other normalisation.

    Args:
        model: functional.
        make: function of the configuration of a BatchNormalization layer, which may be Keras' own
            or lie in a model inside, to a layer of the same weights that takes its place.

    Returns:
        `keras.Model` of the same inputs, outputs and layer names.

    Raises:
        ValueError: if the model has no batch normalisation.
    """
    found = []

    def replaced(layer):
        config = layer.get_config()
        if not isinstance(layer, layers.BatchNormalization):
            return type(layer).from_config(config)
        found.append(layer.name)
        config.pop("synchronized", None)
        return make(config)

    copy = keras.models.clone_model(model, clone_function=replaced, recursive=True)
    if not found:
        raise ValueError(f"{model.name} has no batch normalisation.")
    copy.set_weights(model.get_weights())
    return copy


def batch_norm(name, momentum=0.9, epsilon=1e-5):
    """The normalisation of every network here: a `BatchNormalization` layer over the channels."""
    return BatchNormalization(momentum=momentum, epsilon=epsilon, name=name)


def he_fan_out():
    """N(0, sqrt(2 / fan-out)): the initialisation of PyTorch's residual networks.

    A function, since each layer needs an initializer of its own: one object used twice draws the
    same numbers twice.
    """
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def he_fan_in():
    """N(0, sqrt(2 / fan-in)), not truncated: He et al. 2015."""
    return keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")


def uniform_fan_in():
    """U(-1, 1) / sqrt(fan-in): PyTorch's default for a convolution."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def conv_bn_relu(
    x,
    filters,
    kernel_size=3,
    *,
    strides=1,
    dilation_rate=1,
    use_bias=False,
    momentum=0.9,
    epsilon=1e-5,
    initializer=he_fan_out,
    name,
):
    """Convolution, normalisation, ReLU: (N, H, W, C) -> (N, H', W', filters).

    With `strides` above 1 the padding is symmetric, as in PyTorch and Caffe, and the output has
    floor((H - 1) / strides) + 1 rows; Keras' "same" pads otherwise on even sizes. `initializer`
    is a function that makes the kernel's, such as `he_fan_out` or `uniform_fan_in`.
    The layers are `{name}_conv`, `{name}_bn` and `{name}_relu`.
    """
    x = conv(
        x,
        filters,
        kernel_size,
        strides=strides,
        dilation_rate=dilation_rate,
        use_bias=use_bias,
        initializer=initializer,
        name=f"{name}_conv",
    )
    x = batch_norm(f"{name}_bn", momentum, epsilon)(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def conv(
    x,
    filters,
    kernel_size=3,
    *,
    strides=1,
    dilation_rate=1,
    use_bias=False,
    initializer=he_fan_out,
    name,
):
    """A convolution with an odd kernel and symmetric padding: (N, H, W, C) -> (N, H', W', filters).

    Arguments and sizes as of `conv_bn_relu`, but the layer is called `name` itself (with a
    padding of its own before it, `{name}_pad`, where `strides` is above 1).
    """
    padding = "same"
    if strides > 1 and kernel_size > 1:
        x = layers.ZeroPadding2D(dilation_rate * (kernel_size // 2), name=f"{name}_pad")(x)
        padding = "valid"
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        dilation_rate=dilation_rate,
        use_bias=use_bias,
        kernel_initializer=initializer(),
        name=name,
    )(x)


def separable_conv_bn_relu(
    x,
    filters,
    kernel_size=3,
    *,
    dilation_rate=1,
    depthwise_bn=True,
    momentum=0.9,
    epsilon=1e-5,
    initializer=he_fan_out,
    name,
):
    """Depthwise and 1x1 convolution in place of one: (N, H, W, C) -> (N, H, W, filters).

    Each is followed by normalisation and ReLU (atrous separable convolution, Chen et al. 2018,
    section 3.1, as in the authors' code); with `depthwise_bn=False` only the second is. No biases.
    The layers are `{name}_depthwise`, `{name}_depthwise_bn`, `{name}_depthwise_relu`, and
    `{name}_conv`, `{name}_bn`, `{name}_relu` as in `conv_bn_relu`.
    """
    # Always by the fan-out, k * k: Keras counts all channels into a depthwise kernel's fan-in.
    x = layers.DepthwiseConv2D(
        kernel_size,
        padding="same",
        dilation_rate=dilation_rate,
        use_bias=False,
        depthwise_initializer=he_fan_out(),
        name=f"{name}_depthwise",
    )(x)
    if depthwise_bn:
        x = batch_norm(f"{name}_depthwise_bn", momentum, epsilon)(x)
        x = layers.ReLU(name=f"{name}_depthwise_relu")(x)
    return conv_bn_relu(
        x, filters, 1, momentum=momentum, epsilon=epsilon, initializer=initializer, name=name
    )
