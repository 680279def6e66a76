"""Cell Tracking Challenge: Ulman et al. Nature Methods, 2017."""

import re

from PIL import Image

from keras_seg.data import labels
from keras_seg.data.dataset import ImageReader, SegmentationDataset
from keras_seg.data.readers.common import (
    check_class_count,
    choose_split,
    contents,
    existing_folder,
    find_classes,
    report,
    title,
)
from keras_seg.data.readers.instances import InstanceFiles
from keras_seg.data.readers.layout import Layout
from keras_seg.utils import writable_folder


def cell_tracking(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    white=None,
    separate=False,
    sequences=None,
    truth="GT",
):
    """A 2D set of the Cell Tracking Challenge: 01/t000.tif with 01_GT/SEG/man_seg000.tif.

    `root` is the folder of one set, such as PhC-C2DH-U373. Only some frames are annotated; the
    others are left out (`notes` says how many). Masks have 16 bits and one id a cell: the label is
    background (0) or cell (1), the extra "instances" the ids. Arguments and errors: see
    `open_dataset`; `separate`: see `instances`; `white`: for frames of 16 bits.

    Args:
        sequences: such as ["01"]; None: all. U-Net trained on both.
        truth: "GT", the people's annotation, or "ST", the challenge's silver truth.
    """
    root = existing_folder(root)
    choose_split(root, split, ["train"])
    found = _sequences(root, truth)
    wanted = found if sequences is None else [str(name) for name in sequences]
    unknown = sorted(set(wanted) - set(found))
    if unknown or not found:
        raise ValueError(
            f"{root} has no sequence {', '.join(unknown) or f'NN/ with NN_{truth}/SEG/'}. "
            f"It holds: {contents(root)}."
        )
    table, _, _ = find_classes(root, None, classes, ignore_label, labels.CELLS)
    check_class_count(root, table, 2, "cell tracking (background and cell)")
    names, images, masks, errors, frames = [], [], [], [], 0
    for sequence in wanted:
        place = root / f"{sequence}_{truth}" / "SEG"
        frames += sum(1 for _ in (root / sequence).glob("t*.tif"))
        for mask in sorted(place.glob("man_seg*.tif")):
            number = re.fullmatch(r"man_seg(\d+)", mask.stem)
            image = root / sequence / f"t{number.group(1)}.tif" if number else None
            if image is None:
                errors.append((mask, "is a slice of a volume; 2D sets have man_segNNN.tif"))
            elif not image.is_file():
                errors.append((image, f"is missing, though {mask} annotates it"))
            else:
                names.append(f"{sequence}/{image.stem}")
                images.append(image)
                masks.append(mask)
    if not names and not errors:
        raise ValueError(f"0 samples: no man_seg*.tif in {root}/NN_{truth}/SEG.")
    report(root, errors, problems)
    return SegmentationDataset(
        InstanceFiles(images, masks, ImageReader(channels, white), separate),
        table,
        names,
        channels=channels,
        layout="cell_tracking",
        split="train",
        description=f"{title(root, None)}: Cell Tracking Challenge, sequences "
        f"{', '.join(wanted)}, {truth}",
    ).noted(f"{len(names)} of {frames} frames are annotated" if frames > len(names) else None)


def _sequences(root, truth="GT"):
    places = sorted(root.glob(f"[0-9]*_{truth}"))
    names = [path.name.removesuffix(f"_{truth}") for path in places if (path / "SEG").is_dir()]
    return [name for name in names if (root / name).is_dir()]


def _write(root, split, samples):
    """Split "train" makes sequence 01, any other 02; a last frame has no annotation."""
    name = "01" if split == "train" else "02"
    frames, place = writable_folder(root / name), writable_folder(root / f"{name}_GT" / "SEG")
    for number, sample in enumerate(samples):
        Image.fromarray(sample.image[..., 0]).save(frames / f"t{number:03d}.tif")
        ids = sample.instances.astype("uint16")
        Image.fromarray(ids).save(place / f"man_seg{number:03d}.tif")
    Image.fromarray(samples[-1].image[..., 0]).save(frames / f"t{len(samples):03d}.tif")


LAYOUT = Layout(
    name="cell_tracking",
    read=cell_tracking,
    detect=lambda root: bool(_sequences(root)),
    splits=lambda root: [],
    write=_write,
    title="Cell Tracking Challenge, one 2D set",
    ignores=False,
    table=labels.CELLS,
    contents="instances",
    licence="research, with a citation",
    source="celltrackingchallenge.net/2d-datasets",
)
