"""Changes of the values of pixels: uint8 (H, W, C) in and out, the parameters drawn beforehand."""

import numpy as np
from PIL import Image

_GREY = np.array([0.299, 0.587, 0.114], "float32")  # ITU-R 601 luma
_TO_YIQ = np.array([_GREY, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], "float32")
_BLUR = np.exp(-0.5 * (np.arange(-2, 3) / 1.1) ** 2)  # OpenCV's sigma for 5 taps
BLUR = (_BLUR / _BLUR.sum()).astype("float32")
BLUR_REACH = 2
_BLOCK = 2**14  # pixels worked on at a time, so that their float32 copies stay in the cache
_IMAGENET = (124, 116, 104)
_MEAN_GREY = 116


def pad_color(channels):
    """The colour that pads images: ImageNet's mean, rounded; its grey value for other channels.

    One or two channels are all grey; of three and more the first three are red, green and blue.

    Raises:
        ValueError: if there is no channel.
    """
    if channels < 1:
        raise ValueError(f"An image has at least 1 channel, got {channels}.")
    if channels < 3:
        return (_MEAN_GREY,) * channels
    return _IMAGENET + (_MEAN_GREY,) * (channels - 3)


def channel_means(image):
    """The mean of each channel of (H, W, C), exact to float32."""
    planes = [Image.fromarray(np.ascontiguousarray(p)) for p in np.moveaxis(image, 2, 0)]
    histogram = np.array([plane.histogram() for plane in planes])
    return (histogram @ np.arange(256) / (image.shape[0] * image.shape[1])).astype("float32")


def draw_jitter(strengths, channels, rng):
    """(brightness, contrast, saturation) factors and a turn of the colour circle.

    Args:
        strengths: (brightness, contrast, saturation, hue), see `Augment`.
        channels: fewer than 3 have no saturation and no hue: nothing is drawn for them.
        rng: `numpy.random.Generator`.
    """
    brightness, contrast, saturation, hue = strengths
    bright = 1 + rng.uniform(-brightness, brightness)
    strong = 1 + rng.uniform(-contrast, contrast)
    if channels < 3:
        return bright, strong, 1.0, 0.0
    full = 1 + rng.uniform(-saturation, saturation)
    return bright, strong, full, rng.uniform(-hue, hue)


def jitter_matrix(drawn, mean):
    """What `draw_jitter` gave, as one affine map of the C channels: (C, C) and (C,), float32.

    Args:
        drawn: of `draw_jitter`.
        mean: (C,), the mean colour of the image, about which the contrast changes.
    """
    bright, strong, full, turn = drawn
    channels = len(mean)
    luma = luma_matrix(channels)
    matrix = np.eye(channels, dtype="float32") * (bright * strong)
    offset = (1 - strong) * bright * (luma @ mean)
    if channels >= 3:
        change = full * np.eye(channels, dtype="float32") + (1 - full) * luma
        cos, sin = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
        rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], "float32")
        change[:3, :3] = np.linalg.inv(_TO_YIQ) @ rotation @ _TO_YIQ @ change[:3, :3]
        matrix, offset = change @ matrix, change @ offset
    return matrix, offset


def luma_matrix(channels):
    """(C, C): what a pixel is without its colour; what is not red, green or blue stays."""
    luma = np.eye(channels, dtype="float32")
    if channels >= 3:
        luma[:3, :3] = _GREY
    return luma


def hue_matrices(channels):
    """(C, C) each: `fixed + cos(a) * even + sin(a) * odd` turns the colours by the angle a.

    It turns RGB about the grey axis of YIQ, so that grey stays grey; further channels stay.
    """
    fixed = np.eye(channels, dtype="float32")
    even, odd = np.zeros_like(fixed), np.zeros_like(fixed)
    back = np.linalg.inv(_TO_YIQ)
    fixed[:3, :3] = back @ np.diag([1, 0, 0]) @ _TO_YIQ
    even[:3, :3] = back @ np.diag([0, 1, 1]) @ _TO_YIQ
    odd[:3, :3] = back @ np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]]) @ _TO_YIQ
    return fixed, even, odd


def change_colors(image, matrix, offset):
    """uint8 (H, W, C) through the affine map of its first channels, rounded and clipped."""
    count = len(offset)

    def change(pixels):
        values = pixels.astype("float32") @ matrix.T
        values += offset
        np.clip(values, 0, 255, out=values)
        return np.rint(values, out=values).astype("uint8")

    return _with_first(image, in_blocks(change, image[..., :count]))


def draw_distortion(channels, rng):
    """The photometric distortion of SSD (Liu et al., ECCV 2016, section 2.2), as in mmseg.

    Each with probability 1/2: brightness plus -32..32 grey values; contrast (all values) times
    0.5..1.5, before or after the colours; saturation times 0.5..1.5 and hue plus -18..18 of 180.

    Returns:
        (delta, contrast, contrast is last, saturation, hue in turns); of fewer than 3 channels the
        saturation is 1 and the hue 0.
    """

    def draw(low, high, otherwise):
        return rng.uniform(low, high) if rng.random() < 0.5 else otherwise

    delta = draw(-32, 32, 0.0)
    last = rng.random() < 0.5
    contrast = draw(0.5, 1.5, 1.0)
    if channels < 3:
        return delta, contrast, last, 1.0, 0.0
    return delta, contrast, last, draw(0.5, 1.5, 1.0), draw(-0.1, 0.1, 0.0)


def distort(image, drawn):
    """Apply what `draw_distortion` gave to uint8 (H, W, C): to the first three if C >= 3."""
    delta, contrast, last, saturation, hue = drawn
    grey = np.arange(256) + delta
    first = grey if last else np.clip(grey, 0, 255) * contrast
    count = 3 if image.shape[2] >= 3 else image.shape[2]
    changed = _table(first)[image[..., :count]]
    if saturation != 1 or hue != 0:
        changed = in_blocks(lambda pixels: _turn_colors(pixels, saturation, hue), changed)
    if last and contrast != 1:
        changed = _table(np.arange(256) * contrast)[changed]
    return _with_first(image, changed)


def _turn_colors(image, saturation, turn):
    """uint8 RGB, the saturation of HSV multiplied and the hue turned, by less than 1/6 of 1."""
    red, green, blue = np.moveaxis(image, 2, 0).astype("float32")
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    inverse = 1 / np.maximum(chroma, 1)  # a chroma below 1 is 0
    hue = np.where(value == green, 2 + (blue - red) * inverse, 4 + (red - green) * inverse)
    hue = np.where(value == red, (green - blue) * inverse, hue)  # -1..5
    hue += np.float32(6 * turn)
    np.minimum(chroma * np.float32(saturation), value, out=chroma)
    changed = np.empty(image.shape, "uint8")
    # How far red, green and blue are from the value follows from the hue in sixths of a turn.
    for channel, offset in enumerate((5, 3, 1)):
        sixths = hue + np.float32(offset)
        sixths -= np.float32(6) * (sixths >= 6)
        np.minimum(sixths, 4 - sixths, out=sixths)
        np.maximum(np.minimum(sixths, 1, out=sixths), 0, out=sixths)
        sixths *= chroma
        changed[..., channel] = np.rint(np.subtract(value, sixths, out=sixths), out=sixths)
    return changed


def blur(image):
    """Gaussian of 5 x 5 pixels, sigma 1.1, of uint8 (H, W, C); mirrored at the border."""
    width, reach = image.shape[1], BLUR_REACH
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    taps = range(2 * reach + 1)

    def change(part):
        part = part.astype("float32")
        rows = _sum_weighted([part[i : i + len(part) - 2 * reach] for i in taps])
        both = _sum_weighted([rows[:, i : i + width] for i in taps])
        return np.rint(both, out=both).astype("uint8")

    return in_blocks(change, padded, overlap=2 * reach)


def in_blocks(change, array, overlap=0):
    """`change(array)` of (H, W, ...) by blocks of rows, which share `overlap` rows, then joined."""
    rows = max(1, _BLOCK // array.shape[1])
    starts = range(0, len(array) - overlap, rows)
    return np.concatenate([change(array[i : i + rows + overlap]) for i in starts])


def _sum_weighted(arrays):
    total = BLUR[0] * arrays[0]
    product = np.empty_like(total)
    for weight, array in zip(BLUR[1:], arrays[1:], strict=True):
        total += np.multiply(array, weight, out=product)
    return total


def _table(values):
    return np.rint(np.clip(values, 0, 255)).astype("uint8")


def _with_first(image, changed):
    """`changed` with the channels of `image` that it lacks behind it."""
    count = changed.shape[2]
    return changed if count == image.shape[2] else np.concatenate([changed, image[..., count:]], 2)
