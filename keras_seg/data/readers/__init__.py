"""One module for each layout on disk; `LAYOUTS` is the order in which a folder is tried."""

from keras_seg.data.readers import (
    camvid,
    cell_tracking,
    coco_json,
    davis,
    drive,
    dsb2018,
    dstl,
    facades,
    folder,
    instances,
    isbi,
    lip,
    mhp,
    nyud,
    potsdam,
    sift_flow,
    vaihingen,
    voc,
)

LAYOUTS = (
    voc.LAYOUT,
    camvid.LAYOUT,
    isbi.LAYOUT,
    facades.LAYOUT,
    davis.LAYOUT,
    drive.LAYOUT,
    dsb2018.LAYOUT,
    cell_tracking.LAYOUT,
    lip.LAYOUT,
    mhp.LAYOUT,
    sift_flow.LAYOUT,
    potsdam.LAYOUT,
    vaihingen.LAYOUT,
    dstl.LAYOUT,
    nyud.LAYOUT,
    coco_json.LAYOUT,
    # Those that fit nearly everything come last.
    instances.LAYOUT,
    folder.LAYOUT,
)
