"""A network as it is trained: further outputs, batch normalisation held fast or measured anew."""

import keras
import numpy as np

from keras_seg.layers import BatchNormalization, batch_statistics


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


def estimate_statistics(model, batches, *, verbose=False):
    """Measure the moving statistics of batch normalisation anew, with the weights as they are.

    The moving ones are of the last few batches of a training, 10 at Keras' momentum 0.9, in which
    the weights still changed. After small batches, and above all after single images, those of
    many are better (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3): the mean
    over the batches, and as variance the mean of each batch's own plus that of the batches' means.
    Of a layer that is called more than once, as for several scales, each call counts the same.
    Dropout is off. Statistics that were frozen (`freeze_batch_norm`) stay.

    Args:
        model: functional; changed in place.
        batches: iterable of images (N, H, W, C), 0..255, as the network is to be used on: each
            batch counts the same, so give images of one size a batch each, or equal batches.
        verbose: show a progress bar.

    Returns:
        The model.

    Raises:
        ValueError: without batch normalisation, or without a batch. Nothing is changed then.
    """
    measured = batch_statistics(model)
    calls = []  # (layer, what it normalises): a layer of several scales is called for each
    for node in (node for nodes in measured._nodes_by_depth.values() for node in nodes):
        layer = node.operation
        if isinstance(layer, keras.layers.BatchNormalization):
            if layer.frozen_statistics:
                layer.trainable = False  # normalises by what it has, and leaves it
            else:
                calls.append((layer, node.input_tensors[0]))
    moments = [_moments(tensor, layer.axis) for layer, tensor in calls]
    probe = keras.Model(measured.inputs, [*moments, measured.outputs[0]])  # all may be frozen
    count = 0
    means, squares = [0.0] * len(calls), [0.0] * len(calls)  # each the mean of all batches so far
    total = len(batches) if hasattr(batches, "__len__") else None
    bar = keras.utils.Progbar(total, verbose=int(verbose))
    for count, images in enumerate(batches, start=1):
        outputs = probe(keras.ops.convert_to_tensor(images, "float32"), training=False)
        found = keras.tree.flatten(outputs)[: len(calls)]
        for i, values in enumerate(found):
            mean, variance = keras.ops.convert_to_numpy(values).astype("float64")
            means[i] += (mean - means[i]) / count
            squares[i] += (variance + mean**2 - squares[i]) / count
        bar.update(count)
    if not count:
        raise ValueError("There are no images to measure the statistics on.")
    for layer in {id(layer): layer for layer, _ in calls}.values():
        places = [i for i, (other, _) in enumerate(calls) if other is layer]
        mean = np.mean([means[i] for i in places], axis=0)
        square = np.mean([squares[i] for i in places], axis=0)
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(np.maximum(square - mean**2, 0))
    model.set_weights(measured.get_weights())
    return model


def _moments(tensor, axis):
    """(2, C): mean and variance of each channel, in float32."""
    axes = [i for i in range(len(tensor.shape)) if i != axis % len(tensor.shape)]
    return keras.ops.stack(keras.ops.moments(keras.ops.cast(tensor, "float32"), axes))
