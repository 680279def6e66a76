"""SBD: Hariharan et al. "Semantic Contours from Inverse Detectors", ICCV 2011."""

from keras_seg.data import labels, read
from keras_seg.data.dataset import Files, ImageReader, SegmentationDataset
from keras_seg.data.readers.common import (
    MappedReader,
    choose_split,
    contents,
    existing_folder,
    find_classes,
    find_listed,
    given_ids,
    instance_files,
    read_list,
    report,
    save_jpeg,
    title,
)
from keras_seg.data.readers.layout import Layout
from keras_seg.data.readers.matlab import read_mat, save_mat
from keras_seg.utils import writable_folder

_VARIABLES = {"cls": "GTcls", "inst": "GTinst"}


def sbd(root, split=None, *, classes=None, channels=3, ignore_label=255, problems=None, white=None):
    """Semantic Boundaries Dataset: img/*.jpg, cls/*.mat, inst/*.mat, train.txt, val.txt.

    `root` is the folder of these or one above it (benchmark_RELEASE/dataset). cls/ and inst/ may
    hold the maps converted to PNG (palette or grey) instead. Ids are VOC's 0..20 and nothing is
    ignored. Extra "instances", if inst/ is there. `.mat` needs scipy (the extra "eval").
    Arguments and errors: see `open_dataset`.
    """
    root = find_sbd(root)
    split = choose_split(root, split, _splits(root))
    table, _, values = find_classes(root, None, classes, ignore_label, labels.VOC)
    errors = []
    names, images, masks = find_listed(
        sbd_names(root, split),
        lambda name: root / "img" / f"{name}.jpg",
        lambda name: sbd_file(root, "cls", name),
        f"{split}.txt",
        errors,
    )
    report(root, errors, problems)
    objects = [sbd_file(root, "inst", name) for name in names]
    extras, note = instance_files(objects, segmentation)
    return SegmentationDataset(
        Files(
            images,
            masks,
            ImageReader(channels, white),
            MappedReader(segmentation, table, given_ids(values)),
            extras,
        ),
        table,
        names,
        channels=channels,
        layout="sbd",
        split=split,
        description=f"{title(root, split)}: Semantic Boundaries Dataset",
    ).noted(note)


def find_sbd(root):
    """The folder with img/ and cls/, `root` or one below it; ValueError if there is none."""
    root = existing_folder(root)
    place = _place(root)
    if place is None:
        raise ValueError(
            f"{root}: no img/ and cls/ here, in dataset/ or in benchmark_RELEASE/dataset/. "
            f"It holds: {contents(root)}."
        )
    return place


def sbd_names(root, split):
    """The names in SBD's own list of a split."""
    return read_list(root / f"{split}.txt")


def sbd_file(root, kind, name):
    """The map of a picture, of `kind` "cls" or "inst": .mat, or else its conversion to PNG."""
    found = [root / kind / f"{name}{suffix}" for suffix in (".mat", ".png")]
    return next((path for path in found if path.is_file()), found[0])


def segmentation(path):
    """The map in one of SBD's files, int32 (H, W)."""
    if path.suffix == ".mat":
        return read_mat(path, _VARIABLES.get(path.parent.name, "GTcls"), "Segmentation")
    return read.read_instances(path)


def _place(root):
    for place in (root, root / "dataset", root / "benchmark_RELEASE" / "dataset"):
        if (place / "img").is_dir() and (place / "cls").is_dir():
            return place
    return None


def _splits(root):
    return [name for name in ("train", "val") if (root / f"{name}.txt").is_file()]


def _write(root, split, samples):
    root = writable_folder(root / "benchmark_RELEASE" / "dataset")
    for sample in samples:
        save_jpeg(root / "img" / f"{sample.name}.jpg", sample.image)
        for kind, ids in (("cls", sample.label), ("inst", sample.instances)):
            values = {_VARIABLES[kind]: {"Segmentation": ids.astype("uint8")}}
            save_mat(root / kind / f"{sample.name}.mat", **values)
    (root / f"{split}.txt").write_text("".join(f"{s.name}\n" for s in samples), "utf-8")


LAYOUT = Layout(
    name="sbd",
    read=sbd,
    detect=lambda root: _place(root) is not None,
    splits=lambda root: _splits(_place(root) or root),
    write=_write,
    title="Semantic Boundaries Dataset",
    table=labels.VOC,
    ignores=False,
    contents="instances",
    published={"train": (8498, 5623), "val": (2857, 5732)},
    licence="research; photos under Flickr's terms",
    source="home.bharathh.info/pubs/codes/SBD",
)
