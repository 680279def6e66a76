"""The one way from a picture to a label map, for every kind of model file."""

import numpy as np

from keras_seg.crf import find_crf
from keras_seg.data import LabelTable, read_image
from keras_seg.inference.runners import load_runner
from keras_seg.inference.windows import (
    OverlapTile,
    SlidingWindow,
    pad_to_multiple,
    pair,
    resize,
)
from keras_seg.utils import read_json, unknown_name

# The input of the U-Net paper (Figure 2), used by mode="tile" where the network does not fix one.
_UNET_TILE = 572


class Predictor:
    """Predict label maps with a Keras model, a `.keras`, `.tflite` or `.onnx` file or a SavedModel.

    Every prediction option is an argument of `probabilities`, `predict` and `predict_file`:

    mode:
        - "whole" (default): the network sees the whole picture. A file with a fixed input size gets
          the picture stretched to that size, as an application on a phone does, and the
          probabilities are stretched back.
        - "slide": windows of the picture at its own scale, averaged where they overlap
          (`SlidingWindow`). The better choice for pictures much larger than a file's input size.
        - "tile": for networks of valid convolutions, such as `UNet(form="paper")` (`OverlapTile`).
    window, stride: (H, W) or one number, for "slide" and "tile". Default window: the network's
        fixed size; else for "slide" the size in the manifest beside the file, for "tile" 572.
        Default stride: two thirds of the window for "slide", see `OverlapTile` for "tile".
    scales: run at each of these sizes of the picture, and average.
    base_size: scales are of a long side of this many pixels; None: of the picture's own size.
    flip: True: average with the result of the mirrored picture; "d4": with all 8 rotations and
        mirror images of the square (for pictures without an up and down, such as microscopy).
    size_divisor: "whole" only: pad bottom and right with the mean colour to a multiple of this; a
        pair (divisor, remainder) for sizes such as 8k+1: (8, 1). The result is cropped.
    average: "probabilities" (default; semseg), or "logits".
    weighting: "uniform" or "gaussian", for "slide".
    crf: None, or a dense CRF that refines the probabilities at the image's own size, after all
        averaging: the name of a preset, such as "deeplab", or a `keras_seg.crf.DenseCRF`. It sees
        all channels of the image as colours. `probabilities` then returns its marginals.

    A file that returns labels instead of logits votes with its label for each pixel.

    Safe to use from several threads.

    Args:
        model_or_path: what `load_runner` takes.
        table: the classes' `LabelTable`. Default: the one in `manifest.json` beside the file, else
            numbered classes with the PASCAL VOC colours.
        num_threads: threads for `.tflite` and `.onnx` files; None for all cores.

    Attributes: `runner`, `table`, `num_classes`, `channels`, `input_size` (None or a fixed (H, W)).

    Raises:
        ValueError: if the model cannot be loaded, or the table has another number of classes.
    """

    def __init__(self, model_or_path, *, table=None, num_threads=None):
        self.runner = load_runner(model_or_path, num_threads=num_threads)
        self.channels = self.runner.channels
        self.input_size = self.runner.input_size
        self._manifest = _read_manifest(self.runner.path)
        self._tile_outputs = {}
        if table is None and "classes" in self._manifest:
            table = LabelTable.from_json(self._manifest["classes"])
        self.num_classes = self.runner.num_classes
        if self.num_classes is None:
            if table is None:
                raise ValueError(
                    f"{self.runner.name} returns labels and does not say how many classes there "
                    "are. Give table=LabelTable(...), or put its manifest.json beside it."
                )
            self.num_classes = table.num_classes
        if not 2 <= self.num_classes <= 255:
            raise ValueError(
                f"{self.runner.name} returns {self.num_classes} classes. Expected 2 to 255, one "
                "channel of logits for each class (background included)."
            )
        self.table = LabelTable.default(self.num_classes) if table is None else table
        if self.table.num_classes != self.num_classes:
            raise ValueError(
                f"{self.runner.name} returns {self.num_classes} classes, but the class table names "
                f"{self.table.num_classes}. Give the table of the data that it was trained on."
            )

    def logits(self, images):
        """The network's own output, float32 (N, h, w, K), for images (N, H, W, C) in 0..255."""
        if self.runner.outputs_labels:
            raise ValueError(f"{self.runner.name} returns labels, not logits; use predict().")
        return self.runner.run(images)

    def probabilities(self, image, **options):
        """Class probabilities, float32 (H, W, K), of one image (H, W, C), uint8 or 0..255.

        `options` are described at the class. Raises ValueError for an image of another kind or
        number of channels, and for options that do not fit each other or the network.
        """
        return self._probabilities(self._image(image), _Options(self, **options))

    def predict(self, image, **options):
        """The label map, uint8 (H, W), of one image (H, W, C); see `probabilities`.

        Of several equal scores the first class wins.
        """
        image, options = self._image(image), _Options(self, **options)
        if options.plain and self.input_size in (None, image.shape[:2]):
            # One run and no averaging: the softmax would change nothing but the time it takes.
            output = self.runner.run(image[None])[0]
            if output.shape[:2] == image.shape[:2]:
                if not self.runner.outputs_labels:
                    return output.argmax(axis=-1).astype("uint8")
                self._check_labels(output)
                return output.astype("uint8")
        return self._probabilities(image, options).argmax(axis=-1).astype("uint8")

    def predict_file(self, path, **options):
        """`predict` for an image file, read as `keras_seg.data.read_image` reads it."""
        return self.predict(read_image(path, channels=self.channels), **options)

    def check(self, **options):
        """Raise ValueError for prediction options that do not fit each other or the network."""
        options = _Options(self, **options)
        if options.mode == "tile":
            OverlapTile(options.window, self._tile_output(options.window), options.stride)

    def _image(self, image):
        image = np.asarray(image)
        if image.ndim == 2 and self.channels == 1:
            image = image[..., None]
        if image.ndim != 3 or image.shape[2] != self.channels or 0 in image.shape:
            raise ValueError(
                f"{self.runner.name} takes an image (H, W, {self.channels}), got the shape "
                f"{image.shape}. read_image(path, channels={self.channels}) reads one."
            )
        if image.dtype != np.uint8:
            _check_range(image)
        return image

    def _probabilities(self, image, options):
        size = image.shape[:2]
        total = None
        for scale in options.scales:
            scaled = resize(image, _scaled_size(size, scale, options.base_size))
            scores = resize(self._scores(scaled, options), size)
            total = scores if total is None else np.add(total, scores, out=total)
        if len(options.scales) > 1:
            total /= len(options.scales)
        if options.average == "logits":
            total = _softmax(total)
        return total if options.crf is None else options.crf(total, image)

    def _scores(self, image, options):
        """Scores (H, W, K) of a float32 image at its own size."""
        if options.mode == "slide":
            slide = SlidingWindow(options.window, options.stride, options.weighting)
            return slide(image, lambda part: self._view(part, options))
        if options.mode == "tile":
            output = self._tile_output(options.window)
            tiles = OverlapTile(options.window, output, options.stride)
            return tiles(image, lambda part: self._view(part, options))
        size = image.shape[:2]
        if self.input_size is not None:
            return resize(self._view(resize(image, self.input_size), options), size)
        image = pad_to_multiple(image, *options.size_divisor)
        return self._view(image, options)[: size[0], : size[1]]

    def _view(self, image, options):
        """Scores of what the network sees in one go, averaged over mirror images and rotations."""
        turns = range(4) if options.flip == "d4" else range(1)
        total = None
        for turn in turns:
            batch = np.rot90(image, turn)[None]
            if options.flip:
                batch = np.concatenate([batch, batch[:, :, ::-1]])
            scores = self._network(batch, options)
            turned = scores[0]
            if options.flip:
                turned += scores[1, :, ::-1]
                turned *= 0.5 / len(turns)
            turned = np.rot90(turned, -turn)
            total = turned if total is None else np.add(total, turned, out=total)
        return total

    def _network(self, images, options):
        """Scores (N, H, W, K) of a batch: probabilities, or logits where those are averaged."""
        output = self.runner.run(images)
        if self.runner.outputs_labels:
            self._check_labels(output)
            output = np.eye(self.num_classes, dtype="float32")[output]
        size = images.shape[1:3]
        if options.mode != "tile" and output.shape[1:3] != size:
            self._check_subsampled(output.shape[1:3], size)
            output = np.stack([resize(scores, size) for scores in output])
        elif not output.flags.writeable:
            output = output.copy()
        softmax = options.average == "probabilities" and not self.runner.outputs_labels
        return _softmax(output) if softmax else output

    def _check_labels(self, labels):
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise ValueError(
                f"{self.runner.name} returned the labels {labels.min()}..{labels.max()}, but the "
                f"class table has {self.num_classes} classes."
            )

    def _check_subsampled(self, output, size):
        """A map that is 2, 4, ... times smaller is resized; one with a lost border must not be."""
        for stride in (2, 4, 8, 16, 32):
            if all(abs(n - s / stride) <= 1 for n, s in zip(output, size, strict=True)):
                return
        raise ValueError(
            f"{self.runner.name} returns a map of {output} for an image of {size}: valid "
            "convolutions have cut the border off. Use mode='tile'."
        )

    def _window(self, mode, window):
        """The window (H, W) of mode "slide" or "tile"."""
        if window is not None:
            window = pair(window, "window")
            if self.input_size not in (None, window):
                raise ValueError(
                    f"{self.runner.name} has the fixed input size {self.input_size}; a window of "
                    f"{window} cannot be run. Leave window out."
                )
            return window
        if self.input_size is not None:
            return self.input_size
        if mode == "tile":
            return _UNET_TILE, _UNET_TILE
        size = self._manifest.get("input", {})
        if size.get("height") and size.get("width"):
            return size["height"], size["width"]
        raise ValueError(
            f"mode='slide' needs window=(H, W) for {self.runner.name}, which takes any size: give "
            "the crop size that it was trained with."
        )

    def _tile_output(self, window):
        """The size of the network's map for one tile, found by running it on nothing.

        Raises ValueError for a window of which the network leaves out the last rows or columns
        (pooling of an odd size): the map would lie a few pixels off its middle.
        """
        if window not in self._tile_outputs:
            output = self._output_size(window)
            if self.input_size is None:
                try:
                    smaller = self._output_size((window[0] - 1, window[1] - 1))
                except ValueError:  # The network checks its size itself, as `UNet` does.
                    smaller = (None, None)
                if output[0] == smaller[0] or output[1] == smaller[1]:
                    raise ValueError(
                        f"For a window of {window} {self.runner.name} returns a map of {output}, as"
                        " for a smaller one: it leaves out the last pixels. Give the size that "
                        "its paper gives (U-Net: 16 k + 12, such as 188, 316 or 572)."
                    )
            self._tile_outputs[window] = output
        return self._tile_outputs[window]

    def _output_size(self, size):
        return self.runner.run(np.zeros((1, *size, self.channels), "uint8")).shape[1:3]


class _Options:
    """The checked prediction options, described at `Predictor`."""

    def __init__(
        self,
        predictor,
        *,
        mode="whole",
        window=None,
        stride=None,
        scales=(1.0,),
        base_size=None,
        flip=False,
        size_divisor=None,
        average="probabilities",
        weighting="uniform",
        crf=None,
    ):
        if mode not in ("whole", "slide", "tile"):
            raise unknown_name("mode", mode, ("whole", "slide", "tile"))
        if average not in ("probabilities", "logits"):
            raise unknown_name("average", average, ("probabilities", "logits"))
        if flip not in (False, True, "d4"):
            raise ValueError(f"flip must be False, True or 'd4', got {flip!r}.")
        scales = tuple(np.atleast_1d(scales).tolist())
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales must be positive numbers, got {scales}.")
        if base_size is not None and base_size < 1:
            raise ValueError(f"base_size must be None or a number of pixels, got {base_size}.")
        fixed = predictor.input_size
        if mode == "whole":
            if window is not None or stride is not None:
                raise ValueError("window and stride belong to mode='slide' and mode='tile'.")
            if fixed and (scales != (1.0,) or base_size or size_divisor):
                raise ValueError(
                    f"{predictor.runner.name} has the fixed input size {fixed}: every picture is "
                    "resized to it, so scales, base_size and size_divisor change nothing. Use "
                    "mode='slide', or a file without a fixed size."
                )
        elif size_divisor is not None:
            raise ValueError("size_divisor belongs to mode='whole'.")
        if average == "logits" and predictor.runner.outputs_labels:
            raise ValueError(
                f"{predictor.runner.name} returns labels; there are no logits to average."
            )
        if crf is not None and predictor.runner.outputs_labels:
            raise ValueError(
                f"{predictor.runner.name} returns labels, but a CRF refines probabilities: use the "
                "model itself, or a file exported with logits (`keras-seg export` makes those)."
            )
        self.crf = None if crf is None else find_crf(crf)
        self.mode, self.scales, self.base_size = mode, scales, base_size
        self.flip, self.average, self.weighting = flip, average, weighting
        self.stride = stride
        self.window = None if mode == "whole" else predictor._window(mode, window)
        seen = fixed if mode == "whole" else self.window
        if flip == "d4" and seen and seen[0] != seen[1]:
            raise ValueError(f"flip='d4' rotates by 90 degrees and needs a square, got {seen}.")
        self.size_divisor = (1, 0)
        if size_divisor is not None:
            divisor, remainder = size_divisor if np.ndim(size_divisor) else (size_divisor, 0)
            if not 0 <= remainder < divisor:
                raise ValueError(
                    "size_divisor must be a positive number or a pair (divisor, remainder) with "
                    f"0 <= remainder < divisor, got {size_divisor!r}."
                )
            self.size_divisor = (divisor, remainder)
        self.plain = (
            mode == "whole"
            and scales == (1.0,)
            and not (flip or base_size or crf)
            and self.size_divisor == (1, 0)
        )


def _read_manifest(path):
    """Our manifest that lies beside a model file, or in or beside a SavedModel folder; else {}.

    Browser applications and others have files of the same name.
    """
    if path is None:
        return {}
    for folder in (path, path.parent):
        if (folder / "manifest.json").is_file():
            found = read_json(folder / "manifest.json")
            return found if isinstance(found, dict) and "keras_seg_manifest" in found else {}
    return {}


def _check_range(image):
    """Pixels that are not uint8 must at least look like 0..255; 0..1 is the usual mistake."""
    low, high = image.min(), image.max()
    if not 0 <= low <= high <= 255:
        raise ValueError(
            f"An image has pixels 0..255 (uint8, or another type with those values); got "
            f"{image.dtype} with {low}..{high}."
        )
    if np.issubdtype(image.dtype, np.floating) and 0 < high <= 1:
        raise ValueError(
            f"An image has pixels 0..255; got {image.dtype} with a maximum of {high}, which looks "
            "like 0..1. Multiply by 255; the network does its own preprocessing."
        )


def _scaled_size(size, scale, base_size):
    """(H, W) of the picture at a scale: of its own size, or of a long side of base_size pixels."""
    if base_size is None:
        return tuple(max(1, round(side * scale)) for side in size)
    long = round(scale * base_size)
    return tuple(max(1, round(side * long / max(size))) for side in size)


def _softmax(logits):
    """Softmax over the last axis, in place."""
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=-1, keepdims=True)
    return logits
