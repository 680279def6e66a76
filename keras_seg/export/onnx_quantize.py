"""ONNX in int8, by onnxruntime's static quantiser, and nothing else of it outside this file.

The file is the float one with pairs of QuantizeLinear and DequantizeLinear ("QDQ") around what is
to be computed in int8; onnxruntime joins them with the operators when it loads the file, and other
runtimes read it too. Signed 8 bits on both sides: unsigned activations saturate on processors
without VNNI, where the same file would then give other labels.
"""

import collections
import math
import pathlib
import tempfile

import numpy as np

from keras_seg.export import logits_range, onnx_tidy
from keras_seg.export import onnx as onnx_file
from keras_seg.export.pictures import of_full_range


def write_float(graph, path):
    """Write the `StaticGraph` as an `.onnx` file in the form that the quantiser wants.

    Every node is called as its first output, so that each has a name, and one of its own.
    """
    import onnx
    from onnxruntime.quantization import quant_pre_process

    plain = path.with_suffix(".plain.onnx")
    onnx_file.write(graph, plain)
    # All sizes are known, so that the plain shape inference is enough.
    quant_pre_process(plain, path, skip_symbolic_shape=True)
    plain.unlink()
    proto = onnx.load(str(path))
    _fill_again(proto.graph)
    for node in proto.graph.node:
        node.name = node.output[0]
    onnx.save(proto, str(path))


def _fill_again(graph):
    """Planes of one value, which the preparation has computed, are made when the file is loaded, as
    `onnx_tidy.fill_instead_of_keeping` had left them."""
    import onnx

    for tensor in list(graph.initializer):
        readers = {node.op_type for node in graph.node if tensor.name in node.input}
        if math.prod(tensor.dims) <= onnx_tidy.LARGE or readers != {"Concat"}:
            continue
        array = onnx.numpy_helper.to_array(tensor)
        if (array == array.flat[0]).all():
            shape = onnx.numpy_helper.from_array(np.array(array.shape, "int64"), f"{tensor.name}/s")
            value = onnx.numpy_helper.from_array(array.reshape(-1)[:1])
            made = onnx.helper.make_node(
                "ConstantOfShape", [shape.name], [tensor.name], value=value
            )
            graph.initializer.remove(tensor)
            graph.initializer.append(shape)
            graph.node.insert(0, made)


def ranges(source, images):
    """The smallest and the largest value of every tensor that int8 rounds.

    Args:
        source: the file of `write_float`.
        images: float32 (1, H, W, C), run one at a time.

    Returns:
        What `quantize` takes.
    """
    import onnxruntime
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self._images = of_full_range(images)

        def get_next(self):
            image = next(self._images, None)
            return None if image is None else {"image": image}

    class Calibrater(quantization.MinMaxCalibrater):
        def create_inference_session(self):
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            # In the default order, what measures comes last and all tensors are kept until then,
            # 3 GB of an FC-DenseNet56 at 256 x 256; in that of the file, each right behind its
            # tensor, 0.5 GB.
            options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
            self.infer_session = onnxruntime.InferenceSession(
                self.augmented_model_path, options, providers=["CPUExecutionProvider"]
            )

    with tempfile.TemporaryDirectory() as folder:
        calibrater = Calibrater(
            pathlib.Path(source),
            _rounded_operators(),
            augmented_model_path=str(pathlib.Path(folder, "measuring.onnx")),
        )
        calibrater.augment_graph()
        calibrater.create_inference_session()
        calibrater.collect_data(Reader())
        return calibrater.compute_data()


def cut_logits(measured, source, outputs, limits):
    """Bring what `ranges` returned of the logits within limits, in place.

    Args:
        measured: what `ranges` returned.
        source: the file of `write_float`.
        outputs: names of its outputs.
        limits: (lowest, highest), see `keras_seg.export.logits_range`.
    """
    import onnx
    from onnxruntime.quantization.calibrate import TensorData

    nodes = onnx.load(str(source)).graph.node
    operators = [(node.op_type, list(node.input), list(node.output)) for node in nodes]
    for name in logits_range.tensors({output: output for output in outputs}, operators):
        low, high = (float(value.item()) for value in measured[name].range_value)
        low, high = (np.float32(n) for n in logits_range.cut(low, high, limits))
        measured[name] = TensorData(lowest=low, highest=high)


def quantize(source, path, measured, floats=()):
    """Write the file of `write_float` in int8.

    Args:
        source: that file.
        path: the new one.
        measured: what `ranges` returned for it.
        floats: names of nodes that stay in float.

    Raises:
        ValueError: if the file fails the full check of the `onnx` package.
    """
    import onnx
    from onnxruntime import quantization

    quantizer = quantization.QDQQuantizer(
        onnx.shape_inference.infer_shapes(onnx.load(str(source))),
        per_channel=True,
        reduce_range=False,
        weight_qType=quantization.QuantType.QInt8,
        activation_qType=quantization.QuantType.QInt8,
        tensors_range=measured,
        nodes_to_quantize=[],
        nodes_to_exclude=sorted(floats),
        op_types_to_quantize=_rounded_operators(),
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.save_model_to_file(str(path))
    onnx_file.check_whole(onnx.load(str(path)), "What onnxruntime's quantiser made")


def _rounded_operators():
    """All that the quantiser knows in int8."""
    from onnxruntime.quantization import registry

    return sorted({*registry.QLinearOpsRegistry, *registry.QDQRegistry})


def nodes(path):
    """[(names, operators, inputs that are no constants, first output)] of a file's operators.

    A ReLU is one with the operator before it, as in int8: apart, what is between them is rounded.
    """
    import onnx

    graph = onnx.load(str(path)).graph
    constants = {tensor.name for tensor in graph.initializer}
    readers = collections.Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    found = {}
    for node in graph.node:
        inputs = [name for name in node.input if name and name not in constants]
        names, operators = (node.name,), (node.op_type,)
        before = found.get(inputs[0]) if inputs else None
        if node.op_type in ("Relu", "Clip") and before and readers[inputs[0]] == 1:
            del found[inputs[0]]
            names, operators, inputs = before[0] + names, before[1] + operators, before[2]
        found[node.output[0]] = (names, operators, inputs, node.output[0])
    return list(found.values())


def values(path, image, names, keep):
    """{tensor: value as float32} of those of the tensors `names` that a file computes, rounded.

    image: or None, for the names alone; the values are None.
    keep: function of a tensor's array that returns what is wanted of it.
    """
    import onnx
    import onnxruntime

    proto = onnx.load(str(path))
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    made = {name for node in proto.graph.node for name in node.output}
    known = {i.name: i for i in [*inferred.value_info, *inferred.output] if i.name in made}
    returned = {output.name for output in proto.graph.output}
    # What the quantiser calls a tensor behind the pair that rounds it.
    behind = {name: f"{name}_DequantizeLinear_Output" for name in names}
    wanted = {n: behind[n] if behind[n] in known else n for n in names}
    wanted = {name: tensor for name, tensor in wanted.items() if tensor in known}
    if image is None:
        return dict.fromkeys(wanted)
    proto.graph.output.extend(known[t] for t in wanted.values() if t not in returned)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = session.run(list(wanted.values()), {"image": image})
    return {n: np.array(keep(v), "float32") for n, v in zip(wanted, found, strict=True)}
