"""The checked options of a prediction, and the published procedures that set several at once."""

import math

import numpy as np

from keras_seg.crf import find_crf
from keras_seg.inference.resize import check_sampling
from keras_seg.inference.windows import find_rule
from keras_seg.utils import check_counts, is_count, unknown_name

# Of the scores of one batch of windows, unless the caller says how many windows.
_BATCH_BYTES = 2**27

AVERAGES = ("probabilities", "logits", "views", "likelihoods")

_DEFAULTS = {
    "mode": "whole",
    "rule": "semseg",
    "average": "probabilities",
    "sampling": "antialias",
    "align_corners": False,
}
_MMSEG = {
    "mode": "slide",
    "rule": "mmseg",
    "average": "views",
    "sampling": "half_pixel",
    "align_corners": False,
}
PROCEDURES = {
    "semseg": {
        "mode": "slide",
        "rule": "semseg",
        "average": "probabilities",
        "sampling": "half_pixel",
        "align_corners": True,
    },
    "mmseg": _MMSEG,
    "setr": _MMSEG,
    "encoding": {
        "mode": "slide",
        "rule": "encoding",
        "average": "likelihoods",
        "sampling": "align_corners",
        "align_corners": True,
    },
}


def scaled_size(size, scale, base_size=None, procedure=None, least=1):
    """(H, W) of an image at a scale, as a procedure computes it.

    Args:
        size: (H, W) of the image.
        scale: of 1.0 for the base size.
        base_size: None for the image's own size; pixels of the long side; or, for "mmseg" and
            "setr", a pair (long, short) that the sides stay within.
        procedure: None or "semseg": long side round(scale * base), the other side in proportion and
            rounded. "encoding": ceil(scale * base), and half a pixel is rounded up. "mmseg": the
            largest size within the scaled bounds (each rounded down). "setr": the short side is the
            scaled short bound, or `least`.
        least: for "setr": pixels of the window.

    Raises:
        ValueError: for a pair where one number is meant, or the other way round.
    """
    pair = procedure in ("mmseg", "setr")
    if base_size is not None and np.shape(base_size) != ((2,) if pair else ()):
        wanted = "a pair (long, short)" if pair else "one number"
        raise ValueError(f"base_size is {wanted} of pixels for {procedure=}, got {base_size!r}.")
    long, short = max(size), min(size)
    if pair:
        bounds = [int(bound * scale) for bound in (base_size or (long, short))]
        factor = min(max(bounds) / long, min(bounds) / short)
        if procedure == "setr":
            factor = max(min(bounds), least) / short
        found = tuple(int(side * factor + 0.5) for side in size)
    elif procedure == "encoding":
        new = math.ceil(scale * (long if base_size is None else base_size))
        found = tuple(new if side == long else int(side * new / long + 0.5) for side in size)
    elif base_size is None:
        found = tuple(round(side * scale) for side in size)
    else:
        new = round(scale * base_size)
        found = tuple(new if side == long else round(new / long * side) for side in size)
    return tuple(max(1, side) for side in found)


class Options:
    """The checked prediction options, described at `Predictor`."""

    def __init__(
        self,
        predictor,
        *,
        procedure=None,
        mode=None,
        window=None,
        stride=None,
        rule=None,
        scales=(1.0,),
        base_size=None,
        flip=False,
        flip_pairs=(),
        size_divisor=None,
        average=None,
        weighting="uniform",
        sampling=None,
        align_corners=None,
        crf=None,
        batch_windows=None,
        progress=None,
    ):
        if procedure is not None and procedure not in PROCEDURES:
            raise unknown_name("procedure", procedure, PROCEDURES)
        usual = _DEFAULTS if procedure is None else PROCEDURES[procedure]
        if rule is not None and (mode or usual["mode"]) != "slide":
            raise ValueError("rule belongs to mode='slide'.")
        if weighting != "uniform" and (mode or usual["mode"]) != "slide":
            raise ValueError("weighting belongs to mode='slide'.")
        self.procedure = procedure
        self.mode = usual["mode"] if mode is None else mode
        self.rule = usual["rule"] if rule is None else rule
        self.average = usual["average"] if average is None else average
        self.sampling = usual["sampling"] if sampling is None else sampling
        self.align_corners = align_corners
        lowres = predictor.lowres_sampling()
        if align_corners is None:
            self.align_corners = usual["align_corners"]
            if lowres is not None:
                self.align_corners = lowres == "align_corners"
        self.scales = tuple(np.atleast_1d(scales).tolist())
        self.base_size, self.flip, self.weighting = base_size, flip, weighting
        self.stride = stride
        if self.mode not in ("whole", "slide", "tile"):
            raise unknown_name("mode", self.mode, ("whole", "slide", "tile"))
        if self.average not in AVERAGES:
            raise unknown_name("average", self.average, AVERAGES)
        find_rule(self.rule)
        check_sampling(self.sampling)
        if flip not in (False, True, "d4"):
            raise ValueError(f"flip must be False, True or 'd4', got {flip!r}.")
        if flip == "d4" and self.average == "views":
            raise ValueError("average='views' knows the mirror image alone: use flip=True.")
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise ValueError(f"scales must be positive numbers, got {self.scales}.")
        if base_size is not None and np.min(base_size) < 1:
            raise ValueError(f"base_size must be None or a number of pixels, got {base_size}.")
        scaled_size((1, 1), 1.0, base_size, procedure)
        if batch_windows is not None:
            check_counts(batch_windows=batch_windows)
        self.progress = progress
        self._check_network(predictor, window, size_divisor, crf)
        self.crf = None if crf is None else find_crf(crf)
        self.window = None if self.mode == "whole" else predictor._window(self.mode, window)
        seen = predictor.input_size if self.mode == "whole" else self.window
        if flip == "d4" and seen and seen[0] != seen[1]:
            raise ValueError(f"flip='d4' rotates by 90 degrees and needs a square, got {seen}.")
        self.size_divisor = _size_divisor(size_divisor)
        self.swapped = _swapped(flip_pairs, flip, predictor)
        self.batch = batch_windows or self._usual_batch(predictor)
        self.plain = (
            self.mode == "whole"
            and self.scales == (1.0,)
            and not (flip or base_size or crf)
            and self.size_divisor == (1, 0)
        )

    def _check_network(self, predictor, window, size_divisor, crf):
        fixed, name = predictor.input_size, predictor.runner.name
        if self.mode == "whole":
            if window is not None or self.stride is not None:
                raise ValueError("window and stride belong to mode='slide' and mode='tile'.")
            if fixed and (self.scales != (1.0,) or self.base_size or size_divisor):
                raise ValueError(
                    f"{name} has the fixed input size {fixed}: every picture is "
                    "resized to it, so scales, base_size and size_divisor change nothing. Use "
                    "mode='slide', or a file without a fixed size."
                )
        elif size_divisor is not None:
            raise ValueError("size_divisor belongs to mode='whole'.")
        output = predictor.runner.output
        if self.average != "probabilities" and output in ("labels", "probabilities"):
            raise ValueError(f"{name} returns {output}; there are no logits to average.")
        if self.mode == "tile" and output == "logits_lowres":
            raise ValueError(
                f"mode='tile' is for maps that are smaller because their border was cut off; "
                f"{name} returns logits of the whole window at low resolution. Use mode='slide'."
            )
        if crf is not None and predictor.runner.outputs_labels:
            raise ValueError(
                f"{name} returns labels, but a CRF refines probabilities: use the "
                "model itself, or a file exported with logits (`keras-seg export` makes those)."
            )

    def _usual_batch(self, predictor):
        """At most 8 windows at once, fewer where their scores would be larger than that."""
        if self.window is None or predictor.runner.batch is not None:
            return predictor.runner.batch or 1
        scores = 4 * self.window[0] * self.window[1] * predictor.num_classes
        return max(1, min(8, _BATCH_BYTES // (scores * (2 if self.flip else 1))))

    def views(self):
        """(scale, mirrored) of each run over the whole image."""
        mirrored = (False, True) if self.flip and self.average == "views" else (False,)
        return [(scale, mirror) for scale in self.scales for mirror in mirrored]

    def scaled_size(self, size, scale):
        """(H, W) of an image (H, W) at a scale."""
        least = 1 if self.window is None else min(self.window)
        return scaled_size(size, scale, self.base_size, self.procedure, least)


def _size_divisor(value):
    if value is None:
        return 1, 0
    found = tuple(value) if np.ndim(value) else (value, 0)
    if len(found) != 2 or not all(is_count(n, 0) for n in found) or found[1] >= found[0]:
        raise ValueError(
            "size_divisor must be a positive number or a pair (divisor, remainder) with "
            f"0 <= remainder < divisor, got {value!r}."
        )
    return found


def _swapped(pairs, flip, predictor):
    """Where each class's score lies in the scores of the mirror image; None: in its own place."""
    pairs = tuple(tuple(p) if isinstance(p, list | tuple) else (p,) for p in pairs)
    if not pairs:
        return None
    if not flip:
        raise ValueError("flip_pairs belongs to flip=True and flip='d4'.")
    ids = [i for pair in pairs for i in pair]
    known = all(is_count(i, 0) and i < predictor.num_classes for i in ids)
    if not known or any(len(pair) != 2 for pair in pairs) or len(set(ids)) < len(ids):
        raise ValueError(
            "flip_pairs must be pairs of different class ids, such as ((14, 15), (16, 17)), each "
            f"id at most once and in 0..{predictor.num_classes - 1}; got {pairs}."
        )
    order = np.arange(predictor.num_classes)
    for left, right in pairs:
        order[[left, right]] = right, left
    return order
