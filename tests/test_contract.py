"""What every builder promises, checked on a slim variant of each. A new model costs one row.

Parity with the authors' networks and full-size parameter counts are in `tests/models`.
"""

import dataclasses
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from unknown_sizes import in_graph

import keras_seg
from keras_seg import data, losses, metrics, models, training

CLASSES = 3


@dataclasses.dataclass(frozen=True)
class Row:
    """One slim network: builder name, its options, and sizes it must take."""

    builder: str
    options: dict
    sizes: tuple = ((37, 50), (64, 48))  # odd and even, both within every model's reach
    shrink: int = 0  # rows that a network of valid convolutions loses
    learning_rate: float = 2e-3  # of the three steps that must lower the loss
    channels: int = 3  # of the image, and other numbers that must work as well
    other_channels: tuple = (1, 4)
    # Of the errors in half precision. With unpooling a few values may move: where rounding makes
    # another value of a window the largest, what is unpooled jumps to that place.
    percentile: int = 100
    seed: int = 1  # of the random weights: with some, a narrow network has only dead units

    @property
    def id(self):
        return "-".join([self.builder, *(f"{k}={v}" for k, v in self.options.items())])

    def build(self, input_shape=None, **more):
        input_shape = input_shape or (None, None, self.channels)
        return models.build(self.builder, CLASSES, input_shape, **self.options, **more)

    def picture(self, size, batch=1):
        """Random pixels 0..255."""
        return picture(size, self.channels, batch)


FCN = {"filters": 4, "fc_channels": 8}
# TensorFlow 2.21 on the CPU (oneDNN) corrupts memory in the gradient of a 1x1 convolution of stride
# 2 from fewer than 12 channels, for a batch of 1 and even sizes. Every map here is odd.
ODD = ((37, 50), (65, 49))
VIT = {"embed_dim": 16, "num_heads": 2, "filters": 8, "aux": True}
TRUNK = {"backbone": "resnet18", "filters": 4}
ROWS = [
    Row("CRFRNN", FCN, sizes=((21, 30), (32, 24)), learning_rate=2e-5),
    Row("DeepLabV1", {"filters": 4, "fc_channels": 16, "multiscale": True}),
    Row("DeepLabV1", {"filters": 2, "fc_channels": 16, "variant": "base"}),
    Row("DeepLabV2", {**TRUNK, "scales": (0.75,), "aux": True}),
    Row("DeepLabV3", {**TRUNK, "multi_grid": (1, 2)}, sizes=ODD, learning_rate=1e-2),
    Row(
        "DeepLabV3Plus",
        {**TRUNK, "multi_grid": (1, 2), "separable": True},
        sizes=ODD,
        learning_rate=1e-2,
    ),
    Row("DRN", {"variant": "D-22", "filters": 4}, sizes=ODD),
    Row(
        "DeconvNet",
        {"filters": 2, "fc_channels": 8},
        sizes=((193, 200), (200, 196)),
        learning_rate=2e-2,
        percentile=90,
    ),
    Row("DilatedFrontEnd", {"filters": 2, "fc_channels": 8}),
    Row("Dilation8", {"filters": 2, "fc_channels": 8, "padding": "same"}, learning_rate=5e-4),
    Row("Dilation10", {"filters": 2, "fc_channels": 8, "padding": "same"}, seed=6),
    Row(
        "EncNet",
        {
            "backbone": "resnet18",
            "filters": 4,
            "codewords": 4,
            "lateral": True,
            "se_loss": True,
            "aux": True,
        },
        sizes=((41, 57), (57, 41)),
    ),
    Row(
        "FCDenseNet",
        {"growth_rate": 2, "layers_per_block": (2, 2), "bottleneck_layers": 2, "filters": 4},
    ),
    Row("FCN8s", FCN, learning_rate=2e-4),
    Row("FCN16s", {**FCN, "upsampling": "resize"}, learning_rate=2e-4),
    Row("FCN32s", {**FCN, "legacy_padding": False}, learning_rate=2e-4),
    Row("FCN8s", {**FCN, "backbone": "alexnet"}),
    Row(
        "FCN16s",
        {
            "filters": 16,  # of 4, some branches are a channel or two, which a ReLU can kill
            "backbone": "googlenet",
            "upsampling": "resize",
            "at_once": True,
            "other_classes": {"geometric": 3},
        },
    ),
    Row(
        "FCNLateFusion",
        {"filters": 2, "fc_channels": 8, "legacy_padding": False},
        channels=6,
        other_channels=(4, 5),
    ),
    Row("FCNResNet", {**TRUNK, "aux": True}, sizes=ODD),
    Row("MultiscaleCNN", {"filters": 4, "connections": "random"}),
    Row("ParseNet", {"filters": 4, "fc_channels": 64}),
    Row("PatchwiseCNN", {"filters": 4}),
    Row("PatchwiseCNN", {"variant": "ning"}),
    Row("Pix2PixGenerator", {"filters": 4, "depth": 4}, learning_rate=1e-2),
    Row("PSPNet", {**TRUNK, "aux": True}, sizes=((41, 57), (57, 41))),
    Row("RecurrentCNN", {"filters": 4, "aux": True}),
    Row("RecurrentCNN", {"filters": 4, "variant": "rcnn2", "instances": 3, "dense": False}),
    Row("ResNet38", {"blocks": (1,) * 6, "filters": 4}, sizes=ODD),
    Row("SETR", {**VIT, "decoder": "mla", "depth": 4, "crop_size": 64}, sizes=((48, 80), (64, 64))),
    Row(
        "SETR",
        {**VIT, "decoder": "pup", "depth": 2, "crop_size": [64, 48], "aux_blocks": [1]},
        sizes=((48, 80), (80, 64)),
    ),
    Row("SMPDeepLabV3", {**TRUNK, "decoder_channels": 8}, sizes=ODD),
    Row("SMPDeepLabV3Plus", {**TRUNK, "decoder_channels": 8}, sizes=ODD, learning_rate=1e-2),
    Row("SMPPSPNet", {**TRUNK, "psp_channels": 16}, sizes=ODD),
    Row("SMPUnet", {**TRUNK, "decoder_channels": (16, 8, 8, 4, 4)}, sizes=ODD),
    Row("SegNet", {"filters": 4}, percentile=90),
    Row("SegNetBasic", {"filters": 4}, percentile=90),
    Row("UNet", {"filters": 4}),
    Row("UNet", {"filters": 4, "upsampling": "bilinear"}),
    Row("UNet", {"filters": 4, "backbone": "resnet18"}, sizes=ODD),
    Row("UNet", {"filters": 2, "form": "paper"}, sizes=((204, 188), (188, 220)), shrink=184),
]
# Builders that only call another one with the paper's constants.
PRESETS = {"Dilation7", "FCDenseNet56", "FCDenseNet67", "FCDenseNet103"}
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)


def picture(size, channels=3, batch=1):
    """Random pixels 0..255."""
    shape = (batch, *size, channels)
    return np.random.default_rng(0).uniform(0, 255, shape).astype("float32")


def shake(model, row):
    """Random weights everywhere: layers that start at zero would hide what lies before them."""
    rng = np.random.default_rng(row.seed)
    for variable in model.weights:
        if variable.path.endswith(("moving_mean", "bias", "beta")):
            value = 0.1 * rng.standard_normal(variable.shape)
        elif variable.path.endswith(("moving_variance", "gamma")):
            value = rng.uniform(0.5, 1.5, variable.shape)
        elif variable.path.endswith("encoding/scale"):
            value = rng.uniform(-0.02, 0, variable.shape)  # so that every codeword takes part
        elif "seed" in variable.path or not variable.trainable:
            continue
        else:
            value = rng.standard_normal(variable.shape) * np.sqrt(2 / np.prod(variable.shape[:-1]))
        variable.assign(value)


def logits_of(outputs):
    return outputs["logits"] if isinstance(outputs, dict) else outputs


def losses_of(model, loss):
    """`loss` for each output of logits of pixels; outputs of logits of images have their own."""
    if not isinstance(model.output, dict):
        return loss
    whole_image = losses.SemanticEncoding()
    return {name: whole_image if y.ndim == 2 else loss for name, y in model.output.items()}


def relative(a, b, percentile=100):
    a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
    return np.percentile(np.abs(a - b), percentile) / np.abs(b).max()


def test_every_builder_has_a_row():
    assert {row.builder for row in ROWS} | PRESETS == set(models.list_models())


@each_row
def test_logits_have_the_size_of_the_image(row):
    network = in_graph(row.build())
    for size in row.sizes:
        expected = (2, size[0] - row.shrink, size[1] - row.shrink, CLASSES)
        assert logits_of(network(row.picture(size, batch=2))).shape == expected
        static = row.build((*size, row.channels))
        assert logits_of(static.output).shape == (None, *expected[1:])


@each_row
@pytest.mark.parametrize("index", [0, 1])
def test_other_channels(row, index):
    channels = row.other_channels[index]
    model = row.build((None, None, channels))
    outputs = logits_of(model(picture(row.sizes[0], channels)))
    assert np.isfinite(np.asarray(outputs)).all()


@each_row
def test_a_plain_call_is_inference(row):
    """No layer switches to training mode by itself, and calling changes no weight."""
    model = row.build()
    shake(model, row)
    before = [np.array(v) for v in model.weights]
    x = row.picture(row.sizes[0])
    np.testing.assert_array_equal(logits_of(model(x)), logits_of(model(x, training=False)))
    for old, variable in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, variable)


@each_row
def test_the_gradient_reaches_every_trainable_weight(row):
    model = row.build()
    shake(model, row)
    with tf.GradientTape() as tape:
        outputs = model(row.picture(row.sizes[1]), training=False)
        loss = sum(tf.reduce_sum(y * y) for y in tf.nest.flatten(outputs))
    variables = model.trainable_variables
    for variable, gradient in zip(
        variables, tape.gradient(loss, [v.value for v in variables]), strict=True
    ):
        assert gradient is not None, variable.path
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.path


@each_row
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_gives_float32_logits(row, policy):
    exact = row.build()
    shake(exact, row)
    keras.config.set_dtype_policy(policy)
    mixed = row.build()
    mixed.set_weights(exact.get_weights())
    x = row.picture(row.sizes[0])
    y = logits_of(mixed(x))
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    # bfloat16 has 8 bits of mantissa, float16 11; rounding adds up over the layers.
    error = relative(y, logits_of(exact(x)), row.percentile)
    assert error < (0.2 if policy == "mixed_bfloat16" else 0.03)


@each_row
def test_fit_lowers_the_loss(row):
    """Three steps on one batch of the synthetic set, some pixels ignored."""
    model = row.build()
    size = row.sizes[1]
    samples = list(data.shapes(2, size=size, seed=0))
    x = np.stack([sample.image for sample in samples]).astype("float32")
    x = np.concatenate([x] * -(-row.channels // 3), axis=-1)[..., : row.channels]
    height, width = logits_of(model.compute_output_shape(x.shape))[1:3]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    labels = np.stack([sample.label for sample in samples])
    labels = (labels[:, top : top + height, left : left + width] % CLASSES).astype("int32")
    labels[:, :1] = 255
    is_dict = isinstance(model.output, dict)
    target = {name: labels for name in model.output} if is_dict else labels
    loss = losses_of(model, losses.CrossEntropy())
    # Eager: to trace a graph of a hundred layers takes longer than three steps through them.
    model.compile(keras.optimizers.Adam(row.learning_rate), loss=loss, run_eagerly=True)
    history = model.fit(x, target, batch_size=2, epochs=3, verbose=0).history["loss"]
    assert history[-1] < 0.95 * history[0], history


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory):
    """Every row, compiled with loss, metric and optimizer of ours, as a `.keras` file beside input
    and logits.

    {"all": files, "kinds": a few of them that together hold every layer of ours}
    """
    folder = tmp_path_factory.mktemp("models")
    files = {"all": [], "kinds": []}
    kinds = []  # of layers, by file
    for index, row in enumerate(ROWS):
        model = row.build()
        shake(model, row)
        x = row.picture(row.sizes[0])
        loss = losses_of(model, losses.CrossEntropy() + 0.5 * losses.Dice())
        scores = [metrics.MeanIoU(CLASSES)]
        if isinstance(model.output, dict):
            scores = {"logits": scores}
        optimizer = training.SGD(training.Poly(0.01, 10), momentum=0.9, l2=1e-4)
        model.compile(optimizer, loss=loss, metrics=scores)
        file = folder / f"{index:02d}.keras"
        model.save(file)
        np.savez(file.with_suffix(".npz"), x=x, y=logits_of(model(x)))
        files["all"].append(file)
        kinds.append({type(x) for x in model.layers if type(x).__module__.startswith("keras_seg")})
    missing = set().union(*kinds)
    while missing:
        index = max(range(len(kinds)), key=lambda i: len(kinds[i] & missing))
        files["kinds"].append(files["all"][index])
        missing -= kinds[index]
    return files


# Compiled for the compiler's time: each network runs once.
QUICK_XLA = {
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
}
OPEN_ALL = """
import sys, pathlib, keras, numpy as np, keras_seg.models
if keras.backend.backend() != "tensorflow":
    assert "tensorflow" not in sys.modules
for file in map(pathlib.Path, sys.argv[1:]):
    pair = np.load(file.with_suffix(".npz"))
    model = keras.models.load_model(file)
    # JAX compiles a plain call operator by operator, which takes four times as long.
    on_jax = keras.backend.backend() == "jax"
    y = model.predict(pair["x"], verbose=0) if on_jax else model(pair["x"])
    y = keras.ops.convert_to_numpy(y["logits"] if isinstance(y, dict) else y)
    print(file.stem, np.abs(y - pair["y"]).max() / np.abs(pair["y"]).max())
"""


@pytest.mark.parametrize(
    ("backend", "which"),
    [
        ("tensorflow", "all"),
        ("jax", "kinds"),
        pytest.param("jax", "all", marks=pytest.mark.slow),
        pytest.param("torch", "all", marks=pytest.mark.slow),
    ],
)
def test_files_open_in_a_fresh_process_on_either_backend(saved_models, backend, which):
    """The same logits from the file alone, also where the backend is another one.

    `import keras_seg.models` is all it takes to open a file that was compiled with what is ours.
    """
    import os

    done = subprocess.run(
        [sys.executable, "-c", OPEN_ALL, *map(str, saved_models[which])],
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", **QUICK_XLA},
        cwd=pathlib.Path(keras_seg.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = dict(line.split() for line in done.stdout.splitlines())
    assert len(found) == len(saved_models[which])
    for stem, error in found.items():
        assert float(error) < 1e-5, (ROWS[int(stem)].id, error)


@each_row
def test_export_computes_the_same(row, tmp_path):
    """Every format holds builtin operators only and agrees with Keras."""
    from keras_seg.export import export

    model = row.build()
    shake(model, row)
    images = row.picture(row.sizes[1], batch=2)
    report = export(
        model,
        tmp_path / "out",
        size=row.sizes[1],
        calibration=images,
        images=images,
        quantize=("int8",),
        benchmark=False,
        progress=False,
    )
    assert report.ok, str(report)
    for name, operators in report.manifest["operators"].items():
        # A static batch of 1 lets each dilated convolution be one operator.
        slow = ("FLEX", "Flex", "CUSTOM", "SPACE_TO_BATCH", "BATCH_TO_SPACE", "VAR_HANDLE")
        assert operators and not [op for op in operators if op.startswith(slow)], name


def test_unknown_names_offer_the_nearest():
    with pytest.raises(ValueError, match="Unknown model 'Unet'. Did you mean 'UNet'"):
        models.build("Unet", 3)
    with pytest.raises(ValueError, match="Unknown option of UNet 'filter'. Did you mean 'filters'"):
        models.build("UNet", 3, filter=8)
    with pytest.raises(ValueError, match="UNet cannot be built with the options .*'abc'"):
        models.build("UNet", 3, dropout="abc")
