"""One small interface to a network, whatever it is stored in.

`load_runner` takes a Keras model, a `.keras`, `.tflite` or `.onnx` file, or a SavedModel folder,
and returns a `Runner`: plain pixels in, logits out. A file's reader is imported when it is needed.
"""

import abc
import contextlib
import importlib
import os
import pathlib
import re
import threading
import warnings
import zipfile

import keras
import numpy as np

from keras_seg.inference.manifest import checked_manifest
from keras_seg.layers import inference_model, of_one_image
from keras_seg.utils import unknown_name

_SUFFIXES = (".keras", ".tflite", ".onnx")
# What the main output of a file may be called, see `Runner.output`; the first that it has counts.
OUTPUTS = ("logits", "logits_lowres", "probabilities", "labels")


def load_runner(model_or_path, *, num_threads=None):
    """The `Runner` of a Keras model or of a model on disk.

    Args:
        model_or_path: a `keras.Model`; a `.keras`, `.tflite` or `.onnx` file; a SavedModel
            folder; or a folder that `find_model` resolves to one of them.
        num_threads: how many threads `.tflite` and `.onnx` files may use; None for every core that
            this process may use. TensorFlow's and JAX's own thread pools are left as they are.

    Raises:
        ValueError: if there is no model there, it is damaged, it is an exported file that is not
            the one its manifest describes, or it is not a segmentation network (one image (N,H,W,C)
            in, one map of logits or probabilities (N,H,W,K) or of labels out).
    """
    if num_threads is None:
        num_threads = _cores()
    elif num_threads < 1:
        raise ValueError(f"num_threads must be None or at least 1, got {num_threads}.")
    if isinstance(model_or_path, Runner):
        return model_or_path
    if isinstance(model_or_path, keras.Model):
        return KerasRunner(model_or_path)
    path = find_model(model_or_path)
    manifest = checked_manifest(path)
    runner = _open(path, num_threads)
    runner.manifest = manifest
    return runner


def _open(path, num_threads):
    if path.is_dir():
        return SavedModelRunner(path)
    if path.suffix == ".keras":
        return KerasRunner(_load_keras(path), path)
    if path.suffix == ".tflite":
        return TFLiteRunner(path, num_threads)
    return OnnxRunner(path, num_threads)


def find_model(path):
    """The model file or SavedModel folder that `path` means, as a `Path`.

    A file and a SavedModel folder mean themselves. A training run's folder means its `best.keras`,
    or `last.keras` where there is none. Another folder means the one model in it.

    Raises:
        ValueError: if nothing is there, the suffix is unknown, or a folder holds several models.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(f"There is no model at {path}.")
    if path.is_file():
        return _known_file(path)
    if (path / "saved_model.pb").is_file():
        return path
    for name in ("best.keras", "last.keras"):
        if (path / name).is_file():
            return path / name
    found = sorted(
        p for p in path.iterdir() if p.suffix in _SUFFIXES or (p / "saved_model.pb").is_file()
    )
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(
            f"{path} holds no model. Expected best.keras (a training run), saved_model.pb (a "
            f"SavedModel), or a file ending in {', '.join(_SUFFIXES)}."
        )
    names = ", ".join(p.name for p in found)
    raise ValueError(f"{path} holds {len(found)} models: {names}. Give the path of one of them.")


def _known_file(path):
    if path.suffix in _SUFFIXES:
        return path
    if path.name == "saved_model.pb":
        return path.parent
    if path.suffix in (".h5", ".npz", ".pth", ".pt", ".safetensors", ".ckpt"):
        raise ValueError(
            f"{path} holds weights, or a model of another library. Build the network, load the "
            "weights with keras_seg.weights.load, save it with model.save('name.keras'), and give "
            "that file."
        )
    raise unknown_name(f"kind of model file (of {path})", path.suffix, _SUFFIXES)


class Runner(abc.ABC):
    """A network behind one method; `load_runner` makes it. Safe to use from several threads.

    Attributes:
        kind: "keras", "saved_model", "tflite" or "onnx".
        name: the file's path, or the Keras model's name; for messages.
        path: the file, or None for a model in memory.
        manifest: what `checked_manifest` says of the file, {} where there is none.
        batch: images that a file takes at once, or None for any number; `run` takes any.
        input_size: (H, W) that every image must have, or None where any size runs.
        channels: the number of image channels C.
        num_classes: K; None if the file returns labels (it does not say how many there are).
        output: what `run` returns: "logits"; "logits_lowres", those before the network's last
            enlargement, of the whole image; "probabilities", their softmax; or "labels".
        outputs_labels: True if that is "labels".
        has_confidence: True if `run_all` also returns the largest probability of each pixel.
    """

    kind = None

    def __init__(
        self, name, path, input_shape, output_shape, *, output="logits", has_confidence=False
    ):
        """Check the shapes (None where unknown) that a subclass has read from its file."""
        self.name = str(name)
        self.path = path
        self.manifest = {}
        self.output = output
        self.outputs_labels = outputs_labels = output == "labels"
        self.has_confidence = has_confidence
        if len(input_shape) != 4 or not input_shape[3]:
            raise ValueError(
                f"{self.name} takes an input of shape {tuple(input_shape)}; a segmentation network "
                "takes images (N, H, W, C) with a known number of channels C."
            )
        self.batch, height, width, self.channels = input_shape
        if (height is None) != (width is None):
            raise ValueError(
                f"{self.name} fixes only one of height and width, {(height, width)}; "
                "both must be fixed, or neither."
            )
        self.input_size = None if height is None else (height, width)
        ranks = (3, 4) if outputs_labels else (4,)
        if output_shape is not None and len(output_shape) not in ranks:
            wanted = "labels (N, H, W)" if outputs_labels else "logits (N, H, W, K)"
            raise ValueError(
                f"{self.name} returns a tensor of shape {tuple(output_shape)}, expected {wanted}."
            )
        self.num_classes = None
        if not outputs_labels:
            self.num_classes = output_shape[3] if output_shape is not None else None
            if self.num_classes is None:
                size = self.input_size or (64, 64)
                self.num_classes = self.run(np.zeros((1, *size, self.channels))).shape[3]

    def run(self, images):
        """What the file is for, its `output`, for images: logits, probabilities or labels.

        Args:
            images: (N, H, W, C), plain pixels 0..255 of any numeric type.

        Returns:
            float32 logits or probabilities (N, h, w, K). (h, w) is (H, W) for every network that
            returns logits at the size of its input; "logits_lowres" are smaller. A file with
            `outputs_labels` returns int32 labels (N, h, w).

        Raises:
            ValueError: if the images' shape is not what the network takes.
        """
        return self.run_all(images)[self.output]

    def run_all(self, images):
        """{name: array} of `run` and, where `has_confidence`, float32 "confidence" (N, h, w)."""
        images = np.asarray(images)
        self._check(images.shape)
        images = np.ascontiguousarray(images, "float32")
        if self.batch in (None, len(images)):
            return self._finish(self._call(images))
        parts = []
        for start in range(0, len(images), self.batch):
            part = images[start : start + self.batch]
            fill = np.repeat(part[-1:], self.batch - len(part), axis=0)
            result = self._finish(self._call(np.concatenate([part, fill])))
            parts.append({name: array[: len(part)] for name, array in result.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _check(self, shape):
        height, width = self.input_size or ("H", "W")
        expected = f"(N, {height}, {width}, {self.channels})"
        if len(shape) != 4 or shape[3] != self.channels or 0 in shape:
            raise ValueError(f"{self.name} takes images {expected}, got the shape {tuple(shape)}.")
        if self.input_size is not None and tuple(shape[1:3]) != self.input_size:
            raise ValueError(
                f"{self.name} takes images {expected}, got the shape {tuple(shape)}. Resize the "
                "image, or let a Predictor do it (whole image or sliding window)."
            )

    def _finish(self, outputs):
        found = {}
        for name, output in zip((self.output, "confidence"), outputs, strict=False):
            output = np.asarray(output)
            if name == "labels":
                output = output[..., 0] if output.ndim == 4 else output
                # Labels of a graph for GPUs are whole numbers in floating point, near enough.
                output = np.rint(output) if output.dtype.kind == "f" else output
                found[name] = output.astype("int32", copy=False)
            else:
                found[name] = output.astype("float32", copy=False)
        return found

    @abc.abstractmethod
    def _call(self, images):
        """The raw outputs, the main one first, of float32 images as many as the file takes."""


class KerasRunner(Runner):
    """A Keras model on any backend.

    Attributes:
        model: the network from image to logits.
        activation: "softmax" or "sigmoid" where the network ends in one, else None.
    """

    kind = "keras"

    def __init__(self, model, path=None):
        name = path or f"The model {model.name!r}"
        model = of_one_image(model)
        if model is None:
            raise ValueError(
                f"{name} must take one tensor of images (N, H, W, C) and be functional: "
                "keras.Model(image, logits), or a Sequential that begins with keras.Input."
            )
        self.model = inference_model(model)
        output = self.model.output
        output = output[0] if isinstance(output, list | tuple) else output
        self._lock = threading.Lock()
        self._graph = None
        self.activation = last_activation(output)
        kind = "probabilities" if self.activation == "softmax" else "logits"
        if keras.backend.is_int_dtype(output.dtype):
            kind = "labels"
        super().__init__(name, path, self.model.input.shape, output.shape, output=kind)

    def _call(self, images):
        if keras.backend.backend() == "tensorflow":
            with self._lock:
                if self._graph is None:  # not before it is needed: seconds, for deep networks
                    self._graph = _trace(self.model)
            return [self._call_graph(images)]
        with self._lock:
            return [_first(self.model.predict_on_batch(images))]

    def _call_graph(self, images):
        import tensorflow as tf

        try:
            return _first(self._graph(images)).numpy()
        except tf.errors.ResourceExhaustedError:
            raise
        except tf.errors.OpError as error:
            height, width = images.shape[1:3]
            # What `keras_seg.layers.CheckSize` asserts.
            rule = re.search(r"assertion failed: \[(.+?)\]", str(error))
            reason = "most likely it is too small for the network's poolings. Give larger images."
            raise ValueError(
                f"{self.name} cannot be run on an image of {height} x {width}: "
                + (f"{rule[1]}." if rule else reason)
            ) from error


def last_activation(output):
    """The name of the activation that makes a Keras tensor, where it is softmax or sigmoid."""
    operation = output._keras_history.operation
    made_by = getattr(operation, "activation", operation)
    name = getattr(made_by, "__name__", type(made_by).__name__).lower()
    return name if name in ("softmax", "sigmoid") else None


class SavedModelRunner(Runner):
    """A SavedModel folder, through its serving signature. Needs TensorFlow."""

    kind = "saved_model"

    def __init__(self, path):
        tf = _import_tensorflow(path)
        try:
            self._module = tf.saved_model.load(str(path))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise _damaged(path, error) from error
        signatures = self._module.signatures
        name = (
            "serving_default" if "serving_default" in signatures else next(iter(signatures), None)
        )
        if name is None:
            raise ValueError(f"{path} has no serving signature. Save it with model.export(folder).")
        self._signature = signatures[name]
        inputs = self._signature.structured_input_signature[1]
        outputs = self._signature.structured_outputs
        self._input = _only_input(path, list(inputs))
        self._outputs = _pick_outputs(path, list(outputs))
        spec, result = inputs[self._input], outputs[self._outputs[0]]
        self._dtype = spec.dtype.as_numpy_dtype
        super().__init__(
            path,
            path,
            _shape(spec),
            _shape(result),
            output=_output_kind(self._outputs[0], result.dtype.is_integer, _shape(result)),
            has_confidence=len(self._outputs) > 1,
        )

    def _call(self, images):
        import tensorflow as tf

        found = self._signature(**{self._input: tf.constant(_as_pixels(images, self._dtype))})
        return [found[name].numpy() for name in self._outputs]


class TFLiteRunner(Runner):
    """A `.tflite` file, float or quantised, in the LiteRT or the TensorFlow Lite interpreter."""

    kind = "tflite"

    def __init__(self, path, num_threads):
        self._lock = threading.Lock()
        try:
            self._interpreter = _interpreter(path, num_threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _damaged(path, error) from error
        inputs = self._interpreter.get_input_details()
        _only_input(path, [detail["name"] for detail in inputs])
        self._in = inputs[0]
        outputs = self._pick(path)
        self._outs = list(outputs.values())
        shape = [None if n < 0 else int(n) for n in self._in["shape_signature"]]
        # A file converted with an unknown size says -1 there; only then may the input be resized.
        self._resizable = None in shape
        main = self._outs[0]
        output = [None if n < 0 else int(n) for n in main["shape_signature"]]
        integer = np.issubdtype(main["dtype"], np.integer) and not _is_quantised(main)
        super().__init__(
            path,
            path,
            shape,
            output or None,
            output=_output_kind(next(iter(outputs)), integer, output),
            has_confidence=len(self._outs) > 1,
        )

    def _pick(self, path):
        """{name: detail} of the outputs, the main one first."""
        outputs = self._interpreter.get_output_details()
        # Tensor names in the file are the converter's own; the signature has the model's names.
        signatures = list(self._interpreter.get_signature_list())
        if not signatures and len(outputs) == 1:
            return {outputs[0]["name"]: outputs[0]}
        if not signatures:
            raise ValueError(f"{path} has {len(outputs)} outputs without names; one is expected.")
        named = self._interpreter.get_signature_runner(signatures[0]).get_output_details()
        details = {detail["index"]: detail for detail in outputs}
        names = _pick_outputs(path, list(named))
        return {name: details[named[name]["index"]] for name in names}

    def _call(self, images):
        with self._lock:
            interpreter = self._interpreter
            current = tuple(interpreter.get_input_details()[0]["shape"])
            if self._resizable and current != images.shape:
                interpreter.resize_tensor_input(self._in["index"], images.shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(self._in["index"], _quantise(images, self._in))
            interpreter.invoke()
            outputs = [interpreter.get_tensor(detail["index"]) for detail in self._outs]
        return [_dequantise(*pair) for pair in zip(outputs, self._outs, strict=True)]


class OnnxRunner(Runner):
    """An `.onnx` file in onnxruntime."""

    kind = "onnx"

    def __init__(self, path, num_threads):
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError(
                f"{path} needs onnxruntime, which is not installed: pip install keras-seg[export]."
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3
        try:
            # Every provider that this build of onnxruntime has, fastest first (a GPU if it can).
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=onnxruntime.get_available_providers()
            )
        except Exception as error:  # onnxruntime's errors share no base class
            raise _damaged(path, error) from error
        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = {node.name: node for node in self._session.get_outputs()}
        self._input = _only_input(path, list(inputs))
        self._outputs = _pick_outputs(path, list(outputs))
        node, result = inputs[self._input], outputs[self._outputs[0]]
        self._dtype = _ONNX_TYPES.get(node.type)
        if self._dtype is None:
            raise ValueError(f"{path} takes an input of type {node.type}; expected pixels.")
        shape = _static(result.shape) if result.shape else None
        super().__init__(
            path,
            path,
            _static(node.shape),
            shape,
            output=_output_kind(self._outputs[0], "int" in result.type, shape),
            has_confidence=len(self._outputs) > 1,
        )

    def _call(self, images):
        return self._session.run(self._outputs, {self._input: _as_pixels(images, self._dtype)})


_ONNX_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


def _trace(model):
    """`model` in inference mode as a TensorFlow function that is traced once, for every image size.

    A graph of unknown size was measured to be as fast as one of a known size, and it never traces
    again. A network with a layer that cannot be traced so (`UpSampling2D` with bilinear
    interpolation) is called layer by layer instead, which is slower.
    """
    import tensorflow as tf

    def infer(images):
        return model(images, training=False)

    signature = [tf.TensorSpec(model.input.shape, tf.float32)]
    graph = tf.function(infer, input_signature=signature, autograph=False)
    try:
        graph.get_concrete_function()
    except (TypeError, ValueError, tf.errors.OperatorNotAllowedInGraphError):
        return lambda images: infer(tf.constant(images))
    return graph


def _load_keras(path):
    try:
        _import_layers(path)
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


def _import_layers(path):
    """Import the modules of this package that define the file's layers; Keras looks no further."""
    with zipfile.ZipFile(path) as file:
        config = file.read("config.json").decode("utf-8")
    for name in sorted(set(re.findall(r'"module":\s*"(keras_seg(?:\.\w+)+)"', config))):
        with contextlib.suppress(ModuleNotFoundError):  # a layer of another version; Keras says so
            importlib.import_module(name)


def _interpreter(path, num_threads):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = _import_tensorflow(path).lite.Interpreter
    with warnings.catch_warnings():
        # TensorFlow announces that its interpreter moves to the package tried first.
        warnings.simplefilter("ignore")
        return Interpreter(model_path=str(path), num_threads=num_threads)


def _import_tensorflow(path):
    try:
        import tensorflow
    except ImportError as error:
        runtime, package = "TensorFlow", "tensorflow"
        if path.suffix == ".tflite":
            runtime, package = "LiteRT", "keras-seg[export]"
        raise ValueError(
            f"{path} needs {runtime}, which is not installed: pip install {package}."
        ) from error
    return tensorflow


def _damaged(path, error):
    reason = str(error).strip().splitlines()
    return ValueError(
        f"Cannot load {path}: {reason[0] if reason else type(error).__name__} The file is "
        "damaged, not of the kind that its name says, or needs another version of its runtime."
    )


def _only_input(path, names):
    if len(names) != 1:
        raise ValueError(
            f"{path} has the inputs {names}; a segmentation network has one, the image."
        )
    return names[0]


def _pick_outputs(path, names):
    """The name of the main output, and "confidence" behind it where there is one."""
    if len(names) == 1:
        return names
    main = next((name for name in OUTPUTS if name in names), None)
    if main is None:
        raise ValueError(
            f"{path} has the outputs {names}; one must be called {', '.join(OUTPUTS[:-1])} or "
            f"{OUTPUTS[-1]}."
        )
    return [main, "confidence"] if "confidence" in names else [main]


def _output_kind(name, integer, shape):
    """What an output is, by its name and type: files of other makers call their logits anything."""
    if integer or (name == "labels" and shape and len(shape) == 3):
        return "labels"
    return name if name in ("logits_lowres", "probabilities") else "logits"


def _is_quantised(detail):
    return len(detail["quantization_parameters"]["scales"]) > 0


def _quantise(images, detail):
    """float32 pixels as the numbers that a quantised input expects: q = round(x / scale) + zero."""
    if not _is_quantised(detail):
        return _as_pixels(images, detail["dtype"])
    scale, zero = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    codes = np.rint(images / np.float32(scale)) + zero
    return np.clip(codes, limits.min, limits.max).astype(detail["dtype"])


def _dequantise(output, detail):
    if not _is_quantised(detail):
        return output
    scale, zero = detail["quantization"]
    return (output.astype("float32") - zero) * np.float32(scale)


def _as_pixels(images, dtype):
    """float32 pixels in the input type of a file; integer types are rounded and clipped."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        images = np.clip(np.rint(images), limits.min, limits.max)
    return images.astype(dtype, copy=False)


def _shape(spec):
    return None if spec.shape.rank is None else spec.shape.as_list()


def _static(shape):
    """ONNX writes an unknown size as a name."""
    return [n if isinstance(n, int) and n > 0 else None for n in shape]


def _first(output):
    return output[0] if isinstance(output, list | tuple) else output


def _cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
