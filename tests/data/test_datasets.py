"""Layouts on disk: what is found, how it pairs up, which ids come out, what is refused."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_seg import data
from keras_seg.data.labels import CAMVID, MEMBRANE, NUCLEI, VOC, LabelTable

IDS = np.arange(48, dtype="uint8").reshape(8, 6) % 3


def test_folder(make_folder):
    dataset = data.open_dataset(make_folder())
    assert dataset.layout == "folder" and len(dataset) == 3
    assert dataset.names == ["a", "b", "c"]
    assert [path.name for path in dataset.mask_paths] == ["a.png", "b.png", "c.png"]
    assert dataset.table == LabelTable.default(3)
    image, label, name = dataset[1]
    assert image.shape == (8, 6, 3) and image.dtype == np.uint8 and name == "b"
    assert label.tolist() == IDS.tolist() and label.dtype == np.uint8
    assert dataset[-1].name == "c"
    assert [sample.name for sample in dataset] == ["a", "b", "c"]
    assert "3 samples, 3 classes" in repr(dataset) and "images" in repr(dataset)


@pytest.mark.parametrize("images", ["images", "image", "imgs", "img"])
@pytest.mark.parametrize("masks", ["masks", "mask", "labels", "label", "annotations"])
def test_folder_names(tmp_path, save, images, masks):
    save(tmp_path / images / "x.jpg", np.zeros((8, 6, 3)))
    save(tmp_path / masks / "x.png", IDS)
    assert len(data.open_dataset(tmp_path)) == 1


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
@pytest.mark.parametrize("inner", [True, False])
def test_splits(tmp_path, save, val, inner):
    for split, name in (("train", "a"), (val, "b")):
        for kind, array in (("images", np.zeros((8, 6, 3))), ("masks", IDS)):
            place = tmp_path / kind / split if inner else tmp_path / split / kind
            save(place / f"{name}.png", array)
    assert data.list_splits(tmp_path) == ["train", val]
    assert data.open_dataset(tmp_path).names == ["a"]
    assert data.open_dataset(tmp_path, "val").names == ["b"]
    assert data.open_dataset(tmp_path, val).names == ["b"]
    with pytest.raises(ValueError, match=rf"has no split 'test'. Found: train, {val}"):
        data.open_dataset(tmp_path, "test")


def test_no_splits(make_folder):
    root = make_folder()
    assert data.list_splits(root) == []
    assert len(data.open_dataset(root, "train")) == 3
    with pytest.raises(ValueError, match=r"no splits, so no 'val'.*split\(0.2\)"):
        data.open_dataset(root, "val")


def test_subfolders_are_part_of_the_name(make_folder):
    assert data.open_dataset(make_folder(["x/1", "y/1"])).names == ["x/1", "y/1"]


def test_classes_come_from_all_splits(tmp_path, save):
    """A val split without class 2 must not get a smaller table."""
    for split, ids in (("train", IDS), ("val", IDS % 2)):
        save(tmp_path / split / "images" / "a.png", np.zeros((8, 6, 3)))
        save(tmp_path / split / "masks" / "a.png", ids)
    assert data.open_dataset(tmp_path, "val").table.num_classes == 3


def test_classes_files(make_folder):
    root = make_folder()
    (root / "classes.txt").write_text("sky\nground\ntree\n")
    assert data.open_dataset(root).table.names == ("sky", "ground", "tree")
    table = data.open_dataset(root, classes=4).table
    assert table.num_classes == 4
    assert data.open_dataset(root, classes=["x", "y", "z"]).table.names == ("x", "y", "z")
    other = root / "other.json"
    other.write_text('["p", "q", "r"]')
    assert data.open_dataset(root, classes=str(other)).table.names == ("p", "q", "r")
    assert data.open_dataset(root, classes=VOC).table is VOC


def test_too_few_classes_name_the_file(make_folder):
    dataset = data.open_dataset(make_folder(), classes=["a", "b"])
    with pytest.raises(ValueError, match=r"a.png: ids 2 are outside the table: expected 0..1"):
        dataset[0]


def test_colour_coded_masks(tmp_path, save):
    colors = np.array([[0, 0, 0], [250, 10, 10], [10, 250, 10]])
    save(tmp_path / "images" / "a.png", np.zeros((8, 6, 3)))
    save(tmp_path / "masks" / "a.png", colors[IDS])
    with pytest.raises(ValueError, match=r"a.png: an RGB mask, but no colours.*classes.txt"):
        data.open_dataset(tmp_path)
    with pytest.raises(ValueError, match="an RGB mask, but no colours"):
        data.open_dataset(tmp_path, classes=["no", "red", "green"])[0]
    (tmp_path / "classes.txt").write_text("no 0 0 0\nred 250 10 10\ngreen 10 250 10\n")
    assert data.open_dataset(tmp_path)[0].label.tolist() == IDS.tolist()
    color_table = {tuple(color): i for i, color in enumerate(colors.tolist())}
    (tmp_path / "classes.txt").unlink()
    dataset = data.open_dataset(tmp_path, color_table=color_table)
    assert dataset[0].label.tolist() == IDS.tolist() and dataset.table.num_classes == 3


def _binary(tmp_path, save):
    save(tmp_path / "images" / "a.png", np.zeros((2, 2, 3)))
    save(tmp_path / "masks" / "a.png", [[0, 255], [255, 0]])


def test_binary_masks(tmp_path, save):
    _binary(tmp_path, save)
    with pytest.raises(ValueError, match=r"only the ids 0, 255.*mask_values=\{0: 0, 255: 1\}"):
        data.open_dataset(tmp_path)
    dataset = data.open_dataset(tmp_path, mask_values={0: 0, 255: 1})
    assert dataset[0].label.tolist() == [[0, 1], [1, 0]]
    (tmp_path / "classes.json").write_text(
        json.dumps({"names": ["no", "yes"], "mask_values": {"0": 0, "255": 1}})
    )
    dataset = data.open_dataset(tmp_path)
    assert dataset[0].label.tolist() == [[0, 1], [1, 0]] and dataset.table.names == ("no", "yes")


def test_sparse_ids_are_no_table(tmp_path, save):
    save(tmp_path / "images" / "a.png", np.zeros((2, 2, 3)))
    save(tmp_path / "masks" / "a.png", [[0, 60], [128, 0]])
    with pytest.raises(ValueError, match="the ids 0, 60, 128: too few of 0..128"):
        data.open_dataset(tmp_path)


def test_unpaired_files_are_listed_on_both_sides(make_folder, save):
    root = make_folder()
    save(root / "images" / "only_image.png", np.zeros((8, 6, 3)))
    save(root / "masks" / "only_mask.png", IDS)
    with pytest.raises(ValueError) as caught:
        data.open_dataset(root)
    text = str(caught.value)
    assert "2 files are not in order" in text
    assert f"{root / 'images' / 'only_image.png'}: has no mask of the same name" in text
    assert f"{root / 'masks' / 'only_mask.png'}: has no image of the same name" in text
    problems = []
    assert data.open_dataset(root, problems=problems).names == ["a", "b", "c"]
    assert [path.name for path, _ in problems] == ["only_image.png", "only_mask.png"]


def test_case_differs(make_folder):
    root = make_folder()
    (root / "masks" / "a.png").rename(root / "masks" / "A.png")
    with pytest.raises(ValueError, match=r"A.png differs in upper and lower case"):
        data.open_dataset(root)


@pytest.mark.parametrize("twin", ["a.jpg", "A.png"])
def test_names_that_clash(make_folder, save, twin):
    root = make_folder()
    save(root / "images" / twin, np.zeros((8, 6, 3)))
    with pytest.raises(ValueError, match="has the same name as .* but for suffix or case"):
        data.open_dataset(root)


def test_mask_suffix(tmp_path, save):
    for name in ("a", "b"):
        save(tmp_path / "images" / f"{name}.png", np.zeros((8, 6, 3)))
        save(tmp_path / "masks" / f"{name}_mask.png", IDS)
    with pytest.raises(ValueError, match="give mask_suffix='_mask'"):
        data.open_dataset(tmp_path)
    assert data.open_dataset(tmp_path, mask_suffix="_mask").names == ["a", "b"]


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        data.open_dataset(tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match=r"no data set found. Looked for images/.*It holds: nothing"
    ):
        data.open_dataset(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(ValueError, match=r"0 images in .*images \(looked for .*\*.jpg"):
        data.open_dataset(tmp_path)
    with pytest.raises(ValueError, match="Unknown layout 'camvit'. Did you mean 'camvid'"):
        data.open_dataset(tmp_path, layout="camvit")


def test_sizes_must_agree(make_folder, save):
    root = make_folder()
    save(root / "masks" / "b.png", np.zeros((6, 8)))
    dataset = data.open_dataset(root)
    with pytest.raises(ValueError, match=r"images/b.png is 8x6 .* mask .*masks/b.png is 6x8"):
        dataset[1]


def test_exif_is_named_where_sizes_disagree(make_folder):
    root = make_folder()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 8)).save(root / "images" / "b.png", exif=exif)
    with pytest.raises(ValueError, match="6x8 .*8x6.*EXIF rotation"):
        data.open_dataset(root)[1]


def test_subset_split_and_cache(make_folder):
    dataset = data.open_dataset(make_folder([f"n{i:02d}" for i in range(10)]))
    assert dataset.subset([7, 2]).names == ["n07", "n02"]
    assert dataset.subset([7, 2]).subset([1])[0].name == "n02"
    rest, held_out = dataset.split(0.2, seed=3)
    assert len(rest) == 8 and len(held_out) == 2
    assert sorted(rest.names + held_out.names) == dataset.names
    assert dataset.split(0.2, seed=3)[1].names == held_out.names
    assert dataset.split(0.2, seed=4)[1].names != held_out.names
    assert len(dataset.subset([0, 1]).split(0.01)[1]) == 1
    cached = dataset.cached()
    before = cached[0]
    dataset.image_paths[0].unlink()
    assert cached[0] is before and cached.subset([0])[0] is before
    with pytest.raises(ValueError, match="n00.png: cannot be read"):
        dataset[0]
    for fraction in (0, 1, -0.5):
        with pytest.raises(ValueError, match="fraction"):
            dataset.split(fraction)
    with pytest.raises(ValueError, match="Cannot split 1 sample"):
        dataset.subset([0]).split(0.5)


def test_camvid(tmp_path, save):
    ids = np.arange(12, dtype="uint8").reshape(3, 4)
    for split in ("train", "val"):
        save(tmp_path / split / "0001.jpg", np.zeros((3, 4, 3)))
        save(tmp_path / f"{split}annot" / "0001.png", ids)
    dataset = data.open_dataset(tmp_path)
    assert dataset.layout == "camvid" and dataset.table is CAMVID
    assert "train" in dataset.description and data.list_splits(tmp_path) == ["train", "val"]
    ids[2, 3] = 255
    assert dataset[0].label.tolist() == ids.tolist()
    assert data.open_dataset(tmp_path, "val").names == ["0001"]
    with pytest.raises(ValueError, match="layout 'camvid' does not take mask_values"):
        data.open_dataset(tmp_path, mask_values={11: 3})
    own = data.open_dataset(tmp_path, classes=12)
    assert own[0].label.max() == 11


@pytest.fixture
def voc_tree(tmp_path, png, save):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    ids = [[0, 1, 2], [15, 20, 255]]
    (root / "SegmentationClass").mkdir(parents=True)
    for name in ("2007_000032", "2007_000033", "not_listed"):
        save(root / "JPEGImages" / f"{name}.jpg", np.zeros((2, 3, 3)))
        png(root / "SegmentationClass" / f"{name}.png", ids, 8, palette=VOC.palette())
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000033\n2007_000032\n")
    (lists / "val.txt").write_text("2007_000032\n")
    return tmp_path


def test_voc(voc_tree):
    for root in (voc_tree, voc_tree / "VOCdevkit", voc_tree / "VOCdevkit" / "VOC2012"):
        dataset = data.open_dataset(root)
        assert dataset.layout == "voc" and dataset.table is VOC
        assert dataset.names == ["2007_000033", "2007_000032"]
    assert dataset[0].label.tolist() == [[0, 1, 2], [15, 20, 255]]
    assert data.list_splits(voc_tree) == ["train", "val"]
    assert len(data.open_dataset(voc_tree, "val")) == 1


def test_voc_missing_file(voc_tree):
    (voc_tree / "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png").unlink()
    with pytest.raises(ValueError, match=r"2007_000032.png: is missing, though train.txt lists it"):
        data.open_dataset(voc_tree)
    with pytest.raises(ValueError, match="no JPEGImages/"):
        data.voc(voc_tree / "VOCdevkit/VOC2012/ImageSets")


def test_isbi(tmp_path, save):
    save(tmp_path / "train" / "image" / "0.png", np.zeros((2, 2)))
    save(tmp_path / "train" / "label" / "0.png", [[0, 255], [255, 0]])
    dataset = data.open_dataset(tmp_path, channels=1)
    assert dataset.layout == "isbi" and dataset.table is MEMBRANE
    assert dataset[0].label.tolist() == [[0, 1], [1, 0]] and dataset[0].image.shape == (2, 2, 1)
    assert dataset.read_extra(0, "instances").tolist() == [[0, 1], [2, 0]]  # corners do not join
    with pytest.raises(ValueError, match="no split 'val'"):
        data.open_dataset(tmp_path, "val")


def test_instances(tmp_path, save, png):
    save(tmp_path / "images" / "n.png", np.zeros((1, 4, 3)))
    (tmp_path / "instances").mkdir()
    png(tmp_path / "instances" / "n.png", [[0, 1, 256, 40000]], 16)
    dataset = data.open_dataset(tmp_path)
    assert dataset.layout == "instances" and dataset.table is NUCLEI
    assert dataset[0].label.tolist() == [[0, 1, 1, 1]]
    assert data.open_dataset(tmp_path, classes=["rest", "cell"]).table.names == ("rest", "cell")
    with pytest.raises(
        ValueError, match="a map of instances .background and object. has 2 classes, but 3"
    ):
        data.open_dataset(tmp_path, classes=3)


def test_white_for_16_bit_images(tmp_path, save, png):
    (tmp_path / "images").mkdir()
    png(tmp_path / "images" / "a.png", np.full((8, 6), 4095), 16)
    save(tmp_path / "masks" / "a.png", IDS)
    with pytest.raises(ValueError, match="a.png: a 16-bit grey image"):
        data.open_dataset(tmp_path)[0]
    assert (data.open_dataset(tmp_path, white=4095)[0].image == 255).all()
