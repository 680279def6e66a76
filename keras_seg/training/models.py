"""A network as it is trained: with further outputs, or with batch normalisation held fast."""

import keras

from keras_seg.layers import BatchNormalization


def with_outputs(model, layers=("logits_low",)):
    """The model with the outputs of some of its layers beside "logits", sharing the weights.

    The networks of Caffe are trained on scores of stride 8 and every eighth label:

        training.train(
            lambda: training.with_outputs(models.DeepLabV1(21)),
            loss={"logits_low": losses.CrossEntropy(label_stride=8)},
            ...
        )

    `Predictor` and the exporters leave the further outputs out.

    Args:
        model: functional, with one output or a dict of outputs.
        layers: names of layers, which are the names of the outputs too.

    Returns:
        `keras.Model` from the same images to a dict of "logits" and the others.

    Raises:
        ValueError: for a name that no layer has.
    """
    outputs = model.output if isinstance(model.output, dict) else {"logits": model.output}
    return keras.Model(
        model.input,
        {**outputs, **{name: model.get_layer(name).output for name in layers}},
        name=model.name,
    )


def freeze_batch_norm(model, statistics_only=False):
    """Batch normalisation by the moving statistics in training too, which no longer change.

    Changes the model in place; a file of it, and what is exported, keep the state.

    Args:
        model: its normalisation layers may lie in models inside of it.
        statistics_only: go on training gamma and beta (ResNet-38) instead of freezing them as well
            (DeepLab v2, and the second stage of DeepLab v3).

    Returns:
        The model.

    Raises:
        ValueError: if there is no batch normalisation, or, with `statistics_only`, some that is
            Keras' own, which cannot do that. Nothing is changed then.
    """
    found = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    if not found:
        raise ValueError(f"{model.name} has no batch normalisation.")
    foreign = [layer.name for layer in found if not isinstance(layer, BatchNormalization)]
    if statistics_only and foreign:
        raise ValueError(
            f"The statistics alone can be frozen in keras_seg's BatchNormalization only, not in "
            f"{', '.join(foreign[:3])} ({len(foreign)} in all) of {model.name}."
        )
    for layer in found:
        if statistics_only:
            layer.frozen_statistics = True
        else:
            layer.trainable = False
    return model
