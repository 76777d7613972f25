"""The NumPy twin: fastmlp's own plain trainer, on whatever BLAS NumPy was built with."""

from __future__ import annotations

import time
from typing import Any

from numpy.typing import NDArray

from bench.peers.base import Peer, standardised, training_settings
from bench.workload import Parameters
from fastmlp import Network
from fastmlp.baseline import Baseline, train_baseline


class Standardised(Baseline):
    """The twin on data that were standardised before: outside the clock, as for all peers."""

    def standardise(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the samples as they are."""
        return X


class NumpyTwin(Peer):
    """`fastmlp.baseline`: its loop over epochs, and its evaluation."""

    def setup(self) -> None:
        """Standardise the data."""
        self.parts = standardised(self)
        workload = self.workload
        self.network = Standardised.of(Network(workload.layers, workload.activation, dtype=self.dtype))

    def set_parameters(self, parameters: Parameters) -> None:
        """Copy weights into the network."""
        self.network.weights = [W.copy() for W, _ in parameters]
        self.network.biases = [b.copy() for _, b in parameters]

    def parameters(self) -> Parameters:
        """Return copies of the network's weights."""
        return [(W.copy(), b.copy()) for W, b in zip(self.network.weights, self.network.biases, strict=True)]

    def train(self, epochs: int, seed: int) -> float:
        """Train through the twin's own loop over epochs, which draws the order itself."""
        X, y = self.parts["train"]
        start = time.perf_counter()
        train_baseline(self.network, X, y, epochs=epochs, seed=seed, **training_settings(self.workload))
        return time.perf_counter() - start

    def loss_and_accuracy(self, part: str) -> tuple[float, float]:
        """Evaluate with matrix products over the whole part."""
        return self.network.evaluate(*self.parts[part])
