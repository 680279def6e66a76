"""The one way from a picture to a label map, for every kind of model file."""

import numpy as np

from keras_seg.data import LabelTable, read_image
from keras_seg.data.progress import Progress
from keras_seg.inference.options import Options
from keras_seg.inference.resize import (
    Picture,
    block_rows,
    blocks,
    equal_blocks,
    is_reduced,
    resize,
    resize_blocks,
    source_columns,
)
from keras_seg.inference.runners import load_runner
from keras_seg.inference.windows import OverlapTile, SlidingWindow, pad_to_multiple, pair

# The input of the U-Net paper (Figure 2), used by mode="tile" where the network does not fix one.
_UNET_TILE = 572
# `predict` holds about so many bytes of unfinished scores; see `Predictor._strips`.
_HELD_BYTES = 2**29
# `predict` shows its progress for images of more pixels than this.
_LARGE = 10_000_000


class Predictor:
    """Predict label maps with a Keras model, a `.keras`, `.tflite` or `.onnx` file or a SavedModel.

    Every prediction option is an argument of `probabilities`, `predict` and `predict_file`:

    procedure: None, or whose test-time procedure to follow: "semseg" (PSPNet, PSANet), "mmseg",
        "setr" (mmseg's, with pictures no smaller than the window) or "encoding" (PyTorch-Encoding:
        EncNet). It sets mode="slide", `rule`, `average`, `sampling` and `align_corners`, each
        unless given, and how the sides of a scaled picture are rounded. Scales, base_size and flip
        stay yours.
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
    rule: where the windows of "slide" lie, and how small pictures are padded: "semseg" (default),
        "mmseg" or "encoding", see `SlidingWindow`.
    weighting: "uniform" or "gaussian", for "slide".
    batch_windows: how many windows or tiles the network sees at once. Default: up to 8, fewer where
        their scores would be large; a file with a batch size of its own gets that.
    scales: run at each of these sizes of the picture, and average.
    base_size: scales are of a long side of this many pixels; None: of the picture's own size. For
        procedure "mmseg" and "setr" a pair of bounds, such as (2048, 512).
    flip: True: average with the result of the mirrored picture; "d4": with all 8 rotations and
        mirror images of the square (for pictures without an up and down, such as microscopy).
    flip_pairs: pairs of class ids that a mirror image swaps, such as left and right arm: ((14, 15),
        (16, 17), (18, 19)) for LIP.
    size_divisor: "whole" only: pad bottom and right with the mean colour to a multiple of this; a
        pair (divisor, remainder) for sizes such as 8k+1: (8, 1). The result is cropped.
    average: what is averaged.
        - "probabilities" (default; semseg): everywhere, over mirror images, windows and scales.
        - "logits": everywhere, with one softmax at the end.
        - "views" (mmseg): logits over the windows of one view, which is the picture at one scale,
          mirrored or not; then the probabilities of the views.
        - "likelihoods" (PyTorch-Encoding): the exponential of the sum of the mirror images' logits,
          over windows and scales; normalised only at the end.
    sampling: how pictures, and finished scores at another size, are resized: "antialias" (default),
        "half_pixel", "align_corners" or "legacy", see `resize`.
    align_corners: whether scores smaller than what the network saw are enlarged corner on corner
        (networks with sizes 8k+1) instead of at half-pixel centres (default). For a file of logits
        at low resolution the manifest beside it says how the network does it.
    crf: None, or a dense CRF that refines the probabilities at the image's own size, after all
        averaging: the name of a preset, such as "deeplab", or a `keras_seg.crf.DenseCRF`. It sees
        all channels of the image as colours. `probabilities` then returns its marginals.
    progress: show a bar of the windows done on standard error. Default: for pictures of more than
        10 megapixels.

    `predict` computes the scores of "slide" and "tile", and of files with a fixed size, in bands of
    rows, so that those of a large picture need not exist as a whole: 40 megapixels are labelled
    within 2 GiB beyond the model. `probabilities`, and a CRF, hold all (H, W, K).

    A file that returns labels instead of logits votes with its label for each pixel; one that
    returns probabilities has them averaged as they are.

    Safe to use from several threads.

    Args:
        model_or_path: what `load_runner` takes.
        table: the classes' `LabelTable`. Default: the one in the manifest beside the file or
            packed in it, else numbered classes with the PASCAL VOC colours.
        num_threads: threads for `.tflite` and `.onnx` files; None for all cores.

    Attributes: `runner`, `table`, `num_classes`, `channels`, `input_size` (None or a fixed (H, W)).

    Raises:
        ValueError: if the model cannot be loaded, or the table has another number of classes.
    """

    def __init__(self, model_or_path, *, table=None, num_threads=None):
        self.runner = load_runner(model_or_path, num_threads=num_threads)
        self.channels = self.runner.channels
        self.input_size = self.runner.input_size
        self._manifest = self.runner.manifest
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
        if self.runner.output in ("labels", "probabilities"):
            raise ValueError(
                f"{self.runner.name} returns {self.runner.output}, not logits; use predict()."
            )
        return self.runner.run(images)

    def probabilities(self, image, **options):
        """Class probabilities, float32 (H, W, K), of one image (H, W, C), uint8 or 0..255.

        `options` are described at the class. Raises ValueError for an image of another kind or
        number of channels, and for options that do not fit each other or the network.
        """
        return self._probabilities(self._image(image), Options(self, **options))

    def predict(self, image, **options):
        """The label map, uint8 (H, W), of one image (H, W, C); see `probabilities`.

        Of several equal scores the first class wins.
        """
        image, options = self._image(image), Options(self, **options)
        if options.plain and self.input_size in (None, image.shape[:2]):
            # One run and no averaging: the softmax would change nothing but the time it takes.
            output = self.runner.run(image[None])[0]
            if output.shape[:2] == image.shape[:2]:
                if not self.runner.outputs_labels:
                    return output.argmax(axis=-1).astype("uint8")
                self._check_labels(output)
                return output.astype("uint8")
        if self._in_bands(image.shape[:2], options):
            return self._predict_in_bands(image, options)
        return self._probabilities(image, options).argmax(axis=-1).astype("uint8")

    def predict_file(self, path, *, white=None, **options):
        """`predict` for an image file, read as `keras_seg.data.read_image` reads it."""
        return self.predict(read_image(path, channels=self.channels, white=white), **options)

    def check(self, **options):
        """Raise ValueError for prediction options that do not fit each other or the network."""
        options = Options(self, **options)
        if options.mode != "whole":
            self._cover(options)

    def _image(self, image):
        image = np.asarray(image)
        if image.ndim == 2 and self.channels == 1:
            image = image[..., None]
        if image.ndim != 3 or image.shape[2] != self.channels or 0 in image.shape:
            raise ValueError(
                f"{self.runner.name} takes an image (H, W, {self.channels}), got the shape "
                f"{image.shape}. read_image(path, channels={self.channels}) reads one."
            )
        if image.dtype == bool:
            raise ValueError("An image has pixels 0..255, got bool. Multiply by 255.")
        if image.dtype != np.uint8:
            _check_range(image)
        return image

    def _probabilities(self, image, options):
        size, views = image.shape[:2], options.views()
        total = np.zeros((*size, self.num_classes), "float32")
        bar = self._bar(size, options, [(0, size[1])])
        for view in views:
            row = 0
            for block in self._stream(image, options, view, (0, size[1]), bar):
                total[row : row + len(block)] += block
                row += len(block)
        for block in blocks(total):
            block[...] = _finish(block, len(views), options)
        return total if options.crf is None else options.crf(total, image)

    def _in_bands(self, size, options):
        """Whether `predict` should not hold all scores of an image (H, W)."""
        if options.crf is not None or (options.mode == "whole" and self.input_size is None):
            return False
        # All views at once in strips cost more windows than one after another.
        small = 4 * size[0] * size[1] * self.num_classes <= _HELD_BYTES
        return not (small and len(options.views()) > 1)

    def _predict_in_bands(self, image, options):
        """`predict` that never holds the scores of more than some rows; see `_strips`."""
        size, views = image.shape[:2], options.views()
        label = np.empty(size, "uint8")
        strips = self._strips(size, options)
        bar = self._bar(size, options, strips)
        for first, last in strips:
            streams = [self._stream(image, options, view, (first, last), bar) for view in views]
            if len(streams) > 1:
                rows = block_rows((last - first) * self.num_classes)
                streams = [equal_blocks(stream, rows) for stream in streams]
            row = 0
            for total, *others in zip(*streams, strict=True):
                for block in others:
                    total += block
                band = _finish(total, len(views), options).argmax(axis=-1)
                label[row : row + len(band), first:last] = band
                row += len(band)
        return label

    def _strips(self, size, options):
        """Ranges of columns to compute one after another: one where that fits `_HELD_BYTES`.

        A row of windows is held until the next one has been added to it, at every scale. Where that
        is too much, the picture is computed in strips; windows on their borders are run for both.
        """
        if options.mode == "whole":
            return [(0, size[1])]
        rows = (
            options.window[0] if options.mode == "slide" else self._tile_output(options.window)[0]
        )
        columns = sum(options.scaled_size(size, scale)[1] for scale, _ in options.views())
        count = -(-rows * columns * self.num_classes * 4 // _HELD_BYTES)
        edges = np.linspace(0, size[1], min(count, size[1]) + 1).astype(int).tolist()
        return list(zip(edges[:-1], edges[1:], strict=True))

    def _bar(self, size, options, strips):
        """A progress bar of all windows."""
        show = options.progress
        if show is None:
            show = size[0] * size[1] > _LARGE
        if options.mode == "whole" or not show:
            return Progress(1, "windows", show=False)
        total = 0
        for scale, mirrored in options.views():
            scaled = options.scaled_size(size, scale)
            for strip in strips:
                columns = _source(size, scaled, mirrored, strip, options)
                total += self._cover(options).count(scaled, columns)
        return Progress(total, "windows", show=True)

    def _stream(self, image, options, view, columns, bar):
        """Blocks of rows, from the top, of the scores of one view at the image's own size."""
        (scale, mirrored), size = view, image.shape[:2]
        scaled = self.input_size if options.mode == "whole" else None
        scaled = scaled or options.scaled_size(size, scale)
        source = _source(size, scaled, mirrored, columns, options)
        if mirrored:
            image, columns = image[:, ::-1], (size[1] - columns[1], size[1] - columns[0])
        picture = Picture(image, scaled, options.sampling)
        stream = self._rows(picture, options, source, bar)
        for block in resize_blocks(stream, scaled, size, options.sampling, columns):
            if mirrored:
                block = _unmirror(block, options)
            yield softmax(np.array(block)) if options.average == "views" else block

    def _rows(self, picture, options, columns, bar):
        """The same at the picture's size."""

        def network(windows):
            scores = self._views(windows, options)
            for _ in windows:
                bar.step()
            return scores

        if options.mode != "whole":
            cover = self._cover(options)
            return cover.rows(picture, network, columns=columns, batch=options.batch)
        image = picture.take(*map(np.arange, picture.size))
        if self.input_size is None:
            image = pad_to_multiple(image, *options.size_divisor)
        scores = self._views(image[None], options)[0]
        return blocks(scores[: picture.size[0]], columns)

    def _cover(self, options):
        """The `SlidingWindow` or `OverlapTile`."""
        if options.mode == "tile":
            output = self._tile_output(options.window)
            return OverlapTile(options.window, output, options.stride)
        fixed = self.input_size is not None
        return SlidingWindow(
            options.window, options.stride, options.weighting, options.rule, fixed=fixed
        )

    def _views(self, images, options):
        """Scores of what the network sees in one go, averaged over mirror images and rotations."""
        turns = range(4) if options.flip == "d4" else range(1)
        flip = options.flip and options.average != "views"
        total = None
        for turn in turns:
            batch = np.rot90(images, turn, axes=(1, 2))
            if flip:
                batch = np.concatenate([batch, batch[:, :, ::-1]])
            scores = self._network(batch, options)
            turned = scores[: len(images)]
            if flip:
                turned += _unmirror(scores[len(images) :], options)
                if options.average != "likelihoods":
                    turned *= 0.5 / len(turns)
            turned = np.rot90(turned, -turn, axes=(1, 2))
            total = turned if total is None else np.add(total, turned, out=total)
        if options.average == "likelihoods":
            total = self._likelihoods(total)
        return total

    def _likelihoods(self, logits):
        with np.errstate(over="ignore"):
            scores = np.exp(logits)
        if not np.isfinite(scores).all():
            raise ValueError(
                f"{self.runner.name} gives logits of which the sum over mirror images is "
                f"{logits.max():.0f}: its exponential is no number any more. Use "
                "average='probabilities'."
            )
        return scores

    def _network(self, images, options):
        """Scores (N, H, W, K) of a batch: probabilities, or logits where those are averaged."""
        output = self.runner.run(images)
        if self.runner.outputs_labels:
            self._check_labels(output)
            output = np.eye(self.num_classes, dtype="float32")[output]
        size = images.shape[1:3]
        if options.mode != "tile" and output.shape[1:3] != size:
            if self.runner.output != "logits_lowres":
                self._check_subsampled(output.shape[1:3], size)
            sampling = "align_corners" if options.align_corners else "half_pixel"
            output = np.stack([resize(scores, size, sampling) for scores in output])
        elif not output.flags.writeable:
            output = output.copy()
        if options.average != "probabilities" or self.runner.output in ("labels", "probabilities"):
            return output
        return softmax(output)

    def lowres_sampling(self):
        """How the network itself enlarges the logits that a file returns at low resolution.

        None for files that return something else, and where no manifest says it. Raises ValueError
        where it does not by a plain resize.
        """
        found = self._manifest.get("output", {})
        if self.runner.output != "logits_lowres" or "resize" not in found:
            return None
        if found["resize"] is None:
            raise ValueError(
                f"{self.runner.name} returns logits at low resolution, which its network does not "
                "enlarge by a plain resize (see its manifest.json): to know where they lie takes "
                "the network. Use a file exported with logits, probabilities or labels."
            )
        return found["resize"]

    def _check_labels(self, labels):
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise ValueError(
                f"{self.runner.name} returned the labels {labels.min()}..{labels.max()}, but the "
                f"class table has {self.num_classes} classes."
            )

    def _check_subsampled(self, output, size):
        """A map that is 2, 4, ... times smaller is resized; one with a lost border must not be."""
        if not is_reduced(output, size):
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


def _source(size, scaled, mirrored, columns, options):
    """The columns of a view's scaled picture that a strip of columns of the image needs."""
    if mirrored:
        columns = size[1] - columns[1], size[1] - columns[0]
    return source_columns(scaled[1], size[1], options.sampling, columns)


def _unmirror(scores, options):
    """Scores (..., W, K) of a mirror image, for the image itself."""
    scores = scores[..., ::-1, :]
    return scores if options.swapped is None else scores[..., options.swapped]


def _finish(total, count, options):
    """Probabilities from the sum of the scores of `count` views; changes the sum."""
    if count > 1:
        total /= count
    if options.average == "logits":
        total = softmax(total)
    if options.average == "likelihoods":
        # Where all are too small for float32 they are equal.
        total = np.maximum(total, np.finfo("float32").tiny, out=total)
        total /= total.sum(axis=-1, keepdims=True)
    return total


def softmax(logits):
    """Softmax over the last axis, in place."""
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=-1, keepdims=True)
    return logits
