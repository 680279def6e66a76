"""tensorflow-datasets: what it has no masks of, and builders with masks, made here (slow)."""

import numpy as np
import pytest

from keras_seg import data
from keras_seg.data import LabelTable
from keras_seg.data.labels import CITYSCAPES, DAVIS, LOST_AND_FOUND, PET


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("voc/2012", "boxes only; read the VOCdevkit with layout='voc'"),
        ("scene_parse150", "instances of Places 2017 .*layout='ade20k'"),
        ("nyu_depth_v2", "depth only.*layout='nyud'"),
        ("kitti", "boxes only"),
        ("coco/2014", "boxes only, but for coco/2017_panoptic"),
        ("coco/2017:1.1.0", "boxes only, but for coco/2017_panoptic"),
        ("cityscapes/stereo_disparity", "use cityscapes/semantic_segmentation"),
    ],
)
def test_no_masks_there(name, advice):
    with pytest.raises(ValueError, match=f"{name} has .*{advice}"):
        data.from_tfds(name)


@pytest.mark.slow  # tensorflow-datasets is no part of the test extra: it brings 16 packages
class TestWithPackage:
    """Builders of the names that are known, with their features, filled with made-up examples."""

    @pytest.fixture
    def prepare(self, tmp_path, monkeypatch):
        """prepare(name, features, examples): write them; `tfds.builder` then finds them."""
        import tensorflow_datasets as tfds

        def write(name, features, examples, file_format="tfrecord"):
            class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
                VERSION = tfds.core.Version("1.0.0")

                def _info(self):
                    return tfds.core.DatasetInfo(builder=self, features=features)

                def _split_generators(self, manager):
                    return {"train": self._generate_examples()}

                def _generate_examples(self):
                    yield from enumerate(examples)

            Made.name = name.replace("/", "_")
            made = Made(data_dir=tmp_path, file_format=file_format)
            made.download_and_prepare()
            monkeypatch.setattr(tfds, "builder", lambda *_, **__: made)

        return write

    @pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
    def test_cityscapes(self, prepare, file_format):
        import tensorflow_datasets as tfds

        real = tfds.builder("cityscapes/semantic_segmentation").info.features
        assert {"image_left", "segmentation_label"} <= set(real)
        features = {
            "image_left": tfds.features.Image(shape=(None, None, 3)),
            "segmentation_label": tfds.features.Image(shape=(None, None, 1)),
        }
        images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), "uint8")
        ids = np.array([[[7, 8, 0, 33, 11]] * 4] * 3, "uint8")[..., None]
        rows = [
            {"image_left": i, "segmentation_label": m} for i, m in zip(images, ids, strict=True)
        ]
        prepare("cityscapes", tfds.features.FeaturesDict(features), rows, file_format)
        dataset = data.from_tfds("cityscapes/semantic_segmentation")
        assert len(dataset) == 3 and dataset.table is CITYSCAPES
        assert dataset[1].label.tolist() == [[0, 1, 255, 18, 2]] * 4  # train ids
        found = {sample.image.tobytes() for sample in dataset}
        assert found == {image.tobytes() for image in images}
        assert len(data.from_tfds("cityscapes/semantic_segmentation", "train[1:]")) == 2
        with pytest.raises(ValueError, match="has no split 'nowhere': train"):
            data.from_tfds("cityscapes/semantic_segmentation", "nowhere")

    def test_pets_count_from_one(self, prepare):
        import tensorflow_datasets as tfds

        real = tfds.builder("oxford_iiit_pet").info.features
        assert {"image", "segmentation_mask"} <= set(real)
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
        }
        mask = np.array([[1, 2, 3]], "uint8")[..., None]
        rows = [{"image": np.zeros((1, 3, 3), "uint8"), "segmentation_mask": mask}]
        prepare("oxford_iiit_pet", tfds.features.FeaturesDict(features), rows)
        dataset = data.from_tfds("oxford_iiit_pet")
        assert dataset.table is PET and dataset[0].label.tolist() == [[0, 1, 2]]

    def test_lost_and_found(self, prepare):
        import tensorflow_datasets as tfds

        features = {
            "image_left": tfds.features.Image(shape=(None, None, 3)),
            "segmentation_label": tfds.features.Image(shape=(None, None, 1)),
        }
        mask = np.array([[0, 1, 2, 40]], "uint8")[..., None]
        rows = [{"image_left": np.zeros((1, 4, 3), "uint8"), "segmentation_label": mask}]
        prepare("lost_and_found", tfds.features.FeaturesDict(features), rows)
        dataset = data.from_tfds("lost_and_found/semantic_segmentation")
        assert dataset.table is LOST_AND_FOUND and dataset[0].label.tolist() == [[255, 0, 1, 1]]

    def test_davis(self, prepare):
        import tensorflow_datasets as tfds

        real = tfds.builder("davis/480p").info.features
        video = tfds.features.Sequence(
            {
                "frames": tfds.features.Image(shape=(None, None, 3)),
                "segmentations": tfds.features.Image(shape=(None, None, 1)),
            }
        )
        assert set(real["video"].feature) == {"frames", "segmentations"}
        features = tfds.features.FeaturesDict(
            {"metadata": {"video_name": tfds.features.Text()}, "video": video}
        )
        masks = [np.full((2, 2, 1), n, "uint8") for n in (0, 1, 2)]
        rows = [
            {
                "metadata": {"video_name": name},
                "video": [
                    {"frames": np.full((2, 2, 3), 9 * n, "uint8"), "segmentations": mask}
                    for n, mask in enumerate(masks[:count])
                ],
            }
            for name, count in (("bear", 2), ("camel", 3))
        ]
        prepare("davis", features, rows)
        dataset = data.from_tfds("davis/480p")
        assert dataset.table is DAVIS and len(dataset) == 5
        place = dataset.names.index("camel/00002")
        assert dataset[place].label.tolist() == [[1, 1]] * 2
        assert dataset[place].image.max() == 18
        assert dataset.read_extra(place, "instances").tolist() == [[2, 2]] * 2

    def test_coco_panoptic(self, prepare):
        import tensorflow_datasets as tfds

        objects = tfds.features.Sequence(
            {
                "id": np.int64,
                "label": tfds.features.ClassLabel(names=["cat", "dog", "sky"]),
                "is_crowd": np.bool_,
            }
        )
        real = tfds.builder("coco/2017_panoptic").info.features
        assert {"image", "panoptic_image", "panoptic_objects"} <= set(real)
        assert {"id", "label", "is_crowd"} <= set(real["panoptic_objects"].feature)
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "panoptic_image": tfds.features.Image(shape=(None, None, 3)),
                "panoptic_objects": objects,
            }
        )
        colors = np.array([[[0, 0, 0], [5, 1, 0], [0, 0, 2], [7, 0, 0]]], "uint8")
        listed = [(261, 2, False), (131072, 0, False), (7, 1, True)]
        rows = [
            {
                "image": np.zeros((1, 4, 3), "uint8"),
                "panoptic_image": colors,
                "panoptic_objects": [
                    dict(zip(("id", "label", "is_crowd"), row, strict=True)) for row in listed
                ],
            }
        ]
        prepare("coco", features, rows)
        dataset = data.from_tfds("coco/2017_panoptic")
        assert dataset.table.names == ("cat", "dog", "sky")
        assert dataset[0].label.tolist() == [[255, 2, 0, 1]]
        assert dataset.read_extra(0, "instances").tolist() == [[0, 1, 2, 0]]

    def test_another_builder(self, prepare):
        import tensorflow_datasets as tfds

        features = {
            "photo": tfds.features.Image(shape=(None, None, 3)),
            "mask": tfds.features.Image(shape=(None, None, 1)),
        }
        mask = np.array([[0, 255]], "uint8")[..., None]
        rows = [{"photo": np.zeros((1, 2, 3), "uint8"), "mask": mask}]
        prepare("mine", tfds.features.FeaturesDict(features), rows)
        with pytest.raises(ValueError, match="classes of mine are not known here: give table="):
            data.from_tfds("mine")
        table = LabelTable(["no", "yes"])
        assert data.from_tfds("mine", table=table)[0].label.tolist() == [[0, 255]]
        dataset = data.from_tfds("mine", table=table, mapping={0: 0, 255: 1})
        assert dataset[0].label.tolist() == [[0, 1]]
        with pytest.raises(
            ValueError, match="mine, example 000000: its mask holds 255, which mean"
        ):
            data.from_tfds("mine", table=table, mapping={0: 0})[0]

    def test_unknown_and_unprepared(self, tmp_path):
        with pytest.raises(ValueError, match="cannot open 'no_such_set'"):
            data.from_tfds("no_such_set", data_dir=tmp_path)
        with pytest.raises(ValueError, match="oxford_iiit_pet is not prepared in"):
            data.from_tfds("oxford_iiit_pet", data_dir=tmp_path)
