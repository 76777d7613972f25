"""The NumPy twin: fastmlp's own plain trainer, on whatever BLAS NumPy was built with."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.base import Peer, standardised
from bench.workload import Parameters
from fastmlp import Network
from fastmlp.baseline import train_baseline


class NumpyTwin(Peer):
    """`fastmlp.baseline`, on data standardised outside the clock, as for all peers."""

    def setup(self) -> None:
        """Standardise the data."""
        self.parts = standardised(self)
        self.network = Network(
            self.workload.layers,
            activation=self.workload.activation,
            dtype=self.dtype,
            seed=self.workload.seed,
        )

    def set_parameters(self, parameters: Parameters) -> None:
        """Copy weights into the network."""
        self.network.weights = [W for W, _ in parameters]
        self.network.biases = [b for _, b in parameters]

    def parameters(self) -> Parameters:
        """Return copies of the network's weights."""
        return [(W.copy(), b.copy()) for W, b in zip(self.network.weights, self.network.biases, strict=True)]

    def train(self, epochs: int, seed: int) -> float:
        """Train through the twin's own loop over epochs, which draws the order itself."""
        X, y = self.parts["train"]
        start = time.perf_counter()
        train_baseline(self.network, X, y, epochs=epochs, seed=seed, **training_settings(self))
        return time.perf_counter() - start

    def train_epoch(self, prepared: Any, rates: NDArray[Any]) -> None:
        """Not used: `train` runs all epochs in one call."""
        raise NotImplementedError

    def loss_and_accuracy(self, part: str) -> tuple[float, float]:
        """Evaluate with matrix products over the whole part."""
        X, y = self.parts[part]
        activation = X
        *hidden, last = zip(self.network.weights, self.network.biases, strict=True)
        for W, b in hidden:
            activation = activation @ W
            activation += b
            np.maximum(activation, 0, out=activation)
        return cross_entropy_and_accuracy(activation @ last[0] + last[1], y)


def training_settings(peer: Peer) -> dict[str, Any]:
    """Return the keywords that `fastmlp.train` and the twin share."""
    workload = peer.workload
    return {
        "batch_size": workload.batch_size,
        "learning_rate": workload.learning_rate,
        "schedule": workload.schedule,
        "momentum": workload.momentum,
        "nesterov": workload.nesterov,
        "drop_last": True,
    }


def cross_entropy_and_accuracy(logits: NDArray[Any], y: NDArray[np.int64]) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy of logits (n, n_classes), which are overwritten."""
    right = float(np.mean(logits.argmax(axis=1) == y))
    logits -= logits.max(axis=1, keepdims=True)
    target = logits[np.arange(len(y)), y]
    log_sum = np.log(np.exp(logits, out=logits).sum(axis=1))
    return float(np.mean(log_sum - target, dtype=np.float64)), right
