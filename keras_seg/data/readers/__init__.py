"""One module for each layout on disk; `LAYOUTS` is the order in which a folder is tried."""

from keras_seg.data.readers import camvid, coco_json, folder, instances, isbi, voc

LAYOUTS = (
    voc.LAYOUT,
    camvid.LAYOUT,
    isbi.LAYOUT,
    coco_json.LAYOUT,
    # Those that fit nearly everything come last.
    instances.LAYOUT,
    folder.LAYOUT,
)
