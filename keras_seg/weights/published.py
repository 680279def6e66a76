"""Trained weights that come with keras_seg, each under a name and with a card that says what it is.

    models.UNet(2, filters=8, weights="nuclei")
    models.pretrained("nuclei")                    the same, built as its card says

Weights whose data is free for every use are part of the package; those whose data is for research
only lie in the `assets/` of the repository, so that the package's licence stays clean, and are
found from a checkout. Of each there are NAME.weights.h5, in float16, and NAME.json, the card; of
some NAME_int8.tflite too, for a device.
"""

import dataclasses
import pathlib
import re

import h5py
import numpy as np

from keras_seg.utils import atomic_path, read_json, sha256, write_json

PACKAGE = pathlib.Path(__file__).with_name("files")
ASSETS = pathlib.Path(__file__).parents[2] / "assets"
WEIGHTS, CARD = ".weights.h5", ".json"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclasses.dataclass(frozen=True)
class Published:
    """What is known of published weights.

    Attributes:
        name: under which a builder takes them.
        model: name of the builder.
        num_classes: classes, and channels of the output.
        options: further arguments of the builder.
        parameters: of the network, statistics of normalisations included.
        classes: `keras_seg.data.LabelTable` as JSON.
        data: {"name", "licence"} of what they were trained on.
        use: what they may be used for, in a sentence.
        trained: {"by": the script, "epoch" and "seed" of its last run, and "how", in words,
            where that run is not all of it}.
        scores: what they reach, and on what: {"on", "mean_iou", ...}.
        tflite: of the file for devices: {"file", "size", ...}; None where there is none.
        folder: where the files are.
    """

    name: str
    model: str
    num_classes: int
    options: dict
    parameters: int
    classes: list
    data: dict
    use: str
    trained: dict
    scores: dict
    tflite: dict | None
    folder: pathlib.Path

    @property
    def path(self):
        return self.folder / f"{self.name}{WEIGHTS}"

    @property
    def tflite_path(self):
        """`pathlib.Path` of the file for devices, or None; its manifest and checksum are in it."""
        return self.tflite and self.folder / self.tflite["file"]

    @property
    def call(self):
        """How the network is built, as Python."""
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{self.model}({self.num_classes}{options}, weights={self.name!r})"


def list_published():
    """{name: `Published`} of the published weights that are here, sorted by name."""
    found = {}
    for folder in (ASSETS, PACKAGE):
        for path in sorted(folder.glob(f"*{CARD}")):
            content = read_json(path)
            if isinstance(content, dict) and content.get("kind") == "weights":
                known = {field.name for field in dataclasses.fields(Published)} - {"name", "folder"}
                fields = {name: content[name] for name in known}
                name = path.name.removesuffix(CARD)
                found[name] = Published(name=name, folder=folder, **fields)
    return dict(sorted(found.items()))


def find_published(name):
    """The `Published` of published weights.

    Raises:
        ValueError: for a name that is not here, or a file that is not the one of its card.
    """
    cards = list_published()
    if name not in cards:
        here = ", ".join(f"{card.name!r} ({card.call})" for card in cards.values()) or "none"
        raise ValueError(
            f"There are no published weights {name!r} here: {here}. Those that may be used for "
            "research only are not part of the package: take them from the assets/ of the "
            "repository and give the path of the .weights.h5 file."
        )
    card = cards[name]
    expected = read_json(card.folder / f"{name}{CARD}")["sha256"]
    if not card.path.is_file() or sha256(card.path) != expected:
        raise ValueError(
            f"{card.path} is missing or is not the file that {name}{CARD} beside it describes. "
            "Install keras_seg anew, or fetch the file again."
        )
    return card


def is_published(weights):
    """Whether `weights` can only be a name: "nuclei", and no path and no file's name."""
    return isinstance(weights, str) and _NAME.fullmatch(weights) is not None


def published_path(name, model):
    """The file of published weights for `model`.

    Raises:
        ValueError: as `find_published`, and if they are those of another network, with the call
            that builds it.
    """
    card = find_published(name)
    if model.count_params() != card.parameters:
        raise ValueError(
            f"The weights {name!r} are those of {card.call} with {card.parameters} parameters; "
            f"{model.name} has {model.count_params()}."
        )
    return card.path


def publish(network, folder, name, **card):
    """Write the weights of `network` as NAME.weights.h5, in float16, and their card.

    Args:
        network: trained.
        folder: where; made if missing.
        name: lower-case letters, digits and underscores.
        **card: the attributes of `Published` from `model` to `tflite`, but for `parameters`; the
            `tflite` may be left out.

    Returns:
        `pathlib.Path` of the weights.

    Raises:
        ValueError: for another name, or weights that float16 cannot hold.
    """
    if not is_published(name):
        raise ValueError(f"A name has lower-case letters, digits and underscores, not {name!r}.")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}{WEIGHTS}"
    with atomic_path(path) as temporary:
        whole = temporary.with_name(f"{temporary.name}{WEIGHTS}")
        try:
            network.save_weights(whole)
            with h5py.File(whole) as source, h5py.File(temporary, "w", libver="latest") as target:
                _halve(source, target)
        finally:
            whole.unlink(missing_ok=True)
    content = {"kind": "weights", "parameters": network.count_params(), "tflite": None, **card}
    write_json(folder / f"{name}{CARD}", {**content, "sha256": sha256(path)})
    return path


def _halve(source, target):
    """Copy an HDF5 group with its floats in float16."""
    target.attrs.update(source.attrs)
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _halve(item, target.create_group(name))
            continue
        array = np.asarray(item)
        if array.dtype.kind == "f":
            with np.errstate(over="ignore"):
                array = array.astype("float16")
            if not np.isfinite(array).all():
                raise ValueError(f"{item.name} has values above {np.finfo('float16').max}.")
        target.create_dataset(name, data=array)
