"""DRIVE, DSB 2018, Cell Tracking Challenge, ISBI volumes: fields of view, instances, stacks."""

import numpy as np
import pytest
from PIL import Image

from keras_seg import data
from keras_seg.data.labels import CELLS, MEMBRANE, NUCLEI, VESSELS


@pytest.fixture
def retina(tmp_path, save):
    """One eye; files as the owners have them."""
    place = tmp_path / "training"
    save(place / "images" / "21_training.tif", np.full((2, 3, 3), 9))
    save(place / "1st_manual" / "21_manual1.gif", [[255, 0, 0], [255, 0, 255]])
    save(place / "mask" / "21_training_mask.gif", [[255, 255, 0], [255, 255, 255]])
    return tmp_path


def test_drive(retina, save):
    dataset = data.open_dataset(retina)
    assert dataset.layout == "drive" and dataset.table is VESSELS
    assert dataset.names == ["21_training"] and dataset[0].image.tolist() == [[[9] * 3] * 3] * 2
    assert dataset[0].label.tolist() == [[1, 0, 255], [1, 0, 1]]
    every = data.drive(retina, field_of_view=False)
    assert every[0].label.tolist() == [[1, 0, 0], [1, 0, 1]]
    for name in ("1st_manual/21_manual1", "mask/21_training_mask"):
        path = retina / "training" / f"{name}.gif"
        save(path.with_suffix(".png"), np.array(Image.open(path).convert("L")))
        path.unlink()
    assert data.open_dataset(retina)[0].label.tolist() == [[1, 0, 255], [1, 0, 1]]


def test_drive_reads_palette_gifs(retina):
    """White must be white whatever its index is."""
    image = Image.fromarray(np.array([[0, 1, 1], [0, 1, 0]], "uint8"), "P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(retina / "training/1st_manual/21_manual1.gif")
    label = data.drive(retina, field_of_view=False)[0].label
    assert label.tolist() == [[1, 0, 0], [1, 0, 1]]


def test_drive_faults(retina, save):
    save(retina / "training/images/22_training.tif", np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match=r"22_training.tif: has no partner of the number 22"):
        data.open_dataset(retina)
    (retina / "training/images/22_training.tif").unlink()
    (retina / "training/mask/21_training_mask.gif").unlink()
    with pytest.raises(ValueError, match="in mask; field_of_view=False reads without"):
        data.open_dataset(retina)
    save(retina / "training/mask/21_training_mask.png", [[0, 7, 255]] * 2)
    with pytest.raises(ValueError, match=r"mask.png: expected a black and white mask.*0, 7, 255"):
        data.open_dataset(retina)[0]
    frames = [Image.new("L", (3, 2), value) for value in (0, 255)]
    path = retina / "training/1st_manual/21_manual1.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"21_manual1.gif: a GIF with 2 frames"):
        data.drive(retina, field_of_view=False)[0]


@pytest.fixture
def nuclei(tmp_path, save):
    place = tmp_path / "stage1_train" / "abc"
    save(place / "images" / "abc.png", np.full((1, 5, 4), 255))
    save(place / "masks" / "a.png", [[255, 255, 0, 0, 0]])
    save(place / "masks" / "b.png", [[0, 255, 255, 0, 0]])
    save(place / "masks" / "c.png", [[0, 0, 0, 255, 0]])
    return tmp_path


def test_dsb2018(nuclei):
    for root in (nuclei, nuclei / "stage1_train"):
        dataset = data.open_dataset(root)
        assert dataset.layout == "dsb2018" and dataset.table is NUCLEI and len(dataset) == 1
    assert dataset[0].image.shape == (1, 5, 3) and dataset[0].label.tolist() == [[1, 1, 1, 1, 0]]
    assert dataset.read_extra(0, "instances").tolist() == [[1, 2, 2, 3, 0]]  # the later file wins


def test_dsb2018_faults(nuclei, save):
    place = nuclei / "stage1_train"
    save(place / "abc" / "masks" / "d.png", np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"d.png is 2x5 \(HxW\), the masks before it are 1x5"):
        data.open_dataset(nuclei)[0]
    (place / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty/masks: holds no mask"):
        data.open_dataset(nuclei)
    problems = []
    assert len(data.open_dataset(nuclei, problems=problems)) == 1 and len(problems) == 2


@pytest.fixture
def cells(tmp_path):
    """Sequence 01 of three frames with one annotation, whose ids need 16 bits; 02 with one."""
    for sequence, frames in (("01", 3), ("02", 1)):
        (tmp_path / sequence).mkdir()
        (tmp_path / f"{sequence}_GT" / "SEG").mkdir(parents=True)
        for frame in range(frames):
            Image.new("L", (3, 1), 7).save(tmp_path / sequence / f"t{frame:03d}.tif")
    ids = np.array([[0, 1, 300]], "uint16")
    Image.fromarray(ids).save(tmp_path / "01_GT/SEG/man_seg002.tif")
    Image.fromarray(ids).save(tmp_path / "02_GT/SEG/man_seg000.tif")
    return tmp_path


def test_cell_tracking(cells):
    dataset = data.open_dataset(cells, channels=1)
    assert dataset.layout == "cell_tracking" and dataset.table is CELLS
    assert dataset.names == ["01/t002", "02/t000"]
    assert dataset[0].label.tolist() == [[0, 1, 1]] and dataset[0].image.shape == (1, 3, 1)
    assert dataset.read_extra(0, "instances").tolist() == [[0, 1, 300]]
    assert "2 of 4 frames are annotated" in dataset.notes
    assert data.cell_tracking(cells, sequences=["02"]).names == ["02/t000"]
    with pytest.raises(ValueError, match="no sequence 03"):
        data.cell_tracking(cells, sequences=["03"])


def test_cell_tracking_faults(cells):
    (cells / "01/t002.tif").unlink()
    with pytest.raises(ValueError, match=r"01/t002.tif: is missing, though .*man_seg002.tif"):
        data.open_dataset(cells)
    path = cells / "01_GT/SEG/man_seg002.tif"
    path.rename(path.with_name("man_seg_002_001.tif"))
    with pytest.raises(ValueError, match="is a slice of a volume"):
        data.open_dataset(cells)


def _stack(path, pages):
    first, *rest = [Image.fromarray(np.asarray(page, "uint8")) for page in pages]
    first.save(path, "TIFF", save_all=True, append_images=rest)


def test_isbi_volumes(tmp_path):
    _stack(tmp_path / "train-volume.tif", [np.full((2, 5), 10), np.full((2, 5), 20)])
    _stack(tmp_path / "train-labels.tif", [np.full((2, 5), 255), [[255, 0, 255, 0, 255]] * 2])
    dataset = data.open_dataset(tmp_path, channels=1)
    assert dataset.layout == "isbi" and dataset.table is MEMBRANE and len(dataset) == 2
    assert dataset[1].image.tolist() == [[[20]] * 5] * 2
    assert dataset[1].label.tolist() == [[1, 0, 1, 0, 1]] * 2
    assert dataset.read_extra(1, "instances").tolist() == [[1, 0, 2, 0, 3]] * 2
    assert data.check_data(tmp_path, progress=False).read == 2


def test_isbi_volume_faults(tmp_path):
    _stack(tmp_path / "train-volume.tif", [np.zeros((2, 2))] * 2)
    _stack(tmp_path / "train-labels.tif", [np.full((2, 2), 128)])
    with pytest.raises(ValueError, match=r"volume.tif has 2 slices, but .*labels.tif has 1"):
        data.open_dataset(tmp_path)
    _stack(tmp_path / "train-labels.tif", [np.full((2, 2), 128)] * 2)
    with pytest.raises(ValueError, match=r"labels.tif, slice 1: holds 128; expected 0 or 255"):
        data.open_dataset(tmp_path)[1]
    (tmp_path / "train-volume.tif").write_bytes(b"II*\0")
    with pytest.raises(ValueError, match=r"train-volume.tif: damaged"):
        data.open_dataset(tmp_path)
