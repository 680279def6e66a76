"""Tables of known data sets. Ids are those that the networks train on; 255 is ignored."""

from keras_seg.data.labels.table import LabelTable

# SegNet's 11 classes and their order; colours of the SegNet tutorial, void is black.
CAMVID = LabelTable(
    name="CamVid",
    names=[
        "Sky",
        "Building",
        "Pole",
        "Road",
        "Pavement",
        "Tree",
        "SignSymbol",
        "Fence",
        "Car",
        "Pedestrian",
        "Bicyclist",
    ],
    colors=[
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (0, 0, 192),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ],
    ignore_color=(0, 0, 0),
)

# PASCAL VOC 2012; the colours are the VOC colour map.
VOC = LabelTable(
    name="PASCAL VOC",
    names=[
        "background",
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    ],
)

# ISBI 2012 electron microscopy: masks hold 0 on membranes and 255 inside cells.
MEMBRANE = LabelTable(["membrane", "cell"], [(0, 0, 0), (255, 255, 255)], name="ISBI 2012")

NUCLEI = LabelTable(["background", "nucleus"], [(0, 0, 0), (0, 200, 255)], name="nuclei")

SHAPES = LabelTable(["background", "circle", "square", "triangle"], name="shapes")

# Train ids; colours of cityscapesScripts' labels.py, which KITTI's semantic set shares.
CITYSCAPES = LabelTable(
    name="Cityscapes",
    names=[
        "road",
        "sidewalk",
        "building",
        "wall",
        "fence",
        "pole",
        "traffic light",
        "traffic sign",
        "vegetation",
        "terrain",
        "sky",
        "person",
        "rider",
        "car",
        "truck",
        "bus",
        "train",
        "motorcycle",
        "bicycle",
    ],
    colors=[
        (128, 64, 128),
        (244, 35, 232),
        (70, 70, 70),
        (102, 102, 156),
        (190, 153, 153),
        (153, 153, 153),
        (250, 170, 30),
        (220, 220, 0),
        (107, 142, 35),
        (152, 251, 152),
        (70, 130, 180),
        (220, 20, 60),
        (255, 0, 0),
        (0, 0, 142),
        (0, 0, 70),
        (0, 60, 100),
        (0, 80, 100),
        (0, 0, 230),
        (119, 11, 32),
    ],
    ignore_color=(0, 0, 0),
)

# {label id on disk: train id}; the ids of no class, also -1 (license plate) as 255, are ignored.
CITYSCAPES_TRAIN_IDS = dict.fromkeys([*range(34), 255], 255) | {
    7: 0,
    8: 1,
    11: 2,
    12: 3,
    13: 4,
    17: 5,
    19: 6,
    20: 7,
    21: 8,
    22: 9,
    23: 10,
    24: 11,
    25: 12,
    26: 13,
    27: 14,
    28: 15,
    31: 16,
    32: 17,
    33: 18,
}

# KITTI road; drawn as on disk: magenta and red.
ROAD = LabelTable(
    ["other", "road"], [(255, 0, 0), (255, 0, 255)], name="KITTI road", ignore_color=(0, 0, 0)
)
