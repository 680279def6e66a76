"""Potsdam and Vaihingen: windows of tiles, counts of mmsegmentation's cut, colours, reading."""

import numpy as np
import pytest
from PIL import Image

from keras_seg import data
from keras_seg.data.labels import ISPRS
from keras_seg.data.readers import potsdam, vaihingen
from keras_seg.data.readers.tiff import map_tiff, write_tiff
from keras_seg.data.readers.tiles import cut_windows

# (W, H) of the published tiles of Vaihingen.
SIZES = {
    1: (1919, 2569), 2: (2428, 2767), 3: (2006, 3007), 4: (1887, 2557), 5: (1887, 2557),
    6: (1887, 2557), 7: (1887, 2557), 8: (1887, 2557), 10: (1887, 2557), 11: (1893, 2566),
    12: (1922, 2575), 13: (2818, 2558), 14: (1919, 2565), 15: (1919, 2565), 16: (1919, 2565),
    17: (2336, 1281), 20: (1866, 2315), 21: (1903, 2546), 22: (1903, 2546), 23: (1903, 2546),
    24: (1903, 2546), 26: (2995, 1783), 27: (1917, 3313), 28: (1917, 2567), 29: (1917, 2563),
    30: (1934, 2563), 31: (1980, 2555), 32: (1980, 2555), 33: (1581, 2555), 34: (1388, 2555),
    35: (2805, 1884), 37: (1996, 1995), 38: (3816, 2550),
}  # fmt: skip


def test_window_counts_are_mmsegmentations():
    assert {s: len(tiles) for s, tiles in potsdam.SPLITS.items()} == {"train": 24, "val": 14}
    assert len(cut_windows(6000, 6000, 512)) * 24 == 3456
    assert len(cut_windows(6000, 6000, 512)) * 14 == 2016
    assert {s: len(tiles) for s, tiles in vaihingen.SPLITS.items()} == {"train": 16, "val": 17}
    for split, count in (("train", 344), ("val", 398)):
        tiles = [SIZES[int(tile)] for tile in vaihingen.SPLITS[split]]
        assert sum(len(cut_windows(height, width, 512)) for width, height in tiles) == count


def test_windows_cover_a_tile():
    found = cut_windows(70, 100, 32)
    assert found[0] == ("_0_0_32_32", (0, 0, 32, 32))
    assert found[3] == ("_68_0_100_32", (0, 68, 32, 100))  # it ends at the border
    assert found[-1] == ("_68_38_100_70", (38, 68, 70, 100))
    assert len(found) == 4 * 3 and len(cut_windows(70, 100, 32, 16)) == 6 * 4
    assert cut_windows(20, 100, 32)[0] == ("_0_0_32_20", (0, 0, 20, 32))
    with pytest.raises(ValueError, match="window and stride must be at least 1"):
        cut_windows(70, 100, 32, 0)


@pytest.fixture(params=["raw", "tiff_lzw"])
def tile(tmp_path, request):
    """Tile 2_10 of 70 x 100 pixels, uncompressed or not; all colours and the boundary."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (70, 100, 3), "uint8")
    label = rng.integers(0, 7, (70, 100))
    colors = np.array([[255, 255, 255], [0, 0, 255], [0, 255, 255], [0, 255, 0], [255, 255, 0],
                       [255, 0, 0], [0, 0, 0]], "uint8")  # fmt: skip
    for path, array in (
        ("2_Ortho_RGB/top_potsdam_2_10_RGB.tif", image),
        ("5_Labels_all_noBoundary/top_potsdam_2_10_label_noBoundary.tif", colors[label]),
    ):
        (tmp_path / path).parent.mkdir()
        Image.fromarray(array).save(tmp_path / path, compression=request.param)
    return tmp_path, image, np.where(label == 6, 255, label)


def test_potsdam(tile):
    root, image, label = tile
    dataset = data.open_dataset(root, window=32)
    assert dataset.layout == "potsdam" and dataset.table is ISPRS and len(dataset) == 12
    assert dataset.names[-1] == "2_10_68_38_100_70"
    np.testing.assert_array_equal(dataset[11].image, image[38:70, 68:100])
    np.testing.assert_array_equal(dataset[11].label, label[38:70, 68:100])
    whole = data.open_dataset(root, window=None)
    assert whole.names == ["2_10"]
    np.testing.assert_array_equal(whole[0].label, label)
    np.testing.assert_array_equal(whole[0].image, image)
    assert data.list_splits(root) == ["train"]
    grey = data.potsdam(root, channels=1, window=None)[0].image
    np.testing.assert_array_equal(grey[..., 0], np.asarray(Image.fromarray(image).convert("L")))


def test_tiles_of_other_sizes_than_their_labels_are_found(tile):
    """Though all of their windows are of one size."""
    root, _, _ = tile
    image = root / "2_Ortho_RGB" / "top_potsdam_2_10_RGB.tif"
    Image.fromarray(np.zeros((70, 90, 3), "uint8")).save(image)
    report = data.check_data(root, progress=False, window=32)
    assert report.read == 0 and len(report.errors) == 1  # 9 windows of one file
    assert "_RGB.tif is 70x90 (HxW), but its label" in report.errors[0].message


def test_folders_unpacked_into_folders_of_their_names(tile, tmp_path):
    root, _, label = tile
    for folder in [path for path in root.iterdir() if path.is_dir()]:
        place = tmp_path / "again" / folder.name
        place.mkdir(parents=True)
        folder.rename(place / folder.name)
    dataset = data.open_dataset(tmp_path / "again", window=None)
    assert dataset.layout == "potsdam"
    np.testing.assert_array_equal(dataset[0].label, label)


def test_uncompressed_tiles_are_mapped_and_others_decoded_once(tile, monkeypatch):
    root, _, _ = tile
    dataset = data.open_dataset(root, window=32)
    mapped = map_tiff(dataset.image_paths[0]) is not None
    decoded = []
    monkeypatch.setattr(
        "keras_seg.data.read.read_values",
        lambda path: decoded.append(path) or np.asarray(Image.open(path)),
    )
    assert len(list(dataset)) == len(dataset) > 2  # every window is read
    assert len(decoded) == (0 if mapped else 2)  # the picture and the label, once each


def test_tile_faults(tile):
    root, image, _ = tile
    path = root / "5_Labels_all_noBoundary" / "top_potsdam_2_10_label_noBoundary.tif"
    colors = np.asarray(Image.open(path)).copy()
    colors[0, 0] = (252, 255, 0)
    Image.fromarray(colors).save(path)
    with pytest.raises(ValueError, match=r"noBoundary.tif: 1 colour .*\(252, 255, 0\) on 1 pixels"):
        data.open_dataset(root)[0]
    lenient = data.open_dataset(root, strange_colors="ignore")
    assert lenient[0].label[0, 0] == 255
    Image.fromarray(colors[:60]).save(path)
    with pytest.raises(ValueError, match=r"RGB.tif is 70x100 \(HxW\), but its label .*60x100"):
        data.open_dataset(root)[0]
    data_bytes = (root / "2_Ortho_RGB" / "top_potsdam_2_10_RGB.tif").read_bytes()
    (root / "2_Ortho_RGB" / "top_potsdam_2_11_RGB.tif").write_bytes(data_bytes)
    with pytest.raises(ValueError, match=r"2_11_RGB.tif: has no label of the same tile"):
        data.open_dataset(root)
    with pytest.raises(ValueError, match="bands must be one of RGB, IRRG, RGBIR"):
        data.potsdam(root, bands="BGR")
    with pytest.raises(ValueError, match="has 3 channels, but 4 were asked for"):
        data.potsdam(root, channels=4, problems=[]).read_image(0)


def test_vaihingen(tmp_path):
    root = data.write_layout("vaihingen", tmp_path, {"train": 1, "val": 2}, size=(40, 50))
    dataset = data.open_dataset(root, "val", window=32)
    assert dataset.layout == "vaihingen" and dataset.names[0] == "2_0_0_32_32"
    assert len(dataset) == 2 * 2 * 2 and "IRRG" in dataset.description
    assert data.list_splits(root) == ["train", "val"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("bands", [1, 3, 8])
def test_tiff_round_trip(tmp_path, dtype, bands):
    values = np.random.default_rng(0).integers(0, 2000, (7, 5, bands)).astype(dtype)
    write_tiff(tmp_path / "a.tif", values)
    np.testing.assert_array_equal(map_tiff(tmp_path / "a.tif"), values)
    if bands == 1:  # what Pillow can read as it is
        found = np.asarray(Image.open(tmp_path / "a.tif"))
        np.testing.assert_array_equal(found, values[..., 0])


def test_tiff_of_pillow(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (7, 5), "uint16")
    Image.fromarray(deep).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(map_tiff(tmp_path / "a.tif")[..., 0], deep)
    Image.fromarray(deep).save(tmp_path / "b.tif", compression="tiff_lzw")
    (tmp_path / "c.tif").write_bytes(b"II*\0\x08")
    assert map_tiff(tmp_path / "b.tif") is None and map_tiff(tmp_path / "c.tif") is None
