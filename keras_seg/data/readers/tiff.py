"""TIFF files that Pillow cannot give as they are: many bands, 16 bits a band, very large ones."""

import struct

import numpy as np
from PIL import TiffImagePlugin

from keras_seg.utils import atomic_path, writable_folder

# Tags
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS = 256, 257, 258, 259, 262, 273
_SAMPLES, _ROWS, _COUNTS, _PLANES, _FORMAT = 277, 278, 279, 284, 339
_UNCOMPRESSED, _UNSIGNED, _SEPARATE_PLANES = 1, 1, 2


def map_tiff(path):
    """The pixels of an uncompressed TIFF as a read-only memory map (H, W, bands).

    Returns None for a file that is no TIFF, or compressed, in tiles, of other than 8 or 16 unsigned
    bits, or whose strips do not lie one behind the other: then somebody else must decode it.

    Raises:
        ValueError: naming the file, if it ends before its last row.
    """
    try:
        with open(path, "rb") as file:
            header = file.read(8)
            if header[2:3] == b"\x2b":  # BigTIFF
                header += file.read(8)
            tags = TiffImagePlugin.ImageFileDirectory_v2(header)
            file.seek(tags.next)
            tags.load(file)
    except Exception:  # no TIFF, or damaged: whoever decodes it says what is wrong
        return None
    height, width, bands = tags.get(_HEIGHT), tags.get(_WIDTH), tags.get(_SAMPLES, 1)
    offsets, counts = tags.get(_OFFSETS, ()), tags.get(_COUNTS, ())
    bits = set(tags.get(_BITS, (1,)))
    ends = [offset + count for offset, count in zip(offsets, counts, strict=False)]
    if (
        tags.get(_COMPRESSION, _UNCOMPRESSED) != _UNCOMPRESSED
        or set(tags.get(_FORMAT, (_UNSIGNED,))) != {_UNSIGNED}
        or bits not in ({8}, {16})
        or not (height and width and ends)
        or list(offsets[1:]) != ends[:-1]
        or 8 * sum(counts) != height * width * bands * max(bits)
    ):
        return None
    if path.stat().st_size < ends[-1]:
        raise ValueError(f"{path}: damaged: it ends before its last row.")
    kind = "u1" if bits == {8} else ("<u2" if header[:2] == b"II" else ">u2")
    planes = tags.get(_PLANES, 1) == _SEPARATE_PLANES
    shape = (bands, height, width) if planes else (height, width, bands)
    pixels = np.memmap(path, kind, "r", int(offsets[0]), shape)
    return pixels.transpose(1, 2, 0) if planes else pixels


def write_tiff(path, array):
    """Write uint8 or uint16 (H, W, bands) as an uncompressed TIFF, a plane a band."""
    height, width, bands = array.shape
    data = array.transpose(2, 0, 1).astype(array.dtype.newbyteorder("<")).tobytes()
    plane = len(data) // bands
    rows = [
        (_WIDTH, [width]),
        (_HEIGHT, [height]),
        (_BITS, [8 * array.itemsize] * bands),
        (_COMPRESSION, [_UNCOMPRESSED]),
        (_PHOTOMETRIC, [1]),
        (_OFFSETS, [8 + plane * band for band in range(bands)]),
        (_SAMPLES, [bands]),
        (_ROWS, [height]),
        (_COUNTS, [plane] * bands),
        (_PLANES, [_SEPARATE_PLANES if bands > 1 else 1]),
        (_FORMAT, [_UNSIGNED] * bands),
    ]
    start = 8 + len(data)
    after = start + 2 + 12 * len(rows) + 4
    directory, more = struct.pack("<H", len(rows)), b""
    for tag, values in rows:
        packed = struct.pack(f"<{len(values)}I", *values)
        place = packed if len(values) == 1 else struct.pack("<I", after + len(more))
        more += packed if len(values) > 1 else b""
        directory += struct.pack("<HHI", tag, 4, len(values)) + place  # 4: 32-bit numbers
    writable_folder(path.parent)
    with atomic_path(path) as temporary:
        header = struct.pack("<2sHI", b"II", 42, start)
        temporary.write_bytes(header + data + directory + b"\0\0\0\0" + more)
