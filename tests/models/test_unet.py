"""U-Net on other trunks, and the tiles of the published form. Parity is in test_golden.py."""

import keras
import numpy as np
import pytest

from keras_seg import models
from keras_seg.backbones import from_keras
from keras_seg.inference import Predictor


def picture(height, width):
    return np.random.default_rng(1).uniform(0, 255, (1, height, width, 3)).astype("float32")


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
@pytest.mark.parametrize("size", [(33, 50), (64, 63)])
def test_skips_of_every_stage_at_odd_sizes(upsampling, size):
    model = models.UNet(3, backbone="resnet18", filters=4, upsampling=upsampling)
    assert model(picture(*size)).shape == (1, *size, 3)
    # Trunk and path: 4 channels at stride 2, then twice as many a stage (the trunk: from 4 on).
    channels = {
        stage: model.get_layer(f"up{stage}_concat").output.shape[-1] for stage in range(1, 5)
    }
    above = {"transposed": (4, 8, 16, 32), "bilinear": (8, 16, 32, 32)}[upsampling]
    trunk = (4, 4, 8, 16)
    assert channels == {i: trunk[i - 1] + above[i - 1] for i in range(1, 5)}
    assert model.get_layer("features").output.shape[-1] == 32


def test_parameters_on_resnet34():
    """ResNet-34 of torchvision without its classifier, and by hand the path on top of it."""
    with keras.StatelessScope(initialize_variables=False):
        model = models.UNet(2, backbone="resnet34")
    found = sum(int(np.prod(v.shape)) for v in model.trainable_weights)
    trunk, path, below = 21_797_672 - 513_000, 0, 512
    for skip, width in [(256, 512), (128, 256), (64, 128), (64, 64), (0, 32)]:
        path += 4 * below * width + width  # up-convolution 2x2
        path += 9 * (skip + width) * width + 9 * width * width + 4 * width  # two 3x3, two BN
        below = width
    assert found == trunk + path + 32 * 2 + 2
    keras.backend.clear_session()


def test_a_trunk_that_lacks_stages():
    """Where there is no skip, the map is doubled and goes on."""

    def pools(image):
        x = keras.layers.MaxPooling2D(4, padding="same")(image)
        return {"c2": x, "c5": keras.layers.MaxPooling2D(8, padding="same")(x)}

    for upsampling in ("transposed", "bilinear"):
        model = models.UNet(3, backbone=pools, filters=4, upsampling=upsampling)
        assert model(picture(50, 37)).shape == (1, 50, 37, 3)
        names = [layer.name for layer in model.layers if layer.name.endswith("_concat")]
        assert names == ["up2_concat"]


@pytest.mark.parametrize("form", ["name", "model"])
def test_networks_of_keras(form):
    trunk = from_keras("MobileNetV2", alpha=0.35)
    model = models.UNet(3, backbone=trunk if form == "model" else "keras:MobileNetV2", filters=4)
    assert model(picture(50, 75)).shape == (1, 50, 75, 3)
    assert {f"up{i}_concat" for i in range(1, 5)} <= {layer.name for layer in model.layers}
    # MobileNetV2 knows pixels from -1 to 1; a model does not tell how it was fed.
    mode = model.get_layer("preprocess").mode
    assert mode == ([[127.5], [127.5]] if form == "name" else "imagenet")


def test_bad_options():
    with pytest.raises(ValueError, match="needs form='same'"):
        models.UNet(3, backbone="resnet18", form="paper")
    with pytest.raises(ValueError, match="depth left out"):
        models.UNet(3, backbone="resnet18", depth=3)
    with pytest.raises(ValueError, match="Unknown backbone 'resnet19'"):
        models.UNet(3, backbone="resnet19")


def test_tiles_of_the_published_form_equal_one_run_over_the_whole_image():
    """Section 2: valid convolutions make tiles without seams, the border mirrored."""
    rng = np.random.default_rng(3)
    model = models.UNet(2, (None, None, 1), form="paper", filters=2, preprocessing="unit")
    for variable in model.trainable_variables:
        fan_in = np.prod(variable.shape[:-1])
        variable.assign(rng.standard_normal(variable.shape) * np.sqrt(2 / fan_in))
    image = rng.integers(0, 256, (48, 64, 1), dtype=np.uint8)
    tiles = Predictor(model).probabilities(image, mode="tile", window=204)

    # 236 and 252 are the next sizes 16 k + 12 that leave 48 and 64 pixels of a border of 92.
    pads = [(92, 236 - 48 - 92), (92, 252 - 64 - 92), (0, 0)]
    logits = model.predict(np.pad(image, pads, mode="reflect")[None].astype("float32"), verbose=0)
    whole = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0, :48, :64]
    assert whole.std() > 1e-3
    np.testing.assert_allclose(tiles, whole, atol=1e-5)
