"""Files of arrays: each kind read exactly, damage and code refused with the file's name."""

import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest

from keras_seg import weights
from keras_seg.weights import files

# Written by PyTorch 2.15: torch.save of arrays (arange / 4 - 1), of a training checkpoint, ...
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
    numpy_format = pytest.importorskip("safetensors.numpy")
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    arrays = {**ARRAYS, "half": ramp(2, 3).astype(bfloat16)}
    numpy_format.save_file(arrays, tmp_path / "a.safetensors")
    state = weights.read_state(tmp_path / "a.safetensors")
    assert state.keys() == arrays.keys()
    np.testing.assert_array_equal(state["a.weight"], ARRAYS["a.weight"])
    np.testing.assert_array_equal(state["half"], ramp(2, 3))
    assert state["half"].dtype == "float32"


def test_torch_file_of_every_type_and_layout():
    state = weights.read_state(TORCH_FILES / "types.pth")
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


def test_torch_checkpoint_gives_the_state_of_the_model():
    """Not the optimizer's, although it holds tensors too."""
    state = weights.read_state(TORCH_FILES / "checkpoint.pth")
    assert list(state)[:2] == ["module.0.weight", "module.0.bias"]
    assert len(state) == 7
    np.testing.assert_array_equal(state["module.0.weight"], ramp(3, 2, 3, 3) + 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("old_format.pth", "before PyTorch 1.6. Convert"),
        ("script.pt", "TorchScript program"),
        ("whole_model.pth", "names torch.nn.modules.linear.Linear.*nothing of the file was run"),
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
        (0, (2, 3), (1 << 62, 1)),
    ]:
        write_torch(path, tensor_pickle(6, offset, shape, strides), [raw])
        with pytest.raises(ValueError, match="a.pth.*reaches beyond its 6 numbers"):
            weights.read_state(path)
    write_torch(path, tensor_pickle(6, 0, (2, 3), (-3, 1)), [raw])
    with pytest.raises(ValueError, match="a.pth.*other than numbers"):
        weights.read_state(path)
    write_torch(path, tensor_pickle(7, 0, (2, 3), (3, 1)), [raw])
    with pytest.raises(ValueError, match="a needs 7 numbers, there are 6"):
        weights.read_state(path)


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    write_torch(path, tensor_pickle(6, 0, (6,), (1,)), [bytes(24)], zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="missing or compressed"):
        weights.read_state(path)
    monkeypatch.setattr(files, "MAX_BYTES", 20)
    write_torch(path, tensor_pickle(6, 0, (6,), (1,)), [bytes(24)])
    with pytest.raises(ValueError, match="a.pth holds more than 20 bytes"):
        weights.read_state(path)
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(1000))
    with pytest.raises(ValueError, match="a.npz holds .* bytes; at most 20"):
        weights.read_state(tmp_path / "a.npz")


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.system, (f"touch {self.marker}",))


def test_code_in_a_torch_file_does_not_run(tmp_path):
    marker = tmp_path / "ran"
    write_torch(tmp_path / "a.pth", pickle.dumps({"a": Payload(marker)}))
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
    with pytest.raises(ValueError, match="weights= or to keras_seg.weights.load_own"):
        weights.read_state(tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match="Unknown kind of weight file in .*a.caffemodel"):
        weights.read_state(tmp_path / "a.caffemodel")
    for name in ("a.npz", "a.pth", "a.safetensors"):
        with pytest.raises(ValueError, match=f"No weight file at .*{name}"):
            weights.read_state(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
def test_any_damage_is_a_value_error_that_names_the_file(tmp_path, suffix):
    """Cut short, or a few bytes overwritten: read as before, or refused; no other exception."""
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, **ARRAYS)
    elif suffix == ".safetensors":
        pytest.importorskip("safetensors.numpy").save_file(ARRAYS, path)
    else:
        path.write_bytes((TORCH_FILES / "types.pth").read_bytes())
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
