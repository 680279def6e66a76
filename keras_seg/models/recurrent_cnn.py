"""Recurrent CNN: one network applied again and again to the image and its own prediction.

Pinheiro, Collobert. "Recurrent Convolutional Neural Networks for Scene Labeling", ICML 2014;
kernels and widths as in two public re-implementations (NP-coder/CLPS1520Project,
AlbertLlebaria/AML_CNN_for_Scene_Labeling): the authors released no code.

    variant     layers (without padding)                                     pixels seen by 1, 2, 3
    rcnn1       conv8x8 25, pool 2x2, tanh, conv8x8 50, pool 2x2, tanh,       25, 121, 505
                conv1x1 K
    rcnn2       conv8x8 25, pool 2x2, tanh, conv8x8 50, conv1x1 K             23,  67, 155
    plain       conv6x6 25, pool 8x8, tanh, conv3x3 50, pool 2x2, tanh,       133
                conv7x7 K; not recurrent

    parameters, 3 channels        K = 8       K = 33
    rcnn1, rcnn2, any number     98,083      139,358
    plain                        33,633

Every instance takes the image and K planes: first zeros, then the classes' probabilities of the
instance before. An instance of rcnn1 reduces its map 4 times, one of rcnn2 twice; the next one
sees the image sub-sampled accordingly, every 4th or 2nd pixel, in the middle of what each
prediction has seen.

`dense=True` computes this for every pixel at once, where the paper shifts the image by each pixel
of a step and merges the results: pools keep every pixel, and the taps of all that follows are
spread instead, by 4 (2) from instance to instance. `dense=False` is the network on its own grid,
one prediction each 16 pixels for two instances of rcnn1, enlarged to the image. The weights are the
same.

Faithful: the layers, sharing and sub-sampling of the re-implementations, the sizes seen. Where we
differ, or nothing was published: the sizes of `plain` add up to its 133 pixels but stand in no
public source; the image is mirrored at its border; `feedback="scores"` passes on what goes into the
softmax; the paper's contrast normalisation of YUV images is left out.
"""

import keras
from keras import layers, ops

from keras_seg.layers import (
    CropLike,
    DilatedPooling2D,
    ReflectMargin,
    Resize,
    SharedConv2D,
    image_input,
    preprocess,
    uniform_fan_in,
)
from keras_seg.utils import check_counts, unknown_name
from keras_seg.weights import load_own

# ((kernel size, side of the pool behind it) of two convolutions), kernel size of the third.
VARIANTS = {
    "rcnn1": (((8, 2), (8, 2)), 1),
    "rcnn2": (((8, 2), (8, 1)), 1),
    "plain": (((6, 8), (3, 2)), 7),
}


def RecurrentCNN(
    num_classes,
    input_shape=(None, None, 3),
    *,
    variant="rcnn1",
    instances=2,
    dense=True,
    filters=25,
    feedback="softmax",
    aux=False,
    preprocessing="unit",
    weights=None,
    name="recurrent_cnn",
):
    """Build the recurrent CNN as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works.
        variant: "rcnn1", "rcnn2" (the paper's best, with 3 instances) or "plain".
        instances: how often the network is applied; 1 for "plain".
        dense: a prediction for each pixel, or for each block of as many pixels as the pools
            reduce, bilinearly enlarged.
        filters: channels of the first convolution; the second has twice as many.
        feedback: what an instance gets from the one before: "softmax" or "scores".
        aux: add the logits of the earlier instances as outputs "instance1", "instance2", ..., each
            trained against the same labels (the paper adds all losses up). With `dense` only.
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`), with any number
            of instances, dense or not.

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes) of the last instance; with `aux` to a dict of such logits.

    Raises:
        ValueError: for an unknown variant or feedback, a wrong number of classes or instances, or
            `aux` without `dense`.
    """
    if variant not in VARIANTS:
        raise unknown_name("variant of RecurrentCNN", variant, VARIANTS)
    if feedback not in ("softmax", "scores"):
        raise unknown_name("feedback", feedback, ("softmax", "scores"))
    check_counts(instances=instances)
    is_plain = variant == "plain"
    if is_plain and instances > 1:
        raise ValueError(f"variant='plain' is not recurrent: instances=1, got {instances!r}.")
    if aux and not dense:
        raise ValueError("aux=True needs dense=True: each instance has another grid of its own.")

    pairs, last_kernel = VARIANTS[variant]
    step = pairs[0][1] * pairs[1][1]  # pixels of an instance's input for one of its output
    steps = [step**p for p in range(instances + 1)]
    # Rows before the middle of what the first p instances see; half of an odd size, rounded down.
    reach = (_seen(pairs, last_kernel) - 1) // 2
    offsets = [reach * sum(steps[:p]) for p in range(instances + 1)]

    image = image_input(input_shape, num_classes, filters=filters)
    convolutions = [
        SharedConv2D(filters * (i + 1), kernel, uniform_fan_in(), name=f"conv{i + 1}")
        for i, (kernel, _) in enumerate(pairs)
    ]
    classify = SharedConv2D(
        num_classes, last_kernel, uniform_fan_in(), dtype="float32", name="classify"
    )

    def network(x, dilation, prefix):
        """One instance: (N, h, w, C + K) to scores (N, h', w', K)."""
        for i, ((_, pool), convolution) in enumerate(zip(pairs, convolutions, strict=True), 1):
            x = convolution(x, dilation=dilation)
            if pool == 1:  # rcnn2 has no activation where it has no pool
                continue
            pooling = (
                DilatedPooling2D(pool, dilation, name=f"{prefix}_pool{i}")
                if dense
                else layers.MaxPooling2D(pool, name=f"{prefix}_pool{i}")
            )
            x = layers.Activation("tanh", name=f"{prefix}_tanh{i}")(pooling(x))
            dilation = dilation * pool if dense else 1
        if prefix == f"instance{instances}":
            x = layers.Identity(name="features")(x)
        return classify(x, dilation=dilation)

    x = preprocess(image, preprocessing)
    if dense:
        x = ReflectMargin(offsets[-1], name="margin")(x)
    else:
        # So that a prediction's middle lies in the middle of its block of pixels.
        margin = offsets[-1] - steps[-1] // 2 + 1
        x = ReflectMargin(margin, multiple=steps[-1], name="margin")(x)
    planes, outputs, scores = x, {}, None
    for p in range(1, instances + 1):
        prefix = f"instance{p}"
        if p > 1:
            if feedback == "softmax":
                scores = layers.Softmax(name=f"{prefix}_feedback")(scores)
            planes = _at_middles(x, scores, offsets[p - 1], 1 if dense else steps[p - 1], prefix)
            planes = layers.Concatenate(name=f"{prefix}_input")([planes, scores])
        elif not is_plain:
            planes = AppendZeros(num_classes, name=f"{prefix}_input")(planes)
        scores = network(planes, steps[p - 1] if dense else 1, prefix)
        if aux and p < instances:
            surplus = offsets[-1] - offsets[p]
            outputs[prefix] = layers.Cropping2D(surplus, dtype="float32", name=prefix)(scores)

    scores = layers.Identity(dtype="float32", name="logits_low")(scores)
    if not dense:
        scores = Resize(scale=steps[-1], dtype="float32", name="enlarge")(scores)
    outputs["logits"] = CropLike(dtype="float32", name="logits")(scores, image)
    model = keras.Model(image, outputs if aux else outputs["logits"], name=name)
    if weights is not None:
        load_own(model, weights)
    return model


def _seen(pairs, last_kernel):
    """Rows of the input for one row of the output."""
    seen = last_kernel
    for kernel, pool in reversed(pairs):
        seen = seen * pool + kernel - 1
    return seen


def _at_middles(x, scores, offset, step, prefix):
    """The image where the scores have their middles: from `offset`, each `step`-th pixel."""
    x = layers.Cropping2D(((offset, 0), (offset, 0)), name=f"{prefix}_crop")(x)
    if step > 1:
        x = layers.MaxPooling2D(1, strides=step, name=f"{prefix}_subsample")(x)
    return CropLike(name=f"{prefix}_image")(x, scores)


@keras.saving.register_keras_serializable("keras_seg")
class AppendZeros(layers.Layer):
    """(N, H, W, C) with `planes` channels of zeros behind its own."""

    def __init__(self, planes, **kwargs):
        super().__init__(**kwargs)
        self.planes = planes

    def call(self, x):
        # No padding: TensorFlow merges one with the convolution behind it, channels forgotten.
        return ops.concatenate([x, *[ops.zeros_like(x[..., :1])] * self.planes], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], input_shape[3] + self.planes)

    def get_config(self):
        return {**super().get_config(), "planes": self.planes}
