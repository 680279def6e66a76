"""Every kind of model file gives the logits of the model that it was made from."""

import concurrent.futures
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_seg.inference import find_model, load_runner

EXACT = ["model.keras", "saved_model", "model.tflite", "model.onnx"]
KINDS = ["keras", "saved_model", "tflite", "onnx"]


@pytest.fixture
def expected(make_model, images):
    return make_model().predict_on_batch(images.astype("float32"))


@pytest.mark.parametrize(("name", "kind"), list(zip(EXACT, KINDS, strict=True)))
def test_each_file_computes_the_model(files, images, expected, name, kind):
    runner = load_runner(files[name])
    assert (runner.kind, runner.path) == (kind, files[name])
    assert (runner.input_size, runner.channels, runner.num_classes) == ((16, 24), 3, 5)
    assert not runner.outputs_labels
    logits = runner.run(images)  # three images, also through files of batch 1
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["int8.tflite", "uint8.tflite"])
def test_quantised_input_and_output_are_converted_by_the_files_scales(
    files, images, expected, name
):
    runner = load_runner(files[name])
    logits = runner.run(images)
    assert logits.dtype == np.float32
    # 256 steps from the least to the largest logit; a few of them may be lost on the way.
    step = (expected.max() - expected.min()) / 255
    assert np.abs(logits - expected).max() < 6 * step
    assert np.abs(logits - expected).mean() < step


@pytest.mark.parametrize("name", ["labels.tflite", "labels.onnx"])
def test_files_that_return_labels(files, images, expected, name):
    runner = load_runner(files[name])
    assert runner.outputs_labels and runner.num_classes is None
    labels = runner.run(images)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected.argmax(axis=-1))


def test_a_file_of_any_size_and_two_outputs_runs_at_each_size(files, make_model):
    runner = load_runner(files["any_size.tflite"])
    assert (runner.input_size, runner.num_classes) == (None, 5)
    model = make_model((None, None))
    for shape in [(1, 16, 24, 3), (2, 9, 13, 3), (1, 16, 24, 3)]:
        image = np.random.default_rng(1).integers(0, 256, shape).astype("float32")
        np.testing.assert_allclose(runner.run(image), model.predict_on_batch(image), atol=1e-4)


def test_a_keras_model_runs_in_inference_mode_at_any_size(make_model):
    model = make_model((None, None))
    before = [keras.ops.convert_to_numpy(w) for w in model.weights]
    runner = load_runner(model)
    assert runner.path is None
    for size in [(7, 5), (16, 16), (1, 1)]:
        image = np.random.default_rng(1).integers(0, 256, (2, *size, 3)).astype("uint8")
        reference = model(image.astype("float32"), training=False)
        np.testing.assert_allclose(
            runner.run(image), keras.ops.convert_to_numpy(reference), atol=1e-5
        )
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))


def test_a_model_in_training_is_followed(make_model, images):
    model = make_model()
    runner = load_runner(model)
    before = runner.run(images)
    bias = model.get_layer("logits").bias
    bias.assign(keras.ops.add(bias, 1.5))
    np.testing.assert_allclose(runner.run(images), before + 1.5, atol=1e-5)


def test_a_network_that_cannot_be_traced_with_an_unknown_size_still_runs():
    image = keras.Input((None, None, 3))
    x = keras.layers.MaxPooling2D()(image)
    model = keras.Model(image, keras.layers.UpSampling2D(interpolation="bilinear")(x))
    runner = load_runner(model)
    assert (
        runner.run(np.full((2, 6, 4, 3), 9, "uint8")).tolist() == np.full((2, 6, 4, 3), 9).tolist()
    )


def test_layers_of_other_parts_of_the_package_load_in_a_fresh_process(tmp_path):
    """A trunk from `keras_seg.backbones` has layers that `keras_seg.inference` does not import."""
    from keras_seg.backbones import dilation

    image = keras.Input((8, 8, 3))
    x = dilation.Subsample2D(2)(image)
    keras.Model(image, keras.layers.Conv2D(2, 1)(x)).save(tmp_path / "model.keras")
    code = (
        "import sys; from keras_seg.inference import load_runner; "
        "sys.exit(load_runner(sys.argv[1]).num_classes - 2)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model.keras"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_auxiliary_outputs_are_left_out_and_half_precision_becomes_float32():
    keras.config.set_dtype_policy("mixed_float16")
    image = keras.Input((None, None, 3))
    logits = keras.layers.Conv2D(4, 1)(image)
    aux = keras.layers.Conv2D(2, 1)(image)
    runner = load_runner(keras.Model(image, {"logits": logits, "aux": aux}))
    assert runner.num_classes == 4
    output = runner.run(np.zeros((1, 5, 5, 3)))
    assert output.shape == (1, 5, 5, 4) and output.dtype == np.float32


@pytest.mark.parametrize("name", EXACT)
def test_threads_get_their_own_answers(files, name):
    runner = load_runner(files[name])
    batches = np.random.default_rng(2).integers(0, 256, (16, 1, 16, 24, 3)).astype("uint8")
    alone = [runner.run(batch) for batch in batches]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(runner.run, batches))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_threads_with_images_of_different_sizes(files):
    runner = load_runner(files["any_size.tflite"])
    batches = [np.full((1, 8 + n % 4, 9, 3), n, "float32") for n in range(16)]
    alone = [runner.run(batch) for batch in batches]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(runner.run, batches), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(
    "shape", [(1, 16, 23, 3), (1, 16, 24, 1), (16, 24, 3), (0, 16, 24, 3), (1, 3, 16, 24)]
)
def test_images_of_another_shape_are_refused(files, name, shape):
    runner = load_runner(files[name])
    with pytest.raises(ValueError, match=r"takes images \(N, 16, 24, 3\), got the shape"):
        runner.run(np.zeros(shape, "uint8"))


def test_a_run_folder_means_its_best_model(files, tmp_path):
    shutil.copy(files["model.keras"], tmp_path / "last.keras")
    assert find_model(tmp_path) == tmp_path / "last.keras"
    shutil.copy(files["model.keras"], tmp_path / "best.keras")
    assert find_model(str(tmp_path)) == tmp_path / "best.keras"


def test_an_export_folder_is_ambiguous(files, tmp_path):
    shutil.copy(files["model.tflite"], tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    assert find_model(tmp_path) == tmp_path / "model.tflite"
    shutil.copytree(files["saved_model"], tmp_path / "saved_model")
    assert find_model(tmp_path / "saved_model" / "saved_model.pb") == tmp_path / "saved_model"
    with pytest.raises(ValueError, match="holds 2 models: model.tflite, saved_model. Give"):
        find_model(tmp_path)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="There is no model at .*absent.keras"):
        load_runner(tmp_path / "absent.keras")
    with pytest.raises(ValueError, match="holds no model"):
        load_runner(tmp_path)
    (tmp_path / "model.tfl").write_bytes(b"")
    with pytest.raises(ValueError, match=r"Did you mean '.tflite'"):
        load_runner(tmp_path / "model.tfl")
    (tmp_path / "model.weights.h5").write_bytes(b"")
    with pytest.raises(ValueError, match="holds weights"):
        load_runner(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match="num_threads must be"):
        load_runner(tmp_path, num_threads=0)


@pytest.mark.parametrize("name", ["model.keras", "model.tflite", "model.onnx"])
@pytest.mark.parametrize("damage", ["empty", "torn", "text"])
def test_damaged_files_are_named(files, tmp_path, name, damage):
    whole = files[name].read_bytes()
    content = {"empty": b"", "torn": whole[: len(whole) // 3], "text": b"<html>not found</html>"}
    (tmp_path / name).write_bytes(content[damage])
    with pytest.raises(ValueError, match=f"Cannot load .*{name}"):
        load_runner(tmp_path / name)


def test_a_damaged_saved_model_is_named(files, tmp_path):
    folder = tmp_path / "saved_model"
    shutil.copytree(files["saved_model"], folder)
    (folder / "saved_model.pb").write_bytes(b"<html>")
    with pytest.raises(ValueError, match="Cannot load .*saved_model"):
        load_runner(folder)


def test_networks_of_another_kind_are_refused():
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    with pytest.raises(ValueError, match=r"expected logits \(N, H, W, K\)"):
        load_runner(keras.Model(image, pooled))
    vector = keras.Input((8,))
    with pytest.raises(ValueError, match="takes images"):
        load_runner(keras.Model(vector, keras.layers.Dense(2)(vector)))
    other = keras.Input((8, 8, 3))
    both = keras.layers.Add()([image, other])
    with pytest.raises(ValueError, match="must take one tensor"):
        load_runner(keras.Model([image, other], both))
    with pytest.raises(ValueError, match="fixes only one of height and width"):
        wide = keras.Input((None, 8, 3))
        load_runner(keras.Model(wide, keras.layers.Conv2D(2, 1)(wide)))
