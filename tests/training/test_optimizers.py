import keras
import numpy as np
import pytest
from small_run import network

from keras_seg.training import SGD, Adam, LossScale, RMSprop, head_variables
from keras_seg.training.optimizers import averages


def variables(*names, start=(1.0, -2.0)):
    return [keras.Variable(np.array(start, "float32"), name=name) for name in names]


def steps(optimizer, weights, gradients):
    for gradient in gradients:
        optimizer.apply([np.array(gradient, "float32")] * len(weights), weights)
    return [keras.ops.convert_to_numpy(w) for w in weights]


GRADIENTS = [[0.5, -1.0], [0.25, 2.0], [-1.0, 0.5]]


def test_sgd_decays_beside_the_momentum():
    """Against NumPy: the decay never enters the velocity."""
    rate, decay, momentum = 0.1, 0.2, 0.9
    (found,) = steps(SGD(rate, momentum=momentum, weight_decay=decay), variables("w"), GRADIENTS)
    w, v = np.array([1.0, -2.0]), np.zeros(2)
    for g in np.array(GRADIENTS):
        v = momentum * v - rate * g
        w = w - rate * decay * w + v
    np.testing.assert_allclose(found, w, rtol=1e-6)


def test_adam_is_adamw():
    """Loshchilov and Hutter's algorithm 2 in NumPy, and Keras' own AdamW."""
    rate, decay = 0.1, 0.2
    (found,) = steps(Adam(rate, weight_decay=decay), variables("w"), GRADIENTS)
    w, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for t, g in enumerate(np.array(GRADIENTS), 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - rate * decay * w
        w = w - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-7)
    np.testing.assert_allclose(found, w, rtol=1e-5)
    theirs = keras.optimizers.AdamW(rate, weight_decay=decay)
    np.testing.assert_allclose(found, steps(theirs, variables("w"), GRADIENTS)[0], rtol=1e-6)


@pytest.mark.parametrize(
    "make", [lambda **k: SGD(0.01, momentum=0.9, **k), lambda **k: Adam(0.01, **k)]
)
def test_the_head_moves_ten_times_as_far(make):
    both = variables("trunk", "head", start=(0.0, 0.0))
    optimizer = make(head_multiplier=10.0, head_variables=["head"])
    slow, fast = steps(optimizer, both, GRADIENTS)
    np.testing.assert_allclose(fast, 10 * slow, rtol=1e-5)
    # The trunk itself moves as if there were no head.
    (alone,) = steps(make(), variables("trunk", start=(0.0, 0.0)), GRADIENTS)
    np.testing.assert_array_equal(slow, alone)


def test_the_decay_of_the_head_follows_its_own_rate():
    """As with PyTorch's parameter groups: rate and decay multiply."""
    optimizer = SGD(0.01, weight_decay=0.5, head_multiplier=10.0, head_variables=["head"])
    slow, fast = steps(optimizer, variables("trunk", "head"), [[0.0, 0.0]])
    np.testing.assert_allclose(slow, np.array([1.0, -2.0]) * (1 - 0.01 * 0.5), rtol=1e-6)
    np.testing.assert_allclose(fast, np.array([1.0, -2.0]) * (1 - 0.1 * 0.5), rtol=1e-6)


def test_excluded_variables_do_not_decay():
    optimizer = SGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    kernel, bias = steps(optimizer, variables("kernel", "bias"), [[0.0, 0.0]])
    np.testing.assert_allclose(kernel, [0.95, -1.9], rtol=1e-6)
    np.testing.assert_array_equal(bias, [1.0, -2.0])


def test_l2_goes_through_the_momentum():
    """Caffe's and PyTorch's rule in NumPy."""
    rate, l2, momentum = 0.1, 0.2, 0.9
    (found,) = steps(SGD(rate, momentum=momentum, l2=l2), variables("w"), GRADIENTS)
    w, v = np.array([1.0, -2.0]), np.zeros(2)
    for g in np.array(GRADIENTS):
        v = momentum * v - rate * (g + l2 * w)
        w = w + v
    np.testing.assert_allclose(found, w, rtol=1e-6)


def test_rmsprop_divides_by_the_root_with_the_epsilon_inside():
    """Lasagne's formula, by which FC-DenseNet was trained."""
    rate, l2, rho, epsilon = 0.01, 0.2, 0.9, 1e-6
    optimizer = RMSprop(rate, rho=rho, epsilon=epsilon, l2=l2)
    (found,) = steps(optimizer, variables("w"), GRADIENTS)
    w, mean = np.array([1.0, -2.0]), np.zeros(2)
    for g in np.array(GRADIENTS):
        g = g + l2 * w
        mean = rho * mean + (1 - rho) * g * g
        w = w - rate * g / np.sqrt(mean + epsilon)
    np.testing.assert_allclose(found, w, rtol=1e-5)


def test_groups_have_their_own_rate_and_decay():
    """Caffe's biases: twice the rate, no decay; a last layer ten times as fast on top of it."""
    optimizer = SGD(0.01, l2=0.5, groups=[("bias$", 2, 0), ("^score", 10, 1)])
    names = ("conv/kernel", "conv/bias", "score/kernel", "score/bias")
    weights = []
    for layer in ("conv", "score"):
        with keras.name_scope(layer):
            weights += variables("kernel", "bias")
    assert [w.path for w in weights] == list(names)
    found = steps(optimizer, weights, [[1.0, 1.0]])
    start, step = np.array([1.0, -2.0]), np.array([1.0, 1.0])
    for values, rate, decay in zip(found, (1, 2, 10, 20), (1, 0, 1, 0), strict=True):
        want = start - 0.01 * rate * (step + 0.5 * decay * start)
        np.testing.assert_allclose(values, want, rtol=1e-6)


@pytest.mark.parametrize("group", [("bias$", 0, 1), ("bias$", 1, -1), ("(", 1, 1), ("bias$", 2)])
def test_a_group_that_is_none(group):
    with pytest.raises(ValueError, match="A group is"):
        SGD(0.1, groups=[group])


def test_a_group_without_variables_is_an_error():
    with pytest.raises(ValueError, match="'beta' matches none of the 1 variables.*such as w"):
        SGD(0.1, groups=[("beta", 1, 0)]).build(variables("w"))


@pytest.mark.parametrize("kind", [SGD, RMSprop, Adam])
def test_a_stored_optimizer_is_the_same(kind):
    optimizer = kind(
        0.1,
        weight_decay=0.3,
        l2=0.1,
        head_multiplier=4.0,
        head_variables=["head"],
        groups=[("trunk", 3, 0.5)],
    )
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    for one, other in zip(
        steps(optimizer, variables("trunk", "head"), GRADIENTS),
        steps(again, variables("trunk", "head"), GRADIENTS),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_stored_loss_scale_is_the_same():
    optimizer = LossScale(SGD(0.1, l2=0.3), initial_scale=8.0)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is LossScale
    (one,), (other,) = (steps(o, variables("w"), GRADIENTS) for o in (optimizer, again))
    np.testing.assert_array_equal(one, other)


def test_a_head_that_is_not_trained_is_an_error():
    with pytest.raises(ValueError, match=r"not trained: \['haed'\]"):
        SGD(0.1, head_multiplier=10.0, head_variables=["haed"]).build(variables("trunk", "head"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"weight_decay": -1e-4}, "weight_decay must be"),
        ({"l2": -1e-4}, "l2 must be"),
        ({"head_multiplier": 0}, "head_multiplier"),
    ],
)
def test_values_out_of_range(arguments, text):
    with pytest.raises(ValueError, match=text):
        SGD(0.1, **arguments)


def test_the_head_is_what_the_features_do_not_need():
    """The auxiliary branch leaves the trunk before its end, and still is no part of the trunk."""
    paths = ["aux/bias", "aux/kernel", "logits/bias", "logits/kernel"]
    assert sorted(head_variables(network(aux=True))) == paths


@pytest.mark.parametrize("head", ["logits", ["logits"], lambda name: name == "logits"])
def test_the_head_can_be_named(head):
    assert head_variables(network(), head) == ["logits/kernel", "logits/bias"]


def test_a_head_that_cannot_be_told():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Conv2D(2, 1, name="only")(image), name="bare")
    with pytest.raises(ValueError, match="no layer named 'features'.*head_layers="):
        head_variables(model)
    with pytest.raises(ValueError, match="chooses no trainable layer of bare.*only"):
        head_variables(model, ["cls"])


def test_gradients_are_accumulated_as_by_caffes_iter_size():
    """Four gradients in twos: each step of SGD takes the mean of two, and the decay acts once."""
    gradients = [[1.0, 0.0], [3.0, 2.0], [-1.0, 4.0], [1.0, 0.0]]
    rate, l2, momentum = 0.1, 0.5, 0.9
    optimizer = SGD(rate, momentum=momentum, l2=l2, gradient_accumulation_steps=2)
    (found,) = steps(optimizer, variables("w"), gradients)
    w, v = np.array([1.0, -2.0]), np.zeros(2)
    for g in np.array(gradients).reshape(2, 2, 2).mean(axis=1):
        v = momentum * v - rate * (g + l2 * w)
        w = w + v
    np.testing.assert_allclose(found, w, rtol=1e-6)


def by_hand(kind, gradients, rate=0.1, l2=0.2):
    """Weights after each update, in NumPy: momentum 0.9, Adam's and RMSprop's default constants.

    Adam in the form at the end of Kingma and Ba's section 2, whose epsilon is not corrected.
    """
    w = np.array([1.0, -2.0])
    v, mean, square = np.zeros(2), np.zeros(2), np.zeros(2)
    found = []
    for t, g in enumerate(gradients, 1):
        g = g + l2 * w
        if kind is SGD:
            v = 0.9 * v - rate * g
            w = w + v
        elif kind is RMSprop:
            square = 0.9 * square + 0.1 * g * g
            w = w - rate * g / np.sqrt(square + 1e-7)
        else:
            mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
            alpha = rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            w = w - alpha * mean / (np.sqrt(square) + 1e-7)
        found.append(w)
    return found


def make(kind, **options):
    momentum = {"momentum": 0.9} if kind is SGD else {}
    return kind(0.1, l2=0.2, **momentum, **options)


BATCHES = [np.array(g) for g in ([0.5, -1.0], [3.0, 2.0], [-1.0, 0.5], [0.1, 0.2], [4, 4], [1, -9])]
each_kind = pytest.mark.parametrize("kind", [SGD, RMSprop, Adam])


def clipped(gradient, norm):
    return gradient * min(1.0, norm / np.linalg.norm(gradient))


def pairs(optimizer):
    """The one variable and its average."""
    ((variable, average),) = averages(optimizer)
    return keras.ops.convert_to_numpy(variable), keras.ops.convert_to_numpy(average)


@each_kind
def test_gradients_of_several_batches_make_one_update(kind):
    """The mean of each pair, clipped as a whole, then decayed; nothing moves in between."""
    optimizer = make(kind, gradient_accumulation_steps=2, global_clipnorm=1.5)
    means = [(BATCHES[i] + BATCHES[i + 1]) / 2 for i in (0, 2, 4)]
    expected = by_hand(kind, [clipped(mean, 1.5) for mean in means])
    assert np.linalg.norm(means[0]) > 1.5 > np.linalg.norm(means[1])  # both sides of the bound
    (weight,) = variables("w")
    before = np.array([1.0, -2.0])
    for update, want in enumerate(expected):
        for gradient, now in ((BATCHES[2 * update], before), (BATCHES[2 * update + 1], want)):
            (found,) = steps(optimizer, [weight], [gradient])
            np.testing.assert_allclose(found, now, rtol=1e-5)
        before = want


def test_clipping_is_by_the_norm_of_all_variables_together():
    optimizer = SGD(1.0, global_clipnorm=1.0)
    one, two = steps(optimizer, variables("a", "b", start=(0.0, 0.0)), [[3.0, 4.0]])
    expected = -np.array([3.0, 4.0]) / np.sqrt(50)  # of (3, 4, 3, 4)
    np.testing.assert_allclose(one, expected, rtol=1e-6)
    np.testing.assert_allclose(two, expected, rtol=1e-6)


@each_kind
@pytest.mark.parametrize("batches", [1, 2])
def test_averages_follow_the_updates(kind, batches):
    """One step of the average for an update, whether one batch makes it or two."""
    more = {"gradient_accumulation_steps": 2} if batches == 2 else {}
    optimizer = make(kind, use_ema=True, ema_momentum=0.75, **more)
    expected = by_hand(kind, BATCHES[:3])
    (weight,) = variables("w")
    optimizer.build([weight])
    np.testing.assert_allclose(pairs(optimizer)[1], [1.0, -2.0])  # before any step: the start
    average = expected[0]
    for gradient, want in zip(BATCHES[:3], expected, strict=True):
        steps(optimizer, [weight], [gradient] * batches)
        average = 0.75 * average + 0.25 * want
        now, then = pairs(optimizer)
        np.testing.assert_allclose(now, want, rtol=1e-5)
        np.testing.assert_allclose(then, average, rtol=1e-5)


@each_kind
def test_scaled_losses_give_the_same_weights(kind):
    """Static scaling, and dynamic scaling on top of accumulation, clipping and averages."""
    (static,) = steps(
        make(kind, loss_scale_factor=64.0), variables("w"), [64 * g for g in BATCHES[:3]]
    )
    np.testing.assert_allclose(static, by_hand(kind, BATCHES[:3])[-1], rtol=1e-5)
    inner = make(
        kind,
        gradient_accumulation_steps=2,
        global_clipnorm=1.5,
        use_ema=True,
        ema_momentum=0.5,
    )
    dynamic = LossScale(inner, initial_scale=1024.0)
    (weight,) = variables("w")
    assert float(dynamic.scale_loss(keras.ops.ones(()))) == 1024
    steps(dynamic, [weight], [1024 * BATCHES[0]])
    steps(dynamic, [weight], [np.array([np.inf, 1.0])])  # left out; the scale is halved
    assert float(dynamic.scale_loss(keras.ops.ones(()))) == 512
    steps(dynamic, [weight], [512 * g for g in BATCHES[1:4]])
    first, second = by_hand(kind, [clipped((BATCHES[i] + BATCHES[i + 1]) / 2, 1.5) for i in (0, 2)])
    now, average = pairs(inner)
    np.testing.assert_allclose(now, second, rtol=1e-5)
    np.testing.assert_allclose(average, (first + second) / 2, rtol=1e-5)


def test_a_schedule_counts_batches():
    """Two batches an update: the second update is made in step 3, counted from 0."""
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [1.0, 0.1])
    optimizer = SGD(schedule, gradient_accumulation_steps=2)
    (weight,) = variables("w", start=(0.0, 0.0))
    assert steps(optimizer, [weight], [[1.0, 1.0]] * 2)[0] == pytest.approx([-1, -1])
    assert steps(optimizer, [weight], [[1.0, 1.0]] * 2)[0] == pytest.approx([-1.1, -1.1])
