"""Data sets of tensorflow-datasets, where they have masks."""

import struct
from typing import NamedTuple

import numpy as np

from keras_seg.data import labels
from keras_seg.data.dataset import SegmentationDataset
from keras_seg.data.labels import LabelTable


class _Known(NamedTuple):
    """What is known of a builder: its keys, its classes, {value in its masks: id}."""

    image_key: str
    label_key: str
    table: LabelTable
    mapping: dict


_KNOWN = {
    "cityscapes": _Known(
        "image_left", "segmentation_label", labels.CITYSCAPES, labels.CITYSCAPES_TRAIN_IDS
    ),
    "oxford_iiit_pet": _Known(
        "image", "segmentation_mask", labels.PET, {value: value - 1 for value in (1, 2, 3)}
    ),
    "lost_and_found": _Known(
        "image_left",
        "segmentation_label",
        labels.LOST_AND_FOUND,
        # 0 is all that is neither: outside of the drivable area nothing is labelled.
        {0: 255, 1: 0, **dict.fromkeys(range(2, 255), 1)},
    ),
    "davis": _Known(
        "video/frames",
        "video/segmentations",
        labels.DAVIS,
        {0: 0, **dict.fromkeys(range(1, 255), 1), 255: 255},
    ),
}
_NO_MASKS = {
    "voc": "boxes only; read the VOCdevkit with layout='voc'",
    "scene_parse150": "the maps of instances of Places 2017 and not the 150 classes, and its test "
    "split is the validation set; read ADEChallengeData2016 with layout='ade20k'",
    "nyu_depth_v2": "pictures and depth only; read FCN's files or the owners' .mat with "
    "layout='nyud'",
    "kitti": "boxes only; read the owners' folders of the road or semantic set",
    "coco": "boxes only, but for coco/2017_panoptic; read the owners' JSON with layout='coco'",
    "cityscapes/stereo_disparity": "no masks; use cityscapes/semantic_segmentation",
    "cityscapes/stereo_disparity_extra": "no masks; use cityscapes/semantic_segmentation_extra",
    "lost_and_found/stereo_disparity": "no masks; use lost_and_found/semantic_segmentation",
}
_PANOPTIC = "coco/2017_panoptic"


def from_tfds(
    name,
    split="train",
    *,
    data_dir=None,
    download=False,
    image_key=None,
    label_key=None,
    table=None,
    mapping=None,
):
    """A data set of tensorflow-datasets (extra "data") as a `SegmentationDataset`.

    Known by name: cityscapes/semantic_segmentation (its labelIds become train ids),
    oxford_iiit_pet (1..3 become 0..2), lost_and_found, davis/480p and davis/full_resolution (a
    sample a frame; the extra "instances" has the objects), coco/2017_panoptic (class of each
    segment, 255 where there is none). Any other builder with a picture and a mask of one channel
    will do: give `table`, and `mapping` if masks hold other values than ids.

    Examples are read one by one, in any order, from the files that were prepared: none of them is
    kept in memory.

    Args:
        name: of the builder, with config and version as `tfds.builder` takes them.
        split: as tensorflow-datasets has it; slices such as "train[:10%]" too.
        data_dir: folder of the prepared data sets; None: tensorflow-datasets' own.
        download: whether to download and prepare what is not there.
        image_key, label_key: features of an example; None: as known, else the only image of three
            channels and the only one of one channel.
        table: `LabelTable`; None: as known.
        mapping: {value in the masks: id}; values that it lacks are refused; None: as known.

    Raises:
        ValueError: if the builder has no masks, is not known and lacks `table`, is not prepared, or
            tensorflow-datasets is not installed.
    """
    base, config = [*name.split(":")[0].split("/"), ""][:2]
    _refuse_without_masks(name, base, config)
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError(
            "from_tfds needs tensorflow-datasets: pip install 'keras-seg[data]'."
        ) from error
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        if download:
            builder.download_and_prepare()
    except Exception as error:  # unknown names and failed downloads come in many types
        raise ValueError(f"tensorflow-datasets cannot open {name!r}: {error}") from error
    if not builder.info.splits:
        raise ValueError(
            f"{name} is not prepared in {builder.data_dir}. Give download=True, or run "
            f"`tfds build {name}`; some need files that you must get yourself first."
        )
    records = _open_records(builder, split)
    panoptic = f"{base}/{config}" == _PANOPTIC
    known = None if panoptic else _KNOWN.get(base)
    if known is not None:
        image_key, label_key = image_key or known.image_key, label_key or known.label_key
        table = known.table if table is None else table
        mapping = known.mapping if mapping is None and table is known.table else mapping
    if panoptic:
        source = _Panoptic(records, builder.info.features)
        table = source.table if table is None else table
    else:
        image_key, label_key = _keys(name, builder.info.features, image_key, label_key)
        if table is None:
            raise ValueError(
                f"The classes of {name} are not known here: give table=LabelTable([...]), and "
                "mapping={value: id} if its masks hold other values than 0..K-1 and 255."
            )
        kind = _Videos if image_key.startswith("video/") else _Examples
        source = kind(records, name, image_key, label_key, table, mapping)
    return SegmentationDataset(
        source,
        table,
        source.names,
        layout="tfds",
        split=split,
        description=f"{builder.info.full_name}, split {split}, of tensorflow-datasets",
    )


class _Examples:
    """Source of a data set (see `SegmentationDataset`): a picture and a mask an example."""

    image_paths = mask_paths = None
    extras = ()

    def __init__(self, records, name, image_key, label_key, table, mapping):
        self.records, self.name = records, name
        self.image_key, self.label_key = image_key, label_key
        self.table, self.mapping = table, mapping
        self.names = [f"{number:06d}" for number in range(len(records))]

    def image(self, index):
        return _picture(_get(self.records[index], self.image_key))

    def label(self, index):
        return self._ids(index, _get(self.records[index], self.label_key))

    def both(self, index):
        example = self.records[index]
        label = self._ids(index, _get(example, self.label_key))
        return _picture(_get(example, self.image_key)), label

    def _ids(self, index, mask):
        mask = mask[..., 0] if mask.ndim == 3 else mask
        allowed = {i: i for i in (*range(self.table.num_classes), self.table.ignore_label)}
        allowed = allowed if self.mapping is None else self.mapping
        found = np.unique(mask).tolist()
        strange = [value for value in found if value not in allowed]
        if strange:
            raise ValueError(
                f"{self.name}, example {self.names[index]}: its mask holds "
                f"{', '.join(map(str, strange[:8]))}, which mean no class. Give mapping=."
            )
        label = np.zeros(mask.shape, "uint8")
        for value in found:
            new = allowed[value]
            label[mask == value] = self.table.ignore_label if new == 255 else new
        return label


class _Videos(_Examples):
    """The same of videos: a sample a frame. The last video read is kept."""

    extras = ("instances",)

    def __init__(self, records, *arguments):
        super().__init__(records, *arguments)
        self.frames, self.names = [], []
        self._last = (None, None)
        for number in range(len(records)):
            video = records[number]
            title = _text(_get(video, "metadata/video_name")) or f"{number:04d}"
            count = len(_get(video, self.image_key))
            self.frames += [(number, frame) for frame in range(count)]
            self.names += [f"{title}/{frame:05d}" for frame in range(count)]

    def image(self, index):
        video, frame = self._video(index)
        return _picture(_get(video, self.image_key)[frame])

    def label(self, index):
        video, frame = self._video(index)
        return self._ids(index, np.asarray(_get(video, self.label_key)[frame]))

    def extra(self, index, name):
        video, frame = self._video(index)
        ids = np.asarray(_get(video, self.label_key)[frame])[..., 0].astype("int32")
        return np.where(ids == 255, 0, ids)

    def both(self, index):
        return self.image(index), self.label(index)

    def _video(self, index):
        number, frame = self.frames[index]
        if self._last[0] != number:
            self._last = (number, self.records[number])
        return self._last[1], frame


class _Panoptic:
    """Source of coco/2017_panoptic: segments are colours, R + 256 G + 65536 B."""

    image_paths = mask_paths = None
    extras = ("instances",)

    def __init__(self, records, features):
        self.records = records
        self.names = [f"{number:06d}" for number in range(len(records))]
        self.table = LabelTable(
            features["panoptic_objects"].feature["label"].names, name="COCO panoptic"
        )

    def image(self, index):
        return _picture(self.records[index]["image"])

    def label(self, index):
        return self._draw(self.records[index], index)[0]

    def extra(self, index, name):
        return self._draw(self.records[index], index)[1]

    def both(self, index):
        example = self.records[index]
        return _picture(example["image"]), self._draw(example, index)[0]

    def _draw(self, example, index):
        """(classes, numbers of the segments in the order of the list; crowds have none)."""
        colors = np.asarray(example["panoptic_image"]).astype("int32")
        codes = colors @ np.array([1, 1 << 8, 1 << 16])
        label = np.full(codes.shape, self.table.ignore_label, "uint8")
        instances = np.zeros(codes.shape, "int32")
        objects = example["panoptic_objects"]
        columns = [np.asarray(objects[key]) for key in ("id", "label", "is_crowd")]
        for number, (code, category, crowd) in enumerate(zip(*columns, strict=True), start=1):
            mask = codes == code
            if not mask.any():
                raise ValueError(f"{_PANOPTIC}, example {self.names[index]}: no pixel of {code}.")
            label[mask] = category
            instances[mask] = 0 if crowd else number
        return label, instances


class _Records:
    """The examples of TFRecord files in any order: their places in the files are noted once."""

    def __init__(self, features, instructions):
        self.features = features
        self.places = []  # (file, offset, length)
        for instruction in instructions:
            places = _places(instruction.filename)
            end = None if instruction.take == -1 else instruction.skip + instruction.take
            self.places += places[instruction.skip : end]

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        path, offset, length = self.places[index]
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                data = file.read(length)
            return self.features.deserialize_example_np(data)
        except Exception as error:  # damage shows as many types of error
            raise ValueError(f"{path}: example at byte {offset} is damaged ({error}).") from error


def _places(path):
    """Where the records of a TFRecord file lie: 8 bytes of length, 4 of checksum, data, 4 more."""
    path = str(path)
    found, offset = [], 0
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        while offset < size:
            file.seek(offset)
            header = file.read(12)
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else size
            if offset + 16 + length > size:
                raise ValueError(f"{path}: damaged: it ends inside of an example.")
            found.append((path, offset + 12, length))
            offset += 16 + length
    return found


def _open_records(builder, split):
    try:
        instructions = builder.info.splits[split].file_instructions
    except Exception as error:  # ValueError or KeyError
        found = ", ".join(builder.info.splits) or "none"
        raise ValueError(f"{builder.info.full_name} has no split {split!r}: {found}.") from error
    if builder.info.file_format.value == "tfrecord":
        return _Records(builder.info.features, instructions)
    try:
        return builder.as_data_source(split)
    except Exception as error:
        raise ValueError(
            f"{builder.info.full_name} is prepared as {builder.info.file_format.value}, which "
            "gives no random access: prepare it as tfrecord or array_record."
        ) from error


def _refuse_without_masks(name, base, config):
    reason = _NO_MASKS.get(f"{base}/{config}") or _NO_MASKS.get(base)
    if reason and f"{base}/{config}" != _PANOPTIC:
        raise ValueError(f"tensorflow-datasets' {name} has {reason}.")


def _keys(name, features, image_key, label_key):
    """The keys of picture and mask, found by their numbers of channels where not given."""
    flat = {}
    for key in features:
        feature = features[key]
        inner = getattr(feature, "feature", feature)
        if key == "video" and hasattr(inner, "keys"):
            flat |= {f"video/{k}": inner[k] for k in inner}
        else:
            flat[key] = feature
    pictures = {k: f.shape[-1] for k, f in flat.items() if type(f).__name__ == "Image"}
    found = []
    for given, channels, what in ((image_key, 3, "image_key"), (label_key, 1, "label_key")):
        fitting = [key for key, count in pictures.items() if count == channels]
        if given is None and len(fitting) == 1:
            given = fitting[0]
        if given is None or given not in flat:
            listed = ", ".join(f"{k} ({n} channels)" for k, n in pictures.items()) or "none"
            raise ValueError(f"{name}: give {what}=. Features that are images: {listed}.")
        found.append(given)
    return found


def _get(example, key):
    for part in key.split("/"):
        example = example[part]
    return example


def _picture(array):
    array = np.asarray(array)
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[..., :3]


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)
