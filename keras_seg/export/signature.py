"""Names in a `.tflite` file: of its input, of its outputs, and the signature that lists them."""

KEY = "serving_default"


def add_signature(content, outputs):
    """Name what a converted file takes and returns, the main output first.

    From a concrete function the converter makes a file without a signature, calls the outputs
    `Identity`, `Identity_1`, and lists them in the order of the alphabet.

    Args:
        content: the file, bytes.
        outputs: names of its outputs, in the order that they shall have.

    Returns:
        bytes of the file with the input `image`, these outputs, and the signature
        `serving_default`.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    graph = model.subgraphs[0]
    tensors = dict(zip(sorted(outputs), map(int, graph.outputs), strict=True))
    tensors = {name: tensors[name] for name in outputs}
    graph.outputs = list(tensors.values())
    signature = schema.SignatureDefT()
    signature.signatureKey = KEY.encode()
    signature.subgraphIndex = 0
    signature.inputs = [_entry(schema, "image", int(graph.inputs[0]))]
    signature.outputs = [_entry(schema, *item) for item in tensors.items()]
    model.signatureDefs = [signature]
    for entry in [*signature.inputs, *signature.outputs]:
        graph.tensors[entry.tensorIndex].name = entry.name
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _entry(schema, name, index):
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry
