"""Predict, evaluate and draw, with any network: a Keras model, SavedModel, TFLite or ONNX file."""

from keras_seg.inference.evaluate import evaluate, format_scores
from keras_seg.inference.folder import predict_folder
from keras_seg.inference.overlay import contact_sheet, overlay, save_label, save_overlay
from keras_seg.inference.plots import save_plots
from keras_seg.inference.predictor import Predictor
from keras_seg.inference.proposals import (
    ProposalPredictor,
    choose_boxes,
    edge_boxes,
    enlarge_boxes,
    selective_search,
)
from keras_seg.inference.runners import Runner, find_model, load_runner
from keras_seg.inference.submission import SUBMISSIONS, write_submission
from keras_seg.inference.tune_crf import format_search, tune_crf
from keras_seg.inference.windows import OverlapTile, SlidingWindow

__all__ = [
    "OverlapTile",
    "Predictor",
    "ProposalPredictor",
    "Runner",
    "SUBMISSIONS",
    "SlidingWindow",
    "choose_boxes",
    "contact_sheet",
    "edge_boxes",
    "enlarge_boxes",
    "evaluate",
    "find_model",
    "format_scores",
    "format_search",
    "load_runner",
    "overlay",
    "predict_folder",
    "save_label",
    "save_overlay",
    "save_plots",
    "selective_search",
    "tune_crf",
    "write_submission",
]
