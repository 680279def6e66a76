"""`weights=` of the builders: our own files, by name."""

import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from keras_seg import models, weights


def unet(num_classes=3, **options):
    return models.UNet(num_classes, filters=2, depth=2, **options)


def values(model):
    return {v.path: np.array(v) for v in model.weights}


def assert_same(one, other):
    for (path, a), b in zip(values(one).items(), values(other).values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=path)


@pytest.fixture()
def trained():
    """A network whose statistics are no longer those of a new one."""
    model = unet()
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.uniform(0.1, 1, variable.shape))
    return model


@pytest.mark.parametrize("name", ["last.weights.h5", "last.keras"])
def test_round_trip_through_the_builder(tmp_path, trained, name):
    trained.compile("adam", "mse")  # an optimizer in the file is left alone
    trained.optimizer.build(trained.trainable_variables)
    trained.save(tmp_path / name) if name.endswith(".keras") else trained.save_weights(
        tmp_path / name
    )
    assert_same(unet(weights=tmp_path / name), trained)


def two_convolutions(first, second):
    """Two layers of one shape: by position, a swap of their names goes unseen."""
    image = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, name=first)(image)
    return keras.Model(image, layers.Conv2D(4, 3, name=second)(x))


def test_names_decide_not_positions(tmp_path):
    saved = two_convolutions("one", "two")
    saved.save_weights(tmp_path / "a.weights.h5")
    swapped = two_convolutions("two", "one")
    weights.load_own(swapped, tmp_path / "a.weights.h5")
    for name in ("one", "two"):
        np.testing.assert_array_equal(swapped.get_layer(name).kernel, saved.get_layer(name).kernel)
    other = two_convolutions("one", "three")
    with pytest.raises(
        ValueError, match=r"not in the file \(1\): three\n.*only in the file \(1\): two"
    ):
        weights.load_own(other, tmp_path / "a.weights.h5")


def test_layers_of_an_inner_model_are_found(tmp_path):
    def build():
        image = keras.Input((8, 8, 4))
        inner = two_convolutions("one", "two")
        return keras.Model(image, layers.Conv2D(2, 1, name="last")(inner(image)))

    saved, other = build(), build()
    saved.save(tmp_path / "a.keras")
    weights.load_own(other, tmp_path / "a.keras")
    assert_same(saved, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 4}, r"of another shape \(1\): logits has .*\(1, 1, 2, 3\).*, here"),
        ({"upsampling": "bilinear"}, "only in the file.*up2_upconv"),
        ({"preprocessing": "none", "bn_momentum": 0.5}, None),
    ],
)
def test_a_model_of_another_build_stays_untouched(tmp_path, trained, options, message):
    trained.save_weights(tmp_path / "a.weights.h5")
    model = unet(**options)
    before = values(model)
    if message is None:  # these options hold no weights
        weights.load_own(model, tmp_path / "a.weights.h5")
        return
    with pytest.raises(ValueError, match=message) as error:
        weights.load_own(model, tmp_path / "a.weights.h5")
    assert "a.weights.h5" in str(error.value)
    for path, value in values(model).items():
        np.testing.assert_array_equal(value, before[path])


def test_weights_that_are_not_finite_are_refused(tmp_path, trained):
    trained.get_layer("logits").bias.assign([0.0, np.inf, 0.0])
    trained.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match=r"a.weights.h5.*\n.*not finite \(1\): logits"):
        unet(weights=tmp_path / "a.weights.h5")


def test_damaged_files_are_named(tmp_path, trained):
    trained.save(tmp_path / "a.keras")
    whole = (tmp_path / "a.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        start = archive.getinfo("model.weights.h5").header_offset + 2000
    (tmp_path / "flipped.keras").write_bytes(
        whole[:start] + bytes([whole[start] ^ 1]) + whole[start + 1 :]
    )
    (tmp_path / "text.weights.h5").write_text("no such thing")
    for name in ("cut.keras", "flipped.keras", "text.weights.h5"):
        with pytest.raises(ValueError, match=f"{name} .*is damaged"):
            unet(weights=tmp_path / name)


def pspnet(aux):
    return models.PSPNet(3, backbone="resnet18", filters=2, aux=aux)


def test_an_auxiliary_head_stays_in_the_file_of_a_model_that_has_one(tmp_path):
    trained = pspnet(aux=True)
    trained.save_weights(tmp_path / "a.weights.h5")
    model = pspnet(aux=False)
    weights.load_own(model, tmp_path / "a.weights.h5")
    for layer in model.layers:
        for one, two in zip(layer.weights, trained.get_layer(layer.name).weights, strict=True):
            np.testing.assert_array_equal(one, two)
    model.save_weights(tmp_path / "b.weights.h5")
    with pytest.raises(ValueError, match=r"not in the file \(\d\): aux_head_conv"):
        weights.load_own(trained, tmp_path / "b.weights.h5")


@pytest.mark.parametrize("value", [True, False, 3, {"a": 1}])
def test_what_is_no_path_is_named(value):
    with pytest.raises(ValueError, match=f"weight file that Keras wrote .* got {value!r}"):
        unet(weights=value)


def test_other_kinds_and_missing_files(tmp_path):
    with pytest.raises(ValueError, match="No weight file at .*a.keras"):
        unet(weights=tmp_path / "a.keras")
    for name in ("a.pth", "a.h5", "nuclei"):
        with pytest.raises(ValueError, match=f"{name}: expected a file that Keras wrote"):
            unet(weights=tmp_path / name)
