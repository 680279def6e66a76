"""One module for each layout on disk; `LAYOUTS` is the order in which a folder is tried."""

from keras_seg.data.readers import (
    ade20k,
    ade20k_full,
    camvid,
    cityscapes,
    coco,
    coco_json,
    folder,
    instances,
    isbi,
    sbd,
    voc,
)

LAYOUTS = (
    voc.LAYOUT,
    sbd.LAYOUT,
    camvid.LAYOUT,
    isbi.LAYOUT,
    ade20k.LAYOUT,
    ade20k_full.LAYOUT,
    cityscapes.LAYOUT,
    coco.LAYOUT,
    coco_json.LAYOUT,
    # Those that fit nearly everything come last.
    instances.LAYOUT,
    folder.LAYOUT,
)
