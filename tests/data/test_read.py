"""Reading images and masks: every encoding gives its ids, every bad file is refused by name."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_seg.data import list_images, read_image, read_instances, read_mask, write_mask
from keras_seg.data.labels import VOC, LabelTable, voc_colors
from keras_seg.data.read import read_values

TABLE = LabelTable(["a", "b", "c"])


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palette_png_gives_indices(tmp_path, png, depth):
    ids = np.random.default_rng(depth).integers(0, min(2**depth, 21), (5, 7))
    path = png(tmp_path / "mask.png", ids, depth, palette=voc_colors(256))
    assert read_mask(path, VOC).tolist() == ids.tolist()


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_png_gives_values(tmp_path, png, depth):
    """Pillow stretches 2 and 4 bits to 0..255; ids must come back as they were written."""
    ids = np.random.default_rng(depth).integers(0, min(2**depth, 21), (5, 7))
    path = png(tmp_path / "mask.png", ids, depth)
    assert read_mask(path, VOC).tolist() == ids.tolist()


def test_the_palette_trap(tmp_path, png):
    """The 2x3 example of specs/datasets.md section 16, which tf.io.decode_png gets wrong."""
    ids = [[0, 1, 2], [15, 20, 255]]
    path = png(tmp_path / "mask.png", ids, 8, palette=voc_colors(256))
    assert read_mask(path, VOC).tolist() == ids


def test_write_mask_round_trip(tmp_path):
    ids = np.array([[0, 1, 2], [15, 20, 255]])
    write_mask(tmp_path / "mask.png", ids, VOC)
    assert read_mask(tmp_path / "mask.png", VOC).tolist() == ids.tolist()
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        assert (
            np.asarray(image.convert("RGB"))[1].tolist() == voc_colors(256)[[15, 20, 255]].tolist()
        )


@pytest.mark.parametrize(
    "label", [np.zeros((2, 2, 1), int), np.full((2, 2), 256), np.zeros((2, 2))]
)
def test_write_mask_refuses(tmp_path, label):
    with pytest.raises(ValueError, match="integers 0..255"):
        write_mask(tmp_path / "mask.png", label, VOC)
    assert not any(tmp_path.iterdir())


def test_instances_keep_16_bits(tmp_path, png):
    path = png(tmp_path / "ids.png", [[0, 1, 300, 65535]], 16)
    assert read_instances(path).tolist() == [[0, 1, 300, 65535]]
    with pytest.raises(ValueError, match=r'ids.png: ids 300, 65535 .* layout="instances"'):
        read_mask(path)


def test_mask_values(tmp_path, save):
    path = save(tmp_path / "mask.png", [[0, 255], [255, 0]])
    assert read_mask(path, LabelTable(["no", "yes"]), mask_values={0: 0, 255: 1}).tolist() == [
        [0, 1],
        [1, 0],
    ]
    # exchanging two ids must not chain: 0 -> 255 and 255 -> 0
    assert read_mask(path, mask_values={0: 255, 255: 0}).tolist() == [[255, 0], [0, 255]]


@pytest.mark.parametrize(
    "color_table",
    [
        LabelTable(["a", "b"], [(10, 20, 30), (40, 50, 60)], ignore_color=(0, 0, 0)),
        {(10, 20, 30): 0, (40, 50, 60): 1, (0, 0, 0): 255},
    ],
)
def test_colour_coded_mask(tmp_path, save, color_table):
    path = save(tmp_path / "mask.png", [[[10, 20, 30], [40, 50, 60], [0, 0, 0]]])
    assert read_mask(path, color_table=color_table).tolist() == [[0, 1, 255]]


def test_opaque_alpha_is_dropped(tmp_path, save):
    path = save(tmp_path / "mask.png", [[[10, 20, 30, 255]]])
    assert read_mask(path, color_table={(10, 20, 30): 4}).tolist() == [[4]]


def _refused(path, words, **options):
    with pytest.raises(ValueError, match=words) as caught:
        read_mask(path, **options)
    assert str(path) in str(caught.value)


def test_unknown_colour(tmp_path, save):
    path = save(tmp_path / "mask.png", [[[1, 2, 3], [9, 9, 9], [9, 9, 9]]])
    _refused(path, r"1 colour of .*\(9, 9, 9\) on 2 pixels", color_table={(1, 2, 3): 0})


def test_rgb_mask_without_colours(tmp_path, save):
    _refused(save(tmp_path / "m.png", [[[1, 2, 3]]]), r"RGB mask.*classes.txt")
    _refused(save(tmp_path / "m.png", [[[2, 2, 2]]]), "channels are equal")


def test_transparent_mask(tmp_path, save):
    path = save(tmp_path / "m.png", [[[1, 2, 3, 0]]])
    _refused(path, "transparent", color_table={(1, 2, 3): 0})


def test_jpeg_mask_whatever_its_name(tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray(np.zeros((8, 8), "uint8")).save(path, "JPEG")
    _refused(path, "a JPEG.*as PNG")


@pytest.mark.parametrize(("kind", "words"), [("WEBP", "lossless"), ("GIF", "GIF")])
def test_other_mask_formats(tmp_path, kind, words):
    path = tmp_path / "mask.png"
    Image.fromarray(np.zeros((8, 8), "uint8")).save(path, kind)
    _refused(path, words)


def test_ids_outside_the_table(tmp_path, save):
    path = save(tmp_path / "mask.png", [[0, 1, 2, 3, 7, 255]])
    _refused(path, r"ids 3, 7 are outside the table: expected 0..2, or 255", table=TABLE)


def test_image_channels(tmp_path, save):
    rgb = np.random.default_rng(0).integers(0, 256, (4, 5, 3))
    path = save(tmp_path / "i.png", rgb)
    assert read_image(path).tolist() == rgb.tolist()
    grey = read_image(path, 1)
    luma = rgb @ np.array([299, 587, 114]) / 1000
    assert grey.shape == (4, 5, 1) and np.abs(grey[..., 0] - luma).max() <= 1
    with pytest.raises(ValueError, match=r"i.png: 4 channels .* has 3"):
        read_image(path, 4)
    four = np.concatenate([rgb, rgb[..., :1]], 2)
    path = save(tmp_path / "four.png", four)
    assert read_image(path, 4).tolist() == four.tolist()
    assert read_image(path).tolist() == rgb.tolist()
    path = save(tmp_path / "grey.png", rgb[..., 0])
    assert read_image(path).tolist() == np.repeat(rgb[..., :1], 3, 2).tolist()
    with pytest.raises(ValueError, match="1, 3 or 4, got 2"):
        read_image(path, 2)


def test_palette_and_cmyk_images(tmp_path, png):
    path = png(tmp_path / "p.png", [[0, 1, 2]], 8, palette=voc_colors(256))
    assert read_image(path).tolist() == [voc_colors(3).tolist()]
    Image.new("CMYK", (2, 1), (0, 255, 255, 0)).save(tmp_path / "c.tif")
    assert read_image(tmp_path / "c.tif").tolist() == [[[255, 0, 0]] * 2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    """Expected arrays from the EXIF standard's table of row 0 and column 0."""
    array = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    upright = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.transpose(1, 0, 2),
        6: np.rot90(array, -1),
        7: array.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(array, 1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(tmp_path / "i.png", exif=exif)
    assert read_image(tmp_path / "i.png").tolist() == upright.tolist()


def test_16_bit_images(tmp_path, png):
    path = png(tmp_path / "i.png", [[0, 2048, 4095, 5000]], 16)
    with pytest.raises(ValueError, match=r"i.png: a 16-bit grey image with values 0..5000.*white="):
        read_image(path, 1)
    assert read_image(path, 1, white=4095)[..., 0].tolist() == [[0, 128, 255, 255]]
    with pytest.raises(ValueError, match="white must be positive"):
        read_image(path, white=0)


def test_float_images(tmp_path):
    Image.fromarray(np.zeros((2, 2), "float32")).save(tmp_path / "f.tif")
    with pytest.raises(ValueError, match="f.tif: holds floating-point"):
        read_image(tmp_path / "f.tif")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_animations_are_refused(tmp_path, kind):
    path = tmp_path / f"film.{kind.lower()}"
    frames = [Image.new("RGB", (8, 8), (40 * i, 0, 0)) for i in range(3)]
    frames[0].save(path, kind, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=rf"film.*a {kind} with 3 frames"):
        read_image(path)


def test_too_many_pixels(tmp_path, save, monkeypatch):
    path = save(tmp_path / "big.png", np.zeros((100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="big.png: too large.*tiles"):
        read_image(path)


def _bytes(array, kind):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


PIXELS = np.random.default_rng(0).integers(0, 3, (32, 48), dtype=np.uint8)


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"<!DOCTYPE html><html>404</html>", "holds text that starts with"),
        (_bytes(PIXELS, "PNG")[:200], "damaged"),
        (_bytes(PIXELS, "PNG")[:-20], "damaged"),
        (b"not an image at all", "damaged, or not an image"),
        (None, "cannot be read"),
    ],
)
def test_damaged_files_are_named(tmp_path, read, content, words):
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read(path)
    assert "broken.png" in str(caught.value)


def test_truncated_jpeg(tmp_path):
    path = tmp_path / "cut.jpg"
    path.write_bytes(_bytes(np.repeat(PIXELS * 80, 3, 0), "JPEG")[:900])
    with pytest.raises(ValueError, match="cut.jpg: damaged"):
        read_image(path)


def test_every_flipped_bit_of_a_png_is_seen(tmp_path):
    """A flip gives an error or, in what carries no pixel, the same ids: never others."""
    data = _bytes(PIXELS, "PNG")
    rng = np.random.default_rng(0)
    path = tmp_path / "flipped.png"
    caught = 0
    for place in rng.integers(0, len(data), 200):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            assert np.array_equal(read_mask(path), PIXELS)
        except ValueError as error:
            assert "flipped.png" in str(error)
            caught += 1
    assert caught > 190


def test_mutated_jpegs_raise_only_our_error(tmp_path):
    data = _bytes(np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8), "JPEG")
    rng = np.random.default_rng(0)
    path = tmp_path / "mutated.jpg"
    for _ in range(200):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 4):
            changed[place] = int(rng.integers(256))
        path.write_bytes(changed)
        try:
            assert read_image(path).shape[2] == 3
        except ValueError as error:
            assert "mutated.jpg" in str(error)


def test_list_images(tmp_path, save):
    for name in ("b.png", "a.JPG", "sub/c.tif"):
        save(tmp_path / name, PIXELS)
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no image")
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert found == ["a.JPG", "b.png", "sub/c.tif"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"0 images in .*empty \(looked for .*\*.png"):
        list_images(tmp_path / "empty")
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        list_images(tmp_path / "nowhere")


def test_values_of_masks_that_are_no_plain_ids(tmp_path, png, save):
    palette = np.array([[255, 255, 255], [0, 0, 0]])
    path = png(tmp_path / "a.png", np.array([[0, 1]]), 8, palette=palette)
    assert read_values(path).tolist() == [[0, 1]]
    assert read_values(path, expand=True).tolist() == [[[255] * 3, [0] * 3]]
    rgb = [[[1, 2, 3], [4, 5, 6]]]
    assert read_values(save(tmp_path / "b.png", rgb)).tolist() == rgb
    gif = save(tmp_path / "c.gif", [[0, 255]])
    assert read_values(gif, gif=True, expand=True).max(-1).tolist() == [[0, 255]]
    with pytest.raises(ValueError, match=r"c.gif: a GIF with 1 frame"):
        read_values(gif)
    with pytest.raises(ValueError, match=r"d.jpg: a JPEG"):
        read_values(save(tmp_path / "d.jpg", [[0, 255]]))
