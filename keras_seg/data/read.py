"""Reading and writing one image or mask. Every error is a ValueError that names the file.

Pillow and not tf.io: `tf.io.decode_png` turns palette indices into grey values, 16-bit ids into
zeros, and ignores the EXIF orientation, all without an error.
"""

import io
import pathlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_seg.utils import atomic_path

IMAGE_SUFFIXES = (
    ".bmp",
    ".gif",  # listed, so that it is refused by name and not passed over
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
_LOSSLESS = ("BMP", "PNG", "PPM", "TIFF")
_JPEG_MAGIC = b"\xff\xd8\xff"
_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112  # EXIF tag


def read_image(path, channels=3, *, white=None):
    """Read a picture as uint8 (H, W, channels), upright (its EXIF orientation applied).

    Palettes are expanded, one channel becomes three and three become one (ITU-R 601 luma) as
    asked; CMYK becomes RGB; an alpha channel is dropped unless four channels are asked for. RGB of
    16 bits keeps its high bytes. A damaged JPEG that still decodes cannot be told from a sound one
    (the format has no checksum); a damaged PNG can.

    Args:
        path: file that Pillow can read. GIFs and files of several frames are refused.
        channels: 1, 3, or 4 (only from files with four channels, which are kept as they are).
        white: for 16-bit grey files, the value that becomes 255 (4095 for a 12-bit camera); larger
            ones are cut off. Without it they are refused: their range is not in the file.

    Raises:
        ValueError: naming the file, if it is missing, damaged, or does not have what is asked for.
    """
    if channels not in (1, 3, 4):
        raise ValueError(f"channels must be 1, 3 or 4, got {channels!r}.")
    image, _ = _decode(path, _read_bytes(path))
    if image.mode in _SIXTEEN_BIT:
        image = _to_eight_bits(path, image, white)
    if image.mode == "F":
        raise ValueError(f"{path}: holds floating-point numbers. Convert it to 8 bits a channel.")
    if channels == 4 and image.mode != "RGBA":
        raise ValueError(
            f"{path}: 4 channels were asked for, but the file has {len(image.getbands())} "
            f"(mode {image.mode}). Use channels=3."
        )
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    try:
        image = image if image.mode == mode else image.convert(mode)
    except ValueError as error:
        raise ValueError(f"{path}: mode {image.mode} cannot be read: {error}.") from error
    array = np.array(image)
    return array[:, :, None] if channels == 1 else array


def read_mask(path, table=None, *, color_table=None, mask_values=None):
    """Read a mask as uint8 ids (H, W).

    Grey files give their values (also 1, 2 and 4 bits, unscaled, and 16 bits), palette files their
    indices, RGB files the id of each pixel's exact colour.

    Args:
        path: a lossless file: PNG, TIFF, BMP or PPM, told by its content.
        table: `LabelTable`; every id must then be one of its classes or its `ignore_label`.
        color_table: what the colours of an RGB mask mean: a `LabelTable` or {(R, G, B): id}.
        mask_values: {value in the file: id}, such as {0: 0, 255: 1} for a black and white mask.
            Values that it does not name stay as they are.

    Raises:
        ValueError: naming the file, if it is missing, damaged, a JPEG or a GIF, has colours but no
            `color_table`, an unknown colour, or ids outside `table` (0..255 without a table).
    """
    ids = _read_ids(path, color_table)
    if mask_values:
        ids = _map_values(ids, mask_values)
    return checked_ids(path, ids, table)


def checked_ids(path, ids, table=None):
    """Integer ids (H, W) as uint8.

    Raises:
        ValueError: naming `path`, if one is neither a class of `table` nor its `ignore_label`
            (without a table: outside 0..255).
    """
    high = 255 if table is None else table.num_classes - 1
    bad = (ids < 0) | (ids > high)
    if table is not None:
        bad &= ids != table.ignore_label
    if bad.any():
        raise ValueError(_outside(path, ids[bad], high, table))
    return ids.astype("uint8")


def read_instances(path):
    """Read a map of instances as int32 (H, W): 0 background, any other id one object.

    Raises:
        ValueError: naming the file, as `read_mask`.
    """
    return _read_ids(path, None).astype("int32")


def read_values(path, *, gif=False, expand=False):
    """What a lossless file holds, unchanged: (H, W), palette indices too, or (H, W, channels).

    For masks that are no plain ids, such as one object a file or classes in one of three channels.

    Args:
        path: PNG, TIFF, BMP or PPM.
        gif: whether a GIF of one frame will do: some old data sets have masks as GIF.
        expand: whether palettes become their colours, (H, W, 3).

    Raises:
        ValueError: naming the file, if it is missing, damaged or a JPEG.
    """
    image, _ = _decode_lossless(path, gif)
    return np.asarray(image.convert("RGB") if expand and image.mode == "P" else image)


def write_mask(path, label, table):
    """Write a label map (H, W) of integer ids 0..255 as a palette PNG, whole or not at all."""
    label = np.asarray(label)
    if label.ndim != 2 or label.dtype.kind not in "iu" or label.min() < 0 or label.max() > 255:
        raise ValueError(
            f"A label map must hold integers 0..255 and have the shape (H, W); got {label.dtype} "
            f"of shape {label.shape}."
        )
    image = Image.fromarray(label.astype("uint8"))
    image.putpalette(table.palette().tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG")


def list_images(folder):
    """The image files below `folder` (by suffix, hidden files left out), sorted.

    Raises:
        ValueError: if `folder` is no folder or holds none.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder.")
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES
        and file.is_file()
        and not any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)
    )
    if not files:
        raise ValueError(f"0 images in {folder} (looked for *{', *'.join(IMAGE_SUFFIXES)}).")
    return files


def orientation(path):
    """The EXIF orientation of a file, 1 (upright) if it has none or cannot be read."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # see _decode
        return 1


def _decode(path, data, gif=False):
    """(upright Pillow image with its pixels loaded, its PNG header (bits, colour type) or None)."""
    try:
        image = Image.open(io.BytesIO(data))
        if image.format == "PNG":
            image.verify()  # the checksums, which loading skips; it closes the file
            image = Image.open(io.BytesIO(data))
        kind, frames = image.format, getattr(image, "n_frames", 1)
        if kind != "GIF" or gif:
            image.load()
        if image.getexif().get(_ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path}: too large: {error}. Cut it into tiles, or raise PIL.Image.MAX_IMAGE_PIXELS."
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: {_damage(data)}.") from error
    except Exception as error:  # damage shows as a dozen types of error, SyntaxError among them
        raise ValueError(f"{path}: {_damage(data)} ({error}).") from error
    stack = frames > 1 and kind != "MPO"  # a phone's MPO is a JPEG with a preview
    if stack or (kind == "GIF" and not gif):
        raise ValueError(
            f"{path}: a {kind} with {frames} frame{'s' * (frames > 1)}. Animations, stacks and "
            "GIFs are not read: save each frame as a PNG."
        )
    image.format = kind
    return image, tuple(data[24:26]) if kind == "PNG" else None


def _read_bytes(path):
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if not data:
        raise ValueError(f"{path}: the file is empty (0 bytes).")
    return data


def _damage(data):
    if data.lstrip()[:1] in (b"<", b"{"):
        return f"holds text that starts with {data.lstrip()[:20]!r}, not an image"
    return f"damaged, or not an image ({len(data)} bytes)"


def _to_eight_bits(path, image, white):
    values = np.asarray(image)
    if white is None:
        raise ValueError(
            f"{path}: a 16-bit grey image with values {values.min()}..{values.max()}. Say which "
            "value is white (white=65535, or 4095 for 12 bits; keras-seg predict --white 65535, "
            "with a data set --read white=65535), or convert it to 8 bits."
        )
    if white <= 0:
        raise ValueError(f"white must be positive, got {white}.")
    scaled = np.clip(values.astype("float32") * (255.0 / white), 0, 255)
    return Image.fromarray(np.rint(scaled).astype("uint8"))


def _read_ids(path, color_table):
    """Ids as the file has them: an integer array (H, W)."""
    image, png_header = _decode_lossless(path)
    array = np.asarray(image)
    if image.mode in ("LA", "RGBA"):
        if array[..., -1].min() < 255:
            raise ValueError(f"{path}: the mask has transparent pixels. Save it without alpha.")
        array = array[..., 0] if image.mode == "LA" else array[..., :3]
    if image.mode in ("RGB", "RGBA"):
        if png_header and png_header[0] == 16:
            raise ValueError(f"{path}: an RGB mask with 16 bits a channel. Save it with 8.")
        return ids_of_colors(path, array, color_table)
    if array.ndim != 2 or array.dtype.kind == "f":
        raise ValueError(f"{path}: a mask must hold ids or RGB colours, not mode {image.mode}.")
    if png_header in ((2, 0), (4, 0)):  # Pillow stretches 2 and 4-bit grey to 0..255
        return array // (85 if png_header[0] == 2 else 17)
    return array.astype("uint8") if array.dtype == bool else array


def _decode_lossless(path, gif=False):
    """`_decode` of a file that keeps every value, told by its content."""
    data = _read_bytes(path)
    if data.startswith(_JPEG_MAGIC):
        raise ValueError(
            f"{path}: a JPEG. JPEG blurs ids into wrong ones: export the masks again as PNG."
        )
    image, png_header = _decode(path, data, gif)
    compression = str(image.info.get("compression", ""))
    known = image.format in _LOSSLESS or (gif and image.format == "GIF")
    if not known or "jpeg" in compression or "webp" in compression:
        raise ValueError(
            f"{path}: a mask must be a lossless PNG, TIFF, BMP or PPM file, not {image.format} "
            f"{compression}".rstrip()
            + "."
        )
    return image, png_header


def ids_of_colors(path, colors, color_table):
    """The ids of exact colours, integers (H, W), as `read_mask`; `path` is for messages.

    Args:
        path: file that they came from.
        colors: uint8 (H, W, 3).
        color_table: a `LabelTable` or {(R, G, B): id}; None is refused with advice.
    """
    if color_table is None:
        grey = (colors == colors[..., :1]).all()
        advice = (
            "Its channels are equal: save one of them as a grey PNG."
            if grey
            else "Save ids as a grey or palette PNG, or say what the colours mean: classes.txt "
            "with lines `name R G B`, or color_table=."
        )
        raise ValueError(f"{path}: an RGB mask, but no colours are known for the classes. {advice}")
    ids = color_table if isinstance(color_table, dict) else color_table.color_ids()
    known = {(r << 16) + (g << 8) + b: value for (r, g, b), value in ids.items()}
    codes = np.array(sorted(known))
    values = np.array([known[code] for code in codes])
    pixels = colors.astype("int32") @ np.array([1 << 16, 1 << 8, 1])
    place = np.minimum(np.searchsorted(codes, pixels), len(codes) - 1)
    strange = codes[place] != pixels
    if strange.any():
        found, counts = np.unique(pixels[strange], return_counts=True)
        top = np.argsort(-counts, kind="stable")[:3]
        listed = ", ".join(
            f"({found[i] >> 16}, {found[i] >> 8 & 255}, {found[i] & 255}) on {counts[i]} pixels"
            for i in top
        )
        raise ValueError(
            f"{path}: {len(found)} colour{'s' * (len(found) > 1)} of the mask outside the table of "
            f"{len(ids)} colours: {listed}. Colours must match exactly."
        )
    return values[place]


def _map_values(ids, mask_values):
    result = ids.astype("int32")
    for value, new in mask_values.items():
        result[ids == value] = new
    return result


def _outside(path, bad, high, table):
    found = np.unique(bad)
    listed = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
    if table is None:
        return (
            f"{path}: ids {listed} do not fit in a label map (0..255). If each object has its own "
            'id, read them with layout="instances".'
        )
    return (
        f"{path}: ids {listed} are outside the table: expected 0..{high}, or {table.ignore_label} "
        "for ignored pixels. Correct the table of classes, or map the values with mask_values= "
        "(--mask-values)."
    )
