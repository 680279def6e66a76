"""Find the parameters of a dense CRF on labelled images, as DeepLab did.

Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs",
ICLR 2015, section 5: w2 and theta_gamma stay at 3; w1, theta_alpha and theta_beta are searched on
100 validation images, first on a coarse grid and then on a finer one around its best point.
"""

import dataclasses
import itertools
import pathlib

import numpy as np

from keras_seg.crf import bilateral_kernel, find_crf
from keras_seg.data.progress import Progress
from keras_seg.metrics import confusion_matrix, scores
from keras_seg.utils import check_counts, plain, read_json, writable_folder, write_json

SEARCHED = ("w1", "theta_alpha", "theta_beta")


def tune_crf(
    predictor,
    dataset,
    *,
    crf="deeplab_v1",
    w1=(3, 4, 5, 6),
    theta_alpha=(30, 40, 50, 60, 70, 80, 90, 100),
    theta_beta=(3, 4, 5, 6),
    rounds=2,
    images=100,
    file=None,
    progress=True,
    **options,
):
    """Score every setting of a grid, then of finer ones around the best, by mean IoU.

    In each round the network sees every image once. The time is that of the CRFs: settings times
    images times that of one `dense_crf`, less a little, since settings that differ in w1 share
    a lattice. The default grid has 128 settings, and up to 26 in the second round.

    Args:
        predictor: `Predictor` of a model that gives probabilities.
        dataset: as `evaluate` takes it.
        crf: preset's name or `DenseCRF` with all other parameters.
        w1, theta_alpha, theta_beta: values of the first round's grid, which may be a single one:
            then it is not searched.
        rounds: each further one halves the grid's steps and goes one step to either side.
        images: use so many of the data set, evenly spread.
        file: None, or a JSON file that the counts are written to after each image. The same call
            goes on where an interrupted one stopped.
        progress: show a progress bar on standard error.
        **options: how to predict, see `Predictor`.

    Returns:
        dict that `json` can write: "best" (the parameters of a `DenseCRF`), "mean_iou" with it,
        "mean_iou_without" any CRF, "settings" (all that were scored, with their "mean_iou", the
        best first) and "images" (their count). Of equal settings the first in the grid is the best.

    Raises:
        ValueError: for an empty data set or grid, parameters out of range, a model that gives
            labels, an image without a label, and a file of another search.
    """
    if predictor.runner.outputs_labels:
        raise ValueError(
            f"{predictor.runner.name} returns labels, but a CRF refines probabilities."
        )
    if len(dataset) == 0:
        raise ValueError("The data set to search on holds 0 images.")
    grid = [sorted({float(v) for v in np.atleast_1d(v)}) for v in (w1, theta_alpha, theta_beta)]
    for name, values in zip(SEARCHED, grid, strict=True):
        if not values:
            raise ValueError(f"{name} needs at least one value.")
        for value in values:
            find_crf(crf, **{name: value})
    check_counts(rounds=rounds, images=images)
    predictor.check(**options)

    count = min(images, len(dataset))
    chosen = [i * len(dataset) // count for i in range(count)]
    search = _Search(predictor, dataset, find_crf(crf), chosen, options, file, progress)
    steps = [min(np.diff(values), default=0.0) for values in grid]
    for number in range(rounds):
        if number:
            steps = [step / 2 for step in steps]
            grid = [
                sorted({v for v in (best - step, best, best + step) if v > 0})
                for best, step in zip(search.best(), steps, strict=True)
            ]
        search.score(grid, f"round {number + 1}")
    return search.result()


class _Search:
    """Confusion matrices by setting (w1, theta_alpha, theta_beta), on disk after each image."""

    def __init__(self, predictor, dataset, crf, chosen, options, file, progress):
        self.predictor, self.dataset, self.crf, self.chosen = predictor, dataset, crf, chosen
        self.options, self.file, self.progress = options, file, progress
        self.matrices = {}  # setting, or () for none: [images counted, matrix]
        self.asked = []  # settings of the rounds so far; a file may hold more
        self.about = {
            "model": predictor.runner.name,
            "classes": list(dataset.table.names),
            "of_images": len(dataset),
            "chosen": chosen,
            "crf": {k: v for k, v in plain(crf).items() if k not in SEARCHED},
            "options": plain(options),
        }
        if file is not None:
            writable_folder(pathlib.Path(file).absolute().parent)
            if pathlib.Path(file).exists():
                self._read()

    def score(self, grid, title):
        """Count, for every setting of the grid that has not been, on all images."""
        settings = list(itertools.product(*grid))
        self.asked += [s for s in settings if s not in self.asked]
        for setting in [(), *settings]:
            self.matrices.setdefault(setting, [0, 0])
        pairs = list(itertools.product(*grid[1:]))
        bar = Progress(len(self.chosen) * len(pairs), title, show=self.progress)
        for number, index in enumerate(self.chosen):
            missing = {s for s in [(), *settings] if self.matrices[s][0] == number}
            if not missing:
                for _ in pairs:
                    bar.step("known")
                continue
            sample = self.dataset[index]
            try:
                if sample.label is None:
                    raise ValueError("has no label; tune_crf() needs a label for every image.")
                p = self.predictor.probabilities(sample.image, progress=False, **self.options)
                if () in missing:
                    self._count((), sample, p)
                image = np.atleast_3d(sample.image)
                for pair in pairs:
                    same = [s for s in settings if s[1:] == pair and s in missing]
                    if same:
                        kernel = bilateral_kernel(image, *pair)
                    for setting in same:
                        changes = dict(zip(SEARCHED, setting, strict=True))
                        refined = dataclasses.replace(self.crf, **changes).refine(p, kernel)
                        self._count(setting, sample, refined)
                    bar.step(sample.name)
            except ValueError as error:
                raise ValueError(f"{sample.name}: {error}") from error
            self._write()

    def _count(self, setting, sample, p):
        table = self.dataset.table
        labels = p.argmax(axis=-1)
        matrix = confusion_matrix(sample.label, labels, table.num_classes, table.ignore_label)
        entry = self.matrices[setting]
        entry[0] += 1
        entry[1] = entry[1] + matrix

    def _mean_iou(self, setting):
        return scores(self.matrices[setting][1])["mean_iou"]

    def _ranked(self):
        """All settings that were asked for, the best first."""
        return sorted(self.asked, key=self._mean_iou, reverse=True)

    def best(self):
        return self._ranked()[0]

    def result(self):
        ranked = self._ranked()
        best = dict(zip(SEARCHED, ranked[0], strict=True))
        return {
            "best": plain(dataclasses.replace(self.crf, **best)),
            "mean_iou": self._mean_iou(ranked[0]),
            "mean_iou_without": self._mean_iou(()),
            "settings": [
                {**dict(zip(SEARCHED, s, strict=True)), "mean_iou": self._mean_iou(s)}
                for s in ranked
            ],
            "images": len(self.chosen),
        }

    def _write(self):
        if self.file is not None:
            matrices = [[list(s), n, np.asarray(m)] for s, (n, m) in self.matrices.items()]
            write_json(self.file, {"search": self.about, "matrices": matrices})

    def _read(self):
        found = read_json(self.file)
        about = found.get("search") if isinstance(found, dict) else None
        if about != self.about:
            other = [k for k, v in self.about.items() if (about or {}).get(k) != v]
            raise ValueError(
                f"{self.file} is not of this search: other {', '.join(other)}. Delete it, or name "
                "another file."
            )
        for setting, count, matrix in found["matrices"]:
            self.matrices[tuple(setting)] = [count, np.asarray(matrix)]


def format_search(result):
    """The table that `keras-seg tune-crf` prints: the ten best settings, and how to use the best.

    Args:
        result: what `tune_crf` returned.
    """
    lines = ["".join(f"{name:>13}" for name in (*SEARCHED, "mean iou"))]
    for setting in result["settings"][:10]:
        numbers = "".join(f"{setting[name]:>13g}" for name in SEARCHED)
        lines.append(f"{numbers}{setting['mean_iou']:>13.4f}")
    lines.append(f"{'without a CRF':>39}{result['mean_iou_without']:>13.4f}")
    lines.append(f"{len(result['settings'])} settings on {result['images']} images.")
    return "\n".join(lines)
