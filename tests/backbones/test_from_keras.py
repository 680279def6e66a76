"""from_keras: the dilated network computes what the original does, at every pixel and size."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from backbone_networks import (
    errors,
    every_operation,
    leaves,
    original_features,
    picture,
    shake,
    squeeze_excite,
)
from keras import layers

from keras_seg.backbones import from_keras

HERE = pathlib.Path(__file__).parent
SIZES = [(97, 129), (96, 128), (101, 110)]
EVERY = {f"c{i}": f"tap{i}" for i in range(1, 6)}


def taps(*names):
    """The last map of each stride; of networks with four, from c2."""
    first = 6 - len(names)
    return {f"c{i}": name for i, name in enumerate(names, start=first)}


# Builder of keras.applications -> its taps by layer name.
RESNET = ("conv1_relu", "conv2_block3_out")
RESNET_V2 = ("conv1_conv", "conv2_block2_out")
DENSENET = taps("conv1_relu", "pool2_conv", "pool3_conv", "pool4_conv", "relu")
EFFICIENT = (
    "block2a_expand_activation",
    "block3a_expand_activation",
    "block4a_expand_activation",
    "block6a_expand_activation",
    "top_activation",
)
LIGHT = {
    "VGG16": taps("block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3", "block5_pool"),
    "MobileNetV2": taps(*(f"block_{i}_expand_relu" for i in (1, 3, 6, 13)), "out_relu"),
    "MobileNetV3Small": taps(
        "activation", "re_lu_2", "activation_1", "activation_11", "activation_17"
    ),
    "DenseNet121": DENSENET,
}
HEAVY = {
    "VGG19": taps("block2_conv2", "block3_conv4", "block4_conv4", "block5_conv4", "block5_pool"),
    "ResNet50": taps(*RESNET, "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
    "ResNet101": taps(*RESNET, "conv3_block4_out", "conv4_block23_out", "conv5_block3_out"),
    "ResNet152": taps(*RESNET, "conv3_block8_out", "conv4_block36_out", "conv5_block3_out"),
    "ResNet50V2": taps(*RESNET_V2, "conv3_block3_out", "conv4_block5_out", "post_relu"),
    "ResNet101V2": taps(*RESNET_V2, "conv3_block3_out", "conv4_block22_out", "post_relu"),
    "ResNet152V2": taps(*RESNET_V2, "conv3_block7_out", "conv4_block35_out", "post_relu"),
    "DenseNet169": DENSENET,
    "DenseNet201": DENSENET,
    "MobileNet": taps(*(f"conv_pw_{i}_relu" for i in (1, 3, 5, 11, 13))),
    "MobileNetV3Large": taps(
        "re_lu_1", "re_lu_5", "activation_1", "activation_13", "activation_19"
    ),
    "EfficientNetB0": taps(*EFFICIENT),
    "EfficientNetB1": taps(*EFFICIENT),
    "EfficientNetB4": taps(*EFFICIENT),
    "EfficientNetV2B0": taps("block1a_project_activation", "block2b_add", *EFFICIENT[2:]),
    "EfficientNetV2S": taps("block1b_add", "block2d_add", *EFFICIENT[2:]),
    "Xception": taps("block1_conv2_act", "add", "add_1", "add_10", "block14_sepconv2_act"),
    "InceptionV3": taps("activation_2", "activation_4", "mixed2", "mixed7", "mixed10"),
    "InceptionResNetV2": taps(
        "activation_2", "activation_4", "block35_10_ac", "block17_20_ac", "conv_7b_ac"
    ),
    "ConvNeXtTiny": taps(
        *(f"convnext_tiny_downsampling_layernorm_{i}" for i in range(3)), "layer_normalization"
    ),
}
OWN_FRONT = ("MobileNetV3", "EfficientNet", "ConvNeXt")


def application(name, **options):
    """The network with weights that matter, and pictures in the range that it wants."""
    keras.utils.clear_session()  # so that the layers' automatic numbers start at 0
    builder = getattr(keras.applications, name)
    model = builder(weights=None, include_top=False, input_shape=(None, None, 3), **options)

    def image(size):
        return picture(size) if name.startswith(OWN_FRONT) else picture(size) / 127.5 - 1

    shake(model, image((128, 160)))
    return model, [image(size) for size in SIZES]


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_every_operation_at_every_size(output_stride):
    """Heights and widths of every remainder modulo 8, which make odd and even maps everywhere."""
    model = every_operation()
    shake(model, picture((96, 96)))
    images = [picture((64 + i, 65 + 3 * i)) for i in range(8)]
    worst = errors(model, EVERY, output_stride, images)
    assert max(worst.values()) <= (0 if output_stride == 32 else 1e-5), worst


@pytest.mark.parametrize("name", LIGHT)
def test_applications(name):
    model, images = application(name, **({"alpha": 0.35} if name == "MobileNetV2" else {}))
    for output_stride in (8, 32):
        worst = errors(model, LIGHT[name], output_stride, images)
        assert max(worst.values()) <= (0 if output_stride == 32 else 1e-5), (output_stride, worst)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_large_applications(name):
    model, images = application(name)
    for output_stride in (8, 16, 32):
        worst = errors(model, HEAVY[name], output_stride, images)
        print(name, output_stride, {key: f"{value:.1e}" for key, value in worst.items()})
        assert max(worst.values()) <= (0 if output_stride == 32 else 1e-5), (output_stride, worst)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_nasnet_of_a_fixed_size(size):
    """Two chains of cells run side by side, so that no map between is on every path."""
    model = keras.applications.NASNetMobile(weights=None, include_top=False, input_shape=(*size, 3))
    image = picture(size) / 127.5 - 1
    shake(model, image)
    names = {"c1": "stem_bn1", "c5": model.layers[-1].name}
    assert max(errors(model, names, 16, [image]).values()) <= 1e-5
    assert max(errors(model, names, 32, [image]).values()) == 0


# ---- weights


def test_weights_are_copies():
    model, _ = application("MobileNetV2", alpha=0.35)
    dilated = from_keras(model, 8)
    before = model.get_weights()
    assert all(map(np.array_equal, dilated.get_weights(), before))
    dilated.set_weights([np.zeros_like(w) for w in before])
    assert all(map(np.array_equal, model.get_weights(), before))


def test_frozen_layers_stay_frozen():
    model, _ = application("MobileNetV2", alpha=0.35)
    model.get_layer("Conv1").trainable = False
    dilated = from_keras(model, 16)
    assert not dilated.get_layer("Conv1").trainable
    assert len(dilated.trainable_weights) == len(model.trainable_weights)


def test_normalisation_is_synchronised_over_devices():
    """Keras' own is not, and weights then depend on the number of devices."""
    trunk = from_keras("MobileNetV2", 8, alpha=0.35)
    norms = [v for v in trunk.layers if isinstance(v, layers.BatchNormalization)]
    assert len(norms) == 52
    assert all(norm.synchronized for norm in norms)
    assert {norm.epsilon for norm in norms} == {1e-3} and {norm.momentum for norm in norms} == {
        0.999
    }


def test_nothing_is_downloaded_unless_asked(monkeypatch):
    asked = []

    def get_file(*args, **kwargs):
        asked.append(args)
        raise RuntimeError("no network in tests")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    from_keras("VGG16", 16)
    assert not asked
    with pytest.raises(RuntimeError, match="no network in tests"):
        from_keras("VGG16", 16, weights="imagenet")


def test_shared_layers():
    """One convolution used twice stays one, as long as it computes the same."""
    image = keras.Input((None, None, 3))
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    x = layers.Conv2D(4, 3, strides=16, padding="same")(image)
    x = shared(shared(layers.Conv2D(4, 3, strides=2, padding="same", name="down")(x)))
    model = keras.Model(image, x)
    with pytest.raises(ValueError, match="leads from stride 1 past 8"):
        from_keras(model, 8)
    dilated = from_keras(model, 16)
    assert len(dilated.weights) == len(model.weights)
    value = picture((64, 96))
    got, expected = np.asarray(dilated(value)["c5"])[:, ::2, ::2], np.asarray(model(value))
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()

    y = layers.Conv2D(4, 3, strides=16, padding="same")(image)
    y = shared(layers.MaxPooling2D(2)(shared(y)))
    with pytest.raises(ValueError, match="'shared'.*shared by maps of different strides"):
        from_keras(keras.Model(image, y), 16)


# ---- models in models


def nested_model():
    """A Sequential stem, a functional body, a classifier's head."""
    stem = keras.Sequential(
        [layers.Conv2D(4, 3, strides=2, padding="same"), layers.ReLU(name="stem_out")], name="stem"
    )
    inner = keras.Input((None, None, 4))
    x = inner
    for stage in range(2, 6):
        x = layers.Conv2D(4, 3, strides=2, padding="same", name=f"conv{stage}")(x)
        x = layers.BatchNormalization(name=f"bn{stage}")(x)
        x = squeeze_excite(x, f"se{stage}")
    body = keras.Model(inner, x, name="body")
    image = keras.Input((None, None, 3))
    x = body(stem(image))
    x = layers.Dense(7, name="classes")(layers.GlobalAveragePooling2D(name="mean")(x))
    return keras.Model(image, x, name="classifier"), stem, body


def test_models_inside_models():
    model, stem, body = nested_model()
    shake(model, picture((96, 96)))
    dilated = from_keras(model, 8)
    value = picture((65, 98))
    names = taps("stem_out", *(f"se{stage}_out" for stage in range(2, 6)))
    names.pop("c1")
    inner = original_features(body, names)(stem(value), training=False)
    expected = {"c1": stem(value), **{key: inner[key] for key in names}}
    got = dilated(value)
    assert list(got) == list(expected)
    for key, reference in expected.items():
        removed = max(1, 2 ** int(key[1]) // 8)
        found, reference = np.asarray(got[key])[:, ::removed, ::removed], np.asarray(reference)
        assert found.shape == reference.shape
        assert np.abs(found - reference).max() <= 1e-5 * np.abs(reference).max(), key


def test_repeated_names_inside_models():
    image = keras.Input((None, None, 3))
    x = image
    for i in range(5):
        part = keras.Sequential(
            [layers.Conv2D(4, 3, strides=2, padding="same", name="conv")], name=f"part{i}"
        )
        x = part(x)
    model = keras.Model(image, x)
    dilated = from_keras(model, 8)
    assert sorted(dilated.output) == ["c1", "c2", "c3", "c4", "c5"]
    assert all(map(np.array_equal, dilated.get_weights(), model.get_weights()))


def test_a_sequential_classifier():
    """A Sequential is a functional model with no graph of its own to show."""
    strided = [layers.Conv2D(4, 3, strides=2, padding="same", name=f"tap{i}") for i in range(1, 6)]
    model = keras.Sequential([keras.Input((None, None, 3)), *strided])
    assert max(errors(model, EVERY, 8, [picture((70, 65))]).values()) <= 1e-5


# ---- switches


def test_inexact_pools_see_every_position():
    model = every_operation()
    shake(model, picture((96, 96)))
    value = picture((64, 80))
    exact, all_positions = from_keras(model, 8), from_keras(model, 8, exact=False)
    subsampled = {v.name for v in exact.layers if v.name.endswith("_subsample")}
    assert subsampled == {"se4_mean_subsample", "se5_mean_subsample"}
    assert not [v for v in all_positions.layers if v.name.endswith("_subsample")]
    a, b = exact(value), all_positions(value)
    assert np.array_equal(a["c3"], b["c3"])
    assert not np.allclose(a["c4"], b["c4"], rtol=1e-3)


def test_taps_by_name():
    model = every_operation()
    dilated = from_keras(model, 8, taps={"c2": "bn2", "c5": "join"})
    assert list(dilated.output) == ["c1", "c2", "c3", "c4", "c5"]
    value = picture((64, 80))
    found = dilated(value, training=False)
    reference = original_features(model, {"c2": "bn2", "c5": "join"})(value, training=False)
    np.testing.assert_array_equal(found["c2"], reference["c2"])
    got, expected = np.asarray(found["c5"])[:, ::4, ::4], np.asarray(reference["c5"])
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    "chosen, words",
    [
        ({"c6": "bn2"}, "Unknown tap 'c6'"),
        ({"c2": "bn22"}, "Unknown layer 'bn22'. Did you mean 'bn2'"),
        ({"c3": "bn2"}, "Tap c3 must have stride 8, but 'bn2' has 4"),
        ({"c3": "se3_reshape"}, "Tap c3 must have stride 8, but 'se3_reshape' has None"),
    ],
)
def test_bad_taps(chosen, words):
    with pytest.raises(ValueError, match=words):
        from_keras(every_operation(), 8, taps=chosen)


# ---- where it runs


@pytest.fixture(scope="module")
def original():
    model = every_operation()
    shake(model, picture((96, 96)))
    return model


@pytest.fixture(scope="module")
def dilated(original):
    return from_keras(original, 8)


def close(got, expected, tolerance=1e-5):
    for key, value in expected.items():
        value = np.asarray(value, "float32")
        assert np.abs(np.asarray(got[key], "float32") - value).max() <= tolerance * value.max(), key


def test_file_round_trip(dilated, tmp_path):
    dilated.save(tmp_path / "features.keras")
    again = keras.models.load_model(tmp_path / "features.keras")
    for size in [(65, 70), (72, 64)]:
        close(again(picture(size)), dilated(picture(size)), 0)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_graph_of_unknown_size(dilated, jit_compile):
    tf = pytest.importorskip("tensorflow")
    signature = [tf.TensorSpec((None, None, None, 3), tf.float32)]
    function = tf.function(
        lambda image: dilated(image, training=False),
        input_signature=signature,
        jit_compile=jit_compile,
    )
    for size in [(65, 70), (72, 64)]:
        close(function(picture(size)), dilated(picture(size), training=False))


@pytest.mark.parametrize("policy, tolerance", [("mixed_float16", 0.02), ("mixed_bfloat16", 0.15)])
def test_mixed_precision(original, dilated, policy, tolerance):
    """A network built under the policy computes its maps in 16 bits, pools and paddings too."""
    keras.config.set_dtype_policy(policy)
    model = every_operation()
    shake(model, picture((96, 96)))  # sets the constants of Normalization
    model.set_weights(original.get_weights())
    half = from_keras(model, 8)
    assert {v.compute_dtype for v in half.layers if v.name.endswith("_pad")} == {policy[6:]}
    value = picture((65, 70))
    got, expected = half(value, training=False), dilated(value, training=False)
    assert got["c5"].dtype == policy[6:]
    close(got, expected, tolerance)


def test_static_shapes_are_known():
    """With a fixed size every shape is known before the graph runs, as export needs it."""
    image = keras.Input((65, 70, 3), batch_size=1)
    features = from_keras(every_operation(), 8)(image)
    model = keras.Model(image, features)
    value = model(picture((65, 70)))
    assert {k: v.shape for k, v in features.items()} == {
        k: tuple(v.shape) for k, v in value.items()
    }


@pytest.mark.parametrize("name", ["every_operation", "MobileNetV2"])
def test_tflite_has_builtin_operators_without_batch_shuffling(name, dilated):
    tf = pytest.importorskip("tensorflow")
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    model = dilated if name == "every_operation" else from_keras(name, 8, alpha=0.35)
    shape = (1, 65, 70, 3)
    function = tf.function(
        lambda image: model(image, training=False)["c5"],
        input_signature=[tf.TensorSpec(shape, tf.float32)],
    )
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    from ai_edge_litert import interpreter as litert

    resolver = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = litert.Interpreter(
        model_content=converter.convert(), experimental_op_resolver_type=resolver
    )
    interpreter.allocate_tensors()
    operators = {operator["op_name"] for operator in interpreter._get_ops_details()}
    assert not [op for op in operators if "SPACE" in op or op.startswith(("Flex", "CUSTOM"))]
    value = picture(shape[1:3]) / 127.5 - 1
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value)
    interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    close({"c5": got}, {"c5": model(value, training=False)["c5"]}, 1e-4)


def test_on_jax():
    settings = {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(HERE.parents[1]),
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "on_jax.py")],
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
    )
    assert done.returncode == 0, done.stderr[-4000:]


# ---- what is refused


def ending(*operations):
    """A model of stride 16 that ends in these operations."""
    image = keras.Input((64, 64, 3))
    x = layers.Conv2D(4, 3, strides=4, padding="same")(image)
    x = layers.Conv2D(4, 3, strides=4, padding="same")(x)
    for operation in operations:
        x = operation(x)
    return keras.Model(image, x)


@pytest.mark.parametrize(
    "operation, words",
    [
        (layers.Conv2DTranspose(4, 2, name="up"), "Conv2DTranspose 'up'"),
        (layers.UpSampling2D(name="up"), "UpSampling2D 'up'"),
        (layers.Resizing(8, 8, name="resize"), "Resizing 'resize'"),
        (layers.Flatten(name="flat"), "Flatten 'flat'.*include_top=False"),
        (layers.GroupNormalization(2, name="group"), "GroupNormalization 'group'"),
        (layers.PReLU(name="slopes"), "'slopes'.*depend on the position"),
        (layers.LayerNormalization([1, 2, 3], name="norm"), r"'norm'.*axes \(1, 2, 3\)"),
        (layers.Lambda(lambda x: x[:, ::-1], name="turn"), "Lambda 'turn'"),
        (lambda x: keras.ops.mean(x, axis=(1, 2)), "Mean '"),
        (layers.Conv2D(4, 3, strides=(2, 1), name="wide"), "'wide'.*strides"),
        (layers.Normalization(axis=(1, 3), name="norm"), "'norm'.*for each channel"),
    ],
)
def test_unknown_operations_are_refused_by_name(operation, words):
    with pytest.raises(ValueError, match=words):
        from_keras(ending(operation), 16)


def test_strides_that_do_not_meet():
    image = keras.Input((64, 64, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(image)
    y = layers.Conv2D(4, 3, padding="valid")(keras.layers.MaxPooling2D(2)(image))
    deep = layers.Conv2D(4, 33, padding="valid")(image)
    model = keras.Model(image, layers.Add(name="join")([x, deep]))
    with pytest.raises(ValueError, match=r"Add 'join'.*joins maps of strides \[1, 2\]"):
        from_keras(model, 8)
    assert from_keras(keras.Model(image, y), 8).output["c1"].shape[1:3] == (30, 30)


class Subclassed(keras.Model):
    def call(self, x):
        return x


def two_outputs():
    image = keras.Input((None, None, 3))
    return keras.Model(image, [layers.ReLU()(image), layers.Softmax()(image)])


def no_image():
    vector = keras.Input((8,))
    return keras.Model(vector, layers.Dense(2)(vector))


def no_stride():
    image = keras.Input((None, None, 3))
    return keras.Model(image, layers.Conv2D(2, 3)(image))


@pytest.mark.parametrize(
    "model, options, words",
    [
        ("MobilNetV2", {}, "Did you mean 'MobileNetV2'"),
        ("NASNetMobile", {}, "one size only"),
        ("MobileNetV2", {"output_stride": 4}, "output_stride must be 8, 16 or 32, got 4"),
        (len, {}, "takes a functional keras.Model, a builder"),
        (Subclassed(), {}, "not a built functional model"),
        (two_outputs(), {}, "has 2 outputs"),
        (no_image(), {}, "needs images"),
        (no_stride(), {}, "no feature of stride"),
        (no_image(), {"alpha": 0.35}, r"\['alpha'\] are for a builder or a name"),
    ],
)
def test_bad_models(model, options, words):
    with pytest.raises(ValueError, match=words):
        from_keras(model, **options)


def test_original_is_left_alone():
    model, images = application("MobileNetV2", alpha=0.35)
    before, names = model.get_weights(), [layer.name for layer in model.layers]
    expected = np.asarray(model(images[0], training=False))
    from_keras(model, 8)
    assert [layer.name for layer in leaves(model)] == names
    assert all(map(np.array_equal, model.get_weights(), before))
    np.testing.assert_array_equal(model(images[0], training=False), expected)
    assert model.get_layer("block_3_expand_relu").output.shape[-1] == 48
