"""TFRecord files and tf.train.Example messages without TensorFlow.

The framing is that of TensorFlow's `record_writer.h`: each record is its length (uint64), the
length's checksum, the bytes, and their checksum (uint32 each), all little-endian. The checksums are
CRC-32C (RFC 3720, appendix B.4), rotated right by 15 bits plus a constant. Messages are protocol
buffers of `tensorflow/core/example/example.proto`.
"""

import functools
import struct

import numpy as np

_HEAD, _FOOT = struct.Struct("<QI"), struct.Struct("<I")
_POLYNOMIAL = 0x82F63B78  # of CRC-32C, lowest bit first
_BLOCK = 256  # bytes that are looked up at once
_FOLD = (5685, 1362, 426)  # found by a search; see `_fold`
_ALL = 0xFFFFFFFF


def frame(data):
    """The bytes of one record that holds `data`."""
    length = struct.pack("<Q", len(data))
    return length + _FOOT.pack(_masked(length)) + data + _FOOT.pack(_masked(data))


def unframe(record, place):
    """What `frame` was given; `place` says in an error which record it is.

    Raises:
        ValueError: if a checksum does not fit or bytes are missing.
    """
    if len(record) < _HEAD.size + _FOOT.size:
        raise ValueError(f"{place} is cut off: {len(record)} bytes. Write the file again.")
    length, check = _HEAD.unpack_from(record)
    if _masked(record[:8]) != check:
        raise ValueError(f"{place} is damaged (checksum of its length). Write the file again.")
    end = _HEAD.size + length
    if len(record) != end + _FOOT.size:
        raise ValueError(
            f"{place} is cut off: {len(record)} of {end + _FOOT.size} bytes. Write the file again."
        )
    data = record[_HEAD.size : end]
    if _masked(data) != _FOOT.unpack_from(record, end)[0]:
        raise ValueError(f"{place} is damaged (checksum of its data). Write the file again.")
    return data


def read_records(path):
    """The records of a TFRecord file, one after the other, as bytes.

    Raises:
        ValueError: naming the file and the number of the record, counted from 0, if it is damaged
            or cut off; or if the file cannot be read.
    """
    try:
        file = open(path, "rb")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}.") from error
    with file:
        size = file.seek(0, 2)
        file.seek(0)
        number = 0
        while file.tell() < size:
            head = file.read(_HEAD.size)
            # A length that fails its checksum is not believed: no memory is asked for.
            sound = len(head) == _HEAD.size and _masked(head[:8]) == _HEAD.unpack(head)[1]
            rest = _HEAD.unpack(head)[0] + _FOOT.size if sound else _FOOT.size
            yield unframe(head + file.read(min(rest, size)), f"{path}: record {number}")
            number += 1


def crc32c(data):
    """CRC-32C of bytes.

    The checksum is linear, so NumPy can do it, at GB/s: long messages are folded onto their last
    bytes, then bytes are looked up by their place in a block of 256, and blocks joined two by two.
    """
    places, shifts = _tables()
    if len(data) < _BLOCK:
        value = _ALL
        for byte in data:
            value = (value >> 8) ^ int(places[-1, (value ^ byte) & 255])
        return value ^ _ALL
    start = -len(data) % _BLOCK
    message = np.zeros(start + len(data), "uint8")  # zeros before the first byte change nothing
    message[start:] = np.frombuffer(data, "uint8")
    message[start : start + 4] ^= 255  # the same as to start from all ones
    message = _fold(_fold(message.view("uint64")).view("uint8"))
    blocks = np.zeros((-(-len(message) // _BLOCK), _BLOCK), "uint8")
    blocks.reshape(-1)[-len(message) :] = message
    values = np.bitwise_xor.reduce(places[np.arange(_BLOCK), blocks], axis=1)
    for shift in shifts:
        if len(values) == 1:
            break
        if len(values) % 2:
            values = np.concatenate([np.zeros(1, "uint32"), values])
        values = _apply(shift, values[::2]) ^ values[1::2]
    return int(values[0]) ^ _ALL


def _fold(words):
    """The end of a message of words, of 1 or 8 bytes, that has the checksum of all of it.

    The polynomial of the checksum divides x^a + x^b + x^c + 1, and hence, over GF(2), the same with
    all exponents times 8 or 64. So a word may be added to those a, a - b and a - c places later
    instead.
    """
    a, b, c = _FOLD
    start = 0
    while len(words) - start > a:
        count = min(a - b, len(words) - start - a)
        for step in (a - b, a - c, a):
            words[start + step : start + step + count] ^= words[start : start + count]
        start += count
    return words[start:]


@functools.cache
def _tables():
    """Of a byte at each place of a block, (256, 256); and of a register 2**n blocks further on."""
    base = np.arange(256, dtype="uint32")
    for _ in range(8):
        base = (base >> 1) ^ (base & 1) * np.uint32(_POLYNOMIAL)
    places = np.empty((_BLOCK, 256), "uint32")
    places[-1] = base
    for place in range(_BLOCK - 2, -1, -1):
        later = places[place + 1]
        places[place] = (later >> 8) ^ base[later & 255]
    shifts = [places[:4]]
    for _ in range(5):  # what is folded has at most 23 blocks
        shifts.append(_apply(shifts[-1], shifts[-1]))
    return places, shifts


def _apply(shift, values):
    """Registers `values` after as many zero bytes as `shift` stands for."""
    parts = [shift[i][values >> (8 * i) & 255] for i in range(4)]
    return parts[0] ^ parts[1] ^ parts[2] ^ parts[3]


def _masked(data):
    value = crc32c(data)
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & _ALL


def encode_example(features):
    """A serialised tf.train.Example of {key: bytes, or a list of integers}."""
    entries = []
    for key, value in features.items():
        if isinstance(value, bytes):
            feature = _block(1, _block(1, value))
        else:
            feature = _block(3, _block(1, b"".join(map(_varint, value))))
        entries.append(_block(1, _block(1, key.encode()) + _block(2, feature)))
    return _block(1, b"".join(entries))


def parse_example(data):
    """{key: list of bytes, integers or floats} of a serialised tf.train.Example.

    Raises:
        ValueError: if it is none.
    """
    found = {}
    for features in _blocks(data, 1):
        for entry in _blocks(features, 1):
            names, values = _blocks(entry, 1), _blocks(entry, 2)
            if not names or not values:
                raise ValueError("not a tf.train.Example: a feature without a name or a value")
            found[bytes(names[-1]).decode()] = _feature(values[-1])
    return found


def _feature(data):
    """The values of a feature, whichever of its three kinds of list it has."""
    values = []
    for strings in _blocks(data, 1):
        values += [bytes(value) for value in _blocks(strings, 1)]
    for floats in _blocks(data, 2):
        for value in _blocks(floats, 1):
            values += np.frombuffer(value, "<f4").tolist()
    for integers in _blocks(data, 3):
        for _, value in _fields(integers):
            # Packed in a block; or one a field, as old writers do it.
            values += [_signed(value)] if isinstance(value, int) else _integers(value)
    return values


def _integers(data):
    values, place = [], 0
    while place < len(data):
        value, place = _read_varint(data, place)
        values.append(_signed(value))
    return values


def _signed(value):
    return value - (1 << 64) if value >> 63 else value


def _blocks(data, number):
    """The blocks of `data` with this field number."""
    return [value for n, value in _fields(data) if n == number and not isinstance(value, int)]


def _fields(data):
    """(field number, value) of a protocol buffer message: an int, or the bytes of a block."""
    data = memoryview(data)
    place = 0
    while place < len(data):
        key, place = _read_varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _read_varint(data, place)
        elif kind in (1, 2, 5):
            length = {1: 8, 5: 4}.get(kind)
            if length is None:
                length, place = _read_varint(data, place)
            if place + length > len(data):
                raise ValueError("not a tf.train.Example: a field is longer than the message")
            value, place = data[place : place + length], place + length
        else:
            raise ValueError(f"not a tf.train.Example: wire type {kind}")
        yield number, value


def _read_varint(data, place):
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value & (1 << 64) - 1, place
    raise ValueError("not a tf.train.Example: a number does not end")


def _varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _block(number, data):
    return _varint(number << 3 | 2) + _varint(len(data)) + data
