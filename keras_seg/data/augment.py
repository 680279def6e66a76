"""Random changes of an image together with its label map.

The order and the distributions are semseg's (Zhao et al., the code of PSPNet, CVPR 2017): scale,
rotate, blur, flip, crop; colours, which it leaves alone, come first, so that padding keeps its own.
Labels are only ever moved or replaced by the ignored id: every resampling of a mask is nearest
neighbour.
"""

import dataclasses

import numpy as np
from PIL import Image

_GREY = np.array([0.299, 0.587, 0.114], "float32")  # ITU-R 601 luma
_TO_YIQ = np.array([_GREY, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], "float32")
_BLUR = np.exp(-0.5 * (np.arange(-2, 3) / 1.1) ** 2)  # OpenCV's sigma for 5 taps
_BLUR = (_BLUR / _BLUR.sum()).astype("float32")


def pad_color(channels):
    """The colour that pads images: ImageNet's mean, rounded; its grey value for other channels."""
    return {1: (116,), 3: (124, 116, 104), 4: (124, 116, 104, 116)}[channels]


@dataclasses.dataclass(frozen=True)
class Augment:
    """`augment(image, label, rng)` -> (image, label), changed at random.

    An instance holds no state: the result follows from the `numpy.random.Generator`. Images are
    uint8 (H, W, C), C = 1, 3 or 4; labels uint8 (H, W). `augment(image, label, rng, weights)`, with
    float32 (H, W), moves the weights of the pixels along, 0 on padding, and returns them as third;
    the image and the label are those of the call without. The steps are taken in the order color,
    scale, rotation, blur, flip, vertical_flip, crop.

    Args:
        crop: (H, W), or one number for both: a random window of this size. Where the
            image is smaller it is first padded on both sides alike, with `pad_color` and
            `ignore_label`. None: the size stays as the steps before leave it.
        scale: (low, high): both sides times a factor drawn uniformly from it (semseg; not log-
            uniformly). Images bilinear, with the support widened when they shrink.
        rotation: with probability 1/2, turn by an angle drawn uniformly from -rotation..rotation
            degrees about the centre; what comes in from outside is padding.
        blur: probability of a Gaussian blur of 5 x 5 pixels, sigma 1.1.
        flip: mirror left-right with probability 1/2.
        vertical_flip: mirror top-bottom with probability 1/2.
        color: strength s of the jitter of brightness, contrast and saturation (each a factor drawn
            uniformly from 1-s..1+s), or four numbers for brightness, contrast, saturation and hue
            (a turn of the colour circle drawn from -hue..hue, at most 0.5). Of one channel
            only brightness and contrast change; a fourth channel keeps its own mean in contrast.
        pad_color: one value 0..255 a channel; None: ImageNet's mean.
        ignore_label: id of padded pixels.

    Raises:
        ValueError: if an argument is out of its range.
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

    def __post_init__(self):
        crop = (self.crop, self.crop) if isinstance(self.crop, int) else self.crop
        if crop is not None and (len(crop) != 2 or min(crop) < 1):
            raise ValueError(f"crop must be (H, W) of at least 1, or None; got {self.crop!r}.")
        color = (self.color,) * 3 + (0.0,) if isinstance(self.color, int | float) else self.color
        if len(color) != 4 or min(color) < 0 or max(color) > 1 or color[3] > 0.5:
            raise ValueError(
                "color must be a strength 0..1, or four for brightness, contrast, saturation and "
                f"hue (0..0.5); got {self.color!r}."
            )
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be (low, high), 0 < low <= high; got {self.scale!r}.")
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation must be in 0..180 degrees, got {self.rotation}.")
        if not 0 <= self.blur <= 1:
            raise ValueError(f"blur is a probability, 0..1; got {self.blur}.")
        object.__setattr__(self, "crop", None if crop is None else tuple(crop))
        object.__setattr__(self, "color", tuple(color))

    def __call__(self, image, label, rng, weights=None):
        maps = [label] if weights is None else [label, weights]
        fills = [self.ignore_label, 0][: len(maps)]
        pad = self.pad_color or pad_color(image.shape[2])
        if any(self.color):
            image = _jitter(image, self.color, rng)
        if tuple(self.scale) != (1.0, 1.0):
            factor = rng.uniform(*self.scale)
            size = tuple(max(1, round(n * factor)) for n in label.shape)
            image, maps = resize_image(image, size), [resize_label(m, size) for m in maps]
        if self.rotation and rng.random() < 0.5:
            angle = rng.uniform(-self.rotation, self.rotation)
            image = _rotate(image, angle, pad)
            maps = [_rotate_map(m, angle, fill) for m, fill in zip(maps, fills, strict=True)]
        if self.blur and rng.random() < self.blur:
            image = _blur(image)
        if self.flip and rng.random() < 0.5:
            image, maps = image[:, ::-1], [m[:, ::-1] for m in maps]
        if self.vertical_flip and rng.random() < 0.5:
            image, maps = image[::-1], [m[::-1] for m in maps]
        if self.crop:
            image, *maps = _crop([image, *maps], [pad, *fills], self.crop, rng)
        return tuple(np.ascontiguousarray(array) for array in (image, *maps))


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
    if image.shape[2] == 3:
        return np.asarray(change(Image.fromarray(np.ascontiguousarray(image))))
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(image, 2, 0)]
    return np.stack([np.asarray(change(plane)) for plane in planes], axis=2)


def resize_image(image, size):
    """uint8 (H, W, C) at `size` (H, W): bilinear, with the support widened when it shrinks."""
    turned = size[::-1]
    return _by_planes(image, lambda plane: plane.resize(turned, Image.Resampling.BILINEAR))


def resize_label(label, size):
    """Ids or weights (H, W) at `size` (H, W), each the nearest pixel's."""
    label = Image.fromarray(np.ascontiguousarray(label))
    return np.asarray(label.resize(size[::-1], Image.Resampling.NEAREST))


def _rotate(image, angle, pad):
    values = iter(pad)

    def turn(plane):
        fill = tuple(pad) if plane.mode == "RGB" else next(values)
        return plane.rotate(angle, Image.Resampling.BILINEAR, fillcolor=fill)

    return _by_planes(image, turn)


def _rotate_map(label, angle, fill):
    label = Image.fromarray(np.ascontiguousarray(label))
    return np.asarray(label.rotate(angle, Image.Resampling.NEAREST, fillcolor=fill))


def _blur(image):
    height, width = image.shape[:2]
    padded = np.pad(image.astype("float32"), ((2, 2), (2, 2), (0, 0)), mode="reflect")
    rows = sum(weight * padded[i : i + height] for i, weight in enumerate(_BLUR))
    both = sum(weight * rows[:, i : i + width] for i, weight in enumerate(_BLUR))
    return np.rint(both).astype("uint8")


def _jitter(image, color, rng):
    """Brightness, contrast, saturation and hue as one affine map of the channels."""
    brightness, contrast, saturation, hue = color
    channels = image.shape[2]
    pixels = image.astype("float32")
    luma = np.eye(channels, dtype="float32")  # what a pixel is without its colour
    if channels >= 3:
        luma[:3, :3] = _GREY
    mean = luma @ pixels.mean(axis=(0, 1))

    bright = 1 + rng.uniform(-brightness, brightness)
    strong = 1 + rng.uniform(-contrast, contrast)
    matrix = np.eye(channels, dtype="float32") * (bright * strong)
    offset = (1 - strong) * bright * mean
    if channels >= 3:
        full = 1 + rng.uniform(-saturation, saturation)
        change = full * np.eye(channels, dtype="float32") + (1 - full) * luma
        change[:3, :3] = _turn_hue(rng.uniform(-hue, hue)) @ change[:3, :3]
        matrix, offset = change @ matrix, change @ offset
    return np.rint(np.clip(pixels @ matrix.T + offset, 0, 255)).astype("uint8")


def _turn_hue(turn):
    """The (3, 3) matrix that turns RGB colours about the grey axis of YIQ; grey stays grey."""
    cos, sin = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], "float32")
    return np.linalg.inv(_TO_YIQ) @ rotation @ _TO_YIQ


def _crop(arrays, fills, size, rng):
    """The same random window of all arrays, each padded with its own of `fills`."""
    height, width = arrays[0].shape[:2]
    need = (max(height, size[0]), max(width, size[1]))
    if need != (height, width):
        place = ((need[0] - height) // 2, (need[1] - width) // 2)
        arrays = [pad_to(a, need, fill, place) for a, fill in zip(arrays, fills, strict=True)]
    top = int(rng.integers(need[0] - size[0] + 1))
    left = int(rng.integers(need[1] - size[1] + 1))
    window = np.s_[top : top + size[0], left : left + size[1]]
    return [array[window] for array in arrays]
