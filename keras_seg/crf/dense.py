"""Dense CRF: label maps that follow the edges of the image, as post-processing on the host.

Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
NIPS 2011, https://arxiv.org/abs/1210.5644; conventions as in lucasb-eyer/pydensecrf. NumPy only.
"""

import dataclasses
import math
import numbers

import numpy as np

from keras_seg.crf.lattice import PermutohedralLattice
from keras_seg.utils import check_counts, unknown_name

NORMALIZATIONS = ("symmetric", "before", "after", "mean", "none")
# The exact bilateral kernel of so many pixels takes 1 GiB.
MAX_EXACT_PIXELS = 128**2
# Probabilities below it count as this much: no class is impossible.
SMALLEST = 1e-8


def _plain(weight):
    """A number or (nested) tuples of them: comparable, and in what JSON has."""
    if weight.ndim == 0:
        return float(weight)
    return tuple(_plain(row) for row in weight)


@dataclasses.dataclass(frozen=True)
class DenseCRF:
    """The parameters of a dense CRF; call it: `crf(probabilities, image)`, see `dense_crf`.

    From Q = p, the network's probabilities, each iteration computes, for all pixels at once,

        Q = softmax(log p + w1 B Q + w2 S Q)
        B_ij = exp(-|p_i - p_j|^2 / (2 theta_alpha^2) - |I_i - I_j|^2 / (2 theta_beta^2))
        S_ij = exp(-|p_i - p_j|^2 / (2 theta_gamma^2))

    p in pixels, I the colours 0..255. (The Potts model: a pixel pays w for each other pixel of
    another class, less the more it differs; what all classes pay alike is left out.)

    Args:
        w1, w2: weights of the bilateral and the spatial kernel: a number; a number for each class;
            or a matrix (K, K) that the filtered probabilities of a pixel are multiplied by (minus
            the compatibility mu of the paper; minus `compat` of pydensecrf where that is a vector
            or a matrix, which it also makes symmetric).
        theta_alpha, theta_gamma: widths in pixels.
        theta_beta: width in units of colour.
        iterations: of inference, at least 1.
        normalization: with D the row sums of a kernel K, "symmetric": D^-1/2 K D^-1/2 (default of
            pydensecrf); "before": K D^-1; "after": D^-1 K (CRF-RNN); "mean": K divided by the mean
            of D (pydensecrf's NO_NORMALIZATION); "none": K (the paper). Weights of one are no
            weights of another.
        self_term: whether a pixel's own probability is part of the sums (pydensecrf) or not (the
            paper).

    Raises:
        ValueError: for an argument out of range.
    """

    w1: float | tuple = 4.0
    theta_alpha: float = 67.0
    theta_beta: float = 3.0
    w2: float | tuple = 3.0
    theta_gamma: float = 1.0
    iterations: int = 10
    normalization: str = "symmetric"
    self_term: bool = True

    def __post_init__(self):
        for name in ("w1", "w2"):
            weight = np.asarray(getattr(self, name), "float64")
            square = weight.ndim == 2 and weight.shape[0] == weight.shape[1]
            if not (weight.ndim < 2 or square) or not np.isfinite(weight).all():
                raise ValueError(
                    f"{name} must be a number, one for each class, or a square matrix of them, got "
                    f"{getattr(self, name)!r}."
                )
            object.__setattr__(self, name, _plain(weight))
        for name in ("theta_alpha", "theta_beta", "theta_gamma"):
            value = getattr(self, name)
            if not (isinstance(value, numbers.Real) and 0 < value < math.inf):
                raise ValueError(f"{name} must be a number above 0, got {value!r}.")
        check_counts(iterations=self.iterations)
        if self.normalization not in NORMALIZATIONS:
            raise unknown_name("normalization", self.normalization, NORMALIZATIONS)
        if not isinstance(self.self_term, bool):
            raise ValueError(f"self_term must be True or False, got {self.self_term!r}.")

    def __call__(self, probabilities, image, *, exact=False):
        """See `dense_crf`."""
        probabilities, image = _checked(probabilities, image)
        kernel = bilateral_kernel(image, self.theta_alpha, self.theta_beta, exact=exact)
        return self.refine(probabilities, kernel)

    def refine(self, probabilities, bilateral):
        """As a call, with a kernel made before: `bilateral_kernel` of the image and the widths."""
        height, width, classes = probabilities.shape
        filters = []
        for name, kernel in (
            ("w1", bilateral),
            ("w2", SpatialKernel((height, width), self.theta_gamma)),
        ):
            weight = np.asarray(getattr(self, name), "float32")
            if weight.ndim and len(weight) != classes:
                raise ValueError(f"{name} is for {len(weight)} classes, there are {classes}.")
            filters.append((weight, self._normalized(kernel)))
        p = np.asarray(probabilities, "float32").reshape(-1, classes).T
        start = np.log(np.maximum(p, np.float32(SMALLEST)))  # (K, H W)
        q = _softmax(start.copy())
        for _ in range(self.iterations):
            total = start.copy()
            for weight, filtered in filters:
                message = filtered(q)
                total += weight @ message if weight.ndim == 2 else weight[..., None] * message
            q = _softmax(total)
        return np.ascontiguousarray(q.T).reshape(height, width, classes)

    def _normalized(self, kernel):
        """A function of (K, H W), by `normalization` and `self_term`."""
        filtered = kernel.filter
        if not self.self_term:

            def filtered(q):
                return kernel.filter(q) - kernel.diagonal * q

        if self.normalization == "none":
            return filtered
        # A pixel without any other in reach has the sum 0, and its filtered values are 0 as well.
        total = np.maximum(filtered(np.ones((1, kernel.size), "float32"))[0], np.float32(1e-20))
        if self.normalization == "before":
            return lambda q: filtered(q / total)
        if self.normalization == "after":
            return lambda q: filtered(q) / total
        if self.normalization == "mean":
            return lambda q: filtered(q) / total.mean()
        root = np.sqrt(total)
        return lambda q: filtered(q / root) / root


# Certain, read in published code: pydensecrf (its README's example), deeplab_v2
# (kazuto1011/deeplab-pytorch, all data sets), deconvnet (HyeonwooNoh/DeconvNet, its inference in
# MATLAB), crf_rnn (torrvision/crfasrnn). The settings of
# DeepLab v1 are those that several re-implementations name as the authors'; its 10 iterations and
# all of krahenbuhl_koltun_msrc are from memory of the papers.
PRESETS = {
    "pydensecrf": DenseCRF(w1=10, theta_alpha=80, theta_beta=13, theta_gamma=3, iterations=5),
    "krahenbuhl_koltun_msrc": DenseCRF(w1=10, theta_alpha=61, theta_beta=11, w2=1, theta_gamma=1),
    "deeplab_v1": DenseCRF(w1=5, theta_alpha=50, theta_beta=10, theta_gamma=3),
    "deeplab_v1_msc": DenseCRF(w1=3, theta_alpha=95, theta_beta=3, theta_gamma=3),
    "deeplab_v1_largefov": DenseCRF(w1=4, theta_alpha=121, theta_beta=5, theta_gamma=3),
    "deeplab_v1_msc_largefov": DenseCRF(w1=4, theta_alpha=83, theta_beta=5, theta_gamma=3),
    "deeplab_v1_coco": DenseCRF(w1=5, theta_alpha=67, theta_beta=3, theta_gamma=3),
    "deeplab_v1_coco_largefov": DenseCRF(w1=5, theta_alpha=69, theta_beta=5, theta_gamma=3),
    "deeplab_v1_msc_coco_largefov": DenseCRF(w1=4, theta_alpha=59, theta_beta=5, theta_gamma=3),
    "deeplab_v2": DenseCRF(),
    "deconvnet": DenseCRF(w1=5, theta_alpha=20, theta_beta=3, theta_gamma=3),
    "crf_rnn": DenseCRF(w1=5, theta_alpha=160, theta_beta=3, theta_gamma=3, normalization="after"),
}
PRESETS["deeplab"] = PRESETS["deeplab_v2"]


def dense_crf(probabilities, image, crf="deeplab", *, exact=False, **changes):
    """Probabilities (H, W, K) refined by the image that they are of.

    The spatial kernel is exact. The bilateral one is approximated on the permutohedral lattice, in
    time proportional to the pixels and the classes; a photograph of 500 x 375 pixels with 21
    classes takes a few seconds (docs/results.md).

    Args:
        probabilities: (H, W, K) of the network, after its softmax, at the image's own size; below
            1e-8 they count as 1e-8.
        image: (H, W, C), its pixels 0..255, not normalised. All channels are colours; a single one
            stands for three equal ones, as in a grey picture stored as RGB.
        crf: name of a preset (`PRESETS`) or a `DenseCRF`.
        exact: compute the bilateral kernel between all pairs of pixels, which takes their number
            squared in time and memory; up to 128 x 128 pixels.
        **changes: parameters of `DenseCRF` that differ from the preset's.

    Returns:
        The marginals Q, float32 (H, W, K); the label map is their argmax over the last axis.

    Raises:
        ValueError: for shapes that do not fit, values that are not finite or no probabilities, an
            unknown preset or parameter, `exact` with too many pixels, widths too small to filter.
    """
    return find_crf(crf, **changes)(probabilities, image, exact=exact)


def find_crf(crf, **changes):
    """The `DenseCRF` that a preset's name or a `DenseCRF` means, with some parameters changed.

    Raises ValueError for an unknown preset or parameter.
    """
    if not isinstance(crf, DenseCRF):
        if crf not in PRESETS:
            raise unknown_name("CRF", crf, PRESETS)
        crf = PRESETS[crf]
    names = [field.name for field in dataclasses.fields(DenseCRF)]
    for name in changes:
        if name not in names:
            raise unknown_name("parameter of the CRF", name, names)
    return dataclasses.replace(crf, **changes)


def bilateral_kernel(image, theta_alpha, theta_beta, *, exact=False):
    """The kernel of position and colour between the pixels of an image (H, W, C)."""
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    features = bilateral_features(image, theta_alpha, theta_beta)
    return ExactKernel(features) if exact else LatticeKernel(features)


def bilateral_features(image, theta_alpha, theta_beta):
    """(H W, 2 + C): position and colour of each pixel, divided by their widths."""
    height, width = image.shape[:2]
    y, x = np.indices((height, width), "float64") / theta_alpha
    colours = np.asarray(image, "float64") / theta_beta
    return np.concatenate([y[..., None], x[..., None], colours], axis=-1).reshape(
        height * width, -1
    )


class LatticeKernel:
    """The approximate kernel; see `PermutohedralLattice`."""

    def __init__(self, features):
        self.size = len(features)
        self._lattice = PermutohedralLattice(features)
        self.diagonal, self.filter = self._lattice.diagonal, self._lattice.filter


class ExactKernel:
    """The kernel between all pairs of N positions, held whole: (N, N) float32."""

    diagonal = np.float32(1)

    def __init__(self, features):
        self.size = len(features)
        if self.size > MAX_EXACT_PIXELS:
            raise ValueError(
                f"The exact kernel of {self.size} pixels takes {self.size**2 * 4 / 2**30:.1f} GiB; "
                f"exact=True is for up to {MAX_EXACT_PIXELS} pixels."
            )
        self._kernel = np.zeros((self.size, self.size), "float32")
        for column in features.T.astype("float32"):
            for row, here in zip(self._kernel, column, strict=True):
                row += (column - here) ** 2
        self._kernel *= np.float32(-0.5)
        np.exp(self._kernel, out=self._kernel)

    def filter(self, values):
        """(K, N) -> (K, N)."""
        return values @ self._kernel


class SpatialKernel:
    """The Gaussian of the distance between the pixels of an image of `size` (H, W); exact.

    One dimension after the other, cut off where float32 sees no more of it.
    """

    diagonal = np.float32(1)
    block = 8  # rows at a time, each with its neighbourhood only; measured: the quickest

    def __init__(self, size, theta):
        self.shape, self.size, self.theta = size, size[0] * size[1], theta

    def filter(self, values):
        """(K, H W) -> (K, H W)."""
        values = self._rows(values.reshape(-1, *self.shape))
        values = self._rows(np.ascontiguousarray(values.swapaxes(1, 2))).swapaxes(1, 2)
        return values.reshape(-1, self.size)

    def _rows(self, values):
        rows, reach = values.shape[1], math.ceil(6 * self.theta)
        place = np.arange(rows) / self.theta
        result = np.empty_like(values)
        for first in range(0, rows, self.block):
            here = slice(first, first + self.block)
            near = slice(max(first - reach, 0), first + self.block + reach)
            kernel = np.exp(-0.5 * (place[here, None] - place[near]) ** 2).astype("float32")
            np.matmul(kernel, values[:, near], out=result[:, here])
        return result


def _checked(probabilities, image):
    probabilities, image = np.asarray(probabilities), np.asarray(image)
    if probabilities.ndim != 3 or probabilities.shape[2] < 2 or 0 in probabilities.shape:
        raise ValueError(
            "The CRF refines probabilities (H, W, K) of at least 2 classes, got the shape "
            f"{probabilities.shape}."
        )
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"The CRF needs the image (H, W, C), got the shape {image.shape}.")
    if image.shape[:2] != probabilities.shape[:2]:
        raise ValueError(
            f"The probabilities are {probabilities.shape[0]} x {probabilities.shape[1]} pixels, "
            f"the image {image.shape[0]} x {image.shape[1]}; the CRF needs one size for both."
        )
    low, high = probabilities.min(), probabilities.max()
    if not (low >= 0 and high <= 1.001):  # NaN too
        raise ValueError(
            f"The CRF refines probabilities, got values from {low} to {high}. Logits need a "
            "softmax over the classes first."
        )
    low, high = image.min(), image.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"The image has pixels that are not finite: {low} to {high}.")
    if not 0 <= low <= high <= 255 or (image.dtype.kind == "f" and 0 < high <= 1):
        raise ValueError(
            f"The CRF compares colours 0..255, got {image.dtype} with {low} to {high}. Give the "
            "image as it was read, not normalised."
        )
    return probabilities, image


def _softmax(logits):
    """Softmax over the first axis, in place."""
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits
