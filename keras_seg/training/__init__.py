"""Training: `fit` with what it lacks: whole checkpoints, exact resume, a guard against NaN."""

from keras_seg.training.optimizers import SGD, Adam, head_variables
from keras_seg.training.schedules import Poly

__all__ = ["SGD", "Adam", "Poly", "head_variables"]
