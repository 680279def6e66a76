"""`weights.transfer`: everything that fits, a report, and nothing at all when nothing does."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_seg import models, weights

RNG = np.random.default_rng(0)


def unet(num_classes=3, channels=3, **options):
    options = {"preprocessing": "none", **options}
    return models.UNet(num_classes, (None, None, channels), filters=2, depth=2, **options)


def fcn(builder=models.FCN32s, channels=3, **options):
    return builder(2, (None, None, channels), filters=2, fc_channels=4, **options)


def randomise(model):
    for variable in model.weights:
        variable.assign(RNG.uniform(0.1, 1, variable.shape))
    return model


def values(model):
    return {variable.path: np.array(variable) for variable in model.weights}


def assert_untouched(model, before):
    for path, value in values(model).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5"])
def test_other_classes(tmp_path, capsys, name):
    source, model = randomise(unet(3)), unet(5)
    source.save(tmp_path / name) if name == "a.keras" else source.save_weights(tmp_path / name)
    before = values(model)
    report = weights.transfer(model, tmp_path / name)
    assert report.skipped.keys() == {"logits"} and "here (1, 1, 2, 5)" in report.skipped["logits"]
    assert report.unused == ("logits/0", "logits/1") and not report.adapted
    assert set(report.loaded) == {x.name for x in model.layers if x.weights} - {"logits"}
    for layer in model.layers:
        for i, variable in enumerate(layer.weights):
            new = layer.name != "logits"
            expected = source.get_layer(layer.name).weights[i] if new else before[variable.path]
            np.testing.assert_array_equal(variable, expected, err_msg=variable.path)
    printed = capsys.readouterr().out
    assert printed == f"{report}\n"
    assert f"{name} -> unet" in printed and "skipped    1  logits (" in printed


def test_a_grey_image_gives_what_it_gave_as_rgb(capsys):
    source, model = randomise(unet(channels=3)), unet(channels=1)
    report = weights.transfer(model, source, verbose=False)
    assert report.adapted == {"down1_conv1": "3 -> 1 channels of the image"}
    assert not report.skipped and not report.unused
    grey = RNG.uniform(0, 1, (1, 16, 16, 1)).astype("float32")
    expected = source.predict(np.repeat(grey, 3, -1), verbose=0)
    np.testing.assert_allclose(model.predict(grey, verbose=0), expected, rtol=1e-4, atol=1e-5)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("channels", "preprocessing", "order"),
    [
        (2, "imagenet", [0, 1]),
        (4, "imagenet", [0, 1, 2, 0]),
        (7, "none", [0, 1, 2, 0, 1, 2, 0]),
        (4, "caffe", [2, 1, 0, 2]),  # the source saw BGR, of which 4 channels are not made
        (4, "bgr-voc", [2, 1, 0, 2]),
    ],
)
def test_more_channels_repeat_those_of_rgb(channels, preprocessing, order):
    source = randomise(fcn(preprocessing=preprocessing))
    model = fcn(channels=channels, preprocessing=preprocessing)
    report = weights.transfer(model, source, verbose=False)
    assert [*report.adapted] == ["conv1_1"]
    kernel = np.array(source.get_layer("conv1_1").kernel)
    np.testing.assert_allclose(
        model.get_layer("conv1_1").kernel, kernel[:, :, order] * 3 / channels, rtol=1e-6
    )


def test_from_a_reference_with_other_classes_and_channels(tmp_path):
    """A state of milesial/Pytorch-UNet, in its order of axes, with a layer that ours has not."""
    source = randomise(unet(2, upsampling="transposed"))
    prefixes = weights.LAYOUTS["milesial"].names([x.name for x in source.layers if x.weights])
    state = {"extra.weight": np.zeros(1, "float32")}
    for name, prefix in prefixes.items():
        suffixes = ("weight", "bias", "running_mean", "running_var")
        for suffix, variable in zip(suffixes, source.get_layer(name).weights, strict=False):
            array = np.array(variable)
            state[f"{prefix}.{suffix}"] = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
    np.savez(tmp_path / "a.npz", **state)
    model = unet(3, channels=1, upsampling="transposed")
    report = weights.transfer(model, tmp_path / "a.npz", "milesial", verbose=False)
    assert report.skipped.keys() == {"logits"} and [*report.adapted] == ["down1_conv1"]
    assert set(report.unused) == {"extra.weight", "outc.conv.weight", "outc.conv.bias"}
    np.testing.assert_array_equal(
        model.get_layer("up1_upconv").kernel, source.get_layer("up1_upconv").kernel
    )
    np.testing.assert_allclose(
        model.get_layer("down1_conv1").kernel,
        np.sum(source.get_layer("down1_conv1").kernel, axis=2, keepdims=True),
        rtol=1e-6,
    )


def test_from_one_stage_to_the_next():
    source, model = randomise(fcn()), fcn(models.FCN16s)
    report = weights.transfer(model, source, verbose=False)
    assert report.skipped == dict.fromkeys(
        ["upscore2", "score_pool4", "upscore16"], "not in the source"
    )
    assert report.unused == ("upscore/0",)
    np.testing.assert_array_equal(model.get_layer("fc6").kernel, source.get_layer("fc6").kernel)
    assert not np.any(model.get_layer("score_pool4").kernel)


def test_layers_to_skip():
    source, model = randomise(unet()), unet()
    before = values(model)
    report = weights.transfer(model, source, skip=["logits", "up*"], verbose=False)
    assert set(report.skipped.values()) == {"as asked"}
    assert "up2_upconv" in report.skipped and "down1_conv1" in report.loaded
    for name in report.skipped:
        for variable in model.get_layer(name).weights:
            np.testing.assert_array_equal(variable, before[variable.path])
    with pytest.raises(ValueError, match="Unknown layer to skip 'logit'. Did you mean 'logits'"):
        weights.transfer(model, source, skip="logit")


def dense(name="last", **options):
    image = keras.Input((4, 4, 2))
    x = layers.Conv2D(2, 1, name="first")(image)
    return keras.Model(image, layers.Conv2D(2, 1, name=name, **options)(x), name="plain")


def test_a_layer_with_a_bias_does_not_fill_one_without():
    model = dense(use_bias=False)
    report = weights.transfer(model, dense(), verbose=False)
    assert report.skipped == {"last": "more variables in the source"}
    report = weights.transfer(dense(), model, verbose=False)
    assert report.skipped == {"last": "not in the source"}


def test_nothing_that_fits_is_an_error():
    model = fcn()
    before = values(model)
    with pytest.raises(ValueError, match="Nothing of unet fits fcn32s; nothing was") as error:
        weights.transfer(model, unet())
    assert "conv1_1 (not in the source)" in str(error.value)
    assert_untouched(model, before)


def test_a_broken_source_changes_nothing(tmp_path):
    source, model = randomise(unet()), unet()
    source.get_layer("logits").bias.assign([0.0, np.nan, 0.0])
    source.save(tmp_path / "a.keras")
    before = values(model)
    with pytest.raises(ValueError, match=r"a.keras is not used.*\n.*not finite \(1\): logits/1"):
        weights.transfer(model, tmp_path / "a.keras")
    assert_untouched(model, before)


def test_sources_without_a_layout():
    model = dense()
    with pytest.raises(ValueError, match="For a state of arrays give transfer the layout"):
        weights.transfer(model, {"first.weight": np.zeros(1)})
    with pytest.raises(ValueError, match="a.pth is no file that keras_seg wrote"):
        weights.transfer(model, "a.pth")
    with pytest.raises(ValueError, match="Expected the path of a weight file, got None"):
        weights.transfer(model, None)
    with pytest.raises(ValueError, match="No weight file at a.keras"):
        weights.transfer(model, "a.keras")


def test_a_resnet_of_semseg_starts_the_trunk_of_pspnet():
    """`resnet50_v2.pth` has conv1, bn1, ..., conv3, bn3 where a PSPNet has layer0.0 to layer0.7."""
    model = models.PSPNet(3, backbone="resnet50", filters=4)
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    rng = np.random.default_rng(0)
    state = {}
    for number in (1, 2, 3):
        kernel = layers[f"stem_conv{number}"].kernel.shape
        state[f"conv{number}.weight"] = rng.normal(size=[kernel[i] for i in (3, 2, 0, 1)])
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"bn{number}.{part}"] = rng.uniform(1, 2, kernel[-1])
    state = {name: array.astype("float32") for name, array in state.items()}
    weights.transfer(model, state, "semseg", verbose=False)
    for number in (1, 2, 3):
        kernel = keras.ops.convert_to_numpy(layers[f"stem_conv{number}"].kernel)
        np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), state[f"conv{number}.weight"])
        gamma = keras.ops.convert_to_numpy(layers[f"stem_bn{number}"].gamma)
        np.testing.assert_array_equal(gamma, state[f"bn{number}.weight"])
