"""Learning rate by step."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_seg")
class Poly(keras.optimizers.schedules.LearningRateSchedule):
    """(base - floor) * (1 - step / total_steps) ** power + floor; `floor` from `total_steps` on.

    The "poly" policy of Caffe that DeepLab (Chen et al., 2016, section 4.1.2) and PSPNet (Zhao et
    al., 2017, section 5.1) use with power 0.9. The first step (0) has the whole rate.

    Args:
        learning_rate: base, above 0.
        total_steps: steps of the whole run, at least 1.
        power: 0.9 in the papers; 1 falls in a straight line, 0 stays constant.
        warmup_steps: over this many first steps the rate rises in a straight line from
            `learning_rate / warmup_steps`; the polynomial is not shifted by it.
        floor: the rate at the end, below `learning_rate`: SETR's recipe ends at 1e-4.
        every: the rate stays for so many steps, as if `step` were rounded down to a multiple: the
            steps of an epoch where the rate is set once an epoch (DRN), or another number.

    Raises:
        ValueError: for a value out of these ranges.
    """

    def __init__(
        self, learning_rate, total_steps, power=0.9, warmup_steps=0, *, floor=0.0, every=1
    ):
        _check_span(learning_rate, total_steps, warmup_steps, floor)
        if power < 0:
            raise ValueError(f"power must be 0 or more, got {power}.")
        _check_every(every)
        self.learning_rate = float(learning_rate)
        self.total_steps = int(total_steps)
        self.power = float(power)
        self.warmup_steps = int(warmup_steps)
        self.floor = float(floor)
        self.every = int(every)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        passed = _whole(step, self.every) * self.every
        left = ops.maximum(1.0 - passed / self.total_steps, 0.0)
        rate = (self.learning_rate - self.floor) * ops.power(left, self.power) + self.floor
        return _warmed_up(rate, step, self.warmup_steps)

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "power": self.power,
            "warmup_steps": self.warmup_steps,
            "floor": self.floor,
            "every": self.every,
        }


@keras.saving.register_keras_serializable("keras_seg")
class Cosine(keras.optimizers.schedules.LearningRateSchedule):
    """(base - floor) * (1 + cos(pi * t)) / 2 + floor, where t goes from 0 after the warm-up to 1.

    Half a wave, as in one period of Loshchilov and Hutter (2017), equation 5, without restarts;
    `floor` from `total_steps` on.

    Args:
        learning_rate: base, above 0.
        total_steps: steps of the whole run with its warm-up, at least 1.
        warmup_steps: over this many first steps the rate rises in a straight line from
            `learning_rate / warmup_steps` to `learning_rate` (Goyal et al., 2017, section 2.2); the
            cosine begins after them.
        floor: the rate at the end, below `learning_rate`.

    Raises:
        ValueError: for a value out of these ranges.
    """

    def __init__(self, learning_rate, total_steps, warmup_steps=0, *, floor=0.0):
        _check_span(learning_rate, total_steps, warmup_steps, floor)
        self.learning_rate = float(learning_rate)
        self.total_steps = int(total_steps)
        self.warmup_steps = int(warmup_steps)
        self.floor = float(floor)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        passed = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        wave = (1.0 + ops.cos(math.pi * ops.clip(passed, 0.0, 1.0))) / 2
        rate = (self.learning_rate - self.floor) * wave + self.floor
        return _warmed_up(rate, step, self.warmup_steps)

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "floor": self.floor,
        }


@keras.saving.register_keras_serializable("keras_seg")
class Step(keras.optimizers.schedules.LearningRateSchedule):
    """base * factor ** floor(step / every): the "step" policy of Caffe, DeepLab v1's.

    Args:
        learning_rate: base, above 0.
        every: steps from one drop to the next, at least 1.
        factor: of each drop (Caffe's gamma), above 0 and at most 1.

    Raises:
        ValueError: for a value out of these ranges.
    """

    def __init__(self, learning_rate, every, factor=0.1):
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {learning_rate}.")
        _check_every(every)
        if not 0 < factor <= 1:
            raise ValueError(f"factor must be above 0 and at most 1, got {factor}.")
        self.learning_rate = float(learning_rate)
        self.every = int(every)
        self.factor = float(factor)

    def __call__(self, step):
        drops = _whole(ops.cast(step, "float32"), self.every)
        return self.learning_rate * ops.power(self.factor, drops)

    def get_config(self):
        return {"learning_rate": self.learning_rate, "every": self.every, "factor": self.factor}


def _check_span(learning_rate, total_steps, warmup_steps, floor):
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be above 0, got {learning_rate}.")
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, got {total_steps}.")
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warmup_steps must lie in 0..{total_steps - 1} (total_steps - 1), got {warmup_steps}."
        )
    if not 0 <= floor < learning_rate:
        raise ValueError(f"floor must lie in 0..{learning_rate}, below it; got {floor}.")


def _warmed_up(rate, step, warmup_steps):
    """`rate`, times the share of the warm-up that `step` has reached."""
    if not warmup_steps:
        return rate
    return rate * ops.minimum((step + 1.0) / warmup_steps, 1.0)


def _check_every(every):
    if every < 1:
        raise ValueError(f"every must be at least 1 step, got {every}.")


def _whole(step, every):
    """How many times `every` steps have passed before `step`, both below 2 ** 24."""
    # Half a step on, so that the quotient of a multiple never falls below its whole number.
    return ops.floor((step + 0.5) / every)
