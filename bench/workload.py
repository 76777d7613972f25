"""A piece of training work, and its data and initial weights: the same for every implementation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmlp import Network, load_dataset

Parameters = list[tuple[NDArray[Any], NDArray[Any]]]  # (weights (fan_in, fan_out), biases (fan_out,)) of each layer


@dataclass(frozen=True)
class Workload:
    """A network, how it is trained, and on what.

    Attributes
    ----------
    layers : tuple of int
        Sizes including input and output.
    batch_size : int
        The incomplete batch at the end of an epoch is dropped: JAX's scan needs batches of one shape.
    learning_rate, activation, momentum, nesterov, schedule
        As in `fastmlp.train` and `fastmlp.Network`.
    data : str
        "mnist" (its first `n_train` images; repeated from the first if there are not as many), "normal"
        (standard normal floats, labelled by a random linear map) or "sparse" (small whole numbers, most of
        them 0: for tests).
    n_train, n_test : int
        Samples of either part.
    seed : int
        Of the initial weights and of synthetic data.
    minimum_accuracy : float
        Test accuracy that an implementation must reach within `CHECKED_EPOCHS` epochs for its timing to
        count.
    """

    layers: tuple[int, ...]
    batch_size: int = 32
    learning_rate: float = 0.1
    activation: str = "relu"
    momentum: float = 0.0
    nesterov: bool = False
    schedule: str = "constant"
    data: str = "mnist"
    n_train: int = 20_000
    n_test: int = 10_000
    seed: int = 0
    minimum_accuracy: float = 0.0

    @property
    def name(self) -> str:
        """The network, such as "784-64-10" or "784-(10 x 64)-10"."""
        hidden = self.layers[1:-1]
        if len(hidden) > 3 and len(set(hidden)) == 1:
            return f"{self.layers[0]}-({len(hidden)} x {hidden[0]})-{self.layers[-1]}"
        return "-".join(map(str, self.layers))

    @property
    def steps_per_epoch(self) -> int:
        """Complete batches of an epoch."""
        return self.n_train // self.batch_size

    @property
    def samples_per_epoch(self) -> int:
        """Samples that an epoch trains on."""
        return self.steps_per_epoch * self.batch_size

    def multiply_adds_per_sample(self) -> int:
        """Multiply-adds of the dense algorithm for one training sample.

        Forward, weight gradient, and the gradient of the inputs of every layer but the first. What
        activations, loss and optimiser cost on top is left out, which makes a limit computed from it a
        strict one.
        """
        products = [fan_in * fan_out for fan_in, fan_out in pairwise(self.layers)]
        return 3 * sum(products) - products[0]


CHECKED_EPOCHS = 2


class Data(NamedTuple):
    """Training and test part. Raw, as fastmlp takes them, or standardised, as the peers do."""

    X_train: NDArray[Any]
    y_train: NDArray[np.int64]
    X_test: NDArray[Any]
    y_test: NDArray[np.int64]
    mean: float
    std: float

    def part(self, name: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return samples and labels of the part "train" or "test"."""
        return (self.X_train, self.y_train) if name == "train" else (self.X_test, self.y_test)


def raw_data(workload: Workload) -> Data:
    """Return the data as they are stored, with the moments to standardise them by."""
    if workload.data == "mnist":
        return _mnist(workload.n_train, workload.n_test)
    return _synthetic(workload)


def standardised_data(workload: Workload, dtype: str) -> Data:
    """Return the data standardised, ready in memory: what the peers are given before the clock starts."""
    return _standardised(workload.data, workload.n_train, workload.n_test, workload.layers, workload.seed, dtype)


@lru_cache(maxsize=1)
def _standardised(data: str, n_train: int, n_test: int, layers: tuple[int, ...], seed: int, dtype: str) -> Data:
    raw = raw_data(Workload(layers, data=data, n_train=n_train, n_test=n_test, seed=seed))
    X_train, X_test = (_standardise(X, raw.mean, raw.std, dtype) for X in (raw.X_train, raw.X_test))
    return Data(X_train, raw.y_train, X_test, raw.y_test, 0.0, 1.0)


def _standardise(X: NDArray[Any], mean: float, std: float, dtype: str) -> NDArray[Any]:
    """Return (x - mean) / std with one copy only, so that no peer's peak memory suffers."""
    standardised = X.astype(dtype)
    standardised -= np.asarray(mean, dtype)
    standardised /= np.asarray(std, dtype)
    return standardised


@lru_cache(maxsize=1)
def _mnist(n_train: int, n_test: int) -> Data:
    mnist = load_dataset("mnist", n_train=min(n_train, 60_000))
    rows = np.arange(n_train) % len(mnist.X_train)
    X_train, y_train = mnist.X_train, mnist.y_train
    if n_train > len(X_train):
        X_train, y_train = X_train[rows], y_train[rows]
    return Data(X_train, y_train, mnist.X_test[:n_test], mnist.y_test[:n_test], float(mnist.mean), float(mnist.std))


def _synthetic(workload: Workload) -> Data:
    rng = np.random.default_rng(workload.seed)
    n, n_features, n_classes = workload.n_train + workload.n_test, workload.layers[0], workload.layers[-1]
    X: NDArray[Any] = rng.standard_normal((n, n_features), dtype=np.float32)
    labelling = rng.standard_normal((n_features, n_classes), dtype=np.float32)
    y = (X @ labelling).argmax(axis=1).astype(np.int64)
    if workload.data == "sparse":
        X = np.clip(X * 60.0 - 40.0, 0, 255).astype(np.uint8)
    elif workload.data != "normal":
        raise ValueError(f"data: must be 'mnist', 'normal' or 'sparse' (got {workload.data!r})")
    mean, std = (float(X.mean()), float(X.std())) if workload.data == "sparse" else (0.0, 1.0)
    split = workload.n_train
    return Data(X[:split], y[:split], X[split:], y[split:], mean, std)


def initial_parameters(workload: Workload, dtype: str) -> Parameters:
    """Return fastmlp's initial weights (He; biases zero), drawn in float64 and rounded to `dtype`."""
    network = Network(workload.layers, init="he", dtype="float64", seed=workload.seed)
    return [(W.astype(dtype), b.astype(dtype)) for W, b in zip(network.weights, network.biases, strict=True)]
