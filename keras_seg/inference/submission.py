"""Label maps in the form that the evaluation servers of the benchmarks take.

Cityscapes: cityscapesScripts `evalPixelLevelSemanticLabeling.py` (label ids, one file an image
whose name begins with city, sequence and frame). PASCAL VOC 2012: the development kit, section
"Results file format" (palette PNG below `results/VOC2012/Segmentation`). ADE20K: the scene parsing
benchmark's development kit (class 1..150, the image's name).
"""

import pathlib
import re

import numpy as np
from PIL import Image

from keras_seg.data import list_images, read_image, write_mask
from keras_seg.data.labels import VOC
from keras_seg.data.progress import Progress
from keras_seg.data.read import IMAGE_SUFFIXES
from keras_seg.metrics import train_ids_to_label_ids
from keras_seg.utils import atomic_path, unknown_name, writable_folder

# {kind: the number of classes that the network must have}
SUBMISSIONS = {"ade20k": 150, "cityscapes": 19, "voc": 21}

_CITYSCAPES_NAME = re.compile(r"[^_]+_\d{6}_\d{6}")
_CITYSCAPES_SIZE = (1024, 2048)


def write_submission(predictor, images, folder, kind, *, progress=True, **options):
    """Predict every image and write what the evaluation server of `kind` takes.

    - "cityscapes": `CITY_SEQUENCE_FRAME.png`, grey, label ids (road is 7), 1024 x 2048.
    - "voc": `results/VOC2012/Segmentation/comp6_test_cls/NAME.png`, with VOC's palette, whatever
      colours the network's own class table has. (comp6: trained on any data but the test images.)
    - "ade20k": `NAME.png`, grey, class ids from 1 on.

    The network's classes must be in the benchmark's order: Cityscapes' train ids, VOC's ids with
    background 0, ADE20K's ids less 1. Each file is whole or not there.

    Args:
        predictor: `Predictor`.
        images: folder of images (with subfolders, as Cityscapes has them), a list of their paths,
            or a `keras_seg.data.SegmentationDataset` (or any sequence of `Sample`s).
        folder: made if needed; nothing else should be in it.
        kind: "cityscapes", "voc" or "ade20k".
        progress: show a progress bar on standard error.
        **options: how to predict, see `Predictor`.

    Returns:
        list of the written paths, in the order of the images.

    Raises:
        ValueError: for a network with another number of classes than the benchmark, an unknown
            kind, no images, two of one name, and options that do not fit, before anything is
            predicted; with its name, for an image that cannot be read or predicted, or has not the
            name or the size that the server expects.
    """
    if kind not in SUBMISSIONS:
        raise unknown_name("kind of submission", kind, SUBMISSIONS)
    if predictor.num_classes != SUBMISSIONS[kind]:
        raise ValueError(
            f"{predictor.runner.name} predicts {predictor.num_classes} classes, but a submission "
            f"to {kind} needs {SUBMISSIONS[kind]}. Use a network that was trained on its classes."
        )
    predictor.check(**options)
    folder = pathlib.Path(folder)
    if isinstance(images, str | pathlib.Path):
        root = pathlib.Path(images)
        if root.is_dir() and folder.resolve().is_relative_to(root.resolve()):
            raise ValueError(
                f"The output folder {folder} is in the folder of the images, {root}: the next run "
                "would take the results for images. Give another one."
            )
        images = list_images(root) if root.is_dir() else [root]
    names, read = _source(predictor, images)
    targets = _targets(names, folder, kind)
    writable_folder(targets[0].parent)
    bar = Progress(len(names), kind, show=progress)
    for index, (name, target) in enumerate(zip(names, targets, strict=True)):
        try:
            image = read(index)
            if kind == "cityscapes" and image.shape[:2] != _CITYSCAPES_SIZE:
                raise ValueError(
                    f"has {image.shape[:2]} pixels; the server of Cityscapes takes results for the "
                    f"original images, {_CITYSCAPES_SIZE}."
                )
            label = predictor.predict(image, progress=False, **options)
        except ValueError as error:
            text = str(error)
            raise ValueError(text if str(name) in text else f"{name}: {text}") from error
        _write(target, label, kind)
        bar.step(target.name)
    return targets


def _source(predictor, images):
    """(the images' names or paths, function from an index to pixels)."""
    if isinstance(images, list | tuple) and all(isinstance(i, str | pathlib.Path) for i in images):
        names = list(images)

        def read(index):
            return read_image(names[index], channels=predictor.channels)
    else:
        # Without reading pixels where the data set itself knows the names.
        names = getattr(images, "names", None) or [images[i].name for i in range(len(images))]

        def read(index):
            return images[index].image

    if not names:
        raise ValueError("A submission needs images; there are 0.")
    return names, read


def _targets(names, folder, kind):
    if kind == "voc":
        folder = folder / "results" / "VOC2012" / "Segmentation" / "comp6_test_cls"
    found = {}
    for name in names:
        stem = pathlib.PurePath(name).name
        if pathlib.PurePath(stem).suffix.lower() in IMAGE_SUFFIXES:
            stem = pathlib.PurePath(stem).stem
        if kind == "cityscapes":
            match = _CITYSCAPES_NAME.match(stem)
            if match is None:
                raise ValueError(
                    f"{name}: the server of Cityscapes knows images by names such as "
                    "berlin_000000_000019_leftImg8bit.png (city, sequence, frame)."
                )
            stem = match[0]
        target = folder / f"{stem}.png"
        if target in found:
            raise ValueError(f"{found[target]} and {name} would both become {target}.")
        found[target] = name
    return list(found)


def _write(path, label, kind):
    if kind == "voc":
        write_mask(path, label, VOC)
        return
    ids = train_ids_to_label_ids(label) if kind == "cityscapes" else label + np.uint8(1)
    with atomic_path(path) as temporary:
        Image.fromarray(ids).save(temporary, "PNG")
