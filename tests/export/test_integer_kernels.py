"""What LiteRT and its quantisers get wrong in integers, unless the export sees to it."""

import keras
import numpy as np
from keras import layers

from keras_seg.export import export

SIZE = (16, 24)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3)).astype("uint8")


def network(between):
    """A convolution, what is tested, and logits."""
    keras.utils.set_random_seed(0)
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.Rescaling(1 / 64, -2, name="scale")(image)
    x = layers.Conv2D(8, 3, padding="same", kernel_initializer="he_normal", name="before")(x)
    return keras.Model(image, layers.Conv2D(4, 1, name="logits")(between(x)), name="net")


def differences(tmp_path, model, *quantize):
    """The largest difference of each file's logits, in standard deviations."""
    report = export(
        model,
        tmp_path / "out",
        formats=("tflite",),
        quantize=quantize,
        calibration=IMAGES,
        bounds=None,
        benchmark=False,
        progress=False,
    )
    return [row["difference"] for row in report.rows[2:]]


def test_a_normalisation_of_the_image_itself(tmp_path):
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.BatchNormalization(name="first")(image)
    model = keras.Model(image, layers.Conv2D(4, 3, padding="same")(x))
    model.get_layer("first").set_weights(
        [np.full(3, 2.0), np.ones(3), np.full(3, 120.0), np.full(3, 5e3)]
    )
    assert max(differences(tmp_path, model, "int8", "int16x8")) < 0.3
