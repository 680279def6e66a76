"""Learning rate by step."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_seg")
class Poly(keras.optimizers.schedules.LearningRateSchedule):
    """base * (1 - step / total_steps) ** power, by step; 0 from `total_steps` on.

    The "poly" policy of Caffe that DeepLab (Chen et al., 2016, section 4.1.2) and PSPNet (Zhao et
    al., 2017, section 5.1) use with power 0.9. The first step (0) has the whole rate.

    Args:
        learning_rate: base, above 0.
        total_steps: steps of the whole run, at least 1.
        power: 0.9 in the papers; 1 falls in a straight line, 0 stays constant.
        warmup_steps: over this many first steps the rate rises in a straight line from
            `learning_rate / warmup_steps`; the polynomial is not shifted by it.

    Raises:
        ValueError: for a value out of these ranges.
    """

    def __init__(self, learning_rate, total_steps, power=0.9, warmup_steps=0):
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {learning_rate}.")
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, got {total_steps}.")
        if power < 0:
            raise ValueError(f"power must be 0 or more, got {power}.")
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                f"warmup_steps must lie in 0..{total_steps - 1} (total_steps - 1), "
                f"got {warmup_steps}."
            )
        self.learning_rate = float(learning_rate)
        self.total_steps = int(total_steps)
        self.power = float(power)
        self.warmup_steps = int(warmup_steps)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        left = ops.maximum(1.0 - step / self.total_steps, 0.0)
        rate = self.learning_rate * ops.power(left, self.power)
        if self.warmup_steps:
            rate = rate * ops.minimum((step + 1.0) / self.warmup_steps, 1.0)
        return rate

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "power": self.power,
            "warmup_steps": self.warmup_steps,
        }
