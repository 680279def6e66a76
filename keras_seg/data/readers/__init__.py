"""One module for each layout on disk; `LAYOUTS` is the order in which a folder is tried."""

from keras_seg.data.readers import camvid, folder, instances, isbi, shards, voc

LAYOUTS = (
    shards.LAYOUT,
    voc.LAYOUT,
    camvid.LAYOUT,
    isbi.LAYOUT,
    # Those that fit nearly everything come last.
    instances.LAYOUT,
    folder.LAYOUT,
)
