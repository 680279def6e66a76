"""A network as it is trained: further outputs, batch normalisation held fast or measured anew."""

import keras
import numpy as np

from keras_seg.layers import BatchNormalization, BatchStatistics, replace_batch_norm


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
        model: functional; changed in place. Its normalisation may be Keras' own and may lie in
            models inside of it.
        batches: iterable of images (N, H, W, C), 0..255, as the network is to be used on: each
            batch counts the same, so give images of one size a batch each, or equal batches.
        verbose: show a progress bar.

    Returns:
        The model.

    Raises:
        ValueError: without batch normalisation, or without a batch. Nothing is changed then.
    """
    measuring = []

    def make(config):
        frozen = config.get("frozen_statistics") or not config["trainable"]
        layer = (BatchNormalization if frozen else _Measuring).from_config(config)
        if not frozen:
            measuring.append(layer)
        return layer

    measured = replace_batch_norm(model, make)
    for layer in measuring:
        layer.start()
    count = 0
    total = len(batches) if hasattr(batches, "__len__") else None
    bar = keras.utils.Progbar(total, verbose=int(verbose))
    for count, images in enumerate(batches, start=1):
        measured(keras.ops.convert_to_tensor(images, "float32"), training=False)
        bar.update(count)
    if not count:
        raise ValueError("There are no images to measure the statistics on.")
    for layer in measuring:
        layer.finish()
    model.set_weights(measured.get_weights())
    return model


class _Measuring(BatchStatistics):
    """Batch normalisation by the batch's own statistics, which keeps the mean of those of all
    calls. Eager: it is called to be measured, not to be fast."""

    calls = None

    def start(self):
        self.calls, self.mean, self.square = 0, 0.0, 0.0

    def call(self, inputs, training=None, mask=None):
        if self.calls is not None:  # not while the network is built
            moments = self._statistics(inputs)
            mean, variance = (keras.ops.convert_to_numpy(m).astype("float64") for m in moments)
            self.calls += 1
            self.mean += (mean - self.mean) / self.calls
            self.square += (variance + mean**2 - self.square) / self.calls
        return super().call(inputs, training=training, mask=mask)

    def finish(self):
        self.moving_mean.assign(self.mean)
        self.moving_variance.assign(np.maximum(self.square - self.mean**2, 0))
