"""check_data: read every file of a data set and say what is wrong with which."""

import collections
import dataclasses
import hashlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_seg.data import datasets, read
from keras_seg.data.dataset import SegmentationDataset
from keras_seg.data.progress import Progress

_RARE, _MANY_IGNORED = 0.001, 0.5  # shares of the pixels that earn a warning
# Of the borders in a label map, the share between whose sides lies a third id. Maps as drawn have
# next to none; a bilinear resize by 2 makes it 0.5 and more.
_BLENDED, _FEWEST_BORDERS = 0.25, 20


class Problem(NamedTuple):
    """One finding: severity "error" (must be put right) or "warning", the file, what it is."""

    severity: str
    file: str
    message: str


@dataclasses.dataclass
class Report:
    """What `check_data` found; `str(report)` is for reading.

    Attributes:
        title: the data set.
        problems: list of `Problem`.
        splits: {split or "": number of samples}.
        read: samples whose image and mask could be read and fit together.
        sizes: {(H, W): number of images}.
        table: `LabelTable`, or None if no part of the data set could be opened.
        histogram: int64 (K,), pixels of each class.
        ignored: pixels with the ignored id.
        pixels: all labelled or ignored pixels.
        bad: set of (split or "", name) of the samples with an error.
    """

    title: str
    problems: list = dataclasses.field(default_factory=list)
    splits: dict = dataclasses.field(default_factory=dict)
    read: int = 0
    sizes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    table: object = None
    histogram: np.ndarray | None = None
    ignored: int = 0
    pixels: int = 0
    bad: set = dataclasses.field(default_factory=set)

    def good(self, dataset, limit=0.05):
        """The samples of `dataset`, a split that was checked, that have no error.

        Raises:
            ValueError: if more than the share `limit` of its samples has one.
        """
        split = dataset.split_name or ""
        keep = [i for i, name in enumerate(dataset.names) if (split, name) not in self.bad]
        count = len(dataset) - len(keep)
        if count > limit * len(dataset):
            raise ValueError(
                f"{count} of {len(dataset)} samples are bad, more than limit={limit:g} of them: "
                f"{dataset!r}. Put the files right that check_data names."
            )
        return dataset.subset(keep)

    @property
    def errors(self):
        """The problems that must be put right."""
        return [p for p in self.problems if p.severity == "error"]

    @property
    def warnings(self):
        """The problems to look at."""
        return [p for p in self.problems if p.severity == "warning"]

    @property
    def ok(self):
        """Whether there is no error; there may be warnings."""
        return not self.errors

    @property
    def never_seen(self):
        """Names of the classes without a pixel."""
        if self.histogram is None or not self.read:
            return []
        pairs = zip(self.table.names, self.histogram, strict=True)
        return [name for name, count in pairs if not count]

    def __str__(self):
        parts = ", ".join(f"{name}: {n}" if name else str(n) for name, n in self.splits.items())
        lines = [f"{self.title}", f"samples: {parts or 0}; read without error: {self.read}"]
        if self.sizes:
            lines.append(f"sizes (HxW): {_size_range(self.sizes)}")
        if self.read:
            lines += self._histogram_lines()
        for severity, found in (("error", self.errors), ("warning", self.warnings)):
            lines.append(f"{len(found)} {severity}{'s' * (len(found) != 1)}")
            lines += [f"  {p.file}: {p.message}" if p.file else f"  {p.message}" for p in found]
        return "\n".join(lines)

    def _histogram_lines(self):
        total = max(1, self.pixels)
        rows = [*zip(self.table.names, self.histogram.tolist(), strict=True)]
        rows = [(str(i), name, count) for i, (name, count) in enumerate(rows)]
        rows.append((str(self.table.ignore_label), "(ignored)", self.ignored))
        width = max(len(name) for _, name, _ in rows)
        return ["pixels by class:"] + [
            f"  {index:>3} {name:<{width}} {count:>13} {100 * count / total:7.3f} %"
            for index, name, count in rows
        ]


def check_data(data, split=None, *, progress=True, **options):
    """Read every file of a data set, never stopping at a bad one.

    Errors are files that are missing their partner, damaged, of different size than their partner,
    or hold ids or colours outside the table. Warnings: classes never seen or below 0.1 % of the
    pixels, masks that are all ignored, more than half of all pixels ignored, black and white masks
    whose white is ignored, palettes that contradict the table, masks that look resized with
    interpolation, EXIF rotations, the same picture twice (also in two splits: then the validation
    has seen it in training), and a split of another size than published.

    Args:
        data: root folder of a data set, or a `SegmentationDataset`.
        split: of a folder; None: all that it has.
        progress: draw a bar on stderr while it reads.
        **options: of a folder, as `open_dataset` takes them: layout, classes, channels, ...

    Returns:
        A `Report`.
    """
    if isinstance(data, SegmentationDataset):
        report = Report(data.description)
        parts = {data.split_name or "": data}
    else:
        report = Report(str(data))
        parts = _open_parts(data, split, options, report)
    seen = {}
    total = sum(len(dataset) for dataset in parts.values())
    bar = Progress(total, "reading", show=progress)
    for name, dataset in parts.items():
        report.splits[name] = len(dataset)
        report.problems += [Problem("warning", "", note) for note in dataset.notes]
        if report.table is None:
            report.table = dataset.table
            report.histogram = np.zeros(dataset.table.num_classes, "int64")
        part = _Part(name, dataset, seen, report)
        for index in range(len(dataset)):
            part.check(index)
            bar.step()
    report.problems = [*dict.fromkeys(report.problems)]  # a mask is read for its ids, then checked
    _judge(report)
    return report


def _open_parts(root, split, options, report):
    """{split: data set} of everything that can be opened; the rest goes to the report."""
    parts, unpaired = {}, []
    try:
        found = datasets.list_splits(root, **options)
        wanted = [split] if split else found or [None]
    except ValueError as error:
        report.problems.append(Problem("error", "", str(error)))
        return {}
    for name in wanted:
        try:
            parts[name or ""] = datasets.open_dataset(root, name, problems=unpaired, **options)
        except ValueError as error:
            report.problems.append(Problem("error", "", str(error)))
            if options.get("classes") is None:
                report.problems += _other_errors(root, name, options)
    report.problems += [Problem("error", str(path), message) for path, message in unpaired]
    if parts:
        report.title = "\n".join(dataset.description for dataset in parts.values())
    return parts


def _other_errors(root, split, options):
    """The files with errors in a part whose masks do not say the classes: any id will do."""
    try:
        dataset = datasets.open_dataset(root, split, **options | {"classes": 255, "problems": []})
    except ValueError:
        return []
    scratch = Report("", table=dataset.table, histogram=np.zeros(255, "int64"))
    part = _Part(split or "", dataset, {}, scratch)
    for index in range(len(dataset)):
        part.check(index)
    return scratch.errors


class _Part:
    """Checks the samples of one split; what it finds goes to `report`."""

    def __init__(self, split, dataset, seen, report):
        self.split, self.dataset, self.seen, self.report = split, dataset, seen, report
        self.names = dataset.names
        self.told = set()  # (index, message) of errors: one file may give label and instances
        self.image_files, self.mask_files = (
            self.names if paths is None else [str(path) for path in paths]
            for paths in (dataset.image_paths, dataset.mask_paths)
        )

    def check(self, index):
        dataset, report = self.dataset, self.report
        image_file, mask_file = self.image_files[index], self.mask_files[index]
        image = self._attempt(dataset.read_image, index, image_file)
        label = self._attempt(dataset.read_label, index, mask_file)
        if image is not None:
            self._look_at_image(image, index)
            for name in dataset.extras:
                self._check_extra(name, image, index)
        if image is None or label is None:
            return
        if image.shape[:2] != label.shape[:2]:
            self._attempt(dataset.__getitem__, index, image_file)
            return
        problem = _wrong_values(label, dataset)
        if problem:
            self._error(index, mask_file, problem)
            return
        report.read += 1
        counts, ignored = _count(label, dataset)
        report.histogram += counts
        report.ignored += ignored
        report.pixels += label.shape[0] * label.shape[1]
        if ignored == label.shape[0] * label.shape[1]:
            report.problems.append(Problem("warning", mask_file, "every pixel is ignored"))
        if not dataset.multilabel and _looks_blended(label):
            text = (
                "looks resized with interpolation: between two ids lies a third one along most "
                "borders. Resize masks by the nearest pixel only"
            )
            report.problems.append(Problem("warning", mask_file, text))
        if dataset.mask_paths is not None:
            _compare_palette(mask_file, dataset.table, counts, report)

    def _attempt(self, function, index, file):
        """`function(index)`, or None with its error in the report."""
        try:
            return function(index)
        except ValueError as error:
            text = str(error)
            if (index, text) not in self.told:
                self.told.add((index, text))
                self._error(index, file, text.removeprefix(f"{file}: ").removeprefix(f"{file} "))
            return None

    def _error(self, index, file, message):
        self.report.problems.append(Problem("error", file, message))
        self.report.bad.add((self.dataset.split_name or "", self.names[index]))

    def _look_at_image(self, image, index):
        file = self.image_files[index]
        self.report.sizes[image.shape[:2]] += 1
        key = (image.shape, hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest())
        other, other_split = self.seen.setdefault(key, (file, self.split))
        if other != file:
            leak = f", which is in split {other_split!r}" if other_split != self.split else ""
            text = f"the same picture as {other}{leak}"
            self.report.problems.append(Problem("warning", file, text))
        turn = read.orientation(file) if self.dataset.image_paths is not None else 1
        if turn != 1:
            text = f"EXIF orientation {turn} is applied: its mask must be upright as well"
            self.report.problems.append(Problem("warning", file, text))

    def _check_extra(self, name, image, index):
        file = f"{self.image_files[index]} ({name})"
        values = self._attempt(lambda i: self.dataset.read_extra(i, name), index, file)
        if values is None:
            return
        if values.shape[:2] != image.shape[:2]:
            sizes = ["x".join(map(str, array.shape[:2])) for array in (values, image)]
            text = f"{name} is {sizes[0]}, but the image is {sizes[1]} (HxW)"
            self._error(index, file, text)
        elif name in self.dataset.extra_tables:
            problem = _outside(values, self.dataset.extra_tables[name])
            if problem:
                self._error(index, file, problem)


def _wrong_values(label, dataset):
    """What is wrong with the values of a label map, or None."""
    table = dataset.table
    if not dataset.multilabel:
        return _outside(label, table)
    if label.ndim != 3 or label.shape[2] != table.num_classes:
        return f"its labels have shape {label.shape}, not (H, W, {table.num_classes})"
    strange = np.setdiff1d(label, [0, 1, 255])
    return (
        f"values {strange[:8].tolist()} where only 0, 1 and 255 are known" if strange.size else ""
    )


def _outside(label, table):
    ids = np.unique(label)
    ids = ids[((ids < 0) | (ids >= table.num_classes)) & (ids != table.ignore_label)]
    if not ids.size:
        return None
    listed = ", ".join(map(str, ids[:8].tolist()))
    return (
        f"ids {listed} are outside the table: expected 0..{table.num_classes - 1}, or "
        f"{table.ignore_label} for ignored pixels"
    )


def _count(label, dataset):
    """(pixels of each class, int64 (K,); pixels that are ignored, for all classes)."""
    table = dataset.table
    if dataset.multilabel:
        return (label == 1).sum((0, 1)), int((label == 255).all(axis=2).sum())
    counts = np.bincount(label.ravel(), minlength=256)
    return counts[: table.num_classes], int(counts[table.ignore_label])


def _looks_blended(label):
    """Whether a third id lies between the two sides of most borders, as interpolation makes it."""
    between = borders = 0
    for ids in (label.astype("int16"), label.T.astype("int16")):
        step = np.sign(np.diff(ids, axis=1))
        between += int(((step[:, 1:] * step[:, :-1]) == 1).sum())
        borders += int(np.count_nonzero(step))
    return borders >= _FEWEST_BORDERS and between > _BLENDED * borders


def _compare_palette(file, table, counts, report):
    """Warn if the palette of a mask gives a class the colour of another one.

    Programs that shrink PNGs turn colour-coded masks into palettes with indices in any order.
    """
    try:
        with Image.open(file) as image:
            palette = image.getpalette("RGB") if image.mode == "P" else None
    except Exception:  # no picture but polygons, or a .mat file
        return
    if palette is None:
        return
    of_color = {tuple(color): i for i, color in enumerate(table.colors.tolist())}
    for index in np.flatnonzero(counts[: len(palette) // 3]):
        meant = of_color.get(tuple(palette[3 * index : 3 * index + 3]), index)
        if meant != index and index < table.num_classes:
            text = (
                f"id {index} ({table.names[index]}) has the colour of id {meant} "
                f"({table.names[meant]}) in the file's palette: are the indices the ids?"
            )
            report.problems.append(Problem("warning", file, text))
            return


def _judge(report):
    """Warnings about the data set as a whole."""
    if not report.read:
        if not report.problems:
            report.problems.append(Problem("error", "", "0 samples"))
        return
    total = report.pixels
    share = report.ignored / total
    seen = report.histogram > 0
    texts = []
    if report.ignored and seen.sum() == 1:
        only = report.table.names[int(seen.argmax())]
        label = report.table.ignore_label
        texts.append(
            f"only {only!r} is ever seen, and {100 * share:.1f} % of the pixels are {label}, which "
            f"is ignored. If {label} is a class here, read it as id 1: mask_values={{0: 0, "
            f"{label}: 1}} (--mask-values 0=0 {label}=1)"
        )
    elif share > _MANY_IGNORED:
        texts.append(f"{100 * share:.1f} % of all pixels are ignored")
    if report.never_seen:
        texts.append(f"classes never seen: {', '.join(report.never_seen)}")
    counted = zip(report.table.names, report.histogram / total, strict=True)
    rare = [f"{name} ({100 * part:.3f} %)" for name, part in counted if 0 < part < _RARE]
    if rare:
        texts.append(f"rare classes, below {100 * _RARE:g} % of the pixels: {', '.join(rare)}")
    report.problems += [Problem("warning", "", text) for text in texts]


def _size_range(sizes):
    if len(sizes) == 1:
        (height, width), count = next(iter(sizes.items()))
        return f"{height}x{width}, all {count} images"
    heights, widths = zip(*sizes, strict=True)
    (height, width), count = sizes.most_common(1)[0]
    return (
        f"{len(sizes)} different, heights {min(heights)}..{max(heights)}, widths "
        f"{min(widths)}..{max(widths)}, most often "
        f"{height}x{width} ({count} images); batches need a crop or size="
    )
