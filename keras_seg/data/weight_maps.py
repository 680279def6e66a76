"""U-Net's weight of each pixel: large between objects that nearly touch.

Ronneberger, Fischer, Brox. "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, section 3. https://arxiv.org/abs/1505.04597
"""

import dataclasses
import hashlib
import math
import pathlib
import zipfile

import numpy as np

from keras_seg.utils import atomic_path, writable_folder

_REACH = 8  # sigmas; beyond, exp(-r**2 / 2) < 2e-14 is lost in float32
_LARGEST = 60000  # of float16, in which maps are kept, with a margin for rounding


def edge_weights(instances, *, w0=10.0, sigma=5.0, class_weights=None, background_only=True):
    """w(x) = wc(x) + w0 exp(-(d1(x) + d2(x))**2 / (2 sigma**2)), equation 2 of the paper.

    d1 and d2 are the exact distances, in pixels, to the nearest and the second nearest object.
    Inside of an object d1 is 0. With fewer than two objects w is wc.

    Args:
        instances: integers (H, W): 0 background, every other id >= 1 an object. Objects that touch
            have no pixel between them to weigh: see `separate_touching`.
        w0: height of the term, 10 in the paper.
        sigma: its width in pixels, 5 in the paper.
        class_weights: (background, object), the paper's wc, which balances the classes (see
            `keras_seg.losses.class_weights`); None: 1 for both.
        background_only: add the term on background pixels only, as most implementations do; False:
            on all pixels, as the paper's formula says.

    Returns:
        float32 (H, W).

    Raises:
        ValueError: for a map that is not two-dimensional, not of integers or has negative ids, and
            for options out of range, and without SciPy, which is in the extra "eval".
    """
    background, weight = _check(w0, sigma, class_weights)
    instances = _check_instances(instances)
    try:
        from scipy import ndimage
    except ImportError as error:
        raise ValueError("Weights of edges need SciPy: pip install 'keras-seg[eval]'.") from error

    # Each object is looked at only where it is near enough to matter.
    reach = math.ceil(_REACH * sigma)
    nearest = np.full(instances.shape, np.inf)
    second = nearest.copy()
    ids = np.unique(instances, return_inverse=True)[1].reshape(instances.shape)
    ids += instances.all()  # a map without background: its first object is no 0
    for number, (rows, columns) in enumerate(ndimage.find_objects(ids), 1):
        near = np.s_[
            max(rows.start - reach, 0) : rows.stop + reach,
            max(columns.start - reach, 0) : columns.stop + reach,
        ]
        distance = ndimage.distance_transform_edt(ids[near] != number)
        second[near] = np.minimum(second[near], np.maximum(nearest[near], distance))
        nearest[near] = np.minimum(nearest[near], distance)
    bump = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    if background_only:
        bump[instances > 0] = 0
    return (np.where(instances > 0, weight, background) + bump).astype("float32")


def separate_touching(instances):
    """The map with a line of background, one pixel wide, between objects that touch.

    Where two objects meet, at a side or a corner of their pixels, the one with the higher id gives
    its pixels at the contact. In the paper such ridges teach the network to keep cells apart.

    Args:
        instances: integers (H, W): 0 background, every other id >= 1 an object.

    Returns:
        An array of the same shape and type.

    Raises:
        ValueError: as `edge_weights`.
    """
    instances = _check_instances(instances)
    height, width = instances.shape
    padded = np.pad(instances, 1)
    contact = np.zeros(instances.shape, bool)
    for y in range(3):
        for x in range(3):
            other = padded[y : y + height, x : x + width]
            contact |= (other > 0) & (other < instances)
    return np.where(contact, 0, instances)


@dataclasses.dataclass(frozen=True)
class EdgeWeights:
    """`edge_weights` with these options, each map made once: for `SegmentationDataset.weighted`.

    Maps have the precision of float16. With a folder for `cache` each is kept there under a name
    that follows from the instances and the options, so that the folder may serve several data sets
    and runs; without, it is made again each time that the sample is read.

    Raises:
        ValueError: for options out of range, or a folder that cannot be written.
    """

    w0: float = 10.0
    sigma: float = 5.0
    class_weights: tuple | None = None
    background_only: bool = True
    cache: str | pathlib.Path | None = None

    def __post_init__(self):
        classes = _check(self.w0, self.sigma, self.class_weights)
        if self.w0 + max(classes) > _LARGEST:
            raise ValueError(f"Weights must stay below {_LARGEST}, got {self}.")
        if self.cache is not None:
            writable_folder(self.cache)

    def __call__(self, instances):
        """Weights float32 (H, W) of a map of instances (H, W)."""
        if self.cache is None:
            return self._make(instances).astype("float32")
        file = pathlib.Path(self.cache) / f"{self._key(instances)}.npz"
        try:
            with np.load(file) as saved:
                weights = saved["weights"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # not there yet, or damaged
            weights = self._make(instances)
            with atomic_path(file) as temporary:
                np.savez_compressed(temporary, weights=weights)
        return weights.astype("float32")

    def _make(self, instances):
        options = dataclasses.asdict(self)
        del options["cache"]
        return edge_weights(instances, **options).astype("float16")

    def _key(self, instances):
        options = (self.w0, self.sigma, self.class_weights, self.background_only, instances.shape)
        data = np.ascontiguousarray(instances, "int32").tobytes()
        return hashlib.blake2b(repr(options).encode() + data, digest_size=16).hexdigest()


def _check(w0, sigma, class_weights):
    """(weight of the background, weight of objects)."""
    if not 0 <= w0 < math.inf:
        raise ValueError(f"w0 must be finite and at least 0, got {w0}.")
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be above 0, in pixels, got {sigma}.")
    weights = (1.0, 1.0) if class_weights is None else tuple(class_weights)
    if len(weights) != 2 or not all(0 <= w < math.inf for w in weights):
        raise ValueError(
            f"class_weights must be two numbers >= 0, (background, object), got {class_weights!r}."
        )
    return weights


def _check_instances(instances):
    instances = np.asarray(instances)
    if instances.ndim != 2 or instances.dtype.kind not in "iu" or instances.min(initial=0) < 0:
        raise ValueError(
            "A map of instances must hold integers >= 0 and have the shape (H, W); got "
            f"{instances.dtype} of shape {instances.shape}, lowest {instances.min(initial=0)}."
        )
    return instances
