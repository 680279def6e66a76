"""Bilinear resizing, a few rows at a time: large maps of scores need not exist as a whole.

Each output row is a sum of weighted source rows, each output column one of source columns (`Taps`),
so that any part of a resized image can be computed from the part of the source that it needs, with
the same result as from the whole.
"""

import functools
from typing import NamedTuple

import numpy as np

from keras_seg.utils import unknown_name

# Where an output pixel looks in the source; `Predictor` says who uses which.
SAMPLINGS = ("antialias", "half_pixel", "align_corners", "legacy")

# About how much a block of rows should hold; every scale of a picture has several on their way.
_BLOCK_BYTES = 2**22


class Taps(NamedTuple):
    """Which n source pixels make up each of N output pixels along one axis, with what weights."""

    index: np.ndarray  # (N, n) integers
    weight: np.ndarray  # (N, n) float32, each row adds up to 1

    def part(self, chosen):
        """The taps of some of the output pixels: a slice, or an array of indices."""
        return Taps(self.index[chosen], self.weight[chosen])

    def reach(self):
        """(first, last + 1) source pixel that counts."""
        return int(self.index.min()), int(self.index.max()) + 1

    def apply(self, array, axis, offset=0):
        """`array` (H, W, C) resized along an axis; its first pixel is the source's `offset`."""
        shape = [1, 1, 1]
        shape[axis] = -1
        total = None
        for index, weight in zip(self.index.T, self.weight.T, strict=True):
            part = np.take(array, index - offset, axis=axis) * weight.reshape(shape)
            total = part if total is None else np.add(total, part, out=total)
        return total


@functools.lru_cache(64)
def taps(length, new, sampling):
    """The `Taps` from `length` pixels to `new` ones; None where nothing changes."""
    if length == new:
        return None
    scale = length / new
    if sampling == "antialias" and scale > 1:
        center = (np.arange(new) + 0.5) * scale
        index = np.floor(center - scale + 0.5).astype(int)[:, None]
        index = index + np.arange(2 * int(np.ceil(scale)) + 1)
        weight = 1 - np.abs((index + 0.5 - center[:, None]) / scale)
        weight[(index < 0) | (index >= length)] = 0
        weight = np.maximum(weight, 0)
        weight /= weight.sum(axis=1, keepdims=True)
        # A tap that counts for nothing must not widen the reach.
        index = np.where(weight > 0, index, index[np.arange(new), weight.argmax(axis=1)][:, None])
        return Taps(index, weight.astype("float32"))
    if sampling == "align_corners":
        position = np.arange(new) * ((length - 1) / max(1, new - 1))
    elif sampling == "legacy":
        position = np.arange(new) * scale
    else:
        position = (np.arange(new) + 0.5) * scale - 0.5
    position = np.clip(position, 0, length - 1)
    low = np.minimum(position.astype(int), max(0, length - 2))
    share = position - low
    index = np.stack([low, np.minimum(low + 1, length - 1)], axis=1)
    return Taps(index, np.stack([1 - share, share], axis=1).astype("float32"))


def is_reduced(size, of):
    """Whether a map of `size` is one of a whole image of size `of`, 2, 4, ... or 32 times smaller.

    Another one has lost its border to valid convolutions.
    """
    return any(
        all(abs(n - whole / stride) <= 1 for n, whole in zip(size, of, strict=True))
        for stride in (2, 4, 8, 16, 32)
    )


def check_sampling(sampling):
    """Raise ValueError for the name of no sampling."""
    if sampling not in SAMPLINGS:
        raise unknown_name("sampling", sampling, SAMPLINGS)


def resize(image, size, sampling="antialias"):
    """Resize an image or a map of scores bilinearly, each channel by itself.

    Args:
        image: (H, W, C) of any numeric type.
        size: (h, w) of the result.
        sampling: where output pixel i of n lies in the source of N pixels:
            - "half_pixel": (i + 0.5) N / n - 0.5, as OpenCV, PyTorch and TensorFlow 2 do.
            - "antialias" (default): the same, but where a side shrinks the filter widens with it,
              so that every source pixel counts.
            - "align_corners": i (N - 1) / (n - 1), the corners' centres stay in place.
            - "legacy": i N / n, as TensorFlow 1 did by default.

    Returns:
        float32 (h, w, C).

    Raises:
        ValueError: for another sampling.
    """
    check_sampling(sampling)
    picture = Picture(image, size, sampling)
    if picture.unchanged:
        return np.asarray(image, "float32")
    result = np.empty((*size, picture.channels), "float32")
    step = block_rows(size[1] * picture.channels)
    for row in range(0, size[0], step):
        rows = np.arange(row, min(row + step, size[0]))
        result[row : row + step] = picture.take(rows, np.arange(size[1]))
    return result


class Picture:
    """An image (H, W, C) at another size, whose pixels are computed when they are asked for.

    Attributes: `size`, the (H, W) that it appears in; `channels`; `unchanged`, whether that is the
    image's own size.
    """

    def __init__(self, image, size=None, sampling="antialias"):
        image = np.asarray(image)
        if image.dtype not in (np.uint8, np.float32):
            image = image.astype("float32")
        self._image = image
        self.channels = image.shape[2]
        self.size = image.shape[:2] if size is None else tuple(size)
        self._rows, self._columns = (
            taps(side, new, sampling) for side, new in zip(image.shape[:2], self.size, strict=True)
        )
        self.unchanged = self._rows is None and self._columns is None

    def take(self, rows, columns):
        """The pixels, float32, at arrays of row and column indices."""
        if self._rows is None:
            part = self._image[rows[0] : rows[-1] + 1] if _run(rows) else self._image[rows]
        else:
            vertical = self._rows.part(rows)
            first, last = vertical.reach()
            part = self._image[first:last]
        if self._columns is None:
            part = part[:, columns[0] : columns[-1] + 1] if _run(columns) else part[:, columns]
        else:
            part = self._columns.part(columns).apply(part, axis=1)
        if self._rows is not None:
            part = vertical.apply(part, axis=0, offset=first)
        return np.asarray(part, "float32")

    def window(self, y, x, size, color):
        """The (h, w) pixels from row y and column x on; outside the picture they are `color`."""
        inside = [
            np.arange(max(0, start), min(start + side, end))
            for start, side, end in zip((y, x), size, self.size, strict=True)
        ]
        pixels = self.take(*inside)
        if pixels.shape[:2] == tuple(size):
            return pixels
        result = np.empty((*size, self.channels), "float32")
        result[...] = color
        top, left = inside[0][0] - y, inside[1][0] - x
        result[top : top + len(inside[0]), left : left + len(inside[1])] = pixels
        return result


def _run(indices):
    """Whether the indices are a run n, n + 1, ...: a slice does, which copies nothing."""
    return len(indices) > 0 and bool((np.diff(indices) == 1).all())


def block_rows(numbers):
    """How many rows of so many float32 numbers make a block."""
    return max(1, _BLOCK_BYTES // (4 * numbers))


def blocks(array, columns=None):
    """An array (H, W, K) as a stream: blocks of its rows, from the top, of a range of columns."""
    first, last = columns or (0, array.shape[1])
    step = block_rows((last - first) * array.shape[2])
    for row in range(0, array.shape[0], step):
        yield array[row : row + step, first:last]


def source_columns(width, new, sampling, columns):
    """The range of source columns that a range of columns of the resized map needs."""
    horizontal = taps(width, new, sampling)
    return columns if horizontal is None else horizontal.part(slice(*columns)).reach()


def resize_blocks(stream, source, size, sampling, columns):
    """Resize a map (H, W, K) that comes, and goes, as a stream of blocks of rows.

    Args:
        stream: its rows from the top, each block (n, w, K) with the columns `source_columns`.
        source, size: (H, W) of the whole map, before and after.
        sampling: as for `resize`.
        columns: (first, last + 1) column of the result to compute.

    Returns:
        iterator of blocks (n, last + 1 - first, K).
    """
    vertical = taps(source[0], size[0], sampling)
    horizontal = taps(source[1], size[1], sampling)
    if horizontal is not None:
        horizontal = horizontal.part(slice(*columns))
        offset = horizontal.reach()[0]
        stream = (
            horizontal.apply(part, axis=1, offset=offset)
            for block in stream
            for part in blocks_of(block, (columns[1] - columns[0]) * block.shape[2])
        )
    return stream if vertical is None else _resize_rows(stream, vertical)


def _resize_rows(stream, vertical):
    count = len(vertical.index)
    # Rows are finished in order: row i needs no source row behind ends[i].
    ends = np.maximum.accumulate(vertical.index.max(axis=1)) + 1
    starts = np.minimum.accumulate(vertical.index.min(axis=1)[::-1])[::-1]
    held, offset, done = None, 0, 0
    for block in stream:
        held = block if held is None else np.concatenate([held, block])
        ready = int(np.searchsorted(ends, offset + len(held), side="right"))
        step = block_rows(held.shape[1] * held.shape[2])
        for row in range(done, ready, step):
            rows = vertical.part(slice(row, min(row + step, ready)))
            yield rows.apply(held, axis=0, offset=offset)
        done = ready
        end = offset + len(held)
        needed = min(int(starts[done]), end) if done < count else end
        # A copy, so that the rows that are not needed any more are freed.
        held, offset = held[needed - offset :].copy(), needed


def blocks_of(block, numbers):
    """A block in parts whose rows of so many numbers each make no more than a block."""
    step = block_rows(numbers)
    for row in range(0, len(block), step):
        yield block[row : row + step]


def equal_blocks(stream, rows):
    """The same stream in blocks of `rows` rows each (the last has what is left)."""
    held = None
    for block in stream:
        held = block if held is None else np.concatenate([held, block])
        start = 0
        while len(held) - start >= rows:
            yield held[start : start + rows].copy()
            start += rows
        held = held[start:].copy()
    if held is not None and len(held):
        yield held
