"""U-Net.

Ronneberger, Fischer, Brox. "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015. https://arxiv.org/abs/1505.04597

    stage   operations                                          form="paper"   form="same"
    down1   conv3x3 64 twice                                    572 -> 568     H
    down2   pool 2x2, conv3x3 128 twice                         284 -> 280     H/2
    down3   pool 2x2, conv3x3 256 twice                         140 -> 136     H/4
    down4   pool 2x2, conv3x3 512 twice                          68 -> 64      H/8
    bottom  pool 2x2, conv3x3 1024 twice                         32 -> 28      H/16
    up4     up-conv 2x2/2 to 512, concat, conv3x3 512 twice      56 -> 52      H/8
    up3     the same with 256                                   104 -> 100     H/4
    up2     the same with 128                                   200 -> 196     H/2
    up1     the same with 64                                    392 -> 388     H
    logits  conv1x1 to num_classes                              388            H

Two forms of the same graph:

* `form="paper"`, as published: convolutions without padding, so that a tile of 572 gives a map of
  388 and tiles of a large image fit without seams (section 2); no normalisation; skip cropped at
  its centre; concatenation [up, skip], the order of the released Caffe network; dropout at the end
  of the contracting path (section 3.1), 0.5 as in the release. 31,031,810 parameters for 3 channels
  and 2 classes; 31,030,658 for 1 channel.
* `form="same"`, what the field means by "U-Net" today (the layout of milesial/Pytorch-UNet): padded
  convolutions without bias, each followed by batch normalisation; concatenation [skip, up].
  31,037,698 trainable parameters for 3 channels and 2 classes; 17,263,042 with
  `upsampling="bilinear"`.

`backbone="resnet34"` (or any other) puts the expanding path of `form="same"` on another trunk; its
maps of strides 16, 8, 4 and 2, where it has them, are the skips, and the path goes on to the size
of the image without one. A trunk's first stage has stride 2, so the path is as wide there as the
paper's at stride 1: 512, 256, 128, 64 channels, and 32 at the end.

Faithful: widths, kernels, order of operations and concatenation, He-normal initialisation
(section 3); where a pooling rounded down, `form="same"` pads the up-sampled map with zeros to the
skip's size, as milesial does. Where we differ: the released network's last up-convolution has 128
channels, the paper's figure 64, and each of its up-convolutions is followed by a ReLU of which the
paper says nothing; this is the paper.
"""

import keras
from keras import layers

from keras_seg.backbones import backbone_preprocessing, build_features
from keras_seg.layers import (
    CropLike,
    PadLike,
    Resize,
    batch_norm,
    check_size,
    he_fan_in,
    image_input,
    preprocess,
)
from keras_seg.utils import check_counts, unknown_name
from keras_seg.weights import load_own

FORMS = ("same", "paper")


def UNet(
    num_classes,
    input_shape=(None, None, 3),
    *,
    form="same",
    backbone=None,
    filters=64,
    depth=4,
    upsampling="transposed",
    dropout=None,
    preprocessing=None,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="unet",
):
    """Build U-Net as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. `form="same"` takes any size of at least
            2**depth. `form="paper"` takes only sizes n whose every pooling is even: n = 16 k + 12
            of at least 188 for depth 4 (572 in the paper), and returns n - 184.
        form: "same" (padded, batch normalisation) or "paper" (valid, no normalisation).
        backbone: None for the paper's own contracting path; "resnet34", "keras:MobileNetV2" and
            the like, a `keras.Model` or a function from image to features in its place
            (`form="same"` only), see `keras_seg.backbones.build_features`. It takes the sizes that
            the trunk takes.
        filters: channels of the first stage; each further stage doubles them. With a backbone: of
            the expanding path at stride 2, and the width of a trunk of ours.
        depth: number of poolings; a backbone has its own.
        upsampling: "transposed" (the paper's up-convolution) or "bilinear" (`form="same"` only;
            resize by align_corners and a bottom of half the width; with a backbone by half-pixel
            centres).
        dropout: rate after the last two contracting stages, or after the backbone. Default 0.5 for
            "paper", 0 for "same".
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
            Default: "unit"; with a backbone what that was trained with
            (`keras_seg.backbones.backbone_preprocessing`).
        bn_momentum, bn_epsilon: of every batch normalisation; trunks other than ResNet, DRN and
            wide ResNet keep their own.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes); (N, H - 184, W - 184, num_classes) for `form="paper"` at depth 4.

    Raises:
        ValueError: for an unknown form, upsampling or backbone, a wrong number of classes, or a
            size that this form cannot take, also when the model is called
            (`keras_seg.layers.CheckSize`).
    """
    if form not in FORMS:
        raise unknown_name("form", form, FORMS)
    if upsampling not in ("transposed", "bilinear"):
        raise unknown_name("upsampling", upsampling, ("transposed", "bilinear"))
    if form == "paper" and upsampling == "bilinear":
        raise ValueError("form='paper' has transposed up-convolutions; use form='same'.")
    same = form == "same"
    check_counts(depth=depth)
    if backbone is not None and not (same and depth == 4):
        raise ValueError("A backbone has its own depth: it needs form='same', and depth left out.")
    if dropout is None:
        dropout = 0.0 if same else 0.5

    def two_convolutions(x, width, name, middle=None):
        """conv3x3 (BN) ReLU, twice: (N, h, w, c) -> (N, h, w, width), 4 smaller when valid."""
        for i, channels in ((1, middle or width), (2, width)):
            x = layers.Conv2D(
                channels,
                3,
                padding="same" if same else "valid",
                use_bias=not same,
                kernel_initializer=he_fan_in(),
                name=f"{name}_conv{i}",
            )(x)
            if same:
                x = batch_norm(f"{name}_bn{i}", bn_momentum, bn_epsilon)(x)
            x = layers.ReLU(name=f"{name}_relu{i}")(x)
        return x

    def finish(x):
        """The model, with the classifier on its last map."""
        logits = layers.Conv2D(
            num_classes, 1, kernel_initializer=he_fan_in(), dtype="float32", name="logits"
        )(x)
        model = keras.Model(image, logits, name=name)
        if weights is not None:
            load_own(model, weights)
        return model

    image = image_input(input_shape, num_classes, filters=filters)
    if backbone is not None:
        if preprocessing is None:
            preprocessing = backbone_preprocessing(backbone, image.shape[-1])
        features = build_features(
            backbone,
            preprocess(image, preprocessing),
            filters=filters,
            bn_momentum=bn_momentum,
            bn_epsilon=bn_epsilon,
        )
        x = layers.Identity(name="features")(features["c5"])
        if dropout:
            x = layers.Dropout(dropout, name="features_dropout")(x)
        return finish(_expand(x, features, image, filters, upsampling, two_convolutions))

    if preprocessing is None:
        preprocessing = "unit"
    # form="paper": at another size some pooling drops a row, and skips no longer lie over the maps.
    least, step = (2**depth, 1) if same else (_smallest_tile(depth), 2**depth)
    x = preprocess(check_size(image, least, step), preprocessing)

    skips = []
    for stage in range(1, depth + 1):
        x = two_convolutions(x, filters * 2 ** (stage - 1), f"down{stage}")
        if stage == depth and dropout:
            x = layers.Dropout(dropout, name=f"down{stage}_dropout")(x)
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"down{stage}_pool")(x)

    # With bilinear up-sampling nothing halves the channels on the way up, so the stage below does.
    halving = 2 if upsampling == "bilinear" else 1
    x = two_convolutions(x, filters * 2**depth // halving, "bottom")
    if dropout:
        x = layers.Dropout(dropout, name="bottom_dropout")(x)

    for stage in range(depth, 0, -1):
        width = filters * 2 ** (stage - 1)
        skip = skips[stage - 1]
        if upsampling == "bilinear":
            x = Resize(scale=2, align_corners=True, name=f"up{stage}_resize")(x)
            x = PadLike(name=f"up{stage}_pad")(x, skip)
            x = layers.Concatenate(name=f"up{stage}_concat")([skip, x])
            x = two_convolutions(x, width // (2 if stage > 1 else 1), f"up{stage}", middle=width)
            continue
        x = layers.Conv2DTranspose(
            width, 2, strides=2, kernel_initializer=he_fan_in(), name=f"up{stage}_upconv"
        )(x)
        if same:
            x = PadLike(name=f"up{stage}_pad")(x, skip)
            x = layers.Concatenate(name=f"up{stage}_concat")([skip, x])
        else:
            skip = CropLike("center", name=f"up{stage}_crop")(skip, x)
            x = layers.Concatenate(name=f"up{stage}_concat")([x, skip])
        x = two_convolutions(x, width, f"up{stage}")

    return finish(x)


def _expand(x, features, image, filters, upsampling, two_convolutions):
    """The expanding path on a trunk, from its last map (stride 32) to the image's size.

    Some trunks round the sizes of odd maps up, some down: each map is resized to its skip's size.
    """
    for stage in range(4, -1, -1):  # of stride 2 ** stage
        width = max(1, filters * 2**stage // 2)
        skip = features.get(f"c{stage}")
        reference = image if stage == 0 else skip
        if upsampling == "transposed":
            x = layers.Conv2DTranspose(
                width, 2, strides=2, kernel_initializer=he_fan_in(), name=f"up{stage}_upconv"
            )(x)
        if reference is not None:
            x = Resize(name=f"up{stage}_resize")(x, reference)
        elif upsampling == "bilinear":
            x = Resize(scale=2, name=f"up{stage}_resize")(x)
        if skip is not None:
            x = layers.Concatenate(name=f"up{stage}_concat")([skip, x])
        x = two_convolutions(x, width, f"up{stage}")
    return x


def _smallest_tile(depth):
    """Fewest input rows of form="paper" that leave a row of output: 188 at depth 4."""
    bottom = 1  # rows after the last convolution; a stage takes 4, on the way down and up
    while _after_way_up(bottom, depth) < 1:
        bottom += 1
    size = bottom + 4
    for _ in range(depth):
        size = 2 * size + 4
    return size


def _after_way_up(size, depth):
    for _ in range(depth):
        size = 2 * size - 4
    return size
