"""Files of arrays: each kind read exactly, damage and code refused with the file's name."""

import os
import pathlib
import pickle
import struct
import zipfile

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file as save_safetensors
from weight_writers import write_caffemodel, write_keras_1

from keras_seg import models, weights
from keras_seg.weights import files

# Written by PyTorch 2.13 and 2.15: torch.save of arrays (arange / 4 - 1), of a checkpoint, ...
TORCH_FILES = pathlib.Path(__file__).parent / "torch_files"
ARRAYS = {"a.weight": np.arange(6, dtype="float32").reshape(2, 3), "count": np.array(3)}


def ramp(*shape):
    return (np.arange(np.prod(shape)) / 4 - 1).reshape(shape).astype("float32")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    state = weights.read_state(tmp_path / "a.npz")
    assert state.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(state[name], array)


def test_npz_with_objects_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(ValueError, match="a.npz.*allow_pickle"):
        weights.read_state(tmp_path / "a.npz")


def test_safetensors(tmp_path):
    arrays = {**ARRAYS, "half": ramp(2, 3).astype(ml_dtypes.bfloat16)}
    save_safetensors(arrays, tmp_path / "a.safetensors")
    state = weights.read_state(tmp_path / "a.safetensors")
    assert state.keys() == arrays.keys()
    np.testing.assert_array_equal(state["a.weight"], ARRAYS["a.weight"])
    np.testing.assert_array_equal(state["half"], ramp(2, 3))
    assert state["half"].dtype == "float32"


@pytest.mark.parametrize("name", ["types.pth", "types_old.pth"])
def test_torch_file_of_every_type_and_layout(name):
    """As a zip archive, and as the stream that PyTorch before 1.6 wrote."""
    state = weights.read_state(TORCH_FILES / name)
    plain = ("float32", "float64", "float16", "bfloat16", "parameter")
    expected = {
        **{name: ramp(2, 3) for name in plain},
        "int64": np.arange(6).reshape(2, 3),
        "uint8": np.arange(6).reshape(2, 3),
        "bool": np.array([True, False]),
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 3)),
        "transposed": ramp(2, 3).T,
        "sliced": ramp(4, 6)[1:3, 2:6:2],
        "channels_last": ramp(1, 2, 2, 3),
    }
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)
    for name in ("float32", "float64", "float16", "int64", "uint8", "bool"):
        assert state[name].dtype == name
    assert state["bfloat16"].dtype == "float32"


@pytest.mark.parametrize("name", ["checkpoint.pth", "checkpoint_old.pth.tar"])
def test_torch_checkpoint_gives_the_state_of_the_model(name):
    """Not the optimizer's, although it holds tensors too."""
    state = weights.read_state(TORCH_FILES / name)
    assert list(state)[:2] == ["module.0.weight", "module.0.bias"]
    assert len(state) == 7
    np.testing.assert_array_equal(state["module.0.weight"], ramp(3, 2, 3, 3) + 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("script.pt", "TorchScript program"),
        ("whole_model.pth", "names torch.nn.modules.linear.Linear.*nothing of the file was run"),
        ("whole_model_old.pth", "names torch.nn.modules.linear.Linear.*nothing of the file was"),
        ("sparse.pth", "names torch._utils._rebuild_sparse_tensor"),
        ("expanded.pth", r"shape \(1000, 2\).*save it contiguous"),
    ],
)
def test_torch_files_of_other_kinds_are_refused(name, message):
    with pytest.raises(ValueError, match=message) as error:
        weights.read_state(TORCH_FILES / name)
    assert name in str(error.value)


def write_torch(path, content, storages=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", content)
        for key, raw in enumerate(storages):
            archive.writestr(f"archive/data/{key}", raw)


def tensor_pickle(count, offset, shape, strides):
    """The pickle of {"a": tensor}, opcode by opcode: nothing here has to import PyTorch."""

    def numbers(values):
        return b"(" + b"".join(b"I%d\n" % value for value in values) + b"t"

    storage = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    )
    return (
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n("
        + (storage + b"I%d\ntQ" % count)
        + (b"I%d\n" % offset + numbers(shape) + numbers(strides) + b"\x89N")
        + b"tRs."
    )


def test_a_tensor_may_not_reach_beyond_its_bytes(tmp_path):
    raw = ramp(6).tobytes()
    path = tmp_path / "a.pth"
    write_torch(path, tensor_pickle(6, 0, (2, 3), (3, 1)), [raw])
    np.testing.assert_array_equal(weights.read_state(path)["a"], ramp(2, 3))
    for offset, shape, strides in [
        (1, (2, 3), (3, 1)),
        (0, (2, 3), (4, 1)),
        (7, (), ()),
        (0, (2, 3), (1 << 70, 1)),
    ]:
        write_torch(path, tensor_pickle(6, offset, shape, strides), [raw])
        with pytest.raises(ValueError, match="a.pth.*reaches beyond its 6 numbers"):
            weights.read_state(path)
    for shape, strides in [((0, 1 << 70), (1, 1)), ((1,), (1 << 70,))]:
        write_torch(path, tensor_pickle(6, 0, shape, strides), [raw])
        with pytest.raises(ValueError, match="a.pth is damaged"):
            weights.read_state(path)
    write_torch(path, tensor_pickle(6, 0, (2, 3), (-3, 1)), [raw])
    with pytest.raises(ValueError, match="a.pth.*other than numbers"):
        weights.read_state(path)
    write_torch(path, tensor_pickle(7, 0, (2, 3), (3, 1)), [raw])
    with pytest.raises(ValueError, match="a needs 7 numbers, there are 6"):
        weights.read_state(path)


def write_stream(path, tensors, keys, storages, machine=b"X\x0d\x00\x00\x00little_endian\x88s"):
    """A file of PyTorch before 1.6 of pickles and (count, raw bytes)."""
    magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
    parts = [magic, pickle.dumps(1001, 2), b"\x80\x02}" + machine + b".", tensors]
    parts.append(pickle.dumps(keys, 2))
    parts += [struct.pack("<q", count) + raw for count, raw in storages]
    path.write_bytes(b"".join(parts))


def test_views_that_python_2_and_pytorch_0_3_wrote(tmp_path):
    """Names as byte strings, `_rebuild_tensor`, and parts of one storage: rows 1 and 2 of three."""
    view = (
        b"\x80\x02}U\x01actorch._utils\n_rebuild_tensor\n(("
        b"U\x07storagectorch\nFloatStorage\nU\x0210U\x03cpuK\x09(U\x0211K\x03K\x06ttQ"
        b"K\x00K\x02K\x03\x86K\x03K\x01\x86tRs."
    )
    path = tmp_path / "a.pth"
    write_stream(path, view, ["10"], [(9, ramp(9).tobytes())])
    np.testing.assert_array_equal(weights.read_state(path)["a"], ramp(3, 3)[1:])
    write_stream(path, view.replace(b"K\x03K\x06tt", b"K\x04K\x06tt"), ["10"], [(9, bytes(36))])
    with pytest.raises(
        ValueError, match="a.pth describes the bytes of a tensor by something impossible"
    ):
        weights.read_state(path)
    write_stream(path, view, ["10", "12"], [(9, bytes(36))])
    with pytest.raises(ValueError, match="a.pth is damaged: it lists other bytes"):
        weights.read_state(path)
    for count, raw in [(9, bytes(32)), (8, bytes(36)), (-1, b"")]:
        write_stream(path, view, ["10"], [(count, raw)])
        with pytest.raises(ValueError, match="a.pth is damaged: it ends early or a length is"):
            weights.read_state(path)
    big_endian = b"X\x0d\x00\x00\x00little_endian\x89s"
    write_stream(path, view, ["10"], [(9, bytes(36))], big_endian)
    with pytest.raises(ValueError, match="a.pth was written on a big-endian machine"):
        weights.read_state(path)


def test_a_pickle_cannot_ask_for_a_huge_memo(tmp_path):
    """LONG_BINPUT of the last entry: the reader would fill 64 GB with nothing."""
    write_torch(tmp_path / "a.pth", b"\x80\x02}r\xff\xff\xff\xff.")
    with pytest.raises(ValueError, match="a.pth is damaged: .*the memo has no entry"):
        weights.read_state(tmp_path / "a.pth")


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    write_torch(path, tensor_pickle(6, 0, (6,), (1,)), [bytes(24)], zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="missing or compressed"):
        weights.read_state(path)
    monkeypatch.setattr(files, "MAX_BYTES", 20)
    write_torch(path, tensor_pickle(6, 0, (6,), (1,)), [bytes(24)])
    with pytest.raises(ValueError, match="a.pth holds more than 20 bytes"):
        weights.read_state(path)
    # A view of five numbers in twelve.
    write_torch(path, tensor_pickle(12, 0, (5,), (1,)), [bytes(48)])
    with pytest.raises(ValueError, match="a.pth holds 48 bytes; at most 20"):
        weights.read_state(path)
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(1000))
    with pytest.raises(ValueError, match="a.npz holds .* bytes; at most 20"):
        weights.read_state(tmp_path / "a.npz")
    small_network().save(tmp_path / "a.keras")
    with pytest.raises(ValueError, match="a.keras holds .* bytes; at most 20"):
        weights.read_state(tmp_path / "a.keras")


def test_what_the_header_of_an_npz_claims_is_not_believed(tmp_path):
    for shape in ("(1099511627776,)", f"({2**70},)", f"(0, {2**70})"):
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
        array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("a.npy", array)
        with pytest.raises(ValueError, match="a.npz is damaged"):
            weights.read_state(tmp_path / "a.npz")


def kernels(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


@pytest.mark.parametrize("v1", [False, True])
@pytest.mark.parametrize("double", [False, True])
def test_caffemodel(tmp_path, v1, double):
    """Layers of today and of 2014, whose shapes all have four axes."""
    conv, bias, dense, dense_bias, up, single = kernels(
        (5, 3, 7, 7), (5,), (4, 6), (4,), (2, 2, 4, 4), (1, 6, 1, 1)
    )
    layers = [
        ("conv1/7x7", "Convolution", [conv, bias]),
        ("fc8", "InnerProduct", [dense, dense_bias]),
        ("upscore", "Deconvolution", [up]),
        ("single", "Convolution", [single, bias[:1]]),
    ]
    write_caffemodel(tmp_path / "a.caffemodel", layers, v1=v1, double=double)
    expected = {
        "conv1/7x7.weight": conv,
        "conv1/7x7.bias": bias,
        "fc8.weight": dense,
        "fc8.bias": dense_bias,
        "upscore.weight": up,
        "single.weight": single,
        "single.bias": bias[:1],
    }
    state = weights.read_state(tmp_path / "a.caffemodel")
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)


def test_normalisation_of_caffe(tmp_path):
    """BatchNorm stores sums and their number; BN of the forks stores all, or scale and shift."""
    mean, variance, scale, shift = kernels((3,), (3,), (3,), (3,))
    column = (1, 3, 1, 1)
    layers = [
        ("bn1", "BatchNorm", [8 * mean, 8 * variance, np.array([8.0])]),
        ("scale1", "Scale", [scale, shift]),
        ("bn2", "BN", [a.reshape(column) for a in (scale, shift, mean, variance)]),
        ("bn3", "BN", [scale.reshape(column), shift.reshape(column)]),
    ]
    write_caffemodel(tmp_path / "a.caffemodel", layers)
    state = weights.read_state(tmp_path / "a.caffemodel")
    expected = {
        "bn1.running_mean": mean,
        "bn1.running_var": variance,
        "scale1.weight": scale,
        "scale1.bias": shift,
        "bn2.weight": scale,
        "bn2.bias": shift,
        "bn2.running_mean": mean,
        "bn2.running_var": variance,
        "bn3.weight": scale,
        "bn3.bias": shift,
        "bn3.running_mean": np.zeros(3),
        "bn3.running_var": np.full(3, 1 - 1e-5),
    }
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(state[name], array, rtol=1e-6, err_msg=name)


def test_normalisation_of_deconvnet(tmp_path):
    """Its fork is of 2014: layers of type 43 (its caffe.proto), vectors of four axes."""
    scale, shift = kernels((3,), (3,))
    layers = [("bn1_1", "BN", [a.reshape(1, 3, 1, 1) for a in (scale, shift)])]
    write_caffemodel(tmp_path / "a.caffemodel", layers, v1=True)
    state = weights.read_state(tmp_path / "a.caffemodel")
    assert {name: array.shape for name, array in state.items()} == {
        f"bn1_1.{part}": (3,) for part in ("weight", "bias", "running_mean", "running_var")
    }
    np.testing.assert_array_equal(state["bn1_1.weight"], scale)
    np.testing.assert_array_equal(state["bn1_1.bias"], shift)


def test_scale_and_shift_alone_are_the_whole_normalisation(tmp_path):
    """As in the released networks of SegNet: y = scale x + shift, layer for layer."""
    rng = np.random.default_rng(0)
    model = models.SegNetBasic(3, filters=4, preprocessing="none", input_norm=None)
    layers, folded = [], {}
    for layer in model.layers:
        if layer.name.startswith("conv") or layer.name == "logits":
            name = "dense_softmax_inner_prod" if layer.name == "logits" else layer.name
            kernel, bias = (np.asarray(w) for w in layer.weights)
            layers.append((name, "Convolution", [kernel.transpose(3, 2, 0, 1), bias]))
        elif layer.name.startswith("bn"):
            scale, shift = rng.uniform(0.5, 2, 4), rng.uniform(-1, 1, 4)
            layers.append((f"conv{layer.name[2:]}_bn", "BN", [scale, shift]))
            folded[layer.name] = scale, shift
    write_caffemodel(tmp_path / "a.caffemodel", layers)
    weights.load(model, tmp_path / "a.caffemodel", layout="segnet")
    for name, (scale, shift) in folded.items():
        x = rng.normal(size=(1, 2, 3, 4)).astype("float32")
        got = model.get_layer(name)(x, training=False)
        np.testing.assert_allclose(got, scale * x + shift, rtol=1e-6, atol=1e-6)


def test_caffemodel_that_cannot_be_right(tmp_path):
    path = tmp_path / "a.caffemodel"
    write_caffemodel(path, [("conv", "Convolution", [ramp(2, 3)])] * 2)
    with pytest.raises(ValueError, match="a.caffemodel has two layers 'conv'"):
        weights.read_state(path)
    write_caffemodel(path, [])
    with pytest.raises(ValueError, match="a.caffemodel holds no layers with weights"):
        weights.read_state(path)
    path.write_text('name: "the description of a net, not its weights"')
    with pytest.raises(ValueError, match="a.caffemodel is damaged or no .caffemodel"):
        weights.read_state(path)
    # One blob whose shape claims 2**62 numbers.
    shape = b"\x3a\x0b\x0a\x09" + b"\x80" * 8 + b"\x40"
    blob = shape + b"\x2a\x04" + bytes(4)
    layer = b"\x0a\x01c" + b"\x3a" + bytes([len(blob)]) + blob
    path.write_bytes(b"\xa2\x06" + bytes([len(layer)]) + layer)
    with pytest.raises(ValueError, match="a.caffemodel is damaged .* has 1 numbers"):
        weights.read_state(path)


OLD_NAMES = {"Keras 1": "{layer}_{variable}", "Keras 1, used twice": "{layer}_{variable}_1:0"}


@pytest.mark.parametrize("names", OLD_NAMES.values(), ids=OLD_NAMES)
@pytest.mark.parametrize("whole_model", [False, True])
def test_names_of_keras_1(tmp_path, names, whole_model):
    kernel, bias, gamma, beta, mean, variance = kernels((3, 3, 2, 17), *[(17,)] * 5)
    layers = {
        "conv_b": {"W": kernel, "b": bias},
        "bn_conv1": {"gamma": gamma, "beta": beta, "running_mean": mean, "running_std": variance},
    }
    path = tmp_path / "a.h5"
    write_keras_1(path, layers, whole_model=whole_model, names=names)
    expected = {
        "conv_b/kernel": kernel,
        "conv_b/bias": bias,
        "bn_conv1/gamma": gamma,
        "bn_conv1/beta": beta,
        "bn_conv1/moving_mean": mean,
        "bn_conv1/moving_variance": variance,
    }
    state = weights.read_state(path)
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)


def test_names_of_keras_2_and_an_inner_model(tmp_path):
    kernel, bias = kernels((3, 3, 2, 17), (17,))
    layers = {"conv": {"kernel": kernel, "bias": bias}}
    write_keras_1(tmp_path / "a.h5", layers, names="{layer}/{variable}:0")
    assert weights.read_state(tmp_path / "a.h5").keys() == {"conv/kernel", "conv/bias"}
    inner = {"trunk": {"one/kernel": kernel, "two/kernel": kernel, "two/bias": bias}}
    write_keras_1(tmp_path / "a.h5", inner, names="{variable}:0")
    names = {"one/kernel", "two/kernel", "two/bias"}
    assert weights.read_state(tmp_path / "a.h5").keys() == names


@pytest.mark.parametrize(
    ("name", "options", "theano_order", "turned"),
    [
        ("vgg_th_dim_ordering_th_kernels.h5", {}, True, True),
        ("vgg_th_dim_ordering_tf_kernels.h5", {}, True, False),
        ("vgg_tf_dim_ordering_th_kernels.h5", {}, False, True),
        ("vgg_tf_dim_ordering_tf_kernels.h5", {}, False, False),
        ("mine.h5", {}, True, True),
        ("mine.h5", {}, False, False),
        ("mine.h5", {"flip_kernels": False}, True, False),
        ("mine.h5", {"flip_kernels": True}, False, True),
        ("mine.h5", {"backend": b"theano"}, False, True),  # Keras 2 has one order of axes
        ("mine.h5", {"backend": b"tensorflow"}, True, False),
    ],
)
def test_kernels_of_theano(tmp_path, name, options, theano_order, turned):
    """A convolution of Theano is a true one: its kernel is turned by 180 degrees."""
    conv, bias, dense, last = kernels((3, 3, 4, 16), (16,), (2 * 2 * 16, 5), (5, 5))
    stored = conv[::-1, ::-1] if turned else conv
    flat = dense
    if theano_order:
        stored = stored.transpose(3, 2, 0, 1)
        flat = dense.reshape(2, 2, 16, 5).transpose(2, 0, 1, 3).reshape(64, 5)
    layers = {"z_conv": {"W": stored, "b": bias}, "fc1": {"W": flat}, "fc2": {"W": last}}
    options = dict(options)
    attributes = {k: options.pop(k) for k in ("backend",) if k in options}
    write_keras_1(tmp_path / name, layers, attributes=attributes)
    state = weights.read_state(tmp_path / name, **options)
    expected = {"z_conv/kernel": conv, "z_conv/bias": bias, "fc1/kernel": dense, "fc2/kernel": last}
    assert state.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(state[key], array, err_msg=key)


def test_a_map_of_theano_that_is_not_square_is_refused(tmp_path):
    layers = {"conv": {"W": ramp(16, 4, 3, 3)}, "fc1": {"W": ramp(2 * 3 * 16, 5)}}
    write_keras_1(tmp_path / "a.h5", layers)
    with pytest.raises(ValueError, match="a.h5 has Theano's order .* fc1/kernel of 96 rows"):
        weights.read_state(tmp_path / "a.h5")


def small_network():
    return keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            keras.layers.Conv2D(3, 3, name="conv"),
            keras.layers.BatchNormalization(name="bn"),
        ],
        name="small",
    )


def test_files_that_keras_3_writes(tmp_path):
    model = small_network()
    expected = {
        f"{layer.name}/{i}": np.array(v)
        for layer in model.layers
        for i, v in enumerate(layer.weights)
    }
    for name in ("a.keras", "a.weights.h5"):
        model.save(tmp_path / name) if name == "a.keras" else model.save_weights(tmp_path / name)
        state = weights.read_state(tmp_path / name)
        assert state.keys() == expected.keys()
        for key, array in expected.items():
            np.testing.assert_array_equal(state[key], array, err_msg=key)
    model.save(tmp_path / "a.h5")
    state = weights.read_state(tmp_path / "a.h5")
    assert [*state] == [
        *("conv/bias", "conv/kernel"),
        *(f"bn/{variable}" for variable in ("beta", "gamma", "moving_mean", "moving_variance")),
    ]
    np.testing.assert_array_equal(state["conv/kernel"], model.get_layer("conv").kernel)


def test_h5_files_with_something_else_in_them(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="a.h5 holds no weights of a Keras model"):
        weights.read_state(path)
    write_keras_1(tmp_path / "secret.h5", {"conv": {"W": ramp(3)}})
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        file["conv"] = h5py.ExternalLink("secret.h5", "/conv")
    with pytest.raises(ValueError, match="a.h5 is damaged: it has no layer conv"):
        weights.read_state(path)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        group = file.create_group("conv")
        group.create_dataset("conv_W", (3,), "f4", external=[("secret.h5", 0, 12)])
    with pytest.raises(ValueError, match="a.h5 is damaged: /conv holds something other"):
        weights.read_state(path)
    with h5py.File(path, "w") as file:  # 4 TB of zeros, in a file of a few kB
        file.attrs["layer_names"] = [b"conv"]
        file.create_group("conv").create_dataset("conv_W", (2**40,), "f4", chunks=(2**20,))
    with pytest.raises(ValueError, match="a.h5 holds 4398046511104 bytes; at most"):
        weights.read_state(path)


@pytest.mark.parametrize("name", ["a.h5", "a.keras"])
def test_files_of_keras_that_end_early(tmp_path, name):
    path = tmp_path / name
    small_network().save(path)
    whole = path.read_bytes()
    for length in range(1, len(whole), len(whole) // 40):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"{name} .*is damaged"):
            weights.read_state(path)


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.system, (f"touch {self.marker}",))


@pytest.mark.parametrize("stream", [False, True])
def test_code_in_a_torch_file_does_not_run(tmp_path, stream):
    marker = tmp_path / "ran"
    content = pickle.dumps({"a": Payload(marker)})
    if stream:
        write_stream(tmp_path / "a.pth", content, [], [])
    else:
        write_torch(tmp_path / "a.pth", content)
    with pytest.raises(ValueError, match=r"a.pth names \w+.system, which is no part of a state"):
        weights.read_state(tmp_path / "a.pth")
    assert not marker.exists()


def test_an_object_of_the_reader_cannot_be_changed_by_the_pickle(tmp_path):
    """The opcode BUILD sets attributes: here the tensor's shape, after it was checked."""
    built = tensor_pickle(6, 0, (2, 3), (3, 1))[:-2] + b"}X\x05\x00\x00\x00shapeI9\nsbs."
    write_torch(tmp_path / "a.pth", built, [ramp(6).tobytes()])
    with pytest.raises(ValueError, match="a.pth changes an object"):
        weights.read_state(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"state_dict": {"a": "b"}}], ids=str)
def test_a_file_without_tensors(tmp_path, content):
    write_torch(tmp_path / "a.pth", pickle.dumps(content))
    with pytest.raises(ValueError, match="a.pth holds no state of a model"):
        weights.read_state(tmp_path / "a.pth")


def test_other_kinds_and_missing_files(tmp_path):
    with pytest.raises(ValueError, match="Unknown kind of weight file in .*a.ckpt"):
        weights.read_state(tmp_path / "a.ckpt")
    for name in ("a.npz", "a.pth", "a.safetensors", "a.caffemodel", "a.h5", "a.keras"):
        with pytest.raises(ValueError, match=f"No weight file at .*{name}"):
            weights.read_state(tmp_path / name)
    (tmp_path / "a.pth").write_text("no such thing")
    with pytest.raises(ValueError, match="a.pth is damaged or no file of torch.save"):
        weights.read_state(tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="a.pth is a pickle, but not one of torch.save"):
        weights.read_state(tmp_path / "a.pth")


@pytest.mark.parametrize("value", [None, True, 3, ""])
def test_what_is_no_path_is_named(value):
    with pytest.raises(ValueError, match=f"Expected the path of a weight file, got {value!r}"):
        weights.read_state(value)


def write_any(path):
    """A good file of the kind that the suffix says."""
    if path.suffix == ".npz":
        np.savez_compressed(path, **ARRAYS)
    elif path.suffix == ".safetensors":
        save_safetensors(ARRAYS, path)
    elif path.suffix == ".pth":
        name = "types_old.pth" if path.stem == "old" else "types.pth"
        path.write_bytes((TORCH_FILES / name).read_bytes())
    else:
        write_caffemodel(path, [(f"conv{i}", "Convolution", [ramp(2, 2)]) for i in range(9)])


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors", "a.pth", "old.pth", "a.caffemodel"])
def test_any_damage_is_a_value_error_that_names_the_file(tmp_path, name):
    """Cut short, or a few bytes overwritten: read as before, or refused; no other exception."""
    path = tmp_path / name
    write_any(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(
            whole[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else whole
        )
        for _ in range(rng.integers(1, 20)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            weights.read_state(path)
        except ValueError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 75
