"""Resizing, turning and padding of images (H, W, C) and of maps, whole or only a window of them.

A window is (top, bottom, left, right) of the result. What a window shows is what the whole result
would show there, without the cost of the rest: resized labels exactly, images to one or two grey
values (where bicubic weights overshoot, more), since Pillow takes the borders of a window in single
precision and rounds between the two directions, whose order it chooses by the sizes.
"""

import math

import numpy as np
from PIL import Image

_FILTERS = {
    "bilinear": (Image.Resampling.BILINEAR, 1),  # and how many pixels it reaches
    "bicubic": (Image.Resampling.BICUBIC, 2),
}
INTERPOLATIONS = tuple(_FILTERS)


def pad_to(array, size, fill, place=(0, 0)):
    """Pad (H, W) or (H, W, C) to `size` (H, W) with `fill`, a number or one a channel.

    The array lies at `place` (top, left). `size` is no smaller than the array's.
    """
    top, left = place
    padded = np.empty((*size, *array.shape[2:]), array.dtype)
    padded[:] = fill
    padded[top : top + array.shape[0], left : left + array.shape[1]] = array
    return padded


def _by_planes(image, change):
    """Apply `change` (Pillow image -> Pillow image) to (H, W, C).

    Never as one RGBA picture: Pillow multiplies its colours by alpha when it resamples.
    """
    if image.shape[2] == 3 and image.dtype == np.uint8:
        return np.asarray(change(Image.fromarray(np.ascontiguousarray(image))))
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(image, 2, 0)]
    return np.stack([np.asarray(change(plane)) for plane in planes], axis=2)


def resize_image(image, size, window=None, interpolation="bilinear", change=None):
    """uint8 (H, W, C) at `size` (H, W), with the filter's support widened when it shrinks.

    Args:
        image: uint8 (H, W, C).
        size: (H, W) of the whole result.
        window: which part of the result to return; None: all of it.
        interpolation: "bilinear" or "bicubic".
        change: function of pixels that the needed ones go through before they are resized.
    """
    whole = (0, size[0], 0, size[1])
    window = whole if window is None else tuple(window)
    change = change or (lambda pixels: pixels)
    if tuple(size) == image.shape[:2]:
        return change(_cut(image, window))
    resample, reach = _FILTERS[interpolation]
    if window == whole:
        return _by_planes(change(image), lambda plane: plane.resize(size[::-1], resample))
    top, bottom, y0, y1 = _source(image.shape[0], size[0], *window[:2], reach)
    left, right, x0, x1 = _source(image.shape[1], size[1], *window[2:], reach)
    part = change(image[top:bottom, left:right])
    turned = (window[3] - window[2], window[1] - window[0])
    return _by_planes(part, lambda plane: plane.resize(turned, resample, box=(x0, y0, x1, y1)))


def _source(count, size, start, stop, reach):
    """Which pixels `start`..`stop` of `size` are made of: first, last + 1, and their box in it."""
    scale = count / size
    low, high = start * scale, stop * scale
    margin = reach * max(scale, 1.0) + 1
    first = max(0, math.floor(low - margin))
    last = min(count, math.ceil(high + margin))
    return first, last, low - first, min(high - first, last - first)


def resize_label(label, size, window=None):
    """Ids or weights (H, W) or (H, W, K) at `size` (H, W), each the nearest pixel's."""
    window = (0, size[0], 0, size[1]) if window is None else window
    if tuple(size) == label.shape[:2]:
        return _cut(label, window)
    rows = _nearest(label.shape[0], size[0])[window[0] : window[1]]
    columns = _nearest(label.shape[1], size[1])[window[2] : window[3]]
    return label.take(rows, axis=0).take(columns, axis=1)


def _nearest(count, size):
    """The pixel of `count` that each of `size` shows; as Pillow, which adds up the steps."""
    step = count / size
    places = np.full(size, step)
    places[0] = step * 0.5
    return np.minimum(np.add.accumulate(places).astype("int64"), count - 1)


class Turn:
    """Rotation of a picture of `size` (H, W) by `angle` degrees about its centre, anticlockwise."""

    def __init__(self, angle, size):
        radians = math.radians(angle)
        # Rounded so that multiples of 90 degrees give zeros and ones.
        self.cos, self.sin = round(math.cos(radians), 15), round(math.sin(radians), 15)
        self.size = size

    def _origin(self, x, y):
        """Where (x, y) of the result lies in the picture."""
        middle_y, middle_x = self.size[0] / 2, self.size[1] / 2
        x, y = x - middle_x, y - middle_y
        return self.cos * x - self.sin * y + middle_x, self.sin * x + self.cos * y + middle_y

    def reach(self, window):
        """The window of the picture, also beyond its borders, that a window of the result shows."""
        top, bottom, left, right = window
        corners = [self._origin(x, y) for x in (left, right) for y in (top, bottom)]
        x, y = zip(*corners, strict=True)
        return (
            math.floor(min(y)) - 2,
            math.ceil(max(y)) + 3,
            math.floor(min(x)) - 2,
            math.ceil(max(x)) + 3,
        )

    def image(self, part, place, window, fill):
        """A window of the turned uint8 (H, W, C), bilinear.

        Args:
            part: what the picture shows in a window that covers `reach(window)`, or all that is
                within the picture of it.
            place: (top, left) of `part` in the picture.
            window: of the result.
            fill: colour of what comes in from outside.
        """
        return self._turn(part, place, window, Image.Resampling.BILINEAR, tuple(fill))

    def map(self, part, place, window, fill):
        """A window of the turned map (H, W) or (H, W, K), nearest; arguments as `image`."""
        return self._turn(part, place, window, Image.Resampling.NEAREST, fill)

    def _turn(self, part, place, window, resample, fill):
        x, y = self._origin(window[2], window[0])
        matrix = (self.cos, -self.sin, x - place[1], self.sin, self.cos, y - place[0])
        size = (window[3] - window[2], window[1] - window[0])
        channel_fills = iter(fill if isinstance(fill, tuple) else ())

        def turn(plane):
            color = fill if plane.mode == "RGB" else next(channel_fills, fill)
            return plane.transform(
                size, Image.Transform.AFFINE, matrix, resample=resample, fillcolor=color
            )

        if part.ndim == 3:
            return _by_planes(part, turn)
        return np.asarray(turn(Image.fromarray(np.ascontiguousarray(part))))


def mirrored(places, count):
    """Indices of pixels, any integers, mirrored about the first and the last of `count`."""
    if count == 1:
        return np.zeros_like(places)
    period = 2 * (count - 1)
    places = np.abs(places) % period
    return np.minimum(places, period - places)


def read_mirrored(read, size, window):
    """A window that may reach beyond a picture of `size` (H, W), which is mirrored there.

    `read(window)` gives what is within the picture.
    """
    rows = mirrored(np.arange(window[0], window[1]), size[0])
    columns = mirrored(np.arange(window[2], window[3]), size[1])
    top, left = rows.min(), columns.min()
    part = read((int(top), int(rows.max()) + 1, int(left), int(columns.max()) + 1))
    return part.take(rows - top, axis=0).take(columns - left, axis=1)


def clip_window(window, size):
    """The part of a window that lies within a picture of `size` (H, W), at least one pixel."""
    top, bottom, left, right = window
    top, left = min(max(top, 0), size[0] - 1), min(max(left, 0), size[1] - 1)
    return top, max(min(bottom, size[0]), top + 1), left, max(min(right, size[1]), left + 1)


def _cut(array, window):
    return array[window[0] : window[1], window[2] : window[3]]
