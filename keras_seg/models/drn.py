"""DRN: dilated residual networks, as classifiers and as segmenters.

Yu, Koltun, Funkhouser. "Dilated Residual Networks", CVPR 2017. https://arxiv.org/abs/1705.09914;
DRN-D and all details as in the authors' fyu/drn.

    part            operations                                         channels   stride
    level 0         conv7x7                                                  16   1
    level 1         B, C: a basic block       D: a conv3x3                   16   1
    level 2         B, C: a basic block       D: a conv3x3                   32   2
    level 3         residual blocks                             64 (bottle. 256)   4
    level 4         residual blocks                                  128 (512)   8
    level 5         residual blocks, dilation 2                     256 (1024)   8
    level 6         residual blocks, dilation 4                     512 (2048)   8
    level 7         B, C: a basic block       D: a conv3x3, dilation 2      512   8
    level 8         the same, dilation 1                                    512   8
    segmenter       conv1x1 to K classes, up-sampling by 8                    K   1
    classifier      global average, fully connected to K classes              K

    B has skips in levels 7 and 8, C has none. A is a ResNet (conv7x7/2, max-pool) whose last two
    stages keep stride 8 and have dilation 2 and 4.

    variant   blocks of levels 3 to 6   parameters: classifier (1000)   segmenter (19)
    A-18      2 2 2 2                                      11,689,512       11,186,259
    A-34      3 4 6 3                                      21,797,672       21,294,419
    A-50      3 4 6 3, bottlenecks                         25,557,032       23,546,963
    B-26      2 2 2 2                                      21,126,584       20,623,331
    C-26      2 2 2 2                                      21,126,584       20,623,331
    C-42      3 4 6 3                                      31,234,744       30,731,491
    C-58      3 4 6 3, bottlenecks                         40,542,008       40,038,755
    D-22      2 2 2 2                                      16,393,752       15,890,499
    D-38      3 4 6 3                                      26,501,912       25,998,659
    D-54      3 4 6 3, bottlenecks                         35,809,176       35,305,923
    D-105     3 4 23 3, bottlenecks                        54,801,304       54,298,051
    D-24, D-40, D-56 and D-107 are D-22, 38, 54 and 105 with two convolutions in levels 7 and 8.

Faithful: every trunk; initialisation; the segmenter's up-sampling, which is the release's fixed
transposed convolution (16x16, stride 8, bilinear) with the same numbers also in the outer 4 pixels,
where it fades towards zero, computed by padding, a bilinear resize and a crop; pixels normalised by
the statistics of Cityscapes for segmentation and of ImageNet for classification.
Where we differ: the reference wants sizes that divide by 8; here any size works, cut from the next
larger such map. Its classifier averages windows of 28x28, which is the whole map of an image of
224x224; here the whole map at any size. Its C-58 carries 1,049,600 weights of a projection in
level 7 that is never added: not built here (loading leaves them out).

To start a segmenter from the authors' classifier: `weights.load(classifier, file, layout="drn")`,
then `weights.transfer(segmenter, classifier)`.
"""

import keras
from keras import layers

from keras_seg.backbones import drn
from keras_seg.layers import (
    CropLike,
    Resize,
    classify,
    he_fan_out,
    image_input,
    preprocess,
    resize_logits,
)
from keras_seg.utils import unknown_name
from keras_seg.weights import load_own

TASKS = ("segmentation", "classification")


def DRN(
    num_classes,
    input_shape=(None, None, 3),
    *,
    variant="C-26",
    task="segmentation",
    first_block_dilation="code",
    filters=64,
    align_corners=False,
    preprocessing=None,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="drn",
):
    """Build a DRN as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works.
        variant: family and depth, one of those at the top of this file.
        task: "segmentation" or "classification".
        first_block_dilation: DRN-A only: "code" or "paper", see `keras_seg.backbones.drn`.
        filters: channels of level 3, a multiple of 4; the other levels go with it.
        align_corners: False: up-sample as the release's transposed convolution; True: resize to the
            image's size so that corners fall on corners, the release's other way.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
            Default: "cityscapes" for segmentation, "imagenet" for classification.
        bn_momentum, bn_epsilon: of every batch normalisation.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes); (N, num_classes) for classification.

    Raises:
        ValueError: for an unknown variant, task or dilation, filters that 4 does not divide, or a
            wrong number of classes.
    """
    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    segmenter = task == "segmentation"
    if preprocessing is None:
        preprocessing = "cityscapes" if segmenter else "imagenet"

    image = image_input(input_shape, num_classes)
    features = drn(
        preprocess(image, preprocessing),
        variant,
        first_block_dilation=first_block_dilation,
        filters=filters,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
    )
    x = layers.Identity(name="features")(features["c5"])
    if segmenter:
        x = layers.Conv2D(num_classes, 1, kernel_initializer=he_fan_out(), name="logits_low")(x)
        if align_corners:
            logits = resize_logits(x, image, align_corners=True)
        else:
            # What lies between the padding and the border pixels is the fading frame.
            x = layers.ZeroPadding2D(1, name="upsampling_pad")(x)
            x = Resize(scale=8, dtype="float32", name="upsampling")(x)
            logits = CropLike(8, dtype="float32", name="logits")(x, image)
    else:
        logits = classify(x, num_classes, he_fan_out())
    model = keras.Model(image, logits, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
