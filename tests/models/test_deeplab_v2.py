"""DeepLab v2: sizes, heads, multi-scale inputs. Parity is in test_golden.py."""

import keras
import numpy as np
import pytest

from keras_seg import layers, models
from keras_seg.training.optimizers import head_variables

SLIM = {"backbone": "resnet18", "filters": 4, "preprocessing": "none"}


def picture(height, width):
    return np.random.default_rng(1).uniform(-1, 1, (1, height, width, 3)).astype("float32")


def low(model):
    return keras.Model(model.input, model.get_layer("logits_low").output)


def test_sizes_of_the_paper():
    options = {"backbone": "resnet50", "filters": 1}
    model = models.DeepLabV2(3, (321, 321, 3), **options)
    sides = {"stem_relu1": 161, "stem_pool": 81, "stage2_block3_out": 81, "features": 41}
    assert {name: model.get_layer(name).output.shape[1] for name in sides} == sides
    assert low(model).output.shape == (None, 41, 41, 3)
    block = model.get_layer("stage3_block1_conv1"), model.get_layer("stage3_block1_conv2")
    assert [layer.strides for layer in block] == [(2, 2), (1, 1)]
    rates = [model.get_layer(f"stage{s}_block1_conv2").dilation_rate for s in (3, 4, 5)]
    assert rates == [(1, 1), (2, 2), (4, 4)]


@pytest.mark.parametrize(
    ("head", "rates"), [("aspp-l", [6, 12, 18, 24]), ("aspp-s", [2, 4, 8, 12]), ("largefov", [12])]
)
@pytest.mark.parametrize(("backbone", "layer"), [("resnet18", "aspp_conv"), ("vgg16", "fc6")])
def test_heads(head, rates, backbone, layer):
    model = models.DeepLabV2(3, backbone=backbone, head=head, filters=1, fc_channels=2)
    found = [x for x in model.layers if x.name.startswith(layer) and x.weights]
    assert [x.dilation_rate[0] for x in found] == rates
    averaged = {x.name for x in model.layers} & {"pool5a"}
    assert bool(averaged) == (backbone == "vgg16" and head == "largefov")


def test_largefov_on_vgg16_is_deeplab_v1():
    slim = {"filters": 2, "fc_channels": 4}
    v2 = models.DeepLabV2(3, backbone="vgg16", head="largefov", **slim)
    v1 = models.DeepLabV1(3, **slim)
    v1.set_weights(v2.get_weights())
    image = 100 + 100 * picture(60, 51)
    np.testing.assert_array_equal(v1(image), v2(image))


@pytest.mark.parametrize("align_corners", [True, False])
def test_multi_scale_inputs_take_the_maximum(align_corners):
    """Each scale is what the single-scale network says about the smaller image."""
    options = {"align_corners": align_corners, **SLIM}
    model = models.DeepLabV2(3, scales=(0.75, 0.5), aux=True, **options)
    single = models.DeepLabV2(3, **options)
    single.set_weights(model.get_weights())
    image = picture(65, 97)
    sizes = {75: (49, 73), 50: (33, 49)} if align_corners else {75: (48, 72), 50: (32, 48)}

    trunk = low(single)
    scores = {100: np.asarray(trunk(image))}
    for percent, size in sizes.items():
        # Without aligned corners 48 rows show 48 / 0.75 of the 65 rows.
        whole = (65, 97) if align_corners else [round(100 * n / percent) for n in size]
        cut = image[:, : whole[0], : whole[1]]
        scores[percent] = np.asarray(trunk(layers.Resize(size, align_corners=align_corners)(cut)))
    outputs = model(image)
    assert set(outputs) == {"logits", "scale_100", "scale_75", "scale_50"}
    whole = layers.Resize((65, 97), align_corners=align_corners)
    for percent, y in scores.items():
        np.testing.assert_allclose(outputs[f"scale_{percent}"], whole(y), atol=1e-5)

    stride_8 = layers.Resize((9, 13), align_corners=align_corners)
    fused = np.maximum.reduce([np.asarray(stride_8(y)) for y in scores.values()])
    np.testing.assert_allclose(low(model)(image), fused, atol=1e-5)
    np.testing.assert_allclose(outputs["logits"], whole(fused), atol=1e-5)
    np.testing.assert_array_equal(models.inference_model(model)(image), outputs["logits"])


@pytest.mark.parametrize(
    ("backbone", "align_corners", "padded"),
    [("vgg16", True, 97), ("vgg16", False, 90), ("resnet18", True, 90), ("resnet18", False, 90)],
)
def test_only_aligned_corners_on_vgg16_need_padding(backbone, align_corners, padded):
    """An even image: the authors pad it to 8 k + 1; the port's stem makes 23 rows of 90."""
    options = {**SLIM, "backbone": backbone, "fc_channels": 8, "align_corners": align_corners}
    model = models.DeepLabV2(3, (90, 97, 3), **options)
    first = "conv1_1" if backbone == "vgg16" else "stem_conv1_pad"
    assert model.get_layer(first).input.shape == (None, padded, 97, 3)
    assert low(model).output.shape == (None, 13 if backbone == "vgg16" else 12, 13, 3)
    assert model.output.shape == (None, 90, 97, 3)


@pytest.mark.parametrize("align_corners", [True, False])
def test_an_image_of_one_pixel(align_corners):
    model = models.DeepLabV2(3, scales=(0.5,), align_corners=align_corners, **SLIM)
    assert model(picture(1, 1)).shape == (1, 1, 1, 3)
    assert model.predict(picture(1, 1), verbose=0).shape == (1, 1, 1, 3)


def test_the_head_of_a_multi_scale_network_learns_faster():
    """The trunk ends at "features" although its layers are used once for each scale."""
    model = models.DeepLabV2(3, scales=(0.5,), **SLIM)
    names = {path.split("/")[0] for path in head_variables(model)}
    assert names == {"aspp_conv1", "aspp_conv2", "aspp_conv3", "aspp_conv4"}


def test_a_keras_application_as_trunk():
    model = models.DeepLabV2(3, backbone="keras:MobileNetV3Small", scales=(0.5,))
    assert model.get_layer("preprocess").mode == "none"
    assert model(100 + 100 * picture(64, 50)).shape == (1, 64, 50, 3)


def test_the_trunks_of_the_paper_take_pixels_as_caffe_does():
    for backbone in ("resnet18", "vgg16"):
        model = models.DeepLabV2(3, backbone=backbone, filters=1, fc_channels=1)
        assert model.get_layer("preprocess").mode == "caffe"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "aspp"}, "Unknown head 'aspp'. Did you mean"),
        ({"backbone": "resnet51"}, "Unknown backbone 'resnet51'. Did you mean"),
        ({"scales": (1.0, 0.5)}, "fractions of the image's size besides 1"),
        ({"scales": (0.5, 0.5)}, "different fractions"),
        ({"scales": (0.0,)}, "different fractions"),
        ({"aux": True}, "name them, scales="),
    ],
)
def test_options_that_cannot_work(options, message):
    with pytest.raises(ValueError, match=message):
        models.DeepLabV2(3, **options)
