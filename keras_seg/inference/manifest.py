"""What an exported file says of itself, and whether it is still the file that was exported.

An export writes `manifest.json` beside its files and packs the same into each of them: into the ZIP
archive that ends a `.tflite` file, into the metadata of an `.onnx` file, and into `assets.extra/`
of a SavedModel. The one beside has the SHA-256 of the whole file; a packed one has that of the
network alone, which is the file up to what was packed. What was packed ends with its own SHA-256.
"""

import hashlib
import json
import mmap
import pathlib
import zipfile
import zlib

from keras_seg import utils

NAME = "manifest.json"
# Where a SavedModel keeps files that TensorFlow leaves alone.
EXTRA = "assets.extra"
# The entry of an ONNX file's metadata_props.
KEY = "keras_seg_manifest"
# The SHA-256 of what is packed: the last entry of metadata_props, a file in `assets.extra/`, and
# the comment at the end of the ZIP archive.
SEAL = "keras_seg_sha256"
SEAL_LENGTH = 64  # hexadecimal digits


def checked_manifest(path):
    """The manifest of a model file or SavedModel folder as a dict, {} where it has none.

    The one beside the file counts, if it lists the file; else the one packed in it; else one beside
    it that is of something else, such as a training run.

    Raises:
        ValueError: if the file is not the one that the manifest describes.
    """
    path = pathlib.Path(path).absolute()
    found = _beside(path)
    entry = found.get("files", {}).get(path.name) if found.get("kind") == "export" else None
    if entry is not None:
        _compare(path, utils.sha256(path), entry["sha256"], beside=True)
        return found
    packed = packed_manifest(path)
    if packed is None:
        return found
    content = packed["content"]
    if not content.keys() >= {"bytes", "sha256"}:
        raise _damaged(path)
    _compare(path, content_sha256(path, content["bytes"]), content["sha256"], beside=False)
    if read_seal(path) != seal(path, content["bytes"]):
        raise _damaged(path)
    return packed


def packed_manifest(path):
    """The manifest that an export packed in a file or SavedModel folder, or None.

    Raises:
        ValueError: if there is one and it cannot be read.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        file = path / EXTRA / NAME
        text = file.read_text("utf-8", "replace") if file.is_file() else None
    elif path.suffix == ".tflite":
        text = _in_zip(path)
    elif path.suffix == ".onnx":
        text = onnx_property(path, KEY)
    else:
        return None
    if text is None:
        # It may be there, and damaged, or what leads to it is.
        ours = path.is_file() and _mentions(path, b"keras_seg")
        if ours and (read_seal(path) or _mentions(path, f'"{KEY}"'.encode())):
            raise _damaged(path)
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _damaged(path) from error
    ours = isinstance(found, dict) and KEY in found and "content" in found
    if not ours and read_seal(path):
        raise _damaged(path)
    return found if ours else None


def seal(path, start):
    """SHA-256, in hexadecimal, of what is packed in a file or SavedModel folder, but for the seal.

    start: the byte of a file at which that begins.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return utils.sha256(path / EXTRA, leave_out=SEAL)
    with open(path, "rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read()[:-SEAL_LENGTH]).hexdigest()


def read_seal(path):
    """The SHA-256 that stands at the end of what is packed; "" where there is none."""
    path = pathlib.Path(path)
    if path.is_dir():
        file = path / EXTRA / SEAL
        return file.read_text("ascii", "replace") if file.is_file() else ""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, 2) - SEAL_LENGTH))
        found = file.read().decode("ascii", "replace")
    return found if set(found) <= set("0123456789abcdef") else ""


def content_sha256(path, size=None):
    """SHA-256 of a file's first `size` bytes, or of a SavedModel without `assets.extra/`."""
    path = pathlib.Path(path)
    if path.is_dir():
        return utils.sha256(path, leave_out=EXTRA)
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while size > 0 and (block := file.read(min(size, 2**20))):
            total.update(block)
            size -= len(block)
    return total.hexdigest()


def onnx_property(path, key):
    """The value of an `.onnx` file's metadata property, or None, without loading the network.

    Walks the outermost fields of the protocol buffer: `metadata_props` is number 14 of ModelProto,
    each a key (1) and a value (2).
    """
    with open(path, "rb") as file:
        end = file.seek(0, 2)
        try:
            for number, start, size in _fields(file, 0, end):
                if number == 14:
                    entry = {
                        n: _bytes(file, s, z) for n, s, z in _fields(file, start, start + size)
                    }
                    if entry.get(1) == key.encode():
                        return entry.get(2, b"").decode("utf-8", "replace")
        except EOFError:  # no protocol buffer: its runtime will say so
            return None
    return None


def _beside(path):
    """Our manifest that lies beside a model file, or in or beside a SavedModel folder; else {}.

    Browser applications and others have files of the same name.
    """
    for folder in (path, path.parent):
        if (folder / NAME).is_file():
            found = utils.read_json(folder / NAME)
            return found if isinstance(found, dict) and "keras_seg_manifest" in found else {}
    return {}


def _in_zip(path):
    """The text of the manifest in the archive behind a file; None where it cannot be found."""
    # What a flipped bit can lead to: another method, an offset outside of the file, a password.
    errors = (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, OSError, EOFError)
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(NAME).decode("utf-8")
    except (KeyError, *errors):
        return None


def _mentions(path, text):
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(text) >= 0


def _damaged(path):
    return ValueError(f"{path} was damaged or changed: the manifest packed in it.")


def _compare(path, found, expected, *, beside):
    if found == expected:
        return
    where, way = f"the manifest packed in {path.name}", "take that manifest out of the file"
    if beside:
        where, way = f"the {NAME} beside it", f"take its entry out of `files` in {NAME}"
    raise ValueError(
        f"{path} is not the file that was exported: its SHA-256 is {found[:12]}..., {where} says "
        f"{expected[:12]}.... It was changed or damaged since. Export it again; if the change was "
        f"meant, {way}."
    )


def _fields(file, position, end):
    """(number, start, size) of each length-delimited field of a protocol buffer."""
    while position < end:
        file.seek(position)
        tag = _varint(file)
        if tag & 7 == 2:
            size = _varint(file)
            position = file.tell()
            yield tag >> 3, position, size
            position += size
        elif tag & 7 == 0:
            _varint(file)
            position = file.tell()
        elif tag & 7 in (1, 5):
            position = file.tell() + (8 if tag & 7 == 1 else 4)
        else:
            raise EOFError


def _varint(file):
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise EOFError


def _bytes(file, start, size):
    file.seek(start)
    return file.read(size)
