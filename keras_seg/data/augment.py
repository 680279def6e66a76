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
    uint8 (H, W, C), C = 1, 3 or 4; labels uint8 (H, W). The steps are taken in the order color,
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

    def __call__(self, image, label, rng):
        pad = self.pad_color or pad_color(image.shape[2])
        if any(self.color):
            image = _jitter(image, self.color, rng)
        if tuple(self.scale) != (1.0, 1.0):
            image, label = _scale(image, label, rng.uniform(*self.scale))
        if self.rotation and rng.random() < 0.5:
            angle = rng.uniform(-self.rotation, self.rotation)
            image, label = _rotate(image, label, angle, pad, self.ignore_label)
        if self.blur and rng.random() < self.blur:
            image = _blur(image)
        if self.flip and rng.random() < 0.5:
            image, label = image[:, ::-1], label[:, ::-1]
        if self.vertical_flip and rng.random() < 0.5:
            image, label = image[::-1], label[::-1]
        if self.crop:
            image, label = _crop(image, label, self.crop, rng, pad, self.ignore_label)
        return np.ascontiguousarray(image), np.ascontiguousarray(label)


def pad_to(image, label, size, pad, ignore_label, place=(0, 0)):
    """Pad to `size` (H, W), the image at `place` (top, left). No smaller size than the image's."""
    top, left = place
    height, width = label.shape
    padded = np.empty((*size, image.shape[2]), image.dtype)
    padded[:] = pad
    padded[top : top + height, left : left + width] = image
    ignored = np.full(size, ignore_label, label.dtype)
    ignored[top : top + height, left : left + width] = label
    return padded, ignored


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
    """uint8 ids (H, W) at `size` (H, W), each the nearest pixel's."""
    label = Image.fromarray(np.ascontiguousarray(label))
    return np.asarray(label.resize(size[::-1], Image.Resampling.NEAREST))


def _scale(image, label, factor):
    size = tuple(max(1, round(n * factor)) for n in label.shape)
    return resize_image(image, size), resize_label(label, size)


def _rotate(image, label, angle, pad, ignore_label):
    values = iter(pad)

    def turn(plane):
        fill = tuple(pad) if plane.mode == "RGB" else next(values)
        return plane.rotate(angle, Image.Resampling.BILINEAR, fillcolor=fill)

    label = Image.fromarray(np.ascontiguousarray(label))
    label = label.rotate(angle, Image.Resampling.NEAREST, fillcolor=ignore_label)
    return _by_planes(image, turn), np.asarray(label)


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


def _crop(image, label, size, rng, pad, ignore_label):
    height, width = label.shape
    need = (max(height, size[0]), max(width, size[1]))
    if need != (height, width):
        place = ((need[0] - height) // 2, (need[1] - width) // 2)
        image, label = pad_to(image, label, need, pad, ignore_label, place)
    top = int(rng.integers(need[0] - size[0] + 1))
    left = int(rng.integers(need[1] - size[1] + 1))
    window = np.s_[top : top + size[0], left : left + size[1]]
    return image[window], label[window]
