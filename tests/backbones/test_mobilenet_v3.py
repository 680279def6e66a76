"""MobileNetV3: strides, widths, dilation. Parity is in tests/models/test_golden.py."""

import keras
import numpy as np
import pytest

from keras_seg import backbones, weights


def build(**options):
    image = keras.Input((None, None, 3))
    return keras.Model(image, backbones.mobilenet_v3(image, **options))


@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_strides_and_channels(output_stride):
    features = build(output_stride=output_stride, filters=8)(np.zeros((1, 97, 65, 3), "float32"))
    sizes = {name: tensor.shape[1:3] for name, tensor in features.items()}
    expected = {"c1": 2, "c2": 4, "c3": 8, "c3_first": 8, "c4": 16, "c5": 32}
    for name, stride in expected.items():
        stride = min(stride, output_stride)
        assert sizes[name] == (96 // stride + 1, 64 // stride + 1), name


def test_widths_and_count_of_the_paper():
    model = build()
    # Table 1 of the paper.
    channels = {"c1": 16, "c2": 24, "c3": 40, "c3_first": 40, "c4": 112, "c5": 960}
    assert {name: tensor.shape[-1] for name, tensor in model.output.items()} == channels
    assert sum(int(np.prod(v.shape)) for v in model.trainable_weights) == 2_971_952  # torchvision


def test_weights_are_the_same_at_every_output_stride():
    trained, dilated = build(filters=8), build(output_stride=8, filters=8)
    dilated.set_weights(trained.get_weights())
    image = np.random.default_rng(0).normal(size=(1, 65, 97, 3)).astype("float32")
    # c3 comes before any removed stride.
    np.testing.assert_allclose(trained(image)["c3"], dilated(image)["c3"], atol=1e-6)


def test_weights_of_torchvisions_classifier():
    """The names of the trunk alone begin with "features", its classifier is left out."""
    from keras_seg.models import DeepLabV3

    model = DeepLabV3(3, form="torchvision", backbone="mobilenet-v3-large", filters=8)
    kernel = model.get_layer("block4_depthwise_conv").kernel
    state = {
        "features.0.0.weight": model.get_layer("stem_conv").kernel.numpy().transpose(3, 2, 0, 1),
        "features.4.block.1.0.weight": np.ones((kernel.shape[2], 1, 5, 5), "float32"),
        "classifier.0.weight": np.zeros((4, 4), "float32"),
    }
    loaded = weights.transfer(model, state, layout="torchvision").loaded
    assert len(loaded) == 2
    np.testing.assert_array_equal(kernel, 1.0)


@pytest.mark.parametrize("options", [{"output_stride": 4}, {"filters": 0}, {"filters": "wide"}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=str(*options.values())):
        build(**options)
