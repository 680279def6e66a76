"""What a file says of itself, packed in it: classes, colours, input, output, data, licence, proof.

TFLite: the metadata of the public schema `metadata_schema.fbs` (TFLite Support, version 1.1.0),
which Android Studio and MediaPipe read, under the name TFLITE_METADATA, and a ZIP archive of
`labels.txt` and `manifest.json` behind the network. ONNX: `metadata_props`. SavedModel:
`assets.extra/`. `keras_seg.inference.manifest` reads them.
"""

import json
import struct
import zipfile

from keras_seg import utils
from keras_seg.inference.manifest import (
    EXTRA,
    KEY,
    NAME,
    SEAL,
    SEAL_LENGTH,
    content_sha256,
    seal,
)

LABELS = "labels.txt"
# Of the schema: enum AssociatedFileType, enum ColorSpaceType, and the members of its unions.
_DESCRIPTIONS, _AXIS_LABELS, _VALUE_LABELS = 1, 2, 3
_RGB, _GRAYSCALE = 1, 2
_IMAGE_PROPERTIES, _NORMALIZATION = 2, 1


def pack(path, entry, content):
    """Pack the manifest `content` into a written file or SavedModel folder.

    The network in it stays as it is, byte by byte: everything is put behind it or beside it.

    Args:
        path: the file, which for TFLite went through `describe_tflite`.
        entry: its entry of the manifest, {"format", "precision", ...}, without the SHA-256 of the
            whole, which is that of the packed file.
        content: the whole manifest; what it says of other files is left out.
    """
    whole = {"bytes": path.stat().st_size if path.is_file() else None}
    whole["sha256"] = content_sha256(path, whole["bytes"])
    own = {key: value for key, value in content.items() if key != "files"}
    own |= {"file": entry, "content": whole}
    own["operators"] = content["operators"].get(path.name)
    own["parity"] = dict(own["parity"])
    own["parity"]["rows"] = [r for r in own["parity"]["rows"] if r["file"] in ("keras", path.name)]
    own = utils.plain(own)
    files = {LABELS: _labels(own), NAME: json.dumps(own, indent=2)}
    if path.is_dir():
        (path / EXTRA).mkdir()
        for name, text in files.items():
            (path / EXTRA / name).write_text(text, "utf-8")
        (path / EXTRA / SEAL).write_text(seal(path, 0), "ascii")
        return
    if path.suffix == ".tflite":
        with zipfile.ZipFile(path, "a") as archive:  # stored: readers map labels from the file
            for name, text in files.items():
                archive.writestr(zipfile.ZipInfo(name), text)
            archive.comment = b"0" * SEAL_LENGTH
    else:
        with open(path, "ab") as file:
            file.write(_onnx_metadata(own))
    digest = seal(path, whole["bytes"]).encode("ascii")
    with open(path, "r+b") as file:
        file.seek(-SEAL_LENGTH, 2)
        file.write(digest)


def _labels(content):
    return "".join(f"{name}\n" for name in content["classes"]["names"])


def _onnx_metadata(content):
    """The bytes that, put behind an ONNX file, add to its metadata.

    Of a protocol buffer that follows another, single fields replace the earlier ones and repeated
    ones are added, so that the network need not be read and written again.
    """
    import onnx

    classes, model = content["classes"], content["model"]
    values = {
        "names": classes["names"],
        "colors": classes["colors"],
        "ignore_label": classes["ignore_label"],
        "input": content["input"],
        "output": content["output"],
        "data": content["data"],
        "bounds": content["parity"]["bounds"],
        "source_sha256": model.get("sha256"),
        KEY: content,
    }
    proto = onnx.ModelProto(
        producer_name="keras_seg",
        producer_version=content["versions"].get("keras_seg", ""),
        doc_string=_description(content),
    )
    for key, value in values.items():
        if value is not None:
            proto.metadata_props.add(key=key, value=json.dumps(value))
    # The last field of all, so that the digits of its value end the file.
    proto.metadata_props.add(key=SEAL, value="0" * SEAL_LENGTH)
    return proto.SerializeToString()


def describe_tflite(path, content, outputs):
    """Give a `.tflite` file the metadata that its readers know; the ZIP archive follows by `pack`.

    Args:
        path: the file, as the converter wrote it.
        content: the manifest so far: model, classes, data, input, output, versions.
        outputs: names of the file's outputs, in its order.
    """
    metadata = _tflite_metadata(content, outputs)
    path.write_bytes(_with_metadata(path.read_bytes(), b"TFLITE_METADATA", metadata))


def _description(content):
    size, data = content["input"], content["data"]
    lines = [
        f"Semantic segmentation: {size['height']} x {size['width']} pixels 0..255 in, "
        f"out: {content['output']['meaning']}."
    ]
    lines += [f"Trained on {data['name']}."] if data["name"] else []
    return " ".join(lines)


def _tflite_metadata(content, outputs):
    """The flatbuffer of the schema's `ModelMetadata`."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    text = builder.CreateString

    def table(*values):
        """values: None, an offset, or ("Uint8" | "Uint32", number), in the order of the fields."""
        builder.StartObject(len(values))
        for slot, value in enumerate(values):
            if isinstance(value, tuple):
                getattr(builder, f"Prepend{value[0]}Slot")(slot, value[1], 0)
            elif value is not None:
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return builder.EndObject()

    def vector(offsets):
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    def floats(value):
        builder.StartVector(4, 1, 4)
        builder.PrependFloat32(value)
        return builder.EndVector()

    def file(name, description, kind):
        return table(text(name), text(description), ("Uint8", kind))

    taken = content["input"]
    color = _GRAYSCALE if taken["channels"] == 1 else _RGB
    size = table(("Uint32", taken["width"]), ("Uint32", taken["height"]))
    picture = table(("Uint8", color if taken["channels"] in (1, 3) else 0), size)
    # The normalisation is in the network, so that there is none for the application to do.
    normalization = table(floats(0.0), floats(1.0))
    image = table(
        text("image"),
        text("Picture, pixels 0 to 255. Nothing to subtract or to divide by."),
        None,
        table(("Uint8", _IMAGE_PROPERTIES), picture),
        vector([table(("Uint8", _NORMALIZATION), normalization)]),
        table(floats(255.0), floats(0.0)),
        None,
    )
    results = []
    for name in outputs:
        labels = None
        if name == content["output"]["name"]:
            kind = _VALUE_LABELS if name == "labels" else _AXIS_LABELS
            labels = vector([file(LABELS, "The classes' names, one a line.", kind)])
        meaning = content["output"]["meaning"] if labels else "the largest probability"
        results.append(table(text(name), text(meaning), None, None, None, None, labels))
    network = table(None, None, vector([image]), vector(results))
    licence = content["data"]["licence"]
    root = table(
        text(content["model"]["name"]),
        text(_description(content)),
        text(content["versions"].get("keras_seg", "")),
        vector([network]),
        None,
        text(licence) if licence else None,
        vector([file(NAME, "Classes, colours, input, output and proof.", _DESCRIPTIONS)]),
        text("1.0.0"),
    )
    builder.Finish(root, b"M001")
    return bytes(builder.Output())


def _with_metadata(model, name, content):
    """The bytes of a `.tflite` file with one more metadata entry.

    A flatbuffer refers only forwards and relatively. So a new root, with longer lists of buffers
    and of metadata, is put before the old bytes, which stay as they are: 16 bytes further for each
    16 of what is new, so that weights stay aligned. Fields of the schema's `Model` by number: 0 is
    the version, 4 the buffers, 6 the metadata; all but the version are references.
    """

    def number(position, form="<I"):
        return struct.unpack_from(form, model, position)[0]

    def follow(position):
        return position + number(position)

    def tables(position):
        """Positions of what the list of references at `position` refers to."""
        return [follow(position + 4 * i) for i in range(1, number(position) + 1)]

    root = number(0)
    layout = root - number(root, "<i")
    slots = (number(layout, "<H") - 4) // 2
    places = [number(layout + 4 + 2 * i, "<H") for i in range(slots)]
    fields = {i: root + place for i, place in enumerate(places) if place}
    buffers = tables(follow(fields[4]))
    entries = tables(follow(fields[6])) if 6 in fields else []
    used = sorted({*fields, 6})

    new = bytearray(struct.pack("<I4s", 0, b"TFL3"))
    links = []  # (position, target in the old bytes) of references to what is not placed yet

    def place(align=4, ahead=0):
        """The next position; `ahead` bytes further it is a multiple of `align`."""
        new.extend(bytes(-(len(new) + ahead) % align))
        return len(new)

    def refer(position, target):
        struct.pack_into("<I", new, position, target - position)

    # The new root and how it is laid out: two bytes a field say where it is.
    slots = max(slots, 7)
    rows = [4 + 4 * used.index(i) if i in used else 0 for i in range(slots)]
    where = place()
    new += struct.pack(f"<{2 + slots}H", 4 + 2 * slots, 4 + 4 * len(used), *rows)
    top = place()
    refer(0, top)
    new += struct.pack("<i", top - where)
    slot = {i: top + row for i, row in enumerate(rows) if row}
    for i in used:
        new += struct.pack("<I", number(fields[0]) if i == 0 else 0)
        if i not in (0, 4, 6):
            links.append((slot[i], follow(fields[i])))
    ends = []
    for i, old in ((4, buffers), (6, entries)):
        refer(slot[i], place())
        new += struct.pack("<I", len(old) + 1)
        links += [(len(new) + 4 * k, target) for k, target in enumerate(old)]
        ends.append(len(new) + 4 * len(old))
        new += bytes(4 * (len(old) + 1))
    # The new entry (its name, the number of its buffer), and the buffer (its bytes).
    new += struct.pack("<4H", 8, 12, 4, 8)
    refer(ends[1], place())
    new += struct.pack("<iII", 8, 0, len(buffers))
    label = len(new) - 8
    refer(label, place())
    new += struct.pack("<I", len(name)) + name + b"\0"
    place()
    new += struct.pack("<4H", 6, 8, 4, 0)
    refer(ends[0], place())
    new += struct.pack("<iI", 8, 0)
    data = len(new) - 4
    refer(data, place(16, ahead=4))
    new += struct.pack("<I", len(content)) + content
    shift = place(16)
    for position, target in links:
        refer(position, target + shift)
    return bytes(new) + model
