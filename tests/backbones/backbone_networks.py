"""Networks for the tests of from_keras, and the comparison with the original."""

import keras
import numpy as np
from keras import layers

from keras_seg.backbones import from_keras


def leaves(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        else:
            yield layer


def shake(model, image):
    """Give every weight a value that matters, and every normalisation statistics that fit `image`.

    A network as it is initialised hides errors: biases are 0, layer scales 1e-6, and the picture
    fades from layer to layer, so that its features are nearly constant.
    """
    rng = np.random.default_rng(0)
    for layer in leaves(model):
        if isinstance(layer, layers.Normalization):
            if layer.input_mean is None:
                mean, variance, count = layer.get_weights()
                mean = rng.uniform(0.3, 0.6, mean.shape)
                layer.set_weights([mean, rng.uniform(0.04, 0.06, variance.shape), count])
                layer.finalize_state()
            continue
        for weight in layer.weights:
            if weight.path.endswith(("gamma", "moving_variance")) or len(weight.shape) == 1:
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            if weight.path.endswith(("beta", "bias", "moving_mean")):
                weight.assign(rng.normal(0, 0.1, weight.shape))
    norms = [v for v in leaves(model) if isinstance(v, layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(image, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def picture(size, channels=3):
    """Pixels 0..255, (1, H, W, C)."""
    return np.random.default_rng(1).uniform(0, 255, (1, *size, channels)).astype("float32")


def original_features(model, names):
    """The outputs of the named layers in the untouched model, and its own output as "last".

    A name inside a nested Sequential is reached by running that model's layers up to it.
    """
    found = {}
    graph = keras.Model(model.inputs, model.outputs)  # a Sequential has no list of operations
    operations = {operation.name: operation for operation in graph.operations}
    for key, name in names.items():
        if name in operations:
            found[key] = operations[name].output
            continue
        for nested in (v for v in model.layers if isinstance(v, keras.Sequential)):
            if name in [layer.name for layer in nested.layers]:
                # The outer call comes last: a Sequential has called itself before.
                x = nested._inbound_nodes[-1].input_tensors[0]
                for layer in nested.layers:
                    x = layer(x)
                    if layer.name == name:
                        found[key] = x
    return keras.Model(model.inputs[0], {**found, "last": model.outputs[0]})


def errors(model, names, output_stride, images, **options):
    """{tap: largest difference / largest value} between from_keras(model) and the model.

    Features of strides that were removed are compared at the original's positions: every one.
    """
    reference = original_features(model, names)
    dilated = from_keras(model, output_stride, **options)
    if set(dilated.output) != set(names):
        raise AssertionError(f"taps {sorted(dilated.output)}, expected {sorted(names)}")
    worst = dict.fromkeys(names, 0.0)
    for image in images:
        expected = reference(image, training=False)
        got = dilated(image, training=False)
        for key in names:
            removed = max(1, 2 ** int(key[1]) // output_stride)
            a, b = np.asarray(got[key])[:, ::removed, ::removed], np.asarray(expected[key])
            if a.shape != b.shape:
                raise AssertionError(f"{key} of {image.shape}: {a.shape}, original {b.shape}")
            worst[key] = max(worst[key], float(np.abs(a - b).max() / np.abs(b).max()))
        if output_stride == 32:
            np.testing.assert_array_equal(got["c5"], expected["last"])
    return worst


def squeeze_excite(x, name):
    """Channels weighted by a function of the global mean, in EfficientNet's form."""
    y = layers.GlobalAveragePooling2D(name=f"{name}_mean")(x)
    y = layers.Reshape((1, 1, x.shape[-1]), name=f"{name}_reshape")(y)
    y = layers.Conv2D(x.shape[-1], 1, activation="sigmoid", name=f"{name}_weights")(y)
    return layers.Multiply(name=f"{name}_out")([x, y])


def every_operation(channels=4):
    """A small network with each kind of padding, pool and stride, before and after stride 8.

    `tap1`..`tap5` are its last maps of strides 2 to 32.
    """
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(1 / 255, name="rescaling")(image)
    x = layers.Normalization(name="normalization")(x)

    def block(x, stage, down):
        """A strided part, and what may follow at the same stride."""
        x = down(x)
        x = layers.BatchNormalization(name=f"bn{stage}")(x)
        x = squeeze_excite(x, f"se{stage}")
        y = layers.ZeroPadding2D(((2, 0), (0, 1)), name=f"pad{stage}")(x)
        y = layers.Conv2D(channels, (3, 2), activation="tanh", name=f"valid{stage}")(y)
        z = layers.Conv2D(channels, (2, 4), padding="same", name=f"even{stage}")(x)
        z = layers.DepthwiseConv2D(3, padding="same", name=f"depthwise{stage}")(z)
        x = layers.Concatenate(name=f"concat{stage}")([x, y, z])
        x = layers.SeparableConv2D(channels, (1, 5), padding="same", name=f"separable{stage}")(x)
        y = layers.MaxPooling2D(3, strides=1, padding="same", name=f"max{stage}")(x)
        z = layers.AveragePooling2D((3, 2), strides=1, padding="same", name=f"mean{stage}")(x)
        x = (y + 0.5 * z) * 1.5
        x = layers.ZeroPadding2D(1, name=f"around{stage}")(x)
        x = layers.Cropping2D(((2, 0), (1, 1)), name=f"crop{stage}")(x)
        x = layers.Conv2D(channels, 3, padding="same", dilation_rate=2, name=f"rate{stage}")(x)
        return layers.ReLU(name=f"tap{stage}")(x)

    def padded_convolution(x):
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name="corner")(x)
        return layers.Conv2D(channels, 3, strides=2, use_bias=False, name="down1")(x)

    def padded_pool(x):
        x = layers.ZeroPadding2D(1, name="frame")(x)
        return layers.MaxPooling2D(3, strides=2, name="down3")(x)

    x = block(x, 1, padded_convolution)
    x = block(x, 2, layers.AveragePooling2D(2, name="down2"))
    x = block(x, 3, padded_pool)
    # From here on strides are removed at output stride 8.
    x = block(x, 4, layers.Conv2D(channels, 3, strides=2, padding="same", name="down4"))
    skip = layers.MaxPooling2D(1, strides=2, name="skip")(x)
    pool = layers.AveragePooling2D(3, strides=2, padding="same", name="pool")(x)
    rows = layers.MaxPooling2D((3, 1), strides=2, padding="same", name="rows")(x)
    x = layers.Add(name="join")([skip, pool, rows])
    x = block(x, 5, layers.Conv2D(channels, 1, name="down5"))
    return keras.Model(image, x, name="every_operation")
