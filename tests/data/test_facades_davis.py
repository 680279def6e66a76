"""CMP Facades and DAVIS: palettes, parts, sequences, objects, what is refused."""

import numpy as np
import pytest
from PIL import Image

from keras_seg import data
from keras_seg.data.labels import DAVIS, FACADES, voc_colors


@pytest.fixture
def facade(tmp_path, png, save):
    """facade(part, name, ids): one facade; its palette is none of ours."""

    def write(part, name, ids):
        ids = np.asarray(ids)
        save(tmp_path / part / f"{name}.jpg", np.zeros((*ids.shape, 3)))
        palette = np.random.default_rng(0).integers(0, 256, (256, 3))
        png(tmp_path / part / f"{name}.png", ids, 8, palette=palette)
        return tmp_path

    return write


def test_facades_read_indices(facade):
    root = facade("base", "cmp_b0001", [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]])
    facade("extended", "cmp_x0001", [[12, 1, 1, 1, 1, 0]])
    dataset = data.open_dataset(root)
    assert dataset.layout == "facades" and dataset.table is FACADES
    assert dataset.table.names[2] == "window" and dataset.table.num_classes == 12
    assert dataset.names == ["base/cmp_b0001", "extended/cmp_x0001"]
    assert dataset[0].label.tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert dataset[1].label.tolist() == [[11, 0, 0, 0, 0, 255]]
    assert data.list_splits(root) == ["base", "extended"]
    assert data.open_dataset(root, "extended").names == ["extended/cmp_x0001"]
    assert data.open_dataset(root / "base").names == ["base/cmp_b0001"]
    assert any("published with 606" in note for note in dataset.notes)


def test_facades_faults(facade, tmp_path):
    root = facade("base", "cmp_b0001", [[1, 13]])
    with pytest.raises(ValueError, match=r"cmp_b0001.png: ids 13 are outside the table"):
        data.open_dataset(root)[0]
    (root / "base" / "cmp_b0002.jpg").write_bytes((root / "base" / "cmp_b0001.jpg").read_bytes())
    with pytest.raises(ValueError, match=r"cmp_b0002.png: is missing"):
        data.open_dataset(root)
    problems = []
    assert len(data.open_dataset(root, problems=problems)) == 1 and len(problems) == 1
    with pytest.raises(ValueError, match="no split 'val'. Found: base"):
        data.open_dataset(root, "val")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"0 samples: no cmp_\*.jpg"):
        data.facades(tmp_path / "empty")


def test_pix2pix_facades_are_explained(tmp_path, save):
    for split in ("train", "val"):
        save(tmp_path / split / "1.jpg", np.zeros((256, 512, 3)))
    with pytest.raises(ValueError, match="pix2pix.*labels are blurred colours.*CMP data base"):
        data.open_dataset(tmp_path)


@pytest.fixture
def video(tmp_path, png, save):
    """Two sequences of two frames; an object keeps its id; 255 is void."""
    maps = {"bear/00000": [[0, 1, 255]], "bear/00001": [[0, 1, 1]], "cats/00000": [[2, 1, 0]]}
    maps["cats/00001"] = [[2, 0, 0]]
    for name, ids in maps.items():
        save(tmp_path / "DAVIS/JPEGImages/480p" / f"{name}.jpg", np.zeros((1, 3, 3)))
        path = tmp_path / "DAVIS/Annotations/480p" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        png(path, np.array(ids), 8, palette=voc_colors(256))
    for year, lists in (("2017", {"train": "cats\nbear\n"}), ("2016", {"val": "bear\n"})):
        place = tmp_path / "DAVIS/ImageSets" / year
        place.mkdir(parents=True)
        for split, text in lists.items():
            (place / f"{split}.txt").write_text(text)
    return tmp_path


def test_davis(video):
    for root in (video, video / "DAVIS"):
        dataset = data.open_dataset(root)
        assert dataset.layout == "davis" and dataset.table is DAVIS
        assert dataset.names == ["cats/00000", "cats/00001", "bear/00000", "bear/00001"]
    assert dataset[0].label.tolist() == [[1, 1, 0]]
    assert dataset.read_extra(0, "instances").tolist() == [[2, 1, 0]]
    assert dataset[2].label.tolist() == [[0, 1, 255]]
    assert dataset.read_extra(2, "instances").tolist() == [[0, 1, 0]]
    assert data.davis(video, "val", year="2016").names == ["bear/00000", "bear/00001"]
    with pytest.raises(ValueError, match="no resolution '1080p'. Found: 480p"):
        data.davis(video, resolution="1080p")


def test_davis_faults(video):
    place = video / "DAVIS"
    (place / "Annotations/480p/bear/00001.png").unlink()
    with pytest.raises(ValueError, match=r"bear/00001.png: is missing"):
        data.open_dataset(video)
    (place / "JPEGImages/480p/bear/00000.jpg").rename(place / "JPEGImages/480p/bear/00000.JPG")
    with pytest.raises(ValueError, match="00000.JPG differs in upper and lower case"):
        data.open_dataset(video)
    (place / "JPEGImages/480p/bear/00000.JPG").rename(place / "JPEGImages/480p/bear/00000.jpg")
    (place / "ImageSets/2017/train.txt").write_text("bears\n")
    with pytest.raises(ValueError, match="bears: holds no frames, though train.txt lists it"):
        data.open_dataset(video)
    (place / "ImageSets/2017/test-dev.txt").write_text("bear\n")
    dataset = data.open_dataset(video, "test-dev")
    assert dataset.names == ["bear/00000"]  # only first frames are annotated there
    assert "1 frames without annotation were left out" in dataset.notes
    Image.new("RGB", (3, 1)).save(place / "Annotations/480p/bear/00000.png", "JPEG")
    with pytest.raises(ValueError, match=r"bear/00000.png: a JPEG"):
        dataset[0]


def test_davis_package_of_2016(tmp_path, save):
    """There 255 is the object, and lists have a line a frame."""
    for frame in ("00000", "00001"):
        save(tmp_path / f"JPEGImages/480p/bear/{frame}.jpg", np.zeros((1, 3, 3)))
        save(tmp_path / f"Annotations/480p/bear/{frame}.png", [[0, 255, 255]])
    (tmp_path / "ImageSets/480p").mkdir(parents=True)
    lines = [
        f"/JPEGImages/480p/bear/0000{n}.jpg /Annotations/480p/bear/0000{n}.png" for n in (0, 1)
    ]
    (tmp_path / "ImageSets/480p/train.txt").write_text("\n".join(lines))
    dataset = data.open_dataset(tmp_path)
    assert dataset.layout == "davis" and dataset.names == ["bear/00000", "bear/00001"]
    assert dataset[0].label.tolist() == [[0, 1, 1]]
    assert dataset.read_extra(0, "instances").tolist() == [[0, 1, 1]]
