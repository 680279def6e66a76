"""ParseNet: the mean of the whole map beside every position of it.

Liu, Rabinovich, Berg. "ParseNet: Looking Wider to See Better", 2015.
https://arxiv.org/abs/1506.04579; normalisation as in the author's Caffe (weiliu89/caffe, branch
fcn).

    layer                                               channels   stride
    conv1_1, conv1_2, pool1 2x2                               64   2
    conv2_1, conv2_2, pool2 2x2                              128   4
    conv3_1..3, pool3 2x2                                    256   8
    conv4_1..3, pool4 3x3, stride 1                          512   8
    conv5_1..3, dilation 2, pool5 3x3, stride 1              512   8
    fc6 conv3x3, dilation 12, ReLU, dropout 0.5             1024   8
    fc7 conv1x1, ReLU, dropout 0.5                          1024   8
    context: mean of fc7 over the map, L2 norm              1024   one position
    local: fc7, L2 norm                                     1024   8
    fusion                                                     K   8
    bilinear deconvolution 16x16, stride 8, cut 4              K   1

    fusion    how                                                  parameters, 21 classes
    late      conv1x1 to the classes on each (dropout 0.3 on the
              context), scores added                               20,529,002
    early     the context repeated, both behind each other,
              one conv1x1 to the classes                           20,528,981
    none      conv1x1 on fc7: the baseline                         20,505,429

The two fusions compute the same functions, but learn differently. The deconvolution's
16 * 16 * K * K fixed values come on top of the count.

Faithful: normalisation of context and features with a learned scale for each channel that starts
at 10, trunk of the reduced VGG16. Without the scale learning stalls.
Where we differ: the author's network file is lost; pools, dropout on the context and late fusion as
the default follow a public port. Context modules on the skips of an FCN are not here. The mean runs
over all of the image given: train on windows of the size of the test images, and do not pad them.
"""

import keras
from keras import layers

from keras_seg.backbones import atrous_vgg16
from keras_seg.layers import (
    AdaptiveAveragePooling2D,
    CropLike,
    L2Normalization,
    Resize,
    bilinear_upsampling,
    image_input,
    large_fov,
    preprocess,
)
from keras_seg.utils import unknown_name
from keras_seg.weights import load_own

FUSIONS = ("late", "early", "none")


def ParseNet(
    num_classes,
    input_shape=(None, None, 3),
    *,
    fusion="late",
    filters=64,
    fc_channels=1024,
    dropout=0.5,
    context_dropout=0.3,
    scale=10.0,
    preprocessing="caffe",
    weights=None,
    name="parsenet",
):
    """Build ParseNet as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works.
        fusion: how context and features meet: "late", "early" or "none" (see the top of this file).
        filters: channels of the trunk's first convolutions; the others are multiples of it.
        fc_channels: channels of fc6 and fc7.
        dropout: rate after fc6 and fc7.
        context_dropout: rate on the context, with late fusion.
        scale: where the learned scales of both normalisations start.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes).

    Raises:
        ValueError: for an unknown fusion, or a wrong number of classes.
    """
    if fusion not in FUSIONS:
        raise unknown_name("fusion", fusion, FUSIONS)

    image = image_input(input_shape, num_classes, filters=filters, fc_channels=fc_channels)
    x = preprocess(image, preprocessing)
    x = atrous_vgg16(x, pools="2x2", filters=filters)["pool5"]
    x = large_fov(x, fc_channels, dropout=dropout)
    x = layers.Identity(name="features")(x)

    def everywhere(context, channels, name):
        """A vector (N, channels) as the one position of a map."""
        return layers.Reshape((1, 1, channels), name=name)(context)

    if fusion != "none":
        # A vector from here on: tf2onnx confuses the axes of maps of one position.
        context = layers.Flatten(name="context")(AdaptiveAveragePooling2D(1, name="mean")(x))
        context = L2Normalization(scale, name="context_norm")(context)
        x = L2Normalization(scale, name="local_norm")(x)
    if fusion == "early":
        context = everywhere(context, fc_channels, "context_map")
        context = Resize(name="context_unpool")(context, x)  # of one position: repeats it
        x = layers.Concatenate(name="fusion")([x, context])
    x = layers.Conv2D(num_classes, 1, name="score")(x)
    if fusion == "late":
        if context_dropout:
            context = layers.Dropout(context_dropout, name="context_dropout")(context)
        context = layers.Dense(int(num_classes), name="score_context")(context)
        context = everywhere(context, num_classes, "score_context_map")
        # The context first: Keras adds a second summand of its shape as a bias, which no ONNX
        # convolution takes besides its own.
        x = layers.Add(name="fusion")([context, x])
    x = layers.Identity(name="logits_low")(x)
    x = bilinear_upsampling(x, 16, 8, name="upscore8")
    logits = CropLike(4, dtype="float32", name="logits")(x, image)

    model = keras.Model(image, logits, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
