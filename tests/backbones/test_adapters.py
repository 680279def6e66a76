"""Backbones of keras_hub and keras_cv: their pyramid levels, exact also where strides are gone."""

import keras
import numpy as np
import pytest

from keras_seg import models
from keras_seg.backbones import from_pyramid


def shake(model):
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if variable.path.endswith("kernel"):
            value = rng.standard_normal(variable.shape) / np.sqrt(np.prod(variable.shape[:-1]))
        else:
            value = rng.uniform(0.5, 1.5, variable.shape)
        variable.assign(value)
    return model


class Pyramid(keras.Model):
    """A functional model that names its levels as keras_hub's backbones do."""

    def __init__(self):
        image = keras.Input((None, None, 3))
        x, levels = image, {}
        for level in range(1, 6):
            x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
            if level > 1:
                levels[f"P{level}"] = x
        super().__init__(image, x, name="pyramid")
        self.pyramid_outputs = levels


def check(backbone, output_strides=(32, 16, 8), sizes=((64, 96), (61, 83))):
    """Features, subsampled by the removed stride, equal the backbone's own levels."""
    levels = getattr(backbone, "pyramid_outputs", None) or {
        level: backbone.get_layer(name).output
        for level, name in backbone.pyramid_level_inputs.items()
    }
    original = keras.Model(backbone.inputs[0], levels)
    for size in sizes:
        x = np.random.default_rng(1).uniform(0, 255, (1, *size, 3)).astype("float32")
        reference = {level: np.asarray(y) for level, y in original(x, training=False).items()}
        for output_stride in output_strides:
            features = from_pyramid(backbone, output_stride)(x, training=False)
            for level, expected in reference.items():
                finer = max(1, 2 ** int(level[1:]) // output_stride)
                got = np.asarray(features[f"c{level[1:]}"])[:, ::finer, ::finer]
                np.testing.assert_allclose(got, expected, atol=2e-6 * np.abs(expected).max())


def test_the_levels_of_a_pyramid():
    check(shake(Pyramid()))


def test_a_network_on_a_pyramid():
    backbone = shake(Pyramid())
    model = models.PSPNet(3, backbone=backbone, output_stride=8, filters=2)
    assert model.predict(np.zeros((1, 64, 48, 3)), verbose=0).shape == (1, 64, 48, 3)


def test_two_inputs_are_refused():
    model = Pyramid()
    other = keras.Input((None, None, 1), name="depth")
    two = keras.Model([model.inputs[0], other], model.output, name="two")
    two.pyramid_outputs = model.pyramid_outputs
    with pytest.raises(ValueError, match="depth.*one image"):
        from_pyramid(two)


# The real ones need pip install "keras-seg[keras-cv,keras-hub]".


@pytest.mark.slow
def test_keras_hub():
    import keras_hub

    stages = {"stackwise_num_filters": [64] * 4, "stackwise_num_blocks": [2] * 4}
    for block, stem in (("basic_block", (64,)), ("bottleneck_block_vd", (32, 32, 64))):
        resnet = keras_hub.models.ResNetBackbone(
            input_conv_filters=list(stem),
            input_conv_kernel_sizes=[7 if len(stem) == 1 else 3] * len(stem),
            stackwise_num_strides=[1, 2, 2, 2],
            block_type=block,
            image_shape=(None, None, 3),
            **stages,
        )
        check(shake(resnet))
    check(
        shake(
            keras_hub.models.DenseNetBackbone(
                stackwise_num_repeats=[2, 2, 2, 2], image_shape=(None, None, 3)
            )
        )
    )


@pytest.mark.slow
def test_keras_cv():
    import keras_cv

    resnet = keras_cv.models.ResNetBackbone(
        stackwise_filters=[64] * 4,
        stackwise_blocks=[2] * 4,
        stackwise_strides=[1, 2, 2, 2],
        include_rescaling=True,
        block_type="basic_block",
        input_shape=(None, None, 3),
    )
    check(shake(resnet))
    darknet = keras_cv.models.CSPDarkNetBackbone(
        stackwise_channels=[16] * 4,
        stackwise_depth=[1] * 4,
        include_rescaling=True,
        input_shape=(None, None, 3),
    )
    # Its first layer takes every second pixel of even images only, which no dilation can undo.
    check(shake(darknet), output_strides=(32,), sizes=((64, 96),))
    with pytest.raises(ValueError, match="get_item"):
        from_pyramid(darknet, 8)
