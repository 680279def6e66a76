"""ISPRS Vaihingen (2D Semantic Labeling Contest)."""

from keras_seg.data import labels
from keras_seg.data.readers.common import existing_folder
from keras_seg.data.readers.layout import Layout
from keras_seg.data.readers.tiles import find_tiles, open_tiles, present, write_tiles

SPLITS = {  # mmsegmentation's
    "train": "1 3 5 7 11 13 15 17 21 23 26 28 30 32 34 37".split(),
    "val": "2 4 6 8 10 12 14 16 20 22 24 27 29 31 33 35 38".split(),
}
_LABEL_FOLDERS = (
    "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE",
    "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE",
    "gts_eroded_for_participants",
    "gts_for_participants",
)


def vaihingen(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    window=512,
    stride=None,
    strange_colors="raise",
):
    """ISPRS Vaihingen: top/top_mosaic_09cm_area1.tif and label files of the same names.

    33 tiles of about 2500 x 2000 pixels, infrared, red and green (IRRG): colours do not mean what
    ImageNet's do. mmsegmentation's cut, 16 "train" and 17 "val", whose windows are 344 and 398.
    Labels lie in ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE/ (preferred: black
    boundaries, ignored), ..._COMPLETE/, or gts_for_participants/. All else is as in `potsdam`.
    """
    root = existing_folder(root)
    return open_tiles(
        "vaihingen",
        root,
        split,
        _images(root),
        find_tiles(root, _LABEL_FOLDERS, r"top_mosaic_09cm_area(\d+)(?:_noBoundary)?\.tif"),
        SPLITS,
        classes=classes,
        channels=channels,
        ignore_label=ignore_label,
        problems=problems,
        window=window,
        stride=stride,
        strange_colors=strange_colors,
        bands="IRRG",
    )


def _images(root):
    return find_tiles(root, ("top",), r"top_mosaic_09cm_area(\d+)\.tif")


def _write(root, split, samples):
    """Tiles of the sizes of the samples, as many as the split has at most."""
    write_tiles(
        samples,
        SPLITS["train" if split == "train" else "val"],
        root / "top" / "top_mosaic_09cm_area{}.tif",
        root / _LABEL_FOLDERS[0] / "top_mosaic_09cm_area{}_noBoundary.tif",
    )


LAYOUT = Layout(
    name="vaihingen",
    read=vaihingen,
    detect=lambda root: bool(_images(root)),
    splits=lambda root: present(SPLITS, _images(root)),
    write=_write,
    title="ISPRS Vaihingen, windows of 512",
    table=labels.ISPRS,
    published={"train": (344, 16), "val": (398, 17)},
    licence="research, by a request form",
    source="isprs.org, 2D Semantic Labeling Contest - Vaihingen",
)
