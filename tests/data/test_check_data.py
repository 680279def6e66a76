"""check_data: finds every bad file, never stops at the first, and says what the data holds."""

import numpy as np
import pytest
from PIL import Image

from keras_seg import data
from keras_seg.data.labels import VOC, LabelTable


def _check(root, **options):
    return data.check_data(root, progress=False, **options)


def _messages(report, name):
    return [p.message for p in report.problems if p.file.endswith(name)]


def test_clean_data(make_folder):
    report = _check(make_folder())
    assert report.ok and report.problems == [] or report.warnings == report.problems
    assert report.read == 3 and report.sizes == {(8, 6): 3}
    assert report.histogram.tolist() == [48, 48, 48] and report.ignored == 0
    text = str(report)
    assert "8x6, all 3 images" in text and "33.333 %" in text and "0 errors" in text


def test_every_bad_file_is_found(make_folder, save):
    """Ten files are wrong in ten ways; the report names each, and the sound ones are counted."""
    names = [f"n{i}" for i in range(10)]
    root = make_folder(names)
    images, masks = root / "images", root / "masks"
    content = (images / "n0.png").read_bytes()
    (images / "n0.png").write_bytes(content[:-20])
    (images / "n1.png").write_bytes(b"")
    (images / "n2.png").write_bytes(b"<html>")
    flipped = bytearray((masks / "n3.png").read_bytes())
    flipped[len(flipped) // 2] ^= 16
    (masks / "n3.png").write_bytes(flipped)
    Image.fromarray(np.zeros((8, 6), "uint8")).save(masks / "n4.png", "JPEG")
    save(masks / "n5.png", np.full((8, 6), 7))
    save(masks / "n6.png", np.zeros((8, 6, 3)))
    save(masks / "n7.png", np.zeros((8, 7)))
    (masks / "n8.png").unlink()
    save(masks / "extra.png", np.zeros((8, 6)))
    report = _check(root, classes=3)
    found = {p.file.removeprefix(f"{root}/"): p.message for p in report.errors}
    assert not report.ok and len(report.errors) == 10
    expected = {
        "images/n0.png": "damaged",
        "images/n1.png": "empty",
        "images/n2.png": "holds text",
        "masks/n3.png": "damaged",
        "masks/n4.png": "JPEG",
        "masks/n5.png": "ids 7 are outside the table: expected 0..2",
        "masks/n6.png": "RGB mask",
        "images/n7.png": "must have the same size",
        "images/n8.png": "has no mask",
        "masks/extra.png": "has no image",
    }
    assert found.keys() == expected.keys()
    for file, words in expected.items():
        assert words in found[file]
        assert file in str(report)
    assert report.read == 1 and report.histogram.sum() == 48


def test_damaged_mask_is_named_once_without_a_table(make_folder):
    root = make_folder()
    (root / "masks" / "b.png").write_bytes(b"GIF89a")
    report = _check(root)
    assert len(report.errors) == 1 and len(_messages(report, "masks/b.png")) == 1
    assert report.read == 2


def test_masks_that_say_no_class_are_all_named(tmp_path, save):
    for name in "ab":
        save(tmp_path / "images" / f"{name}.png", np.zeros((4, 4, 3)))
        save(tmp_path / "masks" / f"{name}.png", np.zeros((4, 4, 3)))
    report = _check(tmp_path)
    assert _messages(report, "a.png") and _messages(report, "b.png") and not report.ok


def test_damage_is_listed_where_masks_do_not_say_the_classes(tmp_path, save):
    for name in "abc":
        save(tmp_path / "images" / f"{name}.png", np.zeros((4, 4, 3)))
        save(tmp_path / "masks" / f"{name}.png", np.full((4, 4), 255 if name == "a" else 0))
    (tmp_path / "images" / "b.png").write_bytes(b"")
    save(tmp_path / "images" / "c.png", np.zeros((4, 5, 3)))
    report = _check(tmp_path)
    assert any("The masks hold only the ids 0, 255" in p.message for p in report.errors)
    assert _messages(report, "images/b.png") and _messages(report, "images/c.png")
    assert len(report.errors) == 3


def test_binary_masks(tmp_path, save):
    save(tmp_path / "images" / "a.png", np.zeros((2, 2, 3)))
    save(tmp_path / "masks" / "a.png", [[0, 255], [255, 255]])
    report = _check(tmp_path, classes=["no", "yes"])
    assert report.ok and report.ignored == 3 and report.never_seen == ["yes"]
    assert any("only 'no' is ever seen, and 75.0 %" in p.message for p in report.warnings)
    assert "mask_values={0: 0, 255: 1}" in str(report)
    assert not _check(tmp_path).ok
    mapped = _check(tmp_path, classes=["no", "yes"], mask_values={0: 0, 255: 1})
    assert mapped.problems == [] and mapped.histogram.tolist() == [1, 3]


def test_shares(tmp_path, save):
    ids = np.full((50, 50), 255)
    ids[:20], ids[0, 0] = 0, 1
    save(tmp_path / "images" / "a.png", np.zeros((50, 50, 3)))
    save(tmp_path / "masks" / "a.png", ids)
    report = _check(tmp_path, classes=["sky", "bird", "plane"])
    texts = [p.message for p in report.warnings]
    assert texts == [
        "60.0 % of all pixels are ignored",
        "classes never seen: plane",
        "rare classes, below 0.1 % of the pixels: bird (0.040 %)",
    ]
    save(tmp_path / "images" / "b.png", np.ones((4, 4, 3)))
    save(tmp_path / "masks" / "b.png", np.full((4, 4), 255))
    report = _check(tmp_path, classes=["sky", "bird", "plane"])
    assert _messages(report, "masks/b.png") == ["every pixel is ignored"]
    assert "2 different, heights 4..50, widths 4..50" in str(report)


def test_exif_is_mentioned(make_folder):
    root = make_folder()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(root / "images" / "a.png", exif=exif)
    report = _check(root)
    assert report.ok and "EXIF orientation 6 is applied" in _messages(report, "a.png")[0]


def test_the_same_picture_twice(tmp_path, save):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (4, 4, 3))
    for split, name in (("train", "a"), ("val", "b")):
        save(tmp_path / split / "images" / f"{name}.png", picture)
        save(tmp_path / split / "masks" / f"{name}.png", np.eye(4))
    report = _check(tmp_path)
    assert report.splits == {"train": 1, "val": 1} and report.read == 2
    (message,) = _messages(report, "b.png")
    assert "the same picture as" in message and "which is in split 'train'" in message
    assert _check(tmp_path, split="val").problems == []


def test_palette_that_contradicts_the_table(tmp_path, save, png):
    """What programs that shrink PNGs make of a colour-coded mask: indices in any order."""
    save(tmp_path / "images" / "a.png", np.zeros((1, 3, 3)))
    (tmp_path / "masks").mkdir()
    swapped = VOC.palette()[[0, 2, 1, 3]]
    path = png(tmp_path / "masks" / "a.png", [[0, 1, 2]], 2, palette=swapped)
    report = _check(tmp_path, classes=VOC)
    assert (
        "id 1 (aeroplane) has the colour of id 2 (bicycle)" in _messages(report, "masks/a.png")[0]
    )
    png(path, [[0, 1, 2]], 2, palette=VOC.palette())
    assert not _messages(_check(tmp_path, classes=VOC), "masks/a.png")


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_no_data_set_is_an_error_in_the_report(tmp_path, name):
    (tmp_path / "empty").mkdir()
    report = _check(tmp_path / name)
    assert not report.ok and name in str(report)


def test_a_data_set_as_argument():
    dataset = data.shapes(4, size=(32, 32), border=1)
    report = _check(dataset)
    assert report.ok and report.read == 4 and report.title == dataset.description
    assert report.histogram.sum() + report.ignored == 4 * 32 * 32


def test_progress_goes_to_stderr(make_folder, capsys):
    data.check_data(make_folder(), classes=LabelTable.default(3))
    captured = capsys.readouterr()
    assert captured.out == ""
    *_, last = captured.err.splitlines()
    assert last.startswith("reading [") and "] 3/3," in last


class Source:
    """Arrays in memory; what is an exception is raised."""

    image_paths = mask_paths = None

    def __init__(self, images, labels, **extras):
        self.images, self.labels, self.arrays = images, labels, extras
        self.extras = tuple(extras)

    def image(self, index):
        return self._get(self.images, index)

    def label(self, index):
        return self._get(self.labels, index)

    def both(self, index):
        return self.image(index), self.label(index)

    def extra(self, index, name):
        return self._get(self.arrays[name], index)

    def _get(self, arrays, index):
        if isinstance(arrays[index], Exception):
            raise arrays[index]
        return arrays[index]


def _dataset(source, names, **options):
    return data.SegmentationDataset(source, LabelTable(["a", "b"]), names, **options)


IMAGES = [np.full((4, 6, 3), i, "uint8") for i in range(4)]
ZEROS = np.zeros((4, 6), "uint8")


def test_a_file_of_labels_and_instances_is_named_once(tmp_path, save, png):
    for name in "ab":
        save(tmp_path / "images" / f"{name}.png", np.zeros((4, 4, 3)))
        (tmp_path / "instances").mkdir(exist_ok=True)
        png(tmp_path / "instances" / f"{name}.png", np.eye(4, dtype=int), 16)
    (tmp_path / "instances" / "a.png").write_bytes(b"")
    report = _check(tmp_path)
    assert [p.message for p in report.errors] == ["the file is empty (0 bytes)."]
    assert report.errors[0].file.endswith("instances/a.png") and report.bad == {("", "a")}


def test_extras_are_checked():
    deep = np.ones((4, 6), "float32")
    parts = [ZEROS, ZEROS + 5, ZEROS + 255, ZEROS + 1]
    depth = [deep, deep, deep[:, 1:], ValueError("d.png: damaged")]
    dataset = _dataset(
        Source(IMAGES, [ZEROS] * 4, depth=depth, parts=parts),
        list("uvwx"),
        extra_tables={"parts": LabelTable(["p", "q"])},
    )
    report = _check(dataset)
    assert {p.file: p.message for p in report.errors} == {
        "v (parts)": "ids 5 are outside the table: expected 0..1, or 255 for ignored pixels",
        "w (depth)": "depth is 4x5, but the image is 4x6 (HxW)",
        "x (depth)": "d.png: damaged",
    }


def test_labels_that_do_not_exclude_each_other():
    both = np.ones((4, 6, 2), "uint8")
    first = both * np.array([1, 0], "uint8")
    ignored = both * 255
    strange = both * np.array([1, 7], "uint8")
    source = Source(IMAGES, [both, first, ignored, strange])
    report = _check(_dataset(source, list("uvwx"), multilabel=True))
    assert report.histogram.tolist() == [48, 24] and report.ignored == 24 and report.read == 3
    assert "66.667 %" in str(report) and "33.333 %" in str(report)
    assert _messages(report, "w") == ["every pixel is ignored"]
    assert [p.message for p in report.errors] == ["values [7] where only 0, 1 and 255 are known"]
    wide = Source(IMAGES, [np.ones((4, 6, 3), "uint8")] * 4)
    report = _check(_dataset(wide, list("uvwx"), multilabel=True))
    assert "shape (4, 6, 3), not (H, W, 2)" in str(report) and not report.ok


def test_labels_that_come_from_no_picture(tmp_path, save):
    """Masks in .mat files or polygons: there is no palette to look at, and no file to open."""
    for images, masks in ((True, True), (True, False), (False, True)):
        source = Source(IMAGES[:2], [ZEROS, ZEROS[1:]])
        if images:
            source.image_paths = [save(tmp_path / f"{n}.png", IMAGES[0]) for n in "uv"]
        if masks:
            source.mask_paths = [tmp_path / f"{n}.mat" for n in "uv"]
            for path in source.mask_paths:
                path.write_bytes(b"MATLAB 5.0")
        report = _check(_dataset(source, ["u", "v"]))
        (error,) = report.errors
        assert error.file == (str(source.image_paths[1]) if images else "v")
        assert "4x6 (HxW), but its mask" in error.message and "is 3x6" in error.message
        assert report.read == 1


def test_notes_are_warnings():
    report = _check(_dataset(Source(IMAGES, [ZEROS] * 4), list("uvwx"), notes=["only four"]))
    assert report.ok and "only four" in [p.message for p in report.warnings]


@pytest.mark.parametrize("size", [(96, 72), (150, 130), (40, 30)])
def test_masks_resized_with_interpolation(tmp_path, save, size):
    """Every invented id is one of the classes, so that only the borders give it away."""
    ids = np.zeros((75, 65), "uint8")
    ids[20:50, 10:40], ids[30:70, 30:60], ids[:10] = 18, 9, 4
    mask = Image.fromarray(ids)
    for name, filter_ in (("near", "NEAREST"), ("blend", "BILINEAR"), ("cubic", "BICUBIC")):
        save(tmp_path / "images" / f"{name}.png", np.zeros((*size, 3)) + len(name))
        resized = mask.resize(size[::-1], Image.Resampling[filter_])
        save(tmp_path / "masks" / f"{name}.png", resized)
    report = _check(tmp_path, classes=21)
    for name in ("blend", "cubic"):
        assert any("looks resized" in text for text in _messages(report, f"masks/{name}.png"))
    assert not _messages(report, "masks/near.png")


def test_good_samples_are_kept_up_to_a_limit(make_folder):
    root = make_folder([f"n{i}" for i in range(10)])
    (root / "masks" / "n3.png").write_bytes(b"")
    report = _check(root, classes=3)
    dataset = data.open_dataset(root, classes=3)
    good = report.good(dataset, limit=0.1)
    assert good.names == [name for name in dataset.names if name != "n3"]
    assert len(list(good)) == 9
    with pytest.raises(ValueError, match="1 of 10 samples are bad, more than limit=0.05"):
        report.good(dataset)
