"""Speed counts only with accuracy: real MNIST must be learnt as well as it can be by these means."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp.datasets import Dataset, load_dataset
from fastmlp.network import Network
from fastmlp.training import train


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    """Load the first 20,000 training images and all test images."""
    return load_dataset("mnist", n_train=20_000)


def accuracies(mnist: Dataset, hidden: tuple[int, ...], seeds: range, **options: object) -> list[float]:
    """Train a network per seed for five epochs and return how well it does on the test images."""
    found = []
    for seed in seeds:
        network = Network((784, *hidden, 10), seed=seed, mean=mnist.mean, std=mnist.std)
        train(network, mnist.X_train, mnist.y_train, epochs=5, seed=seed, **options)  # type: ignore[arg-type]
        found.append(network.evaluate(mnist.X_test, mnist.y_test).accuracy)
    return found


def test_five_epochs_on_20000_images_reach_95_5_percent(mnist: Dataset) -> None:
    """The mean over three seeds; the mean over thirty is 96.0 %."""
    assert np.mean(accuracies(mnist, (64,), range(3), learning_rate=0.05)) > 0.955


@pytest.mark.nightly
@pytest.mark.parametrize("hidden", [(64,), (64, 64), (128,)], ids=str)
def test_no_seed_fails(mnist: Dataset, hidden: tuple[int, ...]) -> None:
    found = accuracies(mnist, hidden, range(30), learning_rate=0.05)
    assert np.mean(found) > 0.955
    assert min(found) > 0.945
