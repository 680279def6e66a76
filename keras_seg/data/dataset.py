"""Pictures with label maps: what every reader returns, and the sources that they read from."""

import copy
from typing import NamedTuple

import numpy as np

from keras_seg.data import read
from keras_seg.data.augment import resize_image, resize_label
from keras_seg.utils import unknown_name


class Sample(NamedTuple):
    """One picture with its labels: uint8 (H, W, C), uint8 ids (H, W), name without suffix.

    Where classes do not exclude each other (`SegmentationDataset.multilabel`), the label is uint8
    (H, W, K) of 0 and 1, and 255 on ignored pixels.
    """

    image: np.ndarray
    label: np.ndarray
    name: str


class SegmentationDataset:
    """Pictures with label maps, read on demand: `len(dataset)`, `dataset[i]` -> `Sample`.

    Args:
        source: object with `image(i)` -> uint8 (H, W, C), `label(i)` -> uint8 (H, W), `both(i)`,
            and `image_paths`, `mask_paths`: lists of Path, or None where there are no files. If it
            has more for each picture: `extras`, the names, and `extra(i, name)` -> array
            (H, W, ...). Names with a meaning here: "instances", int32 (H, W), 0 background, else
            one id an object; "depth", float32 (H, W), metres, 0 where unknown; "hha", uint8
            (H, W, 3).
        table: `LabelTable` of the ids.
        names: one name a sample of `source`.
        channels: C.
        layout: of the data on disk, such as "camvid".
        split: its name on disk, None where the data are not split.
        description: what was found where, for people.
        extra_tables: {name of an extra that is a second label map: its `LabelTable`}.
        multilabel: labels are (H, W, K), see `Sample`.
        notes: what a user should know, such as a split of another size than published.

    Attributes: `table`, `channels`, `layout`, `split_name` (the argument `split`), `description`,
    `extra_tables`, `multilabel`, `notes`; `names`, `image_paths`, `mask_paths`; `extras`, the names
    of what `read_extra` gives;
    `has_weights` (whether samples have weights of pixels).
    """

    def __init__(
        self,
        source,
        table,
        names,
        *,
        channels=3,
        layout="",
        split=None,
        description="",
        extra_tables=None,
        multilabel=False,
        notes=(),
    ):
        self.table = table
        self.channels = channels
        self.layout = layout
        self.split_name = split
        self.description = description
        self.extra_tables = dict(extra_tables or {})
        self.multilabel = multilabel
        self.notes = tuple(notes)
        self._source = source
        self._all_names = tuple(names)
        self._indices = range(len(self._all_names))
        self._cache = None
        self._weights = None
        self._stack = ()

    @property
    def extras(self):
        """Names of what `read_extra` gives."""
        return tuple(getattr(self._source, "extras", ()))

    @property
    def has_weights(self):
        """Whether `weighted` made it."""
        return self._weights is not None

    @property
    def names(self):
        """Names of the samples: paths relative to the image folder, without suffix."""
        return [self._all_names[i] for i in self._indices]

    @property
    def image_paths(self):
        """Files of the images, or None where the data set has no files."""
        return self._select(self._source.image_paths)

    @property
    def mask_paths(self):
        """Files of the masks, or None where the data set has no files."""
        return self._select(self._source.mask_paths)

    def __len__(self):
        return len(self._indices)

    def __getitem__(self, index):
        """Sample `index`.

        Raises:
            ValueError: naming the file, if it cannot be read or image and mask differ in size.
        """
        place = self._indices[index]
        if self._cache is not None and place in self._cache:
            return self._cache[place]
        image, label = self._source.both(place)
        self._check_sizes(place, image, label)
        sample = Sample(image, label, self._all_names[place])
        if self._cache is not None:
            image.setflags(write=False)
            label.setflags(write=False)
            self._cache[place] = sample
        return sample

    def read_image(self, index):
        """The image of sample `index` alone."""
        return self._source.image(self._indices[index])

    def read_label(self, index):
        """The label map of sample `index` alone."""
        return self._source.label(self._indices[index])

    def read_extra(self, index, name):
        """What else belongs to sample `index`, an array (H, W, ...); see `extras`.

        Raises:
            ValueError: if the data set has nothing of this name, or the file cannot be read.
        """
        if name not in self.extras:
            raise unknown_name("extra", name, self.extras)
        return self._source.extra(self._indices[index], name)

    def read_weights(self, index):
        """The weights of the pixels of sample `index`, float32 (H, W), if `has_weights`."""
        place = self._indices[index]
        key = (place, "weights")
        if self._cache is not None and key in self._cache:
            return self._cache[key]
        weights = self._weights(self._source.extra(place, "instances")).astype(
            "float32", copy=False
        )
        if self._cache is not None:
            weights.setflags(write=False)
            self._cache[key] = weights
        return weights

    def subset(self, indices):
        """The samples `indices` (integers, in this order) as a data set."""
        return self._with(_indices=[self._indices[int(i)] for i in indices])

    def split(self, fraction, seed=0):
        """Cut at random in two: (rest, held_out), `fraction` of the samples held out, at least one.

        Both keep the order. Frames of one video belong together: cut those by `subset`.

        Raises:
            ValueError: if `fraction` is not between 0 and 1, or there are fewer than 2 samples.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must be between 0 and 1, got {fraction}.")
        if len(self) < 2:
            raise ValueError(f"Cannot split {len(self)} sample in two: {self.description}.")
        count = min(max(1, round(fraction * len(self))), len(self) - 1)
        order = np.random.default_rng(seed).permutation(len(self))
        return self.subset(sorted(order[count:])), self.subset(sorted(order[:count]))

    def cached(self):
        """The same data set, keeping every sample that it has read in memory, decoded."""
        return self._with(_cache={})

    def weighted(self, weights):
        """The same data set with a weight for every pixel, for `read_weights` and for batches.

        Training on it hands the weights to the loss, which must be one that takes them, such as
        `CrossEntropy`. Augmentation moves them with the label. Evaluation knows no weights.

        Args:
            weights: function from instances, int32 (H, W), to float32 (H, W): `EdgeWeights()`.

        Raises:
            ValueError: if it is not known which pixels belong to one object; layout "instances"
                says it.
        """
        if "instances" not in self.extras:
            raise ValueError(
                f"{self!r} does not say which pixels belong to one object. Only maps of instances "
                'do: layout="instances".'
            )
        return self._with(_weights=weights, _cache=None if self._cache is None else {})

    def scaled(self, factor):
        """The same data set with both sides of every picture times `factor`, rounded.

        Images are resized bilinearly, with the support widened when they shrink; labels take the
        nearest pixel. For networks that are to see large photos at half their size, say.

        Raises:
            ValueError: if `factor` is not above 0.
        """
        if not factor > 0:
            raise ValueError(f"factor must be above 0, got {factor}.")
        return self._with(
            _source=Scaled(self._source, factor),
            _cache=None,
            description=f"{self.description}, scaled by {factor:g}",
        )

    def stacked(self, *names):
        """The same data set with further label maps behind the label: labels are (H, W, 1 + n).

        For networks with an output for each label space, see `keras_seg.training.train`.

        Args:
            names: of `extra_tables`; ignored ids become those of `table`.

        Raises:
            ValueError: if there is no such label map, or labels are (H, W, K) already.
        """
        self._check_label_maps(names)
        if self.label_channels:
            raise ValueError(
                f"Labels are (H, W, {self.label_channels[0]}) already: give all label maps at once."
            )
        return self._with(_source=_Stacked(self._source, self, names), _cache=None, _stack=names)

    def relabelled(self, name):
        """The same data set with the label map `name` of `extra_tables` for its label.

        Raises:
            ValueError: if there is no such label map.
        """
        self._check_label_maps([name])
        return self._with(
            _source=_Relabelled(self._source, name),
            _cache=None,
            _stack=(),
            multilabel=False,
            table=self.extra_tables[name],
            description=f"{self.description}, labels of {name}",
        )

    @property
    def label_channels(self):
        """() for labels (H, W); (K,) where they are (H, W, K)."""
        if self._stack:
            return (1 + len(self._stack),)
        return (self.table.num_classes,) if self.multilabel else ()

    def _check_label_maps(self, names):
        for name in names:
            if name not in self.extra_tables:
                raise unknown_name("label map", name, self.extra_tables)

    def noted(self, *notes):
        """The same data set with further `notes`; None is no note."""
        return self._with(notes=(*self.notes, *(note for note in notes if note)))

    def __repr__(self):
        table = f"{self.table.num_classes} classes"
        return f"<SegmentationDataset {len(self)} samples, {table}; {self.description}>"

    def _with(self, **changes):
        dataset = copy.copy(self)
        vars(dataset).update(changes)
        return dataset

    def _select(self, paths):
        return None if paths is None else [paths[i] for i in self._indices]

    def _check_sizes(self, place, image, label):
        if image.shape[:2] == label.shape[:2]:
            return
        names = [self._all_names[place]] * 2
        turned = ""
        files = [self._source.image_paths, self._source.mask_paths]
        names = [
            name if paths is None else paths[place]
            for name, paths in zip(names, files, strict=True)
        ]
        if files[0] is not None:
            if image.shape[1::-1] == label.shape[:2] and read.orientation(names[0]) > 4:
                turned = (
                    " The photo carries an EXIF rotation, which was applied; the mask fits the "
                    "unturned photo: rotate the mask, or save the photo without the EXIF tag."
                )
        raise ValueError(
            f"{names[0]} is {image.shape[0]}x{image.shape[1]} (HxW), but its mask {names[1]} is "
            f"{label.shape[0]}x{label.shape[1]}. They must have the same size.{turned}"
        )


class ImageReader:
    """`read_image` with its arguments: a class and not a closure, so that workers can pickle it."""

    def __init__(self, channels=3, white=None):
        self.channels, self.white = channels, white

    def __call__(self, path):
        return read.read_image(path, self.channels, white=self.white)


class MaskReader:
    """`read_mask` with its arguments."""

    def __init__(self, table, color_table=None, mask_values=None):
        self.table, self.color_table, self.mask_values = table, color_table, mask_values

    def __call__(self, path):
        return read.read_mask(
            path, self.table, color_table=self.color_table, mask_values=self.mask_values
        )


class Files:
    """Source of a data set that reads one file for each image, label map and extra.

    Args:
        image_paths, mask_paths: lists of Path.
        read_image, read_label: functions from a path to uint8 (H, W, C) and uint8 (H, W).
        extras: {name: (list of Path, function from a path to an array)}.
    """

    def __init__(self, image_paths, mask_paths, read_image, read_label, extras=None):
        self.image_paths, self.mask_paths = image_paths, mask_paths
        self.read_image, self.read_label = read_image, read_label
        self._extras = dict(extras or {})
        self.extras = tuple(self._extras)

    def image(self, index):
        return self.read_image(self.image_paths[index])

    def label(self, index):
        return self.read_label(self.mask_paths[index])

    def extra(self, index, name):
        paths, function = self._extras[name]
        return function(paths[index])

    def both(self, index):
        return self.image(index), self.label(index)


class Scaled:
    """Source that resizes what another one reads."""

    def __init__(self, source, factor):
        self.source, self.factor = source, factor
        self.image_paths, self.mask_paths = source.image_paths, source.mask_paths
        self.extras = getattr(source, "extras", ())

    def image(self, index):
        image = self.source.image(index)
        return resize_image(image, self._size(image))

    def label(self, index):
        label = self.source.label(index)
        return resize_label(label, self._size(label))

    def extra(self, index, name):
        values = self.source.extra(index, name)
        change = resize_image if values.dtype == np.uint8 and values.ndim == 3 else resize_label
        return change(values, self._size(values))

    def both(self, index):
        image, label = self.source.both(index)
        return resize_image(image, self._size(image)), resize_label(label, self._size(label))

    def _size(self, array):
        return tuple(max(1, round(n * self.factor)) for n in array.shape[:2])


class _Relabelled:
    """Source whose label is an extra of another one."""

    def __init__(self, source, name):
        self.source, self.name = source, name
        self.image_paths, self.mask_paths = source.image_paths, source.mask_paths
        self.extras = source.extras
        self.image, self.extra = source.image, source.extra

    def label(self, index):
        return self.source.extra(index, self.name)

    def both(self, index):
        return self.image(index), self.label(index)


class _Stacked:
    """Source whose label is that of another one with further label maps behind it."""

    def __init__(self, source, dataset, names):
        self.source, self.names = source, names
        self.ignored = dataset.table.ignore_label
        self.tables = [dataset.extra_tables[name] for name in names]
        self.image_paths, self.mask_paths = source.image_paths, source.mask_paths
        self.extras = source.extras
        self.image, self.extra = source.image, source.extra

    def label(self, index):
        return self._stack(self.source.label(index), index)

    def both(self, index):
        image, label = self.source.both(index)
        return image, self._stack(label, index)

    def _stack(self, label, index):
        maps = [label]
        for name, table in zip(self.names, self.tables, strict=True):
            other = self.source.extra(index, name)
            maps.append(np.where(other == table.ignore_label, self.ignored, other))
        return np.stack(maps, axis=-1).astype("uint8")
