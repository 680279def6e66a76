"""check_data: read every file of a data set and say what is wrong with which."""

import collections
import dataclasses
import hashlib
import sys
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_seg.data import datasets, read
from keras_seg.data.dataset import SegmentationDataset

_RARE, _MANY_IGNORED = 0.001, 0.5  # shares of the pixels that earn a warning


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
    """

    title: str
    problems: list = dataclasses.field(default_factory=list)
    splits: dict = dataclasses.field(default_factory=dict)
    read: int = 0
    sizes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    table: object = None
    histogram: np.ndarray | None = None
    ignored: int = 0

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
        total = max(1, int(self.histogram.sum()) + self.ignored)
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
    whose white is ignored, palettes that contradict the table, EXIF rotations, and the same picture
    twice (also in two splits: then the validation has seen it in training).

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
        parts = {"": data}
    else:
        report = Report(str(data))
        parts = _open_parts(data, split, options, report)
    seen = {}
    total = sum(len(dataset) for dataset in parts.values())
    bar = _Bar(total) if progress else None
    for name, dataset in parts.items():
        report.splits[name] = len(dataset)
        if report.table is None:
            report.table = dataset.table
            report.histogram = np.zeros(dataset.table.num_classes, "int64")
        for index in range(len(dataset)):
            _check_sample(dataset, index, name, seen, report)
            if bar:
                bar.step()
    report.problems = [*dict.fromkeys(report.problems)]  # a mask is read for its ids, then checked
    _judge(report)
    return report


def _open_parts(root, split, options, report):
    """{split: data set} of everything that can be opened; the rest goes to the report."""
    parts, unpaired = {}, []
    try:
        found = datasets.list_splits(root, options.get("layout", "auto"))
        wanted = [split] if split else found or [None]
    except ValueError as error:
        report.problems.append(Problem("error", "", str(error)))
        return {}
    for name in wanted:
        try:
            parts[name or ""] = datasets.open_dataset(root, name, problems=unpaired, **options)
        except ValueError as error:
            report.problems.append(Problem("error", "", str(error)))
    report.problems += [Problem("error", str(path), message) for path, message in unpaired]
    if parts:
        report.title = "\n".join(dataset.description for dataset in parts.values())
    return parts


def _check_sample(dataset, index, split, seen, report):
    name = dataset.names[index]
    image_file, mask_file = name, name
    if dataset.image_paths is not None:
        image_file, mask_file = str(dataset.image_paths[index]), str(dataset.mask_paths[index])
    image = _attempt(dataset.read_image, index, image_file, report)
    label = _attempt(dataset.read_label, index, mask_file, report)
    if image is not None:
        report.sizes[image.shape[:2]] += 1
        _look_for_twin(image, image_file, split, seen, report)
        turn = read.orientation(image_file) if dataset.image_paths is not None else 1
        if turn != 1:
            text = f"EXIF orientation {turn} is applied: its mask must be upright as well"
            report.problems.append(Problem("warning", image_file, text))
    if image is None or label is None:
        return
    if image.shape[:2] != label.shape[:2]:
        _attempt(dataset.__getitem__, index, image_file, report)
        return
    report.read += 1
    table = dataset.table
    if dataset.multilabel:  # a pixel may count in several classes
        report.histogram += np.sum(label == 1, axis=(0, 1))
        report.ignored += int(np.sum((label == table.ignore_label).all(axis=2)))
        return
    counts = np.bincount(label.ravel(), minlength=256)
    report.histogram += counts[: table.num_classes]
    report.ignored += int(counts[table.ignore_label])
    if counts[table.ignore_label] == label.size:
        report.problems.append(Problem("warning", mask_file, "every pixel is ignored"))
    if dataset.mask_paths is not None and dataset.mask_paths[index].suffix.lower() == ".png":
        _compare_palette(mask_file, table, counts, report)


def _attempt(function, index, file, report):
    """`function(index)`, or None with its error in the report."""
    try:
        return function(index)
    except ValueError as error:
        message = str(error).removeprefix(f"{file}: ").removeprefix(f"{file} ")
        report.problems.append(Problem("error", file, message))
        return None


def _look_for_twin(image, file, split, seen, report):
    key = (image.shape, hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest())
    other, other_split = seen.setdefault(key, (file, split))
    if other != file:
        leak = f", which is in split {other_split!r}" if other_split != split else ""
        text = f"the same picture as {other}{leak}"
        report.problems.append(Problem("warning", file, text))


def _compare_palette(file, table, counts, report):
    """Warn if the palette of a mask gives a class the colour of another one.

    Programs that shrink PNGs turn colour-coded masks into palettes with indices in any order.
    """
    with Image.open(file) as image:
        palette = image.getpalette("RGB") if image.mode == "P" else None
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
    total = max(1, int(report.histogram.sum()) + report.ignored)
    share = report.ignored / total
    seen = report.histogram > 0
    texts = []
    if report.ignored and seen.sum() == 1:
        only = report.table.names[int(seen.argmax())]
        label = report.table.ignore_label
        texts.append(
            f"only {only!r} is ever seen, and {100 * share:.1f} % of the pixels are {label}, which "
            f"is ignored. If {label} is a class here, read it as id 1: mask_values={{0: 0, "
            f"{label}: 1}}"
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


class _Bar:
    """A progress bar on stderr; on no terminal, a line each tenth."""

    def __init__(self, total):
        self.total, self.done = total, 0

    def step(self):
        self.done += 1
        tenth = 10 * self.done // self.total
        if sys.stderr.isatty():
            bar = ("#" * (3 * tenth)).ljust(30)
            end = "\n" if self.done == self.total else ""
            sys.stderr.write(f"\rreading [{bar}] {self.done}/{self.total}{end}")
        elif tenth != 10 * (self.done - 1) // self.total:
            sys.stderr.write(f"reading {self.done}/{self.total}\n")
        sys.stderr.flush()
