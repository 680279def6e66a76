"""CamVid's 32 labels, and two ways to merge them into 11 classes."""

import numpy as np

from keras_seg.data.labels.table import LabelTable
from keras_seg.data.labels.tables import CAMVID

# Names and colours of the owner's label_colors.txt; the 32nd label, Void, is black and ignored.
_LABELS = {
    "Animal": (64, 128, 64),
    "Archway": (192, 0, 128),
    "Bicyclist": (0, 128, 192),
    "Bridge": (0, 128, 64),
    "Building": (128, 0, 0),
    "Car": (64, 0, 128),
    "CartLuggagePram": (64, 0, 192),
    "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128),
    "Fence": (64, 64, 128),
    "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64),
    "Misc_Text": (128, 128, 64),
    "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64),
    "ParkingBlock": (64, 192, 128),
    "Pedestrian": (64, 64, 0),
    "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192),
    "Sidewalk": (0, 0, 192),
    "SignSymbol": (192, 128, 128),
    "Sky": (128, 128, 128),
    "SUVPickupTruck": (64, 128, 192),
    "TrafficCone": (0, 0, 64),
    "TrafficLight": (0, 64, 64),
    "Train": (192, 64, 128),
    "Tree": (128, 128, 0),
    "Truck_Bus": (192, 128, 192),
    "Tunnel": (64, 0, 64),
    "VegetationMisc": (192, 192, 0),
    "Wall": (64, 192, 0),
}
CAMVID32 = LabelTable(
    list(_LABELS), list(_LABELS.values()), name="CamVid, 32 labels", ignore_color=(0, 0, 0)
)

# SegNet's: every label has a class; Void is ignored. Keys in the order of `CAMVID`.
_SEGNET = {
    "Sky": ["Sky"],
    "Building": ["Building", "Archway", "Bridge", "Tunnel", "Wall"],
    "Pole": ["Column_Pole", "TrafficCone"],
    "Road": ["Road", "LaneMkgsDriv", "LaneMkgsNonDriv"],
    "Pavement": ["Sidewalk", "ParkingBlock", "RoadShoulder"],
    "Tree": ["Tree", "VegetationMisc"],
    "SignSymbol": ["SignSymbol", "Misc_Text", "TrafficLight"],
    "Fence": ["Fence"],
    "Car": ["Car", "SUVPickupTruck", "Truck_Bus", "Train", "OtherMoving"],
    "Pedestrian": ["Pedestrian", "Child", "CartLuggagePram", "Animal"],
    "Bicyclist": ["Bicyclist", "MotorcycleScooter"],
}

# That of SwiftNet's authors, in their order; labels not named here are ignored.
_SWIFTNET = {
    "Building": ["Building"],
    "Tree": ["Tree"],
    "Sky": ["Sky"],
    "Car": ["Car", "SUVPickupTruck", "Truck_Bus", "Train"],
    "SignSymbol": ["SignSymbol"],
    "Road": ["Road", "LaneMkgsDriv", "LaneMkgsNonDriv", "RoadShoulder"],
    "Pedestrian": ["Pedestrian", "Child"],
    "Fence": ["Fence"],
    "Pole": ["Column_Pole"],
    "Sidewalk": ["Sidewalk"],
    "Bicyclist": ["Bicyclist"],
}
CAMVID_SWIFTNET = LabelTable(
    list(_SWIFTNET),
    np.array([_LABELS[members[0]] for members in _SWIFTNET.values()]),
    name="CamVid, SwiftNet's 11 classes",
    ignore_color=(0, 0, 0),
)

# {name of a merge: (its table, {colour on disk: id})}
CAMVID_MERGES = {
    name: (
        table,
        {color: table.ignore_label for color in [(0, 0, 0), *_LABELS.values()]}
        | {_LABELS[member]: index for index, members in enumerate(groups) for member in members},
    )
    for name, table, groups in (
        ("segnet", CAMVID, list(_SEGNET.values())),
        ("swiftnet", CAMVID_SWIFTNET, list(_SWIFTNET.values())),
        (None, CAMVID32, [[name] for name in _LABELS]),
    )
}
