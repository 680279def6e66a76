"""What the data tests share: PNGs of any bit depth, written without Pillow, and small folders."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image


def _png(rows, width, height, depth, color_type, chunks=b""):
    """A PNG file's bytes from packed rows: independent of the library under test."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    signature = b"\x89PNG\r\n\x1a\n"
    return (
        signature + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.fixture
def png():
    """png(path, ids, depth, palette=None): write a grey or palette PNG of 1, 2, 4, 8 or 16 bits."""

    def write(path, ids, depth, palette=None):
        ids = np.asarray(ids)
        if depth == 16:
            rows = [row.astype(">u2").tobytes() for row in ids]
        else:
            bits = (ids[..., None] >> np.arange(depth - 1, -1, -1)) & 1
            packed = np.packbits(bits.reshape(len(ids), -1).astype("uint8"), axis=1)
            rows = [row.tobytes() for row in packed]
        chunks = b""
        if palette is not None:
            body = palette[: 2**depth].astype("uint8").tobytes()
            kind = b"PLTE" + body
            chunks = struct.pack(">I", len(body)) + kind + struct.pack(">I", zlib.crc32(kind))
        color_type = 0 if palette is None else 3
        path.write_bytes(_png(rows, ids.shape[1], ids.shape[0], depth, color_type, chunks))
        return path

    return write


@pytest.fixture
def save():
    """save(path, array): write an image through Pillow, making its folder."""

    def write(path, array, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(array, "uint8")).save(path, **options)
        return path

    return write


@pytest.fixture
def make_folder(tmp_path, save):
    """make_folder(names, root=...): images/ and masks/ of 8x6 pixels with the ids 0, 1 and 2."""

    def make(names=("a", "b", "c"), root=tmp_path / "set"):
        rng = np.random.default_rng(0)
        for name in names:
            save(root / "images" / f"{name}.png", rng.integers(0, 256, (8, 6, 3)))
            save(root / "masks" / f"{name}.png", np.arange(48).reshape(8, 6) % 3)
        return root

    return make
