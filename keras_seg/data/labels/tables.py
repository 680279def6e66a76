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
