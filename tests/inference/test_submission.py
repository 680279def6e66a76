"""What is written for the evaluation servers, decoded again."""

import numpy as np
import pytest
from PIL import Image

from keras_seg.data import LabelTable, Sample
from keras_seg.inference import Predictor, write_submission

# The palette of the VOC development kit: background, aeroplane, bicycle and tv/monitor.
VOC_COLORS = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 20: (0, 64, 128)}


def by_red(classes, fake_runner):
    """A network that says class r for red r."""

    def network(images):
        return -np.abs(images[..., :1] - np.arange(classes)).astype("float32")

    return Predictor(fake_runner(network, classes=classes))


def write_image(path, red):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((*np.shape(red), 3), "uint8")
    image[..., 0] = red
    Image.fromarray(image).save(path)


def test_cityscapes(tmp_path, fake_runner):
    # Every train id, in stripes. Their label ids as the benchmark's table lists them.
    ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    red = np.tile(np.arange(2048) % 19, (1024, 1))
    write_image(tmp_path / "test" / "bonn" / "bonn_000003_000019_leftImg8bit.png", red)
    network = by_red(19, fake_runner)
    written = write_submission(
        network, tmp_path / "test", tmp_path / "out", "cityscapes", progress=False
    )
    assert written == [tmp_path / "out" / "bonn_000003_000019.png"]
    found = Image.open(written[0])
    assert (found.mode, found.size) == ("L", (2048, 1024))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(ids)[red])


def test_cityscapes_wants_its_names_and_sizes(tmp_path, fake_runner):
    network = by_red(19, fake_runner)
    write_image(tmp_path / "street.png", np.zeros((4, 4)))
    with pytest.raises(ValueError, match="street.png: the server of Cityscapes knows"):
        write_submission(network, tmp_path / "street.png", tmp_path / "out", "cityscapes")
    small = tmp_path / "bonn_000003_000019_leftImg8bit.png"
    write_image(small, np.zeros((512, 1024)))
    with pytest.raises(ValueError, match=r"bonn_000003.*original images, \(1024, 2048\)"):
        write_submission(network, [small], tmp_path / "out", "cityscapes", progress=False)
    assert not list((tmp_path / "out").glob("*.png"))


def test_voc(tmp_path, fake_runner):
    red = np.array([[0, 1, 2], [20, 1, 0]], "uint8")
    write_image(tmp_path / "JPEGImages" / "2008_000006.png", red)
    write_image(tmp_path / "JPEGImages" / "2008_000008.png", red[:, ::-1])
    written = write_submission(
        by_red(21, fake_runner), tmp_path / "JPEGImages", tmp_path / "out", "voc", progress=False
    )
    folder = tmp_path / "out" / "results" / "VOC2012" / "Segmentation" / "comp6_test_cls"
    assert written == [folder / "2008_000006.png", folder / "2008_000008.png"]
    found = Image.open(written[0])
    assert found.mode == "P"
    np.testing.assert_array_equal(np.asarray(found), red)
    colors = np.asarray(found.convert("RGB"))
    assert {
        int(i): tuple(map(int, c)) for i, c in zip(red.flat, colors.reshape(-1, 3), strict=True)
    } == VOC_COLORS


def test_ade20k_from_a_data_set_and_with_options(tmp_path, fake_runner):
    class Pictures(list):
        table = LabelTable.default(150)

    red = np.array([[0, 149, 7]] * 4, "uint8")
    image = np.zeros((4, 3, 3), "uint8")
    image[..., 0] = red
    pictures = Pictures([Sample(image, None, "ADE_test_00000001")])
    written = write_submission(
        by_red(150, fake_runner),
        pictures,
        tmp_path / "out",
        "ade20k",
        progress=False,
        mode="slide",
        window=8,
    )
    assert written == [tmp_path / "out" / "ADE_test_00000001.png"]
    found = Image.open(written[0])
    assert found.mode == "L"
    np.testing.assert_array_equal(np.asarray(found), red + 1)


@pytest.mark.parametrize(
    ("kind", "classes", "message"),
    [
        ("cityscapes", 20, "predicts 20 classes, but a submission to cityscapes needs 19"),
        ("voc", 20, "needs 21"),
        ("ade20k", 151, "needs 150"),
        ("coco", 21, "Unknown kind of submission 'coco'"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(tmp_path, fake_runner, kind, classes, message):
    with pytest.raises(ValueError, match=message):
        write_submission(by_red(classes, fake_runner), tmp_path, tmp_path / "out", kind)


def test_bad_input_is_refused_before_anything_is_written(tmp_path, fake_runner):
    network, images = by_red(21, fake_runner), tmp_path / "images"
    write_image(images / "a" / "one.png", np.zeros((2, 2)))
    write_image(images / "b" / "one.png", np.zeros((2, 2)))
    for arguments, options, message in [
        ((images, tmp_path / "out"), {}, "would both become"),
        ((images / "a", images / "a" / "out"), {}, "is in the folder of the images"),
        (([], tmp_path / "out"), {}, "there are 0"),
        ((images / "a", tmp_path / "out"), {"window": 8}, "belong to mode='slide'"),
        ((images / "none", tmp_path / "out"), {}, "none"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_submission(network, *arguments, "voc", progress=False, **options)
    assert not list(tmp_path.rglob("comp6*/*"))
