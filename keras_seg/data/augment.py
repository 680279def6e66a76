"""Random changes of an image together with its label map.

The order and the distributions are semseg's (Zhao et al., the code of PSPNet, CVPR 2017): scale,
rotate, blur, flip, crop; colours, which it leaves alone, come first, so that padding keeps its own.
Labels are only ever moved or replaced by the ignored id: every resampling of a mask is nearest
neighbour. Only the window that is cropped in the end is computed.
"""

import dataclasses
import numbers

import numpy as np

from keras_seg.data import color, elastic
from keras_seg.data.color import pad_color
from keras_seg.data.geometry import (
    INTERPOLATIONS,
    Turn,
    clip_window,
    pad_to,
    read_mirrored,
    resize_image,
    resize_label,
)

__all__ = ["Augment", "pad_color", "pad_to", "resize_image", "resize_label"]

PADDING = ("color", "mirror", "mirror_image")
CROP_TRIES = 10  # of `cat_max_ratio`, as mmseg
MAP_TYPES = ("uint8", "int32", "float32")  # which Pillow turns


@dataclasses.dataclass(frozen=True)
class Augment:
    """`augment(image, label, rng)` -> (image, label), changed at random.

    An instance holds no state: the result follows from the `numpy.random.Generator`. Images are
    uint8 (H, W, C) with any C; labels uint8 (H, W), or (H, W, K) where a pixel has K labels.
    `augment(image, label, rng, weights)`, with float32 (H, W), moves the weights of the pixels
    along, 0 on padding, and returns them as third. `extras`, a dict of further maps (H, W) or
    (H, W, K), comes back as the last: each value the nearest pixel's; padding of uint8 maps, taken
    for labels, is `ignore_label`, of int32 (instances) and float32 (depth) 0. The image and the
    label are those of the call without weights and extras. The steps are taken in the order color,
    distortion, resize and scale, rotation, elastic, blur, flip, vertical_flip, turns, crop.

    Args:
        crop: (H, W), or one number for both: a random window of this size. Where the
            image is smaller it is first padded, see `pad` and `pad_at`. None: the size stays as
            the steps before leave it.
        scale: (low, high): both sides times a factor drawn uniformly from it (semseg; not log-
            uniformly). Images bilinear, with the support widened when they shrink.
        rotation: with probability `rotation_probability`, turn by an angle drawn uniformly from
            -rotation..rotation degrees about the centre; what comes in from outside is padding.
        blur: probability of a Gaussian blur of 5 x 5 pixels, sigma 1.1.
        flip: mirror left-right with probability 1/2.
        vertical_flip: mirror top-bottom with probability 1/2.
        color: strength s of the jitter of brightness, contrast and saturation (each a factor drawn
            uniformly from 1-s..1+s), or four numbers for brightness, contrast, saturation and hue
            (a turn of the colour circle drawn from -hue..hue, at most 0.5). Of one or two channels
            only brightness and contrast change; a fourth channel keeps its own mean in contrast; of
            more than four only the first three change.
        pad_color: one value 0..255 a channel; None: ImageNet's mean.
        ignore_label: id of padded pixels.
        scale_steps: factors of which one is drawn, instead of `scale` (DeepLab v2: 0.5, 0.75, 1,
            1.25, 1.5).
        aspect: (low, high): width to height times a factor drawn uniformly from it, the area as
            `scale` says (semseg).
        resize: (H, W) to which every image comes first; `scale` then multiplies this size.
        short_side: length to which the short side comes first, keeping the aspect.
        long_side: the same of the long side (PyTorch-Encoding: 520, times 0.5..2).
        bound: (long, short): the largest size within it comes first, keeping the aspect (mmseg:
            (2048, 512)). One of these four at most; all are one resampling together with `scale`.
        interpolation: of resized images, "bilinear" or "bicubic" (DRN).
        rotation_probability: 1/2 in semseg, 1 in DRN.
        elastic: standard deviation, in pixels, of the displacement vectors of a coarse grid, which
            cubic interpolation carries to every pixel (U-Net: 10); 0: none.
        elastic_grid: points of that grid in each direction.
        distortion: SSD's photometric distortion, see `keras_seg.data.color.draw_distortion`: each
            with probability 1/2 brightness, contrast, saturation and hue. Of one or two channels
            only brightness and contrast: the variation of grey values.
        turns: turn by 0, 90, 180 or 270 degrees, each with probability 1/4. A `crop` follows it.
        swap: pairs of ids (channels of (H, W, K)) that change places where the picture is mirrored:
            left and right of a body, ((14, 15), (16, 17), (18, 19)) of LIP.
        pad: what lies outside of the image: "color": `pad_color` and `ignore_label`; "mirror": the
            image and its maps, mirrored about the outermost pixels (Dilation, U-Net);
            "mirror_image": the image mirrored, but labels ignored (DRN).
        pad_at: where a smaller image is padded: "both" sides alike, or the "end", at the bottom and
            the right (DeepLab v1, PyTorch-Encoding, mmseg).
        margin: pixels of padding around every image before the crop, for networks without padding
            of their own, which lose them again (Dilation: 186; U-Net: 92). Less than the crop.
        centre: crop the middle and not a random window.
        cat_max_ratio: draw the window up to 10 times, until no class has more than this share of
            its pixels, ignored ones aside, and not all are ignored (mmseg: 0.75). 1: the first will
            do.

    Raises:
        ValueError: if an argument is out of its range, or, on a call, does not fit the sample.
    """

    crop: tuple | int | None = None
    scale: tuple = (0.5, 2.0)
    rotation: float = 0.0
    blur: float = 0.0
    flip: bool = True
    vertical_flip: bool = False
    color: float | tuple = 0.0
    pad_color: tuple | None = None
    ignore_label: int = 255
    _: dataclasses.KW_ONLY
    scale_steps: tuple | None = None
    aspect: tuple | None = None
    resize: tuple | None = None
    short_side: int | None = None
    long_side: int | None = None
    bound: tuple | None = None
    interpolation: str = "bilinear"
    rotation_probability: float = 0.5
    elastic: float = 0.0
    elastic_grid: int = 3
    distortion: bool = False
    turns: bool = False
    swap: tuple = ()
    pad: str = "color"
    pad_at: str = "both"
    margin: int = 0
    centre: bool = False
    cat_max_ratio: float = 1.0

    def __post_init__(self):
        crop = (self.crop, self.crop) if isinstance(self.crop, numbers.Integral) else self.crop
        if crop is not None and not (_are(numbers.Integral, crop) and min(crop) >= 1):
            raise ValueError(f"crop must be (H, W) of at least 1, or None; got {self.crop!r}.")
        color = (self.color,) * 3 + (0.0,) if isinstance(self.color, int | float) else self.color
        if len(color) != 4 or min(color) < 0 or max(color) > 1 or color[3] > 0.5:
            raise ValueError(
                "color must be a strength 0..1, or four for brightness, contrast, saturation and "
                f"hue (0..0.5); got {self.color!r}."
            )
        for name, limits in (("scale", self.scale), ("aspect", self.aspect or (1, 1))):
            if not _are(numbers.Real, limits) or not 0 < limits[0] <= limits[1]:
                raise ValueError(f"{name} must be (low, high), 0 < low <= high; got {limits!r}.")
        steps = self.scale_steps
        if steps is not None and (len(steps) < 1 or min(steps) <= 0):
            raise ValueError(f"scale_steps must be factors above 0, got {steps!r}.")
        self._check_resize()
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation must be in 0..180 degrees, got {self.rotation}.")
        for name in ("blur", "rotation_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, 0..1; got {getattr(self, name)}.")
        if self.elastic < 0 or self.elastic_grid < 2:
            raise ValueError(
                "elastic must be at least 0 pixels and elastic_grid at least 2 points; got "
                f"{self.elastic} and {self.elastic_grid}."
            )
        if self.pad not in PADDING or self.pad_at not in ("both", "end"):
            raise ValueError(
                f'pad must be one of {PADDING} and pad_at "both" or "end"; got {self.pad!r} and '
                f"{self.pad_at!r}."
            )
        if self.margin < 0 or (crop is not None and self.margin >= min(crop)):
            raise ValueError(f"margin must be at least 0 and less than crop; got {self.margin}.")
        if not 0 < self.cat_max_ratio <= 1:
            raise ValueError(f"cat_max_ratio must be a share, 0..1; got {self.cat_max_ratio}.")
        pairs = [tuple(p) if isinstance(p, list | tuple) else (p,) for p in self.swap]
        swapped = [label for pair in pairs for label in pair]
        if any(len(pair) != 2 for pair in pairs) or len(set(swapped)) < len(swapped):
            raise ValueError(f"swap must be pairs of different ids, got {self.swap!r}.")
        object.__setattr__(self, "crop", None if crop is None else tuple(crop))
        object.__setattr__(self, "color", tuple(color))
        object.__setattr__(self, "swap", tuple(pairs))

    def _check_resize(self):
        names = ("resize", "short_side", "long_side", "bound")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if len(given) > 1:
            raise ValueError(f"Give one of {', '.join(given)}: each says a size.")
        for name, value in given.items():
            pair = name in ("resize", "bound")
            sides = value if isinstance(value, tuple | list) else (value,)
            whole = all(isinstance(n, numbers.Integral) and n >= 1 for n in sides)
            if not whole or len(sides) != (2 if pair else 1):
                form = "two whole numbers" if pair else "a whole number"
                raise ValueError(f"{name} must be {form} of at least 1, got {value!r}.")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation must be one of {INTERPOLATIONS}, got {self.interpolation!r}."
            )

    def __call__(self, image, label, rng, weights=None, extras=None):
        maps = [label, *([] if weights is None else [weights]), *(extras or {}).values()]
        self._check_sample(image, label, extras or {})
        channels = image.shape[2]
        recolor = self._draw_colors(image, rng)
        frame = Frame(
            image=image,
            maps=maps,
            recolor=recolor,
            size=self._draw_size(label.shape[:2], rng),
            interpolation=self.interpolation,
            pad=self.pad_color or pad_color(channels),
            fills=[self.ignore_label] + [self._fill(m) for m in maps[1:]],
            mirror_image=self.pad != "color",
            mirror_maps=self.pad == "mirror",
        )
        if self.rotation and rng.random() < self.rotation_probability:
            frame.turn = Turn(rng.uniform(-self.rotation, self.rotation), frame.size)
        if self.elastic:
            frame.displacements = elastic.draw_displacements(self.elastic, self.elastic_grid, rng)
        frame.blurred = bool(self.blur) and rng.random() < self.blur
        frame.flipped = self.flip and rng.random() < 0.5
        frame.upended = self.vertical_flip and rng.random() < 0.5
        frame.quarters = int(rng.integers(4)) if self.turns else 0
        window = self._draw_window(frame, rng)
        maps = [frame.read_map(window, i) for i in range(len(maps))]
        if self.swap and frame.flipped != frame.upended:
            maps[0] = self._swapped(maps[0])
        arrays = [np.ascontiguousarray(a) for a in (frame.read_image(window), *maps)]
        if extras is None:
            return tuple(arrays)
        first = len(arrays) - len(extras)
        return *arrays[:first], dict(zip(extras, arrays[first:], strict=True))

    def _check_sample(self, image, label, extras):
        if image.ndim != 3 or image.shape[:2] != label.shape[:2]:
            raise ValueError(
                f"The image is {image.shape}, the label {label.shape}: they must be (H, W, C) and "
                "(H, W) or (H, W, K) of one size."
            )
        if self.pad_color is not None and len(self.pad_color) != image.shape[2]:
            raise ValueError(
                f"pad_color={self.pad_color!r} does not fit an image of {image.shape[2]} channels."
            )
        if self.cat_max_ratio < 1 and label.ndim != 2:
            raise ValueError(
                "cat_max_ratio counts the one class of each pixel: it does not go with labels "
                f"(H, W, K), here {label.shape}."
            )
        for name, array in extras.items():
            if str(array.dtype) not in MAP_TYPES or array.shape[:2] != label.shape[:2]:
                raise ValueError(
                    f"extras[{name!r}] is {array.dtype} {array.shape}: it must be one of "
                    f"{', '.join(MAP_TYPES)} and as large as the label, {label.shape[:2]}."
                )

    def _fill(self, array):
        return self.ignore_label if array.dtype == np.uint8 else 0

    def _draw_colors(self, image, rng):
        """The change of the pixels' values as a function of them, or None."""
        channels = image.shape[2]
        changes = []
        if any(self.color):
            count = 3 if channels > 4 else channels
            drawn = color.draw_jitter(self.color, count, rng)
            # The mean matters only where the contrast changes.
            mean = np.zeros(count, "float32")
            if self.color[1]:
                mean = color.channel_means(image[..., :count])
            matrix, offset = color.jitter_matrix(drawn, mean)
            changes.append(lambda pixels: color.change_colors(pixels, matrix, offset))
        if self.distortion:
            distortion = color.draw_distortion(channels, rng)
            changes.append(lambda pixels: color.distort(pixels, distortion))
        if not changes:
            return None

        def recolor(pixels):
            for change in changes:
                pixels = change(pixels)
            return pixels

        return recolor

    def _draw_size(self, size, rng):
        """(H, W) to which a picture of `size` is resized."""
        down = across = self._first_factor(size)
        sides = self.resize or size
        if self.scale_steps is not None:
            factor = self.scale_steps[int(rng.integers(len(self.scale_steps)))]
        elif tuple(self.scale) != (1.0, 1.0):
            factor = rng.uniform(*self.scale)
        else:
            factor = 1.0
        down, across = down * factor, across * factor
        if self.aspect is not None:
            root = rng.uniform(*self.aspect) ** 0.5
            down, across = down / root, across * root
        return max(1, round(sides[0] * down)), max(1, round(sides[1] * across))

    def _first_factor(self, size):
        if self.short_side is not None:
            return self.short_side / min(size)
        if self.long_side is not None:
            return self.long_side / max(size)
        if self.bound is not None:
            return min(max(self.bound) / max(size), min(self.bound) / min(size))
        return 1.0

    def _draw_window(self, frame, rng):
        """What to return, (top, bottom, left, right) of the frame's picture, or beyond it."""
        size = frame.turned_size
        ends = [n + 2 * self.margin for n in size]
        if self.crop is None:
            return -self.margin, ends[0] - self.margin, -self.margin, ends[1] - self.margin

        def draw(end, length):
            padding = max(length - end, 0)
            before = padding // 2 if self.pad_at == "both" else 0
            spare = end + padding - length
            start = spare // 2 if self.centre else int(rng.integers(spare + 1))
            return start - before - self.margin

        for _ in range(CROP_TRIES if self.cat_max_ratio < 1 else 1):
            top, left = (draw(e, n) for e, n in zip(ends, self.crop, strict=True))
            window = (top, top + self.crop[0], left, left + self.crop[1])
            if self.cat_max_ratio == 1 or self._is_mixed(frame.read_map(window, 0)):
                break
        return window

    def _is_mixed(self, label):
        """Whether a label map shows classes and none has more than its share."""
        counts = np.bincount(label.ravel(), minlength=256)
        counts[self.ignore_label] = 0
        return 0 < counts.max() <= self.cat_max_ratio * counts.sum()

    def _swapped(self, label):
        pairs = [*self.swap, *(pair[::-1] for pair in self.swap)]
        order = np.arange(256 if label.ndim == 2 else label.shape[2])
        highest = max(map(max, pairs))
        if highest >= len(order):
            raise ValueError(f"swap names label {highest}, but the labels are 0..{len(order) - 1}.")
        for one, other in pairs:
            order[one] = other
        return order.astype("uint8")[label] if label.ndim == 2 else label[..., order]


def _are(kind, pair):
    """Whether it is two numbers of a kind."""
    return (
        isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(n, kind) for n in pair)
    )


@dataclasses.dataclass
class Frame:
    """A sample and what was drawn for it: any window of the result can be read.

    The picture is resized to `size`, turned, displaced and blurred; then flipped and turned by
    quarters, which changes the size to `turned_size`.
    """

    image: np.ndarray
    maps: list
    recolor: object
    size: tuple
    interpolation: str
    pad: tuple
    fills: list
    mirror_image: bool
    mirror_maps: bool
    turn: Turn | None = None
    displacements: np.ndarray | None = None
    blurred: bool = False
    flipped: bool = False
    upended: bool = False
    quarters: int = 0

    @property
    def turned_size(self):
        return self.size[::-1] if self.quarters % 2 else self.size

    def read_image(self, window):
        """What the image shows in a window, padded where this lies outside."""
        return self._pad(self._flipped_image, window, self.pad, self.mirror_image)

    def read_map(self, window, index):
        """The same of one of the maps."""

        def read(window):
            return self._flip(lambda w: self._displaced_map(w, index), window)

        return self._pad(read, window, self.fills[index], self.mirror_maps)

    def _pad(self, read, window, fill, mirror):
        size = self.turned_size
        inner = clip_window(window, size)
        if inner == window:
            return read(window)
        if mirror:
            return read_mirrored(read, size, window)
        needed = (window[1] - window[0], window[3] - window[2])
        return pad_to(read(inner), needed, fill, (inner[0] - window[0], inner[2] - window[2]))

    def _flipped_image(self, window):
        return self._flip(self._blurred_image, window)

    def _flip(self, read, window):
        """`read(window)` of the picture before it was flipped and turned, and these changes."""
        top, bottom, left, right = window
        height, width = self.turned_size
        for _ in range(self.quarters):
            # Row i of an anticlockwise quarter was column (its height) - 1 - i.
            top, bottom, left, right = left, right, height - bottom, height - top
            height, width = width, height
        if self.upended:
            top, bottom = height - bottom, height - top
        if self.flipped:
            left, right = width - right, width - left
        array = read((top, bottom, left, right))
        array = array[:, ::-1] if self.flipped else array
        array = array[::-1] if self.upended else array
        return np.rot90(array, self.quarters) if self.quarters else array

    def _blurred_image(self, window):
        if not self.blurred:
            return self._displaced_image(window)
        top, bottom, left, right = window
        reach = color.BLUR_REACH
        wider = (top - reach, bottom + reach, left - reach, right + reach)
        wider = clip_window(wider, self.size)
        image = color.blur(self._displaced_image(wider))
        return image[top - wider[0] : bottom - wider[0], left - wider[2] : right - wider[2]]

    def _displaced_image(self, window):
        if self.displacements is None:
            return self._turned_image(window)
        whole = self._turned_image((0, self.size[0], 0, self.size[1]))
        fill = None if self.mirror_image else self.pad
        return elastic.sample_image(whole, *self._places(window), fill)

    def _displaced_map(self, window, index):
        if self.displacements is None:
            return self._turned_map(window, index)
        whole = self._turned_map((0, self.size[0], 0, self.size[1]), index)
        fill = None if self.mirror_maps else self.fills[index]
        return elastic.sample_map(whole, *self._places(window), fill)

    def _places(self, window):
        """Rows and columns that the pixels of a window show."""
        rows, columns = elastic.displacement_field(self.displacements, self.size, window)
        rows += np.arange(window[0], window[1], dtype="float32")[:, None]
        columns += np.arange(window[2], window[3], dtype="float32")
        return rows, columns

    def _turned_image(self, window):
        def read(window):
            return resize_image(self.image, self.size, window, self.interpolation, self.recolor)

        if self.turn is None:
            return read(window)
        part, place = self._around(read, window, self.mirror_image)
        return self.turn.image(part, place, window, self.pad)

    def _turned_map(self, window, index):
        def read(window):
            return resize_label(self.maps[index], self.size, window)

        if self.turn is None:
            return read(window)
        part, place = self._around(read, window, self.mirror_maps)
        return self.turn.map(part, place, window, self.fills[index])

    def _around(self, read, window, mirror):
        """What a window of the turned picture shows of the unturned one, and (top, left) of it."""
        reach = self.turn.reach(window)
        if mirror:
            return read_mirrored(read, self.size, reach), (reach[0], reach[2])
        inner = clip_window(reach, self.size)
        return read(inner), (inner[0], inner[2])
