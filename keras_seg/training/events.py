"""Scalars for TensorBoard, written without TensorFlow and without the tensorboard package.

`keras.callbacks.TensorBoard` fails in `fit` where tensorboard is not installed (TensorFlow 2.21 no
longer brings it) and on JAX without TensorFlow. A scalar needs little of the format: a file of
records, each a length and a payload with their CRC-32C, each payload an `Event` protocol buffer.
"""

import pathlib
import socket
import struct
import time


class EventWriter:
    """Appends scalars to a new event file in `folder`, which TensorBoard follows while it grows.

    Args:
        folder: made if missing; earlier event files in it stay and are shown as one curve.
    """

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._file = open(folder / name, "ab")
        self._write(_bytes_field(3, b"brain.Event:2"))

    def scalars(self, step, values):
        """Write {tag: number} at `step`, to the disk before it returns."""
        summary = b"".join(
            _bytes_field(1, _bytes_field(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
            for tag, value in values.items()
        )
        self._write(b"\x10" + _varint(step) + _bytes_field(5, summary))

    def close(self):
        self._file.close()

    def _write(self, event):
        event = b"\x09" + struct.pack("<d", time.time()) + event
        length = struct.pack("<Q", len(event))
        self._file.write(length + _masked_checksum(length) + event + _masked_checksum(event))
        self._file.flush()


def _varint(number):
    """A non-negative integer in protocol buffers' seven bits a byte."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _bytes_field(number, data):
    """Field `number` (below 16) that holds bytes, a string or a message."""
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _table():
    """CRC-32C (Castagnoli) of each byte."""
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


_TABLE = tuple(_table())


def _masked_checksum(data):
    """CRC-32C, rotated and shifted as the record format wants, as four bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
