"""U-Net of milesial/Pytorch-UNet, `unet/unet_model.py`; ours is `UNet(form="same")`."""

from keras_seg.weights.layouts.table import Layout, before, by_pattern


def _part(kind, number):
    """Position in `double_conv`: convolution, BN, ReLU, convolution, BN, ReLU."""
    return 3 * before(number) + (kind == "bn")


def _names(layers):
    depth = sum(layer.startswith("up") and layer.endswith("_conv1") for layer in layers)

    def down(stage, kind, number):
        block = "inc" if stage == "1" else f"down{before(stage)}.maxpool_conv.1"
        return f"{block}.double_conv.{_part(kind, number)}"

    def bottom(kind, number):
        return f"down{depth}.maxpool_conv.1.double_conv.{_part(kind, number)}"

    def up(stage, kind, number):
        # The reference counts its way up from the bottom, we name a stage by its size.
        return f"up{depth + 1 - int(stage)}.conv.double_conv.{_part(kind, number)}"

    return by_pattern(
        layers,
        (
            (r"down(\d+)_(conv|bn)(\d)", down),
            (r"bottom_(conv|bn)(\d)", bottom),
            (r"up(\d+)_(conv|bn)(\d)", up),
            (r"up(\d+)_upconv", lambda stage: f"up{depth + 1 - int(stage)}.up"),
            (r"logits", lambda: "outc.conv"),
        ),
    )


LAYOUT = Layout(reference="milesial/Pytorch-UNet unet/unet_model.py", names=_names)
