import keras
import numpy as np
import pytest
from small_run import network

from keras_seg.training import SGD, Adam, head_variables


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


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_a_stored_optimizer_is_the_same(kind):
    optimizer = kind(0.1, weight_decay=0.3, head_multiplier=4.0, head_variables=["head"])
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    for one, other in zip(
        steps(optimizer, variables("trunk", "head"), GRADIENTS),
        steps(again, variables("trunk", "head"), GRADIENTS),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_head_that_is_not_trained_is_an_error():
    with pytest.raises(ValueError, match=r"not trained: \['haed'\]"):
        SGD(0.1, head_multiplier=10.0, head_variables=["haed"]).build(variables("trunk", "head"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"weight_decay": -1e-4}, "weight_decay must be"),
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
