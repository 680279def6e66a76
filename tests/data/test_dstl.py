"""DSTL: polygons as text, their pixels, bands of 11 bits, classes that overlap."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from keras_seg import data
from keras_seg.data.labels import DSTL
from keras_seg.data.readers.polygons import fill_polygons, parse_wkt
from keras_seg.data.readers.tiff import write_tiff

SQUARE = "((1 1, 5 1, 5 4, 1 4, 1 1), (2 2, 4 2, 4 3, 2 3, 2 2))"


def test_wkt():
    polygons = parse_wkt(f"MULTIPOLYGON ({SQUARE}, ((0.5 -1e-3, 7 8, 9 0, 0.5 -1e-3)))")
    assert [len(polygon) for polygon in polygons] == [2, 1]
    assert polygons[0][1].tolist() == [[2, 2], [4, 2], [4, 3], [2, 3], [2, 2]]
    assert polygons[1][0][0].tolist() == [0.5, -0.001]
    assert len(parse_wkt(f"POLYGON {SQUARE}")[0]) == 2
    assert parse_wkt("MULTIPOLYGON EMPTY") == []


@pytest.mark.parametrize(
    "text",
    ["POINT (1 2)", "", "MULTIPOLYGON (((1 2, 3 4)))", "MULTIPOLYGON (((1 2, 3 4, 5 6)",
     "MULTIPOLYGON (((1 2, 3 4, 5 6, 1 2)), (1 2))", "POLYGON ((a b, c d, e f))"],
)  # fmt: skip
def test_bad_wkt(text):
    with pytest.raises(ValueError, match="polygon|POLYGON|ring"):
        parse_wkt(text)


def test_pixels_of_a_polygon_with_a_hole():
    mask = fill_polygons(parse_wkt(f"POLYGON {SQUARE}"), (6, 7))
    expected = np.zeros((6, 7), bool)
    expected[1:4, 1:5] = True
    expected[2, 2:4] = False
    np.testing.assert_array_equal(mask, expected)
    twice = parse_wkt("MULTIPOLYGON (((0 0,3 0,3 3,0 3,0 0)),((1 1,4 1,4 4,1 4,1 1)))")
    assert fill_polygons(twice, (4, 4)).sum() == 9 + 9 - 4  # overlap stays inside
    outside = parse_wkt("POLYGON ((-5 -5, 20 -5, 20 2, -5 2, -5 -5))")
    np.testing.assert_array_equal(fill_polygons(outside, (4, 3)).sum(1), [3, 3, 0, 0])


def test_pixels_agree_with_pillow():
    """Pillow draws the outline too: at 8 times the size that hardly counts."""
    rng = np.random.default_rng(0)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
    radius = rng.uniform(200, 480, 12)
    points = 500 + np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None]
    mask = fill_polygons([[points]], (1000, 1000))
    image = Image.new("1", (1000, 1000))
    ImageDraw.Draw(image).polygon([tuple(p) for p in points.tolist()], fill=1)
    assert (mask != np.asarray(image)).mean() < 0.005
    x, y = points.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2  # shoelace
    assert abs(mask.sum() - area) < 0.001 * area


@pytest.fixture
def tree(tmp_path):
    """One picture of 4 x 9 pixels whose bands hold 0..2047; a building on trees."""
    shape = (4, 9)
    rgb = np.zeros((*shape, 3), "uint16")
    rgb[..., 0], rgb[..., 1] = 2047, 1024
    write_tiff(tmp_path / "three_band" / "6010_1_2.tif", rgb)
    for kind, value, size in (
        ("P", 2047, (4, 9, 1)),
        ("M", 2047, (1, 2, 8)),
        ("A", 16383, (1, 1, 8)),
    ):
        write_tiff(
            tmp_path / "sixteen_band" / f"6010_1_2_{kind}.tif", np.full(size, value, "uint16")
        )

    # x = 0.9 is pixel 9 * 9 / 10 = 8.1 of 9, y = -0.5 is 4 * 4 / 5 = 3.2 of 4.
    def box(left, right, bottom):
        return (
            f"MULTIPOLYGON ((({left} 0, {right} 0, {right} {bottom}, {left} {bottom}, {left} 0)))"
        )

    rows = ["ImageId,ClassType,MultipolygonWKT"]
    rows += [f'6010_1_2,1,"{box(0, 0.45, -0.25)}"', f'6010_1_2,5,"{box(0, 0.9, -0.5)}"']
    rows += ["6010_1_2,2,MULTIPOLYGON EMPTY"]
    (tmp_path / "train_wkt_v4.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "grid_sizes.csv").write_text(",Xmax,Ymin\n6010_1_2,0.9,-0.5\n")
    return tmp_path


def test_dstl(tree):
    dataset = data.open_dataset(tree)
    assert dataset.layout == "dstl" and dataset.table is DSTL and dataset.multilabel
    image, label, name = dataset[0]
    assert name == "6010_1_2" and label.shape == (4, 9, 10)
    np.testing.assert_array_equal(image, np.broadcast_to([255, 128, 0], (4, 9, 3)))
    trees, buildings = label[..., 4], label[..., 0]
    assert trees[:3, :8].all() and trees.sum() == 24  # 3.2 x 8.1 pixels: centres within
    assert buildings[:2, :4].all() and buildings.sum() == 8  # 1.6 x 4.05 pixels
    assert label.sum() == 32
    for channels in (8, 16, 20):
        more = data.open_dataset(tree, channels=channels)[0].image
        assert more.shape == (4, 9, channels) and more[..., -1].min() == 255
    assert data.open_dataset(tree, channels=20)[0].image[0, 0, :4].tolist() == [255, 128, 0, 255]
    assert data.open_dataset(tree, white=1024)[0].image[0, 0].tolist() == [255, 255, 0]
    windows = data.open_dataset(tree, window=4)
    assert windows.names[-1] == "6010_1_2_5_0_9_4" and len(windows) == 3
    np.testing.assert_array_equal(windows[2].label, label[:, 5:9])
    report = data.check_data(tree, progress=False)
    assert report.ok and report.histogram.tolist() == [8, 0, 0, 0, 24, 0, 0, 0, 0, 0]


def test_percentiles(tree):
    ramp = np.arange(36, dtype="uint16").reshape(4, 9, 1).repeat(3, axis=2) + 100
    write_tiff(tree / "three_band" / "6010_1_2.tif", ramp)
    image = data.open_dataset(tree, percentiles=(0, 100))[0].image
    assert image[0, 0, 0] == 0 and image[3, 8, 0] == 255 and image[0, 7, 0] == 51


def test_dstl_faults(tree):
    (tree / "sixteen_band" / "6010_1_2_M.tif").unlink()
    with pytest.raises(ValueError, match=r"6010_1_2_M.tif: is missing, though train_wkt_v4.csv"):
        data.open_dataset(tree, channels=8)
    rgb = tree / "three_band" / "6010_1_2.tif"
    Image.new("RGB", (9, 4)).save(rgb, compression="tiff_lzw")
    with pytest.raises(ValueError, match=r"6010_1_2.tif: damaged, or not an uncompressed TIFF"):
        data.open_dataset(tree)
    write_tiff(rgb, np.zeros((4, 9, 2), "uint16"))
    with pytest.raises(ValueError, match=r"6010_1_2.tif: 2 bands; RGB files have 3"):
        data.open_dataset(tree)
    with pytest.raises(ValueError, match="channels of DSTL must be 3, 8, 16 or 20"):
        data.open_dataset(tree, channels=4)
    text = (tree / "train_wkt_v4.csv").read_text()
    (tree / "train_wkt_v4.csv").write_text(text.replace(",5,", ",11,"))
    with pytest.raises(ValueError, match=r"train_wkt_v4.csv, line 3: expected ImageId"):
        data.open_dataset(tree)
    write_tiff(rgb, np.zeros((4, 9, 3), "uint16"))
    (tree / "train_wkt_v4.csv").write_text(text.replace("0.9 0,", "0.9,"))
    with pytest.raises(ValueError, match=r"train_wkt_v4.csv: 6010_1_2, class 5: damaged polygon"):
        data.open_dataset(tree)[0]
    (tree / "grid_sizes.csv").write_text(",Xmax,Ymin\n")
    with pytest.raises(ValueError, match=r"grid_sizes.csv: has no row of 6010_1_2"):
        data.open_dataset(tree)
