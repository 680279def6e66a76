"""Caffe's `.caffemodel` files without Caffe and without protobuf.

Such a file is one protobuf message: fields of a number and a value, some of which are messages
again. Of the network only the layers are read, of a layer the name, the type and the blobs, of a
blob the shape and the numbers (caffe.proto: NetParameter, LayerParameter, V1LayerParameter,
BlobProto). Nothing else in the file is looked at.
"""

import math

import numpy as np

from keras_seg.weights.checks import DAMAGE, check_size

# NetParameter's layers: field number -> (name, type, blobs) in a layer of that kind.
LAYERS = {
    100: (1, 2, 7),  # LayerParameter
    2: (4, 5, 6),  # V1LayerParameter, of 2014
}
EPSILON = 1e-5  # of our batch normalisation
# 43 is that of DeconvNet's fork; the others of 2014 have no layer with weights of this number.
V1_TYPES = {4: "Convolution", 14: "InnerProduct", 39: "Deconvolution", 43: "BN"}


def read(path, max_bytes):
    """{"layer.weight": array, "layer.bias": ...} of a `.caffemodel`.

    Arrays keep Caffe's axes, which are PyTorch's: (out, in, height, width), transposed convolutions
    (in, out, height, width), InnerProduct (out, in). The four numbers that a blob of 2014 has for a
    shape become as many axes as the layer needs.

    Of a BatchNorm layer come "layer.running_mean" and "layer.running_var", divided by the factor
    that Caffe stores beside them; its Scale layer has "weight" and "bias". A BN layer (of the forks
    for SegNet, DeconvNet and PSPNet) has "weight", "bias", "running_mean" and "running_var"; where
    only two are stored they are taken as those of a test network, whose statistics are already
    within them: mean 0, and 1 for the variance together with the epsilon of 1e-5 that `SegNet` and
    `DeconvNet` add. (With a variance of 1, the 26 layers of SegNet would be 1.3e-4 off.)

    Raises:
        ValueError: for a damaged file, one without weights, or one of more than `max_bytes`.
    """
    check_size(path, [path.stat().st_size], max_bytes)
    state = {}
    try:
        for number, message in _fields(memoryview(path.read_bytes())):
            if number not in LAYERS:
                continue
            name, kind, blobs = _layer(_bytes(message), *LAYERS[number])
            if any(key.rpartition(".")[0] == name for key in state) and blobs:
                raise ValueError(f"{path} has two layers {name!r} with weights.")
            state.update((f"{name}.{key}", blob) for key, blob in _named(kind, blobs).items())
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged or no .caffemodel: {error}.") from error
    if not state:
        raise ValueError(f"{path} holds no layers with weights.")
    return state


def _layer(message, name_field, type_field, blobs_field):
    """(name, type, arrays) of a layer."""
    name, kind, blobs = "", "", []
    for number, value in _fields(message):
        if number == name_field:
            name = str(_bytes(value), "utf-8")
        elif number == type_field:
            kind = V1_TYPES.get(value, "") if isinstance(value, int) else str(value, "utf-8")
        elif number == blobs_field:
            blobs.append(value)
    return name, kind, [_blob(_bytes(blob), i, kind) for i, blob in enumerate(blobs)]


def _blob(message, index, kind):
    """The numbers of a BlobProto in their shape."""
    shape, old_shape, data = None, [0, 0, 0, 0], {5: [], 8: []}
    for number, value in _fields(message):
        if number == 7:
            shape = [n for _, dims in _fields(_bytes(value)) for n in _dims(dims)]
        elif 1 <= number <= 4:
            old_shape[number - 1] = value
        elif number in data:
            data[number].append(_bytes(value))
    values = np.frombuffer(b"".join(data[5]), "<f4")
    if data[8]:
        values = np.frombuffer(b"".join(data[8]), "<f8")
    if shape is None:
        shape = old_shape
        if index > 0 or kind not in ("Convolution", "Deconvolution"):
            # The axes that a vector or a matrix does not need stand in front.
            used = next((i for i, n in enumerate(shape) if n != 1), 3)
            shape = shape[min(used, 2 if kind == "InnerProduct" and index == 0 else 3) :]
    if math.prod(shape) != values.size:
        raise OSError(f"a blob of shape {shape} has {values.size} numbers")
    return values.reshape(shape)


def _named(kind, blobs):
    """{name of the parameter: array} of a layer's blobs."""
    names = ("weight", "bias", "running_mean", "running_var")
    if kind == "BatchNorm" and len(blobs) == 3:
        mean, variance, factor = blobs
        factor = 1 / factor.item() if factor.item() else 0.0
        return {"running_mean": mean * factor, "running_var": variance * factor}
    if kind == "BN" and len(blobs) == 2:
        blobs = [*blobs, np.zeros_like(blobs[0]), np.full_like(blobs[0], 1 - EPSILON)]
    if kind != "BN":
        names = names[:2]
    named = dict(zip(names, blobs, strict=False))
    named.update((f"blob{i}", blob) for i, blob in enumerate(blobs) if i >= len(names))
    return {
        # Caffe's fork for SegNet stores vectors as (1, C, 1, 1).
        name: blob.reshape(-1) if kind in ("BN", "Scale") else blob
        for name, blob in named.items()
    }


def _fields(data):
    """(number, value) of each field: an int, or a memoryview of what has a length."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire_type == 2:
            length, position = _varint(data, position)
        elif wire_type in (1, 5):
            length = {1: 8, 5: 4}[wire_type]
        else:
            raise OSError(f"wire type {wire_type} of field {number}")
        if length > len(data) - position:
            raise OSError(f"it ends within field {number}")
        yield number, data[position : position + length]
        position += length


def _varint(data, position):
    """(number, position behind it): seven bits a byte, the lowest first."""
    value = 0
    for i in range(10):
        if position + i >= len(data):
            raise OSError("it ends within a number")
        byte = data[position + i]
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value, position + i + 1
    raise OSError("a number has more than ten bytes")


def _dims(value):
    """The numbers of a repeated field, which stand one by one or packed together."""
    if isinstance(value, int):
        return [value]
    dims, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        dims.append(number)
    return dims


def _bytes(value):
    if isinstance(value, int):
        raise OSError("a number stands where a message should be")
    return value
