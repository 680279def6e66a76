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

# CMP Facades (label_names.txt of the data set), ids as in the files less 1.
FACADES = LabelTable(
    name="CMP Facades",
    names=[
        "background",
        "facade",
        "window",
        "door",
        "cornice",
        "sill",
        "balcony",
        "blind",
        "deco",
        "molding",
        "pillar",
        "shop",
    ],
)

# DAVIS: its objects have no classes.
DAVIS = LabelTable(["background", "foreground"], name="DAVIS")

# ISPRS Potsdam and Vaihingen; black is the boundary of the eroded label files.
ISPRS = LabelTable(
    name="ISPRS 2D",
    names=["impervious surface", "building", "low vegetation", "tree", "car", "clutter"],
    colors=[
        (255, 255, 255),
        (0, 0, 255),
        (0, 255, 255),
        (0, 255, 0),
        (255, 255, 0),
        (255, 0, 0),
    ],
    ignore_color=(0, 0, 0),
)

# DSTL (Kaggle 2017): class types 1..10, which may overlap.
DSTL = LabelTable(
    name="DSTL",
    names=[
        "buildings",
        "misc structures",
        "road",
        "track",
        "trees",
        "crops",
        "waterway",
        "standing water",
        "vehicle large",
        "vehicle small",
    ],
)

LIP = LabelTable(
    name="LIP",
    names=[
        "Background",
        "Hat",
        "Hair",
        "Glove",
        "Sunglasses",
        "UpperClothes",
        "Dress",
        "Coat",
        "Socks",
        "Pants",
        "Jumpsuits",
        "Scarf",
        "Skirt",
        "Face",
        "Left-arm",
        "Right-arm",
        "Left-leg",
        "Right-leg",
        "Left-shoe",
        "Right-shoe",
    ],
    colors=[
        (0, 0, 0),
        (128, 0, 0),
        (255, 0, 0),
        (0, 85, 0),
        (170, 0, 51),
        (255, 85, 0),
        (0, 0, 85),
        (0, 119, 221),
        (85, 85, 0),
        (0, 85, 85),
        (85, 51, 0),
        (52, 86, 128),
        (0, 128, 0),
        (0, 0, 255),
        (51, 170, 221),
        (0, 255, 255),
        (85, 255, 170),
        (170, 255, 85),
        (255, 255, 0),
        (255, 170, 0),
    ],
)

MHP_V1 = LabelTable(
    name="MHP v1",
    names=[
        "background",
        "hat",
        "hair",
        "sunglasses",
        "upper clothes",
        "skirt",
        "pants",
        "dress",
        "belt",
        "left shoe",
        "right shoe",
        "face",
        "left leg",
        "right leg",
        "left arm",
        "right arm",
        "bag",
        "scarf",
        "torso skin",
    ],
)

MHP_V2 = LabelTable(
    name="MHP v2",
    names=[
        "background",
        "cap/hat",
        "helmet",
        "face",
        "hair",
        "left-arm",
        "right-arm",
        "left-hand",
        "right-hand",
        "protector",
        "bikini/bra",
        "jacket/windbreaker/hoodie",
        "t-shirt",
        "polo-shirt",
        "sweater",
        "singlet",
        "torso-skin",
        "pants",
        "shorts/swim-shorts",
        "skirt",
        "stockings",
        "socks",
        "left-boot",
        "right-boot",
        "left-shoe",
        "right-shoe",
        "left-highheel",
        "right-highheel",
        "left-sandal",
        "right-sandal",
        "left-leg",
        "right-leg",
        "left-foot",
        "right-foot",
        "coat",
        "dress",
        "robe",
        "jumpsuit",
        "other-full-body-clothes",
        "headwear",
        "backpack",
        "ball",
        "bats",
        "belt",
        "bottle",
        "carrybag",
        "cases",
        "sunglasses",
        "eyewear",
        "glove",
        "scarf",
        "umbrella",
        "wallet/purse",
        "watch",
        "wristband",
        "tie",
        "other-accessary",
        "other-upper-body-clothes",
        "other-lower-body-clothes",
    ],
)


def _left_and_right(table):
    """Pairs of ids whose names differ in left and right only: a mirrored picture swaps them."""
    lower = [name.lower() for name in table.names]
    pairs = ((i, name.replace("left", "right")) for i, name in enumerate(lower) if "left" in name)
    return tuple((i, lower.index(other)) for i, other in pairs)


LIP_FLIP_PAIRS = _left_and_right(LIP)
MHP_V1_FLIP_PAIRS = _left_and_right(MHP_V1)
MHP_V2_FLIP_PAIRS = _left_and_right(MHP_V2)

# NYUDv2's 40 classes of Gupta, Arbelaez, Malik (CVPR 2013); ids as in the files less 1.
NYUD = LabelTable(
    name="NYUDv2-40",
    names=[
        "wall",
        "floor",
        "cabinet",
        "bed",
        "chair",
        "sofa",
        "table",
        "door",
        "window",
        "bookshelf",
        "picture",
        "counter",
        "blinds",
        "desk",
        "shelves",
        "curtain",
        "dresser",
        "pillow",
        "mirror",
        "floor mat",
        "clothes",
        "ceiling",
        "books",
        "refrigerator",
        "television",
        "paper",
        "towel",
        "shower curtain",
        "box",
        "whiteboard",
        "person",
        "night stand",
        "toilet",
        "sink",
        "lamp",
        "bathtub",
        "bag",
        "otherstructure",
        "otherfurniture",
        "otherprop",
    ],
)

# SIFT Flow's objects and stuff, ids as in the files less 1; and what each surface is.
SIFT_FLOW = LabelTable(
    name="SIFT Flow",
    names=[
        "awning",
        "balcony",
        "bird",
        "boat",
        "bridge",
        "building",
        "bus",
        "car",
        "cow",
        "crosswalk",
        "desert",
        "door",
        "fence",
        "field",
        "grass",
        "moon",
        "mountain",
        "person",
        "plant",
        "pole",
        "river",
        "road",
        "rock",
        "sand",
        "sea",
        "sidewalk",
        "sign",
        "sky",
        "staircase",
        "streetlight",
        "sun",
        "tree",
        "window",
    ],
)
GEOMETRY = LabelTable(["sky", "horizontal", "vertical"], name="SIFT Flow geometry")

VESSELS = LabelTable(["background", "vessel"], [(0, 0, 0), (255, 255, 255)], name="DRIVE")

CELLS = LabelTable(["background", "cell"], [(0, 0, 0), (255, 255, 255)], name="cells")

# Oxford-IIIT Pet's trimaps, ids as in the files less 1; the border is a class of its own there.
PET = LabelTable(["pet", "background", "border"], name="Oxford-IIIT Pet")

LOST_AND_FOUND = LabelTable(["free space", "obstacle"], name="Lost and Found")
