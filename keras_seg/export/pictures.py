"""The images that an export calibrates and compares on, brought to the size of the file."""

import pathlib

import numpy as np
from PIL import Image


class Pictures:
    """Images, and labels where there are any, at one size: `pictures[i]` -> (image, label or None).

    image: float32 (1, H, W, C), 0..255; label: integers (H, W). An image of another size is scaled
    until it covers (H, W), bilinear and with its sides in proportion, and cut at its centre; its
    label goes the same way with the nearest pixel.

    Args:
        source: a folder of images; a list of paths; arrays (H, W, C), also as one array
            (N, H, W, C); or a data set of `keras_seg.data`, whose labels are used unless `labels`
            is given. Grey images may be (H, W).
        size: (H, W).
        channels: C.
        what: the argument's name, for messages.
        labels: None; for each image one integer map (h, w), of the image's size, or a file of it;
            or, for a folder of images, a folder of masks with the same file stems.

    Raises:
        ValueError: if there are no images, or one of them (found when it is read) has the wrong
            shape or is not in the range 0..255.
    """

    def __init__(self, source, size, channels, what, labels=None):
        if isinstance(labels, str | pathlib.Path):
            labels = _masks_of(source, labels, what)
        elif labels is not None and not hasattr(labels, "__len__"):
            labels = list(labels)
        if isinstance(source, str | pathlib.Path):
            source = _list_images(source, what)
        elif not hasattr(source, "__len__") or not hasattr(source, "__getitem__"):
            source = list(source)
        if isinstance(source, np.ndarray) and source.ndim != 4:
            raise ValueError(
                f"{what} must be an array (N, H, W, C) or a list of images (H, W, C), got an array "
                f"of shape {source.shape}."
            )
        if len(source) == 0:
            raise ValueError(f"{what} is empty; at least one image is needed.")
        if labels is not None and len(labels) != len(source):
            raise ValueError(f"{what} has {len(source)} images and {len(labels)} labels.")
        self._source, self._labels = source, labels
        self._size, self._channels, self._what = tuple(size), channels, what
        self[0]  # the likeliest mistakes show in the first image: say so before any work

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        item = self._source[index]
        label = getattr(item, "label", None)
        if self._labels is not None:
            label = self._labels[index]
        where = f"{self._what}[{index}]"
        image = self._image(getattr(item, "image", item), where)
        if label is not None:
            label = fit(_checked_label(label, image.shape[:2], where), self._size, nearest=True)
        return fit(image, self._size)[None], label

    def spread(self, count):
        """At most `count` of the images, evenly over all of them, one after the other."""
        count = min(count, len(self))
        return (self[i * len(self) // count][0] for i in range(count))

    def _image(self, image, where):
        if isinstance(image, str | pathlib.Path):
            from keras_seg.data import read_image

            image = read_image(image, self._channels)
        if isinstance(image, tuple):
            raise ValueError(
                f"{where} is a tuple of {len(image)}, not an image (H, W, C). Of a data set of "
                "(image, label) give the images alone: dataset.map(lambda image, label: image)."
            )
        image = np.asarray(image)
        if image.ndim == 2:
            image = image[..., None]
        if image.ndim != 3 or image.shape[2] != self._channels or 0 in image.shape:
            raise ValueError(
                f"{where} has the shape {image.shape}; the model takes images "
                f"(H, W, {self._channels})."
            )
        pixels = image.astype("float32")
        if not (pixels.min() >= 0 and pixels.max() <= 255):
            raise ValueError(
                f"{where} has values from {pixels.min():g} to {pixels.max():g}; images are plain "
                "pixels 0..255, and the model scales them itself."
            )
        if np.issubdtype(image.dtype, np.floating) and 0 < pixels.max() <= 1:
            raise ValueError(
                f"{where} has values up to {pixels.max():g}: it looks scaled to 0..1. Give plain "
                "pixels 0..255; the model scales them itself."
            )
        return pixels


def _masks_of(images, labels, what):
    """The files in the folder `labels` with the stems of those in the folder `images`."""
    if not isinstance(images, str | pathlib.Path):
        raise ValueError(f"labels is the folder {labels}; then {what} must be a folder as well.")
    masks = {path.stem: path for path in _list_images(labels, "labels")}
    paths = _list_images(images, what)
    missing = [path.name for path in paths if path.stem not in masks]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"{labels} has no mask for {missing[0]}{more} of {images}.")
    return [masks[path.stem] for path in paths]


def fit(pixels, size, *, nearest=False):
    """Scale (h, w) or (h, w, C) until it covers `size`, in proportion, and cut at the centre."""
    height, width = pixels.shape[:2]
    if (height, width) == tuple(size):
        return pixels
    scale = min(height / size[0], width / size[1])
    rows, columns = size[0] * scale, size[1] * scale
    top, left = (height - rows) / 2, (width - columns) / 2
    # Rounding may put a side a hair outside of the image (224 at 204), which Pillow refuses.
    box = (max(left, 0), max(top, 0), min(left + columns, width), min(top + rows, height))
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR

    def plane(values):
        picture = Image.fromarray(np.ascontiguousarray(values, "int32" if nearest else "float32"))
        return np.asarray(picture.resize((size[1], size[0]), method, box=box))

    if pixels.ndim == 2:
        return plane(pixels)
    return np.stack([plane(pixels[..., c]) for c in range(pixels.shape[2])], axis=-1)


def of_full_range(images):
    """Images that int8 is calibrated on, the darkest value of the first one 0, the brightest 255.

    The step of the pixels is then 1 and their zero 0 whatever the images are, so that no pixel is
    rounded, and uint8 pixels may enter as they are.
    """
    for number, image in enumerate(images):
        if number == 0:
            image = image.copy()
            values = image.reshape(-1)
            values[values.argmin()] = 0
            values[values.argmax()] = 255
        yield image


def made_up(count, size, channels):
    """Pictures for when nothing real is given. Shapes, unlike noise, have something to segment."""
    from keras_seg.data import shapes

    drawn = shapes(count, size=tuple(max(n, 16) for n in size))
    return [sample.image[..., np.arange(channels) % 3] for sample in drawn]


def _list_images(folder, what):
    from keras_seg.data import list_images

    try:
        return list_images(folder)
    except ValueError as error:
        raise ValueError(
            f"{what} must be a folder of images, or a list of them: {error}"
        ) from error


def _checked_label(label, size, where):
    if isinstance(label, str | pathlib.Path):
        from keras_seg.data import read_mask

        label = read_mask(label)
    label = np.asarray(label)
    if label.ndim == 3 and label.shape[2] == 1:
        label = label[..., 0]
    if not np.issubdtype(label.dtype, np.integer):
        raise ValueError(f"The label of {where} must be whole numbers, got {label.dtype}.")
    if label.shape != tuple(size):
        raise ValueError(
            f"The label of {where} has the shape {label.shape}, its image {tuple(size)}."
        )
    return label
