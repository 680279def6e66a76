import keras
import numpy as np
import pytest

from keras_seg.training import Poly


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


def test_a_stored_schedule_is_the_same():
    schedule = Poly(0.1, 20, power=0.5, warmup_steps=3)
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
    ],
)
def test_values_out_of_range(arguments, text):
    with pytest.raises(ValueError, match=text):
        Poly(**{"learning_rate": 0.1, "total_steps": 10} | arguments)
