"""Data sets of which little is labelled: a few pixels of each image, and images without labels."""

import hashlib
import pathlib

import numpy as np

from keras_seg.data.dataset import Files, ImageReader, SegmentationDataset


def sparse_labels(dataset, pixels=10, seed=0):
    """The same data set with `pixels` labelled pixels in each image; the others are ignored.

    One pixel of each class that the image holds comes first (of as many classes, drawn at random,
    as there are pixels), the others are drawn uniformly without replacement. Which ones follows
    from `seed` and the name of the sample alone. An image with fewer labelled pixels keeps all.

    Flips and crops of the images keep single pixels; resizing them loses some (augment without
    `scale`). `cached()` reads and draws each label once.

    Args:
        dataset: `SegmentationDataset` of label maps (H, W).
        pixels: how many in each image.
        seed: another one draws other pixels.

    Raises:
        ValueError: for less than one pixel, or labels (H, W, K).
    """
    if not isinstance(pixels, int | np.integer) or pixels < 1:
        raise ValueError(f"pixels must be an integer of at least 1, got {pixels!r}.")
    if dataset.label_channels:
        raise ValueError(f"{dataset!r} has labels (H, W, {dataset.label_channels[0]}), not (H, W).")
    return _like(dataset, _Sparse(dataset, int(pixels), seed), f"{pixels} labelled pixels each")


def with_unlabelled(labelled, unlabelled):
    """The samples of `labelled` and, all of their pixels ignored, those of `unlabelled`.

    Batches draw from all of them alike. To have more of the labelled ones in a batch, repeat them:
    `labelled.subset([*range(len(labelled))] * 4)`.

    Args:
        labelled: `SegmentationDataset` of label maps (H, W).
        unlabelled: a `SegmentationDataset`, whose labels are not looked at, or a list of image
            files.

    Raises:
        ValueError: for images of another number of channels, no images, or labels (H, W, K).
    """
    if labelled.label_channels:
        raise ValueError(
            f"{labelled!r} has labels (H, W, {labelled.label_channels[0]}), not (H, W)."
        )
    if len(unlabelled) == 0:
        raise ValueError("There is no unlabelled image.")
    if not isinstance(unlabelled, SegmentationDataset):
        paths = [pathlib.Path(path) for path in unlabelled]
        files = Files(paths, None, ImageReader(labelled.channels), None)
        names = [path.with_suffix("").as_posix() for path in paths]
        unlabelled = SegmentationDataset(files, labelled.table, names, channels=labelled.channels)
    if unlabelled.channels != labelled.channels:
        raise ValueError(
            f"The labelled images have {labelled.channels} channels, the unlabelled "
            f"{unlabelled.channels}."
        )
    note = f"and {len(unlabelled)} images without labels"
    source = _WithUnlabelled(labelled, unlabelled)
    return _like(labelled, source, note, [*labelled.names, *unlabelled.names])


def _like(dataset, source, note, names=None):
    return SegmentationDataset(
        source,
        dataset.table,
        names or dataset.names,
        channels=dataset.channels,
        layout=dataset.layout,
        split=dataset.split_name,
        description=f"{dataset.description}, {note}",
        notes=dataset.notes,
    )


class _Sparse:
    """Source that hides most labels of another data set."""

    def __init__(self, dataset, pixels, seed):
        self.dataset, self.pixels, self.seed = dataset, pixels, seed
        self.image_paths, self.mask_paths = dataset.image_paths, dataset.mask_paths
        self.names = dataset.names
        self.image = dataset.read_image

    def label(self, index):
        return self._hide(self.dataset.read_label(index), index)

    def both(self, index):
        image, label, _ = self.dataset[index]
        return image, self._hide(label, index)

    def _hide(self, label, index):
        # Not Python's own hash of a text, which differs from process to process.
        digest = hashlib.sha256(f"{self.seed}:{self.names[index]}".encode()).digest()
        rng = np.random.default_rng(list(digest))
        ids, ignore = label.ravel(), self.dataset.table.ignore_label
        order = rng.permutation(np.flatnonzero(ids != ignore))
        _, firsts = np.unique(ids[order], return_index=True)
        firsts = rng.permutation(firsts)[: self.pixels]
        others = np.delete(np.arange(order.size), firsts)[: self.pixels - len(firsts)]
        kept = order[np.concatenate([firsts, others])]
        sparse = np.full_like(ids, ignore)
        sparse[kept] = ids[kept]
        return sparse.reshape(label.shape)


class _WithUnlabelled:
    """Source of the samples of one data set, and of the images of another behind them."""

    def __init__(self, labelled, unlabelled):
        self.labelled, self.unlabelled = labelled, unlabelled
        paths = [labelled.image_paths, unlabelled.image_paths]
        self.image_paths = None if None in paths else [*paths[0], *paths[1]]
        self.mask_paths = None

    def image(self, index):
        count = len(self.labelled)
        if index < count:
            return self.labelled.read_image(index)
        return self.unlabelled.read_image(index - count)

    def label(self, index):
        if index < len(self.labelled):
            return self.labelled.read_label(index)
        return self.both(index)[1]

    def both(self, index):
        if index < len(self.labelled):
            image, label, _ = self.labelled[index]
            return image, label
        image = self.image(index)
        return image, np.full(image.shape[:2], self.labelled.table.ignore_label, "uint8")
