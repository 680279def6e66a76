"""The optimizer that the arguments of `train` describe."""

import numbers

import keras
from keras.optimizers.schedules import LearningRateSchedule

from keras_seg.training.optimizers import SGD, Adam, head_variables
from keras_seg.training.schedules import Cosine, Poly
from keras_seg.utils import is_count, unknown_name

OPTIMIZERS = {"adam": 1e-3, "sgd": 1e-2}  # name: learning rate where none is given
SCHEDULES = ("poly", "cosine", "constant")
# Arguments of `train` that are arguments of every Keras optimizer.
SHARED = ("gradient_accumulation_steps", "global_clipnorm", "ema_momentum")


class ChosenOptimizer:
    """The optimizer that the arguments of `train` describe, to be made once the steps are known."""

    def __init__(self, optimizer, **options):
        self.given = optimizer if isinstance(optimizer, keras.optimizers.Optimizer) else None
        self.name = optimizer
        self.options = options
        if self.given is not None:
            named = ("learning_rate", "warmup_steps", *SHARED)
            given = [name for name in named if options[name] is not None]
            given += ["head_multiplier"] if options["head_multiplier"] != 1 else []
            if given:
                raise ValueError(
                    f"{' and '.join(given)} belong to optimizer='adam' or 'sgd'; set "
                    f"them in the {type(optimizer).__name__} that you give (keras_seg.training.SGD "
                    "and Adam have a head_multiplier, and use_ema beside ema_momentum)."
                )
            return
        if optimizer not in OPTIMIZERS:
            raise unknown_name("optimizer", optimizer, OPTIMIZERS)
        schedule = options["schedule"]
        if isinstance(schedule, LearningRateSchedule):
            for name in ("learning_rate", "warmup_steps"):
                if options[name] is not None:
                    raise ValueError(
                        f"{name} is for the schedules {', '.join(SCHEDULES)}; set it in the "
                        f"{type(schedule).__name__} that you give."
                    )
        elif schedule not in SCHEDULES:
            raise unknown_name("schedule", schedule, SCHEDULES)
        if options["learning_rate"] is None:
            options["learning_rate"] = OPTIMIZERS[optimizer]
        rate = options["learning_rate"]
        if isinstance(rate, LearningRateSchedule):
            raise ValueError(f"learning_rate is a {type(rate).__name__}: give it as schedule=.")
        if not isinstance(rate, numbers.Real) or not rate > 0:
            raise ValueError(f"learning_rate must be above 0, a number; got {rate!r}.")
        batches, norm, momentum = (options[name] for name in SHARED)
        if batches is not None and not is_count(batches, 2):
            raise ValueError(
                "gradient_accumulation_steps must be an integer of at least 2, or None for an "
                f"update after each batch; got {batches!r}."
            )
        if norm is not None and not norm > 0:
            raise ValueError(f"global_clipnorm must be above 0, got {norm!r}.")
        if momentum is not None and not 0 < momentum < 1:
            raise ValueError(f"ema_momentum must lie between 0 and 1, got {momentum!r}.")

    @property
    def scheduled(self):
        """Whether the learning rate follows a schedule, and so cannot be set."""
        if self.given is None:
            return self.options["schedule"] != "constant" or bool(self.options["warmup_steps"])
        inner = getattr(self.given, "inner_optimizer", self.given)
        return not isinstance(inner.get_config()["learning_rate"], numbers.Real)

    def settings(self):
        """What of it must be the same on resume."""
        if self.given is not None:
            return {"optimizer": self.given}
        # No warm-up can be said in two ways.
        warmup = self.options["warmup_steps"] or None
        return {"optimizer": self.name, **self.options, "warmup_steps": warmup}

    def build(self, model, total_steps):
        """A new optimizer for `model`, in the current strategy's scope, not yet built."""
        if self.given is not None:
            # A copy: the given one may belong to another run or strategy already.
            return type(self.given).from_config(self.given.get_config())
        options = self.options
        rate = options["learning_rate"]
        warmup = options["warmup_steps"] or 0
        if options["schedule"] == "poly":
            rate = Poly(rate, total_steps, options["power"], warmup)
        elif options["schedule"] == "cosine":
            rate = Cosine(rate, total_steps, warmup)
        elif options["schedule"] != "constant":
            rate = options["schedule"]
        elif warmup:
            rate = Poly(rate, total_steps, 0, warmup)
        common = {name: options[name] for name in ("weight_decay", *SHARED) if options[name]}
        if options["ema_momentum"]:
            common["use_ema"] = True
        if options["head_multiplier"] != 1:
            common["head_multiplier"] = options["head_multiplier"]
            common["head_variables"] = head_variables(model, options["head_layers"])
        if self.name == "sgd":
            return SGD(rate, momentum=options["momentum"], **common)
        return Adam(rate, **common)
