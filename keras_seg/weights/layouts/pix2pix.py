"""pix2pix of junyanz/pytorch-CycleGAN-and-pix2pix, `models/networks.py`.

Ours are `Pix2PixGenerator`, `PatchGAN` and `PixelGAN` with `form="pytorch"`. The generator's blocks
lie in one another, the outermost being `model`; a block holds the convolution down, its
normalisation, the next block, the convolution up and its normalisation.
"""

from keras_seg.weights.layouts.table import Layout, by_pattern


def _names(layers):
    depth = sum(layer.startswith("down") and layer.endswith("_conv") for layer in layers)
    patches = sum(layer.startswith("patch") and layer.endswith("_conv") for layer in layers)

    def block(stage):
        return "model.model.1" + ".model.3" * (stage - 2)

    def down(stage, part):
        if stage == "1":
            return "model.model.0"
        return f"{block(int(stage))}.model.{1 if part == 'conv' else 2}"

    def up(stage, part):
        # The innermost block has no normalisation on its way down and no block inside.
        index = (3 if int(stage) == depth else 5) + (part == "bn")
        return f"{block(int(stage))}.model.{index}"

    def patch(stage, part):
        index = 3 * int(stage) - (4 if part == "conv" else 3)
        return f"model.{max(index, 0)}"

    return by_pattern(
        layers,
        (
            (r"down(\d+)_(conv|bn)", down),
            (r"up(\d+)_(deconv|bn)", up),
            (r"logits_low", lambda: "model.model.3"),
            (r"patch(\d+)_(conv|bn)", patch),
            (r"pixel1_conv", lambda: "net.0"),
            (r"pixel2_conv", lambda: "net.2"),
            (r"pixel2_bn", lambda: "net.3"),
            (r"logits", lambda: f"model.{3 * patches - 1}" if patches else "net.5"),
        ),
    )


LAYOUT = Layout(reference="junyanz/pytorch-CycleGAN-and-pix2pix models/networks.py", names=_names)
