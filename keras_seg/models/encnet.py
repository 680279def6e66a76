"""EncNet: context encoding network.

Zhang, Dana, Shi, Zhang, Wang, Tyagi, Agrawal. "Context Encoding for Semantic Segmentation",
CVPR 2018. https://arxiv.org/abs/1803.08904; details as in the authors'
zhanghang1989/PyTorch-Encoding.

    part      operations                                                   channels   stride
    stem      three conv3x3 (the first with stride 2), max-pool 3x3/2           128   4
    stage2    bottlenecks                                                       256   4
    stage3    bottlenecks, stride on the 3x3                                    512   8
    stage4    bottlenecks, dilation 1, then 2                                  1024   8
    stage5    bottlenecks, dilation 2, then 4                                  2048   8
    head      conv3x3                                                           512   8
    lateral   conv1x1 of stage3 and of stage4, concat behind the head,
              conv3x3 (option: VOC, PASCAL Context and COCO, not ADE20K)        512   8
    context   conv1x1, Encoding with 32 codewords, BN of each codeword,
              ReLU, mean over the codewords                                  e: 512   -
    gate      x + x sigmoid(dense(e)), ReLU                                     512   8
    logits    dropout 0.1, conv1x1 to num_classes, resize                         K   1
    se        training only: dense(e), which classes the image holds              K   -
    aux       on stage4, training only: conv3x3, dropout 0.1, conv1x1, resize  256, K  8, 1

    parameters                      aux and se      without
    resnet50, 150 classes           36,164,578   33,689,270   ADE20K
    resnet50, 59, lateral           43,915,217   41,509,979   PASCAL Context
    resnet50, 21, lateral           43,866,463   41,490,485   VOC
    resnet101, 150                  55,156,706   52,681,398   ADE20K
    resnet101, 59, lateral          62,907,345   60,502,107   PASCAL Context
    resnet101, 21, lateral          62,858,591   60,482,613   VOC

Every convolution but the last of a head has no bias, and batch normalisation and ReLU after it.

Faithful: `form="release"`, what the released weights need: stem, dilation (a stage begins with that
of the stage before), lateral connections, Encoding with the sign inside of its scale, both resizes
with align_corners, initialisation. `form="paper"` has what the text says instead: e is the sum over
the codewords, the gate is x sigmoid(dense(e)), and the auxiliary head is a second context module
on stage4 that learns to tell which classes are there.
Where we differ: the paper gives no widths for that second module; here it has those of the first.

The encoding is a sum over the pixels and its normalisation learns how large it is: test at the
size of the training crops (480 in the release, 576 for ADE20K with resnet101), by a sliding window.
"""

import keras
from keras import layers, ops

from keras_seg.backbones import backbone_preprocessing, build_features
from keras_seg.layers import (
    BatchNormalization,
    Encoding,
    Resize,
    conv_bn_relu,
    image_input,
    preprocess,
    resize_logits,
    uniform_fan_in,
)
from keras_seg.utils import unknown_name
from keras_seg.weights import load_own

FORMS = ("release", "paper")


def EncNet(
    num_classes,
    input_shape=(None, None, 3),
    *,
    backbone="resnet50",
    output_stride=8,
    lateral=False,
    codewords=32,
    form="release",
    filters=64,
    se_loss=False,
    aux=False,
    dropout=0.1,
    align_corners=True,
    preprocessing=None,
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="encnet",
):
    """Build EncNet as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works.
        backbone: "resnet50", "resnet101", ..., "keras:MobileNetV2" and the like, or a
            `keras.Model` or function from image to features with "c5" (and "c4" for `aux`, "c3"
            and "c4" for `lateral`); see `keras_seg.backbones.build_features`.
        output_stride: of the trunk: 8 (the paper), 16 or 32.
        lateral: add stages 3 and 4 to the head's features.
        codewords: number of codewords of the Encoding layer.
        form: "release" or "paper" (see the top of this file).
        filters: width of the trunk's first stage. The head has 8 times, the auxiliary head 4 times
            as many channels.
        se_loss: add the output "se", logits (N, num_classes) of which classes the image holds, for
            the semantic encoding loss (weight 0.2; `keras_seg.losses.SemanticEncoding`).
        aux: add the output "aux" from stage 4, for a further loss (weight 0.2 in the release's
            script): logits of every pixel, or with `form="paper"` (N, num_classes) like "se".
        dropout: rate before the last convolution of each head; drops single units.
        align_corners: resize convention of the logits.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
            Default: what the trunk was trained with where that is known, otherwise "imagenet"
            (`keras_seg.backbones.backbone_preprocessing`).
        bn_momentum, bn_epsilon: of every batch normalisation; trunks other than ResNet, DRN and
            wide ResNet keep their own.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes); with `se_loss` or `aux` to {"logits": ..., "se": ..., "aux": ...}.

    Raises:
        ValueError: for an unknown backbone, form or output stride, or a wrong number of classes
            or codewords.
    """
    if form not in FORMS:
        raise unknown_name("form", form, FORMS)
    normalisation = {"momentum": bn_momentum, "epsilon": bn_epsilon, "initializer": uniform_fan_in}

    image = image_input(input_shape, num_classes, filters=filters, codewords=codewords)
    width = 8 * filters
    if preprocessing is None:
        preprocessing = backbone_preprocessing(backbone, image.shape[-1])
    features = build_features(
        backbone,
        preprocess(image, preprocessing),
        needs=("c3", "c4", "c5") if lateral else ("c4", "c5") if aux else ("c5",),
        output_stride=output_stride,
        stem="deep",
        first_block_dilation="half",
        filters=filters,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
    )

    def dense(x, units, name, **options):
        return layers.Dense(int(units), kernel_initializer=uniform_fan_in(), name=name, **options)(
            x
        )

    def context(x, prefix=""):
        """e: (N, H, W, C) -> (N, C). float32: the encoding of a large map overflows float16."""
        x = conv_bn_relu(x, x.shape[-1], 1, name=f"{prefix}context", **normalisation)
        x = Encoding(codewords, dtype="float32", name=f"{prefix}encoding")(x)
        x = BatchNormalization(
            bn_momentum, bn_epsilon, axis=1, dtype="float32", name=f"{prefix}encoding_bn"
        )(x)
        x = layers.ReLU(dtype="float32", name=f"{prefix}encoding_relu")(x)
        if form == "paper":
            return ops.sum(x, axis=1)
        return layers.GlobalAveragePooling1D(dtype="float32", name=f"{prefix}encoding_mean")(x)

    def presence(e, name):
        return dense(e, num_classes, name, dtype="float32")

    def classify(x, name):
        """Dropout, conv1x1 to the classes, resize: logits of the image's size."""
        if dropout:
            x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
        x = layers.Conv2D(num_classes, 1, kernel_initializer=uniform_fan_in(), name=f"{name}_low")(
            x
        )
        return resize_logits(x, image, align_corners=align_corners, name=name)

    x = layers.Identity(name="features")(features["c5"])
    x = conv_bn_relu(x, width, name="head", **normalisation)
    if lateral:
        sides = [x]
        for stage in (3, 4):
            y = conv_bn_relu(
                features[f"c{stage}"], width, 1, name=f"lateral{stage}", **normalisation
            )
            sides.append(Resize(name=f"lateral{stage}_resize")(y, x))
        x = layers.Concatenate(name="lateral")(sides)
        x = conv_bn_relu(x, width, name="fusion", **normalisation)

    e = context(x)
    gate = dense(e, width, "gate", activation="sigmoid")
    gated = layers.Multiply(name="gated")([x, layers.Reshape((1, 1, width), name="gate_map")(gate)])
    if form == "release":
        x = layers.Add(name="gate_add")([x, gated])
        x = layers.ReLU(name="gate_relu")(x)
    else:
        x = gated

    outputs = {"logits": classify(x, "logits")}
    if se_loss:
        outputs["se"] = presence(e, "se")
    if aux:
        y = conv_bn_relu(
            features["c4"],
            4 * filters if form == "release" else width,
            name="aux_head",
            **normalisation,
        )
        if form == "release":
            outputs["aux"] = classify(y, "aux")
        else:
            outputs["aux"] = presence(context(y, "aux_"), "aux")
    if len(outputs) == 1:
        outputs = outputs["logits"]
    model = keras.Model(image, outputs, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
