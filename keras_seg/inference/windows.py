"""Large images through small windows: sliding window by several rules, and overlap-tile.

A network is here a function from float32 images (N, h, w, C) to maps (N, h', w', K); the code is
NumPy, so that it drives a Keras model and a device file alike. Finished rows are handed on as a
stream of blocks (`resize.py`), so that the map of a large image need not exist as a whole.

Sources: hszhao/semseg `tool/test.py`; mmsegmentation `encoder_decoder.py`; PyTorch-Encoding
`MultiEvalModule`; Ronneberger, Fischer, Brox. "U-Net", MICCAI 2015, Figure 2 (overlap-tile).
"""

import dataclasses

import numpy as np

from keras_seg.inference.resize import Picture, block_rows
from keras_seg.utils import unknown_name

# The ImageNet mean: the padding that semseg uses, and black after the usual normalisations.
IMAGENET_MEAN = (123.675, 116.28, 103.53)


def mean_color(channels):
    """The colour that pads images of C channels: ImageNet's mean for RGB, else mid-grey."""
    color = IMAGENET_MEAN if channels == 3 else (127.5,) * channels
    return np.array(color, "float32")


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a sliding window covers an image; see `SlidingWindow`."""

    shift: bool  # the last window back, to end at the border; else it reaches over it
    padding: str  # of an image smaller than the window: "even", "after" or "none"
    black: bool  # the padding's colour; else the mean colour

    def stride(self, window):
        """Two thirds of a window's side, as this rule rounds it."""
        if self.padding == "even":
            return -(-2 * window // 3)
        return 2 * window // 3 if self.padding == "after" else (4 * window + 3) // 6


RULES = {
    "semseg": Rule(shift=True, padding="even", black=False),
    "mmseg": Rule(shift=True, padding="none", black=False),
    "encoding": Rule(shift=False, padding="after", black=True),
}


def find_rule(name):
    """The `Rule` of a name. Raises ValueError for others."""
    if name not in RULES:
        raise unknown_name("rule", name, RULES)
    return RULES[name]


def window_starts(length, window, stride, *, shift=True):
    """First pixels of the windows that cover `length` pixels.

    The last window is shifted back to end at the border, or with `shift=False` reaches over it.

    >>> window_starts(1024, 713, 476)
    [0, 311]

    An axis that is not longer than the window has the one window 0 (pad the image to it first).
    """
    if length <= window:
        return [0]
    starts = [index * stride for index in range(-(-(length - window) // stride) + 1)]
    if shift:
        starts[-1] = length - window
    return starts


class SlidingWindow:
    """Score an image of any size by a network that sees `window` pixels at a time.

    Windows lie `stride` apart, and where they overlap the scores are averaged. The rules differ at
    the borders:

    - "semseg" (PSPNet, PSANet; the default): the last window of a row or column is shifted back to
      end at the border. An image smaller than the window is padded with the mean colour, half of
      it (rounded down) at the top and left. Stride: two thirds of the window, rounded up.
    - "mmseg" (MMSegmentation, SETR): the same windows, but a smaller image is run as it is. Stride:
      two thirds, rounded to the nearest (its configurations: 513 of 769, 341 of 512).
    - "encoding" (PyTorch-Encoding, EncNet): the last window is not shifted; what it lacks, and a
      smaller image, is padded with black at the bottom and right. Stride: two thirds, rounded down.

    Args:
        window: (H, W) of a window, or one number for a square.
        stride: (y, x) or one number; default as the rule has it.
        weighting: "uniform" (the papers) or "gaussian": pixels near a window's centre count more
            (standard deviation an eighth of the window).
        rule: "semseg", "mmseg" or "encoding".
        fixed: the network takes no other size than the window: rule "mmseg" then pads as "semseg".

    Raises:
        ValueError: for a window or stride that is not positive, a stride longer than the window
            (pixels would be left out), or an unknown weighting or rule.
    """

    def __init__(self, window, stride=None, weighting="uniform", rule="semseg", fixed=False):
        self.rule = find_rule(rule)
        self.window = pair(window, "window")
        if stride is None:
            self.stride = tuple(max(1, self.rule.stride(side)) for side in self.window)
        else:
            self.stride = pair(stride, "stride")
        if any(s > w for s, w in zip(self.stride, self.window, strict=True)):
            raise ValueError(
                f"stride {self.stride} is longer than the window {self.window}: pixels would be "
                "left out. Give a stride of at most the window."
            )
        if weighting not in ("uniform", "gaussian"):
            raise ValueError(f"weighting must be 'uniform' or 'gaussian', got {weighting!r}.")
        self.weighting = weighting
        self.padding = "even" if fixed and self.rule.padding == "none" else self.rule.padding

    def spans(self, size):
        """The (start, end) of every window along rows and along columns, for an image (H, W).

        Starts are negative where padding lies before the image, ends beyond it where it lies
        behind.
        """
        found = []
        for length, window, stride in zip(size, self.window, self.stride, strict=True):
            if self.padding == "none":
                window = min(window, length)
            before = max(0, window - length) // 2 if self.padding == "even" else 0
            starts = window_starts(length, window, stride, shift=self.rule.shift)
            found.append([(start - before, start - before + window) for start in starts])
        return tuple(found)

    def __call__(self, image, network, color=None):
        """The map (H, W, K) of `image` (H, W, C); `network` takes and returns one window at a time.

        `color` (C,) is the padding; default the rule's.
        """
        stream = self.rows(
            Picture(image), lambda windows: np.stack([network(w) for w in windows]), color=color
        )
        return np.concatenate(list(stream))

    def count(self, size, columns=None):
        """How many windows an image (H, W) takes, or a range of its columns."""
        rows, across = self.spans(size)
        return len(rows) * len(_touching(across, columns or (0, size[1])))

    def rows(self, picture, network, *, columns=None, batch=1, color=None):
        """The map as a stream: blocks (n, w, K) of its rows from the top.

        Args:
            picture: `resize.Picture`.
            network: takes up to `batch` windows (N, h, w, C), returns (N, h, w, K).
            columns: (first, last + 1) to compute; default all.
            color: (C,) of the padding; default the rule's.
        """
        height, width = picture.size
        first, last = columns or (0, width)
        if color is None:
            color = 0 if self.rule.black else mean_color(picture.channels)
        down, across = self.spans(picture.size)
        size = down[0][1] - down[0][0], across[0][1] - across[0][0]
        bells = [self._weights(side) for side in size]
        # Windows lie on a grid, so that the weights of all at a pixel are a product, too.
        weight_down = _cover(down, bells[0], 0, height)
        weight_across = _cover(across, bells[1], first, last)
        bell = None if self.weighting == "uniform" else np.outer(*bells)[..., None]
        across = _touching(across, (first, last))

        def add(total, top, chosen):
            """Add the scores of some windows. A waiting generator would keep them in a variable."""
            windows = [picture.window(top, left, size, color) for left, _ in chosen]
            scores = network(np.stack(windows))
            if total is None:
                total = np.zeros((size[0], last - first, scores.shape[3]), "float32")
            for (left, right), part in zip(chosen, scores, strict=True):
                begin, end = max(left, first), min(right, last)
                part = part if bell is None else part * bell
                total[:, begin - first : end - first] += part[:, begin - left : end - left]
            return total

        total = None  # of the rows that the current row of windows lies on
        for number, (top, bottom) in enumerate(down):
            for group in range(0, len(across), batch):
                total = add(total, top, across[group : group + batch])
            done = down[number + 1][0] if number + 1 < len(down) else bottom
            step = block_rows(total.shape[1] * total.shape[2])
            for row in range(max(0, top), min(done, height), step):
                stop = min(row + step, done, height)
                weight = weight_down[row:stop, None] * weight_across
                yield total[row - top : stop - top] / weight[..., None]
            _shift_up(total, done - top)

    def _weights(self, side):
        bell = _bell(side) if self.weighting == "gaussian" else np.ones(side)
        return bell.astype("float32")


def _touching(spans, columns):
    return [span for span in spans if span[0] < columns[1] and span[1] > columns[0]]


def _cover(spans, weights, first, last):
    """The sum of the windows' weights at the pixels first .. last - 1."""
    total = np.zeros(last - first, "float32")
    for start, end in _touching(spans, (first, last)):
        begin, stop = max(start, first), min(end, last)
        total[begin - first : stop - first] += weights[begin - start : stop - start]
    return total


def _shift_up(total, rows):
    """Move the content up by `rows`; zeros follow. In parts, since NumPy would copy an overlap."""
    for row in range(0, len(total) - rows, rows):
        part = total[row + rows : row + 2 * rows]
        total[row : row + len(part)] = part
    total[max(0, len(total) - rows) :] = 0


class OverlapTile:
    """Score an image of any size with a network of valid convolutions, which returns a smaller map.

    The plane of outputs is cut into tiles; each is computed from its tile of the input, which is
    larger by the lost border. Outside the image the input is mirrored (without repeating the edge
    pixel). Tiles do not overlap in the output and need no blending: the result is that of one run
    over the whole mirrored image.

    That holds only if tiles begin at multiples of the network's total stride, because max-pooling
    is not the same at every offset. So tiles are `step` apart, by default the largest multiple of
    16 (the stride of U-Net) that leaves no gap, for smaller outputs the largest power of two; and
    the last tile reaches over the border instead of being shifted back, the mirrored image with it.
    An output smaller than the network's stride (4 pixels of a window of 188) leaves no such step.

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
            self.step = tuple(o - o % 16 if o >= 16 else _power_of_two(o) for o in self.output)
        else:
            self.step = pair(step, "stride")
        if any(s > o for s, o in zip(self.step, self.output, strict=True)):
            raise ValueError(
                f"stride {self.step} is longer than the network's output {self.output}: pixels "
                "would be left out."
            )

    def __call__(self, image, network):
        """The map (H, W, K) of `image` (H, W, C); `network` takes and returns a tile at a time."""
        stream = self.rows(Picture(image), lambda tiles: np.stack([network(t) for t in tiles]))
        return np.concatenate(list(stream))

    def count(self, size, columns=None):
        """How many tiles an image (H, W) takes, or a range of its columns."""
        first, last = columns or (0, size[1])
        across = [x for x in self._starts(size, 1) if x < last and x + self.output[1] > first]
        return len(self._starts(size, 0)) * len(across)

    def rows(self, picture, network, *, columns=None, batch=1):
        """The map as a stream: blocks (n, w, K) of its rows from the top.

        Arguments as those of `SlidingWindow.rows`; `network` returns the smaller maps.
        """
        height, width = picture.size
        first, last = columns or (0, width)
        down = self._starts(picture.size, 0)
        across = [
            x for x in self._starts(picture.size, 1) if x < last and x + self.output[1] > first
        ]

        def put(result, y, stop, chosen):
            """Put some tiles in place. A waiting generator would keep them in a variable."""
            rows = _mirrored(y - self.border[0], self.window[0], height)
            tiles = network(np.stack([self._input(picture, rows, x) for x in chosen]))
            if result is None:
                result = np.empty((stop - y, last - first, tiles.shape[3]), "float32")
            for x, tile in zip(chosen, tiles, strict=True):
                begin, end = max(x, first), min(x + self.output[1], last)
                result[:, begin - first : end - first] = tile[: stop - y, begin - x : end - x]
            return result

        for number, y in enumerate(down):
            stop = min(down[number + 1] if number + 1 < len(down) else height, height)
            result = None
            for group in range(0, len(across), batch):
                result = put(result, y, stop, across[group : group + batch])
            yield result

    def _starts(self, size, axis):
        return range(0, _reach(size[axis], self.output[axis], self.step[axis]), self.step[axis])

    def _input(self, picture, rows, x):
        """The window around the tile that starts at column x, mirrored at the borders."""
        columns = _mirrored(x - self.border[1], self.window[1], picture.size[1])
        inside = [np.arange(index.min(), index.max() + 1) for index in (rows, columns)]
        part = picture.take(*inside)
        return part[np.ix_(rows - inside[0][0], columns - inside[1][0])]


def _power_of_two(number):
    """The largest power of two that is not above a number of at least 1."""
    return 1 << (number.bit_length() - 1)


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
