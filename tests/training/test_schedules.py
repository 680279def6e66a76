import keras
import numpy as np
import pytest

from keras_seg.training import Cosine, Poly, Step


def rate(schedule, step):
    return float(keras.ops.convert_to_numpy(schedule(step)))


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.01), (50, 0.01 * 0.5**0.9), (99, 0.01 * 0.01**0.9), (100, 0.0), (150, 0.0)],
)
def test_poly_follows_its_formula_by_step(step, expected):
    assert rate(Poly(0.01, 100), step) == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_poly_equals_kerass_polynomial_decay():
    theirs = keras.optimizers.schedules.PolynomialDecay(0.1, 37, 0.0, power=0.9)
    ours = Poly(0.1, 37)
    for step in range(37):
        assert rate(ours, step) == pytest.approx(rate(theirs, step), rel=1e-5)


def test_warmup_rises_in_a_line_and_leaves_the_rest_alone():
    warm, plain = Poly(1.0, 100, warmup_steps=10), Poly(1.0, 100)
    for step in range(10):
        assert rate(warm, step) == pytest.approx(rate(plain, step) * (step + 1) / 10, rel=1e-6)
    assert rate(warm, 10) == rate(plain, 10)


def test_power_zero_is_constant():
    assert [rate(Poly(0.3, 5, power=0), step) for step in range(5)] == [np.float32(0.3)] * 5


def test_the_floor_is_where_poly_ends():
    """mmseg's rule with SETR's numbers: (base - min) * (1 - i / n) ** 0.9 + min."""
    schedule = Poly(0.01, 80_000, floor=1e-4)
    assert rate(schedule, 0) == pytest.approx(0.01)
    assert rate(schedule, 40_000) == pytest.approx(0.0099 * 0.5**0.9 + 1e-4, rel=1e-5)
    assert rate(schedule, 80_000) == rate(schedule, 90_000) == pytest.approx(1e-4)


def test_poly_by_epochs_stays_through_each():
    schedule = Poly(0.1, 40, every=10)
    for step in (0, 9, 10, 19, 20, 30, 39):
        expected = 0.1 * (1 - step // 10 / 4) ** 0.9
        assert rate(schedule, step) == pytest.approx(expected, rel=1e-5)


def test_cosine_equals_kerass_cosine_decay():
    theirs = keras.optimizers.schedules.CosineDecay(0.1, 37, alpha=0.2)
    ours = Cosine(0.1, 37, floor=0.02)
    for step in (0, 1, 18, 36, 37, 50):
        assert rate(ours, step) == pytest.approx(rate(theirs, step), rel=1e-5)


def test_the_cosine_begins_after_the_warmup():
    schedule = Cosine(1.0, 110, warmup_steps=10)
    for step in range(10):
        assert rate(schedule, step) == pytest.approx((step + 1) / 10, rel=1e-6)
    for step, expected in ((10, 1.0), (35, (1 + 0.5**0.5) / 2), (60, 0.5), (110, 0.0)):
        assert rate(schedule, step) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1e-3), (1999, 1e-3), (2000, 1e-4), (3999, 1e-4), (4000, 1e-5), (5999, 1e-5)],
)
def test_step_drops_as_in_deeplabs_solver(step, expected):
    """base_lr 0.001, gamma 0.1, stepsize 2000."""
    assert rate(Step(1e-3, 2000), step) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("every", [3, 7, 529, 2975])
def test_step_drops_at_every_multiple(every):
    schedule = Step(1.0, every, factor=0.5)
    for drops in range(1, 20):
        assert rate(schedule, drops * every - 1) == 0.5 ** (drops - 1)
        assert rate(schedule, drops * every) == 0.5**drops


@pytest.mark.parametrize(
    "schedule",
    [
        Poly(0.1, 20, power=0.5, warmup_steps=3, floor=0.01, every=4),
        Step(0.1, 7, factor=0.3),
        Cosine(0.1, 20, 3, floor=0.01),
    ],
)
def test_a_stored_schedule_is_the_same(schedule):
    config = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(config)
    assert [rate(again, s) for s in range(20)] == [rate(schedule, s) for s in range(20)]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"total_steps": 0}, "total_steps must be at least 1"),
        ({"power": -1}, "power must be 0 or more"),
        ({"warmup_steps": 10}, r"warmup_steps must lie in 0\.\.9"),
        ({"floor": 0.1}, r"floor must lie in 0\.\.0\.1"),
        ({"every": 0}, "every must be at least 1 step"),
    ],
)
def test_values_out_of_range(arguments, text):
    with pytest.raises(ValueError, match=text):
        Poly(**{"learning_rate": 0.1, "total_steps": 10} | arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"every": 0}, "every must be at least 1 step"),
        ({"factor": 1.5}, "factor must be above 0 and at most 1"),
    ],
)
def test_values_out_of_range_of_step(arguments, text):
    with pytest.raises(ValueError, match=text):
        Step(**{"learning_rate": 0.1, "every": 10} | arguments)
