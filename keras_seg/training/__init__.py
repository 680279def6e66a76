"""Training: `fit` with what it lacks: whole checkpoints, exact resume, a guard against NaN."""

from keras_seg.training.adversarial import Adversary
from keras_seg.training.models import estimate_statistics, freeze_batch_norm, with_outputs
from keras_seg.training.optimizers import SGD, Adam, LossScale, RMSprop, head_variables
from keras_seg.training.schedules import Cosine, Poly, Step
from keras_seg.training.semi_supervised import WarmUp
from keras_seg.training.stages import Stage, StagesResult, train_stages
from keras_seg.training.strategy import choose_strategy
from keras_seg.training.train import TrainResult, train

__all__ = [
    "SGD",
    "Adam",
    "Adversary",
    "Cosine",
    "LossScale",
    "Poly",
    "RMSprop",
    "Stage",
    "StagesResult",
    "Step",
    "TrainResult",
    "WarmUp",
    "choose_strategy",
    "estimate_statistics",
    "freeze_batch_norm",
    "head_variables",
    "train",
    "train_stages",
    "with_outputs",
]
