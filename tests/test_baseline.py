"""The NumPy twin, held by central differences and by steps worked by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fastmlp.baseline import Baseline, activate, cross_entropy, derivative, softmax, train_baseline
from fastmlp.network import Network
from tests.small_data import ACTIVATIONS, Array, make_network, table

STEP = 1e-6


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_derivatives_are_those_of_the_activations(activation: str) -> None:
    z = np.linspace(-6, 6, 241) + 0.01  # no point within a step of the kink of the ReLU
    quotient = (activate(activation, z + STEP) - activate(activation, z - STEP)) / (2 * STEP)
    np.testing.assert_allclose(derivative(activation, activate(activation, z)), quotient, atol=1e-9)


def test_sigmoid_is_the_logistic_function_even_far_out() -> None:
    z = np.array([-1000.0, -30.0, -1.0, 0.0, 2.0, 1000.0])
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(activate("sigmoid", z), 1 / (1 + np.exp(-z)), atol=1e-15)


def test_scaled_tanh_maps_plus_and_minus_one_to_themselves() -> None:
    np.testing.assert_allclose(activate("scaled_tanh", np.array([-1.0, 1.0])), [-1.0, 1.0], atol=1e-4)


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("hidden", [(), (5,), (6, 4)], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_agree_with_central_differences(activation: str, hidden: tuple[int, ...], l2: float) -> None:
    samples = table(20, 7, 3)
    twin = Baseline.of(make_network(samples, *hidden, activation=activation, dtype="float64"))
    X = twin.standardise(samples.X)
    weight_gradients, bias_gradients = twin.backward(twin.forward(X), samples.y)
    weight_gradients = [g + l2 * w for g, w in zip(weight_gradients, twin.weights, strict=True)]

    def loss() -> float:
        return twin.loss(twin.forward(X)[-1], samples.y, l2)

    for parameters, gradients in ((twin.weights, weight_gradients), (twin.biases, bias_gradients)):
        for array, gradient in zip(parameters, gradients, strict=True):
            np.testing.assert_allclose(gradient, central_differences(array, loss), atol=1e-8)


def central_differences(array: Array, loss: Callable[[], float]) -> Array:
    """Return the difference quotient of a loss with respect to each element of an array."""
    quotients = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + STEP
        above = loss()
        array[index] = value - STEP
        quotients[index] = (above - loss()) / (2 * STEP)
        array[index] = value
    return quotients


def test_softmax_and_loss_survive_huge_logits() -> None:
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]])
    np.testing.assert_allclose(softmax(logits), np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]))
    assert cross_entropy(logits, np.array([0, 2])) == pytest.approx(np.log(3) / 2)
    assert cross_entropy(logits[:1], np.array([1])) == pytest.approx(2e4)


def _two_weights() -> tuple[Baseline, Array, Array]:
    """Make a softmax regression with one input and two classes that starts at zero: both are as probable."""
    network = Network.from_parameters([np.zeros((1, 2))], [np.zeros(2)])
    return Baseline.of(network), np.array([[2.0]]), np.array([1])


def test_one_step_worked_by_hand() -> None:
    twin, X, y = _two_weights()
    assert train_baseline(twin, X, y, epochs=1, learning_rate=0.1) == [pytest.approx(np.log(2))]
    np.testing.assert_allclose(twin.weights[0], [[-0.1, 0.1]])  # -0.1 * 2 * (1/2 - [0, 1])
    np.testing.assert_allclose(twin.biases[0], [-0.05, 0.05])


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_and_nesterov_worked_by_hand(nesterov: bool) -> None:
    """Two steps: v <- mu v - r g; w <- w + v, or w <- w + mu v - r g."""
    twin, X, y = _two_weights()
    train_baseline(twin, X, y, epochs=2, learning_rate=0.1, momentum=0.5, nesterov=nesterov)
    weight, bias, weight_velocity, bias_velocity = 0.0, 0.0, 0.0, 0.0  # of class 0; class 1 mirrors it
    for _ in range(2):
        probability = 1 / (1 + np.exp(-2 * (2 * weight + bias)))
        weight_velocity = 0.5 * weight_velocity - 0.1 * 2 * probability
        bias_velocity = 0.5 * bias_velocity - 0.1 * probability
        weight += 0.5 * weight_velocity - 0.1 * 2 * probability if nesterov else weight_velocity
        bias += 0.5 * bias_velocity - 0.1 * probability if nesterov else bias_velocity
    np.testing.assert_allclose(twin.weights[0], [[weight, -weight]])
    np.testing.assert_allclose(twin.biases[0], [bias, -bias])


def test_l2_shrinks_weights_but_not_biases() -> None:
    """Without a gradient (one class) the weights fall by the factor 1 - rate * l2."""
    twin = Baseline.of(Network.from_parameters([np.full((1, 1), 3.0)], [np.full(1, 5.0)]))
    losses = train_baseline(twin, np.ones((1, 1)), np.zeros(1, int), epochs=1, learning_rate=0.1, l2=0.5)
    assert losses == [pytest.approx(0.25 * 9)]
    assert twin.weights[0][0, 0] == pytest.approx(3 * 0.95)
    assert twin.biases[0][0] == 5.0


@pytest.mark.parametrize(("schedule", "share"), [("constant", [1, 1, 1, 1]), ("linear", [1, 0.75, 0.5, 0.25])])
def test_schedules_scale_the_steps(schedule: str, share: list[float]) -> None:
    """With a constant gradient (L2 off, saturated softmax) each step is as large as its learning rate."""
    weights, rate = [np.array([[-1e3, 1e3]])], 0.1
    twin = Baseline.of(Network.from_parameters(weights, [np.zeros(2)]))
    train_baseline(
        twin, np.ones((4, 1)), np.zeros(4, int), epochs=1, batch_size=1, learning_rate=rate, schedule=schedule
    )
    assert twin.biases[0][0] == pytest.approx(rate * sum(share))


def test_incomplete_batches_are_trained_on_or_dropped() -> None:
    samples = table(10, 4, 2)
    for drop_last, batches in ((False, 4), (True, 3)):
        twin = Baseline.of(make_network(samples, dtype="float64"))
        assert len(train_baseline(twin, samples.X, samples.y, epochs=1, batch_size=3, drop_last=drop_last)) == batches
