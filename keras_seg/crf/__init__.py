"""Conditional random fields: labels that follow the edges of the image."""

from keras_seg.crf.mean_field import MeanField

__all__ = ["MeanField"]
