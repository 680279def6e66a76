"""ADE20K: the 150 classes of SceneParse150, Zhou et al. "Scene Parsing through ADE20K", 2017."""

from keras_seg.data.labels.table import LabelTable

# Names: the first of each class's synonyms in objectInfo150. Colours: color150 of the benchmark's
# toolkit; two classes share (140, 140, 140), so that colours do not say the class.
_NAMES = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk,
person, earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf,
house, sea, mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub,
railing, cushion, base, box, column, signboard, chest of drawers, counter, sand, sink,
skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow,
screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill,
bench, countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar,
arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight, booth,
television, airplane, dirt track, apparel, pole, land, bannister, escalator, ottoman, bottle,
buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything,
swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food,
step, tank, trade name, microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket,
sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan, pier, crt screen, plate,
monitor, bulletin board, shower, radiator, glass, clock, flag
"""
_COLORS = """
787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846
08ff33 ff0652 8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc
ff095c 7009ff 08ffd6 07ffe0 ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14
ff0829 ff0599 0633ff eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff
ff4700 00ebff 00adff 1f00ff 0bc8c8 ff5200 00fff5 003dff 00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00
008fff 33ff00 0052ff 00ff29 00ffad 0a00ff adff00 00ff99 ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014
ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2 00ff52 000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900
00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa 8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070
5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3 ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff
ff007a fff500 0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff 00ffcc 2900ff 29ff00 ad00ff 00f5ff
4700ff 7a00ff 00ffb8 005cff b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff
"""

ADE20K = LabelTable(
    name="ADE20K",
    names=[name.strip() for name in _NAMES.split(",")],
    colors=[tuple(bytes.fromhex(color)) for color in _COLORS.split()],
    ignore_color=(0, 0, 0),
)

# Which of the full set's objects each class is made of, by their index there (in colours: R // 10 *
# 256 + G), as the toolkit's mapFromADE.txt has it: class 0 first, "+" for a second object.
_RAW = """
2978 312 2420 976 2855 447 2131 165 3055 1125 350 2377 1831 838 774+783 2684 1610 1910 687 471
401 2994 1735 2473 2329 1276 2264 1564 2178 913 57 2272 907 724 2138 2985+533 1395 155 2053 689
137 266 581 2380 491 627 2212 2388 2423 943 2096 1121 1788 2530 2185 420 1948 1869 2251 2531 2128
294 239 212 571 2793 978 236 1240 181 629 2598 1744 1374 591 2679 223 123 47 1282 327 2821 1451
2880 2828 480 77 2616 246+247 2733 14 738 38 1936 1401 120 868 1702 249 308 1969 2526 2928 2337
1023 609 389 2989 1930 2668 2586 131 146 3016 2739 95 1563 642 1708 103 1002 2569 2704 2833 1551
1981 29 187 1393 747 2254 206 2262 1260 2243 2932 2836 2850 64 894 1858 3109 1919 1583 318 2356
2046 1098 530 954
"""
ADE20K_RAW_IDS = {
    int(raw): index for index, item in enumerate(_RAW.split()) for raw in item.split("+")
}
