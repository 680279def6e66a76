"""Large images through small windows: sliding window, overlap-tile, and the resize they share.

A network is here any function from one float32 image (h, w, C) to one float32 map (h', w', K); the
code is NumPy and Pillow, so that it drives a Keras model and a device file alike.

Sources: hszhao/semseg `tool/test.py` (sliding window); Ronneberger, Fischer, Brox. "U-Net", MICCAI
2015, Figure 2 (overlap-tile).
"""

import numpy as np
from PIL import Image

# The ImageNet mean: the padding that semseg uses, and black after the usual normalisations.
IMAGENET_MEAN = (123.675, 116.28, 103.53)


def mean_color(channels):
    """The colour that pads images of C channels: ImageNet's mean for RGB, else mid-grey."""
    color = IMAGENET_MEAN if channels == 3 else (127.5,) * channels
    return np.array(color, "float32")


def resize(image, size):
    """Resize an image or a map of scores bilinearly, each channel by itself.

    Sampling is at half-pixel centres. When a side shrinks, the filter widens with it (antialias),
    so that every source pixel counts and a sum over channels of 1 stays 1.

    Args:
        image: (H, W, C) of any numeric type.
        size: (h, w) of the result.

    Returns:
        float32 (h, w, C).
    """
    image = np.asarray(image, "float32")
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    result = np.empty((height, width, image.shape[2]), "float32")
    for channel in range(image.shape[2]):
        plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
        result[..., channel] = plane.resize((width, height), Image.Resampling.BILINEAR)
    return result


def window_starts(length, window, stride):
    """First pixels of the windows that cover `length` pixels; the last window is shifted back.

    >>> window_starts(1024, 713, 476)
    [0, 311]

    An axis that is not longer than the window has the one window 0 (pad the image to it first).
    """
    if length <= window:
        return [0]
    count = -(-(length - window) // stride) + 1
    return [min(index * stride, length - window) for index in range(count)]


class SlidingWindow:
    """Score an image of any size by a network that sees `window` pixels at a time (semseg's rule).

    Windows lie `stride` apart, the last of a row or column is shifted back to end at the border,
    and where windows overlap the scores are averaged. An image smaller than the window is padded
    with the mean colour, half of it (rounded down) at the top and left, and the padding is cut off
    the result.

    Args:
        window: (H, W) of a window, or one number for a square.
        stride: (y, x) or one number; default two thirds of the window, rounded up.
        weighting: "uniform" (the papers) or "gaussian": pixels near a window's centre count more
            (standard deviation an eighth of the window).

    Raises:
        ValueError: for a window or stride that is not positive, a stride longer than the window
            (pixels would be left out), or an unknown weighting.
    """

    def __init__(self, window, stride=None, weighting="uniform"):
        self.window = pair(window, "window")
        if stride is None:
            self.stride = tuple(-(-2 * side // 3) for side in self.window)
        else:
            self.stride = pair(stride, "stride")
        if any(s > w for s, w in zip(self.stride, self.window, strict=True)):
            raise ValueError(
                f"stride {self.stride} is longer than the window {self.window}: pixels would be "
                "left out. Give a stride of at most the window."
            )
        if weighting not in ("uniform", "gaussian"):
            raise ValueError(f"weighting must be 'uniform' or 'gaussian', got {weighting!r}.")
        self.weights = np.ones(self.window, "float32")
        if weighting == "gaussian":
            bells = [_bell(side) for side in self.window]
            self.weights = np.outer(*bells).astype("float32")

    def __call__(self, image, network, color=None):
        """The map (H, W, K) of `image` (H, W, C); `network` returns maps as large as its windows.

        `color` (C,) pads small images; default `mean_color`.
        """
        image = np.asarray(image, "float32")
        height, width = image.shape[:2]
        image, (top, left) = _pad_evenly(image, self.window, color)
        total = None
        weight = np.zeros(image.shape[:2], "float32")
        rows, columns = self.window
        for y in window_starts(image.shape[0], rows, self.stride[0]):
            for x in window_starts(image.shape[1], columns, self.stride[1]):
                part = slice(y, y + rows), slice(x, x + columns)
                scores = network(image[part])
                if total is None:
                    total = np.zeros((*image.shape[:2], scores.shape[2]), "float32")
                total[part] += scores * self.weights[..., None]
                weight[part] += self.weights
        total /= weight[..., None]
        return total[top : top + height, left : left + width]


class OverlapTile:
    """Score an image of any size with a network of valid convolutions, which returns a smaller map.

    The plane of outputs is cut into tiles; each is computed from its tile of the input, which is
    larger by the lost border. Outside the image the input is mirrored (without repeating the edge
    pixel). Tiles do not overlap in the output and need no blending: the result is that of one run
    over the whole mirrored image.

    That holds only if tiles begin at multiples of the network's total stride, because max-pooling
    is not the same at every offset. So tiles are `step` apart, by default the largest multiple of
    16 (the stride of U-Net) that leaves no gap; and the last tile reaches over the border instead
    of being shifted back, the mirrored image with it.

    Args:
        window: (H, W) of the network's input, or one number.
        output: (h, w) of the map that it returns for that input.
        step: (y, x) between tiles, or one number.

    Raises:
        ValueError: if the border is not the same on all sides, or a step is longer than the output.
    """

    def __init__(self, window, output, step=None):
        self.window = pair(window, "window")
        self.output = pair(output, "output")
        lost = [w - o for w, o in zip(self.window, self.output, strict=True)]
        if any(n < 0 or n % 2 for n in lost):
            raise ValueError(
                f"For a window of {self.window} the network returns a map of {self.output}. The "
                "difference must be even, so that the same border is lost on both sides."
            )
        self.border = tuple(n // 2 for n in lost)
        if step is None:
            self.step = tuple(o - o % 16 if o >= 16 else o for o in self.output)
        else:
            self.step = pair(step, "stride")
        if any(s > o for s, o in zip(self.step, self.output, strict=True)):
            raise ValueError(
                f"stride {self.step} is longer than the network's output {self.output}: pixels "
                "would be left out."
            )

    def __call__(self, image, network):
        """The map (H, W, K) of `image` (H, W, C)."""
        image = np.asarray(image, "float32")
        height, width = image.shape[:2]
        result = None
        for y in range(0, _reach(height, self.output[0], self.step[0]), self.step[0]):
            for x in range(0, _reach(width, self.output[1], self.step[1]), self.step[1]):
                rows = _mirrored(y - self.border[0], self.window[0], height)
                columns = _mirrored(x - self.border[1], self.window[1], width)
                tile = network(image[np.ix_(rows, columns)])
                if result is None:
                    result = np.empty((height, width, tile.shape[2]), "float32")
                target = result[y : y + self.output[0], x : x + self.output[1]]
                target[...] = tile[: target.shape[0], : target.shape[1]]
        return result


def _reach(length, output, step):
    """Where the starts of tiles end: the first start that is not needed to cover `length`."""
    return max(0, -(-(length - output) // step)) * step + 1


def _mirrored(start, count, length):
    """Indices of `count` pixels from `start` on, mirrored at both borders of `length` pixels."""
    period = max(1, 2 * (length - 1))
    index = np.abs(np.arange(start, start + count)) % period
    return np.minimum(index, period - index) if length > 1 else np.zeros(count, int)


def pair(value, name):
    """`value`, one number or (height, width), as two positive ints. ValueError names `name`."""
    values = (value, value) if np.ndim(value) == 0 else tuple(value)
    if len(values) != 2 or any(int(v) != v or v < 1 for v in values):
        raise ValueError(f"{name} must be a positive number or (height, width), got {value!r}.")
    return tuple(int(v) for v in values)


def pad_to_multiple(image, divisor, remainder=0, color=None):
    """Pad an image (H, W, C) at the bottom and right to a size n with n % divisor == remainder.

    `color` (C,) is the padding; default `mean_color`.
    """
    pads = [(remainder - side) % divisor for side in image.shape[:2]]
    return _pad(image, (0, pads[0]), (0, pads[1]), color)


def _pad_evenly(image, size, color):
    """`image` padded to at least `size`, and the padding at (top, left): half, rounded down."""
    missing = [max(0, n - side) for n, side in zip(size, image.shape[:2], strict=True)]
    before = [n // 2 for n in missing]
    after = [n - half for n, half in zip(missing, before, strict=True)]
    return _pad(image, (before[0], after[0]), (before[1], after[1]), color), before


def _pad(image, rows, columns, color):
    if not any((*rows, *columns)):
        return image
    height, width, channels = image.shape
    color = mean_color(channels) if color is None else np.asarray(color, "float32")
    result = np.empty((height + sum(rows), width + sum(columns), channels), "float32")
    result[...] = color
    result[rows[0] : rows[0] + height, columns[0] : columns[0] + width] = image
    return result


def _bell(side):
    offset = np.arange(side) - (side - 1) / 2
    return np.exp(-0.5 * (offset / (side / 8)) ** 2)
