"""Overlays to the exact integer, palette PNGs that keep their ids, and the sheet of examples."""

import numpy as np
import pytest
from PIL import Image

from keras_seg.data import LabelTable, read_image, read_mask
from keras_seg.inference import contact_sheet, overlay, save_label, save_overlay

TABLE = LabelTable(["sky", "road", "car"], [(10, 20, 30), (255, 0, 101), (0, 255, 0)])


def test_overlay_is_the_rounded_mixture_and_keeps_ignored_pixels():
    image = np.array([[[0, 0, 0], [255, 255, 255], [100, 101, 102], [7, 8, 9]]], "uint8")
    label = np.array([[0, 1, 1, 255]], "uint8")
    mixed = overlay(image, label, TABLE)
    assert mixed.dtype == np.uint8
    # (255 + 0) / 2 = 127.5 and (101 + 0) / 2 = 50.5: halves go to the even number.
    assert mixed.tolist() == [[[5, 10, 15], [255, 128, 178], [178, 50, 102], [7, 8, 9]]]
    assert overlay(image, label, TABLE, alpha=0).tolist() == image.tolist()
    opaque = overlay(image, label, TABLE, alpha=1)
    assert opaque.tolist() == [[[10, 20, 30], [255, 0, 101], [255, 0, 101], [7, 8, 9]]]


def test_overlay_is_the_formula_at_every_pixel():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (40, 30, 3)).astype("uint8")
    label = generator.integers(0, 3, (40, 30))
    expected = np.rint((1 - 0.3) * image + 0.3 * TABLE.palette()[label])
    np.testing.assert_array_equal(overlay(image, label, TABLE, alpha=0.3), expected)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 2), (4, 5, 4)])
def test_images_of_other_channels_are_drawn_in_rgb(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    ignored = overlay(image, np.full((4, 5), 255), TABLE)
    channels = image.reshape(4, 5, -1)
    rgb = channels[..., :3] if channels.shape[2] == 4 else channels[..., [0, 0, 0]]
    np.testing.assert_array_equal(ignored, rgb)


@pytest.mark.parametrize(
    ("image", "label", "alpha", "message"),
    [
        (np.zeros((4, 5, 3), "uint8"), np.zeros((4, 4), int), 0.5, "same height and width"),
        (np.zeros((4, 5, 3), "uint8"), np.full((4, 5), 3), 0.5, r"ids \[3\]"),
        (np.zeros((4, 5, 3), "uint8"), np.full((4, 5), -1), 0.5, r"ids \[-1\]"),
        (np.zeros((4, 5, 3), "uint8"), np.zeros((4, 5)), 0.5, "integers"),
        (np.zeros((4, 5, 3), "uint8"), np.zeros((4, 5), int), 1.5, "alpha"),
        (np.zeros((4, 5, 3)), np.zeros((4, 5), int), 0.5, "uint8"),
    ],
)
def test_bad_overlays_are_refused(image, label, alpha, message):
    with pytest.raises(ValueError, match=message):
        overlay(image, label, TABLE, alpha)


def test_a_saved_label_keeps_its_ids_and_shows_its_colours(tmp_path):
    label = np.array([[0, 1], [2, 255]], "int64")
    save_label(tmp_path / "label.png", label, TABLE)
    with Image.open(tmp_path / "label.png") as file:
        assert file.mode == "P"
        np.testing.assert_array_equal(np.asarray(file), label)
        colours = np.asarray(file.convert("RGB"))
    assert colours.tolist()[0] == [[10, 20, 30], [255, 0, 101]]
    np.testing.assert_array_equal(read_mask(tmp_path / "label.png", TABLE), label)


def test_what_cannot_be_saved_leaves_the_old_file(tmp_path):
    path = tmp_path / "label.png"
    save_label(path, np.zeros((2, 2), int), TABLE)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"ids \[9\]"):
        save_label(path, np.full((2, 2), 9), TABLE)
    with pytest.raises(ValueError, match="written as .png"):
        save_label(tmp_path / "label.jpg", np.zeros((2, 2), int), TABLE)
    with pytest.raises(ValueError, match="must end in"):
        save_overlay(tmp_path / "a.txt", np.zeros((2, 2, 3), "uint8"), np.zeros((2, 2), int), TABLE)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["label.png"]


def test_save_overlay(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype("uint8")
    label = np.ones((6, 7), "uint8")
    save_overlay(tmp_path / "overlay.png", image, label, TABLE, alpha=0.25)
    np.testing.assert_array_equal(
        read_image(tmp_path / "overlay.png"), overlay(image, label, TABLE, 0.25)
    )


def colours_of(sheet):
    return {tuple(c) for c in np.unique(np.asarray(sheet).reshape(-1, 3), axis=0).tolist()}


def test_a_sheet_shows_images_labels_and_predictions_with_a_legend():
    images = [np.full((32, 64, 3), 200, "uint8"), np.full((100, 40, 1), 90, "uint8")]
    labels = [np.zeros((32, 64), "uint8"), np.full((100, 40), 255, "uint8")]
    predictions = [np.ones((32, 64), "uint8"), np.ones((100, 40), "uint8")]
    sheet = contact_sheet(images, labels, predictions, TABLE, side=64)
    assert sheet.mode == "RGB"
    pixels = np.asarray(sheet)
    for image, label in zip(images, (labels, predictions), strict=True):
        assert image.dtype == np.uint8 and len(label) == 2
    # The first row: the image, then each map over it, 4 pixels apart.
    row = pixels[30, 4 + 32 :: 68][:3]
    assert row.tolist() == [
        [200] * 3,
        overlay(images[0], labels[0], TABLE)[0, 0].tolist(),
        overlay(images[0], predictions[0], TABLE)[0, 0].tolist(),
    ]
    # The legend has the classes that occur, in full colour, and no others.
    assert {(10, 20, 30), (255, 0, 101)} <= colours_of(sheet)
    assert (0, 255, 0) not in colours_of(sheet)


def test_a_sheet_without_labels_is_narrower_and_small_images_are_enlarged():
    images, maps = [np.zeros((8, 8, 3), "uint8")], [np.ones((8, 8), "uint8")]
    with_labels = contact_sheet(images, maps, maps, TABLE, side=70)
    without = contact_sheet(images, None, maps, TABLE, side=70)
    assert with_labels.width - without.width == 64 + 4  # 8 pixels, 8 times as large, and a gap
    assert with_labels.height == without.height


def test_bad_sheets_are_refused():
    image, label = np.zeros((8, 8, 3), "uint8"), np.zeros((8, 8), "uint8")
    with pytest.raises(ValueError, match="as many labels and predictions"):
        contact_sheet([], [], [], TABLE)
    with pytest.raises(ValueError, match="as many labels and predictions"):
        contact_sheet([image], [label, label], [label], TABLE)
