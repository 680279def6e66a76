"""FCN: start, alignment, trunks, stages, two inputs and two outputs. Parity: test_golden.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seg import models, weights
from keras_seg.backbones import from_keras

BUILDERS = [models.FCN32s, models.FCN16s, models.FCN8s]
SLIM = {"filters": 2, "fc_channels": 8}
# Trunk, padding of 100, and a size in which its grid of scores lies evenly: the first and the last
# cell are as far from the border, and no pooling leaves a row over.
TRUNKS = [
    ("vgg16", True, (58, 90)),  # 32 k - 6
    ("vgg16", False, (64, 96)),  # 32 k
    ("alexnet", True, (59, 91)),  # 32 k - 5
    ("alexnet", False, (57, 89)),  # 32 k - 7
    ("googlenet", False, (61, 93)),  # 32 k - 3
]


def slim(build, backbone="vgg16", **options):
    filters = {"alexnet": 4, "googlenet": 8}.get(backbone, 2)
    return build(3, **{**SLIM, "filters": filters}, backbone=backbone, **options)


def shaken(build, backbone="vgg16", **options):
    """A slim network whose kernels are random, and the same seen in a mirror."""
    model = slim(build, backbone, **options)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if layer.weights and not layer.name.startswith("upscore"):
            kernel = rng.standard_normal(layer.kernel.shape)
            kernel = kernel + kernel[::-1] + kernel[:, ::-1] + kernel[::-1, ::-1]
            fan_in = np.prod(kernel.shape[:3])
            layer.set_weights([kernel / np.sqrt(fan_in), rng.standard_normal(layer.bias.shape)])
    return model


def picture(height, width):
    return np.random.default_rng(1).uniform(0, 255, (1, height, width, 3)).astype("float32")


def assert_close(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


@pytest.mark.parametrize("build", BUILDERS)
def test_starts_at_zero_scores(build):
    logits = np.asarray(build(3, **SLIM)(picture(40, 33)))
    assert logits.shape == (1, 40, 33, 3)
    assert not logits.any()


@pytest.mark.parametrize(("backbone", "legacy", "size"), TRUNKS)
@pytest.mark.parametrize("build", BUILDERS)
def test_resize_computes_what_the_deconvolution_computes(build, backbone, legacy, size):
    deconv = shaken(build, backbone, legacy_padding=legacy)
    resize = shaken(build, backbone, legacy_padding=legacy, upsampling="resize")
    least = {"vgg16": 1, "alexnet": 29, "googlenet": 31}[backbone] if not legacy else 1
    for size in [(least, least + 1), (33, 70)]:
        logits = deconv(picture(*size))
        assert logits.shape == (1, *size, 3)
        assert_close(resize(picture(*size)), logits)


@pytest.mark.parametrize(("backbone", "legacy", "size"), TRUNKS)
@pytest.mark.parametrize("build", BUILDERS)
def test_scores_lie_over_the_centre_of_their_pixels(build, backbone, legacy, size):
    """With mirrored kernels the picture's mirror gives the mirrored logits.

    Any other crop, or a kernel of the other parity, would break the symmetry.
    """
    model = shaken(build, backbone, legacy_padding=legacy)
    image = picture(*size)
    mirrored = model(image[:, ::-1, ::-1])
    assert_close(np.asarray(mirrored)[:, ::-1, ::-1], model(image))


@pytest.mark.parametrize(
    ("backbone", "field", "first"),
    [("vgg16", 404, 12.5), ("alexnet", 355, 13), ("googlenet", 715, 30)],
)
def test_receptive_field_of_the_paper(backbone, field, first):
    """Table 1 of the paper (GoogLeNet without the pool that it leaves out): a bright pixel at the
    edge of a score's field changes the score, its neighbour outside does not."""
    model = slim(models.FCN32s, backbone, preprocessing="none", dropout=0)
    for layer in model.layers:
        if layer.weights and not layer.name.startswith("upscore"):
            layer.set_weights(
                [np.full(w.shape, v) for w, v in zip(layer.weights, (1.0, 0.0), strict=True)]
            )
    index = 12  # far enough from the first rows that the field begins inside of the image
    edge = first + 32 * index - (field - 1) / 2
    assert edge == int(edge) > 0
    scores = keras.Model(model.input, model.get_layer("score_fr").output)

    def score(row):
        image = np.zeros((1, 800, 40, 3), "float32")
        image[0, row] = 1
        return float(np.asarray(scores(image))[0, index].max())

    assert score(int(edge)) > 0
    assert score(int(edge) - 1) == 0


@pytest.mark.parametrize("backbone", ["alexnet", "googlenet"])
def test_too_small_without_the_padding_of_100(backbone):
    least = {"alexnet": 29, "googlenet": 31}[backbone]
    model = slim(models.FCN8s, backbone, legacy_padding=False)
    with pytest.raises(ValueError, match=f"The height {least - 1} is too small: at least {least}"):
        model(picture(least - 1, 40))


def test_at_once_scales_the_skips():
    """voc-fcn8s-atonce: pool4 times 0.01 and pool3 times 0.0001 before their score layers."""
    staged, at_once = shaken(models.FCN8s), shaken(models.FCN8s, at_once=True)
    for name, factor in [("score_pool4", 0.01), ("score_pool3", 0.0001)]:
        kernel, bias = at_once.get_layer(name).get_weights()
        staged.get_layer(name).set_weights([kernel * factor, bias])
    image = picture(40, 33)
    assert_close(at_once(image), staged(image))


def assert_starts_like(fine, coarse, upscore):
    """The finer network's scores are the coarser one's, twice as large, before any training."""
    image = picture(40, 33)
    outputs = [fine.get_layer("logits_low").output, fine.get_layer(upscore).output]
    fused, enlarged = keras.Model(fine.input, outputs)(image)
    before = keras.Model(coarse.input, coarse.get_layer("logits_low").output)(image)
    kernel = fine.get_layer(upscore).kernel
    before = np.asarray(keras.ops.conv_transpose(before, kernel, strides=2, padding="valid"))
    np.testing.assert_array_equal(fused, enlarged)
    np.testing.assert_allclose(enlarged, before, rtol=1e-5, atol=1e-5 * np.abs(before).max())


def test_transfer_from_stage_to_stage():
    coarse = shaken(models.FCN32s)
    middle, fine = slim(models.FCN16s), shaken(models.FCN8s)
    assert models.transfer_fcn(coarse, middle) == ["score_pool4"]
    assert_starts_like(middle, coarse, "upscore2")
    middle.get_layer("score_pool4").set_weights([np.ones((1, 1, 16, 3)), np.ones(3)])
    assert models.transfer_fcn(middle, fine) == ["score_pool3"]
    assert_starts_like(fine, middle, "upscore_pool4")
    np.testing.assert_array_equal(fine.get_layer("score_pool4").kernel, np.ones((1, 1, 16, 3)))


@pytest.mark.parametrize("backbone", ["alexnet", "googlenet", "resnet18"])
def test_transfer_on_other_trunks(backbone):
    coarse, fine = slim(models.FCN32s, backbone), slim(models.FCN8s, backbone)
    fresh = models.transfer_fcn(coarse, fine)
    assert len(fresh) == 2 and all(name.startswith("score_") for name in fresh)
    for layer in coarse.layers:
        if layer.weights and not layer.name.startswith("upscore"):
            np.testing.assert_array_equal(
                layer.get_weights()[0], fine.get_layer(layer.name).get_weights()[0]
            )


def test_transfer_between_networks_that_do_not_fit():
    fine = slim(models.FCN16s)
    before = fine.get_weights()
    with pytest.raises(ValueError, match=r"of another shape \(1\): score_fr has .*5"):
        models.transfer_fcn(models.FCN32s(5, **SLIM), fine)
    with pytest.raises(
        ValueError, match=r"not in fcn32s \(13\): conv1_1, .*\n.*not in fcn16s \(5\): conv1,"
    ):
        models.transfer_fcn(slim(models.FCN32s, "alexnet"), fine)
    for old, new in zip(before, fine.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_two_label_spaces():
    """SIFT Flow: 33 semantic and 3 geometric classes, each with score layers of its own."""
    model = models.FCN16s(33, **SLIM, other_classes={"geometric": 3})
    outputs = model(picture(40, 33))
    assert {name: y.shape for name, y in outputs.items()} == {
        "logits": (1, 40, 33, 33),
        "geometric": (1, 40, 33, 3),
    }
    scores = {
        layer.name for layer in model.layers if layer.name.startswith("score_") and layer.weights
    }
    assert scores == {"score_fr", "score_pool4", "score_fr_geometric", "score_pool4_geometric"}
    assert models.inference_model(model).output_shape == (None, None, None, 33)
    # What is learned in one space changes the trunk for both, the score layers only for itself.
    labels = {"logits": np.zeros((1, 40, 33), "int32"), "geometric": np.ones((1, 40, 33), "int32")}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss={name: loss for name in labels})
    model.fit(picture(40, 33), labels, verbose=0)
    changed = model(picture(40, 33))
    assert (
        np.asarray(changed["logits"])[..., 0].mean() > np.asarray(changed["logits"])[..., 1:].max()
    )
    assert (np.asarray(changed["geometric"]).argmax(-1) == 1).all()


@pytest.mark.parametrize("backbone", ["vgg16", "resnet18"])
def test_frozen_trunk_trains_the_scores_only(backbone):
    model = slim(models.FCN16s, backbone, frozen_trunk=True)
    skip = "pool4" if backbone == "vgg16" else "c4"
    assert sorted(v.path for v in model.trainable_variables) == [
        f"score_{name}/{kind}" for name in sorted(["fr", skip]) for kind in ("bias", "kernel")
    ]


def test_late_fusion_is_the_mean_of_two_networks():
    alone = [shaken(models.FCN32s, preprocessing=mode) for mode in ("nyud", "hha")]
    alone[1].get_layer("score_fr").set_weights([np.ones((1, 1, 8, 3)), np.arange(3.0)])
    fused = models.FCNLateFusion(3, **SLIM)
    for prefix, model in zip(("rgb_", "depth_"), alone, strict=True):
        for layer in model.layers:
            if layer.weights and layer.name != "upscore":
                fused.get_layer(prefix + layer.name).set_weights(layer.get_weights())
    colours, depth = picture(40, 33), picture(40, 33)[:, ::-1]
    expected = (alone[0](colours) + alone[1](depth)) / 2
    assert_close(fused(np.concatenate([colours, depth], axis=-1)), expected)

    apart = models.FCNLateFusion(3, **SLIM, two_inputs=True)
    apart.set_weights(fused.get_weights())
    assert_close(apart({"image": colours, "depth": depth}), expected)


def test_late_fusion_with_skips_and_one_channel_of_depth(tmp_path):
    fused = models.FCNLateFusion(
        3, (None, None, 4), stride=8, backbone="alexnet", **{**SLIM, "filters": 4}
    )
    assert fused.get_layer("depth_conv1").kernel.shape[2] == 1
    rng = np.random.default_rng(0)
    for layer in fused.layers:
        if layer.weights and not layer.name.startswith("upscore"):
            layer.set_weights([rng.standard_normal(w.shape) for w in layer.weights])
    fused.save(tmp_path / "fused.keras")
    apart = models.FCNLateFusion(
        3,
        (None, None, 4),
        stride=8,
        backbone="alexnet",
        **{**SLIM, "filters": 4},
        two_inputs=True,
        weights=tmp_path / "fused.keras",
    )
    image = np.concatenate([picture(40, 33), picture(40, 33)[..., :1]], axis=-1)
    assert_close(apart({"image": image[..., :3], "depth": image[..., 3:]}), fused(image))
    apart.save(tmp_path / "apart.keras")
    again = keras.saving.load_model(tmp_path / "apart.keras")
    assert_close(again({"image": image[..., :3], "depth": image[..., 3:]}), fused(image))


@pytest.mark.parametrize(
    ("build", "backbone"),
    [
        *((build, "resnet18") for build in BUILDERS),
        (BUILDERS[1], "keras:MobileNetV2"),
        (BUILDERS[2], "model"),
    ],
)
def test_heads_on_other_trunks(build, backbone):
    """Score layers on c5, c4, c3 of the trunk, which keeps its own padding; zero at the start."""
    if backbone == "model":
        backbone = from_keras("MobileNetV2", alpha=0.35)
    model = build(3, backbone=backbone, filters=4)
    assert model(picture(50, 75)).shape == (1, 50, 75, 3)
    assert not np.asarray(model(picture(50, 75))).any()
    heads = {models.FCN32s: ["fr"], models.FCN16s: ["fr", "c4"], models.FCN8s: ["fr", "c4", "c3"]}
    found = [layer.name for layer in model.layers if layer.name.startswith("score_")]
    assert found == [f"score_{name}" for name in heads[build]]


def test_scores_of_other_trunks_are_added_at_the_finer_ones_size():
    """With a trunk of pools alone, all can be worked out: bilinear, half-pixel centres."""

    def pools(image):
        features, x = {}, image
        for i in range(1, 6):
            x = features[f"c{i}"] = keras.layers.MaxPooling2D(2, padding="same")(x)
        return features

    model = models.FCN16s(3, backbone=pools, preprocessing="none")
    rng = np.random.default_rng(0)
    kernels = {name: rng.standard_normal((1, 1, 3, 3)) for name in ("score_fr", "score_c4")}
    for name, kernel in kernels.items():
        model.get_layer(name).set_weights([kernel, np.zeros(3)])
    image = picture(50, 75)
    c4 = np.stack(
        [
            [image[0, i : i + 16, j : j + 16].max((0, 1)) for j in range(0, 75, 16)]
            for i in range(0, 50, 16)
        ]
    )
    c5 = np.stack(
        [
            [image[0, i : i + 32, j : j + 32].max((0, 1)) for j in range(0, 75, 32)]
            for i in range(0, 50, 32)
        ]
    )
    coarse, fine = c5 @ kernels["score_fr"][0, 0], c4 @ kernels["score_c4"][0, 0]
    expected = tf.image.resize(tf.image.resize(coarse, fine.shape[:2]) + fine, (50, 75))
    assert_close(model(image)[0], expected)


def test_kernels_are_frozen():
    model = models.FCN8s(3, **SLIM)
    frozen = [layer.name for layer in model.layers if layer.weights and not layer.trainable_weights]
    assert sorted(frozen) == ["upscore2", "upscore8", "upscore_pool4"]


def test_unknown_options():
    with pytest.raises(ValueError, match="Unknown backbone of FCN 'vgg17'. Did you mean 'vgg16'"):
        models.FCN8s(3, backbone="vgg17")
    with pytest.raises(ValueError, match="Unknown upsampling 'bilinear'. .*deconv, resize"):
        models.FCN8s(3, upsampling="bilinear")
    with pytest.raises(
        ValueError, match="legacy_padding is for vgg16 and alexnet.*'googlenet' has"
    ):
        models.FCN8s(3, backbone="googlenet", legacy_padding=True)
    with pytest.raises(ValueError, match="upsampling='deconv' is for vgg16, alexnet, googlenet"):
        models.FCN8s(3, backbone="resnet18", upsampling="deconv")
    with pytest.raises(ValueError, match="other_classes must have names .* got 'logits'"):
        models.FCN8s(3, other_classes={"logits": 3})
    with pytest.raises(ValueError, match=r"other_classes\['geometric'\] must be a number"):
        models.FCN8s(3, other_classes={"geometric": 0})
    with pytest.raises(ValueError, match="must have at least 4 channels, .* got 3"):
        models.FCNLateFusion(3, (None, None, 3))
    with pytest.raises(ValueError, match="stride must be 32, 16 or 8, got 4"):
        models.FCNLateFusion(3, stride=4)
    with pytest.raises(ValueError, match="preprocessing must be a pair"):
        models.FCNLateFusion(3, preprocessing="caffe")
    with pytest.raises(ValueError, match="Unknown backbone of FCNLateFusion 'resnet18'"):
        models.FCNLateFusion(3, backbone="resnet18")


VGG = [f"conv{i}_{j}" for i, n in enumerate((2, 2, 3, 3, 3), start=1) for j in range(1, n + 1)]
VGG += ["fc6", "fc7"]
ALEXNET = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "score_fr"]
# Names of the release's nets that hold trained weights, and ours in the same order.
RELEASED = {
    "voc-fcn-alexnet": ("FCN32s", {"backbone": "alexnet", "filters": 4}, ALEXNET, ALEXNET),
    "voc-fcn8s-atonce": (
        "FCN8s",
        {"at_once": True},
        [*VGG, "score_fr", "score_pool4", "score_pool3"],
        [*VGG, "score_fr", "score_pool4", "score_pool3"],
    ),
    "siftflow-fcn16s": (
        "FCN16s",
        {"other_classes": {"geometric": 2}},
        [*VGG, "score_fr_sem", "score_pool4_sem", "score_fr_geo", "score_pool4_geo"],
        [*VGG, "score_fr", "score_pool4", "score_fr_geometric", "score_pool4_geometric"],
    ),
    "nyud-fcn32s-color-hha": (
        "FCNLateFusion",
        {},
        [f"{name}{kind}" for kind in ("color", "hha") for name in (*VGG, "score_fr")],
        [f"{kind}_{name}" for kind in ("rgb", "depth") for name in (*VGG, "score_fr")],
    ),
}


@pytest.mark.parametrize("net", RELEASED)
def test_layers_of_the_released_nets(net):
    """Each layer of the release's net.py has one of ours, and none of ours is left."""
    builder, options, theirs, ours = RELEASED[net]
    model = models.build(builder, 3, **{**SLIM, **options})
    rng = np.random.default_rng(0)
    state = {"upscore.weight": np.zeros((3, 1, 64, 64))}
    if net.endswith("atonce"):
        state["scale_pool4.weight"] = np.full(16, 0.01)
    for caffe, name in zip(theirs, ours, strict=True):
        kernel, bias = model.get_layer(name).weights
        state[f"{caffe}.weight"] = rng.standard_normal([kernel.shape[i] for i in (3, 2, 0, 1)])
        state[f"{caffe}.bias"] = rng.standard_normal(bias.shape)
    report = weights.load(model, state, layout="caffe")
    assert len(report.loaded) == 2 * len(ours)
    for caffe, name in zip(theirs, ours, strict=True):
        kernel = state[f"{caffe}.weight"].transpose(2, 3, 1, 0)
        np.testing.assert_allclose(model.get_layer(name).kernel, kernel, rtol=1e-6)


def test_trunk_of_bvlc_googlenet():
    """Its classifier's names, less the loss heads, start our trunk."""
    model = slim(models.FCN32s, "googlenet")
    reductions = ["1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj"]
    modules = ["3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]
    caffe = ["conv1/7x7_s2", "conv2/3x3_reduce", "conv2/3x3"]
    caffe += [f"inception_{module}/{name}" for module in modules for name in reductions]
    state = {}
    for name in caffe:
        kernel, bias = model.get_layer(name.replace("/", "_")).weights
        state[f"{name}.weight"] = np.ones([kernel.shape[i] for i in (3, 2, 0, 1)])
        state[f"{name}.bias"] = np.ones(bias.shape)
    state["loss3/classifier.weight"] = np.ones((1000, 1024))
    report = weights.transfer(model, state, "caffe", verbose=False)
    assert sorted(report.loaded) == sorted(name.replace("/", "_") for name in caffe)
    assert set(report.skipped) == {"score_fr", "upscore"}
    assert report.unused == ("loss3/classifier.weight",)
