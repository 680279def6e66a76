import csv
import errno
import json
import os
import types

import keras
import numpy as np
import pytest
from PIL import Image
from small_run import CLASSES, SIZE, Samples, StopAfter, network, run

from keras_seg import data, losses, training
from keras_seg.inference import Predictor, evaluate
from keras_seg.training.checkpoint import BEST, LAST, PREVIOUS, read_progress
from keras_seg.training.train import _origin


def weights(model):
    return [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def interrupt(folder, after, **options):
    with pytest.raises(KeyboardInterrupt):
        run(folder, callbacks=[StopAfter(after)], **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run, made once: (folder, result)."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("finished") / "runs" / "one"
    return folder, run(folder, epochs=4, learning_rate=0.03)


def test_it_learns(finished):
    """Much better than guessing, which costs ln(4) = 1.39."""
    _, result = finished
    values = [row["loss"] for row in result.history]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 1.05


def test_the_folder_holds_everything(finished):
    folder, result = finished
    names = {path.name for path in folder.iterdir()}
    wanted = {LAST, BEST, "manifest.json", "history.csv", "metrics.json", "logs", "previews"}
    assert wanted <= names
    assert len(list((folder / "logs" / "train").iterdir())) == 1
    assert len(list((folder / "logs" / "validation").iterdir())) == 1
    pictures = sorted(path.name for path in (folder / "previews").iterdir())
    assert pictures == [f"epoch_000{n}.png" for n in (1, 2, 3, 4)]
    with Image.open(folder / "previews" / pictures[0]) as picture:
        picture.load()
    assert result.folder == folder


def test_the_history_is_the_same_everywhere(finished):
    folder, result = finished
    with open(folder / "history.csv", newline="") as file:
        rows = [{name: float(v) for name, v in row.items()} for row in csv.DictReader(file)]
    assert rows == result.history == read_progress(folder / LAST)["history"]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert {"loss", "mean_iou", "val_loss", "val_mean_iou", "learning_rate", "seconds"} < set(
        rows[0]
    )
    # 3 steps an epoch of 12: the rate that epoch n starts with.
    rates = [0.03 * (1 - 3 * n / 12) ** 0.9 for n in range(4)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(rates, rel=1e-5)


def test_the_manifest_says_what_was_done(finished):
    folder, result = finished
    found = manifest(folder)
    assert (found["keras_seg_manifest"], found["kind"], found["state"]) == (1, "run", "finished")
    assert data.LabelTable.from_json(found["classes"]).num_classes == CLASSES
    assert found["input"]["range"] == [0, 255]
    assert found["versions"]["keras"] == keras.__version__
    assert found["settings"]["batch_size"] == 4
    assert found["best"] == {
        "monitor": "val_mean_iou",
        "score": result.best_score,
        "epoch": result.best_epoch,
    }
    assert found["files"][BEST]["bytes"] == (folder / BEST).stat().st_size
    assert found["data"] == {"name": None, "licence": None}  # drawn here, published by nobody
    published = _origin(types.SimpleNamespace(layout="dsb2018"))
    assert published["licence"] == "CC0" and "2018" in published["name"]


def test_the_result_is_the_best_epoch(finished):
    folder, result = finished
    best = max(result.history, key=lambda row: row["val_mean_iou"])
    assert (result.best_epoch, result.best_score) == (best["epoch"], best["val_mean_iou"])
    assert read_progress(folder / BEST)["epoch"] == best["epoch"]
    assert same(result.model, keras.models.load_model(folder / BEST))


def test_the_score_of_fit_is_that_of_the_predictor(finished):
    """5 images in batches of 4: the filled up batch adds nothing and loses nothing."""
    folder, result = finished
    assert result.scores["mean_iou"] == pytest.approx(result.best_score, abs=1e-6)
    written = json.loads((folder / "metrics.json").read_text())
    assert written["mean_iou"] == result.scores["mean_iou"]
    assert len(written["iou"]) == CLASSES


def test_a_finished_run_says_so_and_stays(finished, capsys):
    folder, result = finished
    before = (folder / LAST).read_bytes()
    again = run(folder, epochs=4, learning_rate=0.03, verbose=2)
    assert "is finished (4 epochs)" in capsys.readouterr().out
    assert (folder / LAST).read_bytes() == before
    assert again.history == result.history
    assert same(again.model, result.model)


def test_resume_false_and_other_settings_are_refused(finished):
    folder, _ = finished
    with pytest.raises(ValueError, match="already holds a run"):
        run(folder, epochs=4, learning_rate=0.03, resume=False)
    with pytest.raises(ValueError, match="learning_rate: 0.03 before, 0.01 now"):
        run(folder, epochs=4)
    assert manifest(folder)["state"] == "finished"


def test_another_network_is_refused(finished):
    folder, _ = finished
    with pytest.raises(ValueError, match="parameters: .* before, .* now"):
        run(folder, lambda: network(filters=4), epochs=4, learning_rate=0.03)


def test_a_network_of_another_name_or_class_count_is_refused(finished):
    """As many weights in the same order do not make it the same network."""
    folder, _ = finished

    def renamed():
        model = network()
        return keras.Model(model.input, model.output, name="other")

    with pytest.raises(ValueError, match="holds a run of the network small, this one is other"):
        run(folder, renamed, epochs=4, learning_rate=0.03)
    five = Samples(data.shapes(14, size=SIZE), data.LabelTable.default(5))
    with pytest.raises(ValueError, match="num_classes: 4 before, 5 now"):
        run(folder, lambda: network(classes=5), five, epochs=4, learning_rate=0.03)


def test_a_run_can_be_made_longer(tmp_path):
    """With a constant rate, 1 epoch and then 2 more are 3; dropout and data order included."""
    options = {"schedule": "constant", "optimizer": "sgd"}
    whole = run(tmp_path / "whole", epochs=3, **options)
    run(tmp_path / "parts", epochs=1, **options)
    parts = run(tmp_path / "parts", epochs=3, **options)
    for one, other in zip(whole.history, parts.history, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)


def test_an_interrupted_run_goes_on(tmp_path, capsys):
    interrupt(tmp_path, after=1, epochs=2)
    assert manifest(tmp_path)["state"] == "interrupted"
    assert read_progress(tmp_path / LAST)["epoch"] == 1
    result = run(tmp_path, epochs=2, verbose=2)
    assert f"Going on from {tmp_path / LAST} after 1 epochs" in capsys.readouterr().out
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert manifest(tmp_path)["state"] == "finished"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_ends_in_words_and_costs_no_epoch(tmp_path, monkeypatch, error):
    """Whichever file cannot be written; at last the manifest cannot tell of it either."""
    with monkeypatch.context() as refusing:

        def refuse(path, *_):
            raise OSError(error, os.strerror(error))

        def write(folder, history):
            if len(history) == 2:
                refusing.setattr("keras_seg.training.folder.write_json", refuse)
                refuse(folder)

        refusing.setattr("keras_seg.training.callbacks.write_history", write)
        with pytest.raises(ValueError, match=f"Cannot write in .*: {os.strerror(error)}"):
            run(tmp_path, epochs=3)
    assert [row["epoch"] for row in run(tmp_path, epochs=3).history] == [1, 2, 3]
    assert manifest(tmp_path)["state"] == "finished"


def test_a_damaged_checkpoint_costs_one_epoch(tmp_path, capsys):
    interrupt(tmp_path, after=2, epochs=3, monitor="loss")
    first = read_progress(tmp_path / PREVIOUS)["history"]
    for name in (LAST, BEST):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-500])
    result = run(tmp_path, epochs=3, monitor="loss", verbose=2)
    said = capsys.readouterr().out
    assert f"{LAST} is damaged" in said
    assert f"Going on from {tmp_path / PREVIOUS} after 1 epochs" in said
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert result.history[:1] == first
    assert read_progress(tmp_path / BEST)["epoch"] == result.best_epoch


def test_a_lost_best_file_is_made_again(tmp_path):
    interrupt(tmp_path, after=1, epochs=2)
    os.remove(tmp_path / BEST)
    result = run(tmp_path, epochs=2)
    assert read_progress(tmp_path / BEST)["epoch"] == result.best_epoch


def test_one_nan_pixel_stops_the_run(tmp_path):
    """TensorFlow's fused convolution on CPU hides it from the loss; the weights do not lie."""
    images = np.random.default_rng(0).uniform(0, 255, (8, *SIZE, 3)).astype("float32")
    labels = np.zeros((8, *SIZE), "int32")
    batches = Batches(images, labels)
    run(tmp_path, network, batches, epochs=1)
    images[5, 3, 3, 0] = np.nan
    kept = (tmp_path / LAST).read_bytes()
    with pytest.raises(
        ValueError, match=r"stopped at epoch 2, step 2: .*(kernel|gamma).* not finite"
    ):
        run(tmp_path, network, batches, epochs=2, check_every=2)
    assert (tmp_path / LAST).read_bytes() == kept
    assert manifest(tmp_path)["state"] == "failed"


def test_a_rate_that_explodes_stops_the_run(tmp_path):
    with pytest.raises(ValueError, match="stopped at the end of epoch .* is not finite"):
        run(tmp_path, optimizer="sgd", learning_rate=1e30, epochs=3)
    assert not (tmp_path / BEST).exists()


class Weights(keras.callbacks.Callback):
    """The trained weights after each step."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(weights(self.model))


def mean_iou(path, val_data):
    return evaluate(Predictor(path), val_data)["mean_iou"]


def test_averaged_weights_are_validated_kept_and_resumed(tmp_path):
    """Against averages in NumPy of the weights after each step."""
    options = {"epochs": 2, "ema_momentum": 0.6, "monitor": "val_loss", "previews": 1}
    options |= {"schedule": "cosine", "warmup_steps": 3, "learning_rate": 0.03}
    seen = Weights()
    whole = run(tmp_path / "whole", callbacks=[seen], **options)
    assert whole.best_epoch == 2
    average = seen.steps[0]
    for step in seen.steps[1:]:
        average = [0.6 * a + 0.4 * w for a, w in zip(average, step, strict=True)]
    best = keras.models.load_model(tmp_path / "whole" / BEST)
    for one, other, raw in zip(average, weights(best), seen.steps[-1], strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)
        assert not np.allclose(other, raw, rtol=1e-4, atol=1e-6)
    assert same(whole.model, best)
    last = keras.models.load_model(tmp_path / "whole" / LAST)
    assert all(map(np.array_equal, weights(last), seen.steps[-1]))
    # The scores of `fit` are those of the file with the averages.
    val_data = data.shapes(5, size=SIZE, seed=1)
    assert whole.history[1]["val_mean_iou"] == pytest.approx(
        mean_iou(tmp_path / "whole" / BEST, val_data), abs=1e-6
    )
    # Warm-up over the first epoch of 3 steps, then the top of the wave.
    rates = [row["learning_rate"] for row in whole.history]
    assert rates == pytest.approx([0.01, 0.03], rel=1e-5)

    interrupt(tmp_path / "parts", after=1, **options)
    for name in (LAST, PREVIOUS):  # of the best file alone, whose weights are the averages
        (tmp_path / "parts" / name).unlink(missing_ok=True)
    parts = run(tmp_path / "parts", **options)
    for one, other in zip(weights(whole.model), weights(parts.model), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)
    again = run(tmp_path / "parts", **options)  # finished: the averages, not the weights
    assert same(again.model, parts.model)


class LeaveTheFirst(keras.callbacks.Callback):
    """At the end the weights of the first epoch stand in the model, as after EarlyStopping."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.kept = self.model.get_weights()

    def on_train_end(self, logs=None):
        self.model.set_weights(self.kept)


@pytest.mark.parametrize("ema_momentum", [None, 0.6])
def test_the_result_is_the_best_epoch_whatever_a_callback_leaves(tmp_path, ema_momentum):
    options = {"monitor": "loss", "callbacks": [LeaveTheFirst()], "ema_momentum": ema_momentum}
    result = run(tmp_path, epochs=3, **options)
    assert result.best_epoch == 3
    best = keras.models.load_model(tmp_path / BEST)
    assert same(result.model, best)
    scores = mean_iou(tmp_path / BEST, data.shapes(5, size=SIZE, seed=1))
    assert result.scores["mean_iou"] == pytest.approx(scores, abs=1e-6)


def test_auxiliary_outputs_weigh_their_part(tmp_path):
    result = run(
        tmp_path, lambda: network(aux=True), epochs=1, aux_weight=0.25, precision="mixed_float16"
    )
    (row,) = result.history
    assert row["loss"] == pytest.approx(row["logits_loss"] + 0.25 * row["aux_loss"], rel=1e-3)
    assert row["val_mean_iou"] == result.best_score
    assert result.scores["mean_iou"] == pytest.approx(row["val_mean_iou"], abs=1e-6)
    assert keras.config.dtype_policy().name == "float32"  # the caller's policy is back


def test_an_output_of_whole_images_learns_which_classes_they_hold(tmp_path):
    def build():
        model = network()
        x = keras.layers.GlobalAveragePooling2D()(model.get_layer("features").output)
        presence = keras.layers.Dense(CLASSES, dtype="float32", name="se")(x)
        return keras.Model(model.input, {"logits": model.output, "se": presence})

    first, *_, last = run(tmp_path, build, epochs=4, aux_weight=0.2).history
    assert first["loss"] == pytest.approx(first["logits_loss"] + 0.2 * first["se_loss"], rel=1e-3)
    assert last["se_loss"] < first["se_loss"]


def test_head_multiplier_reaches_the_update(tmp_path):
    """One step of SGD: the head's change is ten times that of a run without a multiplier."""
    options = {"optimizer": "sgd", "weight_decay": None, "epochs": 1, "steps_per_epoch": 1}
    keras.utils.set_random_seed(0)
    start = {v.path: keras.ops.convert_to_numpy(v) for v in network().trainable_variables}
    change = {}
    for factor in (1, 10):
        model = run(tmp_path / str(factor), head_multiplier=factor, **options).model
        change[factor] = {
            v.path: keras.ops.convert_to_numpy(v) - start[v.path] for v in model.trainable_variables
        }
    for path in start:
        expected = 10 if path.startswith("logits") else 1
        np.testing.assert_allclose(
            change[10][path], expected * change[1][path], rtol=1e-2, atol=1e-6, err_msg=path
        )


def test_class_weights_from_the_labels(tmp_path):
    """median(f) / f_c over the images with the class (Eigen and Fergus), counted by hand here."""
    shapes = data.shapes(6, size=SIZE, seed=3)
    labels = [shapes[i].label for i in range(6)]
    frequency = [
        sum((label == c).sum() for label in labels)
        / sum((label != 255).sum() for label in labels if (label == c).any())
        for c in range(CLASSES)
    ]
    run(tmp_path, network, shapes, epochs=1, class_weights="median_frequency")
    expected = np.median(frequency) / np.array(frequency)
    assert manifest(tmp_path)["class_weights"] == pytest.approx(expected.tolist())
    model = keras.models.load_model(tmp_path / LAST)
    assert model.loss.class_weights == pytest.approx(expected.tolist())


def test_class_weights_reach_the_terms_of_a_sum(tmp_path):
    loss = losses.CrossEntropy() + 0.5 * losses.Dice()
    run(tmp_path, loss=loss, class_weights=[1, 2, 3, 4], epochs=1, steps_per_epoch=1)
    terms = keras.models.load_model(tmp_path / LAST).loss.terms()
    assert [(type(term).__name__, factor) for term, factor in terms] == [
        ("CrossEntropy", 1.0),
        ("Dice", 0.5),
    ]
    assert terms[0][0].class_weights == [1, 2, 3, 4]


def with_ignored_id(number):
    """4 shapes with a border of ignored pixels, which have this id."""
    shapes = data.shapes(4, size=SIZE, border=2)
    table = data.LabelTable(shapes.table.names, ignore_label=number)
    samples = [shapes[i] for i in range(4)]
    labels = [np.where(s.label == 255, number, s.label).astype("uint8") for s in samples]
    return Samples([s._replace(label=y) for s, y in zip(samples, labels, strict=True)], table)


@pytest.mark.parametrize(
    "loss",
    [
        losses.Dice(),
        losses.CrossEntropy(11) + 0.5 * losses.Dice(),
        losses.CrossEntropy(11) + training.WarmUp(0.1 * losses.Dice()),
        losses.Dice([0, 255]),
    ],
)
def test_a_loss_that_ignores_another_id_than_the_data(tmp_path, loss):
    with pytest.raises(ValueError, match=r"the id 11 but Dice .* give Dice\(ignore_label=11\)"):
        run(tmp_path, network, with_ignored_id(11), loss=loss, epochs=1)
    assert not (tmp_path / "manifest.json").exists()


def test_losses_that_fit_the_ignored_id(tmp_path):
    """The data's own, several with it, and none for data without ignored pixels."""
    for number, ids in ((11, 11), (11, [0, 11])):
        shapes = with_ignored_id(number)
        result = run(tmp_path, network, shapes, loss=losses.Dice(ids), epochs=1, overwrite=True)
        assert np.isfinite(result.history[0]["loss"])
    whole = data.shapes(4, size=SIZE)
    options = {"loss": losses.CrossEntropy(None), "augment": None, "epochs": 1, "overwrite": True}
    assert np.isfinite(run(tmp_path, network, whole, **options).history[0]["loss"])


def test_losses_of_keras(tmp_path):
    """Of logits or of probabilities, as the network returns them, and without ignored pixels."""
    shapes = with_ignored_id(255)
    found = [
        run(tmp_path, build, shapes, loss=loss, epochs=1, overwrite=True).history[0]["loss"]
        for build, loss in (
            (network, losses.CrossEntropy()),
            (with_softmax, SPARSE(ignore_class=255)),
            (network, SPARSE(from_logits=True, ignore_class=255)),
        )
    ]
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)


def test_a_loss_that_ignores_nothing_names_the_ignored_pixels(tmp_path):
    with pytest.raises(ValueError, match="ignored pixels .* a loss with ignore_label=None"):
        run(tmp_path, network, with_ignored_id(255), loss=losses.CrossEntropy(None), epochs=1)


def test_class_weights_by_id(tmp_path):
    options = {"epochs": 1, "steps_per_epoch": 1}
    run(tmp_path, class_weights={3: 4, 1: 2, 2: 3, 0: 1}, **options)
    assert keras.models.load_model(tmp_path / LAST).loss.class_weights == [1, 2, 3, 4]


class Batches(keras.utils.PyDataset):
    """Ready batches of 4 from two arrays."""

    def __init__(self, images, labels):
        super().__init__()
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images) // 4

    def __getitem__(self, index):
        return self.images[4 * index :][:4], self.labels[4 * index :][:4]


def test_images_of_any_size_are_validated_whole(tmp_path):
    """Sizes differ, also from the crops; each labelled pixel is scored once."""
    big, small = data.shapes(2, size=(40, 24), seed=5), data.shapes(3, size=(24, 52), seed=6)
    both = [*(big[i] for i in range(2)), *(small[i] for i in range(3))]
    samples = Samples(both, big.table)
    train_data = data.shapes(8, size=SIZE)
    result = run(tmp_path, network, train_data, samples, crop_size=(16, 24), epochs=1)
    assert np.sum(result.scores["confusion_matrix"]) == 2 * 40 * 24 + 3 * 24 * 52


def test_large_photos_are_validated_one_by_one(tmp_path):
    """A batch of whole photos holds about as many pixels as one of crops, so that memory does."""
    seen = set()

    class Look(keras.layers.Layer):
        def call(self, x, training=None):
            if not training:
                seen.add(x.shape[0])
            return x

    def build():
        image = keras.Input((None, None, 3))
        return keras.Model(image, keras.layers.Conv2D(CLASSES, 1)(Look()(image)))

    small, photos = data.shapes(4, size=(32, 32)), data.shapes(3, size=(64, 96))
    run(tmp_path / "large", build, small, photos, epochs=1, batch_size=4, previews=0)
    assert seen == {None, 1}  # None: while the network is built
    seen.clear()
    run(tmp_path / "small", build, small, small, epochs=1, batch_size=4, previews=0)
    assert 4 in seen


def test_default_crops_of_large_photos_stay_small(tmp_path):
    """Whole photos of 12 megapixels in batches would fill the memory."""
    seen = set()

    class Look(keras.layers.Layer):
        def call(self, x, training=None):
            if training:
                seen.add(tuple(x.shape[1:3]))
            return x

    def build():
        image = keras.Input((None, None, 3))
        return keras.Model(image, keras.layers.Conv2D(CLASSES, 1)(Look()(image)))

    photos = data.shapes(2, size=(600, 40))
    run(tmp_path, build, photos, None, epochs=1, batch_size=2, previews=0)
    assert seen == {(512, 40)}


@pytest.mark.parametrize("filtered", [True, False])
def test_a_layer_that_asks_for_the_size_of_whole_images_is_named(tmp_path, filtered):
    """Keras' bilinear UpSampling2D, in a network for images of any size; Keras itself names it only
    where it filters tracebacks, which the command line does not."""

    def build():
        image = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(CLASSES, 2, strides=2)(image)
        x = keras.layers.UpSampling2D(2, interpolation="bilinear")(x)
        return keras.Model(image, x, name="enlarging")

    switch = (
        keras.config.disable_traceback_filtering,
        keras.config.enable_traceback_filtering,
    )
    before = keras.config.is_traceback_filtering_enabled()
    switch[filtered]()
    try:
        with pytest.raises(ValueError, match=r"enlarging .*\. .*UpSampling2D.*Give val_size=\(H"):
            run(tmp_path / "run", build)
    finally:
        switch[before]()
    result = run(tmp_path / "run", build, val_size=SIZE)
    assert result.scores["mean_iou"] > 0


def test_a_damaged_image_is_named(tmp_path):
    """Whether TensorFlow or Python reads it, it is a ValueError with the file's name."""
    data.write_shapes(tmp_path / "shapes", 8, size=SIZE)
    train_data = data.open_dataset(tmp_path / "shapes")
    path = train_data.image_paths[5]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=path.name):
        run(tmp_path / "run", network, train_data, epochs=1)
    assert path.name in manifest(tmp_path / "run")["error"]


def test_more_steps_than_images(tmp_path):
    few = data.shapes(3, size=SIZE)
    with pytest.raises(ValueError, match="3 images do not fill one batch of 4"):
        run(tmp_path, network, few, epochs=1)
    result = run(tmp_path, network, few, epochs=1, steps_per_epoch=5)
    assert int(result.model.optimizer.iterations) == 5


def test_validation_every_second_epoch_and_after_the_last(tmp_path):
    result = run(tmp_path, epochs=3, validate_every=2, previews=0, tensorboard=False)
    assert [row["epoch"] for row in result.history if "val_mean_iou" in row] == [2, 3]
    assert not (tmp_path / "previews").exists()
    assert not (tmp_path / "logs").exists()


def test_a_checkpoint_every_third_epoch_the_last_and_the_best(tmp_path):
    options = {"epochs": 7, "validate_every": 5, "save_every": 3, "learning_rate": 0.03}
    interrupt(tmp_path / "run", 2, **options)
    assert not (tmp_path / "run" / LAST).exists()
    interrupt(tmp_path / "run", 4, **options)
    assert read_progress(tmp_path / "run" / LAST)["epoch"] == 3
    interrupt(tmp_path / "run", 5, **options)  # epoch 5 was validated, and the best so far
    assert read_progress(tmp_path / "run" / LAST)["epoch"] == 5
    resumed = run(tmp_path / "run", **options)
    assert read_progress(tmp_path / "run" / LAST)["epoch"] == 7
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3, 4, 5, 6, 7]
    pictures = sorted(path.name for path in (tmp_path / "run" / "previews").iterdir())
    assert pictures == ["epoch_0003.png", "epoch_0006.png", "epoch_0007.png"]


def test_images_kept_in_memory_train_the_same(tmp_path):
    once = run(tmp_path / "read", epochs=2, deterministic=True)
    kept = run(tmp_path / "kept", epochs=2, deterministic=True, cache=True, workers=3)
    assert same(once.model, kept.model)


def first_statistics(model, images):
    """Mean and variance of what the first normalisation of `model` sees of images of one size."""
    layer = model.get_layer("block1_bn")
    before = keras.Model(model.input, layer.input)
    values = np.asarray(before(np.stack(images).astype("float32")), "float64")
    return values.mean((0, 1, 2)), values.var((0, 1, 2))


def test_statistics_are_measured_at_the_end(tmp_path):
    train_data, val_data = data.shapes(14, size=SIZE, seed=0), data.shapes(5, size=SIZE, seed=1)
    options = {"train_data": train_data, "val_data": val_data, "epochs": 2}
    result = run(tmp_path / "run", **options, measure_statistics=7)
    images = [train_data[index].image for index in range(0, 14, 2)]
    mean, variance = first_statistics(result.model, images)
    layer = result.model.get_layer("block1_bn")
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-4)

    best = keras.models.load_model(tmp_path / "run" / BEST, compile=False)
    scores = evaluate(Predictor(best), val_data)
    assert scores["mean_iou"] == pytest.approx(result.scores["mean_iou"], abs=1e-6)
    written = (tmp_path / "run" / BEST).stat().st_mtime_ns
    again = run(tmp_path / "run", **options, measure_statistics=7)  # is finished, and stays so
    np.testing.assert_array_equal(again.model.get_layer("block1_bn").moving_mean, layer.moving_mean)
    assert (tmp_path / "run" / BEST).stat().st_mtime_ns == written


def test_training_on_after_statistics_were_measured_is_exact(tmp_path):
    options = {"deterministic": True, "schedule": "constant"}
    whole = run(tmp_path / "whole", epochs=3, **options)
    run(tmp_path / "parts", epochs=2, measure_statistics=4, **options)
    parts = run(tmp_path / "parts", epochs=3, **options)
    assert whole.history[-1]["loss"] == parts.history[-1]["loss"]
    assert whole.history[-1]["val_loss"] == parts.history[-1]["val_loss"]


def test_statistics_of_a_network_of_one_size_and_without_validation(tmp_path):
    train_data = data.shapes(8, size=(48, 40))
    result = run(
        tmp_path, lambda: network(input_shape=(*SIZE, 3)), train_data, measure_statistics=8
    )
    middle = [sample.image[8:40, 4:36] for sample in map(train_data.__getitem__, range(8))]
    layer = result.model.get_layer("block1_bn")
    mean, variance = first_statistics(result.model, middle)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-4)


def test_statistics_that_cannot_be_measured(tmp_path):
    def plain():
        image = keras.Input((None, None, 3))
        return keras.Model(image, keras.layers.Conv2D(CLASSES, 1)(image), name="plain")

    with pytest.raises(ValueError, match="plain has no batch normalisation"):
        run(tmp_path, plain, measure_statistics=2)
    batches = data.make_batches(data.shapes(8, size=SIZE), 4)
    with pytest.raises(ValueError, match="needs a SegmentationDataset"):
        run(tmp_path, network, batches, measure_statistics=2)


IMAGES, LABELS = np.zeros((8, *SIZE, 3), "float32"), np.zeros((8, *SIZE), "int32")
COSINE = keras.optimizers.schedules.CosineDecay(0.1, 9)
PLATEAU = keras.callbacks.ReduceLROnPlateau("loss")


class Subclassed(keras.Model):
    def call(self, image):
        return image


def two_inputs():
    images = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    return keras.Model(images, keras.layers.Add()(images), name="joined")


def listed():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, [keras.layers.Conv2D(4, 1)(image) for _ in range(2)], name="listed")


def frozen():
    model = network()
    model.trainable = False
    return model


def with_softmax():
    model = network()
    return keras.Model(model.input, keras.layers.Softmax()(model.output), name="ends")


SPARSE = keras.losses.SparseCategoricalCrossentropy


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size must be an integer"),
        ({"optimizer": "admm"}, "Unknown optimizer 'admm'. Did you mean 'adam'"),
        ({"schedule": "ploy"}, "Unknown schedule 'ploy'. Did you mean 'poly'"),
        ({"precision": "mixed_flot16"}, "Did you mean 'mixed_float16'"),
        ({"monitor": "val_miou"}, "Unknown monitor 'val_miou'. Did you mean"),
        ({"augment": "defualt"}, "Unknown augment"),
        ({"devices": ["CPU:0", "CPU:7"]}, "Unknown device 'CPU:7'|is for the TensorFlow backend"),
        ({"optimizer": keras.optimizers.RMSprop(), "head_multiplier": 10}, "belong to optimizer="),
        ({"optimizer": keras.optimizers.SGD(), "ema_momentum": 0.9}, "ema_momentum belong to"),
        ({"ema_momentum": 1.0}, "ema_momentum must lie between 0 and 1, got 1.0"),
        ({"gradient_accumulation_steps": 1}, "must be an integer of at least 2, or None"),
        ({"global_clipnorm": 0}, "global_clipnorm must be above 0, got 0"),
        ({"warmup_steps": 6}, r"warmup_steps must lie in 0\.\.5"),
        (
            {"schedule": COSINE, "learning_rate": None, "warmup_steps": 3},
            "warmup_steps is for the schedules poly, cosine, constant; set it in the CosineDecay",
        ),
        ({"schedule": COSINE}, "learning_rate is for the schedules .*; set it in the CosineDecay"),
        ({"learning_rate": COSINE}, "learning_rate is a CosineDecay: give it as schedule="),
        ({"learning_rate": "1e-3"}, "learning_rate must be above 0, a number; got '1e-3'"),
        ({"epochs": True}, "epochs must be an integer of at least 1, got True"),
        ({"steps_per_epoch": "2"}, "steps_per_epoch must be a whole number of at least 1, got '2'"),
        ({"steps_per_epoch": 2.5}, "steps_per_epoch must be a whole number of at least 1, got 2.5"),
        ({"crop_size": 32}, "crop_size must be a list or tuple of 2 whole numbers .* got 32"),
        ({"crop_size": (32.5, 32)}, r"crop_size must be .* 2 whole numbers .* got \(32.5, 32\)"),
        ({"crop_size": (32, 32, 3)}, "crop_size must be a list or tuple of 2 whole numbers"),
        ({"crop_size": (0, 8)}, r"crop_size must be .* of at least 1, got \(0, 8\)"),
        ({"val_size": 32}, "val_size must be a list or tuple of 2 whole numbers .* got 32"),
        ({"loss": losses.Dice}, r"loss=Dice is a class: give an object, Dice\(\)"),
        ({"loss": 3}, "loss must be a loss, .* got 3"),
        (
            {"loss": "poisson", "class_weights": [1, 2, 3, 4]},
            "poisson takes no class weights; use .*CrossEntropy",
        ),
        (
            {"loss": keras.losses.categorical_hinge, "class_weights": [1, 2, 3, 4]},
            "categorical_hinge takes no class weights",
        ),
        (
            {"loss": "sparse_categorical_crossentropy"},
            "loss sparse_categorical_crossentropy takes probabilities, and .* small is logits",
        ),
        ({"loss": SPARSE(ignore_class=255)}, "SparseCategoricalCrossentropy takes probabilities"),
        (
            {"loss": SPARSE(from_logits=True)},
            "have the id 255 but SparseCategoricalCrossentropy in loss ignores None: .*class=255",
        ),
        ({"build": with_softmax}, "output 'logits' of ends ends in a softmax, and the loss takes"),
        ({"callbacks": keras.callbacks.TerminateOnNaN()}, "callbacks must be a list of Keras"),
        ({"callbacks": [print]}, "callbacks must be a list of Keras callbacks, got .*print"),
        ({"callbacks": [PLATEAU]}, "ReduceLROnPlateau sets the learning rate, and so does the"),
        (
            {"callbacks": [PLATEAU], "schedule": "constant", "warmup_steps": 2},
            "schedule='constant' without warmup_steps",
        ),
        (
            {
                "callbacks": [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate)],
                "optimizer": keras.optimizers.SGD(COSINE),
                "learning_rate": None,
            },
            "LearningRateScheduler sets the learning rate, .* a number as its learning_rate",
        ),
        ({"train_data": (IMAGES, LABELS)}, "train_data must be a SegmentationDataset .*'tuple'"),
        ({"train_data": IMAGES, "steps_per_epoch": 1}, "train_data must be a .* got 'ndarray'"),
        ({"train_data": "photos"}, r"open_dataset\(path\) opens one.* got 'photos'"),
        (
            {"train_data": data.shapes(8, size=SIZE), "val_data": (IMAGES, LABELS)},
            "val_data must be a SegmentationDataset",
        ),
        ({"build": network()}, "build_model must be a function .* got <Functional name=small"),
        ({"build": lambda: None}, "must return a functional keras.Model .* got None"),
        ({"build": lambda: Subclassed(name="own")}, "got own, a Subclassed that is not functional"),
        ({"build": two_inputs}, r"of one image .* got joined from \[\(None, 8, 8, 3\), \(None"),
        ({"build": listed}, r"a dict of outputs; got listed from .* to \[\(None, 8, 8, 4\), \(N"),
        (
            {"callbacks": [keras.callbacks.EarlyStopping("val_miou")]},
            "Unknown monitor of EarlyStopping 'val_miou'. Did you mean 'val_mean_iou'",
        ),
        ({"build": frozen}, "small has no variable that is trained"),
        ({"class_weights": [1, 2]}, "class_weights has 2 values for 4 classes"),
        ({"class_weights": {1: 1, 2: 1, 3: 1, 4: 1}}, r"every id from 0 to 3.* \[1, 2, 3, 4\]"),
        ({"class_weights": {0: 1, 1: 2}}, r"every id from 0 to 3, and no other; got .* \[0, 1\]"),
        ({"class_weights": 3}, "class_weights must be a list of numbers, .* got 3"),
        ({"class_weights": [0, 0, 0, 0]}, "class_weights are all 0"),
        ({"learning_rate": -1}, "learning_rate must be above 0"),
        ({"build": lambda: network(classes=7)}, "has 7 classes but the data 4.*num_classes=4"),
        ({"build": lambda: network(input_shape=(None, None, 1))}, "takes images of 1 channels"),
        (
            {"build": lambda: network(input_shape=(48, 48, 3)), "crop_size": (32, 32)},
            r"takes images of 48 x 48, the crops are 32 x 32: give crop_size=\(48, 48\)",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_stop_it_before_the_first_step(tmp_path, options, text):
    with pytest.raises(ValueError, match=text):
        run(tmp_path / "run", **options)
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_a_folder_that_cannot_be_written_stops_it_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="Cannot write in"):
        run(tmp_path / "file" / "run", lambda: pytest.fail("the network was built"))


def test_a_keras_optimizer_and_schedule_are_taken(tmp_path):
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 10)
    result = run(
        tmp_path, optimizer=keras.optimizers.RMSprop(schedule), epochs=1, learning_rate=None
    )
    assert isinstance(result.model.optimizer, keras.optimizers.RMSprop)
    assert int(result.model.optimizer.iterations) == 3
    # Keras numbers the optimizers of a process: the next one is the same setting by another name.
    options = {"epochs": 1, "learning_rate": None}
    again = run(tmp_path, optimizer=keras.optimizers.RMSprop(schedule), **options)
    assert again.history == result.history
    with pytest.raises(ValueError, match="started differently .optimizer"):
        run(tmp_path, optimizer=keras.optimizers.RMSprop(schedule, rho=0.5), **options)


def test_a_callback_may_set_a_constant_rate(tmp_path):
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 * rate)
    result = run(tmp_path, epochs=2, schedule="constant", callbacks=[halve])
    rates = [row["learning_rate"] for row in result.history]
    assert rates == pytest.approx([0.005, 0.0025])


@pytest.mark.parametrize("form", ["sequential", "list"])
def test_other_forms_of_a_network_of_one_image(tmp_path, form):
    def build():
        image, convolution = keras.Input((None, None, 3)), keras.layers.Conv2D(CLASSES, 1)
        if form == "sequential":
            return keras.Sequential([image, convolution], name="row")
        return keras.Model([image], convolution(image), name="row")

    result = run(tmp_path, build, epochs=1)
    assert result.scores["mean_iou"] == pytest.approx(result.best_score, abs=1e-6)
    assert same(result.model, keras.models.load_model(tmp_path / BEST))
    assert [row["epoch"] for row in run(tmp_path, build, epochs=2).history] == [1, 2]


def test_an_epoch_without_a_pixel_that_counts_stops_the_run(tmp_path):
    """Its loss of 0 looks like success."""
    ignored = Batches(IMAGES, np.full_like(LABELS, 255))
    with pytest.raises(ValueError, match="end of epoch 1: none of its pixels counted"):
        run(tmp_path, network, ignored, epochs=2)
    assert not (tmp_path / LAST).exists()


def test_ready_labels_with_an_axis_for_the_channel(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(4, *SIZE, 3)).astype("float32")
    labels = rng.integers(CLASSES, size=(4, *SIZE)).astype("int32")
    plain = run(tmp_path / "plain", network, Batches(images, labels), Batches(images, labels))
    with_axis = Batches(images, labels[..., None])
    result = run(tmp_path / "axis", network, with_axis, with_axis)
    assert np.sum(result.scores["confusion_matrix"]) == labels.size
    assert result.scores["mean_iou"] == pytest.approx(plain.scores["mean_iou"], abs=1e-6)


def test_a_single_class_is_refused(tmp_path):
    table = data.LabelTable(["only"])
    samples = Samples(data.shapes(4, size=SIZE), table)
    with pytest.raises(ValueError, match="has 1 class; training needs at least 2"):
        run(tmp_path / "run", lambda: network(classes=1), samples)
    assert not (tmp_path / "run").exists()


def test_crops_that_a_network_cannot_take(tmp_path):
    def pooled():
        image = keras.Input((None, None, 3), name="image")
        x = keras.layers.MaxPooling2D(16)(image)
        return keras.Model(image, keras.layers.Conv2DTranspose(CLASSES, 16, 16)(x), name="pooled")

    with pytest.raises(ValueError, match="pooled cannot be trained on crops of 8 x 8"):
        run(tmp_path / "run", pooled, crop_size=(8, 8))
    assert not (tmp_path / "run").exists()


def valid():
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu")(image)
    x = keras.layers.MaxPooling2D(4)(x)
    return keras.Model(image, keras.layers.Conv2DTranspose(CLASSES, 4, 4)(x), name="valid")


@pytest.mark.parametrize(
    ("build", "size"), [(network, SIZE), (lambda: network(aux=True), SIZE), (valid, (34, 34))]
)
def test_weights_of_pixels_reach_the_loss(tmp_path, build, size):
    """Threefold weights make the first step's loss threefold; validation knows no weights."""
    train_data, val_data = data.shapes(4, size=size), data.shapes(2, size=size, seed=1)
    weighted = train_data.weighted(lambda instances: np.full(instances.shape, 3.0))
    options = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-9, "previews": 0}
    (one,), (three,) = (
        run(tmp_path / name, build, dataset, val_data, **options).history
        for name, dataset in (("one", train_data), ("three", weighted))
    )
    assert three["loss"] == pytest.approx(3 * one["loss"], rel=1e-5)
    assert three["val_loss"] == pytest.approx(one["val_loss"], rel=1e-5)


def test_a_loss_without_weights_of_pixels_says_so(tmp_path):
    train_data = data.shapes(4, size=SIZE).weighted(data.EdgeWeights())
    with pytest.raises(ValueError, match="Weigh pixels with CrossEntropy"):
        run(tmp_path, network, train_data, loss=losses.Dice(), epochs=1)


def test_valid_convolutions_validate_on_images_of_mixed_sizes(tmp_path):
    """Only 4 k + 2 loses the same border everywhere; 572, the usual tile, is not of that form."""
    val_samples = [data.shapes(1, size=size, seed=1)[0] for size in ((32, 32), (37, 50), (20, 45))]
    val_data = Samples(val_samples, data.shapes(1).table)
    result = run(
        tmp_path / "run",
        valid,
        data.shapes(8, size=SIZE),
        val_data,
        epochs=1,
        crop_size=(34, 34),
    )
    assert np.isfinite(result.history[0]["val_loss"])
    assert sum(map(sum, result.scores["confusion_matrix"])) == 32 * 32 + 37 * 50 + 20 * 45
    with pytest.raises(ValueError, match="leaves out the last pixels"):
        run(tmp_path / "odd", valid, data.shapes(8, size=SIZE), val_data, crop_size=(33, 33))
    assert not (tmp_path / "odd").exists()


class TwoSpaces:
    """Source of one picture with a label map of 4 classes and one of 3 surfaces."""

    image_paths = mask_paths = None
    extras = ("surface",)

    def __init__(self):
        rng = np.random.default_rng(0)
        self.ids = rng.integers(4, size=SIZE).astype("uint8")
        self.surfaces = rng.choice([0, 1, 2, 255], SIZE, p=[0.6, 0.2, 0.1, 0.1]).astype("uint8")

    def image(self, index):
        return np.zeros((*SIZE, 3), "uint8")

    def label(self, index):
        return self.ids

    def both(self, index):
        return self.image(index), self.label(index)

    def extra(self, index, name):
        return self.surfaces


def two_spaces(source):
    tables = {"surface": data.LabelTable(["sky", "flat", "upright"])}
    table = data.LabelTable.default(4)
    return data.SegmentationDataset(source, table, ["one"], extra_tables=tables)


@pytest.mark.parametrize("class_weights", [None, [1.0, 1.0, 3.0, 0.5]])
def test_an_output_learns_the_label_map_of_its_name(tmp_path, class_weights):
    """Logits that depend on nothing have cross entropies that follow from the counts of labels.

    Class weights are of the classes that "logits" have, not of the surfaces.
    """
    biases = {"logits": [0.5, 0.0, 0.0, -1.0], "surface": [2.0, 0.0, -1.0]}

    def build():
        image = keras.Input((None, None, 3), name="image")
        outputs = {}
        for name, bias in biases.items():
            layer = keras.layers.Conv2D(len(bias), 1, kernel_initializer="zeros", name=name)
            outputs[name] = layer(image)
            layer.bias.assign(bias)
        return keras.Model(image, outputs, name="constant")

    source = TwoSpaces()
    dataset = two_spaces(source)
    options = {"epochs": 1, "batch_size": 1, "learning_rate": 1e-9, "previews": 0, "augment": None}
    options["class_weights"] = class_weights
    result = run(tmp_path / "run", build, dataset, dataset, **options)
    expected = 0
    for name, labels in (("logits", source.ids), ("surface", source.surfaces)):
        log_q = np.array(biases[name]) - np.log(np.exp(biases[name]).sum())
        labels = labels[labels != 255]
        share = np.ones(len(log_q))
        if name == "logits" and class_weights:
            share = np.array(class_weights)
        expected -= np.average(log_q[labels], weights=share[labels])
    assert result.history[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert result.history[0]["val_loss"] == pytest.approx(expected, rel=1e-5)
    assert (
        np.sum(result.scores["confusion_matrix"], 1).tolist()
        == np.bincount(source.ids.ravel()).tolist()
    )


class Halves:
    """Source of a black picture that is all class 0 and a white one that is all class 1."""

    image_paths = mask_paths = None
    extras = ()

    def image(self, index):
        return np.full((*SIZE, 3), 255 * index, "uint8")

    def label(self, index):
        return np.full(SIZE, index, "uint8")

    def both(self, index):
        return self.image(index), self.label(index)


class Seen(keras.losses.Loss):
    """1 for each label map with more than one class, else 0."""

    def call(self, labels, logits):
        first = keras.ops.reshape(labels, (keras.ops.shape(labels)[0], -1))
        mixed = keras.ops.max(first, 1) != keras.ops.min(first, 1)
        return keras.ops.cast(mixed, "float32") + 0.0 * keras.ops.mean(logits)


@pytest.mark.parametrize(("mix", "share"), [(None, 0.0), (data.CutMix(probability=1.0), 1.0)])
def test_samples_are_mixed(tmp_path, mix, share):
    dataset = data.SegmentationDataset(Halves(), data.LabelTable.default(CLASSES), ["0", "1"])
    options = {"epochs": 1, "batch_size": 2, "steps_per_epoch": 8, "augment": None, "previews": 0}
    result = run(tmp_path, train_data=dataset, val_data=None, loss=Seen(), mix=mix, **options)
    assert result.history[0]["loss"] >= 0.8 * share
    assert (result.history[0]["loss"] > 0) == bool(share)
    assert manifest(tmp_path)["settings"]["mix"] == (
        mix and {"class": "CutMix", "probability": 1.0, "alpha": 1.0}
    )


def test_ready_batches_are_not_mixed(tmp_path):
    batches = Batches(np.zeros((2, 8, 8, 3), "float32"), np.zeros((2, 8, 8), "int32"))
    table = data.LabelTable.default(CLASSES)
    with pytest.raises(ValueError, match="ready batches are trained on as they are"):
        run(tmp_path, train_data=batches, val_data=None, table=table, mix=data.CutMix())


def test_an_output_with_another_number_of_classes_than_its_label_map(tmp_path):
    def build():
        image = keras.Input((None, None, 3), name="image")
        outputs = {
            name: keras.layers.Conv2D(4, 1, name=name)(image) for name in ("logits", "surface")
        }
        return keras.Model(image, outputs, name="wrong")

    with pytest.raises(ValueError, match="'surface' of wrong has 4 classes but .* 3 \\(sky, flat"):
        run(tmp_path, build, two_spaces(TwoSpaces()), batch_size=1)


def test_ready_batches_are_scored_where_the_network_has_logits(tmp_path):
    """`valid` loses 2 rows and columns: of 34 x 34 labels the middle 32 x 32 count."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(4, 34, 34, 3)).astype("float32")
    labels = np.zeros((4, 34, 34), "int32")
    labels[:, 1:-1, 1:-1] = 1
    batches = Batches(images, labels)
    table = data.LabelTable.default(CLASSES)
    options = {"crop_size": (34, 34), "epochs": 1, "table": table}
    result = run(tmp_path, valid, batches, batches, **options)
    rows = np.sum(result.scores["confusion_matrix"], 1)
    assert rows.tolist() == [0, 4 * 32 * 32, 0, 0]


@pytest.mark.parametrize("options", [{}, {"augment": None, "crop_size": (40, 40)}])
def test_ignored_pixels_may_have_another_id_than_255(tmp_path, options):
    """What is padded has it too: images made smaller than the crops, or crops that are larger."""
    shapes = data.shapes(4, size=SIZE, border=1)
    table = data.LabelTable(shapes.table.names, ignore_label=200)
    labels = [np.where(sample.label == 255, 200, sample.label) for sample in shapes]
    changed = [s._replace(label=n.astype("uint8")) for s, n in zip(shapes, labels, strict=True)]
    samples = Samples(changed, table)
    result = run(tmp_path / "run", train_data=samples, val_data=samples, epochs=1, **options)
    assert np.isfinite(result.history[0]["loss"])


def test_padding_that_the_table_does_not_have_is_refused(tmp_path):
    table = data.LabelTable(data.shapes(1).table.names, ignore_label=200)
    samples = Samples([data.shapes(4, size=SIZE)[i] for i in range(4)], table)
    with pytest.raises(
        ValueError, match=r"pads labels with 255.*give Augment\(..., ignore_label=200"
    ):
        run(tmp_path / "run", train_data=samples, augment=data.Augment(crop=SIZE))


def test_a_look_at_a_finished_run_may_be_interrupted(tmp_path, monkeypatch):
    """One that a callback ended early would else be trained on by the next look."""

    def early():
        stop = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=100)
        return run(tmp_path / "run", epochs=4, callbacks=[stop], previews=0)

    assert len(early().history) == 2

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("keras_seg.training.run.load_checkpoint", interrupted)
        early()
    assert len(early().history) == 2


@pytest.mark.parametrize("name", ["val_mean_iou", "val_aux_loss"])
def test_callbacks_know_which_direction_of_a_score_is_better(tmp_path, name):
    watch = keras.callbacks.EarlyStopping(name, patience=9)
    result = run(tmp_path / "run", lambda: network(aux=True), epochs=3, callbacks=[watch])
    values = [row[name] for row in result.history]
    assert watch.best == (min if name.endswith("loss") else max)(values)
