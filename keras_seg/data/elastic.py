"""Elastic deformation (U-Net, Ronneberger et al., MICCAI 2015, section 3.1)."""

import numpy as np

from keras_seg.data.color import in_blocks

# Cubic convolution (Keys 1981, a = -1/2): polynomials of the distance, below 1 and from 1 to 2.
CUBIC = ((1.5, -2.5, 0.0, 1.0), (-0.5, 2.5, -4.0, 2.0))


def draw_displacements(sigma, grid, rng):
    """Displacements in pixels at grid x grid points, (2, grid, grid): rows, then columns.

    The points span the picture from corner to corner.
    """
    return rng.normal(0.0, sigma, (2, grid, grid))


def cubic_weights(places, points):
    """How much each of `points` values counts at `places`, float32 (len(places), points).

    Cubic convolution; the first and the last value go on outside.

    Args:
        places: where, 0 being the first value and points - 1 the last.
        points: number of values.
    """
    places = np.asarray(places, "float64")
    base = np.floor(places).astype(int)
    weights = np.zeros((len(places), points))
    for offset in range(-1, 3):
        distance = np.abs(places - (base + offset))
        near, far = (np.polyval(coefficients, distance) for coefficients in CUBIC)
        value = np.where(distance < 1, near, np.where(distance < 2, far, 0))
        column = np.clip(base + offset, 0, points - 1)
        np.add.at(weights, (np.arange(len(places)), column), value)
    return weights.astype("float32")


def displacement_field(displacements, size, window):
    """Displacement of each pixel of a window of a picture, float32 (2, h, w).

    Args:
        displacements: of `draw_displacements`.
        size: (H, W) of the picture.
        window: (top, bottom, left, right) within it.
    """
    points = displacements.shape[1]
    top, bottom, left, right = window

    def weights(start, stop, count):
        return cubic_weights(np.arange(start, stop) * ((points - 1) / max(count - 1, 1)), points)

    rows, columns = weights(top, bottom, size[0]), weights(left, right, size[1]).T
    return np.stack([rows @ (each.astype("float32") @ columns) for each in displacements])


def sample_image(image, rows, columns, fill=None):
    """Bilinear values of uint8 (H, W, C) at `rows` and `columns`, float32 (h, w) each.

    Outside, farther than half a pixel from the last ones, is `fill` (a colour), or, for None, the
    picture mirrored.
    """
    planes = [np.ascontiguousarray(plane) for plane in np.moveaxis(image, 2, 0)]
    places = np.stack([rows, columns], axis=2)
    return in_blocks(lambda part: _sample(planes, *np.moveaxis(part, 2, 0), fill), places)


def _sample(planes, rows, columns, fill):
    """`sample_image` of the channels `planes`, (H, W) each."""
    height, width = planes[0].shape
    if fill is None:
        rows, columns = _fold(rows, height), _fold(columns, width)
    else:
        outside = _outside(rows, columns, height, width)
        rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    # Floors, since none is negative; one less at the end, where the next one then counts fully.
    top = np.minimum(rows.astype("int32"), max(height - 2, 0))
    left = np.minimum(columns.astype("int32"), max(width - 2, 0))
    down, right = rows - top, columns - left
    start = top * width + left
    below, beside = width * (height > 1), int(width > 1)
    indices = (start, start + beside, start + below, start + (below + beside))
    result = np.empty((*rows.shape, len(planes)), "uint8")
    for channel, plane in enumerate(planes):
        corners = (plane.take(index).astype("float32") for index in indices)
        upper, upper_right, lower, lower_right = corners
        upper += (upper_right - upper) * right
        lower += (lower_right - lower) * right
        lower -= upper
        lower *= down
        upper += lower
        result[..., channel] = np.rint(upper, out=upper)
    if fill is not None:
        result[outside] = fill
    return result


def sample_map(array, rows, columns, fill=None):
    """Nearest values of (H, W) or (H, W, K) at `rows` and `columns`; outside as `sample_image`."""
    height, width = array.shape[:2]
    if fill is None:
        rows, columns = _fold(rows, height), _fold(columns, width)
    outside = _outside(rows, columns, height, width)
    row = np.clip(np.floor(rows + 0.5), 0, height - 1).astype("int32")
    column = np.clip(np.floor(columns + 0.5), 0, width - 1).astype("int32")
    result = array[row, column]
    if fill is not None:
        result[outside] = fill
    return result


def _outside(rows, columns, height, width):
    return (rows < -0.5) | (rows >= height - 0.5) | (columns < -0.5) | (columns >= width - 0.5)


def _fold(places, count):
    """Places mirrored about the first and the last pixel into 0..count - 1."""
    last = count - 1
    places = np.abs(places)
    beyond = places > last
    if beyond.any():
        far = places[beyond] % max(2 * last, 1)
        places[beyond] = np.minimum(far, 2 * last - far) if last else 0
    return places
