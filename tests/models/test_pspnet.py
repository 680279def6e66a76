"""PSPNet: outputs, trunks, initialisation. Parity is in test_golden.py."""

import keras
import numpy as np
import pytest
from unknown_sizes import in_graph

from keras_seg import backbones, models

SLIM = {"backbone": "resnet18", "filters": 4}


def picture(height, width):
    return np.random.default_rng(1).uniform(0, 255, (1, height, width, 3)).astype("float32")


@pytest.mark.parametrize("size", [(41, 57), (40, 63), (9, 9)])
def test_both_outputs_have_the_size_of_the_image(size):
    model = models.PSPNet(5, aux=True, **SLIM)
    outputs = model(picture(*size))
    assert {name: y.shape for name, y in outputs.items()} == {
        "logits": (1, *size, 5),
        "aux": (1, *size, 5),
    }
    inference = models.inference_model(model)
    np.testing.assert_array_equal(inference(picture(*size)), outputs["logits"])
    unknown = in_graph(inference)(picture(*size))
    np.testing.assert_allclose(unknown, outputs["logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_sizes_of_8k_plus_1_keep_the_corners(output_stride):
    """With align_corners the corner of the image is the corner of the map, at any output stride."""
    model = models.PSPNet(3, output_stride=output_stride, **SLIM)
    low = keras.Model(model.input, model.get_layer("logits_low").output)
    image = picture(65, 97)
    scores, logits = np.asarray(low(image)), np.asarray(model(image))
    assert scores.shape == (1, 64 // output_stride + 1, 96 // output_stride + 1, 3)
    step = output_stride
    np.testing.assert_allclose(logits[:, ::step, ::step], scores, rtol=1e-4, atol=1e-5)


def test_a_keras_application_as_trunk():
    image = picture(64, 64)
    extractor = backbones.from_keras("MobileNetV2", output_stride=16, alpha=0.35)
    for backbone in (extractor, extractor.__call__):
        model = models.PSPNet(3, backbone=backbone, filters=4, aux=True, preprocessing="none")
        assert model(image)["logits"].shape == (1, 64, 64, 3)


def test_the_trunk_decides_how_pixels_are_scaled():
    def mode(**options):
        return models.PSPNet(3, filters=4, **options).get_layer("preprocess").mode

    assert mode(backbone="resnet18") == "imagenet"
    assert mode(backbone="keras:MobileNetV3Small") == "none"
    assert mode(backbone="keras:MobileNetV3Small", preprocessing="unit") == "unit"


def test_unknown_trunks():
    with pytest.raises(ValueError, match="Unknown backbone 'resnet51'. Did you mean 'resnet"):
        models.PSPNet(3, backbone="resnet51")
    with pytest.raises(ValueError, match="output_stride must be 8, 16 or 32, got 4"):
        models.PSPNet(3, output_stride=4)


def test_heads_start_as_torch_starts_them():
    """U(-1, 1) / sqrt(fan-in), and no two levels of the pyramid with the same numbers."""
    model = models.PSPNet(3, **SLIM)
    kernels = [np.asarray(model.get_layer(f"ppm{b}_conv").kernel) for b in (1, 2, 3, 6)]
    kernels.append(np.asarray(model.get_layer("head_conv").kernel))
    for kernel in kernels:
        limit = 1 / np.sqrt(np.prod(kernel.shape[:3]))
        assert 0.9 * limit < np.abs(kernel).max() <= limit
    for other in kernels[1:4]:
        assert not np.array_equal(kernels[0], other)
