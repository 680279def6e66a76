"""One module for each layout on disk; `LAYOUTS` is the order in which a folder is tried."""

from keras_seg.data.readers import (
    ade20k,
    ade20k_full,
    camvid,
    camvid32,
    cityscapes,
    coco,
    coco_json,
    folder,
    instances,
    isbi,
    kitti_road,
    kitti_semantic,
    mapillary,
    pascal_context,
    sbd,
    voc,
)

LAYOUTS = (
    pascal_context.LAYOUT,
    voc.LAYOUT,
    sbd.LAYOUT,
    camvid32.LAYOUT,
    camvid.LAYOUT,
    isbi.LAYOUT,
    ade20k.LAYOUT,
    ade20k_full.LAYOUT,
    cityscapes.LAYOUT,
    kitti_road.LAYOUT,
    kitti_semantic.LAYOUT,
    coco.LAYOUT,
    coco_json.LAYOUT,
    mapillary.LAYOUT,
    # Those that fit nearly everything come last.
    instances.LAYOUT,
    folder.LAYOUT,
)
