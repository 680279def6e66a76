"""Weight files of other libraries, written with the formats' own libraries."""

import h5py
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

F = descriptor_pb2.FieldDescriptorProto

# The part of caffe.proto that weights need: message -> [(field, number, type, repeated)].
CAFFE = {
    "BlobShape": [("dim", 1, F.TYPE_INT64, True)],
    "BlobProto": [
        *((n, i, F.TYPE_INT32, False) for i, n in enumerate(("num", "channels"), 1)),
        *((n, i, F.TYPE_INT32, False) for i, n in enumerate(("height", "width"), 3)),
        ("data", 5, F.TYPE_FLOAT, True),
        ("diff", 6, F.TYPE_FLOAT, True),
        ("shape", 7, "BlobShape", False),
        ("double_data", 8, F.TYPE_DOUBLE, True),
    ],
    "LayerParameter": [
        ("name", 1, F.TYPE_STRING, False),
        ("type", 2, F.TYPE_STRING, False),
        ("bottom", 3, F.TYPE_STRING, True),
        ("loss_weight", 5, F.TYPE_FLOAT, True),
        ("blobs", 7, "BlobProto", True),
        ("phase", 10, F.TYPE_INT32, False),
    ],
    "V1LayerParameter": [
        ("bottom", 2, F.TYPE_STRING, True),
        ("name", 4, F.TYPE_STRING, False),
        ("type", 5, F.TYPE_INT32, False),
        ("blobs", 6, "BlobProto", True),
        ("blobs_lr", 7, F.TYPE_FLOAT, True),
    ],
    "NetParameter": [
        ("name", 1, F.TYPE_STRING, False),
        ("layers", 2, "V1LayerParameter", True),
        ("input", 3, F.TYPE_STRING, True),
        ("force_backward", 5, F.TYPE_BOOL, False),
        ("layer", 100, "LayerParameter", True),
    ],
}
V1_TYPES = {"Convolution": 4, "InnerProduct": 14, "Deconvolution": 39, "ReLU": 18, "BN": 43}


def _caffe():
    """The class NetParameter."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe")
    for name, fields in CAFFE.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = F.LABEL_REPEATED if repeated else F.LABEL_OPTIONAL
            if isinstance(kind, str):
                added = message.field.add(
                    name=field, number=number, label=label, type=F.TYPE_MESSAGE
                )
                added.type_name = f".caffe.{kind}"
                continue
            added = message.field.add(name=field, number=number, label=label, type=kind)
            added.options.packed = repeated and kind != F.TYPE_STRING and "Layer" not in name
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


NetParameter = _caffe()


def write_caffemodel(path, layers, *, v1=False, double=False):
    """Write [(name, type, blobs)]; `v1` as Caffe of 2014 did: other fields, shapes of four axes."""
    net = NetParameter(name="a net", input=["data"], force_backward=True)
    for name, kind, blobs in [("data", "ReLU", []), *layers]:
        if v1:
            layer = net.layers.add(name=name, type=V1_TYPES[kind], bottom=["x"], blobs_lr=[1, 2])
        else:
            layer = net.layer.add(name=name, type=kind, bottom=["x"], loss_weight=[1.0], phase=1)
        for array in blobs:
            blob = layer.blobs.add(diff=np.ones(2))
            getattr(blob, "double_data" if double else "data").extend(array.ravel())
            if v1:
                shape = (1, 1, 1, *array.shape)[-4:]
                blob.num, blob.channels, blob.height, blob.width = shape
            else:
                blob.shape.dim.extend(array.shape)
    path.write_bytes(net.SerializeToString())


def write_caffe_state(path, state, **options):
    """Write {"layer.weight": array}: layers with four axes are convolutions."""
    layers = {}
    for name, array in state.items():
        layers.setdefault(name.rpartition(".")[0], []).append(array)
    kinds = {4: "Convolution", 2: "InnerProduct", 1: "BN"}
    write_caffemodel(
        path, [(n, kinds[blobs[0].ndim], blobs) for n, blobs in layers.items()], **options
    )


def write_keras_1(path, layers, *, attributes=(), whole_model=False, names="{layer}_{variable}"):
    """Write {layer: {variable: array}} as Keras 1 and 2 did; `names` by their pattern."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        root.attrs["layer_names"] = [name.encode() for name in layers]
        root.attrs.update(dict(attributes))
        for layer, variables in layers.items():
            group = root.create_group(layer)
            stored = [names.format(layer=layer, variable=variable) for variable in variables]
            group.attrs["weight_names"] = [name.encode() for name in stored]
            for name, array in zip(stored, variables.values(), strict=True):
                group[name] = array
        if whole_model:
            file.create_group("optimizer_weights")["x"] = np.zeros(2)
