"""The CRF layer: the reference's numbers, a plain loop over pairs, gradients, memory in blocks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden import cases

from keras_seg.crf import MeanField, mean_field

WEIGHTS = ("spatial_ker_weights", "bilateral_ker_weights", "compatibility_matrix")


def drawn(batch, height, width, classes, channels, dtype="float32"):
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((batch, height, width, classes))
    image = rng.uniform(0, 255, (batch, height, width, channels))
    return logits.astype(dtype), image.astype(dtype)


def hold(monkeypatch, numbers):
    """Kernels of more numbers are computed in blocks of so many."""
    monkeypatch.setattr(mean_field, "MAX_KERNEL", numbers)
    monkeypatch.setattr(mean_field, "BLOCK", numbers)


def with_weights(matrices, classes, **options):
    layer = MeanField(**options)
    layer.build((None, None, None, classes), (None, None, None, 3))
    layer.set_weights(matrices)
    return layer


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("crf_rnn_mean_field", {"theta_alpha": 8, "theta_beta": 20, "theta_gamma": 3}),
        ("crf_rnn_release", {}),  # the defaults are the release's
    ],
)
def test_golden(name, options):
    case, reference = cases.load(name)
    inputs = {key: value.transpose(0, 2, 3, 1) for key, value in cases.inputs(case).items()}
    state = cases.state(case)
    for output in case["outputs"]:
        if not output.startswith("q_"):
            continue
        layer = MeanField(iterations=int(output[2:]), **options)
        layer.build(inputs["logits"].shape, inputs["rgb"].shape)
        if state:
            layer.set_weights([state[key] for key in WEIGHTS])
        got = layer(inputs["logits"], inputs["rgb"])
        error = cases.relative_error(case, output, got, reference[output])
        print(f"{name} {output}: {error:.1e}")
        assert error <= 1e-4, output
    last = keras.ops.softmax(got, axis=-1)
    assert cases.relative_error(case, "softmax_last", last, reference["softmax_last"]) <= 1e-4


def by_pairs(logits, image, matrices, iterations, alpha, beta, gamma):
    """One image; every pair of pixels by itself, as the class's docstring writes it."""
    height, width, classes = logits.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    spatial, bilateral = np.zeros((2, len(places), len(places)))
    for i, p in enumerate(places):
        for j, r in enumerate(places):
            far = (p[0] - r[0]) ** 2 + (p[1] - r[1]) ** 2
            unlike = ((image[p] - image[r]) ** 2).sum()
            spatial[i, j] = np.exp(-far / (2 * gamma**2))
            bilateral[i, j] = np.exp(-far / (2 * alpha**2) - unlike / (2 * beta**2))
    u = logits.reshape(-1, classes)
    q = u
    for _ in range(iterations):
        s = np.exp(q - q.max(1, keepdims=True))
        s /= s.sum(1, keepdims=True)
        a = spatial @ s / spatial.sum(1, keepdims=True)
        b = bilateral @ s / bilateral.sum(1, keepdims=True)
        q = u - (a @ matrices[0].T + b @ matrices[1].T) @ matrices[2].T
    return q.reshape(logits.shape)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("held", [4096**2, 300])
def test_equals_a_loop_over_pairs(monkeypatch, channels, held):
    """Kernel held whole, and three of 42 rows at a time."""
    hold(monkeypatch, held)
    logits, image = drawn(2, 7, 6, 3, channels)
    rng = np.random.default_rng(1)
    matrices = [rng.standard_normal((3, 3)) for _ in range(3)]
    layer = with_weights(matrices, 3, iterations=3, theta_alpha=4, theta_beta=60, theta_gamma=2)
    got = np.asarray(layer(logits, image))
    for n in range(2):
        expected = by_pairs(
            logits[n].astype("float64"), image[n].astype("float64"), matrices, 3, 4, 60, 2
        )
        assert np.abs(got[n] - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("held", [4096**2, 500])
def test_gradients_equal_finite_differences(monkeypatch, held):
    hold(monkeypatch, held)
    logits, image = drawn(1, 6, 6, 3, 3, "float64")
    layer = MeanField(iterations=3, theta_alpha=4, theta_beta=60, theta_gamma=2, dtype="float64")
    direction = np.random.default_rng(2).standard_normal(logits.shape)
    layer(logits, image)
    variables = [*layer.trainable_variables]
    with tf.GradientTape() as tape:
        x = tf.constant(logits)
        tape.watch(x)
        value = tf.reduce_sum(layer(x, image) * direction)
    gradients = tape.gradient(value, [x, *(v.value for v in variables)])

    def numeric(change):
        values = []
        for step in (1e-5, -1e-5):
            values.append(float(np.sum(np.asarray(change(step)) * direction)))
        return (values[0] - values[1]) / 2e-5

    for place in [(0, 0, 0, 0), (0, 3, 4, 1)]:
        bump = np.zeros(logits.shape)
        bump[place] = 1
        found = numeric(lambda step, bump=bump: layer(logits + step * bump, image))
        assert float(gradients[0][place]) == pytest.approx(found, rel=1e-5, abs=1e-8)
    for variable, gradient in zip(variables, gradients[1:], strict=True):
        start = np.array(variable)
        bump = np.zeros(start.shape)
        bump[0, 1] = bump[2, 2] = 1

        def change(step, variable=variable, start=start, bump=bump):
            variable.assign(start + step * bump)
            return layer(logits, image)

        found = numeric(change)
        variable.assign(start)
        assert float(tf.reduce_sum(gradient * bump)) == pytest.approx(found, rel=1e-5)


def test_no_gradient_to_the_image():
    logits, image = map(tf.constant, drawn(1, 5, 4, 3, 3))
    with tf.GradientTape() as tape:
        tape.watch(image)
        y = MeanField()(logits, image)
    assert tape.gradient(y, image) is None


def test_sizes_that_only_the_graph_knows():
    """Computed in blocks; the same numbers, and gradients, as with the kernel held whole."""
    logits, image = drawn(2, 9, 7, 3, 3)
    layer = MeanField(theta_beta=60, iterations=2, training_iterations=2)

    def value_and_gradient(logits, image):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            y = layer(logits, image, training=True)
        return y, tape.gradient(y, logits)

    signature = [tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None, None, None, 3))]
    graph = tf.function(value_and_gradient, input_signature=signature)
    whole = value_and_gradient(*map(tf.constant, (logits, image)))
    for a, b in zip(graph(logits, image), whole, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_five_iterations_in_training_and_ten_in_use():
    logits, image = drawn(1, 6, 5, 3, 3)
    five, ten = MeanField(iterations=5), MeanField(iterations=10)
    layer = MeanField()
    np.testing.assert_array_equal(layer(logits, image, training=True), five(logits, image))
    np.testing.assert_array_equal(layer(logits, image), ten(logits, image))
    assert np.abs(np.asarray(five(logits, image)) - ten(logits, image)).max() > 1e-4


def soft_scene(size, seed=0):
    """Logits and image (1, size, size, 3): noise, on a picture of slow waves of colour."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size, 1))[:2] / 12
    image = 127 + 60 * np.sin(y * rng.uniform(-1, 1, 3) + x * rng.uniform(-1, 1, 3) + [0, 2, 4])
    logits = rng.standard_normal((1, size, size, 3)) + (image - 127)[None] / 60
    return logits.astype("float32"), image[None].round().astype("float32")


def test_the_lattice_gives_nearly_the_labels_and_gradients_of_the_exact_filter():
    """64 x 64 pixels, the release's widths."""
    logits, image = soft_scene(64)
    direction = np.random.default_rng(5).standard_normal(logits.shape).astype("float32")
    found = []
    for bilateral in ("exact", "lattice"):
        layer = MeanField(iterations=3, bilateral=bilateral)
        x = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, image)
            value = tf.reduce_sum(tf.nn.softmax(y) * direction)
        gradients = tape.gradient(value, [x, *(w.value for w in layer.trainable_variables)])
        found.append((np.asarray(y).argmax(-1), [np.asarray(g).ravel() for g in gradients]))
    (exact, exact_gradients), (lattice, gradients) = found
    print("equal labels", (exact == lattice).mean())
    assert (exact == lattice).mean() > 0.97
    for ours, theirs in zip(gradients, exact_gradients, strict=True):
        cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
        print("cosine", cosine)
        assert cosine > 0.9


def test_gradient_on_the_lattice_equals_finite_differences():
    """The filter is linear and of float32: large steps in one iteration's message."""
    logits, image = drawn(2, 9, 8, 3, 3)
    layer = MeanField(theta_alpha=4, theta_beta=60, bilateral="lattice")
    s, direction = np.random.default_rng(2).uniform(0, 1, (2, *logits.shape)).astype("float32")
    filtered = layer._bilateral_filter(image)
    with tf.GradientTape() as tape:
        x = tf.constant(s)
        tape.watch(x)
        value = tf.reduce_sum(filtered(x) * direction)
    gradient = np.asarray(tape.gradient(value, x))
    for place in [(0, 0, 0, 0), (1, 3, 4, 1), (1, 8, 7, 2)]:
        bump = np.zeros_like(s)
        bump[place] = 1
        change = np.sum((np.asarray(filtered(s + bump)) - np.asarray(filtered(s))) * direction)
        assert gradient[place] == pytest.approx(change, rel=1e-3)
        assert change > 0.01


def test_lattice_in_a_compiled_model_and_its_file(tmp_path):
    logits, image = drawn(2, 10, 12, 3, 3)
    layer = MeanField(bilateral="lattice", theta_beta=30)
    expected = np.asarray(layer(logits, image))
    inputs = [keras.Input((None, None, 3)), keras.Input((None, None, 3))]
    model = keras.Model(inputs, layer(*inputs))
    model.compile("sgd", "mse")
    np.testing.assert_allclose(model.predict([logits, image], verbose=0), expected, atol=1e-5)
    before = [np.array(w) for w in model.weights]
    model.fit([logits, image], logits, batch_size=1, epochs=1, verbose=0)
    assert all((np.array(w) != b).any() for w, b in zip(model.weights, before, strict=True))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[-1].bilateral == "lattice"


def test_no_file_of_a_crf_on_the_lattice(tmp_path):
    from keras_seg.export import export

    image = keras.Input((16, 16, 3))
    logits = keras.layers.Conv2D(3, 1)(image)
    model = keras.Model(image, MeanField(bilateral="lattice")(logits, image))
    with pytest.raises(ValueError, match="runs Python code .* build it with bilateral='exact'"):
        export(model, tmp_path / "files", formats=["tflite"], quantize=[], progress=False)
    assert not (tmp_path / "files").exists()


def test_labels_follow_the_edges_of_the_image():
    """Noisy scores of two halves, one dark and one bright: the CRF finds the halves."""
    rng = np.random.default_rng(3)
    truth = np.zeros((20, 24), int)
    truth[:, 11:] = 1
    image = np.where(truth == 1, 200.0, 60.0)[None, ..., None] + rng.normal(0, 1, (1, 20, 24, 3))
    logits = np.eye(2)[truth][None] + rng.normal(0, 1.2, (1, 20, 24, 2))
    before = (logits.argmax(-1)[0] == truth).mean()
    after = (np.asarray(MeanField()(logits, image)).argmax(-1)[0] == truth).mean()
    assert before < 0.8 and after == 1


def test_float32_under_mixed_precision_and_file(tmp_path):
    logits, image = drawn(1, 6, 5, 3, 3)
    expected = MeanField(theta_beta=5)(logits, image)
    keras.config.set_dtype_policy("mixed_float16")
    inputs = [keras.Input((None, None, 3)), keras.Input((None, None, 3))]
    model = keras.Model(inputs, MeanField(theta_beta=5)(*inputs))
    y = model([logits, image])
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    np.testing.assert_allclose(y, expected, atol=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again([logits, image]), y)


def test_bad_arguments():
    with pytest.raises(ValueError, match="iterations must be a whole number of at least 1, got 0"):
        MeanField(iterations=0)
    with pytest.raises(ValueError, match="theta_beta must be a number above 0, got -3"):
        MeanField(theta_beta=-3)
    with pytest.raises(ValueError, match="Unknown bilateral filter 'grid'.*exact, lattice"):
        MeanField(bilateral="grid")
    with pytest.raises(ValueError, match="logits are 4 x 5 pixels, the image 8 x 10"):
        MeanField()(np.zeros((1, 4, 5, 2), "float32"), np.zeros((1, 8, 10, 3), "float32"))
