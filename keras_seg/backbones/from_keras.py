"""Any functional classifier as a dense feature extractor: strides turned into dilation.

The transformation of Yu and Koltun ("Multi-Scale Context Aggregation by Dilated Convolutions",
ICLR 2016, arXiv 1511.07122): a stride beyond the wanted output stride is removed, and whatever
follows is spread by the factor that it now owes. Every `d`-th feature of the result is exactly a
feature of the original network, at every pixel and every size of the image.

How it goes: the graph is walked once. For each tensor the walk knows its nominal stride (that in
the original) and so how far its map is finer than the original's; each operation is called again
on the new tensors, rebuilt where it must change. An operation that neither acts on each pixel by
itself nor is known here is refused.
"""

from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from keras_seg.backbones.dilation import (
    DilatedAveragePooling2D,
    DilatedMaxPooling2D,
    GridPadding2D,
    Standardize,
    Subsample2D,
)
from keras_seg.layers import BatchNormalization, LocalResponseNormalization
from keras_seg.utils import unknown_name

OUTPUT_STRIDES = (8, 16, 32)
TAPS = {2**i: f"c{i}" for i in range(1, 6)}

# Their builders crop or not as the static size says, and so need one.
FIXED_SIZE = ("NASNetLarge", "NASNetMobile")

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)
POOLS = {
    layers.MaxPooling2D: DilatedMaxPooling2D,
    layers.AveragePooling2D: DilatedAveragePooling2D,
}
GLOBAL_POOLS = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)

# Layers that treat every pixel by itself. Those with an axis are looked at more closely.
POINTWISE = (
    layers.Activation,
    layers.ActivityRegularization,
    layers.Add,
    layers.AlphaDropout,
    layers.Average,
    layers.Dense,
    layers.Dropout,
    layers.ELU,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.LeakyReLU,
    layers.Maximum,
    layers.Minimum,
    layers.Multiply,
    layers.ReLU,
    layers.Rescaling,
    layers.SpatialDropout2D,
    layers.Subtract,
    LocalResponseNormalization,
    Standardize,
)
OVER_CHANNELS = (
    layers.BatchNormalization,
    layers.Concatenate,
    layers.LayerNormalization,
    layers.Softmax,
    layers.UnitNormalization,
)
# Layers that keras.applications defines for itself and does not export.
POINTWISE_NAMES = {"CustomScaleLayer", "LayerScale", "StochasticDepth"}
# Functions of keras.ops, by the names of their operations.
POINTWISE_OPERATIONS = {
    *("Abs", "Absolute", "Add", "Cast", "Clip", "Divide", "Elu", "Erf", "Exp", "Expm1", "Gelu"),
    *("HardSigmoid", "HardSilu", "HardSwish", "HardTanh", "LeakyRelu", "Log", "Log1p", "Maximum"),
    *("Minimum", "Mish", "Multiply", "Negative", "Power", "Reciprocal", "Relu", "Relu6", "Rsqrt"),
    *("Selu", "Sigmoid", "Silu", "Softplus", "Softsign", "Sqrt", "Square", "Subtract", "Swish"),
    *("Tanh", "TrueDivide"),
}


def from_keras(model, output_stride=32, *, exact=True, taps=None, weights=None, **options):
    """Make a feature extractor of a classifier, with the classifier's own weights.

    Args:
        model: a functional `keras.Model` of one image (N, H, W, C), built with
            `include_top=False, input_shape=(None, None, C)` or ending in a global pool; or a
            builder of `keras.applications`, or its name ("MobileNetV2", "keras:MobileNetV2").
        output_stride: 8, 16 or 32. At 32 the features are those of the original.
        exact: at a smaller output stride a global pool (squeeze-and-excite) sees more positions.
            True: it pools the original's positions only, so that the features equal the
            original's; False: it pools all of them.
        taps: {"c3": layer name, ...} overrides what is chosen for these keys: the last tensor of
            each nominal stride through which every path to the output leads.
        weights: for a builder or a name only: None, "imagenet" (downloaded by Keras), or a file.
        options: for a builder or a name only: passed on (`alpha=0.35`; `input_shape`, by default
            (None, None, 3)).

    Returns:
        A `keras.Model` from images to a dict of features of nominal stride 2 ("c1") to 32 ("c5"),
        as many as the network has (ConvNeXt has no c1, NASNet only c1 and c5; VGG's c5 is its last
        pool). Feature `ci` is 2**i / output_stride times finer than the original's where that is
        above 1. Sizes are rounded as in the original: resize to the other tensor, not by a factor.
        Weights are copies. The model is named after the original; its first layers are the
        original's too, so that one with a Rescaling front takes pixels 0..255. Batch normalisation
        is `keras_seg.layers.BatchNormalization`, the same layer but synchronised over devices.

    Raises:
        ValueError: for an unknown name, an output stride other than these, an operation whose
            dilated form is not known (by the layer's name), a wrong tap, or a model that is not
            functional or has more than one input or output.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride!r}.")
    if isinstance(model, keras.Model):
        if weights is not None or options:
            given = sorted([*options, *(["weights"] if weights is not None else [])])
            raise ValueError(f"{given} are for a builder or a name, but a built model was given.")
    else:
        model = _build(model, weights, options)

    image = _single(model, "inputs")
    _single(model, "outputs")
    if len(image.shape) != 4:
        raise ValueError(f"{model.name} takes {image.shape}; from_keras needs images (N, H, W, C).")

    walk = _Walk(output_stride, exact)
    # A plain functional view of the model: a Sequential is unrolled, what was compiled is left out.
    view = keras.Model(model.inputs, model.outputs)
    clone = keras.models.clone_model(view, clone_function=_same, call_function=walk)
    walk.copy_weights(model)
    features = walk.taps(clone.outputs[0])
    features.update(walk.named_taps(taps or {}))
    if not features:
        raise ValueError(f"{model.name} has no feature of stride 2, 4, 8, 16 or 32.")
    features = dict(sorted(features.items()))
    return keras.Model(clone.inputs[0], features, name=model.name)


def builders():
    """The network builders of keras.applications, {name: function}."""
    found = {}
    for name in dir(keras.applications):
        value = getattr(keras.applications, name)
        if name[0].isupper() and callable(value):
            found[name] = value
    return found


def _build(builder, weights, options):
    known = builders()
    if isinstance(builder, str):
        name = builder.removeprefix("keras:")
        if name not in known:
            raise unknown_name("keras.applications network", name, known)
        builder = known[name]
    if builder not in known.values():
        raise ValueError(
            f"from_keras takes a functional keras.Model, a builder of keras.applications or its "
            f"name, got {builder!r}."
        )
    options = {"input_shape": (None, None, 3), **options}
    if builder.__name__ in FIXED_SIZE and None in options["input_shape"]:
        raise ValueError(
            f"{builder.__name__} works at one size only: give input_shape, such as (224, 224, 3)."
        )
    return builder(weights=weights, include_top=False, **options)


def _single(model, kind):
    tensors = getattr(model, kind, None)
    if not tensors:
        raise ValueError(
            f"{model.name} is not a built functional model: from_keras needs its graph, as made by "
            "keras.Model(inputs, outputs) or by keras.applications."
        )
    if len(tensors) != 1:
        raise ValueError(f"{model.name} has {len(tensors)} {kind}; from_keras needs one.")
    return tensors[0]


def _same(layer):
    """The walk gets the original layer and decides itself what to rebuild."""
    return layer


class _Map(NamedTuple):
    """What the walk knows of one new tensor."""

    tensor: keras.KerasTensor  # kept, so that its id stays its own
    stride: int | None  # nominal; None where the tensor is no map, as after a global pool
    dominators: frozenset  # ids of the tensors through which every path to this one leads
    # Where the tensor is the output of a ZeroPadding2D: its input and the rows and columns added.
    unpadded: keras.KerasTensor | None = None
    padding: tuple | None = None


class _Walk:
    """Calls each operation of a graph on new tensors. Passed as `call_function`."""

    def __init__(self, output_stride, exact):
        self.output_stride = output_stride
        self.exact = exact
        self.maps = {}  # id of a new tensor -> _Map, in the order of the walk
        self.outputs = {}  # name of an original layer -> its new output
        self.rebuilt = {}  # id of an original layer -> [(original, changes, new layer), ...]
        self.names = set()  # of the new layers

    # ---- the walk

    def __call__(self, operation, *args, **kwargs):
        if isinstance(operation, keras.Model):
            result = self._nested(operation, args[0])
        else:
            inputs = [self._map(t) for t in keras.tree.flatten((args, kwargs)) if _is_tensor(t)]
            result = self._call(operation, inputs, args, kwargs)
        self.outputs[operation.name] = result
        return result

    def _map(self, tensor):
        """The tensor's record; a tensor that no operation made is the image."""
        if id(tensor) not in self.maps:
            self.maps[id(tensor)] = _Map(tensor, 1, frozenset([id(tensor)]))
        return self.maps[id(tensor)]

    def _record(self, result, inputs, stride, unpadded=None, padding=None):
        dominators = frozenset.intersection(*(m.dominators for m in inputs))
        for tensor in keras.tree.flatten(result):
            self.maps[id(tensor)] = _Map(
                tensor, stride, dominators | {id(tensor)}, unpadded, padding
            )
        return result

    def _nested(self, model, x):
        """Unroll a model inside the model, so that its maps can be taken too.

        A `training=` that it was called with is not kept: Keras overrules it with the outer one.
        """
        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                x = self(layer, x)
            return x
        if not hasattr(model, "_run_through_graph"):
            raise self._refusal(model, "its layers are not a graph")
        # Not public, but there is no other way to run a functional model's layers one by one on
        # tensors in the middle of a graph. A test with a nested model holds it.
        return model._run_through_graph(x, operation_fn=_same, call_fn=self)

    def _call(self, operation, inputs, args, kwargs):
        maps = [m for m in inputs if m.stride is not None]
        if not maps:
            return self._record(self._rebuild(operation)(*args, **kwargs), inputs, None)
        if len({m.stride for m in maps}) > 1:
            strides = sorted({m.stride for m in maps})
            raise self._refusal(operation, f"it joins maps of strides {strides}")
        if getattr(operation, "data_format", "channels_last") == "channels_first":
            raise self._refusal(operation, "it is channels_first")

        source = maps[0]
        if isinstance(operation, CONVOLUTIONS):
            return self._convolution(operation, source, inputs)
        for pool, dilated in POOLS.items():
            if isinstance(operation, pool):
                return self._pool(operation, dilated, source, inputs)
        if isinstance(operation, layers.ZeroPadding2D | layers.Cropping2D):
            return self._padding(operation, source, inputs)
        if isinstance(operation, GLOBAL_POOLS):
            return self._global_pool(operation, source, inputs)
        if isinstance(operation, layers.Normalization):
            return self._record(self._standardize(operation)(source.tensor), inputs, source.stride)
        problem = _not_pointwise(operation)
        if problem:
            raise self._refusal(operation, problem)
        result = self._rebuild(operation)(*args, **kwargs)
        return self._record(result, inputs, source.stride)

    # ---- the operations that change

    def _owed(self, stride):
        """How many times finer than the original's the map of this nominal stride is."""
        return max(1, stride // self.output_stride)

    def _removed(self, operation, stride):
        """The operation's stride, and the part of it that is removed: nothing or all of it."""
        rows, columns = operation.strides
        if rows != columns:
            raise self._refusal(operation, f"its strides {operation.strides} differ")
        if stride * rows <= self.output_stride:
            return rows, 1
        if stride < self.output_stride:
            raise self._refusal(
                operation,
                f"its stride {rows} leads from stride {stride} past {self.output_stride}",
            )
        return rows, rows

    def _given_padding(self, operation, source):
        """The tensor before any ZeroPadding2D, and the padding on it: "same" or rows, columns."""
        if operation.padding == "same":
            return source.tensor, "same"
        if source.padding:
            return source.unpadded, source.padding
        return source.tensor, ((0, 0), (0, 0))

    def _convolution(self, layer, source, inputs):
        stride, removed = self._removed(layer, source.stride)
        owed = self._owed(source.stride)
        if removed == owed == 1:
            result = self._rebuild(layer)(source.tensor)
            return self._record(result, inputs, source.stride * stride)

        x, padding = self._given_padding(layer, source)
        extent = tuple(
            (k - 1) * rate + 1
            for k, rate in zip(layer.kernel_size, _pair(layer.dilation_rate), strict=True)
        )
        changes = {"strides": (1, 1)}
        if extent != (1, 1):
            # A 1x1 kernel keeps its rate: TFLite does not fold a dilated one into one operation.
            changes["dilation_rate"] = tuple(rate * owed for rate in _pair(layer.dilation_rate))
        odd = all(k % 2 for k in extent)
        unpadded = padding == ((0, 0), (0, 0))
        point = extent == (1, 1) and (unpadded or padding == "same")
        if not (point or removed == 1 and (unpadded or padding == "same" and odd)):
            x = GridPadding2D(
                extent,
                removed,
                owed,
                padding,
                dtype=layer.dtype_policy,
                name=self._name(f"{layer.name}_pad"),
            )(x)
            changes["padding"] = "valid"
        result = self._rebuild(layer, changes)(x)
        return self._record(result, inputs, source.stride * stride)

    def _pool(self, layer, dilated, source, inputs):
        stride, removed = self._removed(layer, source.stride)
        owed = self._owed(source.stride)
        x, padding = self._given_padding(layer, source)
        if removed == owed == 1:
            result = self._rebuild(layer)(source.tensor)
        elif layer.pool_size == (1, 1) and x is source.tensor:
            result = self._rebuild(layer, {"strides": (1, 1)})(x)
        else:
            result = dilated(
                layer.pool_size,
                removed,
                owed,
                padding,
                dtype=layer.dtype_policy,
                name=self._name(layer.name),
            )(x)
        return self._record(result, inputs, source.stride * stride)

    def _padding(self, layer, source, inputs):
        """Zeros, or the border cut, in cells of the original's map."""
        owed = self._owed(source.stride)
        key = "padding" if isinstance(layer, layers.ZeroPadding2D) else "cropping"
        amount = tuple(tuple(pair) for pair in getattr(layer, key))
        changes = {}
        if owed > 1:
            changes[key] = tuple(tuple(n * owed for n in pair) for pair in amount)
        result = self._rebuild(layer, changes)(source.tensor)
        if key == "cropping":
            return self._record(result, inputs, source.stride)
        # A convolution or pool that changes takes the padding over, on its own terms.
        return self._record(result, inputs, source.stride, source.tensor, amount)

    def _global_pool(self, layer, source, inputs):
        x, owed = source.tensor, self._owed(source.stride)
        if self.exact and owed > 1:
            name = self._name(f"{layer.name}_subsample")
            x = Subsample2D(owed, dtype=layer.dtype_policy, name=name)(x)
        return self._record(self._rebuild(layer)(x), inputs, None)

    def _standardize(self, layer):
        """Keras' Normalization as constants: it would lose its state when weights are copied."""
        shape = np.shape(layer.mean)
        if layer.invert or any(size != 1 for size in shape[:-1]):
            raise self._refusal(layer, "it is not a mean and variance for each channel")
        # In the layer's own arithmetic, so that not even the last bit differs.
        dtype = layer.compute_dtype
        mean = np.ravel(keras.ops.convert_to_numpy(keras.ops.cast(layer.mean, "float32")))
        variance = keras.ops.cast(layer.variance, dtype)
        std = keras.ops.maximum(keras.ops.sqrt(variance), keras.config.epsilon())
        std = np.ravel(keras.ops.convert_to_numpy(keras.ops.cast(std, "float32")))
        new = Standardize(
            mean.tolist(),
            std.tolist(),
            dtype=layer.dtype_policy,
            name=self._name(layer.name),
        )
        self.rebuilt.setdefault(id(layer), []).append((layer, {}, new))
        return new

    # ---- layers and their weights

    def _name(self, name):
        """`name`, or with the number of the first free one: nested models may repeat names."""
        unique, n = name, 1
        while unique in self.names:
            unique, n = f"{name}_{n}", n + 1
        self.names.add(unique)
        return unique

    def _rebuild(self, operation, changes=None):
        """A new operation of the same config but for `changes`; the same one for the same call."""
        changes = changes or {}
        earlier = self.rebuilt.setdefault(id(operation), [])
        for _, other, new in earlier:
            if other == changes:
                return new
        if earlier and getattr(operation, "weights", None):
            raise self._refusal(operation, "it is shared by maps of different strides")
        config = {**operation.get_config(), **changes}
        kind = type(operation)
        if kind is layers.BatchNormalization:
            # Keras' own is not synchronised: weights would depend on the number of devices.
            kind = BatchNormalization
            del config["synchronized"]
        if isinstance(operation, layers.Layer):
            config["name"] = self._name(operation.name)
            new = kind.from_config(config)
        else:
            new = kind.from_config(config)
            new.name = self._name(operation.name)
        earlier.append((operation, changes, new))
        return new

    def copy_weights(self, model):
        """Copy every weight of `model`; what has no counterpart on either side is an error."""
        for layer in _leaves(model):
            if not layer.weights:
                continue
            if id(layer) not in self.rebuilt:
                raise ValueError(f"The weights of {layer.name} found no place in the new network.")
            for _, _, new in self.rebuilt[id(layer)]:
                if isinstance(new, Standardize):
                    continue
                shapes = [w.shape for w in layer.weights]
                if [w.shape for w in new.weights] != shapes:
                    raise ValueError(
                        f"The weights of {layer.name} do not fit: {shapes} in the original, "
                        f"{[w.shape for w in new.weights]} in the new network."
                    )
                new.set_weights(layer.get_weights())

    def _refusal(self, operation, reason):
        kind = type(operation).__name__
        return ValueError(
            f"{kind} {operation.name!r} cannot be turned into a dilated form: {reason}. Take the "
            "network's features before it, or build the network without it (include_top=False)."
        )

    # ---- features

    def taps(self, output):
        """The last map of each nominal stride through which every path to `output` leads."""
        found = {}
        needed = self.maps[id(output)].dominators
        for key, record in self.maps.items():
            if key in needed and record.padding is None and record.stride in TAPS:
                found[TAPS[record.stride]] = record.tensor
        return found

    def named_taps(self, names):
        """The outputs of the layers named, {"c3": layer name}."""
        found = {}
        for key, name in names.items():
            if key not in TAPS.values():
                raise unknown_name("tap", key, TAPS.values())
            if name not in self.outputs:
                raise unknown_name("layer", name, self.outputs)
            tensor = self.outputs[name]
            stride = None if not _is_tensor(tensor) else self.maps[id(tensor)].stride
            if TAPS.get(stride) != key:
                raise ValueError(
                    f"Tap {key} must have stride {2 ** int(key[1])}, but {name!r} has {stride}."
                )
            found[key] = tensor
        return found


def _is_tensor(value):
    return isinstance(value, keras.KerasTensor)


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def _leaves(model):
    """The layers of a model and of the models inside it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _not_pointwise(operation):
    """Why an operation does not treat every pixel by itself; None if it does."""
    if isinstance(operation, POINTWISE):
        return None
    if isinstance(operation, OVER_CHANNELS):
        axis = operation.axis
        axes = tuple(axis) if isinstance(axis, list | tuple) else (axis,)
        return None if set(axes) <= {-1, 3} else f"it works along the axes {axes}"
    if isinstance(operation, layers.PReLU):
        shared = operation.shared_axes or ()
        return None if {1, 2} <= set(shared) else "its slopes depend on the position"
    name, module = type(operation).__name__, type(operation).__module__
    if name in POINTWISE_NAMES and module.startswith("keras."):
        return None
    if name in POINTWISE_OPERATIONS and module.startswith("keras.src.ops."):
        return None
    return "how it acts on neighbouring pixels is not known here"
