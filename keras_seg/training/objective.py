"""What a network is compiled with: losses for its outputs, class weights, the score."""

import inspect

import keras

from keras_seg import losses
from keras_seg.inference.runners import last_activation
from keras_seg.metrics import MeanIoU
from keras_seg.training.batches import is_dataset, pixel_counts
from keras_seg.training.optimizers import LossScale
from keras_seg.training.semi_supervised import all_terms
from keras_seg.utils import unknown_name


def loss_of(loss, model, table):
    """The default loss, or the one given; ValueError for losses of outputs that there are not."""
    if loss is None:
        return losses.CrossEntropy(table.ignore_label)
    for part in loss.values() if isinstance(loss, dict) else [loss]:
        if isinstance(part, type):
            raise ValueError(f"loss={part.__name__} is a class: give an object, {part.__name__}().")
        if not isinstance(part, str) and not callable(part):
            raise ValueError(
                f"loss must be a loss, such as keras_seg.losses.CrossEntropy(), or a dict of them "
                f"by output; got {loss!r}."
            )
    if isinstance(loss, dict):
        outputs = list(model.output) if isinstance(model.output, dict) else []
        for name in loss:
            if name not in outputs:
                raise unknown_name(f"output of {model.name} in loss", name, outputs)
        if not loss:
            raise ValueError("loss={} trains nothing; name at least one output and its loss.")
    return loss


def check_activation(loss, model):
    """ValueError where a loss would take logits for probabilities, or the other way round.

    Args:
        loss: from `loss_of`.
        model: the network.
    """
    outputs = model.output if isinstance(model.output, dict) else {"logits": model.output}
    for name, part in (loss if isinstance(loss, dict) else {"logits": loss}).items():
        activation = last_activation(outputs[name])
        of_logits = _keras_options(part).get("from_logits")
        if isinstance(part, losses.SegmentationLoss):
            of_logits = True
        if of_logits and activation:
            raise ValueError(
                f"The output {name!r} of {model.name} ends in a {activation}, and the loss takes "
                "logits: take it off."
            )
        if of_logits is False and not activation:
            raise ValueError(
                f"The loss {_name(part)} takes probabilities, and the output {name!r} of "
                f"{model.name} is logits: give keras_seg.losses.CrossEntropy(), or a Keras loss "
                "with from_logits=True."
            )


def _keras_options(loss):
    """{option: value} of a loss of Keras or a function; {} for those of this package."""
    if isinstance(loss, losses.SegmentationLoss):
        return {}
    found = keras.losses.get(loss)
    if isinstance(found, keras.losses.Loss):
        return found.get_config()
    parameters = inspect.signature(found).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def _name(loss):
    return loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)


def check_ignored(loss, train_data, table):
    """ValueError where a loss would take ignored pixels for a class that it cannot have.

    Args:
        loss: from `loss_of`.
        train_data: as for `train`.
        table: that was given to `train`, or None. Ready batches without one may hold any ids, and a
            loss with `ignore_label=None` is for data without ignored pixels.
    """
    table = table or getattr(train_data, "table", None)
    further = getattr(train_data, "extra_tables", {})
    for name, part in (loss if isinstance(loss, dict) else {"logits": loss}).items():
        of_output = further.get(name, table)
        if of_output is None:
            return
        options, number = _keras_options(part), of_output.ignore_label
        if "ignore_class" in options and options["ignore_class"] != number:
            raise ValueError(
                f"The ignored pixels of the training data have the id {number} but {_name(part)} "
                f"in loss ignores {options['ignore_class']}: give keras_seg.losses.CrossEntropy("
                f"{number}), or a Keras loss with ignore_class={number}."
            )
        for term in all_terms(part):
            ignored = getattr(term, "ignore_label", None)
            if ignored is None:
                continue
            ids = ignored if isinstance(ignored, list | tuple) else [ignored]
            if number not in ids:
                kind = type(term).__name__
                raise ValueError(
                    f"The ignored pixels of the training data have the id {number} but {kind} in "
                    f"loss ignores {ignored}: give {kind}(ignore_label={number}), or a list with "
                    "it."
                )


def class_weights_of(class_weights, train_data, table):
    """None or a list of K weights."""
    if class_weights is None:
        return None
    if isinstance(class_weights, str):
        if not is_dataset(train_data):
            raise ValueError(
                f"class_weights={class_weights!r} counts the labels of a SegmentationDataset; for "
                "ready batches give a list of weights."
            )
        pixels, in_images = pixel_counts(train_data)
        images = {"image_pixels": in_images} if class_weights == "median_frequency" else {}
        return losses.class_weights(pixels, class_weights, **images).tolist()
    if isinstance(class_weights, dict):
        ids = range(table.num_classes)
        if set(class_weights) != set(ids):
            raise ValueError(
                f"class_weights as a dict needs a weight for every id from 0 to {ids[-1]}, and no "
                f"other; got the keys {list(class_weights)}."
            )
        class_weights = [class_weights[number] for number in ids]
    try:
        weights = [float(weight) for weight in class_weights]
    except (TypeError, ValueError):
        raise ValueError(
            "class_weights must be a list of numbers, one for each class, {id: number}, or the "
            f"name of a scheme; got {class_weights!r}."
        ) from None
    if len(weights) != table.num_classes:
        raise ValueError(
            f"class_weights has {len(weights)} values for {table.num_classes} classes."
        )
    if not any(weights):
        raise ValueError("class_weights are all 0, which trains nothing; give one above 0.")
    return weights


def compile_for(model, optimizer, loss, class_weights, plan, aux_weight, jit_compile):
    """Compile for logits alone or with auxiliary outputs, and make the optimizer's variables."""
    metric = MeanIoU(plan.table.num_classes, plan.table.ignore_label, name="mean_iou")
    metrics, loss_weights = [metric], None
    if isinstance(model.output, dict):
        metrics = {"logits": [metric]}
        _plain_metric_names(model)

    def weighted(name, part):
        """Class weights are of the classes of "logits", not of those of another label map."""
        return part if name in plan.spaces else _weighted(part, class_weights)

    if isinstance(loss, dict):
        loss = {name: weighted(name, part) for name, part in loss.items()}
    elif isinstance(model.output, dict):
        counted = ("logits", *plan.spaces)
        loss_weights = {n: 1.0 if n in counted else float(aux_weight) for n in model.output}
        presence = losses.SemanticEncoding(plan.table.ignore_label)
        loss = {n: presence if y.ndim == 2 else weighted(n, loss) for n, y in model.output.items()}
    else:
        loss = _weighted(loss, class_weights)
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if model.dtype_policy.name == "mixed_float16" and not scaled:
        optimizer = LossScale(optimizer, name="loss_scale_optimizer")
    if jit_compile is None:
        jit_compile = keras.backend.backend() == "jax"
    model.compile(
        optimizer,
        loss,
        loss_weights=loss_weights,
        metrics=metrics,
        jit_compile=jit_compile,
    )
    model.optimizer.build(model.trainable_variables)


def _weighted(loss, weights):
    """`loss`, or the terms of a sum of losses, with class weights."""
    if weights is None:
        return loss
    if isinstance(loss, losses.WeightedSum):
        parts = loss.terms()
        return losses.WeightedSum(
            [_weighted(part, weights) for part, _ in parts], [factor for _, factor in parts]
        )
    config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    if "class_weights" not in config:
        raise ValueError(
            f"{_name(loss)} takes no class weights; use keras_seg.losses.CrossEntropy()."
        )
    return type(loss).from_config({**config, "class_weights": weights})


def _plain_metric_names(model):
    """Report the score of the output "logits" as "mean_iou" with or without other outputs."""
    results = model.get_metrics_result

    def renamed():
        return {
            "mean_iou" if name == "logits_mean_iou" else name: value
            for name, value in results().items()
        }

    model.get_metrics_result = renamed
