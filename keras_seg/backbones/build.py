"""The trunk of a network that leaves the choice: by name, as a model, or as a function."""

import keras

from keras_seg.backbones.from_keras import FIXED_SIZE, builders, from_keras
from keras_seg.backbones.resnet import BLOCKS, resnet
from keras_seg.backbones.vgg import vgg16
from keras_seg.utils import unknown_name

RESNETS = {f"resnet{depth}": depth for depth in BLOCKS}


def list_backbones():
    """The names that `build_features` knows: our own trunks, then those of keras.applications."""
    others = [f"keras:{name}" for name in sorted(builders()) if name not in FIXED_SIZE]
    return [*RESNETS, "vgg16", *others]


def build_features(backbone, image, *, output_stride=32, needs=("c5",), **resnet_options):
    """Features of `image` by the trunk that a builder's `backbone=` argument says.

    Args:
        backbone: one of `list_backbones()`: "resnet50" and "vgg16" are our own, "keras:MobileNetV2"
            is that network of `keras.applications` with new weights; or a `keras.Model` that
            returns a dict of features, taken as it is with its weights; or a classifier (a
            functional model, or a builder of `keras.applications`), which goes through
            `from_keras`; or a function from image to features, taken as it is.
        image: tensor (N, H, W, C), preprocessed. Networks of keras.applications that begin with a
            Rescaling (MobileNetV3, EfficientNet, ConvNeXt) want pixels 0..255.
        output_stride: 8, 16 or 32. Beyond it strides become dilation; a trunk that is taken as it
            is keeps its own.
        needs: the features that the caller reads, such as ("c4", "c5").
        resnet_options: arguments of `resnet`; `filters` also of `vgg16`; other trunks have none.

    Returns:
        dict of features, "c1".."c5" of nominal stride 2 to 32 (some trunks lack one).

    Raises:
        ValueError: for an unknown name, a classifier that `from_keras` refuses, a value that is no
            backbone, or a trunk without one of the features in `needs`.
    """
    if isinstance(backbone, str):
        features = _named(backbone, image, output_stride, resnet_options)
    elif isinstance(backbone, keras.Model):
        if not isinstance(getattr(backbone, "output", None), dict):
            backbone = from_keras(backbone, output_stride)
        features = backbone(image)
    elif backbone in builders().values():
        features = _from_builder(backbone, image, output_stride)
    elif callable(backbone):
        features = backbone(image)
    else:
        raise ValueError(
            f"backbone must be a name, a keras.Model or a function from image to features, "
            f"got {backbone!r}."
        )
    if not isinstance(features, dict) or not set(needs) <= features.keys():
        found = sorted(features) if isinstance(features, dict) else type(features).__name__
        raise ValueError(f"The backbone must give the features {list(needs)}, but gave {found}.")
    return features


def _named(name, image, output_stride, resnet_options):
    if name in RESNETS:
        return resnet(image, RESNETS[name], output_stride=output_stride, **resnet_options)
    if name == "vgg16":
        options = {k: v for k, v in resnet_options.items() if k == "filters"}
        if output_stride == 32:
            return vgg16(image, **options)
        fresh = keras.Input((None, None, image.shape[-1]))
        plain = keras.Model(fresh, vgg16(fresh, **options)["pool5"], name="vgg16")
        return from_keras(plain, output_stride)(image)
    if name in list_backbones():
        return _from_builder(name, image, output_stride)
    raise unknown_name("backbone", name, list_backbones())


def _from_builder(builder, image, output_stride):
    return from_keras(builder, output_stride, input_shape=(None, None, image.shape[-1]))(image)
