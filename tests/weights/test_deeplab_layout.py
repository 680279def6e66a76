"""The authors' Caffe files of DeepLab: names as in their prototxt files, written as Caffe would."""

import numpy as np
from weight_writers import write_caffemodel

from keras_seg import models, weights

RNG = np.random.default_rng(0)
VGG = [f"conv{block}_{i}" for block, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)]


def convolution(model, layer):
    """[kernel, bias] of the shape that Caffe gives this layer of ours."""
    height, width, inputs, outputs = model.get_layer(layer).kernel.shape
    return [RNG.normal(size=(outputs, inputs, height, width)), RNG.normal(size=outputs)]


def assert_loaded(model, layer, blobs):
    ours = [np.asarray(w) for w in model.get_layer(layer).weights]
    np.testing.assert_array_equal(ours[0], blobs[0].transpose(2, 3, 1, 0).astype("float32"))
    if len(ours) > 1:
        np.testing.assert_array_equal(ours[1], blobs[1].astype("float32"))


def test_msc_of_version_1(tmp_path):
    model = models.DeepLabV1(3, filters=2, fc_channels=4, multiscale=True)
    sides = [f"{tap}_{k}" for tap in ("data", "pool1", "pool4") for k in ("conv", "fc", "ms")]
    sides += [f"{tap}_{k}" for tap in ("pool2", "pool3") for k in ("conv", "fc", "ms")]
    blobs = {name: convolution(model, name) for name in (*VGG, "fc6", "fc7", *sides)}
    score = convolution(model, "fc8")
    layers = [(name, "Convolution", arrays) for name, arrays in blobs.items()]
    write_caffemodel(
        tmp_path / "train_iter_6000.caffemodel",
        [*layers, ("fc8_pascal", "Convolution", score)],
        v1=True,
    )
    weights.load(model, tmp_path / "train_iter_6000.caffemodel", layout="deeplab")
    for name, arrays in {**blobs, "fc8": score}.items():
        assert_loaded(model, name, arrays)


def test_aspp_on_vgg16(tmp_path):
    model = models.DeepLabV2(3, backbone="vgg16", filters=2, fc_channels=4)
    names = {name: name for name in VGG}
    for i in range(1, 5):
        names |= {f"fc6_{i}": f"fc6_{i}", f"fc7_{i}": f"fc7_{i}", f"fc8_{i}": f"fc8_voc12_{i}"}
    blobs = {name: convolution(model, name) for name in names}
    write_caffemodel(
        tmp_path / "a.caffemodel",
        [(names[name], "Convolution", arrays) for name, arrays in blobs.items()],
    )
    weights.load(model, tmp_path / "a.caffemodel", layout="deeplab")
    for name, arrays in blobs.items():
        assert_loaded(model, name, arrays)


def test_aspp_on_resnet101(tmp_path):
    """Stages 3 and 4 count a, b1, b2, ...; BatchNorm and Scale are two layers there, one here."""
    model = models.DeepLabV2(3, filters=1, scales=(0.5,))
    units = {
        2: "abc",
        3: ["a", *(f"b{i}" for i in range(1, 4))],
        4: ["a", *(f"b{i}" for i in range(1, 23))],
        5: "abc",
    }
    names = {"stem_conv1": ("conv1", "bn_conv1", "scale_conv1")}
    for stage, letters in units.items():
        for block, letter in enumerate(letters, start=1):
            ours = f"stage{stage}_block{block}"
            branches = {f"{ours}_conv{i}": f"2{'abc'[i - 1]}" for i in (1, 2, 3)}
            if block == 1:
                branches[f"{ours}_shortcut_conv"] = "1"
            for layer, branch in branches.items():
                kinds = ("res", "bn", "scale")
                names[layer] = tuple(f"{k}{stage}{letter}_branch{branch}" for k in kinds)

    layers, convolutions, norms = [], {}, {}
    for ours, (kernel, norm, scale) in names.items():
        arrays = convolutions[ours] = convolution(model, ours)[:1]
        channels = arrays[0].shape[0]
        mean, beta = RNG.normal(size=(2, channels))
        variance, gamma = RNG.uniform(0.5, 1.5, (2, channels))
        norms[ours.replace("conv", "bn")] = [gamma, beta, mean, variance]
        # Caffe divides the sums that it keeps by a third blob.
        layers += [
            (kernel, "Convolution", arrays),
            (norm, "BatchNorm", [2 * mean, 2 * variance, np.array([2.0])]),
            (scale, "Scale", [gamma, beta]),
            (f"{kernel}_res05", "Convolution", arrays),
        ]
    for i in range(4):
        arrays = convolutions[f"aspp_conv{i + 1}"] = convolution(model, f"aspp_conv{i + 1}")
        layers.append((f"fc1_voc12_c{i}", "Convolution", arrays))
    write_caffemodel(tmp_path / "a.caffemodel", layers)

    report = weights.load(model, tmp_path / "a.caffemodel", layout="deeplab")
    assert len(report.ignored) == len(names) and all("_res05" in name for name in report.ignored)
    for ours, arrays in convolutions.items():
        assert_loaded(model, ours, arrays)
    for ours, arrays in norms.items():
        for variable, array in zip(model.get_layer(ours).weights, arrays, strict=True):
            np.testing.assert_allclose(variable, array, rtol=1e-6)
