"""The trunk of a network that leaves the choice: by name, as a model, or as a function."""

from keras_seg.backbones.from_keras import builders, from_keras
from keras_seg.backbones.resnet import BLOCKS, resnet
from keras_seg.utils import unknown_name


def trunk(x, backbone, needs, *, output_stride, **resnet_options):
    """Features of `x` by the trunk that a builder's `backbone=` argument says.

    Args:
        x: tensor (N, H, W, C), preprocessed.
        backbone: "resnet18" to "resnet269": our own, with `resnet_options`; "keras:MobileNetV2":
            that network of `keras.applications` through `from_keras`, with new weights; a
            `keras.Model` or a function from image to features, taken as it is.
        needs: the features that the caller reads, such as ("c4", "c5").
        output_stride: 8, 16 or 32, for a trunk that is built here.
        resnet_options: arguments of `resnet`.

    Returns:
        dict of features.

    Raises:
        ValueError: for an unknown name, or a trunk without one of the features in `needs`.
    """
    if isinstance(backbone, str):
        features = _named(x, backbone, output_stride, resnet_options)
    elif callable(backbone):
        features = backbone(x)
    else:
        raise ValueError(f"backbone must be a name, a keras.Model or a function, got {backbone!r}.")
    if not isinstance(features, dict) or not set(needs) <= features.keys():
        found = sorted(features) if isinstance(features, dict) else type(features).__name__
        raise ValueError(
            f"backbone must return a dict with {list(needs)}, got {found}. A classifier of "
            "keras.applications becomes one by keras_seg.backbones.from_keras(model)."
        )
    return features


def _named(x, name, output_stride, resnet_options):
    resnets = {f"resnet{depth}": depth for depth in BLOCKS}
    if name in resnets:
        return resnet(x, resnets[name], output_stride=output_stride, **resnet_options)
    others = {f"keras:{known}" for known in builders()}
    if name in others:
        return from_keras(name, output_stride, input_shape=(None, None, x.shape[-1]))(x)
    raise unknown_name("backbone", name, {*resnets, *others})
