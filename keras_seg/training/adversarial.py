"""Adversarial training: a second network that tells the truth from what the segmentor predicts.

    training.train(
        lambda: models.UNet(11),
        ...
        adversary=training.Adversary(lambda: models.LargeFOVAdversary(11), weight=0.01),
    )

With the adversary's score a(.), high for the truth, and l(t, s) of `keras_seg.losses.Adversarial`,

    the adversary minimises  l(1, a(x, truth)) + l(0, a(x, prediction)),   the prediction fixed,
    the segmentor            its own loss + weight * l(1, a(x, prediction)), the adversary fixed,

each the mean over the images of the whole batch, on any number of replicas.

Luc, Couprie, Chintala, Verbeek. "Semantic Segmentation using Adversarial Networks", NIPS workshop
2016. Isola, Zhu, Zhou, Efros. "Image-to-Image Translation with Conditional Adversarial Networks",
CVPR 2017. Luc et al. gained 0.2 points of mean IoU on PASCAL VOC over their own baseline, pix2pix
lost on Cityscapes against L1 alone: there is no adversary unless one is asked for.
"""

import functools

import keras
from keras import ops

from keras_seg.losses import Adversarial, soften_truth
from keras_seg.losses.base import replica_sum
from keras_seg.training.callbacks import EpochSeeds, first_not_finite
from keras_seg.utils import unknown_name

INPUTS = ("basic", "product", "scaling", "pair")


class Adversary:
    """An adversary for `keras_seg.training.train`, and how the two networks play.

    What it sees, for K classes, at the segmentor's resolution:

        inputs      channels   truth against prediction
        "basic"     K          one-hot labels against probabilities (Luc et al.)
        "product"   3 K        each of these planes times the image's red, then green, then blue
        "scaling"   K          labels softened towards the probabilities, at least `tau` for the
                               true class (`keras_seg.losses.soften_truth`), against these
        "pair"      3 + K      the image, then the planes of "basic" (pix2pix)

    with images in -1..1 (here of three channels, as many as the data have). Ignored pixels hold the
    prediction on both sides, so that they tell nothing.

    Args:
        build: function without arguments that returns the adversary, made under the run's precision
            and devices: `models.LargeFOVAdversary`, `SmallFOVAdversary`, `PatchGAN`, `PixelGAN`, or
            a network from (N, H, W, channels) to scores as `keras_seg.losses.Adversarial` takes.
        inputs: "basic", "product", "scaling" or "pair".
        weight: lambda, of the adversarial term in the segmentor's loss. Its balance with a mean of
            cross entropies is not published: 0.01 is ours, to be searched from 0.001 to 0.1.
            pix2pix has 1 beside 100 L1.
        alternate: None: in each step the adversary learns, then the segmentor against it (pix2pix).
            N: N steps of the adversary alone, N of the segmentor alone, and so on (Luc et al.: 500;
            they found quick alternation unstable). The segmentor's schedule then counts its steps
            only.
        optimizer: of the adversary, a Keras optimizer; default: Adam, 2e-4, beta_1 0.5 (pix2pix).
        form: of l, see `keras_seg.losses.Adversarial`.
        tau: of "scaling".
        output: name of the output that is judged, where the segmentor has several.
        label_stride: judge logits of 1/n of the labels' size against every n-th label and image
            averaged over n x n pixels, as `label_stride` of `keras_seg.losses.CrossEntropy`.

    Raises:
        ValueError: for unknown names and values out of range.
    """

    def __init__(
        self,
        build,
        *,
        inputs="basic",
        weight=0.01,
        alternate=None,
        optimizer=None,
        form="bce",
        tau=0.9,
        output="logits",
        label_stride=1,
    ):
        if not callable(build) or isinstance(build, keras.Model):
            raise ValueError(
                f"build must be a function that returns the adversary, got {build!r}: give "
                "lambda: models.LargeFOVAdversary(num_classes)."
            )
        if inputs not in INPUTS:
            raise unknown_name("inputs of an adversary", inputs, INPUTS)
        if not weight > 0:
            raise ValueError(f"weight must be above 0, got {weight}: without it give no adversary.")
        for name, value in (("alternate", alternate), ("label_stride", label_stride)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
        if not 0 <= tau <= 1:
            raise ValueError(f"tau must be between 0 and 1, got {tau}.")
        if optimizer is None:
            optimizer = keras.optimizers.Adam(2e-4, beta_1=0.5)
        elif not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ValueError(f"optimizer must be a Keras optimizer, got {optimizer!r}.")
        self.build = build
        self.inputs = inputs
        self.weight = float(weight)
        self.alternate = alternate
        self.optimizer = optimizer
        self.loss = Adversarial(form, reduction="none")
        self.tau = float(tau)
        self.output = output
        self.label_stride = label_stride or 1

    def get_config(self):
        """What must be the same when a run goes on."""
        optimizer = self.optimizer.get_config()
        return {
            "inputs": self.inputs,
            "weight": self.weight,
            "alternate": self.alternate,
            "optimizer": type(self.optimizer).__name__,
            "optimizer_config": {k: v for k, v in optimizer.items() if k != "name"},
            "form": self.loss.form,
            "tau": self.tau,
            "output": self.output,
            "label_stride": self.label_stride,
        }

    def turn(self, step):
        """(whether the adversary learns, whether the segmentor does) in a step, from 0."""
        if self.alternate is None:
            return True, True
        teach = step // self.alternate % 2 == 0
        return teach, not teach

    def updates(self, steps):
        """How many of the first `steps` steps train the segmentor."""
        if self.alternate is None:
            return steps
        rounds, rest = divmod(steps, 2 * self.alternate)
        return rounds * self.alternate + max(0, rest - self.alternate)

    def channels(self, classes, colors):
        """Channels of what the adversary sees."""
        return {"product": colors * classes, "pair": colors + classes}.get(self.inputs, classes)

    def views(self, images, labels, logits, ignore_label):
        """What the adversary is shown: (the truth, the prediction), float32 (N, h, w, channels).

        Args:
            images: 0..255, (N, H, W, C); where logits lack a border, so do labels, and the images'
                is cut off here.
            labels: integers (N, h', w'), h' = h * label_stride or up to a cell less.
            logits: (N, h, w, K).
            ignore_label: id, list of ids or None.
        """
        n = self.label_stride
        images = ops.cast(images, "float32") / 127.5 - 1
        images = _middle(images, labels)
        if n > 1:
            labels = labels[:, ::n, ::n]
            images = ops.average_pool(images, n, padding="same")
            rows, columns = ops.shape(labels)[1], ops.shape(labels)[2]
            logits = logits[:, :rows, :columns]  # a network that pads has scores beyond the labels
            rows, columns = ops.shape(logits)[1], ops.shape(logits)[2]
            labels, images = labels[:, :rows, :columns], images[:, :rows, :columns]
        fake = ops.softmax(ops.cast(logits, "float32"))
        # With tau = 1 one-hot, and the prediction where a pixel is ignored.
        tau = self.tau if self.inputs == "scaling" else 1.0
        real = soften_truth(labels, fake, ignore_label=ignore_label, tau=tau)
        return self._join(real, images), self._join(fake, images)

    def _join(self, planes, images):
        if self.inputs == "pair":
            return ops.concatenate([images, planes], axis=-1)
        if self.inputs == "product":
            colors = range(images.shape[-1])
            return ops.concatenate([planes * images[..., c : c + 1] for c in colors], axis=-1)
        return planes


def _middle(images, labels):
    """Images without the border that the labels lack."""
    if images.shape[1:3] == labels.shape[1:3] and None not in labels.shape[1:3]:
        return images
    rows, columns = ops.shape(labels)[1], ops.shape(labels)[2]
    top = (ops.shape(images)[1] - rows) // 2
    left = (ops.shape(images)[2] - columns) // 2
    return images[:, top : top + rows, left : left + columns]


class Game(keras.callbacks.Callback):
    """One run of a segmentor against its adversary, and the callback that keeps count of it.

    Adds to the log of each epoch, the mean over its steps: "adversary_loss", "adversary_accuracy"
    (share of the scores on the right side, of truths and predictions alike), "fooling_loss" (the
    segmentor's adversarial term, without its weight), and "gradient_ratio" (norm of the gradient of
    the weighted adversarial term by that of the segmentor's own loss, at the logits). "loss" stays
    the segmentor's own, to be compared with a run without adversary.

    Only weights are fixed while the other one learns: running averages of a batch normalisation
    follow every pass in training mode, of either network.

    To be made, like its networks, in the scope of the strategy.

    Args:
        adversary: `Adversary`.
        segmentor: functional model.
        table: `LabelTable` of its classes.
        steps: of an epoch.
        seed: of the run.

    Attributes:
        network: the adversary.

    Raises:
        ValueError: on another backend than TensorFlow; for networks that do not fit each other.
    """

    def __init__(self, adversary, segmentor, table, *, steps, seed):
        super().__init__()
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "Adversarial training needs the TensorFlow backend (KERAS_BACKEND=tensorflow); "
                f"this is {keras.backend.backend()}."
            )
        self.adversary = adversary
        self.segmentor = segmentor
        self.ignore_label = table.ignore_label
        self.steps = steps
        self.network = adversary.build()
        self._check(segmentor.output, segmentor.input.shape[-1])
        self._seeds = EpochSeeds(seed, None)
        self._seeds.set_model(self.network)
        self._step = 0
        self._functions = {}
        self._means = {}

    def _check(self, outputs, colors):
        if not isinstance(self.network, keras.Model):
            raise ValueError(f"The adversary's build must return a Keras model, not {self.network}")
        name = self.adversary.output
        if isinstance(outputs, dict) and name not in outputs:
            raise unknown_name(f"output of {self.segmentor.name}", name, outputs)
        logits = outputs[name] if isinstance(outputs, dict) else outputs
        if len(logits.shape) != 4:
            raise ValueError(f"An adversary judges logits of pixels; {name!r} is {logits.shape}.")
        wanted = self.adversary.channels(logits.shape[-1], colors)
        if self.network.input.shape[-1] != wanted:
            raise ValueError(
                f"{self.network.name} takes {self.network.input.shape[-1]} channels, but "
                f"inputs={self.adversary.inputs!r} of {logits.shape[-1]} classes and {colors} "
                f"colours are {wanted}: build it with {wanted} channels."
            )
        if not self.network.trainable_variables:
            raise ValueError(f"{self.network.name} has no trainable weights.")

    def compile(self):
        """Make the adversary's optimizer and the means of the log; in the strategy's scope."""
        config = self.adversary.optimizer.get_config()
        # `compile` wraps it for loss scaling under mixed_float16, as it does the segmentor's.
        self.network.compile(type(self.adversary.optimizer).from_config(config))
        self.network.optimizer.build(self.network.trainable_variables)
        names = ("adversary_loss", "adversary_accuracy", "fooling_loss", "gradient_ratio")
        self._means = {name: keras.metrics.Mean(name) for name in names}

    def on_train_begin(self, logs=None):
        """Have the segmentor's `fit` call `_play`.

        One graph for each kind of step, chosen from outside: no optimizer can be applied inside of
        a condition under MirroredStrategy.
        """
        model = self.segmentor
        for teach, learn in {self.adversary.turn(n) for n in (0, self.adversary.alternate or 0)}:
            model.train_step = functools.partial(self._train_step, teach, learn)
            model.make_train_function(force=True)
            self._functions[teach, learn] = model.train_function
        del model.train_step
        model.train_function = self._play

    def on_train_end(self, logs=None):
        """Leave the segmentor as a run without an adversary does."""
        self.segmentor.train_function = None

    def _play(self, iterator):
        """`train_function` of the segmentor: one step."""
        function = self._functions[self.adversary.turn(self._step)]
        self._step += 1
        return function(iterator)

    def on_epoch_begin(self, epoch, logs=None):
        self._step = epoch * self.steps
        self._seeds.on_epoch_begin(epoch)
        for mean in self._means.values():
            mean.reset_state()

    def on_epoch_end(self, epoch, logs=None):
        """Add to the logs what was measured; in an epoch of one network alone that is not all.

        Raises:
            ValueError: if weights of the adversary are not finite; nothing is saved then.
        """
        bad = first_not_finite(self.network)
        if bad is not None:
            raise ValueError(
                f"Training stopped at the end of epoch {epoch + 1}: {bad} of the adversary "
                f"{self.network.name} is not finite. Nothing of this epoch was saved. Lower the "
                "learning rate of its optimizer, or look for label ids outside the class table."
            )
        for name, mean in self._means.items():
            if float(ops.cast(mean.count, "float32")) > 0:
                logs[name] = float(mean.result())

    def _train_step(self, teach, learn, data):
        """One step of a replica, for `fit`."""
        import tensorflow as tf

        model, optimizer = self.segmentor, self.segmentor.optimizer
        images, labels, weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape(persistent=True) as tape:
            outputs = model(images, training=True)
            loss = model.compute_loss(
                x=images, y=labels, y_pred=outputs, sample_weight=weight, training=True
            )
            scaled = optimizer.scale_loss(loss)
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        tracker = next(metric for metric in model.metrics if metric.name == "loss")
        tracker.update_state(loss * replicas, sample_weight=tf.shape(images)[0])

        judged = self.adversary.output
        logits = outputs[judged] if isinstance(outputs, dict) else outputs
        truth = labels[judged] if isinstance(labels, dict) else labels
        if teach:
            self.teach(images, truth, logits)
        if learn:
            pull = self.pull(images, truth, logits, optimizer.scale_loss)
            own = tape.gradient(scaled, logits)
            if own is not None:
                self._means["gradient_ratio"].update_state(_ratio(pull, own))
            variables = model.trainable_weights
            gradients = tape.gradient(
                [scaled, logits], variables, output_gradients=[tf.ones_like(scaled), pull]
            )
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return model.compute_metrics(images, labels, outputs, sample_weight=weight)

    def teach(self, images, labels, logits):
        """One step of the adversary; the segmentor's logits are a constant to it."""
        import tensorflow as tf

        optimizer, variables = self.network.optimizer, self.network.trainable_variables
        real, fake = self.adversary.views(
            images, labels, tf.stop_gradient(logits), self.ignore_label
        )
        with tf.GradientTape() as tape:
            # Two passes: in one, a batch normalisation would tell the adversary which is which.
            high, low = self._scores(real), self._scores(fake)
            values = self.adversary.loss(1.0, high) + self.adversary.loss(0.0, low)
            scaled = optimizer.scale_loss(_batch_mean(values))
        gradients = tape.gradient(scaled, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        middle = 0.5 if self.adversary.loss.form == "least_squares" else 0.0
        right = [ops.cast(high > middle, "float32"), ops.cast(low < middle, "float32")]
        self._means["adversary_loss"].update_state(values)
        self._means["adversary_accuracy"].update_state(ops.stack(right))

    def pull(self, images, labels, logits, scale_loss):
        """Gradient of the weighted adversarial term at the logits, through the fixed adversary."""
        import tensorflow as tf

        logits = tf.stop_gradient(logits)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(logits)
            _, fake = self.adversary.views(images, labels, logits, self.ignore_label)
            values = self.adversary.loss(1.0, self._scores(fake))
            scaled = scale_loss(self.adversary.weight * _batch_mean(values))
        self._means["fooling_loss"].update_state(values)
        return tape.gradient(scaled, logits)

    def _scores(self, view):
        """(N, ..., 1): above the middle for what the adversary takes for the truth."""
        scores = self.network(view, training=True)
        return scores[:, 1:] - scores[:, :1] if scores.shape[-1] == 2 else scores


def _batch_mean(values):
    """This replica's part of the mean of (N,) over the images of all replicas."""
    return ops.sum(values) / replica_sum(ops.sum(ops.ones_like(values)))


def _ratio(one, other):
    """Norm of `one` by that of `other`, over all replicas."""
    both = [ops.cast(gradient, "float32") for gradient in (one, other)]  # float16 has no squares
    squares = replica_sum(ops.stack([ops.sum(ops.square(gradient)) for gradient in both]))
    return ops.sqrt(squares[0] / ops.maximum(squares[1], 1e-30))
