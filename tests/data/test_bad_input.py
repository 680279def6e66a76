"""Files as people really have them: check_data, reading and the batches agree on each.

The rows are those of the project's list of faults: what is sound in spite of its looks gives the
right ids everywhere; what is not is named everywhere, never skipped and never guessed.
"""

import io
import struct
import zlib

import keras
import numpy as np
import pytest
from PIL import Image

from keras_seg import data
from keras_seg.data.labels import VOC, read_classes, voc_colors

IDS = np.random.default_rng(0).integers(0, 2, (8, 6)).astype("uint8")
PICTURE = np.random.default_rng(1).integers(0, 256, (8, 6, 3)).astype("uint8")


@pytest.fixture
def pair(make_folder, save):
    """(root, image file, mask file) of a data set of three, whose second sample may be spoilt."""
    root = make_folder()
    save(root / "images" / "b.png", PICTURE)
    save(root / "masks" / "b.png", IDS)
    return root, root / "images" / "b.png", root / "masks" / "b.png"


def _batches(dataset):
    """The content of batch 1 (sample b) through NumPy, and through tf.data where it is there."""
    found = [data.NumpyBatches(dataset, 1)[1]]
    if keras.backend.backend() == "tensorflow":
        found.append([x.numpy() for x in list(data.tf_batches(dataset, 1))[1]])
    return found


def _sound(root, ids=IDS, image=None, **options):
    report = data.check_data(root, progress=False, classes=21, **options)
    assert report.ok and report.read == 3, report
    dataset = data.open_dataset(root, classes=21, **options)
    assert dataset[1].label.tolist() == ids.tolist()
    for images, labels in _batches(dataset):
        assert labels[0].tolist() == ids.tolist()
        assert image is None or images[0].tolist() == image.tolist()


def _bad(root, file, words, **options):
    """`file` is named by check_data, by reading, and by both pipelines."""
    report = data.check_data(root, progress=False, classes=21, **options)
    assert [p.file for p in report.errors] == [str(file)] and report.read == 2
    assert words in report.errors[0].message
    dataset = data.open_dataset(root, classes=21, **options)
    with pytest.raises(ValueError, match=file.name) as caught:
        dataset[1]
    assert words in str(caught.value) and str(file) in str(caught.value)
    with pytest.raises(ValueError, match=file.name):
        data.NumpyBatches(dataset, 1, workers=1)[1]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            list(data.tf_batches(dataset, 1))
        assert words in str(caught.value) and str(file) in str(caught.value)


# Row 34: palettes, and row 35: 16 bits


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palette_masks(pair, png, depth):
    root, _, mask = pair
    png(mask, IDS, depth, palette=voc_colors(256))
    _sound(root)


@pytest.mark.parametrize("depth", [1, 2, 4, 16])
def test_grey_masks_of_other_depths(pair, png, depth):
    root, _, mask = pair
    png(mask, IDS, depth)
    _sound(root)


def test_16_bit_masks_with_large_ids(pair, png):
    root, _, mask = pair
    png(mask, IDS.astype(int) * 300, 16)
    _bad(root, mask, "ids 300 are outside the table")


# Row 36: JPEG masks


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_jpeg_masks_under_any_name(pair, suffix):
    root, _, mask = pair
    mask.unlink()
    path = mask.with_suffix(suffix)
    Image.fromarray(IDS).save(path, "JPEG", quality=100)
    _bad(root, path, "a JPEG")


# Row 37: black and white


def test_black_and_white_masks(pair, save):
    root, _, mask = pair
    for path in mask.parent.iterdir():
        save(path, IDS * 255)
    report = data.check_data(root, progress=False, classes=["no", "yes"])
    assert "255 is a class here, read it as id 1" in str(report) and report.never_seen == ["yes"]
    _sound(root, mask_values={0: 0, 255: 1})
    with pytest.raises(ValueError, match="only the ids 0, 255.*mask_values="):
        data.open_dataset(root)


# Row 38: EXIF


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photos(pair, orientation):
    """The mask must fit the upright photo; one that fits the stored pixels is told so."""
    root, image, mask = pair
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PICTURE).save(image, exif=exif)
    upright = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.transpose(1, 0, 2),
        6: np.rot90(PICTURE, -1),
        7: PICTURE.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(PICTURE, 1),
    }[orientation]
    if orientation > 4:
        _bad(root, image, "carries an EXIF rotation")
        Image.fromarray(IDS.T).save(mask)
    _sound(root, IDS.T if orientation > 4 else IDS, upright)


# Row 39: other kinds of pictures


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1"])
def test_other_modes_become_rgb(pair, mode):
    root, image, _ = pair
    picture = Image.fromarray(PICTURE).convert(mode)
    if mode == "CMYK":
        image.unlink()
        image = image.with_suffix(".tif")
    picture.save(image)
    if mode in ("LA", "RGBA"):
        picture = picture.convert(mode[:-1])  # alpha is dropped, not blended
    _sound(root, image=np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("frames", [1, 3])
def test_gifs(pair, frames):
    root, image, _ = pair
    image.unlink()
    path = image.with_suffix(".gif")
    pictures = [Image.fromarray(PICTURE // (i + 1)) for i in range(frames)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    _bad(root, path, f"a GIF with {frames} frame")


# Row 40: damage


def _flipped(content):
    changed = bytearray(content)
    changed[len(content) // 2] ^= 16
    return bytes(changed)


@pytest.mark.parametrize("kind", ["image", "mask"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content[: len(content) // 2], "damaged"),
        (_flipped, "damaged"),
        (lambda content: b"", "the file is empty"),
        (lambda content: b"<!DOCTYPE html><p>Not found", "holds text"),
        (lambda content: bytes(500), "damaged, or not an image"),
    ],
)
def test_damaged_files(pair, kind, change, words):
    root, image, mask = pair
    path = image if kind == "image" else mask
    path.write_bytes(change(path.read_bytes()))
    _bad(root, path, words)


# Row 41: too large


def _huge_png(side):
    """A sound PNG header of side x side, and no pixels that could be read in time."""

    def chunk(kind, body):
        code = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + code

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(bytes(1000))),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_30000_by_30000(pair, kind):
    """Refused before any memory is asked for; the limit is Pillow's, and can be raised."""
    import resource

    root, image, mask = pair
    path = image if kind == "image" else mask
    path.write_bytes(_huge_png(30000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = data.check_data(root, progress=False, classes=21)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KB of 2.7e6
    assert "MAX_IMAGE_PIXELS" in str(report)
    _bad(root, path, "too large")


# Row 42: sizes, and row 46: mixed sizes in a batch


@pytest.mark.parametrize("shape", [(8, 7), (6, 8), (4, 3)])
def test_image_and_mask_of_different_sizes(pair, save, shape):
    root, image, mask = pair
    save(mask, np.zeros(shape))
    words = f"is 8x6 (HxW), but its mask {mask} is {shape[0]}x{shape[1]}"
    _bad(root, image, words)


def test_mixed_sizes(pair, save):
    root, image, mask = pair
    save(image, np.zeros((9, 6, 3)))
    save(mask, np.zeros((9, 6)))
    report = data.check_data(root, progress=False)
    assert report.ok and "batches need a crop or size=" in str(report)
    dataset = data.open_dataset(root)
    with pytest.raises(ValueError, match=r"8x6 \(c\), 9x6 \(b\).*batch_size=1"):
        data.NumpyBatches(dataset, 3)[0]
    cropped = data.make_batches(dataset, 3, augment=data.Augment(crop=(8, 6)))
    images, _ = next(iter(cropped))
    assert images.shape == (3, 8, 6, 3)


# Row 43: partners


def test_partners(make_folder, save):
    """What does not pair is all listed, by name, whatever the order; nothing is misaligned."""
    root = make_folder(["a", "B", "c", "d", "e"])
    images, masks = root / "images", root / "masks"
    (masks / "B.png").rename(masks / "b.png")
    (masks / "c.png").unlink()
    (images / "d.png").unlink()
    save(images / "E.PNG", PICTURE)
    expected = {
        images / "B.png": "has no mask of the same name",
        masks / "b.png": "has no image of the same name",
        images / "c.png": "has no mask",
        masks / "d.png": "has no image",
        images / "e.png": "has the same name as E.PNG but for suffix or case",
    }
    report = data.check_data(root, progress=False, classes=3)
    found = {p.file: p.message for p in report.errors}
    for path, words in expected.items():
        assert words in found[str(path)]
    assert "B.png differs in upper and lower case" in found[str(masks / "b.png")]
    with pytest.raises(ValueError, match="not in order") as caught:
        data.open_dataset(root, classes=3)
    assert all(str(path) in str(caught.value) for path in expected)


# Row 44: ids that a resize has made up


def test_blended_masks_outside_the_table(pair):
    root, _, mask = pair
    drawn = np.kron(np.array([[0, 3], [18, 20]], "uint8"), np.ones((20, 20), "uint8"))
    Image.fromarray(drawn).resize((6, 8), Image.Resampling.BILINEAR).save(mask)
    report = data.check_data(root, progress=False, classes=4)
    assert [p.file for p in report.errors] == [str(mask)]
    assert "outside the table" in report.errors[0].message


# Row 45: nothing


@pytest.mark.parametrize("folders", [[], ["images"], ["images", "masks"]])
def test_empty_data_sets(tmp_path, folders):
    for name in folders:
        (tmp_path / name).mkdir()
    report = data.check_data(tmp_path, progress=False)
    assert not report.ok and str(tmp_path) in str(report)
    with pytest.raises(ValueError, match=str(tmp_path)) as caught:
        data.open_dataset(tmp_path)
    if len(folders) == 2:
        assert "0 images in" in str(caught.value) and "*.png" in str(caught.value)


def test_empty_parts_make_no_batches(pair):
    dataset = data.open_dataset(pair[0]).subset([])
    with pytest.raises(ValueError, match="0 samples make no batch"):
        data.make_batches(dataset, 1)
    assert "0 samples" in str(data.check_data(dataset, progress=False))


# Row 47: the last, smaller batch (two replicas: test_batches.py)


@pytest.mark.parametrize(("option", "counts"), [("drop_remainder", [2]), ("pad_batch", [2, 2])])
def test_partial_batches(pair, option, counts):
    batches = data.make_batches(data.open_dataset(pair[0]), 2, **{option: True})
    found = [keras.ops.convert_to_numpy(labels) for _, labels in batches]
    assert [len(labels) for labels in found] == counts
    if option == "pad_batch":
        assert (found[1][1] == 255).all() and (found[1][0] != 255).any()


# Bytes changed at random


def _mutants(content, count=200):
    rng = np.random.default_rng(0)
    for number in range(count):
        changed = bytearray(content)
        if number % 4 == 0:
            changed = changed[: int(rng.integers(len(content)))]
        for place in rng.integers(0, max(1, len(changed)), 3) if changed else ():
            changed[place] = int(rng.integers(256))
        yield bytes(changed)


def _encoded(array, kind):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged TIFF tags
@pytest.mark.parametrize("kind", ["TIFF", "BMP", "WEBP", "PPM"])
def test_mutated_images_and_masks(tmp_path, kind, monkeypatch):
    """An error names the file; what is no error has the right form. (JPEG, PNG: test_read.py)"""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # sizes are mutated as well
    path = tmp_path / "mutant.png"
    for content in _mutants(_encoded(PICTURE, kind)):
        path.write_bytes(content)
        try:
            assert data.read_image(path).shape[2] == 3
        except ValueError as error:
            assert "mutant.png" in str(error)
    for content in _mutants(_encoded(IDS, kind)):
        path.write_bytes(content)
        try:
            assert data.read_mask(path, VOC).dtype == np.uint8
        except ValueError as error:
            assert "mutant.png" in str(error)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "# ours\nsky 1 2 3\nhouse 4 5 6\nignore 0 0 0\n"),
        ("classes.json", '{"names": ["a", "b"], "mask_values": {"255": 1}, "ignore_label": 255}'),
        ("classes.json", '["a", "b"]'),
    ],
)
def test_mutated_class_tables(tmp_path, name, content):
    path = tmp_path / name
    for changed in _mutants(content.encode()):
        path.write_bytes(changed)
        try:
            table, _, _ = read_classes(path)
            assert table.num_classes > 0
        except ValueError as error:
            assert name in str(error)
