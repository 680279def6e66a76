"""Convolutions over very many input channels as sums of convolutions over some of them.

LiteRT's float kernels (XNNPACK) compute a few pixels of a convolution at a time, and read the
kernel's whole columns, kernel area times input channels long, for each of them. Beyond some ten
thousand values these no longer stay in a processor's second cache, and the convolution waits for
memory: the head of PSPNet (3x3, 4096 -> 512) was measured at a fifth of the speed of eight
convolutions over 512 channels each, and the dilated ones of DeepLab v3 (3x3, 2048 -> 256) at two
fifths of that of four (`benchmarks/export_speed.py`).
"""

LONGEST = 9216  # values in a column that is left whole: 3 x 3 x 1024
PART = 4608  # in a part of a longer one: 3 x 3 x 512
FEWEST_PIXELS = 64  # of the output: with fewer, the kernel is read a few times only


def split_long_sums(editor):
    """Long convolutions in parts; whether there were any."""
    found = [node for node in editor.of_type("Conv2D") if _should_split(editor, node)]
    for node in found:
        _split(editor, node)
    return bool(found)


def _should_split(editor, node):
    kernel, output, source = (editor.shape(n) for n in (node.input[1], node.name, node.input[0]))
    if None in output or output[0] * output[1] * output[2] < FEWEST_PIXELS:
        return False
    if kernel[0] * kernel[1] * kernel[2] <= LONGEST or source[3] != kernel[2]:
        return False
    return editor.constant(node.input[1]) is not None


def _split(editor, node):
    """A dilated convolution stands between SpaceToBatchND and BatchToSpaceND, which the
    converter turns into one operator: each part gets its own of both."""
    before, after = editor.node(node.input[0]), editor.only_reader(node)
    dilated = before.op == "SpaceToBatchND" and after is not None
    dilated = dilated and after.op == "BatchToSpaceND"
    source = before.input[0] if dilated else node.input[0]
    kernel = editor.constant(node.input[1])
    factor, offset, end = _normalisation(editor, after if dilated else node, kernel.shape[3])
    parts = -(-kernel.shape[0] * kernel.shape[1] * kernel.shape[2] // PART)
    step = -(-kernel.shape[2] // parts)
    step += -step % 16  # values in a vector register
    total = None
    for start in range(0, kernel.shape[2], step):
        stop = min(start + step, kernel.shape[2])
        name = f"{node.name}/part{start}"
        part = _channels(editor, source, start, stop, name)
        weights = editor.add_constant(f"{name}/kernel", kernel[:, :, start:stop])
        if factor is not None:
            weights = editor.add("Mul", f"{name}/scaled", [weights, factor])
        if dilated:
            part = editor.copy(before, f"{name}/before", [part, *before.input[1:]])
        part = editor.copy(node, f"{name}/convolution", [part, weights])
        if dilated:
            part = editor.copy(after, f"{name}/after", [part, *after.input[1:]])
        if total is not None:
            part = editor.add("AddV2", f"{name}/sum", [total, part])
        elif offset is not None:
            part = editor.add("AddV2", f"{name}/offset", [part, offset])
        total = part
    editor.put_in_place(end, total)


def _normalisation(editor, node, channels):
    """(factor, offset, last node): names of what scales and shifts the channels of a
    convolution behind it, or None, and the node behind which that is done."""
    factor = offset = None
    reader = editor.only_reader(node)
    other = editor.channel_constant(reader, node, ("Mul",), channels)
    if other is not None:
        factor, node = other, reader
        reader = editor.only_reader(node)
    other = editor.channel_constant(reader, node, ("AddV2", "BiasAdd"), channels)
    if other is not None:
        offset, node = other, reader
    return factor, offset, node


def _channels(editor, source, start, stop, name):
    """Channels of a tensor; from the part that holds them if it was put together of several."""
    node = editor.node(source)
    if node.op == "ConcatV2":
        offset = 0
        for part in node.input[:-1]:
            width = editor.shape(part)[3]
            if editor.shape(source)[3] == width:
                break  # along another axis
            if offset <= start and stop <= offset + width:
                if (start, stop) == (offset, offset + width):
                    return part
                return _slice(editor, part, start - offset, stop - offset, name)
            offset += width
    return _slice(editor, source, start, stop, name)


def _slice(editor, source, start, stop, name):
    return editor.add_slice(f"{name}/slice", source, [0, 0, 0, start], [-1, -1, -1, stop - start])
