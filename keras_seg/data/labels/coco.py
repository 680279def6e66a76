"""MS COCO: Lin et al. 2014; with stuff: Caesar et al. "COCO-Stuff", CVPR 2018."""

from keras_seg.data.labels.table import LabelTable

# The names of the category ids 1..182: things, of which eleven were never annotated, then stuff.
_NAMES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
street sign, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear,
zebra, giraffe, hat, backpack, umbrella, shoe, eye glasses, handbag, tie, suitcase, frisbee,
skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, plate, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich,
orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, mirror,
dining table, window, desk, toilet, door, tv, laptop, mouse, remote, keyboard, cell phone,
microwave, oven, toaster, sink, refrigerator, blender, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush, hair brush, banner, blanket, branch, bridge, building-other, bush,
cabinet, cage, cardboard, carpet, ceiling-other, ceiling-tile, cloth, clothes, clouds, counter,
cupboard, curtain, desk-stuff, dirt, door-stuff, fence, floor-marble, floor-other, floor-stone,
floor-tile, floor-wood, flower, fog, food-other, fruit, furniture-other, grass, gravel,
ground-other, hill, house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin,
net, paper, pavement, pillow, plant-other, plastic, platform, playingfield, railing, railroad,
river, road, rock, roof, rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other,
stairs, stone, straw, structural-other, table, tent, textile-other, towel, tree, vegetable,
wall-brick, wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, wall-wood, water-other,
waterdrops, window-blind, window-other, wood
"""
_CATEGORIES = dict(enumerate((name.strip() for name in _NAMES.split(",")), start=1))
_NEVER_ANNOTATED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
_USED = [number for number in _CATEGORIES if number not in _NEVER_ANNOTATED]

# {category id in instances_*.json: class}; 0 is background.
COCO_THING_IDS = {number: index for index, number in enumerate(_USED[:80], start=1)}
COCO_THINGS = LabelTable(
    ["background", *(_CATEGORIES[number] for number in _USED[:80])], name="COCO things"
)

# {category id: PASCAL VOC's class}.
COCO_VOC_IDS = {
    number: index
    for index, number in enumerate(
        [5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72], start=1
    )
}

# {id in the PNG files of COCO-Stuff, which are category ids less one: class}; 255 is unlabelled.
COCO_STUFF_IDS = {number - 1: index for index, number in enumerate(_USED)} | {255: 255}
COCO_STUFF = LabelTable([_CATEGORIES[number] for number in _USED], name="COCO-Stuff")
