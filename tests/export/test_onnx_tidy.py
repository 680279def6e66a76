"""ONNX files need no optimiser: what Keras computes, in few operators, read from the file."""

import collections

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers, ops

from keras_seg.export import onnx as onnx_file
from keras_seg.export.graph import StaticGraph
from keras_seg.layers import MaxUnpooling2D, Resize, preprocess

SIZE = (20, 28)


def written(model, path, output="logits"):
    """The nodes of the file, after a check that it computes what the model computes."""
    return written_proto(model, path, output).graph.node


def written_proto(model, path, output="logits"):
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.uniform(-0.5, 1, variable.shape))
        if "variance" in variable.path:
            variable.assign(rng.uniform(0.5, 2, variable.shape))
    size = model.input.shape[1:3]
    onnx_file.write(StaticGraph(model, size, model.input.shape[3], output), path)
    image = rng.uniform(0, 255, (1, *model.input.shape[1:])).astype("float32")
    expected = model(image, training=False).numpy()
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (found,) = onnxruntime.InferenceSession(str(path), settings).run(None, {"image": image})
    if output == "labels":
        np.testing.assert_array_equal(found, expected.argmax(-1))
    else:
        assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()
        assert expected.std() > 0
    proto = onnx.load(str(path))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def count(nodes):
    return collections.Counter(node.op_type for node in nodes)


def attribute(node, name):
    return next(onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name)


@pytest.mark.parametrize("kind", ["imagenet", "caffe"])
def test_preprocessing_and_padding_go_into_the_operators_behind(kind, tmp_path):
    """What is left of "imagenet" is the mean, and of RGB to BGR nothing."""
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.ZeroPadding2D(2)(preprocess(image, kind))
    x = layers.ReLU()(layers.Conv2D(8, 5, strides=2)(x))
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(((0, 1), (1, 0)))(x))
    x = layers.AveragePooling2D(3, strides=1)(layers.ZeroPadding2D(1)(x))
    model = keras.Model(image, layers.Conv2D(3, 1)(x))
    nodes = written(model, tmp_path / "model.onnx")
    assert count(nodes) == {
        "Transpose": 2,
        "Add": 1,
        "Conv": 2,
        "Relu": 1,
        "MaxPool": 1,
        "AveragePool": 1,
    }
    # The means lie along whole rows, not along the three channels of each pixel.
    assert [node.op_type for node in nodes][:3] == ["Transpose", "Add", "Conv"]


@pytest.mark.parametrize("chosen", [[2, 1, 0], [0, 1, 3], 2])
def test_some_channels_of_a_picture_are_chosen(chosen, tmp_path):
    """A choice is not taken for an order, also where its numbers are those of one."""
    image = keras.Input((*SIZE, 4), name="image")
    x = keras.ops.take(image, chosen, axis=-1)
    x = x if x.ndim == 4 else keras.ops.expand_dims(x, -1)
    model = keras.Model(image, layers.Conv2D(3, 3, padding="same")(x))
    assert count(written(model, tmp_path / "model.onnx"))["Gather"] <= 1


@pytest.mark.parametrize("scale", [1.0, [0.5, 2.0, 3.0]])
def test_one_channel_becomes_three(scale, tmp_path):
    """Constants for three channels that make three of one do not go into the convolution."""
    image = keras.Input((*SIZE, 1), name="image")
    x = image * np.array(scale, "float32") + np.array([1, 2, 3], "float32")
    written(keras.Model(image, layers.Conv2D(3, 3)(x)), tmp_path / "model.onnx")


def test_an_offset_before_a_convolution_that_does_not_pad_is_a_bias(tmp_path):
    image = keras.Input((*SIZE, 3), name="image")
    x = preprocess(image, "imagenet")
    model = keras.Model(image, layers.Add()([layers.Conv2D(3, 3)(x), layers.Conv2D(3, 3)(x)]))
    nodes = written(model, tmp_path / "model.onnx")
    assert count(nodes) == {"Transpose": 2, "Conv": 2, "Add": 1}


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 4), (2, 4), ((2, 3), (4, 2))])
def test_a_transposed_kernel_smaller_than_its_stride(kernel, stride, padding, tmp_path):
    image = keras.Input((6, 8, 3), name="image")
    options = {"strides": stride, "padding": padding, "bias_initializer": "random_normal"}
    model = keras.Model(image, layers.Conv2DTranspose(5, kernel, **options)(image))
    nodes = written(model, tmp_path / "model.onnx")
    assert count(nodes)["ConvTranspose"] == 1


def test_paddings_that_count_stay(tmp_path):
    """Zeros are the largest of a window of negative values; a pool's own padding never is."""
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.ZeroPadding2D(1)(layers.Conv2D(4, 3)(image) * -1.0)
    pooled = layers.MaxPooling2D(3, strides=2)(x)
    y = layers.ReLU()(layers.Conv2D(4, 3)(image))
    y = layers.ZeroPadding2D(3)(y)  # a whole window of zeros
    y = layers.MaxPooling2D(3, strides=2)(y)
    z = layers.ZeroPadding2D(1)(layers.ReLU()(layers.Conv2D(4, 3)(image)))
    z = layers.Add()([z[:, ::2, ::2][:, :9, :13], layers.MaxPooling2D(3, strides=2)(z)])
    parts = [layers.Conv2D(2, 1)(part)[:, :8, :8] for part in (pooled, y, z)]
    nodes = written(keras.Model(image, layers.Add()(parts)), tmp_path / "model.onnx")
    assert count(nodes)["Pad"] == 3


def test_nothing_between_convolutions_is_transposed(tmp_path):
    """Unpooling, groups of channels, a gate for each channel: tf2onnx puts transposes there."""
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    y = layers.Conv2D(8, 3, padding="same", groups=2)(layers.MaxPooling2D(2)(x))
    y = MaxUnpooling2D()(y, x)
    gate = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
    y = layers.Multiply()([y, layers.Reshape((1, 1, 8))(gate)])
    model = keras.Model(image, layers.Conv2D(3, 3, padding="same")(y))
    nodes = written(model, tmp_path / "model.onnx")
    assert count(nodes)["Transpose"] == 2


def test_normalisation_before_a_convolution_is_one_operator(tmp_path):
    """As in networks of pre-activated blocks: no convolution before it that could take it."""
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same")(image)
    y = layers.Conv2D(4, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))
    x = layers.Concatenate()([x, y])
    x = layers.ReLU()(layers.BatchNormalization()(x))
    nodes = written(keras.Model(image, layers.Conv2D(3, 1)(x)), tmp_path / "model.onnx")
    found = count(nodes)
    assert found["BatchNormalization"] == 2 and not found["Mul"] and not found["Add"]


@pytest.mark.parametrize("output", ["logits", "labels"])
def test_logits_are_enlarged_with_their_channels_first(output, tmp_path):
    """onnxruntime's WebGPU enlarges the last two axes of four, whatever the sizes say."""
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.Conv2D(5, 3, strides=4)(image)
    model = keras.Model(image, Resize(size=SIZE, align_corners=True)(x))
    nodes = written(model, tmp_path / "model.onnx", output)
    if output == "logits":
        assert [n.op_type for n in nodes] == ["Transpose", "Conv", "Resize", "Transpose"]
    else:
        # over whole rows of each class, not over the classes of each pixel
        assert [n.op_type for n in nodes] == ["Transpose", "Conv", "Resize", "ArgMax", "Cast"]
        assert attribute(nodes[3], "axis") == 1


@pytest.mark.parametrize(
    ("inputs", "outputs", "padded"),
    [(6, 8, True), (21, 12, True), (3, 8, False), (12, 8, False), (6, 7, False), (7, 8, False)],
)
def test_channels_that_webgpu_reads_in_threes_become_fours(inputs, outputs, padded, tmp_path):
    """It has wrong sums for some numbers of channels; see benchmarks/web_check.py."""
    image = keras.Input((*SIZE, inputs), name="image")
    x = layers.Conv2D(outputs, 3, dilation_rate=2, activation="relu")(image)
    proto = written_proto(keras.Model(image, layers.Conv2D(3, 1)(x)), tmp_path / "model.onnx")
    kernels = {tensor.name: tensor.dims for tensor in proto.graph.initializer}
    first = next(node for node in proto.graph.node if node.op_type == "Conv")
    assert kernels[first.input[1]][1] == inputs + padded * (-inputs % 4)
    assert ("Pad" in count(proto.graph.node)) == padded


def test_a_single_pixel_is_not_reshaped_to_its_own_shape(tmp_path):
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    y = layers.Conv2D(4, 1, activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    y = Resize()(y, x)
    model = keras.Model(image, layers.Conv2D(2, 1)(layers.Concatenate()([x, y])))
    assert "Reshape" not in count(written(model, tmp_path / "model.onnx"))


def test_weights_beyond_a_file_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "LARGEST", 1000)
    image = keras.Input((*SIZE, 32), name="image")
    model = keras.Model(image, layers.Conv2D(32, 3)(image), name="big")
    with pytest.raises(ValueError, match="The weights of 'big' are .* GB, and an ONNX file holds"):
        onnx_file.write(StaticGraph(model, SIZE, 32, "logits"), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_convolution_that_is_used_twice_is_stored_once(tmp_path):
    image = keras.Input((*SIZE, 16), name="image")
    shared = layers.Conv2D(16, 3, padding="same", activation="relu")
    written(keras.Model(image, shared(shared(shared(image)))), tmp_path / "model.onnx")
    tensors = onnx.load(str(tmp_path / "model.onnx")).graph.initializer
    assert sum(np.prod(tensor.dims) for tensor in tensors) == 3 * 3 * 16 * 16 + 16


def test_planes_of_one_value_are_not_in_the_file(tmp_path):
    """The planes that Pinheiro's network starts with: 34 MB in a file of 0.7 MB."""
    image = keras.Input((*SIZE, 3), name="image")
    x = ops.concatenate([image, *[ops.zeros_like(image)] * 4], axis=-1)
    x = ops.concatenate([layers.Conv2D(5, 3, padding="same")(x), ops.ones_like(x)], axis=-1)
    model = keras.Model(image, layers.Conv2D(3, 1)(x))
    nodes = written(model, tmp_path / "model.onnx")
    assert count(nodes) == {"Conv": 2, "ConstantOfShape": 2, "Concat": 2, "Transpose": 2}
    assert (tmp_path / "model.onnx").stat().st_size < 10_000
