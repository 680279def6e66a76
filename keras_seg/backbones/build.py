"""The trunk of a network that leaves the choice: by name, as a model, or as a function."""

import re

import keras

from keras_seg.backbones.adapters import from_pyramid, has_pyramid
from keras_seg.backbones.alexnet import alexnet
from keras_seg.backbones.dilation import Standardize
from keras_seg.backbones.drn import VARIANTS, drn
from keras_seg.backbones.from_keras import FIXED_SIZE, OUTPUT_STRIDES, builders, from_keras
from keras_seg.backbones.googlenet import googlenet
from keras_seg.backbones.mobilenet_v3 import mobilenet_v3
from keras_seg.backbones.resnet import BLOCKS, resnet
from keras_seg.backbones.vgg import vgg16
from keras_seg.backbones.wide_resnet import wide_resnet
from keras_seg.layers import Preprocess
from keras_seg.utils import unknown_name

RESNETS = {f"resnet{depth}": depth for depth in BLOCKS}
DRNS = {f"drn-{variant.lower()}": variant for variant in VARIANTS}
# Trunks without batch normalisation; strides become dilation through `from_keras`.
PLAIN = {"alexnet": alexnet, "googlenet": googlenet, "vgg16": vgg16}

# Arguments that the trunks with batch normalisation have in common.
COMMON_OPTIONS = ("filters", "bn_momentum", "bn_epsilon")

# Layers that normalise pixels.
SCALING = (keras.layers.Rescaling, keras.layers.Normalization, Standardize, Preprocess)

# What `preprocess_input` of keras.applications does, by the network's name, as modes of
# `keras_seg.layers.Preprocess`; "none" where the network begins with a Rescaling of its own.
KERAS_INPUT = (
    (r"ConvNeXt|EfficientNet|MobileNetV3", "none"),
    (r"DenseNet", "imagenet"),
    (r"VGG|ResNet\d+$", "keras-caffe"),
    (r"", (127.5, 127.5)),  # -1..1: Inception, InceptionResNet, MobileNet, ResNetV2, Xception
)


def list_backbones():
    """The names that `build_features` knows: our own trunks, then those of keras.applications."""
    others = [f"keras:{name}" for name in sorted(builders()) if name not in FIXED_SIZE]
    return [*RESNETS, *DRNS, *PLAIN, "mobilenet-v3-large", "wide-resnet38", *others]


def build_features(backbone, image, *, output_stride=32, needs=("c5",), **resnet_options):
    """Features of `image` by the trunk that a builder's `backbone=` argument says.

    Args:
        backbone: one of `list_backbones()`: "resnet50", "drn-c-26", "vgg16", "alexnet",
            "googlenet", "mobilenet-v3-large" and "wide-resnet38" (A1) are our own,
            "keras:MobileNetV2" is that of `keras.applications` with new weights; or a
            `keras.Model` that returns a dict of features, taken as it is with its weights; or a
            backbone of `keras_hub` or `keras_cv` (`from_pyramid`); or a classifier (a functional
            model, or a builder of `keras.applications`), which goes through `from_keras`; or a
            function from image to features, taken as it is.
        image: tensor (N, H, W, C), preprocessed as `backbone_preprocessing` says.
        output_stride: 8, 16 or 32. Beyond it strides become dilation; a trunk that is taken as it
            is keeps its own, and a DRN its 8.
        needs: the features that the caller reads, such as ("c4", "c5").
        resnet_options: arguments of `resnet`; `filters` also of our other trunks, and with
            `bn_momentum` and `bn_epsilon` of DRN and wide ResNet; other trunks have none.

    Returns:
        dict of features, "c1".."c5" of nominal stride 2 to 32 (some trunks lack one).

    Raises:
        ValueError: for an unknown name, a classifier that `from_keras` refuses, a value that is no
            backbone, a model that takes other images, an output stride other than these, or a
            trunk without one of the features in `needs`.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride!r}.")
    if isinstance(backbone, str):
        features = _named(backbone, image, output_stride, resnet_options)
    elif isinstance(backbone, keras.Model):
        if has_pyramid(backbone):
            backbone = from_pyramid(backbone, output_stride)
        elif not isinstance(getattr(backbone, "output", None), dict):
            backbone = from_keras(backbone, output_stride)
        _check_images(backbone, image)
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
    common = {k: v for k, v in resnet_options.items() if k in COMMON_OPTIONS}
    if name in RESNETS:
        return resnet(image, RESNETS[name], output_stride=output_stride, **resnet_options)
    if name in DRNS:
        return drn(image, DRNS[name], **common)
    if name == "wide-resnet38":
        return wide_resnet(image, output_stride=output_stride, **common)
    if name == "mobilenet-v3-large":
        return mobilenet_v3(
            image, output_stride=output_stride, filters=resnet_options.get("filters", 64)
        )
    if name in PLAIN:
        options = {k: v for k, v in common.items() if k == "filters"}
        if output_stride == 32:
            return PLAIN[name](image, **options)
        fresh = keras.Input((None, None, image.shape[-1]))
        plain = keras.Model(fresh, PLAIN[name](fresh, **options)["c5"], name=name)
        return from_keras(plain, output_stride)(image)
    if name in list_backbones():
        return _from_builder(name, image, output_stride)
    raise unknown_name("backbone", name, list_backbones())


def _from_builder(builder, image, output_stride):
    return from_keras(builder, output_stride, input_shape=(None, None, image.shape[-1]))(image)


def _check_images(model, image):
    """Raise ValueError if `model` takes more, or images of another size or with other channels."""
    if len(model.inputs) != 1:
        names = [tensor.name for tensor in model.inputs]
        raise ValueError(f"{model.name} takes the inputs {names}; a backbone takes one image.")
    wanted, given = tuple(model.inputs[0].shape[1:]), tuple(image.shape[1:])
    if len(wanted) != 3 or any(
        w is not None and w != g for w, g in zip(wanted, given, strict=True)
    ):
        raise ValueError(
            f"The backbone {model.name!r} takes images (H, W, C) of {wanted}, the network gives it "
            f"{given}. Build the network with input_shape={wanted}, or the backbone with "
            f"input_shape={given}."
        )


def backbone_preprocessing(backbone, channels=3, default="imagenet"):
    """The `preprocessing` for the trunk that a builder's `backbone=` argument says.

    For a network of `keras.applications`, by name or builder, what its `preprocess_input` does,
    so that weights trained there meet the pixels they know. "none" for networks and models that
    scale pixels themselves: normalised a second time, every image would be all but black.
    Otherwise `default`: a model does not tell how its images were scaled outside of it.

    Args:
        backbone: as in `build_features`.
        channels: of the image. ConvNeXt scales images of 3 channels only.
        default: for our own trunks, functions, and models without a scaling.

    Returns:
        A mode of `keras_seg.layers.Preprocess`.
    """
    if isinstance(backbone, keras.Model):
        return "none" if _scales_itself(backbone) else default
    if isinstance(backbone, str):
        name = backbone.removeprefix("keras:") if backbone.startswith("keras:") else None
    else:
        name = next((name for name, builder in builders().items() if builder is backbone), None)
    if name is None or (name.startswith("ConvNeXt") and channels != 3):
        return default
    return next(mode for pattern, mode in KERAS_INPUT if re.match(pattern, name))


def _scales_itself(model):
    """Whether a layer before the first weights normalises the pixels."""
    for layer in model.layers:
        if isinstance(layer, SCALING) or (isinstance(layer, keras.Model) and _scales_itself(layer)):
            return True
        if layer.weights:
            return False
    return False
