"""PASCAL Context: the owner's 459 labels as 60 or 59 classes, .mat files or their conversion."""

import numpy as np
import pytest
from scipy import io

from keras_seg import data
from keras_seg.data.labels import (
    PASCAL_CONTEXT_59,
    PASCAL_CONTEXT_60,
    PASCAL_CONTEXT_NAMES,
    PASCAL_CONTEXT_RAW_IDS,
)

# Nothing, accordion (none of the 59), aeroplane, bag, wood, wool (none of the 59).
RAW = np.array([[0, 1, 2, 9, 458, 459]], "uint16")


@pytest.fixture
def tree(tmp_path, save):
    root = tmp_path / "VOCdevkit" / "VOC2010"
    (root / "trainval").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for split, names in (("train", ["b", "a"]), ("val", ["c"])):
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            save(root / "JPEGImages" / f"{name}.jpg", np.zeros((1, 6, 3)))
            io.savemat(root / "trainval" / f"{name}.mat", {"LabelMap": RAW})
    return tmp_path


def test_tables():
    assert len(PASCAL_CONTEXT_NAMES) == len(set(PASCAL_CONTEXT_NAMES)) == 459
    assert PASCAL_CONTEXT_60.num_classes == 60 and PASCAL_CONTEXT_59.num_classes == 59
    # FCN's list of the 59, in VOC's order; the owner's raw labels name three of them otherwise.
    voc_first = (
        "aeroplane bicycle bird boat bottle bus car cat chair cow table dog horse motorbike "
        "person pottedplant sheep sofa train tvmonitor bag bed bench book building cabinet "
        "ceiling cloth computer cup door fence floor flower food grass ground keyboard light "
        "mountain mouse curtain platform sign plate road rock shelves sidewalk sky snow "
        "bedclothes track tree truck wall water window wood"
    ).split()
    assert sorted(PASCAL_CONTEXT_59.names) == sorted(voc_first)
    assert list(PASCAL_CONTEXT_59.names) == sorted(voc_first)  # raw ids are alphabetical
    assert PASCAL_CONTEXT_RAW_IDS[2] == 1 and PASCAL_CONTEXT_RAW_IDS[458] == 59
    assert len(PASCAL_CONTEXT_RAW_IDS) == 460


def test_mat_files(tree):
    for root in (tree, tree / "VOCdevkit", tree / "VOCdevkit" / "VOC2010"):
        assert data.open_dataset(root).layout == "pascal_context"
    dataset = data.open_dataset(tree)
    assert dataset.names == ["b", "a"] and dataset.table is PASCAL_CONTEXT_60
    assert dataset[0].label.tolist() == [[0, 0, 1, 2, 59, 0]]
    raw = dataset.read_extra(0, "raw")
    assert raw.dtype == np.int32 and raw.tolist() == RAW.tolist()
    of_59 = data.pascal_context(tree, "val", protocol="59")
    assert of_59.names == ["c"] and of_59.table is PASCAL_CONTEXT_59
    assert of_59[0].label.tolist() == [[255, 255, 0, 1, 58, 255]]


def test_converted(tree, save):
    root = tree / "VOCdevkit" / "VOC2010"
    save(root / "SegmentationClassContext" / "a.png", [[0, 1, 2, 59, 59, 59]])
    (root / "ImageSets" / "SegmentationContext").mkdir()
    (root / "ImageSets" / "SegmentationContext" / "train.txt").write_text("a\n")
    dataset = data.open_dataset(tree)
    assert dataset.names == ["a"] and dataset.extras == ()
    assert dataset[0].label.tolist() == [[0, 1, 2, 59, 59, 59]]
    assert data.pascal_context(tree, protocol=59)[0].label.tolist() == [[255, 0, 1, 58, 58, 58]]
    save(root / "SegmentationClassContext" / "a.png", [[60] * 6])
    with pytest.raises(ValueError, match="a.png: ids 60 are none of the data set"):
        dataset[0]


def test_bad_input(tree):
    root = tree / "VOCdevkit" / "VOC2010"
    with pytest.raises(ValueError, match="459 labels do not fit .* extra 'raw'"):
        data.pascal_context(tree, protocol="459")
    with pytest.raises(ValueError, match="Unknown protocol '33'"):
        data.pascal_context(tree, protocol="33")
    with pytest.raises(ValueError, match="protocol 60 has 60 classes, but 21 were given"):
        data.pascal_context(tree, classes=21)
    io.savemat(root / "trainval" / "b.mat", {"LabelMap": RAW + 1})
    with pytest.raises(ValueError, match="b.mat: ids 460 are none of the data set"):
        data.pascal_context(tree)[0]
    (root / "trainval" / "b.mat").unlink()
    with pytest.raises(ValueError, match="trainval/b.mat: is missing, though train.txt lists it"):
        data.pascal_context(tree)
    (root / "ImageSets/Main/val.txt").write_text("\n")
    with pytest.raises(ValueError, match="0 samples: val.txt lists none"):
        data.pascal_context(tree, "val")
    with pytest.raises(ValueError, match="no JPEGImages/ with trainval/NAME.mat"):
        data.pascal_context(root / "trainval")
