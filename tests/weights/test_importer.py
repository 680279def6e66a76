"""`weights.load`: names, axes, and nothing changed unless everything fits."""

import pathlib

import keras
import numpy as np
import pytest
from golden import cases
from safetensors.numpy import save_file as save_safetensors
from weight_writers import write_caffe_state

from keras_seg import layers, models, weights
from keras_seg.weights.layouts.table import Layout

RNG = np.random.default_rng(0)


def slim_fc_densenet(num_classes=3, **options):
    return models.FCDenseNet(
        num_classes,
        growth_rate=2,
        layers_per_block=(1, 2),
        bottleneck_layers=1,
        filters=4,
        **options,
    )


def values(model):
    return [np.array(variable) for variable in model.weights]


def random_state(model, layout):
    """A state of the shapes that `model` has, under the names of `layout`.

    That these are the reference's names is proved by the golden cases.
    """
    prefixes = weights.LAYOUTS[layout].names([x.name for x in model.layers if x.weights])
    suffixes = ("weight", "bias", "running_mean", "running_var")
    state = {}
    for name, prefix in prefixes.items():
        layer = model.get_layer(name)
        for suffix, variable in zip(suffixes, layer.weights, strict=False):
            shape = tuple(variable.shape)
            shape = shape[::-1][:2] + shape[:2] if len(shape) == 4 else shape
            state[f"{prefix}.{suffix}"] = RNG.uniform(0.1, 1.0, shape).astype("float32")
        if isinstance(layer, keras.layers.BatchNormalization):
            state[f"{prefix}.num_batches_tracked"] = np.array(7)
    return state


@pytest.fixture(scope="module")
def model():
    return slim_fc_densenet()


@pytest.fixture()
def state(model):
    return random_state(model, "tiramisu")


@pytest.mark.parametrize("prefix", ["base.", "scale.", "module.base."])
def test_a_multi_scale_wrapper_of_kazuto1011(prefix):
    """Its checkpoints hold one network; ours uses it for every scale."""
    network = models.DeepLabV2(3, backbone="resnet18", filters=4, scales=(0.5,))
    state = random_state(network, "kazuto1011")
    report = weights.load(
        network, {f"{prefix}{name}": array for name, array in state.items()}, "kazuto1011"
    )
    assert set(report.loaded) | set(report.ignored) == set(state)
    np.testing.assert_array_equal(network.get_layer("aspp_conv2").bias, state["aspp.c1.bias"])


def test_the_report_says_what_happened(model, state):
    report = weights.load(model, state, layout="tiramisu")
    assert set(report.loaded) | set(report.ignored) == set(state)
    assert all(name.endswith("num_batches_tracked") for name in report.ignored)
    assert report.kept == ()
    assert str(report).startswith(f"state: {len(report.loaded)} arrays loaded")
    np.testing.assert_array_equal(
        model.get_layer("down2_layer2_conv").kernel,
        state["denseBlocksDown.1.layers.1.conv.weight"].transpose(2, 3, 1, 0),
    )
    np.testing.assert_array_equal(
        model.get_layer("up1_layer1_bn").moving_variance,
        state["denseBlocksUp.0.layers.0.norm.running_var"],
    )


@pytest.mark.parametrize(
    "wrapper", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."]
)
def test_names_written_by_data_parallel_and_compile(model, state, wrapper):
    weights.load(model, {f"{wrapper}{name}": array for name, array in state.items()}, "tiramisu")
    np.testing.assert_array_equal(model.get_layer("logits").bias, state["finalConv.bias"])


def drop(state):
    del state["finalConv.bias"]


def add(state):
    state["denseBlocksDown.0.layers.9.conv.weight"] = np.zeros((2, 2, 3, 3), "float32")


def reshape(state):
    state["finalConv.weight"] = np.zeros((5, 6, 1, 1), "float32")


def flatten(state):
    state["finalConv.weight"] = np.zeros(18, "float32")


def spoil(state):
    state["firstconv.bias"][0] = np.nan


def overflow(state):
    state["finalConv.bias"] = np.full(3, 1e300)


def put_text(state):
    state["finalConv.bias"] = np.full(3, "1.5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"not in the state \(1\): finalConv.bias for logits/bias"),
        (add, r"left over in the state \(1\): denseBlocksDown.0.layers.9.conv.weight"),
        (reshape, r"finalConv.weight has shape \(5, 6, 1, 1\), here \(1, 1, 12, 3\)"),
        (flatten, r"finalConv.weight has shape \(18,\), which is not that of a kernel"),
        (spoil, "firstconv.bias holds NaN"),
        (overflow, "finalConv.bias holds NaN or infinity .as float32"),
        (put_text, "finalConv.bias holds <U3, not real numbers"),
    ],
)
def test_a_misfit_changes_nothing(model, state, change, message):
    change(state)
    before = values(model)
    with pytest.raises(ValueError, match=message):
        weights.load(model, state, layout="tiramisu")
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_only_ten_names_are_listed(model):
    with pytest.raises(ValueError, match=r"not in the state \(\d+\): .* and \d+ more") as error:
        weights.load(model, {}, layout="tiramisu")
    assert len(str(error.value)) < 2000


def test_a_layout_of_another_network_says_so(model, state):
    with pytest.raises(ValueError, match="layers that the layout has no name for .*first_conv"):
        weights.load(model, state, layout="semseg")


TORCH_FILES = pathlib.Path(__file__).parent / "torch_files"


@pytest.mark.parametrize(
    "file",
    ["a.npz", "a.safetensors", "a.caffemodel", "pyramid_pooling.pth", "pyramid_pooling_old.pth"],
)
def test_a_golden_case_through_each_kind_of_file(tmp_path, file):
    """The drawn state written by the format's own library (PyTorch wrote the `.pth` files)."""
    case, reference = cases.load("layer_pyramid_pooling")
    state = cases.state(case)
    path = tmp_path / file
    if file.endswith(".npz"):
        np.savez(path, **state)
    elif file.endswith(".safetensors"):
        save_safetensors(state, path)
    elif file.endswith(".caffemodel"):
        write_caffe_state(path, state)
    else:
        path = TORCH_FILES / file
    found = weights.read_state(path)
    assert found.keys() == state.keys()
    image = keras.Input((None, None, 16))
    model = keras.Model(image, layers.pyramid_pooling(image, (1, 2, 3, 6), 4))
    weights.load(model, {f"ppm.{name}": array for name, array in found.items()}, layout="semseg")
    got = model(cases.inputs(case)["map13"].transpose(0, 2, 3, 1), training=False)
    assert cases.relative_error(case, "map13", got, reference["map13"]) <= 1e-6


def test_what_is_no_state_and_no_path_is_named(model):
    for value in (None, True, 3):
        with pytest.raises(ValueError, match=f"Expected the path of a weight file, got {value!r}"):
            weights.load(model, value, layout="tiramisu")


def test_a_file_of_keras_is_sent_elsewhere(model, tmp_path):
    with pytest.raises(ValueError, match="weights=, to keras_seg.weights.load_own"):
        weights.load(model, tmp_path / "a.weights.h5", layout="tiramisu")


def test_a_fully_connected_layer_becomes_a_convolution():
    """VGG16's fc6 of Caffe multiplies the flattened map in the order (channel, y, x)."""
    model = models.FCN32s(2, filters=2, fc_channels=5)
    state = {"fc6.weight": RNG.normal(size=(5, 16 * 7 * 7)), "fc6.bias": np.zeros(5)}
    report = weights.transfer(model, state, "caffe", verbose=False)
    assert report.loaded == ("fc6",)
    x = RNG.normal(size=(1, 7, 7, 16)).astype("float32")
    expected = x.transpose(0, 3, 1, 2).reshape(1, -1) @ state["fc6.weight"].T
    np.testing.assert_allclose(model.get_layer("fc6")(x)[0, 0], expected, rtol=1e-4)


def test_unknown_layout_offers_the_nearest(model):
    with pytest.raises(ValueError, match="Unknown layout 'semsec'. Did you mean 'semseg'"):
        weights.load(model, {}, layout="semsec")


def pspnet(aux=False, bins=(1, 2, 3, 6)):
    return models.PSPNet(3, backbone="resnet18", filters=4, aux=aux, bins=bins)


def test_an_auxiliary_head_may_stay_unused_but_not_half_used():
    with_aux = pspnet(aux=True)
    state = random_state(with_aux, "semseg")
    assert {"aux.0.weight", "aux.1.running_var", "aux.4.bias"} <= set(state)
    report = weights.load(pspnet(), state, "semseg")
    heads = {name for name in report.ignored if not name.endswith("num_batches_tracked")}
    assert heads == {n for n in state if n.startswith("aux.") and "num_batches" not in n}
    state["aux.7.weight"] = np.zeros(1)
    with pytest.raises(ValueError, match="left over.*aux.7.weight"):
        weights.load(with_aux, state, "semseg")


def test_pyramid_levels_are_numbered_in_the_order_of_the_bins():
    model = pspnet(bins=(6, 1))
    state = random_state(model, "semseg")
    weights.load(model, state, "semseg")
    np.testing.assert_array_equal(
        model.get_layer("ppm6_conv").kernel,
        state["ppm.features.0.1.weight"].transpose(2, 3, 1, 0),
    )
    np.testing.assert_array_equal(
        model.get_layer("ppm1_bn").gamma, state["ppm.features.1.2.weight"]
    )


@pytest.mark.parametrize("layout", ["caffe", "wkentaro"])
def test_bilinear_kernels_stay_as_they_are(layout):
    model = models.FCN8s(2, filters=2, fc_channels=4)
    state = {}
    for layer in model.layers:
        if layer.weights and not layer.name.startswith("upscore"):
            kernel = layer.kernel.shape
            state[f"{layer.name}.weight"] = RNG.normal(size=(*kernel[:1:-1], *kernel[:2]))
            state[f"{layer.name}.bias"] = RNG.normal(size=layer.bias.shape)
    before = np.array(model.get_layer("upscore8").kernel)
    state["upscore8.weight"] = np.zeros((2, 2, 16, 16))
    report = weights.load(model, state, layout=layout)
    assert set(report.kept) == {"upscore2", "upscore_pool4", "upscore8"}
    assert report.ignored == ("upscore8.weight",)
    np.testing.assert_array_equal(model.get_layer("upscore8").kernel, before)


def test_depthwise_and_dense_layers_compute_what_torch_computes(monkeypatch):
    """Against the definitions, in NumPy: y[c] = sum x[c] * w[c, 0], then y = W x + b."""
    layout = Layout("a test", lambda layers: {name: name for name in layers})
    monkeypatch.setitem(weights.LAYOUTS, "plain", layout)
    model = keras.Sequential(
        [
            keras.Input((3, 5, 4)),
            keras.layers.DepthwiseConv2D((3, 5), use_bias=False, name="depthwise"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, name="dense"),
        ]
    )
    state = {
        "depthwise.weight": RNG.normal(size=(4, 1, 3, 5)),
        "dense.weight": RNG.normal(size=(2, 4)),
        "dense.bias": RNG.normal(size=2),
    }
    weights.load(model, state, layout="plain")
    x = RNG.normal(size=(4, 3, 5))
    expected = (x * state["depthwise.weight"][:, 0]).sum((1, 2))
    expected = state["dense.weight"] @ expected + state["dense.bias"]
    got = model(x.transpose(1, 2, 0)[None].astype("float32"))
    np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-5)


def test_a_layer_without_a_rule_is_named(monkeypatch):
    layout = Layout("a test", lambda layers: {name: name for name in layers})
    monkeypatch.setitem(weights.LAYOUTS, "plain", layout)
    model = keras.Sequential([keras.Input((4, 2)), keras.layers.GRU(2, name="memory")])
    with pytest.raises(ValueError, match="Cannot import .*memory/.*GRU"):
        weights.load(model, {"memory.weight": np.zeros(1)}, layout="plain")
