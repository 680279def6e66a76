"""ONNX in int8, by onnxruntime's static quantiser, and nothing else of it outside this file.

The file is the float one with pairs of QuantizeLinear and DequantizeLinear ("QDQ") around what is
to be computed in int8; onnxruntime joins them with the operators when it loads the file, and other
runtimes read it too. Signed 8 bits on both sides: unsigned activations saturate on processors
without VNNI, where the same file would then give other labels.
"""

import pathlib

import numpy as np

from keras_seg.export import onnx as onnx_file


def write_float(graph, path):
    """Write the `StaticGraph` as an `.onnx` file in the form that the quantiser wants."""
    from onnxruntime.quantization import quant_pre_process

    plain = path.with_suffix(".plain.onnx")
    onnx_file.write(graph, plain)
    # All sizes are known, so that the plain shape inference is enough.
    quant_pre_process(plain, path, skip_symbolic_shape=True)
    plain.unlink()


def quantize(source, path, images, floats=()):
    """Write the file of `write_float` in int8.

    Args:
        source: that file.
        path: the new one.
        images: float32 (1, H, W, C), from which the ranges are measured, one at a time.
        floats: names of nodes that stay in float.

    Raises:
        ValueError: if the file fails the full check of the `onnx` package.
    """
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self._images = iter(images)

        def get_next(self):
            image = next(self._images, None)
            return None if image is None else {"image": image}

    quantization.quantize_static(
        pathlib.Path(source),
        path,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        nodes_to_exclude=sorted(floats),
    )
    proto = onnx.load(str(path))
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(
            f"onnxruntime's quantiser wrote a file that is not valid: {error}"
        ) from error


def nodes(path):
    """[(name, operator, inputs, outputs)] of the nodes of a file, without constant inputs."""
    import onnx

    graph = onnx.load(str(path)).graph
    constants = {tensor.name for tensor in graph.initializer}
    return [
        (n.name, n.op_type, [i for i in n.input if i and i not in constants], list(n.output))
        for n in graph.node
    ]


def values(path, image, names):
    """{tensor: value as float32} of those of the tensors `names` that a file computes."""
    import onnx
    import onnxruntime

    proto = onnx.load(str(path))
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    known = {info.name: info for info in [*inferred.value_info, *inferred.output]}
    returned = {output.name for output in proto.graph.output}
    wanted = [name for name in names if name in known]
    proto.graph.output.extend(known[name] for name in wanted if name not in returned)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = session.run(wanted, {"image": image})
    return {n: np.asarray(v, "float32") for n, v in zip(wanted, found, strict=True)}
