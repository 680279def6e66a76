"""ISPRS Potsdam (2D Semantic Labeling Contest)."""

from keras_seg.data import labels
from keras_seg.data.readers.common import existing_folder
from keras_seg.data.readers.layout import Layout
from keras_seg.data.readers.tiles import find_tiles, open_tiles, present, write_tiles

SPLITS = {  # mmsegmentation's
    "train": "2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12 6_7 6_8 6_9 6_10 6_11 "
    "6_12 7_7 7_8 7_9 7_10 7_11 7_12".split(),
    "val": "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13".split(),
}
_IMAGE_FOLDERS = {"RGB": "2_Ortho_RGB", "IRRG": "3_Ortho_IRRG", "RGBIR": "4_Ortho_RGBIR"}
_LABEL_FOLDERS = (
    "5_Labels_all_noBoundary",
    "5_Labels_for_participants_no_Boundary",
    "5_Labels_all",
    "5_Labels_for_participants",
)


def potsdam(
    root,
    split=None,
    *,
    classes=None,
    channels=3,
    ignore_label=255,
    problems=None,
    window=512,
    stride=None,
    bands="RGB",
    strange_colors="raise",
):
    """ISPRS Potsdam: 2_Ortho_RGB/top_potsdam_2_10_RGB.tif, 5_Labels_*/top_potsdam_2_10_label*.tif.

    38 tiles of 6000 x 6000 pixels; mmsegmentation's cut, 24 "train" and 14 "val", whose windows
    are 3,456 and 2,016. Labels are colours; black, the boundary in the noBoundary files (which are
    preferred), is ignored. Names are those of mmsegmentation: tile, left, top, right, bottom, such
    as 2_10_0_512_512_1024. Uncompressed tiles are read by windows; others are decoded once and
    kept while their windows are read in order. Arguments and errors: see `open_dataset`.

    Args:
        window: side of the square windows; None: whole tiles.
        stride: from window to window; None: `window`, as mmsegmentation cuts in effect (its option
            says 256, but its grid steps by 512). The last window of a row ends at the border.
        bands: "RGB"; "IRRG", infrared, red, green (3_Ortho_IRRG); "RGBIR" with `channels=4`
            (4_Ortho_RGBIR).
        strange_colors: "raise", or "ignore": pixels of a colour that no class has are ignored.
    """
    if bands not in _IMAGE_FOLDERS:
        raise ValueError(f"bands must be one of {', '.join(_IMAGE_FOLDERS)}, got {bands!r}.")
    root = existing_folder(root)
    return open_tiles(
        "potsdam",
        root,
        split,
        _images(root, bands),
        find_tiles(root, _LABEL_FOLDERS, r"top_potsdam_(\d+_\d+)_label(?:_noBoundary)?\.tif"),
        SPLITS,
        classes=classes,
        channels=channels,
        ignore_label=ignore_label,
        problems=problems,
        window=window,
        stride=stride,
        strange_colors=strange_colors,
        bands=bands,
    )


def _images(root, bands):
    return find_tiles(root, (_IMAGE_FOLDERS[bands],), rf"top_potsdam_(\d+_\d+)_{bands}\.tif")


def _any_images(root):
    return next((found for bands in _IMAGE_FOLDERS if (found := _images(root, bands))), {})


def _write(root, split, samples):
    """Tiles of the sizes of the samples, as many as the split has at most."""
    write_tiles(
        samples,
        SPLITS["train" if split == "train" else "val"],
        root / "2_Ortho_RGB" / "top_potsdam_{}_RGB.tif",
        root / "5_Labels_all_noBoundary" / "top_potsdam_{}_label_noBoundary.tif",
    )


LAYOUT = Layout(
    name="potsdam",
    read=potsdam,
    detect=lambda root: bool(_any_images(root)),
    splits=lambda root: present(SPLITS, _any_images(root)),
    write=_write,
    title="ISPRS Potsdam, windows of 512",
    table=labels.ISPRS,
    published={"train": (3456, 24), "val": (2016, 14)},
    licence="research, by a request form",
    source="isprs.org, 2D Semantic Labeling Contest - Potsdam",
)
