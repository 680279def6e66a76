"""The same sums in forms that LiteRT computes faster; all but the rounding stays the same.

- A transposed convolution of stride s is a convolution that makes the s x s pixels of a place as so
  many channels, and DEPTH_TO_SPACE. LiteRT's kernels of TRANSPOSE_CONV also multiply the zeros
  between the pixels: 2 x 2, stride 2, 64 channels to 32 at 256 x 256 took 7 times as long in int8,
  twice as long in float32.
- A convolution behind an enlargement to the nearest pixel by a whole factor is that too: its taps
  that fall on the same pixel are added up beforehand. It reads and writes less, and computes with
  more channels at once (3 x 3, 32 channels to 16 at 256 x 256: 5 times as long before in int8).
- Every other pixel, four times from each corner (max-unpooling), is SPACE_TO_DEPTH and parts of its
  channels; STRIDED_SLICE has no fast kernel.
- In 8 bits, RELU has a fast kernel only as a part of another operator. Behind what only moves
  values it becomes a part of a MAX_POOL_2D of 1 x 1, which took a ninetieth of the time.
- In 8 bits, the kernels work on groups of 4 to 16 channels, and an image has three. A convolution
  of stride s is one of stride 1 over the s x s pixels of a place as channels; and what normalises
  the image is a product for each channel of a row of pixels. The 7 x 7 at the beginning of a ResNet
  and what is before it took 2.4 times as long.

`benchmarks/tflite_forms.py` measures single layers and whole networks.
"""

import numpy as np

_PIXELWISE = ("Mul", "AddV2", "BiasAdd")  # with a constant for each channel
_ACTIVATIONS = ("Relu", "Relu6")
# Of the products, by zeros in an extended kernel and places at the border. More is not made good.
_MOST_GROWTH = 2.5
# Of a convolution behind an enlargement. With more it gains little, and its kernel grows fourfold.
_MOST_CHANNELS = 32
# Of what counts as an image, and of its places.
_FEW_CHANNELS, _MOST_IN_A_PLACE = 4, 64
# Behind these the converter cannot make an activation a part of the operator.
_MOVES = """BatchToSpaceND ConcatV2 DepthToSpace MirrorPad Pad PadV2 Reshape ResizeBilinear
    ResizeNearestNeighbor Slice SpaceToDepth Split SplitV StridedSlice Transpose""".split()
_SHORTEST_ROW = 16  # pixels that are normalised at once


def phases(editor):
    """Transposed convolutions, those behind an enlargement, every other pixel; whether there were
    any.

    Args:
        editor: a `tflite_rewrite.Editor`.
    """
    changed = [_transposed(editor, node) for node in editor.of_type("Conv2DBackpropInput")]
    changed += [_enlarged(editor, node) for node in editor.of_type("Conv2D")]
    changed += [_every_other(editor, node) for node in editor.of_type("StridedSlice")]
    return any(changed)


def eight_bits(editor):
    """Activations by themselves, strided convolutions over an image, and its preprocessing; whether
    there were any.

    Args:
        editor: a `tflite_rewrite.Editor`.
    """
    changed = [_activation(editor, node) for node in editor.of_type("Relu")]
    changed += [_strided(editor, node) for node in editor.of_type("Conv2D")]
    changed += [_preprocessing(editor, node) for node in editor.of_type("Conv2D")]
    return any(changed)


def _transposed(editor, node):
    """With the kernel's rows and columns in s parts, output (q s + a) is the sum over t of input
    (q - t) times kernel (t s + a). Places outside the output are not computed."""
    kernel, stride = editor.constant(node.input[1]), _stride(node)
    source, output = editor.shape(node.input[2]), editor.shape(node.name)
    if kernel is None or not stride or source[0] != 1 or None in source + output:
        return False
    taps, around, crop, whole, growth = [], [], [], [], 1
    for size, before, after in zip(kernel.shape[:2], source[1:3], output[1:3], strict=True):
        start = 0
        if node.attr["padding"].s == b"SAME":
            start = max((before - 1) * stride + size - after, 0) // 2
        count = -(-size // stride)
        first, last = start // stride, -(-(start + after) // stride)  # places
        edges = [count - 1 - first, last - before]
        if edges[0] < 0 or not 0 <= edges[1] < count:
            return False
        taps.append(count)
        around.append(edges)
        crop.append(start - first * stride)
        whole.append((last - first) * stride)
        growth *= (whole[-1] * count) / (before * size)
    if growth > _MOST_GROWTH:
        return False
    kernel = _extended(kernel.transpose(0, 1, 3, 2), [t * stride for t in taps])
    kernel = _by_place(kernel, stride)[::-1, ::-1]  # (taps, taps, s, s, in, out)
    kernel = kernel.transpose(0, 1, 4, 2, 3, 5).reshape(*taps, source[3], -1)
    name = f"{node.name}/phases"
    made, padding = node.input[2], "SAME"
    if around != [[(t - 1) // 2, t // 2] for t in taps]:
        made = editor.add_with("Pad", f"{name}/pad", made, [[0, 0], *around, [0, 0]], "Tpaddings")
        padding = "VALID"
    made, end = _convolved(editor, node, name, made, kernel, stride, padding)
    if whole != output[1:3]:
        made = editor.add_slice(f"{name}/crop", made, [0, *crop, 0], [1, *output[1:]])
    editor.put_in_place(end, made)
    return True


def _enlarged(editor, node):
    """Tap u of output (j f + a) falls on pixel j + floor((a + u - middle) / f)."""
    kernel, resize = editor.constant(node.input[1]), editor.node(node.input[0])
    if resize.op != "ResizeNearestNeighbor" or kernel is None or not _is_plain(editor, node):
        return False
    source, enlarged = editor.shape(resize.input[0]), editor.shape(resize.name)
    factor = enlarged[1] // source[1]
    size, _, inputs, outputs = kernel.shape
    if (
        [factor * source[1], factor * source[2]] != enlarged[1:3]
        or factor < 2
        or resize.attr["align_corners"].b
        or editor.only_reader(resize) is not node
        or node.attr["padding"].s != b"SAME"
        or kernel.shape[0] != kernel.shape[1]
        or size % 2 == 0
        or outputs > _MOST_CHANNELS
    ):
        return False
    middle = size // 2
    reach = -(-middle // factor)
    sums = np.zeros((2 * reach + 1, 2 * reach + 1, inputs, factor, factor, outputs), kernel.dtype)
    for a, b, u, v in np.ndindex(factor, factor, size, size):
        row, column = ((x - middle) // factor + reach for x in (a + u, b + v))
        sums[row, column, :, a, b] += kernel[u, v]
    name = f"{node.name}/phases"
    kernel = sums.reshape(*sums.shape[:3], -1)
    made, end = _convolved(editor, node, name, resize.input[0], kernel, factor, "SAME")
    editor.put_in_place(end, made)
    return True


def _every_other(editor, node):
    """The pixels at one corner of all places are channels of the places that follow each other."""
    source, output = editor.shape(node.input[0]), editor.shape(node.name)
    begin, _, strides = (editor.constant(name) for name in node.input[1:])
    masks = {key: node.attr[f"{key}_mask"].i for key in ("begin", "ellipsis", "new_axis")}
    if (
        None in source + output
        or len(source) != 4
        or len(output) != 4
        or begin is None
        or strides is None
        or masks["ellipsis"]
        or masks["new_axis"]
        or len(strides) < 3
    ):
        return False
    begin = [0 if masks["begin"] >> i & 1 else int(n) for i, n in enumerate(begin)] + [0]
    strides = [*strides.tolist(), 1]
    block, channels = strides[1], source[3]
    if (
        strides[:4] != [1, block, block, 1]
        or block < 2
        or begin[0] != 0
        or begin[3] != 0
        or not 0 <= min(begin[1:3]) <= max(begin[1:3]) < block
        or [source[0], *(n * block for n in output[1:3]), channels] != [*source[:3], output[3]]
    ):
        return False
    name = f"{editor.node(node.input[0]).name}/places{block}"
    if not editor.has(name):
        editor.add("SpaceToDepth", name, [node.input[0]], block_size=block)
    first = (begin[1] * block + begin[2]) * channels
    made = editor.add_slice(f"{node.name}/corner", name, [0, 0, 0, first], output)
    editor.put_in_place(node, made)
    return True


def _activation(editor, node):
    """ReLU where the converter cannot make it a part of what is before it.

    Not ReLU6: a pool's output has the step of its input, which may be too large for 0 to 6.
    """
    before = editor.node(node.input[0])
    while before.op == "Identity":
        before = editor.node(before.input[0])
    if before.op not in _MOVES or len(editor.shape(node.name)) != 4:
        return False
    name = f"{node.name}/pool"
    size = {"ksize": [1] * 4, "strides": [1] * 4, "padding": "VALID"}
    node.input[0] = editor.add("MaxPool", name, [node.input[0]], **size)
    return True


def _convolved(editor, node, name, source, kernel, block, padding):
    """A convolution whose channels are the pixels of a place, and DEPTH_TO_SPACE.

    What follows `node` pixel by pixel is done in between, where the converter makes it a part of
    the convolution.

    Returns:
        (what was made, the last node whose place it takes)
    """
    kernel = editor.add_constant(f"{name}/kernel", np.ascontiguousarray(kernel))
    made = editor.add(
        "Conv2D", f"{name}/convolution", [source, kernel], strides=[1] * 4, padding=padding
    )
    channels = editor.shape(node.name)[3]
    while (reader := editor.only_reader(node)) is not None:
        part = f"{reader.name}/phases"
        constant = editor.channel_constant(reader, node, _PIXELWISE, channels)
        if constant is not None:
            times = [1] * (len(editor.shape(constant)) - 1) + [block * block]
            tiled = editor.add_with("Tile", f"{part}/tiled", constant, times, "Tmultiples")
            made = editor.copy(reader, part, [made, tiled])
        elif reader.op in _ACTIVATIONS:
            made = editor.copy(reader, part, [made])
        else:
            break
        node = reader
    if block > 1:
        made = editor.add("DepthToSpace", f"{name}/pixels", [made], block_size=block)
    return made, node


def _strided(editor, node):
    """The kernel's rows and columns in places of s x s, over places of the image."""
    kernel, stride = editor.constant(node.input[1]), _stride(node)
    before = editor.node(node.input[0])
    source, around = node.input[0], [[0, 0]] * 4
    if before.op == "Pad" and editor.only_reader(before) is node:
        found = editor.constant(before.input[1])
        if found is not None and not found[[0, 3]].any():
            source, around = before.input[0], found.tolist()
    shape, output = editor.shape(source), editor.shape(node.name)
    channels = shape[3]
    if (
        kernel is None
        or stride < 2
        or shape[0] != 1
        or None in shape + output
        or channels != kernel.shape[2]
        or channels > _FEW_CHANNELS
        or channels * stride**2 > _MOST_IN_A_PLACE
        or any(d != 1 for d in node.attr["dilations"].list.i)
        or min(kernel.shape[:2]) < stride
    ):
        return False
    padded = [shape[i] + sum(around[i]) for i in (1, 2)]
    taps = [-(-size // stride) for size in kernel.shape[:2]]
    edges = []
    for i in (0, 1):
        first = around[1 + i][0]
        if node.attr["padding"].s == b"SAME":
            total = (output[1 + i] - 1) * stride + kernel.shape[i] - padded[i]
            first += max(total, 0) // 2
        last = (output[1 + i] - 1 + taps[i]) * stride - first - shape[1 + i]
        if last < 0:
            return False  # pixels at the end that no tap reaches
        edges.append([first, last])
    name = f"{node.name}/places"
    # Padding of whole rows: that of three channels was slower than the convolution.
    rows = editor.add_with(
        "Reshape", f"{name}/rows", source, [1, shape[1], 1, shape[2] * channels], "Tshape"
    )
    wide = [[0, 0], edges[0], [0, 0], [channels * edge for edge in edges[1]]]
    rows = editor.add_with("Pad", f"{name}/pad", rows, wide, "Tpaddings")
    size = [1, shape[1] + sum(edges[0]), shape[2] + sum(edges[1]), channels]
    image = editor.add_with("Reshape", f"{name}/image", rows, size, "Tshape")
    places = editor.add("SpaceToDepth", f"{name}/places", [image], block_size=stride)
    kernel = _by_place(_extended(kernel, [t * stride for t in taps]), stride)
    kernel = kernel.reshape(*taps, stride * stride * channels, -1)
    node.input[0] = places
    node.input[1] = editor.add_constant(f"{name}/kernel", np.ascontiguousarray(kernel))
    node.attr["strides"].list.i[:] = [1] * 4
    node.attr["padding"].s = b"VALID"
    return True


def _preprocessing(editor, node):
    """A 1x1 convolution that only scales and shifts the channels of the image, on rows of them."""
    kernel, source = editor.constant(node.input[1]), editor.node(node.input[0])
    if not editor.is_image(source) or kernel is None or not _is_plain(editor, node):
        return False
    _, height, width, channels = editor.shape(source.name)
    matrix = kernel[0, 0]
    if kernel.shape != (1, 1, channels, channels) or channels > _FEW_CHANNELS:
        return False
    if (matrix != np.diag(np.diag(matrix))).any():
        return False
    pixels = next((n for n in range(_SHORTEST_ROW, width) if width % n == 0), width)
    shape = [1, height, width // pixels, pixels * channels]
    name = f"{node.name}/rows"
    made = editor.add_with("Reshape", f"{name}/rows", source.name, shape, "Tshape")
    factors = np.tile(np.diag(matrix), pixels)[None, None, :, None]
    factors = editor.add_constant(f"{name}/factors", factors)
    made = editor.add(
        "DepthwiseConv2dNative",
        f"{name}/scaled",
        [made, factors],
        strides=[1] * 4,
        padding="VALID",
    )
    reader = editor.only_reader(node)
    constant = editor.channel_constant(reader, node, ("AddV2", "BiasAdd"), channels)
    if constant is not None:
        times = [1] * (len(editor.shape(constant)) - 1) + [pixels]
        tiled = editor.add_with("Tile", f"{name}/tiled", constant, times, "Tmultiples")
        made = editor.copy(reader, f"{name}/shifted", [made, tiled])
        node = reader
    shape = [1, height, width, channels]
    made = editor.add_with("Reshape", f"{name}/image", made, shape, "Tshape")
    editor.put_in_place(node, made)
    return True


def _is_plain(editor, node):
    """Whether a convolution has neither stride, dilation nor groups, and its shapes are known."""
    shapes = [editor.shape(name) for name in (node.input[0], node.name, node.input[1])]
    once = all(n == 1 for key in ("strides", "dilations") for n in node.attr[key].list.i)
    return once and None not in sum(shapes, []) and shapes[0][3] == shapes[2][2]


def _stride(node):
    """The stride along height and width; 0 if they differ."""
    _, height, width, _ = node.attr["strides"].list.i
    return height if height == width else 0


def _extended(kernel, size):
    """A kernel (h, w, ...) with zeros behind it, to `size`."""
    more = [(0, size[i] - kernel.shape[i]) for i in (0, 1)] + [(0, 0)] * 2
    return np.pad(kernel, more)


def _by_place(kernel, block):
    """(h, w, in, out) as (h / block, w / block, block, block, in, out)."""
    height, width, *channels = kernel.shape
    kernel = kernel.reshape(height // block, block, width // block, block, *channels)
    return kernel.swapaxes(1, 2)
