"""The changes of `Augment` for a whole batch on the device, in one resampling, by keras.ops.

Everything that is drawn follows from (seed, step, place in the batch) by integer arithmetic: the
same numbers on every backend, inside and outside of a compiled function.
"""

import keras
import numpy as np
from keras import ops

from keras_seg.data import color as host_color
from keras_seg.data.augment import Augment
from keras_seg.data.elastic import CUBIC

_DRAWN = (  # one uniform number a sample each
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "scale",
    "aspect",
    "turn",
    "angle",
    "blur",
    "flip",
    "vertical_flip",
    "quarters",
    "top",
    "left",
    "mix",
    "share",
    "row",
    "column",
    "delta",
    "factor",
    "last",
    "vividness",
    "shift",
)


@keras.saving.register_keras_serializable("keras_seg")
class DeviceAugment:
    """`augment(images, labels, step)` -> (images, labels) of `crop`, changed at random.

    Images are (B, H, W, C), 0..255, of any type, and come back as float32, not rounded; labels are
    integers (B, H, W), or (B, H, W, K), and keep their type. The arguments are those of `Augment`
    and mean the same. Two things differ, since colours aside all is one bilinear resampling (of
    labels: the nearest pixel): shrunken images are not smoothed first, and a blur does not mix
    padding into the picture. It has no state and can be compiled (jax.jit, tf.function, with XLA as
    well): the result follows from `seed`, `step` and the input alone, on every backend. In tf.data:
    `batches.enumerate().map(lambda step, batch: augment(*batch, step))`.

    Args:
        crop, scale, rotation, blur, flip, vertical_flip, color, pad_color, ignore_label,
            scale_steps, aspect, rotation_probability, elastic, elastic_grid, distortion, turns,
            pad: as `Augment`; the crop must be given.
        cut_mix: probability that a rectangle of a sample is replaced by that of the one before it
            in the batch, image and label, as `CutMix`.
        seed: whole number, of everything that is drawn.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        crop,
        scale=(0.5, 2.0),
        rotation=0.0,
        blur=0.0,
        flip=True,
        vertical_flip=False,
        color=0.0,
        pad_color=None,
        ignore_label=255,
        *,
        scale_steps=None,
        aspect=None,
        rotation_probability=0.5,
        elastic=0.0,
        elastic_grid=3,
        distortion=False,
        turns=False,
        pad="color",
        cut_mix=0.0,
        seed=0,
    ):
        self.options = {
            "crop": crop,
            "scale": scale,
            "rotation": rotation,
            "blur": blur,
            "flip": flip,
            "vertical_flip": vertical_flip,
            "color": color,
            "pad_color": pad_color,
            "ignore_label": ignore_label,
            "scale_steps": scale_steps,
            "aspect": aspect,
            "rotation_probability": rotation_probability,
            "elastic": elastic,
            "elastic_grid": elastic_grid,
            "distortion": distortion,
            "turns": turns,
            "pad": pad,
        }
        self.host = Augment(**self.options)
        if self.host.crop is None:
            raise ValueError("DeviceAugment needs crop=(H, W): a batch has one size.")
        if not 0 <= cut_mix <= 1:
            raise ValueError(f"cut_mix is a probability, 0..1; got {cut_mix}.")
        if not -(2**31) <= seed < 2**31:
            raise ValueError(f"seed must be a whole number of 32 bits, got {seed}.")
        self.cut_mix, self.seed = cut_mix, int(seed)

    def get_config(self):
        """The arguments."""
        return {**self.options, "cut_mix": self.cut_mix, "seed": self.seed}

    @classmethod
    def from_config(cls, config):
        """An instance from what `get_config` gave."""
        return cls(**config)

    def __call__(self, images, labels, step):
        """Change a batch.

        Args:
            images: (B, H, W, C).
            labels: (B, H, W) or (B, H, W, K).
            step: whole number or scalar tensor: what is drawn follows from it.
        """
        images, labels = ops.convert_to_tensor(images), ops.convert_to_tensor(labels)
        shape = ops.shape(images)
        return self.apply_drawn(images, labels, self.draw(step, shape[0], shape[1], shape[2]))

    def draw(self, step, batch, height, width):
        """What is drawn for a batch of pictures of `height` x `width`: a dict of (B,) tensors.

        "bright", "strong", "full", "hue": of `color`; "delta", "factor", "last", "vividness",
        "shift": of `distortion`, as `color.draw_distortion` gives them; "height" and "width" that
        the pictures are resized to; "angle": degrees, 0 where they are not turned; "blurred",
        "flipped", "upended" (top-bottom); "quarters": turns by 90 degrees; "top", "left" of the
        window in the flipped picture, negative in the padding; "displacements" (B, 2, grid, grid)
        if `elastic`; "mixed", "share", "row", "column": the rectangles of `cut_mix`, as shares of
        the crop.
        """
        host = self.host
        points = 2 * host.elastic_grid**2 if host.elastic else 0
        uniform = _uniform(self.seed, step, batch, len(_DRAWN) + 2 * points)
        u = {name: uniform[:, i] for i, name in enumerate(_DRAWN)}

        def between(name, low, high):
            return low + (high - low) * u[name]

        def sometimes(name, low, high, otherwise):
            """With probability 1/2, which the lower half of the numbers says."""
            return ops.where(u[name] < 0.5, low + (high - low) * 2 * u[name], otherwise)

        brightness, contrast, saturation, hue = host.color
        if host.scale_steps is None:
            factor = between("scale", *host.scale)
        else:
            steps = _constant(host.scale_steps)
            factor = ops.take(steps, _below(u["scale"], len(host.scale_steps)))
        root = 1.0 if host.aspect is None else ops.sqrt(between("aspect", *host.aspect))
        tall = ops.maximum(ops.round(ops.cast(height, "float32") * factor / root), 1.0)
        wide = ops.maximum(ops.round(ops.cast(width, "float32") * factor * root), 1.0)
        drawn = {
            "bright": between("brightness", 1 - brightness, 1 + brightness),
            "strong": between("contrast", 1 - contrast, 1 + contrast),
            "full": between("saturation", 1 - saturation, 1 + saturation),
            "hue": between("hue", -hue, hue),
            "delta": sometimes("delta", -32.0, 32.0, 0.0),
            "factor": sometimes("factor", 0.5, 1.5, 1.0),
            "last": u["last"] < 0.5,
            "vividness": sometimes("vividness", 0.5, 1.5, 1.0),
            "shift": sometimes("shift", -0.1, 0.1, 0.0),
            "height": tall,
            "width": wide,
            "angle": ops.where(
                u["turn"] < host.rotation_probability,
                between("angle", -host.rotation, host.rotation),
                0.0,
            ),
            "blurred": u["blur"] < host.blur,
            "flipped": u["flip"] < (0.5 if host.flip else 0.0),
            "upended": u["vertical_flip"] < (0.5 if host.vertical_flip else 0.0),
            "quarters": _below(u["quarters"], 4 if host.turns else 1),
            "mixed": u["mix"] < self.cut_mix,
            "share": u["share"],
            "row": u["row"],
            "column": u["column"],
        }
        sideways = drawn["quarters"] % 2 == 1
        for name, size, crop in (
            ("top", ops.where(sideways, wide, tall), host.crop[0]),
            ("left", ops.where(sideways, tall, wide), host.crop[1]),
        ):
            padding = ops.maximum(crop - size, 0.0)
            start = ops.cast(_below(u[name], size + padding - crop + 1), "float32")
            drawn[name] = start - ops.floor(padding / 2)
        if host.elastic:
            one, two = uniform[:, len(_DRAWN) : len(_DRAWN) + points], uniform[:, -points:]
            # Box and Muller; 1 - u is above 0.
            normal = ops.sqrt(-2 * ops.log(1 - one)) * ops.cos(2 * np.pi * two)
            grid = (-1, 2, host.elastic_grid, host.elastic_grid)
            drawn["displacements"] = host.elastic * ops.reshape(normal, grid)
        return drawn

    def apply_drawn(self, images, labels, drawn):
        """Change a batch by what `draw` gave, or by a dict of the same form."""
        host = self.host
        images = ops.cast(images, "float32")
        if any(host.color):
            images = _jitter(images, drawn)
        if host.distortion:
            images = _distort(images, drawn)
        reach = host_color.BLUR_REACH if host.blur else 0
        rows, columns, inside = self._places(drawn, reach)
        shape = ops.shape(images)
        # From pixels of the resized picture to those of the given one.
        rows = (rows + 0.5) * (ops.cast(shape[1], "float32") / _spread(drawn["height"])) - 0.5
        columns = (columns + 0.5) * (ops.cast(shape[2], "float32") / _spread(drawn["width"])) - 0.5
        images = _bilinear(images, rows, columns)
        if host.blur:
            images = ops.where(_spread(drawn["blurred"])[..., None], _blur(images), images)
            height, width = host.crop
            images = images[:, reach : reach + height, reach : reach + width]
            middle = np.s_[:, reach : reach + height, reach : reach + width]
            rows, columns, inside = rows[middle], columns[middle], inside[middle]
        labels = _nearest(labels, rows, columns)
        if host.pad == "color":
            fill = host.pad_color or host_color.pad_color(images.shape[-1])
            fill = _constant(fill)
            images = ops.where(inside[..., None], images, fill)
        if host.pad != "mirror":
            ignore = ops.cast(host.ignore_label, labels.dtype)
            seen = inside if len(labels.shape) == 3 else inside[..., None]
            labels = ops.where(seen, labels, ignore)
        if self.cut_mix:
            images, labels = self._cut_mixed(images, labels, drawn)
        return images, labels

    def _places(self, drawn, reach):
        """Row and column of the resized picture for each pixel of the result; whether it is inside.

        All (B, h, w), with `reach` pixels more on each side; places outside are mirrored.
        """
        host = self.host
        tall, wide = _spread(drawn["height"]), _spread(drawn["width"])
        rows = _constant(np.arange(-reach, host.crop[0] + reach)[:, None])
        columns = _constant(np.arange(-reach, host.crop[1] + reach)[None, :])
        y = _spread(drawn["top"]) + rows + 0 * columns
        x = _spread(drawn["left"]) + columns + 0 * rows
        if host.turns:
            y, x = _turn_back(y, x, _spread(drawn["quarters"]), tall, wide)
        y = ops.where(_spread(drawn["upended"]), tall - 1 - y, y)
        x = ops.where(_spread(drawn["flipped"]), wide - 1 - x, x)
        y, x, inside = _fold(y, x, tall, wide)
        if host.elastic:
            down, across = self._displaced(drawn["displacements"], y, x, tall, wide)
            y, x, within = _fold(y + down, x + across, tall, wide)
            inside = ops.logical_and(inside, within)
        if host.rotation:
            radians = _spread(drawn["angle"]) * (np.pi / 180)
            cos, sin = ops.cos(radians), ops.sin(radians)
            right, down = x - (wide - 1) / 2, y - (tall - 1) / 2
            x = cos * right - sin * down + (wide - 1) / 2
            y = sin * right + cos * down + (tall - 1) / 2
            y, x, within = _fold(y, x, tall, wide)
            inside = ops.logical_and(inside, within)
        return y, x, inside

    def _displaced(self, displacements, y, x, tall, wide):
        """Rows and columns to add at each place, (B, h, w), from (B, 2, grid, grid)."""
        points = self.host.elastic_grid

        def weights(places, size):
            return _cubic(places * ((points - 1) / ops.maximum(size - 1, 1.0)), points)

        # Flips and turns may exchange rows and columns, but each place is weighed on its own.
        field = ops.einsum(
            "bhwi,bhwj,bdij->dbhw", weights(y, tall), weights(x, wide), displacements
        )
        return field[0], field[1]

    def _cut_mixed(self, images, labels, drawn):
        height, width = self.host.crop
        side = ops.sqrt(_spread(drawn["share"]))

        def within(length, centre, places):
            extent = ops.round(length * side)
            start = ops.floor(length * _spread(centre)) - ops.floor(extent / 2)
            return ops.logical_and(places >= start, places < start + extent)

        rows = _constant(np.arange(height)[:, None])
        columns = _constant(np.arange(width)[None, :])
        cut = ops.logical_and(
            within(height, drawn["row"], rows), within(width, drawn["column"], columns)
        )
        cut = ops.logical_and(cut, _spread(drawn["mixed"]))
        whole = cut if len(labels.shape) == 3 else cut[..., None]
        labels = ops.where(whole, ops.roll(labels, 1, axis=0), labels)
        return ops.where(cut[..., None], ops.roll(images, 1, axis=0), images), labels


def _constant(values):
    return ops.convert_to_tensor(np.asarray(values, "float32"))


def _spread(values):
    """(B,) as (B, 1, 1)."""
    return ops.reshape(values, (-1, 1, 1))


def _uniform(seed, step, batch, count):
    """(B, count) numbers of [0, 1), float32, by (seed, step, place): the same on every backend."""

    def mix(x):
        """The finaliser of MurmurHash3, of int32, which wrap around."""
        x = ops.bitwise_xor(x, ops.bitwise_and(ops.right_shift(x, 16), 0xFFFF))
        x = x * (0x85EBCA6B - 2**32)
        x = ops.bitwise_xor(x, ops.bitwise_and(ops.right_shift(x, 13), 0x7FFFF))
        x = x * (0xC2B2AE35 - 2**32)
        return ops.bitwise_xor(x, ops.bitwise_and(ops.right_shift(x, 16), 0xFFFF))

    key = mix(mix(ops.cast(seed, "int32")) + ops.cast(step, "int32"))
    sample = mix(key + ops.arange(1, batch + 1, dtype="int32"))  # (B,)
    bits = mix(sample[:, None] + ops.arange(1, count + 1, dtype="int32"))
    return ops.cast(ops.bitwise_and(ops.right_shift(bits, 8), 0xFFFFFF), "float32") / 2**24


def _below(uniform, count):
    """Whole numbers 0..count - 1 from numbers of [0, 1), int32."""
    count = ops.cast(count, "float32")
    return ops.cast(ops.minimum(ops.floor(uniform * count), count - 1), "int32")


def _jitter(images, drawn):
    """Brightness, contrast, saturation and hue, as `color.change_colors`, without rounding."""
    channels = images.shape[-1]
    count = 3 if channels > 4 else channels
    some = images[..., :count]
    luma, one = _constant(host_color.luma_matrix(count)), _constant(np.eye(count))
    bright, strong = drawn["bright"][:, None, None], drawn["strong"][:, None, None]
    full = drawn["full"][:, None, None]
    angle = 2 * np.pi * drawn["hue"][:, None, None]
    mean = ops.mean(some, axis=(1, 2))[..., None]  # (B, C, 1)
    matrix = one * (bright * strong)
    offset = (1 - strong) * bright * ops.matmul(luma, mean)
    if count >= 3:
        fixed, even, odd = map(_constant, host_color.hue_matrices(count))
        turn = fixed + ops.cos(angle) * even + ops.sin(angle) * odd
        change = ops.matmul(turn, full * one + (1 - full) * luma)
        matrix, offset = ops.matmul(change, matrix), ops.matmul(change, offset)
    shape = ops.shape(some)
    flat = ops.reshape(some, (-1, shape[1] * shape[2], count))
    flat = ops.matmul(flat, ops.transpose(matrix, (0, 2, 1))) + ops.transpose(offset, (0, 2, 1))
    changed = ops.reshape(ops.clip(flat, 0, 255), shape)
    return changed if count == channels else ops.concatenate([changed, images[..., count:]], -1)


def _distort(images, drawn):
    """SSD's distortion, as `color.distort`, without rounding."""
    channels = images.shape[-1]
    count = min(channels, 3)
    keys = ("delta", "factor", "last", "vividness", "shift")
    delta, factor, last, vividness, shift = (_spread(drawn[key])[..., None] for key in keys)
    some = ops.clip(images[..., :count] + delta, 0, 255)
    some = ops.where(last, some, ops.clip(some * factor, 0, 255))
    if count == 3:
        some = _turn_colors(some, vividness, shift)
    some = ops.where(last, ops.clip(some * factor, 0, 255), some)
    return some if count == channels else ops.concatenate([some, images[..., count:]], -1)


def _turn_colors(images, vividness, shift):
    """RGB whose saturation in HSV is multiplied and whose hue is turned, by parts of 1."""
    value = ops.max(images, axis=-1, keepdims=True)
    chroma = value - ops.min(images, axis=-1, keepdims=True)
    safe = ops.maximum(chroma, 1e-3)
    red, green, blue = (images[..., i : i + 1] for i in range(3))
    hue = ops.where(
        value == red,
        (green - blue) / safe,
        ops.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    chroma = ops.minimum(chroma * vividness, value)
    # The distance of red, green and blue from the value, by the hue in sixths of a turn.
    sixths = ops.mod(hue + 6 * shift + _constant([5, 3, 1]), 6)
    return value - chroma * ops.clip(ops.minimum(sixths, 4 - sixths), 0, 1)


def _turn_back(y, x, quarters, tall, wide):
    """Where places of a picture turned anticlockwise by quarters were before; `tall` x `wide`."""
    # After one or three quarters the picture is `wide` rows high and `tall` columns wide.
    rows = [y, x, tall - 1 - y, tall - 1 - x]
    columns = [x, wide - 1 - y, wide - 1 - x, y]
    for k in (1, 2, 3):
        rows[0] = ops.where(quarters == k, rows[k], rows[0])
        columns[0] = ops.where(quarters == k, columns[k], columns[0])
    return rows[0], columns[0]


def _fold(y, x, tall, wide):
    """Places mirrored into the picture, and whether they were inside."""
    inside = (y >= -0.5) & (y < tall - 0.5) & (x >= -0.5) & (x < wide - 0.5)

    def fold(places, size):
        last = ops.maximum(size - 1, 0.5)  # of one pixel: 0 all the same, below
        places = ops.mod(ops.abs(places), 2 * last)
        return ops.minimum(ops.minimum(places, 2 * last - places), size - 1)

    return fold(y, tall), fold(x, wide), inside


def _cubic(places, points):
    """`elastic.cubic_weights` at any tensor of places: one more axis, of `points`."""
    base = ops.floor(places)
    weights = 0.0
    for offset in range(-1, 3):
        distance = ops.abs(places - base - offset)
        near, far = (_polynomial(c, distance) for c in CUBIC)
        value = ops.where(distance < 1, near, ops.where(distance < 2, far, 0.0))
        column = ops.cast(ops.clip(base + offset, 0, points - 1), "int32")
        weights = weights + value[..., None] * ops.one_hot(column, points)
    return weights


def _polynomial(coefficients, x):
    value = coefficients[0]
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def _starts(shape):
    """Where each sample of (B, H, W, ...) begins in (B * H * W, ...), (B, 1, 1)."""
    return ops.reshape(ops.arange(shape[0], dtype="int32") * (shape[1] * shape[2]), (-1, 1, 1))


def _bilinear(images, rows, columns):
    """(B, H, W, C) at places (B, h, w), held at the border."""
    shape = ops.shape(images)
    height, width = shape[1], shape[2]
    rows = ops.clip(rows, 0, ops.cast(height - 1, "float32"))
    columns = ops.clip(columns, 0, ops.cast(width - 1, "float32"))
    top, left = ops.floor(rows), ops.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    top, left = ops.cast(top, "int32"), ops.cast(left, "int32")
    bottom, beside = ops.minimum(top + 1, height - 1), ops.minimum(left + 1, width - 1)
    pixels = ops.reshape(images, (-1, images.shape[-1]))
    start = _starts(shape)

    def between(row):
        line = start + row * width
        one, two = (ops.take(pixels, line + column, axis=0) for column in (left, beside))
        return one + (two - one) * right

    upper = between(top)
    return upper + (between(bottom) - upper) * down


def _nearest(labels, rows, columns):
    """(B, H, W) or (B, H, W, K) at places (B, h, w)."""
    shape = ops.shape(labels)

    def index(places, size):
        return ops.clip(ops.cast(ops.floor(places + 0.5), "int32"), 0, size - 1)

    place = _starts(shape) + index(rows, shape[1]) * shape[2] + index(columns, shape[2])
    return ops.take(ops.reshape(labels, (-1, *labels.shape[3:])), place, axis=0)


def _blur(images):
    """The Gaussian of `color.blur`; the outermost two pixels do not come out right."""
    reach = host_color.BLUR_REACH
    for axis in (1, 2):
        edges = [(0, 0)] * 4
        edges[axis] = (reach, reach)
        padded, length = ops.pad(images, edges), images.shape[axis]
        cut = [slice(None)] * 4
        images = 0.0
        for i, weight in enumerate(host_color.BLUR.tolist()):
            cut[axis] = slice(i, i + length)
            images = images + weight * padded[tuple(cut)]
    return images
