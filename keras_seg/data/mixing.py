"""Two samples made one: CutMix and copy-paste, for `NumpyBatches(..., mix=)` and `tf_batches`.

`mix(sample, partner, rng)` takes (image, label, *weights) of two samples of one size, augmented
already, and gives the first with pixels of the second. Image, label and weights come from the same
sample in every pixel. With `mix.needs_instances`, the last map of the partner says its objects,
int32 (H, W), 0 where there is none.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class CutMix:
    """A random rectangle of another sample, image and label.

    Yun et al., "CutMix", ICCV 2019, section 3.1, for segmentation as French et al., BMVC 2020: the
    label of every pixel goes with it. The rectangle's share of the picture is drawn from
    Beta(alpha, alpha), its sides have the picture's proportions, its centre is drawn uniformly and
    what reaches beyond the border is cut off.

    Args:
        probability: of mixing at all.
        alpha: of the Beta distribution; 1: uniform.

    Raises:
        ValueError: if an argument is out of its range.
    """

    probability: float = 0.5
    alpha: float = 1.0

    needs_instances = False

    def __post_init__(self):
        _check_probability(self.probability)
        if not self.alpha > 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}.")

    def __call__(self, sample, partner, rng):
        if rng.random() >= self.probability:
            return sample
        height, width = sample[1].shape[:2]
        side = np.sqrt(rng.beta(self.alpha, self.alpha))
        rows = _span(height, side, rng)
        columns = _span(width, side, rng)
        mixed = []
        for own, other in zip(sample, partner, strict=True):
            own = own.copy()
            own[rows, columns] = other[rows, columns]
            mixed.append(own)
        return tuple(mixed)


@dataclasses.dataclass(frozen=True)
class CopyPaste:
    """Objects of another sample, cut out along their outlines, at their places.

    Ghiasi et al., "Simple Copy-Paste", CVPR 2021: a random subset of the objects of the second
    image is pasted on the first; scale jitter and flip are `augment`'s, which both went through.

    Args:
        probability: of mixing at all.
        classes: ids to choose from; each that the partner shows is pasted with probability 1/2, and
            one at least if it shows any. Labels (H, W, K): the channels where a pixel is 1.
        instances: paste objects, and not whole classes: each object of the partner with probability
            1/2, one at least; `classes`, if given, are those that the objects must have. The data
            set must know its instances (layout "instances").

    Raises:
        ValueError: if neither `classes` nor `instances` is given or the probability is out of 0..1.
    """

    probability: float = 0.5
    classes: tuple = ()
    instances: bool = False

    def __post_init__(self):
        _check_probability(self.probability)
        if not self.classes and not self.instances:
            raise ValueError(
                "CopyPaste needs the classes to paste, classes=(1, 2), or instances=True."
            )
        object.__setattr__(self, "classes", tuple(self.classes))

    @property
    def needs_instances(self):
        """Whether the partner's map of objects must come along."""
        return self.instances

    def __call__(self, sample, partner, rng):
        if rng.random() >= self.probability:
            return sample
        label = partner[1]
        if self.instances:
            *partner, objects = partner
            if self.classes:
                objects = np.where(self._of(label, self.classes), objects, 0)
            mask = np.isin(objects, _choose(np.unique(objects[objects > 0]), rng))
        else:
            shown = [c for c in self.classes if self._of(label, (c,)).any()]
            mask = self._of(label, _choose(shown, rng))
        if not mask.any():
            return sample
        mixed = []
        for own, other in zip(sample, partner, strict=True):
            own = own.copy()
            own[mask] = other[mask]
            mixed.append(own)
        return tuple(mixed)

    @staticmethod
    def _of(label, classes):
        """The pixels of some classes."""
        if label.ndim == 2:
            return np.isin(label, classes)
        return (label[..., list(classes)] == 1).any(axis=2)


def _choose(objects, rng):
    """A random subset, not empty unless there is nothing to choose from."""
    objects = list(objects)
    if not objects:
        return objects
    sure = int(rng.integers(len(objects)))
    taken = rng.random(len(objects)) < 0.5
    return [each for i, each in enumerate(objects) if taken[i] or i == sure]


def _span(length, share, rng):
    """A slice of `share` of `length` about a random centre, cut off at the ends."""
    extent = round(length * share)
    start = int(rng.integers(length)) - extent // 2
    return slice(max(start, 0), max(min(start + extent, length), 0))


def _check_probability(probability):
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be in 0..1, got {probability}.")
