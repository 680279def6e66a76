"""Label every image of a folder."""

import pathlib

from keras_seg.data import list_images, read_image
from keras_seg.data.progress import Progress
from keras_seg.inference.overlay import save_label, save_overlay
from keras_seg.utils import writable_folder


def predict_folder(
    predictor, inputs, output_folder, *, alpha=0.5, white=None, progress=True, **options
):
    """Write `NAME_label.png` (class ids with a palette) and `NAME_overlay.png` for each image.

    Each file is whole or not there. An image that cannot be read or predicted does not stop the
    others; the first of such images are named in the error at the end.

    Args:
        predictor: `Predictor`.
        inputs: an image; a folder of images, whose subfolders are made again in the output; or a
            list of images.
        output_folder: made if needed.
        alpha: share of the colours in the overlay.
        white: for 16-bit grey files, the value that is white, see `keras_seg.data.read_image`.
        progress: show a progress bar on standard error.
        **options: how to predict, see `Predictor`.

    Returns:
        list of the label maps' paths, in the order of the images.

    Raises:
        ValueError: before anything is predicted, if there are no images, two would have the same
            result, the options do not fit, the output folder cannot be written, or a result would
            replace an image or lie among the images; at the end, if images failed.
    """
    output_folder = pathlib.Path(output_folder)
    images, root = _images(inputs)
    if root is not None and output_folder.resolve().is_relative_to(root.resolve()):
        raise ValueError(
            f"The output folder {output_folder} is in the folder of the images, {root}: the next "
            "run would take the results for images. Give another one."
        )
    targets = _targets(images, root, output_folder)
    predictor.check(**options)
    writable_folder(output_folder)
    written, failed = [], []
    bar = Progress(len(images), "predict", show=progress)
    # One bar at a time: of the images, or of a single large one's windows.
    windows = None if progress and len(images) == 1 else False
    for path, (label_path, overlay_path) in zip(images, targets, strict=True):
        try:
            image = read_image(path, channels=predictor.channels, white=white)
            label = predictor.predict(image, progress=windows, **options)
        except ValueError as error:
            text = str(error)
            failed.append(text if str(path) in text else f"{path}: {text}")
        else:
            label_path.parent.mkdir(parents=True, exist_ok=True)
            save_label(label_path, label, predictor.table)
            save_overlay(overlay_path, image, label, predictor.table, alpha)
            written.append(label_path)
        bar.step(path.name)
    if failed:
        more = f"\n  and {len(failed) - 8} more" * (len(failed) > 8)
        raise ValueError(
            f"{len(failed)} of {len(images)} images failed, the others are in {output_folder}:\n  "
            + "\n  ".join(failed[:8])
            + more
        )
    return written


def _images(inputs):
    """(paths, the folder that they are below or None)."""
    if isinstance(inputs, list | tuple):
        images, root = [pathlib.Path(path) for path in inputs], None
    elif pathlib.Path(inputs).is_dir():
        images, root = list_images(inputs), pathlib.Path(inputs)
    else:
        images, root = [pathlib.Path(inputs)], None
    if not images:
        raise ValueError("The list of images is empty.")
    missing = [str(path) for path in images if not path.is_file()]
    if missing:
        raise ValueError(f"There is no image at {', '.join(missing)}.")
    return images, root


def _targets(images, root, folder):
    """(label map, overlay) for each image; ValueError if two collide, or one is an image."""
    originals = {path.resolve() for path in images}
    makers, targets = {}, []
    for path in images:
        parent = folder if root is None else folder / path.parent.relative_to(root)
        both = (parent / f"{path.stem}_label.png", parent / f"{path.stem}_overlay.png")
        for target in both:
            if target.resolve() in originals:
                raise ValueError(
                    f"The result of {path} would overwrite the image {target}. Give another "
                    "output folder."
                )
            if target in makers:
                raise ValueError(
                    f"{makers[target]} and {path} would both become {target}. Rename one, or "
                    "predict them into different folders."
                )
            makers[target] = path
        targets.append(both)
    return targets
