"""Speed counts for nothing without accuracy: real networks on real digits."""

from __future__ import annotations

import numpy as np
import pytest

import fastmlp


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_five_epochs_of_mnist(momentum: float) -> None:
    """20,000 images, 5 epochs, one hidden layer of 64: above 95.5 % on the test set, as the mean over three seeds."""
    mnist = fastmlp.load_dataset("mnist", n_train=20_000)
    accuracies = []
    for seed in range(3):
        network = fastmlp.Network((784, 64, 10), seed=seed, mean=mnist.mean, std=mnist.std)
        fastmlp.train(
            network,
            mnist.X_train,
            mnist.y_train,
            epochs=5,
            learning_rate=0.1 if momentum == 0 else 0.02,
            momentum=momentum,
            schedule="linear",
            seed=seed,
        )
        accuracies.append(network.evaluate(mnist.X_test, mnist.y_test).accuracy)
    assert np.mean(accuracies) > 0.955, accuracies


@pytest.mark.nightly
@pytest.mark.parametrize("hidden", [(64,), (64, 64), (128,)], ids=str)
def test_no_seed_fails(hidden: tuple[int, ...]) -> None:
    """A hundred seeds, plain gradient descent: none is an accident.

    With a falling rate, as the last batches at a constant one scatter more than the seeds. Measured: means of 96.2 to
    96.6 %, standard deviations of 0.12 to 0.16 %, minima of 95.9 to 96.4 %.
    """
    mnist = fastmlp.load_dataset("mnist", n_train=20_000)
    accuracies = []
    for seed in range(100):
        network = fastmlp.Network((784, *hidden, 10), seed=seed, mean=mnist.mean, std=mnist.std)
        fastmlp.train(network, mnist.X_train, mnist.y_train, epochs=5, learning_rate=0.1, schedule="linear", seed=seed)
        accuracies.append(network.evaluate(mnist.X_test, mnist.y_test).accuracy)
    assert np.mean(accuracies) > 0.96, accuracies
    assert min(accuracies) > 0.955, accuracies
