"""DeconvNet's test procedure: object proposals, each scored by itself, put together in one map.

Noh, Hong, Han. "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015, section 4.3
and 5.2; details (sizes, margins, the ensemble of the released code) from the authors' inference
code, HyeonwooNoh/DeconvNet.
"""

import pathlib

import numpy as np

from keras_seg.crf import find_crf
from keras_seg.inference.predictor import Predictor, softmax
from keras_seg.inference.resize import resize
from keras_seg.utils import check_counts, is_count, unknown_name

AGGREGATES = ("max", "mean")
COMBINATIONS = ("mean", "product")


def selective_search(image, *, fast=True):
    """Boxes by selective search (Uijlings et al., IJCV 2013), by rank, from OpenCV.

    The rank has a random part, as the paper has it, which OpenCV does not let one fix: the boxes
    are the same each time, their order is not.

    Args:
        image: uint8 (H, W, 3), RGB.
        fast: OpenCV's fast strategies; else those of the best quality.

    Returns:
        int (n, 4): top, left, bottom, right of each box; the last two are beyond its last pixel.

    Raises:
        ValueError: for another image, or without the extra "proposals".
    """
    cv2 = _opencv()
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(_rgb(image)[..., ::-1]))
    if fast:
        search.switchToSelectiveSearchFast()
    else:
        search.switchToSelectiveSearchQuality()
    return _corners(search.process())


def edge_boxes(image, model_file, *, count=2000):
    """Boxes by edge boxes (Zitnick, Dollar, ECCV 2014), the likeliest objects first, from OpenCV.

    Args:
        image: uint8 (H, W, 3), RGB.
        model_file: the structured forest that finds edges: OpenCV's `model.yml.gz` (in the
            opencv_extra repository, folder `testdata/cv/ximgproc`).
        count: at most so many.

    Returns, Raises: as `selective_search`; ValueError also for a file that cannot be read.
    """
    cv2 = _opencv()
    check_counts(count=count)
    if not pathlib.Path(model_file).is_file():
        raise ValueError(f"There is no edge model at {model_file}.")
    _check_forest(cv2, model_file)
    detector = cv2.ximgproc.createStructuredEdgeDetection(str(model_file))
    edges = detector.detectEdges(_rgb(image).astype("float32") / 255)
    directions = detector.computeOrientation(edges)
    return _boxes_of_edges(cv2, detector.edgesNms(edges, directions), directions, count)


def _check_forest(cv2, path):
    """OpenCV does not check what it reads there: another file ends the process."""
    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
        parts = ("options", "childs", "featureIds", "thresholds", "edgeBoundaries", "edgeBins")
        missing = [part for part in parts if storage.getNode(part).empty()]
    except (cv2.error, SystemError) as error:
        raise ValueError(f"{path} is no structured forest of OpenCV: {error}") from error
    if missing:
        raise ValueError(
            f"{path} is no structured forest of OpenCV: it lacks {', '.join(missing)}."
        )


def _boxes_of_edges(cv2, edges, directions, count):
    """Boxes by rank from the strength (H, W), 0..1, and the direction of thinned edges."""
    finder = cv2.ximgproc.createEdgeBoxes()
    finder.setMaxBoxes(count)
    return _corners(finder.getBoundingBoxes(edges, directions)[0])


def choose_boxes(boxes, *, count=50, least=112):
    """The first `count` boxes whose shorter side has at least `least` pixels, in their order.

    Args:
        boxes: (n, 4), top, left, bottom, right, the best first.

    Returns:
        int (m, 4).

    Raises:
        ValueError: for another shape, or a box without pixels.
    """
    boxes = _checked(boxes)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    return boxes[sides >= least][:count]


def enlarge_boxes(boxes, factor=1.2):
    """Boxes (n, 4) with sides `factor` times as long around the same middle, in whole pixels."""
    boxes = _checked(boxes)
    if factor < 1:
        raise ValueError(f"factor must be at least 1, got {factor}.")
    margin = np.rint((boxes[:, 2:] - boxes[:, :2]) * (factor - 1) / 2).astype(int)
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1)


class ProposalPredictor(Predictor):
    """Predict through object proposals, as DeconvNet does; for `evaluate` and all else a Predictor.

    Each box is enlarged, cut out (black outside the image), resized to the network's size, scored,
    and its scores resized back. The scores of all boxes, zero outside them, are put together pixel
    by pixel; softmax makes them probabilities. Pixels in no box have equal scores in all classes,
    and so the label 0.

    Args:
        model_or_path, table, num_threads: as for `Predictor`.
        proposals: a function from an image, uint8 (H, W, C), to boxes (n, 4), the best first; or
            the name "selective_search"; or the path of an edge model for `edge_boxes`.
        count, least: see `choose_boxes`. The authors': 50 boxes of at least 112 pixels.
        enlarge: see `enlarge_boxes`; 1.2.
        size: (H, W) that the network sees, if it does not fix one; 224 x 224.
        aggregate: "max" of the scores and 0 (the published results), or "mean".
        ensemble: None, or a `Predictor` of the same classes, such as of FCN-8s, that is run on the
            whole image with its default options.
        combine: how with it: "mean" of the probabilities (the paper), or "product" of the scores
            with the other's logits, where those are positive (the released code, 72.5 on VOC).

    Prediction options of `probabilities`, `predict` and all others: `boxes`, (n, 4), for this image
    instead of proposals (they are still chosen and enlarged); `crf` and `progress`, as for
    `Predictor`. The CRF of the authors is "deconvnet".

    Raises:
        ValueError: as `Predictor`; for a file that returns labels, and options that do not fit.
    """

    def __init__(
        self,
        model_or_path,
        proposals="selective_search",
        *,
        table=None,
        num_threads=None,
        count=50,
        least=112,
        enlarge=1.2,
        size=(224, 224),
        aggregate="max",
        ensemble=None,
        combine="mean",
    ):
        super().__init__(model_or_path, table=table, num_threads=num_threads)
        if self.runner.output in ("labels", "probabilities"):
            raise ValueError(
                f"{self.runner.name} returns {self.runner.output}; proposals need logits."
            )
        if aggregate not in AGGREGATES:
            raise unknown_name("aggregate", aggregate, AGGREGATES)
        if combine not in COMBINATIONS:
            raise unknown_name("combine", combine, COMBINATIONS)
        check_counts(count=count)
        if not is_count(least):
            raise ValueError(f"least must be a whole number of pixels, got {least!r}.")
        enlarge_boxes(np.zeros((0, 4)), enlarge)
        if ensemble is not None and ensemble.num_classes != self.num_classes:
            raise ValueError(
                f"{ensemble.runner.name} returns {ensemble.num_classes} classes, "
                f"{self.runner.name} {self.num_classes}; an ensemble needs the same."
            )
        product = ensemble is not None and combine == "product"
        if product and ensemble.runner.output in ("labels", "probabilities"):
            raise ValueError(
                f"{ensemble.runner.name} returns {ensemble.runner.output}; combine='product' needs "
                "logits."
            )
        self._propose = _proposer(proposals)
        self._count, self._least, self._enlarge = count, least, enlarge
        self._size = self.input_size or tuple(size)
        self._aggregate, self._ensemble, self._combine = aggregate, ensemble, combine

    def probabilities(self, image, *, boxes=None, crf=None, progress=None):
        """Class probabilities, float32 (H, W, K), of one image (H, W, C), uint8 or 0..255."""
        image = self._image(image)
        crf = None if crf is None else find_crf(crf)
        found = self._combined(self.scores(image, boxes), image)
        return found if crf is None else crf(found, image)

    def predict(self, image, **options):
        """The label map, uint8 (H, W), of one image; see `probabilities`."""
        return self.probabilities(image, **options).argmax(axis=-1).astype("uint8")

    def check(self, *, boxes=None, crf=None, progress=None):
        """Raise ValueError for prediction options that do not fit."""
        if boxes is not None:
            _checked(boxes)
        if crf is not None:
            find_crf(crf)

    def scores(self, image, boxes=None):
        """The scores of all boxes put together, float32 (H, W, K), before softmax and ensemble."""
        image = self._image(image)
        boxes = self._propose(image) if boxes is None else boxes
        boxes = enlarge_boxes(
            choose_boxes(boxes, count=self._count, least=self._least), self._enlarge
        )
        total = np.zeros((*image.shape[:2], self.num_classes), "float32")
        for box in boxes.tolist():
            top, left, bottom, right = box
            inside = [
                max(0, top),
                max(0, left),
                min(bottom, len(image)),
                min(right, image.shape[1]),
            ]
            if inside[0] >= inside[2] or inside[1] >= inside[3]:
                continue
            scores = resize(self._score(image, box, inside), (bottom - top, right - left))
            part = scores[inside[0] - top : inside[2] - top, inside[1] - left : inside[3] - left]
            target = total[inside[0] : inside[2], inside[1] : inside[3]]
            if self._aggregate == "max":
                np.maximum(target, part, out=target)
            else:
                target += part / len(boxes)
        return total

    def _score(self, image, box, inside):
        """The network's scores (h, w, K) of a box, of which the part `inside` is in the image."""
        top, left, bottom, right = box
        crop = np.zeros((bottom - top, right - left, image.shape[2]), "float32")
        place = crop[inside[0] - top : inside[2] - top, inside[1] - left : inside[3] - left]
        place[...] = image[inside[0] : inside[2], inside[1] : inside[3]]
        return self.runner.run(resize(crop, self._size)[None])[0]

    def _combined(self, scores, image):
        """Probabilities from the scores, together with the ensemble's."""
        if self._ensemble is None:
            return softmax(scores)
        if self._combine == "product":
            logits = resize(self._ensemble.logits(image[None])[0], image.shape[:2])
            return softmax(scores * np.maximum(logits, 0))
        return (softmax(scores) + self._ensemble.probabilities(image)) / 2


def _proposer(proposals):
    if callable(proposals):
        return proposals
    if proposals == "selective_search":
        _opencv()
        return selective_search
    if not pathlib.Path(proposals).is_file():
        raise ValueError(
            "proposals must be a function from an image to boxes, 'selective_search', or the path "
            f"of an edge model; there is no file {proposals}."
        )
    _opencv()
    return lambda image: edge_boxes(image, proposals)


def _opencv():
    try:
        import cv2
    except ImportError as error:
        raise ValueError(
            "Object proposals need OpenCV with its contrib modules: pip install "
            "'keras-seg[proposals]'."
        ) from error
    if not hasattr(cv2, "ximgproc"):
        raise ValueError(
            "This OpenCV lacks its contrib modules, which object proposals need: pip uninstall it "
            "and pip install 'keras-seg[proposals]'."
        )
    return cv2


def _rgb(image):
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"Proposals are of an RGB image (H, W, 3), got the shape {image.shape}.")
    return np.clip(np.rint(image), 0, 255).astype("uint8")


def _corners(found):
    """Boxes top, left, bottom, right from OpenCV's x, y, width, height."""
    x, y, width, height = np.asarray(found, int).reshape(-1, 4).T
    return np.stack([y, x, y + height, x + width], axis=1)


def _checked(boxes):
    boxes = np.asarray(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"Boxes are an array (n, 4) of top, left, bottom, right; got the shape {boxes.shape}."
        )
    boxes = boxes.astype(int)
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ValueError("A box must end below and to the right of where it begins.")
    return boxes
